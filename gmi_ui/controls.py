"""Every control of the studio, once: label, range and help text, keyed by the settings field it fills.

A tab asks a `Panel` for the components it wants to show, by name; its handlers get the values back by name
and turn them into settings of the tab's task with `Panel.settings`. Such events skip gradio's own checks
(preprocess=False): the engine judges every number, in one wording. What a picture's settings hold beyond the
controls (a kept latent, choices made on the command line) travels in one hidden component, so that restoring
a picture loses nothing.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import gradio as gr
from gradio.components import Component

from engine.families import find_family
from engine.families.declaration import Family
from engine.settings import (
    LIMITS,
    OF_THE_MODEL,
    RANDOM_SEED,
    FlowSettings,
    GenerateSettings,
    RangeError,
    RunSettings,
    SettingsError,
    random_seed,
)
from gmi_ui.jobs import editing, generating, translating
from gmi_ui.runs.job import as_moved

REST = "rest"  # the hidden component
# The useful part of a field's limits; a slider reaches further once a value lies there.
SLIDER_RANGE = {
    "step_size": (0.005, 0.5),
    "diversity": (0.0, 1.0),
    "steps": (1, 300),
    "identity": (0.0, 3.0),
    "known_weight": (0.0, 3.0),
    "grow": (-32, 32),
    "feather": (0, 32),
    "detail_steps": (0, 300),
    "codebook": (0.0, 20.0),
    "cutouts": (0, 32),
    "reward_weight": (0.0, 5.0),
    "candidates": (1, 256),
    "draws": (2, 64),
    "spread": (0.05, 1.0),  # at 0 all begin at the same place, and stay equal
    "data_weight": (0.0, 3.0),
    "style_scale": (0.05, 2.0),
    "content_scale": (0.0, 2.0),
}
PRESET_NAMES = {
    "robust": "Robust",
    "paper": "As in the paper",
    "kde": "KDE",
    "stein": "Stein",
    "krr": "KRR",
    "kde_smoothed": "KDE, smoothed",
    "krr_smoothed": "KRR, smoothed",
    **generating.SAMPLER_NAMES,
}
SELECTIONS = {
    "": "As they are drawn",
    "sir": "By resampling (SIR)",
    "drs": "By rejection (DRS)",
    "mh": "By Markov chains (MH-GAN)",
}
SPACE_NAMES = {
    "w": "W as it was learned",
    "w_settled": "Whole parts only: no half hats, fewer wishes come true",
    "z": "One z for all layers",
    "z+": "A z for each layer",
    "codes": "Vectors near the codes",
    "straight-through": "The nearest codes",
    "soft": "Mixtures of codes",
}
CODE_ORDERS = {"rows": "Row by row", "centre": "From the centre", "random": "Random"}
FLOW_FIELDS = ("steps", "step_size", "diversity")  # what a preset sets
TOWARDS_FIELDS = ("data_weight",)
CODE_FIELDS = ("detail_steps", "code_order", "codebook")
DIFFUSION_FIELDS = ("denoising_steps", "gradient_steps", "width", "height", "start_strength")
OF_THE_FLOW = (*FLOW_FIELDS, *CODE_FIELDS, *TOWARDS_FIELDS)
AUTO = "auto"  # the choice of classes that leaves them to the prompt
BASELINE, NOTHING = "baseline", "none"  # choices of what runs beside, other than a model
# What stays when another model is chosen; everything else is each model's own.
COMMON_FIELDS = ("prompt", "n", "seed", "beside")
# Controls that only some families of generators have.
FAMILY_FIELDS = (
    "classes",
    "class_count",
    "relaxed_classes",
    "truncation_psi",
    *CODE_FIELDS,
    "cutouts",
    "candidates",
    "space",
    *DIFFUSION_FIELDS,
)
# Of tabs whose pictures may go towards real examples.
TOWARDS_HELP = "Real pictures that draw the results to look like them."
WEIGHT_HELP = "Beside the words, which count 1."
ABOUT_PRESETS = "Sets the sliders above. Robust never repels against the words: good for short runs, no fair sample."
ANY_PICTURES = "Leave empty for any pictures that the model draws, or describe one: a woman with pink hair"

MOST_KEPT = 2_000_000  # characters of what a page keeps of a tab's controls
WORDS = ("prompt", "neutral")  # fields that show what was typed whether or not it can be used

BASELINES = {"edit": editing.BASELINES, "translate": translating.BASELINES}  # by the task

FALLBACK = GenerateSettings(prompt="-")

Choices = Sequence[tuple[str, str]]  # what a person reads, and the value


@dataclass(frozen=True)
class Control:
    """One control: what a person reads, and how its component is made from its start value."""

    field: str
    label: str
    help: str
    make: "Make"


class KeptByPage(NamedTuple):
    """A tab's controls as a page kept them: values by settings field, the arrival it had taken by then.

    is_settled: whether the page shows them already.
    """

    values: Mapping[str, Any]
    arrival: int
    is_settled: bool


class Place(NamedTuple):
    """Where and with what a control's component begins."""

    elem_id: str
    value: Any
    choices: Choices
    visible: bool = True


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
            visible=place.visible,
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
    return gr.Number(
        value=place.value,
        label=control.label,
        placeholder=control.help,
        precision=0,
        elem_id=place.elem_id,
        min_width=80,
    )


def dropdown(*, is_open: bool = False, several: bool = False) -> Make:
    """A list to choose from, or to choose several from; with `is_open`, other values can be typed in."""

    def make(control: Control, place: Place) -> Component:
        return gr.Dropdown(
            place.choices,
            value=place.value,
            label=control.label,
            info=control.help,
            elem_id=place.elem_id,
            visible=place.visible,
            multiselect=several,
            filterable=is_open,
            allow_custom_value=is_open,
        )

    return make


def _checkbox(control: Control, place: Place) -> Component:
    return gr.Checkbox(
        value=place.value, label=control.label, info=control.help, elem_id=place.elem_id, visible=place.visible
    )


def _by_field(*controls: Control) -> dict[str, Control]:
    return {control.field: control for control in controls}


_SHARED = _by_field(
    Control("diversity", "Diversity", "How strongly pictures repel each other.", slider(0.05)),
    Control("step_size", "Step size", "How far each step goes.", slider(0.005)),
    Control("steps", "Steps", "How often every picture is moved.", slider(1)),
    Control("n", "Pictures", "More of them take longer.", slider(1)),
    Control("seed", "Seed", "random", _seed),
    Control(
        "preset",
        "Preset",
        ABOUT_PRESETS,
        dropdown(),
    ),
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
        Control("prompt", "Prompt", ANY_PICTURES, text(autofocus=True)),
        Control(
            "spread", "Distance from it", "Small stays close to the kept picture, 1 starts anywhere.", slider(0.05)
        ),
        Control(
            "beside",
            "Beside it",
            "The same prompt and seeds. Without words, the model alone.",
            dropdown(is_open=True),
        ),
        Control("truncation_psi", "Truncation", "Lower starts closer to the average picture.", slider(0.05)),
        Control(
            "classes",
            "Classes",
            "Several share the pictures. Numbers: how near the prompt is.",
            dropdown(is_open=True, several=True),
        ),
        Control("class_count", "Classes at most", "How many the prompt may find.", slider(1)),
        Control("relaxed_classes", "Mix classes", "Their shares move with the picture.", _checkbox),
        Control(
            "detail_steps",
            "Stage 2 steps",
            "Then codes settle in turn, where the prompt is likeliest, and stay: details.",
            slider(1),
        ),
        Control("code_order", "Order of the codes", "Whose turn is first in stage 2.", dropdown()),
        Control("codebook", "Pull to the codes", "Keeps to what the model can draw; 0: none.", slider(0.5)),
        Control("cutouts", "Random views", "Crops of a picture that the words judge; 0: the whole.", slider(1)),
        Control("preset", "Preset", f"{ABOUT_PRESETS} DOT to SVGD follow the model's discriminator.", dropdown()),
        Control(
            "choose",
            "Where pictures begin",
            "The model's discriminator can choose among more starts than there are pictures.",
            dropdown(),
        ),
        Control("draws", "Starts drawn for each", "Of which those are chosen.", slider(1)),
        Control("candidates", "Starts tried", "Each picture begins at the best fitting one.", slider(1)),
        Control("denoising_steps", "Denoising steps", "From noise to picture; 0: as the model is made for.", slider(1)),
        Control(
            "gradient_steps",
            "Gradients go through",
            "The last step alone takes less time and memory; its directions are rougher.",
            dropdown(),
        ),
        Control("width", "Width", "Pixels; 0: as large as the model draws.", slider(8)),
        Control("height", "Height", "Pixels; 0: as large as the model draws.", slider(8)),
        Control(
            "start_strength",
            "Noise added to the picture",
            "Of runs that start from one; at 1 next to nothing of it is left.",
            slider(0.05),
        ),
        Control("reward_model", "Second prompt model", "Judges the pictures by the same words, too.", dropdown()),
        Control("reward_weight", "How much it counts", "Beside the first, which counts 1.", slider(0.05)),
        Control("space", "What moves", "The latents behind a picture.", dropdown()),
        Control(
            "towards",
            "Towards pictures like these",
            f"{TOWARDS_HELP} Without words, the model's own where none are chosen.",
            dropdown(),
        ),
        Control("data_weight", "How much they count", WEIGHT_HELP, slider(0.05)),
    ),
    "edit": _SHARED
    | _by_field(
        Control("neutral", "What it is", "a person", text(lines=3)),
        Control("prompt", "What it should be", "a person with a beard", text(lines=3)),
        Control("strength", "Strength", "How far it goes; below 0 the other way.", slider(0.05)),
        Control("disentanglement", "Disentanglement", "Higher changes less besides.", slider(0.01)),
        Control("identity", "Identity", "How strongly it holds on to the picture.", slider(0.05)),
        Control("method", "Method", "StyleCLIP's ways are what the usual edit does: one result.", dropdown()),
        Control("baseline", "Beside it", "Another method from the same start.", dropdown()),
        Control("towards", "Towards pictures like these", f"{TOWARDS_HELP} Not of StyleCLIP's ways.", dropdown()),
        Control("data_weight", "How much they count", WEIGHT_HELP, slider(0.05)),
    ),
    "inpaint": _SHARED
    | _by_field(
        Control("prompt", "What to paint there", "optional: a woman with sunglasses", text()),
        Control("grow", "Grow the mask", "By pixels; below 0 it shrinks.", slider(1)),
        Control("feather", "Feather", "Pixels just inside the mask that fade over.", slider(1)),
        Control("invert", "Repaint the rest", "Keeps what is painted over instead.", _checkbox),
        Control("known_weight", "Fit to the rest", "How closely it goes with what is around.", slider(0.05)),
        Control("baseline", "Baseline beside it", "The same seeds without repulsion.", _checkbox),
    ),
    "translate": _SHARED
    | _by_field(
        Control("domain", "What it becomes", "One of the model's domains.", dropdown()),
        Control("prompt", "What else it should show", "optional: purple hair", text(lines=3)),
        Control("references", "Styles", "Of pictures, each result has one's, in turn.", dropdown()),
        Control("style_scale", "Style", "How far each style moves from where it began.", slider(0.05)),
        Control("content_scale", "Picture", "How far the picture itself moves; 0: the style alone.", slider(0.05)),
        Control("identity", "Identity", "How strongly it holds on to where it began.", slider(0.05)),
        Control("baseline", "Beside it", "From the same styles.", dropdown()),
    ),
}


class Panel:
    """The components of one tab, made where the tab asks for them.

    defaults: of the tab's task; tab: its name in the page, where that is another; count_examples: how many pictures a
    person gave are named by a hash.
    """

    def __init__(
        self,
        defaults: RunSettings,
        *,
        models: Sequence[str] = (),
        prompt_models: Sequence[str] = (),
        count_examples: Callable[[str], int | None] = lambda sha256: None,
        domains: Sequence[str] = (),
        tab: str = "",
    ) -> None:
        self._defaults = defaults
        self._prefix = id_prefix(tab or defaults.task)
        self._count_examples = count_examples
        self._controls = CONTROLS[defaults.task]
        self._choices: dict[str, Choices] = {
            "preset": preset_choices(defaults.presets),
            "choose": [(label, name) for name, label in SELECTIONS.items()],
            "model": [(name, name) for name in dict.fromkeys([defaults.model, *models])],
            "prompt_model": [(name, name) for name in dict.fromkeys([defaults.prompt_model, *prompt_models])],
            "reward_model": reward_choices([(name, name) for name in prompt_models]),
            "method": [(label, name) for name, label in editing.METHODS.items()],
            "baseline": [(label, name) for name, label in BASELINES.get(defaults.task, {}).items()],
            "domain": [(name, name) for name in domains] or [("The model's first", "")],
            "references": reference_choices(""),
            "beside": [
                ("The same without repulsion", BASELINE),
                ("Nothing", NOTHING),
                *((f"Another model: {name}", name) for name in models),
            ],
            "code_order": [(label, name) for name, label in CODE_ORDERS.items()],
            "gradient_steps": [("All denoising steps", "all"), ("The last step", "last")],
            "classes": class_choices(()),
            "space": space_choices(()),
            "towards": towards_choices(""),
        }
        self.components: dict[str, Component] = {}

    @property
    def task(self) -> str:
        """Of the engine."""
        return self._defaults.task

    def elem_id(self, field: str) -> str:
        """The page's name of a control; unlike its field, no two tabs share one."""
        return f"{self._prefix}-{field.replace('_', '-')}"

    def show(self, field: str) -> Component:
        """Makes the component of a control here."""
        control = self._controls[field]
        value, choices = value_of(self._defaults, field), self._choices.get(field, ())
        place = Place(self.elem_id(field), value, choices, is_shown(field, find_family("")))
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
        for name, value in values_of(settings).items():
            component = self.components.get(name)
            if isinstance(component, gr.Slider):
                low, high = slider_range(name, value)
                low = min(component.minimum, low if value < component.minimum else value)
                changes[component] = gr.update(value=value, minimum=low, maximum=high)
            elif component is not None and name in EXAMPLE_CHOICES:
                choices = EXAMPLE_CHOICES[name](value, self._count_examples(value))
                changes[component] = gr.update(value=value, choices=choices)
            elif component is not None:
                changes[component] = gr.update(value=value)
        return changes

    def settings(self, values: Mapping[Component, Any]) -> RunSettings:
        """What an event's values ask for. Raises SettingsError in the page's own words."""
        return settings_from(self.named(values), self._defaults)


def id_prefix(tab: str) -> str:
    """How the page's names of a tab's controls begin."""
    return "control" if tab == "generate" else f"{tab}-control"


def settings_from(
    values: Mapping[str, Any],
    defaults: RunSettings = FALLBACK,
    *,
    flow_of: Callable[[str], FlowSettings] | None = None,
) -> RunSettings:
    """Settings from values keyed by field, on top of what the hidden component holds. flow_of: a model's presets.

    Where no control was touched since a picture was restored, they are that picture's, to make it again: with
    every slider as it was moved, and the step at which it was stopped. Raises SettingsError with the control's
    label in place of the field's name.
    """
    rest = defaults
    try:
        rest = rest_of(values, defaults)
        chosen = {name: whole(value) for name, value in values.items() if name in CONTROLS[defaults.task]}
        if all(value_of(rest, name) == value for name, value in chosen.items()):
            return rest
        if "seed" in chosen and chosen["seed"] in (None, "", RANDOM_SEED):
            chosen["seed"] = random_seed()
        settings = as_moved(rest)
        preset = chosen.get("preset", settings.preset)
        if preset != settings.preset:
            settings = settings.with_preset(preset)
            settings = replace(settings, flow=flow_of(preset)) if flow_of else settings
        of_flow = {name: chosen.pop(name) for name in OF_THE_FLOW if name in chosen}
        of_flow = with_both_stages(of_flow, settings.flow.detail_steps)
        return replace(settings, flow=replace(settings.flow, **of_flow), **as_fields(chosen, settings))
    except SettingsError as error:
        raise labelled(error, defaults.task, rest) from error


def usable_settings(
    values: Mapping[str, Any],
    defaults: RunSettings = FALLBACK,
    *,
    flow_of: Callable[[str], FlowSettings] | None = None,
) -> RunSettings:
    """As `settings_from`, without the values that cannot be used."""
    kept: dict[str, Any] = {}
    for name in sorted(values, key=lambda name: name != REST):  # the hidden component first
        try:
            settings_from({**kept, name: values[name]}, defaults, flow_of=flow_of)
        except SettingsError:
            continue
        kept[name] = values[name]
    return settings_from(kept, defaults, flow_of=flow_of)


def kept_by_page(text: str, task: str) -> KeptByPage:
    """A tab's controls as a page kept them. Nothing in it is trusted: what no control can hold is left out."""
    try:
        told = json.loads(text) if 0 < len(text) <= MOST_KEPT else {}
        values, arrival = dict(told["values"]), int(told["arrival"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return KeptByPage({}, 0, False)
    fields = {name: value for name, value in values.items() if name in CONTROLS[task] and is_plain(value)}
    if isinstance(values.get(REST), str):
        fields[REST] = values[REST]
    return KeptByPage(fields, arrival, told.get("settled") is True)


def is_plain(value: Any) -> bool:
    """Whether it is what a control can hold."""
    if isinstance(value, list):
        return all(isinstance(one, str) for one in value)
    return isinstance(value, str | int | float)


def values_of(settings: RunSettings) -> dict[str, Any]:
    """What the controls of a task hold when they show `settings`, the hidden component included."""
    values = {name: value_of(settings, name) for name in CONTROLS[settings.task]}
    return values | {REST: json.dumps(settings.to_dict())}


def with_both_stages(values: Mapping[str, Any], detail_steps: int) -> dict[str, Any]:
    """The control of the steps counts those of the first stage, the settings all of them."""
    detail_steps = values.get("detail_steps", detail_steps)
    if type(values.get("steps")) is int and type(detail_steps) is int:
        return {**values, "steps": values["steps"] + detail_steps}
    return dict(values)


def as_fields(values: Mapping[str, Any], settings: RunSettings) -> dict[str, Any]:
    """Controls' values as the settings have them: no lists. Raises SettingsError where no class is chosen."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    if "space" in fields:
        fields["space"] = fields["space"] or None
    if "classes" in fields:
        fields["classes"] = chosen_classes(values["classes"])
    if "beside" in fields and isinstance(settings, GenerateSettings):
        model = fields.pop("beside")
        fields["baseline"] = model == BASELINE
        if model in (BASELINE, NOTHING):
            fields["beside"] = None
        elif settings.beside is None or settings.beside.model != model:
            fields["beside"] = replace(FALLBACK, model=model, baseline=False)
    return fields


def chosen_classes(value: Any) -> Any:
    """The names; none where they are left to the prompt. Raises SettingsError where nothing is chosen."""
    if not value:
        raise SettingsError("classes: there is none; choose at least one, or leave them to the prompt.")
    return tuple(name for name in value if name != AUTO) if isinstance(value, list) else value


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
    flow = settings.flow.as_moved
    if field == "steps":
        return flow.steps - flow.detail_steps
    if field in OF_THE_FLOW:
        return getattr(flow, field)
    if field == "classes":
        return list(getattr(settings, field)) or [AUTO]
    if field == "space":
        return getattr(settings, field) or ""
    if field == "beside" and isinstance(settings, GenerateSettings):
        return settings.beside.model if settings.beside else BASELINE if settings.baseline else NOTHING
    value = getattr(settings, field)
    return list(value) if isinstance(value, tuple) else value


def is_shown(field: str, family: Family) -> bool:
    """Whether a control means something to generators of that family."""
    if field == "space":
        return bool(family.spaces)
    return field not in FAMILY_FIELDS or field in family.choices


def class_choices(names: Sequence[str], similarities: Mapping[str, float] | None = None) -> Choices:
    """The classes to choose from; the similarity of each to the prompt beside it, where known."""
    told = {name: f"{name}  {similarities[name]:.2f}" if similarities else name for name in names}
    return [("Found from the prompt", AUTO), *((told[name], name) for name in names)]


def reward_choices(prompt_models: Choices) -> Choices:
    return [("None", ""), *prompt_models]


def preset_choices(names: Iterable[str]) -> Choices:
    return [(PRESET_NAMES[name], name) for name in names]


def space_choices(names: Sequence[str]) -> Choices:
    return [("As the model prefers", ""), *((SPACE_NAMES.get(name, name), name) for name in names)]


def towards_choices(value: str, count: int | None = None) -> Choices:
    """What pictures may go towards; value: what is chosen, count: how many of a person's own that names."""
    choices = [("Nothing", ""), ("The model's own examples", OF_THE_MODEL)]
    return choices if value in ("", OF_THE_MODEL) else [*choices, (_own_pictures(count), value)]


def reference_choices(value: str, count: int | None = None) -> Choices:
    """Where the styles of a translation come from; as `towards_choices`."""
    choices = [("Drawn at random", "")]
    return choices if value == "" else [*choices, (_own_pictures(count), value)]


def _own_pictures(count: int | None) -> str:
    if not count:
        return "Pictures of yours: give them again"
    return "A picture of yours" if count == 1 else f"{count} of your pictures"


# Controls whose choices depend on the pictures that a person gave.
EXAMPLE_CHOICES: Mapping[str, Callable[[str, int | None], Choices]] = {
    "towards": towards_choices,
    "references": reference_choices,
}


def whole(value: Any) -> Any:
    """Browsers send 8 as 8.0 at times."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def slider_range(field: str, value: float) -> tuple[float, float]:
    """Where a slider begins and ends: short enough to aim, long enough for its value."""
    low, high = LIMITS[field]
    aimed_low, aimed_high = SLIDER_RANGE.get(field, (low, high))
    return max(low, aimed_low) if value >= aimed_low else low, aimed_high if value <= aimed_high else high


def labelled(error: SettingsError, task: str = "generate", shown: RunSettings | None = None) -> SettingsError:
    """The error with the control's label in place of the field's name, and the ends of its slider.

    shown: the settings that the controls were last set to: a slider reaches as far as their values.
    """
    controls = CONTROLS[task]
    if isinstance(error, RangeError) and error.name in controls:
        aimed = SLIDER_RANGE.get(error.name, LIMITS[error.name])
        error = error.within(*(slider_range(error.name, value_of(shown, error.name)) if shown else aimed))
    field, colon, rest = str(error).partition(":")
    return SettingsError(f"{controls[field].label}:{rest}") if colon and field in controls else error
