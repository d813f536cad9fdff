"""Inpainting runs: a part of a picture painted anew in different ways, beside the same seeds without repulsion."""

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import PictureError
from engine.settings import InpaintSettings
from gmi_ui.models.models import watch_of
from gmi_ui.pictures.workspace import PictureVersion
from gmi_ui.runs.inversion import find_start
from gmi_ui.runs.job import TEXT, Console, Figure, Job, Prepared, Variation, tell_what_was_cut

if TYPE_CHECKING:
    from engine.inference.flow import Step
    from engine.pictures.masks import Mask
    from engine.pictures.picture_files import Picture
    from engine.tasks import Task
    from gmi_ui.models.models import Models
    from gmi_ui.runs.work import Moment

HOLE_DIVERSITY = Figure(
    "diversity", "Diversity", "Mean over pairs of 1 - cosine of the hole's features. Higher differs more."
)


class InpaintJob(Job[InpaintSettings]):
    """Repaintings of what `mask` covers of one version's picture."""

    def __init__(self, version: PictureVersion, mask: bytes) -> None:
        self.version, self.mask = version, mask
        self.origin = version.number
        self.share: float | None = None  # of the crop that is repainted, once known

    def figures(self, settings: InpaintSettings) -> tuple[Figure, ...]:
        return (TEXT, HOLE_DIVERSITY) if settings.prompt else (HOLE_DIVERSITY,)

    def prepare(self, settings: InpaintSettings, models: "Models", console: Console) -> Prepared:
        from engine import tasks
        from engine.pictures import masks

        picture = self.version.picture
        mask = mask_of(self.mask, picture)
        prepared = tasks.prepare_mask(settings, mask, picture)
        self.share = masks.mask_share(prepared)
        generator = models.generator(settings.model)
        yield
        prompt_model = models.prompt_model(settings.prompt_model)
        tell_what_was_cut(prompt_model.truncated_words, [settings.prompt], console)
        doing = "Looking at what surrounds the mask"
        start = yield from find_start(picture, generator, prompt_model, console, doing, prepared)
        watch = watch_of(console)
        ours = tasks.inpaint(settings, picture, prepared, start, generator, prompt_model, watch=watch)
        return {"ours": ours} | ({"baseline": ours.without_repulsion()} if settings.is_compared else {})

    def extras(self, settings: InpaintSettings) -> Mapping[str, Any]:
        return {"mask": base64.b64encode(self.mask).decode(), "text": self.version.text}

    def before(self, settings: InpaintSettings) -> str:
        return self.version.shown

    def words(self, settings: InpaintSettings) -> str:
        """They speak of the hole alone."""
        return ""

    def start(self, task: "Task", step: "Step", index: int) -> None:
        """What was pasted into another picture lies nowhere as a whole."""

    def variation(self, moment: "Moment") -> Variation | None:
        if self.share is None or "ours" not in moment.sides:
            return None
        newest = {name: side.curves["diversity"][-1] for name, side in moment.sides.items()}
        return Variation(self.share, newest["ours"], newest.get("baseline"))


def mask_of(png: bytes, picture: "Picture") -> "Mask":
    """The mask that the page painted, at the picture's size: of large pictures it is painted on a smaller copy."""
    import numpy as np
    from PIL import Image

    from engine.pictures import masks

    try:
        painted = Image.open(io.BytesIO(png), formats=["PNG"]).convert("L")
    except (OSError, ValueError, SyntaxError) as error:
        raise PictureError("The painted mask did not arrive whole. Press Run again.") from error
    if painted.size != picture.size:
        painted = painted.resize(picture.size, Image.Resampling.NEAREST)
    return masks.mask_from_pixels(np.asarray(painted), picture.size)
