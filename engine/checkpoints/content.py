"""From a file to its inert content: the container is recognised by the bytes, never by the name.

A training may write over its checkpoint while it is read, and a mapped file that becomes shorter ends the process. So
only files that are this program's own are mapped. Others are taken first: into the memory, or, where they are large,
into a file of the cache that nobody else has.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_safetensors

from engine.checkpoints.checkpoint import MAX_TENSORS, SPARE_BYTES
from engine.checkpoints.pickle_machine import Ledger, check_wishes
from engine.checkpoints.refusal import Refused, printable
from engine.checkpoints.torch_file import is_torch_legacy, read_pickle, read_torch_legacy, read_torch_zip
from engine.errors import ModelError
from engine.system.files import Watch

MAX_FILE = 64 << 30  # bytes of one model, in however many files
IN_MEMORY = 128 << 20  # up to this many bytes a file is taken into the memory
SPARSE_FROM = 1 << 20  # bytes; smaller files may have as many holes as they like
_CHUNK = 8 << 20
_FORGOTTEN = 24 * 3600  # seconds after which what an interrupted reading left is deleted
MAX_HEADER = 16 << 20  # of a safetensors file; the largest known has 1 MB
MAX_JSON = 16 << 20  # an index of shards or a configuration

_STRANGERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x1f\x8b", "a gzip archive: unpack it first"),
    (0, b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (0, b"Rar!", "a rar archive: unpack it first"),
    (0, b"BZh", "a bzip2 archive: unpack it first"),
    (0, b"\xfd7zXZ", "an xz archive: unpack it first"),
    (257, b"ustar", "a tar archive; torch before 0.1.10 wrote such files, no public model is one: save it again"),
    (0, b"\x89HDF", "an HDF5 file, which no reader here knows"),
    (0, b"\x93NUMPY", "a numpy array, not a model"),
    (0, b"\x7fELF", "a program, not a model"),
    (0, b"MZ", "a program, not a model"),
    (0, b"\x89PNG", "a picture, not a model"),
    (0, b"\xff\xd8\xff", "a picture, not a model"),
    (0, b"GGUF", "a GGUF file of a language model, which no reader here knows"),
    (0, b"lmgg", "a GGML file of a language model, which no reader here knows"),
    (4, b"TFL3", "a TensorFlow Lite file, which no reader here knows"),
    (0, b"version https://git-lfs", "a Git LFS pointer: fetch the file itself with `git lfs pull`"),
)


@dataclass(frozen=True)
class Content:
    """What a file holds: its container, a value of plain Python and `StoredArray`s or tensors, and its own remarks."""

    container: str
    value: Any
    bytes: int
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_content(
    path: Path, watch: Watch | None = None, *, sha256: str | None = None, scratch: Path | None = None, own: bool = False
) -> Content:
    """Reads a file as what its bytes say. Raises Refused naming the file, ModelError if it cannot be read at all.

    watch: told while it is taken and between two tensors. sha256: what the file is known to be; another one means that
    it was written over meanwhile. scratch: the folder for what large files are taken into (the system's). own: a file
    of this program's own, whose tensors stay in it, mapped privately into memory, until they are used.
    """
    with ordinary_file(path) as (file, size):
        taken = _Taken(_mapped(file), path) if own else _take(file, size, path, watch, sha256, scratch)
    arrived = None if watch is None else lambda done: watch(f"Reading {path.name}", min(done / size, 1.0))
    try:
        container, read = _recognise(taken, arrived)
        return read(container, taken)
    except Refused as error:
        raise error.naming(path.name) from error
    except (MemoryError, RecursionError) as error:
        raise Refused("it takes more memory than it should; it is damaged.", file=path.name) from error
    finally:
        if not own and taken.place is not None:
            with suppress(OSError):  # where a mapped file cannot be deleted it goes another day
                taken.place.unlink()


def size_to_read(path: Path) -> int:
    """The bytes of an ordinary file that is no larger than a model may be. Raises Refused, ModelError for others."""
    with ordinary_file(path) as (_, size):
        return size


@contextmanager
def ordinary_file(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """An open file and its bytes. Raises Refused for one that is empty, too large or mostly holes, and ModelError for
    a device, a pipe, or what cannot be read."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise ModelError(f"{path} is no ordinary file.")
            if state.st_size == 0:
                raise Refused("it is empty.", file=path.name)
            if state.st_size > MAX_FILE:
                raise Refused(f"it is larger than {MAX_FILE >> 30} GB.", file=path.name)
            if state.st_size > SPARSE_FROM and _present(file.fileno(), state.st_size) < state.st_size // 2:
                raise Refused(
                    "most of it is holes, which hold nothing: is it still being downloaded? Wait, or fetch it again.",
                    file=path.name,
                )
            yield file, state.st_size
    except FileNotFoundError as error:
        raise ModelError(f"There is no file {path}.") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error


def _present(handle: int, size: int) -> int:
    """How many bytes of a file are on the disk and no holes, as far as the file system tells."""
    if not hasattr(os, "SEEK_DATA"):
        return size
    present = end = 0
    for _ in range(100_000):
        try:
            begin = os.lseek(handle, end, os.SEEK_DATA)
            end = os.lseek(handle, begin, os.SEEK_HOLE)
        except OSError:  # nothing but a hole follows
            break
        present += end - begin
        if end >= size:
            break
    os.lseek(handle, 0, os.SEEK_SET)
    return present


@dataclass(frozen=True, eq=False)
class _Taken:
    """A file's bytes, and where they lie if they lie in a file."""

    data: memoryview
    place: Path | None = None


def _mapped(file: BinaryIO) -> memoryview:
    """The bytes of a file, mapped: changes to them stay private and are never made."""
    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


def _take(
    file: BinaryIO, size: int, path: Path, watch: Watch | None, sha256: str | None, scratch: Path | None
) -> _Taken:
    """A copy of the file that nobody else writes to. Raises Refused where the file changes meanwhile."""
    copy = None if size <= IN_MEMORY else _scratch_file(scratch, size)
    try:
        if copy is None:
            taken = bytearray(size)
            _copy(
                file,
                size,
                path,
                watch,
                sha256,
                lambda begin, part: taken.__setitem__(slice(begin, begin + len(part)), part),
            )
            return _Taken(memoryview(taken))
        with copy.open("r+b") as out:
            _copy(file, size, path, watch, sha256, lambda begin, part: out.write(part))
            out.flush()
            return _Taken(_mapped(out), copy)
    except MemoryError as error:
        raise Refused("there is not enough memory, nor room on the disk, to read it.", file=path.name) from error
    except BaseException:
        if copy is not None:
            copy.unlink(missing_ok=True)
        raise


def _copy(
    file: BinaryIO,
    size: int,
    path: Path,
    watch: Watch | None,
    sha256: str | None,
    keep: Callable[[int, bytes], object],
) -> None:
    done, found = 0, hashlib.sha256()
    while done < size and (part := file.read(min(_CHUNK, size - done))):
        keep(done, part)
        found.update(part)
        done += len(part)
        if watch is not None:
            watch(f"Copying {path.name}", done / size)
    if done < size or (sha256 is not None and found.hexdigest() != sha256):
        raise Refused(
            "it was written to while it was read: is a training saving it? Wait until it is done, then open it again.",
            file=path.name,
        )


def _scratch_file(folder: Path | None, size: int) -> Path | None:
    """An empty file for so many bytes; None where there is no room for it. What was left there long ago is deleted."""
    place = (folder or Path(tempfile.gettempdir())) / "gmi-reading"
    try:
        place.mkdir(parents=True, exist_ok=True)
        for left in place.iterdir():
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _FORGOTTEN:
                    left.unlink()
        free = os.statvfs(place) if hasattr(os, "statvfs") else None
        if free is not None and free.f_bavail * free.f_frsize < 2 * size:  # what is converted needs as much
            return None
        handle, name = tempfile.mkstemp(dir=place)
        os.close(handle)
        return Path(name)
    except OSError:
        return None


def _open_without_waiting(path: str, flags: int) -> int:
    """A named pipe without a writer would otherwise be waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


_Read = Callable[[str, _Taken], Content]
_OnArrival = Callable[[int], None]


def _recognise(taken: _Taken, on_arrival: _OnArrival | None) -> tuple[str, _Read]:
    """The container and what reads it. Raises Refused for a file that is none we know."""
    data = taken.data
    head = bytes(data[:512])
    if head[:4] == b"PK\x03\x04":
        return "torch zip archive", _torch(read_torch_zip, on_arrival)
    if is_torch_legacy(data):
        return "torch file without archive", _torch(read_torch_legacy, on_arrival)
    if _is_safetensors(head, len(data)):
        return "safetensors", _safetensors
    for place, magic, what in _STRANGERS:
        if head[place : place + len(magic)] == magic:
            raise Refused(f"it is {what}.")
    if (
        len(head) > 3
        and head[0] == 8
        and 0 < head[1] < 32
        and head[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x2a", b"\x3a", b"\x42")
    ):
        raise Refused(
            "it is an ONNX file, which no reader here knows; save the model as weights (safetensors) instead."
        )
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise Refused("it is a web page, not a model; the download link has led to a page. Fetch the file itself.")
    if text[:1] == b"{":
        return "json", _json
    return "pickle", _torch(_read_probable_pickle, on_arrival)


def _is_safetensors(head: bytes, size: int) -> bool:
    """The length of the header, then a JSON object."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size


def is_safetensors(path: Path) -> bool:
    """Whether a file is safetensors by its first bytes. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return _is_safetensors(file.read(9), path.stat().st_size)


def _torch(read: Callable[[memoryview, Ledger], Any], on_arrival: _OnArrival | None) -> _Read:
    def content(container: str, taken: _Taken) -> Content:
        data = taken.data
        ledger = Ledger(copyable=len(data) + (1 << 20), arrivable=2 * len(data) + SPARE_BYTES, on_arrival=on_arrival)
        try:
            return Content(container, read(data, ledger), len(data))
        except Refused:
            check_wishes(ledger)  # what a file asks for says more than that it is also malformed
            raise

    return content


def _read_probable_pickle(data: memoryview, ledger: Ledger) -> Any:
    """Pickles of protocol 2 and later begin with byte 0x80. Older ones end with a point, and so do few other files.

    Of what is no pickle nothing is said that stands in it: it may be any file of this machine.
    """
    stranger = Refused("it is no model file that is known here (safetensors, torch, pickle).")
    is_certain = data[0] == 0x80
    if not is_certain and bytes(data[-1:]) != b".":
        raise stranger
    try:
        return read_pickle(data, ledger)
    except Refused as error:
        if error.wants or is_certain:
            raise
        raise Refused(f"{stranger.reason} Read as a pickle, {error.reason}") from error


def _safetensors(container: str, taken: _Taken) -> Content:
    header = int.from_bytes(taken.data[:8], "little")
    if header > MAX_HEADER:
        raise Refused(f"its header has {header:,} bytes, expected {MAX_HEADER:,} at most.")
    try:
        described = json.loads(bytes(taken.data[8 : 8 + header]))
        if len(described) > MAX_TENSORS:
            raise Refused(f"it holds {len(described):,} tensors, more than any network has.")
        if taken.place is None:
            tensors = load_safetensors(bytes(taken.data))
            metadata = described.get("__metadata__") or {}
        else:
            with safe_open(taken.place, framework="pt") as file:
                metadata = dict(file.metadata() or {})
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dictionary)
    except Refused:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        reason = printable(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise Refused(f"it is damaged or no safetensors file after all: {reason}.") from error
    return Content(container, tensors, len(taken.data), metadata)


def _json(container: str, taken: _Taken) -> Content:
    return Content(container, parse_json(taken.data), len(taken.data))


def parse_json(data: memoryview | bytes) -> dict[str, Any]:
    """A JSON object. Raises Refused for anything else."""
    if len(data) > MAX_JSON:
        raise Refused("it is far too long for a description of a model.")
    try:
        value = json.loads(bytes(data))
    except (ValueError, RecursionError) as error:
        raise Refused("it is no readable JSON, nor any model file that is known here.") from error
    if not isinstance(value, dict):
        raise Refused("it is JSON, but no description of a model.")
    return value
