"""Saved pictures: everything inside, and back to every control."""

import errno
import io
import json
import os
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.errors import MetadataError, PictureError, SaveError
from engine.pictures import imaging, png_files
from engine.pictures.picture_files import Picture
from engine.settings import EditSettings, GenerateSettings, InpaintSettings, RunSettings, SettingsError
from engine.system import files
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.jobs.inpainting import InpaintJob
from gmi_ui.notices import Notice, NotPossibleError, explain
from gmi_ui.opening import reduced
from gmi_ui.pictures import saving
from gmi_ui.pictures.restoring import Restored, carries_settings, restored, without_equal_side
from gmi_ui.pictures.saving import KEPT_FOR, REPORT, SHEET, Pictures, name_of, slug
from gmi_ui.pictures.workspace import PictureVersion
from gmi_ui.runs.redrawing import step_of
from gmi_ui.runs.run import BASELINE, OURS, Run
from gmi_ui.runs.work import Phase
from gmi_ui.services import Services
from tests.gmi_ui.tiny import WIDE, TinyGenerator, TinyPromptModel, three_models, tiny_models, tiny_settings
from tests.gmi_ui.waiting import wait_for_end


@pytest.fixture
def run(services: Services) -> Run:
    run = Run(tiny_settings(flow={"steps": 3, "estimator": "kde"}), GENERATE)
    services.queue.submit(run)
    wait_for_end(run)
    assert run.moment.phase is Phase.DONE
    return run


def test_a_picture_carries_everything_that_made_it(run: Run, tmp_path: Path) -> None:
    saved = Pictures(tmp_path).save_one(run, OURS, 2)
    metadata = png_files.read_metadata(saved)
    assert GenerateSettings.from_dict(metadata["settings"]) == run.settings
    assert metadata["seeds"] == [5, 6, 7] and metadata["index"] == 2
    assert metadata["models"] == {"avatars": TinyGenerator().sha256, "clip-mini": TinyPromptModel().sha256}
    expected = imaging.to_uint8(run.moment.sides[OURS].step.images)[2]
    with Image.open(saved) as picture:
        assert (expected == picture).all()
    assert saved.name == "blue_seed-7_step-3.png"


def test_a_baseline_picture_says_that_it_had_no_repulsion(run: Run, services: Services, tmp_path: Path) -> None:
    saved = Pictures(tmp_path).save_one(run, BASELINE, 0)
    settings = restored(saved, services.models).settings
    assert settings.flow.diversity == 0 and settings.flow.estimator == "kde"
    assert not settings.is_compared  # beside it the same would run once more
    assert Run(settings, GENERATE).titles == {OURS: "Without repulsion"}
    assert saved.name == "blue_seed-5_step-3_baseline.png"


@pytest.mark.parametrize(
    ("settings", "is_alone"),
    [
        (tiny_settings(flow={"diversity": 0.5}), False),
        (tiny_settings(flow={"diversity": 0.0, "changes": [[2, 0.1, 0.3]]}), False),  # moved up meanwhile
        (InpaintSettings(flow=replace(InpaintSettings().flow, diversity=0.0)), True),
        (EditSettings(prompt="red", method="direction", baseline="direction"), True),
        (EditSettings(prompt="red", method="gmi", baseline="direction"), False),
        (EditSettings(prompt="red", baseline="no repulsion"), False),
        (
            EditSettings(
                prompt="red", baseline="no repulsion", flow=replace(EditSettings(prompt="red").flow, diversity=0.0)
            ),
            True,
        ),
    ],
)
def test_what_would_run_twice_is_restored_alone(settings: RunSettings, is_alone: bool) -> None:
    assert settings.is_compared
    assert without_equal_side(settings).is_compared is not is_alone


def test_all_pictures_go_into_one_zip(run: Run, tmp_path: Path) -> None:
    saved = Pictures(tmp_path).save_all(run)
    with zipfile.ZipFile(saved) as archive:
        names = {
            side: [f"{folder}{i:02d}_seed-{5 + i}_step-3.png" for i in range(3)]
            for side, folder in ((OURS, ""), (BASELINE, "baseline/"))
        }
        assert set(archive.namelist()) == {*names[OURS], *names[BASELINE], REPORT, SHEET}
        assert png_files.read_metadata(archive.read(names[BASELINE][1]))["index"] == 1
        assert all(abs(time.mktime((*entry.date_time, 0, 0, -1)) - time.time()) < 3600 for entry in archive.infolist())
        report = json.loads(archive.read(REPORT))
        assert [one["file"] for one in report["sides"][BASELINE]["pictures"]] == names[BASELINE]
        assert GenerateSettings.from_dict(report["sides"][OURS]["settings"]) == run.settings
        assert report["sides"][OURS]["pictures"][2]["seed"] == 7 and report["models"] == dict(run.model_hashes)
        sheet = Image.open(io.BytesIO(archive.read(SHEET)))
        assert sheet.width > 3 * 32 and sheet.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("scale", [2, 4])
def test_a_picture_is_saved_larger_and_restores_as_well(
    scale: int, run: Run, services: Services, tmp_path: Path
) -> None:
    plain, large = (Pictures(tmp_path).save_one(run, OURS, 1, scale=one) for one in (1, scale))
    assert large.name == f"blue_seed-6_step-3_{scale}x.png"
    small, big = Image.open(plain), Image.open(large)
    assert big.size == (32 * scale, 32 * scale)
    expected = small.resize(big.size, Image.Resampling.LANCZOS)
    assert (np.asarray(big) == np.asarray(expected)).all()
    found = restored(large, services.models)
    assert found.settings == run.settings and found.scale == scale
    again = np.asarray(reduced(Picture(np.asarray(big)), scale).pixels, dtype=int)
    assert np.abs(again - np.asarray(small, dtype=int)).mean() < 2  # of 255; blobs are smooth


@pytest.mark.parametrize("scale", [0, 3, 100])
def test_other_sizes_are_refused(scale: int, run: Run, tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="too large"):
        Pictures(tmp_path).save_one(run, OURS, 0, scale=scale)
    with pytest.raises(PictureError, match="too large"):
        Pictures(tmp_path).save_all(run, scale=scale)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_all_pictures_are_saved_larger_and_restore_as_well(run: Run, services: Services, tmp_path: Path) -> None:
    saved = Pictures(tmp_path).save_all(run, scale=2)
    assert saved.name == "blue_seed-5_step-3_2x.zip"
    with zipfile.ZipFile(saved) as archive:
        report = json.loads(archive.read(REPORT))
        assert report["scale"] == 2
        for side in (OURS, BASELINE):
            for told in report["sides"][side]["pictures"]:
                assert Image.open(io.BytesIO(archive.read(told["file"]))).size == (64, 64)
        last = Path(archive.extract(report["sides"][OURS]["pictures"][2]["file"], tmp_path))
    found = restored(last, services.models)
    assert found.settings == run.settings and found.scale == 2


def test_all_that_are_too_large_together_are_refused_in_words(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "MOST_ENLARGED", 6 * 64**2 - 1)  # one pixel less than three pictures of two sides
    with pytest.raises(PictureError, match="one by one"):
        Pictures(tmp_path).save_all(run, scale=2)
    assert Pictures(tmp_path).save_one(run, OURS, 0, scale=2).is_file()


def test_a_saved_picture_restores_its_settings(run: Run, services: Services, tmp_path: Path) -> None:
    saved = Pictures(tmp_path).save_one(run, OURS, 1)
    found = restored(saved, services.models)
    assert found.settings == run.settings
    notice = found.notice
    assert notice.kind == "info" and "picture 2 of 3" in notice.text


def test_another_version_of_the_model_is_told(
    run: Run, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = Pictures(tmp_path).save_one(run, OURS, 1)
    monkeypatch.setattr(services.models, "hash_of", lambda name: "0" * 64)
    notice = restored(saved, services.models).notice
    assert notice.kind == "warning" and "avatars" in notice.text


def png(path: Path, **text: str) -> Path:
    info = PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    return path


@pytest.mark.parametrize("text", [{}, {"gmi": "{"}, {"gmi": "[1]"}, {"gmi": '{"settings": {}}'}])
def test_a_png_without_or_with_forged_metadata_is_refused_in_words(
    services: Services, tmp_path: Path, text: dict[str, str]
) -> None:
    with pytest.raises(MetadataError) as caught:
        restored(png(tmp_path / "a.png", **text), services.models)
    assert explain(caught.value).text == str(caught.value)


def test_forged_settings_are_refused_by_name(run: Run, services: Services, tmp_path: Path) -> None:
    metadata = png_files.read_metadata(Pictures(tmp_path).save_one(run, OURS, 1))
    metadata["settings"]["n"] = 10**9
    png_files.save_png(tmp_path / "forged.png", imaging.to_uint8(run.moment.sides[OURS].step.images)[0], metadata)
    with pytest.raises(SettingsError, match="n:"):
        restored(tmp_path / "forged.png", services.models)


def test_a_full_disk_is_told_and_the_pictures_stay(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_atomic", full)
    with pytest.raises(SaveError) as caught:
        Pictures(tmp_path).save_all(run)
    assert "space" in explain(caught.value).text
    monkeypatch.undo()
    assert Pictures(tmp_path).save_all(run).is_file()


@pytest.mark.parametrize(("side", "index"), [("ours", 3), ("ours", -1), ("../..", 0)])
def test_a_picture_that_is_not_there(run: Run, tmp_path: Path, side: str, index: int) -> None:
    with pytest.raises(NotPossibleError):
        Pictures(tmp_path).save_one(run, side, index)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_save_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(NotPossibleError, match="no pictures"):
        Pictures(tmp_path).save_all(Run(tiny_settings(), GENERATE))


def test_file_names_keep_every_script_and_no_separators() -> None:
    assert slug("A woman, with PINK hair!") == "a-woman-with-pink-hair"
    assert slug("眼鏡の女性") == "眼鏡の女性"
    assert slug("../../🦜") == "picture" and len(slug("x" * 500)) <= 48


def aged(folder: Path, name: str, seconds: float) -> Path:
    place = folder / name
    place.mkdir()
    (place / "a.png").write_bytes(b"x")
    os.utime(place, (time.time() - seconds,) * 2)
    return place


@pytest.mark.parametrize("save", [lambda pictures, run: pictures.save_one(run, OURS, 0), Pictures.save_all])
def test_only_what_is_old_goes_when_something_is_saved(run: Run, tmp_path: Path, save: Any) -> None:
    old, fresh = aged(tmp_path, "old", KEPT_FOR + 60), aged(tmp_path, "fresh", KEPT_FOR - 60)
    pictures = Pictures(tmp_path)
    first = pictures.save_one(run, OURS, 1)
    old.mkdir(exist_ok=True)
    os.utime(old, (time.time() - KEPT_FOR - 60,) * 2)
    second = save(pictures, run)
    assert not old.exists() and (fresh / "a.png").is_file() and first.is_file() and second.is_file()
    assert first.parent == second.parent == tmp_path / run.id


def test_the_zip_of_an_earlier_step_holds_its_pictures(run: Run, tmp_path: Path) -> None:
    pictures = Pictures(tmp_path)
    with zipfile.ZipFile(pictures.save_all(run, 1)) as archive:
        early = {name: archive.read(name) for name in archive.namelist()}
    assert len(early) == 8
    for side, folder in ((OURS, ""), (BASELINE, "baseline/")):
        expected = imaging.to_uint8(step_of(run, side, 1).images)
        for index in range(3):
            data = early[f"{folder}{index:02d}_seed-{5 + index}_step-1.png"]
            assert (np.asarray(Image.open(io.BytesIO(data))) == expected[index]).all()
            metadata = png_files.read_metadata(data)
            assert metadata["settings"]["flow"]["until"] == 1 and metadata["index"] == index
    saved = pictures.save_all(run)
    assert saved.name == "blue_seed-5_step-3.zip"
    with zipfile.ZipFile(saved) as archive:
        assert archive.read("00_seed-5_step-3.png") != early["00_seed-5_step-1.png"]


def test_pictures_of_another_model_beside_are_told_by_its_name(tmp_path: Path) -> None:
    beside: dict[str, Any] = {
        "prompt": "a bag",
        "model": "fashion",
        "prompt_model": WIDE,
        "n": 3,
        "seed": 5,
        "classes": ["bag"],
    }
    services = Services.around(three_models())
    run = Run(
        tiny_settings("a bag", flow={"steps": 2}, baseline=False, beside={**beside, "flow": {"steps": 2}}), GENERATE
    )
    services.queue.submit(run)
    wait_for_end(run)
    pictures = Pictures(tmp_path)
    with zipfile.ZipFile(pictures.save_all(run)) as archive:
        assert sum(name.startswith("fashion/") for name in archive.namelist()) == 3
        theirs = png_files.read_metadata(archive.read("fashion/02_seed-7_step-2.png"))
    saved = pictures.save_one(run, BASELINE, 2)
    assert saved.name == "a-bag_seed-7_step-2_fashion.png"
    assert set(theirs["models"]) == {"fashion", WIDE} and theirs["settings"]["model"] == "fashion"
    ours = png_files.read_metadata(pictures.save_one(run, OURS, 2))
    assert set(ours["models"]) == {"avatars", "clip-mini", "fashion", WIDE}


def test_a_repainting_without_words_has_a_name(run: Run) -> None:
    version = PictureVersion(1, "mine.png", Picture(np.zeros((4, 4, 3), np.uint8)))
    silent = Run(InpaintSettings(), InpaintJob(version, b""))
    assert name_of(silent) == "repainted" and name_of(run) == "blue"


def test_the_folder_of_the_studio_is_its_own() -> None:
    one, other = Pictures().folder, Pictures().folder
    assert one != other and one.is_dir() and one == one.resolve() and one.parent.name.startswith("gmi-studio-")


@pytest.mark.parametrize(
    ("extra", "text"), [({}, "Restored"), ({"text": 3}, "Restored"), ({"text": "a" * 300}, "a" * 200)]
)
def test_what_a_restored_picture_was_called(run: Run, extra: dict[str, Any], text: str) -> None:
    assert Restored(run.settings, Notice(""), extra).text == text


@pytest.mark.parametrize("mask", ["AAAA", "A", 3, None, "A$AA", "é"])
def test_the_mask_of_a_restored_picture(run: Run, mask: Any) -> None:
    found = Restored(run.settings, Notice(""), {"mask": mask})
    if mask == "AAAA":
        assert found.mask == b"\0\0\0"
    else:
        with pytest.raises(MetadataError, match="mask"):
            assert found.mask
    assert Restored(run.settings, Notice(""), {}).mask is None


def test_whether_a_file_was_saved_here(run: Run, tmp_path: Path) -> None:
    assert carries_settings(Pictures(tmp_path).save_one(run, OURS, 0))
    assert not carries_settings(png(tmp_path / "a.png"))


def test_a_model_that_is_not_loaded_is_no_other_version(run: Run, services: Services, tmp_path: Path) -> None:
    saved = Pictures(tmp_path).save_one(run, OURS, 1)
    assert restored(saved, tiny_models()).notice.kind == "info"
    earlier = restored(Pictures(tmp_path).save_one(run, OURS, 1, step=2), services.models)
    assert "step 2 of 3" in earlier.notice.text


def test_what_is_said_of_a_restored_picture(
    run: Run, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every model that is another version now, in order of names; before where the run was stopped."""
    own = {"avatars": TinyGenerator().sha256, "clip-mini": TinyPromptModel().sha256}
    saved = []
    for step in (3, 1):
        (tmp_path / str(step)).mkdir()
        saved.append(Pictures(tmp_path / str(step)).save_one(run, OURS, 2, step=step))
    last, early = saved
    for now, changed in (
        (own, ""),
        ({}, ""),
        ({**own, "avatars": "0" * 64}, "avatars"),
        ({**own, "clip-mini": "0" * 64}, "clip-mini"),
        ({"clip-mini": "0" * 64, "avatars": "1" * 64}, "avatars, clip-mini"),
    ):
        monkeypatch.setattr(services.models, "hash_of", now.get)
        whole, stopped = (restored(path, services.models).notice for path in (last, early))
        assert whole.text.startswith("Settings restored from picture 3 of 3")
        assert {whole.kind, stopped.kind} == {"warning" if changed else "info"}
        if changed:
            assert f"another version of {changed}:" in whole.text and stopped.text == whole.text
        else:
            assert whole.text.endswith("Press Run to make it again.")
            assert "picture 3 of 3, which is step 1 of 3." in stopped.text and "stops there" in stopped.text
    assert restored(last, services.models).extra == {}


@pytest.mark.parametrize(
    ("threads", "told"), [(None, False), (True, False), (0, False), ("2", False), (10**9, False), (7, True), (1, True)]
)
def test_other_threads_are_said(
    threads: Any, told: bool, run: Run, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums in another order: what is not exact is said, and what makes it so. Forged numbers say nothing."""
    path = Pictures(tmp_path).save_one(run, OURS, 0)
    metadata = png_files.read_metadata(path)
    assert metadata["extra"]["threads"] == torch.get_num_threads()
    assert "thread" not in restored(path, services.models).notice.text
    metadata["extra"]["threads"] = threads
    path.write_bytes(png_files.encode_png(np.zeros((2, 2, 3), np.uint8), metadata))
    monkeypatch.setattr("engine.system.runtime.threads_in_use", lambda: 3)
    notice = restored(path, services.models).notice
    assert (f"--threads {threads}" in notice.text and notice.kind == "warning") == told
