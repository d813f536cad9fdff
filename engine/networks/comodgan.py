"""Co-Mod-GAN: fills holes of a picture, many ways for one hole (Zhao et al. 2021).

An encoder reads the known pixels; its last code joins the w of a mapping network in every modulation ("co-modulation"),
its features are added to the generator's of the same size. The layers are StyleGAN2's (`stylegan2`); attribute names
equal the keys of the PyTorch port's files, converted from the TensorFlow original. Pictures are [N, 3, H, W], in
[-1, 1] and never clamped; `known` is [N, 1, H, W], 1 where a pixel is known and 0 in the hole, as in the original (the
port takes 1 - known).

Original and port differ: the original adds the encoder's 4x4 features, too, as `arithmetic` tells; it draws dropout
for the code at inference as well, which is an argument here (`draw_dropout`). Neither kind of file keeps constant
noise or a mean w: noise is an argument (`draw_noise`), and so is `w_avg`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from engine.networks.derived import Derived, count_keys, shape_of
from engine.networks.stylegan2 import (
    LRELU_GAIN,
    Discriminator,
    FullyConnected,
    binomial_filter,
    equalized_convolution,
    modulated_colors,
    modulated_convolution,
    normalize_second_moment,
    squared_weights,
    upsample,
)

Arithmetic = Literal["original", "port"]

DROPOUT = 0.5
UP_GAIN = 4.0  # doubling height and width leaves one pixel in four
WHAT = "a Co-Mod-GAN generator in the names of the PyTorch port"


@dataclass(frozen=True, eq=False)
class Encoded:
    """What the encoder knows: its features by size, {4: [N, C, 4, 4], 8: ...}, and the global code [N, D]."""

    features: Mapping[int, Tensor]
    code: Tensor


# ---- layers ----------------------------------------------------------------------------------------------


class _Weight(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*shape))


class _Bias(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class _Kernel(nn.Module):
    """The FIR kernel of a resampling; the files hold those of upsampling times `UP_GAIN`."""

    kernel: Tensor

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("kernel", gain * binomial_filter())


class EncoderConvolution(nn.Sequential):
    """A convolution, bias and leaky ReLU, with `down` after a blur and with stride 2.

    [N, in, H, W] -> [N, out, H', W']. The files number the parts: with `down` a kernel, then weight and bias.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, down: bool = False) -> None:
        weight = _Weight(out_channels, in_channels, kernel_size, kernel_size)
        nn.init.normal_(weight.weight)
        super().__init__(*([_Kernel()] if down else []), weight, _Bias(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        *first, weight, bias = self
        assert isinstance(weight, _Weight) and isinstance(bias, _Bias)
        if not first:
            return equalized_convolution(x, weight.weight, bias.bias)
        (blur,) = first
        assert isinstance(blur, _Kernel)
        return equalized_convolution(x, weight.weight, bias.bias, kernel=blur.kernel)


class _ModulatedWeight(nn.Module):
    """weight [1, out, in, k, k] and the fully connected layer that makes the styles [N, in] of a modulation vector."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, modulation_dim: int, *, up: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, out_channels, in_channels, kernel_size, kernel_size))
        self.modulation = FullyConnected(modulation_dim, in_channels, initial_bias=1.0)
        if up:
            self.blur = _Kernel(UP_GAIN)

    def styles(self, modulation: Tensor) -> Tensor:
        """[N, modulation_dim] -> [N, in], with the weight's 1 / sqrt(fan-in)."""
        styles: Tensor = self.modulation(modulation) / math.sqrt(self.weight[0, 0].numel())
        return styles


class ModulatedLayer(nn.Module):
    """A modulated 3x3 convolution, 2x up if asked, noise, bias and leaky ReLU: StyleGAN2's synthesis layer."""

    def __init__(self, in_channels: int, out_channels: int, modulation_dim: int, *, up: bool = False) -> None:
        super().__init__()
        self.up = up
        self.conv = _ModulatedWeight(in_channels, out_channels, 3, modulation_dim, up=up)
        self.noise = _Weight(1)
        nn.init.zeros_(self.noise.weight)
        self.activate = _Bias(out_channels)
        self._squares = Derived()

    def forward(self, x: Tensor, modulation: Tensor, noise: Tensor | None) -> Tensor:
        """x: [N, in, H, W], modulation: [N, D], noise: [N, 1, H', W'] or None -> [N, out, H', W']."""
        offset = self.activate.bias[:, None, None]
        offset = offset if noise is None else offset + noise * self.noise.weight
        weight = self.conv.weight[0]
        squares = self._squares.get(lambda: squared_weights(weight), self.conv.weight)
        kernel = self.conv.blur.kernel / UP_GAIN if self.up else None
        return modulated_convolution(
            x, self.conv.styles(modulation), weight, squares, offset * LRELU_GAIN, kernel=kernel
        )


class ToRGB(nn.Module):
    """A modulated 1x1 convolution to colours, added to the picture of half the size where there is one."""

    def __init__(self, in_channels: int, img_channels: int, modulation_dim: int, *, has_smaller: bool) -> None:
        super().__init__()
        self.has_smaller = has_smaller
        self.conv = _ModulatedWeight(in_channels, img_channels, 1, modulation_dim)
        self.bias = nn.Parameter(torch.zeros(1, img_channels, 1, 1))
        if has_smaller:
            self.upsample = _Kernel(UP_GAIN)

    def forward(self, x: Tensor, modulation: Tensor, smaller: Tensor | None) -> Tensor:
        """x: [N, in, H, W], modulation: [N, D], smaller: [N, C, H/2, W/2] -> [N, C, H, W]."""
        colors = modulated_colors(x, self.conv.styles(modulation), self.conv.weight[0], self.bias.flatten())
        if not self.has_smaller or smaller is None:
            return colors
        return upsample(smaller, self.upsample.kernel / UP_GAIN) + colors


# ---- blocks ----------------------------------------------------------------------------------------------


class _EncoderBlock(nn.Module):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.Conv0 = EncoderConvolution(channels, channels, 3)
        self.Conv1_down = EncoderConvolution(channels, out_channels, 3, down=True)


class _EncoderEnd(nn.Module):
    def __init__(self, channels: int, code_dim: int) -> None:
        super().__init__()
        self.Conv = EncoderConvolution(channels, channels, 3)
        self.Dense0 = FullyConnected(channels * 16, code_dim, activate=True)


class Encoder(nn.Module):
    """The known pixels and where they are -> features of every size and the global code."""

    def __init__(self, img_channels: int, channels: Mapping[int, int], code_dim: int) -> None:
        super().__init__()
        self.sizes = sorted(channels, reverse=True)
        first = nn.Module()
        first.add_module("FromRGB", EncoderConvolution(img_channels + 1, channels[self.sizes[0]], 1))
        self.add_module(f"{self.sizes[0]}x{self.sizes[0]}_0", first)
        for size in self.sizes[:-1]:
            self.add_module(f"{size}x{size}", _EncoderBlock(channels[size], channels[size // 2]))
        self.add_module("4x4", _EncoderEnd(channels[4], code_dim))

    def forward(self, images: Tensor, known: Tensor) -> Encoded:
        """images: [N, C, H, W], known: [N, 1, H, W] -> `Encoded`, its code before dropout."""
        x = torch.cat([known - 0.5, images * known], dim=1).contiguous(memory_format=torch.channels_last)
        x = self.get_submodule(f"{self.sizes[0]}x{self.sizes[0]}_0.FromRGB")(x)
        features = {}
        for size in self.sizes[:-1]:
            features[size] = self.get_submodule(f"{size}x{size}.Conv0")(x)
            x = self.get_submodule(f"{size}x{size}.Conv1_down")(features[size])
        features[4] = self.get_submodule("4x4.Conv")(x)
        return Encoded(features, self.get_submodule("4x4.Dense0")(features[4].flatten(1)))


class _FirstBlock(nn.Module):
    def __init__(self, channels: int, code_dim: int, modulation_dim: int, img_channels: int) -> None:
        super().__init__()
        self.Dense = FullyConnected(code_dim, channels * 16, activate=True)
        self.Conv = ModulatedLayer(channels, channels, modulation_dim)
        self.ToRGB = ToRGB(channels, img_channels, modulation_dim, has_smaller=False)


class _Block(nn.Module):
    def __init__(self, in_channels: int, channels: int, modulation_dim: int, img_channels: int) -> None:
        super().__init__()
        self.Conv0_up = ModulatedLayer(in_channels, channels, modulation_dim, up=True)
        self.Conv1 = ModulatedLayer(channels, channels, modulation_dim)
        self.ToRGB = ToRGB(channels, img_channels, modulation_dim, has_smaller=True)


class SynthesisNetwork(nn.Module):
    """Encoder `E` and generator blocks `G_<size>x<size>`."""

    def __init__(
        self, w_dim: int, img_channels: int, channels: Mapping[int, int], code_dim: int, arithmetic: Arithmetic
    ) -> None:
        super().__init__()
        self.sizes = sorted(channels)
        self.num_ws = 2 * len(self.sizes)
        self.arithmetic = arithmetic
        modulation_dim = w_dim + code_dim
        self.E = Encoder(img_channels, channels, code_dim)
        self.G_4x4 = _FirstBlock(channels[4], code_dim, modulation_dim, img_channels)
        for size in self.sizes[1:]:
            block = _Block(channels[size // 2], channels[size], modulation_dim, img_channels)
            self.add_module(f"G_{size}x{size}", block)

    def forward(self, encoded: Encoded, ws: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """ws: [N, num_ws, w_dim] -> [N, C, H, W]; encoded: of N pictures, or of one for all."""
        code = encoded.code.expand(len(ws), -1)
        draws = iter(noise) if noise is not None else iter([None] * (self.num_ws - 1))
        modulations = [torch.cat([w, code], dim=1) for w in ws.unbind(dim=1)]
        x = self.G_4x4.Dense(code).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)
        if self.arithmetic == "original":
            x = x + encoded.features[4]
        x = self.G_4x4.Conv(x, modulations[0], next(draws))
        images: Tensor = self.G_4x4.ToRGB(x, modulations[1], None)
        for i, size in enumerate(self.sizes[1:]):
            block = self.get_submodule(f"G_{size}x{size}")
            assert isinstance(block, _Block)
            x = block.Conv0_up(x, modulations[2 * i + 1], next(draws)) + encoded.features[size]
            x = block.Conv1(x, modulations[2 * i + 2], next(draws))
            images = block.ToRGB(x, modulations[2 * i + 3], images)
        return images


class MappingNetwork(nn.Module):
    """z -> w: a normalised latent through fully connected layers, `G_mapping.Dense<i>`."""

    def __init__(self, sizes: Sequence[int], *, lr_multiplier: float = 0.01) -> None:
        super().__init__()
        self.z_dim, self.w_dim = sizes[0], sizes[-1]
        self.G_mapping = nn.Sequential()
        for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:], strict=False)):
            layer = FullyConnected(inputs, outputs, activate=True, lr_multiplier=lr_multiplier)
            self.G_mapping.add_module(f"Dense{i}", layer)

    def forward(self, z: Tensor) -> Tensor:
        """z: [N, z_dim] normal -> w: [N, w_dim]. Raises ValueError."""
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"expected z of shape [N, {self.z_dim}], got {list(z.shape)}")
        w: Tensor = self.G_mapping(normalize_second_moment(z))
        return w


class Generator(nn.Module):
    """The whole generator.

    channels: feature channels of every size 4, 8, ..., the picture's; mapping_sizes: lengths of z, of the layers
    between, of w; code_dim: length of the encoder's code. Several fillings of one hole share one `encode`.
    """

    def __init__(
        self,
        mapping_sizes: Sequence[int],
        channels: Mapping[int, int],
        *,
        code_dim: int,
        img_channels: int = 3,
        arithmetic: Arithmetic = "original",
        lr_multiplier: float = 0.01,
    ) -> None:
        super().__init__()
        if arithmetic not in get_args(Arithmetic):
            raise ValueError(f"unknown arithmetic {arithmetic!r}; choose one of {', '.join(get_args(Arithmetic))}")
        if len(channels) < 2 or sorted(channels) != [4 * 2**i for i in range(len(channels))]:
            raise ValueError(f"channels must list the sizes 4, 8, ..., img_size; got {sorted(channels)}")
        self.z_dim, self.w_dim = mapping_sizes[0], mapping_sizes[-1]
        self.img_channels, self.img_size, self.code_dim = img_channels, max(channels), code_dim
        self.G_mapping = MappingNetwork(mapping_sizes, lr_multiplier=lr_multiplier)
        self.G_synthesis = SynthesisNetwork(self.w_dim, img_channels, channels, code_dim, arithmetic)
        self.num_ws = self.G_synthesis.num_ws

    def map(self, z: Tensor, *, w_avg: Tensor | None = None, truncation_psi: float = 1.0) -> Tensor:
        """z: [N, z_dim] normal -> ws: [N, num_ws, w_dim] = w_avg + psi (w - w_avg).

        w_avg: [w_dim], the mean w of many z, for instance `engine.latents.spaces.w_statistics(...).mean`. Raises
        ValueError where psi is not 1 and it is missing.
        """
        w = self.G_mapping(z)
        if truncation_psi != 1.0:
            if w_avg is None:
                raise ValueError("truncation needs w_avg, the mean w of many z: the files keep none")
            w = torch.lerp(w_avg, w, truncation_psi)
        return w[:, None].expand(-1, self.num_ws, -1)

    def encode(self, images: Tensor, known: Tensor, *, dropout: Tensor | None = None) -> Encoded:
        """images: [N, C, H, W] in [-1, 1], known: [N, 1, H, W] in {0, 1} -> what `fill` needs. Raises ValueError.

        dropout: [N, code_dim], what the code is multiplied with (see `draw_dropout`); None leaves it as it is.
        """
        size = (self.img_size, self.img_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != (self.img_channels, *size):
            wanted = f"[N, {self.img_channels}, {size[0]}, {size[1]}]"
            raise ValueError(f"expected images of shape {wanted}, got {list(images.shape)}")
        if known.shape != (len(images), 1, *size):
            raise ValueError(
                f"expected known of shape [{len(images)}, 1, {size[0]}, {size[1]}], got {list(known.shape)}"
            )
        encoded: Encoded = self.G_synthesis.E(images, known)
        return encoded if dropout is None else Encoded(encoded.features, encoded.code * dropout)

    def fill(self, encoded: Encoded, ws: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """The whole picture as the generator sees it, known pixels included: [N, C, H, W].

        encoded: of N pictures, or of one that all ws share; ws: [N, num_ws, w_dim]; noise: as `draw_noise` gives it, or
        None for none. Raises ValueError.
        """
        if tuple(ws.shape[1:]) != (self.num_ws, self.w_dim):
            raise ValueError(f"expected ws of shape [N, {self.num_ws}, {self.w_dim}], got {list(ws.shape)}")
        if noise is not None and len(noise) != self.num_ws - 1:
            raise ValueError(f"expected noise for {self.num_ws - 1} layers, got {len(noise)}; see draw_noise")
        images: Tensor = self.G_synthesis(encoded, ws, noise)
        return images

    def forward(self, images: Tensor, known: Tensor, z: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """The pictures with their holes filled: [N, C, H, W]; known pixels stay what they are. Shapes as above."""
        return paste(images, known, self.fill(self.encode(images, known), self.map(z), noise))

    @property
    def takes_noise(self) -> bool:
        """Whether noise changes anything: whether any layer has a strength for it."""
        return any(bool(layer.noise.weight) for layer in self.modules() if isinstance(layer, ModulatedLayer))

    def draw_noise(self, batch: int, generator: torch.Generator) -> list[Tensor]:
        """Normal numbers [batch, 1, size, size] for every layer that takes some, drawn on the generator's device."""
        sizes = [4, *(size for size in self.G_synthesis.sizes[1:] for _ in range(2))]
        device = generator.device
        return [torch.randn(batch, 1, size, size, generator=generator, device=device) for size in sizes]

    def draw_dropout(self, batch: int, generator: torch.Generator) -> Tensor:
        """[batch, code_dim]: 0 or 2 with equal chance, as the original multiplies its code, at inference too."""
        kept = torch.rand(batch, self.code_dim, generator=generator, device=generator.device) >= DROPOUT
        return kept / (1 - DROPOUT)


def paste(images: Tensor, known: Tensor, filled: Tensor) -> Tensor:
    """images where known is 1, filled where it is 0; known: [N, 1, H, W], pictures: [N, C, H, W]."""
    return torch.lerp(filled, images, known)


class Filler(nn.Module):
    """A generator with, where there is one, its discriminator, which sees where the hole is."""

    def __init__(self, generator: Generator, discriminator: Discriminator | None = None) -> None:
        """Raises ValueError for networks that do not belong together."""
        super().__init__()
        if discriminator is not None:
            wanted = (generator.img_size, generator.img_channels + 1, False)
            found = (discriminator.img_resolution, discriminator.img_channels, discriminator.judges_by_class)
            if found != wanted:
                raise ValueError(
                    f"its discriminator judges {found[1]} channels of {found[0]} px{' by class' * found[2]}; it takes "
                    f"{wanted[1]} of {wanted[0]} px: where pixels are known, and the picture"
                )
        self.generator, self.discriminator = generator, discriminator

    def features(self, images: Tensor, known: Tensor) -> Tensor:
        """What the discriminator sees before its logit: images [N, C, H, W], known [1 or N, 1, H, W] -> [N, D]."""
        assert self.discriminator is not None
        where = (known - 0.5).expand(len(images), -1, -1, -1)
        return self.discriminator.features(torch.cat([where, images], dim=1))

    def logits(self, features: Tensor) -> Tensor:
        """Of its features [N, D]: [N, 1], larger for a picture without a hole."""
        assert self.discriminator is not None
        logits: Tensor = self.discriminator.b4.out(features)
        return logits


# ---- building from a state dict --------------------------------------------------------------------------


def generator_from_shapes(
    state: Mapping[str, Tensor],
    *,
    arithmetic: Arithmetic = "original",
    lr_multiplier: float = 0.01,
    device: torch.device | str | None = None,
) -> Generator:
    """An untrained `Generator` with the keys and shapes of a state dict in the port's names.

    What shapes cannot tell is an argument. With device="meta" nothing is allocated. Raises ValueError where a key is
    missing.
    """
    dense = "G_mapping.G_mapping.Dense{}.weight"
    layers = count_keys(state, dense)
    mapping_sizes = [shape_of(state, dense.format(0), WHAT)[1]]
    mapping_sizes += [shape_of(state, dense.format(i), WHAT)[0] for i in range(layers)]
    channels = {4: shape_of(state, "G_synthesis.E.4x4.Conv.0.weight", WHAT)[0]}
    while (key := "G_synthesis.E.{0}x{0}.Conv0.0.weight".format(2 * max(channels))) in state:
        channels[2 * max(channels)] = shape_of(state, key, WHAT)[0]
    img_channels = shape_of(state, "G_synthesis.G_4x4.ToRGB.conv.weight", WHAT)[1]
    code_dim = shape_of(state, "G_synthesis.E.4x4.Dense0.weight", WHAT)[0]
    with torch.device(device if device is not None else "cpu"):
        return Generator(
            mapping_sizes,
            channels,
            code_dim=code_dim,
            img_channels=img_channels,
            arithmetic=arithmetic,
            lr_multiplier=lr_multiplier,
        )
