"""The face alignment network of StarGAN v2's high-pass variant, and the masks that are made of its heat maps.

One hourglass of residual blocks (Bulat and Tzimiropoulos 2017) that is told where its pixels lie (Liu et al. 2018)
gives a heat map for each of the 98 landmarks of WFLW; trained with the adaptive wing loss (Wang et al. 2019). From the
heat maps, moved and sharpened by part of the face, come two masks: where fine detail of a picture is handed on (Choi et
al. 2020, appendix). Attribute names equal the keys of `fan` in the published `*_nets_ema.ckpt`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.networks.derived import shape_of

SIDE = 256  # px of the pictures that it sees and of the masks; its heat maps have a quarter of that
LANDMARKS = 98
LEVELS = 4  # at which the hourglass halves what it sees
FAINT = 0.1  # heat below it is none
EPSILON = 1e-6
# Parts of the face: landmarks from `first` to before `end`, the rows by which their heat moves up, its power then.
PARTS = (
    (8, 25, 0, 3),  # chin
    (33, 51, -7, 2),  # eyebrows
    (52, 55, 4, 1),  # nose, but for its root
    (55, 60, 8, 4),  # nostrils
    (77, 82, -8, 4),  # upper lip
    (83, 88, 8, 4),  # lower lip
    (88, 96, -2, 3),  # inner edges of the lips
)
EYES = slice(60, 76)
UNUSED = (*range(8), *range(25, 33), 33, 46, 76, 82)  # the sides of the face, ends of an eyebrow and of the mouth
COARSE_ONLY = (*range(8, 25), *range(33, 51), *range(76, 96))  # chin, eyebrows and mouth are in the first mask alone


def masks_of(heat_maps: Tensor) -> tuple[Tensor, Tensor]:
    """Heat maps [N, 98, 256, 256] -> two masks [N, 1, 256, 256] in [0, 1], for coarse and for finer detail.

    What moves over an edge comes in at the other, as in the reference.
    """
    heat = torch.where(heat_maps < FAINT, 0.0, heat_maps)
    least, most = heat.amin((2, 3), keepdim=True), heat.amax((2, 3), keepdim=True)
    heat = (heat - least) / (most - least + EPSILON)
    moved = heat.clone()
    for first, end, up, power in PARTS:
        moved[:, first:end] = heat[:, first:end].roll(-up, 2) ** power
    moved[:, EYES] = heat[:, EYES].roll(8, 2) ** 3 + heat[:, EYES].roll(24, 2)
    moved[:, UNUSED] = 0
    coarse = moved.sum(1, keepdim=True).clamp(0, 1)
    moved[:, COARSE_ONLY] = 0
    return coarse, moved.sum(1, keepdim=True).clamp(0, 1)


class CoordinateConvolution(nn.Module):
    """A convolution that sees, beside its input, every pixel's row, column and distance from the middle."""

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs + 3, outputs, size, stride, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
        n, _, height, width = x.shape
        # In float32 as the reference has them, whatever the network is in.
        rows = torch.arange(height, dtype=torch.float32, device=x.device) / (height - 1) * 2 - 1
        columns = torch.arange(width, dtype=torch.float32, device=x.device) / (width - 1) * 2 - 1
        where = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
        distance = where.square().sum(0, keepdim=True).sqrt()
        where = torch.cat([where, distance / distance.max()]).to(x.dtype)
        result: Tensor = self.conv(torch.cat([x, where.expand(n, -1, -1, -1)], dim=1))
        return result


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions in a row, of a half and two quarters of the channels, side by side; and a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        widths = (inputs, outputs // 2, outputs // 4, outputs // 4)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(width) for width in widths[:3])
        self.conv1, self.conv2, self.conv3 = (
            nn.Conv2d(before, after, 3, padding=1, bias=False)
            for before, after in zip(widths[:3], widths[1:], strict=True)
        )
        narrow = nn.Conv2d(inputs, outputs, 1, bias=False)
        fits = inputs == outputs
        self.downsample = nn.Identity() if fits else nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), narrow)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H, W]."""
        first = self.conv1(F.relu(self.bn1(x)))
        second = self.conv2(F.relu(self.bn2(first)))
        third = self.conv3(F.relu(self.bn3(second)))
        result: Tensor = torch.cat([first, second, third], dim=1) + self.downsample(x)
        return result


class Hourglass(nn.Module):
    """Sees features at five sizes, each half of the one before, and adds them up. [N, C, H, W] -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coordconv = CoordinateConvolution(channels, channels, 1)
        names = [f"b{branch}_{level}" for level in range(LEVELS, 0, -1) for branch in (1, 2, 3)]
        for name in (*names, "b2_plus_1"):
            self.add_module(name, ResidualBlock(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self._from_level(LEVELS, self.coordconv(x))

    def _from_level(self, level: int, x: Tensor) -> Tensor:
        low = self._block(f"2_{level}", F.avg_pool2d(x, 2))
        low = self._from_level(level - 1, low) if level > 1 else self._block("2_plus_1", low)
        low = self._block(f"3_{level}", low)
        return self._block(f"1_{level}", x) + F.interpolate(low, scale_factor=2)

    def _block(self, name: str, x: Tensor) -> Tensor:
        result: Tensor = self.get_submodule(f"b{name}")(x)
        return result


class FaceAlignmentNetwork(nn.Module):
    """A picture -> heat maps of its face's landmarks, and masks of these. widths: channels at 128, 64 and 64 px."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        low, middle, high = widths
        self.conv1 = CoordinateConvolution(3, low, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(low)
        self.conv2 = ResidualBlock(low, middle)
        self.conv3 = ResidualBlock(middle, middle)
        self.conv4 = ResidualBlock(middle, high)
        self.m0 = Hourglass(high)
        self.top_m_0 = ResidualBlock(high, high)
        self.conv_last0 = nn.Conv2d(high, high, 1)
        self.bn_end0 = nn.BatchNorm2d(high)
        self.l0 = nn.Conv2d(high, LANDMARKS + 1, 1)  # the last one is the outline of all parts

    def heat_maps(self, images: Tensor) -> Tensor:
        """images: [N, 3, H, W] in [-1, 1] -> [N, 98, 64, 64], about 1 where a landmark is."""
        x = F.interpolate(images, size=SIDE, mode="bilinear") * 0.5 + 0.5
        x = self.conv2(F.relu(self.bn1(self.conv1(x))))
        x = self.conv4(self.conv3(F.avg_pool2d(x, 2)))
        x = self.conv_last0(self.top_m_0(self.m0(x)))
        heat: Tensor = self.l0(F.relu(self.bn_end0(x)))
        return heat[:, :LANDMARKS]

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images: [N, 3, H, W] in [-1, 1] -> two masks [N, 1, 256, 256], see `masks_of`."""
        heat = self.heat_maps(images)
        return masks_of(F.interpolate(heat, size=SIDE, mode="bilinear", align_corners=True))


def fan_from_shapes(state: Mapping[str, Tensor], *, device: torch.device | str | None = None) -> FaceAlignmentNetwork:
    """An untrained `FaceAlignmentNetwork` with the keys and shapes of a state dict. Raises ValueError."""
    what = "a face alignment network"
    low = shape_of(state, "conv1.conv.weight", what)[0]
    middle, high = (2 * shape_of(state, f"conv{i}.conv1.weight", what)[0] for i in (2, 4))
    with torch.device(device if device is not None else "cpu"):
        return FaceAlignmentNetwork((low, middle, high))
