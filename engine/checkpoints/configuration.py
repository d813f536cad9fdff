"""What the shapes of weights cannot tell, family by family, with the usual value of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine.checkpoints.checkpoint import Setting
from engine.checkpoints.refusal import Refused
from engine.errors import ModelError, did_you_mean
from engine.families import find_family
from engine.families.declaration import Option

USUAL = "usual value"
GIVEN = "given"


def complete(
    family: str,
    roles: Iterable[str],
    stated: Mapping[str, Mapping[str, Setting]],
    given: Mapping[str, Any],
) -> dict[str, dict[str, Setting]]:
    """Every setting of the roles: what was given, else what the file states, else the usual value.

    given: `name` (for every role that has it) or `role.name` -> value. Raises ModelError for an unknown name or a
    value that cannot be, Refused where the file states such a value.
    """
    configuration: dict[str, dict[str, Setting]] = {}
    open_names = set(given)
    for role in roles:
        configuration[role] = {}
        for option in _options(family, role):
            keys = [key for key in (f"{role}.{option.name}", option.name) if key in given]
            open_names -= set(keys)
            configuration[role][option.name] = _chosen(option, role, given, keys, stated.get(role, {}))
    if open_names:
        known = [f"{role}.{name}" for role, settings in configuration.items() for name in settings]
        names = dict.fromkeys(name for settings in configuration.values() for name in settings)
        wrong = sorted(open_names)[0]
        hint = did_you_mean(wrong, [*names, *known])
        raise ModelError(f"A {family} has no setting {wrong!r}{hint} Settings: {', '.join(known) or 'none'}.")
    return configuration


def _chosen(
    option: Option, role: str, given: Mapping[str, Any], keys: list[str], stated: Mapping[str, Setting]
) -> Setting:
    if keys:
        value = given[keys[0]]
        if not option.accepts(value):
            raise ModelError(f"{keys[0]} should be {option.expected} ({option.about}), got {value!r}.")
        return Setting(value, GIVEN)
    setting = stated.get(option.name)
    if setting is None:
        return Setting(option.usual, USUAL)
    if not option.accepts(setting.value):
        raise Refused(
            f"{setting.source} states {role}.{option.name} = {str(setting.value)[:40]}, not {option.expected}."
        )
    return setting


def about(family: str, role: str, name: str) -> str:
    """What a setting is and when it differs from the usual value."""
    return next(option.about for option in _options(family, role) if option.name == name)


def _options(family: str, role: str) -> tuple[Option, ...]:
    network = find_family(family).networks.get(role)
    return network.options if network else ()
