"""Improved precision and recall of generated pictures and the realism of one (Kynkäänniemi et al. 2019), density and
coverage (Naeem et al. 2020)."""

from typing import NamedTuple

import torch
from torch import Tensor


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]."""

    precision: float
    recall: float


def neighbour_radii(features: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest neighbour, itself not counted: [N, D] -> [N].

    Raises ValueError where there are not more than k points.
    """
    if len(features) <= k:
        raise ValueError(f"expected more than k = {k} points, got {len(features)}")
    return torch.cdist(features, features).kthvalue(k + 1, dim=1).values


def covered_share(points: Tensor, centres: Tensor, radii: Tensor) -> float:
    """Share of points [M, D] that lie in at least one ball around the centres [N, D] with radii [N]."""
    inside = torch.cdist(points, centres) <= radii
    return float(inside.any(dim=1).double().mean())


def precision_recall(real: Tensor, generated: Tensor, *, k: int = 3) -> PrecisionRecall:
    """Precision: generated pictures on the real manifold; recall: real pictures on the generated one (Eq. 1-2).

    Features [N, D] and [M, D]; a manifold is the union of balls that reach to the k-th neighbour. Computed in
    float64: distances between near neighbours cancel.
    """
    real, generated = real.double(), generated.double()
    return PrecisionRecall(
        precision=covered_share(generated, real, neighbour_radii(real, k)),
        recall=covered_share(real, generated, neighbour_radii(generated, k)),
    )


class DensityCoverage(NamedTuple):
    """Density is 1 in expectation for equal distributions and may be above; coverage lies in [0, 1]."""

    density: float
    coverage: float


def density_coverage(real: Tensor, generated: Tensor, *, k: int = 5) -> DensityCoverage:
    """In how many balls around real pictures a generated one lies, in k; the share of balls that hold one (Eq. 4-5).

    Features [N, D] and [M, D]; the balls reach to the k-th real neighbour. Unlike precision, density does not count an
    outlier's large ball as much as a crowd of small ones; unlike recall, coverage is not raised by generated outliers.
    """
    real, generated = real.double(), generated.double()
    inside = torch.cdist(real, generated) <= neighbour_radii(real, k)[:, None]
    return DensityCoverage(
        density=float(inside.sum(0).double().mean()) / k, coverage=float(inside.any(dim=1).double().mean())
    )


def realism(points: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    """How far inside of the manifold around the centres [N, D] each point [M, D] lies: [M], above 1 inside (Eq. 3).

    The largest ratio of a ball's radius to the point's distance from its centre. Balls larger than the median are
    left out: they lie where the centres are few.
    """
    usual = radii <= radii.median()
    return (radii[usual] / torch.cdist(points, centres[usual])).amax(dim=1)
