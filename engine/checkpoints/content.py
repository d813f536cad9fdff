"""From a file to its inert content: the container is recognised by the bytes, never by the name."""

from __future__ import annotations

import json
import mmap
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from engine.checkpoints.checkpoint import SPARE_BYTES
from engine.checkpoints.pickle_machine import Ledger, check_wishes
from engine.checkpoints.refusal import Refused, printable
from engine.checkpoints.torch_file import is_torch_legacy, read_pickle, read_torch_legacy, read_torch_zip
from engine.errors import ModelError
from engine.system.files import Watch

MAX_FILE = 64 << 30
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
    (0, b"GGUF", "a GGUF file, which no reader here knows"),
    (0, b"version https://git-lfs", "a Git LFS pointer: fetch the file itself with `git lfs pull`"),
)


@dataclass(frozen=True)
class Content:
    """What a file holds: its container, a value of plain Python and `StoredArray`s or tensors, and its own remarks."""

    container: str
    value: Any
    bytes: int
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_content(path: Path, watch: Watch | None = None) -> Content:
    """Reads a file as what its bytes say. Raises Refused naming the file, ModelError if it cannot be read at all.

    Tensors stay in the file, mapped privately into memory, until they are used. watch: told between two tensors.
    """
    data = _mapped(path)
    arrived = None if watch is None else lambda done: watch(f"Reading {path.name}", min(done / len(data), 1.0))
    try:
        container, read = _recognise(data, path, arrived)
        return read(container, data)
    except Refused as error:
        raise error.naming(path.name) from error
    except (MemoryError, RecursionError) as error:
        raise Refused("it takes more memory than it should; it is damaged.", file=path.name) from error


def _mapped(path: Path) -> memoryview:
    """The bytes of a file, mapped: changes to them stay private and are never made."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise ModelError(f"{path} is no ordinary file.")
            if state.st_size == 0:
                raise Refused("it is empty.", file=path.name)
            if state.st_size > MAX_FILE:
                raise Refused(f"it is larger than {MAX_FILE >> 30} GB.", file=path.name)
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    except FileNotFoundError as error:
        raise ModelError(f"There is no file {path}.") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error


def _open_without_waiting(path: str, flags: int) -> int:
    """A named pipe without a writer would otherwise be waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


_Read = Callable[[str, memoryview], Content]
_OnArrival = Callable[[int], None]


def _recognise(data: memoryview, path: Path, on_arrival: _OnArrival | None) -> tuple[str, _Read]:
    """The container and what reads it. Raises Refused for a file that is none we know."""
    head = bytes(data[:512])
    if head[:4] == b"PK\x03\x04":
        return "torch zip archive", _torch(read_torch_zip, on_arrival)
    if is_torch_legacy(data):
        return "torch file without archive", _torch(read_torch_legacy, on_arrival)
    if _is_safetensors(head, len(data)):
        header = int.from_bytes(head[:8], "little")
        return "safetensors", lambda container, _: _safetensors(container, path, header)
    for place, magic, what in _STRANGERS:
        if head[place : place + len(magic)] == magic:
            raise Refused(f"it is {what}.")
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
    def content(container: str, data: memoryview) -> Content:
        ledger = Ledger(copyable=len(data) + (1 << 20), arrivable=2 * len(data) + SPARE_BYTES, on_arrival=on_arrival)
        try:
            return Content(container, read(data, ledger), len(data))
        except Refused:
            check_wishes(ledger)  # what a file asks for says more than that it is also malformed
            raise

    return content


def _read_probable_pickle(data: memoryview, ledger: Ledger) -> Any:
    """Pickles of protocol 2 and later begin with byte 0x80; older ones, and anything else, cannot be told apart."""
    try:
        return read_pickle(data, ledger)
    except Refused as error:
        if error.wants or data[0] == 0x80:
            raise
        raise Refused(
            "it is no model file that is known here (safetensors, torch, pickle). "
            + f"Read as a pickle, {error.reason}"
        ) from error


def _safetensors(container: str, path: Path, header: int) -> Content:
    if header > MAX_HEADER:
        raise Refused(f"its header has {header:,} bytes, expected {MAX_HEADER:,} at most.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dictionary)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        reason = printable(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise Refused(f"it is damaged or no safetensors file after all: {reason}.") from error
    return Content(container, tensors, path.stat().st_size, metadata)


def _json(container: str, data: memoryview) -> Content:
    return Content(container, parse_json(data), len(data))


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
