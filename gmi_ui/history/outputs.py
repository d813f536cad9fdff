"""Keeps the pictures of every finished run, on a thread of its own that no run waits for."""

import json
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import SaveError
from engine.system import files
from gmi_ui.history.facts import Piece, encode_latents
from gmi_ui.history.store import Store
from gmi_ui.notices import Notice, NotPossibleError, explain
from gmi_ui.pictures.saving import check_picture, name_of, origin_of, place_of, png
from gmi_ui.runs.redrawing import step_of
from gmi_ui.runs.returned import ReturnedRun
from gmi_ui.runs.run import OURS, Run
from gmi_ui.runs.work import Phase

if TYPE_CHECKING:
    from engine.inference.flow import Step

LOOK_EVERY = 0.2  # seconds between two looks at whether a run has ended
STOPPED_FOR = 20.0  # seconds after which a stopped run counts as finished: it may be continued
BETWEEN = 0.001  # seconds, of the times that the pictures of a run are said to be made at
CHOICE = "outputs.json"  # in the cache: what was chosen on the page
_log = logging.getLogger(__name__)


@dataclass
class _Followed:
    run: Run
    tab: tuple[str, str]  # the browser tab's token, the tab of the page
    over_since: float | None = None
    is_left: bool = False  # another run took its place


class Outputs:
    """folder: where pictures are kept; None: nowhere. Every method may be called from any thread.

    usual: the folder that is offered where none is chosen; choice: the file that remembers what is chosen on the page;
    is_private: whether nobody but the person at this machine sees the page, which then shows what is kept.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        usual: Path | None = None,
        choice: Path | None = None,
        is_private: bool = True,
    ) -> None:
        self.usual = usual or folder or Path()
        self.is_private = is_private
        self._store = Store(folder) if folder else None
        self._choice = choice
        self._followed: list[_Followed] = []
        self._pieces: list[Piece] = []
        self._looking: Iterator[tuple[int, int]] | None = None
        self._changed = threading.Condition()
        self._is_ending = self._is_behind = False
        self._thread: threading.Thread | None = None
        self.trouble: Notice | None = None  # why pictures are not kept
        self.progress: tuple[int, int] | None = None  # of the files that the index did not know: how many are read

    @property
    def store(self) -> Store | None:
        return self._store

    def begin(self) -> None:
        """Brings the index up to what is in the folder, in the background."""
        with self._changed:
            if self._store is not None:
                self._store.is_incomplete = True
                self._wake()

    def choose(self, folder: Path | None) -> None:
        """Keeps pictures in another folder from now on, or no more. Raises SaveError for one that cannot be written."""
        if folder is not None:
            if not folder.is_absolute():
                raise NotPossibleError("Write the folder's whole path.")
            files.make_folder(folder)
        if self._choice is not None:
            files.save_file(self._choice, json.dumps({"folder": str(folder) if folder else None}).encode())
        with self._changed:
            if self._store is not None:
                self._store.close()
            self._store = Store(folder) if folder else None
            self._looking = self.progress = self.trouble = None
        self.begin()

    def follow(self, tab: tuple[str, str], run: Run) -> None:
        """Keeps a run's pictures once it has ended."""
        with self._changed:
            for one in self._followed:
                one.is_left = one.is_left or one.tab == tab
            self._followed = [one for one in self._followed if one.run is not run]
            if self._store is not None:
                self._followed.append(_Followed(run, tab))
                self._wake()

    def made_from(self, run: Run, side: str, index: int, step: int | None = None) -> str:
        """The id of a picture that something is made from, which is kept too; "" where none are.

        Raises NotPossibleError if it is gone.
        """
        if self._store is None:
            return ""
        check_picture(run, side, index)
        piece = piece_of(run, side, index, step_of(run, side, step))
        with self._changed:
            self._pieces.append(piece)
            self._wake()
        return piece.id

    def id_of(self, path: Path) -> str:
        """The id of a file that was saved here; "" for any other."""
        if self._store is None:
            return ""
        from gmi_ui.pictures.restoring import carries_settings

        try:
            return files.sha256_of(path) if carries_settings(path) else ""
        except OSError:
            return ""

    def end(self, patience: float) -> None:
        """Keeps what has ended and waits for it, `patience` seconds at most."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(patience)
        if self._store is not None:
            self._store.close()

    # --- on its thread

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="outputs", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (due := self._due()) and not self._pieces and not self._has_to_look and not self._is_ending:
                    self._changed.wait(LOOK_EVERY if self._followed else None)
                self._followed = [one for one in self._followed if one not in due]
                pieces, self._pieces = self._pieces, []
                store, is_ending = self._store, self._is_ending
            if store is not None:
                self._keep(store, pieces)
                for one in due:
                    if told := self._keep(store, pieces_of(one.run)):
                        one.run.say(told)
                if not is_ending:
                    self._look(store)
            if is_ending and not pieces and not due:
                return

    def _due(self) -> list[_Followed]:
        """The runs that have ended, under the lock."""
        now, due = time.monotonic(), []
        for one in self._followed:
            phase = one.run.moment.phase
            one.over_since = (one.over_since or now) if phase.is_over else None
            is_stopped = phase is Phase.STOPPED and one.run.can_go_on
            waits = is_stopped and not one.is_left and not self._is_ending
            if one.over_since is not None and not (waits and now - one.over_since < STOPPED_FOR):
                due.append(one)
        return due

    @property
    def _has_to_look(self) -> bool:
        return self._store is not None and (self._looking is not None or self._store.is_incomplete)

    def _look(self, store: Store) -> None:
        """One more file of those that the index does not know."""
        with self._changed:
            if store is not self._store or not self._has_to_look:
                return
            if self._looking is None:
                self._looking = store.look_through()
            looking = self._looking
        progress = None
        try:
            progress = next(looking, None)
        except Exception as error:  # of whatever lies in the folder; what is to be kept is kept all the same
            self.trouble = explain(error)
            store.is_incomplete = False
        with self._changed:
            if looking is self._looking:
                self.progress = progress
                if progress is None:
                    self._looking = None

    def _keep(self, store: Store, pieces: Iterable[Piece]) -> Notice | None:
        """The notice of why one could not be kept. Whatever goes wrong, runs go on."""
        count = 0
        try:
            for piece in pieces:
                store.keep(piece)
                count += 1
        except Exception as error:
            _log.warning("a picture could not be kept: %s", error)
            self.trouble, self._is_behind = trouble_of(error, store.folder), True
            return self.trouble
        if not count:
            return None
        if self._is_behind:  # what was written, but did not come into the index
            store.is_incomplete = True
        self.trouble, self._is_behind = None, False
        return None


def pieces_of(run: Run) -> Iterator[Piece]:
    """The newest pictures of every side; none of a run that only came back."""
    if isinstance(run, ReturnedRun) and run.is_as_left:
        return
    made = time.time()
    for side in [name for name in run.titles if name in run.moment.sides]:
        drawn = step_of(run, side)
        for index in range(len(drawn.images)):
            yield replace(piece_of(run, side, index, drawn), made=made)
            made -= BETWEEN  # the newest comes first


def piece_of(run: Run, side: str, index: int, drawn: "Step") -> Piece:
    """A picture as "Save PNG" gives it."""
    suffix = f"_{place_of(run, side)}" if side != OURS else ""
    name = f"{name_of(run)}_{origin_of(index, drawn)}{suffix}"
    return Piece(png(run, side, index, drawn), name, encode_latents(drawn, index, side))


def trouble_of(error: Exception, folder: Path) -> Notice:
    """What is said of pictures that cannot be kept."""
    cause = error.__cause__ if isinstance(error, SaveError) else error
    if isinstance(cause, OSError) and files.is_out_of_space(cause):
        text = (
            f"No space is left on the disk that holds {folder}: finished pictures are not kept there now. Free some "
            "space, or save those that you want elsewhere."
        )
        return Notice(text, "warning")
    return Notice(f"Finished pictures are not kept now. {explain(error).text}", "warning")


def chosen_folder(choice: Path, usual: Path) -> Path | None:
    """What was last chosen on the page; `usual` where nothing was, or what is remembered of it is damaged."""
    try:
        folder = json.loads(choice.read_bytes())["folder"]
    except (OSError, ValueError, KeyError, TypeError):
        return usual
    return Path(folder) if isinstance(folder, str) and folder else None if folder is None else usual
