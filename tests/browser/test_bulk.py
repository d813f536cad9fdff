"""Much at once on the page: videos of runs, plots of settings."""

from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from engine.pictures import png_files
from tests.browser.helpers import choose, download, expect_notice, set_number, start, wait_for_phase


def test_a_video_of_the_run_comes_as_a_file(page: Page, tmp_path: Path) -> None:
    start(page, n=2, steps=4)
    wait_for_phase(page, "done")
    page.click('[data-role="video"]')
    dialog = page.locator("#particle-grid .video-dialog")
    expect(dialog.locator("h2")).to_have_text("Save a video of the run")
    path = download(page, '.video-dialog [value="yes"]', tmp_path)
    with Image.open(path) as picture:
        assert picture.format == "WEBP" and getattr(picture, "n_frames", 1) == 5
    page.click("#particle-grid .cell >> nth=1")
    page.click('#particle-grid [data-role="video-one"]')
    expect(dialog.locator("h2")).to_have_text("Save a video of picture 2")
    dialog.locator('[name="format"]').select_option("gif")
    path = download(page, '.video-dialog [value="yes"]', tmp_path)
    with Image.open(path) as picture:
        assert picture.format == "GIF"
    page.keyboard.press("Escape")


def test_a_plot_fills_cell_by_cell_and_is_saved(page: Page, tmp_path: Path) -> None:
    set_number(page, "n", 2)
    set_number(page, "steps", 3)
    page.click("#plot-form button.label-wrap")
    page.fill("#plot-x-values textarea", "0, 9")
    page.click("#run-plot")
    expect_notice(page, "9 is outside 0 to 2")
    page.fill("#plot-x-values textarea", "0, 1")
    choose(page, "plot-y", "Step size")
    page.fill("#plot-y-values textarea", "0.1, 0.2")
    page.click("#run-plot")
    page.wait_for_selector('.plot[data-phase="done"]')
    expect(page.locator(".plot-status")).to_have_text("Done: 4 of 4 cells")
    assert page.locator(".plot-pictures img").count() == 8
    assert page.locator(".plot img").first.get_attribute("alt") == "Diversity 0, Step size 0.1, picture 1"
    path = download(page, '[data-role="plot-save"]', tmp_path)
    assert png_files.read_metadata(path)["extra"]["plot"]["y"]["field"] == "step_size"
    page.reload()  # the plot is still there
    page.wait_for_selector('.plot[data-phase="done"] .plot-pictures img')


def test_the_map_shows_both_sides_and_marks_what_is_pointed_at(page: Page) -> None:
    start(page, n=4, steps=4)
    wait_for_phase(page, "done")
    points = page.locator("#particle-grid .map-point")
    expect(points).to_have_count(8)
    plane = page.locator("#particle-grid .map-plane")
    assert "Mean distance on the map" in (plane.get_attribute("aria-label") or "")
    points.nth(5).hover()
    expect(page.locator('[data-side="baseline"] .cell.is-pointed')).to_have_attribute("data-index", "1")
    page.hover('[data-side="ours"] .cell[data-index="2"]')
    expect(page.locator(".map-point.is-pointed")).to_have_attribute("data-index", "2")
    newest = page.locator(".map-told").inner_text()
    page.locator("#particle-grid .past input").fill("0")
    expect(page.locator(".map-told")).not_to_have_text(newest)
    points.nth(0).dispatch_event("click")  # others may lie over it
    expect(page.locator("#particle-grid dialog.viewer")).to_be_visible()
    page.keyboard.press("Escape")
    page.click("#particle-grid .map summary")
    expect(plane).to_be_hidden()
