"""Where this program keeps what is its own: the places that each platform has for such files."""

import os
import sys
from pathlib import Path
from typing import Literal

_NAME = "gmi-studio"


def own_folder(kind: Literal["cache", "data"]) -> Path:
    """The folder for what can be made or fetched again, or for what is to stay; it need not exist yet."""
    home = Path.home()
    if sys.platform == "win32":
        local = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / _NAME
        return local / "cache" if kind == "cache" else local  # one place for both there
    if sys.platform == "darwin":
        return home / "Library" / {"cache": "Caches", "data": "Application Support"}[kind] / _NAME
    variable, usual = {"cache": ("XDG_CACHE_HOME", ".cache"), "data": ("XDG_DATA_HOME", ".local/share")}[kind]
    return Path(os.environ.get(variable) or home / usual) / _NAME
