"""Tiny files as pSp and e4e write them: a rosinality StyleGAN2 as `decoder.`, an IR-SE-50 encoder as `encoder.`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

UNITS = (3, 4, 14, 3)
SIDE, W_DIM, Z_LAYERS = 16, 8, 2
LAYERS = 2 * int(math.log2(SIDE)) - 2  # of the generator
INPUT = 32  # pixels that the encoder reads
REAL_WIDTHS = (64, 64, 128, 256, 512)
REDUCTION = 3  # of the channels in the excitation; really 16
TINY_WIDTHS = (6, 6, 8, 6, 8)  # of the input layer and each stage; the last two differ as the real ones do

# The states are on the meta device where `device` says so: names and shapes alone.


def body_state(widths: tuple[int, ...], reduction: int, *, channels: int = 3, device: str = "cpu") -> dict[str, Tensor]:
    """Input layer and IR-SE-50, weights small enough that pictures neither vanish nor explode."""
    state: dict[str, Tensor] = {"input_layer.0.weight": _normal(widths[0], channels, 3, 3, device=device)}
    state |= _norm("input_layer.1", widths[0], device)
    state["input_layer.2.weight"] = torch.full((widths[0],), 0.25, device=device)
    unit, before = 0, widths[0]
    for count, width in zip(UNITS, widths[1:], strict=True):
        for _ in range(count):
            at = f"body.{unit}"
            if before != width:
                state[f"{at}.shortcut_layer.0.weight"] = _normal(width, before, 1, 1, device=device)
                state |= _norm(f"{at}.shortcut_layer.1", width, device)
            state |= _norm(f"{at}.res_layer.0", before, device)
            state[f"{at}.res_layer.1.weight"] = _normal(width, before, 3, 3, device=device)
            state[f"{at}.res_layer.2.weight"] = torch.full((width,), 0.2, device=device)
            state[f"{at}.res_layer.3.weight"] = _normal(width, width, 3, 3, device=device)
            state |= _norm(f"{at}.res_layer.4", width, device)
            squeezed = width // reduction
            state[f"{at}.res_layer.5.fc1.weight"] = _normal(squeezed, width, 1, 1, device=device)
            state[f"{at}.res_layer.5.fc2.weight"] = _normal(width, squeezed, 1, 1, device=device)
            unit, before = unit + 1, width
    return state


def pyramid_state(
    widths: tuple[int, ...] = TINY_WIDTHS,
    reduction: int = REDUCTION,
    *,
    layers: int = LAYERS,
    halvings: int = 1,
    channels: int = 3,
    device: str = "cpu",
) -> dict[str, Tensor]:
    """The encoder of pSp and of e4e. halvings: of the coarsest heads; the picture's side is 16 * 2^halvings."""
    state, top = body_state(widths, reduction, channels=channels, device=device), widths[-1]
    for i in range(layers):
        for j in range(halvings + (i >= 3) + (i >= 7)):
            state[f"styles.{i}.convs.{2 * j}.weight"] = _normal(top, top, 3, 3, device=device)
            state[f"styles.{i}.convs.{2 * j}.bias"] = _normal(top, device=device)
        state[f"styles.{i}.linear.weight"] = torch.randn(top, top, device=device)
        state[f"styles.{i}.linear.bias"] = _normal(top, device=device)
    for name, width in (("latlayer1", widths[-2]), ("latlayer2", widths[-3])):
        state[f"{name}.weight"] = _normal(top, width, 1, 1, device=device)
        state[f"{name}.bias"] = _normal(top, device=device)
    return state


def mean_state() -> dict[str, Tensor]:
    """The encoder to one w for all layers."""
    last = {"linear.weight": torch.randn(W_DIM, TINY_WIDTHS[-1]), "linear.bias": torch.randn(W_DIM)}
    return {**body_state(TINY_WIDTHS, REDUCTION), **last}


def grid_state(layers: int = LAYERS) -> dict[str, Tensor]:
    """The encoder to a w for each layer that has no pyramid."""
    last = TINY_WIDTHS[-1]
    return {
        **body_state(TINY_WIDTHS, REDUCTION),
        **_norm("output_layer_2.0", last, "cpu"),
        "output_layer_2.3.weight": _normal(W_DIM, 49 * last),
        "output_layer_2.3.bias": _normal(W_DIM),
        "linear.weight": torch.randn(W_DIM * layers, W_DIM),
        "linear.bias": _normal(W_DIM * layers),
    }


def decoder_state(
    side: int = SIDE, width: int = W_DIM, *, mapping_layers: int = Z_LAYERS, device: str = "cpu"
) -> dict[str, Tensor]:
    """rosinality's generator, with as many channels at every size as w has numbers."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=device)

    def modulated(name: str, out: int, size: int) -> dict[str, Tensor]:
        return {
            f"{name}.conv.weight": normal(1, out, width, size, size),
            f"{name}.conv.modulation.weight": normal(width, width),
            f"{name}.conv.modulation.bias": torch.ones(width, device=device),
        }

    def styled(name: str, up: bool) -> dict[str, Tensor]:
        blurred = {f"{name}.conv.blur.kernel": _kernel(4.0, device)} if up else {}
        rest = {f"{name}.noise.weight": torch.zeros(1, device=device), f"{name}.activate.bias": 0.1 * normal(width)}
        return {**modulated(name, width, 3), **blurred, **rest}

    def rgb(name: str, up: bool) -> dict[str, Tensor]:
        enlarged = {f"{name}.upsample.kernel": _kernel(4.0, device)} if up else {}
        return {**modulated(name, 3, 1), **enlarged, f"{name}.bias": torch.zeros(1, 3, 1, 1, device=device)}

    state = {"input.input": normal(1, width, 4, 4), **styled("conv1", False), **rgb("to_rgb1", False)}
    for i in range(1, mapping_layers + 1):
        state[f"style.{i}.weight"], state[f"style.{i}.bias"] = 100 * normal(width, width), 10 * normal(width)
    doublings = int(math.log2(side)) - 2
    for i in range(doublings):
        state |= styled(f"convs.{2 * i}", True) | styled(f"convs.{2 * i + 1}", False) | rgb(f"to_rgbs.{i}", True)
    for i in range(2 * doublings + 1):
        edge = 4 * 2 ** ((i + 1) // 2)
        state[f"noises.noise_{i}"] = normal(1, 1, edge, edge)
    return state


def encoder_file(
    kind: str = "Encoder4Editing",
    *,
    encoder: dict[str, Tensor] | None = None,
    decoder: dict[str, Tensor] | None = None,
    seed: int = 0,
    **opts: Any,
) -> dict[str, Any]:
    """What torch saves of a training: the weights, the mean w of each layer, the training's options."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        decoder = decoder_state() if decoder is None else decoder
        encoder = pyramid_state() if encoder is None else encoder
        average = 0.3 * torch.randn(W_DIM)
    state = {f"encoder.{key}": value for key, value in encoder.items()}
    state |= {f"decoder.{key}": value for key, value in decoder.items()}
    told = {"encoder_type": kind, "start_from_latent_avg": True, "output_size": SIDE, "device": "cuda:0", **opts}
    return {"state_dict": state, "latent_avg": average.repeat(LAYERS, 1), "opts": told}


def write_encoder_file(path: Path, **about: Any) -> Path:
    """See `encoder_file`."""
    torch.save(encoder_file(**about), path)
    return path


def _normal(*shape: int, device: str = "cpu") -> Tensor:
    """Standard deviation 1 / sqrt(fan-in)."""
    return torch.randn(shape, device=device) / math.sqrt(math.prod(shape[1:]))


def _norm(name: str, width: int, device: str) -> dict[str, Tensor]:
    return {
        f"{name}.weight": 1 + 0.2 * torch.randn(width, device=device),
        f"{name}.bias": 0.1 * torch.randn(width, device=device),
        f"{name}.running_mean": 0.1 * torch.randn(width, device=device),
        f"{name}.running_var": 0.5 + torch.rand(width, device=device),
        f"{name}.num_batches_tracked": torch.tensor(7, device=device),
    }


def _kernel(gain: float, device: str) -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=device)
    return gain * torch.outer(taps, taps) / 64
