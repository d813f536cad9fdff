"""Fetching a model that is a folder of parts: every file asked for first, then each that is missing, compared with what
the server says that it is. Needs no torch.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from engine.errors import ModelError
from engine.models.downloads import (
    Cancelled,
    DownloadError,
    Patience,
    Progress,
    Remote,
    arrived,
    check_room,
    download,
    look_up,
)
from engine.models.public import PublicFile, PublicModel
from engine.system.files import sha256_of, write_atomic

OnProgress = Callable[[PublicFile, Progress], None]


def fetch_folder(
    model: PublicModel,
    place: Path,
    on_progress: OnProgress | None,
    cancel: threading.Event | None,
    patience: Patience | None,
) -> dict[str, str]:
    """The files of a folder of parts, each as the server says that it is; their sha256 by name.

    What is here and is so already stays. Raises DownloadError, before anything is fetched where a file is missing there
    or the disk has no room for all.
    """
    answers = [_look_up(file, cancel, patience) for file in model.files]
    files = [answer for answer in answers if answer is not None]
    here = {file.name: _hash_here(place / file.name, remote, cancel) for file, remote in files}
    total = sum(remote.size or int(1e6 * file.megabytes) for file, remote in files)
    done = sum((place / file.name).stat().st_size for file, _ in files if here[file.name])
    report = on_progress or (lambda file, progress: None)
    begun = sum(arrived(place / file.name, file.url) for file, _ in files if not here[file.name])
    report(files[0][0], Progress(done + begun, total, 0.0))
    check_room(place, total - done - begun, model.name)
    hashes = {}
    for file, remote in files:
        if not (found := here[file.name]):
            found = _fetch_part(
                file,
                remote,
                place / file.name,
                partial(_report, report, file, done, total),
                cancel,
                patience,
            )
            done += (place / file.name).stat().st_size
        hashes[file.name] = found
    if done != total:  # of files whose size the server did not say
        report(files[-1][0], Progress(done, done, 0.0))
    return hashes


def _report(report: OnProgress, file: PublicFile, before: int, total: int, progress: Progress) -> None:
    """The progress of the whole folder, in which so many bytes were there before a file."""
    done = before + progress.done
    report(file, Progress(done, max(total, done), progress.speed))


def _look_up(
    file: PublicFile, cancel: threading.Event | None, patience: Patience | None
) -> tuple[PublicFile, Remote] | None:
    """The file that is to be fetched, or what stands in for it, and what the server says of it; None for no such file.

    Raises DownloadError where it is needed and not there, or is too large to be the one meant.
    """
    if file.text:
        data = file.text.encode()
        return file, Remote(len(data), hashlib.sha256(data).hexdigest())
    remote = look_up(file.url, cancel=cancel, patience=patience)
    if remote is not None:
        if (remote.size or 0) > file.max_bytes:
            raise DownloadError(
                f"{file.name} has {(remote.size or 0) / 1e6:,.1f} MB there, expected {file.max_bytes / 1e6:,.1f} MB at "
                "most: it is not the one meant."
            )
        return file, remote
    if file.instead is not None:
        return _look_up(file.instead, cancel, patience)
    if file.is_optional:
        return None
    raise DownloadError(
        f"{file.name} is not there any more: {file.url}. Nothing was fetched. The model may have moved: look for it on "
        "its page, fetch its folder there, and open that."
    )


def _hash_here(target: Path, remote: Remote, cancel: threading.Event | None) -> str:
    """The sha256 of a file that is here and is what the server says; empty for every other."""
    if cancel is not None and cancel.is_set():
        raise Cancelled("The download was stopped; what has arrived is kept for the next try.")
    with suppress(OSError):
        if target.stat().st_size == remote.size or remote.size is None:
            found = sha256_of(target)
            if (remote.sha256 or remote.git_sha1) and not remote.differs(target, found):
                return found
    return ""


def _fetch_part(
    file: PublicFile,
    remote: Remote,
    target: Path,
    report: Callable[[Progress], None],
    cancel: threading.Event | None,
    patience: Patience | None,
) -> str:
    if not file.text:
        how = {"remote": remote, "on_progress": report, "cancel": cancel, "patience": patience}
        return download(file.url, target, max_bytes=file.max_bytes, **how)  # type: ignore[arg-type]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, file.text.encode())
    except OSError as error:
        raise ModelError(f"{target} cannot be written: {error.strerror or error}.") from error
    return remote.sha256
