"""Public models on this machine: fetched into a folder each, checked, remembered, removed.

<models>/<name>/          the files as they came, and installed.json when all are there and open
<models>/hashes.json      sha256 of the first download of each address
<models>/licences.json    the models whose conditions were accepted
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.downloads import Patience, Progress, download
from engine.errors import ModelError
from engine.files import sha256_of, write_atomic
from engine.public_models import PUBLIC_MODELS, PublicFile, PublicModel

FOLDER_VARIABLE = "GMI_MODELS"
INSTALLED = "installed.json"
_NAME = "gmi-studio"

OnProgress = Callable[[PublicFile, Progress], None]
Check = Callable[[Path], str]  # opens what is in a folder and gives its family


class LicenceError(ModelError):
    """The conditions of a model's licence were not accepted yet."""


@dataclass(frozen=True)
class Installed:
    """A public model that is here: its row, its folder, bytes on the disk."""

    model: PublicModel
    folder: Path
    bytes: int


def models_folder() -> Path:
    """Where fetched models are kept: $GMI_MODELS, else the platform's place for a program's data."""
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen)
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / _NAME / "models"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / _NAME / "models"
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / _NAME / "models"


def installed(folder: Path | None = None) -> Iterator[Installed]:
    """The public models that are here, complete, in the order of the table."""
    for model in PUBLIC_MODELS:
        place = (folder or models_folder()) / model.name
        files = [place / file.name for file in model.files]
        if (place / INSTALLED).is_file() and all(file.is_file() for file in files):
            yield Installed(model, place, sum(file.stat().st_size for file in files))


def find_installed(name: str, folder: Path | None = None) -> Installed | None:
    """The public model of that name if it is here."""
    return next((entry for entry in installed(folder) if entry.model.name == name), None)


def accept_licence(model: PublicModel, folder: Path | None = None) -> None:
    """Remembers that the user accepts the model's conditions. Raises ModelError if that cannot be kept."""
    path = (folder or models_folder()) / "licences.json"
    _write(path, {**_read(path), model.name: f"{model.licence}, accepted {_now()}"})


def is_accepted(model: PublicModel, folder: Path | None = None) -> bool:
    """Whether the model has no conditions or they were accepted."""
    return not model.conditions or model.name in _read((folder or models_folder()) / "licences.json")


def fetch(
    model: PublicModel,
    check: Check,
    *,
    folder: Path | None = None,
    on_progress: OnProgress | None = None,
    cancel: threading.Event | None = None,
    patience: Patience | None = None,
) -> Installed:
    """Fetches the files that are missing, compares their hashes, opens them; returns where they are.

    check: opens a folder and gives its family, raising ModelError for what does not open. Raises LicenceError before
    anything is fetched, DownloadError, Cancelled, and ModelError for files that are not the model.
    """
    root = folder or models_folder()
    if not is_accepted(model, root):
        raise LicenceError(
            f"{model.name} may be used under conditions: {model.conditions} ({model.licence}). "
            f"If you accept them: `python -m engine models get {model.name} --accept-licence`."
        )
    place = root / model.name
    hashes = {}
    for file in model.files:
        hashes[file.name] = _fetch_file(file, place, root / "hashes.json", on_progress, cancel, patience)
    family = check(place)
    if family != model.family:
        raise ModelError(
            f"What came for {model.name} is a {family}, expected a {model.family}. It lies in {place}; remove it with "
            f"`python -m engine models remove {model.name}`."
        )
    _write(place / INSTALLED, {"name": model.name, "sha256": hashes, "licence": model.licence, "fetched": _now()})
    entry = find_installed(model.name, root)
    assert entry is not None  # it was written just now
    return entry


def remove(model: PublicModel, folder: Path | None = None) -> int:
    """Deletes the model's files and what arrived of them; returns how many bytes that frees. Raises ModelError."""
    place = (folder or models_folder()) / model.name
    if not place.is_dir():
        raise ModelError(f"{model.name} is not installed.")
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    try:
        if place.is_symlink():
            place.unlink()
        else:
            shutil.rmtree(place)
    except OSError as error:
        raise ModelError(f"{place} cannot be deleted: {error.strerror or error}.") from error
    return size


def _fetch_file(
    file: PublicFile,
    place: Path,
    hashes_path: Path,
    on_progress: OnProgress | None,
    cancel: threading.Event | None,
    patience: Patience | None,
) -> str:
    """One file, unless it is here with the recorded hash. The hash of a first download is recorded."""
    recorded = _read(hashes_path).get(file.url)
    expected = file.sha256 or (recorded if isinstance(recorded, str) else None)
    target = place / file.name
    with suppress(OSError):
        if expected is not None and sha256_of(target) == expected:
            return expected
    report = None if on_progress is None else lambda progress: on_progress(file, progress)
    found = download(
        file.url,
        target,
        max_bytes=file.max_bytes,
        sha256=expected,
        on_progress=report,
        cancel=cancel,
        patience=patience,
    )
    if expected is None:
        _write(hashes_path, {**_read(hashes_path), file.url: found})
    return found


def _read(path: Path) -> dict[str, Any]:
    """The values of a JSON file of ours; none where it is missing. Raises ModelError for a damaged one."""
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged: {error}. Delete it, or restore it from a copy.") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} is damaged. Delete it, or restore it from a copy.")
    return values


def _write(path: Path, values: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(values, indent=1).encode() + b"\n")
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror or error}.") from error


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")
