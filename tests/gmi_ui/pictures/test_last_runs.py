"""The last run of a page: kept on the disk, found by its token alone, after a kill too."""

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gmi_ui.frames import Painter
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.pictures import last_runs
from gmi_ui.pictures.last_runs import MOST_TABS, LastRuns
from gmi_ui.runs.run import Run
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
