"""Lowered precision: which numbers a device gets, and that pictures, features and gradients stay what they are.

There need not be a GPU: bfloat16 under autocast runs on the CPU as well, only slower. It has 8 significant bits, an
error of 2^-9 = 0.2 % a rounding; through some ten layers that is a few per cent of the picture's norm.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.models.loading import GeneratorModel, load_generator, load_prompt_model
from engine.models.precision import generator_dtype, lowered, prompt_model_dtype
from tests.engine.families.test_families import OPTIONS, write_model

IMAGE_ERROR = 0.05
GRADIENT_COSINE = 0.98


@pytest.mark.parametrize(
    ("device", "has_bfloat16", "generator", "prompt_model"),
    [
        ("cpu", None, torch.float32, torch.float32),
        ("cpu", True, torch.float32, torch.float32),
        ("cuda", True, torch.bfloat16, torch.bfloat16),
        ("cuda:1", False, torch.float32, torch.float16),
    ],
)
def test_what_a_device_computes_in(
    device: str, has_bfloat16: bool | None, generator: torch.dtype, prompt_model: torch.dtype
) -> None:
    assert generator_dtype(device, has_bfloat16=has_bfloat16) is generator
    assert prompt_model_dtype(device, has_bfloat16=has_bfloat16) is prompt_model


def test_nothing_changes_for_float32() -> None:
    with lowered("cpu", torch.float32):
        assert not torch.is_autocast_enabled("cpu")
    with lowered("cpu", torch.bfloat16):
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


def drawn(model: GeneratorModel) -> tuple[Tensor, Tensor]:
    """Two pictures, and the gradient of a random sum of theirs by the latents."""
    space = model.spaces[model.default_space]
    latents = space.sample([1, 2]).requires_grad_()
    images = model.render(latents, space)
    (images * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert latents.grad is not None and images.dtype == latents.grad.dtype == torch.float32
    return images.detach(), latents.grad


def assert_alike(full: tuple[Tensor, Tensor], half: tuple[Tensor, Tensor]) -> None:
    assert not torch.equal(full[0], half[0])  # it was computed otherwise
    assert (full[0] - half[0]).norm() <= IMAGE_ERROR * full[0].norm()
    cosine = torch.nn.functional.cosine_similarity(full[1].flatten(), half[1].flatten(), dim=0)
    assert cosine >= GRADIENT_COSINE


def test_stylegan2_draws_the_same_lowered(tiny_assets: Path) -> None:
    model = load_generator("avatars", assets=tiny_assets)
    assert model.dtype is torch.float32
    assert_alike(drawn(model), drawn(replace(model, dtype=torch.bfloat16)))


@pytest.mark.parametrize("family", OPTIONS)
def test_other_families_draw_the_same_lowered(family: str, tmp_path: Path) -> None:
    model = load_generator(str(write_model(tmp_path / family, family)))
    assert_alike(drawn(model), drawn(replace(model, dtype=torch.bfloat16)))


def test_prompt_models_see_the_same_lowered(tiny_assets: Path) -> None:
    model = load_prompt_model("clip-mini", assets=tiny_assets)
    pictures = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seen = []
    for dtype in (torch.float32, torch.bfloat16):
        own = pictures.clone().requires_grad_()
        features = replace(model, dtype=dtype).image_features(own)
        torch.testing.assert_close(features.norm(dim=1), torch.ones(3), rtol=1e-5, atol=1e-5)
        features[:, 0].sum().backward()
        assert own.grad is not None
        seen.append((features.detach(), own.grad))
    assert_alike(seen[0], seen[1])
