"""Translate: where it begins, what moves, what is refused; and what a saved picture brings back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from engine import tasks
from engine.errors import ModelError
from engine.inference.flow import Step
from engine.inference.terms import Batch, DomainLogit, StyleLikelihood
from engine.latents.translation import DrawnStyles, GivenStyles, TranslationSpace, equal_effect, nearest_latents
from engine.models.clip import PromptModel
from engine.models.loading import GeneratorModel, load_generator, load_prompt_model
from engine.networks.stargan2 import MappingNetwork, StyleEncoder, Translator
from engine.pictures.examples import examples_of
from engine.pictures.picture_files import Picture
from engine.settings import FlowSettings, GenerateSettings, SettingsError, TranslateSettings
from engine.tasks.start_metadata import translate_extras, translated_from
from engine.tasks.translation import what_is_missing
from tests.engine.tiny import write_translator
from tests.engine.toys import scores_of
from tests.goldens import golden

SETTINGS = TranslateSettings(n=3, seed=4, domain="short", flow=FlowSettings(steps=3, step_size=0.2))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_translator(tmp_path_factory.mktemp("translator") / "translator")


@pytest.fixture
def models(folder: Path, tiny_assets: Path) -> tuple[GeneratorModel, PromptModel]:
    return load_generator(str(folder)), load_prompt_model("clip-mini", assets=tiny_assets)


@pytest.fixture
def picture() -> Picture:
    return noise(0)


def noise(seed: int, size: tuple[int, int] = (40, 48)) -> Picture:
    return Picture(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8), "mine.png")


def last_of(task: tasks.Task) -> Step:
    *_, step = task.steps()
    return step


def test_it_begins_at_the_plain_models_results(models: tuple[GeneratorModel, PromptModel], picture: Picture) -> None:
    """Latent-guided: the mapping network's styles, the picture's content; the baseline stays there."""
    task = tasks.translate(SETTINGS, picture, *models)
    network = models[0].network
    assert isinstance(network, Translator)
    steps = list(task.steps())
    styles = task.problem.space.decode(steps[0].particles.latents)[:, :6]
    image = task.begin.image(styles)
    with torch.no_grad():
        plain = network.generator(image.expand(3, -1, -1, -1), styles)
    torch.testing.assert_close(steps[0].images, plain)
    assert not torch.equal(steps[-1].images, plain) and [step.step for step in steps] == [0, 1, 2, 3]
    beside = tasks.translate(tasks.baseline(SETTINGS), picture, *models)
    shown = list(beside.steps())
    assert [(step.step, step.particles.step) for step in shown] == [(i, i) for i in range(4)]
    assert all(torch.equal(step.images, steps[0].images) for step in shown)


def test_references_give_the_styles_in_turn(models: tuple[GeneratorModel, PromptModel], picture: Picture) -> None:
    """The first particle of each begins at exactly its style, the others near it; the run is drawn to it."""
    references = examples_of([noise(1, (32, 32)), noise(2, (32, 32))])
    settings = replace(SETTINGS, references=references.sha256)
    task = tasks.translate(settings, picture, *models, references=references)
    first = last_of(replace(task, settings=replace(settings, flow=replace(SETTINGS.flow, steps=1))))
    styles = task.problem.space.decode(task.particles.latents)[:, :6]
    images = torch.cat([one.image(styles) for one in task.references])
    with torch.no_grad():
        wanted = models[0].network.styles_of(images, 1)
    torch.testing.assert_close(styles[:2], wanted)
    assert not torch.allclose(styles[2], wanted[0])
    assert {"domain", "reference"} <= set(first.log_values)


@pytest.mark.parametrize("content_scale", [0.0, 0.3])
def test_style_and_content_move_each_by_its_scale(
    models: tuple[GeneratorModel, PromptModel], picture: Picture, content_scale: float
) -> None:
    settings = replace(SETTINGS, content_scale=content_scale)
    task = tasks.translate(settings, picture, *models)
    before, after = (
        task.problem.space.decode(one) for one in (task.particles.latents, last_of(task).particles.latents)
    )
    assert not torch.equal(before[:, :6], after[:, :6])
    assert before.shape[1] == 6 + (8 * 16 * 16 if content_scale else 0)
    assert torch.equal(before[:, 6:], after[:, 6:]) == (content_scale == 0)


def test_the_space_keeps_content_within_its_limits() -> None:
    """Moved by at most half of its own length; at the start it is as it was."""
    content = torch.randn(18, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    styles = DrawnStyles(2, mapping=torch.Tensor.double)
    space = TranslationSpace(styles, content, style_scale=0.5, content_unit=0.25)
    latents = torch.cat([torch.full((1, 2), 100.0), torch.full((1, 18), 50.0)], dim=1).double()
    kept = space.decode(space.constrain(latents))
    torch.testing.assert_close((kept[0, 2:] - content).norm(), 0.5 * content.norm())
    start = space.sample([1]).double()
    torch.testing.assert_close(space.decode(start)[0, 2:], content)
    torch.testing.assert_close(space.constrain(start), start)


def test_given_styles_are_met_exactly_and_move_as_drawn_ones() -> None:
    """Also those that the mapping network does not reach: what is left of them is added, and no gradient moves it."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 6)).double().requires_grad_(False)
    drawn = DrawnStyles(4, mapping=network)
    samples = torch.randn(500, 4, dtype=torch.float64)
    hidden = torch.randn(2, 4, dtype=torch.float64)
    reached = network(hidden)
    deviation = torch.ones(6).double()
    z = nearest_latents(drawn, reached, deviation, samples=samples)
    assert (network(z) - reached).abs().max() < 0.02
    given = reached + torch.tensor([0.0, 5.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    styles = GivenStyles(drawn, given, z, deviation, spread=0.3)
    latents = styles.sample([7, 8, 9])
    torch.testing.assert_close(styles.decode(latents)[:2], given)
    assert not torch.allclose(styles.decode(latents)[2], given[0])
    latents.requires_grad_()
    styles.decode(latents).square().sum().backward()
    assert latents.grad is not None and (latents.grad[:, 4:] == 0).all() and (latents.grad[:, :4] != 0).any()
    torch.testing.assert_close(styles.constrain(10 * latents)[:, 4:], 10 * latents[:, 4:])


def test_drawn_styles_are_always_ones_of_the_mapping_network() -> None:
    """Latents of nine numbers stay between lengths 1 and 5, whatever the scale of their moves."""
    styles = DrawnStyles(9, mapping=lambda z: 2 * z)
    space = TranslationSpace(styles, torch.zeros(4), style_scale=0.5)
    far, near, usual = torch.full((1, 9), 100.0), torch.full((1, 9), 1e-3), styles.sample([3])
    torch.testing.assert_close(space.decode(space.constrain(far)).norm(), torch.tensor(10.0))
    torch.testing.assert_close(space.decode(space.constrain(near)).norm(), torch.tensor(2.0))
    assert 1 < usual.norm() < 5
    torch.testing.assert_close(space.decode(space.constrain(space.sample([3]))), 2 * usual)


def test_content_is_moved_as_far_as_the_style_whatever_their_sizes() -> None:
    """Of a linear generator, images = 3 content + 70 style: |J_content| = 3 sqrt(4), |J_style| = 70."""
    content, styles = torch.zeros(1, 2, 2).double(), torch.zeros(2000, 1).double()

    def draw(features: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        return torch.cat([3 * features.flatten(1), 70 * style], dim=1)[:, :, None, None]

    unit = equal_effect(draw, content, styles)
    assert unit == pytest.approx(70 / 6, rel=0.05)  # 2,000 random projections


@pytest.mark.parametrize("content_scale", [0.0, 0.5, 1.0])
def test_without_repulsion_the_logit_rises_from_the_plain_models(
    models: tuple[GeneratorModel, PromptModel], picture: Picture, content_scale: float
) -> None:
    """The style moves, and the content where it has a scale."""
    flow = replace(SETTINGS.flow, steps=20, step_size=0.05, diversity=0.0)
    settings = replace(SETTINGS, content_scale=content_scale, identity=0.0, flow=flow)
    task = tasks.translate(settings, picture, *models)
    first, *_, last = task.steps()
    before, after = (task.figures(step)["domain_logits"] for step in (first, last))
    assert all(end > begin for begin, end in zip(before, after, strict=True))
    moves = last.particles.latents - task.particles.latents
    space = task.problem.space
    assert isinstance(space, TranslationSpace)
    style, content = (part.norm(dim=1).mean() for part in moves.tensor_split([space.style_latents], dim=1))
    assert style > 0.01 and (content > 0.1) == (content_scale > 0)


def test_the_terms_values_and_gradients(models: tuple[GeneratorModel, PromptModel]) -> None:
    """In float64: the logit of the one domain; a normal error of the style, whose gradient is that of its formula."""
    network = models[0].network
    judge = torch.nn.Linear(5, 2).double()
    images = torch.rand(3, 5, 1, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def flat(shown: torch.Tensor) -> torch.Tensor:
        return shown.flatten(1)

    batch = Batch(torch.zeros(3, 1), images)
    value = DomainLogit(flat, judge, 1).log_value(batch)
    (by_images,), _ = batch.gradients([value])
    torch.testing.assert_close(by_images[:, :, 0, 0], judge.weight[1].expand(3, -1))
    wanted, deviation = torch.zeros(3, 5).double(), torch.full((5,), 2.0).double()
    batch = Batch(torch.zeros(3, 1), images)
    value = StyleLikelihood(flat, torch.nn.Identity(), wanted, deviation).log_value(batch)
    (by_images,), _ = batch.gradients([value])
    torch.testing.assert_close(by_images, -images / (5 * 4 * 0.25))
    assert network.discriminator is not None and what_is_missing(network) == ""


def test_without_a_discriminator_it_works_and_says_what_is_missing(
    tmp_path: Path, models: tuple[GeneratorModel, PromptModel], picture: Picture
) -> None:
    bare = load_generator(str(write_translator(tmp_path / "bare", judged=False)))
    task = tasks.translate(SETTINGS, picture, bare, models[1])
    step = last_of(task)
    assert "domain" not in step.log_values and step.diversity > 0
    assert "domain_logits" not in task.figures(step)
    assert "without its discriminator" in what_is_missing(bare.network)
    assert task.problem.extractor == bare.network.style_features
    given = examples_of([noise(1)])
    held = replace(SETTINGS, references=given.sha256)
    task = tasks.translate(held, picture, bare, models[1], references=given)
    assert task.problem.extractor == models[1].image_features  # the style encoder's are those of the condition
    step = last_of(task)
    assert {"domain", "text"}.isdisjoint(step.log_values) and "reference" in step.log_values and step.diversity > 0
    judged = tasks.translate(held, picture, *models, references=given)
    assert judged.problem.extractor == models[0].network.discriminator.features


def write_released(place: Path, *, fan: bool) -> Path:
    """A file as CelebA-HQ's was released: the high-pass variant, of the golden's 128 px, and no discriminator."""
    about = golden("starganv2_fan_tiny")
    state = {role: about.group(f"state.{role}") for role in ("generator", *(("fan",) if fan else ()))}
    state["mapping_network"] = MappingNetwork(3, 5, 2, hidden=4).state_dict()
    state["style_encoder"] = StyleEncoder([2] * 6, 5, 2).state_dict()
    torch.save(state, place)
    return place


def test_detail_of_the_face_is_handed_on_where_the_file_has_fan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: tuple[GeneratorModel, PromptModel], picture: Picture
) -> None:
    """A run begins at what the reference draws, its masks included; a file without `fan` works, and says so."""
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "cache"))
    settings = replace(SETTINGS, domain="1")
    whole = load_generator(str(write_released(tmp_path / "100000_nets_ema.ckpt", fan=True)))
    translator = whole.network
    assert isinstance(translator, Translator) and translator.fan is not None
    assert "`fan`" not in what_is_missing(translator) and "discriminator" in what_is_missing(translator)
    task = tasks.translate(settings, picture, whole, models[1])
    first, *_, last = task.steps()
    styles = task.problem.space.decode(first.particles.latents)[:, :5]
    image = task.begin.image(styles)
    with torch.no_grad():
        masks = tuple(mask.expand(3, -1, -1, -1) for mask in translator.fan(image))
        expected = translator.generator(image.expand(3, -1, -1, -1), styles, masks)
    torch.testing.assert_close(first.images, expected, rtol=1e-4, atol=1e-4)
    assert last.images.isfinite().all() and not torch.equal(last.images, first.images)
    bare = load_generator(str(write_released(tmp_path / "no_fan.ckpt", fan=False)))
    assert isinstance(bare.network, Translator) and bare.network.fan is None
    assert "comes without `fan`" in what_is_missing(bare.network)
    plain = next(iter(tasks.translate(settings, picture, bare, models[1]).steps()))
    assert plain.images.shape == first.images.shape


def test_words_are_a_further_condition(models: tuple[GeneratorModel, PromptModel], picture: Picture) -> None:
    step = last_of(tasks.translate(replace(SETTINGS, prompt="a smile"), picture, *models))
    assert {"domain", "text"} <= set(step.log_values) and scores_of(step).abs().min() > 0
    step = last_of(tasks.translate(SETTINGS, picture, *models))
    assert "text" not in step.log_values and step.text_scores is None


def test_what_does_not_fit_is_said(
    models: tuple[GeneratorModel, PromptModel], picture: Picture, tiny_assets: Path
) -> None:
    with pytest.raises(SettingsError, match=r"domain: translator does not know 'blue'; choose one of long, short\."):
        tasks.translate(replace(SETTINGS, domain="blue"), picture, *models)
    many = examples_of(noise(number) for number in range(17))
    with pytest.raises(SettingsError, match="are not here. Give the same files again"):
        tasks.translate(replace(SETTINGS, references=many.sha256), picture, *models)
    with pytest.raises(SettingsError, match="references: 17 pictures are too many"):
        tasks.translate(replace(SETTINGS, references=many.sha256), picture, *models, references=many)
    with pytest.raises(SettingsError, match="these are other pictures"):
        tasks.translate(replace(SETTINGS, references="0" * 64), picture, *models, references=many)
    with pytest.raises(SettingsError, match="expected nothing, or the hash of pictures"):
        replace(SETTINGS, references="model")
    avatars = load_generator("avatars", assets=tiny_assets)
    with pytest.raises(
        SettingsError, match="avatars translates no pictures. Choose a StarGAN v2 model, such as hairstyles"
    ):
        tasks.translate(SETTINGS, picture, avatars, models[1])
    with pytest.raises(
        SettingsError, match="works on pictures and draws none of its own. Choose another model, or translate"
    ):
        tasks.generate(GenerateSettings("a smile", n=2), *models)


def test_networks_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    folder = write_translator(tmp_path / "odd")
    row = (folder / "model.json").read_text().replace('["long", "short"]', '["long", "short", "bald"]')
    (folder / "model.json").write_text(row)
    with pytest.raises(ModelError, match="2 classes, but its description names 3"):
        load_generator(str(folder))


def test_a_saved_picture_brings_back_what_it_was_made_from(
    models: tuple[GeneratorModel, PromptModel], picture: Picture
) -> None:
    """The same run again, bit for bit, from the square that the model saw."""
    given = examples_of([noise(1)])
    settings = replace(SETTINGS, references=given.sha256)
    task = tasks.translate(settings, picture, *models, references=given)
    source, kept = translated_from(translate_extras(task.begin, task.references, "mine.png"))
    assert source is not None and source.name == "mine.png"
    references = examples_of(kept)
    again = tasks.translate(replace(settings, references=references.sha256), source, *models, references=references)
    assert torch.equal(last_of(task).images, last_of(again).images)
    for forged in ({"source": 5}, {"source": "x"}, {"references": "abc"}, {"references": ["aGVsbG8="]}):
        with pytest.raises(SettingsError, match="are damaged"):
            translated_from(forged)
