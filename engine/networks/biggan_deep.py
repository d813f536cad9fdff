"""BigGAN-deep, the generator (Brock et al. 2019), under the names of the Hugging Face port of DeepMind's weights.

Attribute names equal the checkpoint keys; no discriminator was ever released. Images are [N, 3, H, W] in [-1, 1].
The file's batch statistics exist once per truncation, and its spectral norms are fixed: sigma = u^T W v with the
stored u and v.

Speed, as in `biggan`: 1 / sigma of a convolution joins the batch norm before it, repeated pixels under a 3 x 3
convolution are one transposed convolution, activations stay channels-last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.networks.biggan import BOTTOM_WIDTH, attend
from engine.networks.derived import Derived, convolve, convolve_doubled, count_keys, double, doubling_kernel, shape_of

EPSILON = 1e-4
REDUCTION = 4  # a block's inner channels are its input channels divided by this


class SpectralNorm(nn.Module):
    """A weight [out, ...] to be divided by sigma = u^T W v, with u and v as stored."""

    weight_u: Tensor
    weight_v: Tensor

    def __init__(self, *shape: int, bias: bool = True) -> None:
        super().__init__()
        self.weight_orig = nn.Parameter(torch.empty(*shape))
        self.bias = nn.Parameter(torch.zeros(shape[0])) if bias else None
        fan_in = math.prod(shape[1:])
        self.register_buffer("weight_u", torch.ones(shape[0]) / math.sqrt(shape[0]))
        self.register_buffer("weight_v", torch.ones(fan_in) / math.sqrt(fan_in))
        self._gain = Derived()
        nn.init.normal_(self.weight_orig, std=0.02)

    def gain(self) -> Tensor:
        """1 / sigma, a scalar tensor."""
        sources = (self.weight_orig, self.weight_u, self.weight_v)
        return self._gain.get(lambda: 1 / (self.weight_u @ (self.weight_orig.flatten(1) @ self.weight_v)), *sources)

    @torch.no_grad()
    def settle(self, steps: int = 3) -> None:
        """Power steps until u and v fit the weight: for weights that were drawn, not loaded."""
        matrix = self.weight_orig.flatten(1)
        for _ in range(steps):
            self.weight_v.copy_(F.normalize(self.weight_u @ matrix, dim=0))
            self.weight_u.copy_(F.normalize(matrix @ self.weight_v, dim=0))


class Convolution(SpectralNorm):
    """A spectrally normalised convolution of odd kernel size, zeros around."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, bias: bool = True) -> None:
        super().__init__(out_channels, in_channels, kernel_size, kernel_size, bias=bias)
        self._doubling = Derived()

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H, W]."""
        return convolve(x, self.weight_orig * self.gain(), self.bias)

    def convolve(self, scaled: Tensor, *, up: bool = False) -> Tensor:
        """For an input that was multiplied by `gain()` already; with `up` its pixels are repeated first."""
        if up:
            kernel = self._doubling.get(lambda: doubling_kernel(self.weight_orig), self.weight_orig)
            return convolve_doubled(scaled, kernel, self.bias)
        return convolve(scaled, self.weight_orig, self.bias)


class Linear(SpectralNorm):
    """[N, in] -> [N, out]."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__(out_features, in_features, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x * self.gain(), self.weight_orig, self.bias)


class BatchNorm(nn.Module):
    """Batch norm by stored statistics, one row of them per truncation 0, ..., 1.

    Conditional ones scale by 1 + scale(condition) and add offset(condition); the last one has plain parameters.
    """

    running_means: Tensor
    running_vars: Tensor

    def __init__(self, channels: int, condition_dim: int, n_stats: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.conditional = condition_dim > 0
        self.register_buffer("running_means", torch.zeros(n_stats, channels))
        self.register_buffer("running_vars", torch.ones(n_stats, channels))
        if self.conditional:
            self.scale = Linear(condition_dim, channels, bias=False)
            self.offset = Linear(condition_dim, channels, bias=False)
        else:
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))

    def statistics(self, truncation: float) -> tuple[Tensor, Tensor]:
        """Mean and variance [C] for a truncation in (0, 1].

        With a fraction f between rows i and i + 1 the reference weighs row i by f and row i + 1 by 1 - f, the
        wrong way round; released pictures were made so, and so it stays. On a row exactly (f = 0) it takes row i.
        Rounding puts .58 and .94 just below their rows (of 51), where the same rule selects the row before.
        """
        fraction, row = math.modf(truncation / (1 / (len(self.running_means) - 1)))
        i = int(row)
        if fraction == 0:
            return self.running_means[i], self.running_vars[i]
        mean = self.running_means[i] * fraction + self.running_means[i + 1] * (1 - fraction)
        var = self.running_vars[i] * fraction + self.running_vars[i + 1] * (1 - fraction)
        return mean, var

    def forward(self, x: Tensor, truncation: float, condition: Tensor, gain: Tensor) -> Tensor:
        """relu(norm(x)) * gain; x: [N, C, H, W], condition: [N, condition_dim], gain: a positive scalar tensor."""
        mean, var = self.statistics(truncation)
        if self.conditional:
            scale, offset = 1 + self.scale(condition), self.offset(condition)
        else:
            scale, offset = self.weight[None], self.bias[None]
        scale = scale * (var + self.eps).rsqrt()
        offset = (offset - mean * scale) * gain
        return torch.addcmul(offset[:, :, None, None], x, (scale * gain)[:, :, None, None]).relu_()


class SelfAttention(nn.Module):
    """x + gamma * o(softmax(theta(x)^T phi(x)) g(x)), phi and g at half the side. Zhang et al. 2019."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.snconv1x1_theta = Convolution(channels, channels // 8, 1, bias=False)
        self.snconv1x1_phi = Convolution(channels, channels // 8, 1, bias=False)
        self.snconv1x1_g = Convolution(channels, channels // 2, 1, bias=False)
        self.snconv1x1_o_conv = Convolution(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        mixed = attend(self.snconv1x1_theta(x), self.snconv1x1_phi(x), self.snconv1x1_g(x))
        return x + self.gamma * self.snconv1x1_o_conv(mixed)


class GeneratorBlock(nn.Module):
    """A bottleneck of 1 x 1, 3 x 3, 3 x 3 and 1 x 1 convolutions beside an identity that loses channels."""

    def __init__(
        self, in_channels: int, out_channels: int, condition_dim: int, n_stats: int, eps: float, *, up: bool
    ) -> None:
        super().__init__()
        self.up = up
        self.out_channels = out_channels
        hidden = in_channels // REDUCTION
        self.bn_0 = BatchNorm(in_channels, condition_dim, n_stats, eps)
        self.conv_0 = Convolution(in_channels, hidden, 1)
        self.bn_1 = BatchNorm(hidden, condition_dim, n_stats, eps)
        self.conv_1 = Convolution(hidden, hidden, 3)
        self.bn_2 = BatchNorm(hidden, condition_dim, n_stats, eps)
        self.conv_2 = Convolution(hidden, hidden, 3)
        self.bn_3 = BatchNorm(hidden, condition_dim, n_stats, eps)
        self.conv_3 = Convolution(hidden, out_channels, 1)

    def forward(self, x: Tensor, truncation: float, condition: Tensor) -> Tensor:
        """x: [N, in, H, W], condition: [N, condition_dim] -> [N, out, H, W], twice the sides if `up`."""
        h = self.conv_0.convolve(self.bn_0(x, truncation, condition, self.conv_0.gain()))
        h = self.conv_1.convolve(self.bn_1(h, truncation, condition, self.conv_1.gain()), up=self.up)
        h = self.conv_2.convolve(self.bn_2(h, truncation, condition, self.conv_2.gain()))
        h = self.conv_3.convolve(self.bn_3(h, truncation, condition, self.conv_3.gain()))
        rest = x[:, : self.out_channels]
        return h + (double(rest) if self.up else rest)


class Generator(nn.Module):
    """A condition (z and the class's embedding) and a truncation -> images."""

    def __init__(
        self,
        condition_dim: int,
        *,
        channel_width: int,
        channels: Sequence[tuple[int, int]],
        up: Sequence[bool],
        attention: int | None,
        n_stats: int,
        eps: float,
    ) -> None:
        super().__init__()
        self.gen_z = Linear(condition_dim, channels[0][0] * BOTTOM_WIDTH**2)
        layers: list[nn.Module] = [
            GeneratorBlock(before, after, condition_dim, n_stats, eps, up=up[i])
            for i, (before, after) in enumerate(channels)
        ]
        if attention is not None:
            layers.insert(attention, SelfAttention(channels[attention][0]))
        self.layers = nn.ModuleList(layers)
        self.bn = BatchNorm(channel_width, 0, n_stats, eps)
        self.conv_to_rgb = Convolution(channel_width, channel_width, 3)
        self._rgb = Derived()

    def forward(self, conditions: Sequence[Tensor], truncation: float) -> Tensor:
        """conditions: [N, condition_dim] for the first layer and each block -> images [N, 3, H, W] in [-1, 1]."""
        first, *rest = conditions
        # The linear layer's output counts as [N, 4, 4, C]: channels-last already.
        x = self.gen_z(first).unflatten(1, (BOTTOM_WIDTH, BOTTOM_WIDTH, -1)).permute(0, 3, 1, 2)
        for layer in self.layers:
            x = layer(x, truncation, rest.pop(0)) if isinstance(layer, GeneratorBlock) else layer(x)
        gain = self.conv_to_rgb.gain()
        # The last convolution has `channel_width` outputs of which the reference throws away all but three.
        assert self.conv_to_rgb.bias is not None
        weight, bias = self.conv_to_rgb.weight_orig[:3], self.conv_to_rgb.bias[:3]
        return F.conv2d(self.bn(x, truncation, first, gain), weight, bias, padding=1).tanh()


class BigGAN(nn.Module):
    """z and class weights -> images [N, 3, H, W] in [-1, 1].

    channels: (in, out) of each block; up: which of them double the side; attention: the position in
    `generator.layers` of the attention, None without.
    """

    def __init__(
        self,
        z_dim: int,
        class_embed_dim: int,
        num_classes: int,
        *,
        channel_width: int,
        channels: Sequence[tuple[int, int]],
        up: Sequence[bool],
        attention: int | None = None,
        n_stats: int = 51,
        eps: float = EPSILON,
    ) -> None:
        super().__init__()
        if len(up) != len(channels):
            raise ValueError(f"up must say yes or no for each of {len(channels)} blocks, got {len(up)} entries")
        self.z_dim, self.num_classes = z_dim, num_classes
        self.num_conditions = 1 + len(channels)
        self.img_resolution = BOTTOM_WIDTH * 2 ** sum(up)
        self.embeddings = nn.Linear(num_classes, class_embed_dim, bias=False)
        self.generator = Generator(
            z_dim + class_embed_dim,
            channel_width=channel_width,
            channels=channels,
            up=up,
            attention=attention,
            n_stats=n_stats,
            eps=eps,
        )

    def embed_classes(self, classes: Tensor) -> Tensor:
        """Class indices [N] or class weights [N, num_classes] -> [N, class_embed_dim]."""
        embedded: Tensor = (
            self.embeddings(classes) if classes.is_floating_point() else self.embeddings.weight.t()[classes]
        )
        return embedded

    def forward(self, z: Tensor, classes: Tensor, truncation: float = 0.4) -> Tensor:
        """z: [N, z_dim], or [N, num_conditions, z_dim] for a z of each block's own; classes: indices [N] or weights
        [N, num_classes]; truncation: in (0, 1].

        The truncation chooses the batch statistics; z itself must be drawn to it: t * truncated normal(-2, 2).
        Raises ValueError for another shape or truncation.
        """
        if not 0 < truncation <= 1:
            raise ValueError(f"the truncation must lie above 0 and at most at 1, got {truncation:g}")
        if z.shape[1:] not in ((self.z_dim,), (self.num_conditions, self.z_dim)):
            raise ValueError(
                f"expected z of shape [N, {self.z_dim}] or [N, {self.num_conditions}, {self.z_dim}], "
                f"got {list(z.shape)}"
            )
        y = self.embed_classes(classes)
        parts = [z] * self.num_conditions if z.ndim == 2 else z.unbind(1)
        images: Tensor = self.generator([torch.cat([part, y], dim=1) for part in parts], truncation)
        return images


@torch.no_grad()
def draw_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights anew, in place: N(0, 1 / fan-in), with u and v that fit them."""
    for module in network.modules():
        if isinstance(module, SpectralNorm):
            module.weight_orig.normal_(std=module.weight_v.numel() ** -0.5, generator=generator)
            module.settle()


# ---- building from a state dict --------------------------------------------------------------------------

_WHAT = "a BigGAN-deep generator under Hugging Face's names"


def generator_from_shapes(
    state: Mapping[str, Tensor],
    *,
    up: Sequence[bool] | None = None,
    eps: float = EPSILON,
    device: torch.device | str | None = None,
) -> BigGAN:
    """An untrained `BigGAN` with the keys and shapes of a state dict; nothing is allocated on "meta".

    Shapes cannot tell eps, nor which blocks double the side: in every released generator every second one does,
    the config.json beside the weights says it (first entries of `layers`). Raises ValueError for a missing key.
    """
    layers = "generator.layers.{}.conv_0.weight_orig"
    total = count_keys(state, layers)
    attention = total if f"generator.layers.{total}.gamma" in state else None
    if attention is not None:
        total += 1 + count_keys(state, layers, first=attention + 1)
    channels = []
    for i in (i for i in range(max(total, 1)) if i != attention):
        before = shape_of(state, f"generator.layers.{i}.bn_0.running_means", _WHAT)[1]
        channels.append((before, shape_of(state, f"generator.layers.{i}.conv_3.weight_orig", _WHAT)[0]))
    class_embed_dim, num_classes = shape_of(state, "embeddings.weight", _WHAT)
    n_stats, channel_width = shape_of(state, "generator.bn.running_means", _WHAT)
    with torch.device(device if device is not None else "cpu"):
        return BigGAN(
            shape_of(state, "generator.gen_z.weight_orig", _WHAT)[1] - class_embed_dim,
            class_embed_dim,
            num_classes,
            channel_width=channel_width,
            channels=channels,
            up=[i % 2 == 1 for i in range(len(channels))] if up is None else up,
            attention=attention,
            n_stats=n_stats,
            eps=eps,
        )
