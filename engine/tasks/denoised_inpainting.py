"""Inpaint by a diffusion model of few steps: the noise that is added to the picture's encoding are the particles.

The hole is first filled with the colours around it, as smooth as they leave it open, so that nothing of what was there
is told. The model then begins at that picture with noise (Meng et al. 2022, SDEdit), sees its surroundings through it,
and draws a whole picture; known pixels are a likelihood, repulsion acts on features of the hole alone, and what is kept
is painted over the result bit for bit.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.families import find_family
from engine.inference.flow import Particles, Problem
from engine.inference.terms import Composed
from engine.latents.noise import NoiseSpace
from engine.models.captions import caption_features
from engine.models.memory import check_fits, free_bytes
from engine.pictures import imaging
from engine.pictures.masks import Mask
from engine.pictures.picture_files import Picture, cut, resized
from engine.settings import LIMITS, PRESETS, FlowSettings, InpaintSettings
from engine.tasks.canvas import Inpainting, canvas_of, conditions_of
from engine.tasks.filling import square_round
from engine.tasks.task import particle_seeds

if TYPE_CHECKING:
    from engine.models.clip import PromptModel
    from engine.models.loading import GeneratorModel

STRENGTH = 0.75  # of the noise: what a coarse look at the surroundings survives. Not measured with published weights


@dataclass(frozen=True, eq=False)
class DenoisedInpainting(Inpainting):
    """By a model that begins at noise."""

    def _own_flow(self, flow: FlowSettings) -> FlowSettings:
        """The step in the family's measure, and its chunk, which bounds the memory."""
        own = find_family(self.generator.family).flow()
        if not flow.normalise:
            return replace(flow, chunk=own.chunk)
        share = own.step_size / PRESETS["robust"].step_size
        return replace(flow, chunk=own.chunk, step_size=max(LIMITS["step_size"][0], share * flow.step_size))


def noise_space_of(generator: "GeneratorModel") -> NoiseSpace | None:
    """The noise that a model begins at; None of other models."""
    space = generator.spaces.get(generator.default_space)
    return space if isinstance(space, NoiseSpace) else None


def repaint(
    settings: InpaintSettings,
    picture: Picture,
    mask: Mask,
    space: NoiseSpace,
    generator: "GeneratorModel",
    prompt_model: "PromptModel",
) -> DenoisedInpainting:
    """Ways to fill the mask, which `prepare_mask` returned. Raises SettingsError for more than memory holds."""
    side = generator.resolution
    drawing = space.drawing(settings.prompt, steps=0, gradient_steps="all", width=side, height=side)
    check_fits(generator.family, side, side, settings.n, drawing.steps, lambda: free_bytes(space.device))
    box = square_round(mask, picture, side)
    pixels = np.ascontiguousarray(resized(cut(picture.pixels, box), side))
    canvas = canvas_of(settings, picture, mask, box, imaging.from_uint8(pixels[None]).to(space.device))
    begun = drawing.beginning(smoothly_filled(canvas.target, canvas.known), STRENGTH)
    composed = Composed(prompt_model.image_features, canvas.target, canvas.hole)
    text = prompt_model.text_features([settings.prompt])[0] if settings.prompt else None
    seeds = particle_seeds(settings.seed, settings.n)
    problem = Problem(
        render=lambda latents: generator.render(latents, begun),
        space=begun,
        extractor=composed,
        text=text,
        conditions=conditions_of(settings, canvas, composed, text, prompt_model.logit_scale),
        seed=settings.seed,
        captions=None if text is None else caption_features(prompt_model),
    )
    return DenoisedInpainting(settings, problem, Particles(begun.sample(seeds), seeds), generator, canvas)


def smoothly_filled(images: Tensor, known: Tensor) -> Tensor:
    """Images [N, 3, H, W] whose unknown pixels are averages of the known ones around: of the nearest that there are.

    known: [1, 1, H, W], 1 or 0; grey where nothing is known. Averages over ever larger squares, each filled from the
    next (Gortler et al. 1996, push-pull).
    """
    if not known.any():
        return torch.zeros_like(images)
    if known.all():
        return images
    height, width = images.shape[-2:]
    halved = ((height + 1) // 2, (width + 1) // 2)
    share = F.adaptive_avg_pool2d(known, halved)
    coarse = F.adaptive_avg_pool2d(known * images, halved) / share.clamp_min(1e-6)
    coarse = smoothly_filled(coarse, (share > 0).to(known))
    return known * images + (1 - known) * F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
