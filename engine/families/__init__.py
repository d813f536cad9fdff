"""The families of models: one file each, one line in the table each. Reading them needs no torch."""

from importlib import import_module

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
    "stargan2",
)

FAMILIES: dict[str, Family] = {name: import_module(f"{__name__}.{name}").FAMILY for name in _FILES}


def find_family(name: str) -> Family:
    """The family of that name; for a name that nothing is known of, one without networks and tasks."""
    return FAMILIES.get(name) or Family(name, label=name)
