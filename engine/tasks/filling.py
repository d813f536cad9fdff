"""Inpaint by a network that fills holes by itself (Co-Mod-GAN, Zhao et al. 2021): its z are the particles.

It sees the picture with its hole, so nothing has to be found before the first step, and pictures of any kind have
surroundings that it can go on from. C is its discriminator's logit of the picture with the filled hole, the kernel that
of the features before that logit (Zhou et al. 2022, Table 4); with a prompt, of the prompt model's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from torch import Tensor

from engine.inference.flow import Particles, Problem, Step
from engine.inference.terms import Composed, Extractor, Realism, Term, TextLikelihood
from engine.latents.spaces import SphereSpace, seeded
from engine.models.captions import caption_features
from engine.networks.comodgan import Filler, paste
from engine.pictures import imaging
from engine.pictures.masks import Mask, bounds
from engine.pictures.picture_files import Box, Picture, cut, resized
from engine.settings import LIMITS, FlowSettings, InpaintSettings
from engine.tasks.canvas import Inpainting, canvas_of
from engine.tasks.task import model_alone, particle_seeds

if TYPE_CHECKING:
    from engine.models.clip import PromptModel
    from engine.models.loading import GeneratorModel

LARGEST_SQUARE = 8  # times the hole's longer side, where the square that the network sees need not be the whole picture
# Of a step elsewhere. Longer ones please the discriminator, and look less like pictures; what words ask for is further.
STEP, STEP_WITH_WORDS = 0.025, 0.3
REALISM_WEIGHT = 1.0
PROMPT_WEIGHT = 1.0


@dataclass(frozen=True, eq=False)
class HoleFeatures:
    """The discriminator's features [N, D] of pictures [N, 3, R, R] of which `known` [1, 1, R, R] was given."""

    filler: Filler
    known: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        return self.filler.features(images, self.known)


@dataclass(frozen=True, eq=False)
class Filling(Inpainting):
    """Ways in which the network fills the hole. The baseline is the network alone, at the same z."""

    def baseline(self) -> Self:
        return replace(self, settings=model_alone(self.settings))

    def _own_flow(self, flow: FlowSettings) -> FlowSettings:
        """Shorter steps, where they are relative: the particles begin where the network alone ends."""
        least, _ = LIMITS["step_size"]
        share = STEP_WITH_WORDS if self.settings.prompt else STEP
        return replace(flow, step_size=max(least, share * flow.step_size)) if flow.normalise else flow

    def figures(self, step: Step) -> dict[str, Any]:
        logits = step.log_values.get("realism")
        return {**super().figures(step), **({} if logits is None else {"realism_logits": logits.tolist()})}

    def progress(self, step: Step) -> Mapping[str, float]:
        logits = step.log_values.get("realism")
        return {} if logits is None else {"realism": float(logits.mean())}


def fill(
    settings: InpaintSettings,
    picture: Picture,
    mask: Mask,
    generator: "GeneratorModel",
    prompt_model: "PromptModel",
) -> Filling:
    """Ways to fill the mask, which `prepare_mask` returned.

    A particle's picture is a function of its z alone: the noise of the network's layers, where it has strengths for
    any, is the same in all runs, as a StyleGAN2's constant noise is, and its code is not dropped out, as the original
    does, but its mean.
    """
    filler = generator.network
    assert isinstance(filler, Filler)
    network = filler.generator
    box = square_round(mask, picture, network.img_size)
    target = imaging.from_uint8(np.ascontiguousarray(resized(cut(picture.pixels, box), network.img_size))[None])
    canvas = canvas_of(settings, picture, mask, box, target.to(next(network.parameters())))
    target, known = canvas.target, canvas.known
    encoded = network.encode(target, known)
    noise = [part.to(target) for part in network.draw_noise(1, seeded("noise"))] if network.takes_noise else None
    space = SphereSpace(network.z_dim, target.device)
    seeds = particle_seeds(settings.seed, settings.n)

    def render(z: Tensor) -> Tensor:
        return paste(target, known, network.fill(encoded, network.map(space.decode(z)), noise))

    text = None
    conditions: list[tuple[Term, float]] = []
    extractor: Extractor = Composed(prompt_model.image_features, target, canvas.hole)
    if settings.prompt:
        text = prompt_model.text_features([settings.prompt])[0]
        conditions.append((TextLikelihood(extractor, text, logit_scale=prompt_model.logit_scale), PROMPT_WEIGHT))
    if filler.discriminator is not None:
        judged = HoleFeatures(filler, known)
        conditions.append((Realism(judged, filler.logits), REALISM_WEIGHT))
        extractor = extractor if settings.prompt else judged
    problem = Problem(
        render=render,
        space=space,
        extractor=extractor,
        text=text,
        conditions=tuple(conditions),
        seed=settings.seed,
        captions=None if text is None else caption_features(prompt_model),
    )
    return Filling(settings, problem, Particles(space.sample(seeds), seeds), generator, canvas)


def square_round(mask: Mask, picture: Picture, resolution: int) -> Box:
    """The largest square of the picture in which the hole does not become too small, around all of the hole.

    Never one of fewer pixels than the network draws, if the picture has as many. It lies within the picture where
    that is large enough.
    """
    left, top, right, bottom = bounds(mask)
    extent = max(right - left, bottom - top)
    side = max(min(max(LARGEST_SQUARE * extent, resolution), *picture.size), extent)

    def begin(middle: int, length: int) -> int:
        return (length - side) // 2 if side >= length else min(max(middle - side // 2, 0), length - side)

    return Box(begin((left + right) // 2, picture.width), begin((top + bottom) // 2, picture.height), side)


def what_is_missing(generator: "GeneratorModel") -> str:
    """What a person should know of a model that fills holes and has no discriminator; "" of others."""
    if not isinstance(generator.network, Filler) or generator.network.discriminator is not None:
        return ""
    return (
        "This model comes without its discriminator. So nothing tells how well a filled hole fits the rest; results "
        "only differ from each other. Say in words what the hole should show to have a condition."
    )
