"""The Translate tab in the page: open, choose, run, stop, take a style, reload, restore, what cannot be."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

import engine
from gmi_ui.models.models import Loaders, Models
from gmi_ui.runs.run import Run
from gmi_ui.studio import LaunchOptions, Server, serve
from tests.browser.helpers import choose, download, free_port
from tests.browser.test_own_pictures import drop, expect_notice, go_to, grid, png_bytes, run, server_run, set_control
from tests.engine.tiny import write_translator
from tests.gmi_ui.tiny import GENERATOR, PROMPT_MODEL, TinyGenerator, TinyPromptModel, only, tiny_row

MODEL = "hairstyles"


@pytest.fixture(scope="module")
def studio(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A studio around a tiny generator and a tiny translator with the domains "long" and "short"."""
    translator = engine.load_generator(str(write_translator(tmp_path_factory.mktemp("models") / MODEL)))
    row = replace(tiny_row(), name=MODEL, family="stargan2", classes=("long", "short"), examples=())

    def load(name: str) -> Any:
        return translator if name == MODEL else only(GENERATOR, TinyGenerator())(name)

    prompt_model: Any = TinyPromptModel()
    loaders = Loaders(generator=load, prompt_model=only(PROMPT_MODEL, prompt_model), rows=lambda: [tiny_row(), row])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GMI_CACHE", str(tmp_path_factory.mktemp("cache")))
        server = serve(Models(loaders), LaunchOptions(port=free_port(), browser=False))
        yield server
        server.close()


@pytest.fixture
def open_translate(open_tab: Callable[..., Page]) -> Callable[..., Page]:
    """Opens the page at Translate."""

    def open_page(width: int = 1280) -> Page:
        page = open_tab(width=width)
        go_to(page, "translate")
        return page

    return open_page


@pytest.fixture
def page(open_translate: Callable[..., Page]) -> Page:
    return open_translate()


def newest(page: Page, studio: Server) -> Run:
    return server_run(page, studio, "translate")


def test_a_picture_is_translated_beside_the_model_alone(page: Page, studio: Server) -> None:
    drop(page, "translate", "mine.png", png_bytes())
    expect(page.locator("#translate-workspace .workspace-status")).to_have_text(
        "The square in its middle is translated."
    )
    choose(page, "translate-control-domain", "short")
    run(page, "translate")
    expect(grid(page, "translate").locator(".side-title")).to_have_text(["Different styles", "The model alone"])
    expect(grid(page, "translate").locator(".side").first).to_contain_text("Domain")
    assert newest(page, studio).settings.domain == "short"  # type: ignore[attr-defined]
    grid(page, "translate").locator(".cell").first.click()
    expect(page.locator("#translate-grid .viewer-prompt")).to_have_text("short")
    expect(page.locator("#translate-grid .viewer-before")).to_have_attribute("src", re.compile("^data:image/jpeg"))


def test_a_smaller_square_is_chosen_by_hand_and_by_keys(page: Page, studio: Server) -> None:
    """Dragged on the picture, or by sliders; the whole picture is there to be returned to."""
    drop(page, "translate", "mine.png", png_bytes(80, 40))
    workspace = page.locator("#translate-workspace")
    expect(workspace.locator("figure").last).to_be_hidden()
    workspace.locator("summary").click()
    frame = workspace.locator(".workspace-square")
    expect(frame).to_be_visible()
    workspace.locator("[name=share]").fill("50")
    sheet = workspace.locator(".workspace-sheet").bounding_box()
    assert sheet is not None
    page.mouse.move(sheet["x"] + sheet["width"] / 2, sheet["y"] + sheet["height"] / 2)
    page.mouse.down()
    page.mouse.move(sheet["x"] + sheet["width"] - 1, sheet["y"] + sheet["height"] / 2, steps=4)
    page.mouse.up()
    expect(workspace.locator("[name=across]")).to_have_value("100")
    drawn = frame.bounding_box()
    assert drawn is not None and drawn["x"] + drawn["width"] == pytest.approx(sheet["x"] + sheet["width"], abs=1)
    assert drawn["width"] == pytest.approx(sheet["width"] / 4, abs=1)
    workspace.locator("[name=down]").focus()
    page.keyboard.press("Home")
    workspace.locator("[data-role=cut]").click()
    expect(page.locator("#translate-version-history .version-card")).to_have_count(2)
    kept = studio.services.sessions.get(page.evaluate("window.studio.token"), "translate").workspace.current
    assert kept is not None and kept.picture.size == (20, 20)
    expect(frame).to_be_hidden()
    run(page, "translate")
    page.locator("#translate-version-history .version-card").first.click()
    expect(workspace.locator(".workspace-own")).to_have_js_property("naturalWidth", 80)


def test_the_style_of_a_result_is_taken(page: Page, studio: Server) -> None:
    drop(page, "translate", "mine.png", png_bytes())
    run(page, "translate")
    grid(page, "translate").locator(".cell").nth(1).click()
    page.click("#translate-grid [data-role=refer]")
    expect(page.locator("#translate-control-references input")).to_have_value("A picture of yours")
    run(page, "translate")
    taken = newest(page, studio).tasks["ours"].references  # type: ignore[attr-defined]
    assert len(taken) == 1
    page.reload()
    go_to(page, "translate")
    expect(page.locator("#translate-control-references input")).to_have_value("A picture of yours")
    expect(grid(page, "translate").locator(".results")).to_have_attribute("data-phase", "done")


def test_a_generated_picture_is_translated_and_handed_on(page: Page) -> None:
    page.click('[role="tab"][data-tab-id="generate"]')
    page.fill("#control-prompt textarea", "blue")
    page.fill("#control-n input[type=number]", "2")
    page.fill("#control-steps input[type=number]", "2")
    page.click('[data-action="run"]')
    page.wait_for_selector('#particle-grid .results[data-phase="done"]')
    page.locator("#particle-grid .cell").first.click()
    page.click("#particle-grid [data-role=to-translate]")
    expect(page.locator("#translate-workspace .workspace-own")).to_have_attribute("src", re.compile("^data:image/jpeg"))
    run(page, "translate")
    grid(page, "translate").locator(".cell").first.click()
    page.click("#translate-grid [data-role=go_on]")
    expect(page.locator("#translate-workspace .workspace-own")).to_have_attribute("alt", "long")


def test_a_saved_translation_is_restored_in_its_tab(
    page: Page, open_translate: Callable[..., Page], tmp_path: Path
) -> None:
    drop(page, "translate", "mine.png", png_bytes())
    choose(page, "translate-control-domain", "short")
    set_control(page, "translate", "seed", 77)
    run(page, "translate")
    grid(page, "translate").locator(".cell").first.click()
    saved = download(page, "#translate-grid [data-role=save]", tmp_path)
    other = open_translate()
    with other.expect_file_chooser() as chooser:
        other.click("#translate-restore")
    chooser.value.set_files(saved)
    expect_notice(other, "translate", "Settings restored from picture 1 of 2")
    expect(other.locator("#translate-control-domain input")).to_have_value("short")
    expect(other.locator("#translate-control-seed input")).to_have_value("77")
    run(other, "translate")


def test_a_stopped_run_goes_on(page: Page, studio: Server) -> None:
    drop(page, "translate", "mine.png", png_bytes())
    set_control(page, "translate", "n", 2)
    set_control(page, "translate", "steps", 200)
    page.click('#translate-run-bar [data-action="run"]')
    page.wait_for_selector('#translate-grid .results[data-phase="running"]')
    page.click('#translate-run-bar [data-action="stop"]')
    page.wait_for_selector('#translate-grid .results[data-phase="stopped"]')
    assert newest(page, studio).moment.sides["ours"].step.step < 200


def test_what_cannot_be_is_said(page: Page, tmp_path: Path) -> None:
    page.click('#translate-run-bar [data-action="run"]')
    expect_notice(page, "translate", "There is no picture yet. Open, drop or paste one")
    drop(page, "translate", "notes.png", b"no picture at all")
    expect_notice(page, "translate", "notes.png")
    drop(page, "translate", "mine.png", png_bytes())
    set_control(page, "translate", "seed", 10**12)
    page.click('#translate-run-bar [data-action="run"]')
    expect_notice(page, "translate", "Seed")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_tab_fits_is_named_and_can_be_read(
    open_translate: Callable[..., Page], width: int, check_looks: Callable[[Page, int], None]
) -> None:
    check_looks(open_translate(width), width)
