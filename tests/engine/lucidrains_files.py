"""Tiny files as lucidrains' stylegan2-pytorch writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DIM, CAPACITY, DEPTH = 6, 2, 3


def mapping_state(dim: int = DIM, depth: int = DEPTH, *, device: str = "cpu") -> dict[str, Tensor]:
    state = {}
    for i in range(depth):
        state[f"net.{2 * i}.weight"] = 4 * torch.randn(dim, dim, device=device)
        state[f"net.{2 * i}.bias"] = torch.randn(dim, device=device)
    return state


def generator_state(
    side: int = 16,
    dim: int = DIM,
    capacity: int = CAPACITY,
    *,
    most: int = 512,
    colours: int = 3,
    attention: tuple[int, ...] = (),
    inner: int = 128,
    has_constant: bool = True,
    blurs: bool = True,
    device: str = "cpu",
) -> dict[str, Tensor]:
    """capacity: twice as many channels in the last block, doubled for each before. attention: numbers of blocks."""
    blocks = side.bit_length() - 2

    def normal(*shape: int) -> Tensor:
        fan_in = max(1, torch.Size(shape[1:]).numel())
        return torch.randn(shape, device=device) * (2 / fan_in) ** 0.5

    def layer(name: str, *shape: int) -> dict[str, Tensor]:
        return {f"{name}.weight": normal(*shape), f"{name}.bias": 0.3 * torch.randn(shape[0], device=device)}

    widths = [min(most, capacity * 2 ** (blocks - i)) for i in range(blocks)]
    before = widths[0]
    if has_constant:
        state = {"initial_block": torch.randn(1, before, 4, 4, device=device)}
    else:
        state = {"to_initial_block.weight": normal(dim, before, 4, 4)}
    state |= layer("initial_conv", before, before, 3, 3)
    for i, width in enumerate(widths):
        at = f"blocks.{i}"
        state |= layer(f"{at}.to_style1", before, dim) | layer(f"{at}.to_noise1", width, 1)
        state |= layer(f"{at}.to_style2", width, dim) | layer(f"{at}.to_noise2", width, 1)
        state[f"{at}.conv1.weight"], state[f"{at}.conv2.weight"] = (
            normal(width, before, 3, 3),
            normal(width, width, 3, 3),
        )
        state |= layer(f"{at}.to_rgb.to_style", width, dim)
        state[f"{at}.to_rgb.conv.weight"] = normal(colours, width, 1, 1)
        if blurs and i < blocks - 1:
            state[f"{at}.to_rgb.upsample.1.f"] = torch.tensor([1.0, 2.0, 1.0], device=device)
        if i in attention:
            at = f"attns.{i}"
            for part in ("0", "1"):
                state[f"{at}.{part}.fn.norm.g"] = 1 + 0.2 * torch.randn(1, before, 1, 1, device=device)
                state[f"{at}.{part}.fn.norm.b"] = 0.2 * torch.randn(1, before, 1, 1, device=device)
            state[f"{at}.0.fn.fn.to_q.weight"] = normal(inner, before, 1, 1)
            state[f"{at}.0.fn.fn.to_kv.net.0.weight"] = normal(before, 1, 3, 3)
            state[f"{at}.0.fn.fn.to_kv.net.1.weight"] = normal(2 * inner, before, 1, 1)
            state |= layer(f"{at}.0.fn.fn.to_out", before, inner, 1, 1)
            state |= layer(f"{at}.1.fn.fn.0", 2 * before, before, 1, 1)
            state |= layer(f"{at}.1.fn.fn.2", before, 2 * before, 1, 1)
        before = width
    return state


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{key}": value for key, value in state.items()}


def averaged_state(seed: int = 0, **about: Any) -> dict[str, Tensor]:
    """The averaged mapping and generator."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return {**prefixed("SE", mapping_state()), **prefixed("GE", generator_state(**about))}


def write_training(path: Path, **about: Any) -> dict[str, Tensor]:
    """A training's file; returns its averaged part."""
    averaged, newest = averaged_state(**about), averaged_state(seed=1, **about)
    rest = {key.replace("SE.", "S.", 1).replace("GE.", "G.", 1): value for key, value in newest.items()}
    judge = {
        "D.blocks.0.conv_res.weight": torch.ones(4, 3, 1, 1),
        "D_aug.D.blocks.0.conv_res.weight": torch.ones(4, 3, 1, 1),
    }
    torch.save({"GAN": {**rest, **judge, **averaged}, "version": "1.9.0"}, path)
    return averaged
