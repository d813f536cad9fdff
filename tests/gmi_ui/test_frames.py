"""Frames: what a page gets, and that it gets the newest."""

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image

from gmi_ui.frames import curve, preview_side, steps_left
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.notices import Notice
from gmi_ui.runs.run import Run
from gmi_ui.services import Services
from gmi_ui.sessions import Session
from tests.gmi_ui.tiny import tiny_settings
from tests.gmi_ui.waiting import wait_for_end, wait_until


def frame_of(services: Services, session: Session, run_id: str = "") -> dict[str, Any]:
    return json.loads(services.painter.frame(session, run_id))


def finished(services: Services, **changes: Any) -> Session:
    session = Session()
    services.start(session, Run(tiny_settings(**changes), GENERATE))
    assert session.run
    wait_for_end(session.run)
    return session


def test_a_frame_has_both_sides_with_pictures_scores_and_curves(services: Services) -> None:
    frame = frame_of(services, finished(services))
    assert (frame["phase"], frame["step"], frame["total"], frame["count"]) == ("done", 6, 6, 3)
    assert {"edit", "inpaint"} <= set(frame["sides"]["ours"]["leads_to"])
    assert list(frame["sides"]) == list(frame["titles"]) == ["ours", "baseline"]
    assert [figure["key"] for figure in frame["figures"]] == ["text", "diversity"]
    for side in frame["sides"].values():
        assert len(side["cells"]) == len(side["scores"]) == len(side["seeds"]) == 3
        assert [step for step, _ in side["curves"]["text"]] == list(range(7))
        assert side["curves"]["diversity"][-1][1] == side["figures"]["diversity"]
        picture = Image.open(io.BytesIO(base64.b64decode(side["cells"][0])))
        assert picture.format == "JPEG" and picture.size == (32, 32)


def test_the_version_changes_with_each_step_and_only_then(slow_services: Services) -> None:
    session = Session()
    slow_services.start(session, Run(tiny_settings(flow={"steps": 30}), GENERATE))
    run = session.run
    assert run
    wait_until(lambda: run.moment.step >= 1)
    run.pause()
    wait_until(lambda: slow_services.queue.is_held)
    step = run.moment.step
    wait_until(lambda: run.moment.sides["baseline"].step.step == step)
    seen = slow_services.painter.revision(session)
    assert slow_services.painter.revision(session) == seen
    run.resume()
    wait_until(lambda: run.moment.step > step)
    assert slow_services.painter.revision(session) != seen
    run.stop()


def test_a_message_changes_the_version_and_the_newest_one_is_shown(services: Services) -> None:
    session = finished(services)
    before = services.painter.revision(session)
    session.say(Notice("older"))
    session.say(Notice("newer", "error"))
    assert services.painter.revision(session) != before
    assert frame_of(services, session)["notice"]["text"] == "newer"


def test_a_page_whose_run_is_gone_is_told_so(services: Services) -> None:
    assert "restarted" in frame_of(services, Session(), run_id="0123")["notice"]["text"]
    assert frame_of(services, Session())["notice"] is None


def test_the_gallery_shows_until_the_first_run(services: Services) -> None:
    session = Session()
    assert frame_of(services, session)["warming"] is True
    cold = services.painter.revision(session)
    services.models.warm(tiny_settings()).join()
    frame = frame_of(services, session)
    assert frame["phase"] == "idle" and len(frame["gallery"]) == 24 and frame["warming"] is False
    assert services.painter.revision(session) != cold


def test_a_waiting_page_sees_its_place(slow_services: Services) -> None:
    first, second = Session(), Session()
    for session in (first, second):
        slow_services.start(session, Run(tiny_settings(flow={"steps": 500}), GENERATE))
    assert first.run and second.run
    wait_until(lambda: first.run and first.run.moment.step >= 1)
    frame = frame_of(slow_services, second)
    assert (frame["phase"], frame["place"], frame["sides"]) == ("waiting", 1, {})
    second.run.stop()
    first.run.stop()


def test_curves_are_thinned_evenly_and_keep_both_ends() -> None:
    values = [i / 1000 for i in range(1001)]
    points = curve(values, points=50)
    assert len(points) == 50 and points[0] == (0, 0.0) and points[-1] == (1000, 1.0)
    gaps = [b[0] - a[0] for a, b in zip(points, points[1:], strict=False)]
    assert max(gaps) - min(gaps) <= 1
    assert curve([0.5]) == [(0, 0.5)]


def test_previews_shrink_with_their_number() -> None:
    assert [preview_side(n) for n in (1, 8, 64)] == [512, 256, 90]


@pytest.mark.parametrize(
    ("step", "stage", "left"),
    [(10, None, 110), (10, {"number": 1, "begins": 0.5}, 50 + 2 * 60), (70, {"number": 2, "begins": 0.5}, 50)],
)
def test_steps_in_which_codes_take_turns_take_longer(step: int, stage: dict | None, left: float) -> None:
    assert steps_left(step, 120, stage) == left
