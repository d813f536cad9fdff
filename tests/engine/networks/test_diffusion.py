"""Pipelines against diffusers' own, which made them: the same noise and words give the same pictures."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.latents.noise import NoiseSpace
from engine.models.loading import GeneratorModel, load_generator
from engine.networks.denoising import (
    Denoising,
    Move,
    alpha_bars,
    consistency_times,
    denoised,
    denoising,
    trailing_times,
)
from engine.networks.tokenizer import PaddedTokenizer, read_word_table
from tests.engine import pipelines

PROMPT = "a red hat on the dog"
# With these, everything computes in float32, in another order here and there.
AS_ROUNDED = 1e-5


def space_of(model: GeneratorModel, prompt: str = PROMPT, *, steps: int = 0, **how: Any) -> NoiseSpace:
    space = model.spaces["noise"]
    assert isinstance(space, NoiseSpace)
    settings = {"gradient_steps": "all", "width": 0, "height": 0, **how}
    return space.drawing(prompt, steps=steps, **settings)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Any, Path]]]:
    """Each tiny pipeline, as diffusers has it and as it wrote it."""
    folder = tmp_path_factory.mktemp("pipelines")
    names = ("sd", "ancestral", "sdxl", "lcm", "sd-lcm")
    yield {name: (pipelines.save_pipeline(folder / name, name), folder / name) for name in names}


def theirs(pipeline: Any, noise: Tensor, steps: int, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Tensor:
    """Pictures [N, 3, H, W] in [0, 1] of noise [N, draws, C, h, w]; further draws are taken from it in turn."""
    fresh = iter(noise.unbind(1)[1:])
    last = torch.zeros_like(noise[:, 0])  # the ancestral sampler draws at its last step too, times 0
    for name in ("scheduling_lcm", "scheduling_euler_ancestral_discrete"):
        scheduling = importlib.import_module(f"diffusers.schedulers.{name}")
        monkeypatch.setattr(scheduling, "randn_tensor", lambda *_, **__: next(fresh, last))
    return pipeline(
        [PROMPT] * len(noise),
        latents=noise[:, 0].clone(),
        num_inference_steps=steps,
        guidance_scale=0.0 if "LatentConsistency" not in type(pipeline).__name__ else 8.5,
        output_type="pt",
        **more,
    ).images


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        *(("sd", steps) for steps in (1, 2, 3, 4)),
        *(("ancestral", steps) for steps in (1, 2, 4)),
        *(("sdxl", steps) for steps in (1, 2, 4)),
        *(("lcm", steps) for steps in (1, 2, 3, 4)),
        ("sd-lcm", 2),
    ],
)
def test_pictures_are_those_of_diffusers(
    made: dict[str, tuple[Any, Path]], monkeypatch: pytest.MonkeyPatch, name: str, steps: int
) -> None:
    pipeline, folder = made[name]
    model = load_generator(str(folder))
    space = space_of(model, steps=steps)
    noise = space.sample((3, 4))
    ours = (model.render(noise, space) / 2 + 0.5).clamp(0, 1)
    expected = theirs(pipeline, noise, steps, monkeypatch)
    assert ours.shape == expected.shape == (2, 3, 16, 16)
    assert expected.std() > 0.02, "a picture without anything on it shows nothing"
    assert (ours - expected).abs().max() < AS_ROUNDED


def test_the_prompt_counts_and_so_do_sizes(made: dict[str, tuple[Any, Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    """SDXL is told the size of the picture, which a wide one changes."""
    pipeline, folder = made["sdxl"]
    model = load_generator(str(folder))
    wide, other = space_of(model, steps=1, width=32), space_of(model, "the green house", steps=1, width=32)
    noise = wide.sample((5,))
    ours = (model.render(noise, wide) / 2 + 0.5).clamp(0, 1)
    assert ours.shape == (1, 3, 16, 32)
    expected = theirs(pipeline, noise, 1, monkeypatch, height=16, width=32)
    assert (ours - expected).abs().max() < AS_ROUNDED
    changed = (model.render(noise, other) / 2 + 0.5).clamp(0, 1)
    assert (ours - changed).abs().max() > 100 * AS_ROUNDED


def in_double(folder: Path) -> tuple[GeneratorModel, Any]:
    """The model with its networks in float64; its samplers' coefficients are numbers of Python."""
    model = load_generator(str(folder))
    return model, model.network.double()


@pytest.mark.parametrize(("name", "steps"), [("sd", 1), ("ancestral", 3), ("sdxl", 2), ("lcm", 2)])
def test_gradients_to_the_noise_are_those_of_finite_differences(
    made: dict[str, tuple[Any, Path]], name: str, steps: int
) -> None:
    """In float64, along random directions; the step 1e-5 leaves a relative error of about 1e-10 over 1e-5."""
    model, network = in_double(made[name][1])
    try:
        space = space_of(model, steps=steps)
        noise = space.sample((1, 2)).double().requires_grad_()

        def value(z: Tensor) -> Tensor:
            return network(z, space.told, steps=steps).square().sum()

        (gradient,) = torch.autograd.grad(value(noise), noise)
        direction = torch.randn(noise.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            slope = (value(noise + 1e-5 * direction) - value(noise - 1e-5 * direction)) / 2e-5
        assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-6)
        assert gradient.flatten(2).norm(dim=2).min() > 0, "every noise of a particle has a part in its picture"
    finally:
        network.float()


def test_through_the_last_step_only_the_last_network_counts() -> None:
    """x_1 = k x_0 + c d_0, d_0 = p x_0 + q f(x_0), and the result p' x_1 + q' g(x_1). With f a constant its slope is

    (p' + q' g'(x_1)) (k + c p).
    """
    course = Denoising(
        (Move(9, 0.5, 0.7, 0.4, 0.3, 0.6, 0.0), Move(4, 1.0, 0.2, 0.9, 0.0, 1.0, 0.0)), 2.0, 1, (1.0, 2.0)
    )

    def predict(x: Tensor, time: int) -> Tensor:
        return x.sin() if time == 9 else x.square()

    noise = torch.full((1, 1, 1, 1, 1), 0.8, dtype=torch.float64, requires_grad=True)
    slopes = {}
    for last_only in (False, True):
        made = denoised(predict, noise, course, last_only=last_only)
        slopes[last_only] = torch.autograd.grad(made.sum(), noise)[0].item()
    x_0 = 1.6
    x_1 = 0.3 * x_0 + 0.6 * (0.7 * x_0 + 0.4 * math.sin(0.5 * x_0))
    outer = 0.2 + 0.9 * 2 * x_1
    assert slopes[True] == pytest.approx(2 * outer * (0.3 + 0.6 * 0.7))
    assert slopes[False] == pytest.approx(2 * outer * (0.3 + 0.6 * (0.7 + 0.4 * 0.5 * math.cos(0.5 * x_0))))


@pytest.mark.parametrize(
    ("name", "steps", "of"), [("sd", 1, 2), ("sd", 2, 4), ("ancestral", 2, 4), ("sdxl", 1, 2), ("lcm", 2, 2)]
)
def test_variations_of_a_picture_are_those_of_diffusers(
    made: dict[str, tuple[Any, Path]], monkeypatch: pytest.MonkeyPatch, name: str, steps: int, of: int
) -> None:
    """A strength of half: their image-to-image takes half of its steps; of consistency models as many as it is told.

    The noise that theirs adds to the picture is the particle's first.
    """
    diffusers, _ = pipelines.libraries()
    pipeline, folder = made[name]
    kind = {"sdxl": "StableDiffusionXLImg2ImgPipeline", "lcm": "LatentConsistencyModelImg2ImgPipeline"}
    changing = getattr(diffusers, kind.get(name, "StableDiffusionImg2ImgPipeline"))(**pipeline.components)
    changing.set_progress_bar_config(disable=True)
    module = importlib.import_module(type(changing).__module__)
    model = load_generator(str(folder))
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(4)) * 2 - 1
    space = space_of(model, steps=steps).beginning(image, 0.5)
    noise = space.sample((3,))
    encoded = pipeline.vae.encode(image).latent_dist.mode() * pipeline.vae.config.scaling_factor
    assert space.begin is not None and torch.allclose(space.begin, encoded, atol=1e-6)
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: noise[:, 0])
    fresh = iter(noise.unbind(1)[1:])
    last = torch.zeros_like(noise[:, 0])
    for scheduling in ("scheduling_lcm", "scheduling_euler_ancestral_discrete"):
        place = importlib.import_module(f"diffusers.schedulers.{scheduling}")
        monkeypatch.setattr(place, "randn_tensor", lambda *_, **__: next(fresh, last))
    expected = changing(
        PROMPT,
        image=encoded,
        strength=0.5,
        num_inference_steps=of,
        guidance_scale=8.5 if name == "lcm" else 0.0,
        output_type="pt",
    ).images
    ours = (model.render(noise, space) / 2 + 0.5).clamp(0, 1)
    plain = (model.render(noise, space_of(model, steps=steps)) / 2 + 0.5).clamp(0, 1)
    assert (ours - expected).abs().max() < AS_ROUNDED < 0.01 * (ours - plain).abs().max()


def test_times() -> None:
    assert trailing_times(1000, 1) == [999] and trailing_times(1000, 4) == [999, 749, 499, 249]
    assert consistency_times(1000, 50, 1) == [999] and consistency_times(1000, 50, 4) == [999, 759, 499, 259]
    assert consistency_times(1000, 50, 2, 0.5) == [499, 259]
    assert consistency_times(1000, 50, 4, 0.01) == [
        79,
        59,
        39,
        19,
    ]


def test_noise_is_added_as_much_as_belongs_to_the_time() -> None:
    """At time t a picture is sqrt(alpha_bar) of itself and sqrt(1 - alpha_bar) of noise; Euler's x is that over the
    first. SD-Turbo's four times are those at which strengths of 1, .75, .5, .25 begin."""
    betas = {"num_train_timesteps": 1000, **pipelines.BETAS, "prediction_type": "epsilon"}
    euler = {"_class_name": "EulerDiscreteScheduler", **betas}
    lcm = {"_class_name": "LCMScheduler", **betas, "original_inference_steps": 50, "timestep_scaling": 10.0}
    for strength, time in ((1.0, 999), (0.75, 749), (0.5, 499), (0.25, 249)):
        kept = float(alpha_bars(euler)[time])
        course = denoising(euler, 1, strength)
        assert course.moves[0].time == time
        assert course.mixed == pytest.approx((1.0, math.sqrt((1 - kept) / kept)))
    course = denoising(lcm, 1, 0.5)
    kept = float(alpha_bars(lcm)[course.moves[0].time])
    assert course.mixed == pytest.approx((math.sqrt(kept), math.sqrt(1 - kept)))


def test_alpha_bars_fall_from_one() -> None:
    """Their first is 1 - beta_0; all are products, so each is that before times 1 - beta."""
    schedule = {"num_train_timesteps": 10, "beta_start": 0.1, "beta_end": 0.4, "beta_schedule": "linear"}
    alphas = alpha_bars(schedule)
    assert alphas[0].item() == pytest.approx(0.9) and alphas[1].item() == pytest.approx(0.9 * (1 - 0.1 - 0.3 / 9))
    assert (alphas.diff() < 0).all()


def test_chunks_make_no_difference(made: dict[str, tuple[Any, Path]]) -> None:
    """Pictures and gradients, in float64, where batches round alike to 1e-9."""
    model, network = in_double(made["sdxl"][1])
    try:
        space = space_of(model, steps=2)
        noise = space.sample((1, 2, 3)).double()

        def gradient(z: Tensor) -> Tensor:
            z = z.detach().requires_grad_()
            images = network(z, space.told, steps=2)
            return torch.autograd.grad(images.square().sum(), z)[0]

        assert torch.allclose(
            network(noise, space.told, steps=2),
            torch.cat([network(one, space.told, steps=2) for one in noise.split(1)]),
            atol=1e-9,
        )
        assert torch.allclose(gradient(noise), torch.cat([gradient(one) for one in noise.split(1)]), atol=1e-9)
    finally:
        network.float()


def test_checkpointing_changes_nothing_but_the_memory(made: dict[str, tuple[Any, Path]]) -> None:
    """Several cotangents at once, too, as the flow takes them. Bytes that a backward pass keeps are counted."""
    model = load_generator(str(made["sd"][1]))
    network, space = model.network, space_of(model, steps=2)
    noise = space.sample((1, 2)).requires_grad_()
    found, kept = {}, {}
    for checkpointing in (True, False):
        network.recompute(checkpointing)
        seen: dict[int, int] = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, seen=seen: (seen.__setitem__(tensor.data_ptr(), tensor.nbytes), tensor)[1],  # type: ignore[misc]
            lambda tensor: tensor,
        ):
            images = network(noise, space.told, steps=2)
        kept[checkpointing] = sum(seen.values())
        cotangents = torch.stack([torch.ones_like(images), images.detach()])
        found[checkpointing] = torch.autograd.grad(images, noise, cotangents, is_grads_batched=True)[0]
    network.recompute(True)
    assert torch.allclose(found[True], found[False], atol=1e-6)
    assert kept[True] < 0.5 * kept[False]


def test_in_half_the_precision_noise_and_pictures_stay_in_float32(made: dict[str, tuple[Any, Path]]) -> None:
    """As on a GPU: bfloat16 has 8 bits, so pictures of a standard deviation of about .1 differ by some hundredths."""
    model = load_generator(str(made["sdxl"][1]))
    network, space = model.network, space_of(model, steps=2)
    noise = space.sample((1, 2)).requires_grad_()
    exact = network(noise, space.told, steps=2).detach()
    try:
        images = network.bfloat16()(noise, space.told, steps=2)
        (gradient,) = torch.autograd.grad(images.square().sum(), noise)
    finally:
        network.float()
    assert images.dtype == gradient.dtype == torch.float32 and gradient.isfinite().all()
    assert 0 < (images - exact).abs().mean() < 0.05


def test_tokens_are_those_of_transformers(made: dict[str, tuple[Any, Path]], tmp_path: Path) -> None:
    """Of a tokenizer.json, and of the two files that the Hub's folders have in its place."""
    words, merges = pipelines.word_table()
    (tmp_path / "vocab.json").write_text(json.dumps(words))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": {"content": "!", "lstrip": False}}))
    texts = ("a red hat", "", "A  Dog, a cat's house!", "the " * 90, "Zürich 42")
    for folder, pad in ((made["sd"][1] / "tokenizer", "!"), (tmp_path, "!"), (made["lcm"][1] / "tokenizer", None)):
        ours = PaddedTokenizer(read_word_table(folder))
        theirs = pipelines.tokenizer(pad) if pad else pipelines.tokenizer()
        for text in texts:
            expected = theirs(text, padding="max_length", max_length=77, truncation=True)["input_ids"]
            assert ours(text, 77) == expected
    (tmp_path / "special_tokens_map.json").write_text('{"pad_token": "<|endoftext|>"}')
    assert read_word_table(tmp_path)["pad"] == "<|endoftext|>", "of older settings the map counts more"
    newer = {"pad_token": "!", "added_tokens_decoder": {}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(newer))
    assert read_word_table(tmp_path)["pad"] == "!"
    assert ours.left_out("a cat", 77) == "" and ours.left_out("the " * 74 + "blue hat", 77) == "hat"


def test_what_a_model_does_not_read_is_told(made: dict[str, tuple[Any, Path]]) -> None:
    model = load_generator(str(made["sdxl"][1]))
    assert model.left_out is not None
    assert model.left_out(PROMPT) == "" and model.left_out("the " * 75 + "red hat") == "red hat"
