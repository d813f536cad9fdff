"""What pictures are likely on a grid of codes: a U-Net that tells each place's code from a damaged grid.

A decoder takes any grid of code vectors, also those that mean nothing. Trained to repair grids with noise and wrong
codes in them, this network knows which belong together. Its expected code vectors D(z) give the direction to more
likely grids: for Gaussian damage of variance s^2, grad log p(z) = (D(z) - z) / s^2 (Vincent 2011, Eq. 4).
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.networks.derived import shape_of

GROUPS = 8
WIDTHS = (1, 2, 3)  # of the grid, and of it at half and at a quarter of its sides


class Block(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), [N, C, H, W] to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, channels), nn.GroupNorm(GROUPS, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(y)))


class CodePrior(nn.Module):
    """Code vectors [N, D, h, w], damaged or not, to logits of the codes [N, V, h, w]; h and w multiples of 4.

    mean [D], deviation []: of the codes; what comes in is counted in them.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, vocab_size: int, features: int, *, width: int = 64) -> None:
        super().__init__()
        fine, half, quarter = (width * factor for factor in WIDTHS)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(()))
        self.input = nn.Conv2d(features, fine, 3, padding=1)
        self.down = nn.ModuleList([nn.Sequential(Block(fine), Block(fine)), nn.Sequential(Block(half), Block(half))])
        self.shrink = nn.ModuleList([nn.Conv2d(fine, half, 2, stride=2), nn.Conv2d(half, quarter, 2, stride=2)])
        self.middle = nn.Sequential(Block(quarter), Block(quarter), Block(quarter))
        self.grow = nn.ModuleList([nn.ConvTranspose2d(half, fine, 2, 2), nn.ConvTranspose2d(quarter, half, 2, 2)])
        self.up = nn.ModuleList([nn.Sequential(Block(fine), Block(fine)), nn.Sequential(Block(half), Block(half))])
        self.norm = nn.GroupNorm(GROUPS, fine)
        self.output = nn.Conv2d(fine, vocab_size, 1)

    def forward(self, vectors: Tensor) -> Tensor:
        x = self.input((vectors - self.mean[:, None, None]) / self.deviation)
        kept = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            x = blocks(x)
            kept.append(x)
            x = shrink(x)
        x = self.middle(x)
        for i in reversed(range(len(kept))):
            x = self.up[i](self.grow[i](x) + kept[i])
        logits: Tensor = self.output(F.silu(self.norm(x)))
        return logits

    def expected(self, vectors: Tensor, codes: Tensor) -> Tensor:
        """The expected code vectors D(z) of a grid [N, D, h, w]; codes: [V, D]."""
        return torch.einsum("nvhw,vd->ndhw", self(vectors).softmax(1), codes)


def code_prior_from_shapes(state: Mapping[str, Tensor]) -> CodePrior:
    """An untrained `CodePrior` with the shapes of a state dict. Raises ValueError where a key is missing."""
    what = "a prior of codes"
    width, features = shape_of(state, "input.weight", what)[:2]
    return CodePrior(shape_of(state, "output.weight", what)[0], features, width=width)
