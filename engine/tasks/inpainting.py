"""Inpaint: a part of a picture painted anew in different ways; every other pixel stays as it was."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.inference.flow import Particles, Problem, Step
from engine.inference.terms import Composed, Realism
from engine.models.captions import caption_features
from engine.networks.comodgan import Filler
from engine.pictures import masks
from engine.pictures.masks import Mask
from engine.pictures.picture_files import Picture
from engine.settings import InpaintSettings
from engine.system.files import Watch
from engine.tasks import inversion
from engine.tasks.canvas import Inpainting, canvas_of, conditions_of
from engine.tasks.denoised_inpainting import noise_space_of, repaint
from engine.tasks.edit_spaces import WEditSpace, start_after
from engine.tasks.filling import fill
from engine.tasks.inversion import Renderer, Start
from engine.tasks.task import fittest, particle_seeds

if TYPE_CHECKING:
    from engine.models.clip import PromptModel
    from engine.models.loading import GeneratorModel

PROMPT_TOLERANCE = 0.05  # of `inversion.posterior`, where a prompt asks for more than the surroundings suggest
STARTS_TRIED = 4  # draws for each particle of an inpainting with a prompt, of which the one that fits best begins
STARTS_AT_ONCE = 8
SEED_STRIDE = 1_000_003  # from one such draw to the next: far enough that particles never share one


@dataclass(frozen=True, eq=False)
class InvertedInpainting(Inpainting):
    """By a generator in whose latent space the picture was found."""

    begin: Start
    renderer: Renderer

    def start(self, step: Step, index: int) -> Start:
        start = start_after(self.begin, self.renderer, self.problem.space, step, index)
        return replace(start, picture=self.picture(step, index))


def look_around(
    picture: Picture,
    mask: Mask,
    generator: "GeneratorModel",
    prompt_model: "PromptModel",
    *,
    steps: int | None = None,
    watch: Watch | None = None,
) -> Iterator[Start]:
    """Searches for what `inpaint` begins at, as `inversion.invert`; yields nothing where nothing has to be found.

    mask: as `prepare_mask` returned it.
    """
    if isinstance(generator.network, Filler) or noise_space_of(generator) is not None:
        return iter(())
    return inversion.invert(picture, generator, prompt_model=prompt_model, mask=mask, steps=steps, watch=watch)


def inpaint(
    settings: InpaintSettings,
    picture: Picture,
    mask: Mask,
    start: Start | None,
    generator: "GeneratorModel",
    prompt_model: "PromptModel",
    *,
    watch: Watch | None = None,
) -> Inpainting:
    """Ways to fill the mask so that the rest fits: the known pixels are a likelihood, the prompt, if any, another.

    mask: as `prepare_mask` returned it; start: the last one that `look_around` found; None where the model fills holes
    by itself, see `engine.tasks.filling`, or begins at noise, see `engine.tasks.denoised_inpainting`. The particles
    begin at draws of the posterior given the known pixels, and repel each other by what differs in the hole alone.
    watch: as for `edit`. Raises PictureError for a mask that does not fit the picture.
    """
    masks.check_mask(mask, picture.size)
    if isinstance(generator.network, Filler):
        return fill(settings, picture, mask, generator, prompt_model)
    if (noise := noise_space_of(generator)) is not None:
        return repaint(settings, picture, mask, noise, generator, prompt_model)
    assert start is not None and start.box is not None
    renderer = Renderer(generator, start.noise)
    canvas = canvas_of(settings, picture, mask, start.box, start.target)
    known = canvas.known
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
    problem = Problem(
        render=render,
        space=space,
        extractor=composed,
        text=text,
        conditions=conditions_of(settings, canvas, composed, text, prompt_model.logit_scale),
        realism=None if generator.discriminator is None else Realism(generator.discriminator),
        seed=settings.seed,
        captions=None if text is None else caption_features(prompt_model),
    )
    return InvertedInpainting(settings, problem, Particles(latents, seeds), generator, canvas, start, renderer)


def _fitting_draws(
    space: WEditSpace, seeds: Sequence[int], score: Callable[[Tensor], Tensor], watch: Watch | None
) -> Tensor:
    """For each seed the one of STARTS_TRIED draws that scores best: [N, J]."""
    tries = range(0, STARTS_TRIED * SEED_STRIDE, SEED_STRIDE)
    draws = torch.stack([space.sample([(seed + further) % 2**32 for seed in seeds]) for further in tries], dim=1)
    return fittest(draws, score, STARTS_AT_ONCE, watch)
