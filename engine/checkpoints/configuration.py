"""What the shapes of weights cannot tell, family by family, with the usual value of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.checkpoints.checkpoint import Setting
from engine.checkpoints.refusal import Refused
from engine.errors import ModelError, did_you_mean

USUAL = "usual value"
GIVEN = "given"


@dataclass(frozen=True)
class Option:
    """One setting: its usual value, what it may be, and when it is another."""

    name: str
    usual: Any
    kind: str
    accepts: Callable[[Any], bool]
    about: str


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _is_positive_or_none(value: Any) -> bool:
    return value is None or _is_positive(value)


def _is_count_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 4096)


def _is_side(value: Any) -> bool:
    return value is not None and _is_count_or_none(value)


def _are_switches(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) < 64 and all(isinstance(v, bool) for v in value))


_LR_MULTIPLIER = Option("lr_multiplier", 0.01, "a positive number", _is_positive, "of the mapping network's layers")
_CONV_CLAMP = Option(
    "conv_clamp", None, "a positive number or null", _is_positive_or_none, "256 in networks trained with float16 layers"
)
_GROUP = Option(
    "mbstd_group_size", 4, "a whole number or null", _is_count_or_none, "pictures per group of the batch statistic"
)
_UP = Option(
    "up", None, "a list of true and false, or null", _are_switches, "blocks that double the side; null: every second"
)

OPTIONS: Mapping[tuple[str, str], tuple[Option, ...]] = {
    ("stylegan2", "generator"): (_LR_MULTIPLIER, _CONV_CLAMP),
    ("stylegan2", "discriminator"): (_LR_MULTIPLIER, _CONV_CLAMP, _GROUP),
    ("biggan", "generator"): (
        Option("bn_eps", 1e-5, "a positive number", _is_positive, "1e-4 in ports of TensorFlow's weights"),
    ),
    ("biggan_deep", "generator"): (
        _UP,
        Option("eps", 1e-4, "a positive number", _is_positive, "of the batch norms"),
    ),
    ("comodgan", "generator"): (
        Option(
            "arithmetic",
            "original",
            '"original" or "port"',
            lambda value: value in ("original", "port"),
            "of the TensorFlow original, or of the PyTorch port, which lacks one of its sums",
        ),
        _LR_MULTIPLIER,
    ),
    ("vqgan", "autoencoder"): (
        Option("resolution", 256, "a whole number", _is_side, "side of the pictures it was trained on"),
    ),
}


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
        for option in OPTIONS.get((family, role), ()):
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
            raise ModelError(f"{keys[0]} should be {option.kind} ({option.about}), got {value!r}.")
        return Setting(value, GIVEN)
    setting = stated.get(option.name)
    if setting is None:
        return Setting(option.usual, USUAL)
    if not option.accepts(setting.value):
        raise Refused(f"{setting.source} states {role}.{option.name} = {str(setting.value)[:40]}, not {option.kind}.")
    return setting


def about(family: str, role: str, name: str) -> str:
    """What a setting is and when it differs from the usual value."""
    return next(option.about for option in OPTIONS[family, role] if option.name == name)
