"""Marks on pictures: pinned ones stay and repel, liked ones attract, unlike ones repel; what is refused."""

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from engine.inference.flow import (
    MARKED_COST,
    Looked,
    Particles,
    Problem,
    Step,
    chosen_values,
    liked_values,
    refine,
    shared_by,
    unlike_values,
)
from engine.inference.terms import References
from engine.settings import PINNED_LIMIT, FlowSettings, GenerateSettings, Mark, Pin, SettingsError
from engine.tasks import check, generate
from engine.tasks.marks import Marked, marks_on
from engine.tasks.towards import SeenFeatures
from tests.engine.tasks.test_tasks import ToyModel
from tests.engine.toys import LATENT, DoubleSpace, ToyPromptModel, numbers, toy_particles, toy_problem

FLOW = FlowSettings(steps=8, diversity=1.0, condition_weight=0.0)
SETTINGS = GenerateSettings("a woman", n=3, seed=10, flow=FLOW)


def last(problem: Problem, particles: Particles, flow: FlowSettings = FLOW) -> Step:
    *_, step = refine(problem, particles, flow)
    return step


def likeness(step: Step, features: Tensor) -> float:
    """The mean cosine of the particles to features [D]."""
    return float((step.features @ features).mean())


def test_a_pinned_particle_stays_bit_for_bit_and_the_others_move() -> None:
    start = toy_particles(4)
    for step in refine(replace(toy_problem(), pinned=frozenset({1, 3})), start, FLOW):
        assert torch.equal(step.particles.latents[[1, 3]], start.latents[[1, 3]])
    assert not torch.isclose(step.particles.latents[[0, 2]], start.latents[[0, 2]]).all(1).any()


def test_a_pinned_particle_repels_the_others() -> None:
    """A second particle that begins nearly where the first is pinned ends farther from it than where it is alone."""
    first = DoubleSpace(LATENT).sample([0])
    near = DoubleSpace(LATENT).constrain(first + 0.05 * numbers(1, LATENT, seed=9))
    problem = replace(toy_problem(), pinned=frozenset({0}))
    together = last(problem, Particles(torch.cat([first, near]), (0, 1)))
    before = together.features[0]
    alone = last(toy_problem(), Particles(near, (1,)))
    assert float(together.features[1] @ before) < float(alone.features[0] @ before) - 0.01


def test_liked_pictures_attract_and_more_so_the_more_they_count() -> None:
    problem, start = toy_problem(), toy_particles(3)
    flow = replace(FLOW, diversity=0.0)
    wanted = problem.extractor(problem.render(DoubleSpace(LATENT).sample([77])))
    liked = replace(problem, liked=References(wanted))
    reached = [likeness(last(liked, start, replace(flow, data_weight=w)), wanted[0]) for w in (0.0, 0.02, 0.1)]
    assert reached[0] < reached[1] - 0.005 and reached[1] < reached[2] - 0.02


def test_what_is_marked_is_added_to_what_the_settings_name() -> None:
    rows = numbers(3, 5)
    problem = replace(toy_problem(), seen=numbers(2, 5, seed=1), pinned=frozenset({2}))
    marks = Marked(pinned=problem.pinned).after([Mark(4, 0, "like", True), Mark(4, 1, "unlike", True)], rows)
    found = marks.applied(problem)
    assert found.liked is not None and torch.equal(found.liked.features, rows[:1])
    assert found.seen is not None and torch.equal(found.seen[2:], rows[1:2]) and found.pinned == {2}
    later = marks.after([Mark(5, 2, "pin", False), Mark(5, 0, "unlike", True)], rows + 1)
    found = later.applied(problem)
    assert found.liked is None and found.pinned == frozenset()
    assert found.seen is not None and torch.equal(found.seen[2:], torch.stack([rows[1], rows[0] + 1]))


def test_which_marks_a_picture_has() -> None:
    marks = [Mark(0, 1, "like", True), Mark(2, 1, "unlike", True), Mark(2, 0, "pin", False), Mark(3, 2, "like", False)]
    assert marks_on(marks, pinned=[0, 3]) == {1: {"unlike"}, 3: {"pin"}}


def test_pinned_pictures_of_one_run_stay_in_the_next() -> None:
    latent = torch.randn(LATENT, generator=torch.Generator().manual_seed(3))
    settings = replace(SETTINGS, pinned=(Pin.of(1, 99, latent.tolist()),), space="truncated")
    settings = GenerateSettings.from_dict(json.loads(json.dumps(settings.to_dict())))
    for side in (task := generate(settings, ToyModel(), ToyPromptModel()), task.baseline()):
        *_, step = side.steps()
        assert step.particles.seeds == (10, 99, 12)
        assert torch.equal(step.particles.latents[1].float(), latent)


def test_what_was_seen_may_be_features_alone_of_the_same_prompt_model() -> None:
    model, prompt_model = ToyModel(), ToyPromptModel()
    *_, step = generate(SETTINGS, model, prompt_model).steps()
    seen = SeenFeatures(step.features, prompt_model.sha256)
    assert SeenFeatures(step.features.flip(0), prompt_model.sha256).sha256 == seen.sha256
    settings = replace(SETTINGS, unlike=seen.sha256, like=seen.sha256)
    problem = generate(settings, model, prompt_model, seen=seen, liked=seen).problem
    assert problem.seen is not None and problem.liked is not None and torch.equal(problem.seen, step.features)
    other = SeenFeatures(step.features, "ff" * 32)
    for ask in (generate, check):
        with pytest.raises(SettingsError, match="unlike: another prompt model saw"):
            ask(replace(SETTINGS, unlike=other.sha256), model, prompt_model, seen=other)
        with pytest.raises(SettingsError, match="like: the pictures that this run is to be like are not here"):
            ask(replace(SETTINGS, like="ab" * 32), model, prompt_model)


def test_marks_and_pins_survive_json() -> None:
    marks = (Mark(0, 2, "like", True), Mark(3, 2, "pin", True))
    settings = replace(SETTINGS, marks=marks, pinned=(Pin.of(0, 5, [0.1, -2.5]),))
    again = GenerateSettings.from_dict(json.loads(json.dumps(settings.to_dict())))
    assert again == settings and hash(again) == hash(settings) and again.marks[1].name == "pin"
    assert list(again.pinned[0].numbers) == pytest.approx([0.1, -2.5])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"marks": ((0, 0, "like", True),)}, "expected .step, picture, name"),
        ({"marks": (Mark(0, 0, "love", True),)}, "expected .step, picture, name"),  # type: ignore[arg-type]
        ({"marks": (Mark(4, 0, "like", True), Mark(3, 0, "like", False))}, "the steps must rise"),
        ({"marks": (Mark(4, 5, "like", True),)}, "picture 6 is marked, and there would be 3"),
        ({"pinned": (Pin.of(0, 1, [1.0]), Pin.of(0, 2, [1.0]))}, "different places"),
        ({"pinned": (Pin(0, 1, "no base64"),)}, "a pinned latent is damaged"),
        ({"pinned": (Pin.of(0, 1, [float("nan")]),)}, "some of its numbers are none"),
        ({"pinned": (Pin.of(0, 1, [0.0] * (PINNED_LIMIT + 1)),)}, "pin fewer"),
        ({"like": "model"}, "like: expected nothing, or the hash"),
    ],
)
def test_what_cannot_be_used_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace(SETTINGS, **changes)  # type: ignore[arg-type]


def test_a_forged_file_is_refused_in_words() -> None:
    values = SETTINGS.to_dict()
    for name in ("pinned", "marks"):
        for wrong in (7, [7], [[1, 2]], "text", [{"step": 1}]):
            with pytest.raises(SettingsError, match=f"{name}: expected"):
                GenerateSettings.from_dict({**values, name: wrong})


def test_a_pin_of_another_space_is_refused() -> None:
    settings = replace(SETTINGS, pinned=(Pin.of(1, 99, [0.5] * 4),))
    for ask in (generate, check):
        with pytest.raises(SettingsError, match="has 4 numbers, but space 'z' needs 6"):
            ask(settings, ToyModel(), ToyPromptModel())


def on_circle(*degrees: float) -> Tensor:
    """Unit vectors [K, 2] at these angles."""
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def test_of_allowed_values_a_particle_takes_the_one_least_like_what_was_seen() -> None:
    """Three values of two particles, on the unit circle at 10, 90 and 180 degrees from what was seen at 0. The first
    may not have the farthest and takes 90; the second then is farther from both at 180."""
    features = on_circle(10.0, 90.0, 180.0)[:, None].expand(3, 2, 2)
    allowed = torch.tensor([[True, True], [True, True], [False, True]])
    seen = torch.tensor([[2.0, 0.0]])
    assert unlike_values(features, allowed, torch.tensor([0, 0]), seen).tolist() == [1, 2]
    assert unlike_values(features, allowed, torch.tensor([0, 2]), seen).tolist() == [1, 2]


def test_a_value_is_shared_by_half_of_how_many_more_liked_pictures_have_it() -> None:
    """Two values as orthogonal directions of features. Of four liked pictures with the second three have it, one the
    first: (3/4 - 1/4) / 2. A particle takes a value that they share, where it is allowed, and none that half have."""
    values = torch.eye(3)[:, None]  # [3, 1, 3]
    taken, allowed = torch.tensor([0]), torch.ones(3, 1, dtype=torch.bool)
    mostly = torch.eye(3)[[1, 1, 1, 0]]
    assert shared_by(values, taken, mostly)[:, 0].tolist() == pytest.approx([0.0, 0.25, -0.125])
    assert liked_values(values, allowed, taken, torch.eye(3)[[1, 1, 1, 2]]).tolist() == [1]
    assert liked_values(values, allowed & False, taken, torch.eye(3)[[1, 1, 1, 2]]).tolist() == [0]
    assert liked_values(values, allowed, taken, torch.eye(3)[[1, 1, 0, 2]]).tolist() == [0]


class Corners:
    """A space whose only option puts a particle into one of three places."""

    options = ("place",)

    def alternatives(self, latents: Tensor, option: str) -> tuple[Tensor, Tensor]:
        every = torch.eye(3)[:, None].expand(3, len(latents), 3)
        return every, latents.argmax(1)


def test_a_run_ends_with_values_that_marks_speak_for_unless_they_cost_too_much() -> None:
    def end(cost: float, **marked: Tensor) -> list[int]:
        def look(latents: Tensor) -> Looked:
            return Looked(-cost * latents[:, 2], lambda: latents)

        latents = torch.eye(3)[[0, 0]]
        return chosen_values(Corners(), latents, look, **marked).argmax(1).tolist()

    third, first_two = torch.eye(3)[[2, 2]], torch.eye(3)[[0, 1]]
    assert end(MARKED_COST) == end(2 * MARKED_COST, liked=third) == [0, 0]
    assert end(MARKED_COST, liked=third) == [2, 2]
    assert end(MARKED_COST, seen=first_two)[0] == 2 and end(2 * MARKED_COST, seen=first_two)[0] != 2
    assert end(0.0, liked=third, seen=third) == [2, 2]  # what is liked is not given up to be unlike
