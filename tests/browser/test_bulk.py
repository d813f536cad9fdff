"""Much at once on the page: videos of runs."""

from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.helpers import download, start, wait_for_phase


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
