"""StyleGAN2 synthesis in the textbook way, kept only to compare speed with `engine.networks.stylegan2`.

Every sample gets its own convolution weights, as the paper writes them (Karras et al. 2020, Eqs. 1 and 3),
and a grouped convolution applies them. The weights are those of a
`engine.networks.stylegan2.SynthesisNetwork` of the "skip" architecture, so both compute the same images.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.networks.stylegan2 import SynthesisBlock, SynthesisLayer, SynthesisNetwork, ToRGB


def synthesize(network: SynthesisNetwork, ws: Tensor) -> Tensor:
    """ws: [N, num_ws, w_dim] -> images: [N, C, H, W], nominally in [-1, 1], with the constant noise.

    Equals `network(ws)`. Raises ValueError where the architecture of `network` is not "skip".
    """
    image = torch.empty(0)
    x = torch.empty(0)
    first = 0
    for resolution in network.block_resolutions:
        block = network.get_submodule(f"b{resolution}")
        if not isinstance(block, SynthesisBlock) or block.architecture != "skip":
            raise ValueError('the plain synthesis knows only the "skip" architecture')
        if block.is_first:
            x = block.const.expand(ws.shape[0], -1, -1, -1)
        else:
            x = _synthesis_layer(block.conv0, x, ws[:, first])
        x = _synthesis_layer(block.conv1, x, ws[:, first + block.num_conv - 1])
        color = _to_rgb(block.torgb, x, ws[:, first + block.num_conv])
        image = color if block.is_first else _upsample(image, block.resample_filter) + color
        first += block.num_conv
    return image


def _synthesis_layer(layer: SynthesisLayer, x: Tensor, w: Tensor) -> Tensor:
    weights = layer.weight * layer.affine(w)[:, None, :, None, None]  # [N, out, in, 3, 3]
    weights = weights * (weights.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    y = _convolve_per_sample(x, weights, up=layer.up)
    if layer.up:
        kernel = layer.resample_filter.flip(0, 1) * 4.0
        channels = y.shape[1]
        y = F.conv2d(y, kernel.expand(channels, 1, -1, -1), padding=1, groups=channels)
    y = y + layer.noise_const * layer.noise_strength + layer.bias[:, None, None]
    y = F.leaky_relu(y, 0.2) * math.sqrt(2.0)
    return y if layer.conv_clamp is None else y.clamp(-layer.conv_clamp, layer.conv_clamp)


def _to_rgb(layer: ToRGB, x: Tensor, w: Tensor) -> Tensor:
    styles = layer.affine(w) / math.sqrt(x.shape[1])
    weights = layer.weight * styles[:, None, :, None, None]
    y = _convolve_per_sample(x, weights, up=False) + layer.bias[:, None, None]
    return y if layer.conv_clamp is None else y.clamp(-layer.conv_clamp, layer.conv_clamp)


def _convolve_per_sample(x: Tensor, weights: Tensor, *, up: bool) -> Tensor:
    """One group per sample. x: [N, in, H, W], weights: [N, out, in, k, k]; up: transposed with stride 2."""
    n, out, channels, size, _ = weights.shape
    grouped = x.reshape(1, n * channels, *x.shape[2:])
    if up:
        kernels = weights.transpose(1, 2).reshape(n * channels, out, size, size)
        y = F.conv_transpose2d(grouped, kernels, stride=2, groups=n)
    else:
        y = F.conv2d(grouped, weights.reshape(n * out, channels, size, size), padding=size // 2, groups=n)
    return y.reshape(n, out, *y.shape[2:])


def _upsample(image: Tensor, kernel: Tensor) -> Tensor:
    channels = image.shape[1]
    weight = (kernel * 4.0).expand(channels, 1, -1, -1)
    return F.conv_transpose2d(image, weight, stride=2, padding=1, groups=channels)
