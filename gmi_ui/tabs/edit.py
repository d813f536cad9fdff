"""The Edit tab: a picture, what it is and what it should be; different edits of it beside another method's."""

from typing import Any

import gradio as gr

from engine.settings import EditSettings
from gmi_ui.components.particle_grid import GridTexts, particle_grid
from gmi_ui.components.run_bar import run_bar
from gmi_ui.components.version_history import version_history
from gmi_ui.components.workspace_view import workspace_view
from gmi_ui.controls import Panel
from gmi_ui.jobs.editing import EditJob
from gmi_ui.notices import NotPossibleError
from gmi_ui.runs.run import Run
from gmi_ui.server_functions import grid_functions, workspace_functions
from gmi_ui.services import Services
from gmi_ui.sessions import Session
from gmi_ui.tabs.common import (
    Layout,
    Page,
    WorkspaceWiring,
    background_choice,
    model_choices,
    prompt_hint,
    seed_row,
    towards_choice,
)

EXAMPLES = (
    "a person with a beard",
    "a person with red hair",
    "a person wearing sunglasses",
    "a person with a big smile",
    "a person with a hat",
)
DEFAULTS = EditSettings(prompt=EXAMPLES[0], seed=1)
TEXTS = GridTexts(
    "Change a picture with words, in many different ways.",
    "Drop or paste a picture of your own, or start from one of these. It is first found in the model; then several "
    "edits of it move towards your words and away from each other, beside another method from the same start.",
    ready=(
        "Now say what it should be, and press Run.",
        "Write above what the picture shows and what you want instead, or click one of the examples. The more the two "
        "texts have in common, the less besides will change.",
    ),
    hand_over={"inpaint": "Repaint this", "translate": "Translate this"},
    own={"go_on": "Continue from this"},
    picks_examples=True,
)


class EditTab:
    """Edit a picture with words."""

    title = "Edit"
    task = "edit"

    def build(self, page: Page) -> None:
        EditWiring(page, EditLayout(page.services)).connect()


class EditLayout(Layout):
    """The tab's components, in the order of the page."""

    def __init__(self, services: Services) -> None:
        models = services.models
        self.panel = Panel(
            DEFAULTS,
            models=models.names(task="edit"),
            prompt_models=models.names("prompt"),
            count_examples=services.examples.count,
        )
        self.panel.hide_rest()
        functions = workspace_functions(services, "edit")
        with gr.Column(elem_classes="studio-prompt"):
            with gr.Row(elem_classes="studio-words"):
                self.panel.show("neutral")
                self.panel.show("prompt")
            self.hint = prompt_hint("edit")
            self.bar = run_bar("edit", EXAMPLES)
        with gr.Row(elem_classes="studio-body"):
            with gr.Column(elem_classes="studio-settings", scale=0, min_width=272):
                workspace_view("edit", functions)
                self._settings()
            with gr.Column(elem_classes="studio-results", scale=1, min_width=300):
                version_history("edit", functions)
                self.grid = particle_grid("edit", TEXTS, [*grid_functions(services, "edit"), *functions])

    def _settings(self) -> None:
        show = self.panel.show
        self.open = gr.UploadButton(
            "Open a picture", size="sm", elem_id="edit-open", elem_classes="takes-pictures opens-pictures"
        )
        for field in ("strength", "disentanglement", "identity", "diversity", "method", "baseline"):
            show(field)
        for field in ("n", "steps", "step_size"):
            show(field)
        self.dice, self.reuse = seed_row(self.panel, "edit")
        self.examples = towards_choice(self.panel, "edit")
        model_choices(self.panel)
        self.background = background_choice("edit")
        self.restore = gr.UploadButton("Restore from a saved picture", size="sm", elem_id="edit-restore")


class EditWiring(WorkspaceWiring):
    """The tab's own handlers."""

    defaults = DEFAULTS
    examples = EXAMPLES

    def connect(self) -> None:
        super().connect()
        self._connect_towards()

    def new_run(self, session: Session, settings: Any) -> Run:
        version = session.workspace.current
        if version is None:
            raise NotPossibleError("There is no picture yet. Open, drop or paste one, or click one of the examples.")
        return Run(settings, EditJob(version, self._check_examples(settings)), parent=version.made_from)
