"""How much memory the machine has, and how much of it is free. Needs no torch."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def total_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or a container's limit."""
    return min(_machine()[0], _number(_CGROUP / "memory.max") or _machine()[0])


def free_memory() -> int:
    """Bytes that can be taken without harm to others."""
    free, limit = _machine()[1], _number(_CGROUP / "memory.max")
    if limit is None:
        return free
    used = _number(_CGROUP / "memory.current") or 0
    reclaimable = _statistic(_CGROUP / "memory.stat", "inactive_file")
    return min(free, max(limit - used + reclaimable, 0))


def _machine() -> tuple[int, int]:
    """Total and available bytes of the machine."""
    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)


def _number(path: Path) -> int | None:
    """A number of a control group; None where there is none, or no limit."""
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return None


def _statistic(path: Path, name: str) -> int:
    with suppress(OSError, ValueError, IndexError, StopIteration):
        return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.split()[0] == name)
    return 0
