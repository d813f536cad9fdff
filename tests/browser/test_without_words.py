"""Generate with an empty prompt in the page: it runs, says what it does, and shows likeness where scores would be."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from gmi_ui.controls import ANY_PICTURES
from gmi_ui.runs.job import PLAIN
from gmi_ui.studio import LaunchOptions, Server, serve
from tests.browser.conftest import new_tab
from tests.browser.helpers import (
    choose,
    download,
    drop_file,
    expect_notice,
    free_port,
    run_to_the_end,
    server_run,
    set_number,
    start,
    wait_for_phase,
    wait_for_step,
)
from tests.gmi_ui.test_without_words import judging_models


@pytest.fixture(scope="module")
def judging(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A studio whose avatars come with a discriminator and examples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GMI_CACHE", str(tmp_path_factory.mktemp("cache")))
        server = serve(judging_models(delay=0.01), LaunchOptions(port=free_port(), browser=False))
    yield server
    server.close()


@pytest.fixture
def page(context: BrowserContext, judging: Server) -> Iterator[Page]:
    complaints: list[str] = []
    page = new_tab(context, complaints)
    page.goto(judging.address)
    page.wait_for_selector(".welcome-pictures img")
    yield page
    page.evaluate("localStorage.clear()")
    page.close()
    assert complaints == []


def figures(page: Page) -> list[str]:
    return page.locator('.side[data-side="ours"] [data-figure]').evaluate_all("all => all.map((e) => e.dataset.figure)")


def test_it_runs_says_what_it_does_and_shows_likeness(page: Page) -> None:
    page.fill("#control-prompt textarea", "")
    expect(page.locator("#control-prompt textarea")).to_have_attribute("placeholder", ANY_PICTURES)
    start(page, "", n=5, steps=8)
    wait_for_phase(page, "done")
    expect(page.locator(".status-words")).to_have_text(
        "Without words: towards what the discriminator of avatars takes for real and its 20 examples, and apart from "
        "each other."
    )
    expect(page.locator('.side[data-side="baseline"] .side-title')).to_have_text(PLAIN)
    assert figures(page) == ["frechet", "precision", "recall", "diversity"]
    expect(page.locator('.side[data-side="ours"] [data-figure="frechet"] output')).to_have_text(
        re.compile(r"^\d\.\d{3}$")
    )
    expect(page.locator(".cell-score").first).to_be_hidden()
    expect(page.locator(".notice")).to_be_hidden()
    page.locator(".cell").first.click()
    expect(page.locator(".viewer-prompt")).to_have_text("Without words")
    page.keyboard.press("Escape")


def test_words_after_none_bring_the_scores_back(page: Page) -> None:
    start(page, "  ", n=5, steps=3)
    wait_for_phase(page, "done")
    page.fill("#control-prompt textarea", "blue")
    run_to_the_end(page)
    assert figures(page) == ["text", "diversity"]
    expect(page.locator(".status-words")).to_have_text("blue")
    expect(page.locator(".cell-score").first).to_be_visible()


def test_it_is_stopped_goes_on_and_survives_a_reload(page: Page, judging: Server) -> None:
    start(page, "", n=3, steps=200)
    wait_for_step(page, 3)
    page.click('[data-action="stop"]')
    wait_for_phase(page, "stopped")
    page.reload()
    wait_for_phase(page, "stopped")
    expect(page.locator("#control-prompt textarea")).to_have_value("")
    assert server_run(page, judging).settings.prompt == ""
    expect(page.locator(".status-words")).to_contain_text("Without words: towards what")
    page.click('[data-action="continue"]')
    wait_for_phase(page, "running")
    page.click('[data-action="stop"]')
    wait_for_phase(page, "stopped")


def test_a_saved_picture_of_the_model_alone_restores(page: Page, tmp_path: Path) -> None:
    start(page, "", n=3, steps=4)
    wait_for_phase(page, "done")
    page.locator('.side[data-side="baseline"] .cell').nth(1).click()
    saved = download(page, '[data-role="save"]', tmp_path)
    assert saved.name.startswith("without-words_seed-")
    page.keyboard.press("Escape")
    page.fill("#control-prompt textarea", "blue")
    drop_file(page, saved.name, saved.read_bytes())
    expect_notice(page, "step 0 of 4")
    expect(page.locator("#control-prompt textarea")).to_have_value("")
    page.click('[data-action="run"]')
    wait_for_phase(page, "stopped")
    expect(page.locator(".side")).to_have_count(1)


def test_two_models_beside_each_other(page: Page) -> None:
    choose(page, "control-beside", "fashion")
    start(page, "", n=5, steps=3)
    wait_for_phase(page, "done")
    expect(page.locator(".status-words")).to_contain_text("discriminator of avatars")
    assert figures(page) == ["frechet", "precision", "recall", "diversity"]
    choose(page, "control-beside", "mosaic")
    run_to_the_end(page)
    assert figures(page) == ["diversity"]  # mosaic comes with no examples here


def test_classes_without_words(page: Page) -> None:
    choose(page, "control-model", "fashion")
    expect(page.locator("#found-classes")).to_contain_text("No class is close")
    page.fill("#control-prompt textarea", "")
    expect(page.locator("#found-classes")).to_contain_text("all classes share the pictures")
    expect(page.locator("#take-classes")).to_be_hidden()
    set_number(page, "steps", 2)
    run_to_the_end(page)
    expect(page.locator('.side[data-side="ours"] .cell-label').first).not_to_be_empty()
    page.fill("#control-prompt textarea", "a coat")
    expect(page.locator("#take-classes")).to_be_visible()
