"""Pictures in the page: open large, save, restore by dropping, go on from one."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from engine.errors import SaveError
from engine.pictures import imaging, png_files
from engine.settings import GenerateSettings
from gmi_ui.pictures.saving import Pictures
from gmi_ui.studio import Server
from tests.browser.helpers import (
    choose,
    download,
    drop_file,
    expect_notice,
    number,
    prompt_box,
    run_to_the_end,
    server_run,
    set_number,
    start,
    wait_for_phase,
)


def finished(page: Page, **options: int) -> None:
    start(page, "blue and green", **{"n": 3, "steps": 4, **options})
    wait_for_phase(page, "done")


def test_a_picture_opens_large_by_keyboard_and_closes_again(page: Page) -> None:
    finished(page)
    cell = page.locator('.side[data-side="ours"] .cell').nth(1)
    cell.focus()
    cell.press("Enter")
    title = page.locator("dialog.viewer[open] .viewer-title")
    expect(title).to_contain_text("picture 2 of 3")
    page.keyboard.press("ArrowRight")
    expect(title).to_contain_text("picture 3 of 3")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(title).to_contain_text("picture 2 of 3")
    page.click('[data-role="other"]')
    expect(title).to_contain_text("Baseline, picture 2 of 3")
    page.keyboard.press("Escape")
    expect(page.locator("dialog.viewer")).to_be_hidden()
    expect(page.locator('.side[data-side="baseline"] .cell').nth(1)).to_be_focused()


def test_escape_in_the_large_view_does_not_stop_the_run(page: Page, studio: Server) -> None:
    start(page, steps=300)
    page.locator('.side[data-side="ours"] .cell img:not([hidden])').first.click()
    expect(page.locator("dialog.viewer")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog.viewer")).to_be_hidden()
    assert not server_run(page, studio).is_stopping


def test_a_saved_picture_dropped_on_the_page_restores_every_control(page: Page, tmp_path: Path) -> None:
    set_number(page, "diversity", 0.8)
    set_number(page, "step-size", 0.05)
    set_number(page, "seed", 77)
    choose(page, "control-beside", "Nothing")
    finished(page, n=2, steps=5)
    page.locator(".cell").nth(1).click()
    path = download(page, '[data-role="save"]', tmp_path)
    assert path.name == "blue-and-green_seed-78_step-5.png"
    metadata = png_files.read_metadata(path)
    assert metadata["index"] == 1 and metadata["seeds"] == [77, 78]
    page.keyboard.press("Escape")

    page.fill("#control-prompt textarea", "red")
    for field, value in (("diversity", 0.1), ("step-size", 0.1), ("seed", 5), ("n", 9), ("steps", 99)):
        set_number(page, field, value)
    choose(page, "control-beside", "without repulsion")
    drop_file(page, path.name, path.read_bytes())
    expect_notice(page, "Settings restored from picture 2 of 2")
    expect(page.locator("#control-prompt textarea")).to_have_value("blue and green")
    fields = ("diversity", "step-size", "seed", "n", "steps")
    assert [float(number(page, field)) for field in fields] == [0.8, 0.05, 77, 2, 5]
    expect(page.locator("#control-beside input")).to_have_value("Nothing")


def test_what_no_control_shows_is_restored_as_well(page: Page, studio: Server, tmp_path: Path) -> None:
    finished(page)
    page.locator(".cell").first.click()
    path = download(page, '[data-role="save"]', tmp_path)
    metadata = png_files.read_metadata(path)
    metadata["settings"]["flow"]["langevin"] = 0.125
    forged = tmp_path / "changed.png"
    png_files.save_png(forged, imaging.to_uint8(server_run(page, studio).moment.sides["ours"].step.images)[0], metadata)
    page.keyboard.press("Escape")
    drop_file(page, "changed.png", forged.read_bytes())
    expect_notice(page, "Settings restored")
    run_to_the_end(page)
    assert server_run(page, studio).settings.flow.langevin == 0.125


def test_the_button_restores_too(page: Page, tmp_path: Path) -> None:
    finished(page)
    page.locator(".cell").first.click()
    path = download(page, '[data-role="save"]', tmp_path)
    page.keyboard.press("Escape")
    page.fill("#control-prompt textarea", "red")
    with page.expect_file_chooser() as chooser:
        page.click("#restore-picture")
    chooser.value.set_files(path)
    expect_notice(page, "Settings restored")
    assert prompt_box(page) == "blue and green"


def plain_png() -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


def forged_png() -> bytes:
    import numpy as np

    settings = json.loads('{"prompt": "x", "n": 1000000000}')
    metadata = png_files.picture_metadata(settings=settings, seeds=[1], index=0, models={})
    return png_files.encode_png(np.zeros((8, 8, 3), dtype=np.uint8), metadata)


def test_a_dropped_file_that_restores_nothing_is_told(page: Page) -> None:
    page.fill("#control-prompt textarea", "kept")
    for data, message in (
        (plain_png(), "carries no settings"),
        (b"not a picture", "not a readable PNG"),
        (forged_png(), "n:"),
    ):
        drop_file(page, "some.png", data)
        expect_notice(page, message)
        assert prompt_box(page) == "kept"


def test_all_pictures_come_as_a_zip(page: Page, tmp_path: Path) -> None:
    finished(page)
    path = download(page, '[data-role="save-all"]', tmp_path)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert len(names) == 8 and {"run.json", "contact-sheet.png"} < set(names)
        third = next(name for name in names if name.startswith("02_"))
        assert png_files.read_metadata(archive.read(third))["index"] == 2
    page.locator(".cell").first.click()
    page.select_option(".viewer-scale", "2")
    larger = download(page, '[data-role="save"]', tmp_path)
    assert larger.name.endswith("_2x.png") and png_files.read_metadata(larger)["index"] == 0
    page.keyboard.press("Escape")
    page.select_option('[data-role="save-all-scale"]', "4")
    path = download(page, '[data-role="save-all"]', tmp_path)
    with zipfile.ZipFile(path) as archive:
        first = next(name for name in archive.namelist() if name.startswith("00_"))
        assert path.name.endswith("_4x.zip") and png_files.read_metadata(archive.read(first))["extra"]["scale"] == 4


def test_no_space_is_told_and_the_pictures_stay(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(page)

    def full(*_: object, **__: object) -> None:
        raise SaveError("pictures.zip could not be saved: no space is left. Free some space, then save again.")

    with monkeypatch.context() as patch:
        patch.setattr(Pictures, "save_all", full)
        page.click('[data-role="save-all"]')
        expect_notice(page, "Free some space")
    expect(page.locator('.side[data-side="ours"] .cell img')).to_have_count(3)
    with page.expect_download():
        page.click('[data-role="save-all"]')
    expect(page.locator(".results:visible .notice")).to_be_hidden()


def test_the_same_seed_again_puts_it_into_the_control(page: Page) -> None:
    set_number(page, "seed", 40)
    finished(page)
    page.locator('.side[data-side="ours"] .cell').nth(2).click()
    page.click('[data-role="reseed"]')
    expect(page.locator("#control-seed input")).to_have_value("42")
    expect_notice(page, "Seed 42 is set")
    page.click("#seed-reuse")
    expect(page.locator("#control-seed input")).to_have_value("40")
    page.click("#seed-dice")
    expect(page.locator("#control-seed input")).not_to_have_value("40")


def test_more_like_this_starts_around_the_picture(page: Page, studio: Server) -> None:
    finished(page)
    first = server_run(page, studio)
    page.locator('.side[data-side="ours"] .cell').nth(1).click()
    page.click('[data-role="more"]')
    page.wait_for_selector(f'.results[data-phase="done"]:not([data-run="{first.id}"])')
    expect(page.locator(".kept-start")).to_be_visible()
    run = server_run(page, studio)
    assert run is not first
    kept = first.moment.sides["ours"].step.particles.latents[1]
    assert isinstance(run.settings, GenerateSettings)
    assert run.settings.start == pytest.approx(kept.flatten().tolist())
    variety = [one.moment.sides["ours"].curves["diversity"][0] for one in (run, first)]
    assert variety[0] < variety[1]
    page.click(".kept-start button")
    expect(page.locator(".kept-start")).to_be_hidden()
    run_to_the_end(page)
    settings = server_run(page, studio).settings
    assert isinstance(settings, GenerateSettings) and settings.start is None


def test_more_unlike_these_runs_apart_from_what_was_seen(page: Page, studio: Server) -> None:
    finished(page)
    first = server_run(page, studio)
    page.click('[data-role="unlike_these"]')
    page.wait_for_selector(f'.results[data-phase="done"]:not([data-run="{first.id}"])')
    run = server_run(page, studio)
    count = len(first.moment.sides["ours"].step.images)
    expect(page.locator("#unlike-these")).to_contain_text(f"Unlike {count} picture")
    assert isinstance(run.settings, GenerateSettings) and run.settings.unlike
    assert run.settings.seed == first.settings.seed + count
    page.click("#unlike-these button")
    expect(page.locator("#unlike-these")).to_be_hidden()
    run_to_the_end(page)
    settings = server_run(page, studio).settings
    assert isinstance(settings, GenerateSettings) and settings.unlike == ""


def test_pictures_to_go_towards_are_chosen_and_saved_with_the_settings(
    page: Page, studio: Server, tmp_path: Path
) -> None:
    draws = np.random.default_rng(4)
    files = [tmp_path / f"mine{number}.png" for number in range(2)]
    for file in files:
        png_files.save_png(file, draws.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    page.get_by_role("button", name="Towards pictures like these").first.click()
    with page.expect_file_chooser() as chooser:
        page.click("#towards-pictures")
    chooser.value.set_files(files)
    expect(page.locator("#control-towards input")).to_have_value("2 of your pictures")
    finished(page)
    settings = server_run(page, studio).settings
    assert isinstance(settings, GenerateSettings) and len(settings.towards) == 64
