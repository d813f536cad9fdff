"""BigGAN: generator and projection discriminator (Brock et al. 2019), under the names of ajbrock's PyTorch files.

Attribute names equal the checkpoint keys. Images are [N, C, H, W] in [-1, 1]. Frozen networks in evaluation mode
use the stored batch statistics and one power step from `u0` for every spectral norm; in training mode the batch's
own statistics count and `u0` moves.

Speed. Nothing is divided by a spectral norm pixel by pixel: ReLU commutes with positive factors, so a convolution's
1 / sigma joins the scale of the conditional batch norm before it. 1 x 1 shortcuts run before the pixels are
repeated, and repeating followed by a 3 x 3 convolution is one transposed convolution (see `derived`). Activations
stay channels-last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.networks.derived import (
    Derived,
    convolve,
    convolve_doubled,
    convolve_halved,
    count_keys,
    double,
    doubling_kernel,
    halve,
    halving_kernel,
    shape_of,
)

Resample = Literal["none", "up", "down"]

BOTTOM_WIDTH = 4  # side of the grid that the linear layer gives
NORM_EPSILON = 1e-12  # of the power iteration's unit vectors
MOMENTUM = 0.1  # of the stored batch statistics


# ---- spectral norm ---------------------------------------------------------------------------------------


class SpectralNorm(nn.Module):
    """A weight [out, ...] to be divided by sigma, an estimate of its largest singular value.

    One power step: v = normalize(u0 W), sigma = |W v|, with v a constant for the gradient. Miyato et al. 2018.
    `sv0` holds the last training step's sigma; nothing reads it.
    """

    u0: Tensor
    sv0: Tensor

    def __init__(self, *shape: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*shape))
        self.bias = nn.Parameter(torch.zeros(shape[0])) if bias else None
        self.register_buffer("u0", torch.ones(1, shape[0]) / math.sqrt(shape[0]))
        self.register_buffer("sv0", torch.ones(1))
        self._gain = Derived()
        nn.init.normal_(self.weight, std=0.02)

    def gain(self) -> Tensor:
        """1 / sigma, a scalar tensor. In training mode `u0` moves one power step."""
        if self.training:
            return self._power_step(move=True)
        return self._gain.get(lambda: self._power_step(move=False), self.weight, self.u0)

    def _power_step(self, *, move: bool) -> Tensor:
        # In bfloat16, which autocast would choose, sigma would be wrong by up to 1 %.
        with torch.autocast(self.weight.device.type, enabled=False):
            matrix = self.weight.flatten(1)
            with torch.no_grad():
                v = F.normalize(self.u0 @ matrix, dim=1, eps=NORM_EPSILON)
            image = matrix @ v[0]
            sigma = image.norm()
        if move:
            with torch.no_grad():
                self.u0.copy_(F.normalize(image[None], dim=1, eps=NORM_EPSILON))
                self.sv0.fill_(sigma)
        return 1 / sigma


class Convolution(SpectralNorm):
    """A spectrally normalised convolution of odd kernel size, zeros around."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, bias: bool = True) -> None:
        super().__init__(out_channels, in_channels, kernel_size, kernel_size, bias=bias)
        self._kept = Derived()

    def forward(self, x: Tensor, resample: Resample = "none") -> Tensor:
        """[N, in, H, W] -> [N, out, H', W'].

        "up" repeats the pixels first, "down" takes the means over 2 x 2 pixels afterwards (both 3 x 3 only; a
        convolution always resamples the same way).
        """
        gain = self.gain()
        return self._resampled(x, lambda: self.weight * gain, resample, self.weight, self.u0)

    def convolve(self, scaled: Tensor, resample: Resample = "none") -> Tensor:
        """The same for an input that was multiplied by `gain()` already."""
        return self._resampled(scaled, lambda: self.weight, resample, self.weight)

    def _resampled(self, x: Tensor, weight: Callable[[], Tensor], resample: Resample, *sources: Tensor) -> Tensor:
        if resample == "up":
            return convolve_doubled(x, self._kept.get(lambda: doubling_kernel(weight()), *sources), self.bias)
        if resample == "down":
            return convolve_halved(x, self._kept.get(lambda: halving_kernel(weight()), *sources), self.bias)
        return convolve(x, weight(), self.bias)


class Linear(SpectralNorm):
    """[N, in] -> [N, out]."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__(out_features, in_features, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x * self.gain(), self.weight, self.bias)


class Embedding(SpectralNorm):
    """Class indices [N] or class weights [N, classes] -> [N, features]."""

    def __init__(self, classes: int, features: int) -> None:
        super().__init__(classes, features, bias=False)

    def forward(self, classes: Tensor) -> Tensor:
        return embed(self.weight, classes) * self.gain()


def embed(table: Tensor, classes: Tensor) -> Tensor:
    """Rows of table [classes, features] by index [N], or their mixture by weights [N, classes]."""
    return classes @ table if classes.is_floating_point() else table[classes]


# ---- generator -------------------------------------------------------------------------------------------


class ClassTable(nn.Embedding):
    """Class weights [N, classes] -> [N, features]: a row for each class, without a spectral norm."""

    def forward(self, classes: Tensor) -> Tensor:
        return embed(self.weight, classes)


class BatchNorm(nn.Module):
    """Batch norm with a scale 1 + gain(y) and an offset bias(y), linear in the condition y.

    is_shared: whether y is an embedding that all layers share; otherwise it is the weights of the classes.
    """

    stored_mean: Tensor
    stored_var: Tensor

    def __init__(self, channels: int, condition_dim: int, eps: float, *, is_shared: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.gain: Any = _condition(condition_dim, channels, is_shared)
        self.bias: Any = _condition(condition_dim, channels, is_shared)
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def forward(self, x: Tensor, y: Tensor, gain: Tensor) -> Tensor:
        """relu(norm(x)) * gain; x: [N, C, H, W], y: [N, condition_dim], gain: a positive scalar tensor."""
        return normalised_relu(self, x, (1 + self.gain(y)) * gain, self.bias(y) * gain)


def _condition(condition_dim: int, channels: int, is_shared: bool) -> nn.Module:
    return Linear(condition_dim, channels, bias=False) if is_shared else ClassTable(condition_dim, channels)


class OutputBatchNorm(nn.Module):
    """Batch norm with a scale and an offset of its own."""

    stored_mean: Tensor
    stored_var: Tensor

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        """relu(norm(x)) * gain, as `BatchNorm`."""
        return normalised_relu(self, x, (self.gain * gain)[None], (self.bias * gain)[None])


def normalised_relu(norm: BatchNorm | OutputBatchNorm, x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """relu(scale * (x - mean) / sqrt(var + eps) + offset); scale, offset: [N or 1, C]."""
    if norm.training:
        x = F.batch_norm(x, norm.stored_mean, norm.stored_var, None, None, True, MOMENTUM, norm.eps)
    else:
        scale = scale * (norm.stored_var + norm.eps).rsqrt()
        offset = offset - norm.stored_mean * scale
    return torch.addcmul(offset[:, :, None, None], x, scale[:, :, None, None]).relu_()


class Attention(nn.Module):
    """x + gamma * o(softmax(theta(x)^T phi(x)) g(x)), phi and g at half the side. Zhang et al. 2019."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta = Convolution(channels, channels // 8, 1, bias=False)
        self.phi = Convolution(channels, channels // 8, 1, bias=False)
        self.g = Convolution(channels, channels // 2, 1, bias=False)
        self.o = Convolution(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        return x + self.gamma * self.o(attend(self.theta(x), self.phi(x), self.g(x)))


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Every pixel's mixture of the values, key and value halved by maxima first.

    query, key: [N, K, H, W], value: [N, V, H, W] -> [N, V, H, W].
    """
    keys, values = F.max_pool2d(key, 2).flatten(2), F.max_pool2d(value, 2).flatten(2)
    weights = (query.flatten(2).transpose(1, 2) @ keys).softmax(-1)  # [N, HW, HW / 4]
    mixed = weights @ values.transpose(1, 2)  # [N, HW, V]
    return mixed.transpose(1, 2).unflatten(2, query.shape[2:])


class GeneratorBlock(nn.Module):
    """Two 3 x 3 convolutions at twice the side, and a 1 x 1 shortcut."""

    def __init__(
        self, in_channels: int, out_channels: int, condition_dim: int, bn_eps: float, *, is_shared: bool = True
    ) -> None:
        super().__init__()
        self.conv1 = Convolution(in_channels, out_channels, 3)
        self.conv2 = Convolution(out_channels, out_channels, 3)
        self.conv_sc = Convolution(in_channels, out_channels, 1)
        self.bn1 = BatchNorm(in_channels, condition_dim, bn_eps, is_shared=is_shared)
        self.bn2 = BatchNorm(out_channels, condition_dim, bn_eps, is_shared=is_shared)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x: [N, in, H, W], y: [N, condition_dim] -> [N, out, 2H, 2W]."""
        h = self.conv1.convolve(self.bn1(x, y, self.conv1.gain()), "up")
        h = self.conv2.convolve(self.bn2(h, y, self.conv2.gain()))
        return h + double(self.conv_sc(x))


class Generator(nn.Module):
    """(z, class) -> images. Every block doubles the side, from 4 on.

    channels: (in, out) of each block; attention: the blocks followed by it. Hierarchical generators cut z into
    equal chunks, one for the linear layer and one for each block's condition; others give all of z to the first.
    shared_dim: of the embedding that all layers share; 0 where each has one of its own (without G_shared).
    """

    def __init__(
        self,
        dim_z: int,
        n_classes: int,
        shared_dim: int,
        *,
        channels: Sequence[tuple[int, int]],
        attention: Collection[int] = (),
        hierarchical: bool = True,
        img_channels: int = 3,
        bn_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        slots = len(channels) + 1
        if hierarchical and not shared_dim:
            raise ValueError("generators with an embedding for each layer give all of z to the first layer")
        if hierarchical and dim_z % slots:
            raise ValueError(f"dim_z must be a multiple of {slots}, one chunk for each of them; got {dim_z}")
        self.dim_z, self.n_classes, self.shared_dim = dim_z, n_classes, shared_dim
        self.img_channels = img_channels
        self.img_resolution = BOTTOM_WIDTH * 2 ** len(channels)
        self.chunk = dim_z // slots if hierarchical else 0
        if shared_dim:
            self.shared = nn.Embedding(n_classes, shared_dim)
            nn.init.normal_(self.shared.weight, std=0.02)
        condition_dim = shared_dim + self.chunk if shared_dim else n_classes
        self.linear = Linear(self.chunk or dim_z, channels[0][0] * BOTTOM_WIDTH**2)
        self.blocks = nn.ModuleList()
        for i, (before, after) in enumerate(channels):
            block = GeneratorBlock(before, after, condition_dim, bn_eps, is_shared=shared_dim > 0)
            stage = nn.ModuleList([block])
            if i in attention:
                stage.append(Attention(after))
            self.blocks.append(stage)
        last = channels[-1][1]
        self.output_layer = nn.ModuleList(
            [OutputBatchNorm(last, bn_eps), nn.ReLU(), Convolution(last, img_channels, 3)]
        )

    def embed_classes(self, classes: Tensor) -> Tensor:
        """Class indices [N] or class weights [N, n_classes] -> the condition y [N, shared_dim], or such weights."""
        if self.shared_dim:
            return embed(self.shared.weight, classes)
        is_mixed = classes.is_floating_point()
        return classes if is_mixed else F.one_hot(classes, self.n_classes).to(self.linear.weight.dtype)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z: [N, dim_z], y: [N, shared_dim] of `embed_classes` -> images [N, img_channels, H, W] in [-1, 1]."""
        if z.ndim != 2 or z.shape[1] != self.dim_z:
            raise ValueError(f"expected z of shape [N, {self.dim_z}], got {list(z.shape)}")
        first, *rest = z.split(self.chunk, dim=1) if self.chunk else [z]
        conditions = [torch.cat([y, part], dim=1) for part in rest] if self.chunk else [y] * len(self.blocks)
        x = self.linear(first).unflatten(1, (-1, BOTTOM_WIDTH, BOTTOM_WIDTH))
        x = x.contiguous(memory_format=torch.channels_last)
        for stage, condition in zip(self.blocks, conditions, strict=True):
            assert isinstance(stage, nn.ModuleList)
            x = stage[0](x, condition)
            for attention in stage[1:]:
                x = attention(x)
        norm, convolution = self.output_layer[0], self.output_layer[2]
        assert isinstance(convolution, Convolution)
        return convolution.convolve(norm(x, convolution.gain())).tanh()


# ---- discriminator ---------------------------------------------------------------------------------------


class DiscriminatorBlock(nn.Module):
    """Two 3 x 3 convolutions, means over 2 x 2 pixels if `down`, and a shortcut."""

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, *, is_first: bool, down: bool, shortcut: bool
    ) -> None:
        super().__init__()
        self.is_first, self.down = is_first, down
        self.conv1 = Convolution(in_channels, hidden_channels, 3)
        self.conv2 = Convolution(hidden_channels, out_channels, 3)
        self.conv_sc = Convolution(in_channels, out_channels, 1) if shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H, W] or, if `down`, half the sides."""
        # Means and a 1 x 1 convolution commute, so the shortcut shrinks first. Only the first block gets pixels.
        rest = halve(x) if self.down else x
        rest = rest if self.conv_sc is None else self.conv_sc(rest)
        h = self.conv1(x if self.is_first else x.relu())
        return self.conv2(h.relu_(), "down" if self.down else "none") + rest


class Discriminator(nn.Module):
    """images -> a logit (positive: real), linear in the features plus their projection on the class.

    channels: (in, hidden, out) of each block; down: the blocks that halve the side; shortcut: those with a 1 x 1
    convolution beside; attention: the blocks followed by it.
    """

    def __init__(
        self,
        n_classes: int,
        *,
        channels: Sequence[tuple[int, int, int]],
        down: Sequence[bool],
        shortcut: Sequence[bool] | None = None,
        attention: Collection[int] = (),
    ) -> None:
        super().__init__()
        if len(down) != len(channels):
            raise ValueError(f"down must say yes or no for each of {len(channels)} blocks, got {len(down)} entries")
        self.n_classes = n_classes
        self.img_channels = channels[0][0]
        self.blocks = nn.ModuleList()
        for i, (before, hidden, after) in enumerate(channels):
            beside = (down[i] or before != after) if shortcut is None else shortcut[i]
            block = DiscriminatorBlock(before, hidden, after, is_first=i == 0, down=down[i], shortcut=beside)
            self.blocks.append(nn.ModuleList([block, Attention(after)] if i in attention else [block]))
        last = channels[-1][2]
        self.linear = Linear(last, 1)
        self.embed = Embedding(n_classes, last)

    def features(self, images: Tensor) -> Tensor:
        """The penultimate layer: images [N, img_channels, H, W] in [-1, 1] -> [N, C]."""
        if images.ndim != 4 or images.shape[1] != self.img_channels:
            raise ValueError(f"expected images of shape [N, {self.img_channels}, H, W], got {list(images.shape)}")
        x = images.contiguous(memory_format=torch.channels_last)
        for stage in self.blocks:
            assert isinstance(stage, nn.ModuleList)
            for layer in stage:
                x = layer(x)
        return x.relu().sum(dim=(2, 3))

    def forward(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """images: [N, img_channels, H, W], classes: indices [N] or weights [N, n_classes] -> logits [N, 1].

        Without classes, log mean_y exp(logit of class y): a picture is as real as its class makes it.
        """
        h = self.features(images)
        logits: Tensor = self.linear(h)
        if classes is not None:
            return logits + (self.embed(classes) * h).sum(1, keepdim=True)
        by_class = h @ self.embed.weight.t() * self.embed.gain()
        return logits + by_class.logsumexp(1, keepdim=True) - math.log(self.n_classes)


@torch.no_grad()
def draw_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Draw the initial weights of training anew, in place: orthogonal matrices, biases 0, random u0."""
    for module in network.modules():
        if isinstance(module, SpectralNorm):
            module.u0.copy_(F.normalize(torch.randn(module.u0.shape, generator=generator), dim=1))
        if isinstance(module, SpectralNorm | nn.Embedding):
            nn.init.orthogonal_(module.weight, generator=generator)


# ---- building from a state dict --------------------------------------------------------------------------

_GENERATOR = "a BigGAN generator under ajbrock's names"
_DISCRIMINATOR = "a BigGAN discriminator under ajbrock's names"


def generator_from_shapes(
    state: Mapping[str, Tensor], *, bn_eps: float = 1e-5, device: torch.device | str | None = None
) -> Generator:
    """An untrained `Generator` with the keys and shapes of a state dict; nothing is allocated on "meta".

    Shapes cannot tell bn_eps; ports of the TensorFlow weights need 1e-4. Raises ValueError where a key is missing.
    """
    norm = "blocks.0.0.bn1.gain.weight"
    is_shared = "shared.weight" in state or norm.replace("weight", "u0") in state
    n_classes, shared_dim = (
        shape_of(state, "shared.weight", _GENERATOR) if is_shared else (shape_of(state, norm, _GENERATOR)[0], 0)
    )
    blocks = count_keys(state, "blocks.{}.0.conv1.weight")
    channels = [_in_and_out(state, f"blocks.{i}.0.conv1.weight", _GENERATOR) for i in range(max(blocks, 1))]
    condition_dim = shape_of(state, norm, _GENERATOR)[1]
    first = shape_of(state, "linear.weight", _GENERATOR)[1]
    hierarchical = is_shared and condition_dim > shared_dim
    with torch.device(device if device is not None else "cpu"):
        return Generator(
            first * (blocks + 1) if hierarchical else first,
            n_classes,
            shared_dim,
            channels=channels,
            attention=[i for i in range(blocks) if f"blocks.{i}.1.gamma" in state],
            hierarchical=hierarchical,
            img_channels=shape_of(state, "output_layer.2.weight", _GENERATOR)[0],
            bn_eps=bn_eps,
        )


def discriminator_from_shapes(
    state: Mapping[str, Tensor], *, down: Sequence[bool] | None = None, device: torch.device | str | None = None
) -> Discriminator:
    """An untrained `Discriminator` with the keys and shapes of a state dict.

    Shapes cannot tell which blocks halve the side; in the published ones those with a `conv_sc` do.
    """
    blocks = count_keys(state, "blocks.{}.0.conv1.weight")
    channels = []
    for i in range(max(blocks, 1)):
        before, hidden = _in_and_out(state, f"blocks.{i}.0.conv1.weight", _DISCRIMINATOR)
        channels.append((before, hidden, shape_of(state, f"blocks.{i}.0.conv2.weight", _DISCRIMINATOR)[0]))
    shortcut = [f"blocks.{i}.0.conv_sc.weight" in state for i in range(blocks)]
    with torch.device(device if device is not None else "cpu"):
        return Discriminator(
            shape_of(state, "embed.weight", _DISCRIMINATOR)[0],
            channels=channels,
            down=shortcut if down is None else down,
            shortcut=shortcut,
            attention=[i for i in range(blocks) if f"blocks.{i}.1.gamma" in state],
        )


def _in_and_out(state: Mapping[str, Tensor], key: str, what: str) -> tuple[int, int]:
    after, before = shape_of(state, key, what)[:2]
    return before, after
