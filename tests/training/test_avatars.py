"""The avatars' teacher: traits, drawing and captions."""

import random
from typing import Any

import numpy as np
import pytest

from training.avatars import captions, drawing, traits


def one_avatar(**values: str) -> np.ndarray:
    """Traits of a plain avatar with the named values: one row."""
    row = np.zeros((1, traits.SIZE), dtype=np.float32)
    for group in traits.SHAPES:
        index = traits.values_of(group).index(values.get(group, traits.values_of(group)[0]))
        row[0, traits.LAYOUT[group].start + index] = 1
    for group in traits.COLOURS:
        names = traits.values_of(group)
        row[0, traits.LAYOUT[group]] = traits.anchors(group)[names.index(values.get(group, names[0]))]
    return row


def shown(row: np.ndarray) -> dict[str, int]:
    return {group: int(value[0]) for group, value in traits.labels(row).items()}


@pytest.fixture(scope="module")
def sample() -> np.ndarray:
    return traits.sample(np.random.default_rng(0), 400)


def test_samples_can_be_drawn_as_they_are(sample: np.ndarray) -> None:
    np.testing.assert_allclose(traits.project(sample), sample, atol=1e-6)


def test_projection_on_the_simplex_is_the_nearest_point() -> None:
    """No vertex and no random point of the simplex is nearer than the projection."""
    rng = np.random.default_rng(1)
    asked = rng.normal(size=(50, traits.SIZE)).astype(np.float32)
    part = traits.LAYOUT["hair_style"]
    projected = traits.project(asked)[:, part]
    np.testing.assert_allclose(projected.sum(1), 1, atol=1e-5)
    assert (projected >= 0).all()
    others = rng.dirichlet(np.full(12, 0.3), size=500)
    distance = np.linalg.norm(projected - asked[:, part], axis=1)
    rivals = np.linalg.norm(others[None] - asked[:, None, part], axis=-1).min(1)
    assert (distance <= rivals + 1e-5).all()


def test_traits_depend_continuously_on_the_gaussian() -> None:
    z = np.random.default_rng(2).standard_normal((20, traits.latent_size())).astype(np.float32)
    moved = traits.from_gaussian(z + 1e-4) - traits.from_gaussian(z)
    assert np.abs(moved).max() < 1e-2


def test_labels_name_what_was_asked_for() -> None:
    row = one_avatar(hair_style="afro", glasses="round", mouth="sad", background="pink", clothes_colour="green")
    found = shown(row)
    for group, value in {
        "hair_style": "afro",
        "glasses": "round",
        "mouth": "sad",
        "background": "pink",
    }.items():
        assert traits.values_of(group)[found[group]] == value


def test_hidden_values_cannot_be_told() -> None:
    assert shown(one_avatar(glasses="sunglasses"))["eyes"] == -1
    assert shown(one_avatar(hair_style="bald"))["hair_colour"] == -1
    assert shown(one_avatar(hat="cap"))["hair_style"] == -1
    assert shown(one_avatar(hat="none"))["hat_colour"] == -1


def test_every_value_looks_different_from_every_other() -> None:
    for group in traits.SHAPES:
        visible = {"hat": "cap"} if group == "hat_colour" else {}
        pictures = [
            drawing.draw(one_avatar(**visible, **{group: value})[0], 64).astype(int) for value in traits.SHAPES[group]
        ]
        for i, picture in enumerate(pictures):
            for other in pictures[:i]:
                assert (np.abs(picture - other).max(-1) > 40).sum() >= 8, group


def test_every_background_paints_its_own_colour() -> None:
    for name, colour in traits.COLOURS["background"].items():
        corner = drawing.draw(one_avatar(background=name)[0])[0, 0]
        np.testing.assert_allclose(corner, colour, atol=1)


def test_a_blend_is_drawn_between_its_ends() -> None:
    """Half-way from short to afro hair the outline lies between both: no ghost of either."""
    short, afro = one_avatar(hair_style="short"), one_avatar(hair_style="afro")

    def dark_pixels(row: np.ndarray) -> int:
        return int((drawing.draw(row[0]).max(-1) < 60).sum())

    assert dark_pixels(short) < dark_pixels((short + afro) / 2) < dark_pixels(afro)


def test_a_caption_fits_its_picture_and_its_rival_does_not(sample: np.ndarray) -> None:
    labels = traits.labels(sample)
    writer, rng = captions.Writer(random.Random(3)), random.Random(4)
    for row in range(len(sample)):
        values = {group: int(labels[group][row]) for group in traits.GROUPS}
        here = {group: np.asarray([value]) for group, value in values.items()}
        text, claims = writer.caption(values)
        assert text and captions.fits([claims], here)[0, 0] == 1
        for group in claims:
            if len(claims[group]) == 1:
                other = captions.changed(rng, values, group)
                assert captions.fits([claims], {key: np.asarray([value]) for key, value in other.items()})[0, 0] == 0


def test_an_unknown_value_leaves_it_open() -> None:
    here = {group: np.asarray([0, -1]) for group in traits.GROUPS}
    claims: captions.Claims = {"glasses": frozenset({0}), "hat": frozenset({0})}
    assert captions.fits([claims], here).tolist() == [[1, -1]]


def test_every_value_has_words_of_its_own() -> None:
    for group, names in traits.SHAPES.items():
        words = (
            *captions.PHRASES[group],
            *captions.ADJECTIVES.get(group, ()),
            *captions.WITHOUT.get(group, ()),
        )
        for name in names:
            assert any(entry.values == (name,) for entry in words), (group, name)


def wide_avatar(row: Any = None, **extras: float) -> np.ndarray:
    """Traits of a plain avatar, or of `row`, with the named extras: one row."""
    present = np.asarray([[extras.get(name, 0.0) for name in traits.EXTRAS]], dtype=np.float32)
    return np.concatenate([one_avatar() if row is None else row, present], axis=1)


def test_an_extra_is_told_and_hides_what_it_covers() -> None:
    covered = {
        "eyepatch": ("eyes",), "turban": ("hat", "hair_style", "hair_colour"),
        "headscarf": ("hat", "hair_style", "hair_colour"), "tongue": ("mouth",), "heart_eyes": ("eyes",),
    }  # fmt: skip
    with_hair = one_avatar(hair_style="bob")
    plain = shown(wide_avatar(with_hair))
    assert {plain[name] for name in traits.EXTRAS} == {0}
    for name, hidden in covered.items():
        found = shown(wide_avatar(with_hair, **{name: 1.0}))
        assert [other for other in traits.EXTRAS if found[other] == 1] == [name]
        assert {group for group in traits.GROUPS if found[group] == -1 != plain[group]} == set(hidden)
        assert shown(wide_avatar(**{name: 0.5}))[name] == -1
    assert shown(wide_avatar(one_avatar(glasses="round"), eyepatch=1.0))["glasses"] == 0


def test_captions_name_extras() -> None:
    labels = shown(wide_avatar(turban=1.0, eyepatch=1.0))
    texts, claimed = zip(
        *(captions.Writer(random.Random(i), typos=0).caption(labels, 3) for i in range(60)), strict=True
    )
    assert any("pirate" in text for text in texts) and any("turban" in text for text in texts)
    here = {group: np.asarray([value]) for group, value in labels.items()}
    assert (captions.fits(claimed, here) == 1).all()
    without = {group: np.asarray([value]) for group, value in shown(wide_avatar()).items()}
    said = [i for i, claims in enumerate(claimed) if {"turban", "eyepatch"} & claims.keys()]
    assert len(said) > 30 and (captions.fits([claimed[i] for i in said], without) == 0).all()


def test_settling_keeps_named_values() -> None:
    for group in traits.GROUPS:
        for value in traits.values_of(group) if group != "person" else ():
            visible = {"hat": "cap"} if group == "hat_colour" else {}
            visible |= {"hair_style": "bob"} if group == "hair_colour" else {}
            row = one_avatar(**visible, **{group: value})
            np.testing.assert_allclose(traits.settle(row), row, atol=0.03)
            assert traits.values_of(group)[shown(traits.settle(row))[group]] == value


def test_a_weak_part_settles_into_none_of_it() -> None:
    """A third of a hat is no hat, two thirds are a whole one: no ghosts of either."""
    none, cap = one_avatar(), one_avatar(hat="cap")
    third, most = traits.settle((2 * none + cap) / 3), traits.settle((none + 2 * cap) / 3)
    where = traits.LAYOUT["hat"].start + 1
    assert third[0, where] < 0.04 and most[0, where] > 0.96
    assert traits.settle((none + cap) / 2)[0, where] == pytest.approx(0.5)
    weak, strong = traits.settle(wide_avatar(turban=0.25)), traits.settle(wide_avatar(turban=0.75))
    assert weak[0, traits.SIZE + 1] == 0 and strong[0, traits.SIZE + 1] == 1


def test_settling_is_continuous_and_can_be_drawn() -> None:
    asked = np.random.default_rng(5).normal(size=(200, traits.WIDE)).astype(np.float32)
    settled = traits.settle(asked)
    np.testing.assert_allclose(traits.project(settled), settled, atol=1e-5)
    without_skin = np.ones(traits.WIDE, dtype=bool)
    without_skin[traits.LAYOUT["skin"]] = False  # jumps half-way between two parts of the line, where both are as near
    moved = (traits.settle(asked + 1e-4) - settled)[:, without_skin]
    assert np.abs(moved).max() < 1e-2


def test_no_skin_settles_into_grey_or_green() -> None:
    colours = np.random.default_rng(6).uniform(size=(500, 3)).astype(np.float32)
    rows = np.repeat(one_avatar(), len(colours), axis=0)
    rows[:, traits.LAYOUT["skin"]] = colours
    red, green, blue = traits.settle(rows)[:, traits.LAYOUT["skin"]].T
    assert (red > green).all() and (green > blue - 0.02).all() and (red - blue > 0.1).all()


def test_every_extra_is_seen_and_an_absent_one_is_not() -> None:
    plain = drawing.draw(one_avatar()[0], 128).astype(int)
    np.testing.assert_array_equal(drawing.draw(wide_avatar()[0], 128), plain)
    for name in traits.EXTRAS:
        picture = drawing.draw(wide_avatar(**{name: 1.0})[0], 128).astype(int)
        assert (np.abs(picture - plain).max(-1) > 40).sum() >= 80, name
