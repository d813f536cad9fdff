"""Inpaint: a part of a picture painted anew in different ways; every other pixel stays as it was."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.inference.flow import Particles, Problem, Step
from engine.inference.terms import Composed, KnownPixels, Realism, Term, TextLikelihood
from engine.models.captions import caption_features
from engine.pictures import imaging, masks
from engine.pictures.masks import Alpha, Mask
from engine.pictures.picture_files import Box, Picture, resized
from engine.settings import InpaintSettings
from engine.system.files import Watch
from engine.tasks import inversion
from engine.tasks.edit_spaces import WEditSpace, start_after
from engine.tasks.inversion import Renderer, Start
from engine.tasks.task import Task, fittest, particle_seeds

if TYPE_CHECKING:
    from engine.models.clip import PromptModel
    from engine.models.loading import GeneratorModel

PROMPT_WEIGHT = 8.0  # in which the known pixels count `known_weight`
PROMPT_TOLERANCE = 0.05  # of `inversion.posterior`, where a prompt asks for more than the surroundings suggest
KNOWN_ALONE = 16.0  # times as much do the known pixels count without a prompt, or repulsion would tear the seams
STARTS_TRIED = 4  # draws for each particle of an inpainting with a prompt, of which the one that fits best begins
STARTS_AT_ONCE = 8
SEED_STRIDE = 1_000_003  # from one such draw to the next: far enough that particles never share one


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

    def paint(self, image: Tensor) -> Picture:
        """One image [3, R, R] put into the picture."""
        pixels = resized(imaging.to_uint8(image[None])[0], self.box.side)
        return masks.paste(self.picture, self.box, pixels, self.alpha)


@dataclass(frozen=True, eq=False)
class Inpainting(Task):
    """Ways to fill the hole of one picture."""

    settings: InpaintSettings
    begin: Start
    renderer: Renderer
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

    def start(self, step: Step, index: int) -> Start:
        start = start_after(self.begin, self.renderer, self.problem.space, step, index)
        return replace(start, picture=self.picture(step, index))


def prepare_mask(settings: InpaintSettings, mask: Mask, picture: Picture) -> Mask:
    """The mask as the settings want it: inverted, grown. Raises PictureError where nothing is left to repaint."""
    prepared = masks.grow_mask(masks.invert_mask(mask) if settings.invert else mask, settings.grow)
    masks.check_mask(prepared, picture.size)
    return prepared


def inpaint(
    settings: InpaintSettings,
    picture: Picture,
    mask: Mask,
    start: Start,
    generator: "GeneratorModel",
    prompt_model: "PromptModel",
    *,
    watch: Watch | None = None,
) -> Inpainting:
    """Ways to fill the mask so that the rest fits: the known pixels are a likelihood, the prompt, if any, another.

    mask: as `prepare_mask` returned it; start: found by `inversion.invert` with that mask. The particles begin at
    draws of the posterior given the known pixels, and repel each other by what differs in the hole alone.
    watch: as for `edit`. Raises PictureError for a mask that does not fit the picture.
    """
    masks.check_mask(mask, picture.size)
    assert start.box is not None
    renderer = Renderer(generator, start.noise)
    canvas = _canvas(settings, picture, mask, start)
    known = (canvas.hole == 0).to(canvas.hole)
    tolerance = PROMPT_TOLERANCE if settings.prompt else inversion.TOLERANCE
    factor = inversion.posterior(start, renderer, known, tolerance=tolerance, watch=watch)
    space = WEditSpace(renderer, start, factor.T, factor)
    composed = Composed(prompt_model.image_features, canvas.target, canvas.hole)
    text = prompt_model.text_features([settings.prompt])[0] if settings.prompt else None
    seeds = particle_seeds(settings.seed, settings.n)

    def render(moves: Tensor) -> Tensor:
        return renderer.synthesis(space.decode(moves))

    if text is None:
        latents = space.sample(seeds)
    else:
        latents = _fitting_draws(space, seeds, lambda moves: composed(render(moves)) @ text, watch)
    conditions: list[tuple[Term, float]] = []
    if known.any():
        weight = settings.known_weight * (KNOWN_ALONE if text is None else 1.0)
        conditions.append((KnownPixels(canvas.target, known), weight))
    if text is not None:
        conditions.append((TextLikelihood(composed, text, logit_scale=prompt_model.logit_scale), PROMPT_WEIGHT))
    problem = Problem(
        render=render,
        space=space,
        extractor=composed,
        text=torch.zeros_like(prompt_model.text_features([""])[0]) if text is None else text,
        conditions=tuple(conditions),
        realism=None if generator.discriminator is None else Realism(generator.discriminator),
        seed=settings.seed,
        captions=None if text is None else caption_features(prompt_model),
    )
    return Inpainting(settings, problem, Particles(latents, seeds), generator, start, renderer, canvas)


def _fitting_draws(
    space: WEditSpace, seeds: Sequence[int], score: Callable[[Tensor], Tensor], watch: Watch | None
) -> Tensor:
    """For each seed the one of STARTS_TRIED draws that scores best: [N, J]."""
    tries = range(0, STARTS_TRIED * SEED_STRIDE, SEED_STRIDE)
    draws = torch.stack([space.sample([(seed + further) % 2**32 for seed in seeds]) for further in tries], dim=1)
    return fittest(draws, score, STARTS_AT_ONCE, watch)


def _canvas(settings: InpaintSettings, picture: Picture, mask: Mask, start: Start) -> Canvas:
    """The picture with the feathered mask, and both at the generator's resolution."""
    assert start.box is not None
    alpha = masks.feather_mask(mask, settings.feather)
    hole = inversion.to_resolution(masks.cut_alpha(alpha, start.box), start.target)
    return Canvas(picture, alpha, start.box, hole, start.target)
