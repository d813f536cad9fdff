"""The last run of each tab of the page, kept on the disk: it comes back when its page was closed, or the studio killed.

A run is one zip, as "Save all" makes it, under the hash of its browser tab's token: whoever does not have the token
cannot name it. It is written anew while the run goes on, and at its end.
"""

import hashlib
import io
import json
import logging
import shutil
import threading
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.errors import SaveError
from gmi_ui.pictures.saving import REPORT, SHEET, archive_of
from gmi_ui.runs.run import Run

EVERY = 20.0  # seconds between two writings of a run that goes on
RARELY = 20.0  # at least so many times what one took
LOOK_EVERY = 0.5  # seconds
MOST_TABS = 16  # browser tabs whose runs are kept; the oldest go first
MOST_BYTES = 200_000_000  # of one run
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LastRun:
    """What a page is told of a run that was kept."""

    number: int  # another one for another run, or step
    prompt: str
    count: int
    step: int
    total: int
    made: float  # seconds since 1970


@dataclass
class _Followed:
    run: Run
    path: Path
    written: int = -1  # the revision that the file shows
    due: float = 0.0


class LastRuns:
    """folder: where they are kept, as long as the studio is used; without one nothing is. Thread-safe."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._followed: list[_Followed] = []
        self._told: dict[Path, LastRun] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def follow(self, token: str, tab: str, run: Run) -> None:
        """Keeps a tab's newest run from now on, in place of the one before."""
        if self._folder is None or not token:
            return
        path = self._path(self._folder, token, tab)
        with self._changed:
            self._followed = [one for one in self._followed if one.path != path]
            self._followed.append(_Followed(run, path, due=time.monotonic() + EVERY / 4))
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="last runs", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def find(self, token: str, tab: str) -> LastRun | None:
        """The last run of a tab of the page that had this token."""
        if self._folder is None or not token:
            return None
        path = self._path(self._folder, token, tab)
        try:
            number = path.stat().st_mtime_ns
            if path not in self._told or self._told[path].number != number:
                self._told[path] = _read(path, number)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return None
        return self._told[path]

    def sheet(self, token: str, tab: str) -> bytes:
        """All its pictures, small, as a PNG. Raises OSError where it is gone."""
        assert self._folder is not None
        with zipfile.ZipFile(self._path(self._folder, token, tab)) as archive:
            return archive.read(SHEET)

    def first_picture(self, token: str, tab: str) -> bytes:
        """A PNG with the settings of the whole run inside. Raises OSError where it is gone."""
        assert self._folder is not None
        with zipfile.ZipFile(self._path(self._folder, token, tab)) as archive:
            return archive.read(json.loads(archive.read(REPORT))["sides"]["ours"]["pictures"][0]["file"])

    def copy(self, token: str, tab: str, folder: Path) -> Path:
        """The zip, copied to where files are served from. Raises OSError where it is gone."""
        assert self._folder is not None
        source = self._path(self._folder, token, tab)
        target = folder / source.parent.name / f"last-run-{tab}.zip"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return target

    @staticmethod
    def _path(folder: Path, token: str, tab: str) -> Path:
        return folder / hashlib.sha256(token.encode()).hexdigest()[:32] / f"{tab}.zip"

    def _keep(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._followed))
                followed = list(self._followed)
            for one in followed:
                self._look_at(one)
            time.sleep(LOOK_EVERY)

    def _look_at(self, one: _Followed) -> None:
        moment = one.run.moment
        if moment.phase.is_over or time.monotonic() >= one.due:
            started = time.monotonic()
            if moment.sides and moment.revision != one.written:
                try:
                    self._write(one)
                except Exception as error:  # a run must not suffer from what cannot be kept of it
                    _log.warning("the last run could not be kept: %s", error)
            one.written = moment.revision
            one.due = time.monotonic() + max(EVERY, RARELY * (time.monotonic() - started))
        if moment.phase.is_over:
            with self._changed:
                self._followed = [other for other in self._followed if other is not one]

    def _write(self, one: _Followed) -> None:
        from engine.system import files

        pictures = archive_of(one.run)
        if not pictures or sum(map(len, pictures.values())) > MOST_BYTES:
            one.path.unlink(missing_ok=True)  # rather none than an older one
            return
        with suppress(OSError):
            one.path.parent.parent.mkdir(parents=True, exist_ok=True)
            one.path.parent.mkdir(mode=0o700, exist_ok=True)
        self._forget(one.path.parent)
        with suppress(SaveError):
            files.save_zip(one.path, pictures, made=time.time())

    def _forget(self, besides: Path) -> None:
        """The oldest browser tabs' runs go when there are too many."""
        folders = [folder for folder in besides.parent.iterdir() if folder.is_dir() and folder != besides]
        folders.sort(key=lambda folder: max((file.stat().st_mtime for file in folder.iterdir()), default=0.0))
        for folder in folders[: max(0, len(folders) + 1 - MOST_TABS)]:
            shutil.rmtree(folder, ignore_errors=True)


def _read(path: Path, number: int) -> LastRun:
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        report = json.loads(archive.read(REPORT))
    ours = report["sides"]["ours"]
    return LastRun(
        number, str(report["prompt"]), len(ours["pictures"]), int(ours["step"]), int(ours["of"]), path.stat().st_mtime
    )
