"""Inpainting runs: a part of a picture painted anew in different ways, beside the same seeds without repulsion."""

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import PictureError
from engine.settings import RunSettings
from gmi_ui.models.models import watch_of
from gmi_ui.pictures.workspace import Link, Variation
from gmi_ui.runs.jobs import TEXT, Console, Figure, Prepared, tell_what_was_cut

if TYPE_CHECKING:
    from engine.inference.flow import Step
    from engine.pictures.masks import Mask
    from engine.pictures.picture_files import Picture
    from gmi_ui.runs.run import Run

VARIATION = Figure(
    "diversity", "Variation", "Mean over pairs of 1 - cosine of the hole's features. Higher differs more."
)


class InpaintJob:
    """Repaintings of what `mask` covers of one link's picture."""

    def __init__(self, link: Link, mask: bytes) -> None:
        self.link, self.mask = link, mask
        self.share: float | None = None  # of the crop that is repainted, once known

    def titles(self, settings: Any) -> Mapping[str, str]:
        return {"ours": "With repulsion"} | ({"baseline": "Baseline"} if settings.baseline else {})

    def figures(self, settings: RunSettings) -> tuple[Figure, ...]:
        return (TEXT, VARIATION) if settings.prompt else (VARIATION,)

    def measure(self, task: Any, step: "Step") -> Mapping[str, float]:
        return {"text": float(step.text_scores.mean()), "diversity": step.diversity}

    def baseline(self, settings: RunSettings) -> RunSettings:
        from engine import tasks

        return tasks.baseline(settings)

    def prepare(self, settings: Any, models: Any, console: Console) -> Prepared:
        from engine import tasks
        from engine.pictures import masks
        from engine.tasks import inversion

        picture = self.link.picture
        mask = mask_of(self.mask, picture)
        prepared = tasks.prepare_mask(settings, mask, picture)
        self.share = masks.mask_share(prepared)
        generator = models.generator(settings.model)
        yield
        prompt_model = models.prompt_model(settings.prompt_model)
        tell_what_was_cut(prompt_model.truncated_words, [settings.prompt], console)
        for start in inversion.invert(picture, generator, prompt_model=prompt_model, mask=prepared):
            console.tell("Looking at what surrounds the mask", start.step / max(start.total, 1))
            yield
        watch = watch_of(console)
        return tasks.inpaint_sides(settings, picture, prepared, start, generator, prompt_model, watch=watch)

    def adopt(self, run: "Run") -> None:
        if (shown := variation_of(self.link.run)) is not None:
            self.link.variations.append(shown)
        self.link.run = run

    def extras(self, run_settings: Any) -> Mapping[str, Any]:
        return {"mask": base64.b64encode(self.mask).decode(), "text": self.link.text}


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


def variation_of(run: "Run | None") -> Variation | None:
    """What a run of an `InpaintJob` has shown so far."""
    if run is None or not isinstance(run.job, InpaintJob) or run.job.share is None or "ours" not in run.moment.sides:
        return None
    newest = {name: side.curves["diversity"][-1] for name, side in run.moment.sides.items()}
    return Variation(run.job.share, newest["ours"], newest.get("baseline"))
