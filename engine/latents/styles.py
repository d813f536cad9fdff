"""StyleGAN2 driven by its styles: the space S of Wu et al. 2020 (StyleSpace), one number per channel of every layer.

The styles s = affine(w) of all layers, in order, are one vector [S]. With the pictures' noise they say all of
a picture, whatever it came from: W, W+, or an edit of single channels, which no w makes.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from engine.networks.colours import as_colours
from engine.networks.stylegan2 import SynthesisNetwork, ToRGB

Module = TypeVar("Module", bound=nn.Module)
Noise = Mapping[str, Tensor]  # by layer, [resolution, resolution] each


class StyleLayer(NamedTuple):
    """One modulated layer: its name, which of the ws it reads, of which size it draws, its place in the styles."""

    name: str
    layer: int
    resolution: int
    channels: slice
    is_rgb: bool


def style_layers(synthesis: SynthesisNetwork) -> tuple[StyleLayer, ...]:
    """The modulated layers in the order in which they run."""
    layers, start = [], 0
    for name, layer, resolution in _names(synthesis):
        module = _layer(synthesis, name)
        stop = start + len(module.affine.bias)
        layers.append(StyleLayer(name, layer, resolution, slice(start, stop), isinstance(module, ToRGB)))
        start = stop
    return tuple(layers)


def _names(synthesis: SynthesisNetwork) -> Iterator[tuple[str, int, int]]:
    """Each block starts at the w that the torgb before it read."""
    for i, resolution in enumerate(synthesis.block_resolutions):
        block, first = f"b{resolution}", max(0, 2 * i - 1)
        convolutions = ("conv1",) if i == 0 else ("conv0", "conv1")
        for offset, name in enumerate(convolutions):
            yield f"{block}.{name}", first + offset, resolution
        if synthesis.get_submodule(block).has_rgb:
            yield f"{block}.torgb", first + len(convolutions), resolution


class StyledSynthesis:
    """A synthesis network as a function of its styles [N, S], and of other noise than its own if given.

    It shares the weights of the network that it was made from, and leaves that one as it is.
    """

    def __init__(self, synthesis: SynthesisNetwork, noise: Noise | None = None) -> None:
        self.layers = style_layers(synthesis)
        self.size = self.layers[-1].channels.stop
        self._affines = [_layer(synthesis, layer.name).affine for layer in self.layers]
        self._network = _share(synthesis)
        self._network.w_dim = self.size  # each layer picks its own part out of what used to be w
        for layer in self.layers:
            _layer(self._network, layer.name).affine = _Part(layer.channels)
        for name, values in (noise or {}).items():
            _layer(self._network, name).noise_const = values

    @property
    def editable(self) -> Tensor:
        """Which channels StyleCLIP edits: all but those of ToRGB, bool [S]."""
        return self._channels(layer for layer in self.layers if not layer.is_rgb)

    def of_draft(self, resolution: int) -> Tensor:
        """Which channels a draft of so many pixels depends on, bool [S]."""
        return self._channels(layer for layer in self.layers if layer.resolution <= resolution)

    def _channels(self, layers: Iterable[StyleLayer]) -> Tensor:
        result = torch.zeros(self.size, dtype=torch.bool)
        for layer in layers:
            result[layer.channels] = True
        return result

    def styles(self, ws: Tensor) -> Tensor:
        """ws: [N, L, w_dim] -> styles [N, S]."""
        parts = [affine(ws[:, layer.layer]) for layer, affine in zip(self.layers, self._affines, strict=True)]
        return torch.cat(parts, dim=1)

    def __call__(self, styles: Tensor, resolution: int | None = None) -> Tensor:
        """Styles [N, S] -> images [N, 3, H, W], nominally in [-1, 1]; of `resolution` px, a draft. Differentiable."""
        ws = styles[:, None].expand(-1, self._network.num_ws, -1)
        return as_colours(self._network(ws, resolution=resolution))


def noisy_layers(synthesis: SynthesisNetwork) -> dict[str, Tensor]:
    """The constant noise [resolution, resolution] of every layer whose pictures depend on it."""
    layers = {layer.name: _layer(synthesis, layer.name) for layer in style_layers(synthesis) if not layer.is_rgb}
    return {name: layer.noise_const for name, layer in layers.items() if layer.noise_strength != 0}


def _layer(synthesis: SynthesisNetwork, name: str) -> Any:
    """A SynthesisLayer or ToRGB by its name."""
    return synthesis.get_submodule(name)


class _Part(nn.Module):
    """A slice of the last dimension."""

    def __init__(self, part: slice) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.part]


def _share(module: Module) -> Module:
    """A copy of the tree of modules around the same tensors."""
    clone = copy.copy(module)
    clone._parameters, clone._buffers = dict(module._parameters), dict(module._buffers)
    clone._modules = {name: child and _share(child) for name, child in module._modules.items()}
    return clone
