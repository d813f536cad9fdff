"""Every control of the studio, once: label, range and help text, keyed by the settings field it fills.

A tab asks a `Panel` for the components it wants to show, by name; its handlers get the values back by name
and turn them into settings with `settings_from`. Such events skip gradio's own checks (preprocess=False): the
engine judges every number, in one wording. What a picture's settings hold beyond the controls (a kept
latent, choices made on the command line) travels in one hidden component, so that restoring a picture loses
nothing.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.components import Component

from engine.settings import LIMITS, PRESETS, FlowSettings, GenerateSettings, SettingsError

REST = "rest"  # the hidden component
SLIDER_TOP = {"step_size": 0.2, "diversity": 1.0, "steps": 300}  # further once a value lies there
PRESET_NAMES = {"robust": "Robust", "paper": "As in the paper", "kde": "KDE", "stein": "Stein"}
FLOW_FIELDS = ("steps", "step_size", "diversity")
RUN_FIELDS = ("prompt", "model", "preset", "n", "seed", "truncation_psi", "baseline", "spread")

Choices = Sequence[tuple[str, str]]  # what a person reads, and the value


@dataclass(frozen=True)
class Control:
    """One control: what a person reads, and how its component is made from its start value."""

    field: str
    label: str
    help: str
    make: "Callable[[Control, Any, Choices], Component]"

    @property
    def elem_id(self) -> str:
        return f"control-{self.field.replace('_', '-')}"


def slider(step: float) -> Callable[[Control, Any, Choices], Component]:
    """A slider over the field's limits, or the useful part of them."""

    def make(control: Control, value: Any, choices: Choices) -> Component:
        low, high = LIMITS[control.field]
        return gr.Slider(
            value=value,
            minimum=max(low, step) if low > 0 else low,
            maximum=slider_top(control.field, value),
            step=step,
            label=control.label,
            info=control.help,
            elem_id=control.elem_id,
            buttons=[],
        )

    return make


def _prompt(control: Control, value: Any, choices: Choices) -> Component:
    return gr.Textbox(
        value=value,
        label=control.label,
        placeholder=control.help,
        lines=1,
        max_lines=4,
        autofocus=True,
        elem_id=control.elem_id,
        elem_classes="prompt",
    )


def _seed(control: Control, value: Any, choices: Choices) -> Component:
    return gr.Number(value=value, label=control.label, precision=0, elem_id=control.elem_id, min_width=80)


def dropdown(*, is_open: bool = False) -> Callable[[Control, Any, Choices], Component]:
    """A list to choose from; with `is_open`, other values can be typed in."""

    def make(control: Control, value: Any, choices: Choices) -> Component:
        return gr.Dropdown(
            choices,
            value=value,
            label=control.label,
            info=control.help,
            elem_id=control.elem_id,
            filterable=is_open,
            allow_custom_value=is_open,
        )

    return make


def _checkbox(control: Control, value: Any, choices: Choices) -> Component:
    return gr.Checkbox(value=value, label=control.label, info=control.help, elem_id=control.elem_id)


CONTROLS: Mapping[str, Control] = {
    control.field: control
    for control in (
        Control("prompt", "Prompt", "a woman with pink hair and sunglasses", _prompt),
        Control("diversity", "Diversity", "How strongly pictures repel each other.", slider(0.05)),
        Control("step_size", "Step size", "How far each step goes.", slider(0.005)),
        Control("steps", "Steps", "How often every picture is moved.", slider(1)),
        Control("n", "Pictures", "More of them take longer.", slider(1)),
        Control("seed", "Seed", "", _seed),
        Control("spread", "Distance from it", "0 starts at the kept picture, 1 anywhere.", slider(0.05)),
        Control("baseline", "Baseline beside it", "The same seeds without repulsion.", _checkbox),
        Control("preset", "Preset", "Sets the numerical choices, and the sliders above.", dropdown()),
        Control("model", "Model", "A bundled model, or the path of your own file.", dropdown(is_open=True)),
        Control("truncation_psi", "Truncation", "Lower starts closer to the average picture.", slider(0.05)),
    )
}


class Panel:
    """The components of one tab, made where the tab asks for them."""

    def __init__(self, defaults: GenerateSettings, *, models: Sequence[str] = ()) -> None:
        self._defaults = defaults
        self._choices = {
            "preset": [(PRESET_NAMES.get(name, name), name) for name in PRESETS],
            "model": [(name, name) for name in dict.fromkeys([defaults.model, *models])],
        }
        self.components: dict[str, Component] = {}

    def show(self, field: str) -> Component:
        """Makes the component of a control here."""
        control = CONTROLS[field]
        value = value_of(self._defaults, field)
        self.components[field] = control.make(control, value, self._choices.get(field, ()))
        return self.components[field]

    def hide_rest(self) -> Component:
        """Makes the hidden component for what no control shows."""
        self.components[REST] = gr.Textbox(value="", visible="hidden", elem_id="control-rest", show_label=False)
        return self.components[REST]

    @property
    def inputs(self) -> set[Component]:
        """For an event's `inputs`: as a set, its handler gets the values keyed by component."""
        return set(self.components.values())

    @property
    def outputs(self) -> Sequence[Component]:
        return list(self.components.values())

    def named(self, values: Mapping[Component, Any]) -> dict[str, Any]:
        """An event's values, keyed by settings field."""
        return {name: values[component] for name, component in self.components.items() if component in values}

    def updates(self, settings: GenerateSettings) -> dict[Component, Any]:
        """Sets every control to `settings`."""
        changes: dict[Component, Any] = {}
        for name, component in self.components.items():
            if name == REST:
                changes[component] = json.dumps(settings.to_dict())
                continue
            value = value_of(settings, name)
            is_slider = isinstance(component, gr.Slider)
            changes[component] = gr.update(value=value, maximum=slider_top(name, value)) if is_slider else value
        return changes


def settings_from(values: Mapping[str, Any]) -> GenerateSettings:
    """Settings from values keyed by field, on top of what the hidden component holds.

    Raises SettingsError with the control's label in place of the field's name.
    """
    try:
        settings = rest_of(values)
        preset = values["preset"]
        if preset != settings.preset:
            settings = settings.with_preset(preset)
        flow = replace(settings.flow, **{name: whole(values[name]) for name in FLOW_FIELDS})
        chosen = {name: whole(values[name]) for name in RUN_FIELDS}
        return replace(settings, flow=flow, **chosen)
    except SettingsError as error:
        raise labelled(error) from error


def rest_of(values: Mapping[str, Any]) -> GenerateSettings:
    """The settings behind the controls: those of a restored picture, else the defaults."""
    text = values.get(REST)
    if not text:
        return GenerateSettings(prompt="-", flow=FlowSettings())
    try:
        return GenerateSettings.from_dict(json.loads(text))
    except ValueError as error:  # the page's own text: only a forged request gets here
        raise SettingsError(f"settings: {error}") from error


def value_of(settings: GenerateSettings, field: str) -> Any:
    """A control's value: the fields of the flow and of the run share one namespace."""
    return getattr(settings.flow if field in FLOW_FIELDS else settings, field)


def whole(value: Any) -> Any:
    """Browsers send 8 as 8.0 at times."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def slider_top(field: str, value: float) -> float:
    """Where a slider ends: short enough to aim, long enough for its value."""
    high = LIMITS[field][1]
    top = SLIDER_TOP.get(field, high)
    return top if value < top else high


def labelled(error: SettingsError) -> SettingsError:
    """The error with the control's label in place of the field's name."""
    field, colon, rest = str(error).partition(":")
    return SettingsError(f"{CONTROLS[field].label}:{rest}") if colon and field in CONTROLS else error
