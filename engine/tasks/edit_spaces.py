"""The latent spaces of edits: where a particle is, seen from where the edit began.

Latents are moves away from a `Start`, 0 being the start itself, so that its noise, the differences between its
layers and earlier edits of single channels all stay. J coordinates of a move, L layers, K coordinates of w, S styles.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from engine.inference.flow import Step
from engine.latents.spaces import LatentSpace, log_normal
from engine.tasks.inversion import Renderer, Start, styles_of

FURTHEST = 1.15  # times the extent of the mapping's samples, or the start's, should that be further out
FURTHEST_CHANNEL = 25.0  # standard deviations of a style from the start: StyleCLIP's largest alpha


@torch.no_grad()
def conditioned_draws(renderer: Renderer, start: Start, seeds: Sequence[int], factor: Tensor) -> Tensor:
    """Moves [N, K] of u from the start to draws of its posterior: C (u_i - u), u_i random samples.

    factor: [K, J] of the covariance C, see `inversion.posterior`. This is the sample conditioned on what is known of
    the picture (Matheron's rule): where the picture says nothing it is the sample, which need not be Gaussian,
    elsewhere the start.
    """
    samples = renderer.space.whitened.sample(seeds) - start.latents.mean(0)
    return torch.cat([sample @ factor @ factor.T for sample in samples.split(1)])


@dataclass(frozen=True, eq=False)
class WEditSpace:
    """Moves in W, the same for all layers: latents [N, J], or in W+, one for each: [N, L, J].

    basis: [J, K], the move of the whitened u that each coordinate stands for; a step goes far along its long rows.
    With the transposed factor of the posterior it hardly moves what is known of the picture, and the rest as far as
    the prior does. factor: [K, J'], of the covariance of where particles begin.
    """

    renderer: Renderer
    start: Start
    basis: Tensor
    factor: Tensor
    per_layer: bool = False

    @property
    def name(self) -> str:
        return "w+" if self.per_layer else "w"

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.start.latents), len(self.basis)) if self.per_layer else (len(self.basis),)

    @property
    def scale(self) -> float:
        return math.sqrt(math.prod(self.shape))

    @cached_property
    def _back(self) -> Tensor:
        """[K, J]: moves of u as coordinates."""
        return torch.linalg.pinv(self.basis.double()).to(self.basis)

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """Draws of the posterior, as far as the basis can express them."""
        draws = conditioned_draws(self.renderer, self.start, seeds, self.factor)
        latents = torch.cat([draw @ self._back for draw in draws.split(1)])
        return latents[:, None].repeat(1, self.shape[0], 1) if self.per_layer else latents

    def constrain(self, latents: Tensor) -> Tensor:
        """Moves that lead too far out are shortened; each layer for itself.

        The whole u is not drawn back, as it is in `WSpace`: that would change all the rest of the picture.
        """
        here = self.start.latents if self.per_layer else self.start.latents.mean(0)
        move = latents @ self.basis
        # The share t <= 1 of the move with |here + t move|^2 = limit^2.
        limit = FURTHEST * here.norm(dim=-1, keepdim=True).clamp_min(self.renderer.space.whitened.radius)
        along, length = (here * move).sum(-1, keepdim=True), move.square().sum(-1, keepdim=True).clamp_min(1e-12)
        room = limit.square() - here.square().sum(-1, keepdim=True)  # never below 0: the limit is further out
        share = (along.square() + length * room).sqrt().sub(along) / length
        return latents * share.clamp_max(1)

    def log_prior(self, latents: Tensor) -> Tensor:
        """-1/2 the squared distance to the start."""
        return log_normal(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """Moves -> styles [N, S]."""
        return self.renderer.styles(self.to_w_plus(latents), self.start.residual)

    def to_w_plus(self, latents: Tensor) -> Tensor:
        """Moves -> latents [N, L, K] of W+."""
        moves = latents @ self.basis
        return self.start.latents + (moves if self.per_layer else moves[:, None])

    def truncated(self, psi: float) -> "WEditSpace":
        """Unchanged: an edit stays where its picture is."""
        return self


@dataclass(frozen=True, eq=False)
class StyleEditSpace:
    """Moves in S: latents [N, S] in standard deviations `std` [S] of each channel; ToRGB's channels stay."""

    renderer: Renderer
    start: Start
    std: Tensor
    name: str = "s"

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.std),)

    @property
    def scale(self) -> float:
        return math.sqrt(len(self.std))

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """The start itself: what W may vary is no single channel's."""
        return torch.zeros(len(seeds), *self.shape).to(self.std)

    def constrain(self, latents: Tensor) -> Tensor:
        return latents.clamp(-FURTHEST_CHANNEL, FURTHEST_CHANNEL)

    def log_prior(self, latents: Tensor) -> Tensor:
        return log_normal(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """Moves -> styles [N, S]."""
        return styles_of(self.start, self.renderer) + self.std * self.renderer.synthesis.editable.to(latents) * latents

    def truncated(self, psi: float) -> "StyleEditSpace":
        """Unchanged: an edit stays where its picture is."""
        return self


@torch.no_grad()
def start_after(begin: Start, renderer: Renderer, space: LatentSpace, step: Step, index: int) -> Start:
    """The start of a further edit: one result of a run that began at `begin` and moved in `space`, one of these."""
    latents, image = step.particles.latents[index : index + 1], step.pictures[index : index + 1]
    u, residual = begin.latents, begin.residual
    if isinstance(space, StyleEditSpace):
        residual = space.decode(latents)[0] - renderer.styles(u[None])[0]
    elif isinstance(space, WEditSpace):
        u = space.to_w_plus(latents)[0]
    return replace(begin, latents=u, residual=residual, image=image, target=image, picture=None, distance=0.0)
