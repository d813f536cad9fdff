"""For all tests: torch's threads as the programs set them, folders of their own, and in continuous integration only
named skips.
"""

import errno
import os
from collections.abc import Generator, Iterator

import pytest
from safetensors import SafetensorError

import engine  # noqa: F401  (before torch: it settles how waiting threads wait)
from engine.system.runtime import set_threads
from tests.goldens import ReferenceAbsent


def pytest_configure() -> None:
    set_threads()


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the cache or the pictures of who runs it, nor does a program that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GMI_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("GMI_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        yield


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file can be brought to the disk, by us or by safetensors."""

    def refuse(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse_tensors(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr("engine.checkpoints.converted.save_file", refuse_tensors)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that cannot run here is skipped for a user, but with CI=true its absence is a failure.

    Not so the parity tests of the optional reference files: a plain clone, in CI too, has none.
    """
    report = yield
    is_optional = call.excinfo is not None and call.excinfo.errisinstance(ReferenceAbsent)
    if os.environ.get("CI") == "true" and report.skipped and not is_optional and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but with CI=true every test must run: {report.longrepr}"
    return report
