"""What the tests of several networks share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.goldens import assert_near


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_cotangents_pull_back_together(function: Callable[[Tensor], Tensor], inputs: Tensor) -> None:
    """One batched backward pass for three cotangents gives what three passes give; the flow asks for it."""
    inputs = inputs.requires_grad_()
    outputs = function(inputs)
    cotangents = normal(3, *outputs.shape, seed=9)
    (together,) = torch.autograd.grad(outputs, inputs, cotangents, is_grads_batched=True, retain_graph=True)
    for cotangent, pulled in zip(cotangents, together, strict=True):
        (alone,) = torch.autograd.grad(outputs, inputs, cotangent, retain_graph=True)
        assert_near(pulled, alone, 1e-12)
