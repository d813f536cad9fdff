"""A command that `torchrun` has started in several processes, which share its work. Needs no torch in one."""

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from engine.settings import SettingsError

Found = TypeVar("Found")


def count() -> int:
    """How many processes the starter of this one says that there are."""
    with suppress(ValueError):
        return max(1, int(os.environ.get("WORLD_SIZE", "1")))
    return 1


def check_alone(options: argparse.Namespace, command: Callable[[argparse.Namespace], object]) -> None:
    """Raises SettingsError where several processes were started for another command than this one."""
    if count() > 1 and options.command is not command:
        raise SettingsError("processes: only generate shares its work among several; start one.")


@contextmanager
def together() -> Iterator[None]:
    """Meets the others, for as long as this lasts; only the first of them says anything."""
    if count() == 1:
        yield
        return
    from engine.system import processes

    processes.join()
    if processes.number() > 0:
        sys.stdout = sys.stderr = io.StringIO()
    try:
        yield
    finally:
        processes.leave()


def agreed(work: Callable[[], Found]) -> Found:
    """What the first process finds, or the error that it raises, for all of them."""
    if count() == 1:
        return work()
    from engine.system import processes

    return processes.agreed(work)
