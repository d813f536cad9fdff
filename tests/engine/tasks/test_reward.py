"""A second prompt model judges the pictures by the same words, with a weight of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.__main__ import main
from engine.inference.flow import Step
from engine.inference.terms import Batch, TextLikelihood
from engine.models.loading import GeneratorModel, PromptModel, load_generator, load_prompt_model
from engine.settings import GenerateSettings, SettingsError
from engine.tasks import generate
from engine.tasks.generation import REWARD

PROMPT = "a red hat"


@pytest.fixture
def models(tiny_assets: Path) -> tuple[GeneratorModel, PromptModel]:
    return load_generator("avatars", assets=tiny_assets), load_prompt_model("clip-mini", assets=tiny_assets)


@pytest.fixture
def judge(models: tuple[GeneratorModel, PromptModel]) -> PromptModel:
    """Another model: the first one with other weights in its tower of pictures."""
    import copy

    first = models[1]
    network = copy.deepcopy(first.network)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in network.visual.parameters():
            weights.add_(0.2 * torch.randn(weights.shape, generator=generator))
    return replace(first, name="judge", network=network, sha256="ab" * 32)


def settings(**options: object) -> GenerateSettings:
    made = GenerateSettings(PROMPT, n=2, reward_model="judge")
    flow = replace(made.flow, steps=12, diversity=0.0, step_size=0.05)
    return replace(made, flow=flow, **options)  # type: ignore[arg-type]


def run(chosen: GenerateSettings, models: tuple[GeneratorModel, PromptModel], judge: PromptModel | None) -> list[Step]:
    return list(generate(chosen, *models, reward=judge).steps())


def test_it_counts_as_much_as_its_weight(models: tuple[GeneratorModel, PromptModel], judge: PromptModel) -> None:
    """Its logits are its own cosines, and pictures end nearer to what it likes than without it."""
    ends = {}
    for weight in (0.0, 1.0, 50.0):
        steps = run(settings(reward_weight=weight), models, judge)
        images = steps[-1].images
        text = judge.text_features([PROMPT])[0]
        ends[weight] = float((judge.image_features(images) @ text).mean())
        if weight:
            logits = judge.logit_scale * (judge.image_features(steps[0].images) @ text)
            assert torch.allclose(steps[0].log_values[REWARD], logits, atol=1e-4)
        else:
            assert REWARD not in steps[0].log_values
    assert ends[50.0] > ends[0.0] + 0.01 and ends[1.0] > ends[0.0]


def test_it_is_told_of_every_step(models: tuple[GeneratorModel, PromptModel], judge: PromptModel) -> None:
    task = generate(settings(), *models, reward=judge)
    step = next(task.steps())
    assert task.progress(step) == {REWARD: pytest.approx(float(step.log_values[REWARD].mean()))}
    plain = generate(settings(reward_model=""), *models)
    assert plain.progress(next(plain.steps())) == {}


def test_random_views_are_the_same_for_both(models: tuple[GeneratorModel, PromptModel], judge: PromptModel) -> None:
    task = generate(settings(cutouts=3), *models, reward=judge)
    (first, _), (second, weight) = task.problem.conditions
    assert isinstance(first, TextLikelihood) and isinstance(second, TextLikelihood)
    assert weight == 1.0 and (first.cutouts, first.seed) == (second.cutouts, second.seed) == (3, 0)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    batch = Batch(task.particles.latents, images, step=4)
    views = second._views(4)(images)
    expected = (judge.logit_scale * (views @ judge.text_features([PROMPT])[0])).mean(1)
    assert torch.allclose(second.log_value(batch), expected, atol=1e-5)


def test_without_words_it_has_nothing_to_judge_by(
    models: tuple[GeneratorModel, PromptModel], judge: PromptModel
) -> None:
    task = generate(settings(prompt=""), *models, reward=judge)
    assert all(term.name != REWARD for term, _ in task.problem.conditions)


def test_a_model_that_is_named_has_to_be_given(models: tuple[GeneratorModel, PromptModel]) -> None:
    with pytest.raises(SettingsError, match="reward_model: judge is named, but not given"):
        generate(settings(), *models)
    with pytest.raises(SettingsError, match="reward_weight: 101.* is outside 0 to 100"):
        settings(reward_weight=101.0)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bundled model as the second one; run.json names both with their hashes."""
    options = ["--n", "1", "--steps", "1", "--reward-model", "clip-mosaic", "--reward-weight", "0.5", "--cutouts", "2"]
    assert main(["generate", PROMPT, *options, "--out", str(tmp_path / "out")]) == 0
    told = json.loads((tmp_path / "out/run.json").read_text())
    assert (told["settings"]["reward_model"], told["settings"]["reward_weight"]) == ("clip-mosaic", 0.5)
    assert len(told["models"]["clip-mosaic"]) == 64
    assert main(["generate", PROMPT, "--reward-model", "clip-nothing", "--out", str(tmp_path / "none")]) == 2
    assert "clip-nothing" in capsys.readouterr().err
