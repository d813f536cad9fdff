"""Latents of diffusion models: the Gaussian noise that a picture is made of.

A particle is all noise that its sampler draws: what it begins with, and what each further step of a sampler with fresh
noise adds. Each of these lies on the shell of radius sqrt(d), d = C h w, where nearly all of a Gaussian's mass is. The
density of the norm, which ReNO (Eyring et al. 2024) has as a term of its objective, is highest at sqrt(d - 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from engine.latents.spaces import log_normal, normal_per_seed
from engine.settings import GradientSteps, SettingsError


@dataclass(frozen=True, eq=False)
class NoiseSpace:
    """Noise [N, draws, C, h, w] of pictures of h x w times `factor` pixels, whose sides are multiples of `multiple`.

    draws_of: how many noises a sampler of so many steps takes. read: what the model is told of a text; told: that of
    the text of this space. usual_steps: for how many the model is made. encode: images [1, 3, H, W] to clean latents
    [1, C, h, w]; begin: those of a picture that the noise is added to, strength: how much of it, 1 for all noise.
    """

    channels: int
    height: int  # pixels
    width: int
    factor: int
    multiple: int
    usual_steps: int
    draws_of: Callable[[int], int]
    read: Callable[[str], Any]
    encode: Callable[[Tensor], Tensor]
    told: Any = None
    steps: int = 1
    gradient_steps: GradientSteps = "all"
    begin: Tensor | None = None
    strength: float = 1.0
    device: torch.device | str = "cpu"
    name: str = "noise"

    def drawing(self, text: str, *, steps: int, gradient_steps: GradientSteps, width: int, height: int) -> Self:
        """The space of pictures of a text. steps, width, height: 0 for the model's own. Raises SettingsError."""
        sides = {"width": width or self.width, "height": height or self.height}
        for name, side in sides.items():
            if side % self.multiple:
                low, high = side // self.multiple * self.multiple, -(-side // self.multiple) * self.multiple
                near = f"{low or high} or {high}" if low else f"{high}"
                raise SettingsError(f"{name}: {side} is no multiple of {self.multiple} pixels; choose {near}.")
        return replace(
            self,
            told=self.read(text),
            steps=steps or self.usual_steps,
            gradient_steps=gradient_steps,
            width=sides["width"],
            height=sides["height"],
        )

    def beginning(self, image: Tensor, strength: float) -> Self:
        """The space of pictures that begin at one, [1, 3, H, W] in [-1, 1] of this space's size: noise is added to it.

        Noise in one direction then moves the picture less far than noise alone would (Meng et al. 2022, SDEdit).
        """
        return replace(self, begin=self.encode(image.to(self.device)), strength=strength)

    def fitting(self, width: int, height: int) -> tuple[int, int]:
        """The size in whole multiples, of about as many pixels as this space's, whose sides are as those given."""
        scale = math.sqrt(self.width * self.height / (width * height))
        return tuple(max(round(scale * side / self.multiple), 1) * self.multiple for side in (width, height))  # type: ignore[return-value]

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.draws_of(self.steps), self.channels, self.height // self.factor, self.width // self.factor)

    @property
    def scale(self) -> float:
        return math.sqrt(math.prod(self.shape))

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """The first noise of a seed is the same however many steps follow."""
        draws = [
            normal_per_seed(self.shape[1:], purpose="z", seeds=seeds, step=number) for number in range(self.shape[0])
        ]
        return self.constrain(torch.stack(draws, dim=1).to(self.device))

    def constrain(self, latents: Tensor) -> Tensor:
        """Each noise to the length sqrt(d)."""
        lengths = latents.flatten(2).norm(dim=2).clamp_min(1e-12)
        return latents * (math.sqrt(math.prod(self.shape[1:])) / lengths)[..., None, None, None]

    def log_prior(self, latents: Tensor) -> Tensor:
        return log_normal(latents)

    def decode(self, latents: Tensor) -> Tensor:
        return latents

    def truncated(self, psi: float) -> Self:
        """Unchanged: a point on a sphere cannot come nearer to the centre."""
        return self
