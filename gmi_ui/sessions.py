"""What the server remembers of each browser tab, by a token that it keeps: for each tab of the page a session.

The token is made by the server for the page (`gmi_ui.tokens`, `gmi_ui.guard`) and kept in the browser tab's own
storage, so it survives a reload; nothing else gives access to a run.
"""

import itertools
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.settings import RunSettings
from gmi_ui.notices import Notice
from gmi_ui.pictures.filming import Filming
from gmi_ui.pictures.workspace import Room, Workspace
from gmi_ui.runs.plotting import Plotting
from gmi_ui.runs.run import Run
from gmi_ui.runs.work import Work
from gmi_ui.tokens import is_token

if TYPE_CHECKING:
    from engine.tasks.towards import SeenFeatures

REMEMBERED = 16  # browser tabs with pictures; the one unseen for longest is forgotten first, never while a run goes on
EMPTY_REMEMBERED = 64  # browser tabs without
FORGOTTEN_REMEMBERED = 256  # browser tabs that are still told so
SEEN_RUNS = 64  # sides of runs of which a tab remembers what was seen: 16 kB each of 8 pictures at 512 numbers
MOST_UPCOMING = 32  # runs that may be lined up behind a tab's
ORIGINS = ("start", "pinned", "unlike", "like")  # settings that come from earlier pictures
KEPT_MODELS = 64  # models whose settings are kept
TABS = ("generate", "edit", "inpaint", "translate")  # of the engine's own tasks; others make themselves known
# Not from 1: pages outlive a restart of the server, and have taken numbers of the one before.
_arrivals = itertools.count(time.time_ns() // 1_000_000)


@dataclass(frozen=True)
class Arrival:
    """What came from elsewhere for a tab's controls: all settings, or some values. A page takes each number once."""

    settings: RunSettings | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    number: int = field(default_factory=lambda: next(_arrivals))


def forgotten_notice(remembered: int) -> Notice:
    """Why a tab's pictures are not there any more."""
    return Notice(
        f"The studio keeps the pictures of {remembered} browser tabs, and that many others were used since this one "
        "was looked at: what it held was given up. If its last run is offered below, save it from there; else check "
        "the settings and press Run to make it again.",
        "warning",
    )


class Session:
    """One tab of the page in one browser tab."""

    def __init__(self, room: Room | None = None, *, token: str = "", tab: str = "") -> None:
        self.token, self.tab = token, tab
        self.before = token  # the token of the page whose last run this one goes on from
        self.run: Run | None = None
        self._upcoming: list[Run] = []  # runs that are lined up behind it
        self.filming: Filming | None = None  # the newest video of a run
        self.plotting: Plotting | None = None  # the newest plot
        self.workspace = Workspace(room)
        self.notice: Notice | None = None  # about something that is not a run
        self.arrival: Arrival | None = None
        self.shown_model: str | None = None  # whose controls the page shows, where each model has its own
        self.kept_settings: OrderedDict[str, RunSettings] = OrderedDict()  # of each model that was turned away from
        self._seen: deque[SeenFeatures] = deque(maxlen=SEEN_RUNS)  # of the runs before this one, the newest last
        self._parents: OrderedDict[object, str] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, run: Run) -> bool:
        """Makes `run` the tab's run and clears old messages. False if another goes on: nothing changed."""
        with self._lock:
            if self.is_busy:
                return False
            self._seen.extend(seen_in(self.run))
            self.run, self.notice = run, None
            return True

    @property
    def upcoming(self) -> tuple[Run, ...]:
        """The runs that are lined up behind the tab's."""
        return tuple(run for run in self._upcoming if not run.is_over)

    def line_up(self, run: Run) -> bool:
        """Has `run` follow the tab's run and those behind it. False if there are MOST_UPCOMING: nothing changed."""
        with self._lock:
            if len(self.upcoming) >= MOST_UPCOMING:
                return False
            self._upcoming = [*self.upcoming, run]
            self.notice = None
            return True

    def take_turn(self, run: Run) -> None:
        """Makes a run that was lined up the tab's run."""
        with self._lock:
            self._upcoming = [other for other in self.upcoming if other is not run]
            self._seen.extend(seen_in(self.run))
            self.run = run

    @property
    def seen(self) -> "Sequence[SeenFeatures]":
        """What prompt models saw in the pictures of this run and of those before it, the newest last.

        Of at most SEEN_RUNS sides; of a run its last pictures, all sides of it.
        """
        with self._lock:
            return (*self._seen, *seen_in(self.run))

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

    def succeeded(self, action: str) -> None:
        """What was said of the action's failing goes."""
        if self.notice is not None and self.notice.action == action:
            self.notice = None

    def descend(self, settings: RunSettings, parent: str) -> None:
        """Runs with this start, or unlike the same pictures, are made from `parent`, a kept picture."""
        if (origin := _origin_of(settings)) and parent:
            self._parents[origin] = parent
            while len(self._parents) > KEPT_MODELS:
                self._parents.popitem(last=False)

    def parent_of(self, settings: RunSettings) -> str:
        """The kept picture that a run with these settings is made from; "" for none."""
        origin = _origin_of(settings)
        return self._parents.get(origin, "") if origin else ""

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
    def works_besides(self) -> tuple[Work, ...]:
        """What is made for this tab besides, which pause and stop do not go to: a video, a plot, runs to come."""
        return tuple(work for work in (self.filming, self.plotting, *self.upcoming) if work is not None)

    @property
    def active(self) -> Work | None:
        """What pause and stop go to: the run if it goes on, else the picture's inversion if that does."""
        return next((work for work in self.works if not work.is_over), None)

    @property
    def newest_notice(self) -> Notice | None:
        """The tab's own message or one of its works', whichever came last."""
        own = None if self.notice and self.notice.passing and self.active is None else self.notice
        works = (*self.works, *self.works_besides)
        notices = [own, self.workspace.notice, *(work.moment.notice for work in works)]
        return max((n for n in notices if n), key=lambda n: n.number, default=None)

    @property
    def is_busy(self) -> bool:
        return bool(self.upcoming) or (self.run is not None and not self.run.is_over)

    @property
    def goes_on(self) -> bool:
        """Whether anything is being made for the tab."""
        return any(not work.is_over for work in (*self.works, *self.works_besides))

    @property
    def is_used(self) -> bool:
        """Whether it holds pictures that would be missed."""
        return self.run is not None or self.workspace.current is not None or self.plotting is not None


def seen_in(run: Run | None) -> "Sequence[SeenFeatures]":
    """What the prompt model of each side saw in its newest pictures, ours first."""
    if run is None or not run.job.has_marks:
        return ()
    return tuple(seen_of(run, side) for side in run.titles if side in run.moment.sides)


def seen_of(run: Run, side: str) -> "SeenFeatures":
    """What the prompt model of a side saw in its newest pictures."""
    from engine.tasks.towards import SeenFeatures

    features = run.moment.sides[side].step.features.detach().cpu()
    return SeenFeatures(features, run.model_hashes.get(run.settings_of(side).prompt_model, ""))


def _origin_of(settings: RunSettings) -> object:
    """What of the settings comes from earlier pictures."""
    return next(filter(None, (getattr(settings, name, None) for name in ORIGINS)), None)


class Sessions:
    """All browser tabs."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._sessions: OrderedDict[str, dict[str, Session]] = OrderedDict()
        self._forgotten: OrderedDict[str, set[str]] = OrderedDict()  # tabs whose pictures were given up, by token
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
            if tab not in sessions:
                sessions[tab] = self._new(token, tab)
            return sessions[tab]

    def of(self, token: str) -> Mapping[str, Session]:
        """The sessions that a browser tab has, by the tab of the page."""
        with self._lock:
            return dict(self._sessions.get(token, {}))

    def _new(self, token: str, tab: str) -> Session:
        session = Session(self._room, token=token, tab=tab)
        if tab in self._forgotten.get(token, ()):
            self._forgotten[token].discard(tab)
            session.say(forgotten_notice(self._remembered))
        return session

    def _forget(self, *, besides: str) -> None:
        """Tabs that hold nothing push out none that hold pictures."""
        used = {token: used_tabs(sessions) for token, sessions in self._sessions.items()}
        for is_used, most in ((True, self._remembered), (False, EMPTY_REMEMBERED)):
            tokens = [token for token, tabs in used.items() if bool(tabs) is is_used]
            for token in self._idle(tokens, besides=besides)[: max(0, len(tokens) - most)]:
                del self._sessions[token]
                if is_used:
                    self._forgotten[token] = used[token]
        while len(self._forgotten) > FORGOTTEN_REMEMBERED:
            self._forgotten.popitem(last=False)

    def _idle(self, tokens: Iterable[str], *, besides: str) -> list[str]:
        return [
            token
            for token in tokens
            if token != besides and not any(session.goes_on for session in self._sessions[token].values())
        ]


def used_tabs(sessions: Mapping[str, Session]) -> set[str]:
    """The tabs of the page that hold pictures."""
    return {tab for tab, session in sessions.items() if session.is_used}
