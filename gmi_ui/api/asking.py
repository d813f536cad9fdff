"""A call's parameters to settings: what is not given stays as the model, the task or the preset has it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from engine.settings import RANDOM_SEED, FlowSettings, RunSettings, SettingsError, random_seed
from gmi_ui.controls import FLOW_FIELDS

AnySettings = TypeVar("AnySettings", bound=RunSettings)


def settings_of(
    first: AnySettings,
    given: Mapping[str, Any],
    more: Any = None,
    *,
    flow_of: Callable[[str], FlowSettings] | None = None,
) -> AnySettings:
    """`first` with the values given by field, None for none, and with `more`, which is shaped as `to_dict` is.

    flow_of: a model's presets, where they are not those of the task. Raises SettingsError.
    """
    more = {} if more is None else more
    if not isinstance(more, dict) or not isinstance(more.get("flow", {}), dict):
        raise SettingsError("more: expected an object with named settings, such as those of a report.")
    chosen = {name: value for name, value in given.items() if value is not None}
    if chosen.get("seed") == RANDOM_SEED:
        chosen["seed"] = random_seed()
    started = first.with_preset(chosen.pop("preset", first.preset))
    if flow_of is not None:
        started = replace(started, flow=flow_of(started.preset))
    numbers = {name: chosen.pop(name) for name in FLOW_FIELDS if name in chosen} | more.get("flow", {})
    flow = with_stages(started.flow, numbers)
    return type(first).from_dict({**started.to_dict(), **chosen, **more, "flow": flow})


def with_stages(flow: FlowSettings, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The flow with other numbers; of a model with two stages, its steps are shared out as before."""
    values: dict[str, Any] = {**vars(flow), **numbers}
    if flow.detail_steps and type(values["steps"]) is int and "detail_steps" not in numbers:
        values["detail_steps"] = flow.detail_steps_of(values["steps"])
    return values


def whole_number(value: Any, name: str) -> int:
    """A count, 0 for none. Raises SettingsError."""
    if type(value) is not int or value < 0:
        raise SettingsError(f"{name}: expected a whole number from 0.")
    return value
