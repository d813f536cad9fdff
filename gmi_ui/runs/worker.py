"""The one worker: carries out works one after the other, whether or not a page still looks."""

import threading

from engine.errors import LoadingStopped
from gmi_ui.models.models import Models
from gmi_ui.notices import Notice, explain
from gmi_ui.runs.work import Phase, Work

# Seconds after which a work that no page watched gives way to one that waits. Hidden tabs look once a minute.
ABANDONED_AFTER = 180.0
HELD_AT_MOST = 120.0  # seconds that a paused work may keep others waiting, with its page open
PATIENCE = 1.0  # seconds between two looks at whether a paused work is in the way
ABANDONED = Notice("Stopped: its page was closed while another run waited. The pictures so far are kept.", "warning")

HELD_TOO_LONG = Notice(
    "Stopped: it was paused for two minutes while another run waited. The pictures so far are kept; Continue makes the "
    "steps that are left.",
    "warning",
)


class RunQueue:
    """First come, first served. The worker is a daemon thread and ends with the server."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._waiting: list[Work] = []
        self._current: Work | None = None
        self._changed = threading.Condition()
        self._is_ending = False
        self._thread = threading.Thread(target=self._work, name="runs", daemon=True)
        self._thread.start()

    @property
    def current(self) -> Work | None:
        """What is being carried out."""
        return self._current

    def end(self, patience: float) -> None:
        """Stops the current work after its step, and takes no other. Waits for it, `patience` seconds at most.

        A program must not end while its worker computes: torch then aborts it.
        """
        with self._changed:
            self._is_ending = True
            works = [*self._waiting, *([self._current] if self._current else [])]
            self._waiting.clear()
            self._changed.notify_all()
        for work in works:
            work.stop()
        self._thread.join(patience)

    def submit(self, work: Work, *, before: Work | None = None) -> None:
        """Puts a work at the end of the queue, where it then is once; or before one that waits there."""
        with self._changed:
            waiting = [other for other in self._waiting if other is not work]
            at = waiting.index(before) if before in waiting else len(waiting)
            self._waiting = [*waiting[:at], work, *waiting[at:]]
            self._changed.notify_all()

    @property
    def works(self) -> tuple[Work, ...]:
        """What is being carried out and what waits, in order."""
        with self._changed:
            works = [*([self._current] if self._current else []), *self._waiting]
        return tuple(work for work in works if not work.is_over)

    def exchange(self, one: Work, other: Work) -> bool:
        """Each takes the other's place. False where either waits no more."""
        with self._changed:
            if one not in self._waiting or other not in self._waiting:
                return False
            places = {one: other, other: one}
            self._waiting = [places.get(work, work) for work in self._waiting]
            return True

    def place(self, work: Work) -> int:
        """How many works come before this one; 0 if it is being carried out or over."""
        with self._changed:
            waiting = [other for other in self._waiting if not other.is_over]
            if work not in waiting:
                return 0
            return waiting.index(work) + (self._current is not None)

    @property
    def is_held(self) -> bool:
        """Whether the work that is being carried out is paused."""
        work = self._current
        return work is not None and work.moment.phase is Phase.PAUSED

    @property
    def is_wanted(self) -> bool:
        """Whether somebody else waits for the worker than whose work is being carried out."""
        return self._is_wanted_besides(self._current)

    def _is_wanted_besides(self, work: Work | None) -> bool:
        owner = None if work is None else work.owner
        with self._changed:
            return any(not other.is_over and other.owner is not owner for other in self._waiting)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting) or self._is_ending)
                if self._is_ending:
                    return
                work = self._current = self._waiting.pop(0)
                begun = work.begun
            try:
                self._carry_out(work, begun)
            except Exception as error:  # the worker must outlive every work; what nobody foresaw is logged
                work.enter(Phase.FAILED, explain(error), begun=begun)
            finally:
                with self._changed:
                    self._current = None

    def _carry_out(self, work: Work, begun: int) -> None:
        is_lined_up = work.at_turn is not None and not self._is_wanted_besides(work)
        if work.unseen_for > ABANDONED_AFTER and not is_lined_up:  # whoever lines up runs may close the page
            work.stop(ABANDONED)
        if work.is_stopping:
            return
        if work.at_turn is not None:
            work.at_turn()
        work.enter(Phase.LOADING)
        rounds = work.carry_out(self._models)
        with self._models.serving(work):
            try:
                phase = next((Phase.STOPPED for _ in rounds if not self._may_go_on(work, begun)), Phase.DONE)
            except LoadingStopped:
                phase = Phase.STOPPED
            finally:
                rounds.close()  # at the yield where it was left
        work.enter(phase, begun=begun)

    def _may_go_on(self, work: Work, begun: int) -> bool:
        """Waits while the work is paused. False once it is to stop, or in the way of somebody who waits; or it was
        stopped and continued meanwhile, which its next turn does.
        """
        while work.is_held(PATIENCE) and not self._in_the_way(work):
            pass
        if told := self._in_the_way(work):
            work.stop(told)
        return not work.is_stopping and work.begun == begun

    def _in_the_way(self, work: Work) -> Notice | None:
        """Why a work has to give way to one that waits; None where it has not to."""
        if not self.is_wanted:
            return None
        if work.unseen_for > ABANDONED_AFTER:
            return ABANDONED
        return HELD_TOO_LONG if work.paused_for > HELD_AT_MOST else None
