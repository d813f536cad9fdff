"""Inpaint by a Co-Mod-GAN: what it sees and what stays, its terms, its baseline, models that lack something."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import engine
from engine import __main__ as cli
from engine import tasks
from engine.checkpoints import write_safetensors
from engine.errors import ModelError
from engine.inference.flow import Step
from engine.inference.terms import Batch, Realism
from engine.models.clip import PromptModel
from engine.models.loading import GeneratorModel, load_generator, load_prompt_model
from engine.networks.comodgan import Filler, Generator
from engine.networks.stylegan2 import Discriminator
from engine.pictures import masks
from engine.pictures.picture_files import Box, Picture
from engine.settings import FlowSettings, GenerateSettings, InpaintSettings, SettingsError
from engine.tasks.filling import Filling, square_round, what_is_missing
from tests.engine.tiny import write_filler
from tests.engine.toys import scores_of

Models = tuple[GeneratorModel, PromptModel]

SETTINGS = InpaintSettings(n=3, seed=4, flow=FlowSettings(steps=3), feather=2)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_filler(tmp_path_factory.mktemp("filler") / "filler")


@pytest.fixture
def models(folder: Path, tiny_assets: Path) -> Models:
    return load_generator(str(folder)), load_prompt_model("clip-mini", assets=tiny_assets)


def noise(size: tuple[int, int] = (16, 16)) -> Picture:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Picture(pixels, "mine.png")


def hole(size: tuple[int, int], box: tuple[int, int, int, int]) -> masks.Mask:
    """True from left, top to right, bottom."""
    mask = np.zeros((size[1], size[0]), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def filling(models: Models, settings: InpaintSettings = SETTINGS, size: tuple[int, int] = (16, 16)) -> Filling:
    picture, mask = noise(size), hole(size, (4, 4, 10, 12))
    assert not list(tasks.look_around(picture, mask, *models))  # nothing is searched
    task = tasks.inpaint(settings, picture, mask, None, *models)
    assert isinstance(task, Filling)
    return task


def last_of(task: tasks.Task) -> Step:
    *_, step = task.steps()
    return step


# ---- what it draws ---------------------------------------------------------------------------------------


def test_it_begins_at_what_the_network_alone_fills(models: Models) -> None:
    """At z of the seeds, on their shell; the baseline stays there."""
    task = filling(models)
    network = models[0].network.generator
    first, *_, last = task.steps()
    z, canvas = task.particles.latents, task.canvas
    torch.testing.assert_close(z.norm(dim=1), torch.full((3,), 6.0).sqrt())
    with torch.no_grad():
        alone = network(canvas.target.expand(3, -1, -1, -1), canvas.known.expand(3, -1, -1, -1), z)
    torch.testing.assert_close(first.images, torch.lerp(canvas.target, alone, canvas.hole))
    assert not torch.equal(last.images, first.images)
    beside = task.baseline()
    assert beside.settings.flow.until == 0
    shown = list(beside.steps())
    assert [step.step for step in shown] == [0, 1, 2, 3]
    assert all(torch.equal(step.images, first.images) for step in shown)


def test_the_network_never_sees_what_is_repainted(models: Models) -> None:
    picture, mask = noise(), hole((16, 16), (4, 4, 10, 12))
    other = picture.pixels.copy()
    other[mask] = 255 - other[mask]
    before, after = (
        tasks.inpaint(replace(SETTINGS, feather=0), one, mask, None, *models)
        for one in (picture, Picture(other, "mine.png"))
    )
    assert torch.equal(last_of(before).particles.latents, last_of(after).particles.latents)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((16, 16), (0, 0, 16, 16)),  # all of it
        ((16, 16), (7, 7, 8, 8)),  # one pixel
        ((90, 41), (2, 0, 80, 41)),  # longer than the largest square
        ((300, 200), (290, 190, 300, 200)),  # a small one in the corner of a large picture
    ],
)
def test_whatever_the_hole_known_pixels_stay_bit_for_bit(
    models: Models, size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    picture, mask = noise(size), hole(size, box)
    task = tasks.inpaint(replace(SETTINGS, feather=0), picture, mask, None, *models)
    step = last_of(task)
    for index in range(3):
        result = task.picture(step, index)
        assert result.size == size and np.array_equal(result.pixels[~mask], picture.pixels[~mask])
        assert (result.pixels[mask] != picture.pixels[mask]).any()
    assert task.figures(step)["known_pixels_changed"] == 0


def test_the_square_is_as_large_as_the_hole_wants_it() -> None:
    """Eight times its longer side, within the picture; at least what the network draws, at most what there is."""
    picture = noise((300, 200))
    assert square_round(hole((300, 200), (290, 100, 300, 105)), picture, 16) == Box(220, 62, 80)
    assert square_round(hole((300, 200), (150, 100, 151, 101)), picture, 64) == Box(118, 68, 64)
    assert square_round(hole((300, 200), (0, 0, 60, 60)), picture, 16) == Box(0, 0, 200)
    assert square_round(hole((300, 200), (10, 0, 290, 10)), picture, 16) == Box(10, -40, 280)
    assert square_round(hole((12, 9), (3, 3, 4, 4)), noise((12, 9)), 16) == Box(0, 0, 9)


def test_noise_is_the_same_in_every_run_and_drawn_where_a_layer_has_a_strength(models: Models) -> None:
    network = models[0].network.generator
    plain = next(filling(models).steps())
    layers = [module for name, module in network.named_modules() if name.endswith(".noise")]
    assert not network.takes_noise and len(layers) == network.num_ws - 1
    try:
        for layer in layers:
            layer.weight.fill_(1.0)
        assert network.takes_noise
        noisy, again = next(filling(models).steps()), next(filling(models, replace(SETTINGS, seed=5)).steps())
    finally:
        for layer in layers:
            layer.weight.fill_(0.0)
    assert not torch.allclose(plain.images, noisy.images)
    torch.testing.assert_close(noisy.images[1:], again.images[:2])  # of the same seeds


# ---- its terms -------------------------------------------------------------------------------------------


def test_without_words_the_discriminator_judges_and_its_features_repel(models: Models) -> None:
    task = filling(models)
    step = last_of(task)
    judge, canvas = models[0].network.discriminator, task.canvas
    assert set(step.log_values) == {"repulsion", "realism"} and step.text_scores is None
    with torch.no_grad():
        seen = torch.cat(
            [(canvas.known - 0.5).expand(3, -1, -1, -1), task.problem.render(step.particles.latents)], dim=1
        )
        torch.testing.assert_close(step.log_values["realism"], judge(seen)[:, 0])
        torch.testing.assert_close(step.features, judge.features(seen))
    assert task.progress(step) == {"realism": pytest.approx(float(step.log_values["realism"].mean()))}
    assert task.figures(step)["realism_logits"] == step.log_values["realism"].tolist()


def test_words_are_a_further_condition(models: Models) -> None:
    """Then the prompt model's features of the finished picture repel."""
    task = filling(models, replace(SETTINGS, prompt="a smile"))
    step = last_of(task)
    assert {"realism", "text"} <= set(step.log_values) and scores_of(step).abs().min() > 0
    with torch.no_grad():
        torch.testing.assert_close(step.features, models[1].image_features(step.images), rtol=1e-4, atol=1e-5)


def test_without_repulsion_the_logit_rises(models: Models) -> None:
    flow = replace(SETTINGS.flow, steps=20, step_size=0.05, diversity=0.0)
    first, *_, last = filling(models, replace(SETTINGS, flow=flow)).steps()
    assert (last.log_values["realism"] > first.log_values["realism"]).all()


def test_steps_are_shorter_where_they_are_relative_and_longer_with_words(models: Models) -> None:
    """Of one particle, which nothing repels: by the share that the length of a step has."""
    one = replace(SETTINGS, n=1, flow=replace(SETTINGS.flow, steps=1, step_schedule="constant"))
    moves = {}
    for prompt in ("", "a smile"):
        task = filling(models, replace(one, prompt=prompt))
        moves[prompt] = (last_of(task).particles.latents - task.particles.latents).norm()
    assert 0 < moves[""] < 0.2 * moves["a smile"]
    paper = filling(models, replace(one, flow=replace(one.flow, normalise=False, step_size=1e-3)))
    short = filling(models, replace(one, flow=replace(one.flow, normalise=False, step_size=5e-4)))
    far, near = ((last_of(task).particles.latents - task.particles.latents).norm() for task in (paper, short))
    assert far / near == pytest.approx(2, rel=0.05)  # as they are, but for the curvature of the shell


def test_the_logit_of_features_is_the_last_layers_and_so_is_its_gradient() -> None:
    """In float64: of a linear layer w on pictures taken as features, the gradient is w."""
    head = torch.nn.Linear(5, 1).double()
    images = torch.rand(3, 5, 1, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    batch = Batch(torch.zeros(3, 1), images)
    value = Realism(lambda shown: shown.flatten(1), head).log_value(batch)
    (by_images,), _ = batch.gradients([value])
    torch.testing.assert_close(value, head(images.flatten(1))[:, 0])
    torch.testing.assert_close(by_images[:, :, 0, 0], head.weight.expand(3, -1))


def test_chunks_differ_by_rounding(models: Models) -> None:
    flow = replace(SETTINGS.flow, steps=1)
    whole, parts = (last_of(filling(models, replace(SETTINGS, flow=replace(flow, chunk=chunk)))) for chunk in (None, 2))
    torch.testing.assert_close(whole.images, parts.images, rtol=1e-3, atol=1e-4)


# ---- other models ----------------------------------------------------------------------------------------


def test_without_a_discriminator_it_works_and_says_what_is_missing(tmp_path: Path, models: Models) -> None:
    bare = load_generator(str(write_filler(tmp_path / "bare", judged=False)))
    task = filling((bare, models[1]))
    step = last_of(task)
    assert "realism" not in step.log_values and step.diversity > 0
    assert task.progress(step) == {} and "realism_logits" not in task.figures(step)
    assert "without its discriminator" in what_is_missing(bare) and what_is_missing(models[0]) == ""


def test_a_model_that_needs_no_hole_misses_nothing(tiny_assets: Path) -> None:
    assert what_is_missing(load_generator("avatars", assets=tiny_assets)) == ""


@pytest.mark.parametrize("arithmetic", ["original", "port"])
def test_a_file_of_ones_own_is_filled_with_by_the_arithmetic_named(
    tmp_path: Path, models: Models, arithmetic: str
) -> None:
    """In its model.json or at its conversion; the original's where nothing says otherwise."""
    folder = write_filler(tmp_path / "own", judged=False, options={"arithmetic": arithmetic})
    bare, converted = folder / "generator.safetensors", tmp_path / "converted.safetensors"
    command = ["models", "convert", str(bare), "--out", str(converted), "--set", f"arithmetic={arithmetic}"]
    assert cli.main(command) == 0
    own, again, usual = (
        next(filling((load_generator(str(path)), models[1])).steps()) for path in (folder, converted, bare)
    )
    assert torch.equal(own.images, again.images)
    assert torch.equal(own.images, usual.images) == (arithmetic == "original")


def test_it_draws_nothing_without_a_picture(models: Models) -> None:
    with pytest.raises(SettingsError, match="draws none of its own. Choose another model, or inpaint a picture with"):
        tasks.generate(GenerateSettings("a smile", n=2), *models)
    with pytest.raises(SettingsError, match="only a StyleGAN2 can edit pictures. What filler can do is inpaint"):
        next(engine.invert(noise(), models[0]))
    with pytest.raises(ValueError, match="draws nothing without a picture that has a hole"):
        models[0].synthesize(torch.zeros(1, 6), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("side", "channels", "classes"), [(8, 4, 0), (16, 3, 0), (16, 4, 2)])
def test_networks_that_do_not_belong_together_are_refused(side: int, channels: int, classes: int) -> None:
    generator = Generator((6, 8), {4: 8, 8: 8, 16: 8}, code_dim=4)
    judge = Discriminator(classes, side, channels, channels={4: 8, 8: 8, 16: 8})
    with pytest.raises(ValueError, match="it takes 4 of 16 px"):
        Filler(generator, judge)


def test_grey_pictures_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "grey.safetensors"
    write_safetensors(path, Generator((6, 8), {4: 8, 8: 8}, code_dim=4, img_channels=1).state_dict())
    with pytest.raises(ModelError, match="fills pictures of 1 channels"):
        load_generator(str(path))
