"""DF-GAN (Tao et al. 2022): from a latent and the embedding of a sentence to a picture, and its two critics.

Every block of the generator doubles the picture and bends its features twice by scales and shifts that two small
networks read from the latent and the sentence. The discriminator turns a picture into features, and the conditional
head these and a sentence into one logit: whether the picture is real and fits. Attribute names equal the checkpoint
keys (`['model']['netG']`, `['netD']` and `['netC']` of the published files). Pictures are [N, 3, H, W] in [-1, 1]; the
sentence embedding comes from a text encoder, the authors' from DAMSM's, of which this is no part.

Speed. The scales and shifts are pointwise and run before the pixels are repeated; repeated pixels under a 3x3
convolution are one transposed convolution (see `derived`); activations stay channels-last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.networks.derived import Derived, convolve_doubled, count_keys, double, doubling_kernel, shape_of

SLOPE = 0.2
BOTTOM = 4  # px: height and width of the features that the latent becomes
WHAT = "a DF-GAN generator"
WHAT_CRITIC = "a DF-GAN discriminator"
WHAT_HEAD = "a DF-GAN conditional discriminator"


class Affine(nn.Module):
    """y = scale x + shift per sample and channel; each read from the condition by two fully connected layers."""

    def __init__(self, condition_dim: int, channels: int) -> None:
        super().__init__()
        self.fc_gamma = _two_layers(condition_dim, channels)
        self.fc_beta = _two_layers(condition_dim, channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: [N, C, H, W], condition: [N, nz + cond_dim] -> [N, C, H, W]."""
        scale, shift = self.fc_gamma(condition), self.fc_beta(condition)
        return torch.addcmul(shift[:, :, None, None], x, scale[:, :, None, None])


def _two_layers(inputs: int, outputs: int) -> nn.Sequential:
    """linear1, ReLU, linear2: the names are in the files."""
    network = nn.Sequential()
    network.add_module("linear1", nn.Linear(inputs, outputs))
    network.add_module("relu1", nn.ReLU(inplace=True))
    network.add_module("linear2", nn.Linear(outputs, outputs))
    return network


class FusionBlock(nn.Module):
    """Two affine maps, each followed by leaky ReLU. Shapes as in `Affine`."""

    def __init__(self, condition_dim: int, channels: int) -> None:
        super().__init__()
        self.affine0 = Affine(condition_dim, channels)
        self.affine1 = Affine(condition_dim, channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = F.leaky_relu(self.affine0(x, condition), SLOPE, inplace=True)
        return F.leaky_relu(self.affine1(x, condition), SLOPE, inplace=True)


class GeneratorBlock(nn.Module):
    """Doubled pixels, then two fused 3x3 convolutions beside a shortcut. [N, in, H, W] -> [N, out, 2H, 2W]."""

    def __init__(self, condition_dim: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.c2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.fuse1 = FusionBlock(condition_dim, in_channels)
        self.fuse2 = FusionBlock(condition_dim, out_channels)
        self.has_shortcut = in_channels != out_channels
        if self.has_shortcut:
            self.c_sc = nn.Conv2d(in_channels, out_channels, 1)
        self._doubling = Derived()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        kernel = self._doubling.get(lambda: doubling_kernel(self.c1.weight), self.c1.weight)
        y = convolve_doubled(self.fuse1(x, condition), kernel, self.c1.bias)
        y = self.c2(self.fuse2(y, condition))
        return y + double(self.c_sc(x) if self.has_shortcut else x)


class Generator(nn.Module):
    """A latent and a sentence embedding -> a picture.

    nz, cond_dim: their lengths; widths: feature channels at 4 px, then after each doubling.
    """

    def __init__(self, nz: int, cond_dim: int, widths: Sequence[int], *, img_channels: int = 3) -> None:
        super().__init__()
        self.nz, self.cond_dim = nz, cond_dim
        self.img_size = BOTTOM * 2 ** (len(widths) - 1)
        self.fc = nn.Linear(nz, widths[0] * BOTTOM**2)
        pairs = zip(widths, widths[1:], strict=False)
        self.GBlocks = nn.ModuleList([GeneratorBlock(nz + cond_dim, inputs, outputs) for inputs, outputs in pairs])
        self.to_rgb = nn.Sequential(
            nn.LeakyReLU(SLOPE, inplace=True), nn.Conv2d(widths[-1], img_channels, 3, padding=1), nn.Tanh()
        )

    def forward(self, z: Tensor, sentences: Tensor) -> Tensor:
        """z: [N, nz] (the authors draw 0.88 times a normal truncated at 2), sentences: [N, cond_dim] -> images.

        Images are [N, 3, H, W] in [-1, 1]. Raises ValueError for other shapes.
        """
        images: Tensor = self.to_rgb(self.features(z, sentences))
        return images

    def features(self, z: Tensor, sentences: Tensor, *, blocks: int | None = None) -> Tensor:
        """What so many blocks make of z and sentences, all by default: [N, C, H, W]. Raises ValueError as forward."""
        if z.ndim != 2 or z.shape[1] != self.nz:
            raise ValueError(f"expected z of shape [N, {self.nz}], got {list(z.shape)}")
        if sentences.shape != (len(z), self.cond_dim):
            raise ValueError(f"expected sentences of shape [{len(z)}, {self.cond_dim}], got {list(sentences.shape)}")
        condition = torch.cat([z, sentences], dim=1)
        x = self.fc(z).unflatten(1, (-1, BOTTOM, BOTTOM)).contiguous(memory_format=torch.channels_last)
        for block in self.GBlocks[:blocks]:
            x = block(x, condition)
        return x


def generator_from_shapes(state: Mapping[str, Tensor], *, device: torch.device | str | None = None) -> Generator:
    """An untrained `Generator` with the keys and shapes of a `netG` state dict without its `module.` prefix.

    With device="meta" nothing is allocated. Raises ValueError where a key is missing.
    """
    nz = shape_of(state, "fc.weight", WHAT)[1]
    condition_dim = shape_of(state, "GBlocks.0.fuse1.affine0.fc_gamma.linear1.weight", WHAT)[1]
    blocks = count_keys(state, "GBlocks.{}.c1.weight")
    first = shape_of(state, "GBlocks.0.c1.weight", WHAT)[1]
    widths = [first, *(shape_of(state, f"GBlocks.{i}.c1.weight", WHAT)[0] for i in range(blocks))]
    img_channels = shape_of(state, "to_rgb.1.weight", WHAT)[0]
    with torch.device(device if device is not None else "cpu"):
        return Generator(nz, condition_dim - nz, widths, img_channels=img_channels)


# ---- critics ---------------------------------------------------------------------------------------------


class DiscriminatorBlock(nn.Module):
    """A residual of a strided 4x4 and a 3x3 convolution, times gamma, beside a shortcut. [N, in, H, W] -> [N, out, H/2,
    W/2]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.conv_r = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.LeakyReLU(SLOPE, inplace=True),
        )
        self.has_shortcut = in_channels != out_channels
        if self.has_shortcut:
            self.conv_s = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        halved = F.avg_pool2d(x, 2)  # before the 1x1 convolution it is the same, and a quarter of the work
        shortcut = self.conv_s(halved) if self.has_shortcut else halved
        return torch.addcmul(shortcut, self.gamma, self.conv_r(x))


class Discriminator(nn.Module):
    """Pictures -> features for a `ConditionalHead`. widths: channels at the picture's size, then after each halving."""

    def __init__(self, widths: Sequence[int], *, img_channels: int = 3) -> None:
        super().__init__()
        self.img_size, self.channels = BOTTOM * 2 ** (len(widths) - 1), widths[-1]
        self.conv_img = nn.Conv2d(img_channels, widths[0], 3, padding=1)
        pairs = zip(widths, widths[1:], strict=False)
        self.DBlocks = nn.ModuleList([DiscriminatorBlock(inputs, outputs) for inputs, outputs in pairs])

    def forward(self, images: Tensor) -> Tensor:
        """images [N, 3, H, W] in [-1, 1] -> features [N, C, 4, 4]. Raises ValueError for another size."""
        if images.shape[1:] != (self.conv_img.in_channels, self.img_size, self.img_size):
            expected = [self.conv_img.in_channels, self.img_size, self.img_size]
            raise ValueError(f"expected images of shape [N, {', '.join(map(str, expected))}], got {list(images.shape)}")
        x = self.conv_img(images.contiguous(memory_format=torch.channels_last))
        for block in self.DBlocks:
            x = block(x)
        return x


class ConditionalHead(nn.Module):
    """Features and sentences -> logits: large where the picture is real and shows what the sentence says.

    inputs: channels of the features and numbers of a sentence embedding, together; hidden: between both convolutions.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.joint_conv = nn.Sequential(
            nn.Conv2d(inputs, hidden, 3, padding=1, bias=False),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Conv2d(hidden, 1, BOTTOM, bias=False),
        )

    def forward(self, features: Tensor, sentences: Tensor) -> Tensor:
        """features: [N, C, 4, 4], sentences: [N, inputs - C] -> logits [N, 1]. Raises ValueError for other shapes."""
        wanted = (len(features), self.inputs - features.shape[1])
        if features.shape[2:] != (BOTTOM, BOTTOM) or sentences.shape != wanted:
            raise ValueError(
                f"expected features of shape [N, C, {BOTTOM}, {BOTTOM}] and sentences of shape [N, {self.inputs} - C], "
                f"got {list(features.shape)} and {list(sentences.shape)}"
            )
        everywhere = sentences[:, :, None, None].expand(-1, -1, BOTTOM, BOTTOM)
        logits: Tensor = self.joint_conv(torch.cat([features, everywhere], dim=1))
        return logits.flatten(1)


class Critic(nn.Module):
    """Both parts of the discriminator: images [N, 3, H, W] -> features, and these with sentences [N, C] -> logits."""

    def __init__(self, discriminator: Discriminator, head: ConditionalHead) -> None:
        super().__init__()
        self.discriminator, self.head = discriminator, head

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.discriminator(images)
        return features

    def match(self, features: Tensor, sentences: Tensor) -> Tensor:
        """features: [N, C, 4, 4], sentences: [N, cond_dim] -> logits [N, 1]."""
        logits: Tensor = self.head(features, sentences)
        return logits


def discriminator_from_shapes(
    state: Mapping[str, Tensor], *, device: torch.device | str | None = None
) -> Discriminator:
    """An untrained `Discriminator` with the keys and shapes of a `netD` state dict; otherwise as above."""
    first, img_channels = shape_of(state, "conv_img.weight", WHAT_CRITIC)[:2]
    blocks = count_keys(state, "DBlocks.{}.gamma")
    widths = [first, *(shape_of(state, f"DBlocks.{i}.conv_r.0.weight", WHAT_CRITIC)[0] for i in range(blocks))]
    with torch.device(device if device is not None else "cpu"):
        return Discriminator(widths, img_channels=img_channels)


def head_from_shapes(state: Mapping[str, Tensor], *, device: torch.device | str | None = None) -> ConditionalHead:
    """An untrained `ConditionalHead` with the keys and shapes of a `netC` state dict; otherwise as above."""
    hidden, inputs = shape_of(state, "joint_conv.0.weight", WHAT_HEAD)[:2]
    with torch.device(device if device is not None else "cpu"):
        return ConditionalHead(inputs, hidden)
