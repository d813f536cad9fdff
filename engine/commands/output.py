"""Where a command writes: tried out before the work begins, and never mixed with what another run left there."""

import re
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from engine.settings import SettingsError
from engine.system import files

REPORT = "run.json"
PLOT = "plot.png"
_PICTURE = re.compile(r"\d{2,}\.png")
_PARTS = re.compile(r"baseline|x\d+-y\d+")  # folders in that of a run: the side beside ours, the cells of a plot


def run_folder(wanted: Path, *, overwrite: bool) -> Path:
    """The folder for a run, made and tried out: the wanted one, or, where that holds another run, the next free name.

    Raises SettingsError for one that is a file, SaveError for one that cannot be written.
    """
    folder, number = wanted, 2
    while not overwrite and _run_in(folder):
        folder, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"out: {folder} is a file; give the name of a folder.")
    files.make_folder(folder)
    files.remove_leftovers(folder)
    _try_out(folder)
    if folder != wanted:
        print(
            f"note: {wanted} holds another run, this one goes to {folder} (--overwrite replaces it).", file=sys.stderr
        )
    return folder


def check_file(path: Path) -> None:
    """Makes the folder of a file to write and tries it out. Raises SettingsError for a folder, and SaveError."""
    if path.is_dir():
        raise SettingsError(f"out: {path} is a folder; give the name of a file in it.")
    files.make_folder(path.parent)
    _try_out(path.parent)


def clear_run(folder: Path) -> None:
    """Deletes what an earlier run wrote into the folder, and nothing else. Raises SaveError."""
    for path in _run_in(folder):
        files.delete_file(path)
    for part in _parts_of(folder):
        with suppress(OSError):  # where something else is in it, it stays
            part.rmdir()


def _run_in(folder: Path) -> list[Path]:
    """The files of a run in a folder: its pictures, those of its sides, its report; of a plot also its cells'."""
    if not folder.is_dir():
        return []
    places = [folder, *_parts_of(folder)]
    return [
        path
        for place in places
        for path in place.iterdir()
        if _PICTURE.fullmatch(path.name) or path.name in (REPORT, PLOT)
    ]


def _parts_of(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _PARTS.fullmatch(path.name) and path.is_dir()]


def _try_out(folder: Path) -> None:
    """Raises SaveError where no file can be made in the folder."""
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".try-"):
            pass
    except OSError as error:
        raise files.save_error(folder, error) from error
