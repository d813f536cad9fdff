"""The video of a page's run: drawn on the worker, from the particles that were kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.pictures import imaging
from engine.tasks.filming import Filmed, frames
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.notices import NotPossibleError
from gmi_ui.pictures.filming import BOTH, FilmChoice, Filming
from gmi_ui.runs.run import BASELINE, OURS, Run
from gmi_ui.runs.work import Phase
from gmi_ui.server_functions import grid_functions
from gmi_ui.services import Services
from tests.gmi_ui.tiny import tiny_settings
from tests.gmi_ui.waiting import wait_for_end, wait_until

TOKEN = "ab" * 16


def started(services: Services, steps: int = 4) -> Run:
    run = Run(tiny_settings(flow={"steps": steps}), GENERATE)
    services.start(services.sessions.get(TOKEN), run)
    return run


def ask(services: Services, name: str, **request: Any) -> Any:
    functions = {function.__name__: function for function in grid_functions(services)}
    return functions[name]({"token": TOKEN, **request})


def frame_count(path: Path) -> int:
    with Image.open(path) as picture:
        return int(getattr(picture, "n_frames", 1))


def test_kept_steps_are_drawn_as_they_were(services: Services) -> None:
    """Every step's pictures are compared with those that the same run shows when it is stopped there."""
    run = started(services)
    wait_for_end(run)
    side = run.moment.sides[OURS]
    filmed = Filmed("Ours", run.tasks[OURS], side.step, [kept.particles for kept in side.kept])
    steps = run.tasks[OURS].steps()
    for kept in side.kept:
        expected = imaging.to_uint8(next(steps).pictures)
        assert np.array_equal(filmed.pictures(kept.particles), expected)
        steps = run.tasks[OURS].steps(particles=kept.particles)
        next(steps)
    told: list[float | None] = []
    drawn = list(frames([filmed], watch=lambda doing, share: told.append(share)))
    assert len(drawn) == 5 and told == [0, 0.2, 0.4, 0.6, 0.8]
    assert len({frame.shape for frame in drawn}) == 1 and not np.array_equal(drawn[0], drawn[4])


@pytest.mark.parametrize(
    ("kind", "side", "index"), [("webp", BOTH, None), ("gif", OURS, 1), ("webp", BASELINE, 0), ("gif", BOTH, 2)]
)
def test_a_video_is_saved_and_offered(kind: Any, side: str, index: int | None, services: Services) -> None:
    wait_for_end(started(services))
    answer = ask(services, "save_video", format=kind, side=side, index=index, curves=True)
    session = services.sessions.get(TOKEN)
    assert session.filming is not None and answer == {"id": session.filming.id}
    wait_for_end(session.filming)
    shown = ask(services, "video_state")
    assert shown["phase"] == Phase.DONE and shown["is_over"]
    path = Path(shown["path"])
    assert path.is_relative_to(services.pictures.folder) and frame_count(path) == 5
    assert path.name.startswith("blue_seed-5") and path.suffix == f".{kind}"


def test_a_video_waits_for_the_run_and_can_be_cancelled(slow_services: Services) -> None:
    run = started(slow_services, steps=60)
    wait_until(lambda: run.moment.step >= 12 and len(run.moment.sides) == 2)
    assert ask(slow_services, "save_video", format="webp", side=BOTH)
    assert ask(slow_services, "save_video", format="webp", side=BOTH) == {}
    session = slow_services.sessions.get(TOKEN)
    assert session.notice is not None and "already" in session.notice.text
    filming = session.filming
    assert filming is not None and filming.moment.phase is Phase.WAITING
    run.stop()
    wait_until(lambda: filming.moment.share)
    assert ask(slow_services, "cancel_video") is True
    wait_for_end(filming)
    assert [filming.moment.phase] == [Phase.STOPPED]
    assert not list(filming.path.parent.iterdir())
    assert ask(slow_services, "cancel_video") is False


@pytest.mark.parametrize(
    "request_",
    [
        {"format": "exe", "side": BOTH},
        {"format": "webp", "side": "theirs"},
        {"format": "webp", "side": OURS, "index": 3},
        {"format": "webp", "side": OURS, "index": -1},
        {"format": "webp", "side": OURS, "index": "x"},
        {},
    ],
)
def test_nothing_in_a_request_is_trusted(request_: dict[str, Any], services: Services) -> None:
    wait_for_end(started(services))
    assert ask(services, "save_video", **request_) == {}
    session = services.sessions.get(TOKEN)
    assert session.filming is None and session.notice is not None


def test_without_pictures_or_steps_it_says_why(services: Services) -> None:
    assert ask(services, "save_video", format="webp", side=BOTH) == {}
    notice = services.sessions.get(TOKEN).notice
    assert notice is not None and "no pictures" in notice.text
    run = Run(tiny_settings(flow={"steps": 2, "until": 0}), GENERATE)
    services.start(services.sessions.get(TOKEN), run)
    wait_for_end(run)
    work = services.film(services.sessions.get(TOKEN), FilmChoice("webp"))
    wait_for_end(work)
    assert work.moment.phase is Phase.FAILED and work.moment.notice is not None
    assert "only the newest step" in work.moment.notice.text


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_told_on_the_page(services: Services) -> None:
    run = started(services)
    wait_for_end(run)
    work = services.film(services.sessions.get(TOKEN), FilmChoice("webp", OURS))
    wait_for_end(work)
    assert work.moment.notice is not None and "no space is left" in work.moment.notice.text


def test_a_side_that_is_not_there(services: Services) -> None:
    run = Run(tiny_settings(baseline=False, flow={"steps": 2}), GENERATE)
    services.start(services.sessions.get(TOKEN), run)
    wait_for_end(run)
    with pytest.raises(NotPossibleError):
        Filming(run, FilmChoice("webp", BASELINE), services.pictures)
