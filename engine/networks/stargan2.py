"""StarGAN v2: generator, mapping network, style encoder and discriminator (Choi et al. 2020).

A picture is redrawn in another domain (cat, dog; woman, man): the generator keeps its pose, a style says the rest.
A style comes from a latent (mapping network) or from a reference picture (style encoder), each with one head per
domain. Attribute names equal the keys of the published `*_nets_ema.ckpt`, a dict of these state dicts; pictures are
[N, 3, H, W], in [-1, 1] and never clamped; N samples, S numbers of a style, K domains.

The high-pass variant (CelebA-HQ) has no shortcuts in its decoder; where masks of a face are given (see `fan`), it hands
fine detail of the source picture past the bottleneck instead.

Speed. A 3x3 convolution after repeated pixels, or before the mean of 2 x 2 pixels, is one strided 4x4 convolution
with less than half of the multiplications (see `derived`); 1x1 convolutions run on the smaller side of a resampling;
activations stay channels-last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from engine.networks.derived import Derived, convolve_doubled, count_keys, double, doubling_kernel, shape_of
from engine.networks.fan import FaceAlignmentNetwork

SLOPE = 0.2
EPSILON = 1e-5
HALF = math.sqrt(0.5)  # the sum of two independent branches keeps its variance
MASKED_SIZES = (32, 64, 128)  # the heights at which the high-pass detail is handed on
HEAD_LAYERS = 4  # fully connected layers of the mapping network's shared part, and of each of its heads


# ---- small functions -------------------------------------------------------------------------------------


class _InstanceNormalization(torch.autograd.Function):
    """See `instance_normalize`. By hand, because the backward pass needs nothing but the result and one scale.

    Torch's own takes a channels-last picture apart, and its group norm loses 3 digits on one.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x - x.mean(dim=(2, 3), keepdim=True)
        scale = (y.square().mean(dim=(2, 3), keepdim=True) + EPSILON).rsqrt()
        y *= scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        y, scale = ctx.saved_tensors
        mean = gradient.mean(dim=(2, 3), keepdim=True)
        slope = (gradient * y).mean(dim=(2, 3), keepdim=True)
        return torch.addcmul(gradient - mean, y, slope, value=-1.0).mul_(scale)


def instance_normalize(x: Tensor) -> Tensor:
    """(x - mean) / sqrt(variance + 1e-5), over the pixels of each sample and channel; x: [N, C, H, W]."""
    y: Tensor = _InstanceNormalization.apply(x)
    return y


def leaky_relu_(x: Tensor) -> Tensor:
    """max(x, 0.2 x), in place."""
    return F.leaky_relu(x, SLOPE, inplace=True)


def pooling_kernel(weight: Tensor) -> Tensor:
    """The kernel [out, in, 4, 4] that does a 3x3 convolution [out, in, 3, 3] and the mean of 2 x 2 pixels in one."""
    wide = doubling_kernel(weight).flip(2, 3).transpose(0, 1) / 4
    return wide.contiguous(memory_format=torch.channels_last)


def _of_domain(values: Sequence[Tensor], domains: Tensor) -> Tensor:
    """values: K tensors [N, D], domains: [N] in 0..K-1 -> [N, D], sample n's row of values[domains[n]]."""
    n, count = len(values[0]), len(values)
    if domains.shape != (n,) or domains.is_floating_point():
        raise ValueError(f"expected domains: [{n}] whole numbers, got {list(domains.shape)} of {domains.dtype}")
    if n and not 0 <= int(domains.min()) <= int(domains.max()) < count:
        raise ValueError(f"domains must be in 0..{count - 1}, got {domains.tolist()}")
    return torch.stack(list(values), dim=1)[torch.arange(n, device=domains.device), domains]


def _channels_last(images: Tensor, size: int) -> Tensor:
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
        raise ValueError(f"expected images of shape [N, 3, {size}, {size}], got {list(images.shape)}")
    return images.contiguous(memory_format=torch.channels_last)


# ---- layers ----------------------------------------------------------------------------------------------


class InstanceNorm(nn.Module):
    """Instance normalisation, then a learnt scale and shift of every channel. [N, C, H, W] -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias[:, None, None], instance_normalize(x), self.weight[:, None, None])


class AdaptiveNorm(nn.Module):
    """AdaIN: (1 + scale) * normalised + shift, scale and shift linear in the style (Huang and Belongie 2017)."""

    def __init__(self, style_dim: int, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(style_dim, 2 * channels)

    def forward(self, x: Tensor, styles: Tensor) -> Tensor:
        """x: [N, C, H, W], styles: [N, S] -> [N, C, H, W]."""
        scale, shift = self.fc(styles)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, instance_normalize(x), 1 + scale)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; with `down` it halves height and width, by means of 2 x 2 pixels."""

    def __init__(self, in_channels: int, out_channels: int, *, normalize: bool = False, down: bool = False) -> None:
        super().__init__()
        self.normalize = normalize
        self.down = down
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        if normalize:
            self.norm1 = InstanceNorm(in_channels)
            self.norm2 = InstanceNorm(in_channels)
        self.has_conv1x1 = in_channels != out_channels
        if self.has_conv1x1:
            self.conv1x1 = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self._pooling = Derived()

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H', W']."""
        y = leaky_relu_(self.norm1(x)) if self.normalize else F.leaky_relu(x, SLOPE)
        if self.down:
            kernel = self._pooling.get(lambda: pooling_kernel(self.conv1.weight), self.conv1.weight)
            y = F.conv2d(y, kernel, self.conv1.bias, stride=2, padding=1)
        else:
            y = self.conv1(y)
        y = self.conv2(leaky_relu_(self.norm2(y) if self.normalize else y))
        shortcut = F.avg_pool2d(x, 2) if self.down else x
        shortcut = self.conv1x1(shortcut) if self.has_conv1x1 else shortcut
        return torch.add(shortcut * HALF, y, alpha=HALF)


class AdaptiveBlock(nn.Module):
    """A residual block under a style; with `up` it doubles height and width by repeating pixels.

    Without `shortcut` its own result goes on alone, although a `conv1x1` is in the file then, too.
    """

    def __init__(
        self, in_channels: int, out_channels: int, style_dim: int, *, up: bool = False, shortcut: bool = True
    ) -> None:
        super().__init__()
        self.up = up
        self.shortcut = shortcut
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.norm1 = AdaptiveNorm(style_dim, in_channels)
        self.norm2 = AdaptiveNorm(style_dim, out_channels)
        self.has_conv1x1 = in_channels != out_channels
        if self.has_conv1x1:
            self.conv1x1 = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self._doubling = Derived()

    def forward(self, x: Tensor, styles: Tensor) -> Tensor:
        """x: [N, in, H, W], styles: [N, S] -> [N, out, H', W']."""
        y = leaky_relu_(self.norm1(x, styles))
        if self.up:
            kernel = self._doubling.get(lambda: doubling_kernel(self.conv1.weight), self.conv1.weight)
            y = convolve_doubled(y, kernel, self.conv1.bias)
        else:
            y = self.conv1(y)
        y = self.conv2(leaky_relu_(self.norm2(y, styles)))
        if not self.shortcut:
            return y
        shortcut = (self.conv1x1(x) if self.has_conv1x1 else x) * HALF
        return torch.add(double(shortcut) if self.up else shortcut, y, alpha=HALF)


class HighPass(nn.Module):
    """Each channel minus its eight neighbours: the kernel is 8 amidst -1, divided by `weight`, as the file has it."""

    filter: Tensor

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        kernel = torch.full((3, 3), -1.0)
        kernel[1, 1] = 8.0
        self.register_buffer("filter", kernel / weight)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        return F.conv2d(x, self.filter.expand(channels, 1, 3, 3).contiguous(), padding=1, groups=channels)


# ---- networks --------------------------------------------------------------------------------------------


class Generator(nn.Module):
    """A picture and a style -> the picture in that style.

    widths: the feature channels of the picture's own size, then after each halving, so there are
    len(widths) - 1 of them. A picture is 16 (with `high_pass` 8) px at the bottleneck, which fixes `img_size`.
    """

    def __init__(self, widths: Sequence[int], style_dim: int, *, high_pass: bool = False) -> None:
        super().__init__()
        self.img_size = (8 if high_pass else 16) * 2 ** (len(widths) - 1)
        self.style_dim = style_dim
        self.high_pass = high_pass
        last = widths[-1]
        pairs = list(zip(widths, widths[1:], strict=False))
        self.from_rgb = nn.Conv2d(3, widths[0], 3, padding=1)
        self.encode = nn.ModuleList(
            [
                *(ResidualBlock(wide, deep, normalize=True, down=True) for wide, deep in pairs),
                *(ResidualBlock(last, last, normalize=True) for _ in range(2)),
            ]
        )
        self.decode = nn.ModuleList(
            [
                *(AdaptiveBlock(last, last, style_dim, shortcut=not high_pass) for _ in range(2)),
                *(
                    AdaptiveBlock(deep, wide, style_dim, up=True, shortcut=not high_pass)
                    for wide, deep in reversed(pairs)
                ),
            ]
        )
        activation = nn.LeakyReLU(SLOPE, inplace=True)
        self.to_rgb = nn.Sequential(InstanceNorm(widths[0]), activation, nn.Conv2d(widths[0], 3, 1))
        if high_pass:
            self.hpf = HighPass()

    def forward(self, images: Tensor, styles: Tensor, masks: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """images: [N, 3, H, W] in [-1, 1], styles: [N, S] -> images [N, 3, H, W], nominally in [-1, 1].

        masks: two heatmaps [N, 1, h, w] of a face's landmarks, used at 32 px and at 64 and 128 px; only the
        high-pass variant takes them. Raises ValueError for other shapes.
        """
        if styles.shape != (len(images), self.style_dim):
            raise ValueError(f"expected styles of shape [{len(images)}, {self.style_dim}], got {list(styles.shape)}")
        if masks is not None and not self.high_pass:
            raise ValueError("only the high-pass variant takes masks: leave them out")
        content, detail = self.encoded(images, masks)
        return self.draw(content, styles, detail)

    def content(self, images: Tensor) -> Tensor:
        """What the generator keeps of pictures [N, 3, H, W]: features [N, C, h, w] before any style."""
        return self.encoded(images)[0]

    def encoded(self, images: Tensor, masks: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, dict[int, Tensor]]:
        """The content of pictures, and what goes past it where masks are given (see `forward`): by height."""
        x = self.from_rgb(_channels_last(images, self.img_size))
        detail = {}
        for block in self.encode:
            if masks is not None and x.shape[2] in MASKED_SIZES:
                detail[x.shape[2]] = self._handed_on(x, masks)
            x = block(x)
        return x, detail

    def draw(self, content: Tensor, styles: Tensor, detail: Mapping[int, Tensor] | None = None) -> Tensor:
        """What `encoded` gives, and styles [N, S] -> images [N, 3, H, W]. detail: of each picture, or one for all."""
        x = content.contiguous(memory_format=torch.channels_last)
        for block in self.decode:
            x = block(x, styles)
            if detail and x.shape[2] in detail:
                x = x + detail[x.shape[2]]
        result: Tensor = self.to_rgb(x)
        return result

    def _handed_on(self, features: Tensor, masks: tuple[Tensor, Tensor]) -> Tensor:
        size = features.shape[2]
        mask = masks[0] if size == MASKED_SIZES[0] else masks[1]
        passed: Tensor = self.hpf(F.interpolate(mask, size=size, mode="bilinear") * features)
        return passed


class MappingNetwork(nn.Module):
    """Latents -> styles, with one head per domain. z: [N, latent_dim] normal."""

    def __init__(self, latent_dim: int, style_dim: int, num_domains: int, *, hidden: int = 512) -> None:
        super().__init__()
        self.latent_dim, self.style_dim, self.num_domains = latent_dim, style_dim, num_domains
        sizes = [latent_dim, *[hidden] * HEAD_LAYERS]
        self.shared = nn.Sequential(*_layers(sizes), nn.ReLU(inplace=True))
        heads = [nn.Sequential(*_layers([*sizes[1:], style_dim])) for _ in range(num_domains)]
        self.unshared = nn.ModuleList(heads)

    def forward(self, z: Tensor, domains: Tensor) -> Tensor:
        """z: [N, latent_dim], domains: [N] in 0..K-1 -> styles: [N, S]. Raises ValueError."""
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"expected z of shape [N, {self.latent_dim}], got {list(z.shape)}")
        shared = self.shared(z)
        return _of_domain([head(shared) for head in self.unshared], domains)

    def to_domain(self, z: Tensor, domain: int) -> Tensor:
        """Every z: [N, latent_dim] to a style [N, S] of one domain."""
        return self(z, torch.full((len(z),), domain, device=z.device))


def _layers(sizes: Sequence[int]) -> list[nn.Module]:
    """Fully connected layers with a ReLU between each two."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
    return layers[:-1]


def _trunk(widths: Sequence[int]) -> list[nn.Module]:
    """Picture [N, 3, H, W] -> features [N, widths[-1], 1, 1]: halvings to 4 x 4, then one convolution over all."""
    pairs = zip(widths, widths[1:], strict=False)
    return [
        nn.Conv2d(3, widths[0], 3, padding=1),
        *(ResidualBlock(wide, deep, down=True) for wide, deep in pairs),
        nn.LeakyReLU(SLOPE, inplace=True),
        nn.Conv2d(widths[-1], widths[-1], 4),
        nn.LeakyReLU(SLOPE, inplace=True),
    ]


class StyleEncoder(nn.Module):
    """A reference picture -> its style, with one head per domain. widths: as in `Generator`, to 4 px."""

    def __init__(self, widths: Sequence[int], style_dim: int, num_domains: int) -> None:
        super().__init__()
        self.img_size = 4 * 2 ** (len(widths) - 1)
        self.style_dim, self.num_domains = style_dim, num_domains
        self.shared = nn.Sequential(*_trunk(widths))
        self.unshared = nn.ModuleList([nn.Linear(widths[-1], style_dim) for _ in range(num_domains)])

    def forward(self, images: Tensor, domains: Tensor) -> Tensor:
        """images: [N, 3, H, W] in [-1, 1], domains: [N] in 0..K-1 -> styles: [N, S]. Raises ValueError."""
        shared = self.shared(_channels_last(images, self.img_size)).flatten(1)
        return _of_domain([head(shared) for head in self.unshared], domains)


class Discriminator(nn.Module):
    """A picture -> one logit per domain (positive: a real picture of it). widths: as in `StyleEncoder`.

    The published files hold none; a training run's own does.
    """

    def __init__(self, widths: Sequence[int], num_domains: int) -> None:
        super().__init__()
        self.img_size = 4 * 2 ** (len(widths) - 1)
        self.num_domains = num_domains
        self.main = nn.Sequential(*_trunk(widths), nn.Conv2d(widths[-1], num_domains, 1))

    def features(self, images: Tensor) -> Tensor:
        """The penultimate layer: images [N, 3, H, W] in [-1, 1] -> [N, widths[-1]]."""
        features: Tensor = self.main[:-1](_channels_last(images, self.img_size)).flatten(1)
        return features

    def forward(self, images: Tensor, domains: Tensor) -> Tensor:
        """images: [N, 3, H, W] in [-1, 1], domains: [N] in 0..K-1 -> logits: [N]. Raises ValueError."""
        logits = self.main(_channels_last(images, self.img_size)).flatten(1)
        return _of_domain(logits.split(1, dim=1), domains)[:, 0]

    def logits(self, features: Tensor) -> Tensor:
        """What the last layer makes of `features` [N, widths[-1]]: [N, K]."""
        logits: Tensor = self.main[-1](features[:, :, None, None]).flatten(1)
        return logits


class Translator(nn.Module):
    """The networks that translate pictures together; released files lack the discriminator.

    fan: of the high-pass variant, which without it is blind to fine detail of a face.
    """

    def __init__(
        self,
        generator: Generator,
        mapping_network: MappingNetwork,
        style_encoder: StyleEncoder,
        discriminator: Discriminator | None = None,
        fan: FaceAlignmentNetwork | None = None,
    ) -> None:
        """Raises ValueError for networks that do not belong together."""
        super().__init__()
        style_dims = {generator.style_dim, mapping_network.style_dim, style_encoder.style_dim}
        counts = {mapping_network.num_domains, style_encoder.num_domains}
        sides = {generator.img_size, style_encoder.img_size}
        if discriminator is not None:
            counts, sides = counts | {discriminator.num_domains}, sides | {discriminator.img_size}
        for what, found in (("numbers of a style", style_dims), ("domains", counts), ("pixels a side", sides)):
            if len(found) > 1:
                raise ValueError(f"its networks differ in their {what}: {' and '.join(map(str, sorted(found)))}")
        self.generator, self.mapping_network = generator, mapping_network
        self.style_encoder, self.discriminator, self.fan = style_encoder, discriminator, fan
        self.img_size, self.num_domains = generator.img_size, mapping_network.num_domains

    def encoded(self, images: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Content of pictures [N, 3, H, W] and their faces' fine detail, as `Generator.encoded` gives them."""
        fan = self.fan if self.generator.high_pass else None
        return self.generator.encoded(images, None if fan is None else fan(images))

    def style_features(self, images: Tensor) -> Tensor:
        """What the style encoder sees before it asks for a domain: images [N, 3, H, W] -> [N, D]."""
        features: Tensor = self.style_encoder.shared(_channels_last(images, self.img_size)).flatten(1)
        return features

    def styles_of(self, images: Tensor, domain: int) -> Tensor:
        """The styles [N, S] of reference pictures of one domain."""
        styles: Tensor = self.style_encoder(images, torch.full((len(images),), domain, device=images.device))
        return styles


# ---- building from a state dict --------------------------------------------------------------------------


def generator_from_shapes(state: Mapping[str, Tensor], *, device: torch.device | str | None = None) -> Generator:
    """An untrained `Generator` with the keys and shapes of a state dict; the high-pass variant has an `hpf`.

    With device="meta" nothing is allocated. Raises ValueError where a key is missing.
    """
    what = "a StarGAN v2 generator"
    halvings = count_keys(state, "encode.{}.conv1.weight") - 2
    if halvings < 0:
        raise ValueError(f"this is no state dict of {what}: it has fewer than two blocks encode.<i>")
    widths = [shape_of(state, f"encode.{i}.conv1.weight", what)[0] for i in range(halvings + 1)]
    style_dim = shape_of(state, "decode.0.norm1.fc.weight", what)[1]
    with torch.device(device if device is not None else "cpu"):
        return Generator(widths, style_dim, high_pass="hpf.filter" in state)


def mapping_network_from_shapes(
    state: Mapping[str, Tensor], *, device: torch.device | str | None = None
) -> MappingNetwork:
    """An untrained `MappingNetwork` with the keys and shapes of a state dict; see `generator_from_shapes`."""
    what = "a StarGAN v2 mapping network"
    hidden, latent_dim = shape_of(state, "shared.0.weight", what)
    style_dim = shape_of(state, f"unshared.0.{2 * HEAD_LAYERS - 2}.weight", what)[0]
    num_domains = count_keys(state, "unshared.{}.0.weight")
    with torch.device(device if device is not None else "cpu"):
        return MappingNetwork(latent_dim, style_dim, num_domains, hidden=hidden)


def style_encoder_from_shapes(state: Mapping[str, Tensor], *, device: torch.device | str | None = None) -> StyleEncoder:
    """An untrained `StyleEncoder` with the keys and shapes of a state dict; see `generator_from_shapes`."""
    widths = _trunk_widths(state, "shared", "a StarGAN v2 style encoder")
    style_dim = shape_of(state, "unshared.0.weight", "a StarGAN v2 style encoder")[0]
    with torch.device(device if device is not None else "cpu"):
        return StyleEncoder(widths, style_dim, count_keys(state, "unshared.{}.weight"))


def discriminator_from_shapes(
    state: Mapping[str, Tensor], *, device: torch.device | str | None = None
) -> Discriminator:
    """An untrained `Discriminator` with the keys and shapes of a state dict; see `generator_from_shapes`."""
    what = "a StarGAN v2 discriminator"
    widths = _trunk_widths(state, "main", what)
    num_domains = shape_of(state, f"main.{len(widths) + 3}.weight", what)[0]
    with torch.device(device if device is not None else "cpu"):
        return Discriminator(widths, num_domains)


def _trunk_widths(state: Mapping[str, Tensor], prefix: str, what: str) -> list[int]:
    widths = [shape_of(state, f"{prefix}.0.weight", what)[0]]
    blocks = count_keys(state, prefix + ".{}.conv2.weight", first=1)
    return widths + [shape_of(state, f"{prefix}.{i}.conv2.weight", what)[0] for i in range(1, blocks + 1)]
