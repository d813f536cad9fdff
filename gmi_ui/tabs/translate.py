"""The Translate tab: a picture redrawn in another domain, in different styles or in those of other pictures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from engine.errors import ModelError
from engine.settings import SettingsError, TranslateSettings
from gmi_ui.components.particle_grid import GridTexts, particle_grid, wake
from gmi_ui.components.run_bar import run_bar
from gmi_ui.components.version_history import version_history
from gmi_ui.components.workspace_view import workspace_view
from gmi_ui.controls import Panel, labelled, reference_choices
from gmi_ui.jobs.translating import TranslateJob
from gmi_ui.models.catalogue import look_up
from gmi_ui.notices import NotPossibleError, explain
from gmi_ui.opening import keep_references, picture_of
from gmi_ui.pictures.restoring import Restored
from gmi_ui.runs.run import Run
from gmi_ui.server_functions import grid_functions, workspace_functions
from gmi_ui.services import Services
from gmi_ui.sessions import Session
from gmi_ui.tabs.common import (
    Changes,
    Layout,
    Page,
    WorkspaceWiring,
    background_choice,
    model_choices,
    prompt_hint,
    seed_row,
)

EXAMPLES = ("purple hair", "a red hat", "curly blonde hair", "grey hair", "a mohawk")
DEFAULTS = TranslateSettings(seed=1)
TEXTS = GridTexts(
    "Redraw a picture in another domain, in many different styles.",
    "Drop or paste a picture of your own, or start from one of these. The bundled model gives a drawn avatar other "
    "hair or a hat; face, clothes and background stay. There are models for photographs to be had, under Models.",
    ready=(
        "Choose what it becomes, and press Run.",
        "Styles are drawn at random, or taken from pictures that you give. Words are optional: they say what else the "
        "results should show.",
    ),
    hand_over={"edit": "Edit this", "inpaint": "Repaint this"},
    own={"go_on": "Translate this again", "refer": "Take its style"},
    picks_examples=True,
)


class TranslateTab:
    """Redraw a picture in another domain."""

    title = "Translate"
    task = "translate"

    def build(self, page: Page) -> None:
        TranslateWiring(page, TranslateLayout(page.services)).connect()


class TranslateLayout(Layout):
    """The tab's components, in the order of the page."""

    def __init__(self, services: Services) -> None:
        models = services.models
        self._services, row = services, models.row(DEFAULTS.model)
        domains = row.classes if row else ()
        self.panel = Panel(
            replace(DEFAULTS, domain=next(iter(domains), "")),
            models=models.names(task="translate"),
            prompt_models=models.names("prompt"),
            count_examples=services.examples.count,
            domains=domains,
        )
        self.panel.hide_rest()
        functions = workspace_functions(services, "translate")
        with gr.Column(elem_classes="studio-prompt"):
            with gr.Row(elem_classes="studio-words"):
                with gr.Column(scale=0, min_width=220, elem_classes="studio-choice"):
                    self.panel.show("domain")
                self.panel.show("prompt")
            self.hint = prompt_hint("translate")
            self.bar = run_bar("translate", EXAMPLES)
        with gr.Row(elem_classes="studio-body"):
            with gr.Column(elem_classes="studio-settings", scale=0, min_width=272):
                workspace_view("translate", functions)
                self._settings()
            with gr.Column(elem_classes="studio-results", scale=1, min_width=300):
                version_history("translate", functions)
                self.grid = particle_grid("translate", TEXTS, [*grid_functions(services, "translate"), *functions])

    def _settings(self) -> None:
        show = self.panel.show
        self.open = gr.UploadButton(
            "Open a picture", size="sm", elem_id="translate-open", elem_classes="takes-pictures opens-pictures"
        )
        show("references")
        self.references = gr.UploadButton(
            "Choose pictures for their style", file_count="multiple", size="sm", elem_id="translate-references"
        )
        for field in ("diversity", "baseline", "n", "steps", "step_size"):
            show(field)
        self.dice, self.reuse = seed_row(self.panel, "translate")
        with gr.Accordion("How far style and picture move", open=False):
            for field in ("style_scale", "content_scale", "identity"):
                show(field)
        model_choices(self.panel)
        self.background = background_choice("translate")
        self.restore = gr.UploadButton("Restore from a saved picture", size="sm", elem_id="translate-restore")

    def changes(self, settings: Any) -> Changes:
        names = domains_of(self._services, settings.model)
        chosen = gr.update(value=settings.domain or next(iter(names), ""), choices=[(name, name) for name in names])
        return {**super().changes(settings), self.panel.components["domain"]: chosen}


def domains_of(services: Services, model: str) -> Sequence[str]:
    """What a model can make of a picture; nothing of one that cannot be opened, which choosing it tells."""
    try:
        return look_up(services.models, model).classes
    except ModelError:
        return ()


class TranslateWiring(WorkspaceWiring):
    """The tab's own handlers."""

    defaults = DEFAULTS
    examples = EXAMPLES

    def connect(self) -> None:
        super().connect()
        layout = self._layout
        given, outputs = [self._token, layout.references], [self._control("references"), layout.grid]
        self._on(layout.references.upload, self.give_references, inputs=given, outputs=outputs, preprocess=True)
        self._on(layout.grid.refer, self.take_style, inputs=self._token, outputs=outputs)

    def _connect_models(self) -> None:
        outputs = [self._layout.bar, self._control("domain"), self._layout.grid]
        chosen = [self._token, self._control("model")]
        self._on(self._input_of("model"), self.choose_model, inputs=chosen, outputs=outputs)

    def choose_model(self, token: str, name: str) -> Changes:
        """Also shows what it can make of a picture."""
        changes = super().choose_model(token, name)
        names = domains_of(self._services, name)
        if self._layout.bar in changes and names:
            changes[self._control("domain")] = gr.update(value=names[0], choices=[(one, one) for one in names])
        return changes

    def new_run(self, session: Session, settings: Any) -> Run:
        version = session.workspace.current
        if version is None:
            raise NotPossibleError("There is no picture yet. Open, drop or paste one, or click one of the examples.")
        references = self._check_references(settings)
        generator: Any = self._services.models.generator(settings.model)
        self.check_model(generator)
        job = TranslateJob(version, references, generator.network.discriminator is not None)
        return Run(settings, job, parent=version.made_from)

    def take(self, session: Session, path: str, restored: Restored) -> None:
        """The picture that was translated, and the references, as the model saw them."""
        keep_references(self._services, restored.settings, restored.extra)
        super().take(session, path, restored)

    def give_references(self, token: str, paths: Sequence[str] | None) -> Changes:
        """A person's pictures whose style is to be taken. What cannot be read is told, and nothing changes."""
        from engine.pictures.examples import read_examples

        session = self._session(token)
        try:
            return self._refer_to(read_examples(Path(path) for path in paths or ()))
        except (ValueError, OSError) as error:
            session.say(explain(error))
            return {self._layout.grid: wake()}

    def take_style(self, token: str, event: gr.EventData) -> Changes:
        """A result is the one whose style is taken."""
        from engine.pictures.examples import examples_of

        session = self._session(token)
        try:
            _, picture = picture_of(self._run_of(session), str(event.side), int(event.index), event.step)
            return self._refer_to(examples_of([picture]))
        except (ValueError, NotPossibleError) as error:
            session.say(explain(error))
            return {self._layout.grid: wake()}

    def _refer_to(self, examples: Any) -> Changes:
        """Raises SettingsError for too many."""
        from engine.tasks.translation import MOST_REFERENCES

        if len(examples) > MOST_REFERENCES:
            raise SettingsError(f"{len(examples)} pictures are too many to take styles of; give {MOST_REFERENCES}.")
        self._services.examples.add(examples)
        choices = reference_choices(examples.sha256, len(examples))
        chosen = gr.update(choices=choices, value=examples.sha256)
        return {self._control("references"): chosen, self._layout.grid: wake()}

    def _check_references(self, settings: TranslateSettings) -> Any:
        """The pictures that settings name. Raises SettingsError where they are not here."""
        if not settings.references:
            return None
        found = self._services.examples.pictures(settings.references)
        if found is None:
            raise labelled(
                SettingsError("references: those pictures are not here any more. Choose them again, or drawn styles."),
                self.defaults.task,
            )
        return found
