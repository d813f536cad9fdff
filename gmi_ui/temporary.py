"""The folder for what the studio keeps only while it runs: pictures to download, and what was uploaded.

Its name tells which process made it, so that what a killed studio left goes when the next one starts.
"""

import atexit
import os
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import psutil

from engine.models.downloads import remove_stale_parts
from engine.system.files import remove_leftovers
from engine.system.folders import cache_folder, models_folder

PREFIX = "gmi-studio-"
MOST_SAVED = 300_000_000  # bytes of pictures to download
MOST_UPLOADED = 6_000_000_000  # bytes; models are taken out of it as soon as they are opened
IN_USE = 120.0  # seconds for which nothing goes: a download may just have begun
UPLOADS = "uploads"

_lock = threading.Lock()


@lru_cache(maxsize=1)
def studio_folder() -> Path:
    """This process's folder. It goes when the program ends; those of programs that ended otherwise go now."""
    place = Path(tempfile.gettempdir())
    remove_abandoned(place)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{_mark(psutil.Process())}-", dir=place)).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def new_folder() -> Path:
    """A folder in it whose name cannot be guessed."""
    studio_folder().mkdir(mode=0o700, parents=True, exist_ok=True)  # a system may have swept it
    return Path(tempfile.mkdtemp(dir=studio_folder()))


def upload_folder() -> Path:
    """Where gradio keeps what is uploaded."""
    return studio_folder() / UPLOADS


def remove_halves_of_files() -> None:
    """Deletes what programs that were killed left of files in the cache and among the models.

    Downloads that can be taken up, and were begun lately, stay.
    """
    with suppress(OSError):
        for folder in (cache_folder(), models_folder()):
            remove_leftovers(folder, below=True)
        remove_stale_parts(models_folder())


def _mark(process: psutil.Process) -> str:
    """A process's number is given anew; with the time of its start it is its own."""
    return f"{process.pid}-{int(process.create_time())}"


def remove_abandoned(place: Path) -> None:
    """Deletes the folders of studios that run no more."""
    for folder in place.glob(f"{PREFIX}*-*-*"):
        numbers = folder.name.removeprefix(PREFIX).split("-")[:2]
        if all(number.isdecimal() for number in numbers) and not _runs(int(numbers[0]), "-".join(numbers)):
            with suppress(OSError):
                if not folder.is_symlink() and (os.name == "nt" or folder.stat().st_uid == os.getuid()):
                    shutil.rmtree(folder, ignore_errors=True)


def _runs(pid: int, mark: str) -> bool:
    try:
        return _mark(psutil.Process(pid)) == mark
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, OverflowError, ValueError):
        return True  # nobody can tell


def trim(folder: Path, most: int, *, older_than: float = IN_USE) -> None:
    """Deletes the oldest files until the others take at most `most` bytes; none that was just made."""
    with _lock:
        files = []
        for path in folder.rglob("*"):
            with suppress(OSError):
                if path.is_file() and not path.is_symlink():
                    state = path.stat()
                    files.append((state.st_mtime, state.st_size, path))
        total = sum(size for _, size, _ in files)
        for changed, size, path in sorted(files):
            if total <= most or time.time() - changed < older_than:
                break
            with suppress(OSError):
                path.unlink()
                total -= size
            with suppress(OSError):  # where others are still in it
                if path.parent != folder:
                    path.parent.rmdir()


def remove_halves(folder: Path) -> None:
    """Deletes what uploads that failed have left; to be called while none goes on. Whole ones lie in folders."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_file():
                with suppress(OSError):
                    path.unlink()
