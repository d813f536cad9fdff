"""The avatars at 256 px: what the larger generator starts from, what it is shown, and that a run resumes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoints import read_safetensors
from engine.latents.settling import Settling
from engine.networks.stylegan2 import binomial_filter, upsample
from training.avatars import larger, stream, synthesis, traits


@torch.no_grad()
def test_it_starts_with_the_smaller_pictures() -> None:
    """Up to 64 px the pictures are the 128-px generator's, larger ones those upsampled; an extra changes none."""
    old, new = synthesis.build(), larger.build()
    for parameter in old.parameters():
        torch.nn.init.normal_(parameter)
    weights = {name: value for name, value in old.state_dict().items() if "noise" not in name}
    new.load_state_dict(larger.widened(weights, new))
    asked = stream.asked_traits(np.random.default_rng(0), 4)
    w = synthesis.to_w(asked, stream.statistics())
    made = larger.synthesize(new, w)
    before = synthesis.synthesize(old, synthesis.to_w(asked[:, : traits.SIZE], traits.statistics()), 64)
    torch.testing.assert_close(made[64], before, atol=1e-3 * float(before.abs().max()), rtol=0)
    torch.testing.assert_close(made[128], upsample(made[64], binomial_filter()), atol=1e-3, rtol=0)
    torch.testing.assert_close(made[256], upsample(made[128], binomial_filter()), atol=1e-3, rtol=0)
    w[:, traits.SIZE :] += 3
    torch.testing.assert_close(larger.synthesize(new, w)[256], made[256], atol=1e-3, rtol=0)
    assert larger.synthesize(new, w, 64).keys() == {4, 8, 16, 32, 64}


def test_worker_processes_draw_what_one_would_in_the_same_order() -> None:
    alone = stream.stream(2, 32, 5, 3, workers=0, device=torch.device("cpu"))
    helped = stream.stream(2, 32, 5, 3, workers=2, device=torch.device("cpu"))
    for (given, images), (others, same), _ in zip(alone, helped, range(4), strict=False):
        assert torch.equal(given, others) and torch.equal(images, same)
    named, pictures = next(stream.stream(2, 32, 5, 0, workers=0, device=torch.device("cpu"), named=True))
    assert named.shape == (2, traits.WIDE) and pictures.shape == (2, 3, 32, 32)


def test_what_is_asked_covers_more_than_the_prior() -> None:
    asked = stream.asked_traits(np.random.default_rng(1), 400)
    np.testing.assert_array_equal(asked, stream.asked_traits(np.random.default_rng(1), 400))
    prior = traits.sample(np.random.default_rng(2), 400, extras=True)
    mean, deviation = stream.statistics()
    lengths, usual = (np.linalg.norm((rows - mean) / deviation, axis=1) for rows in (asked, prior))
    # The flow ends at lengths of 8.5 to 9.6 of 64 traits, where the prior's are 8.0.
    assert np.quantile(lengths, 0.95) > np.quantile(usual, 0.95) and np.quantile(lengths, 0.05) < usual.min()


def test_most_of_what_it_learns_is_settled() -> None:
    given, shown = stream.examples(np.random.default_rng(3), 600)
    np.testing.assert_allclose(traits.project(given), shown, atol=1e-6)
    part = traits.LAYOUT["hat"]
    wide = traits.project(stream.asked_traits(np.random.default_rng(3), 600))
    assert (shown[:, part].max(1) > 0.95).mean() > (wide[:, part].max(1) > 0.95).mean() + 0.2
    assert ((shown[:, part].max(1) < 0.8).mean()) > 0.02  # the ways between are there too


@pytest.mark.parametrize("size", [traits.SIZE, traits.WIDE])
def test_the_engine_settles_as_the_drawings_do(size: int) -> None:
    settling = Settling.from_tensors(larger.settling_tensors(0.0, size))
    assert settling is not None
    statistics = stream.statistics()[0][:size], stream.statistics()[1][:size]
    asked = stream.asked_traits(np.random.default_rng(4), 300)[:, :size]
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
        monkeypatch.setattr(sys, "argv", ["larger", "--batch", "2", *more])
        larger.main()
        return larger.load_average(tmp_path / folder)[0].get_parameter("synthesis.b128.conv1.weight").detach()

    # Else the rate would know how long each run is meant to be.
    monkeypatch.setattr(larger.Pace, "set_rate", lambda self, _, step, __: 1.0 if step >= self._steps else 0.9)
    first = tmp_path / "first.safetensors"
    larger.write_weights(first, larger.build())
    monkeypatch.setattr(larger, "first_weights", lambda: read_safetensors(first))
    train("resumed", "--steps", "1")
    assert torch.equal(train("resumed", "--steps", "2"), train("whole", "--steps", "2"))
    path = tmp_path / "weights.safetensors"
    train("whole", "--steps", "2", "--export", str(path))
    monkeypatch.setattr(larger, "first_weights", lambda: read_safetensors(path))
    stored, step = larger.load_average(tmp_path / "none")
    assert step == 0
    kept = larger.load_average(tmp_path / "whole")[0]
    for name, value in kept.synthesis.state_dict().items():
        if "noise" not in name:
            torch.testing.assert_close(stored.synthesis.state_dict()[name], value, atol=1e-2, rtol=1e-3)
    figures = larger.figures(kept, count=8)
    assert 0 < figures["prior, 256 px, L1"] < 1 and figures["prior, 64 px, edges"] > 0.1
