"""The cache remembers a file's sha256 as long as nothing says that the file is another one."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from engine.checkpoints import cache
from engine.checkpoints.cache import converted_path, known_sha256
from engine.system.folders import cache_folder

LONG_AGO = 1_000_000_000


def write(path: Path, content: bytes, when: float = LONG_AGO) -> str:
    """Writes in place, at an old time unless told otherwise; returns the sha256."""
    path.write_bytes(content)
    os.utime(path, (when, when))
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.pkl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "here"


def test_an_unchanged_file_is_hashed_once(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = write(path, b"abc")
    assert known_sha256(path, folder) == expected
    monkeypatch.setattr(cache, "sha256_of", lambda *_: pytest.fail("hashed again"))
    assert known_sha256(path, folder) == expected
    (path.parent / "link").symlink_to(path)
    assert known_sha256(path.parent / "link", folder) == expected


def test_a_file_of_the_same_size_at_another_time_is_another(path: Path, folder: Path) -> None:
    for content, when in ((b"abc", LONG_AGO), (b"xyz", LONG_AGO + 1), (b"uvw", LONG_AGO - 1)):
        expected = write(path, content, when)
        assert known_sha256(path, folder) == expected


def test_a_file_of_the_same_time_and_another_size_is_another(path: Path, folder: Path) -> None:
    for content in (b"abc", b"abcd"):
        expected = write(path, content)
        assert known_sha256(path, folder) == expected


def test_a_file_put_in_its_place_is_another(path: Path, folder: Path) -> None:
    """Of the same size and time, as copying tools keep them."""
    first = write(path, b"abc")
    assert known_sha256(path, folder) == first
    second = write(path.with_name("other"), b"xyz")
    os.replace(path.with_name("other"), path)
    assert known_sha256(path, folder) == second


def test_a_file_that_was_just_written_is_hashed_again(path: Path, folder: Path) -> None:
    """Clocks of file systems are coarse: it may change again without a newer time."""
    now = time.time()
    for content in (b"abc", b"xyz"):
        expected = write(path, content, now)
        assert known_sha256(path, folder) == expected
    settled = write(path, b"uvw", now - 3)
    assert known_sha256(path, folder) == settled
    assert str(path.resolve()) in json.loads((folder / "seen.json").read_bytes())


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"[" * 100_000, b'{"%s": [1]}', b'{"%s": [3, %d, %d, 5]}'])
def test_a_damaged_memory_is_made_anew(path: Path, folder: Path, damage: bytes) -> None:
    expected = write(path, b"abc")
    known_sha256(path, folder)
    place, state = str(path.resolve()).encode(), path.stat()
    values = {1: (place,), 3: (place, state.st_mtime_ns, state.st_ino)}.get(damage.count(b"%"))
    (folder / "seen.json").write_bytes(damage % values if values else damage)
    assert known_sha256(path, folder) == expected
    assert json.loads((folder / "seen.json").read_bytes())[place.decode()][3] == expected


def test_the_newest_are_remembered(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more files than are kept those seen last; one that changed counts as new."""
    monkeypatch.setattr(cache, "_SEEN_LIMIT", 2)
    paths = [path.with_name(name) for name in "abc"]
    for one in paths[:2]:
        write(one, b"1")
        known_sha256(one, folder)
    write(paths[0], b"22")
    known_sha256(paths[0], folder)
    write(paths[2], b"1")
    known_sha256(paths[2], folder)
    kept = json.loads((folder / "seen.json").read_bytes())
    assert [Path(place).name for place in kept] == ["a", "c"]


def test_a_folder_that_cannot_be_written_costs_time_only(path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    expected = write(path, b"abc")
    assert known_sha256(path, tmp_path / "file") == expected
    with pytest.raises(OSError):
        known_sha256(tmp_path / "nothing", tmp_path)


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    assert converted_path(tmp_path, "ab12", 3) == tmp_path / "converted" / "ab12.v3.safetensors"
    monkeypatch.setenv("GMI_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().is_absolute() and cache_folder() != tmp_path / "mine"
