"""Runs that were stopped, steered or looked back at: continued, made again, drawn again, bit for bit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.inference.flow import Particles
from engine.settings import FlowSettings, GenerateSettings, SettingsError
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.notices import NotPossibleError
from gmi_ui.pictures.restoring import restored
from gmi_ui.pictures.saving import Pictures
from gmi_ui.runs.redrawing import step_of
from gmi_ui.runs.run import BASELINE, OURS, Run
from gmi_ui.runs.work import KEPT_STEPS, KeptStep, Phase, Side, thinned
from gmi_ui.services import Services
from gmi_ui.sessions import Session
from tests.gmi_ui.tiny import tiny_settings
from tests.gmi_ui.waiting import wait_for_end, wait_until


def carried_out(services: Services, settings: object) -> Run:
    assert isinstance(settings, GenerateSettings)
    run = Run(settings, GENERATE)
    services.queue.submit(run)
    wait_for_end(run)
    return run


def stopped_at(services: Services, step: int, **changes: object) -> Run:
    """A run that was stopped when it had reached some step."""
    run = Run(tiny_settings(flow={"steps": 400, **changes}), GENERATE)
    session = Session()
    services.start(session, run)
    wait_until(lambda: run.moment.step >= step)
    run.stop()
    wait_for_end(run)
    assert run.moment.phase is Phase.STOPPED and run.moment.step < 400
    return run


def same_pictures(one: Run, other: Run) -> bool:
    return all(
        torch.equal(one.moment.sides[side].step.images, other.moment.sides[side].step.images)
        for side in (OURS, BASELINE)
    )


def wait_for_step(run: Run, step: int) -> None:
    wait_until(lambda: run.moment.step >= step)


def test_a_stopped_run_is_made_again_up_to_where_it_was_stopped(slow_services: Services, tmp_path: Path) -> None:
    run = stopped_at(slow_services, 3)
    saved = Pictures(tmp_path).save_one(run, OURS, 1)
    found = restored(saved, slow_services.models)
    assert found.settings.flow.until == run.moment.step and f"step {run.moment.step} of 400" in found.notice.text
    again = carried_out(slow_services, found.settings)
    assert again.moment.phase is Phase.STOPPED and again.moment.step == run.moment.step
    assert same_pictures(run, again)


def test_a_run_whose_sliders_were_moved_is_made_again(slow_services: Services, tmp_path: Path) -> None:
    run = Run(tiny_settings(flow={"steps": 40, "step_size": 0.05, "diversity": 0.5}), GENERATE)
    slow_services.queue.submit(run)
    for step, (step_size, diversity) in {4: (0.11, 0.9), 12: (0.02, 0.0)}.items():
        wait_for_step(run, step)
        run.tune(step_size=step_size, diversity=diversity)
        assert run.flow.diversity == diversity
    wait_for_end(run)
    saved = Pictures(tmp_path).save_one(run, OURS, 1)
    settings = restored(saved, slow_services.models).settings
    assert [change[1:] for change in settings.flow.changes] == [(0.11, 0.9), (0.02, 0.0)]
    assert settings.flow.step_size == 0.05 and settings.flow.until is None
    assert same_pictures(run, carried_out(slow_services, settings))
    plain = carried_out(slow_services, tiny_settings(flow={"steps": 40, "step_size": 0.02, "diversity": 0.0}))
    assert not same_pictures(run, plain)  # the last values alone do not tell what happened


def test_a_baseline_picture_of_a_steered_run_is_made_again_without_repulsion(
    slow_services: Services, tmp_path: Path
) -> None:
    run = Run(tiny_settings(flow={"steps": 30, "step_size": 0.05, "diversity": 0.5}), GENERATE)
    slow_services.queue.submit(run)
    wait_until(lambda: run.moment.step >= 3)
    run.tune(step_size=0.12, diversity=1.0)
    wait_for_end(run)
    settings = restored(Pictures(tmp_path).save_one(run, BASELINE, 0), slow_services.models).settings
    assert settings.flow.diversity == 0 and all(change[2] == 0 for change in settings.flow.changes)
    again = carried_out(slow_services, settings)
    assert torch.equal(again.moment.sides[OURS].step.images, run.moment.sides[BASELINE].step.images)


def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(slow_services: Services) -> None:
    session = Session()
    run = Run(tiny_settings(flow={"steps": 25}), GENERATE)
    slow_services.start(session, run)
    wait_until(lambda: run.moment.step >= 3)
    run.stop()
    wait_for_end(run)
    assert run.can_go_on
    slow_services.go_on(session)
    wait_until(lambda: run.moment.phase is Phase.DONE)
    whole = carried_out(slow_services, tiny_settings(flow={"steps": 25}))
    assert same_pictures(run, whole)
    for side in (OURS, BASELINE):
        assert run.moment.sides[side].curves == whole.moment.sides[side].curves
    assert run.settings_at(OURS, 25) == whole.settings_at(OURS, 25)


def test_only_a_stopped_run_can_be_continued(services: Services) -> None:
    session = Session()
    with pytest.raises(NotPossibleError):
        services.go_on(session)
    services.start(session, run := Run(tiny_settings(), GENERATE))
    wait_for_end(run)
    assert not run.can_go_on
    with pytest.raises(NotPossibleError, match="stopped"):
        services.go_on(session)


def test_a_run_that_was_stopped_while_it_waited_can_begin_after_all(slow_services: Services) -> None:
    first, session = Run(tiny_settings(flow={"steps": 300}), GENERATE), Session()
    slow_services.queue.submit(first)
    waiting = Run(tiny_settings(), GENERATE)
    slow_services.start(session, waiting)
    waiting.stop()
    assert waiting.can_go_on
    first.stop()
    wait_for_end(first)
    slow_services.go_on(session)
    wait_until(lambda: waiting.moment.phase is Phase.DONE)
    assert waiting.moment.step == 6


def test_an_earlier_step_is_drawn_again_as_it_was(services: Services) -> None:
    run = Run(tiny_settings(flow={"steps": 8}), GENERATE)
    seen: dict[int, torch.Tensor] = {}
    show = run.show

    def looking(sides: dict[str, Side]) -> None:
        show(sides)
        if OURS in sides:
            seen[sides[OURS].step.step] = sides[OURS].step.images

    run.show = looking  # type: ignore[method-assign, assignment]
    services.queue.submit(run)
    wait_for_end(run)
    assert sorted(seen) == list(range(9))
    for step, images in seen.items():
        drawn = step_of(run, OURS, step)
        assert drawn.step == step and torch.equal(drawn.images, images)


def test_a_picture_of_an_earlier_step_is_saved_with_the_settings_that_lead_there(
    services: Services, tmp_path: Path
) -> None:
    run = carried_out(services, tiny_settings(flow={"steps": 9}))
    settings = restored(Pictures(tmp_path).save_one(run, OURS, 0, step=5), services.models).settings
    assert settings.flow.until == 5
    again = carried_out(services, settings)
    assert torch.equal(again.moment.sides[OURS].step.images, step_of(run, OURS, 5).images)


def test_the_painter_shows_an_earlier_step_with_its_figures(services: Services) -> None:
    run = carried_out(services, tiny_settings(flow={"steps": 9}))
    past = services.painter.past_frame(run, 4)
    for name, side in run.moment.sides.items():
        assert past[name]["step"] == 4 and len(past[name]["cells"]) == 3
        for figure, values in side.curves.items():
            assert past[name]["figures"][figure] == pytest.approx(values[4], abs=1e-4)


def test_kept_steps_stay_few_even_and_end_with_the_newest() -> None:
    kept: tuple[KeptStep, ...] = ()
    for step in range(1001):
        kept = thinned((*kept, KeptStep(Particles(torch.zeros(1, 1), (0,), step), torch.zeros(1))))
        assert len(kept) <= KEPT_STEPS and kept[-1].step == step
    gaps = [b.step - a.step for a, b in zip(kept, kept[1:], strict=False)]
    assert kept[0].step == 0 and len(kept) > KEPT_STEPS / 2 and max(gaps) <= 2 * 1000 / len(kept)


def test_moving_a_slider_back_leaves_no_trace() -> None:
    run = Run(tiny_settings(flow={"steps": 40, "step_size": 0.05, "diversity": 0.5}), GENERATE)
    run.tune(step_size=0.1, diversity=0.5)
    run.tune(step_size=0.05, diversity=0.5)
    assert run.flows_from(3)[OURS] == replace(run.settings.flow) and run.settings_at(OURS, 40) == run.settings


def test_settings_at_a_step_know_only_what_came_before_it() -> None:
    run = Run(tiny_settings(flow={"steps": 40, "step_size": 0.05, "diversity": 0.5}), GENERATE)
    run.tune(step_size=0.1, diversity=0.5)
    run.flows_from(7)
    assert run.flow.step_size == 0.1 and run.final_settings.flow.changes == ()
    run.tune(step_size=0.2, diversity=0.7)
    run.flows_from(20)
    flow = run.settings_at(OURS, 12).flow
    assert flow == FlowSettings(steps=40, step_size=0.05, diversity=0.5, changes=((7, 0.1, 0.5),), until=12)


@pytest.mark.parametrize(
    ("flow", "named"),
    [
        ({"changes": [[3, 0.1]]}, "changes"),
        ({"changes": [[3, 0.1, 0.5], [3, 0.2, 0.5]]}, "changes"),
        ({"changes": [[-1, 0.1, 0.5]]}, "changes"),
        ({"changes": [[1, 1e9, 0.5]]}, "step_size"),
        ({"changes": [[1, 0.1, float("nan")]]}, "diversity"),
        ({"changes": "x"}, "changes"),
        ({"until": -1}, "until"),
        ({"until": 2.5}, "until"),
        ({"until": True}, "until"),
    ],
)
def test_forged_changes_are_refused_by_name(flow: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError, match=f"^{named}"):
        GenerateSettings.from_dict({"prompt": "a", "flow": flow})


def test_changes_survive_json() -> None:
    settings = GenerateSettings("a", flow=FlowSettings(changes=((2, 0.1, 0.5), (7, 0.2, 0.0)), until=9))
    values = settings.to_dict()
    assert json.loads(json.dumps(values)) == values and GenerateSettings.from_dict(values) == settings
