"""The Fréchet distance between two sets of features, each taken as a Gaussian (Heusel et al. 2017, Eq. 6)."""

from typing import NamedTuple

import torch
from torch import Tensor


class Gaussian(NamedTuple):
    """What the distance needs of a set of features: mean [D], root of the covariance [D, D], its trace []."""

    mean: Tensor
    root: Tensor
    trace: Tensor


def fitted_gaussian(features: Tensor) -> Gaussian:
    """Of features [N, D], in float64. Raises ValueError for fewer than 2 rows."""
    _check_rows(features)
    features = features.double()
    values, vectors = torch.linalg.eigh(features.T.cov().reshape(features.shape[1], -1))
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return Gaussian(features.mean(0), root, values.sum())


def distance_to(real: Gaussian, generated: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) for generated features [M, D], in float64.

    With centred features X, C2 = X'X / (M - 1), the trace of the root is the sum of the singular values of
    X C1^(1/2), over sqrt(M - 1). So no root is taken of what is zero but for rounding, as it is in all directions but
    M - 1 where there are fewer pictures than features. The distance of few pictures is too large, by as much for any
    sets of as many: as a number of its own it says something from several times D pictures on. Raises ValueError for
    fewer than 2 rows.
    """
    _check_rows(generated)
    generated = generated.double()
    mean = generated.mean(0)
    spread = (generated - mean) / (len(generated) - 1) ** 0.5
    traces = real.trace + spread.square().sum() - 2 * torch.linalg.svdvals(spread @ real.root).sum()
    return float((real.mean - mean).square().sum() + traces)


def frechet_distance(real: Tensor, generated: Tensor) -> float:
    """Of two sets of features [N, D] and [M, D], see `distance_to`. Raises ValueError for fewer than 2 rows."""
    return distance_to(fitted_gaussian(real), generated)


def _check_rows(features: Tensor) -> None:
    if len(features) < 2:
        raise ValueError(f"expected at least 2 rows of features each, got {len(features)}")
