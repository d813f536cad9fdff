"""The machine: how many threads torch gets, and whether a device is there."""

import ctypes
import math
import os
import sys
from pathlib import Path

import torch

from engine.settings import SettingsError

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def available_cores(cgroup_limit: Path = _CGROUP_LIMIT) -> int:
    """Cores this process may use: the scheduler's set, cut by a container's processor quota. At least 1.

    The machine's load is left out on purpose: the order of a sum depends on the number of threads, and the
    same command must give the same bits tomorrow.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = cgroup_limit.read_text().split()
    except (OSError, ValueError):
        return cores
    if quota == "max":
        return cores
    return max(1, min(cores, math.floor(int(quota) / int(period))))


def set_threads(count: int | None = None) -> int:
    """Sets torch's threads to `count`, else OMP_NUM_THREADS, else all cores but one. Returns the number.

    The last core is for the page, the browser and whatever else runs: a thread that has to share its core
    holds up all others. Measured on two cores with one other busy process, 8 avatars: 0.17 s a step with one
    thread, 1 to 4 s with two. Call once, before a model is loaded. Raises SettingsError for a count below 1.
    """
    if count is None:
        asked = os.environ.get("OMP_NUM_THREADS", "")
        count = int(asked) if asked.isdecimal() and int(asked) > 0 else max(1, available_cores() - 1)
    if count < 1:
        raise SettingsError(f"threads: must be at least 1, got {count}.")
    torch.set_num_threads(count)
    keep_freed_memory()
    return count


def threads_in_use() -> int:
    """How many threads torch computes with: another number sums in another order, and gives slightly other pictures."""
    return torch.get_num_threads()


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory for the next tensor; False where the C library has no such switch.

    By default every large tensor is given back to the system and faulted in again page by page: the generator's
    forward and backward pass of 8 avatars took 0.19 s instead of 0.13 s. The price is a steady peak.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return False
    mmap_max, trim_threshold = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
    return bool(set_option(mmap_max, 0) and set_option(trim_threshold, 2**31 - 1))


def check_device(name: str) -> torch.device:
    """The device of that name, tried out; "auto" is the GPU where there is one.

    Raises SettingsError if it is unknown or cannot be used here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" makes tensors too, but none that has numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"device: {name!r} cannot be used here ({reason}). Use cpu, or cuda with a GPU.") from error
    return device
