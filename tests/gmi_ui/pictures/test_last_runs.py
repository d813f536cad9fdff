"""The last run of a page: kept on the disk, found by its token alone, after a kill too."""

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.pictures.masks import encode_mask
from engine.pictures.picture_files import Picture
from engine.settings import EditSettings, InpaintSettings
from engine.system import files
from gmi_ui.frames import Painter
from gmi_ui.jobs.editing import EditJob
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.jobs.inpainting import InpaintJob
from gmi_ui.notices import NotPossibleError
from gmi_ui.opening import bring_back
from gmi_ui.pictures import last_runs
from gmi_ui.pictures.last_runs import MOST_TABS, LastRuns
from gmi_ui.pictures.workspace import PictureVersion
from gmi_ui.runs.run import BASELINE, OURS, Run
from gmi_ui.runs.work import Phase
from gmi_ui.server_functions import restored_bytes
from gmi_ui.services import Services
from tests.gmi_ui.test_frames import frame_of
from tests.gmi_ui.tiny import tiny_models, tiny_settings
from tests.gmi_ui.waiting import wait_for_end, wait_until

TOKEN, OTHER = "ab" * 16, "ab" * 15 + "cd"


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    monkeypatch.setattr(last_runs, "LOOK_EVERY", 0.01)
    return Services.around(tiny_models(delay=0.002), kept=tmp_path / "last-runs")


def kept(services: Services, token: str = TOKEN, **changes: Any) -> Run:
    """A run, to its end, and until it is kept."""
    run = Run(tiny_settings(**changes), GENERATE)
    services.start(services.sessions.get(token), run)
    wait_for_end(run)
    wait_until(lambda: (last := services.last_runs.find(token, "generate")) and last.step == run.total)
    return run


def test_a_studio_that_starts_anew_offers_the_last_run(services: Services, tmp_path: Path) -> None:
    run = kept(services)
    anew = Services.around(tiny_models(), kept=tmp_path / "last-runs")
    session = anew.sessions.get(TOKEN)
    told = frame_of(anew, session)["last"]
    assert (told["prompt"], told["count"], told["step"], told["total"]) == ("blue", 3, run.total, run.total)
    assert restored_bytes(anew.last_runs.first_picture(TOKEN, "generate")) == run.settings
    assert Image.open(io.BytesIO(anew.last_runs.sheet(TOKEN, "generate"))).width > 3 * 32
    copied = anew.last_runs.copy(TOKEN, "generate", tmp_path / "served")
    with zipfile.ZipFile(copied) as archive:
        assert sum(name.endswith(".png") for name in archive.namelist()) == 7  # both sides and the sheet


def test_another_page_and_another_tab_find_nothing(services: Services) -> None:
    kept(services)
    assert services.last_runs.find(OTHER, "generate") is None and services.last_runs.find(TOKEN, "edit") is None
    session = services.sessions.get(OTHER)
    assert frame_of(services, session)["last"] is None
    session.before = TOKEN  # the page has the other's token
    assert frame_of(services, session)["last"]["count"] == 3


def test_a_run_that_goes_on_is_kept_meanwhile(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_runs, "EVERY", 0.02)
    run = Run(tiny_settings(flow={"steps": 900}), GENERATE)
    services.start(services.sessions.get(TOKEN), run)
    wait_until(lambda: (last := services.last_runs.find(TOKEN, "generate")) and last.step > 0)
    assert not run.is_over
    run.stop()
    wait_for_end(run)
    wait_until(lambda: (last := services.last_runs.find(TOKEN, "generate")) and last.step == run.moment.step)


def test_only_some_are_kept_and_none_without_a_folder(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_runs, "MOST_TABS", 2)
    for number in range(3):
        kept(services, f"{number:032x}", flow={"steps": 1})
    assert len(list((tmp_path / "last-runs").iterdir())) == 2 < MOST_TABS
    assert services.last_runs.find(f"{0:032x}", "generate") is None
    LastRuns().follow(TOKEN, "generate", Run(tiny_settings(), GENERATE))
    assert LastRuns().find(TOKEN, "generate") is None


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_a_damaged_file_is_none(services: Services, tmp_path: Path, data: bytes) -> None:
    kept(services, flow={"steps": 1})
    (file,) = (tmp_path / "last-runs").rglob("*.zip")
    file.write_bytes(data)
    assert services.last_runs.find(TOKEN, "generate") is None
    painter = Painter(services.models, services.queue, services.last_runs)
    assert painter.revision(services.sessions.get(TOKEN))


def test_a_run_comes_back_as_it_was(services: Services, tmp_path: Path) -> None:
    """Controls, results of both sides bit for bit, their curves; the next steps are those it would have made."""
    run = kept(services, flow={"steps": 9})
    anew = Services.around(tiny_models(), kept=tmp_path / "last-runs")
    session = anew.sessions.get(TOKEN)
    assert frame_of(anew, session)["last"]["can_return"]
    bring_back(anew, session)
    assert session.arrival is not None and session.arrival.settings == run.settings
    back = session.run
    assert back is not None and back.titles == run.titles
    wait_for_end(back)
    assert back.moment.phase is Phase.DONE and back.moment.notice is None
    for name, side in run.moment.sides.items():
        assert torch.equal(back.moment.sides[name].step.images, side.step.images)
        scores, before = back.moment.sides[name].step.text_scores, side.step.text_scores
        assert scores is not None and before is not None and torch.equal(scores, before)
        assert back.moment.sides[name].curves == side.curves
    assert back.settings_at(OURS, 9) == run.settings_at(OURS, 9)


def test_a_stopped_run_comes_back_and_goes_on_as_if_never_left(services: Services, tmp_path: Path) -> None:
    whole = kept(services, flow={"steps": 60})
    run = Run(whole.settings, GENERATE)
    services.start(services.sessions.get(OTHER), run)
    wait_until(lambda: run.moment.step > 5)
    run.stop()
    wait_for_end(run)
    wait_until(lambda: (last := services.last_runs.find(OTHER, "generate")) and last.step == run.moment.step)
    anew = Services.around(tiny_models(), kept=tmp_path / "last-runs")
    session = anew.sessions.get(OTHER)
    bring_back(anew, session)
    back = session.run
    assert back is not None
    wait_for_end(back)
    assert back.moment.phase is Phase.STOPPED and back.moment.step == run.moment.step and back.can_go_on
    anew.go_on(session)
    wait_until(lambda: back.moment.step == 60 and back.is_over)
    for name in (OURS, BASELINE):
        assert torch.equal(back.moment.sides[name].step.images, whole.moment.sides[name].step.images)
        assert back.moment.sides[name].curves == whole.moment.sides[name].curves


def test_an_inpainting_and_an_edit_come_back_with_picture_and_mask(
    style_services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_runs, "LOOK_EVERY", 0.01)
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    mask = np.zeros((24, 32), dtype=bool)
    mask[8:16, 8:20] = True
    settings = InpaintSettings(prompt="blue", n=2, flow=replace(InpaintSettings().flow, steps=2))
    results = []
    for number, start in enumerate((begin_inpainting, begin_edit)):
        task = ("inpaint", "edit")[number]
        services = Services.around(style_services.models, kept=tmp_path / task)
        session = services.sessions.get(TOKEN, task)
        version = session.workspace.add(Picture(pixels, "mine.png"), "mine.png")
        run = start(version, settings, encode_mask(mask))
        services.start(session, run)
        session.workspace.adopt(run)
        wait_for_end(run)
        assert run.moment.phase is Phase.DONE, run.moment.notice
        wait_until(lambda: (last := services.last_runs.find(TOKEN, task)) and last.step == 2)  # noqa: B023
        anew = Services.around(style_services.models, kept=tmp_path / task)
        other = anew.sessions.get(TOKEN, task)
        bring_back(anew, other)
        back, shown = other.run, other.workspace.current
        assert back is not None and shown is not None and shown.run is back
        wait_for_end(back)
        assert back.moment.phase is Phase.DONE, back.moment.notice
        assert np.array_equal(shown.picture.pixels, pixels) and shown.text == "mine.png"
        for name in run.moment.sides:
            for index in range(2):
                before = run.tasks[name].picture(run.moment.sides[name].step, index)
                after = back.tasks[name].picture(back.moment.sides[name].step, index)
                assert np.array_equal(before.pixels, after.pixels), (task, name)
        results.append(shown)
    assert results[0].mask == encode_mask(mask) and results[0].mask_number == 1 and results[1].mask is None


def begin_inpainting(version: PictureVersion, settings: InpaintSettings, mask: bytes) -> Run:
    return Run(settings, InpaintJob(version, mask))


def begin_edit(version: PictureVersion, settings: InpaintSettings, mask: bytes) -> Run:
    return Run(EditSettings(prompt="blue", n=2, baseline="no repulsion", flow=settings.flow), EditJob(version))


def test_another_model_of_that_name_is_told_and_the_settings_come_back(services: Services, tmp_path: Path) -> None:
    run = kept(services)
    anew = Services.around(tiny_models(), kept=tmp_path / "last-runs")
    session = anew.sessions.get(TOKEN)
    path = next((tmp_path / "last-runs").rglob("*.left"))
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    told = json.loads(parts["left.json"])
    told["models"]["avatars"] = "0" * 64
    files.save_zip(path, {**parts, "left.json": json.dumps(told).encode()})
    bring_back(anew, session)
    assert session.run is not None
    wait_for_end(session.run)
    assert "avatars changed since" in session.run.moment.notice.text  # type: ignore[union-attr]
    assert session.arrival is not None and session.arrival.settings == run.settings


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_what_is_damaged_is_told(services: Services, tmp_path: Path, data: bytes) -> None:
    kept(services, flow={"steps": 1})
    next((tmp_path / "last-runs").rglob("*.left")).write_bytes(data)
    session = Services.around(tiny_models(), kept=tmp_path / "last-runs").sessions.get(TOKEN)
    with pytest.raises(NotPossibleError, match="damaged"):
        bring_back(services, session)
    next((tmp_path / "last-runs").rglob("*.left")).unlink()
    with pytest.raises(NotPossibleError, match="not there any more"):
        bring_back(services, session)
    assert session.run is None and session.workspace.current is None


def test_a_run_that_is_too_large_leaves_nothing_of_an_older_one(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(services)
    monkeypatch.setattr(last_runs, "MOST_BYTES", 100)
    run = Run(tiny_settings(), GENERATE)
    services.start(services.sessions.get(TOKEN), run)
    wait_for_end(run)
    wait_until(lambda: not [path for path in (tmp_path / "last-runs").rglob("*") if path.is_file()])
