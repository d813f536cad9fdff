"""Densities in the plane: the papers' sets of points, two moons, drawings. N points, K centres.

Each is an even mixture of round Gaussians along a curve or at places, so that it can be drawn from and its density is
known. The 25 Gaussians are 0.05 wide, at -4, -2, ... 4, the Swiss roll has noise 0.25; both divided to variance about
one (by 2.828 and 7.5), as in Gulrajani et al. 2017.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CENTRES = 1000  # by which curves are integrated: nearer to each other than the noise is wide
CHUNK = 2048  # points whose density is computed at once
NEAR = 3.0  # deviations: nearly all of a Gaussian in the plane, 98.9 %, is as near to its centre
DRAWN_SIGMA = 0.05  # the width of a drawn line
Strokes = Sequence[Sequence[tuple[float, float]]]


def gaussians(count: int, generator: torch.Generator) -> Tensor:
    """[count, 2]."""
    cells = torch.randint(5, (count, 2), generator=generator)
    noise = 0.05 * torch.randn(count, 2, generator=generator)
    return (2.0 * (cells - 2) + noise) / 2.828


def swiss_roll(count: int, generator: torch.Generator) -> Tensor:
    """[count, 2]: angles of 1.5 to 4.5 pi, as far from the middle as they are large."""
    share = torch.rand(count, generator=generator)
    noise = 0.25 * torch.randn(count, 2, generator=generator)
    return _roll(share) + noise / 7.5


def two_moons(count: int, generator: torch.Generator) -> Tensor:
    """[count, 2]: two half circles that reach into each other."""
    share = torch.rand(count, generator=generator)
    return _moons(share) + 0.08 * torch.randn(count, 2, generator=generator)


def _roll(share: Tensor) -> Tensor:
    """Where a share in [0, 1] of the spiral's angle has been unrolled: [N] -> [N, 2]."""
    angle = 1.5 * math.pi * (1 + 2 * share)
    return angle[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1) / 7.5


def _moons(share: Tensor) -> Tensor:
    """The first half of the shares in [0, 1] runs along one moon, the other along the other: [N] -> [N, 2]."""
    angle = math.pi * (2 * share % 1)
    upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
    return 1.3 * torch.where((share < 0.5)[:, None], upper, -upper)


@dataclass(frozen=True, eq=False)
class Target:
    """centres: [K, 2], float32, each as heavy as the others; sigma: their deviation; sample: as many points [N, 2].

    has_modes: whether the centres are places of their own, and not a curve.
    """

    name: str
    centres: Tensor
    sigma: float
    sample: Callable[[int, torch.Generator], Tensor]
    has_modes: bool = False

    def log_density(self, points: Tensor, *, blur: float = 0.0) -> Tensor:
        """log p [N] of points [N, 2]; blur: the deviation of a Gaussian that p is convolved with."""
        variance = self.sigma**2 + blur**2
        parts = [
            (-torch.cdist(part, self.centres.to(part)).square() / (2 * variance)).logsumexp(1)
            for part in points.split(CHUNK)
        ]
        return torch.cat(parts) - math.log(2 * math.pi * variance * len(self.centres))

    def coverage(self, points: Tensor, held_out: Tensor) -> float:
        """The share of the modes, or without any of held-out samples [M, 2], that have one of `points` near them."""
        wanted = self.centres if self.has_modes else held_out
        return float((torch.cdist(wanted, points).amin(1) <= NEAR * self.sigma).float().mean())


def _evenly() -> Tensor:
    """The middles of as many parts of [0, 1] as there are centres."""
    return (torch.arange(CENTRES) + 0.5) / CENTRES


def _grid_of_25() -> Tensor:
    axis = torch.arange(-2, 3) * 2.0 / 2.828
    return torch.cartesian_prod(axis, axis)


SETS: dict[str, Callable[[], Target]] = {
    "swiss roll": lambda: Target("swiss roll", _roll(_evenly()), 0.25 / 7.5, swiss_roll),
    "25 Gaussians": lambda: Target("25 Gaussians", _grid_of_25(), 0.05 / 2.828, gaussians, has_modes=True),
    "two moons": lambda: Target("two moons", _moons(_evenly()), 0.08, two_moons),
}


def drawing(strokes: Strokes) -> Target:
    """The density along lines of points (x, y): even by length; a line of one place counts as a short one.

    Raises ValueError where there is none.
    """
    lines = [torch.tensor(stroke, dtype=torch.float32).reshape(-1, 2) for stroke in strokes]
    lines = [line for line in lines if len(line)]
    if not lines:
        raise ValueError("expected at least one line with a point")
    lengths = [max(float(line.diff(dim=0).norm(dim=1).sum()), DRAWN_SIGMA) for line in lines]
    counts = [max(1, round(CENTRES * length / sum(lengths))) for length in lengths]
    centres = torch.cat([_along(line, count) for line, count in zip(lines, counts, strict=True)])

    def sample(count: int, generator: torch.Generator) -> Tensor:
        chosen = centres[torch.randint(len(centres), (count,), generator=generator)]
        return chosen + DRAWN_SIGMA * torch.randn(count, 2, generator=generator)

    return Target("drawing", centres, DRAWN_SIGMA, sample)


def _along(line: Tensor, count: int) -> Tensor:
    """`count` places along a line through points [P, 2], as far from each other all along: [count, 2]."""
    passed = torch.cat([torch.zeros(1), line.diff(dim=0).norm(dim=1).cumsum(0)])
    if passed[-1] == 0:
        return line[:1].repeat(count, 1)
    at = passed[-1] * (torch.arange(count) + 0.5) / count
    after = torch.searchsorted(passed, at).clamp(1, len(line) - 1)
    start, end = passed[after - 1], passed[after]
    share = ((at - start) / (end - start).clamp_min(1e-12))[:, None]
    return torch.lerp(line[after - 1], line[after], share)
