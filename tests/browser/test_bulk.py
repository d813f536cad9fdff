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
