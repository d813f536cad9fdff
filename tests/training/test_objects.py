"""The things: that a training begins with the weights and places it is given."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoints import read_safetensors, write_safetensors
from training.objects import pool, synthesis


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pool.Pool:
    """A pool of twelve squares in place of the whole one; runs write to a folder of the test's own."""
    pictures = np.zeros((12, pool.SIZE, pool.SIZE, 4), dtype=np.uint8)
    for number, picture in enumerate(pictures):
        picture[20 : 40 + 5 * number, 20:100] = 255
    facts: list[pool.Facts] = [{"source": "icons", "name": str(number), "held_out": False} for number in range(12)]
    places = np.random.default_rng(0).standard_normal((12, pool.DIMENSIONS)).astype(np.float32)
    squares = pool.Pool(pictures, facts, places)
    monkeypatch.setattr(pool, "open_pool", lambda: squares)
    monkeypatch.setattr(synthesis, "FOLDER", tmp_path / "run")
    return squares


def train(monkeypatch: pytest.MonkeyPatch, *options: str | Path) -> None:
    """One step that is too small to change anything."""
    arguments = ["synthesis", "--steps", "1", "--batch", "2", "--rate", "1e-12", "--device", "cpu", *map(str, options)]
    monkeypatch.setattr(sys, "argv", arguments)
    synthesis.main()


def test_a_training_begins_with_the_weights_given(
    few: pool.Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(9)
    given = synthesis.build()
    for parameter in given.synthesis.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    weights = {f"synthesis.{name}": value for name, value in given.synthesis.state_dict().items()}
    start, after = tmp_path / "start.safetensors", tmp_path / "after.safetensors"
    places = torch.from_numpy(few.places).flip(0)
    write_safetensors(start, weights | {"places": places}, dtype=torch.float16)
    train(monkeypatch, "--from", start, "--export", after)
    wanted, made = read_safetensors(start), read_safetensors(after)
    for name in wanted:
        # Half precision rounds by 5e-4 of a number; the places move by 1e-6.
        torch.testing.assert_close(made[name], wanted[name], atol=1e-5, rtol=2e-3)


def test_the_checkpoint_has_the_generator_s_shapes() -> None:
    stored = read_safetensors(Path(pool.__file__).parents[1] / "checkpoints" / "objects-128.safetensors")
    shapes = {f"synthesis.{name}": value.shape for name, value in synthesis.build().synthesis.state_dict().items()}
    assert {name: value.shape for name, value in stored.items() if name != "places"} == shapes
    assert stored["places"].shape[1] == pool.DIMENSIONS and stored["places"].isfinite().all()
