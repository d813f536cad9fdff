"""The fill model: what it is taught with, that a step teaches, and what becomes of the weights."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.models.loading import load_generator
from engine.models.table import ASSETS, read_row
from engine.networks.comodgan import Filler
from training import cards
from training.fill import adversarial, export, figures
from training.fill.holes import free_form_hole, known_pixels
from training.jobs import Average
from training.mosaic import pool


@pytest.fixture
def small_pool() -> pool.Pool:
    """Forty avatars of two colours that fill their frame."""
    pictures = [np.full((pool.SIZE, pool.SIZE, 4), 255 if i % 2 else 60, dtype=np.uint8) for i in range(40)]
    facts = [{"source": "avatars", "opaque": True, "held_out": i < 2} for i in range(40)]
    return pool.Pool(pictures, facts, np.zeros((40, 1)))


def test_holes_have_every_share_of_the_picture() -> None:
    """Shares are met from above by parts of at most a quarter each, so every fifth of the range is hit."""
    rng = np.random.default_rng(1)
    shares = np.array([free_form_hole(rng, 64).mean() for _ in range(300)])
    counts, _ = np.histogram(shares, 5, (0, 1))
    assert counts.min() > 15
    assert shares.max() == 1 and shares.min() < 0.1


def test_known_is_one_where_there_is_no_hole_and_the_same_for_the_same_seed() -> None:
    known = known_pixels(np.random.default_rng(2), 3, 32)
    assert known.shape == (3, 1, 32, 32) and set(np.unique(known)) <= {0.0, 1.0}
    hole = free_form_hole(np.random.default_rng(2), 32)
    np.testing.assert_array_equal(known[0, 0], ~hole)
    np.testing.assert_array_equal(known, known_pixels(np.random.default_rng(2), 3, 32))


def test_differences_count_in_the_hole_most_and_not_at_all_where_all_is_right() -> None:
    wanted = torch.zeros(1, 3, 64, 64)
    known = torch.ones(1, 1, 64, 64)
    known[..., 16:32, 16:32] = 0
    assert adversarial.hole_loss(wanted, wanted, known).tolist() == [0]
    inside, outside = wanted.clone(), wanted.clone()
    inside[..., 16:32, 16:32] = 0.5
    outside[..., 40:56, 40:56] = 0.5
    assert adversarial.hole_loss(inside, wanted, known) > 3 * adversarial.hole_loss(outside, wanted, known)


def test_differences_weigh_less_once_the_discriminator_is_listened_to() -> None:
    assert adversarial.weight_of_differences(0) == adversarial.weight_of_differences(adversarial.SHARPEN_FROM) == 1
    late = [adversarial.weight_of_differences(done) for done in (0.5, 0.7, 1.0)]
    assert late == sorted(late, reverse=True) and late[-1] == pytest.approx(adversarial.DIFFERENCES_LEFT)


def test_the_discriminator_learns_to_tell_fillings_from_pictures() -> None:
    torch.manual_seed(0)
    critic = adversarial.Networks().discriminator
    optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3)
    real, made = torch.ones(4, 3, 64, 64), -torch.ones(4, 3, 64, 64)
    known = torch.zeros(4, 1, 64, 64)
    for step in range(1, 21):
        logits = adversarial.train_critic(critic, optimizer, real, made, known, step)
    assert logits["real"] > 0 > logits["made"]


def test_batches_are_of_pictures_to_learn_from_and_go_on_where_a_run_left_off(small_pool: pool.Pool) -> None:
    stream = adversarial.batches(small_pool, 4, 3, 0)
    next(stream)
    images, known = next(stream)
    assert images.shape == (4, 3, 64, 64) and known.shape == (4, 1, 64, 64)
    assert images.abs().max() <= 1
    again, _ = next(adversarial.batches(small_pool, 4, 3, 1))
    assert torch.equal(images, again)


def test_a_run_ends_with_weights_that_another_begins_with(
    small_pool: pool.Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its discriminator's share of the schedule included; in half precision, 3 MB at most."""
    monkeypatch.setattr(adversarial, "FOLDER", tmp_path / "run")
    monkeypatch.setattr(pool, "open_pool", lambda: small_pool)
    arguments = ["fill", "--steps", "4", "--batch", "2", "--device", "cpu", "--export", str(tmp_path / "weights")]
    monkeypatch.setattr(sys, "argv", arguments)
    adversarial.main()
    assert (tmp_path / "run" / "latest.png").exists()
    assert sum(path.stat().st_size for path in (tmp_path / "weights").iterdir()) < 3.1e6
    networks = adversarial.read_weights(tmp_path / "weights")
    wanted, known = torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    known[..., :32] = 0
    filled = networks.generator(wanted, known, torch.randn(1, adversarial.Z_DIM))
    assert torch.equal(filled[..., 32:], wanted[..., 32:]) and filled.isfinite().all()


def test_two_fillings_of_a_hole_lack_variety_as_far_as_they_are_alike() -> None:
    """All of it where they are equal, none once they differ as wanted; a small hole asks for less."""
    known = torch.zeros(4, 1, 8, 8)
    known[2:, :, 2:] = 1  # a quarter is hidden
    alike = torch.zeros(4, 3, 8, 8)
    wanted = adversarial.VARIETY_WANTED
    assert adversarial.lack_of_variety(alike, known) == pytest.approx((wanted + wanted / 4) / 2)
    apart = alike.clone()
    apart[::2] = 2 * wanted
    assert adversarial.lack_of_variety(apart, known) == 0


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the export makes of untrained weights, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "assets/mosaic").mkdir(parents=True)
    shutil.copy(ASSETS / "mosaic/model.json", tmp_path / export.MOSAIC)
    torch.manual_seed(0)
    adversarial.write_weights(tmp_path / "elsewhere", Average(adversarial.Networks()))
    monkeypatch.setattr(sys, "argv", ["export", "--weights", "elsewhere", "--steps", "1234"])
    export.main()
    return tmp_path / export.BUNDLE


def test_the_export_is_a_model_that_inpaints(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its description names the sources of its pictures and no others; written anew it stays as it is."""
    row = read_row(bundle)
    assert (row.family, row.resolution, row.prompt_model) == ("comodgan", 64, "clip-mosaic")
    text = (bundle / "model.json").read_text()
    assert "fashion" not in text.lower() and "emojibase" not in text and "Twitter Emoji" in text and "1234" in text
    network = load_generator("fill", assets=bundle.parent).network
    assert isinstance(network, Filler) and network.discriminator is not None
    monkeypatch.setattr(sys, "argv", ["export"])
    export.main()
    assert (bundle / "model.json").read_text() == text


def test_the_figures_of_untrained_weights_are_on_the_card(
    bundle: Path, small_pool: pool.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of flat pictures, by a judge that sees four colours; sources that are not there are left out."""

    def judge(images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)

    model = load_generator("fill", assets=bundle.parent)
    monkeypatch.setattr(figures.engine, "load_generator", lambda name, assets: model)
    monkeypatch.setattr(
        figures.judges, "load_mosaic", lambda: type("Judge", (), {"image_features": staticmethod(judge)})
    )
    monkeypatch.setattr(pool, "open_pool", lambda: small_pool)
    monkeypatch.setattr(sys, "argv", ["figures", "--count", "20"])
    figures.main()
    card = cards.card(cards.FILL, bundle)
    assert "| avatars | " in card and "P-IDS, C = 10: " in card and "1,234 steps" in card
    assert "{" not in card and "| Twitter Emoji | " in card
    found = figures.figures(model.network, judge, small_pool)
    differences = found["mean absolute error in the hole, of 0 to 1"]
    assert isinstance(differences, dict) and list(differences) == ["avatars"] and 0 < differences["avatars"] < 1
