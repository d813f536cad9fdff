"""The families of models: one file each, one line in the table each. Reading them needs no torch."""

from contextlib import suppress
from importlib import import_module
from pathlib import Path

from engine.families.declaration import Family

# The order is that of lists and messages.
_FILES = (
    "stylegan2",
    "biggan",
    "biggan_deep",
    "dalle_dvae",
    "vqgan",
    "dfgan",
    "lucidrains",
    "comodgan",
    "one_step_diffusion",
    "stargan2",
)

FAMILIES: dict[str, Family] = {name: import_module(f"{__name__}.{name}").FAMILY for name in _FILES}


def family_of_folder(path: str | Path) -> str:
    """The name of the family that a folder is of by its index; empty where only its weights would tell."""
    with suppress(OSError, ValueError):  # of a name that can be none of a folder
        for name, family in FAMILIES.items():
            if family.index and (Path(path) / family.index).is_file():
                return name
    return ""


def find_family(name: str) -> Family:
    """The family of that name; for a name that nothing is known of, one without networks and tasks."""
    return FAMILIES.get(name) or Family(name, label=name)
