"""The folder of the kept pictures: one PNG each, by day, with its latents; thumbnails and the index beside them.

    2026-11-27/NAME.png                 the same bytes as "Save PNG" gives
    2026-11-27/latents/NAME.safetensors
    .trash/2026-11-27/...               what was deleted, until the trash is emptied
    .index/                             all of it can be made again, but marks.jsonl: what was liked, and tags

A file is written whole or not at all, and before the index knows of it: what a killed studio did not bring into the
index is found when the next one looks through the folder.
"""

import io
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

from engine.errors import PictureError, SaveError
from engine.system import files
from gmi_ui.history.facts import Kept, Piece, kept_of
from gmi_ui.history.index import Index, IndexBrokenError, Wanted
from gmi_ui.notices import NotPossibleError

INDEX, TRASH, LATENTS = ".index", ".trash", "latents"
DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
THUMBNAIL_SIDE, THUMBNAIL_QUALITY = 160, 80
DEEPEST = 4  # folders below that of the pictures that are looked through
MOST_BYTES = 512 << 20  # of a file that may be a picture of ours
LONGEST_TAGS = 200  # characters
GONE = "That picture is not in its folder any more."
Found = TypeVar("Found")


class Store:
    """The pictures in `folder`, which need not exist yet. Every method may be called from any thread.

    Methods raise NotPossibleError where the index or a picture cannot be used, SaveError where nothing can be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._index = Index(folder / INDEX / "history.sqlite")
        self._marks = folder / INDEX / "marks.jsonl"
        self._lock = threading.RLock()  # of what files and index do together
        self.is_incomplete = True  # the index may lack pictures that are in the folder

    # --- keeping

    def keep(self, piece: Piece) -> None:
        """Writes a picture, unless it is here already; one in the trash comes back."""
        with self._lock:
            known = self._known(piece.id)
            if known is not None and self.path_of(known).is_file():
                if known.trashed:
                    self.put_back([known.number])
                return
            name = f"{piece.name}_{piece.id[:8]}"
            path = self.folder / time.strftime("%Y-%m-%d", time.localtime(piece.made)) / f"{name}.png"
            files.save_file(_latents_of(path), piece.latents)
            files.save_file(path, piece.data)
            with suppress(OSError):
                os.utime(path, (piece.made, piece.made))
            self._add(path, piece.data, piece.latents)
            with suppress(NotPossibleError):
                self._thumbnail(piece.id, path)

    def _known(self, sha256: str) -> Kept | None:
        """None too where the index cannot tell now: better twice than not at all."""
        try:
            return self._ask(lambda index: index.by_id(sha256))
        except NotPossibleError:
            return None

    def look_through(self) -> Iterator[tuple[int, int]]:
        """Brings the index up to what is in the folder; yields how many of the new files are read, and of how many."""
        if not self.folder.is_dir():
            self.is_incomplete = False
            return
        for place in (self.folder / INDEX, self.folder / TRASH, *self.folder.glob(DAY)):
            files.remove_leftovers(place, below=True)
        known = self._ask(Index.paths)
        found = {self._relative(path): path for path in self._pictures()}
        new = sorted((path for name, path in found.items() if name not in known), key=_changed)
        for count, path in enumerate(new):
            yield count, len(new)
            with suppress(OSError):
                if path.stat().st_size <= MOST_BYTES:
                    self._add(path, path.read_bytes(), _read(_latents_of(path)))
        with self._lock:  # what is just moved is not gone
            gone = [number for name, number in self._ask(Index.paths).items() if not (self.folder / name).is_file()]
            if gone:
                self._ask(lambda index: index.forget(gone))
        if new:
            self._restore_marks()
        self.is_incomplete = False

    def _add(self, path: Path, data: bytes, latents: bytes | None) -> None:
        kept = kept_of(data, latents, self._relative(path), _changed(path))
        if kept is None:
            return
        with self._lock:
            trashed = kept.path.startswith(f"{TRASH}/")
            row = Kept(**{**vars(kept), "trashed": trashed})
            self._ask(lambda index: index.add(row))

    def _pictures(self) -> Iterator[Path]:
        """All PNGs below the folder and in its trash."""
        top = len(self.folder.parts)
        for place, folders, names in os.walk(self.folder):
            here = Path(place)
            hidden = {name for name in folders if name.startswith(".") and not (here == self.folder and name == TRASH)}
            folders[:] = [] if len(here.parts) - top >= DEEPEST else [name for name in folders if name not in hidden]
            yield from (here / name for name in names if name.endswith(".png") and not name.startswith("."))

    # --- reading

    @property
    def revision(self) -> int:
        return self._ask(lambda index: index.revision) if self.is_there else 0

    @property
    def is_there(self) -> bool:
        """Whether anything was ever kept here."""
        return self.folder.is_dir()

    def page(self, wanted: Wanted, offset: int, limit: int) -> list[Kept]:
        """Of all that is wanted, the newest first."""
        return self._ask(lambda index: index.page(wanted, offset, limit)) if self.is_there else []

    def count(self, wanted: Wanted) -> int:
        return self._ask(lambda index: index.count(wanted)) if self.is_there else 0

    def models(self) -> list[str]:
        return self._ask(Index.models) if self.is_there else []

    def family(self, number: int) -> list[Kept]:
        """What a picture was made from and what was made from it, itself included; the oldest first."""
        return self._ask(lambda index: index.family(number))

    def find(self, number: int) -> Kept:
        found = self._ask(lambda index: index.find(number)) if self.is_there else None
        if found is None:
            raise NotPossibleError(GONE)
        return found

    def picture(self, number: int) -> Path:
        """Its file."""
        path = self.path_of(self.find(number))
        if not path.is_file():
            raise NotPossibleError(GONE)
        return path

    def path_of(self, kept: Kept) -> Path:
        place = PurePosixPath(kept.path)
        if place.is_absolute() or ".." in place.parts:  # in an index that is not ours
            raise NotPossibleError(GONE)
        return self.folder / place

    def thumbnail(self, number: int) -> bytes:
        """A small WebP, made when it is first asked for."""
        kept = self.find(number)
        return self._thumbnail(kept.id, self.path_of(kept))

    def _thumbnail(self, sha256: str, path: Path) -> bytes:
        place = self.folder / INDEX / "thumbnails" / sha256[:2] / f"{sha256}.webp"
        if (made := _read(place)) is not None:
            return made
        made = thumbnail_of(path)
        with suppress(SaveError):  # a full disk: it is made again next time
            files.save_file(place, made)
        return made

    # --- what a person does

    def mark(self, number: int, *, liked: bool | None = None, tags: str | None = None) -> None:
        """Likes a picture or not, or says its tags."""
        with self._lock:
            kept = self.find(number)
            liked = kept.liked if liked is None else liked
            tags = kept.tags if tags is None else " ".join(re.findall(r"[^\s,]+", tags))[:LONGEST_TAGS]
            line = json.dumps({"id": kept.id, "liked": liked, "tags": tags})
            try:
                with self._marks.open("a", encoding="utf-8") as file:
                    file.write(f"\n{line}\n")  # whatever half a line a killed studio left
            except OSError as error:
                raise files.save_error(self._marks, error) from error
            self._ask(lambda index: index.mark(number, liked=liked, tags=tags))

    def delete(self, numbers: Sequence[int]) -> None:
        """Moves pictures to the trash."""
        for number in numbers:
            kept = self.find(number)
            if not kept.trashed:
                self._move(kept, f"{TRASH}/{kept.path}", trashed=True)

    def put_back(self, numbers: Sequence[int]) -> None:
        """Moves pictures out of the trash, to where they were."""
        for number in numbers:
            kept = self.find(number)
            if kept.trashed:
                self._move(kept, kept.path.removeprefix(f"{TRASH}/"), trashed=False)

    def empty_trash(self) -> int:
        """Deletes for good what is in the trash; how many pictures that were."""
        with self._lock:
            gone = self.page(Wanted(trashed=True), 0, -1)
            for kept in gone:
                for path in (self.path_of(kept), _latents_of(self.path_of(kept))):
                    files.delete_file(path)
            self._ask(lambda index: index.forget([kept.number for kept in gone]))
        return len(gone)

    def _move(self, kept: Kept, to: str, *, trashed: bool) -> None:
        source, target = self.path_of(kept), self.folder / to
        with self._lock:
            for old, new in ((_latents_of(source), _latents_of(target)), (source, target)):
                files.make_folder(new.parent)
                try:
                    files.replace(old, new)
                except FileNotFoundError:
                    if old is source:
                        raise NotPossibleError(GONE) from None
                except OSError as error:
                    raise files.save_error(new, error) from error
            self._ask(lambda index: index.move(kept.number, to, trashed=trashed))

    def close(self) -> None:
        self._index.close()

    # ---

    def _ask(self, act: Callable[[Index], Found]) -> Found:
        """What the index says. One that is gone, damaged or of another version is made again, and filled by and by."""
        try:
            return act(self._index)
        except IndexBrokenError:
            self._make_index()
            try:
                return act(self._index)
            except IndexBrokenError as error:
                raise NotPossibleError(
                    f"The list of your pictures cannot be made in {self.folder}: {error}."
                ) from error

    def _make_index(self) -> None:
        """Of several studios on the folder one makes it."""
        try:
            with files.locked(self.folder / INDEX / "making"):
                with suppress(IndexBrokenError):
                    self._index.paths()
                    return
                self._index.make()
        except OSError as error:
            raise NotPossibleError(f"The list of your pictures cannot be written in {self.folder}: {error}.") from error
        self.is_incomplete = True

    def _restore_marks(self) -> None:
        """Likes and tags of pictures that are new to the index."""
        newest = {}
        for line in (_read(self._marks) or b"").splitlines():
            with suppress(ValueError, KeyError, TypeError):
                told = json.loads(line)
                newest[str(told["id"])] = bool(told["liked"]), str(told["tags"])[:LONGEST_TAGS]
        for sha256, (liked, tags) in newest.items():
            self._ask(partial(_mark, sha256=sha256, liked=liked, tags=tags))

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def _mark(index: Index, sha256: str, *, liked: bool, tags: str) -> None:
    kept = index.by_id(sha256)
    if kept is not None and (kept.liked, kept.tags) != (liked, tags):
        index.mark(kept.number, liked=liked, tags=tags)


def latents_in(path: Path) -> tuple[float, ...]:
    """Where a kept picture lies. Raises NotPossibleError where its latents are gone, or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return tuple(load_file(_latents_of(path))["latents"].flatten().tolist())
    except (OSError, KeyError, SafetensorError) as error:
        raise NotPossibleError("The latents of that picture are not beside it any more.") from error


def thumbnail_of(path: Path) -> bytes:
    """Raises NotPossibleError for a file that is no picture any more."""
    from PIL import Image

    from engine.pictures.picture_files import read_picture

    try:
        picture = read_picture(path)
    except PictureError as error:
        raise NotPossibleError(str(error)) from error
    small, buffer = Image.fromarray(picture.pixels), io.BytesIO()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), reducing_gap=2.0)
    small.save(buffer, "WEBP", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()


def _latents_of(path: Path) -> Path:
    return path.parent / LATENTS / f"{path.stem}.safetensors"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _changed(path: Path) -> float:
    """When a file was written; 0 for one that is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
