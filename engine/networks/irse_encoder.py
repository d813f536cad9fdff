"""Encoders of StyleGAN2 around an IR-SE-50: pSp (Richardson et al. 2021) and e4e (Tov et al. 2021).

Attribute names equal the keys of their checkpoints. The body, IR-SE-50, is a residual network of 24 units in four
stages of 3, 4, 14 and 3, each of which halves the picture, with squeezing and excitation (Hu et al. 2018). What follows
it differs:

- feature pyramid: the results of stages 2 to 4 are brought together from coarse to fine, and one head for each layer of
  the generator reads the coarsest (layers 0 to 2), the middle (3 to 6) or the finest map (from 7). In pSp each head
  gives its layer's w; in e4e, the first gives that of all layers, and the others what theirs differs by.
- last layer: the mean of the last map makes one w, or a 7 x 7 grid of it one for each layer.

What comes out is relative to `latent_avg`, the mean w, where the file says so. N pictures, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.networks.derived import count_keys, shape_of
from engine.networks.stylegan2 import FullyConnected

UNITS = (3, 4, 14, 3)  # of each stage; the first unit of a stage halves the picture
REDUCTION = 2 ** len(UNITS)
COARSE_HEADS, MIDDLE_HEADS = 3, 4  # so many layers of the generator are read from those maps, the rest from the finest
USUAL_SIDE = 256  # pixels of the pictures that encoders are trained on, where no shape tells
GRID = 7  # of the encoder to a w for each layer without a pyramid


class SqueezeExcitation(nn.Module):
    """x * sigmoid(fc2(relu(fc1(mean of each channel))))."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1, bias=False)
        self.fc2 = nn.Conv2d(squeezed, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True)))))


class Unit(nn.Module):
    """norm, 3 x 3 convolution, PReLU, 3 x 3 convolution with the stride, norm, excitation; plus the shortcut.

    Where the channels stay as many as they are, the shortcut is every stride-th pixel, else a 1 x 1 convolution.
    """

    def __init__(self, in_channels: int, channels: int, squeezed: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            SqueezeExcitation(channels, squeezed),
        )
        if in_channels != channels:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H / stride, W / stride]."""
        has_layer = hasattr(self, "shortcut_layer")
        shortcut = self.shortcut_layer(x) if has_layer else x[:, :, :: self.stride, :: self.stride]
        result: Tensor = self.res_layer(x) + shortcut
        return result


class Head(nn.Module):
    """3 x 3 convolutions of stride 2 with leaky ReLU down to one pixel, then a fully connected layer."""

    def __init__(self, in_channels: int, channels: int, halvings: int, features: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(halvings):
            layers += [nn.Conv2d(channels if i else in_channels, channels, 3, 2, padding=1), nn.LeakyReLU()]
        self.convs = nn.Sequential(*layers)
        self.linear = FullyConnected(channels, features)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, 2^halvings, 2^halvings] -> [N, features]."""
        result: Tensor = self.linear(self.convs(x).flatten(1))
        return result


class Backbone(nn.Module):
    """The body that all encoders here share. `state` tells the widths; its weights are not read.

    input_side: pixels of the pictures that it was trained on; num_ws: how many w it gives, 1 for one for all layers;
    is_wide: whether it looks at the middle three quarters of the height alone, as e4e's encoder of cars does, whose
    generator draws bars above and below.
    """

    latent_avg: Tensor
    input_side: int = USUAL_SIDE
    num_ws: int = 1
    w_dim: int
    is_wide: bool = False

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        width, self.in_channels = _shape(state, "input_layer.0.weight")[:2]
        self.input_layer = nn.Sequential(
            nn.Conv2d(self.in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)
        )
        self.body = nn.Sequential(*_units(state))
        if "latent_avg" in state:
            self.register_buffer("latent_avg", torch.zeros(_shape(state, "latent_avg")))

    def stages(self, images: Tensor) -> list[Tensor]:
        """images [N, 3, S, S] to what each stage gives: [N, widths[i], S / 2^(i + 1), S / 2^(i + 1)]."""
        if self.is_wide:
            bar = images.shape[2] // 8
            images = images[:, :, bar : images.shape[2] - bar]
        x, results, done = self.input_layer(images), [], 0
        for count in UNITS:
            for unit in self.body[done : done + count]:
                x = unit(x)
            results.append(x)
            done += count
        return results

    def around_average(self, offsets: Tensor) -> Tensor:
        """Offsets [N, L or 1, w_dim], plus the average where there is one: ws [N, L, w_dim], or w [N, w_dim]."""
        ws = offsets + self.latent_avg if hasattr(self, "latent_avg") else offsets
        return ws[:, 0] if ws.shape[1] == 1 else ws


class PyramidEncoder(Backbone):
    """images [N, 3, S, S] in [-1, 1] -> ws [N, L, w_dim].

    progressive: as in e4e, all heads but the first give differences to what the first one gives.
    """

    def __init__(self, state: Mapping[str, Tensor], *, progressive: bool) -> None:
        super().__init__(state)
        self.progressive = progressive
        self.num_ws = count_keys(state, "styles.{}.linear.weight")
        heads = [_head(state, i) for i in range(self.num_ws)]
        first = len(heads[0].convs) // 2
        for i, head in enumerate(heads):
            if len(head.convs) // 2 != first + _level(i):
                raise ValueError(f"head {i} halves {len(head.convs) // 2} times, expected {first + _level(i)}")
        self.styles = nn.ModuleList(heads)
        self.input_side = REDUCTION * 2**first
        self.w_dim = len(heads[0].linear.bias)
        for name in ("latlayer1", "latlayer2"):
            features, channels = _shape(state, f"{name}.weight")[:2]
            self.add_module(name, nn.Conv2d(channels, features, 1))

    def forward(self, images: Tensor) -> Tensor:
        _, fine, middle, coarse = self.stages(images)
        pyramid = [coarse]
        pyramid.append(_enlarged(coarse, self.get_submodule("latlayer1")(middle)))
        pyramid.append(_enlarged(pyramid[1], self.get_submodule("latlayer2")(fine)))
        offsets = torch.stack([head(pyramid[_level(i)]) for i, head in enumerate(self.styles)], dim=1)
        if self.progressive:
            offsets = torch.cat([offsets[:, :1], offsets[:, :1] + offsets[:, 1:]], dim=1)
        return self.around_average(offsets)


class MeanEncoder(Backbone):
    """images [N, 3, S, S] in [-1, 1] -> w [N, w_dim], from the mean of the last map."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__(state)
        self.w_dim, channels = _shape(state, "linear.weight")
        self.linear = FullyConnected(channels, self.w_dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.around_average(self.linear(self.stages(images)[-1].mean(dim=(2, 3)))[:, None])


class GridEncoder(Backbone):
    """images [N, 3, S, S] in [-1, 1] -> ws [N, L, w_dim], from means over a 7 x 7 grid of the last map."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__(state)
        hidden, flat = _shape(state, "output_layer_2.3.weight")
        channels = _shape(state, "output_layer_2.0.weight")[0]
        self.w_dim = _shape(state, "latent_avg")[-1] if "latent_avg" in state else hidden
        features, _ = _shape(state, "linear.weight")
        if flat != channels * GRID**2 or features % self.w_dim:
            raise ValueError("its last layers do not fit each other")
        self.num_ws = features // self.w_dim
        self.output_layer_2 = nn.Sequential(
            nn.BatchNorm2d(channels), nn.AdaptiveAvgPool2d(GRID), nn.Flatten(), nn.Linear(flat, hidden)
        )
        self.linear = FullyConnected(hidden, features)

    def forward(self, images: Tensor) -> Tensor:
        offsets = self.linear(self.output_layer_2(self.stages(images)[-1]))
        return self.around_average(offsets.unflatten(1, (self.num_ws, self.w_dim)))


def encoder_from_shapes(
    state: Mapping[str, Tensor],
    *,
    progressive: bool = True,
    is_wide: bool = False,
    device: torch.device | str | None = None,
) -> Backbone:
    """An untrained encoder with the keys and shapes of the `encoder.` part of a pSp or e4e file.

    What shapes cannot tell is an argument: progressive, see `PyramidEncoder`; is_wide, see `Backbone`. With
    device="meta" nothing is allocated. Raises ValueError for a state dict of no such encoder.
    """
    with torch.device(device if device is not None else "cpu"):
        if "latlayer1.weight" in state:
            network: Backbone = PyramidEncoder(state, progressive=progressive)
        elif "output_layer_2.3.weight" in state:
            network = GridEncoder(state)
        else:
            network = MeanEncoder(state)
    network.is_wide = is_wide
    return network


def _level(head: int) -> int:
    """Which map of the pyramid a head reads: 0, the coarsest, to 2."""
    return (head >= COARSE_HEADS) + (head >= COARSE_HEADS + MIDDLE_HEADS)


def _enlarged(coarse: Tensor, fine: Tensor) -> Tensor:
    """The coarse map at the size of the fine one, linear between its corner pixels, plus the fine one."""
    return F.interpolate(coarse, fine.shape[2:], mode="bilinear", align_corners=True) + fine


def _units(state: Mapping[str, Tensor]) -> list[Unit]:
    count = count_keys(state, "body.{}.res_layer.1.weight")
    if count != sum(UNITS):
        raise ValueError(f"its body has {count} units, an IR-SE-50 has {sum(UNITS)}")
    starts = {sum(UNITS[:i]) for i in range(len(UNITS))}
    units = []
    for i in range(count):
        channels, in_channels = _shape(state, f"body.{i}.res_layer.1.weight")[:2]
        squeezed = _shape(state, f"body.{i}.res_layer.5.fc1.weight")[0]
        units.append(Unit(in_channels, channels, squeezed, 2 if i in starts else 1))
    return units


def _head(state: Mapping[str, Tensor], i: int) -> Head:
    halvings = 0
    while f"styles.{i}.convs.{2 * halvings}.weight" in state:
        halvings += 1
    channels, in_channels = _shape(state, f"styles.{i}.convs.0.weight")[:2]
    return Head(in_channels, channels, halvings, _shape(state, f"styles.{i}.linear.weight")[0])


def _shape(state: Mapping[str, Tensor], key: str) -> list[int]:
    return shape_of(state, key, "an encoder of pSp or e4e")
