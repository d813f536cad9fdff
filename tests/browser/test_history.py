"""The History tab: what was made is there, is found, goes on, goes and comes back."""

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from gmi_ui.history.facts import kept_of
from gmi_ui.history.index import _ADD, _COLUMNS, Wanted
from gmi_ui.history.store import Store
from gmi_ui.studio import LaunchOptions, Server, serve
from tests.browser.conftest import AT_REST, new_tab
from tests.browser.helpers import download, free_port, number, prompt_box, set_number, start, wait_for_phase
from tests.gmi_ui.tiny import three_models
from tests.gmi_ui.waiting import wait_until

MANY = 3000


def serve_in(folder: Path | None, **options: object) -> Server:
    told = LaunchOptions(port=free_port(), browser=False, outputs=folder, **options)  # type: ignore[arg-type]
    return serve(three_models(delay=0.002), told)


@pytest.fixture(scope="module")
def keeping(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = serve_in(tmp_path_factory.mktemp("history") / "outputs")
    yield server
    server.end()


@pytest.fixture
def store(keeping: Server) -> Store:
    store = keeping.services.outputs.store
    assert store is not None
    return store


@pytest.fixture
def serving(chromium: str) -> Iterator[Callable[..., Server]]:
    """Starts studios of the test's own, which end after their pages."""
    servers: list[Server] = []

    def start_server(folder: Path, **options: object) -> Server:
        servers.append(serve_in(folder, **options))
        return servers[-1]

    yield start_server
    for server in servers:
        server.end()


@pytest.fixture
def visit(context: BrowserContext, keeping: Server, serving: Callable[..., Server]) -> Iterator[Callable[..., Page]]:
    """Opens the page; at the end nothing was complained of."""
    tabs: list[Page] = []
    complaints: list[str] = []

    def open_page(*, server: Server = keeping, width: int = 1280, dark: bool = False) -> Page:
        page = new_tab(context, complaints)
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
        tabs.append(page)
        page.goto(server.address)
        page.wait_for_selector(".run-bar-examples .chip")
        return page

    yield open_page
    for page in tabs:
        page.evaluate("localStorage.clear()")
        page.close()
    assert complaints == []


def to_tab(page: Page, name: str) -> None:
    page.click(f'[role="tab"][data-tab-id="{name}"]')


def run(page: Page, store: Store, prompt: str, *, steps: int = 3) -> None:
    """Three pictures of a prompt and their baselines, kept."""
    before = store.count(Wanted())
    shown = page.locator(".results").first.get_attribute("data-run")
    start(page, prompt, steps=steps)
    page.wait_for_selector(f'.results[data-phase="done"]:not([data-run="{shown or ""}"])')
    wait_until(lambda: store.count(Wanted()) >= before + 6)


def count(page: Page, text: str) -> None:
    expect(page.locator(".history-count")).to_have_text(text)


def search(page: Page, words: str) -> None:
    page.fill('[data-role="words"]', words)


def test_what_was_made_is_found_liked_restored_deleted_and_back(visit: Callable[..., Page], store: Store) -> None:
    page = visit()
    run(page, store, "blue")
    run(page, store, "red and green", steps=5)
    to_tab(page, "history")
    expect(page.locator(".history-open img[src]")).to_have_count(store.count(Wanted()))
    search(page, "gree")
    count(page, "6 pictures")

    page.locator(".history-open").first.click()
    expect(page.locator(".history-view .viewer-prompt")).to_have_text("red and green")
    expect(page.locator(".history-view .viewer-facts")).to_contain_text("avatars")
    page.keyboard.press("l")
    expect(page.locator(".history-like")).to_have_attribute("aria-pressed", "true")
    page.fill(".history-tags input", "keeper")
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    expect(page.locator(".history-view")).to_be_hidden()

    page.reload()
    page.wait_for_selector(".run-bar-examples .chip")
    start_prompt = "something else"
    page.fill("#control-prompt textarea", start_prompt)
    to_tab(page, "history")
    page.check('[data-role="liked"]')
    count(page, "1 picture")
    search(page, "keeper")
    count(page, "1 picture")
    page.locator(".history-open").first.click()
    page.click('.history-view [data-role="restore"]')
    expect(page.locator("#control-prompt textarea")).to_have_value("red and green")
    assert prompt_box(page) == "red and green" and number(page, "steps") == "5"

    to_tab(page, "history")
    page.uncheck('[data-role="liked"]')
    search(page, "gree")
    count(page, "6 pictures")
    page.locator(".history-open").first.click()
    page.click('.history-view [data-role="delete"]')
    count(page, "5 pictures")
    expect(page.locator(".history-undo")).to_contain_text("Moved 1 picture to the trash")
    page.click('[data-role="undo"]')
    count(page, "6 pictures")
    assert len(list(store.folder.rglob("*.png"))) == store.count(Wanted())


def test_a_new_picture_comes_into_a_grid_that_is_open(visit: Callable[..., Page], store: Store) -> None:
    page = visit()
    to_tab(page, "history")
    search(page, "yellow")
    expect(page.locator(".history-empty")).to_contain_text("Nothing found")
    other = visit()
    run(other, store, "yellow")
    count(page, "6 pictures")
    expect(page.locator(".history-open img[src]")).to_have_count(6)


def test_the_trash_is_emptied_only_after_a_question(visit: Callable[..., Page], store: Store) -> None:
    page = visit()
    run(page, store, "black")
    to_tab(page, "history")
    search(page, "black")
    count(page, "6 pictures")
    for place in range(2):
        page.locator(".history-pick").nth(place).check()
    page.click('[data-role="delete-all"]')
    count(page, "4 pictures")
    page.check('[data-role="trashed"]')
    count(page, "2 pictures")
    page.click('[data-role="empty"]')
    page.click(".history-ask button[value=no]")
    count(page, "2 pictures")
    page.locator(".history-pick").first.check()
    page.click('[data-role="back-all"]')
    count(page, "1 picture")
    page.click('[data-role="empty"]')
    page.click(".history-ask button[value=yes]")
    expect(page.locator(".history-empty")).to_contain_text("Nothing found")
    page.uncheck('[data-role="trashed"]')
    count(page, "5 pictures")


def test_the_lineage_leads_from_picture_to_picture(visit: Callable[..., Page], store: Store) -> None:
    page = visit()
    run(page, store, "orange")
    before = store.count(Wanted())
    shown = page.locator(".results").get_attribute("data-run")
    page.locator('[data-side="ours"] .cell').first.click()
    page.click('.viewer[open] [data-role="more"]')
    page.wait_for_selector(f'.results[data-phase="done"]:not([data-run="{shown}"])')
    wait_until(lambda: store.count(Wanted()) == before + 6)
    page.fill("#control-prompt textarea", "something else")
    to_tab(page, "history")
    search(page, "orange")
    count(page, "12 pictures")
    page.locator(".history-open").first.click()
    steps = page.locator(".history-family button")
    expect(steps).to_have_count(2)
    expect(steps.last).to_contain_text("More like it")
    expect(steps.last).to_have_attribute("aria-current", "true")
    steps.first.click()
    expect(page.locator('.history-family [aria-current="true"]')).to_contain_text("Generated")
    expect(steps).to_have_count(7)  # it, and what was made from it on both sides
    page.click('.history-view [data-role="more"]')
    expect(page.locator("#particle-grid .notice")).to_contain_text("more pictures like the one from your history")
    expect(page.locator("#control-prompt textarea")).to_have_value("orange")
    set_number(page, "steps", 4)
    page.click('#run-bar [data-action="run"]')
    wait_until(lambda: store.count(Wanted()) == before + 12)
    assert len(store.family(store.page(Wanted(), 0, 1)[0].number)) == 2


def test_two_to_four_are_compared_and_a_selection_is_exported(
    visit: Callable[..., Page], store: Store, tmp_path: Path
) -> None:
    page = visit()
    run(page, store, "violet")
    to_tab(page, "history")
    search(page, "violet")
    count(page, "6 pictures")
    page.locator(".history-pick").nth(0).check()
    expect(page.locator('[data-role="compare"]')).to_be_disabled()
    page.locator(".history-open").nth(3).click(modifiers=["Control"])
    count(page, "6 pictures  ·  2 chosen")
    page.click('[data-role="compare"]')
    expect(page.locator(".history-compared figure")).to_have_count(2)
    expect(page.locator(".history-compared figure").last).to_contain_text("baseline")
    page.keyboard.press("Escape")
    made = download(page, '[data-role="export"]', tmp_path)
    with zipfile.ZipFile(made) as archive:
        told = json.loads(archive.read("pictures.json"))
        assert [one["side"] for one in told["pictures"]] == [
            "ours",
            "baseline",
        ] and "contact-sheet.png" in archive.namelist()


def test_thousands_are_scrolled_with_few_of_them_on_the_page(
    visit: Callable[..., Page], serving: Callable[..., Server], tmp_path: Path
) -> None:
    server = serving(tmp_path / "many")
    page = visit(server=server)
    many = server.services.outputs.store
    assert many is not None
    run(page, many, "green")
    (one,) = many.page(Wanted(), 0, 1)
    row = kept_of(many.picture(one.number).read_bytes(), None, one.path, one.made)
    assert row is not None
    with many._index._writing() as connection:
        for at in range(MANY):
            values = list(astuple(row))
            values[0], values[2], values[_COLUMNS.index("number")] = f"{at:064x}", float(at), None
            values[_COLUMNS.index("prompt")] = f"number {at}"
            connection.execute(_ADD, values)
    to_tab(page, "history")
    count(page, f"{MANY + 6} pictures")
    expect(page.locator(".history-open").nth(8)).to_have_attribute("aria-label", f"number {MANY - 3}")
    assert page.locator(".history-cell").count() < 120
    page.evaluate("document.querySelector('.history-scroll').scrollTop = 1e9")
    expect(page.locator('.history-open[aria-label="number 0"] img[src]')).to_be_visible()
    assert page.locator(".history-cell").count() < 120
    page.locator('.history-open[aria-label="number 0"]').focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator('.history-open[aria-label="number 1"]')).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".history-view .viewer-prompt")).to_have_text("number 1")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".history-view .viewer-prompt")).to_have_text("number 0")
    page.keyboard.press("Escape")
    search(page, "numb 1234")
    count(page, "1 picture")


@pytest.mark.parametrize("width", [420, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_is_named_and_readable(
    visit: Callable[..., Page], store: Store, width: int, dark: bool, check_looks: Callable[[Page, int], None]
) -> None:
    page = visit(width=width, dark=dark)
    if store.count(Wanted()) < 6:
        run(page, store, "white")
    to_tab(page, "history")
    page.wait_for_selector(".history-open img[src]")
    check_looks(page, width)
    page.click(".history-place summary")
    page.locator(".history-pick").first.check()
    check_looks(page, width)
    page.locator(".history-open").first.click()
    page.wait_for_selector(".history-view[open]")
    check_looks(page, width)
    page.keyboard.press("Escape")


@pytest.mark.parametrize("width", [390, 420])
def test_every_tab_can_be_pressed_on_a_phone(visit: Callable[..., Page], width: int) -> None:
    page = visit(width=width)
    for name in ("generate", "edit", "inpaint", "translate", "history", "models", "lab"):
        box = page.locator(f'[role="tab"][data-tab-id="{name}"]').bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width and box["height"] >= 40
        to_tab(page, name)
        expect(page.locator(f'[role="tab"][data-tab-id="{name}"]')).to_have_attribute("aria-selected", "true")


def test_keeping_is_turned_off_and_on_on_the_page(
    visit: Callable[..., Page], serving: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "cache"))  # where what is chosen is remembered
    server = serving(tmp_path / "mine")
    page = visit(server=server)
    to_tab(page, "history")
    expect(page.locator(".history-empty")).to_contain_text("No pictures yet")
    page.click(".history-place summary")
    expect(page.locator(".history-place [name=folder]")).to_have_value(str(tmp_path / "mine"))
    page.uncheck(".history-place [name=keeps]")
    page.click(".history-place button")
    expect(page.locator(".history-empty")).to_contain_text("Finished pictures are not kept")
    page.check(".history-place [name=keeps]")
    page.fill(".history-place [name=folder]", "not whole")
    page.click(".history-place button")
    expect(page.locator(".history .notice")).to_contain_text("whole path")
    page.fill(".history-place [name=folder]", str(tmp_path / "other"))
    page.click(".history-place button")
    expect(page.locator(".history-empty")).to_contain_text("No pictures yet")
    to_tab(page, "generate")
    store = server.services.outputs.store
    assert store is not None and store.folder == tmp_path / "other"
    run(page, store, "blue")


def test_others_who_may_use_the_studio_see_no_history(
    visit: Callable[..., Page], serving: Callable[..., Server], tmp_path: Path
) -> None:
    server = serving(tmp_path / "mine", allow_hosts=("studio.example.org",))
    page = visit(server=server)
    start(page, "blue", steps=3)
    wait_for_phase(page, "done")
    wait_until(lambda: len(list((tmp_path / "mine").rglob("*.png"))) == 6)
    to_tab(page, "history")
    expect(page.locator(".history-empty")).to_contain_text("Others can open this studio too")
    expect(page.locator(".history-bar")).to_be_hidden()
    expect(page.locator(".history-place")).to_be_hidden()
    page.wait_for_selector(f".results:is({AT_REST})", state="attached")


def test_runs_are_drawn_like_and_unlike_chosen_pictures(visit: Callable[..., Page], store: Store) -> None:
    page = visit()
    run(page, store, "lilac")
    to_tab(page, "history")
    search(page, "lilac")
    count(page, "6 pictures")
    for how, told in (("unlike", "Unlike 2 pictures seen before."), ("like", "Like 2 pictures")):
        for place in (0, 1):
            page.locator(".history-pick").nth(place).check()
        page.click(f'[data-go-by="{how}"]')
        expect(page.locator("#unlike-these")).to_contain_text(told)
        expect(page.locator("#particle-grid .notice")).to_contain_text(f"pictures {how} those from your history")
        to_tab(page, "history")
    to_tab(page, "generate")
    run(page, store, "lilac")
