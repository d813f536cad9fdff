"""Frames: what a page gets, and that it gets the newest."""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.models import store
from engine.pictures.picture_files import Picture
from engine.tasks import CodeStage
from engine.tasks.inversion import Start
from gmi_ui.frames import (
    FULL_SIDE,
    TURN_COST,
    Painter,
    cells,
    curve,
    fits_of,
    ordered,
    preview_side,
    rounded,
    scores_of,
    seconds_left,
    stage_of,
    steps_left,
)
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.notices import Notice
from gmi_ui.runs.inversion import Inversion
from gmi_ui.runs.job import Variation
from gmi_ui.runs.run import BASELINE, OURS, Run
from gmi_ui.runs.work import KeptStep, Phase, Side
from gmi_ui.services import Services
from gmi_ui.sessions import Arrival, Session
from tests.gmi_ui.tiny import TinyGenerator, TinyPromptModel, tiny_settings
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
    [(10, None, 110), (10, {"number": 1, "begins": 0.5}, 50 + 2.5 * 60), (70, {"number": 2, "begins": 0.5}, 50)],
)
def test_steps_in_which_codes_take_turns_take_longer(step: int, stage: dict | None, left: float) -> None:
    assert steps_left(step, 120, stage) == left


# ---- frames of a run that is shown by hand ---------------------------------------------------------------


@pytest.fixture
def steps() -> list[Any]:
    """The steps of a small run, 0 to 6."""
    from engine import tasks

    return list(tasks.generate(tiny_settings(), TinyGenerator(), TinyPromptModel()).steps())


class Toy:
    """A task that only says what a picture is and which stage a step is in."""

    generator = TinyGenerator()
    ending_cost = 0.0
    aim = ""

    def __init__(self, stage: CodeStage | None = None, render: Any = None) -> None:
        self.problem = SimpleNamespace(pictures=lambda latents, chunk: render(latents))
        self._stage = stage

    def labels(self, step: Any) -> tuple[str, ...]:
        return tuple(f"{step.step}.{index}" for index in range(3))

    def stage(self, step: Any) -> CodeStage | None:
        return self._stage

    def shown(self, step: Any) -> Any:
        return step


def by_hand(sides: dict[str, Side], *, phase: Phase = Phase.RUNNING, **tasks: Toy) -> tuple[Session, Run]:
    session, run = Session(), Run(tiny_settings(), GENERATE)
    toys: Any = {name: tasks.get(name, Toy()) for name in sides}
    run.tasks = toys
    run.show(sides)
    run._moment = replace(run._moment, phase=phase)
    session.run = run
    return session, run


def test_ours_come_first_whichever_side_was_drawn_first(services: Services, steps: list[Any]) -> None:
    session, run = by_hand({BASELINE: Side(steps[1]), OURS: Side(steps[0])})
    assert list(frame_of(services, session)["sides"]) == ["ours", "baseline"]
    assert [name for name, _ in ordered(run)] == ["ours", "baseline"]
    alone, _ = by_hand({BASELINE: Side(steps[1])})
    assert list(frame_of(services, alone)["sides"]) == ["baseline"]


def test_a_side_tells_its_own_step_labels_and_newest_figures(services: Services, steps: list[Any]) -> None:
    side = Side(steps[4], {"text": (0.1, 0.23456), "diversity": (0.5, 0.25)})
    session, run = by_hand({OURS: side, BASELINE: Side(steps[3])})
    frame = frame_of(services, session)
    ours = frame["sides"]["ours"]
    assert (frame["step"], frame["total"], ours["step"], ours["total"]) == (4, 6, 4, 6)
    assert frame["sides"]["baseline"]["step"] == 3
    assert ours["labels"] == ["4.0", "4.1", "4.2"] and ours["seeds"] == [5, 6, 7]
    assert ours["figures"] == {"text": 0.2346, "diversity": 0.25}
    assert ours["curves"]["text"] == [[3, 0.1], [4, 0.2346]]  # the curves begin at step 3
    assert ours["scores"] == [round(value, 4) for value in steps[4].text_scores.tolist()]
    assert (frame["run"], frame["prompt"], frame["seed"]) == (run.id, "blue", 5)
    assert (frame["doing"], frame["share"], frame["goes_on"], frame["origin"]) == ("", None, False, None)


@pytest.mark.parametrize("phase", list(Phase))
def test_steps_can_be_looked_back_at_while_nothing_moves(services: Services, steps: list[Any], phase: Phase) -> None:
    side = Side(
        steps[6], {"text": (0.5,)}, kept=tuple(KeptStep(steps[at].particles, steps[at].text_scores) for at in (2, 6, 4))
    )
    session, _ = by_hand({OURS: side}, phase=phase)
    frame = frame_of(services, session)
    assert frame["past"] == ([2, 4, 6] if phase.is_over or phase is Phase.PAUSED else [])
    assert (frame["phase"], frame["is_over"]) == (phase, phase.is_over)


def test_the_figures_of_an_earlier_step_are_those_it_had(services: Services, steps: list[Any]) -> None:
    """Curves from step 3 to 6; before their beginning the first value stands for it."""
    particles = [KeptStep(step.particles, step.text_scores) for step in steps]
    side = Side(steps[6], {"text": (0.3, 0.4, 0.5, 0.6), "diversity": (3.0, 4.0, 5.0, 6.0)}, tuple(particles))
    _, run = by_hand({OURS: side}, ours=Toy(render=lambda latents: TinyGenerator().render(latents, "z")))
    for step, value in ((3, 0.3), (4, 0.4), (5, 0.5), (6, 0.6), (1, 0.3)):
        past = services.painter.past_frame(run, step)["ours"]
        assert past["figures"] == {"text": value, "diversity": 10 * value} and past["step"] == step
        assert past["labels"] == tuple(f"{step}.{index}" for index in range(3))
        assert past["scores"] == [round(score, 4) for score in steps[step].text_scores.tolist()]


def side_of(cell: str) -> int:
    return max(Image.open(io.BytesIO(base64.b64decode(cell))).size)


def test_cells_are_small_while_the_run_goes_on_and_whole_at_its_end(
    services: Services, steps: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gmi_ui.frames.preview_side", lambda count: 12)
    for phase, pixels in ((Phase.RUNNING, 12), (Phase.PAUSED, 12), (Phase.STOPPED, 32), (Phase.DONE, 32)):
        session, _ = by_hand({OURS: Side(steps[2])}, phase=phase)
        assert side_of(frame_of(services, session)["sides"]["ours"]["cells"][1]) == pixels
    monkeypatch.setattr("gmi_ui.frames.FULL_SIDE", 24)
    session, run = by_hand({OURS: Side(steps[2], {}, (KeptStep(steps[1].particles, steps[1].text_scores),))})
    run.tasks[OURS].problem.pictures = lambda latents, chunk: TinyGenerator().render(latents, "z")  # type: ignore[method-assign]
    assert side_of(services.painter.past_frame(run, 1)["ours"]["cells"][0]) == 24
    monkeypatch.setattr("gmi_ui.frames.preview_side", lambda count: 100)
    assert side_of(frame_of(services, session)["sides"]["ours"]["cells"][0]) == 32  # never enlarged


def test_cells_are_encoded_once_for_each_size_and_the_least_used_forgotten(
    services: Services, steps: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[tuple[int, int]] = []

    def encode(step: Any, side: int) -> tuple[str, ...]:
        encoded.append((step.step, side))
        return ("x",)

    monkeypatch.setattr("gmi_ui.frames.cells", encode)
    painter = Painter(services.models, services.queue, kept=2)

    def asked(step: int, *, is_last: bool = False) -> bool:
        """Whether it was encoded for that."""
        before = len(encoded)
        assert painter._encode(steps[step], is_last=is_last) == ("x",)
        return len(encoded) > before

    assert asked(0) and not asked(0)
    assert asked(0, is_last=True) and encoded[-1] == (0, FULL_SIDE) and encoded[0] == (0, preview_side(3))
    assert not asked(0)  # the newest use now
    assert asked(1) and not asked(0) and asked(0, is_last=True)


def test_a_cell_is_a_smaller_picture_of_the_same(steps: list[Any]) -> None:
    step = replace(steps[2], images=torch.full((2, 3, 32, 20), 0.5))
    (first, second) = cells(step, 16)
    picture = Image.open(io.BytesIO(base64.b64decode(first)))
    assert picture.size == (10, 16) and first == second
    assert abs(picture.getpixel((5, 5))[0] - 191) <= 2  # type: ignore[index]
    assert Image.open(io.BytesIO(base64.b64decode(cells(step, 32)[0]))).size == (20, 32)


# ---- how long it takes -----------------------------------------------------------------------------------


def test_the_time_left_is_that_of_the_steps_to_come(steps: list[Any]) -> None:
    _, run = by_hand({OURS: Side(steps[2])})
    assert seconds_left(run) is None  # nothing was measured or foretold
    run.step_seconds = 3.0
    assert seconds_left(run) == pytest.approx(4 * 3.0)
    run._moment = replace(run._moment, rate=0.5)
    assert seconds_left(run) == pytest.approx(4 * 2.0)
    for phase in Phase:
        run._moment = replace(run._moment, phase=phase)
        assert (seconds_left(run) is None) == phase.is_over


def test_the_end_of_a_run_is_a_part_of_the_time_left(steps: list[Any]) -> None:
    choosing = Toy()
    choosing.ending_cost = 20.0
    _, run = by_hand({OURS: Side(steps[2]), BASELINE: Side(steps[2])}, ours=choosing, baseline=choosing)
    run.step_seconds = 0.5
    assert seconds_left(run) == pytest.approx((4 + 20) * 0.5)


def test_the_stage_is_told_of_the_side_that_has_one(services: Services, steps: list[Any]) -> None:
    staged = Toy(CodeStage(1, "all codes together", 0.5))
    session, run = by_hand({OURS: Side(steps[2]), BASELINE: Side(steps[2])}, ours=staged, baseline=staged)
    assert stage_of(run) == {"number": 1, "text": "all codes together", "begins": 0.5}
    assert frame_of(services, session)["stage"] == stage_of(run)
    run.step_seconds = 1.0
    assert seconds_left(run) == pytest.approx(4 + (TURN_COST - 1) * 3)
    run.turn_cost = 4.0  # as it was measured
    assert seconds_left(run) == pytest.approx(4 + 3 * 3)
    _, plain = by_hand({OURS: Side(steps[2])})
    assert stage_of(plain) is None
    late = Toy(CodeStage(2, "codes in turn", 0.5))
    _, run = by_hand({OURS: Side(steps[2])}, ours=late)
    run.step_seconds, run.turn_cost = 1.0, 4.0
    assert seconds_left(run) == pytest.approx(4 * 4.0)


def test_of_two_models_the_stage_says_which_and_when_it_begins_in_the_whole_run(steps: list[Any]) -> None:
    """A side of 3 steps whose second stage begins half-way, in a run of 6: at a quarter of that."""
    settings = tiny_settings(baseline=False, beside={"prompt": "blue", "model": "mosaic", "flow": {"steps": 3}})
    run = Run(settings, GENERATE)
    staged = Toy(CodeStage(2, "codes in turn", 0.5))
    run.tasks = {OURS: Toy(), BASELINE: staged}  # type: ignore[dict-item]
    run.show({OURS: Side(steps[3]), BASELINE: Side(replace(steps[2], total=3))})
    assert stage_of(run) == {"number": 2, "text": "codes in turn (mosaic)", "begins": 0.25}


# ---- whose turn it is, and what is worked on -------------------------------------------------------------


def test_works_that_wait_know_how_many_come_first(slow_services: Services) -> None:
    runs = [Run(tiny_settings(flow={"steps": 400}), GENERATE) for _ in range(3)]
    sessions = [Session() for _ in runs]
    for session, run in zip(sessions, runs, strict=True):
        slow_services.start(session, run)
    wait_until(lambda: runs[0].moment.step >= 1)
    assert [frame_of(slow_services, session)["place"] for session in sessions] == [0, 1, 2]
    assert not any(frame_of(slow_services, session)["held"] for session in sessions)
    seen = [slow_services.painter.revision(session) for session in sessions]
    runs[0].pause()
    wait_until(lambda: slow_services.queue.is_held)
    assert all(frame_of(slow_services, session)["held"] for session in sessions)
    assert frame_of(slow_services, sessions[0])["wanted"]
    assert slow_services.painter.revision(sessions[2]) != seen[2]
    seen[2] = slow_services.painter.revision(sessions[2])
    runs[1].stop()
    assert slow_services.painter.revision(sessions[2]) != seen[2]
    assert [frame_of(slow_services, session)["place"] for session in (sessions[0], sessions[2])] == [0, 1]
    for run in runs:
        run.stop()


def test_a_frame_shows_the_picture_that_is_worked_on(services: Services) -> None:
    session = Session()
    assert frame_of(services, session)["workspace"] is None
    first = session.workspace.add(Picture(np.zeros((6, 9, 3), np.uint8)), "mine.png")
    second = session.workspace.add(Picture(np.zeros((4, 4, 3), np.uint8)), "a hat", parent=first)
    first.variations.append(Variation(0.25, 0.5, None))
    shown = frame_of(services, session)["workspace"]
    assert (shown["current"], shown["name"], shown["width"], shown["height"]) == (second.number, "a hat", 4, 4)
    assert shown["versions"] == [
        {"number": first.number, "text": "mine.png", "parent": None},
        {"number": second.number, "text": "a hat", "parent": first.number},
    ]
    assert (shown["inversion"], shown["start"], shown["mask"], shown["variations"]) == (None, None, 0, [])
    seen = services.painter.revision(session)
    session.workspace.go_to(first.number)
    assert services.painter.revision(session) != seen
    shown = frame_of(services, session)["workspace"]
    assert (shown["width"], shown["height"], shown["variations"]) == (9, 6, [[0.25, 0.5, None]])


def test_a_frame_shows_how_well_the_newest_model_draws_the_picture(services: Services) -> None:
    session = Session()
    version = session.workspace.add(Picture(np.zeros((4, 4, 3), np.uint8)), "mine.png")
    grey, white = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)
    nothing = torch.zeros(1, 1)
    version.starts["a"] = Start(nothing, nothing, grey, grey, distance=0.5, in_domain=False)
    told = frame_of(services, session)["workspace"]["told"]
    assert "unlike those" in told and "(e4e-ffhq)" in told
    assert frame_of(services, session)["workspace"]["start"]["distance"] == 0.5
    version.starts["b"] = Start(nothing, nothing, white, grey, distance=0.123456, in_domain=True)
    shown = frame_of(services, session)["workspace"]["start"]
    assert shown["distance"] == 0.1235 and frame_of(services, session)["workspace"]["told"] == ""
    cell = Image.open(io.BytesIO(base64.b64decode(shown["cell"])))
    assert cell.size == (8, 8) and cell.getpixel((3, 3)) == (255, 255, 255)


def test_a_frame_shows_how_far_the_search_for_a_picture_is(services: Services) -> None:
    session = Session()
    version = session.workspace.add(Picture(np.zeros((4, 4, 3), np.uint8)), "mine.png")
    version.inversion = Inversion(version.picture, version.starts, "a", "b")
    shown = frame_of(services, session)["workspace"]["inversion"]
    assert shown == {
        "id": version.inversion.id, "phase": "waiting", "is_over": False, "place": 0, "step": 0, "total": 0,
        "doing": "", "share": None,
    }  # fmt: skip
    seen = services.painter.revision(session)
    nothing = torch.zeros(1, 1)
    version.inversion.start = Start(nothing, nothing, nothing, nothing, step=3, total=8)
    version.inversion.enter(Phase.DONE)
    assert services.painter.revision(session) != seen
    shown = frame_of(services, session)["workspace"]["inversion"]
    assert (shown["phase"], shown["is_over"], shown["step"], shown["total"]) == ("done", True, 3, 8)


def test_the_gallery_gives_way_to_the_picture_that_is_worked_on(services: Services) -> None:
    services.models.warm(tiny_settings()).join()
    session = Session()
    session.workspace.add(Picture(np.zeros((4, 4, 3), np.uint8)), "mine.png")
    assert frame_of(services, session)["gallery"] == []


def test_trouble_with_the_models_is_told_until_there_is_something_newer(services: Services) -> None:
    services.models.warm(tiny_settings(model="missing")).join()
    session = Session()
    assert "missing" in frame_of(services, session)["notice"]["text"]
    session.say(Notice("newer", "warning"))
    notice = frame_of(services, session)["notice"]
    assert (notice["text"], notice["kind"]) == ("newer", "warning") and session.notice
    assert notice["number"] == session.notice.number


def test_a_damaged_list_of_models_is_told(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Always as the same notice, which can be dismissed; a later one as another."""
    monkeypatch.setenv("GMI_MODELS", str(tmp_path))
    session = Session()
    before = services.painter.revision(session)
    assert frame_of(services, session)["notice"] is None
    for name in ("memory.json", "own.json"):
        (tmp_path / name).write_text("{")
        (store.stored_budget if name == "memory.json" else store.own_models)()
        notice = frame_of(services, session)["notice"]
        assert f"{name} was damaged and set aside as {name}.damaged" in notice["text"]
        assert notice == frame_of(services, session)["notice"]
        assert services.painter.revision(session) != before
        before = services.painter.revision(session)


def test_settings_that_arrived_are_numbered(services: Services) -> None:
    session = Session()
    assert frame_of(services, session)["arrival"] == 0
    seen = services.painter.revision(session)
    session.arrival = Arrival(tiny_settings())
    assert frame_of(services, session)["arrival"] == session.arrival.number > 0
    assert services.painter.revision(session) != seen


def test_without_words_there_is_nothing_to_score(steps: list[Any]) -> None:
    step = replace(steps[2], text_scores=None, fits=None)
    assert scores_of(step) is None and fits_of(step) is None


def test_short_curves_are_whole() -> None:
    assert curve([0.1, 0.2, 0.3], points=3, first=4) == [(4, 0.1), (5, 0.2), (6, 0.3)]
    assert [step for step, _ in curve([0.0] * 6, points=3)] == [0, 2, 5]
    assert rounded([0.123456]) == [0.1235]
