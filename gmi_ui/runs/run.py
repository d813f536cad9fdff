"""What the worker carries out, and what the page may ask of it: pause, resume, stop, tune; its newest steps.

A run lives in the server, not in a request: `worker.RunQueue` carries it out on the one worker thread, and
any number of pages look at it through `Work.moment`, each as often as it can. Nothing waits for a page that is
slow or gone.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from engine.settings import LIMITS, FlowSettings, RunSettings
from gmi_ui.notices import Notice, NotPossibleError
from gmi_ui.runs.jobs import GENERATE, Figure, Job, as_moved

if TYPE_CHECKING:
    from torch import Tensor

    from engine.inference.flow import Particles, Step
    from engine.tasks.inversion import Start
    from gmi_ui.models.models import Models
    from gmi_ui.pictures.workspace import Link
    from gmi_ui.runs.jobs import SideTask

Rounds: TypeAlias = "Generator[None, None, None]"

RATE_WINDOW = 12  # steps over which the speed is averaged
KEPT_STEPS = 64  # of each side, to look at again
OURS, BASELINE = "ours", "baseline"


class Phase(StrEnum):
    """Where a work stands."""

    WAITING = "waiting"  # for the one before it
    LOADING = "loading"  # the models
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"  # after the step it is at
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        return self in (Phase.DONE, Phase.STOPPED, Phase.FAILED)


@dataclass(frozen=True)
class Kept:
    """One step of a side, small enough to remember: its pictures can be drawn again."""

    particles: "Particles"
    text_scores: "Tensor"

    @property
    def step(self) -> int:
        return self.particles.step


@dataclass(frozen=True)
class Side:
    """One flow of a run, ours or the baseline: its newest step, its figures at every step, and kept steps."""

    step: "Step"
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    kept: tuple[Kept, ...] = ()

    def kept_at(self, step: int) -> Kept:
        """The newest kept step that is not after `step`, the first one where there is none."""
        return max((one for one in self.kept if one.step <= step), key=lambda one: one.step, default=self.kept[0])

    @property
    def first(self) -> int:
        """The step that the curves begin at."""
        return self.step.step + 1 - max(map(len, self.curves.values()), default=1)


def measured(step: "Step", figures: Mapping[str, float], *, before: Side | None = None) -> Side:
    """The side after `step`: its figures appended to the earlier ones, its particles kept."""
    old = before.curves if before else {}
    curves = {name: (*old.get(name, ()), float(value)) for name, value in figures.items()}
    kept = (*(before.kept if before else ()), Kept(step.particles, step.text_scores))
    return Side(step, curves, thinned(kept))


def thinned(kept: tuple[Kept, ...]) -> tuple[Kept, ...]:
    """Once there are too many, only every second step, then every fourth, ...; the newest always stays."""
    stride, rest = 1, kept
    while len(rest) > KEPT_STEPS:
        rest = (*(one for one in kept[:-1] if one.step % stride == 0), kept[-1])
        stride *= 2
    return rest


def before_step(flow: FlowSettings, step: int) -> FlowSettings:
    """The choices with those moves of sliders alone that came before `step`."""
    return replace(flow, changes=tuple(change for change in flow.changes if change[0] < step))


def moved_from(flow: FlowSettings, step: int, step_size: float, diversity: float) -> FlowSettings:
    """The choices with these values from `step` on, in place of all that would have come then."""
    earlier = before_step(flow, step)
    now = earlier.as_moved
    if (now.step_size, now.diversity) == (step_size, diversity):
        return earlier
    return replace(earlier, changes=(*earlier.changes, (step, step_size, diversity)))


def moved_along(other: FlowSettings, ours: FlowSettings, step: int, step_size: float, diversity: float) -> FlowSettings:
    """Another model's choices where `ours` get these values from `step` on.

    Diversity means the same to every model. A step size is each model's own, so it changes by the factor that ours
    has changed by since the run began. What did not move keeps its value.
    """
    now, before = before_step(other, step).as_moved, before_step(ours, step).as_moved
    if step_size == before.step_size:
        step_size = now.step_size
    else:
        low, high = LIMITS["step_size"]
        step_size = min(max(other.step_size * (step_size / ours.step_size), low), high)
    return moved_from(other, step, step_size, now.diversity if diversity == before.diversity else diversity)


@dataclass(frozen=True)
class Moment:
    """Everything a page shows of a work at one time; never changed, so that it can be drawn without a lock."""

    version: int
    phase: Phase
    sides: Mapping[str, Side] = field(default_factory=dict)
    notice: Notice | None = None
    rate: float | None = None  # steps a second
    doing: str = ""  # what is prepared while it loads
    share: float | None = None  # of that which is done

    @property
    def step(self) -> int:
        return max((side.step.step for side in self.sides.values()), default=0)


class Work:
    """Something that takes long and goes in steps. Every method may be called from any thread."""

    def __init__(self) -> None:
        self.id = secrets.token_hex(8)
        self._stopping = False
        self._pausing = False
        self._ticks: deque[float] = deque(maxlen=RATE_WINDOW)
        self._changed = threading.Condition()
        self._moment = Moment(0, Phase.WAITING)
        self._last_seen = time.monotonic()

    # --- for the page

    @property
    def moment(self) -> Moment:
        """The newest state."""
        return self._moment

    @property
    def is_over(self) -> bool:
        return self._moment.phase.is_over

    def pause(self) -> None:
        """Holds the work after the step it is at."""
        with self._changed:
            if self._moment.phase is Phase.RUNNING:
                self._pausing = True
                self._publish(phase=Phase.PAUSED)

    def resume(self) -> None:
        """Lets a paused work go on."""
        with self._changed:
            if self._pausing:
                self._pausing = False
                self._ticks.clear()  # the pause is no measure of the speed
                self._publish(phase=Phase.RUNNING)

    def stop(self, notice: Notice | None = None) -> None:
        """Ends the work after the step it is at, at once if it waits or is paused. What it made is kept."""
        with self._changed:
            if self._moment.phase.is_over:
                return
            self._stopping, self._pausing = True, False
            at_once = self._moment.phase in (Phase.WAITING, Phase.PAUSED)
            self._publish(phase=Phase.STOPPED if at_once else Phase.STOPPING, notice=notice)

    def say(self, notice: Notice) -> None:
        """Shows a notice beside whatever the work is doing."""
        with self._changed:
            self._publish(notice=notice)

    def seen(self) -> None:
        """A page looked at the work just now."""
        self._last_seen = time.monotonic()

    @property
    def unseen_for(self) -> float:
        """Seconds since a page last looked."""
        return time.monotonic() - self._last_seen

    # --- for the worker

    def carry_out(self, models: "Models") -> Rounds:
        """Loads what it needs, enters RUNNING, and does a step between two yields. Runs on the worker alone.

        At any yield it may be closed: the work is then stopped.
        """
        raise NotImplementedError

    def enter(self, phase: Phase, notice: Notice | None = None) -> None:
        """Moves on to `phase`, unless the work is over or about to be."""
        with self._changed:
            if not self._moment.phase.is_over and (phase.is_over or not self._stopping):
                self._publish(phase=phase, notice=notice)

    def tell(self, doing: str, share: float | None = None) -> None:
        """What is being prepared, and how much of it is done."""
        with self._changed:
            self._publish(doing=doing, share=share)

    def tick(self) -> None:
        """Counts one step for the speed."""
        with self._changed:
            self._ticks.append(time.monotonic())

    def is_held(self, patience: float) -> bool:
        """Waits while the work is paused, `patience` seconds at most. True if it still is."""
        with self._changed:
            return not self._changed.wait_for(lambda: not self._pausing, patience)

    @property
    def is_stopping(self) -> bool:
        return self._stopping

    def _publish(
        self,
        *,
        phase: Phase | None = None,
        sides: Mapping[str, Side] | None = None,
        notice: Notice | None = None,
        doing: str = "",
        share: float | None = None,
    ) -> None:
        old, phase = self._moment, phase or self._moment.phase
        kept = None if old.notice and old.notice.passing and phase.is_over else old.notice
        self._moment = Moment(
            version=old.version + 1,
            phase=phase,
            sides=old.sides if sides is None else sides,
            notice=notice or kept,
            rate=self._rate(),
            doing=doing,
            share=share,
        )
        self._changed.notify_all()

    def _rate(self) -> float | None:
        if len(self._ticks) < 2:
            return None
        elapsed = self._ticks[-1] - self._ticks[0]
        return (len(self._ticks) - 1) / elapsed if elapsed > 0 else None


class Run(Work):
    """One run of a task: its flows step side by side."""

    def __init__(self, settings: RunSettings, job: Job = GENERATE) -> None:
        super().__init__()
        self.settings = settings
        self.job = job
        self.model_hashes: Mapping[str, str] = {}
        self.tasks: Mapping[str, SideTask] = {}
        self.step_seconds: float | None = None  # of all sides together; foretold, then measured
        self._flows = {OURS: settings.flow}  # of the sides that have their own, with every move of a slider
        if self.other:
            self._flows[BASELINE] = self.other.flow
        self._tuned: tuple[float, float] | None = None  # step size and diversity, not in force yet

    # --- for the page

    @property
    def titles(self) -> Mapping[str, str]:
        """The sides that the run has, ours first, and what a person reads above each."""
        return self.job.titles(self.settings)

    @property
    def figures(self) -> tuple[Figure, ...]:
        return self.job.figures(self.settings)

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
        return getattr(self.settings, "beside", None)

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
            return replace(settings, beside=self._other_at(step)) if side == OURS and self.other else settings
        settings = self.job.baseline(replace(self.settings, flow=replace(flow, changes=())))
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
            self._stopping = False
            self._flows = {side: replace(flow, until=None) for side, flow in self._flows.items()}
            self._ticks.clear()
            self._publish(phase=Phase.WAITING)

    def particles(self, side: str, step: int | None = None) -> "Particles":
        """Of a side at its newest step, or an earlier one that was kept. Raises NotPossibleError if it is gone."""
        shown = self.pictured(side, step)
        return shown.step.particles if isinstance(shown, Side) else shown.particles

    def pictured(self, side: str, step: int | None = None) -> "Side | Kept":
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

    def show(self, sides: Mapping[str, Side]) -> None:
        """Publishes the newest step of the sides that moved; the others stay as they are."""
        with self._changed:
            self._publish(sides={**self._moment.sides, **sides})

    def carry_out(self, models: "Models") -> Rounds:
        from gmi_ui.runs.carrying_out import carry_out

        return carry_out(self, models)


class Inversion(Work):
    """A link's picture being found in a generator's latent space.

    `start`: the newest guess, at the end the result; either becomes the link's start in that model.
    """

    def __init__(self, link: "Link", model: str, prompt_model: str) -> None:
        super().__init__()
        self.link, self.model, self.prompt_model = link, model, prompt_model
        self.start: Start | None = None
        self.was_left = False  # stopped because another picture was turned to

    def carry_out(self, models: "Models") -> Rounds:
        from engine.tasks import inversion

        generator = models.generator(self.model)
        prompt_model = models.prompt_model(self.prompt_model)
        found = inversion.invert(self.link.picture, generator, prompt_model=prompt_model)
        self.enter(Phase.RUNNING)
        yield
        for start in found:
            self.start = self.link.starts[self.model] = start
            self.tick()
            with self._changed:
                self._publish()
            yield
