"""Settings and loaded models become a Problem and its particles: one function per task."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from engine.flow import Particles, Problem
from engine.latents import LatentSpace
from engine.settings import GenerateSettings, SettingsError
from engine.terms import Extractor, Realism, TextLikelihood


class GeneratorLike(Protocol):
    """What the tasks need of `models.GeneratorModel`."""

    @property
    def spaces(self) -> Mapping[str, LatentSpace]: ...

    @property
    def default_space(self) -> str: ...

    @property
    def discriminator(self) -> Extractor | None: ...

    def render(self, latents: Tensor, space: str) -> Tensor: ...


class PromptModelLike(Protocol):
    """What the tasks need of `clip.PromptModel`."""

    @property
    def logit_scale(self) -> float: ...

    def image_features(self, images: Tensor) -> Tensor: ...

    def text_features(self, texts: Sequence[str]) -> Tensor: ...


def generate(
    settings: GenerateSettings, model: GeneratorLike, prompt_model: PromptModelLike
) -> tuple[Problem, Particles]:
    """Pictures for a prompt: repulsion in CLIP features, C by CLIP, realism by the model's own discriminator.

    Raises SettingsError where the settings do not fit the models.
    """
    name = settings.space or model.default_space
    if name not in model.spaces:
        raise SettingsError(
            f"space: {name!r} is unknown to {settings.model}; it has {', '.join(model.spaces)}."
        )
    space = model.spaces[name].truncated(settings.truncation_psi)
    text, *contrast = prompt_model.text_features([settings.prompt, *settings.contrast_prompts])
    condition = TextLikelihood(
        prompt_model.image_features,
        text,
        contrast=torch.stack(contrast) if contrast else None,
        logit_scale=prompt_model.logit_scale,
        cutouts=settings.cutouts,
        seed=settings.seed,
    )
    problem = Problem(
        render=lambda latents: model.render(latents, name),
        space=space,
        extractor=prompt_model.image_features,
        text=text,
        conditions=((condition, 1.0),),
        realism=None if model.discriminator is None else Realism(model.discriminator),
        seed=settings.seed,
    )
    seeds = particle_seeds(settings.seed, settings.n)
    return problem, Particles(start_latents(settings, space, seeds), seeds)


def baseline(settings: GenerateSettings) -> GenerateSettings:
    """The same run from the same seeds without repulsion."""
    return replace(settings, flow=replace(settings.flow, diversity=0.0))


def particle_seeds(seed: int, n: int) -> tuple[int, ...]:
    """seed, seed + 1, ...: any particle's start can be asked for again by its own seed."""
    return tuple((seed + i) % 2**32 for i in range(n))


def start_latents(settings: GenerateSettings, space: LatentSpace, seeds: Sequence[int]) -> Tensor:
    """Where the particles start: [N, *space.shape].

    "More like this" mixes the kept latent with fresh ones, sqrt(1 - spread^2) to spread: the length of a
    Gaussian latent does not change.
    """
    fresh = space.sample(seeds)
    if settings.start is None:
        return fresh
    if len(settings.start) != math.prod(space.shape):
        raise SettingsError(
            f"start: this picture's latent has {len(settings.start)} numbers, but space {space.name!r} of "
            f"{settings.model} needs {math.prod(space.shape)}. Choose the model and space it was made with."
        )
    kept = torch.tensor(settings.start).to(fresh).view(space.shape)
    return space.constrain(math.sqrt(1 - settings.spread**2) * kept + settings.spread * fresh)
