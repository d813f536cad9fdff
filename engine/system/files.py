"""Whole-file writing and hashing. A file is either the old one or the complete new one, never half of it."""

import errno
import glob
import hashlib
import io
import os
import re
import secrets
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import SaveError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# Told what is being done and the share of it that is done, None where that is unknown; may raise to end it.
Watch = Callable[[str, float | None], None]
ABANDONED = 600.0  # seconds without a byte, after which a file that is being written was given up
_CHUNK = 1 << 23
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.part")  # as `replacing` calls them
_ASIDE = ".old"
_LOCK_EVERY = 0.05  # seconds
_LONGEST = 100  # characters of a file's name in those of temporary files beside it: 255 bytes are a name's limit
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say: equal pictures give an equal file


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; at the end it becomes `path`, after a failure it is gone.

    An OSError names the file.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{beginning(path.name)}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # as of a write that found no room
            error.filename = str(path)
        raise


def remove_leftovers(folder: Path, *, below: bool = False) -> None:
    """Deletes what `replacing` left in a folder where a program was killed, as far as nobody writes to it any more.

    below: also in the folders in it.
    """
    for path in folder.rglob("*.part") if below else folder.glob("*.part"):
        if _TEMPORARY.fullmatch(path.name):
            delete_if_older(path, ABANDONED)


def delete_if_older(path: Path, seconds: float) -> None:
    """Deletes a file that was not written to for so long; what cannot be deleted stays."""
    with suppress(OSError):
        if time.time() - path.lstat().st_mtime > seconds:
            path.unlink()


def beginning(name: str) -> str:
    """As much of a file's name as leaves room for more beside it, whatever its letters take."""
    return os.fsencode(name)[:_LONGEST].decode("utf-8", "ignore")


def replace(source: Path, target: Path) -> None:
    """Renames `source` to `target`, whatever is there. Raises OSError, and leaves both as they are, if that fails.

    Windows does not overwrite a file that is mapped into memory, such as the weights of a loaded model, but it lets
    one be renamed. So the old file steps aside, and goes once nobody has it mapped: now, or at the next such time.
    """
    try:
        os.replace(source, target)
    except PermissionError:
        if not target.is_file():
            raise
        name = beginning(target.name)
        for left in target.parent.glob(f".{glob.escape(name)}.*{_ASIDE}"):
            with suppress(OSError):
                left.unlink()
        aside = target.with_name(f".{name}.{secrets.token_hex(4)}{_ASIDE}")
        os.rename(target, aside)
        try:
            os.replace(source, target)
        except OSError:
            os.rename(aside, target)
            raise
        with suppress(OSError):
            aside.unlink()


@contextmanager
def locked(path: Path, wait: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """Holds the lock that the file stands for, against threads and other programs; True where it was free at once.

    wait: called while another has it; may raise to give up. The system frees it when a program ends, however it does;
    the file goes with the last who held it. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    is_free, is_held, file = True, False, path.open("a+b")
    try:
        while not (_try_lock(file.fileno()) and _is_still(path, file.fileno())):
            is_free = False
            wait()
            time.sleep(_LOCK_EVERY)
            file.close()  # who held it may have taken the file away
            file = path.open("a+b")
        is_held = True
        yield is_free
    finally:
        if is_held and sys.platform != "win32":  # where a file that is open stays
            path.unlink(missing_ok=True)
        file.close()


def _is_still(path: Path, handle: int) -> bool:
    """Whether the open file is the one of that name: a lock on one that was deleted keeps nobody out."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _try_lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            os.lseek(handle, 0, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            return True  # a file system without locks: as good as alone
        raise
    return True


def write_atomic(path: Path, data: bytes) -> None:
    """Writes `data` beside `path`, then renames it. Raises OSError and leaves no trace if that fails."""
    with replacing(path) as temporary:
        handle = os.open(temporary, os.O_WRONLY | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "wb") as file:
            file.write(data)


def sha256_of(path: Path, watch: Watch | None = None) -> str:
    """The file's sha256 in hex. Raises OSError if it cannot be read, and what `watch` raises."""
    with path.open("rb") as file:
        if watch is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        found, done, size = hashlib.sha256(), 0, os.fstat(file.fileno()).st_size
        while data := file.read(_CHUNK):
            found.update(data)
            done += len(data)
            watch(f"Checking {path.name}", min(done / size, 1.0) if size else None)
        return found.hexdigest()


def save_zip(path: Path, files: Mapping[str, bytes], *, made: float | None = None) -> None:
    """Writes files, keyed by their path inside, as one zip atomically; equal files give equal bytes.

    made: the time that they are dated with, in seconds since 1970; as early as a zip can say where none is given.

    Stored, not deflated: PNGs are compressed already. Raises SaveError.
    """
    date = _ZIP_TIME if made is None else max(time.localtime(made)[:6], _ZIP_TIME)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, date), data)
    save_file(path, buffer.getvalue())


def save_file(path: Path, data: bytes) -> None:
    """Writes a file atomically, with the folders above it. Raises SaveError."""
    make_folder(path.parent)
    try:
        write_atomic(path, data)
    except OSError as error:
        raise save_error(path, error) from error


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, if they are not there. Raises SaveError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise save_error(path, error) from error


def delete_file(path: Path) -> None:
    """Deletes a file that may be gone already. Raises SaveError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SaveError(f"{path} could not be deleted: {error.strerror or error}. Choose another folder.") from error


def is_out_of_space(error: OSError) -> bool:
    """Whether the disk is full, or the user's share of it."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def save_error(path: Path, error: OSError) -> SaveError:
    """What to tell of a file or folder that could not be written."""
    if is_out_of_space(error):
        advice = "no space is left on the disk. Free some, or choose another folder, then save again."
    else:
        advice = f"{error.strerror or error}. Choose another folder and save again."
    return SaveError(f"{path} could not be saved: {advice}")
