"""What the tabs have in common: a run from the controls, tuning, seeds, presets, restoring, coming back to the page.

Handlers are short, and outside gradio's queue. Work happens on the studio's own worker.
"""

import html
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from engine.errors import ModelError
from engine.settings import OF_THE_MODEL, EditSettings, GenerateSettings, RunSettings, SettingsError
from gmi_ui.components.particle_grid import wake
from gmi_ui.components.run_bar import bar_value
from gmi_ui.controls import (
    FLOW_FIELDS,
    WORDS,
    KeptByPage,
    Panel,
    kept_by_page,
    labelled,
    towards_choices,
    usable_settings,
)
from gmi_ui.models.catalogue import check_task
from gmi_ui.notices import Notice, NotPossibleError, explain
from gmi_ui.opening import WHITE, Opening
from gmi_ui.pictures import restoring
from gmi_ui.pictures.restoring import Restored
from gmi_ui.runs.run import Run
from gmi_ui.runs.steering import STEERED
from gmi_ui.services import Services
from gmi_ui.sessions import Arrival, Session

if TYPE_CHECKING:
    from engine.pictures.examples import Examples

# What a page keeps of a tab's controls, so that nothing typed is lost with a reload or the tab: see studio.js.
KEEP_JS = "(...values) => window.studio.keep({tab}, {names}, values)"
ATTACH_JS = "(token) => [token, window.studio.kept({tab})]"
SETTLED_JS = "() => window.studio.settle({tab})"
DICE_JS = "() => Math.floor(Math.random() * 2 ** 31)"
Changes = dict[Component, Any]
SAVED_HERE = (
    "This picture was saved here, and is now opened like any other. “Restore from a saved picture” brings back the "
    "settings that made it instead."
)

# By the setting that names them.
MISSING_EXAMPLES = {
    "towards": "It went towards pictures of your own, which are not here: choose the same files again under “Towards "
    "pictures like these”.",
    "like": "It was to be like pictures that are not here any more: press “Forget them” for a run without them.",
    "unlike": "It was to be unlike pictures that are not here any more: press “Forget them” for a run without them.",
    "start_from": "It started from a picture that is not here any more: choose it again under “Start from a picture”, "
    "or press “Forget them” for a run without it.",
    "references": "It took the style of pictures of your own, which are not here: choose the same files again with "
    "“Choose pictures for their style”.",
}


def merged(changes: Changes, more: Changes) -> Changes:
    """Both; of a component in both, the attributes of both."""
    return changes | {
        component: {**changes.get(component, {}), **value} if isinstance(value, dict) else value
        for component, value in more.items()
    }


@dataclass(frozen=True)
class Page:
    """What a tab needs of the page around it.

    token: the hidden component that holds the browser tab's token; switch: a component whose value, changed,
    makes the page show another tab (see `switched_to`); panels, wirings: of the tabs built so far, the latter by name.
    """

    blocks: gr.Blocks
    services: Services
    token: Component
    switch: Component
    panels: list[Panel] = field(default_factory=list)
    wirings: "dict[str, Wiring]" = field(default_factory=dict)


def switched_to(task: str) -> dict[str, Any]:
    """A value for `Page.switch`."""
    return {"task": task, "number": wake()}


class Layout:
    """A tab's components: what it must have, and what it may have besides."""

    panel: Panel
    bar: gr.HTML
    grid: gr.HTML
    dice: gr.Button | None = None
    reuse: gr.Button | None = None
    restore: gr.UploadButton | None = None
    hint: gr.HTML | None = None  # what of the prompt the models do not know

    def changes(self, settings: Any) -> Changes:
        """Shows `settings` in every control."""
        return self.panel.updates(settings)


def seed_row(panel: Panel, task: str) -> tuple[gr.Button, gr.Button]:
    """The seed with its two buttons: dice, reuse."""
    prefix = "" if task == "generate" else f"{task}-"
    with gr.Row(elem_classes="seed-row"):
        panel.show("seed")
        dice = gr.Button("Random", size="sm", min_width=64, elem_id=f"{prefix}seed-dice")
        reuse = gr.Button("Reuse", size="sm", min_width=64, elem_id=f"{prefix}seed-reuse")
    return dice, reuse


def prompt_hint(task: str) -> gr.HTML:
    """Where it is said, below the prompt, what of it the models do not know."""
    return gr.HTML("", apply_default_css=False, elem_id=f"{task}-prompt-hint", elem_classes="prompt-hint")


def model_choices(panel: Panel, *more: str) -> None:
    """What is rarely changed, folded away."""
    with gr.Accordion("Model and preset", open=False):
        for field in ("preset", "model", "prompt_model", *more):
            panel.show(field)


def background_choice(task: str) -> Component:
    """The colour behind the transparent parts of an opened picture."""
    with gr.Accordion("Transparent pictures", open=False):
        return gr.ColorPicker(WHITE, label="Colour behind transparent parts", elem_id=f"{task}-background")


def while_typing(name: str, inputs: Collection[Component]) -> dict[str, Any]:
    """Options of an event whose handler looks at what is typed, once nothing was typed for a moment.

    name: of all events of which only the newest counts.
    """
    # The function gets the outputs' values behind those of the inputs. What is typed on is never answered.
    wait = f"""(...values) => new Promise((done) => {{
        const timers = (window.studio.timers ??= {{}});
        clearTimeout(timers["{name}"]);
        timers["{name}"] = setTimeout(() => done(values.slice(0, {len(inputs)})), 250);
    }})"""
    return {"inputs": inputs, "js": wait, "trigger_mode": "always_last"}


def listen(event: Callable[..., Any], handler: Callable[..., Any] | None, **options: Any) -> Any:
    """Listens. Gradio's own range checks stay out (preprocess): the engine judges the values."""
    fixed = {"queue": False, "show_progress": "hidden", "api_visibility": "private", "preprocess": False}
    return event(handler, **{**fixed, **options})


def towards_choice(panel: Panel, task: str) -> gr.UploadButton:
    """What pictures are drawn towards, folded away; returns the button for a person's own."""
    prefix = "" if task == "generate" else f"{task}-"
    with gr.Accordion("Towards pictures like these", open=False):
        for field in ("towards", "data_weight"):
            panel.show(field)
        return gr.UploadButton(
            "Choose pictures of yours", file_count="multiple", size="sm", elem_id=f"{prefix}towards-pictures"
        )


class Wiring:
    """A tab's handlers, of those controls and buttons that it has. Each tab adds its own to these.

    tab: its name in the page, where that is not its task's.
    """

    defaults: RunSettings
    examples: Sequence[str] = ()
    tab: str = ""

    def __init__(self, page: Page, layout: Any) -> None:
        self._page, self._layout = page, layout
        self._services, self._token = page.services, page.token
        page.panels.append(layout.panel)
        page.wirings[self.name] = self
        self._services.sessions.know(self.name)

    @property
    def name(self) -> str:
        return self.tab or self.defaults.task

    def connect(self) -> None:
        """Every event of the tab."""
        self._connect_runs()
        self._connect_controls()
        layout = self._layout
        if layout.reuse is not None:
            self._on(layout.reuse.click, self.reuse, inputs=self._token, outputs=[self._control("seed"), layout.grid])
        if layout.restore is not None:
            dropped = [self._token, layout.restore]
            outputs = [*self._shown, self._page.switch]
            self._on(layout.restore.upload, self.restore, inputs=dropped, outputs=outputs, preprocess=True)
        self._connect_kept()
        self._attach_on(layout.grid.arrive)

    def _connect_kept(self) -> None:
        controls = self._layout.panel.components
        self._kept = gr.Textbox(visible="hidden", show_label=False)  # what the page kept, on its way to `attach`
        keep = KEEP_JS.format(tab=json.dumps(self.name), names=json.dumps(list(controls)))
        changed = [control.change for control in controls.values()]
        gr.on(
            changed,
            None,
            inputs=list(controls.values()),
            js=keep,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )

    def _attach_on(self, event: Callable[..., Any]) -> None:
        """Shows the controls as they were, then lets the page keep them anew."""
        tab = json.dumps(self.name)
        inputs = [self._token, self._kept]
        shown = self._on(event, self.attach, inputs=inputs, outputs=self._shown, js=ATTACH_JS.format(tab=tab))
        self._on(shown.then, None, js=SETTLED_JS.format(tab=tab))

    def _connect_runs(self) -> None:
        layout = self._layout
        for event, handler in ((layout.bar.run, self.run), (layout.bar.line_up, self.line_up)):
            self._on(event, handler, inputs=self._values, outputs=layout.grid, trigger_mode="multiple")
        if self._has("prompt"):
            self._on(layout.bar.pick, self.pick, outputs=self._control("prompt"))
        if self._has(*STEERED, "model"):
            tuned = [self._token, *map(self._control, (*STEERED, "model"))]
            for name in STEERED:
                event = self._input_of(name)
                self._on(event, self.tune, inputs=tuned, outputs=layout.grid, trigger_mode="always_last")

    def _connect_controls(self) -> None:
        layout = self._layout
        if layout.dice is not None:
            self._on(layout.dice.click, None, outputs=self._control("seed"), js=DICE_JS)
        if self._has("preset", *FLOW_FIELDS):
            self._connect_presets()
        if self._has("model"):
            self._connect_models()
        if layout.hint is not None and self._has("prompt", "model", "prompt_model"):
            self._connect_hint()
        if self._has("prompt_model"):
            chosen = [self._token, self._control("prompt_model")]
            self._on(self._input_of("prompt_model"), self.choose_prompt_model, inputs=chosen, outputs=layout.grid)

    def _connect_presets(self) -> None:
        sliders = [self._control(field) for field in FLOW_FIELDS]
        self._on(self._input_of("preset"), self.apply_preset, inputs=self._control("preset"), outputs=sliders)

    def _connect_hint(self) -> None:
        inputs = [self._control(name) for name in ("prompt", "model", "prompt_model")]
        for chosen in inputs:
            component: Any = chosen
            self._on(
                component.change, self.hint, outputs=self._layout.hint, **while_typing(f"{self.name}-hint", inputs)
            )

    def _connect_towards(self) -> None:
        """Of tabs that have a `towards_choice`."""
        given = [self._token, self._layout.examples]
        outputs = [self._control("towards"), self._layout.grid]
        self._on(self._layout.examples.upload, self.give_examples, inputs=given, outputs=outputs, preprocess=True)

    def _connect_models(self) -> None:
        chosen = [self._token, self._control("model")]
        outputs = [self._layout.bar, self._layout.grid]
        self._on(self._input_of("model"), self.choose_model, inputs=chosen, outputs=outputs)

    _on = staticmethod(listen)

    def _has(self, *fields: str) -> bool:
        """Whether the tab has all of these controls."""
        return all(field in self._layout.panel.components for field in fields)

    def _control(self, field: str) -> Component:
        component: Component = self._layout.panel.components[field]
        return component

    def _input_of(self, field: str) -> Callable[..., Any]:
        """The event of a person changing a control; gradio makes it at run time."""
        component: Any = self._control(field)
        return component.input

    @property
    def _values(self) -> set[Component]:
        return {self._token, *self._layout.panel.inputs}

    @property
    def _shown(self) -> list[Component]:
        return [*self._layout.panel.outputs, self._layout.grid]

    # --- to be filled in by each tab

    def new_run(self, session: Session, settings: Any) -> Run:
        """Raises ValueError or NotPossibleError, with words for a person, where there can be none."""
        raise NotImplementedError

    def chosen(self, session: Session, values: Mapping[Component, Any]) -> Any:
        """The settings that the controls ask for. Raises ValueError with words for a person."""
        return self._layout.panel.settings(values)

    def kept_settings(self, session: Session, values: Mapping[str, Any]) -> Any:
        """The settings that a page's values, by field, ask for, as far as they can be used."""
        return usable_settings(values, self.defaults)

    def first_settings(self, session: Session) -> RunSettings | None:
        """What the controls of a new page begin with; None for what they show anyway."""
        return None

    def show(self, session: Session, settings: Any) -> Changes:
        """Shows settings that came from elsewhere in every control."""
        changes: Changes = self._layout.changes(settings)
        return changes

    def take(self, session: Session, path: str, restored: Restored) -> None:
        """What a saved picture holds besides its settings. Raises ValueError, OSError or NotPossibleError."""

    def check_model(self, generator: Any) -> None:
        """Raises NotPossibleError for a generator that the tab can do nothing with."""

    def is_steered(self, run: Run, model: str) -> bool:
        """Whether the sliders are those of the run, where the menu shows that model."""
        return True

    # --- handlers

    def run(self, values: Mapping[Component, Any]) -> int:
        """Run: settings from the controls, a run in the queue, and the page pulls its frames."""
        return self._run(values, self._start)

    def line_up(self, values: Mapping[Component, Any]) -> int:
        """Add to queue: as Run, but behind the run that goes on."""
        return self._run(values, self._line_up)

    def _run(self, values: Mapping[Component, Any], begin: Callable[[Session, Any], None]) -> int:
        session = self._session(values[self._token])
        try:
            begin(session, self.chosen(session, values))
        except (ValueError, NotPossibleError) as error:
            session.say(explain(error))
        return wake()

    def pick(self, event: gr.EventData) -> str:
        """An example prompt was clicked."""
        return str(event.text)

    def reuse(self, token: str) -> Changes:
        """The seed of the pictures on the page into the seed control."""
        session = self._session(token)
        if session.run is None:
            session.say(Notice("There are no pictures yet whose seed could be used again."))
            return {self._layout.grid: wake()}
        return {self._control("seed"): session.run.settings.seed}

    def tune(self, token: str, step_size: float, diversity: float, model: str) -> int:
        """A slider moved: the run, if one goes on, follows at its next step."""
        session = self._session(token)
        if session.run is not None and self.is_steered(session.run, model):
            try:
                session.run.tune(step_size=step_size, diversity=diversity)
            except SettingsError as error:
                session.say(explain(labelled(error, self.defaults.task)))
        return wake()

    def apply_preset(self, preset: str) -> list[Any]:
        """The three sliders take the preset's values."""
        updates = self._layout.panel.updates(self.defaults.with_preset(preset))
        return [updates[self._control(field)] for field in FLOW_FIELDS]

    def choose_model(self, token: str, name: str) -> Changes:
        """Loads a model that was never opened now: a missing or damaged file is told before Run. Shows its examples."""
        session = self._session(token)
        try:
            generator: Any = self._services.models.opened(name) or self._services.models.generator(name)
            self.check_model(generator)
        except Exception as error:  # anything can be inside a file that a person points at
            session.say(explain(error))
            return {self._layout.grid: wake()}
        return {self._layout.bar: bar_value(self.examples_of(generator.examples))}

    def examples_of(self, examples: Sequence[str]) -> Sequence[str]:
        """The prompts to click for a model that brings some of its own."""
        return self.examples

    def hint(self, prompt: str | None, model: str | None, prompt_model: str | None) -> str:
        """What of the prompt the chosen models do not know; nothing while they are not loaded."""
        from engine.models.domain import doubt

        models = self._services.models
        if not prompt or not model or not prompt_model or not models.is_loaded(model, prompt_model):
            return ""
        try:
            found = doubt(prompt, models.generator(model), models.prompt_model(prompt_model))
        except ModelError:  # told where it was chosen
            return ""
        return f"<p>{html.escape(found.text)}</p>" if found else ""

    def choose_prompt_model(self, token: str, name: str) -> int:
        """Loads the prompt model now, for the same reason."""
        session = self._session(token)
        try:
            if self._services.models.opened(name) is None:
                self._services.models.prompt_model(name)
        except Exception as error:
            session.say(explain(error))
        return wake()

    def give_examples(self, token: str, paths: Sequence[str] | None) -> Changes:
        """A person's own pictures to go towards. What cannot be read is told, and nothing changes."""
        from engine.pictures.examples import read_examples

        session = self._session(token)
        try:
            examples = read_examples(Path(path) for path in paths or ())
        except (ValueError, OSError) as error:
            session.say(explain(error))
            return {self._layout.grid: wake()}
        self._services.examples.add(examples)
        choices = towards_choices(examples.sha256, len(examples))
        chosen = gr.update(choices=choices, value=examples.sha256)
        return {self._control("towards"): chosen, self._layout.grid: wake()}

    def restore(self, token: str, path: str) -> Changes:
        """Every control as it was when the dropped picture was made, in the tab that it was made in."""
        session = self._session(token)
        try:
            target, restored = take_saved(self._page, token, path)
        except (ValueError, OSError, NotPossibleError) as error:
            session.say(explain(error))
            return {self._layout.grid: wake()}
        task = restored.settings.task
        if task == self.name:
            return {**self.show(session, restored.settings), self._layout.grid: wake()}
        target.arrival = Arrival(restored.settings)
        return {self._page.switch: switched_to(task), self._layout.grid: wake()}

    def attach(self, token: str, kept: str = "") -> Changes:
        """The controls as the page had them, else those of the tab's last run; what was restored into it since wins.

        kept: see `controls.kept_by_page`.
        """
        session = self._session(token)
        page = kept_by_page(kept, self.defaults.task)
        arrival = session.arrival if session.arrival and session.arrival.number > page.arrival else None
        changes: Changes = {self._layout.grid: wake()} | self._controls_of(session, page, arrival)
        for name, value in (arrival.fields if arrival else {}).items():
            changes = merged(changes, self.take_field(session, page, name, value))
        return changes

    def take_field(self, session: Session, page: KeptByPage, name: str, value: Any) -> Changes:
        """Shows one value that came from elsewhere."""
        return {self._control(name): gr.update(value=value)}

    def _controls_of(self, session: Session, page: KeptByPage, arrival: Arrival | None) -> Changes:
        if arrival is not None and arrival.settings is not None:
            return self.show(session, arrival.settings)
        if page.is_settled:
            return {}
        if page.values:
            shown = self.show(session, self.kept_settings(session, page.values))
            typed = [name for name in WORDS if self._has(name) and name in page.values]
            return shown | {self._control(name): gr.update(value=page.values[name]) for name in typed}
        first = session.run.final_settings if session.run else self.first_settings(session)
        return self.show(session, first) if first is not None else {}

    # --- helpers

    def with_missing_examples(self, restored: restoring.Restored) -> Notice:
        """What is said of restored settings, and whether they name pictures that are not here."""
        for name, told in MISSING_EXAMPLES.items():
            named = getattr(restored.settings, name, "")
            if named not in ("", OF_THE_MODEL) and self._services.examples.find(named) is None:
                return Notice(f"{restored.notice.text} {told}", "warning")
        return restored.notice

    def _check_examples(self, settings: GenerateSettings | EditSettings) -> "Examples | None":
        """The person's own pictures that settings name. Raises SettingsError where examples are missing or do not fit.

        The models are loaded for it only where their own examples are asked for.
        """
        if settings.towards == "":
            return None
        from engine.tasks.towards import check_references

        models, examples = self._services.models, self._services.examples.pictures(settings.towards)
        try:
            generator, prompt_model = models.generator(settings.model), models.prompt_model(settings.prompt_model)
            check_references(settings.towards, generator, prompt_model, examples)
        except SettingsError as error:
            raise labelled(error, self.defaults.task) from error
        return examples

    def _start(self, session: Session, settings: RunSettings) -> None:
        """Queues a run. Raises as `new_run`."""
        run = self.new_run(session, settings)
        self._services.start(session, run)
        session.arrival = None
        if run.job.origin is not None:
            session.workspace.adopt(run)

    def _line_up(self, session: Session, settings: RunSettings) -> None:
        """Queues a run behind the tab's. Raises as `new_run`."""
        if not session.is_busy:
            return self._start(session, settings)
        self._services.line_up(session, self.new_run(session, settings))

    def _session(self, token: str, task: str | None = None) -> Session:
        try:
            return self._services.sessions.get(token, task or self.name)
        except ValueError:
            raise gr.Error("This page is not connected to the studio. Reload it.", print_exception=False) from None

    @staticmethod
    def _run_of(session: Session) -> Run:
        """The tab's run. Raises NotPossibleError if it is gone."""
        if session.run is None:
            raise NotPossibleError("That picture is not there any more.")
        return session.run


def take_saved(page: Page, token: str, path: str | Path) -> tuple[Session, Restored]:
    """Brings what a saved picture holds besides its settings to the tab that it was made in; its session there.

    Raises ValueError, OSError or NotPossibleError.
    """
    restored = restoring.restored(path, page.services.models)
    task = restored.settings.task
    if task not in page.wirings:
        raise NotPossibleError(f"This picture was made by {task!r}, for which there is no tab here.")
    target = page.services.sessions.get(token, task)
    page.wirings[task].take(target, str(path), restored)
    target.say(page.wirings[task].with_missing_examples(restored))
    return target, restored


class WorkspaceWiring(Wiring):
    """The handlers of a tab that works on a picture."""

    def connect(self) -> None:
        super().connect()
        layout = self._layout
        opened = [self._token, layout.open, self._control("model"), self._control("prompt_model"), layout.background]
        self._on(layout.open.upload, self.open, inputs=opened, outputs=layout.grid, preprocess=True)
        self._on(layout.grid.go_on, self.go_on, inputs=self._token, outputs=layout.grid)

    def check_model(self, generator: Any) -> None:
        check_task(generator.name, generator.family, self.defaults.task, self.defaults.model)

    @property
    def opening(self) -> Opening:
        return Opening(self._services, self.defaults.task)

    def take(self, session: Session, path: str, restored: Restored) -> None:
        """The picture that the run began at."""
        self.opening.saved(session, path, restored)

    def open(self, token: str, path: str, model: str, prompt_model: str, background: str) -> int:
        """A picture was uploaded, dropped or pasted. What cannot be read is told, and nothing lost."""
        from engine.pictures import picture_files

        session = self._session(token)
        try:
            version = self.opening.file(session, path, model, prompt_model, background=background)
            if note := picture_files.depth_note(version.picture):
                session.say(Notice(note))
            if restoring.carries_settings(path):
                session.say(Notice(SAVED_HERE))
        except (ValueError, OSError, NotPossibleError) as error:
            session.say(explain(error))
        return wake()

    def go_on(self, token: str, event: gr.EventData) -> int:
        """A result becomes the picture that is worked on."""
        session = self._session(token)
        try:
            self.opening.cell(session, self._run_of(session), str(event.side), int(event.index), event.step)
        except (ValueError, NotPossibleError) as error:
            session.say(explain(error))
        return wake()
