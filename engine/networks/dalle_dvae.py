"""The discrete VAE of DALL-E (Ramesh et al. 2021): encoder and decoder, under OpenAI's names.

Attribute names equal the keys `blocks.group_<g>.block_<b>.{id_path,res_path.conv_<k>}.{w,b}` of the two released
files. The encoder takes mapped pixels (`map_pixels`) to logits over the codes, the decoder one-hot codes or any
mixture of them to statistics of the pixels, whose first three channels are the logits of the mapped pixels.

Speed. 1 x 1 convolutions and ReLU come before the pixels are repeated, and the 3 x 3 convolution after them is one
transposed convolution (see `derived`). Activations stay channels-last.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.networks.derived import (
    Derived,
    convolve,
    convolve_doubled,
    count_keys,
    double,
    doubling_kernel,
    shape_of,
)

LOGIT_LAPLACE_EPS = 0.1  # pixels are squeezed to [.1, .9], away from the sigmoid's flat ends
KERNELS = {"encoder": (3, 3, 3, 1), "decoder": (1, 3, 3, 3)}


def map_pixels(images: Tensor) -> Tensor:
    """Pixels in [0, 1] to [.1, .9], what the encoder takes."""
    return (1 - 2 * LOGIT_LAPLACE_EPS) * images + LOGIT_LAPLACE_EPS


def unmap_pixels(mapped: Tensor) -> Tensor:
    """The inverse of `map_pixels`; (0, 1) becomes (-.125, 1.125), and the caller clamps where it has to."""
    return (mapped - LOGIT_LAPLACE_EPS) / (1 - 2 * LOGIT_LAPLACE_EPS)


class Convolution(nn.Module):
    """A convolution of odd kernel size with weight `w` and bias `b`, zeros around."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.b = nn.Parameter(torch.zeros(out_channels))
        self._doubling = Derived()
        # As in the release: variance 1 / fan-in, so that a block's output is as large as its input.
        nn.init.normal_(self.w, std=(in_channels * kernel_size**2) ** -0.5)

    def forward(self, x: Tensor, *, up: bool = False) -> Tensor:
        """[N, in, H, W] -> [N, out, H, W]; with `up` (3 x 3 only) the pixels are repeated first."""
        if up:
            return convolve_doubled(x, self._doubling.get(lambda: doubling_kernel(self.w), self.w), self.b)
        return convolve(x, self.w, self.b)


class Block(nn.Module):
    """id_path(x) + post_gain * res_path(x), the residual path four convolutions, each after a ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernels: tuple[int, int, int, int], post_gain: float
    ) -> None:
        super().__init__()
        self.post_gain = post_gain
        hidden = out_channels // 4
        if in_channels != out_channels:
            self.id_path: nn.Module | None = Convolution(in_channels, out_channels, 1)
        else:
            self.id_path = None
        sizes = (in_channels, hidden, hidden, hidden, out_channels)
        self.res_path = nn.ModuleDict(
            {f"conv_{k + 1}": Convolution(sizes[k], sizes[k + 1], kernels[k]) for k in range(4)}
        )

    def forward(self, x: Tensor, *, up: bool = False) -> Tensor:
        """[N, in, H, W] -> [N, out, H, W]; with `up` (where the first kernel is 1 x 1) at twice the sides."""
        h = self.res_path["conv_1"](x.relu()).relu_()
        h = self.res_path["conv_2"](h, up=up).relu_()
        h = self.res_path["conv_3"](h).relu_()
        h = self.res_path["conv_4"](h)
        rest = x if self.id_path is None else self.id_path(x)
        return torch.add(double(rest) if up else rest, h, alpha=self.post_gain)


class Output(nn.Module):
    """ReLU, then a 1 x 1 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Convolution(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x.relu())
        return y


def _groups(first: int, sizes: list[int], blocks: int, kind: str) -> dict[str, nn.ModuleDict]:
    """group_1, group_2, ... of `blocks` blocks each, with sizes[g] channels."""
    post_gain = 1 / (len(sizes) * blocks) ** 2
    groups, before = {}, first
    for g, size in enumerate(sizes):
        stack = {}
        for b in range(blocks):
            stack[f"block_{b + 1}"] = Block(before, size, KERNELS[kind], post_gain)
            before = size
        groups[f"group_{g + 1}"] = nn.ModuleDict(stack)
    return groups


class Encoder(nn.Module):
    """Mapped pixels [N, 3, H, W] -> logits over the codes [N, vocab_size, H / 8, W / 8] (4 groups)."""

    def __init__(
        self, n_hid: int, vocab_size: int, *, input_channels: int = 3, groups: int = 4, n_blk_per_group: int = 2
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        sizes = [n_hid * 2**g for g in range(groups)]
        self.group_names = [f"group_{g + 1}" for g in range(groups)]
        self.blocks = nn.ModuleDict(
            {
                "input": Convolution(input_channels, n_hid, 7),
                **_groups(n_hid, sizes, n_blk_per_group, "encoder"),
                "output": Output(sizes[-1], vocab_size),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks["input"](x.contiguous(memory_format=torch.channels_last))
        for i, name in enumerate(self.group_names):
            if i:
                x = F.max_pool2d(x, 2)
            for block in self.blocks[name].values():  # type: ignore[operator]
                x = block(x)
        logits: Tensor = self.blocks["output"](x)
        return logits


class Decoder(nn.Module):
    """Mixtures of codes [N, vocab_size, h, w] -> pixel statistics [N, 6, 8h, 8w] (4 groups).

    The first convolution is 1 x 1: a one-hot code selects one of its columns. These columns are the code vectors,
    and everything behind takes any vector in their place.
    """

    def __init__(
        self,
        n_hid: int,
        vocab_size: int,
        *,
        n_init: int = 128,
        output_channels: int = 3,
        groups: int = 4,
        n_blk_per_group: int = 2,
    ) -> None:
        super().__init__()
        self.vocab_size, self.n_init = vocab_size, n_init
        self.output_channels = output_channels
        self.scale_factor = 2 ** (groups - 1)
        sizes = [n_hid * 2**g for g in reversed(range(groups))]
        self.group_names = [f"group_{g + 1}" for g in range(groups)]
        self.blocks = nn.ModuleDict(
            {
                "input": Convolution(vocab_size, n_init, 1),
                **_groups(n_init, sizes, n_blk_per_group, "decoder"),
                "output": Output(sizes[-1], 2 * output_channels),
            }
        )

    def codes(self) -> Tensor:
        """The code vectors [vocab_size, n_init]: what the first convolution makes of each one-hot code."""
        first = self.blocks["input"]
        return first.w[:, :, 0, 0].t() + first.b  # type: ignore[operator, index]

    def forward(self, probabilities: Tensor) -> Tensor:
        """One-hot codes or mixtures of codes [N, vocab_size, h, w] -> statistics [N, 6, H, W]."""
        return self.from_vectors(self.blocks["input"](probabilities))

    def from_indices(self, indices: Tensor) -> Tensor:
        """Codes [N, h, w] -> statistics [N, 6, H, W], without making them one-hot."""
        return self.from_vectors(self.codes()[indices].permute(0, 3, 1, 2))

    def from_vectors(self, vectors: Tensor) -> Tensor:
        """Code vectors or any others [N, n_init, h, w] -> statistics [N, 6, H, W]."""
        x = vectors.contiguous(memory_format=torch.channels_last)
        for i, name in enumerate(self.group_names):
            for b, block in enumerate(self.blocks[name].values()):  # type: ignore[operator]
                x = block(x, up=i > 0 and b == 0)
        statistics: Tensor = self.blocks["output"](x)
        return statistics

    def images(self, statistics: Tensor) -> Tensor:
        """Statistics [N, 6, H, W] -> images [N, 3, H, W], nominally in [-1, 1], not clamped.

        The reference clamps to [0, 1] here. A clamped pixel has no gradient, so a picture that is white or black
        where it should not be could never change. Unclamped, (0, 1) of the sigmoid becomes (-1.25, 1.25), and its
        slope at the reference's clamp is still .09 of a logit, 36 % of the greatest. Who looks at the pictures
        (the prompt model, the file written) clamps by itself, and the prompt model passes the gradient on.
        """
        return 2 * unmap_pixels(statistics[:, : self.output_channels].sigmoid()) - 1


# ---- building from a state dict --------------------------------------------------------------------------


def encoder_from_shapes(state: Mapping[str, Tensor], *, device: torch.device | str | None = None) -> Encoder:
    """An untrained `Encoder` with the keys and shapes of a state dict; nothing is allocated on "meta".

    Raises ValueError where a key is missing.
    """
    what = "a dVAE encoder under OpenAI's names"
    n_hid, input_channels = shape_of(state, "blocks.input.w", what)[:2]
    vocab_size = shape_of(state, "blocks.output.conv.w", what)[0]
    groups, n_blk_per_group = _count(state)
    with torch.device(device if device is not None else "cpu"):
        return Encoder(n_hid, vocab_size, input_channels=input_channels, groups=groups, n_blk_per_group=n_blk_per_group)


def decoder_from_shapes(state: Mapping[str, Tensor], *, device: torch.device | str | None = None) -> Decoder:
    """An untrained `Decoder` with the keys and shapes of a state dict; as `encoder_from_shapes`."""
    what = "a dVAE decoder under OpenAI's names"
    n_init, vocab_size = shape_of(state, "blocks.input.w", what)[:2]
    outputs, n_hid = shape_of(state, "blocks.output.conv.w", what)[:2]
    groups, n_blk_per_group = _count(state)
    with torch.device(device if device is not None else "cpu"):
        return Decoder(
            n_hid,
            vocab_size,
            n_init=n_init,
            output_channels=outputs // 2,
            groups=groups,
            n_blk_per_group=n_blk_per_group,
        )


def _count(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Groups, and blocks of each; the keys count from 1."""
    groups = count_keys(state, "blocks.group_{}.block_1.res_path.conv_1.w", first=1)
    return groups, count_keys(state, "blocks.group_1.block_{}.res_path.conv_1.w", first=1)
