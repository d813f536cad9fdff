"""Where converted models are kept: a folder of this machine, one file for each content, named by its sha256."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

from engine.system.files import Watch, sha256_of, write_atomic

_SEEN_FILE = "seen.json"
_SEEN_LIMIT = 2000
_SETTLED_NS = 2_000_000_000  # a file changed this recently may change again without a newer time


def converted_path(folder: Path, sha256: str, version: int) -> Path:
    """The place of the converted model whose original has this sha256."""
    return folder / "converted" / f"{sha256}.v{version}.safetensors"


def known_sha256(path: Path, folder: Path, watch: Watch | None = None) -> str:
    """The file's sha256, remembered in `folder` as long as size, time and inode of the file stay the same.

    Raises OSError if the file cannot be read.
    """
    place = str(path.resolve())
    state = path.stat()
    mark = [state.st_size, state.st_mtime_ns, state.st_ino]
    seen = _read_seen(folder)
    entry = seen.get(place)
    if isinstance(entry, list) and entry[:3] == mark and len(entry) == 4 and isinstance(entry[3], str):
        return entry[3]
    sha256 = sha256_of(path, watch)
    if time.time_ns() - state.st_mtime_ns > _SETTLED_NS:
        seen.pop(place, None)
        seen[place] = [*mark, sha256]
        _write_seen(folder, seen)
    return sha256


def _read_seen(folder: Path) -> dict[str, object]:
    try:
        values = json.loads((folder / _SEEN_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}  # it is only a memory: hashing again makes it anew
    return values if isinstance(values, dict) else {}


def _write_seen(folder: Path, seen: dict[str, object]) -> None:
    kept = dict(list(seen.items())[-_SEEN_LIMIT:])
    with suppress(OSError):  # without it the file is hashed again next time
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / _SEEN_FILE, json.dumps(kept).encode())
