"""A work by itself, without a worker: its phases, its speed, its notices; and a run whose steps are made by hand."""

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.inference.flow import Particles
from engine.settings import FlowSettings, SettingsError
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.models.models import Models
from gmi_ui.notices import Notice, NotPossibleError
from gmi_ui.runs import work as works
from gmi_ui.runs.redrawing import step_of
from gmi_ui.runs.run import BASELINE, OURS, Run
from gmi_ui.runs.steering import moved_along
from gmi_ui.runs.work import KEPT_STEPS, RATE_WINDOW, KeptStep, Moment, Phase, Rounds, Side, Work, measured, thinned
from tests.gmi_ui.tiny import GENERATOR, TinyGenerator, TinyPromptModel, three_models, tiny_models, tiny_settings


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(works, "time", clock)
    return clock


def running() -> Work:
    work = Work()
    work.enter(Phase.LOADING)
    work.enter(Phase.RUNNING)
    return work


def in_phase(phase: Phase) -> Work:
    work = running()
    work._moment = replace(work._moment, phase=phase)
    return work


def ticked(work: Work, clock: Clock, *seconds: float) -> float | None:
    """The speed after steps that took so long."""
    for took in seconds:
        clock.now += took
        work.tick()
    work.show()
    return work.moment.rate


# ---- the speed -------------------------------------------------------------------------------------------


def test_a_step_that_was_held_up_is_no_part_of_the_speed(clock: Clock) -> None:
    """As the one that ends a run."""
    assert ticked(running(), clock, *[0.25] * 6, 7.0) == pytest.approx(4.0)


def test_the_speed_is_that_of_the_steps_between(clock: Clock) -> None:
    work = running()
    assert ticked(work, clock, 5.0) is None  # one step tells nothing
    assert ticked(work, clock, 1.0, 3.0) == pytest.approx(2 / 4)
    assert ticked(running(), clock, 0.0, 0.0) is None


def test_the_speed_is_that_of_the_last_steps(clock: Clock) -> None:
    work = running()
    ticked(work, clock, *[50.0] * 20)
    assert ticked(work, clock, *[0.5] * (RATE_WINDOW - 1)) == pytest.approx(2.0)


def test_a_pause_is_no_part_of_the_speed(clock: Clock) -> None:
    work = running()
    ticked(work, clock, 1.0, 1.0)
    work.pause()
    clock.now += 1000
    work.resume()
    assert work.moment.rate is None
    assert ticked(work, clock, 2.0, 2.0) == pytest.approx(0.5)


# ---- pause, resume, stop ---------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", list(Phase))
def test_only_what_runs_can_be_paused(phase: Phase) -> None:
    work = in_phase(phase)
    before = work.moment
    work.pause()
    if phase is Phase.RUNNING:
        assert work.moment.phase is Phase.PAUSED and work.is_held(0.0)
        work.resume()
        assert work.moment.phase is Phase.RUNNING
    else:
        assert work.moment is before
    assert not work.is_held(0.0)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.PAUSED])
def test_only_what_is_paused_can_be_resumed(phase: Phase) -> None:
    work = in_phase(phase)
    before = work.moment
    work.resume()
    assert work.moment is before


@pytest.mark.parametrize("phase", list(Phase))
def test_stop_ends_at_once_what_is_at_no_step(phase: Phase) -> None:
    work, notice = in_phase(phase), Notice("why")
    before = work.moment
    work.stop(notice)
    if phase.is_over:
        assert work.moment is before and not work.is_stopping
        return
    at_once = phase in (Phase.WAITING, Phase.PAUSED)
    assert work.moment.phase is (Phase.STOPPED if at_once else Phase.STOPPING)
    assert work.is_stopping and work.moment.notice is notice


def test_a_paused_work_that_is_stopped_is_not_held_any_more() -> None:
    work = running()
    work.pause()
    released = []
    waiter = threading.Thread(target=lambda: released.append(work.is_held(20.0)))
    waiter.start()
    work.stop()
    waiter.join(20.0)
    assert released == [False]


def test_what_is_over_stays_over_and_what_stops_only_ends() -> None:
    done = running()
    done.enter(Phase.DONE)
    for phase in (Phase.RUNNING, Phase.FAILED):
        done.enter(phase, Notice("late"))
    assert done.moment.phase is Phase.DONE and done.moment.notice is None
    stopping = running()
    stopping.stop()
    stopping.enter(Phase.RUNNING)
    assert stopping.moment.phase is Phase.STOPPING
    broken = Notice("broken")
    stopping.enter(Phase.FAILED, broken)
    assert (stopping.moment.phase, stopping.moment.notice) == (Phase.FAILED, broken)


@pytest.mark.parametrize("phase", [Phase.DONE, Phase.STOPPED, Phase.FAILED])
def test_only_passing_notices_go_at_the_end(phase: Phase) -> None:
    for passing in (True, False):
        work, notice = running(), Notice("soon", passing=passing)
        work.say(notice)
        work.show()
        assert work.moment.notice is notice
        work.enter(phase)
        assert work.moment.notice is (None if passing else notice)
    last = running()
    last.say(Notice("soon", passing=True))
    end = Notice("the end")
    last.enter(phase, end)
    assert last.moment.notice is end


# ---- what is shown ---------------------------------------------------------------------------------------


def test_every_change_is_a_new_moment_and_preparations_are_told_until_the_next() -> None:
    work = Work()
    moments = [work.moment]
    for change in (lambda: work.enter(Phase.LOADING), lambda: work.tell("Loading", 0.25), work.show):
        change()
        moments.append(work.moment)
    assert [moment.revision for moment in moments] == [0, 1, 2, 3]
    assert [(moment.doing, moment.share) for moment in moments] == [
        ("", None),
        ("", None),
        ("Loading", 0.25),
        ("", None),
    ]
    assert [moment.phase for moment in moments] == [Phase.WAITING] + 3 * [Phase.LOADING]


def test_sides_that_did_not_move_stay(steps: list[Any]) -> None:
    work = running()
    first, second = Side(steps[0]), Side(steps[1])
    work.show({OURS: first, BASELINE: first})
    work.show({OURS: second})
    assert work.moment.sides == {OURS: second, BASELINE: first} and work.moment.step == 1
    assert Moment(0, Phase.WAITING).step == 0


def test_the_time_since_a_page_looked(clock: Clock) -> None:
    work = Work()
    clock.now += 7
    assert work.unseen_for == 7
    work.seen()
    clock.now += 2
    assert work.unseen_for == 2


def test_two_works_have_two_names() -> None:
    assert len({Work().id for _ in range(50)}) == 50 and len(Work().id) == 16


# ---- what is kept of a side ------------------------------------------------------------------------------


@pytest.fixture
def steps() -> list[Any]:
    """The steps of a small run, 0 to 6."""
    from engine import tasks

    return list(tasks.generate(tiny_settings(), TinyGenerator(), TinyPromptModel()).steps())


def test_figures_are_added_to_those_before(steps: list[Any]) -> None:
    side = None
    for step in steps[:4]:
        side = measured(step, {"text": step.step / 2, "more": 1.0}, before=side)
    assert side is not None and side.step is steps[3] and side.first == 0
    assert side.curves == {"text": (0.0, 0.5, 1.0, 1.5), "more": (1.0,) * 4}
    assert [kept.step for kept in side.kept] == [0, 1, 2, 3]
    assert side.kept[2].text_scores is steps[2].text_scores
    late = measured(steps[5], {"text": 0.1}, before=measured(steps[4], {"text": 0.2}))
    assert late.first == 4 and Side(steps[5]).first == 5


def kept(*numbers: int) -> tuple[KeptStep, ...]:
    return tuple(KeptStep(Particles(torch.zeros(1, 1), (0,), number), torch.zeros(1)) for number in numbers)


def test_the_kept_step_at_or_before_one() -> None:
    side = Side(SimpleNamespace(step=9), kept=kept(2, 4, 6, 9))  # type: ignore[arg-type]
    assert [side.kept_at(step).step for step in (0, 2, 3, 5, 6, 8, 9, 50)] == [2, 2, 2, 4, 6, 6, 9, 9]


def test_as_many_steps_are_kept_as_may_be() -> None:
    """KEPT_STEPS of them whole; one more, and every second one stays, with the newest."""
    full = kept(*range(KEPT_STEPS))
    assert thinned(full) == full
    assert [one.step for one in thinned(kept(*range(KEPT_STEPS + 2)))] == [*range(0, KEPT_STEPS + 1, 2), KEPT_STEPS + 1]


# ---- a run by hand ---------------------------------------------------------------------------------------


def begun(models: Models | None = None, **changes: Any) -> tuple[Run, Rounds]:
    """A run that was prepared and waits for its first step."""
    run = Run(tiny_settings(**changes), GENERATE)
    run.enter(Phase.LOADING)
    rounds = run.carry_out(models or tiny_models())
    while run.moment.phase is Phase.LOADING:
        next(rounds)
    return run, rounds


def moved(rounds: Rounds, count: int) -> None:
    for _ in range(count):
        next(rounds)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"step_size": -1.0, "diversity": 0.5}, "step_size"),
        ({"step_size": 0.1, "diversity": float("nan")}, "diversity"),
    ],
)
def test_what_a_slider_cannot_be_moved_to_changes_nothing(values: dict[str, float], named: str) -> None:
    run, rounds = begun()
    moved(rounds, 2)
    with pytest.raises(SettingsError, match=named):
        run.tune(**values)
    assert run.flow == run.settings.flow
    moved(rounds, 2)
    assert run.settings_at(OURS, 6) == run.settings


def test_a_moved_slider_is_seen_at_once_and_counts_from_the_next_step() -> None:
    run, rounds = begun(flow={"steps": 6, "step_size": 0.05, "diversity": 0.5})
    moved(rounds, 3)
    run.tune(step_size=0.1, diversity=0.7)
    assert (run.flow.step_size, run.flow.diversity) == (0.1, 0.7) and run.settings_at(OURS, 6) == run.settings
    moved(rounds, 1)
    assert run.settings_at(OURS, 6).flow.changes == ((2, 0.1, 0.7),)


@pytest.mark.parametrize(
    ("step_size", "diversity", "theirs"),
    [(0.1, 0.5, (0.04, 0.2)), (0.05, 0.9, (0.02, 0.9)), (0.1, 0.9, (0.04, 0.9)), (0.05, 0.5, (0.02, 0.2))],
)
def test_another_model_follows_by_the_same_factor(
    step_size: float, diversity: float, theirs: tuple[float, float]
) -> None:
    """Its step size by as much as ours; diversity as it is; what did not move keeps the model's own."""
    ours, other = FlowSettings(step_size=0.05, diversity=0.5), FlowSettings(step_size=0.02, diversity=0.2)
    now = moved_along(other, ours, 3, step_size, diversity).as_moved
    assert (now.step_size, now.diversity) == pytest.approx(theirs)


def test_a_slider_that_moves_after_the_end_changes_nothing() -> None:
    run, rounds = begun()
    for _ in rounds:
        pass
    run.enter(Phase.DONE)
    run.tune(step_size=0.123, diversity=0.321)
    assert run.flow == run.settings.flow


def test_sides_step_together_and_the_speed_counts_rounds() -> None:
    run, rounds = begun()
    assert run.total == 6 and run.moment.step == 0 and not run.moment.sides
    for step in range(7):
        next(rounds)
        assert [side.step.step for side in run.moment.sides.values()] == [step, step]
        assert list(run.moment.sides) == [OURS, BASELINE]
        assert len(run._ticks) == step  # the first pictures are no step
    with pytest.raises(StopIteration):
        next(rounds)
    assert run.moment.step == run.total == 6


def test_the_seconds_of_a_step_are_measured_by_both_sides_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    models = tiny_models()
    now = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now.__setitem__(0, now[0] + 3.0) or now[0])
    monkeypatch.setattr("gmi_ui.runs.run.time", clock)
    run, rounds = begun(models)
    moved(rounds, 2)
    assert run.step_seconds == pytest.approx(3.0) and models.step_times.of(GENERATOR) == pytest.approx(3.0 / 6)


def test_a_long_run_is_announced_once() -> None:
    models = tiny_models()
    models.step_times.took(tiny_settings(), 600.0)
    run, rounds = begun(models)
    assert run.moment.notice and "takes long" in run.moment.notice.text
    assert run.step_seconds == pytest.approx(600.0)
    moved(rounds, 2)
    rounds.close()
    run.stop()
    run.enter(Phase.STOPPED)
    assert not run.moment.notice
    run.reopen()
    again = run.carry_out(models)
    moved(again, 3)  # it begins at the step it showed
    assert (run.moment.notice, run.moment.step) == (None, 2)


def test_a_run_knows_the_weights_of_all_its_models() -> None:
    run, _ = begun()
    assert run.model_hashes == {GENERATOR: TinyGenerator().sha256, "clip-mini": TinyPromptModel().sha256}


def test_only_a_stopped_run_that_is_not_at_its_end_can_go_on() -> None:
    run, rounds = begun()
    moved(rounds, 3)
    for phase in (Phase.RUNNING, Phase.DONE, Phase.FAILED):
        run._moment = replace(run._moment, phase=phase)
        assert not run.can_go_on
        with pytest.raises(NotPossibleError):
            run.reopen()
    run._moment = replace(run._moment, phase=Phase.STOPPED)
    assert run.can_go_on
    run.stop()
    run.reopen()
    assert run.moment.phase is Phase.WAITING and not run.is_stopping and run.moment.rate is None
    for _ in rounds:
        pass
    run._moment = replace(run._moment, phase=Phase.STOPPED)
    assert run.moment.step == 6 and not run.can_go_on


def test_a_run_that_is_made_again_stops_where_it_was_stopped() -> None:
    run, rounds = begun(flow={"steps": 6, "until": 2})
    moved(rounds, 3)
    assert (run.moment.step, run.is_stopping, run.is_replay_over) == (2, False, True)
    moved(rounds, 1)
    assert (run.moment.step, run.is_stopping) == (2, True)
    whole, rounds = begun()
    for _ in rounds:
        pass
    assert not whole.is_stopping and not whole.is_replay_over


@pytest.mark.parametrize("beside", [None, {"prompt": "blue", "model": GENERATOR, "flow": {"steps": 6, "until": 2}}])
def test_a_run_that_is_made_again_can_go_on_to_its_end(beside: dict[str, Any] | None) -> None:
    """From where it was stopped the first time, on both sides, as if nobody had ever stopped it."""
    run, rounds = begun(flow={"steps": 6, "until": 2}, beside=beside)
    moved(rounds, 4)
    rounds.close()
    run.enter(Phase.STOPPED)
    assert run.moment.step == 2 and run.can_go_on
    run.reopen()
    for _ in run.carry_out(tiny_models()):
        assert not run.is_stopping
    whole, rounds = begun(beside=beside and {**beside, "flow": {"steps": 6}})
    for _ in rounds:
        pass
    for name, side in run.moment.sides.items():
        assert side.step.step == 6 and torch.equal(side.step.images, whole.moment.sides[name].step.images)
    assert run.settings_at(OURS, 6) == whole.settings_at(OURS, 6)


def test_an_earlier_step_of_a_side() -> None:
    run, rounds = begun()
    moved(rounds, 5)
    newest = run.moment.sides[OURS]
    assert run.pictured(OURS) is newest and run.pictured(OURS, 4) is newest and run.pictured(OURS, 99) is newest
    assert run.particles(OURS).step == 4 and run.particles(OURS, 3).step == 3
    earlier = step_of(run, OURS, 2)
    assert earlier.step == 2 and earlier.text_scores is newest.kept[2].text_scores
    assert earlier.particles is newest.kept[2].particles and not earlier.images.requires_grad
    assert earlier.log_values is newest.step.log_values and earlier.total == newest.step.total
    assert [step_of(run, OURS, step).step for step in (0, 4, 99)] == [0, 4, 4]
    assert torch.equal(step_of(run, BASELINE, 2).particles.latents, run.particles(BASELINE, 2).latents)
    with pytest.raises(NotPossibleError):
        run.pictured("../etc")
    run.tasks = {}
    with pytest.raises(NotPossibleError):
        step_of(run, OURS, 2)
    assert step_of(run, OURS) is newest.step


def test_both_runs_of_a_comparison_go_to_their_own_ends() -> None:
    """The run is as long as the longer side; the one that is done stays as it is, and the speed of both is unknown."""
    beside = {
        "prompt": "blue",
        "model": "fashion",
        "classes": ["bag"],
        "prompt_model": "clip-wide",
        "flow": {"steps": 4},
    }
    models = three_models()
    run, rounds = begun(models, beside=beside, flow={"steps": 2}, baseline=False)
    moved(rounds, 4)
    assert {name: side.step.step for name, side in run.moment.sides.items()} == {OURS: 2, BASELINE: 3}
    assert run.total == 4 and models.step_times.of(GENERATOR) is None
    for _ in rounds:
        pass
    assert {name: side.step.step for name, side in run.moment.sides.items()} == {OURS: 2, BASELINE: 4}
    assert run.settings_of(OURS).model == GENERATOR and run.settings_of(BASELINE).model == "fashion"
    assert run.settings_at(OURS, 2).other is not None
