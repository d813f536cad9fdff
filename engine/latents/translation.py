"""The latent space of a translation: a style, and how far the content of a picture is moved from what it was.

N particles, S numbers of a style, K numbers of a picture's content features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.latents.spaces import LatentSpace, SphereSpace, log_normal, normal_per_seed, project_to_ball, seeded

SHELL = 2.0  # from sqrt(L), within which 99 % of all normal latents' lengths are
FITTING_STEPS, FITTING_RATE = 200, 0.05
FURTHEST = 0.5  # times the content's own length: how far it may be moved
SMALLEST = 1e-12


@dataclass(frozen=True, eq=False)
class DrawnStyles(SphereSpace):
    """Styles of the mapping network alone: its latents z [N, L], which stay about as long as normal ones are.

    Moved freely, styles soon leave what the generator was trained on, and colours and faces fall apart.
    """

    mapping: Callable[[Tensor], Tensor] = field(kw_only=True)

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """Of any length, as the model alone draws them."""
        return normal_per_seed(self.shape, purpose="z", seeds=seeds).to(self.device)

    def constrain(self, latents: Tensor) -> Tensor:
        length = latents.norm(dim=1, keepdim=True).clamp_min(SMALLEST)
        return latents * (length.clamp(max(0.0, self.scale - SHELL), self.scale + SHELL) / length)

    def decode(self, latents: Tensor) -> Tensor:
        """z -> styles [N, S]."""
        return self.mapping(latents)


@dataclass(frozen=True, eq=False)
class GivenStyles:
    """Styles that begin at given ones [R, S], and move as drawn ones do: latents [N, L + S], z and an offset.

    A style is mapping(z) + offset. z: [R, L], whose styles are nearest to the given ones (see `nearest_latents`); what
    is left of these is the offset, which no gradient moves. Particle i begins at given style i mod R, and all but the
    first of each with z moved at random by `spread`. deviation: [S], how widely styles lie.
    """

    drawn: DrawnStyles
    given: Tensor
    z: Tensor
    deviation: Tensor
    spread: float
    name: str = "style"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.drawn.dim + self.given.shape[1],)

    @property
    def scale(self) -> float:
        return self.drawn.scale

    def sample(self, seeds: Sequence[int]) -> Tensor:
        noise = normal_per_seed((self.drawn.dim,), purpose="reference", seeds=seeds).to(self.z)
        noise[: len(self.given)] = 0  # those are the plain model's
        offsets = self.given - self.drawn.decode(self.z)
        starts = in_turn(self.z, len(seeds)) + self.spread * noise
        return torch.cat([starts, in_turn(offsets, len(seeds))], dim=1)

    def constrain(self, latents: Tensor) -> Tensor:
        z, offsets = self._split(latents)
        return torch.cat([self.drawn.constrain(z), offsets], dim=1)

    def log_prior(self, latents: Tensor) -> Tensor:
        return self.drawn.log_prior(self._split(latents)[0])

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> styles [N, S]."""
        z, offsets = self._split(latents)
        return self.drawn.decode(z) + offsets.detach()

    def truncated(self, psi: float) -> "GivenStyles":
        """Unchanged: the styles are given."""
        return self

    def _split(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        return latents[:, : self.drawn.dim], latents[:, self.drawn.dim :]


def in_turn(rows: Tensor, n: int) -> Tensor:
    """What belongs to each of R given styles, [R, ...], for n particles: [n, ...]."""
    return rows[torch.arange(n, device=rows.device) % len(rows)]


def nearest_latents(drawn: DrawnStyles, styles: Tensor, deviation: Tensor, *, samples: Tensor) -> Tensor:
    """z [R, L] whose styles are nearest to given ones [R, S], in units of `deviation` [S].

    By gradient descent (Adam) from the nearest of some samples [M, L].
    """

    def distances(z: Tensor, wanted: Tensor) -> Tensor:
        return ((drawn.decode(z) - wanted) / deviation).square().mean(1)

    with torch.no_grad():
        starts = torch.stack([samples[distances(samples, style[None]).argmin()] for style in styles])
    with torch.enable_grad():
        z = starts.clone().requires_grad_()
        optimizer = torch.optim.Adam([z], lr=FITTING_RATE)
        for _ in range(FITTING_STEPS):
            optimizer.zero_grad()
            distances(z, styles).sum().backward(inputs=[z])
            optimizer.step()
    found = drawn.constrain(z.detach())
    with torch.no_grad():
        better = distances(found, styles) < distances(starts, styles)
    return torch.where(better[:, None], found, starts)


@dataclass(frozen=True, eq=False)
class TranslationSpace:
    """Latents [N, L + K], or [N, L] of the style alone.

    styles: a space of L numbers that decodes to styles [N, S]; its part here is its latents / `style_scale`, so that a
    step moves a style that much further. content: [K], the picture's; content_unit: of its moves, see `equal_effect`;
    0: it stays.
    """

    styles: LatentSpace
    content: Tensor
    style_scale: float = 1.0
    content_unit: float = 0.0
    name: str = "style"

    @property
    def style_latents(self) -> int:
        """L."""
        return self.styles.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.style_latents + (len(self.content) if self.content_unit else 0),)

    @property
    def scale(self) -> float:
        return self.styles.scale

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """The styles' own starts, and the content as it is."""
        styles = self.styles.sample(seeds) / self.style_scale
        return torch.cat([styles, styles.new_zeros(len(seeds), self.shape[0] - self.style_latents)], dim=1)

    def constrain(self, latents: Tensor) -> Tensor:
        """Styles as their space wants them; the content within FURTHEST of what it was."""
        styles, moves = self._split(latents)
        styles = self.styles.constrain(self.style_scale * styles) / self.style_scale
        if not self.content_unit:
            return styles
        reach = FURTHEST * float(self.content.norm()) / self.content_unit
        return torch.cat([styles, project_to_ball(moves, reach)], dim=1)

    def log_prior(self, latents: Tensor) -> Tensor:
        styles, moves = self._split(latents)
        return self.styles.log_prior(self.style_scale * styles) + log_normal(moves)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> a style and content features, side by side: [N, S + K] or [N, S]."""
        styles, moves = self._split(latents)
        decoded = self.styles.decode(self.style_scale * styles)
        return torch.cat([decoded, self.content + self.content_unit * moves], dim=1) if self.content_unit else decoded

    def truncated(self, psi: float) -> "TranslationSpace":
        """Unchanged: a translation begins at styles of its own."""
        return self

    def _split(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        return latents[:, : self.style_latents], latents[:, self.style_latents :]


def equal_effect(draw: Callable[[Tensor, Tensor], Tensor], content: Tensor, styles: Tensor) -> float:
    """The unit of the content's moves by which gradients move it as far, in latents, as the styles' latents [N, L].

    Without it one of the two would hardly move: a step follows the gradient, and the content's, of many thousand
    numbers, can be a thousand times as long as the style's, or the other way round. Measured by random projections of
    the pictures (Hutchinson 1990): E |J^T v|^2 is the squared Frobenius norm of J. draw: content [N, C, h, w] and
    latents of styles [N, L] -> images.
    """
    with torch.enable_grad():
        features = content.expand(len(styles), -1, -1, -1).clone().requires_grad_()
        styles = styles.detach().clone().requires_grad_()
        images = draw(features, styles)
        directions = torch.randn(images.shape, generator=seeded("effect")).to(images)
        by_content, by_style = torch.autograd.grad(images, (features, styles), directions)
    return float(by_style.norm() / by_content.norm().clamp_min(SMALLEST))
