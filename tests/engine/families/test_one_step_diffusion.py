"""A tiny pipeline through the whole program: the flow, the command line, what is kept of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.__main__ import main
from engine.families import family_of_folder, find_family
from engine.inference.flow import Particles, Step
from engine.models.loading import GeneratorModel, PromptModel, load_generator, load_prompt_model
from engine.pictures.picture_files import Picture
from engine.settings import GenerateSettings, InpaintSettings, SettingsError
from engine.tasks import generate, inpaint, look_around, prepare_mask
from engine.tasks.denoised_inpainting import smoothly_filled
from tests.engine import pipelines

FAMILY = find_family("one_step_diffusion")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pipelines")
    for name in ("sd", "sdxl", "lcm"):
        pipelines.save_pipeline(root / name, name)
    return {name: root / name for name in ("sd", "sdxl", "lcm")}


@pytest.fixture
def words(tiny_assets: Path) -> PromptModel:
    return load_prompt_model("clip-mini", assets=tiny_assets)


@pytest.fixture
def model(folders: dict[str, Path]) -> Iterator[GeneratorModel]:
    yield load_generator(str(folders["sd"]))


def settings(prompt: str = "a red hat", *, n: int = 3, steps: int = 3, **options: Any) -> GenerateSettings:
    flow = replace(FAMILY.flow(), steps=steps, **options.pop("flow", {}))
    return GenerateSettings(prompt, n=n, flow=flow, **options)


def run(chosen: GenerateSettings, model: GeneratorModel, words: PromptModel) -> list[Step]:
    return list(generate(chosen, model, words).steps())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sd", {}),
        ("sd", {"denoising_steps": 3, "gradient_steps": "last"}),
        ("sd", {"prompt": ""}),
        ("sdxl", {"denoising_steps": 2}),
        ("sdxl", {"width": 32, "denoising_steps": 1}),
        ("lcm", {}),
        ("lcm", {"denoising_steps": 2, "gradient_steps": "last"}),
    ],
)
def test_a_run_moves_every_picture(
    name: str, options: dict[str, Any], folders: dict[str, Path], words: PromptModel
) -> None:
    chosen = settings(**options)
    steps = run(chosen, load_generator(str(folders[name])), words)
    first, last = steps[0], steps[-1]
    assert len(steps) == 4 and first.images.shape == (3, 3, 16, chosen.width or 16)
    assert (last.particles.latents - first.particles.latents).flatten(1).norm(dim=1).min() > 0
    assert not torch.equal(first.images, last.images)
    mean_squares = last.particles.latents.flatten(2).square().mean(2)
    assert torch.allclose(mean_squares, torch.ones_like(mean_squares), rtol=1e-5), "noise keeps to its shell"


def test_the_words_count_more_with_every_step(model: GeneratorModel, words: PromptModel) -> None:
    """Without repulsion the flow climbs the text score alone."""
    steps = run(settings(steps=25, flow={"diversity": 0.0}), model, words)
    assert steps[0].text_scores is not None and steps[-1].text_scores is not None
    assert (steps[-1].text_scores > steps[0].text_scores).all()


def test_repulsion_makes_pictures_differ_more(model: GeneratorModel, words: PromptModel) -> None:
    chosen = settings(steps=25)
    task = generate(chosen, model, words)
    ours, beside = list(task.steps())[-1], list(task.baseline().steps())[-1]
    assert ours.diversity > beside.diversity


def test_a_resumed_run_is_the_uninterrupted_one(model: GeneratorModel, words: PromptModel) -> None:
    """Bit for bit, also with a sampler that draws noise of its own."""
    chosen = settings(steps=4, denoising_steps=2)
    task = generate(chosen, model, words)
    whole = list(task.steps())
    rest = list(task.steps(particles=whole[2].particles))
    assert torch.equal(rest[-1].particles.latents, whole[-1].particles.latents)
    assert torch.equal(rest[-1].images, whole[-1].images)


def test_a_particle_begins_at_its_own_seed(folders: dict[str, Path], words: PromptModel) -> None:
    model = load_generator(str(folders["lcm"]))
    alone = run(settings(n=1, steps=1, seed=5), model, words)[0]
    among = run(settings(n=3, steps=1, seed=3), model, words)[0]
    assert among.particles.seeds == (3, 4, 5)
    assert torch.equal(among.particles.latents[2], alone.particles.latents[0])
    assert torch.equal(among.images[2], alone.images[0])


def test_one_picture_is_in_memory_at_once(model: GeneratorModel, words: PromptModel) -> None:
    """The family's own chunk: no batch that the denoiser sees has more than one particle."""
    seen = []
    handle = model.network.unet.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    try:
        run(settings(n=3, steps=1), model, words)
    finally:
        handle.remove()
    assert seen and set(seen) == {1}
    assert all(FAMILY.flow(preset).chunk == 1 for preset in ("robust", "paper", "kde", "stein"))


def test_a_finished_picture_leads_to_more_like_it(model: GeneratorModel, words: PromptModel) -> None:
    """As the page keeps it: flattened; the settings survive JSON."""
    last = run(settings(steps=1, denoising_steps=1), model, words)[-1]
    kept = tuple(last.particles.latents[0].flatten().tolist())
    more = settings(steps=1, denoising_steps=1, start=kept, spread=0.0)
    again = GenerateSettings.from_dict(json.loads(json.dumps(more.to_dict())))
    assert again == more
    first = run(again, model, words)[0]
    assert torch.allclose(first.images[0], last.images[0], atol=1e-5)


def test_variations_of_a_picture(model: GeneratorModel, words: PromptModel) -> None:
    """Of its proportions; the less noise the more it matters which picture it was."""
    picture = Picture(np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (32, 1, 3)))
    other = Picture(255 - picture.pixels)
    differences, particles = {}, set()
    for strength in (0.1, 1.0):
        firsts = []
        for given in (other, picture):
            chosen = settings(steps=2, start_from=given.sha256, start_strength=strength)
            task = generate(chosen, model, words, picture=given)
            steps = list(task.steps())
            assert steps[0].images.shape == (3, 3, 12, 24)
            assert not torch.equal(steps[0].images, steps[-1].images)
            firsts.append(steps[0].images)
            particles.add(tuple(task.particles.latents.flatten().tolist()))
        differences[strength] = (firsts[0] - firsts[1]).abs().mean()
    assert len(particles) == 1, "the same noise, of which less or more is added"
    assert differences[0.1] > 2 * differences[1.0] > 0
    again = GenerateSettings.from_dict(json.loads(json.dumps(chosen.to_dict())))
    assert again == chosen
    for missing in (None, other):
        with pytest.raises(SettingsError, match="start_from: the picture that this run begins at is not here"):
            generate(chosen, model, words, picture=missing)


def test_other_models_begin_at_no_picture(words: PromptModel, tiny_assets: Path) -> None:
    avatars = load_generator("avatars", assets=tiny_assets)
    chosen = GenerateSettings("a red hat", n=1, start_from="ab" * 32)
    with pytest.raises(SettingsError, match="start_from: .* begins at no picture; diffusion models do"):
        generate(chosen, avatars, words)


def circle(size: tuple[int, int]) -> tuple[Picture, np.ndarray]:
    """A picture of colours that change all over, and a mask of a disc in it."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256], axis=-1).astype(np.uint8)
    mask = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (min(size) / 4) ** 2
    return Picture(pixels), mask


@pytest.mark.parametrize(("name", "prompt"), [("sd", "a red hat"), ("sd", ""), ("sdxl", "the house"), ("lcm", "a dog")])
def test_holes_are_filled_and_nothing_else_changes(
    name: str, prompt: str, folders: dict[str, Path], words: PromptModel
) -> None:
    """Bit for bit, also of a picture that is larger and of other proportions than the model's."""
    model = load_generator(str(folders[name]))
    picture, mask = circle((48, 60))
    chosen = InpaintSettings(prompt=prompt, n=2).with_preset("robust")
    chosen = replace(chosen, flow=replace(chosen.flow, steps=3))
    mask = prepare_mask(chosen, mask, picture)
    assert list(look_around(picture, mask, model, words)) == []
    task = inpaint(chosen, picture, mask, None, model, words)
    steps = list(task.steps())
    assert len(steps) == 4
    results = [task.picture(steps[-1], index).pixels for index in range(2)]
    for result in results:
        assert result.shape == picture.pixels.shape
        assert np.array_equal(result[~mask], picture.pixels[~mask])
        assert (result[mask] != picture.pixels[mask]).any()
    assert (results[0] != results[1])[mask].any()
    figures = task.figures(steps[-1])
    assert figures["known_pixels_changed"] == 0
    assert not torch.equal(steps[0].images, steps[-1].images)
    beside = list(task.baseline().steps())
    assert torch.equal(beside[0].images, steps[0].images)


def test_nothing_of_what_was_in_the_hole_is_told(model: GeneratorModel, words: PromptModel) -> None:
    """Another picture in the hole gives the same results: what is repainted is not looked at."""
    picture, mask = circle((16, 16))
    pixels = picture.pixels.copy()
    pixels[mask] = 255 - pixels[mask]
    chosen = replace(InpaintSettings(prompt="a red hat", n=1, feather=0), flow=replace(FAMILY.flow(), steps=1))
    made = []
    for given in (picture, replace(picture, pixels=pixels)):
        task = inpaint(chosen, given, mask, None, model, words)
        made.append(task.picture(list(task.steps())[-1], 0).pixels)
    assert np.array_equal(made[0], made[1])


def test_known_pixels_count(model: GeneratorModel, words: PromptModel) -> None:
    """Without words or repulsion the flow climbs their likelihood alone."""
    picture, mask = circle((16, 16))
    flow = replace(InpaintSettings().flow, steps=25, diversity=0.0)
    task = inpaint(InpaintSettings(n=1, flow=flow), picture, mask, None, model, words)
    steps = list(task.steps())
    first, last = (step.log_values["known pixels"].mean().item() for step in (steps[0], steps[-1]))
    assert last > first


def test_holes_are_filled_as_smoothly_as_they_leave_it_open() -> None:
    """What is known stays; a hole in a picture of one colour gets that colour, and one in a ramp what is between."""
    known = torch.ones(1, 1, 16, 16)
    known[..., 4:12, 4:12] = 0
    flat = torch.full((1, 3, 16, 16), 0.3)
    assert torch.allclose(smoothly_filled(flat * known + 9 * (1 - known), known), flat, atol=1e-6)
    ramp = torch.linspace(-1, 1, 16).expand(1, 3, 16, 16)
    filled = smoothly_filled(ramp, known)
    assert torch.equal(filled * known, ramp * known)
    assert (filled - ramp).abs().max() < 0.3
    assert not smoothly_filled(flat, torch.zeros_like(known)).any()


def test_kept_particles_draw_the_same_again(model: GeneratorModel, words: PromptModel) -> None:
    task = generate(settings(steps=2), model, words)
    steps = list(task.steps())
    particles = Particles(steps[1].particles.latents.clone(), steps[1].particles.seeds, 1)
    assert torch.equal(task.problem.pictures(particles.latents, 1), steps[1].images)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"height": 37}, "height: 37 is no multiple of 4 pixels; choose 36 or 40"),
        ({"denoising_steps": 5}, "denoising_steps: 5 is outside 0 to 4"),
        ({"gradient_steps": "first"}, "gradient_steps: 'first' is unknown; choose one of all, last"),
        ({"space": "w"}, "space: 'w' is unknown"),
        ({"classes": ("cat",)}, "classes: .* has none"),
    ],
)
def test_what_cannot_be_asked_for(
    options: dict[str, Any], said: str, model: GeneratorModel, words: PromptModel
) -> None:
    with pytest.raises(SettingsError, match=said):
        run(settings(**options), model, words)


def test_the_command_line(folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures of a folder, and what is said of it; the family's own numbers, though the folder has no row."""
    assert family_of_folder(folders["sdxl"]) == FAMILY.name and family_of_folder("avatars") == ""
    arguments = ["--model", str(folders["sdxl"]), "--n", "2", "--steps", "1", "--out", str(tmp_path / "out")]
    arguments += ["--denoising-steps", "2", "--gradient-steps", "last", "--width", "32", "--baseline"]
    assert main(["generate", "the " * 80 + "red hat", *arguments]) == 0
    told = capsys.readouterr().err
    assert "the text encoder of" in told and "red hat" in told and "Say what matters most first" in told
    for place in ("00.png", "01.png", "baseline/00.png"):
        with Image.open(tmp_path / "out" / place) as picture:
            assert picture.size == (32, 16)
    chosen = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert chosen["flow"]["chunk"] == 1 and chosen["flow"]["step_size"] == FAMILY.flow().step_size
    assert (chosen["denoising_steps"], chosen["gradient_steps"], chosen["width"]) == (2, "last", 32)


def test_variations_and_holes_by_the_command_line(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, mask = circle((24, 60))
    Image.fromarray(picture.pixels).save(tmp_path / "mine.png")
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    run_options = ["--model", str(folders["sd"]), "--n", "2", "--steps", "1"]
    start = ["--start-from", str(tmp_path / "mine.png"), "--strength", "0.5"]
    assert main(["generate", "a red hat", *run_options, *start, "--out", str(tmp_path / "varied")]) == 0
    with Image.open(tmp_path / "varied/01.png") as made:
        assert made.size == (24, 12)  # 5 : 2 of 16 x 16 pixels is 25.3 x 10.1, in multiples of 4
    chosen = json.loads((tmp_path / "varied/run.json").read_text())["settings"]
    assert chosen["start_strength"] == 0.5 and len(chosen["start_from"]) == 64
    inputs = [str(tmp_path / name) for name in ("mine.png", "mask.png")]
    assert main(["inpaint", *inputs, "a dog", *run_options, "--baseline", "--out", str(tmp_path / "filled")]) == 0
    with Image.open(tmp_path / "filled/00.png") as made:
        assert np.array_equal(np.asarray(made.convert("RGB"))[~mask], picture.pixels[~mask])
    capsys.readouterr()
    start[1] = str(tmp_path / "nothing.png")
    assert main(["generate", "a red hat", *run_options, *start, "--out", str(tmp_path / "none")]) == 2
    assert "nothing.png" in capsys.readouterr().err


def test_a_folder_is_described(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    (folders["sdxl"] / "LICENSE.md").write_text("For tests.")
    assert main(["models", "check", str(folders["sdxl"])]) == 0
    said = capsys.readouterr().out
    for part in ("StableDiffusionXLPipeline", "unet  ", "vae  ", "text_encoder_2  ", "tokenizer_2  ", "float32"):
        assert part in said
    assert "its licence stands in LICENSE.md" in said and "nothing was refused" in said
