"""The Inpaint tab: paint over a part of a picture, and see it repainted in different ways."""

from pathlib import Path
from typing import Any

import gradio as gr

from engine.models.table import usual_prompt_model
from engine.settings import InpaintSettings
from gmi_ui.components.painter import painter
from gmi_ui.components.particle_grid import GridTexts, particle_grid, wake
from gmi_ui.components.run_bar import run_bar
from gmi_ui.components.version_history import version_history
from gmi_ui.controls import CONTROLS, Panel, id_prefix
from gmi_ui.jobs.inpainting import InpaintJob
from gmi_ui.notices import Notice, NotPossibleError, explain
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
    merged,
    model_choices,
    prompt_hint,
    seed_row,
)

EXAMPLES = ("sunglasses", "a beard", "a red hat", "green hair", "a big smile")
DEFAULTS = InpaintSettings(seed=1)
BESIDE_ALONE = "What the model fills in by itself, from the same seeds."
TEXTS = GridTexts(
    "Paint over a part of a picture, and see what else could be there.",
    "Drop or paste a picture of your own, or start from one of these. What you paint over is filled in different "
    "ways that all fit the rest; words are optional. Not a pixel outside of the mask changes.",
    ready=(
        "Paint over what is to change, and press Run.",
        "Take the brush and cover a part of the picture. Say above what is to be there, or leave it open: then the "
        "rest of the picture alone decides what fits.",
    ),
    hand_over={"edit": "Edit this", "translate": "Translate this"},
    own={"go_on": "Go on from this"},
    picks_examples=True,
)


class InpaintTab:
    """Repaint a masked part of a picture."""

    title = "Inpaint"
    task = "inpaint"

    def build(self, page: Page) -> None:
        InpaintWiring(page, InpaintLayout(page.services)).connect()


class InpaintLayout(Layout):
    """The tab's components, in the order of the page."""

    def __init__(self, services: Services) -> None:
        models = services.models
        self._services = services
        self.panel = Panel(DEFAULTS, models=models.names(task="inpaint"), prompt_models=models.names("prompt"))
        self.panel.hide_rest()
        functions = workspace_functions(services, "inpaint")
        with gr.Column(elem_classes="studio-prompt"):
            self.panel.show("prompt")
            self.hint = prompt_hint("inpaint")
            self.bar = run_bar("inpaint", EXAMPLES)
        with gr.Row(elem_classes="studio-body has-painter"):
            with gr.Column(elem_classes="studio-settings", scale=0, min_width=272):
                self._settings()
            with gr.Column(elem_classes="studio-painter", scale=1, min_width=300):
                painter("inpaint", functions, control_prefix=id_prefix("inpaint"))
            with gr.Column(elem_classes="studio-results", scale=1, min_width=300):
                version_history("inpaint", functions)
                self.grid = particle_grid("inpaint", TEXTS, [*grid_functions(services, "inpaint"), *functions])

    def _settings(self) -> None:
        show = self.panel.show
        with gr.Row(elem_classes="button-row"):
            self.open = gr.UploadButton(
                "Open a picture", size="sm", elem_id="inpaint-open", elem_classes="takes-pictures opens-pictures"
            )
            self.upload_mask = gr.UploadButton("Upload a mask", size="sm", elem_id="inpaint-mask")
        for field in ("invert", "grow", "feather"):
            show(field)
        for field in ("diversity", "known_weight", "n", "steps", "step_size"):
            show(field)
        self.dice, self.reuse = seed_row(self.panel, "inpaint")
        show("baseline")
        model_choices(self.panel)
        self.background = background_choice("inpaint")
        self.restore = gr.UploadButton("Restore from a saved picture", size="sm", elem_id="inpaint-restore")

    def changes(self, settings: Any) -> Changes:
        return merged(super().changes(settings), self.of_the_model(settings.model))

    def of_the_model(self, name: str) -> Changes:
        """Shows what a model can be told, and what its baseline is."""
        controls, fills_holes = self.panel.components, self._services.models.family(name).fills_holes
        beside = BESIDE_ALONE if fills_holes else CONTROLS["inpaint"]["baseline"].help
        return {
            controls["known_weight"]: gr.update(visible=not fills_holes),
            controls["baseline"]: gr.update(info=beside),
        }


class InpaintWiring(WorkspaceWiring):
    """The tab's own handlers."""

    defaults = DEFAULTS
    examples = EXAMPLES

    def connect(self) -> None:
        super().connect()
        layout = self._layout
        uploaded = [self._token, layout.upload_mask]
        self._on(layout.upload_mask.upload, self.take_mask, inputs=uploaded, outputs=layout.grid, preprocess=True)

    def new_run(self, session: Session, settings: Any) -> Run:
        version = session.workspace.current
        if version is None:
            raise NotPossibleError("There is no picture yet. Open, drop or paste one, or click one of the examples.")
        from engine import tasks
        from engine.pictures import masks

        mask = version.mask or no_mask()
        painted = masks.decode_mask(mask, version.picture.size)
        tasks.prepare_mask(settings, painted, version.picture)  # an empty one is told before the run
        if version.inversion is not None:
            version.inversion.stop()  # the run itself looks more closely
        fills_holes = self._services.models.family(settings.model).fills_holes
        return Run(settings, InpaintJob(version, mask, fills_holes=fills_holes), parent=version.made_from)

    def _connect_models(self) -> None:
        chosen = [self._token, self._control("model")]
        shown = map(self._control, ("known_weight", "baseline", "prompt_model"))
        outputs = [self._layout.bar, self._layout.grid, *shown]
        self._on(self._input_of("model"), self.choose_model, inputs=chosen, outputs=outputs)

    def choose_model(self, token: str, name: str) -> Any:
        """Also takes its prompt model, and looks whether the model can draw the picture."""
        models = self._services.models
        changes = super().choose_model(token, name)
        if self._layout.bar in changes:
            prompt_model = gr.update(value=usual_prompt_model(models.row(name)))
            changes |= self._layout.of_the_model(name) | {self._control("prompt_model"): prompt_model}
        version = self._session(token).workspace.current
        if version is not None:
            if version.inversion is not None:
                version.inversion.stop()
                version.inversion = None
            self._services.find(version, name, DEFAULTS.prompt_model, task="inpaint")
        return changes

    def take_mask(self, token: str, path: str) -> int:
        """A mask was uploaded; how it was understood is told where that does not go without saying."""
        from engine.pictures import masks

        session = self._session(token)
        version = session.workspace.current
        try:
            if version is None:
                raise NotPossibleError("Open the picture first, then the mask that belongs to it.")
            read = masks.read_mask(Path(path), version.picture.size)
            version.mask, version.mask_number = masks.encode_mask(read.mask), version.mask_number + 1
            session.workspace.touch()
            session.notice = Notice(read.note) if read.note else None
        except (ValueError, OSError, NotPossibleError) as error:
            session.say(explain(error))
        return wake()


def no_mask() -> bytes:
    """Where nothing was painted: the same for a picture of any size."""
    import numpy as np

    from engine.pictures import masks

    return masks.encode_mask(np.zeros((1, 1), dtype=bool))
