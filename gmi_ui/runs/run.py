"""A run of a task: its sides step together, one frame a step, and follow sliders that move meanwhile."""

import inspect
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.settings import MARKS_LIMIT, FlowSettings, Mark, MarkName, RunSettings
from gmi_ui.models.timing import TURN_COST, foretell, notice_of
from gmi_ui.notices import NotPossibleError
from gmi_ui.runs.job import Figure, Job, Steps, as_moved, model_names
from gmi_ui.runs.steering import before_step, marks_before, marks_of, moved_along, moved_from, with_mark, with_marks
from gmi_ui.runs.work import KeptStep, Phase, Rounds, Side, Work, measured

if TYPE_CHECKING:
    from engine.inference.flow import Particles, Step
    from engine.metrics.plane import Plane
    from engine.tasks import Task
    from engine.tasks.marks import Marked
    from gmi_ui.models.models import Models
    from gmi_ui.models.timing import StepTimes

OURS, BASELINE = "ours", "baseline"


class Run(Work):
    """One run of a task: its flows step side by side."""

    begins_anew = True  # all its steps are still to be made when it is prepared

    def __init__(self, settings: RunSettings, job: Job[Any], *, parent: str = "") -> None:
        super().__init__()
        self.settings = settings
        self.job = job
        self.parent = parent  # the sha256 of the saved picture that it goes on from
        self.model_hashes: Mapping[str, str] = {}
        self.tasks: Mapping[str, Task] = {}
        self.step_seconds: float | None = None  # of all sides together; foretold, then measured
        self.plane: Plane | None = None  # in which the pictures of all sides are shown
        self.turn_cost = TURN_COST  # of a step in which codes take turns, in those before
        self._flows = {OURS: settings.flow}  # of the sides that have their own, with every move of a slider
        if self.other:
            self._flows[BASELINE] = self.other.flow
        self._tuned: tuple[float, float] | None = None  # step size and diversity, not in force yet
        self._marks = marks_of(settings)  # on our pictures, with the steps from which they count
        self._marking: tuple[tuple[int, MarkName, bool], ...] = ()  # picture, mark, whether it is set: no step yet
        self.marked: Marked | None = None  # the marks in force at the step that is shown

    # --- for the page

    @property
    def titles(self) -> Mapping[str, str]:
        """The sides that the run has, ours first, and what a person reads above each."""
        return self.job.titles(replace(self.settings, flow=self._flows[OURS]))

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Those that every side has; as long as there is none, all that there may be."""
        sides = self._moment.sides.values()
        return tuple(one for one in self.job.figures(self.settings) if all(one.key in side.curves for side in sides))

    @property
    def total(self) -> int:
        """The step that the run ends at."""
        return max((side.step.total for side in self._moment.sides.values()), default=self.settings.flow.steps)

    def _total_of(self, side: str) -> int:
        shown = self._moment.sides.get(side)
        return shown.step.total if shown else self._flows.get(side, self._flows[OURS]).steps

    @property
    def final_settings(self) -> RunSettings:
        """The settings with the step size and diversity as they were moved to during the run.

        Those of another model beside it stay as they were chosen: the sliders on the page are not its own.
        """
        return replace(as_moved(self.settings), flow=self.flow)

    @property
    def other(self) -> RunSettings | None:
        """The settings of another model's run beside this one, as it began."""
        return self.settings.other

    def settings_of(self, side: str) -> RunSettings:
        """The settings that name the models of a side."""
        return self.other if side != OURS and self.other else self.settings

    def settings_at(self, side: str, step: int) -> RunSettings:
        """The settings that make a side's pictures of `step` again: every moved slider, and where it was stopped."""
        total = self._total_of(side)
        flow = before_step(self._flows.get(side, self._flows[OURS]), min(step, total))
        flow = replace(flow, until=step if step < total else None)
        if side in self._flows:
            settings: Any = replace(self.settings_of(side), flow=flow)
            if side == OURS:
                settings = with_marks(settings, marks_before(self._marks, step))
            return replace(settings, beside=self._other_at(step)) if side == OURS and self.other else settings
        settings = self.job.baseline(with_marks(replace(self.settings, flow=replace(flow, changes=())), ()))
        moved = tuple((at, step_size, settings.flow.diversity) for at, step_size, _ in flow.changes)
        return replace(settings, flow=replace(settings.flow, changes=moved))

    def _other_at(self, step: int) -> RunSettings:
        """The other model's settings where ours are at `step`; once ours are at their end, as that side is now."""
        shown = self._moment.sides.get(BASELINE)
        return self.settings_at(BASELINE, shown.step.step if shown and step >= self._total_of(OURS) else step)

    def tune(self, *, step_size: float, diversity: float) -> None:
        """New values for the steps to come. Raises SettingsError for values that cannot be used."""
        replace(self._flows[OURS], step_size=step_size, diversity=diversity)  # checks
        with self._changed:
            if not self._moment.phase.is_over:
                self._tuned = (step_size, diversity)

    def mark(self, picture: int, name: MarkName, *, is_set: bool) -> None:
        """Marks one of our pictures, or takes the mark off: it counts from the next step on.

        Raises NotPossibleError where there is no such picture, or the task has no marks.
        """
        with self._changed:
            shown = self._moment.sides.get(OURS)
            if not self.job.has_marks or shown is None or not 0 <= picture < len(shown.step.particles):
                raise NotPossibleError("That picture is not there any more.")
            if len(self._marks) + len(self._marking) >= MARKS_LIMIT:
                raise NotPossibleError(f"A run remembers {MARKS_LIMIT:,} marks at most. Begin another one.")
            waiting = (one for one in self._marking if one[:2] != (picture, name))
            self._marking = (*waiting, (picture, name, is_set))
            self._publish()

    @property
    def marks(self) -> Mapping[int, frozenset[MarkName]]:
        """The marks that each of our pictures has, by its place; those too that count from the next step on."""
        if not self.job.has_marks:
            return {}
        from engine.tasks.marks import marks_on

        reached = marks_before(self._marks, self._moment.step + 1)
        waiting = (Mark(self._moment.step, *one) for one in self._marking)
        return marks_on((*reached, *waiting), self.job.pinned(self.settings))

    @property
    def flow(self) -> FlowSettings:
        """The numerical choices of our side, with every slider as it was last moved."""
        flow, tuned = self._flows[OURS].as_moved, self._tuned
        return flow if tuned is None else replace(flow, step_size=tuned[0], diversity=tuned[1])

    @property
    def can_go_on(self) -> bool:
        """Whether the run was stopped before its end."""
        return self._moment.phase is Phase.STOPPED and self._moment.step < self.total

    def reopen(self) -> None:
        """Makes a stopped run wait for the worker again. Raises NotPossibleError for any other."""
        with self._changed:
            if not self.can_go_on:
                raise NotPossibleError("Only a run that was stopped can be continued. Press Run for a new one.")
            self._flows = {side: replace(flow, until=None) for side, flow in self._flows.items()}
            self._begin_again()

    def particles(self, side: str, step: int | None = None) -> "Particles":
        """Of a side at its newest step, or an earlier one that was kept. Raises NotPossibleError if it is gone."""
        shown = self.pictured(side, step)
        return shown.step.particles if isinstance(shown, Side) else shown.particles

    def pictured(self, side: str, step: int | None = None) -> "Side | KeptStep":
        """A side's newest step, or an earlier one that was kept. Raises NotPossibleError if it is gone."""
        shown = self._moment.sides.get(side)
        if shown is None:
            raise NotPossibleError("That picture is not there any more.")
        if step is None or step >= shown.step.step:
            return shown
        return shown.kept_at(step)

    # --- for the worker

    def flows_from(self, step: int) -> Mapping[str, FlowSettings]:
        """Each side's numerical choices for the move from `step`; what a slider was moved to counts from here on.

        A side that has none of its own follows ours: the job says what a baseline is.
        """
        with self._changed:
            if self._tuned is not None:
                ours, (step_size, diversity) = self._flows[OURS], self._tuned
                flows = {OURS: moved_from(ours, step, step_size, diversity)}
                if BASELINE in self._flows:
                    flows[BASELINE] = moved_along(self._flows[BASELINE], ours, step, step_size, diversity)
                self._flows, self._tuned = flows, None
            own = {side: flow.at(step) for side, flow in self._flows.items()}
        following = replace(self.settings, flow=own[OURS])
        return {side: own.get(side) or self.job.baseline(following).flow for side in self.titles}

    @property
    def is_replay_over(self) -> bool:
        """Whether a run that is made again is at the step where it was stopped."""
        until = next((flow.until for flow in self._flows.values() if flow.until is not None), None)
        return until is not None and bool(self._moment.sides) and self._moment.step >= until

    def carry_out(self, models: "Models") -> Rounds:
        """Prepares the run, then one step of every side between two yields. Closed early, it keeps what it has."""
        if not self.tasks:  # a run that goes on has them
            self.tasks = yield from self.job.prepare(self.settings, models, self)
            self.model_hashes = {name: models.hash_of(name) or "" for name in model_names(self.settings)}
        self._tell_how_long(models.step_times)
        flows = self._begun()
        self.enter(Phase.RUNNING)
        try:
            while flows:
                yield
                if self.is_replay_over:
                    self.stop()  # made again up to where it was stopped
                else:
                    started, steps, turns = time.perf_counter(), len(flows), self._takes_turns
                    self._one_round(flows)
                    ends = self._moment.step >= self.total and self.ending_cost > 0  # and took longer than a step
                    if steps == len(flows) == len(self.tasks) and not ends:
                        self._measure(models.step_times, time.perf_counter() - started, turns=turns)
                    if turns is not self._takes_turns:
                        self.forget_speed()  # the steps to come cost something else
        finally:
            for flow in flows.values():
                flow.close()

    @property
    def ending_cost(self) -> float:
        """How many steps' time the end takes beyond the steps."""
        return max((task.ending_cost for task in self.tasks.values()), default=0.0)

    @property
    def _takes_turns(self) -> bool:
        """Whether the next step is one in which codes take turns."""
        sides = self._moment.sides
        stages = [task.stage(sides[name].step) for name, task in self.tasks.items() if name in sides]
        return any(stage is not None and stage.number == 2 for stage in stages)

    def _measure(self, times: "StepTimes", seconds: float, *, turns: bool) -> None:
        """A step of every side took that long."""
        took = times.took(self.settings, seconds, turns=turns)
        if turns:
            self.turn_cost = times.turn_cost(self.settings.model)
        else:
            self.step_seconds = took

    def _tell_how_long(self, times: "StepTimes") -> None:
        """Before a run: how long its steps will take, and a notice where that is long."""
        if self._moment.sides:
            return  # it goes on
        self.step_seconds = foretell(self.settings, self.tasks, times)
        self.turn_cost = times.turn_cost(self.settings.model)
        if self.step_seconds and (notice := notice_of(self.settings, self.step_seconds, self.turn_cost)):
            self.say(notice)

    def _begun(self) -> dict[str, Steps]:
        """The iterators of the sides, nothing advanced yet: from the start, or from where the run was stopped."""
        flows, sides = {}, self._moment.sides
        chosen = self.flows_from(self._moment.step)
        for name in self.tasks:
            task = self._task_of(name)
            flows[name] = task.steps(chosen[name], sides[name].step.particles if name in sides else None)
        return flows

    def _task_of(self, side: str) -> "Task":
        """A side's task, ours with the marks in force."""
        task = self.tasks[side]
        return task if side != OURS or self.marked is None else self.job.marked(task, self.marked)

    def _marks_at(self, step: int) -> tuple[Mark, ...]:
        """The marks that count from this step on; those that wait get it."""
        with self._changed:
            for picture, name, is_set in self._marking:
                self._marks = with_mark(marks_before(self._marks, step + 1), Mark(step, picture, name, is_set))
            self._marking = ()
            return tuple(mark for mark in self._marks if mark.step == step)

    def _take_marks(self, flows: dict[str, Steps], chosen: Mapping[str, FlowSettings]) -> None:
        """Our side goes on from the step it shows with the marks that count from here on."""
        ours = self._moment.sides.get(OURS)
        if ours is None or OURS not in flows or not (marks := self._marks_at(ours.step.step)):
            return
        from engine.tasks.marks import Marked

        before = self.marked or Marked(pinned=self.job.pinned(self.settings))
        self.marked = before.after(marks, ours.step.features)
        shows = inspect.getgeneratorstate(flows[OURS]) != inspect.GEN_CREATED
        flows[OURS].close()
        flows[OURS] = self._task_of(OURS).steps(chosen[OURS], ours.step.particles)
        if shows:
            next(flows[OURS])

    def _one_round(self, flows: dict[str, Steps]) -> None:
        """One step of every side. Sides that are done leave `flows`.

        Both show together, one frame a step; only the first pictures show at once.
        """
        moved: dict[str, Side] = {}
        sides = self._moment.sides
        chosen = self.flows_from(self._moment.step)
        self._take_marks(flows, chosen)
        for name in list(flows):
            before = sides.get(name)
            side = self._advanced(flows[name], name, before, chosen[name])
            if side is None:
                del flows[name]
            elif before is None:
                self.show({name: side})
            else:
                moved[name] = side
        if self.job.has_map(self.settings):
            self._follow_with_plane({**self._moment.sides, **moved})
        if moved:
            self.tick()
            self.show(moved)

    def _follow_with_plane(self, sides: Mapping[str, Side]) -> None:
        """The plane for where the pictures of all sides are now."""
        import torch

        from engine.metrics.plane import following_plane

        self.plane = following_plane(torch.cat([side.step.features for side in sides.values()]), self.plane)

    def _advanced(self, steps: Steps, name: str, before: Side | None, flow: FlowSettings) -> Side | None:
        """The side after its next step, with `flow` from now on; None when there is none left."""
        try:
            step = next_step(steps, flow)
        except StopIteration:
            return None
        if before is not None and step.step <= before.step.step:  # a run that goes on begins at the step it showed
            return Side(step, before.curves, before.kept)
        return measured(step, self.job.measure(self.tasks[name], step), before=before)


def next_step(steps: Steps, flow: FlowSettings) -> "Step":
    """The next step, with `flow` from now on; an iterator that has not begun takes no values."""
    return next(steps) if inspect.getgeneratorstate(steps) == inspect.GEN_CREATED else steps.send(flow)
