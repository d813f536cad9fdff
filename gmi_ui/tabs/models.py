"""The Models tab: what is on this machine, what can be had, opening a file; and the model menus of the other tabs."""

from pathlib import Path
from typing import Any

import gradio as gr

from engine.errors import ModelError
from gmi_ui.components.model_library import model_library
from gmi_ui.components.model_library.functions import library_functions
from gmi_ui.components.particle_grid import wake
from gmi_ui.controls import BASELINE, NOTHING, Choices, Panel, reward_choices
from gmi_ui.models.models import Models
from gmi_ui.notices import NotPossibleError
from gmi_ui.tabs.common import KEEP_JS, SETTLED_JS, Changes, Page, listen

# What was typed, as the page kept it; see studio.js.
KEPT_JS = """() => {
    const kept = JSON.parse(window.studio.kept("models") || "{}").values ?? {};
    return [kept.path ?? "", kept.architecture ?? ""];
}"""
PATH_HELP = "The path of a file or folder on this machine: pkl, pt, pth, ckpt, bin, safetensors"


class ModelsTab:
    """Fetch, open, delete models."""

    title = "Models"
    task = "models"

    def build(self, page: Page) -> None:
        ModelsLayout(page)


class ModelsLayout:
    """The tab's components and what they do. Panels that were built before learn of new models."""

    def __init__(self, page: Page) -> None:
        self._services, self._panels = page.services, page.panels
        with gr.Row(elem_classes="studio-prompt models-open"):
            self.path = gr.Textbox(
                label="Open a model of your own", placeholder=PATH_HELP, max_lines=1, scale=4, elem_id="models-path"
            )
            self.architecture = gr.Textbox(
                label="Architecture",
                placeholder="only for prompt models that do not tell it",
                max_lines=1,
                scale=2,
                elem_id="models-architecture",
            )
            self.open = gr.Button("Open", min_width=80, scale=0, elem_id="models-open")
            self.upload = gr.UploadButton(
                "Upload files",
                file_count="multiple",
                min_width=120,
                scale=0,
                elem_id="models-upload",
                elem_classes="takes-pictures takes-models",
            )
        self.library = model_library(library_functions(self._services))
        self._connect(page)

    def _connect(self, page: Page) -> None:
        on = listen
        written = [self.path, self.architecture]
        for event in (self.open.click, self.path.submit, self.architecture.submit):
            on(event, self.open_path, inputs=written, outputs=self.library)
        keep = KEEP_JS.format(tab='"models"', names='["path", "architecture"]')
        for changed in written:
            on(changed.change, None, inputs=written, js=keep)
        shown = on(page.blocks.load, None, outputs=written, js=KEPT_JS)
        on(shown.then, None, js=SETTLED_JS.format(tab='"models"'))
        uploaded = [self.upload, self.architecture]
        on(self.upload.upload, self.take_files, inputs=uploaded, outputs=self.library, preprocess=True)
        menus = [component for panel in self._panels for component in menus_of(panel)]
        library: Any = self.library
        on(library.changed, self.new_menus, outputs=menus)
        on(page.blocks.load, self.new_menus, outputs=menus)

    def open_path(self, path: str, architecture: str) -> int:
        """Begins to open a file of this machine."""
        try:
            self._services.library.open(path, architecture)
        except NotPossibleError as error:
            self._services.library.note(path, str(error))
        return wake()

    def take_files(self, paths: list[str] | None, architecture: str) -> int:
        """Begins to open what was uploaded."""
        files = {Path(path).name: Path(path) for path in paths or []}
        try:
            self._services.library.take(files, architecture)
        except (NotPossibleError, ModelError) as error:
            self._services.library.note(next(iter(files), "Upload"), str(error))
        return wake()

    def new_menus(self) -> Changes:
        """Every menu of models as it has to be now; what is chosen stays."""
        changes: Changes = {}
        for panel in self._panels:
            changes |= menu_changes(panel, self._services.models)
        return changes


MENUS = ("model", "beside", "prompt_model", "reward_model")


def menus_of(panel: Panel) -> list[Any]:
    """A panel's menus of models."""
    return [panel.components[field] for field in MENUS if field in panel.components]


def menu_changes(panel: Panel, models: Models) -> Changes:
    """The choices of a panel's menus."""
    generators, prompt_models = models.choices(task=panel.task), models.choices("prompt")
    changes: Changes = {}
    for field in MENUS:
        component: Any = panel.components.get(field)
        if component is None:
            continue
        choices: Choices = prompt_models if field == "prompt_model" else generators
        if field == "reward_model":
            choices = reward_choices(prompt_models)
        if field == "beside":
            fixed = [choice for choice in component.choices if choice[1] in (BASELINE, NOTHING)]
            choices = [*fixed, *((f"Another model: {label}", name) for label, name in generators)]
        changes[component] = gr.update(choices=choices)
    return changes
