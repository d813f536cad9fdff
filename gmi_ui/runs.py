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
from typing import TYPE_CHECKING, TypeAlias

from engine.settings import FlowSettings, RunSettings
from gmi_ui.jobs import GENERATE, Figure, Job
from gmi_ui.notices import Notice, NotPossibleError

if TYPE_CHECKING:
    from torch import Tensor

    from engine.flow import Particles, Step
    from engine.inversion import Start
    from gmi_ui.easel import Link
    from gmi_ui.jobs import SideTask
    from gmi_ui.models import Models

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
        self._flow = settings.flow
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
        return shown.step.total if shown else self.total

    @property
    def final_settings(self) -> RunSettings:
        """The settings with the step size and diversity as they were moved to during the run."""
        return replace(self.settings, flow=self.flow)

    @property
    def other(self) -> RunSettings | None:
        """The settings of another model's run beside this one, which the sliders do not reach."""
        return getattr(self.settings, "beside", None)

    def settings_of(self, side: str) -> RunSettings:
        """The settings that name the models of a side."""
        return self.other if side != OURS and self.other else self.settings

    def settings_at(self, side: str, step: int) -> RunSettings:
        """The settings that make a side's pictures of `step` again: every moved slider, and where it was stopped."""
        until = step if step < self._total_of(side) else None
        if side != OURS and self.other:
            return replace(self.other, flow=replace(self.other.flow, until=until))
        changes = tuple(change for change in self._flow.changes if change[0] < step)
        if side == OURS:
            return replace(self.settings, flow=replace(self._flow, changes=changes, until=until))
        plain = replace(self._flow, changes=(), until=until)
        settings = self.job.baseline(replace(self.settings, flow=plain))
        moved = tuple((at, step_size, settings.flow.diversity) for at, step_size, _ in changes)
        return replace(settings, flow=replace(settings.flow, changes=moved))

    def tune(self, *, step_size: float, diversity: float) -> None:
        """New values for the steps to come. Raises SettingsError for values that cannot be used."""
        replace(self._flow, step_size=step_size, diversity=diversity)  # checks
        with self._changed:
            if not self._moment.phase.is_over:
                self._tuned = (step_size, diversity)

    @property
    def flow(self) -> FlowSettings:
        """The numerical choices, with every slider as it was last moved."""
        flow, tuned = self._flow.as_moved, self._tuned
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
            self._flow = replace(self._flow, until=None)
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

    def flow_from(self, step: int) -> FlowSettings:
        """The numerical choices for the move from `step`; what a slider was moved to counts from here on."""
        with self._changed:
            if self._tuned is not None:
                step_size, diversity = self._tuned
                now = self._flow.at(step)
                earlier = tuple(change for change in self._flow.changes if change[0] < step)
                if (now.step_size, now.diversity) != self._tuned or self._flow.changes != earlier:
                    self._flow = replace(self._flow, changes=(*earlier, (step, step_size, diversity)))
                self._tuned = None
            return self._flow.at(step)

    @property
    def is_replay_over(self) -> bool:
        """Whether a run that is made again is at the step where it was stopped."""
        until = self._flow.until
        return until is not None and bool(self._moment.sides) and self._moment.step >= until

    def show(self, sides: Mapping[str, Side]) -> None:
        """Publishes the newest step of the sides that moved; the others stay as they are."""
        with self._changed:
            self._publish(sides={**self._moment.sides, **sides})

    def carry_out(self, models: "Models") -> Rounds:
        from gmi_ui.flows import carry_out

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
        from engine import inversion

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
