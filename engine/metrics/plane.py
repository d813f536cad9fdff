"""Features in the plane, to look at: where their differences are largest, by a plane that follows them as they move.

The axes are the principal components of all features together, with those of earlier steps counting less and less
(incremental PCA with a forgetting factor: Ross et al. 2008, Incremental Learning for Robust Visual Tracking). Within
the plane they are turned to where they were before, so that points which hardly move are hardly moved.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

FORGETTING = 0.8  # weight of what was seen before, at every further step
_KEPT = 12  # directions that are remembered
_FLAT = 1e-5  # of the first component's length: shorter ones are no direction


@dataclass(frozen=True, eq=False)
class Plane:
    """centre: [D], of the newest features; axes: [2, D], orthonormal; memory: [K, D], what was seen so far.

    share: of the squared differences of the newest features, how much the plane shows, in [0, 1].
    """

    centre: Tensor
    axes: Tensor
    memory: Tensor
    share: float

    def places(self, features: Tensor) -> Tensor:
        """[N, D] -> [N, 2], in units of the features. Distances are at most those of the features themselves."""
        return (features.to(self.centre) - self.centre) @ self.axes.T


def following_plane(features: Tensor, before: Plane | None = None) -> Plane | None:
    """The plane for features [N, D], turned like the one of the step before, if there was one.

    That one, or None, where fewer than three features differ in a plane.
    """
    rows = features.detach().double().cpu()
    centre = rows.mean(0)
    centred = rows - centre
    seen = centred if before is None else torch.cat([centred, FORGETTING**0.5 * before.memory])
    _, lengths, directions = torch.linalg.svd(seen, full_matrices=False)
    if len(lengths) < 2 or float(lengths[1]) <= _FLAT * float(lengths[0]):
        return before
    axes = _upright(directions[:2]) if before is None else _turned(directions[:2], before.axes)
    shown, all_of_it = (centred @ axes.T).square().sum(), centred.square().sum()
    share = float(shown / all_of_it) if float(all_of_it) > 0 else 1.0
    return Plane(centre, axes, lengths[:_KEPT, None] * directions[:_KEPT], share)


def _upright(axes: Tensor) -> Tensor:
    """Each axis [2, D] so that its largest component is positive: a singular vector has no sign of its own."""
    largest = axes.abs().argmax(1, keepdim=True)
    return axes * axes.gather(1, largest).sign()


def _turned(axes: Tensor, like: Tensor) -> Tensor:
    """The same plane's axes [2, D], turned or mirrored in it to be nearest to others (orthogonal Procrustes)."""
    left, _, right = torch.linalg.svd(like @ axes.T)
    return left @ right @ axes


def mean_distance(places: Tensor) -> float:
    """Mean over pairs of the distance of points [N, 2]; 0 for one point."""
    return float(torch.pdist(places).mean()) if len(places) > 1 else 0.0
