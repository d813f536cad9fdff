"""Latent spaces: where particles start, how likely a place is, where they may go, what the generator
receives.

Every space is parametrised so that `scale` is the typical length of a latent: a step of 0.03 means the same
in each. N particles, K coordinates, L layers.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from engine.latents.settling import Option, Settling

MappingNetwork = Callable[[Tensor], Tensor]  # z: [N, z_dim] -> w: [N, w_dim]


class LatentSpace(Protocol):
    """What the flow needs of a latent space. Latents are [N, *shape]."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def scale(self) -> float:
        """The typical length of a latent: step sizes are relative to it."""
        ...

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """One latent per seed, bit for bit the same whatever the other seeds are: [N, *shape]."""
        ...

    def constrain(self, latents: Tensor) -> Tensor:
        """The nearest latents among those the generator was trained on."""
        ...

    def log_prior(self, latents: Tensor) -> Tensor:
        """log p(z) up to a constant: [N]."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """What the generator receives: for StyleGAN w [N, w_dim] or ws [N, L, w_dim]. Differentiable."""
        ...

    def truncated(self, psi: float) -> "LatentSpace":
        """The same space drawn together by psi in (0, 1]: fewer odd pictures, less variety."""
        ...


def seeded(*key: int | str) -> torch.Generator:
    """A CPU generator whose state depends on `key` only; different keys give unrelated streams.

    Deriving every stream from (purpose, seed, step) leaves no state to carry: a resumed run draws the same
    numbers.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=4).digest()  # torch's Mersenne twister reads 32 bits
    return torch.Generator().manual_seed(int.from_bytes(digest))


def normal_per_seed(shape: tuple[int, ...], *, purpose: str, seeds: Sequence[int], step: int = 0) -> Tensor:
    """Standard normal numbers [N, *shape], particle i's from seeds[i] alone."""
    draws = [torch.randn(shape, generator=seeded(purpose, seed, step)) for seed in seeds]
    return torch.stack(draws)


def log_normal(latents: Tensor) -> Tensor:
    """log N(0, I) up to its constant: -|z|^2 / 2 over all but the first dimension, [N, ...] -> [N]."""
    return -0.5 * latents.flatten(1).square().sum(1)


def project_to_ball(latents: Tensor, radius: float) -> Tensor:
    """Vectors (last dimension) longer than `radius` are shortened to it."""
    length = latents.norm(dim=-1, keepdim=True)
    return latents * (radius / length.clamp_min(radius))


@dataclass(frozen=True)
class SphereSpace:
    """z ~ N(0, I_K), kept on the shell |z| = sqrt(K), where nearly all of a Gaussian's mass is."""

    dim: int
    device: torch.device | str = "cpu"
    name: str = "z"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dim,)

    @property
    def scale(self) -> float:
        return math.sqrt(self.dim)

    def sample(self, seeds: Sequence[int]) -> Tensor:
        return self.constrain(normal_per_seed(self.shape, purpose="z", seeds=seeds).to(self.device))

    def constrain(self, latents: Tensor) -> Tensor:
        return latents * (self.scale / latents.norm(dim=1, keepdim=True).clamp_min(1e-12))

    def log_prior(self, latents: Tensor) -> Tensor:
        return log_normal(latents)

    def decode(self, latents: Tensor) -> Tensor:
        return latents

    def truncated(self, psi: float) -> Self:
        """Unchanged: a point on a sphere cannot come nearer to the centre."""
        return self


@dataclass(frozen=True)
class MappedSphereSpace(SphereSpace):
    """StyleGAN's Z: the sphere, decoded by the mapping network to w, which truncation draws to `mean` [w_dim]."""

    mapping: MappingNetwork = field(kw_only=True)
    mean: Tensor = field(kw_only=True)
    psi: float = 1.0

    def decode(self, latents: Tensor) -> Tensor:
        """z: [N, K] -> w: [N, w_dim] = mean + psi (mapping(z) - mean)."""
        return torch.lerp(self.mean, self.mapping(latents), self.psi)

    def truncated(self, psi: float) -> Self:
        return replace(self, psi=self.psi * psi)


@dataclass(frozen=True)
class TruncatedNormalSpace:
    """Every coordinate of z from N(0, 1) restricted to [-limit, limit] (BigGAN, limit 2)."""

    dim: int
    limit: float = 2.0
    device: torch.device | str = "cpu"
    name: str = "z"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dim,)

    @property
    def scale(self) -> float:
        """sqrt(K times the variance of a truncated normal, 1 - 2 limit pdf(limit) / (2 cdf(limit) - 1))."""
        mass = math.erf(self.limit / math.sqrt(2))
        density = math.exp(-0.5 * self.limit**2) / math.sqrt(2 * math.pi)
        return math.sqrt(self.dim * (1 - 2 * self.limit * density / mass))

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """By the inverse of the cumulative distribution: one uniform number a coordinate, none rejected."""
        draws = [torch.rand(self.dim, generator=seeded("z", seed, 0), dtype=torch.float64) for seed in seeds]
        mass = math.erf(self.limit / math.sqrt(2))
        z = torch.erfinv((2 * torch.stack(draws) - 1) * mass) * math.sqrt(2)
        return z.to(torch.float32).to(self.device)

    def constrain(self, latents: Tensor) -> Tensor:
        return latents.clamp(-self.limit, self.limit)

    def log_prior(self, latents: Tensor) -> Tensor:
        return log_normal(latents)

    def decode(self, latents: Tensor) -> Tensor:
        return latents

    def truncated(self, psi: float) -> Self:
        """BigGAN's truncation is the limit itself."""
        return replace(self, limit=self.limit * psi)


@dataclass(frozen=True, eq=False)
class WStatistics:
    """Mean, covariance factor and extent of a mapping network's w.

    mean: [w_dim]; factor: [w_dim, K] with factor @ factor.T = covariance, its columns orthogonal; radius: the
    .95 quantile of |u| / sqrt(K) over samples u = whiten(w); low, high: [w_dim], the extremes of w.
    """

    mean: Tensor
    factor: Tensor
    radius: float
    low: Tensor
    high: Tensor

    def whiten(self, w: Tensor) -> Tensor:
        """u with w = mean + factor u, least squares outside the factor's span. [..., w_dim] -> [..., K]."""
        return (w - self.mean) @ (self.factor / self.factor.square().sum(0))

    def colour(self, u: Tensor) -> Tensor:
        """w = mean + factor u. [..., K] -> [..., w_dim]."""
        return self.mean + u @ self.factor.T

    def into_range(self, w: Tensor, psi: float) -> Tensor:
        """w [..., w_dim], each coordinate kept between mean + psi (low - mean) and mean + psi (high - mean)."""
        low, high = (torch.lerp(self.mean, bound, psi) for bound in (self.low, self.high))
        clamped: Tensor = _ClampWithWayBack.apply(w, low, high)
        return clamped


class _ClampWithWayBack(torch.autograd.Function):
    """clamp(x, low, high) whose gradient vanishes only where following it (upwards) would lead further out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        ctx.save_for_backward(x < low, x > high)
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        below, above = ctx.saved_tensors
        outwards = (below & (gradient < 0)) | (above & (gradient > 0))
        return gradient.masked_fill(outwards, 0), None, None


SMALLEST_VARIANCE = 1e-6  # of the largest; directions that vary less are rounding, not faces


@torch.no_grad()
def w_statistics(
    mapping: MappingNetwork,
    z_dim: int,
    *,
    samples: int = 10_000,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> WStatistics:
    """Statistics of w = mapping(z), z ~ N(0, I); in float64, which directions of small variance need."""
    z = torch.randn(samples, z_dim, generator=seeded("w_statistics", seed)).to(device)
    w = torch.cat([mapping(part) for part in z.split(1000)])
    exact = w.double().cpu()
    mean = exact.mean(0)
    variances, directions = torch.linalg.eigh((exact - mean).T.cov(correction=0))
    kept = variances > SMALLEST_VARIANCE * variances[-1]
    factor = directions[:, kept] * variances[kept].sqrt()
    # An eigenvector's sign is arbitrary; with its largest entry positive, a kept u means the same everywhere.
    factor = factor * factor.gather(0, factor.abs().argmax(0, keepdim=True)).sign()
    low, high = exact.aminmax(dim=0)
    lengths = WStatistics(mean, factor, 1.0, low, high).whiten(exact).norm(dim=1) / math.sqrt(factor.shape[1])
    return WStatistics(mean.to(w), factor.to(w), float(lengths.quantile(0.95)), low.to(w), high.to(w))


@dataclass(frozen=True, eq=False)
class WSpace:
    """StyleGAN's W in whitened coordinates: latents are u, w = mean + factor u; samples have covariance I.

    A gradient step in u is a step in w preconditioned by the covariance (the natural metric of the Gaussian
    prior): directions in which faces vary much move much. |u| is the Mahalanobis distance to the mean face;
    `constrain` keeps it within the extent of the mapping's own samples, `log_prior` is the pull to the mean.
    """

    mapping: MappingNetwork
    z_dim: int
    statistics: WStatistics
    psi: float = 1.0
    name: str = "w"
    settling: Settling | None = None  # of w to places whose pictures are whole, after which the space is then named

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.statistics.factor.shape[1],)

    @property
    def scale(self) -> float:
        return math.sqrt(self.statistics.factor.shape[1])

    @property
    def radius(self) -> float:
        """The greatest |u| that `constrain` leaves."""
        return self.psi * self.statistics.radius * self.scale

    @torch.no_grad()
    def sample(self, seeds: Sequence[int]) -> Tensor:
        """u = psi whiten(mapping(z)), one z at a time: a batched matrix product may round differently."""
        z = normal_per_seed((self.z_dim,), purpose="z", seeds=seeds).to(self.statistics.mean)
        u = torch.cat([self.statistics.whiten(self.mapping(one)) for one in z.split(1)])
        return self.constrain(self.psi * u)

    def constrain(self, latents: Tensor) -> Tensor:
        return project_to_ball(latents, self.radius)

    def log_prior(self, latents: Tensor) -> Tensor:
        """-1/2 the squared Mahalanobis distance of w."""
        return log_normal(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """u: [N, K] -> w: [N, w_dim], within the range of the mapping's samples in every coordinate.

        The ball alone lets one attribute grow out of proportion: on the bundled avatars, sunglasses over the face.
        """
        w = self.statistics.into_range(self.statistics.colour(latents), self.psi)
        return w if self.settling is None else self.settling(w)

    @property
    def options(self) -> Sequence[Option]:
        """What a picture has one value of each; nothing where w is not settled."""
        return () if self.settling is None else self.settling.options

    def alternatives(self, latents: Tensor, option: Option) -> tuple[Tensor, Tensor]:
        """u [N, K] with each value of an option: [V, N, K], and which of them each has now: [N]."""
        assert self.settling is not None
        w, own = self.settling.alternatives(self.statistics.colour(latents), option)
        return self.statistics.whiten(w), own

    def truncated(self, psi: float) -> Self:
        return replace(self, psi=self.psi * psi)


def style_spaces(
    to_domain: Callable[[Tensor, int], Tensor], z_dim: int, domains: int, *, device: torch.device | str = "cpu"
) -> tuple[WSpace, ...]:
    """StarGAN v2's styles: one W for each domain, whose `truncated` pulls to the mean style of 10,000 z.

    to_domain: z [N, z_dim] and the number of a domain to styles [N, w_dim].
    """

    def space(domain: int) -> WSpace:
        def mapping(z: Tensor) -> Tensor:
            return to_domain(z, domain)

        return WSpace(mapping, z_dim, w_statistics(mapping, z_dim, device=device), name=f"style {domain}")

    return tuple(space(domain) for domain in range(domains))


@dataclass(frozen=True, eq=False)
class PlainWSpace:
    """StyleGAN's W in its own metric: latents are w - mean, their scale is sqrt(trace of the covariance)."""

    whitened: WSpace
    name: str = "w_plain"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.whitened.statistics.mean.shape)

    @property
    def scale(self) -> float:
        return float(self.whitened.statistics.factor.norm())

    def sample(self, seeds: Sequence[int]) -> Tensor:
        u = self.whitened.sample(seeds)
        return torch.cat([one @ self.whitened.statistics.factor.T for one in u.split(1)])

    def constrain(self, latents: Tensor) -> Tensor:
        """Into the ellipsoid of the samples; directions in which they do not vary are dropped."""
        u = self.whitened.constrain(self._whiten(latents))
        return u @ self.whitened.statistics.factor.T

    def log_prior(self, latents: Tensor) -> Tensor:
        return log_normal(self._whiten(latents))

    def decode(self, latents: Tensor) -> Tensor:
        """w - mean: [N, w_dim] -> w: [N, w_dim]."""
        statistics = self.whitened.statistics
        return statistics.into_range(statistics.mean + latents, self.whitened.psi)

    def truncated(self, psi: float) -> Self:
        return replace(self, whitened=self.whitened.truncated(psi))

    def _whiten(self, latents: Tensor) -> Tensor:
        return self.whitened.statistics.whiten(self.whitened.statistics.mean + latents)


@dataclass(frozen=True, eq=False)
class WPlusSpace:
    """W+: one whitened u for each of the generator's L layers, all starting equal. Latents are [N, L, K]."""

    whitened: WSpace
    layers: int
    name: str = "w+"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.layers, *self.whitened.shape)

    @property
    def scale(self) -> float:
        return math.sqrt(self.layers) * self.whitened.scale

    def sample(self, seeds: Sequence[int]) -> Tensor:
        return self.whitened.sample(seeds)[:, None].repeat(1, self.layers, 1)

    def constrain(self, latents: Tensor) -> Tensor:
        """Each layer for itself."""
        return self.whitened.constrain(latents)

    def log_prior(self, latents: Tensor) -> Tensor:
        return log_normal(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """u: [N, L, K] -> ws: [N, L, w_dim]."""
        return self.whitened.decode(latents)

    def truncated(self, psi: float) -> Self:
        return replace(self, whitened=self.whitened.truncated(psi))
