"""DF-GAN: the generator (Tao et al. 2022), from a latent and the embedding of a sentence to a picture.

Every block doubles the picture and bends its features twice by scales and shifts that two small networks read from
the latent and the sentence. Attribute names equal the checkpoint keys (`['model']['netG']` of the published files).
Pictures are [N, 3, H, W] in [-1, 1]; the sentence embedding comes from DAMSM's text encoder, of which this is no part.

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
        if z.ndim != 2 or z.shape[1] != self.nz:
            raise ValueError(f"expected z of shape [N, {self.nz}], got {list(z.shape)}")
        if sentences.shape != (len(z), self.cond_dim):
            raise ValueError(f"expected sentences of shape [{len(z)}, {self.cond_dim}], got {list(sentences.shape)}")
        condition = torch.cat([z, sentences], dim=1)
        x = self.fc(z).unflatten(1, (-1, BOTTOM, BOTTOM)).contiguous(memory_format=torch.channels_last)
        for block in self.GBlocks:
            x = block(x, condition)
        images: Tensor = self.to_rgb(x)
        return images


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
