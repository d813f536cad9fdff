"""What every way to inpaint has in common: the picture that results are painted into, and what is told of them."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from engine.inference.flow import Step
from engine.inference.terms import Composed, KnownPixels, Term, TextLikelihood
from engine.pictures import imaging, masks
from engine.pictures.masks import Alpha, Mask
from engine.pictures.picture_files import Box, Picture, resized
from engine.settings import InpaintSettings
from engine.tasks import inversion
from engine.tasks.task import Task

PROMPT_WEIGHT = 8.0  # in which the known pixels count `known_weight`
KNOWN_ALONE = 16.0  # times as much do the known pixels count without a prompt, or repulsion would tear the seams


@dataclass(frozen=True, eq=False)
class Canvas:
    """The picture that a result is painted into: only where alpha [H, W] is above 0, only within the box.

    hole: [1, 1, R, R], the alpha at the generator's resolution; target: [1, 3, R, R].
    """

    picture: Picture
    alpha: Alpha
    box: Box
    hole: Tensor
    target: Tensor

    @property
    def known(self) -> Tensor:
        """[1, 1, R, R], 1 where nothing is repainted, else 0."""
        return (self.hole == 0).to(self.hole)

    def paint(self, image: Tensor) -> Picture:
        """One image [3, R, R] put into the picture."""
        pixels = resized(imaging.to_uint8(image[None])[0], self.box.side)
        return masks.paste(self.picture, self.box, pixels, self.alpha)


@dataclass(frozen=True, eq=False)
class Inpainting(Task):
    """Ways to fill the hole of one picture."""

    settings: InpaintSettings
    canvas: Canvas

    def shown(self, step: Step) -> Step:
        """With the results between the known pixels."""
        return replace(step, images=torch.lerp(self.canvas.target, step.images, self.canvas.hole), draw=None)

    def picture(self, step: Step, index: int) -> Picture:
        """In the picture's own size."""
        return self.canvas.paint(step.images[index])

    def figures(self, step: Step) -> dict[str, Any]:
        changes = (step.images.clamp(-1, 1) - self.canvas.target).abs().flatten(1).mean(1) / 2
        results = [self.picture(step, index) for index in range(len(step.images))]
        changed = [masks.count_changed(self.canvas.picture, result, self.canvas.alpha) for result in results]
        return {
            "distance_to_original": changes.tolist(),
            "hole_diversity": step.diversity,
            "known_pixels_changed": sum(changed),
            "mask_share": float((self.canvas.alpha > 0).mean()),
        }


def prepare_mask(settings: InpaintSettings, mask: Mask, picture: Picture) -> Mask:
    """The mask as the settings want it: inverted, grown. Raises PictureError where nothing is left to repaint."""
    prepared = masks.grow_mask(masks.invert_mask(mask) if settings.invert else mask, settings.grow)
    masks.check_mask(prepared, picture.size)
    return prepared


def canvas_of(settings: InpaintSettings, picture: Picture, mask: Mask, box: Box, target: Tensor) -> Canvas:
    """The picture with the feathered mask, and what of it lies in the box, which is `target` [1, 3, R, R]."""
    alpha = masks.feather_mask(mask, settings.feather)
    hole = inversion.to_resolution(masks.cut_alpha(alpha, box), target)
    return Canvas(picture, alpha, box, hole, target)


def conditions_of(
    settings: InpaintSettings, canvas: Canvas, composed: Composed, text: Tensor | None, logit_scale: float
) -> tuple[tuple[Term, float], ...]:
    """What the rest of the picture and, if there are any, the words say of a hole, each with its weight."""
    conditions: list[tuple[Term, float]] = []
    if canvas.known.any():
        weight = settings.known_weight * (KNOWN_ALONE if text is None else 1.0)
        conditions.append((KnownPixels(canvas.target, canvas.known), weight))
    if text is not None:
        conditions.append((TextLikelihood(composed, text, logit_scale=logit_scale), PROMPT_WEIGHT))
    return tuple(conditions)
