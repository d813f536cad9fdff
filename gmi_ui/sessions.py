"""What the server remembers of each browser tab, by a token that it keeps: for each tab of the page a session.

The token is made by the server for the page (`gmi_ui.tokens`, `gmi_ui.guard`) and kept in the browser tab's own
storage, so it survives a reload; nothing else gives access to a run.
"""

import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.settings import RunSettings
from gmi_ui.notices import Notice
from gmi_ui.pictures.workspace import Room, Workspace
from gmi_ui.runs.run import Run
from gmi_ui.runs.work import Work
from gmi_ui.tokens import is_token

REMEMBERED = 16  # browser tabs; the one unseen for longest is forgotten first, never one whose run goes on
KEPT_MODELS = 64  # models whose settings are kept
TABS = ("generate", "edit", "inpaint")  # of the engine's own tasks; others make themselves known
# Not from 1: pages outlive a restart of the server, and have taken numbers of the one before.
_arrivals = itertools.count(time.time_ns() // 1_000_000)


@dataclass(frozen=True)
class Arrival:
    """What came from elsewhere for a tab's controls: all settings, or some values. A page takes each number once."""

    settings: RunSettings | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    number: int = field(default_factory=lambda: next(_arrivals))


class Session:
    """One tab of the page in one browser tab."""

    def __init__(self, room: Room | None = None, *, token: str = "", tab: str = "") -> None:
        self.token, self.tab = token, tab
        self.before = token  # the token of the page whose last run this one goes on from
        self.run: Run | None = None
        self.workspace = Workspace(room)
        self.notice: Notice | None = None  # about something that is not a run
        self.arrival: Arrival | None = None
        self.shown_model: str | None = None  # whose controls the page shows, where each model has its own
        self.kept_settings: OrderedDict[str, RunSettings] = OrderedDict()  # of each model that was turned away from
        self._lock = threading.Lock()

    def begin(self, run: Run) -> bool:
        """Makes `run` the tab's run and clears old messages. False if another goes on: nothing changed."""
        with self._lock:
            if self.is_busy:
                return False
            self.run, self.notice = run, None
            return True

    def show(self, run: Run | None) -> bool:
        """Shows an earlier run, or none. False if one goes on: nothing changed."""
        with self._lock:
            if self.is_busy and run is not self.run:
                return False
            self.run = run
            return True

    def say(self, notice: Notice) -> None:
        """Shows a notice; the newest counts."""
        self.notice = notice

    def keep_settings(self, settings: RunSettings) -> None:
        """Keeps a model's settings for when it is turned to again."""
        self.kept_settings[settings.model] = settings
        self.kept_settings.move_to_end(settings.model)
        while len(self.kept_settings) > KEPT_MODELS:
            self.kept_settings.popitem(last=False)

    @property
    def works(self) -> tuple[Work, ...]:
        """What may be going on for this tab: its run, and its picture being found."""
        version = self.workspace.current
        return tuple(work for work in (self.run, version.inversion if version else None) if work is not None)

    @property
    def active(self) -> Work | None:
        """What pause and stop go to: the run if it goes on, else the picture's inversion if that does."""
        return next((work for work in self.works if not work.is_over), None)

    @property
    def newest_notice(self) -> Notice | None:
        """The tab's own message or one of its works', whichever came last."""
        own = None if self.notice and self.notice.passing and self.active is None else self.notice
        notices = [own, *(work.moment.notice for work in self.works)]
        return max((n for n in notices if n), key=lambda n: n.number, default=None)

    @property
    def is_busy(self) -> bool:
        return self.run is not None and not self.run.is_over


class Sessions:
    """All browser tabs."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._sessions: OrderedDict[str, dict[str, Session]] = OrderedDict()
        self._tabs = set(TABS)
        self._room = Room()  # of the pictures of all
        self._remembered = remembered
        self._lock = threading.Lock()

    def know(self, tab: str) -> None:
        """Has sessions for another tab of the page from now on."""
        self._tabs.add(tab)

    def get(self, token: str, tab: str = TABS[0]) -> Session:
        """A tab's session, new if there is none. Raises ValueError for something that is no token, or no tab."""
        if not is_token(token):
            raise ValueError("no session token")
        if tab not in self._tabs:
            raise ValueError(f"no tab is called {tab!r}")
        with self._lock:
            sessions = self._sessions.setdefault(token, {})
            self._sessions.move_to_end(token)
            self._forget(besides=token)
            for session in sessions.values():
                session.workspace.seen()
            return sessions.setdefault(tab, Session(self._room, token=token, tab=tab))

    def _forget(self, *, besides: str) -> None:
        idle = [
            token
            for token, sessions in self._sessions.items()
            if token != besides and not any(session.active for session in sessions.values())
        ]
        for token in idle[: max(0, len(self._sessions) - self._remembered)]:
            del self._sessions[token]
