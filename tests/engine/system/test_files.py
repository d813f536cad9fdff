"""Replacing files, also where the old one is mapped into memory, which Windows does not overwrite."""

import os
from pathlib import Path

import pytest

from engine.errors import SaveError
from engine.system.files import remove_leftovers, replace, save_file, write_atomic


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """The files that are mapped: they can be renamed, but neither overwritten nor deleted."""
    mapped: set[Path] = set()
    original, rename, unlink = os.replace, os.rename, Path.unlink

    def refusing(source: Path, target: Path) -> None:
        if Path(target) in mapped:
            raise PermissionError(13, "Access is denied", str(target))
        original(source, target)

    def renaming(source: Path, target: Path) -> None:
        rename(source, target)
        if Path(source) in mapped:
            mapped.remove(Path(source))
            mapped.add(Path(target))

    def deleting(path: Path, missing_ok: bool = False) -> None:
        if path in mapped:
            raise PermissionError(13, "Access is denied", str(path))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(os, "replace", refusing)
    monkeypatch.setattr(os, "rename", renaming)
    monkeypatch.setattr(Path, "unlink", deleting)
    return mapped


def test_a_mapped_file_steps_aside_and_goes_later(tmp_path: Path, windows: set[Path]) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"first")
    windows.add(path)
    write_atomic(path, b"second")
    assert path.read_bytes() == b"second"
    (aside,) = windows
    assert aside.read_bytes() == b"first" and aside.parent == tmp_path
    windows.clear()
    windows.add(path)
    write_atomic(path, b"third")
    assert path.read_bytes() == b"third" and not aside.exists()


def test_a_failed_replacement_leaves_both_files(tmp_path: Path, windows: set[Path]) -> None:
    source, target = tmp_path / "new", tmp_path / "old"
    target.write_bytes(b"old")
    windows.add(target)
    with pytest.raises(FileNotFoundError):
        replace(source, target)
    assert target.read_bytes() == b"old" and windows == {target}


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied", str(target))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        write_atomic(tmp_path / "x", b"1")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_file_and_leaves_no_half(tmp_path: Path, full_disk: None) -> None:
    with pytest.raises(OSError) as told:
        write_atomic(tmp_path / "x", b"1")
    assert told.value.filename == str(tmp_path / "x") and not list(tmp_path.iterdir())
    with pytest.raises(SaveError, match="no space is left on the disk. Free some"):
        save_file(tmp_path / "x", b"1")


def test_what_a_killed_program_left_goes_once_nobody_writes_it(tmp_path: Path) -> None:
    """Of our own halves alone, and below a folder only where asked."""
    below = tmp_path / "below"
    below.mkdir()
    halves = [folder / f".{name}.part" for folder in (tmp_path, below) for name in ("00.png.ab_1cd2z", "x.ABCD1234")]
    kept = [tmp_path / name for name in (".model.pkl.0123456789ab.part", "directions-w.part", ".x.ab_1cd2z", "my.part")]
    fresh = tmp_path / ".run.json.abcd1234.part"
    for path in (*halves, *kept, fresh):
        path.write_bytes(b"half")
        os.utime(path, (0, 0))
    os.utime(fresh)
    remove_leftovers(tmp_path)
    assert [path.exists() for path in halves] == [False, True, True, True]
    remove_leftovers(tmp_path, below=True)
    assert [path.exists() for path in halves] == [False, True, False, True]
    assert all(path.exists() for path in (*kept, fresh))
    remove_leftovers(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127, "🎩" * 63, "n" * 250 + ".png"])
def test_a_name_as_long_as_they_may_be_is_written(name: str, tmp_path: Path) -> None:
    save_file(tmp_path / name, b"x")
    assert [path.name for path in tmp_path.iterdir()] == [name]
