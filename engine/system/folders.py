"""Where this program keeps what is its own: where a variable says, else the place that the platform has for it."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Literal

from engine.errors import ModelError

_NAME = "gmi-studio"


def cache_folder() -> Path:
    """The folder for what can be made or fetched again: $GMI_CACHE, else the platform's; it need not exist yet."""
    return _chosen("GMI_CACHE") or _own_folder("cache")


def models_folder() -> Path:
    """Where fetched models are kept: $GMI_MODELS, else in the platform's place for data; it need not exist yet."""
    return _chosen("GMI_MODELS") or _own_folder("data") / "models"


def outputs_folder() -> Path:
    """Where finished pictures are kept: $GMI_OUTPUTS, else in the user's folder for pictures, where there is one, else
    in the platform's place for data; it need not exist yet.
    """
    if chosen := _chosen("GMI_OUTPUTS"):
        return chosen
    pictures = _home() / "Pictures"
    return pictures / "GMI Studio" if pictures.is_dir() else _own_folder("data") / "outputs"


def _chosen(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def _own_folder(kind: Literal["cache", "data"]) -> Path:
    home = _home()
    if sys.platform == "win32":
        local = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / _NAME
        return local / "cache" if kind == "cache" else local  # one place for both there
    if sys.platform == "darwin":
        return home / "Library" / {"cache": "Caches", "data": "Application Support"}[kind] / _NAME
    variable, usual = {"cache": ("XDG_CACHE_HOME", ".cache"), "data": ("XDG_DATA_HOME", ".local/share")}[kind]
    return Path(os.environ.get(variable) or home / usual) / _NAME


def _home() -> Path:
    """The user's own folder; where there is none, as of a container's user without a name, one for temporary files.

    Raises ModelError where that is another user's.
    """
    try:
        return Path.home()
    except RuntimeError:
        user = os.getuid() if hasattr(os, "getuid") else 0
        place = Path(tempfile.gettempdir()) / f"{_NAME}-{user}"
        try:
            place.mkdir(mode=0o700, exist_ok=True)
            is_own = place.lstat().st_uid == user and not place.is_symlink()
        except OSError:
            is_own = False
        if is_own:
            return place
        raise ModelError(
            f"This user (number {user}) has no home folder, and {place} is not its own. Say where models and the cache "
            "are kept: set GMI_MODELS and GMI_CACHE to folders that can be written."
        ) from None
