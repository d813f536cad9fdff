"""The Generate tab: layout, and which click calls what."""

import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import gradio as gr
from gradio.components import Component

from engine.bulk.plot import BaseOf, Cell
from engine.errors import ModelError
from engine.families import find_family
from engine.families.declaration import Family
from engine.settings import (
    GENERATE_PRESETS,
    PRESETS,
    SAMPLERS,
    GenerateSettings,
    MarkName,
    Pin,
    RunSettings,
    SettingsError,
)
from gmi_ui.components.particle_grid import GridTexts, particle_grid, wake
from gmi_ui.components.plot import plot_view
from gmi_ui.components.plot.functions import plot_functions
from gmi_ui.components.run_bar import bar_value, run_bar
from gmi_ui.controls import (
    AUTO,
    BASELINE,
    CODE_FIELDS,
    COMMON_FIELDS,
    DIFFUSION_FIELDS,
    FAMILY_FIELDS,
    FLOW_FIELDS,
    NOTHING,
    REST,
    TOWARDS_FIELDS,
    KeptByPage,
    Panel,
    class_choices,
    is_shown,
    labelled,
    preset_choices,
    rest_of,
    settings_from,
    space_choices,
    usable_settings,
    values_of,
)
from gmi_ui.jobs.generating import GENERATE, GenerateJob
from gmi_ui.models.catalogue import Entry, look_up
from gmi_ui.models.models import shown_name
from gmi_ui.notices import Notice, NotPossibleError, explain
from gmi_ui.pictures.restoring import Restored
from gmi_ui.pictures.saving import check_picture
from gmi_ui.runs.job import as_moved, shortened
from gmi_ui.runs.plotting import Plotting
from gmi_ui.runs.redrawing import step_of
from gmi_ui.runs.run import OURS, Run
from gmi_ui.server_functions import grid_functions
from gmi_ui.services import Services
from gmi_ui.sessions import Session, seen_of
from gmi_ui.tabs.common import (
    MISSING_EXAMPLES,
    Changes,
    Page,
    Wiring,
    merged,
    prompt_hint,
    seed_row,
    towards_choice,
    while_typing,
)
from gmi_ui.tabs.plot_form import plot_form

if TYPE_CHECKING:
    from engine.latents.classes import CloseClass
    from engine.tasks.towards import Shown

EXAMPLES = (
    "a woman with pink hair and a big smile",
    "a sad man with glasses",
    "a person with a green mohawk",
    "a bearded man with glasses",
)
MARKS: tuple[MarkName, ...] = get_args(MarkName)
DEFAULTS = GenerateSettings(prompt=EXAMPLES[0], seed=1)
TEXTS = GridTexts(
    "Describe a picture. Watch different answers form.",
    "Every picture is a particle that moves towards your words and away from the others. Beside them run the same "
    "seeds without repulsion, so you see what it adds. Click an example above, or type your own and press Run.",
    hand_over={"edit": "Edit this", "inpaint": "Repaint this", "translate": "Translate this"},
    own={"more_like_this": "More like this", "reseed": "Same seed again"},
    of_all={
        "draw_anew": "Draw the others anew",
        "unlike_these": "More, unlike these",
        "unlike_all": "Unlike everything in this session",
    },
    has_marks=True,
)
MARK_FIRST = (
    "Mark pictures first, with the buttons on them or the keys L, U and P: pinned ones stay, and the others are drawn "
    "anew, like those that you like and unlike those that you do not."
)
EQUAL = (
    "At distance 0 all pictures begin at the kept one, and nothing can part them: they stay equal. Choose a larger "
    "distance."
)
PRESET_FIELDS = (*FLOW_FIELDS, *TOWARDS_FIELDS)  # what a preset sets here
ALL_CLASSES = "Without words all classes share the pictures, unless some are chosen."
NEAREST = 3  # classes that are shown where the prompt is close to none
NO_ENTRY = Entry(find_family(""), (), (), DEFAULTS)  # of a model that is not there
# The choice that leaves the classes to the prompt, and named ones, exclude each other; the newer one stays.
# Gradio takes an array for those of all outputs, hence two.
AUTO_JS = f"(v) => [v.at(-1) === '{AUTO}' ? ['{AUTO}'] : v.filter((name) => name !== '{AUTO}')]"
STEPS_TEXTS = {  # what the control of the steps is called, by whether there is a second stage
    False: {"label": "Steps", "info": "How often every picture is moved."},
    True: {"label": "Stage 1 steps", "info": "First all codes move together."},
}


class Close(NamedTuple):
    """The classes that a prompt finds, or is nearest to, and all of them, the closest first."""

    words: str
    found: Sequence["CloseClass"]
    ranked: Sequence["CloseClass"]


class GenerateTab:
    """Type a prompt, watch different answers form beside the baseline."""

    title = "Generate"
    task = "generate"

    def build(self, page: Page) -> None:
        GenerateWiring(page, GenerateLayout(page.services)).connect()


class GenerateLayout:
    """The tab's components, in the order of the page."""

    def __init__(self, services: Services) -> None:
        models = services.models
        self._count = services.examples.count
        self.panel = Panel(
            DEFAULTS,
            models=models.names(task="generate"),
            prompt_models=models.names("prompt"),
            count_examples=services.examples.count,
        )
        self.panel.hide_rest()
        with gr.Column(elem_classes="studio-prompt"):
            self.panel.show("prompt")
            self.hint = prompt_hint("generate")
            self.bar = run_bar("generate", models.examples(DEFAULTS.model) or EXAMPLES)
        with gr.Row(elem_classes="studio-body"):
            with gr.Column(elem_classes="studio-settings", scale=0, min_width=272):
                self._settings()
            with gr.Column(elem_classes="studio-results", scale=1, min_width=300):
                self.grid = particle_grid("generate", TEXTS, grid_functions(services))
                self.plot = plot_view(plot_functions(services))

    def _settings(self) -> None:
        show = self.panel.show
        with gr.Column(visible=False, elem_classes="kept-start") as self.kept:
            gr.HTML("<p>Starts around a kept picture</p>", apply_default_css=False)
            show("spread")
            self.forget = gr.Button("Start anywhere again", size="sm")
        with gr.Column(visible=False, elem_classes="kept-start", elem_id="unlike-these") as self.unlike:
            self.seen = gr.HTML("", apply_default_css=False)
            self.forget_seen = gr.Button("Forget them", size="sm")
        for field in ("model", "beside"):
            show(field)
        with gr.Column(visible=False, elem_classes="class-settings") as self.classes:
            show("classes")
            self.found = gr.HTML("", apply_default_css=False, elem_id="found-classes")
            self.take = gr.Button("Choose these", size="sm", elem_id="take-classes")
            for field in ("class_count", "relaxed_classes"):
                show(field)
        for field in ("diversity", "step_size", "steps", *CODE_FIELDS, "candidates", "cutouts", "truncation_psi", "n"):
            show(field)
        for field in DIFFUSION_FIELDS:
            show(field)
        self.dice, self.reuse = seed_row(self.panel, "generate")
        self.examples = towards_choice(self.panel, "generate")
        self.unwanted = gr.UploadButton(
            "Unlike pictures of yours", file_count="multiple", size="sm", elem_id="unlike-pictures"
        )
        self.begin = gr.UploadButton(
            "Start from a picture", size="sm", elem_id="start-from-picture", visible=is_begun(find_family(""))
        )
        with gr.Accordion("Preset and prompt model", open=False):
            for field in (
                "preset", "choose", "draws", "prompt_model", "reward_model", "reward_weight", "space",
            ):  # fmt: skip
                show(field)
        self.plotting = plot_form()
        self.restore = gr.UploadButton(
            "Restore from a saved picture", size="sm", elem_id="restore-picture", elem_classes="takes-pictures"
        )

    def changes(self, settings: GenerateSettings, entry: Entry) -> Changes:
        """Shows `settings` in every control, and only the controls that its model has."""
        changes = self.panel.updates(settings)
        for field in FAMILY_FIELDS:
            changes[self.panel.components[field]] |= {"visible": is_shown(field, entry.family)}
        changes[self.panel.components["classes"]] |= {"choices": class_choices(entry.classes)}
        presets = GENERATE_PRESETS if entry.is_judged else dict.fromkeys([*PRESETS, settings.preset])
        changes[self.panel.components["preset"]] |= {"choices": preset_choices(presets)}
        spaces = entry.family.spaces
        if settings.space is not None and settings.space not in spaces:  # of a restored picture
            spaces = (*spaces, settings.space)
        changes[self.panel.components["space"]] |= {"choices": space_choices(spaces), "visible": bool(spaces)}
        changes[self.panel.components["steps"]] |= STEPS_TEXTS[entry.family.has_stages]
        changes[self.classes] = gr.update(visible=is_shown("classes", entry.family))
        changes[self.kept] = gr.update(visible=settings.start is not None)
        changes[self.begin] = gr.update(visible=is_begun(entry.family))
        named = settings.unlike or settings.like or settings.pinned or settings.start_from
        changes[self.unlike] = gr.update(visible=bool(named))
        changes[self.seen] = gr.update(value=f"<p>{html.escape(marked_text(settings, self._count))}</p>")
        return changes


class GenerateWiring(Wiring):
    """The tab's own handlers."""

    defaults = DEFAULTS
    examples = EXAMPLES

    def connect(self) -> None:
        super().connect()
        layout = self._layout
        self._on(layout.grid.more_like_this, self.more_like_this, inputs=self._values, outputs=self._shown)
        self._on(layout.grid.reseed, self.reseed, inputs=self._values, outputs=self._shown)
        for name in TEXTS.of_all:
            self._on(getattr(layout.grid, name), getattr(self, name), inputs=self._values, outputs=self._shown)
        kept = [self._control(REST), layout.kept]
        self._on(layout.forget.click, self.start_anywhere, inputs=self._values, outputs=kept)
        seen = [self._control(REST), layout.unlike]
        self._on(layout.forget_seen.click, self.forget_seen, inputs=self._values, outputs=seen)
        given = [self._token, layout.unwanted, self._control(REST)]
        told = [self._control(REST), layout.unlike, layout.seen, layout.grid]
        self._on(layout.unwanted.upload, self.give_unwanted, inputs=given, outputs=told, preprocess=True)
        begun = [self._token, layout.begin, self._control(REST)]
        self._on(layout.begin.upload, self.begin_at, inputs=begun, outputs=told, preprocess=True)
        load = self._page.blocks.load
        arrival = self._on(load, None, outputs=self._token, js="() => window.studio.token")
        self._attach_on(arrival.then)
        self._connect_classes()
        self._connect_towards()
        plot = layout.plotting
        asked = {*self._values, plot.x, plot.x_values, plot.y, plot.y_values, plot.shown}
        self._on(plot.run.click, self.plot, inputs=asked, outputs=[layout.plot, layout.grid])

    def _connect_models(self) -> None:
        # Whoever goes through the menu quickly gets the controls of the last model that was chosen.
        self._on(
            self._input_of("model"),
            self.choose_model_of,
            inputs=self._values,
            outputs=self._shown,
            trigger_mode="always_last",
        )

    def _connect_presets(self) -> None:
        sliders = [self._control(field) for field in PRESET_FIELDS]
        self._on(self._input_of("preset"), self.apply_preset_of, inputs=self._values, outputs=sliders)

    def _connect_classes(self) -> None:
        layout = self._layout
        classes: Any = self._control("classes")
        # A name that was typed in and entered is no input to gradio: it counts once the box is left.
        for event in (self._input_of("classes"), classes.blur):
            self._on(event, None, inputs=classes, outputs=classes, js=AUTO_JS)
        self._on(layout.take.click, self.take_classes, inputs=self._values, outputs=[classes, layout.grid])
        prompt: Any = self._control("prompt")
        outputs = [layout.found, layout.take, classes]
        for event in (prompt.change, self._input_of("class_count"), self._input_of("prompt_model")):
            self._on(event, self.find_classes, outputs=outputs, **while_typing("classes", self._values))
        self._on(layout.bar.pick, self.find_picked, inputs=self._values, outputs=outputs)

    @property
    def _shown(self) -> list[Component]:
        layout = self._layout
        more = [layout.kept, layout.unlike, layout.seen, layout.classes, layout.found, layout.take, layout.bar]
        return [*super()._shown, *more, layout.begin]

    # --- the settings of one model, and of another beside it

    def chosen(self, session: Session, values: Mapping[Component, Any]) -> GenerateSettings:
        return self._settings_of(session, self._layout.panel.named(values), settings_from)

    def kept_settings(self, session: Session, values: Mapping[str, Any]) -> GenerateSettings:
        try:
            return self._settings_of(session, {**values_of(DEFAULTS), **values}, usable_settings)
        except (SettingsError, ModelError):  # of a model that is gone
            return DEFAULTS

    def first_settings(self, session: Session) -> GenerateSettings | None:
        """With the model that a person prefers, where it is here; the page begins with the studio's own."""
        model = self._services.preferences.now.model
        if model in ("", DEFAULTS.model) or model not in self._services.models.names(task=self.name):
            return None
        return self._own(session, model)

    def _settings_of(
        self, session: Session, named: Mapping[str, Any], make: Callable[..., RunSettings]
    ) -> GenerateSettings:
        rest, model = rest_of(named, DEFAULTS), str(named["model"])
        if model != rest.model:  # its controls are not on the page yet: they must not be another model's
            own = values_of(self._own(session, model))
            named = {**own, **{field: named[field] for field in COMMON_FIELDS}}
        settings: Any = make(named, DEFAULTS, flow_of=self._entry(model).family.flow)
        return self._with_other(session, settings, named["beside"])

    def _with_other(self, session: Session, settings: GenerateSettings, beside: str) -> GenerateSettings:
        """Beside it another model, with the settings that it has when it is chosen itself."""
        if beside in (BASELINE, NOTHING):
            return settings
        if beside == settings.model:
            raise SettingsError(f"Beside it: {shown_name(beside)} is the model itself; choose another one.")
        own = self._own(session, beside)
        common: dict[str, Any] = {"prompt": settings.prompt, "n": settings.n, "seed": settings.seed}
        other = replace(as_moved(own), baseline=False, beside=None, pinned=(), **common)
        if settings.beside and as_moved(settings.beside) == other:
            return settings  # restored, perhaps with the moves of sliders
        return replace(settings, beside=other)

    def _own(self, session: Session, model: str) -> GenerateSettings:
        """What a model's controls were when it was last turned away from; at first, its own defaults."""
        kept: Any = session.kept_settings.get(model)
        return kept or self._entry(model).first

    def _entry(self, model: str) -> Entry:
        return look_up(self._services.models, model)

    def take(self, session: Session, path: str, restored: Restored) -> None:
        session.descend(restored.settings, restored.parent)

    def is_steered(self, run: Run, model: str) -> bool:
        return run.settings.model == model  # each model has sliders of its own

    def new_run(self, session: Session, settings: Any) -> Run:
        self._check(settings)
        session.keep_settings(settings)
        run = Run(settings, self._job_of(settings), parent=session.parent_of(settings))
        if settings.start is not None and settings.spread == 0 and settings.n > 1:
            run.say(Notice(EQUAL, "warning", of_controls=True))
        return run

    def _job_of(self, settings: GenerateSettings) -> GenerateJob:
        """With the pictures that the settings name. Raises SettingsError where they are gone."""
        examples: dict[str, Shown] = {}
        for side in filter(None, (settings, settings.beside)):
            if (found := self._check_examples(side)) is not None:
                examples[side.towards] = found
            examples |= self._check_shown(side)
        return GenerateJob(examples) if examples else GENERATE

    def _check(self, settings: GenerateSettings) -> None:
        """Raises SettingsError for what does not fit a model, before the pictures on the page have to go."""
        from engine import tasks

        models = self._services.models
        for chosen in filter(None, (settings, settings.beside)):
            if chosen.start_from and self._services.examples.find(chosen.start_from) is None:
                raise SettingsError(MISSING_EXAMPLES["start_from"])
            is_judging = chosen.choose or chosen.preset in SAMPLERS
            if not (is_judging or self._entry(chosen.model).family.has_own_choices):
                continue
            try:
                generator, prompt_model = models.generator(chosen.model), models.prompt_model(chosen.prompt_model)
                sets = self._services.examples
                shown: Any = {"seen": sets.find(chosen.unlike), "liked": sets.find(chosen.like)}
                if (begun := sets.pictures(chosen.start_from)) is not None:
                    shown["picture"] = begun.pictures[0]
                tasks.check(chosen, generator, prompt_model, examples=sets.pictures(chosen.towards), **shown)
            except SettingsError as error:
                whose = "" if chosen is settings else f"{shown_name(chosen.model)}: "
                raise SettingsError(f"{whose}{labelled(error)}") from error

    # --- handlers

    def choose_model_of(self, values: Mapping[Component, Any]) -> Changes:
        """Another model: its own controls as it last had them, its examples. Loads it, to tell now what is wrong."""
        session = self._session(values[self._token])
        named = self._layout.panel.named(values)
        model = str(named["model"])
        try:
            self._services.models.generator(model)
            before = rest_of(named, DEFAULTS).model
            if model == before:
                return {self._layout.grid: wake()}
            entry = self._entry(model)
            old = self._entry(before)
            session.keep_settings(usable_settings({**named, "model": before}, DEFAULTS))
            settings = self._own(session, model)
        except Exception as error:  # anything can be inside a file that a person points at
            session.say(explain(error))
            return {self._layout.grid: wake()}
        session.shown_model = model
        changes = self._layout.changes(settings, entry)
        for field in COMMON_FIELDS:
            del changes[self._control(field)]
        prompt = named["prompt"]
        examples = self.examples_of(entry.examples)
        if prompt in self.examples_of(old.examples) and prompt not in examples:
            prompt = changes[self._control("prompt")] = examples[0]
        changes = merged(changes, self._close_classes(entry, prompt, settings))
        return {**changes, self._layout.bar: bar_value(examples), self._layout.grid: wake()}

    def show(self, session: Session, settings: Any) -> Changes:
        session.shown_model = settings.model
        if settings.beside:
            session.keep_settings(as_moved(settings.beside))
        try:
            entry = self._entry(settings.model)
        except ModelError:  # told once it is to run
            entry = NO_ENTRY
        bar = {self._layout.bar: bar_value(self.examples_of(entry.examples))}
        changes = self._layout.changes(settings, entry) | bar
        return merged(changes, self._close_classes(entry, settings.prompt, settings))

    def apply_preset_of(self, values: Mapping[Component, Any]) -> Changes:
        """The sliders take what the preset is for the model."""
        entry, settings = self._entry_and_settings(values)
        flow = entry.family.flow(settings.preset)
        updates = self._layout.panel.updates(replace(settings, flow=flow))
        return {self._control(field): updates[self._control(field)] for field in PRESET_FIELDS}

    def examples_of(self, examples: Sequence[str]) -> Sequence[str]:
        return examples or EXAMPLES

    def find_classes(self, values: Mapping[Component, Any]) -> Changes:
        """The classes that the prompt is close to, where the model has classes."""
        entry, settings = self._entry_and_settings(values)
        if settings.prompt.strip() != str(values[self._control("prompt")]).strip():  # one that cannot be used
            return {self._layout.found: ""}
        return self._close_classes(entry, settings.prompt, settings) or {self._layout.found: gr.update()}

    def find_picked(self, values: Mapping[Component, Any], event: gr.EventData) -> Changes:
        """The same for an example prompt that was clicked, which is not in its control yet."""
        return self.find_classes({**values, self._control("prompt"): str(event.text)})

    def take_classes(self, values: Mapping[Component, Any]) -> Changes:
        """Those that the prompt finds become a choice that can be edited."""
        entry, settings = self._entry_and_settings(values)
        close = self._close(entry, settings.prompt, settings)
        names = [entry.classes[one.number] for one in close.found] if close else []
        return {self._control("classes"): gr.update(value=names or [AUTO]), self._layout.grid: wake()}

    def _entry_and_settings(self, values: Mapping[Component, Any]) -> tuple[Entry, GenerateSettings]:
        named = self._layout.panel.named(values)
        settings: Any = usable_settings(named, DEFAULTS)
        try:
            return self._entry(settings.model), settings
        except ModelError:  # told where the model was chosen
            return NO_ENTRY, settings

    def _close(self, entry: Entry, prompt: str, settings: GenerateSettings) -> "Close | None":
        """None for a model without classes, or where the prompt model is not there."""
        if not entry.classes:
            return None
        from engine.latents import classes

        try:
            features = self._services.models.prompt_model(settings.prompt_model).text_features
        except ModelError:
            return None
        ranked = classes.rank_classes(prompt, entry.classes, features)
        try:
            found = classes.find_classes(prompt, entry.classes, features, count=settings.class_count)
        except SettingsError:
            return Close(f"No class is close to “{shortened(prompt)}”. The nearest:", ranked[:NEAREST], ranked)
        return Close("The prompt finds", found, ranked)

    def _close_classes(self, entry: Entry, prompt: str, settings: GenerateSettings) -> Changes:
        """Shows what the prompt finds, and all classes by their similarity; without a prompt, that all share."""
        if entry.classes and not prompt.strip():
            return {
                self._layout.found: f"<p>{ALL_CLASSES}</p>",
                self._layout.take: gr.update(visible=False),
                self._control("classes"): gr.update(choices=class_choices(entry.classes)),
            }
        close = self._close(entry, prompt, settings)
        if close is None:
            return {}
        told = [f"<b>{html.escape(entry.classes[one.number])}</b> {one.similarity:.2f}" for one in close.found]
        similarities = {entry.classes[one.number]: one.similarity for one in close.ranked}
        return {
            self._layout.found: f"<p>{html.escape(close.words)} {', '.join(told)}</p>",
            self._layout.take: gr.update(value="Choose these" if len(told) > 1 else "Choose this", visible=True),
            self._control("classes"): gr.update(choices=class_choices(list(similarities), similarities)),
        }

    def more_like_this(self, values: Mapping[Component, Any], event: gr.EventData) -> Changes:
        """A run of new particles around a picture, with the controls as they are otherwise."""
        session = self._session(values[self._token])
        try:
            run = self._run_of(session)
            side, index = str(event.side), int(event.index)
            check_picture(run, side, index)
            kept = run.particles(side, event.step).latents[index]
            settings = replace(self._of_picture(session, run, side, values), start=tuple(kept.flatten().tolist()))
            task: Any = run.tasks[side]
            is_of_all = not (settings.prompt or run.settings_of(side).prompt or settings.classes)
            if task.classes and not is_of_all:  # what the numbers of its latent belong to
                settings = replace(settings, classes=task.classes)
            session.descend(settings, self._services.outputs.made_from(run, side, index, event.step))
            self._start(session, settings)
        except (ValueError, NotPossibleError) as error:
            session.say(explain(error))
            return {self._layout.grid: wake()}
        return {**self.show(session, settings), self._layout.grid: wake()}

    def reseed(self, values: Mapping[Component, Any], event: gr.EventData) -> Changes:
        """The seed of one picture into the seed control: the next run's first picture starts where it did."""
        session = self._session(values[self._token])
        try:
            run = self._run_of(session)
            side, index = str(event.side), int(event.index)
            check_picture(run, side, index)
            seed = run.particles(side).seeds[index]
            settings = replace(self._of_picture(session, run, side, values), seed=seed, choose="")
        except (ValueError, NotPossibleError) as error:
            session.say(explain(error))
            return {self._layout.grid: wake()}
        session.say(Notice(f"Seed {seed} is set. Change what you like and press Run: the first picture starts there."))
        return {**self.show(session, settings), self._layout.grid: wake()}

    def unlike_these(self, values: Mapping[Component, Any]) -> Changes:
        """A run of as many fresh particles, apart from the pictures of this run and from those that it was to be
        unlike itself."""

        def settings(session: Session, run: Run) -> GenerateSettings:
            places = range(run.settings.n)
            return replace(self._anew(session, run, values), unlike=self._with_those(run, "unlike", places))

        return self._begin_anew(values, settings)

    def unlike_all(self, values: Mapping[Component, Any]) -> Changes:
        """The same apart from all that this browser tab's runs showed, baselines included, and from what they were to
        be unlike, as far as this prompt model saw it."""

        def settings(session: Session, run: Run) -> GenerateSettings:
            chosen = self._anew(session, run, values)
            wanted = self._services.models.hash_of(chosen.prompt_model)
            parts = [seen for seen in session.seen if seen.prompt_model == wanted]
            if not parts:
                raise NotPossibleError("No picture of this session was seen by the chosen prompt model.")
            return replace(chosen, unlike=self._services.examples.joined(parts).sha256)

        return self._begin_anew(values, settings)

    def draw_anew(self, values: Mapping[Component, Any]) -> Changes:
        """A run in which pinned pictures stay and fresh particles take the others' places, like the liked ones and
        unlike the unlike ones."""

        def settings(session: Session, run: Run) -> GenerateSettings:
            if not run.marks:
                raise NotPossibleError(MARK_FIRST)
            places = {name: [at for at, marks in sorted(run.marks.items()) if name in marks] for name in MARKS}
            chosen = self._anew(session, run, values, of_picture=bool(places["pin"]))
            return replace(
                chosen,
                like=self._with_those(run, "like", places["like"]),
                unlike=self._with_those(run, "unlike", places["unlike"]),
                pinned=pins_of(run, places["pin"]),
            )

        return self._begin_anew(values, settings)

    def _begin_anew(
        self, values: Mapping[Component, Any], settings_of: "Callable[[Session, Run], GenerateSettings]"
    ) -> Changes:
        """Begins the run that a finished one leads to, and shows its settings."""
        session = self._session(values[self._token])
        try:
            run = self._run_of(session)
            check_picture(run, OURS, 0)
            settings = settings_of(session, run)
            session.descend(settings, self._services.outputs.made_from(run, OURS, 0))
            self._start(session, settings)
        except (ValueError, NotPossibleError) as error:
            session.say(explain(error))
            return {self._layout.grid: wake()}
        return {**self.show(session, settings), self._layout.grid: wake()}

    def _anew(
        self, session: Session, run: Run, values: Mapping[Component, Any], *, of_picture: bool = False
    ) -> GenerateSettings:
        """The controls, for fresh particles; of_picture: and where latents mean what they do in the run."""
        chosen = self._of_picture(session, run, OURS, values) if of_picture else self.chosen(session, values)
        task: Any = run.tasks[OURS]
        if of_picture and task.classes and (chosen.prompt or chosen.classes):
            chosen = replace(chosen, classes=task.classes)
        made: Any = run.settings
        return replace(as_moved(chosen), seed=(made.seed + made.seeds_drawn) % 2**32, pinned=())

    def _with_those(self, run: Run, name: Literal["like", "unlike"], places: Sequence[int]) -> str:
        """The set that the run's settings name so, with the pictures in these places: its hash."""
        earlier = str(getattr(run.settings, name))
        if not places:
            return earlier
        step, task = step_of(run, OURS), run.tasks[OURS]
        seen = seen_of(run, OURS)
        chosen = replace(seen, features=seen.features[list(places)])
        return self._services.examples.more(earlier, [task.picture(step, place) for place in places], chosen).sha256

    def give_unwanted(self, token: str, paths: Sequence[str] | None, rest_text: str | None) -> Changes:
        """A person's own pictures that runs are to be unlike, beside those that they are already."""
        from engine.pictures.examples import read_examples

        session, layout = self._session(token), self._layout
        try:
            rest: Any = rest_of({REST: rest_text}, DEFAULTS)
            given = read_examples(Path(path) for path in paths or ())
            settings = replace(rest, unlike=self._services.examples.more(rest.unlike, given.pictures).sha256)
        except (ValueError, OSError, NotPossibleError) as error:
            session.say(explain(error))
            return {layout.grid: wake()}
        return {**self._marked(settings), layout.grid: wake()}

    def begin_at(self, token: str, path: str | None, rest_text: str | None) -> Changes:
        """The picture that the next runs start from, in the place of the one before."""
        from engine.pictures.examples import Examples
        from engine.pictures.picture_files import read_picture

        session, layout = self._session(token), self._layout
        try:
            rest: Any = rest_of({REST: rest_text}, DEFAULTS)
            picture = read_picture(Path(path or ""))
            self._services.examples.add(Examples((picture,), picture.sha256))
        except (ValueError, OSError) as error:
            session.say(explain(error))
            return {layout.grid: wake()}
        return {**self._marked(replace(rest, start_from=picture.sha256)), layout.grid: wake()}

    def take_field(self, session: Session, page: KeptByPage, name: str, value: Any) -> Changes:
        """Pictures that runs are to be like or unlike, from History, join those that the controls name already."""
        if name not in ("like", "unlike"):
            return super().take_field(session, page, name, value)
        rest: Any = rest_of(page.values, DEFAULTS)
        given, settings = self._services.examples.pictures(value), rest
        try:
            if given is not None:
                named = self._services.examples.more(getattr(rest, name), given.pictures)
                settings = replace(rest, **{name: named.sha256})
        except NotPossibleError as error:
            session.say(explain(error))
        return self._marked(settings)

    def _marked(self, settings: GenerateSettings) -> Changes:
        """Shows what runs are to be like or unlike from now on."""
        return {
            self._control(REST): gr.update(value=json.dumps(settings.to_dict())),
            self._layout.unlike: gr.update(visible=True),
            self._layout.seen: gr.update(
                value=f"<p>{html.escape(marked_text(settings, self._services.examples.count))}</p>"
            ),
        }

    def plot(self, values: Mapping[Component, Any]) -> Changes:
        """A run for every value of one or two settings, with the controls as they are otherwise."""
        session = self._session(values[self._token])
        try:
            plot = self._layout.plotting.plan(values, self._base_of(session, values))
            jobs = {cell.settings.model: self._job_of(cell.settings) for cell in plot.cells}
            for cell in plot.cells:
                if cell.settings.model == plot.base.model:
                    self._check(cell.settings)

            def new_run(cell: Cell) -> Run:
                return Run(cell.settings, jobs[cell.settings.model])

            def finished(run: Run) -> None:
                self._services.outputs.follow((session.token, "plot"), run)

            self._services.plot(session, Plotting(plot, new_run, finished))
        except SettingsError as error:
            session.say(explain(labelled(error)))
        except (ValueError, NotPossibleError) as error:
            session.say(explain(error))
        return {self._layout.plot: wake(), self._layout.grid: wake()}

    def _base_of(self, session: Session, values: Mapping[Component, Any]) -> BaseOf:
        """The controls' settings, with those of another model or preset where one is asked for."""
        chosen = as_moved(self.chosen(session, values))

        def base_of(model: str | None, preset: str | None) -> GenerateSettings:
            settings = chosen
            if model not in (None, chosen.model):
                common: dict[str, Any] = {"prompt": chosen.prompt, "n": chosen.n, "seed": chosen.seed}
                settings = replace(as_moved(self._own(session, str(model))), **common)
            if preset is None:
                return settings
            return replace(settings, preset=preset, flow=self._entry(settings.model).family.flow(preset))

        return base_of

    def forget_seen(self, values: Mapping[Component, Any]) -> tuple[str, Any]:
        """The next run may be like any picture, and starts from none; none stays."""
        rest: Any = rest_of(self._layout.panel.named(values), DEFAULTS)
        return json.dumps(replace(rest, unlike="", like="", pinned=(), start_from="").to_dict()), gr.update(
            visible=False
        )

    def _check_shown(self, settings: GenerateSettings) -> "dict[str, Shown]":
        """The pictures that a run is to be like or unlike, by their hash. Raises SettingsError where they are gone."""
        from engine.tasks.towards import check_shown

        found = {}
        for name in ("unlike", "like"):
            named = getattr(settings, name)
            shown = self._services.examples.find(named)
            check_shown(name, named, shown)
            if shown is not None:
                found[named] = shown
        begun = self._services.examples.find(settings.start_from)
        return found if begun is None else {**found, settings.start_from: begun}

    def _of_picture(self, session: Session, run: Run, side: str, values: Mapping[Component, Any]) -> GenerateSettings:
        """The controls, where they say what a seed or a latent means as they were for that picture.

        Another model than that of the picture is put on the library.
        """
        made: Any = run.settings_of(side)
        chosen = as_moved(self.chosen(session, values))
        if chosen.model != made.model:
            session.keep_settings(chosen)
            beside = chosen.beside if chosen.beside and chosen.beside.model != made.model else None
            common = {"prompt": chosen.prompt, "n": chosen.n, "seed": chosen.seed, "baseline": not beside}
            return replace(as_moved(made), beside=beside, **common)
        own = {field: getattr(made, field) for field in FAMILY_FIELDS if hasattr(made, field)}
        flow = replace(chosen.flow, **{field: getattr(made.flow, field) for field in CODE_FIELDS})
        flow = replace(flow, steps=chosen.flow.steps - chosen.flow.detail_steps + flow.detail_steps)
        return replace(chosen, flow=flow, **own)

    def start_anywhere(self, values: Mapping[Component, Any]) -> tuple[str, Any]:
        """Forgets the kept picture."""
        rest: Any = rest_of(self._layout.panel.named(values), DEFAULTS)
        return json.dumps(replace(rest, start=None).to_dict()), gr.update(visible=False)


def pins_of(run: Run, places: Sequence[int]) -> tuple[Pin, ...]:
    """Our particles in these places, as they are now."""
    particles = run.particles(OURS)
    return tuple(Pin.of(at, particles.seeds[at], particles.latents[at].flatten().tolist()) for at in places)


def is_begun(family: Family) -> bool:
    """Whether a family's runs can start from a picture."""
    return "start_strength" in family.choices


def marked_text(settings: GenerateSettings, count: Callable[[str], int | None]) -> str:
    """What is said of the pictures that a run is to be like or unlike, and of those that stay."""
    said = [shown_text(name.title(), count(named)) for name in ("unlike", "like") if (named := getattr(settings, name))]
    if settings.like:
        said.append("How much those count is set below “Towards pictures like these”.")
    if settings.start_from:
        is_here = count(settings.start_from) is not None
        said.append(f"Starts from a picture of yours{'' if is_here else ' that is not here any more'}.")
    if settings.pinned:
        places = ", ".join(str(pin.place + 1) for pin in settings.pinned)
        said.append(f"Pinned: {places}.")
    return " ".join(said)


def shown_text(how: str, count: int | None) -> str:
    """What is said of pictures that runs are to be like or unlike, `how`."""
    if count is None:
        return f"{how} pictures that are not here any more."
    return f"{how} {count} picture{'s' if count > 1 else ''} {'seen before' if how == 'Unlike' else 'that you liked'}."
