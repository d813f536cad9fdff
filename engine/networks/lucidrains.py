"""StyleGAN2 as lucidrains' stylegan2-pytorch trains it: other resampling, styles and noise than the original's.

Attribute names equal the keys of its `model_N.pt`: `SE`, the averaged mapping, and `GE`, the averaged generator. What
differs from Karras et al. 2020: pictures are enlarged linearly before a convolution, styles are added to one, no
activation has a gain, one noise image serves all layers, uniform on [0, 1] and with a bias, and pictures are in [0, 1].
Each block has one w for its two convolutions and its colours. N pictures of side R.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.networks.derived import Derived, count_keys, shape_of
from engine.networks.stylegan2 import squared_weights

SLOPE = 0.2
EPSILON = 1e-8
NORM_EPSILON = 1e-5
HEAD_FEATURES = 64  # of attention
NOISE_SEED = 0
TRANSPARENT = 4  # channels


class ScaledLinear(nn.Module):
    """x (l W)^T + l b, l the learning-rate multiplier. [N, in] -> [N, out]."""

    def __init__(self, in_features: int, out_features: int, multiplier: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        self.multiplier = multiplier

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.multiplier, self.bias * self.multiplier)


class StyleMapping(nn.Module):
    """z [N, z_dim], of which only the direction counts -> w [N, w_dim]; each layer with leaky ReLU."""

    def __init__(self, sizes: list[int], multiplier: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [ScaledLinear(before, after, multiplier), nn.LeakyReLU(SLOPE)]
        self.net = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        w: Tensor = self.net(F.normalize(z, dim=1))
        return w


class ModulatedConvolution(nn.Module):
    """Weights times (style + 1) by input channel, demodulated or not; zeros around. [N, in, H, W] -> [N, out, H, W]."""

    def __init__(self, in_channels: int, out_channels: int, size: int, *, demodulates: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, size, size))
        self.demodulates = demodulates
        self._squares = Derived()

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale = style + 1
        y = F.conv2d(x * scale[:, :, None, None], self.weight, padding=self.weight.shape[-1] // 2)
        if not self.demodulates:
            return y
        squares = self._squares.get(lambda: squared_weights(self.weight), self.weight)
        return y * (scale.square() @ squares.T + EPSILON).rsqrt()[:, :, None, None]


class Blur(nn.Module):
    """Means over 3 x 3 pixels by the weights outer(f), mirrored at the edges."""

    f: Tensor

    def __init__(self, taps: int) -> None:
        super().__init__()
        self.register_buffer("f", torch.empty(taps))

    def forward(self, x: Tensor) -> Tensor:
        channels, margin = x.shape[1], len(self.f) // 2
        kernel = torch.outer(self.f, self.f)
        kernel = (kernel / kernel.abs().sum()).expand(channels, 1, -1, -1)
        return F.conv2d(F.pad(x, [margin] * 4, mode="reflect"), kernel, groups=channels)


class ToColours(nn.Module):
    """The block's colours added to those so far, then enlarged but in the last block; blurred in later versions."""

    def __init__(self, w_dim: int, in_channels: int, colours: int, *, enlarges: bool, taps: int) -> None:
        super().__init__()
        self.to_style = nn.Linear(w_dim, in_channels)
        self.conv = ModulatedConvolution(in_channels, colours, 1, demodulates=False)
        layers: list[nn.Module] = [nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)]
        self.upsample = nn.Sequential(*layers, *([Blur(taps)] if taps else [])) if enlarges else None

    def forward(self, x: Tensor, before: Tensor | None, w: Tensor) -> Tensor:
        """x: [N, in, H, W], before: [N, colours, H, W] -> [N, colours, 2H, 2W], or H x W of the last block."""
        colours: Tensor = self.conv(x, self.to_style(w))
        if before is not None:
            colours = colours + before
        return colours if self.upsample is None else self.upsample(colours)


class Block(nn.Module):
    """Enlarged linearly where it is not the first, two modulated convolutions with noise, and the colours."""

    def __init__(
        self, w_dim: int, in_channels: int, channels: int, colours: int, *, is_first: bool, is_last: bool, taps: int
    ) -> None:
        super().__init__()
        self.is_first = is_first
        self.to_style1 = nn.Linear(w_dim, in_channels)
        self.to_noise1 = nn.Linear(1, channels)
        self.conv1 = ModulatedConvolution(in_channels, channels, 3, demodulates=True)
        self.to_style2 = nn.Linear(w_dim, channels)
        self.to_noise2 = nn.Linear(1, channels)
        self.conv2 = ModulatedConvolution(channels, channels, 3, demodulates=True)
        self.to_rgb = ToColours(w_dim, channels, colours, enlarges=not is_last, taps=taps)

    def forward(self, x: Tensor, before: Tensor | None, w: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """noise: [1, R, R, 1], of which the first rows and columns are taken, and exchanged."""
        if not self.is_first:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        noise = noise[:, : x.shape[2], : x.shape[3]]
        x = self.conv1(x, self.to_style1(w)) + self.to_noise1(noise).permute(0, 3, 2, 1)
        x = F.leaky_relu(x, SLOPE)
        x = self.conv2(x, self.to_style2(w)) + self.to_noise2(noise).permute(0, 3, 2, 1)
        x = F.leaky_relu(x, SLOPE)
        return x, self.to_rgb(x, before, w)


class ChannelNorm(nn.Module):
    """By the mean and variance over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.empty(1, channels, 1, 1))
        self.b = nn.Parameter(torch.empty(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        deviation = (x.var(dim=1, unbiased=False, keepdim=True) + NORM_EPSILON).sqrt()
        return (x - x.mean(dim=1, keepdim=True)) / deviation * self.g + self.b


class LinearAttention(nn.Module):
    """softmax(q) over features times (softmax(k) over pixels, transposed, times v): linear in the pixels."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.heads = inner // HEAD_FEATURES
        self.to_q = nn.Conv2d(channels, inner, 1, bias=False)
        self.to_kv = nn.Module()
        self.to_kv.net = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, 2 * inner, 1, bias=False),
        )
        self.to_out = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        def by_heads(y: Tensor) -> Tensor:
            return y.unflatten(1, (self.heads, HEAD_FEATURES)).flatten(3)  # [N, heads, features, HW]

        keys, values = self.to_kv.get_submodule("net")(x).chunk(2, dim=1)
        q = by_heads(self.to_q(x)).softmax(dim=2) * HEAD_FEATURES**-0.5
        k = by_heads(keys).softmax(dim=3)
        context = k @ by_heads(values).transpose(2, 3)  # [N, heads, features, features]
        result = (context.transpose(2, 3) @ q).flatten(1, 2).unflatten(2, x.shape[2:])
        out: Tensor = self.to_out(F.gelu(result))
        return out


class Residual(nn.Module):
    """x + fn(norm(x)), under the names `fn.norm` and `fn.fn`."""

    def __init__(self, channels: int, inner: nn.Module) -> None:
        super().__init__()
        self.fn = nn.Module()
        self.fn.norm = ChannelNorm(channels)
        self.fn.fn = inner

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.fn.get_submodule("fn")(self.fn.get_submodule("norm")(x))
        return y


class Synthesis(nn.Module):
    """w [N, w_dim] -> images [N, 3 or 4, R, R], nominally in [0, 1]."""

    noise: Tensor

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        count = count_keys(state, "GE.blocks.{}.conv1.weight")
        self.resolution = 2 ** (count + 1)
        channels = _shape(state, "GE.initial_conv.weight")[0]
        self.w_dim = _shape(state, "GE.blocks.0.to_style1.weight")[1]
        self.colours = _shape(state, "GE.blocks.0.to_rgb.conv.weight")[0]
        if "GE.initial_block" in state:
            self.initial_block = nn.Parameter(torch.empty(1, channels, 4, 4))
        else:
            self.to_initial_block = nn.ConvTranspose2d(self.w_dim, channels, 4, bias=False)
        self.initial_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.blocks, self.attns = nn.ModuleList(), nn.ModuleList()
        for i in range(count):
            self.attns.append(_attention(state, i, channels) or nn.Identity())
            before, channels = channels, _shape(state, f"GE.blocks.{i}.conv1.weight")[0]
            is_last = i == count - 1
            taps = 0 if is_last else _taps(state, f"GE.blocks.{i}.to_rgb.upsample.1.f")
            block = Block(self.w_dim, before, channels, self.colours, is_first=i == 0, is_last=is_last, taps=taps)
            self.blocks.append(block)
        side, random = self.resolution, torch.Generator().manual_seed(NOISE_SEED)
        noise = torch.empty(1, side, side, 1) if _is_meta() else torch.rand(1, side, side, 1, generator=random)
        self.register_buffer("noise", noise, persistent=False)  # trainings draw it anew for each picture

    def forward(self, w: Tensor) -> Tensor:
        if hasattr(self, "initial_block"):
            x = self.initial_block.expand(len(w), -1, -1, -1)
        else:
            x = self.to_initial_block(w[:, :, None, None])
        x, colours = self.initial_conv(x), None
        for block, attention in zip(self.blocks, self.attns, strict=True):
            x, colours = block(attention(x), colours, w, self.noise)
        assert colours is not None
        return colours


class Generator(nn.Module):
    """z -> w by `SE`, w -> images [N, 3, R, R] in [-1, 1] by `GE`, transparency over white."""

    def __init__(self, state: Mapping[str, Tensor], multiplier: float) -> None:
        super().__init__()
        depth = 0
        while f"SE.net.{2 * depth}.weight" in state:
            depth += 1
        first = _shape(state, "SE.net.0.weight")
        sizes = [first[1], *(_shape(state, f"SE.net.{2 * i}.weight")[0] for i in range(depth))]
        self.SE = StyleMapping(sizes, multiplier)
        self.GE = Synthesis(state)
        self.z_dim, self.w_dim, self.img_resolution = sizes[0], sizes[-1], self.GE.resolution
        if self.w_dim != self.GE.w_dim:
            raise ValueError(f"its mapping gives w of {self.w_dim} numbers, its generator takes {self.GE.w_dim}")
        if self.GE.colours not in (3, TRANSPARENT):
            raise ValueError(f"it draws {self.GE.colours} channels, expected 3, or 4 with transparency")

    def to_w(self, z: Tensor) -> Tensor:
        """[N, z_dim] -> [N, w_dim]."""
        w: Tensor = self.SE(z)
        return w

    def synthesis(self, w: Tensor) -> Tensor:
        """[N, w_dim] -> [N, 3, R, R], nominally in [-1, 1]."""
        images: Tensor = self.GE(w)
        if images.shape[1] == TRANSPARENT:
            alpha = images[:, 3:].clamp(0, 1)
            images = images[:, :3] * alpha + (1 - alpha)
        return 2 * images - 1

    def forward(self, z: Tensor) -> Tensor:
        return self.synthesis(self.to_w(z))


def generator_from_shapes(
    state: Mapping[str, Tensor], *, lr_multiplier: float = 0.1, device: torch.device | str | None = None
) -> Generator:
    """An untrained generator with the keys and shapes of the `SE.` and `GE.` part of a file.

    lr_multiplier: of the mapping's layers, which shapes do not tell. With device="meta" nothing is allocated. Raises
    ValueError for a state dict of no such generator.
    """
    with torch.device(device if device is not None else "cpu"):
        return Generator(state, lr_multiplier)


def _attention(state: Mapping[str, Tensor], block: int, channels: int) -> nn.Module | None:
    """Attention and two 1 x 1 convolutions before a block, where the file has them."""
    at = f"GE.attns.{block}"
    if not any(key.startswith(f"{at}.") for key in state):
        return None
    inner = _shape(state, f"{at}.0.fn.fn.to_q.weight")[0]
    if f"{at}.0.fn.fn.to_kv.net.0.weight" not in state or inner % HEAD_FEATURES:
        raise ValueError("it has attention of an early version of stylegan2-pytorch, which is not known here")
    hidden = _shape(state, f"{at}.1.fn.fn.0.weight")[0]
    convolutions = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.LeakyReLU(SLOPE), nn.Conv2d(hidden, channels, 1))
    return nn.Sequential(
        Residual(channels, LinearAttention(channels, inner)),
        Residual(channels, convolutions),
    )


def _taps(state: Mapping[str, Tensor], key: str) -> int:
    return _shape(state, key)[0] if key in state else 0


def _is_meta() -> bool:
    return torch.empty(0).is_meta


def _shape(state: Mapping[str, Tensor], key: str) -> list[int]:
    return shape_of(state, key, "lucidrains' StyleGAN2")
