"""The worker: runs one after the other, and what pause, resume, stop and tune do to them."""

import sys
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pytest
import torch

from engine.inference import flow
from engine.latents.spaces import LatentSpace
from engine.settings import FlowSettings
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.models.models import Loaders, Models, engine_loaders
from gmi_ui.runs import worker
from gmi_ui.runs.job import shortened
from gmi_ui.runs.run import BASELINE, OURS, Run
from gmi_ui.runs.work import Phase
from gmi_ui.runs.worker import RunQueue
from gmi_ui.services import Services
from tests.engine.toys import scores_of
from tests.gmi_ui.tiny import CONTEXT, TinyGenerator, TinyPromptModel, tiny_models, tiny_settings
from tests.gmi_ui.waiting import wait_for_end, wait_for_phase, wait_until


def carried_out(services: Services, run: Run) -> Run:
    services.queue.submit(run)
    wait_for_end(run)
    return run


def test_a_run_shows_every_step_of_both_sides(services: Services) -> None:
    run = carried_out(services, Run(tiny_settings(), GENERATE))
    assert run.moment.phase is Phase.DONE and run.moment.step == 6
    for side in (run.moment.sides[OURS], run.moment.sides[BASELINE]):
        assert [len(curve) for curve in side.curves.values()] == [7, 7, 7]  # the start and six steps
        assert side.step.particles.seeds == (5, 6, 7)
        assert side.curves["text"][-1] == pytest.approx(float(scores_of(side.step).mean()))


def test_both_sides_start_from_the_same_pictures_and_ours_ends_more_diverse(services: Services) -> None:
    run = carried_out(services, Run(tiny_settings(n=6, flow={"steps": 15}), GENERATE))
    ours, baseline = run.moment.sides[OURS], run.moment.sides[BASELINE]
    assert all(ours.curves[name][0] == baseline.curves[name][0] for name in ("text", "diversity"))
    assert ours.curves["diversity"][-1] > baseline.curves["diversity"][-1]


def test_the_page_shows_what_the_engine_makes(services: Services) -> None:
    settings = tiny_settings()
    run = carried_out(services, Run(settings, GENERATE))
    from engine import tasks

    task = tasks.generate(settings, TinyGenerator(), TinyPromptModel())
    *_, last = flow.refine(task.problem, task.particles, settings.flow)
    assert torch.equal(run.moment.sides[OURS].step.images, last.images)


def test_no_baseline_when_it_is_switched_off(services: Services) -> None:
    assert set(carried_out(services, Run(tiny_settings(baseline=False), GENERATE)).moment.sides) == {OURS}


def test_pause_holds_the_run_and_resume_takes_it_to_the_end(slow_services: Services) -> None:
    run = Run(tiny_settings(flow={"steps": 12}), GENERATE)
    slow_services.queue.submit(run)
    wait_until(lambda: run.moment.step >= 2)
    run.pause()
    wait_until(lambda: slow_services.queue.is_held)
    held = Run(tiny_settings(), GENERATE)
    slow_services.queue.submit(held)  # must not be carried out meanwhile
    step = run.moment.step
    assert run.moment.phase is Phase.PAUSED and held.moment.phase is Phase.WAITING
    run.resume()
    wait_for_phase(run, Phase.DONE)
    assert step < run.moment.step == 12
    wait_for_phase(held, Phase.DONE)


@pytest.mark.parametrize("is_paused", [False, True])
def test_stop_keeps_the_pictures(slow_services: Services, is_paused: bool) -> None:
    run = Run(tiny_settings(flow={"steps": 500}), GENERATE)
    slow_services.queue.submit(run)
    wait_until(lambda: run.moment.step >= 1)
    if is_paused:
        run.pause()
    run.stop()
    wait_for_end(run)
    assert run.moment.phase is Phase.STOPPED
    assert 1 <= run.moment.step < 500 and set(run.moment.sides) == {OURS, BASELINE}


def test_a_moved_slider_counts_from_the_next_step_and_leaves_the_baseline_alone(
    slow_services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[tuple[bool, float, float]] = []
    original = Run.flows_from

    def recording(of: Run, step: int) -> Mapping[str, FlowSettings]:
        flows = original(of, step)
        if of is run:  # not a run that another test left behind
            used.extend((name == BASELINE, flow.diversity, flow.step_size) for name, flow in flows.items())
        return flows

    monkeypatch.setattr(Run, "flows_from", recording)
    run = Run(tiny_settings(flow={"steps": 60, "diversity": 0.5, "step_size": 0.031}), GENERATE)
    slow_services.queue.submit(run)
    wait_until(lambda: run.moment.step >= 2)
    run.tune(step_size=0.071, diversity=0.9)
    wait_for_end(run)
    ours = [values for is_baseline, *values in used if not is_baseline]
    baseline = [values for is_baseline, *values in used if is_baseline]
    assert ours[0] == [0.5, 0.031] and ours[-1] == [0.9, 0.071]
    assert baseline[0] == [0.0, 0.031] and baseline[-1] == [0.0, 0.071]
    assert run.final_settings.flow.diversity == 0.9 and run.settings.flow.diversity == 0.5


def test_runs_wait_for_their_turn_and_can_be_stopped_while_they_wait(slow_services: Services) -> None:
    queue = slow_services.queue
    first, second, third = (Run(tiny_settings(flow={"steps": 200}), GENERATE) for _ in range(3))
    for run in (first, second, third):
        queue.submit(run)
    wait_for_phase(first, Phase.RUNNING)
    assert [queue.place(run) for run in (first, second, third)] == [0, 1, 2]
    second.stop()
    assert second.moment.phase is Phase.STOPPED and queue.place(third) == 1
    first.stop()
    wait_for_phase(third, Phase.RUNNING)
    assert queue.place(third) == 0 and not second.moment.sides
    third.stop()


def watched(run: Run) -> bool:
    """Looks at the run as a page does."""
    run.seen()
    return True


def test_a_run_nobody_watches_gives_way_to_one_that_waits(
    slow_services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "ABANDONED_AFTER", 0.2)
    monkeypatch.setattr(worker, "PATIENCE", 0.02)
    left = Run(tiny_settings(flow={"steps": 1000}), GENERATE)
    slow_services.queue.submit(left)
    wait_until(lambda: left.moment.step >= 1)
    left.pause()
    wait_until(lambda: left.unseen_for > 0.3)
    assert left.moment.phase is Phase.PAUSED  # nobody waits
    waiting = Run(tiny_settings(), GENERATE)
    slow_services.queue.submit(waiting)
    wait_until(lambda: watched(waiting) and left.moment.phase.is_over)
    wait_for_phase(left, Phase.STOPPED)
    assert left.moment.notice is worker.ABANDONED
    wait_until(lambda: watched(waiting) and waiting.moment.phase is Phase.DONE)


def test_a_model_that_cannot_be_loaded_ends_the_run_with_words_and_the_next_one_works(
    services: Services,
) -> None:
    failed = carried_out(services, Run(tiny_settings(model="nowhere.safetensors"), GENERATE))
    assert failed.moment.phase is Phase.FAILED
    assert failed.moment.notice and "nowhere.safetensors" in failed.moment.notice.text
    assert carried_out(services, Run(tiny_settings(), GENERATE)).moment.phase is Phase.DONE


def test_an_unforeseen_error_is_named_and_the_worker_goes_on(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(TinyGenerator, "render", lambda *_, **__: 1 / 0)
        failed = carried_out(services, Run(tiny_settings(), GENERATE))
    assert failed.moment.phase is Phase.FAILED and failed.moment.notice
    assert "ZeroDivisionError" in failed.moment.notice.text
    assert carried_out(services, Run(tiny_settings(), GENERATE)).moment.phase is Phase.DONE


def breaking(after: int) -> Callable[[str], TinyGenerator]:
    """A generator whose pictures are no numbers after so many forward passes."""

    class Breaking(TinyGenerator):
        def render(self, latents: torch.Tensor, space: str | LatentSpace, *, draft: bool = False) -> torch.Tensor:
            calls.append(1)
            return super().render(latents, space) * (float("nan") if len(calls) > after else 1.0)

    calls: list[int] = []
    return lambda name: Breaking()


def test_a_divergence_keeps_the_last_good_pictures_and_says_what_to_lower() -> None:
    loaders = Loaders(breaking(after=9), lambda name: TinyPromptModel(), lambda: [])  # type: ignore[arg-type, return-value]
    run = Run(tiny_settings(flow={"steps": 50}), GENERATE)
    queue = RunQueue(Models(loaders))
    queue.submit(run)
    wait_for_end(run)
    assert run.moment.phase is Phase.FAILED and run.moment.notice
    assert "Lower" in run.moment.notice.text
    assert all(torch.isfinite(side.step.images).all() for side in run.moment.sides.values())
    assert run.moment.step >= 1


def test_what_a_long_prompt_loses_is_said(services: Services) -> None:
    words = [f"word{i}" for i in range(CONTEXT + 40)]
    run = carried_out(services, Run(tiny_settings(" ".join(words)), GENERATE))
    assert run.moment.phase is Phase.DONE and run.moment.notice
    assert f"word{CONTEXT}" in run.moment.notice.text and words[-1] in run.moment.notice.text


@pytest.mark.parametrize("prompt", ["🦜🌈", "眼鏡をかけた女性", "امرأة بشعر وردي", "a\x00b", "`${1+1}` {{x}} <b>"])
def test_every_script_is_a_prompt(services: Services, prompt: str) -> None:
    assert carried_out(services, Run(tiny_settings(prompt), GENERATE)).moment.phase is Phase.DONE


def test_one_particle_has_no_diversity(services: Services) -> None:
    run = carried_out(services, Run(tiny_settings(n=1), GENERATE))
    assert run.moment.phase is Phase.DONE and run.moment.sides[OURS].curves["diversity"][-1] == 0


def test_shortened_keeps_both_ends() -> None:
    text = shortened("start " + "x" * 500 + " end")
    assert text.startswith("start") and text.endswith("end") and len(text) < 130
    assert shortened("short") == "short"


def test_the_machine_is_prepared_once_and_before_the_first_model() -> None:
    events: list[str] = []

    def load(name: str) -> Any:
        events.append(f"load {name}")
        return TinyGenerator()

    models = Models(Loaders(load, load, lambda: [], prepare=lambda: events.append("prepare")))
    models.generator("a")
    models.prompt_model("b")
    assert events == ["prepare", "load a", "load b"]
    assert models.hash_of("a") == TinyGenerator().sha256 and models.hash_of("c") is None


def test_the_engine_keeps_what_the_page_loads() -> None:
    """By the hashes that were told before."""
    models = Models(engine_loaders("cpu"))
    told = models.hash_of("avatars"), models.hash_of("clip-mini")
    assert models.generator("avatars") is models.generator("avatars")
    assert told == (models.generator("avatars").sha256, models.prompt_model("clip-mini").sha256)


def test_warming_draws_the_gallery_and_a_failure_is_told() -> None:
    models = tiny_models()
    models.warm(tiny_settings()).join()
    assert models.is_warm and len(models.gallery) == 24 and models.trouble is None
    broken = tiny_models()
    broken.warm(tiny_settings(model="missing")).join()
    assert broken.is_warm and not broken.gallery and broken.trouble and "missing" in broken.trouble.text


def test_stop_and_continue_at_once_carry_a_run_out_once(
    slow_services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paused, then stopped and continued before the worker sees either: its one next turn goes on at the same step."""
    made: list[int] = []
    advance = Run._advanced

    def counting(run: Run, *given: Any) -> Any:
        side = advance(run, *given)
        made.append(side.step.step if side else -1)
        return side

    monkeypatch.setattr(Run, "_advanced", counting)
    run = Run(tiny_settings(baseline=False, flow={"steps": 30}), GENERATE)
    slow_services.queue.submit(run)
    wait_until(lambda: run.moment.step >= 3)
    for _ in range(3):
        run.pause()
        run.stop()
        run.reopen()
        slow_services.queue.submit(run)
        wait_until(lambda: run.moment.phase is not Phase.WAITING)
    wait_for_phase(run, Phase.DONE)
    wait_until(lambda: slow_services.queue.current is None)
    assert run.moment.step == 30 and len(run.moment.sides[OURS].curves["text"]) == 31
    assert made.count(30) == 1 and made.count(-1) == 1  # the end was reached once


def test_a_waiting_run_that_is_stopped_and_continued_waits_once(slow_services: Services) -> None:
    queue = slow_services.queue
    first, second = (Run(tiny_settings(flow={"steps": 200}), GENERATE) for _ in range(2))
    queue.submit(first)
    queue.submit(second)
    for _ in range(3):
        second.stop()
        second.reopen()
        queue.submit(second)
    third = Run(tiny_settings(flow={"steps": 2}), GENERATE)
    queue.submit(third)
    assert [queue.place(run) for run in (second, third)] == [1, 2]
    for run in (first, second):
        run.stop()
    wait_for_phase(third, Phase.DONE)


def test_a_run_that_is_paused_for_long_gives_way_and_can_be_continued(
    slow_services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its page is open; nobody who waits has to ask for it. Alone it may rest for as long as one likes."""
    monkeypatch.setattr(worker, "HELD_AT_MOST", 0.3)
    monkeypatch.setattr(worker, "PATIENCE", 0.02)
    run = Run(tiny_settings(flow={"steps": 30}), GENERATE)
    slow_services.queue.submit(run)
    wait_until(lambda: run.moment.step >= 2)
    run.pause()
    time.sleep(0.6)
    run.seen()
    assert run.moment.phase is Phase.PAUSED  # nobody waits
    other = Run(tiny_settings(flow={"steps": 2}), GENERATE)
    slow_services.queue.submit(other)
    wait_for_phase(run, Phase.STOPPED)
    assert run.moment.notice is worker.HELD_TOO_LONG and run.can_go_on
    wait_for_phase(other, Phase.DONE)
    run.reopen()
    slow_services.queue.submit(run)
    wait_for_phase(run, Phase.DONE)
    assert run.moment.step == 30


def test_a_pause_that_ended_counts_no_more(slow_services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "HELD_AT_MOST", 0.5)
    run = Run(tiny_settings(flow={"steps": 400}), GENERATE)
    slow_services.queue.submit(run)
    wait_until(lambda: run.moment.step >= 1)
    run.pause()
    assert 0 <= run.paused_for < 0.5
    time.sleep(0.05)
    run.resume()
    assert run.paused_for == 0
    run.stop()
    wait_for_end(run)


def test_what_is_half_imported_is_no_pool_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many first calls at once: one imports, the others look at what it has so far."""
    monkeypatch.setitem(sys.modules, "engine.models.loading", ModuleType("engine.models.loading"))
    models = Models(engine_loaders("cpu"))
    assert models.pool is None and not models.is_loaded("avatars")
