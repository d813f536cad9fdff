"""The axes of a plot: one setting over a list of values or a range."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

from engine.bulk.prompts import split_prompts
from engine.errors import did_you_mean
from engine.settings import (
    GENERATE_PRESETS,
    LIMITS,
    CodeOrder,
    Divergence,
    Estimator,
    FlowSettings,
    GenerateSettings,
    Schedule,
    Selection,
    SettingsError,
    plain,
)

Kind = Literal["number", "whole", "choice", "prompts", "names", "flag"]
Value = float | int | str | bool

MOST_VALUES = 16
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_RANGE = re.compile(r"([^:]+):([^:]+)(?::([^:]+))?")


class Plottable(NamedTuple):
    """A setting that can be an axis. of_flow: whether it is one of `FlowSettings`."""

    label: str
    kind: Kind
    of_flow: bool = False
    choices: tuple[str, ...] = ()


# By the field that each fills.
PLOTTABLE: Mapping[str, Plottable] = {
    "prompt": Plottable("Prompt", "prompts"),
    "diversity": Plottable("Diversity", "number", True),
    "step_size": Plottable("Step size", "number", True),
    "steps": Plottable("Steps", "whole", True),
    "seed": Plottable("Seed", "whole"),
    "n": Plottable("Pictures", "whole"),
    "model": Plottable("Model", "names"),
    "prompt_model": Plottable("Prompt model", "names"),
    "preset": Plottable("Preset", "choice", choices=tuple(GENERATE_PRESETS)),
    "space": Plottable("What moves", "names"),
    "truncation_psi": Plottable("Truncation", "number"),
    "classes": Plottable("Class", "names"),
    "cutouts": Plottable("Random views", "whole"),
    "start_strength": Plottable("Noise added to the picture", "number"),
    "reward_model": Plottable("Second prompt model", "names"),
    "reward_weight": Plottable("Weight of the second", "number"),
    "candidates": Plottable("Starts tried", "whole"),
    "choose": Plottable("Starts chosen by", "choice", choices=tuple(filter(None, get_args(Selection)))),
    "draws": Plottable("Starts drawn for each", "whole"),
    "spread": Plottable("Distance from the kept picture", "number"),
    "detail_steps": Plottable("Stage 2 steps", "whole", True),
    "code_order": Plottable("Order of the codes", "choice", True, get_args(CodeOrder)),
    "codebook": Plottable("Pull to the codes", "number", True),
    "condition_weight": Plottable("Weight of the words", "number", True),
    "data_weight": Plottable("Weight of the examples", "number", True),
    "realism": Plottable("Realism", "number", True),
    "prior": Plottable("Prior", "number", True),
    "diversity_gain": Plottable("Diversity gain", "number", True),
    "kept_opposition": Plottable("Kept opposition", "number", True),
    "langevin": Plottable("Langevin noise", "number", True),
    "mollifier": Plottable("Mollifier", "number", True),
    "estimator": Plottable("Estimator", "choice", True, get_args(Estimator)),
    "divergence": Plottable("Divergence", "choice", True, get_args(Divergence)),
    "step_schedule": Plottable("Schedule of the step size", "choice", True, get_args(Schedule)),
    "diversity_schedule": Plottable("Schedule of the diversity", "choice", True, get_args(Schedule)),
    "conflict_free": Plottable("Conflict-free", "flag", True),
    "normalise": Plottable("Normalise", "flag", True),
}
_OTHER_NAMES = {
    "truncation": "truncation_psi",
    "class": "classes",
    "stage2": "detail_steps",
    "towards_weight": "data_weight",
}


@dataclass(frozen=True)
class Axis:
    """A setting and the values that it takes, all different."""

    field: str
    values: tuple[Value, ...]

    @property
    def label(self) -> str:
        return PLOTTABLE[self.field].label

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as a person reads them."""
        return tuple(_shown(value) for value in self.values)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"field": self.field, "values": list(self.values)}


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else plain(value)


def read_axis(text: str) -> Axis:
    """`NAME=VALUES`, as `make_axis` takes them. Raises SettingsError."""
    name, is_given, values = text.partition("=")
    if not is_given:
        raise SettingsError(f"axis: {text[:60]!r} is not NAME=VALUES, such as diversity=0,0.5,1 or steps=20:60:20.")
    return make_axis(name, values)


def make_axis(name: str, values: str) -> Axis:
    """An axis of a setting, by its field or its option.

    values: numbers divided by commas, or START:END:STEP, both ends included; names divided by commas; prompts one a
    line or divided by |, with their alternatives. Raises SettingsError for what is unknown, empty, not a number,
    outside of the setting's limits, or more than MOST_VALUES.
    """
    field = name.strip().removeprefix("--").replace("-", "_")
    field = _OTHER_NAMES.get(field, field)
    if field not in PLOTTABLE:
        raise SettingsError(
            f"axis: {name.strip()[:60]!r} is no setting that can be plotted{did_you_mean(field, PLOTTABLE)} "
            f"There are {', '.join(PLOTTABLE)}."
        )
    if not values.strip():
        raise SettingsError(f"{field}: the list of values is empty; write some, such as {_example(field)}.")
    found = tuple(dict.fromkeys(_READERS[PLOTTABLE[field].kind](field, values)))
    if len(found) > MOST_VALUES:
        raise SettingsError(f"{field}: {len(found)} values are too many for one axis; give {MOST_VALUES} or fewer.")
    return Axis(field, found)


def _example(field: str) -> str:
    about = PLOTTABLE[field]
    return {
        "number": "0, 0.5, 1 or 0:1:0.25",
        "whole": "20, 40, 60 or 20:60:20",
        "choice": ", ".join(about.choices),
        "prompts": "a red hat | a blue hat",
        "names": "names divided by commas",
        "flag": "yes, no",
    }[about.kind]


def _listed(field: str, text: str) -> list[str]:
    """What is divided by commas or lines. Raises SettingsError for an empty place between two commas."""
    parts = [part.strip() for part in re.split(r"[,\n]", text.strip().strip(","))]
    if not all(parts):
        raise SettingsError(f"{field}: a value is empty in {text.strip()[:60]!r}.")
    return parts


def _numbers(field: str, text: str) -> list[Value]:
    found: list[Value] = []
    for part in _listed(field, text):
        match = _RANGE.fullmatch(part)
        found += _range(field, part, *match.groups()) if match else [_number(field, part)]
    for value in found:
        low, high = LIMITS[field]
        if not low <= float(value) <= high:
            raise SettingsError(f"{field}: {_shown(value)} is outside {plain(low)} to {plain(high)}.")
    return found


def _whole_numbers(field: str, text: str) -> list[Value]:
    found = _numbers(field, text)
    for value in found:
        if not float(value).is_integer():
            raise SettingsError(f"{field}: {_shown(value)} is not a whole number.")
    return [int(value) for value in found]


def _number(field: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SettingsError(f"{field}: {text.strip()[:40]!r} is not a number; write {_example(field)}.")
    return value


def _range(field: str, text: str, start: str, end: str, step: str | None) -> list[float]:
    first, last = _number(field, start), _number(field, end)
    length = 1.0 if step is None else _number(field, step)
    if length == 0 or (last - first) * length < 0:
        raise SettingsError(f"{field}: the range {text[:40]!r} does not reach its end; write START:END:STEP.")
    count = math.floor((last - first) / length + 1e-9) + 1  # the end counts although steps such as 0.1 are rounded
    if count > MOST_VALUES:
        raise SettingsError(f"{field}: {text[:40]!r} has {count:,} values; an axis has {MOST_VALUES} or fewer.")
    return [round(first + number * length, 9) for number in range(count)]


def _choices(field: str, text: str) -> list[Value]:
    known = PLOTTABLE[field].choices
    found = _listed(field, text)
    for value in found:
        if value not in known:
            raise SettingsError(f"{field}: {value[:40]!r} is unknown; choose among {', '.join(known)}.")
    return list(found)


def _flags(field: str, text: str) -> list[Value]:
    found = _listed(field, text)
    for value in found:
        if value.lower() not in _WORDS:
            raise SettingsError(f"{field}: {value[:40]!r} is neither yes nor no.")
    return [_WORDS[value.lower()] for value in found]


def _names(field: str, text: str) -> list[Value]:
    return list(_listed(field, text))


def _prompts(field: str, text: str) -> list[Value]:
    return list(split_prompts(text))


_READERS: Mapping[Kind, Callable[[str, str], list[Value]]] = {
    "number": _numbers,
    "whole": _whole_numbers,
    "choice": _choices,
    "prompts": _prompts,
    "names": _names,
    "flag": _flags,
}


def with_value(settings: GenerateSettings, field: str, value: Value) -> GenerateSettings:
    """The settings with one value of an axis, other than of "model" and "preset", which settle others as well.

    With other steps the second stage keeps its share of them. Raises SettingsError.
    """
    if field == "classes":
        return replace(settings, classes=(str(value),))
    if not PLOTTABLE[field].of_flow:
        changed: dict[str, Any] = {field: value}
        return replace(settings, **changed)
    return replace(settings, flow=_flow_with(settings.flow, field, value))


def _flow_with(flow: FlowSettings, field: str, value: Any) -> FlowSettings:
    if field == "steps":
        return flow.with_steps(value)
    return replace(flow, **{field: value})
