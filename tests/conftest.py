"""For all tests: torch's threads as the programs set them, and nothing skipped in continuous integration."""

import os
from collections.abc import Generator

import pytest

import engine  # noqa: F401  (before torch: it settles how waiting threads wait)
from engine.system.runtime import set_threads


def pytest_configure() -> None:
    set_threads()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that cannot run here is skipped for a user, but with CI=true its absence is a failure."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but with CI=true every test must run: {report.longrepr}"
    return report
