"""Saved pictures: everything inside, and back to every control."""

import errno
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.errors import MetadataError, SaveError
from engine.pictures import imaging, png_files
from engine.settings import GenerateSettings, SettingsError
from engine.system import files
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.notices import NotPossibleError, explain
from gmi_ui.pictures.restoring import restored
from gmi_ui.pictures.saving import Pictures, slug
from gmi_ui.runs.run import BASELINE, OURS, Run
from gmi_ui.runs.work import Phase
from gmi_ui.services import Services
from tests.gmi_ui.tiny import TinyGenerator, TinyPromptModel, tiny_settings
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
    assert saved.name == "blue_7.png"


def test_a_baseline_picture_says_that_it_had_no_repulsion(run: Run, services: Services, tmp_path: Path) -> None:
    saved = Pictures(tmp_path).save_one(run, BASELINE, 0)
    settings = restored(saved, services.models).settings
    assert settings.flow.diversity == 0 and settings.flow.estimator == "kde"
    assert saved.name == "blue_5_baseline.png"


def test_all_pictures_go_into_one_zip(run: Run, tmp_path: Path) -> None:
    saved = Pictures(tmp_path).save_all(run)
    with zipfile.ZipFile(saved) as archive:
        assert sorted(archive.namelist()) == [f"{d}{i:02d}.png" for d in ("", "baseline/") for i in range(3)]
        assert png_files.read_metadata(archive.read("baseline/01.png"))["index"] == 1


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
