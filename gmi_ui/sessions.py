"""What the server remembers of each tab: its run and the last message, keyed by a token that the tab keeps.

The token is drawn by the page and kept in the tab's own storage, so it survives a reload; it is as long as a
password, and nothing else gives access to a run.
"""

import re
import threading
from collections import OrderedDict

from gmi_ui.notices import Notice
from gmi_ui.runs import Run

REMEMBERED = 16  # tabs; the one unseen for longest is forgotten first, never one whose run goes on
_TOKEN = re.compile(r"[0-9a-f]{32}")


class Session:
    """One tab."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.notice: Notice | None = None  # about something that is not a run
        self._lock = threading.Lock()

    def begin(self, run: Run) -> bool:
        """Makes `run` the tab's run and clears old messages. False if another goes on: nothing changed."""
        with self._lock:
            if self.is_busy:
                return False
            self.run, self.notice = run, None
            return True

    def say(self, notice: Notice) -> None:
        """Shows a notice; the newest counts."""
        self.notice = notice

    @property
    def newest_notice(self) -> Notice | None:
        """The tab's own message or its run's, whichever came last."""
        notices = [self.notice, self.run.moment.notice if self.run else None]
        return max((n for n in notices if n), key=lambda n: n.number, default=None)

    @property
    def is_busy(self) -> bool:
        return self.run is not None and not self.run.moment.phase.is_over


class Sessions:
    """All tabs."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._remembered = remembered
        self._lock = threading.Lock()

    def get(self, token: str) -> Session:
        """The tab's session, new if there is none. Raises ValueError for something that is no token."""
        if not is_token(token):
            raise ValueError("no session token")
        with self._lock:
            session = self._sessions.setdefault(token, Session())
            self._sessions.move_to_end(token)
            self._forget(besides=token)
            return session

    def _forget(self, *, besides: str) -> None:
        idle = [token for token, session in self._sessions.items() if token != besides and not session.is_busy]
        for token in idle[: max(0, len(self._sessions) - self._remembered)]:
            del self._sessions[token]


def is_token(token: object) -> bool:
    """Whether `token` looks like what a page draws."""
    return isinstance(token, str) and _TOKEN.fullmatch(token) is not None
