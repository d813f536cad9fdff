"""What the worker carries out, and what the page may ask of it: pause, resume, stop; its newest state.

A work lives in the server, not in a request: `worker.RunQueue` carries it out on the one worker thread, and
any number of pages look at it through `Work.moment`, each as often as it can. Nothing waits for a page that is
slow or gone.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

from engine.pictures.film import thinned
from gmi_ui.notices import Notice

if TYPE_CHECKING:
    from torch import Tensor

    from engine.inference.flow import Particles, Step
    from gmi_ui.models.models import Models

Rounds: TypeAlias = "Generator[None, None, None]"

RATE_WINDOW = 12  # steps whose median is the speed
FORETELLING_SHARE = 0.05  # of a preparation, from which it tells how long the rest takes
KEPT_STEPS = 64  # of each side, to look at again


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
class KeptStep:
    """One step of a side, small enough to remember: its pictures can be drawn again."""

    particles: "Particles"
    text_scores: "Tensor | None"
    fits: "Tensor | None" = None
    features: "Tensor | None" = None  # of its pictures, [N, D]

    @property
    def step(self) -> int:
        return self.particles.step


@dataclass(frozen=True)
class Side:
    """One flow of a run, ours or the baseline: its newest step, its figures at every step, and kept steps."""

    step: "Step"
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    kept: tuple[KeptStep, ...] = ()

    def kept_at(self, step: int) -> KeptStep:
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
    kept = (*(before.kept if before else ()), KeptStep(step.particles, step.text_scores, step.fits, step.features))
    return Side(step, curves, thinned(kept, KEPT_STEPS))


@dataclass(frozen=True)
class Moment:
    """Everything a page shows of a work at one time; never changed, so that it can be drawn without a lock."""

    revision: int
    phase: Phase
    sides: Mapping[str, Side] = field(default_factory=dict)
    notice: Notice | None = None
    rate: float | None = None  # steps a second
    doing: str = ""  # what is prepared while it loads
    share: float | None = None  # of that which is done
    left: float | None = None  # seconds that it will still take

    @property
    def step(self) -> int:
        return max((side.step.step for side in self.sides.values()), default=0)


class Work:
    """Something that takes long and goes in steps. Every method may be called from any thread."""

    def __init__(self) -> None:
        self.id = secrets.token_hex(8)
        self._stopping = False
        self._pausing = False
        self.begun = 0  # how often it was put off and begun again: who carries it out asks whether it still is his
        self._ticks: deque[float] = deque(maxlen=RATE_WINDOW)
        self._changed = threading.Condition()
        self._moment = Moment(0, Phase.WAITING)
        self._last_seen = self._paused_at = time.monotonic()
        self._doing = "", time.monotonic()  # what is prepared, and since when
        self.at_turn: Callable[[], None] | None = None  # what its turn begins with, on the worker, where it is lined up
        self.owner: object = self  # whose other works it never has to give way to

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
                self._pausing, self._paused_at = True, time.monotonic()
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

    @property
    def paused_for(self) -> float:
        """Seconds since it was paused; 0 while it is not."""
        return time.monotonic() - self._paused_at if self._pausing else 0.0

    # --- for the worker

    def carry_out(self, models: "Models") -> Rounds:
        """Loads what it needs, enters RUNNING, and does a step between two yields. Runs on the worker alone.

        At any yield it may be closed: the work is then stopped.
        """
        raise NotImplementedError

    def enter(self, phase: Phase, notice: Notice | None = None, *, begun: int | None = None) -> None:
        """Moves on to `phase`, unless the work is over or about to be.

        begun: of who carried it out; nothing changes where it was begun again since.
        """
        with self._changed:
            if begun not in (None, self.begun):
                return
            if not self._moment.phase.is_over and (phase.is_over or not self._stopping):
                self._publish(phase=phase, notice=notice)

    def tell(self, doing: str, share: float | None = None) -> None:
        """What is being prepared, and how much of it is done."""
        with self._changed:
            if doing != self._doing[0]:
                self._doing = doing, time.monotonic()
            elapsed = time.monotonic() - self._doing[1]
            left = elapsed * (1 - share) / share if share and share >= FORETELLING_SHARE else None
            self._publish(doing=doing, share=share, left=left)

    def show(self, sides: Mapping[str, Side] | None = None) -> None:
        """Publishes that something is new: of a run, the newest step of the sides that moved."""
        with self._changed:
            self._publish(sides={**self._moment.sides, **(sides or {})})

    def tick(self) -> None:
        """Counts one step for the speed."""
        with self._changed:
            self._ticks.append(time.monotonic())

    def forget_speed(self) -> None:
        """The steps to come cost something else than those before."""
        with self._changed:
            self._ticks.clear()

    def is_held(self, patience: float) -> bool:
        """Waits while the work is paused, `patience` seconds at most. True if it still is."""
        with self._changed:
            return not self._changed.wait_for(lambda: not self._pausing, patience)

    @property
    def is_stopping(self) -> bool:
        return self._stopping

    def _begin_again(self) -> None:
        """Waits for the worker again, under the lock; who still carries it out is to leave it."""
        self.begun += 1
        self._stopping = self._pausing = False
        self._ticks.clear()
        self._publish(phase=Phase.WAITING)

    def _publish(
        self,
        *,
        phase: Phase | None = None,
        sides: Mapping[str, Side] | None = None,
        notice: Notice | None = None,
        doing: str = "",
        share: float | None = None,
        left: float | None = None,
    ) -> None:
        old, phase = self._moment, phase or self._moment.phase
        kept = None if old.notice and old.notice.passing and phase.is_over else old.notice
        self._moment = Moment(
            revision=old.revision + 1,
            phase=phase,
            sides=old.sides if sides is None else sides,
            notice=notice or kept,
            rate=self._rate(),
            doing=doing,
            share=share,
            left=left,
        )
        self._changed.notify_all()

    def _rate(self) -> float | None:
        if len(self._ticks) < 2:
            return None
        # The median: one step may be held up, and the last one ends the run.
        seconds = median(later - earlier for earlier, later in pairwise(self._ticks))
        return 1 / seconds if seconds > 0 else None
