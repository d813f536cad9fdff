"""Threads and devices."""

import ctypes
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.settings import SettingsError
from engine.system.runtime import available_cores, check_device, keep_freed_memory, set_threads


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", 8),
        ("150000 100000", 1),
        ("400000 100000", 4),
        ("10000 100000", 1),
        ("garbage", 8),
        (None, 8),
    ],
)
def test_cores_are_the_schedulers_cut_by_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    if limit is not None:
        (tmp_path / "cpu.max").write_text(limit)
    assert available_cores(tmp_path / "cpu.max") == cores


def test_threads_by_argument_environment_and_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert set_threads() == torch.get_num_threads() == 2
    assert set_threads(1) == torch.get_num_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "all")
    assert set_threads() == torch.get_num_threads() == max(1, available_cores() - 1)
    monkeypatch.setattr("engine.system.runtime.available_cores", lambda: 1)
    assert set_threads() == 1
    with pytest.raises(SettingsError, match="threads: must be at least 1, got 0"):
        set_threads(0)


def test_devices() -> None:
    assert check_device("cpu") == torch.device("cpu")
    with pytest.raises(SettingsError, match="device: 'toaster' cannot be used here"):
        check_device("toaster")


def test_auto_is_the_gpu_where_there_is_one() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert check_device("auto").type == expected


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a switch of glibc")
def test_glibc_is_told_to_keep_freed_memory() -> None:
    assert keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()
