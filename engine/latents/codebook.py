"""Latent spaces of generators with a codebook (dVAE, VQGAN): k code vectors on a grid.

Three ways to move what is discrete: continuous vectors that a regulariser pulls to the nearest code
(`CodeSpace`), the same with the nearest code in the forward pass (`StraightThroughSpace`), and mixtures of codes
(`SoftCodeSpace`). Each decodes to a grid of vectors [N, D, h, w]. In the second stage of a run the codes settle in
turn: `moving` says whose turn it is, `waiting` whose is to come. k = h w codes, V entries, D features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from engine.latents.spaces import seeded
from engine.settings import CodeOrder, SettingsError
from engine.system.memory import total_memory

NEAREST_AT_ONCE = 1 << 24  # distances computed at a time: 64 MB
SOFT_SHARE = 0.95  # of the code that a mixture begins with: with much less, all mixtures look alike
SOFT_COPIES = 8  # tensors of the size of all mixtures that a step holds


@dataclass(frozen=True, eq=False)
class Codebook:
    """The code vectors [V, D]."""

    codes: Tensor

    @cached_property
    def mean(self) -> Tensor:
        return self.codes.mean(0)

    @cached_property
    def deviation(self) -> float:
        """The root mean square distance of a code to the mean of all."""
        return float((self.codes - self.mean).square().sum(1).mean().sqrt())

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """The entry nearest to each vector, [..., D] -> [...]."""
        flat = vectors.reshape(-1, vectors.shape[-1])
        # |v - e|^2 without |v|^2, which is the same for all entries.
        offsets = self.codes.square().sum(1)
        rows = max(1, NEAREST_AT_ONCE // len(self.codes))
        found = [torch.addmm(offsets, part, self.codes.t(), alpha=-2).argmin(1) for part in flat.split(rows)]
        return torch.cat(found).view(vectors.shape[:-1])


@dataclass(frozen=True, eq=False)
class CodeSpace:
    """Continuous code vectors, latents [N, k, D] counted from the mean of all codes.

    bank: codes [M, h, w] of real pictures, where particles start; without it every code is drawn for itself.
    """

    book: Codebook
    height: int
    width: int
    bank: Tensor | None = None
    name: str = "codes"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.height * self.width, self.book.codes.shape[1])

    @property
    def scale(self) -> float:
        return math.sqrt(self.height * self.width) * self.book.deviation

    def sample(self, seeds: Sequence[int]) -> Tensor:
        return self.latents(self.sample_codes(seeds))

    def latents(self, codes: Tensor) -> Tensor:
        """The latents that mean these codes, [N, k] -> [N, *shape]."""
        return self.book.codes[codes] - self.book.mean

    def constrain(self, latents: Tensor) -> Tensor:
        """Each coordinate within the range that it has among the codes."""
        codes = self.book.codes - self.book.mean
        return latents.clamp(codes.amin(0), codes.amax(0))

    def log_prior(self, latents: Tensor) -> Tensor:
        """Flat: nothing is known of which codes belong together."""
        return 0 * latents.flatten(1).sum(1)

    def decode(self, latents: Tensor) -> Tensor:
        return self._grid(self.vectors(latents))

    def truncated(self, psi: float) -> Self:
        """Unchanged: nearer to the mean of all codes lies no code."""
        return self

    def vectors(self, latents: Tensor) -> Tensor:
        """The vectors [N, k, D] that latents mean, before anything is made discrete. Differentiable."""
        return latents + self.book.mean

    def indices(self, latents: Tensor) -> Tensor:
        """The nearest codes [N, h, w]."""
        return self.book.nearest(self.vectors(latents)).view(-1, self.height, self.width)

    def code_distance(self, latents: Tensor) -> Tensor:
        """sum_i |z_i - e_i|^2 with e_i the code nearest to z_i, a constant for the gradient: [N]."""
        vectors = self.vectors(latents)
        return (vectors - self.book.codes[self.book.nearest(vectors)]).square().sum(dim=(1, 2))

    def snapped(self, latents: Tensor, share: float) -> Tensor:
        """The latents moved by `share` of their way to those of the nearest codes."""
        return torch.lerp(latents, self.latents(self.indices(latents).flatten(1)), share)

    def sample_codes(self, seeds: Sequence[int], number: int = 0) -> Tensor:
        """Codes [N, k], row i from seeds[i] alone; each number gives others."""
        draws = []
        for seed in seeds:
            generator = seeded("codes", seed, number)
            if self.bank is not None:
                draws.append(self.bank[int(torch.randint(len(self.bank), (), generator=generator))].flatten())
            else:
                draws.append(torch.randint(len(self.book.codes), (self.height * self.width,), generator=generator))
        return torch.stack(draws).to(self.book.codes.device)

    def moving(self, turn: int, turns: int, order: CodeOrder) -> Tensor:
        """Whose turn the given of `turns` is: a mask [k, 1] over the codes with at least one True.

        With fewer turns than codes, several have theirs together; with more, each has some in a row.
        """
        return self._mask(self._ordered(order)[self._whose(turn, turns)])

    def waiting(self, turn: int, turns: int, order: CodeOrder) -> Tensor:
        """Which codes have not had theirs by then: a mask [k, 1]."""
        return self._mask(self._ordered(order)[self._whose(turn, turns).stop :])

    def _whose(self, turn: int, turns: int) -> slice:
        """Their places in the order."""
        count = self.height * self.width
        start = turn * count // turns
        return slice(start, max(start + 1, (turn + 1) * count // turns))

    def _mask(self, codes: Tensor) -> Tensor:
        mask = torch.zeros(self.height * self.width, 1, dtype=torch.bool, device=self.book.codes.device)
        mask[codes] = True
        return mask

    def _ordered(self, order: CodeOrder) -> Tensor:
        count = self.height * self.width
        if order == "random":
            return torch.randperm(count, generator=seeded("code order", count))
        if order == "centre":
            rows, columns = torch.arange(self.height)[:, None], torch.arange(self.width)[None]
            distance = (rows - (self.height - 1) / 2).square() + (columns - (self.width - 1) / 2).square()
            return distance.flatten().argsort(stable=True)
        return torch.arange(count)

    def _grid(self, vectors: Tensor) -> Tensor:
        return vectors.transpose(1, 2).unflatten(2, (self.height, self.width))


@dataclass(frozen=True, eq=False)
class StraightThroughSpace(CodeSpace):
    """The generator sees the nearest codes; the gradient passes as if it had seen the vectors. Bengio et al. 2013."""

    name: str = "straight-through"

    def decode(self, latents: Tensor) -> Tensor:
        vectors = self.vectors(latents)
        codes = self.book.codes[self.book.nearest(vectors)]
        return self._grid(vectors + (codes - vectors).detach())


@dataclass(frozen=True, eq=False)
class SoftCodeSpace(CodeSpace):
    """Mixtures of codes: latents are logits [N, k, V] of their weights."""

    name: str = "soft"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.height * self.width, len(self.book.codes))

    @property
    def first_logit(self) -> float:
        """Of the code that a mixture begins with, above all others: the softmax gives it SOFT_SHARE."""
        return math.log(max(1, len(self.book.codes) - 1) * SOFT_SHARE / (1 - SOFT_SHARE))

    @property
    def scale(self) -> float:
        entries = len(self.book.codes)
        return self.first_logit * math.sqrt(self.height * self.width * (1 - 1 / entries))

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """Raises SettingsError where a step would not fit into this machine's memory."""
        check_memory(len(seeds) * math.prod(self.shape) * 4 * SOFT_COPIES, self)
        return self.latents(self.sample_codes(seeds))

    def latents(self, codes: Tensor) -> Tensor:
        """Logits [N, k, V] above all others at these codes [N, k]."""
        latents = torch.zeros(*codes.shape, len(self.book.codes), device=self.book.codes.device)
        latents.scatter_(2, codes[..., None], self.first_logit)
        return latents - latents.mean(-1, keepdim=True)

    def constrain(self, latents: Tensor) -> Tensor:
        """No logit more than twice as large as at the start."""
        return latents.clamp(-2 * self.first_logit, 2 * self.first_logit)

    def vectors(self, latents: Tensor) -> Tensor:
        return latents.softmax(-1) @ self.book.codes


def check_memory(needed: int, space: CodeSpace) -> None:
    """Raises SettingsError where `needed` bytes are more than this machine has."""
    total = total_memory()
    if needed > total:
        raise SettingsError(
            f"n: mixtures of {len(space.book.codes):,} codes at {space.height} x {space.width} places need about "
            f"{needed / 1e9:.0f} GB for these particles, this machine has {total / 1e9:.0f} GB. "
            "Choose the space 'codes', or fewer particles."
        )
