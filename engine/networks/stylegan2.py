"""StyleGAN2: mapping, synthesis and discriminator (Karras et al. 2020), under the names of StyleGAN2-ADA.

Attribute names equal the keys of StyleGAN2-ADA (PyTorch) checkpoints, so `load_state_dict(strict=True)`
works. Everything runs in the dtype and on the device of the weights; images are [N, C, H, W], nominally in
[-1, 1] and never clamped.

Speed. No convolution weight is built per sample: as a modulated convolution is linear in its weight,

    sum_i (W[o, i] * s[n, i] * d[n, o]) * x[n, i]  =  d[n, o] * (W[o, i] * (s[n, i] * x[n, i])),

the activations are scaled by the styles `s`, convolved with the shared `W`, and scaled by the demodulation
coefficients `d`. Activations stay channels-last, the layout in which the CPU convolutions need no
reordering. The up-convolution is a stride-2 transposed convolution followed by a depthwise FIR: it was
measured faster than one sub-pixel convolution with the composite kernel (4 times the multiplications), and
as fast as separable filters. Where no weight learns, a backward pass by hand keeps one activation a layer
instead of four; `experiments.synthesis_benchmark` has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from engine.networks.derived import Derived, count_keys, shape_of

Architecture = Literal["skip", "orig", "resnet"]
NoiseMode = Literal["const", "random", "none"]
Normalization = Literal["apart", "together"]  # of z and the label's embedding

ARCHITECTURES = ("skip", "orig", "resnet")
NOISE_MODES = ("const", "random", "none")
LRELU_SLOPE = 0.2
LRELU_GAIN = math.sqrt(2.0)
EPSILON = 1e-8


# ---- small functions -------------------------------------------------------------------------------------


def binomial_filter() -> Tensor:
    """The [4, 4] blur kernel outer([1, 3, 3, 1]) / 64 of every released StyleGAN2; it sums to 1."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64.0


def blur(images: Tensor, kernel: Tensor, *, padding: int, gain: float = 1.0, stride: int = 1) -> Tensor:
    """Convolve every channel with a FIR kernel (a true convolution, so the kernel is flipped).

    images: [N, C, H, W]; kernel: [k, k]; padding: zeros on each of the four sides.
    """
    channels = images.shape[1]
    weight = (kernel.flip(0, 1) * gain).expand(channels, 1, *kernel.shape).contiguous()
    return F.conv2d(images, weight, stride=stride, padding=padding, groups=channels)


def upsample(images: Tensor, kernel: Tensor) -> Tensor:
    """Double height and width: put zeros between the pixels, then convolve with 4 times the FIR kernel.

    images: [N, C, H, W] -> [N, C, 2H, 2W]; kernel: [4, 4], an outer product (as every StyleGAN2 kernel is).
    Sums of shifted copies: a transposed convolution takes twice as long on the few colour channels.
    """
    rows = kernel.sum(dim=1)
    columns = kernel.sum(dim=0) / rows.sum()
    return _double_axis(_double_axis(images, 2.0 * rows, 2), 2.0 * columns, 3)


def _double_axis(x: Tensor, taps: Tensor, dim: int) -> Tensor:
    """Even outputs see (x[i], x[i-1]) through taps 1 and 3, odd ones (x[i+1], x[i]) through taps 0 and 2."""
    length = x.shape[dim]
    even, odd = x * taps[1], x * taps[2]
    even.narrow(dim, 1, length - 1).add_(x.narrow(dim, 0, length - 1) * taps[3])
    odd.narrow(dim, 0, length - 1).add_(x.narrow(dim, 1, length - 1) * taps[0])
    return torch.stack([even, odd], dim=dim + 1).flatten(dim, dim + 1)


def downsample(images: Tensor, kernel: Tensor) -> Tensor:
    """Halve height and width: the FIR kernel, then every second pixel. [N, C, H, W] -> [N, C, H/2, W/2]."""
    return blur(images, kernel, padding=1, stride=2)


def normalize_second_moment(x: Tensor) -> Tensor:
    """x * rsqrt(mean(x^2) + 1e-8) over the last axis; x: [N, D]."""
    return x * (x.square().mean(dim=-1, keepdim=True) + EPSILON).rsqrt()


def leaky_relu(x: Tensor) -> Tensor:
    """max(x, 0.2 x), in place. Positive factors commute with it, so callers fold the gain sqrt(2) into x."""
    return F.leaky_relu(x, LRELU_SLOPE, inplace=True)


def _clamp(x: Tensor, bound: float | None) -> Tensor:
    return x if bound is None else x.clamp(-bound, bound)


def _is_known_zero(scalar: Tensor) -> bool:
    """True where a frozen scalar on the CPU is 0; asking elsewhere loses gradients or waits for the GPU."""
    if scalar.device.type != "cpu" or (scalar.requires_grad and torch.is_grad_enabled()):
        return False
    return scalar.item() == 0.0


def minibatch_standard_deviation(x: Tensor, *, group_size: int | None, channels: int) -> Tensor:
    """Append `channels` feature maps holding the mean standard deviation over groups of samples.

    x: [N, C, H, W] -> [N, C + channels, H, W]. Sample n belongs to group n mod (N / group_size), and a
    group_size of None means the whole batch. Source: Karras et al. 2018, section 3. Raises ValueError where N
    does not divide into groups.
    """
    n, c, h, w = x.shape
    size = n if group_size is None else min(group_size, n)
    if n % size:
        raise ValueError(f"a batch of {n} does not divide into groups of {size}; pick a multiple of {size}")
    grouped = x.reshape(size, n // size, channels, c // channels, h, w)
    deviation = (grouped.var(dim=0, unbiased=False) + EPSILON).sqrt().mean(dim=(2, 3, 4))
    maps = deviation.repeat(size, 1)[:, :, None, None].expand(n, channels, h, w)
    return torch.cat([x, maps.to(x.dtype)], dim=1)


# ---- convolutions ----------------------------------------------------------------------------------------


def equalized_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    kernel: Tensor | None = None,
    up: bool = False,
    activate: bool = True,
    gain: float = 1.0,
) -> Tensor:
    """gain * (x convolved with weight / sqrt(fan-in), + bias), then leaky ReLU times sqrt(2) if asked.

    x: [N, in, H, W]; weight: [out, in, k, k]; bias: [out]. Where the FIR `kernel` [4, 4] is given, it also resamples
    by 2: down is blur, then stride 2; up, with 1x1 weights alone, is convolve, then `upsample`.
    """
    total = gain * (LRELU_GAIN if activate else 1.0)
    weight = weight * (total / math.sqrt(weight[0].numel()))
    y = _convolve_resampled(x, weight, None if bias is None else bias * total, kernel, up)
    return leaky_relu(y) if activate else y


def _convolve_resampled(x: Tensor, weight: Tensor, bias: Tensor | None, kernel: Tensor | None, up: bool) -> Tensor:
    size = weight.shape[-1]
    if kernel is None:
        return F.conv2d(x, weight, bias, padding=size // 2)
    if up:
        # A constant is changed by the zero border of the FIR, so the bias has to wait until after it.
        y = upsample(F.conv2d(x, weight), kernel)
        return y if bias is None else y + bias[:, None, None]
    if size == 1:
        return F.conv2d(downsample(x, kernel), weight, bias)
    return F.conv2d(blur(x, kernel, padding=2), weight, bias, stride=2)


def modulated_convolution(
    x: Tensor,
    styles: Tensor,
    weight: Tensor,
    squares: Tensor,
    offset: Tensor,
    *,
    kernel: Tensor | None = None,
    gain: float = LRELU_GAIN,
) -> Tensor:
    """leaky_relu(gain * demodulated convolution + offset), 2x up where the FIR `kernel` [4, 4] is given.

    x: [N, in, H, W]; styles: [N, in]; weight: [out, in, 3, 3]; squares: `squared_weights(weight)`; offset, bias and
    noise times the gain, broadcastable to the result [N, out, H', W']. Source: Karras et al. 2020, Eqs. 1 and 3.
    """
    demodulation = (styles.square() @ squares.t() + EPSILON).rsqrt() * gain
    scale, demodulation = styles[:, :, None, None], demodulation[:, :, None, None]
    if weight.requires_grad or offset.requires_grad or torch.is_autocast_enabled(x.device.type):
        return leaky_relu(torch.addcmul(offset, _convolve(x * scale, weight, kernel), demodulation))
    y: Tensor = _FrozenModulatedConvolution.apply(x, scale, demodulation, offset, weight, kernel)
    return y


def squared_weights(weight: Tensor) -> Tensor:
    """What the demodulation needs of a weight [out, in, k, k]: the sums of squares over k x k, [out, in]."""
    return weight.square().sum(dim=(2, 3))


def convolve_up(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    """A transposed 3x3 convolution of stride 2, then 4 times the FIR: [N, in, H, W] -> [N, out, 2H, 2W].

    weight: [out, in, 3, 3]; kernel: [4, 4].
    """
    y = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    return blur(y, kernel, padding=1, gain=4.0)


def _convolve(x: Tensor, weight: Tensor, kernel: Tensor | None) -> Tensor:
    return F.conv2d(x, weight, padding=1) if kernel is None else convolve_up(x, weight, kernel)


class _FrozenModulatedConvolution(torch.autograd.Function):
    """leaky_relu(demodulation * convolution(scale * x) + offset), differentiable once to the first three.

    Of the activations it keeps only what the layers before and after hold anyway, x and the result: the leaky ReLU
    can be undone, and the rest follows. Left to itself, torch keeps four.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, demodulation: Tensor, offset: Tensor, weight: Tensor, kernel: Tensor | None
    ) -> Tensor:
        y = _convolve(x * scale, weight, kernel)
        y = leaky_relu(torch.addcmul(offset, y, demodulation, out=y))
        ctx.save_for_backward(x, scale, demodulation, offset, weight, kernel, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, demodulation, offset, weight, kernel, y = ctx.saved_tensors
        gradient = torch.ops.aten.leaky_relu_backward(gradient, y, LRELU_SLOPE, True)
        # demodulation * convolved, from the result alone: leaky ReLU with the reciprocal slope is the way back.
        convolved = F.leaky_relu(y, 1 / LRELU_SLOPE).sub_(offset)
        # Not in place: of several cotangents at once (the flow's roles), only the gradient is batched.
        by_demodulation = (convolved * gradient).sum(dim=(2, 3), keepdim=True) / demodulation
        by_scaled = _convolve_back(gradient.mul_(demodulation), x, weight, kernel)
        by_scale = (by_scaled * x).sum(dim=(2, 3), keepdim=True)
        return by_scaled.mul_(scale), by_scale, by_demodulation, None, None, None


def _convolve_back(gradient: Tensor, x: Tensor, weight: Tensor, kernel: Tensor | None) -> Tensor:
    """The gradient of `_convolve` by its input, which is of the shape of x."""
    if kernel is None:
        return F.conv_transpose2d(gradient, weight, padding=1)
    spread = blur(gradient, kernel.flip(0, 1), padding=2, gain=4.0)
    return F.conv2d(spread, weight.transpose(0, 1), stride=2)


def modulated_colors(x: Tensor, styles: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A modulated 1x1 convolution without demodulation, to few channels.

    x: [N, in, H, W]; styles: [N, in]; weight: [out, in, 1, 1]; bias: [out] -> [N, out, H, W].
    """
    # A per-sample matrix with three outputs is smaller than the activations: scaling it saves passes.
    matrix = weight[:, :, 0, 0] * styles[:, None, :]  # [N, out, in]
    if weight.requires_grad or bias.requires_grad or torch.is_autocast_enabled(x.device.type):
        return _mix_channels(x, matrix, bias)
    y: Tensor = _FrozenMixChannels.apply(x, matrix, bias)
    return y


def _mix_channels(x: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    y = torch.baddbmm(bias, _pixels(x), matrix.transpose(1, 2))  # [N, HW, out]
    return y.transpose(1, 2).reshape(len(x), -1, *x.shape[2:])


def _pixels(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, HW, C], without a copy where x is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


class _FrozenMixChannels(torch.autograd.Function):
    """bias + matrix @ x per pixel, differentiable once to x and matrix, the gradient by x channels-last like x.

    Left to itself, torch makes it contiguous, and adding it to the next block's then takes longer than the products.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, matrix)
        return _mix_channels(x, matrix, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, matrix = ctx.saved_tensors
        n, c, height, width = x.shape
        gradient = gradient.reshape(n, -1, height * width)  # not flatten, which has no batched form
        by_x = (gradient.transpose(1, 2) @ matrix).reshape(n, height, width, c).permute(0, 3, 1, 2)
        return by_x, gradient @ _pixels(x), None


# ---- layers ----------------------------------------------------------------------------------------------


class FullyConnected(nn.Module):
    """y = x (W g)^T + b l with g = l / sqrt(in), optionally followed by leaky ReLU times sqrt(2).

    l is the learning-rate multiplier; [N, in] -> [N, out].
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activate: bool = False,
        lr_multiplier: float = 1.0,
        initial_bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.activate = activate
        self.lr_multiplier = lr_multiplier
        self.initial_bias = initial_bias
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        self.draw_weights(None)

    @torch.no_grad()
    def draw_weights(self, generator: torch.Generator | None) -> None:
        """Draw new initial weights; see `draw_weights`."""
        self.weight.normal_(generator=generator).div_(self.lr_multiplier)
        self.bias.fill_(self.initial_bias)

    def forward(self, x: Tensor) -> Tensor:
        gain = LRELU_GAIN if self.activate else 1.0
        scale = gain * self.lr_multiplier / math.sqrt(self.weight.shape[1])
        y = torch.addmm(self.bias, x, self.weight.t(), beta=gain * self.lr_multiplier, alpha=scale)
        return leaky_relu(y) if self.activate else y


class Convolution(nn.Module):
    """A plain convolution with 1/sqrt(fan-in) weights, optional resampling by 2, bias, leaky ReLU and clamp.

    [N, in, H, W] -> [N, out, H', W']. Down: blur, then stride 2. Up (1x1 only): convolve, then upsample.
    """

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        bias: bool = True,
        activate: bool = True,
        resample: Literal["none", "up", "down"] = "none",
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        if resample == "up" and kernel_size != 1:
            raise ValueError(f"a plain up-convolution needs kernel_size 1, got {kernel_size}")
        self.activate = activate
        self.resample = resample
        self.conv_clamp = conv_clamp
        self.register_buffer("resample_filter", binomial_filter())
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.draw_weights(None)

    @torch.no_grad()
    def draw_weights(self, generator: torch.Generator | None) -> None:
        """Draw new initial weights; see `draw_weights`."""
        self.weight.normal_(generator=generator)
        if self.bias is not None:
            self.bias.zero_()

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        kernel = None if self.resample == "none" else self.resample_filter
        y = equalized_convolution(
            x, self.weight, self.bias, kernel=kernel, up=self.resample == "up", activate=self.activate, gain=gain
        )
        return _clamp(y, None if self.conv_clamp is None else self.conv_clamp * gain)


class SynthesisLayer(nn.Module):
    """One modulated 3x3 convolution, 2x up if asked: demodulation, noise, bias, leaky ReLU and clamp."""

    resample_filter: Tensor
    noise_const: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        *,
        up: bool = False,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.up = up
        self.resolution = resolution
        self.conv_clamp = conv_clamp
        self.affine = FullyConnected(w_dim, in_channels, initial_bias=1.0)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        self.noise_strength = nn.Parameter(torch.empty([]))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.register_buffer("resample_filter", binomial_filter())
        self.register_buffer("noise_const", torch.empty(resolution, resolution))
        self._squares = Derived()
        self.draw_weights(None)

    @torch.no_grad()
    def draw_weights(self, generator: torch.Generator | None) -> None:
        """Draw new initial weights and a new constant noise; see `draw_weights`."""
        self.weight.normal_(generator=generator)
        self.noise_const.normal_(generator=generator)
        self.noise_strength.zero_()
        self.bias.zero_()

    def forward(
        self,
        x: Tensor,
        w: Tensor,
        *,
        noise_mode: NoiseMode = "const",
        generator: torch.Generator | None = None,
        gain: float = 1.0,
    ) -> Tensor:
        """x: [N, in, H, W], w: [N, w_dim] -> [N, out, resolution, resolution]."""
        total = LRELU_GAIN * gain
        offset = self._offset(x, noise_mode, generator) * total
        kernel = self.resample_filter if self.up else None
        squares = self._squares.get(lambda: squared_weights(self.weight), self.weight)
        y = modulated_convolution(x, self.affine(w), self.weight, squares, offset, kernel=kernel, gain=total)
        return _clamp(y, None if self.conv_clamp is None else self.conv_clamp * gain)

    def _offset(self, x: Tensor, noise_mode: NoiseMode, generator: torch.Generator | None) -> Tensor:
        """Bias plus noise, broadcastable to the layer's result."""
        bias = self.bias[:, None, None]
        if noise_mode == "none" or _is_known_zero(self.noise_strength):
            return bias
        if noise_mode == "const":
            return bias + self.noise_const * self.noise_strength
        size = (x.shape[0], 1, self.resolution, self.resolution)
        noise = torch.randn(size, generator=generator, dtype=x.dtype, device=x.device)
        return bias + noise * self.noise_strength


class ToRGB(nn.Module):
    """A modulated 1x1 convolution to the colour channels, without demodulation, activation or noise."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, *, conv_clamp: float | None = None) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = FullyConnected(w_dim, in_channels, initial_bias=1.0)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.draw_weights(None)

    @torch.no_grad()
    def draw_weights(self, generator: torch.Generator | None) -> None:
        """Draw new initial weights; see `draw_weights`."""
        self.weight.normal_(generator=generator)
        self.bias.zero_()

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x: [N, in, H, W], w: [N, w_dim] -> [N, out, H, W]."""
        styles = self.affine(w) / math.sqrt(x.shape[1])
        return _clamp(modulated_colors(x, styles, self.weight, self.bias), self.conv_clamp)


# ---- mapping ---------------------------------------------------------------------------------------------


class MappingNetwork(nn.Module):
    """z (and a class label) -> w, by fully connected layers.

    `w_avg`, the running mean of w used for truncation, exists where `num_ws` is given; call `track_average`
    while training. normalizes_together: z and the label's embedding are normalised as one vector, as the TensorFlow
    original does, not each for itself.
    """

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        *,
        num_ws: int | None,
        num_layers: int = 8,
        embed_features: int | None = None,
        layer_features: int | None = None,
        lr_multiplier: float = 0.01,
        normalizes_together: bool = False,
    ) -> None:
        super().__init__()
        self.normalizes_together = normalizes_together
        if z_dim == 0 and c_dim == 0:
            raise ValueError("a mapping network needs a latent (z_dim > 0) or labels (c_dim > 0)")
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.num_ws = num_ws
        self.num_layers = num_layers
        embedded = 0 if c_dim == 0 else (w_dim if embed_features is None else embed_features)
        hidden = w_dim if layer_features is None else layer_features
        sizes = [z_dim + embedded, *[hidden] * (num_layers - 1), w_dim]
        if c_dim > 0:
            self.embed = FullyConnected(c_dim, embedded)
        for i in range(num_layers):
            layer = FullyConnected(sizes[i], sizes[i + 1], activate=True, lr_multiplier=lr_multiplier)
            self.add_module(f"fc{i}", layer)
        if num_ws is not None:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def to_w(self, z: Tensor | None, c: Tensor | None = None) -> Tensor:
        """z: [N, z_dim] normal (None where z_dim is 0), c: [N, c_dim] one-hot or mixed -> w: [N, w_dim]."""
        parts = []
        apart = not self.normalizes_together
        if self.z_dim > 0:
            if z is None or z.ndim != 2 or z.shape[1] != self.z_dim:
                found = None if z is None else list(z.shape)
                raise ValueError(f"expected z of shape [N, {self.z_dim}], got {found}")
            parts.append(normalize_second_moment(z) if apart else z)
        if self.c_dim > 0:
            if c is None or c.ndim != 2 or c.shape[1] != self.c_dim:
                found = None if c is None else list(c.shape)
                raise ValueError(f"a conditional network: expected c of shape [N, {self.c_dim}], got {found}")
            parts.append(normalize_second_moment(self.embed(c)) if apart else self.embed(c))
        x = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        x = x if apart else normalize_second_moment(x)
        for i in range(self.num_layers):
            x = self.get_submodule(f"fc{i}")(x)
        return x

    def forward(
        self,
        z: Tensor | None,
        c: Tensor | None = None,
        *,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """w repeated for every layer, the first `truncation_cutoff` of them pulled to `w_avg`.

        ws = w_avg + psi (w - w_avg). Shapes as in `to_w`; returns [N, L, w_dim], or [N, w_dim] where num_ws
        is None.
        """
        w = self.to_w(z, c)
        if self.num_ws is None:
            return w
        ws = w[:, None].expand(-1, self.num_ws, -1)
        if truncation_psi == 1.0:
            return ws
        cutoff = self.num_ws if truncation_cutoff is None else truncation_cutoff
        truncated = torch.lerp(self.w_avg, ws[:, :cutoff], truncation_psi)
        return torch.cat([truncated, ws[:, cutoff:]], dim=1)

    @torch.no_grad()
    def track_average(self, w: Tensor, decay: float = 0.995) -> None:
        """Move `w_avg` towards the mean of a training batch: w_avg <- decay w_avg + (1 - decay) mean(w).

        w: [N, w_dim].
        """
        self.w_avg.lerp_(w.mean(dim=0), 1.0 - decay)


# ---- synthesis -------------------------------------------------------------------------------------------


class SynthesisBlock(nn.Module):
    """All layers of one resolution: (conv0, up), conv1, and torgb or skip as the architecture asks."""

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        img_channels: int,
        *,
        is_last: bool,
        architecture: Architecture,
        conv_clamp: float | None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.is_first = in_channels == 0
        self.num_conv = 1 if self.is_first else 2
        self.register_buffer("resample_filter", binomial_filter())
        if self.is_first:
            self.const = nn.Parameter(torch.empty(out_channels, resolution, resolution))
            self.draw_weights(None)
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, w_dim, resolution, up=True, conv_clamp=conv_clamp)
        self.conv1 = SynthesisLayer(out_channels, out_channels, w_dim, resolution, conv_clamp=conv_clamp)
        self.has_rgb = is_last or architecture == "skip"
        if self.has_rgb:
            self.torgb = ToRGB(out_channels, img_channels, w_dim, conv_clamp=conv_clamp)
        self.has_skip = architecture == "resnet" and not self.is_first
        if self.has_skip:
            self.skip = Convolution(in_channels, out_channels, 1, bias=False, activate=False, resample="up")

    @torch.no_grad()
    def draw_weights(self, generator: torch.Generator | None) -> None:
        """Draw a new constant input; see `draw_weights`."""
        if self.is_first:
            self.const.normal_(generator=generator)

    def forward(
        self,
        x: Tensor | None,
        img: Tensor | None,
        ws: Tensor,
        *,
        noise_mode: NoiseMode,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor | None]:
        """x: [N, in, H/2, W/2], img: [N, C, H/2, W/2], ws: [N, num_conv + 1, w_dim] -> x, img at H x W."""
        if x is None:
            start = self.const.expand(ws.shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
            x = self.conv1(start, ws[:, 0], noise_mode=noise_mode, generator=generator)
        elif self.has_skip:
            gain = math.sqrt(0.5)
            shortcut = self.skip(x, gain=gain)
            x = self.conv0(x, ws[:, 0], noise_mode=noise_mode, generator=generator)
            x = shortcut + self.conv1(x, ws[:, 1], noise_mode=noise_mode, generator=generator, gain=gain)
        else:
            x = self.conv0(x, ws[:, 0], noise_mode=noise_mode, generator=generator)
            x = self.conv1(x, ws[:, 1], noise_mode=noise_mode, generator=generator)
        if img is not None:
            img = upsample(img, self.resample_filter)
        if self.has_rgb:
            rgb = self.torgb(x, ws[:, self.num_conv])
            img = rgb if img is None else img + rgb
        return x, img


class SynthesisNetwork(nn.Module):
    """ws -> images. `channels` maps every resolution 4, 8, ..., img_resolution to its feature channels."""

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int = 3,
        *,
        channels: Mapping[int, int],
        architecture: Architecture = "skip",
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        _check_architecture(architecture)
        self.architecture = architecture
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.block_resolutions = _resolutions(img_resolution, channels)
        self.num_ws = 2 * len(self.block_resolutions)
        previous = 0
        for resolution in self.block_resolutions:
            block = SynthesisBlock(
                previous,
                channels[resolution],
                w_dim,
                resolution,
                img_channels,
                is_last=resolution == img_resolution,
                architecture=architecture,
                conv_clamp=conv_clamp,
            )
            self.add_module(f"b{resolution}", block)
            previous = channels[resolution]

    @property
    def drafts(self) -> tuple[int, ...]:
        """The smaller sizes at which there is a picture already: those of a skip architecture."""
        return tuple(self.block_resolutions[:-1]) if self.architecture == "skip" else ()

    def forward(
        self,
        ws: Tensor,
        *,
        noise_mode: NoiseMode = "const",
        generator: torch.Generator | None = None,
        resolution: int | None = None,
    ) -> Tensor:
        """ws: [N, num_ws, w_dim] -> images: [N, img_channels, H, W], nominally in [-1, 1].

        `generator` feeds noise_mode "random". Each block's torgb shares the first w of the next block. resolution: one
        of `drafts`, to end there with what the blocks so far have drawn. Raises ValueError on a wrong shape, an
        unknown noise mode, and where there is no such draft.
        """
        if ws.ndim != 3 or ws.shape[1] != self.num_ws or ws.shape[2] != self.w_dim:
            raise ValueError(f"expected ws of shape [N, {self.num_ws}, {self.w_dim}], got {list(ws.shape)}")
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"unknown noise_mode {noise_mode!r}; choose one of {', '.join(NOISE_MODES)}")
        if resolution not in (None, self.img_resolution, *self.drafts):
            raise ValueError(f"this network draws no draft of {resolution} px; it draws {list(self.drafts)}")
        x, img = self.get_submodule("b4")(None, None, ws, noise_mode=noise_mode, generator=generator)
        for i, size in enumerate(self.block_resolutions[1:]):
            if resolution is not None and size > resolution:
                break
            block = self.get_submodule(f"b{size}")
            x, img = block(x, img, ws[:, 2 * i + 1 :], noise_mode=noise_mode, generator=generator)
        images: Tensor = img
        return images


class Generator(nn.Module):
    """The whole generator: `images = synthesis(mapping(z, c))`.

    z_dim, c_dim (0: unconditional) and w_dim are vector lengths; img_resolution is a power of two, at least
    4; `channels` gives the feature channels of every resolution; `embed_features` and `layer_features`
    default to w_dim. Weights are drawn from the global generator: see `draw_weights`.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int = 3,
        *,
        channels: Mapping[int, int],
        mapping_layers: int = 8,
        embed_features: int | None = None,
        layer_features: int | None = None,
        lr_multiplier: float = 0.01,
        conv_clamp: float | None = None,
        architecture: Architecture = "skip",
        normalizes_together: bool = False,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.synthesis = SynthesisNetwork(
            w_dim,
            img_resolution,
            img_channels,
            channels=channels,
            architecture=architecture,
            conv_clamp=conv_clamp,
        )
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(
            z_dim,
            c_dim,
            w_dim,
            num_ws=self.num_ws,
            num_layers=mapping_layers,
            embed_features=embed_features,
            layer_features=layer_features,
            lr_multiplier=lr_multiplier,
            normalizes_together=normalizes_together,
        )

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """z: [N, z_dim], c: [N, c_dim] or None -> images: [N, img_channels, H, W], nominally in [-1, 1]."""
        images: Tensor = self.synthesis(self.mapping(z, c))
        return images


# ---- discriminator ---------------------------------------------------------------------------------------


class DiscriminatorBlock(nn.Module):
    """Two convolutions that halve the resolution, with the fromrgb or shortcut of the architecture."""

    resample_filter: Tensor

    def __init__(
        self,
        channels: int,
        out_channels: int,
        img_channels: int,
        *,
        is_first: bool,
        architecture: Architecture,
        conv_clamp: float | None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.register_buffer("resample_filter", binomial_filter())
        self.has_rgb = is_first or architecture == "skip"
        if self.has_rgb:
            self.fromrgb = Convolution(img_channels, channels, 1, conv_clamp=conv_clamp)
        self.conv0 = Convolution(channels, channels, 3, conv_clamp=conv_clamp)
        self.conv1 = Convolution(channels, out_channels, 3, resample="down", conv_clamp=conv_clamp)
        if architecture == "resnet":
            self.skip = Convolution(channels, out_channels, 1, bias=False, activate=False, resample="down")

    def forward(self, x: Tensor | None, img: Tensor) -> tuple[Tensor, Tensor]:
        """x: [N, C, H, W], img: [N, img_channels, H, W] -> both at H/2 x W/2 (img only in "skip")."""
        if x is None:
            x = self.fromrgb(img)
        elif self.has_rgb:
            x = x + self.fromrgb(img)
        if self.architecture == "skip":
            img = downsample(img, self.resample_filter)
        if self.architecture == "resnet":
            gain = math.sqrt(0.5)
            return self.skip(x, gain=gain) + self.conv1(self.conv0(x), gain=gain), img
        return self.conv1(self.conv0(x)), img


class DiscriminatorEpilogue(nn.Module):
    """The 4x4 end: minibatch standard deviation, one convolution, two fully connected layers."""

    def __init__(
        self,
        channels: int,
        out_features: int,
        img_channels: int,
        *,
        architecture: Architecture,
        mbstd_group_size: int | None,
        mbstd_channels: int,
        conv_clamp: float | None,
    ) -> None:
        super().__init__()
        self.mbstd_group_size = mbstd_group_size
        self.mbstd_channels = mbstd_channels
        self.has_rgb = architecture == "skip"
        if self.has_rgb:
            self.fromrgb = Convolution(img_channels, channels, 1)
        self.conv = Convolution(channels + mbstd_channels, channels, 3, conv_clamp=conv_clamp)
        self.fc = FullyConnected(channels * 16, channels, activate=True)
        self.out = FullyConnected(channels, out_features)

    def features(self, x: Tensor, img: Tensor) -> Tensor:
        """x: [N, C, 4, 4], img: [N, img_channels, 4, 4] (used in "skip") -> [N, C]."""
        if self.has_rgb:
            x = x + self.fromrgb(img)
        if self.mbstd_channels > 0:
            x = minibatch_standard_deviation(x, group_size=self.mbstd_group_size, channels=self.mbstd_channels)
        x = self.conv(x)
        y: Tensor = self.fc(x.flatten(1))
        return y


class Discriminator(nn.Module):
    """images -> one logit per image (positive: real), by projection on the label where c_dim > 0.

    `channels` maps every resolution to its feature channels. The logits of a sample depend on the others of
    its minibatch-standard-deviation group.
    """

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int = 3,
        *,
        channels: Mapping[int, int],
        architecture: Architecture = "resnet",
        conv_clamp: float | None = None,
        cmap_dim: int | None = None,
        mapping_layers: int = 8,
        embed_features: int | None = None,
        layer_features: int | None = None,
        lr_multiplier: float = 0.01,
        mbstd_group_size: int | None = 4,
        mbstd_channels: int = 1,
    ) -> None:
        super().__init__()
        _check_architecture(architecture)
        self.c_dim = c_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.block_resolutions = _resolutions(img_resolution, channels)[:0:-1]
        if not self.block_resolutions:
            raise ValueError("a discriminator needs img_resolution of at least 8, got 4")
        # Without labels as an input, TensorFlow's discriminators of classes have an output for each.
        self.cmap_dim = (channels[4] if c_dim else 0) if cmap_dim is None else cmap_dim
        for resolution in self.block_resolutions:
            block = DiscriminatorBlock(
                channels[resolution],
                channels[resolution // 2],
                img_channels,
                is_first=resolution == img_resolution,
                architecture=architecture,
                conv_clamp=conv_clamp,
            )
            self.add_module(f"b{resolution}", block)
        if c_dim > 0:
            self.mapping = MappingNetwork(
                0,
                c_dim,
                self.cmap_dim,
                num_ws=None,
                num_layers=mapping_layers,
                embed_features=embed_features,
                layer_features=layer_features,
                lr_multiplier=lr_multiplier,
            )
        self.b4 = DiscriminatorEpilogue(
            channels[4],
            max(self.cmap_dim, 1),
            img_channels,
            architecture=architecture,
            mbstd_group_size=mbstd_group_size,
            mbstd_channels=mbstd_channels,
            conv_clamp=conv_clamp,
        )

    def features(self, img: Tensor, c: Tensor | None = None) -> Tensor:
        """The penultimate layer, before the logits. img: [N, img_channels, H, W] -> [N, channels[4]].

        The label `c` plays no part in it and may be omitted.
        """
        expected = (self.img_channels, self.img_resolution, self.img_resolution)
        if img.ndim != 4 or tuple(img.shape[1:]) != expected:
            wanted = ", ".join(map(str, expected))
            raise ValueError(f"expected images of shape [N, {wanted}], got {list(img.shape)}")
        x: Any = None
        rest = img.contiguous(memory_format=torch.channels_last)
        for resolution in self.block_resolutions:
            x, rest = self.get_submodule(f"b{resolution}")(x, rest)
        return self.b4.features(x, rest)

    @property
    def judges_by_class(self) -> bool:
        """Whether a picture has a logit for each class, by labels or (TensorFlow) by as many outputs."""
        return self.c_dim > 0 or len(self.b4.out.bias) > 1

    def of_any_class(self, img: Tensor) -> Tensor:
        """log mean_y exp(logit of class y): a picture is as real as its class makes it. -> [N, 1]."""
        logits: Tensor = self.b4.out(self.features(img))
        if self.c_dim:
            labels = self.mapping(None, torch.eye(self.c_dim, dtype=logits.dtype, device=logits.device))
            logits = logits @ labels.t() / math.sqrt(self.cmap_dim)
        return logits.logsumexp(1, keepdim=True) - math.log(logits.shape[1])

    def forward(self, img: Tensor, c: Tensor | None = None) -> Tensor:
        """img: [N, img_channels, H, W] in [-1, 1], c: [N, c_dim] or None -> logits [N, 1], or [N, classes]."""
        logits: Tensor = self.b4.out(self.features(img, c))
        if self.c_dim == 0:
            return logits
        label = self.mapping(None, c)
        projected: Tensor = (logits * label).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)
        return projected


def draw_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all initial weights of a network of this file anew, in place, from `generator`."""
    for module in network.modules():
        draw: Callable[[torch.Generator], None] | None = getattr(module, "draw_weights", None)
        if draw is not None:
            draw(generator)


# ---- building from a state dict --------------------------------------------------------------------------


def generator_from_shapes(
    state: Mapping[str, Tensor],
    *,
    lr_multiplier: float = 0.01,
    conv_clamp: float | None = None,
    normalization: Normalization = "apart",
    architecture: Architecture | None = None,
    device: torch.device | str | None = None,
) -> Generator:
    """An untrained `Generator` with the keys and shapes of a StyleGAN2-ADA `G` or `G_ema` state dict.

    What shapes cannot tell (lr_multiplier, conv_clamp, normalization of z and label) is an argument; the architecture
    is read from the key names unless given. With device="meta" nothing is allocated. Raises ValueError where a key is
    missing.
    """
    channels = _channels(state, "synthesis.b", ".conv1.weight")
    resolution = max(channels)
    img_channels = _shape(state, f"synthesis.b{resolution}.torgb.weight")[0]
    (z_dim, c_dim, w_dim), layers = _mapping_shapes(state)
    found = _architecture(state, resnet="synthesis.b8.skip.weight", skip="synthesis.b4.torgb.weight")
    with torch.device(device if device is not None else "cpu"):
        return Generator(
            z_dim,
            c_dim,
            w_dim,
            resolution,
            img_channels,
            channels=channels,
            lr_multiplier=lr_multiplier,
            conv_clamp=conv_clamp,
            architecture=architecture or found,
            normalizes_together=normalization == "together",
            **layers,
        )


def discriminator_from_shapes(
    state: Mapping[str, Tensor],
    *,
    lr_multiplier: float = 0.01,
    conv_clamp: float | None = None,
    mbstd_group_size: int | None = 4,
    architecture: Architecture | None = None,
    device: torch.device | str | None = None,
) -> Discriminator:
    """An untrained `Discriminator` with the keys and shapes of a StyleGAN2-ADA `D` state dict.

    Arguments as in `generator_from_shapes`; the group size of the minibatch standard deviation is not in the
    shapes either.
    """
    channels = _channels(state, "b", ".conv0.weight")
    channels[4] = _shape(state, "b4.conv.weight")[0]
    resolution = max(channels)
    img_channels = _shape(state, f"b{resolution}.fromrgb.weight")[1]
    conditional = "mapping.fc0.weight" in state
    (_, c_dim, _), layers = _mapping_shapes(state) if conditional else ((0, 0, 0), {})
    found = _architecture(state, resnet=f"b{resolution}.skip.weight", skip="b4.fromrgb.weight")
    with torch.device(device if device is not None else "cpu"):
        return Discriminator(
            c_dim,
            resolution,
            img_channels,
            channels=channels,
            architecture=architecture or found,
            conv_clamp=conv_clamp,
            cmap_dim=_shape(state, "b4.out.weight")[0],
            lr_multiplier=lr_multiplier,
            mbstd_group_size=mbstd_group_size,
            mbstd_channels=_shape(state, "b4.conv.weight")[1] - channels[4],
            **layers,
        )


def ada_state_from_rosinality(state: Mapping[str, Tensor], latent_avg: Tensor | None = None) -> dict[str, Tensor]:
    """A rosinality `g_ema` state dict under StyleGAN2-ADA names, in the same arithmetic.

    Differences: a leading 1-axis on weights, 1/sqrt(fan-in) kept outside the 3x3 weights (it matters to the
    demodulation epsilon, so it is multiplied in), and blur kernels stored times 4. latent_avg: [w_dim], the
    file's entry beside `g_ema`; zeros where absent, and then truncation pulls to w = 0.
    """
    layers = 1 + sum(key.startswith("convs.") and key.endswith(".conv.weight") for key in state)
    out: dict[str, Tensor] = {}
    depth = 1
    while f"style.{depth}.weight" in state:
        for kind in ("weight", "bias"):
            out[f"mapping.fc{depth - 1}.{kind}"] = state[f"style.{depth}.{kind}"]
        depth += 1
    average = latent_avg if latent_avg is not None else torch.zeros_like(state[f"style.{depth - 1}.bias"])
    out["mapping.w_avg"] = average.reshape(-1)
    out["synthesis.b4.const"] = state["input.input"][0]
    kernel = binomial_filter().to(average)
    for i in range(layers):
        old = "conv1" if i == 0 else f"convs.{i - 1}"
        new = f"synthesis.b{4 * 2 ** ((i + 1) // 2)}.conv{(i + 1) % 2}"
        weight = state[f"{old}.conv.weight"][0]
        out[f"{new}.weight"] = weight / math.sqrt(weight[0].numel())
        out[f"{new}.noise_strength"] = state[f"{old}.noise.weight"].reshape([])
        out[f"{new}.noise_const"] = state[f"noises.noise_{i}"][0, 0]
        out[f"{new}.bias"] = state[f"{old}.activate.bias"]
        stored = state.get(f"{old}.conv.blur.kernel")
        out[f"{new}.resample_filter"] = kernel if stored is None else stored / 4.0
        for kind in ("weight", "bias"):
            out[f"{new}.affine.{kind}"] = state[f"{old}.conv.modulation.{kind}"]
    for i in range((layers + 1) // 2):
        old = "to_rgb1" if i == 0 else f"to_rgbs.{i - 1}"
        block = f"synthesis.b{4 * 2**i}"
        stored = state.get(f"{old}.upsample.kernel")
        out[f"{block}.resample_filter"] = kernel if stored is None else stored / 4.0
        out[f"{block}.torgb.weight"] = state[f"{old}.conv.weight"][0]
        out[f"{block}.torgb.bias"] = state[f"{old}.bias"].reshape(-1)
        for kind in ("weight", "bias"):
            out[f"{block}.torgb.affine.{kind}"] = state[f"{old}.conv.modulation.{kind}"]
    return out


def _check_architecture(architecture: str) -> None:
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; choose one of {', '.join(ARCHITECTURES)}")


def _resolutions(img_resolution: int, channels: Mapping[int, int]) -> list[int]:
    """4, 8, ..., img_resolution; raises ValueError where one of them has no channel count."""
    if img_resolution < 4 or img_resolution & (img_resolution - 1):
        raise ValueError(f"img_resolution must be a power of two, at least 4; got {img_resolution}")
    resolutions = [2**i for i in range(2, img_resolution.bit_length())]
    missing = [resolution for resolution in resolutions if resolution not in channels]
    if missing:
        raise ValueError(f"channels lacks the resolutions {missing}; it must list {resolutions}")
    return resolutions


def _shape(state: Mapping[str, Tensor], key: str) -> list[int]:
    return shape_of(state, key, "StyleGAN2 in StyleGAN2-ADA names")


def _channels(state: Mapping[str, Tensor], prefix: str, suffix: str) -> dict[int, int]:
    """{resolution: channels} from the keys `<prefix><resolution><suffix>`."""
    found = {}
    for key in state:
        middle = key[len(prefix) : len(key) - len(suffix)]
        if key.startswith(prefix) and key.endswith(suffix) and middle.isdecimal():
            found[int(middle)] = state[key].shape[0]
    if not found:
        raise ValueError(f"this is no StyleGAN2 state dict: no key looks like {prefix}<resolution>{suffix}")
    return found


def _architecture(state: Mapping[str, Tensor], *, resnet: str, skip: str) -> Architecture:
    """The architecture whose key there is."""
    if resnet in state:
        return "resnet"
    return "skip" if skip in state else "orig"


def _mapping_shapes(state: Mapping[str, Tensor]) -> tuple[tuple[int, int, int], dict[str, int]]:
    """z_dim, c_dim and w_dim of a mapping network, and what both networks' constructors call its layers."""
    num_layers = count_keys(state, "mapping.fc{}.weight")
    layer_features, inputs = _shape(state, "mapping.fc0.weight")
    conditional = "mapping.embed.weight" in state
    embed_features, c_dim = _shape(state, "mapping.embed.weight") if conditional else (0, 0)
    w_dim = _shape(state, f"mapping.fc{num_layers - 1}.weight")[0]
    layers = {"mapping_layers": num_layers, "embed_features": embed_features, "layer_features": layer_features}
    return (inputs - embed_features, c_dim, w_dim), layers
