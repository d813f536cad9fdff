"""The model of named drawings: which picture a caption and a z mean, what is folded into its weights, and that it
learns."""

from __future__ import annotations

import copy
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.latents.sentences import ReadSpace, SentenceSpace
from engine.networks.dfgan import Critic
from training.avatars import traits
from training.emblems import adversarial, examples, figures
from training.emblems.examples import GROUNDS, HANDS, INKS, UNTOLD, Examples
from training.jobs import to_tensor
from training.mosaic import colours
from training.mosaic.pool import SIZE, Facts, Pool

SHADES = {"twemoji": 200, "noto": 150, "fluent-emoji-flat": 100}  # of the emoji, by the hand


def glyph(origin: str, name: str, *tags: str, held_out: bool = False, **more: Any) -> Facts:
    source = "emoji" if origin in HANDS else "icons"
    also = [name, *tags] if source == "emoji" else []
    return {"source": source, "origin": origin, "name": name, "also": also, "held_out": held_out, **more}


FACTS: list[Facts] = [
    *(glyph(origin, "cat", "kitten", "animal") for origin in SHADES),
    glyph("twemoji", "dog", "animal"),
    glyph("noto", "dog", "animal"),
    glyph("fluent-emoji-flat", "dog", "animal", held_out=True),
    glyph("twemoji", "person running"),
    glyph("noto", "person running"),
    glyph("twemoji", "one hand's own"),
    *(glyph(origin, "cat", filled=True) for origin in ("bi", "ph")),
    *(glyph(origin, "wifi", filled=False) for origin in ("bi", "ph", "mdi", "tabler", "lucide")),
    glyph("mdi", "rare", filled=False),
]


@pytest.fixture(scope="module")
def pool() -> Pool:
    """A grey square on nothing, of a shade by the hand."""
    pictures = np.zeros((len(FACTS), SIZE, SIZE, 4), dtype=np.uint8)
    pictures[:, 16:48, 16:48, 3] = 255
    for picture, facts in zip(pictures, FACTS, strict=True):
        picture[16:48, 16:48, :3] = SHADES.get(facts["origin"], 0)
    return Pool(list(pictures), FACTS, np.zeros((0, traits.SIZE), dtype=np.float32))


def vectors(texts: list[str]) -> Tensor:
    """In place of the prompt model's features: of length 1, by the text."""
    draws = [torch.randn(256, generator=torch.Generator().manual_seed(sum(map(ord, text)))) for text in texts]
    return torch.nn.functional.normalize(torch.stack(draws), dim=1)


@pytest.fixture(scope="module")
def made(pool: Pool) -> Examples:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examples, "sentence_vectors", vectors)
        return examples.make(pool, held_out=False, avatars=6, captions=30)


def test_things_are_what_several_hands_have_drawn(pool: Pool) -> None:
    found = {thing.names[0]: thing for thing in examples.concepts(pool.facts, held_out=False)}
    assert found.keys() == {"cat", "dog", "wifi"}
    assert found["cat"].drawings == (0, 1, 2, 10) and found["cat"].names == ("cat", "kitten")  # ph's icon before bi's
    assert found["dog"].drawings == (3, 4, UNTOLD, UNTOLD) and found["dog"].names == ("dog",)
    assert found["wifi"].drawings == (*[UNTOLD] * 3, 13)  # of mdi, whose plain icons are solid
    (held,) = examples.concepts(pool.facts, held_out=True)
    assert held.drawings == (UNTOLD, UNTOLD, 5, UNTOLD)
    alone = examples.concepts(pool.facts, held_out=False, least=1)
    assert "one hand's own" in {thing.names[0] for thing in alone}


def test_a_caption_tells_no_more_than_its_words() -> None:
    thing = examples.Concept((0, 1, UNTOLD, 2), ("cat", "kitten"))
    rng, seen = random.Random(3), set()
    for _ in range(400):
        text, fits, ground, ink = examples.glyph_caption(thing, rng)
        assert "cat" in text or "kitten" in text
        says_icon, says_emoji = "icon" in text or "pictogram" in text, "emoji" in text
        assert fits == [not says_icon] * 3 + [not says_emoji]
        assert (ground == UNTOLD or GROUNDS[ground] in text) and (ink == UNTOLD or (INKS[ink] in text and says_icon))
        if UNTOLD not in (ground, ink):
            assert colours.contrast(colours.INKS[INKS[ink]], colours.GROUNDS[GROUNDS[ground]]) > 60
        seen.add((says_icon, says_emoji, ground == UNTOLD, ink == UNTOLD))
    assert len(seen) >= 7


def test_z_says_what_the_caption_leaves_open(made: Examples) -> None:
    """By whose hand: as often each; a ground and an ink that differ; what is told is as told."""
    draw = torch.Generator().manual_seed(5)
    row = next(i for i, text in enumerate(made.texts) if text == "a cat" and made.ground[i] == UNTOLD)
    rows = torch.full((2000,), row)
    z = examples.draw_z(2000, draw)
    hands = made.hand(rows, z)
    shares = torch.bincount(hands, minlength=4) / 2000
    assert shares.sub(0.25).abs().max() < 0.04  # four standard deviations


def test_grounds_and_inks_are_as_told_or_can_be_told_apart() -> None:
    z, every = examples.draw_z(2000, torch.Generator().manual_seed(5)), torch.full((2000,), UNTOLD)
    ground, ink = examples.looks(z, every, every)
    assert 0.5 < (ground > 0.98).all(1).float().mean() < 0.7
    assert _told_apart(ground, ink) > 0.98
    for number, name in enumerate(INKS):
        ground, told = examples.looks(z, every, torch.full_like(every, number))
        assert torch.equal(told, (torch.tensor(colours.INKS[name]) / 255).expand(2000, -1))
        assert _told_apart(ground, told) > 0.98, name
    for number, name in enumerate(GROUNDS):
        told, ink = examples.looks(z, torch.full_like(every, number), every)
        assert torch.equal(told, (torch.tensor(colours.GROUNDS[name]) / 255).expand(2000, -1))
        assert _told_apart(told, ink) > 0.98, name


def _told_apart(first: Tensor, second: Tensor) -> float:
    """The share of colours [N, 3] in [0, 1] of which one channel differs by a tenth."""
    return float(((first - second).abs().amax(1) > 0.1).float().mean())


def test_a_picture_is_the_drawing_on_its_ground(made: Examples) -> None:
    rows = torch.arange(made.of_glyphs)
    z = examples.draw_z(len(rows), torch.Generator().manual_seed(6))
    images, hands = made.show(rows, z), made.hand(rows, z)
    grounds, inks = examples.looks(z, made.ground[rows], made.ink[rows])
    for image, hand, ground, ink in zip(images, hands.tolist(), grounds, inks, strict=True):
        inside = torch.full((3,), list(SHADES.values())[hand] / 255) if hand < 3 else ink
        torch.testing.assert_close((image[:, 30, 30] + 1) / 2, inside)
        torch.testing.assert_close((image[:, 2, 2] + 1) / 2, ground)


def test_an_avatar_has_what_the_caption_claims_and_otherwise_what_z_says() -> None:
    rng = np.random.default_rng(7)
    for text, z, shown in examples.avatar_captions_of(60, rng):
        alone = traits.settle(traits.from_gaussian(z[None]))[0]
        same = [group for group, part in traits.LAYOUT.items() if np.allclose(shown[part], alone[part], atol=1e-5)]
        assert "proportions" in same and len(same) >= 4, text
        if "clean" not in text and "no " not in text and "without" not in text and "beard" in text:
            assert shown[traits.LAYOUT["facial_hair"]][0] < 0.5, text


def test_examples_are_read_as_they_were_written(made: Examples, tmp_path: Path) -> None:
    examples.write(made, tmp_path)
    again = examples.read(tmp_path)
    assert again.texts == made.texts and torch.equal(again.drawings, made.drawings)
    torch.testing.assert_close(again.features, made.features, atol=1e-3, rtol=0)  # half precision
    with pytest.raises(FileNotFoundError, match=r"run `python -m training\.emblems\.examples` first"):
        examples.read(tmp_path / "nowhere")


def test_avatars_alone_are_examples_too(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the packages of the glyphs are missing."""
    monkeypatch.setattr(examples, "sentence_vectors", vectors)
    alone = examples.make(Pool([], [], pool.traits), held_out=False, avatars=3, captions=2)
    assert (len(alone), alone.of_glyphs) == (3, 0)
    rows, z, images = next(adversarial.batches(alone, 2, 3, 0))
    assert rows.max() < 3 and torch.equal(z, alone.avatar_z[rows])
    assert torch.equal(images, to_tensor(alone.avatars[rows].numpy()))


# ---- training --------------------------------------------------------------------------------------------


def test_the_whitening_is_folded_into_the_weights(made: Examples) -> None:
    """The files' networks are given sentence vectors as they are, and what is read is what was written."""
    torch.manual_seed(0)
    networks, whitening = adversarial.Networks().double(), adversarial.Whitening(vectors(list(made.texts)).double())
    whitening.matrix = whitening.matrix.double()
    sentences, z = vectors(["a cat", "a dog"]).double(), torch.randn(2, examples.Z_DIM).double()
    images = torch.rand(2, 3, SIZE, SIZE).double()
    drawn = networks.generator(z, whitening.centred(sentences))
    judged = networks.judged(images, whitening.uncentred(sentences))
    kept = {role: copy.deepcopy(networks.get_submodule(role).state_dict()) for role in adversarial.ROLES}
    for role in adversarial.ROLES:
        networks.get_submodule(role).load_state_dict(whitening.folded(role, kept[role]))
    # The folded weights are rounded to single precision, as the files have at most.
    torch.testing.assert_close(networks.generator(z, sentences), drawn, atol=1e-4, rtol=0)
    torch.testing.assert_close(networks.judged(images, sentences), judged, atol=1e-4, rtol=1e-4)
    for role in adversarial.ROLES:
        back = whitening.unfolded(role, whitening.folded(role, kept[role]))
        for name, value in kept[role].items():
            torch.testing.assert_close(back[name].double(), value, atol=1e-4, rtol=1e-3)


def test_differences_weigh_less_once_the_critics_are_listened_to() -> None:
    weight = adversarial.weight_of_differences
    assert weight(0) == weight(adversarial.SHARPEN_FROM) == 1 and weight(1) == pytest.approx(
        adversarial.DIFFERENCES_LEFT
    )
    assert weight(0.8) > weight(0.9)


def test_the_critics_learn_what_is_made_and_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(adversarial, "CRITIC_WIDTHS", (8, 16, 16, 24, 32))
    networks = adversarial.Networks()
    critics = [*networks.discriminator.parameters(), *networks.conditional_discriminator.parameters()]
    optimizer = torch.optim.Adam(critics, lr=1e-3, betas=(0.0, 0.99))
    real = torch.tensor([1.0, -1.0, 0.3, -0.3]).view(4, 1, 1, 1).expand(-1, 3, SIZE, SIZE)
    sentences = 16 * vectors(["a", "b", "c", "d"])
    for step in range(1, 41):
        logits = adversarial.train_critics(networks, optimizer, real, 0.6 * torch.ones_like(real), sentences, step)
    assert logits["real"] > 0 > max(logits["made"], logits["others"])


def test_batches_go_on_where_a_run_left_off(made: Examples) -> None:
    stream = adversarial.batches(made, 5, 3, 0)
    next(stream)
    expected, again = next(stream), next(adversarial.batches(made, 5, 3, 1))
    assert all(torch.equal(one, other) for one, other in zip(expected, again, strict=True))
    rows, z, images = expected
    assert z.shape == (5, examples.Z_DIM) and images.shape == (5, 3, SIZE, SIZE) and images.abs().max() <= 1
    people = rows >= made.of_glyphs
    assert torch.equal(z[people], made.avatar_z[rows[people] - made.of_glyphs])
    drawings = to_tensor(made.avatars[rows[people] - made.of_glyphs].numpy())
    assert torch.equal(images[people], drawings)


def test_a_run_ends_with_weights_that_another_begins_with(
    made: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The critics' share of the schedule included; in half precision, 12 MB at most."""
    examples.write(made, tmp_path / "examples")
    data = examples.read(tmp_path / "examples")
    monkeypatch.setattr(adversarial, "FOLDER", tmp_path / "run")
    monkeypatch.setattr(examples, "read", lambda: data)
    arguments = ["emblems", "--steps", "4", "--batch", "2", "--device", "cpu", "--export", str(tmp_path / "weights")]
    monkeypatch.setattr(sys, "argv", arguments)
    adversarial.main()
    assert (tmp_path / "run" / "latest.png").exists()
    assert sum(path.stat().st_size for path in (tmp_path / "weights").iterdir()) < 12e6
    networks = adversarial.read_weights(tmp_path / "weights", adversarial.Whitening(data.features))
    z, sentences = torch.zeros(1, examples.Z_DIM), torch.zeros(1, adversarial.SENTENCE_DIM)
    assert networks.generator(z, sentences).isfinite().all()


# ---- figures ---------------------------------------------------------------------------------------------


class Judge:
    """Sees a picture's mean colour, and reads only names of colours."""

    logit_scale = 10.0

    def image_features(self, images: Tensor) -> Tensor:
        return torch.nn.functional.normalize(images.mean((2, 3)), dim=1)

    def text_features(self, texts: list[str]) -> Tensor:
        named = [next((INKS.index(word) for word in text.split() if word in INKS), 0) for text in texts]
        shades = torch.tensor([list(colours.INKS.values())[i] for i in named]) / 127.5 - 1
        return torch.nn.functional.normalize(shades, dim=1)


def held_out() -> figures.HeldOut:
    names = ["red", "green", "blue", "yellow"]
    pictures = torch.stack([torch.tensor(colours.INKS[name]) / 127.5 - 1 for name in names])
    return figures.HeldOut.of(
        Judge(),  # type: ignore[arg-type]
        [f"a {name} thing" for name in names],
        torch.tensor([False, False, False, True]),
        pictures[:, :, None, None].expand(-1, -1, SIZE, SIZE),
        names,
    )


def test_pictures_find_their_own_captions_among_those_of_their_kind() -> None:
    held = held_out()
    own = torch.arange(4)
    assert held.found(held.features[:3], own[:3], 99).all()
    assert not held.found(held.features[[1, 2, 0]], own[:3], 99).any()
    assert held.inception(held.features) > 2


def test_the_discriminator_is_asked_about_own_and_other_captions() -> None:
    torch.manual_seed(0)
    networks, held = adversarial.Networks().eval(), held_out()
    critic = Critic(networks.discriminator, networks.conditional_discriminator)
    around = SentenceSpace.around(examples.Z_DIM, 256, None)
    space = ReadSpace(
        around.dim, around.mean, around.spread, read=lambda texts: vectors(list(texts)), kept=vectors(["a"])
    )

    class Model:
        discriminator, spaces, default_space = critic, {"z": space}, "z"

    preferred = figures.own_caption_preferred(Model(), held)  # type: ignore[arg-type]
    sentences = vectors(list(held.captions))
    seen = critic(held.pictures)
    expected = critic.match(seen, sentences) > critic.match(seen, sentences.roll(1, 0))
    assert torch.equal(preferred, expected[:, 0])
