"""How a run is carried out on the worker: its sides step together, one frame a step."""

import inspect
import time
from typing import TYPE_CHECKING

from engine.settings import FlowSettings
from gmi_ui.runs.jobs import Steps, model_names
from gmi_ui.runs.run import Phase, Rounds, Run, Side, measured
from gmi_ui.runs.timing import Pace, foretell, notice_of

if TYPE_CHECKING:
    from engine.inference.flow import Step
    from gmi_ui.models.models import Models


def carry_out(run: Run, models: "Models") -> Rounds:
    """Prepares the run, then one step of every side between two yields. Closed early, it keeps what it has."""
    if not run.tasks:  # a run that goes on has them
        run.tasks = yield from run.job.prepare(run.settings, models, run)
        run.model_hashes = {name: models.hash_of(name) or "" for name in model_names(run.settings)}
    tell_how_long(run, models.pace)
    flows = begun(run)
    run.enter(Phase.RUNNING)
    try:
        while flows:
            yield
            if run.is_replay_over:
                run.stop()  # made again up to where it was stopped
            else:
                started, steps = time.perf_counter(), len(flows)
                one_round(run, flows)
                if steps == len(flows) == len(run.tasks):
                    run.step_seconds = models.pace.took(run.settings, time.perf_counter() - started)
    finally:
        for flow in flows.values():
            flow.close()


def tell_how_long(run: Run, pace: Pace) -> None:
    """Before a run: how long its steps will take, and a notice where that is long."""
    if run.moment.sides:
        return  # it goes on
    run.step_seconds = foretell(run.settings, run.tasks, pace)
    if run.step_seconds is not None and (notice := notice_of(run.settings, run.step_seconds)):
        run.say(notice)


def begun(run: Run) -> dict[str, Steps]:
    """The iterators of the sides, nothing advanced yet: from the start, or from where the run was stopped."""
    flows, sides = {}, run.moment.sides
    chosen = run.flows_from(run.moment.step)
    for name, task in run.tasks.items():
        flows[name] = task.steps(chosen[name], sides[name].step.particles if name in sides else None)
    return flows


def one_round(run: Run, flows: dict[str, Steps]) -> None:
    """One step of every side. Sides that are done leave `flows`.

    Both show together, one frame a step; only the first pictures show at once.
    """
    moved: dict[str, Side] = {}
    sides = run.moment.sides
    chosen = run.flows_from(run.moment.step)
    for name in list(flows):
        before = sides.get(name)
        side = advance(flows[name], run, name, before, chosen[name])
        if side is None:
            del flows[name]
        elif before is None:
            run.show({name: side})
        else:
            moved[name] = side
    if moved:
        run.tick()
        run.show(moved)


def advance(steps: Steps, run: Run, name: str, before: Side | None, flow: FlowSettings) -> Side | None:
    """The side after its next step, with `flow` from now on; None when there is none left."""
    try:
        step = send(steps, flow)
    except StopIteration:
        return None
    if before is not None and step.step <= before.step.step:  # a run that goes on begins at the step it showed
        return Side(step, before.curves, before.kept)
    return measured(step, run.job.measure(run.tasks[name], step), before=before)


def send(steps: Steps, flow: FlowSettings) -> "Step":
    """The next step; an iterator that has not begun takes no values."""
    return next(steps) if inspect.getgeneratorstate(steps) == inspect.GEN_CREATED else steps.send(flow)
