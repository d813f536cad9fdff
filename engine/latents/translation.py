"""The latent space of a translation: a style, and how far the content of a picture is moved from what it was.

N particles, S numbers of a style, K numbers of a picture's content features.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.latents.spaces import log_normal, project_to_ball, seeded

FURTHEST = 0.5  # times the content's own length: how far it may be moved
SMALLEST = 1e-12


@dataclass(frozen=True, eq=False)
class TranslationSpace:
    """Latents [N, S + K] or, of the style alone, [N, S]; decoded: base + unit * latents.

    base, unit: [S + K] or [S]. A style as far from the mean as the domain's styles typically are is a latent as long as
    `scale`. low, high, deviation: [S], of the domain's styles. reach: how long a content part may be. starts: seeds ->
    styles [N, S].
    """

    base: Tensor
    unit: Tensor
    low: Tensor
    high: Tensor
    deviation: Tensor
    reach: float
    starts: Callable[[Sequence[int]], Tensor]
    name: str = "style"

    @property
    def style_dim(self) -> int:
        return len(self.low)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.base),)

    @property
    def scale(self) -> float:
        return math.sqrt(self.style_dim)

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """The starts' styles, and the content as it is."""
        latents = torch.zeros(len(seeds), len(self.base)).to(self.base)
        size = self.style_dim
        latents[:, :size] = (self.starts(seeds) - self.base[:size]) / self.unit[:size]
        return latents

    def constrain(self, latents: Tensor) -> Tensor:
        """Each number of a style stays among those of the domain's; the content stays within its reach."""
        size = self.style_dim
        low, high = ((bound - self.base[:size]) / self.unit[:size] for bound in (self.low, self.high))
        styles = torch.maximum(torch.minimum(latents[:, :size], high), low)
        return torch.cat([styles, project_to_ball(latents[:, size:], self.reach)], dim=1)

    def log_prior(self, latents: Tensor) -> Tensor:
        return log_normal(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> a style and content features, side by side: [N, S + K] or [N, S]."""
        return self.base + self.unit * latents

    def truncated(self, psi: float) -> "TranslationSpace":
        """Unchanged: a translation begins at styles of its own."""
        return self


def translation_space(
    mean: Tensor,
    deviation: Tensor,
    extremes: tuple[Tensor, Tensor],
    content: Tensor,
    starts: Callable[[Sequence[int]], Tensor],
    *,
    style_scale: float,
    content_unit: float,
) -> TranslationSpace:
    """The space of one picture in one domain, whose styles have that mean, deviation and extremes [S] each.

    content: [C, h, w], of the picture; content_unit: of its moves, see `equal_effect`; 0: it stays.
    """
    base, unit, reach = mean, style_scale * deviation, 0.0
    if content_unit > 0:
        flat = content.flatten()
        base, unit = torch.cat([base, flat]), torch.cat([unit, torch.full_like(flat, content_unit)])
        reach = FURTHEST * float(flat.norm()) / content_unit
    return TranslationSpace(base, unit, *extremes, deviation, reach, starts)


def equal_effect(
    draw: Callable[[Tensor, Tensor], Tensor], content: Tensor, styles: Tensor, style_unit: Tensor
) -> float:
    """The unit of the content's moves by which gradients move it as far, in latents, as the style in `style_unit` [S].

    Without it one of the two would hardly move: a step follows the gradient, and the content's, of many thousand
    numbers, can be a thousand times as long as the style's, or the other way round. Measured by random projections of
    the pictures (Hutchinson 1990): E |J^T v|^2 is the squared Frobenius norm of J. draw: content [N, C, h, w] and
    styles [N, S] -> images.
    """
    with torch.enable_grad():
        features = content.expand(len(styles), -1, -1, -1).clone().requires_grad_()
        styles = styles.detach().clone().requires_grad_()
        images = draw(features, styles)
        directions = torch.randn(images.shape, generator=seeded("effect")).to(images)
        by_content, by_style = torch.autograd.grad(images, (features, styles), directions)
    return float((style_unit * by_style).norm() / by_content.norm().clamp_min(SMALLEST))
