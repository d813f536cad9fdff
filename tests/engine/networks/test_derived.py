"""Resampling convolutions against their plain formulations, and what frozen networks keep."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

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
from tests.engine.networks.checks import normal
from tests.goldens import assert_near

X, WEIGHT, BIAS = normal(2, 3, 6, 4), normal(5, 3, 3, 3, seed=1), normal(5, seed=2)


def test_doubling_is_repeating_and_convolving() -> None:
    plain = F.conv2d(double(X), WEIGHT, BIAS, padding=1)
    assert_near(convolve_doubled(X, doubling_kernel(WEIGHT), BIAS), plain, 1e-12)


def test_halving_is_convolving_and_averaging() -> None:
    plain = F.avg_pool2d(F.conv2d(X, WEIGHT, BIAS, padding=1), 2)
    assert_near(convolve_halved(X, halving_kernel(WEIGHT), BIAS), plain, 1e-12)


def test_halve_undoes_double() -> None:
    assert torch.equal(double(X)[:, :, 1::2, ::2], X)
    assert_near(halve(double(X)), X, 1e-12)
    assert_near(halve(X), F.avg_pool2d(X, 2), 1e-12)


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_convolutions_of_any_size_and_layout(size: int, memory_format: torch.memory_format) -> None:
    x, weight = X.contiguous(memory_format=memory_format), normal(5, 3, size, size, seed=3)
    assert_near(convolve(x, weight, BIAS), F.conv2d(X, weight, BIAS, padding=size // 2), 1e-12)
    assert_near(convolve(x, weight), F.conv2d(X, weight, padding=size // 2), 1e-12)


def test_a_derived_tensor_is_kept_until_its_source_changes() -> None:
    calls, weight, derived = [], normal(3), Derived()

    def derive() -> Tensor:
        calls.append(1)
        return 2 * weight

    assert derived.get(derive, weight) is derived.get(derive, weight)
    weight.mul_(3)
    assert torch.equal(derived.get(derive, weight), 2 * weight)
    assert len(calls) == 2
    weight = weight.float()
    assert derived.get(derive, weight).dtype == torch.float32


def test_weights_that_learn_are_not_kept() -> None:
    weight, derived = normal(3).requires_grad_(), Derived()
    first = derived.get(lambda: 2 * weight, weight)
    assert first is not derived.get(lambda: 2 * weight, weight)
    (gradient,) = torch.autograd.grad(first.sum(), weight)
    assert gradient.tolist() == [2, 2, 2]
    with torch.no_grad():
        assert not derived.get(lambda: 2 * weight, weight).requires_grad


def test_copies_do_not_share_what_is_kept() -> None:
    weight, derived = normal(3), Derived()
    derived.get(lambda: 2 * weight, weight)
    for twin in (copy.deepcopy(derived), pickle.loads(pickle.dumps(derived))):
        assert torch.equal(twin.get(lambda: 5 * weight, weight), 5 * weight)


def test_keys_are_counted_up_to_a_gap() -> None:
    state = {f"blocks.{i}.w": torch.zeros(2, i + 1) for i in (0, 1, 3)}
    assert count_keys(state, "blocks.{}.w") == 2
    assert count_keys(state, "blocks.{}.w", first=3) == 1
    assert shape_of(state, "blocks.1.w", "a test") == [2, 2]
    with pytest.raises(ValueError, match="no state dict of a test: it lacks 'blocks.2.w'"):
        shape_of(state, "blocks.2.w", "a test")
