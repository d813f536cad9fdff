"""Inpaint by a Co-Mod-GAN in the page: choose it, paint, run, stop, continue, reload, restore, hand on; bad input."""

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

import engine
from gmi_ui.models.models import Loaders, Models
from gmi_ui.runs.job import PLAIN
from gmi_ui.runs.run import Run
from gmi_ui.studio import LaunchOptions, Server, serve
from gmi_ui.tabs.inpaint import BESIDE_ALONE
from tests.browser.helpers import choose, download, free_port
from tests.browser.test_own_pictures import (
    drop,
    expect_notice,
    go_to,
    grid,
    paint,
    painted_share,
    png_bytes,
    run,
    server_run,
    set_control,
)
from tests.engine.tiny import write_filler
from tests.gmi_ui.tiny import GENERATOR, PROMPT_MODEL, WIDE, TinyPromptModel, one_of, style_generator, tiny_row

MODEL = "fill"
STEP_SECONDS = 0.01


@pytest.fixture(scope="module")
def studio(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A studio around a tiny StyleGAN2 and a tiny Co-Mod-GAN, which has a prompt model of its own."""
    filler = engine.load_generator(str(write_filler(tmp_path_factory.mktemp("models") / MODEL)))
    filler.network.generator.G_synthesis.register_forward_pre_hook(lambda *_: time.sleep(STEP_SECONDS))
    generators: dict[str, Any] = {GENERATOR: style_generator(), MODEL: filler}
    prompt_models: dict[str, Any] = {name: TinyPromptModel(name=name) for name in (PROMPT_MODEL, WIDE)}
    rows = [tiny_row(), replace(tiny_row(), name=MODEL, family="comodgan", prompt_model=WIDE, examples=())]
    rows += [replace(tiny_row(), name=name, kind="prompt", family="open_clip") for name in prompt_models]
    loaders = Loaders(generator=one_of(generators), prompt_model=one_of(prompt_models), rows=lambda: rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GMI_CACHE", str(tmp_path_factory.mktemp("cache")))
        server = serve(Models(loaders), LaunchOptions(port=free_port(), browser=False))
        yield server
        server.close()


@pytest.fixture
def open_inpaint(open_tab: Callable[..., Page]) -> Callable[..., Page]:
    """Opens the page with the model chosen in Inpaint."""

    def open_page(width: int = 1280) -> Page:
        page = open_tab(width=width)
        go_to(page, "inpaint")
        unfold_models(page)
        choose(page, "inpaint-control-model", MODEL)
        expect(page.locator("#inpaint-control-prompt-model input")).to_have_value(WIDE)
        return page

    return open_page


@pytest.fixture
def page(open_inpaint: Callable[..., Page]) -> Page:
    return open_inpaint()


def unfold_models(page: Page) -> None:
    """The page opens the panel by itself where a page before had it open."""
    remembered = page.evaluate("JSON.parse(localStorage.getItem('studio-panels') ?? '[]')")
    if not any(panel.startswith("inpaint Model") for panel in remembered):
        page.locator(".gr-accordion:visible button:has-text('Model')").first.click()
    expect(page.locator("#inpaint-control-model input")).to_be_visible()


def newest(page: Page, studio: Server) -> Run:
    return server_run(page, studio, "inpaint")


def painted(page: Page) -> None:
    """A picture of 60 x 40 with a stroke through its middle."""
    drop(page, "inpaint", "wide.png", png_bytes(60, 40))
    expect(page.locator(".painter-status")).to_contain_text("60 x 40")
    stroke(page, (0.35, 0.4), (0.6, 0.6))


def stroke(page: Page, *points: tuple[float, float]) -> None:
    """Wherever the page was scrolled to before."""
    page.locator(".painter-mask").scroll_into_view_if_needed()
    paint(page, *points)


def test_a_hole_is_filled_beside_what_the_model_alone_fills_in(page: Page, studio: Server) -> None:
    expect(page.locator("#inpaint-control-known-weight")).to_be_hidden()
    expect(page.locator("#inpaint-control-baseline")).to_contain_text(BESIDE_ALONE)
    painted(page)
    set_control(page, "inpaint", "feather", 0)
    run(page, "inpaint")
    expect(grid(page, "inpaint").locator(".side-title")).to_have_text(["With repulsion", PLAIN])
    expect(grid(page, "inpaint").locator(".side").first.locator("figcaption")).to_have_text(["Realism", "Diversity"])
    version = studio.services.sessions.get(page.evaluate("window.studio.token"), "inpaint").workspace.current
    assert version is not None and version.inversion is None and not version.starts
    expect(page.locator("#inpaint-grid .notice")).to_be_hidden()
    choose(page, "inpaint-control-model", GENERATOR)
    expect(page.locator("#inpaint-control-known-weight")).to_be_visible()
    expect(page.locator("#inpaint-control-prompt-model input")).to_have_value(PROMPT_MODEL)


def test_a_saved_picture_restores_model_mask_and_controls(
    page: Page, open_inpaint: Callable[..., Page], tmp_path: Path
) -> None:
    painted(page)
    page.fill("#inpaint-control-prompt textarea", "red")
    set_control(page, "inpaint", "seed", 77)
    run(page, "inpaint")
    grid(page, "inpaint").locator(".cell").first.click()
    path = download(page, "#inpaint-grid [data-role=save]", tmp_path)
    saved = np.asarray(Image.open(path))
    changed = (saved != np.asarray(Image.open(io.BytesIO(png_bytes(60, 40))))).any(2)
    assert saved.shape == (40, 60, 3) and 0 < changed.mean() < 0.3
    other = open_inpaint()
    choose(other, "inpaint-control-model", GENERATOR)
    expect(other.locator("#inpaint-control-known-weight")).to_be_visible()
    with other.expect_file_chooser() as chooser:
        other.click("#inpaint-restore")
    chooser.value.set_files(path)
    expect_notice(other, "inpaint", "Settings restored from picture 1 of 2")
    expect(other.locator("#inpaint-control-model input")).to_have_value(MODEL)
    expect(other.locator("#inpaint-control-seed input")).to_have_value("77")
    expect(other.locator("#inpaint-control-known-weight")).to_be_hidden()
    expect(other.locator(".painter-status")).to_contain_text("% is repainted")
    assert painted_share(other) > 0.01
    run(other, "inpaint")


def test_a_stopped_run_is_continued_and_a_reload_keeps_it(page: Page, studio: Server) -> None:
    painted(page)
    set_control(page, "inpaint", "n", 2)
    set_control(page, "inpaint", "steps", 100)
    page.click('#inpaint-run-bar [data-action="run"]')
    page.wait_for_selector('#inpaint-grid .results[data-phase="running"]')
    page.click('#inpaint-run-bar [data-action="stop"]')
    page.wait_for_selector('#inpaint-grid .results[data-phase="stopped"]')
    run_ = newest(page, studio)
    assert run_.moment.step < 100
    page.reload()
    go_to(page, "inpaint")
    expect(grid(page, "inpaint").locator(".results")).to_have_attribute("data-phase", "stopped")
    unfold_models(page)
    expect(page.locator("#inpaint-control-model input")).to_have_value(MODEL)
    expect(page.locator("#inpaint-control-known-weight")).to_be_hidden()
    page.click('#inpaint-run-bar [data-action="continue"]')
    page.wait_for_selector('#inpaint-grid .results[data-phase="done"]')
    assert newest(page, studio) is run_ and run_.moment.step == 100


def test_a_result_is_gone_on_from_and_handed_on(page: Page, studio: Server) -> None:
    """In Inpaint without a search; in Edit, by a model that can edit, with one."""
    painted(page)
    run(page, "inpaint")
    grid(page, "inpaint").locator(".cell").first.click()
    page.click("#inpaint-grid [data-role=go_on]")
    stroke(page, (0.1, 0.2), (0.3, 0.2))
    run(page, "inpaint")
    session = studio.services.sessions.get(page.evaluate("window.studio.token"), "inpaint")
    assert [version.inversion for version in session.workspace.versions] == [None, None]
    grid(page, "inpaint").locator(".cell").first.click()
    page.click("#inpaint-grid [data-role=to-edit]")
    expect(page.locator("#edit-workspace .workspace")).to_have_attribute("data-state", "found")


def test_what_cannot_be_is_said(page: Page) -> None:
    page.click('#inpaint-run-bar [data-action="run"]')
    expect_notice(page, "inpaint", "There is no picture yet. Open, drop or paste one")
    drop(page, "inpaint", "notes.png", b"no picture at all")
    expect_notice(page, "inpaint", "notes.png")
    drop(page, "inpaint", "wide.png", png_bytes(60, 40))
    expect(page.locator(".painter-status")).to_contain_text("60 x 40")
    page.click('#inpaint-run-bar [data-action="run"]')
    expect_notice(page, "inpaint", "The mask is empty")
    stroke(page, (0.35, 0.4), (0.6, 0.6))
    set_control(page, "inpaint", "seed", 10**12)
    page.click('#inpaint-run-bar [data-action="run"]')
    expect_notice(page, "inpaint", "Seed")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_tab_fits_is_named_and_can_be_read(
    open_inpaint: Callable[..., Page], width: int, check_looks: Callable[[Page, int], None]
) -> None:
    check_looks(open_inpaint(width), width)
