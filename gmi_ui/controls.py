"""Every control of the studio, once: label, range and help text, keyed by the settings field it fills.

A tab asks a `Panel` for the components it wants to show, by name; its handlers get the values back by name
and turn them into settings of the tab's task with `Panel.settings`. Such events skip gradio's own checks
(preprocess=False): the engine judges every number, in one wording. What a picture's settings hold beyond the
controls (a kept latent, choices made on the command line) travels in one hidden component, so that restoring
a picture loses nothing.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import gradio as gr
from gradio.components import Component

from engine.settings import LIMITS, PRESETS, GenerateSettings, RunSettings, SettingsError
from gmi_ui.editing import BASELINES, METHODS

REST = "rest"  # the hidden component
# The useful part of a field's limits; a slider reaches further once a value lies there.
SLIDER_RANGE = {
    "step_size": (0.0, 0.5),
    "diversity": (0.0, 1.0),
    "steps": (1, 300),
    "identity": (0.0, 3.0),
    "known_weight": (0.0, 3.0),
    "grow": (-32, 32),
    "feather": (0, 32),
}
PRESET_NAMES = {"robust": "Robust", "paper": "As in the paper", "kde": "KDE", "stein": "Stein"}
FLOW_FIELDS = ("steps", "step_size", "diversity")
ID_PREFIX = {"generate": "control", "edit": "edit-control", "inpaint": "inpaint-control"}

FALLBACK = GenerateSettings(prompt="-")

Choices = Sequence[tuple[str, str]]  # what a person reads, and the value


@dataclass(frozen=True)
class Control:
    """One control: what a person reads, and how its component is made from its start value."""

    field: str
    label: str
    help: str
    make: "Make"


class Place(NamedTuple):
    """Where and with what a control's component begins."""

    elem_id: str
    value: Any
    choices: Choices


Make = Callable[[Control, Place], Component]


def slider(step: float) -> Make:
    """A slider over the field's limits, or the useful part of them."""

    def make(control: Control, place: Place) -> Component:
        low, high = slider_range(control.field, place.value)
        return gr.Slider(
            value=place.value,
            minimum=max(low, step) if LIMITS[control.field][0] > 0 else low,
            maximum=high,
            step=step,
            label=control.label,
            info=control.help,
            elem_id=place.elem_id,
            buttons=[],
        )

    return make


def text(*, autofocus: bool = False, lines: int = 4) -> Make:
    """Words, large."""

    def make(control: Control, place: Place) -> Component:
        return gr.Textbox(
            value=place.value,
            label=control.label,
            placeholder=control.help,
            lines=1,
            max_lines=lines,
            autofocus=autofocus,
            elem_id=place.elem_id,
            elem_classes="prompt",
        )

    return make


def _seed(control: Control, place: Place) -> Component:
    return gr.Number(value=place.value, label=control.label, precision=0, elem_id=place.elem_id, min_width=80)


def dropdown(*, is_open: bool = False) -> Make:
    """A list to choose from; with `is_open`, other values can be typed in."""

    def make(control: Control, place: Place) -> Component:
        return gr.Dropdown(
            place.choices,
            value=place.value,
            label=control.label,
            info=control.help,
            elem_id=place.elem_id,
            filterable=is_open,
            allow_custom_value=is_open,
        )

    return make


def _checkbox(control: Control, place: Place) -> Component:
    return gr.Checkbox(value=place.value, label=control.label, info=control.help, elem_id=place.elem_id)


def _by_field(*controls: Control) -> dict[str, Control]:
    return {control.field: control for control in controls}


_SHARED = _by_field(
    Control("diversity", "Diversity", "How strongly pictures repel each other.", slider(0.05)),
    Control("step_size", "Step size", "How far each step goes.", slider(0.005)),
    Control("steps", "Steps", "How often every picture is moved.", slider(1)),
    Control("n", "Pictures", "More of them take longer.", slider(1)),
    Control("seed", "Seed", "", _seed),
    Control("preset", "Preset", "Sets the numerical choices, and the sliders above.", dropdown()),
    Control("model", "Model", "A bundled model, or the path of your own file.", dropdown(is_open=True)),
    Control(
        "prompt_model",
        "Prompt model",
        "A bundled one, open_clip:ARCHITECTURE/TAG, or a path.",
        dropdown(is_open=True),
    ),
)

# Every control of each task's tab, keyed by the field it fills.
CONTROLS: Mapping[str, Mapping[str, Control]] = {
    "generate": _SHARED
    | _by_field(
        Control("prompt", "Prompt", "a woman with pink hair and sunglasses", text(autofocus=True)),
        Control("spread", "Distance from it", "0 starts at the kept picture, 1 anywhere.", slider(0.05)),
        Control("baseline", "Baseline beside it", "The same seeds without repulsion.", _checkbox),
        Control("truncation_psi", "Truncation", "Lower starts closer to the average picture.", slider(0.05)),
    ),
    "edit": _SHARED
    | _by_field(
        Control("neutral", "What it is", "a person", text(lines=3)),
        Control("prompt", "What it should be", "a person with a beard", text(lines=3)),
        Control("strength", "Strength", "How far it goes; below 0 the other way.", slider(0.05)),
        Control("disentanglement", "Disentanglement", "Higher changes less besides.", slider(0.01)),
        Control("identity", "Identity", "How strongly it holds on to the picture.", slider(0.05)),
        Control("method", "Method", "How the words steer the picture.", dropdown()),
        Control("baseline", "Beside it", "Another method from the same start.", dropdown()),
    ),
    "inpaint": _SHARED
    | _by_field(
        Control("prompt", "What to paint there", "optional: a woman with sunglasses", text()),
        Control("grow", "Grow the mask", "By pixels; below 0 it shrinks.", slider(1)),
        Control("feather", "Feather", "Pixels around the mask that fade over.", slider(1)),
        Control("invert", "Repaint the rest", "Keeps what is painted over instead.", _checkbox),
        Control("known_weight", "Fit to the rest", "How closely it goes with what is around.", slider(0.05)),
        Control("baseline", "Baseline beside it", "The same seeds without repulsion.", _checkbox),
    ),
}


class Panel:
    """The components of one tab, made where the tab asks for them. defaults: of the tab's task."""

    def __init__(self, defaults: RunSettings, *, models: Sequence[str] = (), prompt_models: Sequence[str] = ()) -> None:
        self._defaults = defaults
        self._controls = CONTROLS[defaults.task]
        self._choices: dict[str, Choices] = {
            "preset": [(PRESET_NAMES.get(name, name), name) for name in PRESETS],
            "model": [(name, name) for name in dict.fromkeys([defaults.model, *models])],
            "prompt_model": [(name, name) for name in dict.fromkeys([defaults.prompt_model, *prompt_models])],
            "method": [(label, name) for name, label in METHODS.items()],
            "baseline": [(label, name) for name, label in BASELINES.items()],
        }
        self.components: dict[str, Component] = {}

    def elem_id(self, field: str) -> str:
        """The page's name of a control; unlike its field, no two tabs share one."""
        return f"{ID_PREFIX[self._defaults.task]}-{field.replace('_', '-')}"

    def show(self, field: str) -> Component:
        """Makes the component of a control here."""
        control = self._controls[field]
        place = Place(self.elem_id(field), value_of(self._defaults, field), self._choices.get(field, ()))
        self.components[field] = control.make(control, place)
        return self.components[field]

    def hide_rest(self) -> Component:
        """Makes the hidden component for what no control shows."""
        self.components[REST] = gr.Textbox(value="", visible="hidden", elem_id=self.elem_id(REST), show_label=False)
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

    def updates(self, settings: RunSettings) -> dict[Component, Any]:
        """Sets every control to `settings`."""
        changes: dict[Component, Any] = {}
        for name, component in self.components.items():
            if name == REST:
                changes[component] = json.dumps(settings.to_dict())
            elif isinstance(component, gr.Slider):
                value = value_of(settings, name)
                low, high = slider_range(name, value)
                low = min(component.minimum, low if value < component.minimum else value)
                changes[component] = gr.update(value=value, minimum=low, maximum=high)
            else:
                changes[component] = value_of(settings, name)
        return changes

    def settings(self, values: Mapping[Component, Any]) -> RunSettings:
        """What an event's values ask for. Raises SettingsError in the page's own words."""
        return settings_from(self.named(values), self._defaults)


def settings_from(values: Mapping[str, Any], defaults: RunSettings = FALLBACK) -> RunSettings:
    """Settings from values keyed by field, on top of what the hidden component holds.

    Where no control was touched since a picture was restored, they are that picture's, to make it again: with
    every slider as it was moved, and the step at which it was stopped. Raises SettingsError with the control's
    label in place of the field's name.
    """
    try:
        rest = rest_of(values, defaults)
        chosen = {name: whole(value) for name, value in values.items() if name in CONTROLS[defaults.task]}
        if all(value_of(rest, name) == value for name, value in chosen.items()):
            return rest
        settings = replace(rest, flow=rest.flow.as_moved)
        preset = chosen.get("preset", settings.preset)
        if preset != settings.preset:
            settings = settings.with_preset(preset)
        flow = replace(settings.flow, **{name: chosen.pop(name) for name in FLOW_FIELDS if name in chosen})
        return replace(settings, flow=flow, **chosen)
    except SettingsError as error:
        raise labelled(error, defaults.task) from error


def rest_of(values: Mapping[str, Any], defaults: RunSettings = FALLBACK) -> RunSettings:
    """The settings behind the controls: those of a restored picture, else the defaults."""
    text = values.get(REST)
    if not text:
        return defaults
    try:
        return type(defaults).from_dict(json.loads(text))
    except ValueError as error:  # the page's own text: only a forged request gets here
        raise SettingsError(f"settings: {error}") from error


def value_of(settings: RunSettings, field: str) -> Any:
    """A control's value: the fields of the flow, as last moved, and of the run share one namespace."""
    return getattr(settings.flow.as_moved if field in FLOW_FIELDS else settings, field)


def whole(value: Any) -> Any:
    """Browsers send 8 as 8.0 at times."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def slider_range(field: str, value: float) -> tuple[float, float]:
    """Where a slider begins and ends: short enough to aim, long enough for its value."""
    low, high = LIMITS[field]
    aimed_low, aimed_high = SLIDER_RANGE.get(field, (low, high))
    return max(low, aimed_low) if value >= aimed_low else low, aimed_high if value <= aimed_high else high


def labelled(error: SettingsError, task: str = "generate") -> SettingsError:
    """The error with the control's label in place of the field's name."""
    field, colon, rest = str(error).partition(":")
    controls = CONTROLS[task]
    return SettingsError(f"{controls[field].label}:{rest}") if colon and field in controls else error
