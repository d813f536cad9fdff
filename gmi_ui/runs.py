"""One run: what the page may ask of it (pause, resume, stop, tune) and what it shows, its newest steps.

A run lives in the server, not in a request: `worker.RunQueue` carries it out on the one worker thread, and
any number of pages look at it through `Run.moment`, each as often as it can. Nothing waits for a page that is
slow or gone.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from engine.settings import FlowSettings, GenerateSettings
from gmi_ui.notices import Notice

if TYPE_CHECKING:
    from engine.flow import Step

RATE_WINDOW = 12  # steps over which the speed is averaged
OURS, BASELINE = "ours", "baseline"


class Phase(StrEnum):
    """Where a run stands."""

    WAITING = "waiting"  # for the run before it
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
class Side:
    """One flow of a run, ours or the baseline: its newest step, and its figures at every step."""

    step: "Step"
    text: tuple[float, ...] = ()
    diversity: tuple[float, ...] = ()


def measured(step: "Step", *, before: Side | None = None) -> Side:
    """The side after `step`: its figures appended to the earlier ones."""
    text, diversity = (before.text, before.diversity) if before else ((), ())
    mean_score = float(step.text_scores.mean())
    return Side(step, text=(*text, mean_score), diversity=(*diversity, float(step.diversity)))


@dataclass(frozen=True)
class Moment:
    """Everything a page shows of a run at one time; never changed, so that it can be drawn without a lock."""

    version: int
    phase: Phase
    sides: Mapping[str, Side] = field(default_factory=dict)
    notice: Notice | None = None
    rate: float | None = None  # steps a second

    @property
    def step(self) -> int:
        return max((side.step.step for side in self.sides.values()), default=0)


class Run:
    """A run of the Generate task. Every method may be called from any thread."""

    def __init__(self, settings: GenerateSettings) -> None:
        self.id = secrets.token_hex(8)
        self.settings = settings
        self.model_hashes: Mapping[str, str] = {}
        self._flow = settings.flow
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
    def final_settings(self) -> GenerateSettings:
        """The settings with the step size and diversity as they were moved to during the run."""
        return replace(self.settings, flow=self._flow)

    def pause(self) -> None:
        """Holds the run after the step it is at."""
        with self._changed:
            if self._moment.phase is Phase.RUNNING:
                self._pausing = True
                self._publish(phase=Phase.PAUSED)

    def resume(self) -> None:
        """Lets a paused run go on."""
        with self._changed:
            if self._pausing:
                self._pausing = False
                self._ticks.clear()  # the pause is no measure of the speed
                self._publish(phase=Phase.RUNNING)

    def stop(self, notice: Notice | None = None) -> None:
        """Ends the run after the step it is at, at once if it waits or is paused. Pictures are kept."""
        with self._changed:
            if self._moment.phase.is_over:
                return
            self._stopping, self._pausing = True, False
            at_once = self._moment.phase in (Phase.WAITING, Phase.PAUSED)
            self._publish(phase=Phase.STOPPED if at_once else Phase.STOPPING, notice=notice)

    def tune(self, *, step_size: float, diversity: float) -> None:
        """New values for the steps to come. Raises SettingsError for values that cannot be used."""
        flow = replace(self._flow, step_size=step_size, diversity=diversity)
        with self._changed:
            if not self._moment.phase.is_over:
                self._flow = flow

    def say(self, notice: Notice) -> None:
        """Shows a notice beside whatever the run is doing."""
        with self._changed:
            self._publish(notice=notice)

    def seen(self) -> None:
        """A page looked at the run just now."""
        self._last_seen = time.monotonic()

    @property
    def unseen_for(self) -> float:
        """Seconds since a page last looked."""
        return time.monotonic() - self._last_seen

    # --- for the worker

    @property
    def flow(self) -> FlowSettings:
        """The settings of the next step."""
        return self._flow

    def enter(self, phase: Phase, notice: Notice | None = None) -> None:
        """Moves on to `phase`, unless the run is over or about to be."""
        with self._changed:
            if not self._moment.phase.is_over and (phase.is_over or not self._stopping):
                self._publish(phase=phase, notice=notice)

    def show(self, sides: Mapping[str, Side]) -> None:
        """Publishes the newest step of the sides that moved; the others stay as they are."""
        with self._changed:
            self._publish(sides={**self._moment.sides, **sides})

    def tick(self) -> None:
        """Counts one step of all sides for the speed."""
        with self._changed:
            self._ticks.append(time.monotonic())

    def is_held(self, patience: float) -> bool:
        """Waits while the run is paused, `patience` seconds at most. True if it still is."""
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
    ) -> None:
        old = self._moment
        self._moment = Moment(
            version=old.version + 1,
            phase=phase or old.phase,
            sides=old.sides if sides is None else sides,
            notice=notice or old.notice,
            rate=self._rate(),
        )
        self._changed.notify_all()

    def _rate(self) -> float | None:
        if len(self._ticks) < 2:
            return None
        elapsed = self._ticks[-1] - self._ticks[0]
        return (len(self._ticks) - 1) / elapsed if elapsed > 0 else None
