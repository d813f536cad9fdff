"""The most memory a process holds, counted anew from a chosen moment (Linux)."""

from __future__ import annotations

import re
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def count_peak_anew() -> int:
    """Forget the peak until now, such as that of loading a model; returns the bytes that are held now."""
    _CLEAR.write_text("5")  # sets VmHWM to the present size, see proc(5)
    return peak_memory()


def peak_memory() -> int:
    """The most bytes this process has held since its start or since `count_peak_anew`. Raises OSError off Linux."""
    found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
    if found is None:
        raise OSError(f"{_STATUS} tells no VmHWM; the peak of memory can only be measured on Linux")
    return 1024 * int(found[1])
