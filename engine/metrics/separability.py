"""P-IDS and U-IDS (Zhao et al. 2021, Section 4): how often a linear support vector machine takes the made for the real.

Higher is better: 0 where a plane of feature space tells the two sets apart, about 0.5 where none can.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_MOST_STEPS = 100
_LEAST_STEP = 2.0**-30
_CONVERGED = 1e-10  # of the length of the gradient, relative to that at zero weights


class Separability(NamedTuple):
    """Shares in [0, 1]. paired: made pictures that look more real than the real one that they go with (P-IDS);
    unpaired: pictures of both sets that are taken for the other (U-IDS)."""

    paired: float
    unpaired: float


def separability(real: Tensor, made: Tensor, *, strength: float = 1.0, folds: int = 1) -> Separability:
    """P-IDS and U-IDS of features [N, D], row by row of a real picture and of the one made in its place.

    strength: the machine's C, larger for less regularisation. folds: 1 judges the pictures that the machine was fitted
    to, as published, which says something from several times D pairs on; otherwise each part of the pairs is judged by
    a machine that was fitted to the others. Raises ValueError for sets of unlike shape and folds that there are not.
    """
    if real.shape != made.shape or real.ndim != 2:
        raise ValueError(f"expected pairs of rows, got features {list(real.shape)} and {list(made.shape)}")
    if not 1 <= folds <= len(real):
        raise ValueError(f"expected 1 to {len(real)} folds, got {folds}")
    of_real, of_made = torch.empty(2, len(real), dtype=torch.float64)
    part = torch.arange(len(real)) % folds
    for number in range(folds):
        judged = part == number
        others = ~judged if folds > 1 else judged
        plane = fitted_plane(real[others], made[others], strength=strength)
        of_real[judged], of_made[judged] = (decisions(features[judged], plane) for features in (real, made))
    fooled = (of_real < 0).double().mean() + (of_made > 0).double().mean()
    return Separability(float((of_made > of_real).double().mean()), float(fooled) / 2)


def decisions(features: Tensor, plane: Tensor) -> Tensor:
    """Features [N, D] and `fitted_plane`'s weights [D + 1] -> [N], positive on the side of the real ones."""
    return _with_bias(features) @ plane


def fitted_plane(real: Tensor, made: Tensor, *, strength: float = 1.0) -> Tensor:
    """The weights [D + 1], bias last, of a linear support vector machine with squared hinge: features [N, D], [M, D].

    min |w|^2 / 2 + C sum max(0, 1 - y <w, x>)^2, the bias regularised like the others. It is strongly convex and
    piecewise quadratic, so Newton's method with halved steps ends at its minimum (Chapelle 2007, Section 3).
    """
    x = _with_bias(torch.cat([real, made]))
    y = torch.cat([x.new_ones(len(real)), -x.new_ones(len(made))])
    w = x.new_zeros(x.shape[1])
    identity = torch.eye(len(w), dtype=x.dtype)

    def loss(weights: Tensor) -> Tensor:
        return weights.square().sum() / 2 + strength * (1 - y * (x @ weights)).clamp_min(0).square().sum()

    scale = 2 * strength * (x.T @ y).norm().clamp_min(1e-12)
    for _ in range(_MOST_STEPS):
        active = y * (x @ w) < 1
        gradient = w - 2 * strength * x[active].T @ (y - x @ w)[active]
        if gradient.norm() <= _CONVERGED * scale:
            break
        move = -torch.linalg.solve(identity + 2 * strength * x[active].T @ x[active], gradient)
        step = 1.0
        while loss(w + step * move) > loss(w) + 1e-4 * step * (gradient @ move) and step > _LEAST_STEP:
            step /= 2
        w = w + step * move
    return w


def _with_bias(features: Tensor) -> Tensor:
    features = features.detach().cpu().double()
    return torch.cat([features, features.new_ones(len(features), 1)], dim=1)
