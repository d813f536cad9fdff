"""How much memory the machine has, how much of it is free, and about how much a run takes. Needs no torch."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
SHARE = 0.5  # of the machine's memory that loaded models may keep; runs, pages and other programs need the rest
SMALLEST_BUDGET = 512 << 20

# What a run takes for each picture beyond the weights, at its peak: activations that the backward passes of a frozen
# generator and its discriminator need. It grows with the pixels and, for features that do not, with the weights.
# StyleGAN2 is fitted to 470 MB a picture at 256 px and 2.1 GB at 1024 px, in float32 on the CPU. Other families were
# not measured and get a cautious figure; `python -m experiments.memory_benchmark` measures any model.
BYTES_PER_PIXEL: Mapping[str, float] = {"stylegan2": 1650.0}
USUAL_BYTES_PER_PIXEL = 9500.0
PER_WEIGHT_BYTE = 1.5
PROGRAM_BYTES = 400 << 20  # of torch, open_clip and a small prompt model


def total_memory() -> int | None:
    """Bytes of memory that this process may use: the machine's, or a container's limit; None where nothing tells."""
    values = [value for value in (_machine()[0], _limit(_CGROUP / "memory.max")) if value]
    return min(values, default=None)


def free_memory() -> int | None:
    """Bytes that can be taken without harm to others; None where nothing tells."""
    free, limit = _machine()[1], _limit(_CGROUP / "memory.max")
    if limit is not None:
        used = _limit(_CGROUP / "memory.current") or 0
        reclaimable = _statistic(_CGROUP / "memory.stat", "inactive_file")
        left = max(limit - used + reclaimable, 0)
        free = left if free is None else min(free, left)
    return free


def default_budget() -> int:
    """Bytes that loaded models may keep, if nobody says otherwise: half of the memory."""
    return max(int((total_memory() or 0) * SHARE), SMALLEST_BUDGET)


def run_bytes(family: str, resolution: int, weights: int, n: int) -> int:
    """About how many bytes a run of n pictures needs in all, the model's weights included."""
    pixels = resolution**2 * BYTES_PER_PIXEL.get(family, USUAL_BYTES_PER_PIXEL)
    return PROGRAM_BYTES + weights + int(n * (pixels + PER_WEIGHT_BYTE * weights))


def _machine() -> tuple[int | None, int | None]:
    """Total and free bytes of the machine."""
    if sys.platform == "win32":
        return _windows()
    with suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
        total, free = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable") if name in lines)
        return total, free
    with suppress(OSError, ValueError, AttributeError):
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_PHYS_PAGES"), None
    return None, None


def _limit(path: Path) -> int | None:
    """A number of a control group; None where there is none, or no limit."""
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return None


def _statistic(path: Path, name: str) -> int:
    with suppress(OSError, ValueError, IndexError):
        return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.split()[0] == name)
    return 0


def _windows() -> tuple[int | None, int | None]:
    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong)
            for name in ("total", "free", "total_page", "free_page", "total_virtual", "free_virtual", "extended")
        ]

    status = Status(length=ctypes.sizeof(Status))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009  (there is none elsewhere, which mypy knows)
    if not kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None, None
    return int(status.total), int(status.free)
