"""Mosaic's making: captions and what they fit, codes as running means, the fold into a dVAE, pictures moved against."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.networks.dalle_dvae import map_pixels
from training import clip_mosaic
from training.avatars import traits
from training.mosaic import colours, dvae, export, sources, styles, words
from training.mosaic import pool as mosaic_pool
from training.mosaic.pool import Facts, Look, Pool


def glyph(source: str, name: str, *also: str) -> Facts:
    return {"source": source, "origin": "set", "name": name, "also": list(also), "opaque": False, "held_out": False}


FACTS: list[Facts] = [
    glyph("emoji", "red heart", "love", "emotion"),
    glyph("emoji", "blue heart", "heart", "blue"),
    glyph("icons", "heart", "like"),
    glyph("icons", "house", "home"),
    {"source": "fashion", "origin": "fashion-mnist", "class": 9, "opaque": True, "held_out": False},
    {"source": "styles", "origin": "pixel-art", "tags": ["glasses", "brown hair"], "opaque": False, "held_out": False},
    {"source": "avatars", "origin": "avatars", "traits": 0, "opaque": True, "held_out": True},
]


@pytest.fixture(scope="module")
def pool() -> Pool:
    """One picture of each kind: a grey square on nothing, or one that fills its frame."""
    pictures = np.zeros((len(FACTS), 64, 64, 4), dtype=np.uint8)
    pictures[:, 16:48, 16:48, 3] = 255
    for picture, facts in zip(pictures, FACTS, strict=True):
        if facts["opaque"]:
            picture[..., :3], picture[..., 3] = 90, 255
    return Pool(list(pictures), FACTS, traits.sample(np.random.default_rng(3), 1))


@pytest.mark.parametrize("row", range(len(FACTS)))
def test_every_caption_fits_its_picture_and_no_rival_of_a_glyph_does(pool: Pool, row: int) -> None:
    """Of people a rival may say less than what was changed ("smiling"), but `fits` knows."""
    author, rng, words_rng = words.Author(pool), np.random.default_rng(row), random.Random(row)
    for _ in range(60):
        look = pool.look(row, rng)
        caption, rival = author.caption(row, look, words_rng)
        shown = author.shown(row, look)
        assert author.fits([caption], [shown])[0, 0] == 1, caption
        if rival is not None and caption.source in ("emoji", "icons"):
            assert author.fits([rival], [shown])[0, 0] != 1, (caption, rival)


def fit(pool: Pool, caption: words.Caption, row: int, look: Look) -> int:
    author = words.Author(pool)
    return int(author.fits([caption], [author.shown(row, look)])[0, 0])


def test_a_caption_fits_whatever_has_its_words(pool: Pool) -> None:
    heart = words.Caption("a heart", "emoji", words.tokens("a heart"))
    red = words.Caption("a red heart", "emoji", words.tokens("a red heart"))
    on_blue = words.Caption("a heart on blue", "icons", words.tokens("heart"), "blue")
    on_white = Look("", "white")
    assert [fit(pool, heart, row, on_white) for row in range(4)] == [1, 1, 1, 0]
    assert [fit(pool, red, row, on_white) for row in range(3)] == [1, 0, 0]
    assert fit(pool, red, 2, Look("red", "white")) == 1  # an icon's ink is a word of its picture
    assert fit(pool, on_blue, 2, Look("red", "blue")) == 1
    assert fit(pool, on_blue, 2, Look("blue", "white")) == 0


def test_what_cannot_be_told_of_other_people_counts_neither_way(pool: Pool) -> None:
    pixels = words.Caption("a pixel face with a beard", "styles", frozenset({"kind:a pixel face", "beard"}))
    anyone = words.Caption("a person with freckles", "styles", frozenset({"person", "freckles"}))
    boots = words.Caption("ankle boots", "fashion", words.tokens("ankle boots"))
    assert fit(pool, pixels, 5, Look("", "white")) == 0
    assert fit(pool, anyone, 6, Look()) == -1
    assert fit(pool, anyone, 3, Look("red", "white")) == 0
    assert fit(pool, boots, 4, Look()) == 1
    assert fit(pool, boots, 6, Look()) == 0


def test_plurals_and_articles_do_not_count() -> None:
    assert words.tokens("a pair of Ankle Boots") == words.tokens("pair ankle boot")
    assert words.tokens("the t shirt") == {"t-shirt"}
    assert words.tokens("bus glass") == {"bus", "glass"}


def test_glyphs_are_shown_in_ink_on_ground(pool: Pool) -> None:
    rng = np.random.default_rng(1)
    shown = pool.show([2, 4], [Look("red", "white"), Look()], rng).astype(int)
    assert shown.shape == (2, 64, 64, 3)
    assert np.abs(shown[0, 32, 32] - colours.INKS["red"]).max() <= 11
    assert np.abs(shown[0, 2, 2] - colours.GROUNDS["white"]).max() <= 11
    assert (shown[1] == 90).all()


def test_an_ink_can_be_told_from_its_ground(pool: Pool) -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        look = pool.look(3, rng)
        assert colours.contrast(colours.INKS[look.ink], colours.GROUNDS[look.ground]) > 60


@pytest.mark.parametrize("name", colours.INKS)
def test_a_named_colour_has_its_name(name: str) -> None:
    assert colours.nearest_colour("#{:02x}{:02x}{:02x}".format(*colours.INKS[name])) == name


def test_parts_of_other_styles_have_words() -> None:
    extra = {"glasses": "dark03", "hair": "long12", "hairColor": "#613a14", "mouth": "sad04", "beard": None}
    assert styles.features("pixel-art", extra) == ["sunglasses", "sad", "long hair", "brown hair"]
    assert styles.phrases("yellow face") == ("a yellow face",)


@pytest.mark.parametrize(
    ("name", "concept"),
    [
        ("heart-fill", "heart"), ("house-bold-outline", "house"), ("brand-x", ""), ("github-logo", ""),
        ("sun-thin", ""), ("a-b-c", ""),
    ],
)  # fmt: skip
def test_icons_are_known_by_what_they_show(name: str, concept: str) -> None:
    assert sources._concept(name) == concept


def test_a_glyph_is_centred_with_its_margin() -> None:
    svg = sources.Glyph("set", "x", (), "<g/>", (0, 0, 20, 10)).svg(0.1)
    assert 'viewBox="-2.0 -7.0 24.0 24.0"' in svg
    assert svg.endswith("<g/></svg>")


# ---- codes -----------------------------------------------------------------------------------------------


def test_codes_follow_the_mean_of_their_vectors() -> None:
    quantiser = dvae.Quantiser(2, 1, decay=0.5)
    quantiser.codes.copy_(torch.tensor([[0.0], [10.0]]))
    vectors = torch.tensor([[1.0], [3.0], [9.0], [12.0]])
    indices = quantiser.nearest(vectors)
    assert indices.tolist() == [0, 0, 1, 1]
    for _ in range(40):
        quantiser.follow(vectors, indices)
    torch.testing.assert_close(quantiser.codes, torch.tensor([[2.0], [10.5]]))
    torch.testing.assert_close(quantiser.counts, torch.tensor([2.0, 2.0]))


def test_codes_that_stand_for_nothing_go_where_vectors_are() -> None:
    quantiser = dvae.Quantiser(3, 2)
    quantiser.codes.copy_(torch.tensor([[0.0, 0.0], [50.0, 50.0], [60.0, 60.0]]))
    quantiser.counts.copy_(torch.tensor([4.0, 0.0, 0.1]))
    vectors = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    assert quantiser.revive(vectors, torch.Generator().manual_seed(0), least=0.5) == 2
    assert all(code.tolist() in vectors.tolist() for code in quantiser.codes[1:])
    assert quantiser.codes[0].tolist() == [0.0, 0.0]


def test_codes_start_at_the_means_of_what_they_stand_for() -> None:
    """A fixed point of k-means, and no code without vectors."""
    generator = torch.Generator().manual_seed(4)
    vectors = torch.randn(300, 2, generator=generator)
    quantiser = dvae.Quantiser(8, 2)
    quantiser.start(vectors, generator, rounds=100)
    indices = quantiser.nearest(vectors)
    for code in range(8):
        torch.testing.assert_close(quantiser.codes[code], vectors[indices == code].mean(0))


@pytest.fixture(scope="module")
def autoencoder() -> dvae.Autoencoder:
    torch.manual_seed(6)
    network = dvae.Autoencoder().eval()
    network.quantiser.codes.normal_()
    return network


def test_the_exported_dvae_is_the_same_function(autoencoder: dvae.Autoencoder) -> None:
    """The largest logit is the nearest code's, and one-hot codes decode as the code vectors do."""
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    encoder, decoder = export.as_dvae(autoencoder)
    codes = encoder(map_pixels((images + 1) / 2)).argmax(1)
    wanted, indices = autoencoder.quantise(autoencoder.vectors(images))
    assert (codes.flatten() == indices).float().mean() > 0.98  # ties by rounding
    assert decoder.scale_factor == 4
    one_hot = torch.nn.functional.one_hot(indices.view(2, 4, 4), dvae.VOCABULARY).permute(0, 3, 1, 2).float()
    torch.testing.assert_close(decoder.images(decoder(one_hot)), autoencoder.decode(wanted), atol=1e-4, rtol=1e-4)


def test_psnr_of_a_known_error() -> None:
    """An error of 0.2 in [-1, 1] is 0.1 of the range: 20 dB."""
    wanted = torch.zeros(1, 3, 4, 4)
    torch.testing.assert_close(dvae.psnr(wanted + 0.2, wanted), torch.tensor([20.0]))


# ---- the prompt model ------------------------------------------------------------------------------------


class Straight:
    """A loss that grows along the first pixel."""

    def image_loss(self, images: Tensor, text: Tensor, batch: Any) -> Tensor:
        return images[:, 0, 0, 0].sum() + 0 * text.sum()


def test_pictures_are_moved_up_the_loss_by_no_more_than_the_reach() -> None:
    batch: Any = SimpleNamespace(images=torch.zeros(3, 3, 8, 8))
    model: Any = Straight()
    moved = clip_mosaic.moved_against(model, batch, torch.zeros(1), torch.Generator().manual_seed(0))
    lengths = moved.flatten(1).norm(dim=1)
    assert (lengths <= clip_mosaic.REACH * (1 + 1e-5)).all()
    assert (moved[:, 0, 0, 0] > 0.5 * clip_mosaic.REACH).all()


def test_simple_names_are_drawn_more_often(pool: Pool) -> None:
    chances = clip_mosaic._chances(pool, np.array([0, 2]))
    np.testing.assert_allclose(chances, [1 / 3, 2 / 3])


# ---- what is bundled -------------------------------------------------------------------------------------

BUNDLE = Path("assets/mosaic")


@pytest.mark.skipif(not (BUNDLE / "model.json").exists(), reason="mosaic is not in this copy")
def test_the_bundled_model_starts_from_real_pictures() -> None:
    import engine
    from engine.latents.codebook import CodeSpace

    model = engine.load_generator("mosaic")
    space = model.spaces["codes"]
    assert isinstance(space, CodeSpace)
    assert (space.height, space.width, len(space.book.codes)) == (16, 16, dvae.VOCABULARY)
    assert space.bank is not None
    assert len(space.bank.unique()) == dvae.VOCABULARY
    with torch.no_grad():
        images = model.render(space.sample([1, 2]), space)
    assert images.shape == (2, 3, 64, 64)
    assert images.abs().max() <= 1.25


def test_a_pool_can_be_made_of_what_a_machine_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise sources.PackageError("npm is missing")

    def lack(split: str) -> None:
        raise FileNotFoundError("no Fashion-MNIST")

    monkeypatch.setattr(sources, "install", fail)
    with pytest.raises(sources.PackageError):
        mosaic_pool.sources_here(without_missing=False)
    monkeypatch.setattr(mosaic_pool.fashion, "load", lack)
    assert mosaic_pool.sources_here(without_missing=True) == (["avatars"], [])
    told = capsys.readouterr().out
    assert "npm is missing" in told and "no Fashion-MNIST" in told


def test_shares_of_missing_sources_go_to_the_others() -> None:
    shares = {"avatars": 0.2, "emoji": 0.6, "fashion": 0.2}
    assert mosaic_pool.shares_of(shares, ["avatars", "emoji", "fashion", "more"]) == shares
    assert mosaic_pool.shares_of(shares, ["avatars", "emoji"]) == pytest.approx({"avatars": 0.25, "emoji": 0.75})


def test_a_small_pool_of_two_sources_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mosaic_pool.make_avatars(tmp_path, 21)
    pixels = torch.zeros(30, 28, 28, dtype=torch.uint8)
    monkeypatch.setattr(mosaic_pool.fashion, "load", lambda split: (pixels, torch.arange(30) % 10))
    mosaic_pool.make_fashion(tmp_path, 5)
    (tmp_path / "pool.json").write_text('{"counts": {"avatars": 21, "fashion": 10}}')
    opened = mosaic_pool.open_pool(tmp_path)
    assert opened.sources == ("avatars", "fashion") and len(opened) == 31
    assert len(opened.rows(held_out=True, source="avatars")) == 2
    assert len(opened.rows(held_out=True, source="fashion")) == 5
