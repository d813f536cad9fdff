"""How long runs take: measured, foretold by a trial, told."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine import tasks
from engine.families.declaration import SEARCHING
from engine.inference.flow import Particles
from engine.settings import EditSettings
from gmi_ui.frames import seconds_to_begin
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.models.timing import (
    DRAWN_TOGETHER,
    SLOW_DRAWING,
    STEP_PER_DRAWING,
    TURN_COST,
    WORTH_TELLING,
    StepTimes,
    duration,
    foretell,
    notice_of,
    pictures_of,
    seconds_of_step,
)
from gmi_ui.notices import Notice
from gmi_ui.runs.run import Run
from gmi_ui.runs.work import Phase
from gmi_ui.services import Services
from tests.gmi_ui.tiny import GENERATOR, tiny_models, tiny_settings
from tests.gmi_ui.waiting import wait_for_end


def settings(**changes: Any) -> Any:
    return tiny_settings(n=4, baseline=True, **changes)


def test_pictures_of_all_sides_count() -> None:
    assert pictures_of(settings()) == 8
    assert pictures_of(tiny_settings(n=4, baseline=False)) == 4
    assert pictures_of(EditSettings("a hat", n=2, baseline="none")) == 2


def test_pictures_that_stand_still_count_nothing() -> None:
    """Without words the plain generator is beside; another model's pictures move."""
    assert pictures_of(tiny_settings("", n=4)) == 4
    assert pictures_of(tiny_settings("", n=4, baseline=False, beside={**BESIDE, "prompt": ""})) == 8


def test_the_pace_is_measured_and_foretells_the_next_run() -> None:
    times = StepTimes()
    assert times.of(GENERATOR) is None
    assert times.took(settings(), 8.0) == 8.0 and times.of(GENERATOR) == 1.0
    assert times.took(settings(), 4.0) == 6.0  # the mean of both
    assert foretell(tiny_settings(n=2, baseline=False), {}, times) == 1.5
    assert foretell(settings(), {}, StepTimes()) is None


class Task:
    """A side whose pictures take so many seconds to draw by its own clock, and whose steps three times as long."""

    def __init__(self, seconds: float) -> None:
        self.particles = Particles(torch.zeros(8, 2), tuple(range(8)))
        self.seconds, self.steps_made, self.now = seconds, 0, 0.0
        self.problem = SimpleNamespace(render=self.render)

    def render(self, latents: torch.Tensor) -> None:
        self.now += self.seconds * len(latents)

    def steps(self, flow: None, particles: Particles) -> Iterator[None]:
        assert len(particles.latents) == len(particles.seeds) == 1
        self.steps_made += 1
        self.now += 3 * self.seconds
        yield


@pytest.mark.parametrize(("seconds", "factor", "steps"), [(0.02, STEP_PER_DRAWING, 0), (SLOW_DRAWING + 0.05, 3.0, 1)])
def test_without_a_run_before_a_trial_foretells_it(
    seconds: float, factor: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight pictures on two sides: drawing one tells enough of a quick model, of a slow one a step is tried."""
    tasks = {"ours": Task(seconds), "baseline": Task(seconds)}
    monkeypatch.setattr("gmi_ui.models.timing.time.perf_counter", lambda: sum(task.now for task in tasks.values()))
    foretold = foretell(settings(), tasks, StepTimes())  # type: ignore[arg-type]
    assert foretold == pytest.approx(factor * seconds * 8)
    assert [task.steps_made for task in tasks.values()] == [steps, steps]


def test_long_runs_are_announced() -> None:
    assert notice_of(settings(), 1.0) is None  # six steps
    notice = notice_of(settings(), 120.0)
    assert notice is not None and "takes long on this machine: 6 steps of about 2 min for 8 pictures" in notice.text
    assert [duration(seconds) for seconds in (0.42, 40, 600, 9000)] == ["0.4 s", "40 s", "10 min", "2.5 h"]


def test_a_run_measures_its_model_and_tells_the_time_left() -> None:
    services = Services.around(tiny_models(delay=0.005))
    run = Run(tiny_settings(n=3), GENERATE)
    services.queue.submit(run)
    wait_for_end(run)
    seconds = services.models.step_times.of(GENERATOR)
    assert seconds is not None and 0.005 / 3 < seconds < 1 and run.step_seconds is not None


@pytest.mark.parametrize(("cost", "measured"), [(0.0, 6), (5.0, 5)])
def test_the_step_that_ends_a_run_and_takes_longer_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, cost: float, measured: int
) -> None:
    taken: list[float] = []
    monkeypatch.setattr(tasks.Task, "ending_cost", cost)

    def took(times: StepTimes, settings: Any, seconds: float, *, turns: bool) -> float:
        taken.append(seconds)
        return seconds

    monkeypatch.setattr(StepTimes, "took", took)
    services = Services.around(tiny_models())
    run = Run(tiny_settings(n=3), GENERATE)
    services.queue.submit(run)
    wait_for_end(run)
    assert run.settings.flow.steps == 6 and len(taken) - 1 == measured  # the first pictures count as a step


@pytest.mark.parametrize("passing", [True, False])
def test_how_long_it_takes_is_not_said_any_more_when_it_is_over(passing: bool) -> None:
    notice = notice_of(settings(), 120.0) if passing else Notice("The scores do not compare.")
    assert notice is not None
    run = Run(tiny_settings(), GENERATE)
    run.say(notice)
    run.enter(Phase.RUNNING)
    during = run.moment.notice
    run.enter(Phase.DONE)
    assert (during, run.moment.notice) == (notice, None if passing else notice)


BESIDE = {"prompt": "blue", "n": 4, "model": "fashion"}


def test_of_two_models_nobody_knows_which_took_how_long() -> None:
    """Each time they are tried anew, whatever one of them took alone."""
    times = StepTimes()
    compared = tiny_settings(n=4, baseline=False, beside=BESIDE)
    assert times.took(compared, 8.0) == 8.0 and times.of(GENERATOR) is None
    times.took(settings(), 8.0)
    assert foretell(compared, {}, times) is None
    assert foretell(settings(), {}, times) == 8.0


def test_a_trial_of_two_models_adds_what_each_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {"ours": Task(0.01), "baseline": Task(0.03)}
    monkeypatch.setattr("gmi_ui.models.timing.time.perf_counter", lambda: sum(task.now for task in tasks.values()))
    compared = tiny_settings(n=4, baseline=False, beside=BESIDE)
    foretold = foretell(compared, tasks, StepTimes())  # type: ignore[arg-type]
    assert foretold == pytest.approx(4 * STEP_PER_DRAWING * (0.01 + 0.03))


class Drawn(Task):
    """Counts the pictures of each drawing; the first one takes longer."""

    def __init__(self, first: float, seconds: float) -> None:
        super().__init__(seconds)
        self.first, self.drawn = first, list[int]()

    def render(self, latents: torch.Tensor) -> None:
        assert not torch.is_grad_enabled()
        self.now += self.seconds * len(latents) + (0 if self.drawn else self.first)
        self.drawn.append(len(latents))


@pytest.mark.parametrize(
    ("first", "seconds", "drawn", "expected"),
    [
        (0.6, 0.02, [1, DRAWN_TOGETHER], STEP_PER_DRAWING * 0.02),  # the first drawing does not count
        (0.0, SLOW_DRAWING * 0.99, [1, DRAWN_TOGETHER], STEP_PER_DRAWING * SLOW_DRAWING * 0.99),
        (0.0, SLOW_DRAWING * 1.01, [1, DRAWN_TOGETHER], 3 * SLOW_DRAWING * 1.01),
        (0.0, SLOW_DRAWING * DRAWN_TOGETHER * 1.01, [1], 3 * SLOW_DRAWING * DRAWN_TOGETHER * 1.01),
    ],
)
def test_what_a_trial_draws(
    first: float, seconds: float, drawn: list[int], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One picture, then several unless one took plainly too long; a step of one where drawing is slow."""
    task = Drawn(first, seconds)
    monkeypatch.setattr("gmi_ui.models.timing.time.perf_counter", lambda: task.now)
    assert seconds_of_step(task) == pytest.approx(expected)  # type: ignore[arg-type]
    assert task.drawn == drawn and task.steps_made == (expected < 6 * seconds - 1e-9)


def test_a_run_is_announced_from_two_minutes_on() -> None:
    """Six steps: of 19.9 seconds they are not worth it, of 20 they are."""
    assert notice_of(settings(), WORTH_TELLING / 6 - 0.1) is None
    notice = notice_of(settings(), WORTH_TELLING / 6)
    assert notice is not None and notice.passing and notice.kind == "info"


def test_steps_in_which_codes_take_turns_are_measured_and_foretold_by_themselves() -> None:
    """60 plain steps of 1 s and 60 of 2.5 s: 3 1/2 minutes, not the 2 of 120 plain ones."""
    staged = settings(flow={"steps": 120, "detail_steps": 60})
    notice = notice_of(staged, 0.9)
    assert notice is not None and "120 steps of about 1.6 s" in notice.text
    assert notice_of(settings(flow={"steps": 120}), 0.9) is None
    times = StepTimes()
    assert times.turn_cost(GENERATOR) == TURN_COST
    times.took(staged, 8.0)
    assert times.took(staged, 24.0, turns=True) == 24.0
    assert times.of(GENERATOR) == 1.0 and times.turn_cost(GENERATOR) == 3.0
    assert foretell(staged, {}, times) == 8.0


def test_durations_in_words() -> None:
    told = {9.94: "9.9 s", 10: "10 s", 89.4: "89 s", 90: "2 min", 5399: "90 min", 5400: "1.5 h"}
    assert {seconds: duration(seconds) for seconds in told} == told


def test_a_search_of_starts_is_measured_and_counts_before_and_during_it() -> None:
    """A search of 2 pictures x 10 starts in 4 s: 0.2 s a start; 5 steps of 1 s."""
    times, chosen = StepTimes(), tiny_settings(n=2, baseline=False, candidates=10, flow={"steps": 5})
    run = Run(chosen, GENERATE)
    assert seconds_to_begin(run, times) is None
    times.searched(chosen, 4.0)
    times.took(chosen, 1.0)
    assert times.search(replace(chosen, candidates=30, n=1)) == pytest.approx(6.0)
    assert times.search(replace(chosen, candidates=1)) == 0
    assert seconds_to_begin(run, times) == pytest.approx(4.0 + 5.0)
    run.tell(SEARCHING, 0.5)
    assert run.moment.left is not None and seconds_to_begin(run, times) == pytest.approx(run.moment.left + 5.0)
    run.stop()
    run.enter(Phase.STOPPED)
    assert seconds_to_begin(run, times) is None
