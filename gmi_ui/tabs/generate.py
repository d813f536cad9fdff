"""The Generate tab: layout, and which click calls what."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.components import Component

from engine.settings import GenerateSettings, SettingsError
from gmi_ui import restoring
from gmi_ui.controls import FLOW_FIELDS, REST, Panel, labelled, rest_of, settings_from
from gmi_ui.notices import Notice, NotPossibleError, explain
from gmi_ui.particle_grid import particle_grid, wake
from gmi_ui.run_bar import bar_value, run_bar
from gmi_ui.runs import Run, Side
from gmi_ui.server_functions import grid_functions
from gmi_ui.services import Services
from gmi_ui.sessions import Session

EXAMPLES = (
    "a woman with pink hair and sunglasses",
    "a bald man with a beard",
    "someone smiling in a red hoodie",
    "a person with a hat and round glasses",
)
DEFAULTS = GenerateSettings(prompt=EXAMPLES[0], seed=1)
DICE_JS = "() => Math.floor(Math.random() * 2 ** 31)"
Changes = dict[Component, Any]


class GenerateTab:
    """Type a prompt, watch different answers form beside the baseline."""

    title = "Generate"

    def build(self, page: gr.Blocks, services: Services, token: Component) -> None:
        layout = Layout(services)
        Wiring(page, services, token, layout).connect()


class Layout:
    """The tab's components, in the order of the page."""

    def __init__(self, services: Services) -> None:
        self.panel = Panel(DEFAULTS, models=services.models.names())
        self.panel.hide_rest()
        with gr.Column(elem_classes="studio-prompt"):
            self.panel.show("prompt")
            self.bar = run_bar(services.models.examples(DEFAULTS.model) or EXAMPLES)
        with gr.Row(elem_classes="studio-body"):
            with gr.Column(elem_classes="studio-settings", scale=0, min_width=272):
                self._settings()
            with gr.Column(elem_classes="studio-results", scale=1, min_width=300):
                self.grid = particle_grid(grid_functions(services))

    def _settings(self) -> None:
        show = self.panel.show
        with gr.Column(visible=False, elem_classes="kept-start") as self.kept:
            gr.HTML("<p>Starts around a kept picture</p>", apply_default_css=False)
            show("spread")
            self.forget = gr.Button("Start anywhere again", size="sm")
        for field in ("diversity", "step_size", "steps", "n"):
            show(field)
        with gr.Row(elem_classes="seed-row"):
            show("seed")
            self.dice = gr.Button("Random", size="sm", min_width=64, elem_id="seed-dice")
            self.reuse = gr.Button("Reuse", size="sm", min_width=64, elem_id="seed-reuse")
        show("baseline")
        with gr.Accordion("Model and preset", open=False):
            for field in ("preset", "model", "truncation_psi"):
                show(field)
        self.open = gr.UploadButton("Restore from a saved picture", size="sm", elem_id="restore-picture")

    def changes(self, settings: GenerateSettings) -> Changes:
        """Shows `settings` in every control."""
        return {**self.panel.updates(settings), self.kept: gr.update(visible=settings.start is not None)}


class Wiring:
    """The tab's handlers: short, and outside gradio's queue. Work happens on the studio's own worker."""

    def __init__(self, page: gr.Blocks, services: Services, token: Component, layout: Layout) -> None:
        self._page, self._services, self._token, self._layout = page, services, token, layout

    def connect(self) -> None:
        """Every event of the tab."""
        self._connect_runs()
        self._connect_pictures()
        self._connect_controls()
        arrival = self._on(self._page.load, None, outputs=self._token, js="() => window.studio.token")
        self._on(arrival.then, self.attach, inputs=self._token, outputs=self._shown)

    def _connect_runs(self) -> None:
        layout, controls = self._layout, self._layout.panel.components
        self._on(layout.bar.run, self.run, inputs=self._values, outputs=layout.grid, trigger_mode="multiple")
        self._on(layout.bar.pick, self.pick, outputs=controls["prompt"])
        tuned = [self._token, controls["step_size"], controls["diversity"]]
        for name in ("step_size", "diversity"):
            event = self._input_of(name)
            self._on(event, self.tune, inputs=tuned, outputs=layout.grid, trigger_mode="always_last")

    def _connect_pictures(self) -> None:
        layout, seed = self._layout, self._layout.panel.components["seed"]
        self._on(layout.grid.more_like_this, self.more_like_this, inputs=self._values, outputs=self._shown)
        self._on(layout.grid.reseed, self.reseed, inputs=self._token, outputs=[seed, layout.grid])
        self._on(layout.reuse.click, self.reuse, inputs=self._token, outputs=[seed, layout.grid])
        dropped = [self._token, layout.open]
        self._on(layout.open.upload, self.restore, inputs=dropped, outputs=self._shown, preprocess=True)

    def _connect_controls(self) -> None:
        layout, controls = self._layout, self._layout.panel.components
        sliders = [controls[field] for field in FLOW_FIELDS]
        chosen = [self._token, controls["model"]]
        kept = [controls[REST], layout.kept]
        self._on(layout.dice.click, None, outputs=controls["seed"], js=DICE_JS)
        self._on(self._input_of("preset"), self.apply_preset, inputs=controls["preset"], outputs=sliders)
        self._on(self._input_of("model"), self.choose_model, inputs=chosen, outputs=[layout.bar, layout.grid])
        self._on(layout.forget.click, self.start_anywhere, inputs=self._values, outputs=kept)

    @staticmethod
    def _on(event: Callable[..., Any], handler: Callable[..., Any] | None, **options: Any) -> Any:
        """Listens. Gradio's own range checks stay out (preprocess): the engine judges the values."""
        fixed = {"queue": False, "show_progress": "hidden", "api_visibility": "private", "preprocess": False}
        return event(handler, **{**fixed, **options})

    def _input_of(self, field: str) -> Callable[..., Any]:
        """The event of a person changing a control; gradio makes it at run time."""
        component: Any = self._layout.panel.components[field]
        return component.input

    @property
    def _values(self) -> set[Component]:
        return {self._token, *self._layout.panel.inputs}

    @property
    def _shown(self) -> list[Component]:
        return [*self._layout.panel.outputs, self._layout.kept, self._layout.grid]

    # --- handlers

    def run(self, values: Mapping[Component, Any]) -> int:
        """Run: settings from the controls, a run in the queue, and the page pulls its frames."""
        session = self._session(values[self._token])
        try:
            self._services.start(session, Run(settings_from(self._layout.panel.named(values))))
        except (ValueError, NotPossibleError) as error:
            session.say(explain(error))
        return wake()

    def pick(self, event: gr.EventData) -> str:
        """An example prompt was clicked."""
        return str(event.text)

    def more_like_this(self, values: Mapping[Component, Any], event: gr.EventData) -> Changes:
        """A run of new particles around a picture, with the controls as they are otherwise."""
        session = self._session(values[self._token])
        try:
            run, side = self._pictured(session, event.side)
            kept = side.step.particles.latents[int(event.index)]
            chosen = settings_from(self._layout.panel.named(values))
            settings = replace(
                chosen,
                model=run.settings.model,
                space=run.settings.space,
                start=tuple(kept.flatten().tolist()),
            )
            self._services.start(session, Run(settings))
        except (ValueError, IndexError, NotPossibleError) as error:
            session.say(explain(error))
            return {self._layout.grid: wake()}
        return {**self._layout.changes(settings), self._layout.grid: wake()}

    def reseed(self, token: str, event: gr.EventData) -> Changes:
        """The seed of one picture into the seed control: the next run's first picture starts where it did."""
        session = self._session(token)
        try:
            _, side = self._pictured(session, event.side)
            seed = side.step.particles.seeds[int(event.index)]
        except (IndexError, NotPossibleError) as error:
            session.say(explain(error))
            return {self._layout.grid: wake()}
        session.say(Notice(f"Seed {seed} is set. Change what you like and press Run: the first picture starts there."))
        return {self._layout.panel.components["seed"]: seed, self._layout.grid: wake()}

    def reuse(self, token: str) -> Changes:
        """The seed of the pictures on the page into the seed control."""
        session = self._session(token)
        if session.run is None:
            session.say(Notice("There are no pictures yet whose seed could be used again."))
            return {self._layout.grid: wake()}
        return {self._layout.panel.components["seed"]: session.run.settings.seed}

    def tune(self, token: str, step_size: float, diversity: float) -> int:
        """A slider moved: the run, if one goes on, follows at its next step."""
        session = self._session(token)
        if session.run is not None:
            try:
                session.run.tune(step_size=step_size, diversity=diversity)
            except SettingsError as error:
                session.say(explain(labelled(error)))
        return wake()

    def apply_preset(self, preset: str) -> list[Any]:
        """The three sliders take the preset's values."""
        updates = self._layout.panel.updates(DEFAULTS.with_preset(preset))
        return [updates[self._layout.panel.components[field]] for field in FLOW_FIELDS]

    def choose_model(self, token: str, name: str) -> Changes:
        """Loads the model now: a missing or damaged file is told before Run. Shows its examples."""
        session = self._session(token)
        try:
            examples = self._services.models.generator(name).examples
        except Exception as error:  # anything can be inside a file that a person points at
            session.say(explain(error))
            return {self._layout.grid: wake()}
        return {self._layout.bar: bar_value(examples or EXAMPLES)}

    def start_anywhere(self, values: Mapping[Component, Any]) -> tuple[str, Any]:
        """Forgets the kept picture."""
        rest = rest_of(self._layout.panel.named(values))
        return json.dumps(replace(rest, start=None).to_dict()), gr.update(visible=False)

    def restore(self, token: str, path: str) -> Changes:
        """Every control as it was when the dropped picture was made."""
        session = self._session(token)
        try:
            settings, notice = restoring.settings_of(path, self._services.models)
        except (ValueError, OSError) as error:
            session.say(explain(error))
            return {self._layout.grid: wake()}
        session.say(notice)
        return {**self._layout.changes(settings), self._layout.grid: wake()}

    def attach(self, token: str) -> Changes:
        """After a (re)load: the controls of the tab's last run; the grid pulls its frames by itself."""
        run = self._session(token).run
        return {self._layout.grid: wake()} if run is None else self._layout.changes(run.final_settings)

    # --- helpers

    def _session(self, token: str) -> Session:
        try:
            return self._services.sessions.get(token)
        except ValueError:
            raise gr.Error("This page is not connected to the studio. Reload it.", print_exception=False) from None

    @staticmethod
    def _pictured(session: Session, side: str) -> tuple[Run, Side]:
        """The tab's run and one of its sides. Raises NotPossibleError if they are gone."""
        if session.run is None or side not in session.run.moment.sides:
            raise NotPossibleError("That picture is not there any more.")
        return session.run, session.run.moment.sides[side]
