"""Edits that begin at a saved w: exactly the picture it draws, or a message that names the counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoints import write_safetensors
from engine.errors import PictureError
from engine.latents.styles import noisy_layers
from engine.models.loading import GeneratorModel, load_generator
from engine.settings import SettingsError
from engine.tasks.inversion import Renderer
from engine.tasks.saved_starts import saved_start

LAYERS, W_DIM = 6, 8


@pytest.fixture
def generator(tiny_assets: Path) -> GeneratorModel:
    return load_generator("avatars", assets=tiny_assets)


def normal(*shape: int) -> torch.Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(W_DIM,), (1, W_DIM), (1, 1, W_DIM), (LAYERS, W_DIM), (1, 1, LAYERS, W_DIM)])
def test_the_picture_is_the_one_that_the_w_draws(
    shape: tuple[int, ...], generator: GeneratorModel, tmp_path: Path
) -> None:
    """Also of a w so far out that the mapping network gives none like it."""
    w = normal(*shape)
    np.save(tmp_path / "w.npy", w.numpy())
    start = saved_start(tmp_path / "w.npy", generator)
    expected = generator.network.synthesis(w.reshape(1, -1, W_DIM).expand(1, LAYERS, W_DIM))
    torch.testing.assert_close(start.image, expected, rtol=1e-4, atol=1e-4)
    shown = Renderer(generator).render(start.latents[None], start.residual)
    torch.testing.assert_close(shown, start.image)
    assert start.in_domain and start.distance == 0 and torch.equal(start.image, start.target)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((18, 512), "w.npy holds 18 w of 512 numbers, but avatars draws from 6 w of 8, or one for all.*choose that"),
        ((1, 14, W_DIM), "holds 14 w of 8 numbers"),
        ((512,), "holds one w of 512 numbers"),
        ((5, LAYERS, W_DIM), "holds the w of 5 pictures, expected one. Save the one that you mean by itself"),
        ((2, 1, 1, W_DIM), "holds the w of 2 pictures"),
    ],
)  # fmt: skip
def test_a_w_of_another_model(shape: tuple[int, ...], message: str, generator: GeneratorModel, tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", normal(*shape).numpy())
    with pytest.raises(PictureError, match=message):
        saved_start(tmp_path / "w.npy", generator)


def test_a_model_without_w(generator: GeneratorModel, tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", normal(W_DIM).numpy())
    with pytest.raises(SettingsError, match="only a StyleGAN2"):
        saved_start(tmp_path / "w.npy", replace(generator, spaces={"z": generator.spaces["z"]}))


def test_what_invert_wrote(generator: GeneratorModel, tmp_path: Path) -> None:
    """Latents, residual styles and noise; files of earlier versions have no residual."""
    import copy

    network = copy.deepcopy(generator.network)
    for module in network.modules():
        if hasattr(module, "noise_strength"):
            module.noise_strength.fill_(0.1)
    noisy = replace(generator, network=network)
    renderer = Renderer(noisy)
    noise = {f"noise.{name}": torch.ones_like(one) for name, one in noisy_layers(network.synthesis).items()}
    tensors = {"latents": normal(*renderer.space.shape), "residual": normal(renderer.synthesis.size), **noise}
    for kept in (set(tensors), {"latents"}, {"latents", "residual"}):
        write_safetensors(tmp_path / "w.safetensors", {key: tensors[key] for key in kept})
        start = saved_start(tmp_path / "w.safetensors", noisy)
        assert torch.equal(start.latents, tensors["latents"])
        assert torch.equal(start.residual, tensors["residual"]) == ("residual" in kept)
        assert len(start.noise) == (len(noise) if kept == set(tensors) else 0)
        shown = Renderer(noisy, start.noise).render(start.latents[None], start.residual)
        torch.testing.assert_close(shown, start.image)
    first = next(iter(noise))
    for wrong in ({"latents": normal(7, 8)}, {"residual": normal(5)}, {first: torch.ones(3, 3)}, {"noise.x": W_ONE}):
        write_safetensors(tmp_path / "w.safetensors", tensors | wrong)
        with pytest.raises(PictureError, match="made with another model than avatars"):
            saved_start(tmp_path / "w.safetensors", noisy)


W_ONE = torch.ones(1)
