"""Public models on this machine: fetched into a folder each, checked, remembered, removed.

<models>/<name>/          the files as they came, and installed.json when all are there and open
<models>/hashes.json      sha256 of the first download of each address
<models>/licences.json    the models whose conditions were accepted
<models>/own.json         the files of the user's own that were opened, wherever they lie
<models>/own/             those of them that came by upload
<models>/memory.json      how much of the memory loaded models may keep
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.errors import ModelError
from engine.models.downloads import Patience, download
from engine.models.folder_downloads import OnProgress, fetch_folder
from engine.models.public import PUBLIC_MODELS, PublicFile, PublicModel
from engine.models.table import ModelKind, ModelRow
from engine.system.files import locked, replace, sha256_of, write_atomic
from engine.system.folders import models_folder

INSTALLED = "installed.json"
OWN, UPLOADS = "own.json", "own"
OWN_LICENCE = "unknown: the user's own file"
LOCK = ".lock"  # held while a list is changed: two studios may share a folder
_log = logging.getLogger(__name__)
_set_aside_lists: list[DamagedList] = []

Check = Callable[[Path], str]  # opens what is in a folder and gives its family


class LicenceError(ModelError):
    """The conditions of a model's licence were not accepted yet."""


@dataclass(frozen=True)
class DamagedList:
    """A list of ours that could not be read: where it was, and where it is now."""

    path: Path
    kept: Path


@dataclass(frozen=True)
class Installed:
    """A public model that is here: its row, its folder, bytes on the disk."""

    model: PublicModel
    folder: Path
    bytes: int


@dataclass(frozen=True)
class FetchedPrompt:
    """A prompt model that is here: its name (open_clip:ARCHITECTURE/TAG), its file, its licence."""

    name: str
    file: Path
    licence: str


@dataclass(frozen=True)
class OwnModel:
    """A file of the user's own. name: what it is loaded by, the path or open_clip:ARCHITECTURE/PATH."""

    name: str
    kind: ModelKind
    family: str
    resolution: int
    bytes: int
    format: str
    path: str
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what was taken off, made up or left out when it was opened

    @property
    def label(self) -> str:
        """What a person reads."""
        path = Path(self.path)
        return path.name if path.suffix else f"{path.name}/"


def installed(folder: Path | None = None) -> Iterator[Installed]:
    """The public models that are here, complete, in the order of the table."""
    for model in PUBLIC_MODELS:
        place = (folder or models_folder()) / model.folder_name
        if (place / INSTALLED).is_file():
            files = [place / name for name in _names(model, place)]
            if files and all(file.is_file() for file in files):
                yield Installed(model, place, sum(file.stat().st_size for file in files))


def _names(model: PublicModel, place: Path) -> list[str]:
    """The files of an installed model: of a folder of parts those that came, which may stand in for others."""
    return list(_read(place / INSTALLED).get("sha256", ())) if model.is_folder else [file.name for file in model.files]


def find_installed(name: str, folder: Path | None = None) -> Installed | None:
    """The public model of that name if it is here."""
    return next((entry for entry in installed(folder) if entry.model.name == name), None)


def accept_licence(model: PublicModel, folder: Path | None = None) -> None:
    """Remembers that the user accepts the model's conditions. Raises ModelError if that cannot be kept."""
    path = (folder or models_folder()) / "licences.json"
    _update(path, lambda values: {**values, model.name: f"{model.licence}, accepted {_now()}"})


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
    anything is fetched, DownloadError, Cancelled, and ModelError for files that are not the model; what does not
    open is deleted and its hash forgotten, so that another try fetches it anew. Progress is of a file, of a folder of
    parts of the whole: its size is asked for, and reported, before anything is fetched; what the server says that its
    files are stays, whether it opens or not.
    """
    root = folder or models_folder()
    if not is_accepted(model, root):
        raise LicenceError(
            f"{model.name} may be used under conditions: {model.conditions} ({model.licence}). "
            f"If you accept them: `python -m engine models get {model.name} --accept-licence`."
        )
    place = root / model.folder_name
    if model.is_folder:
        hashes = fetch_folder(model, place, on_progress, cancel, patience)
    else:
        hashes = {
            file.name: _fetch_file(file, place, root / "hashes.json", on_progress, cancel, patience)
            for file in model.files
        }
    try:
        family = check(place)
    except ModelError as error:
        if model.is_folder:
            raise ModelError(
                f"{model.name} came whole, but does not open: {error} It lies in {place}; `python -m engine models "
                f"remove {model.name}` deletes it."
            ) from error
        _discard(model, place, root / "hashes.json")
        raise
    if family != model.family:
        raise ModelError(
            f"What came for {model.name} is a {family}, expected a {model.family}. It lies in {place}; remove it with "
            f"`python -m engine models remove {model.name}`."
        )
    _write(place / INSTALLED, {"name": model.name, "sha256": hashes, "licence": model.licence, "fetched": _now()})
    return Installed(model, place, sum((place / name).stat().st_size for name in hashes))


def remove(model: PublicModel, folder: Path | None = None) -> int:
    """Deletes the model's files and what arrived of them; returns how many bytes that frees. Raises ModelError."""
    place = (folder or models_folder()) / model.folder_name
    if not place.is_dir():
        raise ModelError(f"{model.name} is not installed.")
    return _delete(place)


def prompt_models(folder: Path | None = None) -> Iterator[FetchedPrompt]:
    """The prompt models of open_clip that were fetched, by name."""
    root = folder or models_folder()
    for about in sorted(root.glob(f"open_clip--*/{INSTALLED}")):
        values = _read(about)
        files = [about.parent / Path(name).name for name in values.get("sha256", {})]
        if files and all(file.is_file() for file in files):
            yield FetchedPrompt(str(values.get("name")), files[0], str(values.get("licence")))


def remove_prompt(name: str, folder: Path | None = None) -> int:
    """Deletes a fetched prompt model; returns how many bytes that frees. Raises ModelError."""
    file = find_prompt_file(name, folder)
    if file is None:
        raise ModelError(f"{name} is not installed.")
    return _delete(file.parent)


def stored_budget(folder: Path | None = None) -> int | None:
    """The bytes of models to keep in memory that were chosen; None where nobody chose."""
    value = _read((folder or models_folder()) / "memory.json").get("budget")
    return value if isinstance(value, int) and value > 0 else None


def store_budget(budget: int, folder: Path | None = None) -> None:
    """Remembers the choice. Raises ModelError if that cannot be kept."""
    _write((folder or models_folder()) / "memory.json", {"budget": budget})


def find_prompt_file(name: str, folder: Path | None = None) -> Path | None:
    """The weights of the prompt model of that name if they were fetched."""
    return next((prompt.file for prompt in prompt_models(folder) if prompt.name == name), None)


def stored_rows(folder: Path | None = None) -> tuple[ModelRow, ...]:
    """The models that are here beside the bundled ones, as the rest of the program sees models."""
    root = folder or models_folder()

    def row(
        name: str,
        kind: ModelKind,
        family: str,
        resolution: int,
        licence: str,
        place: Path,
        classes: tuple[str, ...] = (),
        domain: str = "",
    ) -> ModelRow:
        return ModelRow(name, kind, family, resolution, licence, {}, place, classes=classes, domain=domain)

    rows = []
    for one in installed(root):
        model = one.model
        about = (model.family, model.resolution, model.licence, one.folder, model.classes, model.shows)
        rows.append(row(model.name, "generator", *about))
    rows += [row(one.name, "prompt", "open_clip", 0, one.licence, one.file.parent) for one in prompt_models(root)]
    for own in own_models(root):
        place = Path(own.path).parent
        rows.append(row(own.name, own.kind, own.family, own.resolution, OWN_LICENCE, place, own.classes))
    return tuple(rows)


# ---- the user's own --------------------------------------------------------------------------------------


def own_models(folder: Path | None = None) -> tuple[OwnModel, ...]:
    """The files of the user's own that were opened and still are where they were, the newest first."""
    found = []
    for values in _read((folder or models_folder()) / OWN).values():
        with suppress(TypeError, AttributeError):  # what another version wrote is left out
            lists = {name: tuple(values.get(name, ())) for name in ("classes", "notes")}
            model = OwnModel(**{**values, **lists})
            if os.path.exists(model.path):  # also of one that may not be looked at
                found.append(model)
    return tuple(reversed(found))


def remember_own(model: OwnModel, folder: Path | None = None) -> None:
    """Lists a file from now on. Raises ModelError if that cannot be kept."""
    path = (folder or models_folder()) / OWN

    def last(values: dict[str, Any]) -> dict[str, Any]:
        values.pop(model.name, None)
        return {**values, model.name: asdict(model)}

    _update(path, last)


def take_upload(files: dict[str, Path], folder: Path | None = None) -> Path:
    """Moves uploaded files, by the name each had, into a place of their own; returns the file, or their folder.

    Raises ModelError where there is no room, or a name is none.
    """
    root = (folder or models_folder()) / UPLOADS
    names = {name: Path(name).name.lstrip(".") for name in files}
    if not files or not all(names.values()) or len(set(names.values())) < len(names):
        raise ModelError("The uploaded files need names of their own.")
    place = root / Path(next(iter(names.values()))).stem
    number = 2
    while place.exists():
        place = root / f"{Path(next(iter(names.values()))).stem}-{number}"
        number += 1
    try:
        place.mkdir(parents=True)
        for name, source in files.items():
            shutil.move(source, place / names[name])
    except OSError as error:
        shutil.rmtree(place, ignore_errors=True)
        raise ModelError(f"{place} cannot be written: {error.strerror or error}. Is the disk full?") from error
    return place / next(iter(names.values())) if len(files) == 1 else place


def forget_own(name: str, folder: Path | None = None) -> int:
    """Takes a file from the list; one that came by upload is deleted. Returns the bytes that frees.

    Raises ModelError for a name that is not listed.
    """
    root = folder or models_folder()
    freed = 0

    def without(values: dict[str, Any]) -> dict[str, Any]:
        nonlocal freed
        entry = values.pop(name, None)
        if not isinstance(entry, dict):
            raise ModelError(f"{name} is not in the list of own files.")
        freed = discard_upload(Path(str(entry.get("path"))), root)
        return values

    _update(root / OWN, without)
    return freed


def discard_upload(path: Path, folder: Path | None = None) -> int:
    """Deletes an upload, and nothing else; returns the bytes that frees. Raises ModelError."""
    uploads = ((folder or models_folder()) / UPLOADS).resolve()
    for place in (path.resolve(), path.resolve().parent):
        if place.parent == uploads and place.is_dir():
            return _delete(place)
    return 0


def _delete(place: Path) -> int:
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
        _update(hashes_path, lambda values: {**values, file.url: found})
    return found


def _discard(model: PublicModel, place: Path, hashes_path: Path) -> None:
    """Deletes files that came whole, but do not open."""
    with suppress(ModelError):  # why they do not open is told, not that they could not be deleted
        _delete(place)
        addresses = {file.url for file in model.files}
        _update(hashes_path, lambda values: {url: sha for url, sha in values.items() if url not in addresses})


def _read(path: Path) -> dict[str, Any]:
    """The values of a JSON file of ours; none where it is missing, or damaged: then it is set aside, and said.

    Raises ModelError for one that cannot be read.
    """
    try:
        values = json.loads(path.read_bytes())
        if isinstance(values, dict):
            return values
        reason = "it holds no list of names"
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
    _set_aside(path, reason)
    return {}


def _set_aside(path: Path, reason: str) -> None:
    """A damaged list must not be in the way of all else; what is left of it can be looked at."""
    kept = path.with_name(f"{path.name}.damaged")
    with suppress(OSError):
        replace(path, kept)
    if (damaged := DamagedList(path, kept)) not in _set_aside_lists:
        _set_aside_lists.append(damaged)
    _log.warning("%s is damaged (%s): it was set aside as %s, and a new one begins.", path, reason, kept.name)


def damaged_lists(folder: Path | None = None) -> tuple[DamagedList, ...]:
    """Those that were set aside since the program began, the newest last."""
    root = folder or models_folder()
    return tuple(damaged for damaged in _set_aside_lists if damaged.path.is_relative_to(root))


def _update(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Reads the values, changes them, writes them: whole, whoever else does so. Raises ModelError."""
    try:
        with locked(path.with_name(LOCK)):
            _write(path, change(_read(path)))
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror or error}.") from error


def _write(path: Path, values: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(values, indent=1).encode() + b"\n")
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror or error}.") from error


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")
