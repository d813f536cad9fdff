from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.inference.flow import Particles, Problem, Step, refine
from engine.latents.classes import ClassSpace
from engine.latents.codebook import Codebook, CodeSpace
from engine.latents.spaces import LatentSpace, TruncatedNormalSpace
from engine.models.loading import load_generator, load_prompt_model
from engine.pictures import imaging
from engine.settings import FlowSettings, GenerateSettings, SettingsError
from engine.tasks import Generation, baseline, check, generate
from engine.tasks.generation import fitting_starts, start_latents
from engine.tasks.task import fittest, particle_seeds
from tests.engine.toys import (
    FEATURES,
    LATENT,
    DoubleSpace,
    FreeSpace,
    ToyGenerator,
    ToyPromptModel,
    numbers,
    scores_of,
)


@dataclass(eq=False)
class ToyModel:
    """Two latent spaces; a discriminator that likes bright pictures."""

    network: ToyGenerator = field(default_factory=ToyGenerator)
    name: str = "toy"
    default_space: str = "z"
    references: Mapping[str, Tensor] = field(default_factory=dict)
    family: str = "toy"
    spaces: Mapping[str, LatentSpace] = field(
        default_factory=lambda: {"z": DoubleSpace(LATENT), "truncated": TruncatedNormalSpace(LATENT, name="truncated")}
    )
    asked_spaces: list[str] = field(default_factory=list)

    draft_resolution = 0

    def render(self, latents: Tensor, space: str | LatentSpace, *, draft: bool = False) -> Tensor:
        self.asked_spaces.append(space if isinstance(space, str) else space.name)
        return self.network(latents.double())

    def discriminator(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))[:, None]


SETTINGS = GenerateSettings("a woman with pink hair", n=4, seed=10, flow=FlowSettings(steps=3))


def test_particles_start_from_their_own_seeds():
    particles = generate(SETTINGS, ToyModel(), ToyPromptModel()).particles
    assert particles.seeds == (10, 11, 12, 13)
    assert torch.equal(particles.latents, DoubleSpace(LATENT).sample([10, 11, 12, 13]))
    assert particles.step == 0


def test_any_particle_can_be_asked_for_by_its_own_seed():
    many = generate(SETTINGS, ToyModel(), ToyPromptModel()).particles
    one = generate(replace(SETTINGS, n=1, seed=12), ToyModel(), ToyPromptModel()).particles
    assert torch.equal(one.latents, many.latents[2:3])


def test_seeds_wrap_around():
    assert particle_seeds(2**32 - 1, 3) == (2**32 - 1, 0, 1)


def test_the_baseline_is_the_same_run_without_repulsion():
    plain = baseline(SETTINGS)
    assert plain.flow.diversity == 0
    assert replace(plain, flow=SETTINGS.flow) == SETTINGS
    ours, theirs = (generate(s, ToyModel(), ToyPromptModel()).particles for s in (SETTINGS, plain))
    assert torch.equal(ours.latents, theirs.latents)


def test_the_flow_raises_the_text_score_and_repulsion_the_diversity():
    def finish(settings: GenerateSettings) -> tuple[float, float, float]:
        task = generate(settings, ToyModel(), ToyPromptModel())
        problem, particles = task.problem, task.particles
        steps = list(refine(problem, particles, settings.flow))
        return scores_of(steps[0]).mean().item(), scores_of(steps[-1]).mean().item(), steps[-1].diversity

    settings = replace(SETTINGS, n=8, flow=FlowSettings(steps=40, step_size=0.08))
    first, ours, our_diversity = finish(settings)
    _, theirs, their_diversity = finish(baseline(settings))
    assert theirs >= ours - 0.02 > first + 0.2
    assert our_diversity > 1.2 * their_diversity


def test_scores_are_cosines_with_the_prompt():
    prompts = ToyPromptModel()
    task = generate(SETTINGS, ToyModel(), prompts)
    problem, particles = task.problem, task.particles
    step = next(refine(problem, particles, SETTINGS.flow))
    text = prompts.text_features([SETTINGS.prompt])[0]
    torch.testing.assert_close(scores_of(step), prompts.image_features(step.images) @ text)
    torch.testing.assert_close(step.log_values["text"], prompts.logit_scale * scores_of(step))


def test_every_choice_reaches_its_term():
    prompts = ToyPromptModel()
    settings = replace(
        SETTINGS,
        contrast_prompts=("a man",),
        cutouts=2,
        flow=FlowSettings(steps=1, realism=0.5, prior=0.1),
    )
    task = generate(settings, ToyModel(), prompts)
    problem, particles = task.problem, task.particles
    step = next(refine(problem, particles, settings.flow))
    assert set(step.log_values) == {"repulsion", "text", "realism", "prior"}
    assert (step.log_values["text"] < 0).all()  # a log-softmax, not a logit
    assert prompts.tower.calls == [4, 4, 4]  # the picture and two views
    (text, _), *_ = problem.conditions
    assert (problem.seed, text.seed) == (settings.seed, settings.seed)  # type: ignore[attr-defined]
    torch.testing.assert_close(step.log_values["realism"], step.images.mean((1, 2, 3)))


def test_the_chosen_space_and_its_truncation_are_used():
    model = ToyModel()
    settings = replace(SETTINGS, space="truncated", truncation_psi=0.25, flow=FlowSettings(steps=5))
    task = generate(settings, model, ToyPromptModel())
    problem, particles = task.problem, task.particles
    *_, last = refine(problem, particles, settings.flow)
    assert set(model.asked_spaces) == {"truncated"}
    assert particles.latents.abs().max() <= 0.5
    assert last.particles.latents.abs().max() <= 0.5


def test_an_unknown_space_is_refused_with_the_known_ones():
    with pytest.raises(SettingsError, match=r"space: 'w\+' is unknown to avatars; it has z, truncated"):
        generate(replace(SETTINGS, space="w+"), ToyModel(), ToyPromptModel())


class TestMoreLikeThis:
    kept = DoubleSpace(LATENT).sample([77])

    def start(self, spread: float) -> Tensor:
        settings = replace(SETTINGS, start=tuple(self.kept[0].tolist()), spread=spread)
        return generate(settings, ToyModel(), ToyPromptModel()).particles.latents

    def test_no_spread_starts_at_the_kept_latent(self):
        torch.testing.assert_close(self.start(0.0), self.kept.expand(4, -1), rtol=1e-6, atol=1e-6)

    def test_full_spread_starts_anywhere(self):
        torch.testing.assert_close(self.start(1.0), DoubleSpace(LATENT).sample([10, 11, 12, 13]))

    def test_distance_grows_with_the_spread(self):
        distances = [(self.start(spread) - self.kept).norm(dim=1).mean() for spread in (0.1, 0.3, 0.6, 1.0)]
        assert distances == sorted(distances)
        assert self.start(0.3).unique(dim=0).shape[0] == 4

    def test_a_latent_of_another_model_is_refused(self):
        with pytest.raises(SettingsError, match="has 2 numbers, but space 'z' of avatars needs 6"):
            generate(replace(SETTINGS, start=(0.0, 1.0)), ToyModel(), ToyPromptModel())


# ---- what becomes of a step ------------------------------------------------------------------------------


class Brightened(Generation):
    """A task whose method halves the steps asked for, and which shows brighter pictures than it draws."""

    def shown(self, step: Step) -> Step:
        return replace(step, images=step.images + 1)

    def _own_flow(self, flow: FlowSettings) -> FlowSettings:
        return replace(flow, steps=flow.steps // 2)


def brightened() -> Brightened:
    return Brightened(**vars(generate(SETTINGS, ToyModel(), ToyPromptModel())))


def test_steps_are_those_of_the_method_and_are_shown_as_the_task_says() -> None:
    task = brightened()
    drawn = list(refine(task.problem, task.particles, replace(SETTINGS.flow, steps=1)))
    steps = list(task.steps())
    assert [(step.step, step.total) for step in steps] == [(0, 1), (1, 1)]
    for step, plain in zip(steps, drawn, strict=True):
        assert torch.equal(step.images, plain.images + 1)


def test_the_method_has_its_say_in_new_settings_too() -> None:
    steps = brightened().steps(FlowSettings(steps=10))
    assert next(steps).total == 5
    assert steps.send(FlowSettings(steps=8)).total == 4
    assert next(steps).total == 4  # what was sent stays
    assert len(list(steps)) == 2


def test_steps_go_on_from_any_particles() -> None:
    task = generate(SETTINGS, ToyModel(), ToyPromptModel())
    steps = list(task.steps())
    again = list(task.steps(particles=steps[1].particles))
    assert [step.step for step in again] == [1, 2, 3] and torch.equal(again[-1].images, steps[-1].images)


def test_steps_that_are_closed_close_the_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    def flow(problem: Problem, particles: Particles, settings: FlowSettings) -> Iterator[Step]:
        try:
            yield from refine(problem, particles, settings)
        finally:
            closed.append(True)

    monkeypatch.setattr("engine.tasks.task.refine", flow)
    steps = generate(SETTINGS, ToyModel(), ToyPromptModel()).steps()
    next(steps)
    steps.close()
    assert closed == [True]


def test_a_plain_task_has_nothing_more_to_say() -> None:
    task = generate(SETTINGS, ToyModel(), ToyPromptModel())
    step = next(task.steps())
    assert task.figures(step) == {} and task.labels(step) == () and task.classes == ()
    assert task.stage(step) is None and task.start(step, 0) is None
    assert task.picture(step, 2).pixels.tolist() == imaging.to_uint8(step.images)[2].tolist()
    assert task.baseline().settings == baseline(SETTINGS)
    assert task.baseline().problem is task.problem


CLASSES = ("a dress", "a coat", "a bag")


def of_classes(**changes: object) -> Generation:
    """Pictures of classes; texts are as near as they are long."""
    space = ClassSpace(LATENT, CLASSES, (0, 1, 2))
    model = ToyModel(spaces={"z": space})
    model.render = lambda latents, space, **_: model.network(latents[:, :LATENT].double())  # type: ignore[method-assign]
    settings = replace(SETTINGS, n=2, seed=0, **changes)  # type: ignore[arg-type]
    return generate(settings, model, ToyPromptModel())


def test_pictures_are_of_the_classes_that_were_named() -> None:
    task = of_classes(classes=("a bag", "a coat"))
    assert task.classes == ("a bag", "a coat")
    step = next(task.steps())
    assert task.labels(step) == ("a bag", "a coat")
    assert of_classes(prompt="a dress", class_count=1).classes == ("a dress",)


def test_mixed_classes_say_how_much_of_which_they_are() -> None:
    task = of_classes(classes=("a bag", "a coat"), relaxed_classes=True)
    step = next(task.steps())
    weights = task.problem.space.weights(step.particles.latents)  # type: ignore[attr-defined]
    names = [("a bag", "a coat")[int(row.argmax())] for row in weights]
    assert task.labels(step) == tuple(
        f"{name} {100 * row.max():.0f} %" for name, row in zip(names, weights, strict=True)
    )


def test_classes_of_a_model_without_are_refused() -> None:
    with pytest.raises(SettingsError, match="classes: avatars has none"):
        generate(replace(SETTINGS, classes=("a bag",)), ToyModel(), ToyPromptModel())


def of_codes(detail_steps: int) -> Generation:
    bank = torch.randint(4, (20, 2, 2), generator=torch.Generator().manual_seed(2))
    codes = CodeSpace(Codebook(numbers(4, 3).float()), 2, 2, bank)
    model = ToyModel(spaces={"codes": codes}, default_space="codes")
    model.render = lambda latents, space, **_: codes.decode(latents).double()  # type: ignore[method-assign]
    prompts = ToyPromptModel()
    prompts.tower = lambda images: F.normalize(images.flatten(1)[:, :FEATURES], dim=1)  # type: ignore[assignment]
    flow = FlowSettings(steps=4, detail_steps=detail_steps)
    return generate(replace(SETTINGS, candidates=3, flow=flow), model, prompts)


def test_a_run_of_codes_says_which_stage_it_is_in() -> None:
    """The second of two begins after the steps that are none of its own: here after three of four."""
    task = of_codes(1)
    stages = [task.stage(step) for step in task.steps()]
    assert [stage.number for stage in stages if stage] == [1, 1, 1, 2, 2]
    assert {(stage.number, stage.text, stage.begins) for stage in stages if stage} == {
        (1, "all codes together", 0.75), (2, "codes in turn", 0.75),
    }  # fmt: skip
    one_stage = of_codes(0)
    assert one_stage.stage(next(one_stage.steps())) is None


def test_starts_of_codes_are_looked_for_unless_one_is_given() -> None:
    task = of_codes(0)
    space: Any = task.problem.space
    latents = fitting_starts(task.problem, space, (10, 11, 12, 13), 3)
    assert torch.equal(task.particles.latents, latents)
    assert not torch.equal(latents, space.sample((10, 11, 12, 13)))
    given = replace(task.settings, start=tuple(latents[0].flatten().tolist()), spread=0.0)
    prompts = ToyPromptModel()
    started = generate(given, task.generator, prompts).particles.latents
    torch.testing.assert_close(started, latents[:1].expand_as(started))


def test_settings_are_checked_as_they_are_used_without_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.tasks.generation.fitting_starts", lambda *_: pytest.fail("a search"))
    check(SETTINGS, ToyModel(), ToyPromptModel())
    for wrong, words in (
        ({"space": "w+"}, "space: 'w\\+' is unknown"),
        ({"classes": ("a bag",)}, "classes: avatars has none"),
        ({"start": (0.0, 1.0)}, "start: this picture's latent has 2 numbers"),
    ):
        with pytest.raises(SettingsError, match=words):
            check(replace(SETTINGS, **wrong), ToyModel(), ToyPromptModel())


def test_an_edit_begins_at_a_picture_of_the_whole_space_alone(tiny_assets: Path) -> None:
    """Truncated latents mean something else than those of the whole space; other models have no w+."""
    model = load_generator("avatars", assets=tiny_assets)
    settings = replace(SETTINGS, n=2, space="w")
    prompts = load_prompt_model("clip-mini", assets=tiny_assets)
    task = generate(settings, model, prompts)
    step = next(task.steps())
    start = task.start(step, 1)
    assert start is not None
    torch.testing.assert_close(start.image, step.images[1:], rtol=1e-3, atol=1e-4)
    truncated = generate(replace(settings, truncation_psi=0.7), model, prompts)
    assert truncated.start(next(truncated.steps()), 1) is None


def test_a_model_without_a_discriminator_has_no_realism() -> None:
    class Blind(ToyModel):
        discriminator = None  # type: ignore[assignment]

    assert generate(SETTINGS, Blind(), ToyPromptModel()).problem.realism is None
    assert generate(SETTINGS, ToyModel(), ToyPromptModel()).problem.realism is not None


def test_the_kept_latent_and_the_fresh_one_mix_to_the_same_length() -> None:
    """sqrt(1 - spread^2) of one and spread of the other."""
    kept, fresh = FreeSpace(LATENT).sample([77]), FreeSpace(LATENT).sample([10, 11, 12, 13])
    settings = replace(SETTINGS, start=tuple(kept[0].tolist()), spread=0.6)
    torch.testing.assert_close(start_latents(settings, FreeSpace(LATENT), (10, 11, 12, 13)), 0.8 * kept + 0.6 * fresh)


def test_each_particle_takes_the_fittest_that_no_earlier_one_has() -> None:
    candidates = torch.tensor([[[1.0], [5.0]], [[5.0], [3.0]], [[5.0], [5.0]], [[7.0], [2.0]]])
    asked: list[int] = []

    def score(part: Tensor) -> Tensor:
        asked.append(len(part))
        return -(part[:, 0] - 5).abs()

    told: list[float | None] = []
    found = fittest(candidates, score, 2, lambda _, share: told.append(share))
    assert found[:, 0].tolist() == [5.0, 3.0, 5.0, 7.0]  # the third has nothing else; each distinct one is drawn once
    assert asked == [2, 2, 1] and told == [0.0, 0.4, 0.8]
