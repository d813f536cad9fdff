"""Waiting for a condition instead of sleeping."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gmi_ui.runs.work import Phase, Work


def awaited(answer: Coroutine[Any, Any, Any]) -> Any:
    """On a thread of its own: a browser test of the same session leaves a loop running on this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, answer).result()


def wait_until(condition: Callable[[], object], timeout: float = 60.0) -> None:
    """Returns as soon as the condition holds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.002)


def wait_for_phase(run: Work, *phases: Phase) -> None:
    """Returns as soon as the run is in one of the phases."""
    wait_until(lambda: run.moment.phase in phases)


def wait_for_end(run: Work) -> None:
    wait_until(lambda: run.moment.phase.is_over)
