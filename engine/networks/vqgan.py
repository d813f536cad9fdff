"""VQGAN (Esser et al. 2021): encoder, codebook and decoder, under the names of taming-transformers.

Attribute names equal the keys of the Lightning files' `state_dict` without `loss.*`. Images are [N, 3, H, W],
nominally in [-1, 1] and never clamped; a latent is a grid of code vectors [N, embed_dim, h, w]. Plain codebooks
(`quantize.embedding`) choose the nearest code, Gumbel ones (`quantize.embed`) the largest of the logits that
`quantize.proj` makes.

Speed. Repeating pixels and the 3 x 3 convolution behind are one transposed convolution (see `derived`);
activations stay channels-last.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.networks.derived import Derived, convolve, convolve_doubled, count_keys, doubling_kernel, shape_of

GROUPS = 32
EPSILON = 1e-6


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=EPSILON)


class Pointwise(nn.Conv2d):
    """A 1 x 1 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, input: Tensor) -> Tensor:
        return convolve(input, self.weight, self.bias)


class ResidualBlock(nn.Module):
    """x + conv2(silu(norm2(conv1(silu(norm1(x)))))), x through a 1 x 1 convolution where the channels change."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nin_shortcut = Pointwise(in_channels, out_channels) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H, W]."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        rest: Tensor = x if self.nin_shortcut is None else self.nin_shortcut(x)
        return rest + h


class Attention(nn.Module):
    """x + proj_out(softmax(q^T k / sqrt(C)) v) over all pixels, one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.q = Pointwise(channels, channels)
        self.k = Pointwise(channels, channels)
        self.v = Pointwise(channels, channels)
        self.proj_out = Pointwise(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        h = self.norm(x)
        q, k, v = self.q(h).flatten(2), self.k(h).flatten(2), self.v(h).flatten(2)
        weights = (q.transpose(1, 2) @ (k / math.sqrt(x.shape[1]))).softmax(-1)  # [N, HW, HW]
        mixed = (weights @ v.transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])
        y: Tensor = x + self.proj_out(mixed)
        return y


class Downsample(nn.Module):
    """A 3 x 3 convolution of stride 2 with zeros to the right and below only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return y


class Upsample(nn.Module):
    """Repeated pixels, then a 3 x 3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self._doubling = Derived()

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight
        return convolve_doubled(x, self._doubling.get(lambda: doubling_kernel(weight), weight), self.conv.bias)


class Middle(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels)
        self.attn_1 = Attention(channels)
        self.block_2 = ResidualBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attn_1(self.block_1(x))
        y: Tensor = self.block_2(x)
        return y


class Level(nn.Module):
    """The residual blocks of one resolution, each followed by attention if `attend`, then the resampling."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, *, attend: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResidualBlock(out_channels if i else in_channels, out_channels) for i in range(blocks)
        )
        self.attn = nn.ModuleList(Attention(out_channels) for _ in range(blocks if attend else 0))
        self.downsample: nn.Module | None = None
        self.upsample: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[i](x)
        for resample in (self.downsample, self.upsample):
            x = x if resample is None else resample(x)
        return x


class Encoder(nn.Module):
    """Images [N, in_channels, H, W] -> [N, z_channels, H / f, W / f], f = 2^(levels - 1).

    level_channels: of each resolution, the largest first; attention: the levels with it; ch: of the first layer.
    """

    def __init__(
        self,
        ch: int,
        level_channels: Sequence[int],
        z_channels: int,
        *,
        in_channels: int = 3,
        blocks: int = 2,
        attention: Collection[int] = (),
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, ch, 3, padding=1)
        self.down = nn.ModuleList()
        before = ch
        for i, channels in enumerate(level_channels):
            level = Level(before, channels, blocks, attend=i in attention)
            if i < len(level_channels) - 1:
                level.downsample = Downsample(channels)
            self.down.append(level)
            before = channels
        self.mid = Middle(before)
        self.norm_out = group_norm(before)
        self.conv_out = nn.Conv2d(before, z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x.contiguous(memory_format=torch.channels_last))
        for level in self.down:
            h = level(h)
        y: Tensor = self.conv_out(F.silu(self.norm_out(self.mid(h))))
        return y


class Decoder(nn.Module):
    """[N, z_channels, h, w] -> images [N, out_ch, f h, f w]; `up` is indexed from the largest resolution."""

    def __init__(
        self,
        level_channels: Sequence[int],
        z_channels: int,
        *,
        out_ch: int = 3,
        blocks: int = 2,
        attention: Collection[int] = (),
    ) -> None:
        super().__init__()
        inner = level_channels[-1]
        self.conv_in = nn.Conv2d(z_channels, inner, 3, padding=1)
        self.mid = Middle(inner)
        self.up = nn.ModuleList()
        for i, channels in enumerate(level_channels):
            before = level_channels[min(i + 1, len(level_channels) - 1)]
            level = Level(before, channels, blocks + 1, attend=i in attention)
            if i > 0:
                level.upsample = Upsample(channels)
            self.up.append(level)
        self.norm_out = group_norm(level_channels[0])
        self.conv_out = nn.Conv2d(level_channels[0], out_ch, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z.contiguous(memory_format=torch.channels_last)))
        for level in reversed(self.up):
            h = level(h)
        y: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return y


class PlainCodebook(nn.Module):
    """The nearest of n_embed vectors."""

    def __init__(self, n_embed: int, embed_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_embed, embed_dim)

    def codes(self) -> Tensor:
        """The code vectors [n_embed, embed_dim]."""
        return self.embedding.weight

    def indices(self, z: Tensor) -> Tensor:
        """z: [N, embed_dim, h, w] -> the nearest codes [N, h, w]."""
        flat = z.permute(0, 2, 3, 1).flatten(0, 2)
        codes = self.codes()
        distances = codes.square().sum(1) - 2 * flat @ codes.t()  # |z|^2 is the same for all of them
        return distances.argmin(1).view(z.shape[0], *z.shape[2:])


class GumbelCodebook(nn.Module):
    """The code with the largest logit. Training adds Gumbel noise to the logits; here nothing is drawn."""

    def __init__(self, n_embed: int, embed_dim: int, hidden_channels: int) -> None:
        super().__init__()
        self.proj = Pointwise(hidden_channels, n_embed)
        self.embed = nn.Embedding(n_embed, embed_dim)

    def codes(self) -> Tensor:
        """The code vectors [n_embed, embed_dim]."""
        return self.embed.weight

    def indices(self, z: Tensor) -> Tensor:
        """z: [N, hidden_channels, h, w] -> codes [N, h, w]."""
        return self.proj(z).argmax(1)


class VQGAN(nn.Module):
    """Encoder (missing in some files), codebook, decoder and the 1 x 1 convolutions beside the codebook."""

    def __init__(
        self, encoder: Encoder | None, decoder: Decoder, quantize: PlainCodebook | GumbelCodebook, z_channels: int
    ) -> None:
        super().__init__()
        embed_dim = quantize.codes().shape[1]
        self.embed_dim = embed_dim
        self.scale_factor = 2 ** (len(decoder.up) - 1)
        if encoder is not None:
            self.encoder = encoder
        self.decoder = decoder
        self.quantize = quantize
        self.quant_conv = Pointwise(z_channels, embed_dim)
        self.post_quant_conv = Pointwise(embed_dim, z_channels)

    def codes(self) -> Tensor:
        """The code vectors [n_embed, embed_dim]."""
        return self.quantize.codes()

    def encode(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] -> what the codebook chooses by: [N, embed_dim, h, w]. Not yet quantised."""
        if not hasattr(self, "encoder"):
            raise ValueError("this VQGAN has no encoder: its file holds the decoder alone")
        z: Tensor = self.quant_conv(self.encoder(images))
        return z

    def decode(self, vectors: Tensor) -> Tensor:
        """Code vectors or any others [N, embed_dim, h, w] -> images [N, 3, H, W]."""
        images: Tensor = self.decoder(self.post_quant_conv(vectors))
        return images

    def lookup(self, indices: Tensor) -> Tensor:
        """Codes [N, h, w] -> code vectors [N, embed_dim, h, w]."""
        return self.codes()[indices].permute(0, 3, 1, 2)

    def quantized(self, z: Tensor) -> Tensor:
        """z: [N, embed_dim, h, w] of `encode` -> the code vectors in its place, without a gradient."""
        return self.lookup(self.quantize.indices(z))


# ---- building from a state dict --------------------------------------------------------------------------

_WHAT = "a VQGAN under the names of taming-transformers"


def vqgan_from_shapes(state: Mapping[str, Tensor], *, device: torch.device | str | None = None) -> VQGAN:
    """An untrained `VQGAN` with the keys and shapes of a state dict (without `loss.*`).

    Everything is in the shapes. Nothing is allocated on "meta". Raises ValueError where a key is missing.
    """
    z_channels = shape_of(state, "decoder.conv_in.weight", _WHAT)[1]
    with torch.device(device if device is not None else "cpu"):
        quantize: PlainCodebook | GumbelCodebook
        if "quantize.embed.weight" in state:
            n_embed, embed_dim = shape_of(state, "quantize.embed.weight", _WHAT)
            quantize = GumbelCodebook(n_embed, embed_dim, shape_of(state, "quantize.proj.weight", _WHAT)[1])
        else:
            quantize = PlainCodebook(*shape_of(state, "quantize.embedding.weight", _WHAT))
        encoder = None
        if "encoder.conv_in.weight" in state:
            ch, in_channels = shape_of(state, "encoder.conv_in.weight", _WHAT)[:2]
            channels, blocks, attention = _levels(state, "encoder.down")
            encoder = Encoder(ch, channels, z_channels, in_channels=in_channels, blocks=blocks, attention=attention)
        channels, blocks, attention = _levels(state, "decoder.up")
        decoder = Decoder(
            channels,
            z_channels,
            out_ch=shape_of(state, "decoder.conv_out.weight", _WHAT)[0],
            blocks=blocks - 1,
            attention=attention,
        )
        return VQGAN(encoder, decoder, quantize, z_channels)


def _levels(state: Mapping[str, Tensor], prefix: str) -> tuple[list[int], int, list[int]]:
    """Channels of each level, residual blocks of every level, the levels with attention."""
    levels = count_keys(state, prefix + ".{}.block.0.conv1.weight")
    channels = [shape_of(state, f"{prefix}.{i}.block.0.conv1.weight", _WHAT)[0] for i in range(max(levels, 1))]
    blocks = count_keys(state, prefix + ".0.block.{}.conv1.weight")
    return channels, blocks, [i for i in range(levels) if f"{prefix}.{i}.attn.0.q.weight" in state]
