"""StyleCLIP by hand: the channel matrix, the direction, its guard; the regression on W; the optimisation's schedule."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from engine.checkpoints import read_safetensors
from engine.inference.flow import Particles, Problem
from engine.inference.terms import DistanceToStart, TextLikelihood
from engine.latents.styles import StyledSynthesis
from engine.models.clip import PromptModel
from engine.models.loading import GeneratorModel, load_generator, load_prompt_model
from engine.settings import FlowSettings, SettingsError
from engine.tasks import styleclip
from engine.tasks.styleclip import Directions, compute_directions, feature_change, find_directions, rate_at, regression
from tests.engine.toys import LATENT, DoubleSpace, ToyGenerator, ToyTower, numbers


@pytest.fixture
def models(tiny_assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[GeneratorModel, PromptModel]:
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "cache"))
    return load_generator("avatars", assets=tiny_assets), load_prompt_model("clip-mini", assets=tiny_assets)


# ---- the direction ---------------------------------------------------------------------------------------

# Four channels in a feature space of two: relevances for the direction (1, 0) are 1, .6, -.1 and 0.
BY_HAND = Directions(
    matrix=torch.tensor([[1.0, 0.0], [0.6, 0.8], [-0.1, 0.99**0.5], [0.0, 0.0]]),
    std=torch.tensor([2.0, 10.0, 5.0, 1.0]),
)
RIGHT = torch.tensor([1.0, 0.0])


def test_the_direction_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """relevance / max * std, 0 below beta: at .05 all three move by 1 x 2, .6 x 10 and -.1 x 5, at .2 two."""
    monkeypatch.setattr(styleclip, "FEWEST", 1)
    torch.testing.assert_close(BY_HAND.relevance(RIGHT), torch.tensor([1.0, 0.6, -0.1, 0.0]))
    torch.testing.assert_close(BY_HAND.edit(RIGHT, 0.05), torch.tensor([2.0, 6.0, -0.5, 0.0]))
    torch.testing.assert_close(BY_HAND.edit(RIGHT, 0.2), torch.tensor([2.0, 6.0, 0.0, 0.0]))
    torch.testing.assert_close(BY_HAND.edit(-RIGHT, 0.2), torch.tensor([-2.0, -6.0, 0.0, 0.0]))


def test_where_no_channel_is_left_the_best_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(styleclip, "FEWEST", 2)
    assert BY_HAND.is_relevant(RIGHT, 5.0).tolist() == [True, True, False, False]
    nothing = Directions(torch.zeros(4, 2), torch.ones(4))
    assert not nothing.edit(RIGHT, 0.1).any()


def test_the_change_of_features_by_hand() -> None:
    """Unit changes (1, 0) and (0, 1) have the mean (.5, .5), of length 1 (.707, .707); no change does not count."""
    before = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    after = torch.tensor([[3.0, 0.0], [1.0, 1.5], [2.0, 2.0]])
    torch.testing.assert_close(feature_change(before, after), torch.full((2,), 0.5**0.5))
    assert not feature_change(before, before).any()


def test_texts_that_say_the_same_are_refused(models: tuple[GeneratorModel, PromptModel]) -> None:
    with pytest.raises(SettingsError, match="what should become different"):
        styleclip.text_direction(models[1], "a smile", "a smile")
    direction = styleclip.text_direction(models[1], "a smile", "a person")
    torch.testing.assert_close(direction.norm(), torch.tensor(1.0))
    torch.testing.assert_close(styleclip.text_direction(models[1], "a person", "a smile"), -direction)


# ---- measuring -------------------------------------------------------------------------------------------


def test_the_matrix_is_that_of_the_definition(models: tuple[GeneratorModel, PromptModel], tmp_path: Path) -> None:
    """One channel computed anew: +-5 standard deviations on the same pictures."""
    generator, prompt_model = models
    path = tmp_path / "s.safetensors"
    progress = list(compute_directions(generator, prompt_model, "s", path=path, count=3))
    synthesis = StyledSynthesis(generator.network.synthesis)
    channels = int(synthesis.editable.sum())
    assert progress[-1] == (6 * channels, 6 * channels) and len(progress) == channels
    stored = read_safetensors(path)
    w = generator.spaces["w"].decode(generator.spaces["w"].sample(range(3)))
    styles = synthesis.styles(w[:, None].expand(-1, generator.network.num_ws, -1))
    channel = int(synthesis.editable.nonzero()[9])
    move = torch.zeros(synthesis.size)
    move[channel] = 5 * stored["std"][channel]
    ends = [prompt_model.image_features(synthesis(styles + sign * move)) for sign in (-1, 1)]
    units = F.normalize(ends[1] - ends[0], dim=1)
    torch.testing.assert_close(stored["matrix"][channel], F.normalize(units.mean(0), dim=0), rtol=1e-2, atol=1e-3)
    assert not stored["matrix"][~synthesis.editable].any()


def test_measuring_goes_on_where_it_was_stopped(
    models: tuple[GeneratorModel, PromptModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(styleclip, "CHANNELS_BETWEEN_SAVES", 4)
    monkeypatch.setattr(styleclip, "STATISTICS_SAMPLES", 50)
    whole, halves = tmp_path / "whole.safetensors", tmp_path / "halves.safetensors"
    total = len(list(compute_directions(*models, "s", path=whole, count=2)))
    first = compute_directions(*models, "s", path=halves, count=2)
    for _ in range(10):
        next(first)
    first.close()
    assert not halves.exists()
    assert len(list(compute_directions(*models, "s", path=halves, count=2))) == total - 8
    assert halves.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.part"))


def test_the_regression_finds_a_linear_map() -> None:
    """Features that are linear in w: the slopes; a coordinate without effect stays near 0."""
    x, truth = numbers(2000, 4), numbers(4, 3, seed=1)
    truth[3] = 0
    found = regression(x, x @ truth + 0.5 * numbers(2000, 3, seed=2) + 7.0, ridge=0.0)
    torch.testing.assert_close(found[:3], truth[:3], atol=0.05, rtol=0)
    assert found[3].norm() < 0.02


def test_directions_are_found_by_both_hashes(models: tuple[GeneratorModel, PromptModel]) -> None:
    generator, prompt_model = models
    assert find_directions(generator, prompt_model) is None
    with pytest.raises(styleclip.DirectionsMissingError, match="python -m engine directions --space w --model avatars"):
        styleclip.require_directions(generator, prompt_model, "w")
    list(compute_directions(generator, prompt_model, "w", count=40))
    found = find_directions(generator, prompt_model)
    assert found is not None and found.matrix.shape == (8, 24) and found.std.shape == (8,)
    from dataclasses import replace

    assert find_directions(generator, replace(prompt_model, sha256="0" * 64)) is None
    assert find_directions(replace(generator, sha256="0" * 64), prompt_model) is None


# ---- the optimisation ------------------------------------------------------------------------------------


def test_the_rate_rises_and_falls_as_published() -> None:
    """Of .1: 0 at the start, full from 5 % to 75 %, half of it at 87.5 %, 0 at the end."""
    rates = [rate_at(step, 200) / styleclip.ADAM_RATE for step in (0, 5, 10, 100, 150, 175, 200)]
    assert rates == pytest.approx([0, 0.5, 1, 1, 1, 0.5, 0])


def toy(n: int = 3) -> tuple[Problem, Particles]:
    tower, text = ToyTower(), F.normalize(numbers(5, seed=3), dim=0)
    space = DoubleSpace(LATENT)
    latents = space.sample(range(n))
    conditions = ((TextLikelihood(tower, text, logit_scale=1.0), 1.0), (DistanceToStart(latents), 0.016))
    problem = Problem(render=ToyGenerator(), space=space, extractor=tower, text=text, conditions=conditions)
    return problem, Particles(latents, tuple(range(n)))


def test_the_optimisation_is_adam_on_its_loss() -> None:
    """Against torch's own Adam on 1 - cos + .008 |w - start|^2, written out."""
    problem, particles = toy()
    steps = list(styleclip.optimise(problem, particles, FlowSettings(steps=20)))
    w = particles.latents.clone().requires_grad_()
    adam = torch.optim.Adam([w], lr=0.1)
    for step in range(20):
        for group in adam.param_groups:
            group["lr"] = rate_at(step, 20)
        cosine = problem.extractor(problem.render(w)) @ problem.text
        loss = (1 - cosine + 0.008 * (w - particles.latents).square().sum(1)).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    torch.testing.assert_close(steps[-1].particles.latents, w.detach())
    assert steps[-1].text_scores.mean() > steps[0].text_scores.mean() + 0.1
    assert [step.step for step in steps] == list(range(21))
    assert torch.equal(steps[0].particles.latents, particles.latents)


def test_particles_do_not_touch_each_other_and_chunks_change_nothing() -> None:
    problem, particles = toy()
    alone = Problem(
        render=problem.render,
        space=problem.space,
        extractor=problem.extractor,
        text=problem.text,
        conditions=((problem.conditions[0][0], 1.0), (DistanceToStart(particles.latents[:1]), 0.016)),
    )
    settings = FlowSettings(steps=5)
    *_, together = styleclip.optimise(problem, particles, settings)
    *_, one = styleclip.optimise(alone, Particles(particles.latents[:1], (0,)), settings)
    *_, chunked = styleclip.optimise(problem, particles, FlowSettings(steps=5, chunk=2))
    torch.testing.assert_close(together.particles.latents[:1], one.particles.latents)
    torch.testing.assert_close(together.particles.latents, chunked.particles.latents)


@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_resumed_optimisation_is_the_uninterrupted_one(at: int) -> None:
    """Bit for bit, as Adam's moments travel in the particles; also twice from the same particles, left as they were."""
    problem, particles = toy()
    settings = FlowSettings(steps=8)
    whole = list(styleclip.optimise(problem, particles, settings))
    for _ in range(2):
        resumed = list(styleclip.optimise(problem, whole[at].particles, settings))
        assert [step.step for step in resumed] == list(range(at, 9))
        for step, expected in zip(resumed, whole[at:], strict=True):
            assert torch.equal(step.particles.latents, expected.particles.latents)
    if at:
        forgetful = Particles(whole[at].particles.latents, particles.seeds, at)
        *_, last = styleclip.optimise(problem, forgetful, settings)
        assert not torch.allclose(last.particles.latents, whole[-1].particles.latents)
