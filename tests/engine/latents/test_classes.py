"""Class-conditional latents, and classes found from a prompt or by name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.latents.classes import ClassSpace, classes_by_name, find_classes, project_to_simplex, rank_classes
from engine.settings import SettingsError

NAMES = ("T-shirt", "dress", "coat", "ankle boot", "bag")


def space(**options: object) -> ClassSpace:
    return ClassSpace(**{"dim": 40, "names": NAMES, "classes": (1, 3, 4)} | options)  # type: ignore[arg-type]


@pytest.fixture(params=[False, True], ids=["fixed", "relaxed"])
def either(request: pytest.FixtureRequest) -> ClassSpace:
    return space(relaxed=request.param)


def shortest_distance(weights: Tensor) -> Tensor:
    """To the simplex of three corners, by trying every face: the projection on its affine hull, where it is inside."""
    best = torch.full((len(weights),), math.inf, dtype=weights.dtype)
    for size in (1, 2, 3):
        for face in itertools.combinations(range(3), size):
            inside = weights[:, face]
            lowered = inside - (inside.sum(1, keepdim=True) - 1) / size
            whole = torch.zeros_like(weights)
            whole[:, face] = lowered
            distance = (weights - whole).norm(dim=1)
            best = torch.where((lowered >= 0).all(1) & (distance < best), distance, best)
    return best


class TestBothKinds:
    def test_a_particle_depends_on_its_own_seed_only(self, either: ClassSpace) -> None:
        assert torch.equal(either.sample([5, 7, 11])[1:2], either.sample([7]))

    def test_samples_are_where_they_may_be(self, either: ClassSpace) -> None:
        latents = either.sample(range(20))
        assert latents.shape == (20, *either.shape)
        torch.testing.assert_close(either.constrain(latents), latents)

    def test_constrain_is_a_projection(self, either: ClassSpace) -> None:
        far = 5 * torch.randn(10, *either.shape, generator=torch.Generator().manual_seed(0))
        inside = either.constrain(far)
        torch.testing.assert_close(either.constrain(inside), inside)
        torch.testing.assert_close(either.weights(inside).sum(1), torch.ones(10))

    def test_scale_is_the_typical_length(self, either: ClassSpace) -> None:
        lengths = either.sample(range(500)).norm(dim=1)
        assert lengths.square().mean().sqrt().item() == pytest.approx(either.scale, rel=0.1)

    def test_decoded_weights_stand_at_their_classes(self, either: ClassSpace) -> None:
        latents = either.sample(range(6))
        z, weights = either.decode(latents).split([40, 5], dim=1)
        assert torch.equal(z, latents[:, :40])
        torch.testing.assert_close(weights[:, [1, 3, 4]], either.weights(latents))
        assert (weights[:, [0, 2]] == 0).all()


def test_particles_hold_different_classes_in_turn() -> None:
    weights = space().decode(space().sample([0, 1, 2, 3]))[:, 40:]
    assert weights.argmax(1).tolist() == [1, 3, 4, 1]
    assert torch.equal(weights.sort(1).values[:, -1], torch.ones(4))


def test_a_class_that_stays_has_no_gradient_and_does_not_change() -> None:
    latents = space().sample(range(3)).requires_grad_()
    decoded = space().decode(latents)
    (gradient,) = torch.autograd.grad((decoded * torch.arange(45.0)).sum(), latents)
    assert (gradient[:, 40:] == 0).all() and (gradient[:, 1:40] != 0).all()
    pushed = (
        latents.detach()
        + 0.4 * space().class_length * torch.randn(3, 43, generator=torch.Generator().manual_seed(1)).sign()
    )
    assert torch.equal(space().weights(space().constrain(pushed)), space().weights(latents.detach()))


def test_relaxed_weights_begin_nearer_to_their_own_class_and_can_leave_it() -> None:
    relaxed = space(relaxed=True)
    latents = relaxed.sample([1]).requires_grad_()
    torch.testing.assert_close(relaxed.weights(latents), torch.tensor([[1 / 6, 2 / 3, 1 / 6]]))
    (gradient,) = torch.autograd.grad(relaxed.decode(latents)[:, 44].sum(), latents)
    moved = relaxed.constrain(latents.detach() + 100 * gradient)
    assert relaxed.weights(moved).tolist() == [[0.0, 0.0, 1.0]]


def test_simplex_projection_is_the_nearest_point() -> None:
    """Against the nearest of all faces' projections."""
    weights = 2 * torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    projected = project_to_simplex(weights)
    assert (projected >= 0).all()
    torch.testing.assert_close(projected.sum(1), torch.ones(200).double())
    torch.testing.assert_close((weights - projected).norm(dim=1), shortest_distance(weights))


def test_truncation_lowers_the_limit_or_multiplies() -> None:
    by_limit, by_factor = space().truncated(0.25), space(truncates="factor").truncated(0.25)
    assert by_limit.sample(range(50))[:, :40].abs().amax() <= 0.5
    assert by_factor.sample(range(50))[:, :40].abs().amax() > 1.5
    latents = by_factor.sample(range(5))
    torch.testing.assert_close(by_factor.decode(latents)[:, :40], 0.25 * latents[:, :40])
    assert by_factor.psi == 0.25


def test_a_z_per_block_begins_equal() -> None:
    blocks = space(blocks=3)
    z = blocks.sample([4])[:, : 3 * 40].view(3, 40)
    assert torch.equal(z, z[:1].expand(3, 40))
    assert blocks.decode(blocks.sample([4])).shape == (1, 125)


def test_the_prior_is_of_z_alone() -> None:
    """Each block's numbers count, the weights do not."""
    for options in ({}, {"blocks": 3}, {"relaxed": True}):
        own = space(**options)
        latents = own.sample(range(4))
        z = latents[:, : own.blocks * 40]
        torch.testing.assert_close(own.log_prior(latents), -0.5 * z.square().sum(1))


def test_the_weights_are_half_as_long_as_z() -> None:
    """Of one block; so the class changes as readily as z does."""
    for blocks in (1, 3):
        own = space(blocks=blocks)
        latents = own.sample(range(4))
        torch.testing.assert_close(latents[:, blocks * 40 :].norm(dim=1), torch.full((4,), 0.5 * own.z.scale))
        assert own.scale == pytest.approx(math.hypot(math.sqrt(blocks) * own.z.scale, 0.5 * own.z.scale))


def test_z_is_limited_whatever_the_truncation() -> None:
    far = torch.full((1, 43), 100.0)
    assert space().constrain(far)[0, :40].tolist() == [2.0] * 40
    assert space(truncates="factor", psi=0.25).constrain(far)[0, :40].tolist() == [2.0] * 40
    assert space(psi=0.25).constrain(far)[0, :40].tolist() == [0.5] * 40
    assert space().truncated(0.5).truncated(0.5).psi == 0.25
    undone = space(psi=0.25).sample([1])
    assert torch.equal(space(psi=0.25).decode(undone)[:, :40], undone[:, :40])  # the limit is all


@pytest.mark.parametrize("relaxed", [False, True])
def test_all_is_made_on_the_device_of_the_model(relaxed: bool) -> None:
    own = space(relaxed=relaxed, device="meta")
    latents = own.sample([1, 2])
    assert latents.is_meta and own.decode(latents).is_meta and own.decode(latents).shape == (2, 45)


def test_candidates_can_be_replaced() -> None:
    held = space().holding([2], relaxed=True)
    assert held.classes == (2,) and held.relaxed
    with pytest.raises(SettingsError, match="there is none"):
        space().holding([])
    for wrong in (5, -1):
        with pytest.raises(SettingsError, match=f"{wrong} is not a class; they are numbered 0 to 4"):
            space().holding([4, wrong])
    assert not space(relaxed=True).holding([0, 4]).relaxed


# ---- names and prompts -----------------------------------------------------------------------------------

WORDS = ("t-shirt", "dress", "coat", "ankle", "boot", "bag", "boots", "picture", "something", "object", "cloud")


def text_features(texts: Sequence[str]) -> Tensor:
    """A bag of the known words; "boots" is close to "boot"."""
    rows = torch.tensor([[float(word in text.lower().replace("a ", " ").split()) for word in WORDS] for text in texts])
    rows[:, WORDS.index("boot")] += 0.9 * rows[:, WORDS.index("boots")]
    return F.normalize(rows, dim=1)


def test_classes_that_the_prompt_names_are_found() -> None:
    """Whatever the prompt model makes of them, plural or not; only as many as asked."""

    def deaf(texts: Sequence[str]) -> Tensor:
        return F.normalize(torch.ones(len(texts), 4), dim=1)

    for features in (text_features, deaf):
        found = find_classes("two Ankle Boots and a dress", NAMES, features, count=3)
        assert {NAMES[close.number] for close in found} == {"ankle boot", "dress"}
    assert len(find_classes("ankle boots and a dress", NAMES, text_features, count=1)) == 1
    shirts = find_classes("a white t-shirt", ("shirt", "T-shirt"), text_features, count=2)
    assert [close.number for close in shirts] == [1]


def test_other_prompts_find_the_most_similar_classes() -> None:
    """Here one word of two: the class is closer than words for nothing, and the rest are not half as close."""
    found = find_classes("a boot", NAMES, text_features, count=3)
    assert [NAMES[close.number] for close in found] == ["ankle boot"]
    ranked = rank_classes("a boot", NAMES, text_features)
    assert [close.number for close in ranked][0] == 3 and len(ranked) == len(NAMES)
    assert ranked[0] == found[0] and found[0].similarity > ranked[1].similarity


def test_a_prompt_without_a_close_class_is_explained() -> None:
    with pytest.raises(
        SettingsError, match="no class is close to 'a cloud'; the nearest are .* Choose classes by name"
    ):
        find_classes("a cloud", NAMES, text_features, count=3)


def test_classes_by_name_and_number() -> None:
    assert classes_by_name(["Dress", " ankle BOOT ", "4"], NAMES) == (1, 3, 4)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["dres"], "no class 'dres'; did you mean dress"),
        (["boot"], "no class 'boot'; did you mean ankle boot"),
        (["xylophone"], "no class 'xylophone'; the classes are T-shirt, dress, coat, ankle boot, bag"),
        (["9"], "no class '9'; the classes are"),
        ([], "there is none; name at least one"),
    ],
)
def test_unknown_classes_are_answered_with_names(wanted: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        classes_by_name(wanted, NAMES)


def test_a_class_in_other_words_is_answered_with_the_nearest_in_meaning() -> None:
    with pytest.raises(SettingsError, match="no class 'two boots'; did you mean ankle boot or "):
        classes_by_name(["two boots"], NAMES, text_features)
    with pytest.raises(SettingsError, match="no class '9'; the classes are T-shirt"):
        classes_by_name(["9"], NAMES, text_features)
    with pytest.raises(SettingsError, match="no class 'jacket'; the classes are"):
        classes_by_name(["jacket"], NAMES)  # in letters half of an ankle boot


def test_a_long_list_of_classes_is_cut() -> None:
    names = tuple(f"kind {i}" for i in range(100))
    with pytest.raises(SettingsError, match=r"kind 11 and 88 more"):
        classes_by_name(["zzz"], names)


# ---- similarity ------------------------------------------------------------------------------------------


class Planted:
    """Texts as unit vectors at given angles from the prompt, whose own angle is zero; notes what it is asked for."""

    def __init__(self, **angles: float) -> None:
        self.angles = {name.replace("_", " "): angle for name, angle in angles.items()}
        self.asked: list[tuple[str, ...]] = []

    def features(self, texts: Sequence[str]) -> Tensor:
        self.asked.append(tuple(texts))
        angles = torch.tensor([self.angles.get(text.removeprefix("a picture of "), 1.5) for text in texts])
        return torch.stack([angles.cos(), angles.sin()], dim=1)


def similarity_of(share: float, bar: float, closest: float) -> float:
    """The angle whose cosine lies `share` of the way from the bar's cosine to the closest's."""
    return math.acos(math.cos(bar) + share * (math.cos(closest) - math.cos(bar)))


@pytest.mark.parametrize("neutral", ["a picture", "something", "an object"])
def test_the_bar_is_the_nearest_description_of_nothing(neutral: str) -> None:
    """Classes count from .8 of the way between that and the closest class; none does where it is nearer than all."""
    angles = {
        "prompt": 0.0, neutral: 1.0, "closest": 0.2, "close": similarity_of(0.81, 1.0, 0.2),
        "far": similarity_of(0.79, 1.0, 0.2),
    }  # fmt: skip
    names = ("far", "close", "closest")
    found = find_classes("prompt", names, Planted(**angles).features, count=3)
    assert [names[one.number] for one in found] == ["closest", "close"]
    assert found[0].similarity == pytest.approx(math.cos(0.2), abs=1e-6)
    assert len(find_classes("prompt", names, Planted(**angles).features, count=1)) == 1
    with pytest.raises(SettingsError, match="no class is close to 'prompt'; the nearest are closest, close, far"):
        find_classes("prompt", names, Planted(**{**angles, neutral: 0.1}).features, count=3)
    with pytest.raises(SettingsError, match="no class is close"):
        find_classes("prompt", names, Planted(**{**angles, neutral: 0.2}).features, count=3)


def test_features_of_names_are_computed_once_and_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone and in a sentence, 64 texts at a time, kept as long as the model is."""
    model = Planted()
    names = tuple(f"name {i}" for i in range(50))
    rank_classes("x", names, model.features)
    rank_classes("y", names, model.features)
    assert [len(texts) for texts in model.asked] == [64, 36, 1, 1]
    assert model.asked[0][49:51] == ("name 49", "a picture of name 0") and model.asked[2:] == [("x",), ("y",)]
    rank_classes("x", names[:10], model.features)
    assert len(model.asked[4]) == 20
    assert len(model.asked) == 6 and len(Planted().asked) == 0


def test_both_texts_of_a_name_count() -> None:
    """The unit vector between them: at angles 0 and .8 from the prompt the class lies at .4."""

    def features(texts: Sequence[str]) -> Tensor:
        angles = torch.tensor([{"prompt": 0.0, "a": 0.0, "a picture of a": 0.8}.get(text, 1.5) for text in texts])
        return torch.stack([angles.cos(), angles.sin()], dim=1)

    assert rank_classes("prompt", ("b", "a"), features)[0] == (1, pytest.approx(math.cos(0.4), abs=1e-6))


def test_names_that_occur_twice_mean_the_first() -> None:
    assert classes_by_name(["crane", "CRANE"], ("heron", "crane", "Crane")) == (1, 1)
    assert classes_by_name(["0", "2"], NAMES) == (0, 2)
    assert classes_by_name(["10"], ("a", "10", "b")) == (1,)  # a name before a number


def test_at_most_three_are_offered() -> None:
    names = ("tabby cat", "lynx cat", "wild cat", "sand cat", "dog")
    with pytest.raises(SettingsError) as caught:
        classes_by_name(["cat"], names)
    assert str(caught.value).count(" cat") == 3 and "dog" not in str(caught.value)
    with pytest.raises(SettingsError, match=r"no class 'zzz'; the classes are n0, .*, n11\.$"):
        classes_by_name(["zzz"], tuple(f"n{i}" for i in range(12)))
