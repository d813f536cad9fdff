"""How like real pictures a set of generated ones is: Fréchet distance, precision and recall."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from engine.metrics.frechet import Gaussian, distance_to, fitted_gaussian
from engine.metrics.manifold import covered_share, neighbour_radii

NEIGHBOURS = 3  # k of both manifolds (Kynkäänniemi et al. 2019)


@dataclass(frozen=True, eq=False)
class Likeness:
    """What sets of pictures are compared with: features [N, D] of real ones. What it needs of them is computed once."""

    real: Tensor

    @cached_property
    def _centres(self) -> Tensor:
        return self.real.double()

    @cached_property
    def _gaussian(self) -> Gaussian:
        return fitted_gaussian(self._centres)

    @cached_property
    def _radii(self) -> Tensor:
        return neighbour_radii(self._centres, NEIGHBOURS)

    @torch.no_grad()
    def figures(self, generated: Tensor) -> Mapping[str, float]:
        """By name, of generated features [M, D]: those that so few pictures have. One has no spread, 3 no manifold.

        Recall grows with M, and the distance falls: only sets of as many pictures compare.
        """
        generated = generated.to(self._centres)
        figures: dict[str, float] = {}
        if min(len(generated), len(self.real)) > 1:
            figures["frechet"] = distance_to(self._gaussian, generated)
        if len(self.real) > NEIGHBOURS:
            figures["precision"] = covered_share(generated, self._centres, self._radii)
        if len(generated) > NEIGHBOURS:
            figures["recall"] = covered_share(self._centres, generated, neighbour_radii(generated, NEIGHBOURS))
        return figures
