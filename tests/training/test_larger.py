"""The avatars at 256 px: what the larger generator starts from, what it is shown, and that a run resumes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoints import read_safetensors
from engine.latents.settling import Settling
from engine.networks.stylegan2 import binomial_filter, upsample
from training.avatars import larger, synthesis, traits


def bundled() -> dict[str, torch.Tensor]:
    return read_safetensors(larger.BUNDLE / "generator.safetensors")


@torch.no_grad()
def test_it_starts_with_the_bundled_pictures() -> None:
    """Half-size pictures are the bundle's, full-size ones those upsampled, and an extra changes neither."""
    old, new = synthesis.build(), larger.build(256)
    old.load_state_dict(bundled())
    new.load_state_dict(larger.widened(bundled(), new))
    asked = larger.asked_traits(np.random.default_rng(0), 4)
    w = synthesis.to_w(asked, larger.statistics())
    smaller, larger_one = larger.synthesize(new, w)
    before = synthesis.synthesize(old, synthesis.to_w(asked[:, : traits.SIZE], synthesis.trait_statistics()))
    torch.testing.assert_close(smaller, before, atol=1e-4, rtol=0)
    assert larger_one.shape[-1] == 256
    torch.testing.assert_close(larger_one, upsample(before, binomial_filter()), atol=1e-4, rtol=0)
    w[:, traits.SIZE :] += 3
    torch.testing.assert_close(larger.synthesize(new, w)[-1], larger_one, atol=1e-4, rtol=0)


def test_what_is_asked_covers_more_than_the_prior() -> None:
    asked = larger.asked_traits(np.random.default_rng(1), 400)
    np.testing.assert_array_equal(asked, larger.asked_traits(np.random.default_rng(1), 400))
    prior = traits.sample(np.random.default_rng(2), 400, extras=True)
    mean, deviation = larger.statistics()
    lengths, usual = (np.linalg.norm((rows - mean) / deviation, axis=1) for rows in (asked, prior))
    # The flow ends at lengths of 8.5 to 9.6 of 64 traits, where the prior's are 8.0.
    assert np.quantile(lengths, 0.95) > np.quantile(usual, 0.95) and np.quantile(lengths, 0.05) < usual.min()


def test_most_of_what_it_learns_is_settled() -> None:
    given, shown = larger.examples(np.random.default_rng(3), 600)
    np.testing.assert_allclose(traits.project(given), shown, atol=1e-6)
    part = traits.LAYOUT["hat"]
    wide = traits.project(larger.asked_traits(np.random.default_rng(3), 600))
    assert (shown[:, part].max(1) > 0.95).mean() > (wide[:, part].max(1) > 0.95).mean() + 0.2
    assert ((shown[:, part].max(1) < 0.8).mean()) > 0.02  # the ways between are there too


@pytest.mark.parametrize("size", [traits.SIZE, traits.WIDE])
def test_the_engine_settles_as_the_drawings_do(size: int) -> None:
    settling = Settling.from_tensors(larger.settling_tensors(0.0, size))
    assert settling is not None
    statistics = larger.statistics()[0][:size], larger.statistics()[1][:size]
    asked = larger.asked_traits(np.random.default_rng(4), 300)[:, :size]
    settled = settling(synthesis.to_w(asked, statistics))
    torch.testing.assert_close(settled, synthesis.to_w(traits.settle(asked), statistics), atol=5e-3, rtol=1e-3)


def test_edges_and_the_face_count_more() -> None:
    wanted = torch.ones(1, 3, 64, 64)
    wanted[..., :20] = -1
    weight = larger.focus(wanted)
    assert weight.shape == (1, 1, 64, 64)
    assert weight[0, 0, 5, 19] > 2 * weight[0, 0, 5, 60]
    assert weight[0, 0, 34, 32] > 1.5 * weight[0, 0, 5, 60]


def test_a_run_learns_resumes_and_leaves_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(folder: str, *more: str) -> torch.Tensor:
        monkeypatch.setattr(larger, "FOLDER", tmp_path / folder)
        monkeypatch.setattr(sys, "argv", ["larger", "--from-bundle", "--size", "128", "--batch", "2", *more])
        larger.main()
        return larger.load_average(128, tmp_path / folder)[0].get_parameter("synthesis.b128.conv1.weight").detach()

    monkeypatch.setattr(larger, "set_schedule", lambda *_: None)  # it would know how long each run is meant to be
    train("resumed", "--steps", "1")
    assert torch.equal(train("resumed", "--steps", "2"), train("whole", "--steps", "2"))
    path = tmp_path / "weights.safetensors"
    train("whole", "--steps", "2", "--export", str(path))
    monkeypatch.setattr(larger, "CHECKPOINT", path)
    stored, step = larger.load_average(128, tmp_path / "none")
    assert step == 0
    kept = larger.load_average(128, tmp_path / "whole")[0]
    for name, value in kept.synthesis.state_dict().items():
        if "noise" not in name:
            torch.testing.assert_close(stored.synthesis.state_dict()[name], value, atol=1e-2, rtol=1e-3)
    figures = larger.figures(kept, size=128, count=8)
    assert 0 < figures["prior, 256 px, L1"] < 0.3 and 0.5 < figures["prior, 256 px, edges"] < 1.5
