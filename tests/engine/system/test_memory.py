"""The machine's memory, and a container's limit of it."""

from pathlib import Path

import pytest

from engine.system import memory


def test_the_memory_of_this_machine() -> None:
    total, free = memory.total_memory(), memory.free_memory()
    assert total > 1 << 28
    assert 0 < free <= total


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_machine", lambda: (8 << 30, 6 << 30))
    assert (memory.total_memory(), memory.free_memory()) == (8 << 30, 6 << 30)
    (tmp_path / "memory.max").write_text("max\n")
    assert (memory.total_memory(), memory.free_memory()) == (8 << 30, 6 << 30)
    (tmp_path / "memory.max").write_text(f"{2 << 30}\n")
    (tmp_path / "memory.current").write_text(f"{1 << 30}\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 1000\n")
    assert memory.total_memory() == 2 << 30
    assert memory.free_memory() == (1 << 30) + 1000
    (tmp_path / "memory.stat").write_text("anon 5\n")
    assert memory.free_memory() == 1 << 30


def test_a_container_that_allows_more_than_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_machine", lambda: (8 << 30, 6 << 30))
    (tmp_path / "memory.max").write_text(f"{64 << 30}\n")
    assert (memory.total_memory(), memory.free_memory()) == (8 << 30, 6 << 30)
