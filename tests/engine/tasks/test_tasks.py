from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from engine.inference.flow import refine
from engine.latents.spaces import LatentSpace, TruncatedNormalSpace
from engine.settings import FlowSettings, GenerateSettings, SettingsError
from engine.tasks import baseline, generate
from engine.tasks.task import particle_seeds
from tests.engine.toys import LATENT, DoubleSpace, ToyGenerator, ToyPromptModel


@dataclass(eq=False)
class ToyModel:
    """Two latent spaces; a discriminator that likes bright pictures."""

    network: ToyGenerator = field(default_factory=ToyGenerator)
    default_space: str = "z"
    family: str = "toy"
    spaces: Mapping[str, LatentSpace] = field(
        default_factory=lambda: {"z": DoubleSpace(LATENT), "truncated": TruncatedNormalSpace(LATENT, name="truncated")}
    )
    asked_spaces: list[str] = field(default_factory=list)

    def render(self, latents: Tensor, space: str | LatentSpace) -> Tensor:
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
        return steps[0].text_scores.mean().item(), steps[-1].text_scores.mean().item(), steps[-1].diversity

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
    torch.testing.assert_close(step.text_scores, prompts.image_features(step.images) @ text)
    torch.testing.assert_close(step.log_values["text"], prompts.logit_scale * step.text_scores)


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
