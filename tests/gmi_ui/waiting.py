"""Waiting for a condition instead of sleeping."""

import time
from collections.abc import Callable

from gmi_ui.runs.work import Phase, Work


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
