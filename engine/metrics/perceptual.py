"""How differently pictures look, by what a network sees in them at several scales."""

from collections.abc import Sequence

import torch
from torch import Tensor

_SMALLEST = 1e-10  # added to lengths, as where a network sees nothing in a place


def perceptual_distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """LPIPS (Zhang et al. 2018, Eq. 1) with all channels alike, picture by picture: [N].

    The sum over the network's stages of the mean over places of |a - b|^2, where a and b are what it sees in a place,
    of length 1. first, second: of N pictures each, a map [N, C, H, W] of every stage, as `MiniTower.forward_stages` has
    them. The published weights of channels are learned from people's judgements, for three networks that are not
    ours: distances of different towers do not compare. Raises ValueError for maps of other shapes.
    """
    shapes, others = ([tuple(one.shape) for one in maps] for maps in (first, second))
    if not shapes or shapes != others:
        raise ValueError(f"expected maps of the same shapes, got {shapes} and {others}")
    return torch.stack([_apart(a, b) for a, b in zip(first, second, strict=True)]).sum(0)


def perceptual_diversity(maps: Sequence[Tensor]) -> float:
    """The mean of that distance over pairs of N pictures, 0 of a single one. maps: [N, C, H, W] of every stage."""
    n = len(maps[0])
    if n < 2:
        return 0.0
    a, b = torch.triu_indices(n, n, offset=1)
    return float(perceptual_distance([one[a] for one in maps], [one[b] for one in maps]).mean())


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """[N, C, H, W] each -> [N]"""
    a, b = (one / (one.norm(dim=1, keepdim=True) + _SMALLEST) for one in (a, b))
    return (a - b).square().sum(1).mean(dim=(1, 2))
