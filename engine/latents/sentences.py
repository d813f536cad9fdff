"""Latents of generators that draw from z and the vector of a sentence (DF-GAN, Tao et al. 2022).

The authors' text encoder is no part of their files, and no prompt model here speaks its language. So the sentence
vector is a latent like z: particles begin at random ones, about where kept vectors lie, and the flow moves both until
the prompt model sees the prompt in the pictures.

Of a model that says which prompt model reads its sentences, the vector is that of the prompt, and particles move in z
alone. Without a prompt each has one of the kept vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.latents.spaces import SphereSpace, TruncatedNormalSpace, log_normal, normal_per_seed, seeded

AUTHORS_PSI = 0.88  # what the authors multiply their truncated z with
UNKNOWN_SPREAD = 0.15  # standard deviation of a sentence vector's numbers where none is kept; they lie in (-1, 1)


@dataclass(frozen=True, eq=False)
class ToldSpace(TruncatedNormalSpace):
    """z of `dim` numbers, truncated at 2; decoded it is z times .88 and psi beside the same sentence [C] for all."""

    sentence: Tensor = field(kw_only=True)
    psi: float = 1.0

    def decode(self, latents: Tensor) -> Tensor:
        return torch.cat([AUTHORS_PSI * self.psi * latents, self.sentences_of(latents)], dim=1)

    def sentences_of(self, latents: Tensor) -> Tensor:
        return self.sentence.expand(len(latents), -1)

    def truncated(self, psi: float) -> Self:
        return replace(self, psi=self.psi * psi)


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

    def sentences_of(self, latents: Tensor) -> Tensor:
        """The sentence vectors [N, C] of latents."""
        return self.decode(latents)[:, self.dim :]

    def truncated(self, psi: float) -> Self:
        return replace(self, psi=self.psi * psi)

    def _split(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        z, sentences = latents.split([self.dim, len(self.mean)], dim=1)
        return z, sentences


@dataclass(frozen=True, eq=False)
class ReadSpace(SentenceSpace):
    """Of a model whose sentence vectors are those of a prompt model: `read` texts to vectors [N, C].

    kept: sentence vectors [M, C], one of which each particle has for as long as nothing is said.
    """

    read: Callable[[Sequence[str]], Tensor] = field(kw_only=True)
    kept: Tensor = field(kw_only=True)

    def saying(self, text: str) -> ToldSpace:
        """The space of pictures of that sentence. Raises ModelError where its vector is none of the generator's."""
        sentence = self.read([text])[0].to(self.mean)
        if sentence.shape != self.mean.shape:
            raise ModelError(
                f"A sentence vector has {len(sentence)} numbers, and the generator is told one of {len(self.mean)}: "
                "its row names another prompt model than it was trained with."
            )
        return ToldSpace(self.dim, device=self.mean.device, sentence=sentence, psi=self.psi)

    def sample(self, seeds: Sequence[int]) -> Tensor:
        chosen = [int(torch.randint(len(self.kept), (), generator=seeded("sentence", seed, 0))) for seed in seeds]
        return torch.cat([self.z.sample(seeds), self._places[chosen]], dim=1)

    def constrain(self, latents: Tensor) -> Tensor:
        """z within its limits; each sentence the nearest of those kept."""
        z, sentences = self._split(latents)
        return torch.cat([self.z.constrain(z), self._places[torch.cdist(sentences, self._places).argmin(1)]], dim=1)

    @property
    def _places(self) -> Tensor:
        """The kept vectors in standard deviations, [M, C]."""
        return (self.kept - self.mean) / self.spread.clamp_min(1e-6)
