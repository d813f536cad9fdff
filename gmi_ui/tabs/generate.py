"""The Generate tab: layout, and which click calls what."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.components import Component

from engine.settings import GenerateSettings
from gmi_ui.controls import REST, Panel, rest_of
from gmi_ui.notices import Notice, NotPossibleError, explain
from gmi_ui.particle_grid import GridTexts, particle_grid, wake
from gmi_ui.run_bar import run_bar
from gmi_ui.runs import Run
from gmi_ui.saving import check_picture
from gmi_ui.server_functions import grid_functions
from gmi_ui.services import Services
from gmi_ui.sessions import Session
from gmi_ui.tabs.common import Changes, Page, Wiring, model_choices, seed_row

EXAMPLES = (
    "a woman with pink hair and sunglasses",
    "a bald man with a beard",
    "someone smiling in a red hoodie",
    "a person with a hat and round glasses",
)
DEFAULTS = GenerateSettings(prompt=EXAMPLES[0], seed=1)
TEXTS = GridTexts(
    "Describe a picture. Watch different answers form.",
    "Every picture is a particle that moves towards your words and away from the others. Beside them run the same "
    "seeds without repulsion, so you see what it adds. Click an example above, or type your own and press Run.",
    hand_over={"edit": "Edit this", "inpaint": "Repaint this"},
    own={"more_like_this": "More like this", "reseed": "Same seed again"},
)


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
        self.panel = Panel(DEFAULTS, models=models.names(), prompt_models=models.names("prompt"))
        self.panel.hide_rest()
        with gr.Column(elem_classes="studio-prompt"):
            self.panel.show("prompt")
            self.bar = run_bar("generate", models.examples(DEFAULTS.model) or EXAMPLES)
        with gr.Row(elem_classes="studio-body"):
            with gr.Column(elem_classes="studio-settings", scale=0, min_width=272):
                self._settings()
            with gr.Column(elem_classes="studio-results", scale=1, min_width=300):
                self.grid = particle_grid("generate", TEXTS, grid_functions(services))

    def _settings(self) -> None:
        show = self.panel.show
        with gr.Column(visible=False, elem_classes="kept-start") as self.kept:
            gr.HTML("<p>Starts around a kept picture</p>", apply_default_css=False)
            show("spread")
            self.forget = gr.Button("Start anywhere again", size="sm")
        for field in ("diversity", "step_size", "steps", "n"):
            show(field)
        self.dice, self.reuse = seed_row(self.panel, "generate")
        show("baseline")
        model_choices(self.panel, "truncation_psi")
        self.restore = gr.UploadButton(
            "Restore from a saved picture", size="sm", elem_id="restore-picture", elem_classes="takes-pictures"
        )

    def changes(self, settings: GenerateSettings) -> Changes:
        """Shows `settings` in every control."""
        return {**self.panel.updates(settings), self.kept: gr.update(visible=settings.start is not None)}


class GenerateWiring(Wiring):
    """The tab's own handlers."""

    defaults = DEFAULTS
    examples = EXAMPLES

    def connect(self) -> None:
        super().connect()
        layout = self._layout
        self._on(layout.grid.more_like_this, self.more_like_this, inputs=self._values, outputs=self._shown)
        reseeded = [self._control("seed"), layout.grid]
        self._on(layout.grid.reseed, self.reseed, inputs=self._token, outputs=reseeded)
        kept = [self._control(REST), layout.kept]
        self._on(layout.forget.click, self.start_anywhere, inputs=self._values, outputs=kept)
        load = self._page.blocks.load
        arrival = self._on(load, None, outputs=self._token, js="() => window.studio.token")
        self._on(arrival.then, self.attach, inputs=self._token, outputs=self._shown)

    @property
    def _shown(self) -> list[Component]:
        return [*super()._shown, self._layout.kept]

    def new_run(self, session: Session, settings: Any) -> Run:
        return Run(settings)

    def examples_of(self, examples: Sequence[str]) -> Sequence[str]:
        return examples or EXAMPLES

    def more_like_this(self, values: Mapping[Component, Any], event: gr.EventData) -> Changes:
        """A run of new particles around a picture, with the controls as they are otherwise."""
        session = self._session(values[self._token])
        try:
            run = self._run_of(session)
            check_picture(run, str(event.side), int(event.index))
            kept = run.particles(str(event.side), event.step).latents[int(event.index)]
            settings = self._around(run.settings, self._layout.panel.settings(values), kept.flatten().tolist())
            self._start(session, settings)
        except (ValueError, NotPossibleError) as error:
            session.say(explain(error))
            return {self._layout.grid: wake()}
        return {**self._layout.changes(settings), self._layout.grid: wake()}

    @staticmethod
    def _around(made: Any, chosen: Any, start: Sequence[float]) -> GenerateSettings:
        settings: GenerateSettings = replace(
            chosen, flow=chosen.flow.as_moved, model=made.model, space=made.space, start=tuple(start)
        )
        return settings

    def reseed(self, token: str, event: gr.EventData) -> Changes:
        """The seed of one picture into the seed control: the next run's first picture starts where it did."""
        session = self._session(token)
        try:
            run = self._run_of(session)
            check_picture(run, str(event.side), int(event.index))
            seed = run.particles(str(event.side)).seeds[int(event.index)]
        except (ValueError, NotPossibleError) as error:
            session.say(explain(error))
            return {self._layout.grid: wake()}
        session.say(Notice(f"Seed {seed} is set. Change what you like and press Run: the first picture starts there."))
        return {self._control("seed"): seed, self._layout.grid: wake()}

    def start_anywhere(self, values: Mapping[Component, Any]) -> tuple[str, Any]:
        """Forgets the kept picture."""
        rest: Any = rest_of(self._layout.panel.named(values), DEFAULTS)
        return json.dumps(replace(rest, start=None).to_dict()), gr.update(visible=False)
