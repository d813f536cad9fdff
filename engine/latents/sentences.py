"""Latents of generators that draw from z and the vector of a sentence (DF-GAN, Tao et al. 2022).

Their text encoder is no part of their files, and no prompt model here speaks its language. So the sentence vector is a
latent like z: particles begin at random ones, or at vectors that somebody kept, and the flow moves both until the
prompt model sees the prompt in the pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from engine.latents.spaces import SphereSpace, TruncatedNormalSpace, log_normal, normal_per_seed

AUTHORS_PSI = 0.88  # what the authors multiply their truncated z with
UNKNOWN_SPREAD = 0.15  # standard deviation of a sentence vector's numbers where none is kept; they lie in (-1, 1)


@dataclass(frozen=True, eq=False)
class SentenceSpace:
    """z of `dim` numbers, truncated at 2, beside a sentence vector of C numbers in standard deviations.

    Latents are [N, dim + C]; mean, spread: [C], of the sentence vectors. Decoded they are z times .88 and psi, and the
    sentence vector itself, cut to [-1, 1] where a recurrent encoder's numbers lie.
    """

    dim: int
    mean: Tensor
    spread: Tensor
    psi: float = 1.0
    name: str = "z"

    @classmethod
    def around(cls, dim: int, count: int, kept: Tensor | None, device: torch.device | str = "cpu") -> Self:
        """With the statistics of kept sentence vectors [M, count], or about as wide as such vectors are."""
        if kept is None:
            zeros = torch.zeros(count, device=device)
            return cls(dim, zeros, zeros + UNKNOWN_SPREAD)
        kept = kept.to(device)
        return cls(dim, kept.mean(0), kept.std(0, correction=0))

    @property
    def z(self) -> TruncatedNormalSpace:
        return TruncatedNormalSpace(self.dim, device=self.mean.device)

    @property
    def sentences(self) -> SphereSpace:
        return SphereSpace(len(self.mean), self.mean.device)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dim + len(self.mean),)

    @property
    def scale(self) -> float:
        return math.hypot(self.z.scale, self.sentences.scale)

    def sample(self, seeds: Sequence[int]) -> Tensor:
        drawn = normal_per_seed((len(self.mean),), purpose="sentence", seeds=seeds).to(self.mean.device)
        return torch.cat([self.z.sample(seeds), self.sentences.constrain(drawn)], dim=1)

    def constrain(self, latents: Tensor) -> Tensor:
        """z within its limits; sentences on the shell where nearly all of a Gaussian's mass is."""
        z, sentences = self._split(latents)
        return torch.cat([self.z.constrain(z), self.sentences.constrain(sentences)], dim=1)

    def log_prior(self, latents: Tensor) -> Tensor:
        return log_normal(latents)

    def decode(self, latents: Tensor) -> Tensor:
        z, sentences = self._split(latents)
        return torch.cat([AUTHORS_PSI * self.psi * z, (self.mean + self.spread * sentences).clamp(-1, 1)], dim=1)

    def truncated(self, psi: float) -> Self:
        return replace(self, psi=self.psi * psi)

    def _split(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        z, sentences = latents.split([self.dim, len(self.mean)], dim=1)
        return z, sentences
