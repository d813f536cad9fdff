"""Generate with a generator that is told its sentence: the prompt's vector is fixed, particles move in z, and the
discriminator judges each picture with that sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.inference.terms import Batch, Matching
from engine.latents.sentences import ReadSpace, ToldSpace
from engine.models.clip import PromptModel
from engine.models.loading import GeneratorModel, load_generator, load_prompt_model
from engine.models.table import first_settings, read_row
from engine.settings import GenerateSettings
from engine.tasks import check, generate
from tests.engine.tiny import Z_DIM, write_assets, write_reader


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_assets(tmp_path_factory.mktemp("told") / "assets")
    write_reader(folder / "reader")
    write_reader(folder / "unjudged", judged=False)
    return folder


@pytest.fixture
def model(assets: Path) -> GeneratorModel:
    return load_generator("reader", assets=assets)


@pytest.fixture
def prompt_model(assets: Path) -> PromptModel:
    return load_prompt_model("clip-mini", assets=assets)


def settings(assets: Path, prompt: str = "a red hat") -> GenerateSettings:
    """What the page would begin with, few and short."""
    first = first_settings("reader", "dfgan", read_row(assets / "reader"))
    return replace(first, prompt=prompt, n=3, seed=4, flow=replace(first.flow, steps=4))


def test_the_prompt_is_the_sentence(assets: Path, model: GeneratorModel, prompt_model: PromptModel) -> None:
    task = generate(settings(assets), model, prompt_model)
    space = task.problem.space
    assert isinstance(space, ToldSpace) and task.particles.latents.shape == (3, Z_DIM)
    sentence = prompt_model.text_features(["a red hat"])
    torch.testing.assert_close(space.sentence, sentence[0])
    *_, step = task.steps()
    expected = model.network(0.88 * step.particles.latents, sentence.expand(3, -1))
    assert torch.equal(step.images, expected)
    assert not torch.equal(step.particles.latents, task.particles.latents)
    check(settings(assets), model, prompt_model)


def test_c_is_the_logit_of_picture_and_sentence(assets: Path, model: GeneratorModel, prompt_model: PromptModel) -> None:
    """Beside the prompt model's own, each with its weight."""
    task = generate(settings(assets), model, prompt_model)
    term = task.problem.realism
    assert isinstance(term, Matching)
    first = next(task.steps())
    sentence = prompt_model.text_features(["a red hat"]).expand(3, -1)
    judge = model.discriminator
    assert judge is not None
    expected = term.discriminator.match(judge(first.images), sentence)[:, 0]
    torch.testing.assert_close(first.log_values["match"], expected)
    assert {"match", "text"} <= first.log_values.keys()
    flow = task.settings.flow
    assert (flow.realism, flow.condition_weight) == (1.0, 0.5)
    alone = replace(task.settings, flow=replace(flow, condition_weight=0.0))
    assert "text" not in next(generate(alone, model, prompt_model).steps()).log_values


def test_a_step_up_the_logit(assets: Path, model: GeneratorModel, prompt_model: PromptModel) -> None:
    """Without text and repulsion, a short run raises what the discriminator thinks of every particle."""
    short = settings(assets)
    flow = replace(short.flow, diversity=0.0, condition_weight=0.0, step_size=0.01, steps=8)
    steps = list(generate(replace(short, flow=flow), model, prompt_model).steps())
    assert (steps[-1].log_values["match"] > steps[0].log_values["match"]).all()


def test_the_baseline_repels_nothing(assets: Path, model: GeneratorModel, prompt_model: PromptModel) -> None:
    task = generate(settings(assets), model, prompt_model)
    plain = task.baseline()
    assert torch.equal(plain.particles.latents, task.particles.latents)
    assert "repulsion" in next(task.steps()).log_values and "repulsion" not in next(plain.steps()).log_values


def test_without_words_each_particle_keeps_a_sentence(
    assets: Path, model: GeneratorModel, prompt_model: PromptModel
) -> None:
    task = generate(settings(assets, ""), model, prompt_model)
    space = task.problem.space
    assert isinstance(space, ReadSpace)
    *_, step = task.steps()
    before, after = (space.sentences_of(one.latents) for one in (task.particles, step.particles))
    assert torch.equal(before, after) and len(before.unique(dim=0)) > 1
    assert not torch.equal(step.particles.latents, task.particles.latents)
    (term, _), *_ = task.problem.conditions
    among = Batch(step.particles.latents, step.images)
    assert isinstance(term, Matching) and model.discriminator is not None
    expected = term.discriminator.match(model.discriminator(step.images), after)[:, 0]
    torch.testing.assert_close(term.log_value(among), expected)


def test_without_a_discriminator_the_prompt_model_leads_alone(assets: Path, prompt_model: PromptModel) -> None:
    task = generate(
        replace(settings(assets), model="unjudged"), load_generator("unjudged", assets=assets), prompt_model
    )
    assert task.problem.realism is None and "text" in next(task.steps()).log_values


def test_a_start_of_more_like_this_is_a_z(assets: Path, model: GeneratorModel, prompt_model: PromptModel) -> None:
    kept = generate(settings(assets), model, prompt_model).particles.latents[1]
    again = generate(replace(settings(assets), start=tuple(kept.tolist()), spread=0.0), model, prompt_model)
    torch.testing.assert_close(again.particles.latents, kept.expand(3, -1))
