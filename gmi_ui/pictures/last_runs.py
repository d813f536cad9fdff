"""The last run of each tab of the page, kept on the disk: it comes back when its page was closed, or the studio killed.

A run is one zip, as "Save all" makes it, and beside it what it takes to draw the run again: its particles, the picture
that it began at, the mask. Both are under the hash of the browser tab's token: whoever does not have the token cannot
name them. They are written anew while the run goes on, and at its end.
"""

import hashlib
import io
import json
import logging
import shutil
import threading
import time
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import SaveError
from engine.settings import RunSettings, settings_from_dict
from gmi_ui.notices import NotPossibleError
from gmi_ui.pictures.saving import REPORT, SHEET, archive_of
from gmi_ui.runs.returned import LeftSide
from gmi_ui.runs.run import OURS, Run

if TYPE_CHECKING:
    from torch import Tensor

    from engine.tasks.marks import Marked

EVERY = 20.0  # seconds between two writings of a run that goes on
RARELY = 20.0  # at least so many times what one took
LOOK_EVERY = 0.5  # seconds
MOST_TABS = 16  # browser tabs whose runs are kept; the oldest go first
MOST_BYTES = 200_000_000  # of one run
_TOLD, _PARTICLES, _PICTURE, _MASK = "left.json", "particles.safetensors", "picture.png", "mask.png"
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
    can_return: bool  # it can be drawn again


@dataclass(frozen=True)
class LeftRun:
    """What it takes to draw a run again. extra: as in a saved picture, see `engine.tasks.start_metadata`."""

    settings: RunSettings
    sides: Mapping[str, LeftSide]
    models: Mapping[str, str]  # the sha256 of each
    extra: Mapping[str, Any]
    picture: bytes | None
    mask: bytes | None
    marked: "Marked | None" = None  # the marks in force


@dataclass
class _Followed:
    run: Run
    path: Path
    picture: bytes | None = None  # that it began at, as a PNG; made once
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

    def left(self, token: str, tab: str) -> LeftRun:
        """What it takes to draw the run again. Raises NotPossibleError where it is gone or damaged."""
        assert self._folder is not None
        return read_left(_beside(self._path(self._folder, token, tab)))

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

        pictures, left = archive_of(one.run), left_files(one)
        if not pictures or sum(map(len, pictures.values())) > MOST_BYTES:
            for path in (one.path, _beside(one.path)):
                path.unlink(missing_ok=True)  # rather none than an older one
            return
        with suppress(OSError):
            one.path.parent.parent.mkdir(parents=True, exist_ok=True)
            one.path.parent.mkdir(mode=0o700, exist_ok=True)
        self._forget(one.path.parent)
        _beside(one.path).unlink(missing_ok=True)  # never of another run than the pictures
        with suppress(SaveError):
            if sum(map(len, left.values())) <= MOST_BYTES:
                files.save_zip(_beside(one.path), left)
            files.save_zip(one.path, pictures, made=time.time())

    def _forget(self, besides: Path) -> None:
        """The oldest browser tabs' runs go when there are too many."""
        folders = [folder for folder in besides.parent.iterdir() if folder.is_dir() and folder != besides]
        folders.sort(key=lambda folder: max((file.stat().st_mtime for file in folder.iterdir()), default=0.0))
        for folder in folders[: max(0, len(folders) + 1 - MOST_TABS)]:
            shutil.rmtree(folder, ignore_errors=True)


def _beside(path: Path) -> Path:
    """Where it is kept what it takes to draw a run again."""
    return path.with_suffix(".left")


def left_files(one: _Followed) -> dict[str, bytes]:
    """What `read_left` reads; `one.picture` is made where it is missing."""
    from safetensors.torch import save

    from engine.pictures import png_files
    from engine.pictures.picture_files import encode_picture

    run, sides = one.run, one.run.moment.sides
    settings = run.settings_at(OURS, sides[OURS].step.step)
    extra = {name: value for name, value in run.job.extras(settings).items() if name not in ("under", "mask")}
    extra |= png_files.parent_extra(run.parent)
    told: dict[str, Any] = {"settings": settings.to_dict(), "models": dict(run.model_hashes), "extra": extra}
    tensors: dict[str, Tensor] = {}
    told["sides"] = {}
    for name, side in sides.items():
        particles = side.step.particles
        told["sides"][name] = {"seeds": particles.seeds, "step": particles.step, "curves": dict(side.curves)}
        tensors[f"{name}.latents"] = particles.latents
        tensors |= {f"{name}.momentum.{key}": value for key, value in (particles.momentum or {}).items()}
    if run.marked is not None:
        told["pinned"] = sorted(run.marked.pinned)
        for kind, rows in (("liked", run.marked.liked), ("unliked", run.marked.unliked)):
            tensors |= {f"{kind}.{place}": row for place, row in rows.items()}
    stored = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    picture = run.job.began_at()
    if one.picture is None and picture is not None:
        one.picture = encode_picture(picture)
    parts = {_TOLD: json.dumps(told).encode(), _PARTICLES: save(stored), _PICTURE: one.picture, _MASK: run.job.mask}
    return {name: data for name, data in parts.items() if data is not None}


def read_left(path: Path) -> LeftRun:
    """What `left_files` wrote. Raises NotPossibleError where it is gone or damaged."""
    from safetensors import SafetensorError

    try:
        with zipfile.ZipFile(path) as archive:
            return _left_of({name: archive.read(name) for name in archive.namelist()})
    except OSError as error:
        raise NotPossibleError("Your last run is not there any more.") from error
    except (zipfile.BadZipFile, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotPossibleError(
            "What was kept of your last run is damaged. “Take its settings” may still work."
        ) from error


def _left_of(parts: Mapping[str, bytes]) -> LeftRun:
    from safetensors.torch import load

    from engine.inference.flow import Particles

    told, tensors = json.loads(parts[_TOLD]), load(parts[_PARTICLES])
    sides = {}
    for name, side in told["sides"].items():
        before = f"{name}.momentum."
        momentum = {key.removeprefix(before): value for key, value in tensors.items() if key.startswith(before)}
        particles = Particles(tensors[f"{name}.latents"], tuple(side["seeds"]), int(side["step"]), momentum or None)
        sides[name] = LeftSide(particles, {key: tuple(values) for key, values in side["curves"].items()})
    settings = settings_from_dict(told["settings"])
    marked = _marked_in(told, tensors)
    return LeftRun(settings, sides, told["models"], told["extra"], parts.get(_PICTURE), parts.get(_MASK), marked)


def _marked_in(told: Mapping[str, Any], tensors: "Mapping[str, Tensor]") -> "Marked | None":
    if "pinned" not in told:
        return None
    from engine.tasks.marks import Marked

    def rows(kind: str) -> "dict[int, Tensor]":
        return {int(key.split(".")[1]): row for key, row in tensors.items() if key.startswith(f"{kind}.")}

    return Marked(rows("liked"), rows("unliked"), frozenset(map(int, told["pinned"])))


def _read(path: Path, number: int) -> LastRun:
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        report = json.loads(archive.read(REPORT))
    ours = report["sides"]["ours"]
    return LastRun(
        number,
        str(report["prompt"]),
        len(ours["pictures"]),
        int(ours["step"]),
        int(ours["of"]),
        path.stat().st_mtime,
        _beside(path).is_file(),
    )
