"""Edit and Inpaint as tasks: every method from one start, chains, known pixels, what a wrong setting is told."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine import tasks
from engine.errors import PictureError
from engine.inference.flow import Step
from engine.models.clip import PromptModel
from engine.models.loading import GeneratorModel, load_generator, load_prompt_model
from engine.pictures import imaging, masks
from engine.pictures.picture_files import Picture
from engine.settings import EDIT_METHODS, EditSettings, FlowSettings, InpaintSettings
from engine.tasks import editing, inversion, styleclip
from engine.tasks import inpainting as inpainting_task
from engine.tasks.inversion import Start, start_from_latents

FLOW = FlowSettings(steps=3)
EDIT = EditSettings("a smile", n=3, seed=4, flow=FLOW)
INPAINT = InpaintSettings(n=3, seed=4, flow=FLOW, feather=2)


@pytest.fixture(scope="session")
def measured(tiny_assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the directions of the tiny models."""
    folder = tmp_path_factory.mktemp("cache")
    models = load_generator("avatars", assets=tiny_assets), load_prompt_model("clip-mini", assets=tiny_assets)
    for space, count in (("w", 40), ("s", 2)):
        name = styleclip.file_name(*models, space)  # type: ignore[arg-type]
        path = folder / "directions" / name
        list(styleclip.compute_directions(*models, space, path=path, count=count))  # type: ignore[arg-type]
    return folder


@pytest.fixture
def models(tiny_assets: Path, measured: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[GeneratorModel, PromptModel]:
    monkeypatch.setenv("GMI_CACHE", str(measured))
    return load_generator("avatars", assets=tiny_assets), load_prompt_model("clip-mini", assets=tiny_assets)


@pytest.fixture
def start(models: tuple[GeneratorModel, PromptModel]) -> Start:
    return start_from_latents(models[0], "w", models[0].spaces["w"].sample([1])[0])


def last_of(task: tasks.Task) -> Step:
    *_, step = task.steps()
    return step


# ---- edit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", EDIT_METHODS)
def test_every_method_streams_the_same_steps(
    models: tuple[GeneratorModel, PromptModel], start: Start, method: Any
) -> None:
    task = tasks.edit(replace(EDIT, method=method), start, *models)
    steps = list(task.steps())
    assert [(step.step, step.total) for step in steps] == [(i, 3) for i in range(4)]
    for step in steps:
        assert step.images.shape == (3, 3, 16, 16) and step.text_scores.shape == (3,)
        assert step.particles.seeds == (4, 5, 6)
    assert not torch.equal(steps[0].images, steps[-1].images)
    with torch.no_grad():
        shown = task.problem.render(steps[-1].particles.latents)
    torch.testing.assert_close(shown, steps[-1].images)


@pytest.mark.parametrize("method", EDIT_METHODS)
def test_resuming_goes_on_where_it_was(models: tuple[GeneratorModel, PromptModel], start: Start, method: Any) -> None:
    """Bit for bit; the optimisation's momentum is no part of the particles, so that one restarts it."""
    task = tasks.edit(replace(EDIT, method=method), start, *models)
    steps = list(task.steps())
    resumed = list(task.steps(particles=steps[1].particles))
    assert [step.step for step in resumed] == [1, 2, 3]
    if method != "optimise":
        assert torch.equal(resumed[-1].images, steps[-1].images)


def test_a_shorter_run_can_be_asked_for(models: tuple[GeneratorModel, PromptModel], start: Start) -> None:
    for method in EDIT_METHODS:
        task = tasks.edit(replace(EDIT, method=method), start, *models)
        steps = task.steps()
        next(steps)
        assert steps.send(FlowSettings(steps=2)).total == 2
        assert next(steps).step == 2
        with pytest.raises(StopIteration):
            next(steps)


def test_the_global_direction_ends_at_alpha_times_the_edit(
    models: tuple[GeneratorModel, PromptModel], start: Start
) -> None:
    """Styles: start + alpha_i * direction, the alphas from half to one and a half of ALPHA times the strength."""
    settings = replace(EDIT, method="direction", strength=0.5, disentanglement=0.05)
    task = tasks.edit(settings, start, *models)
    directions = styleclip.require_directions(*models, "s")
    words = styleclip.text_direction(models[1], settings.prompt, settings.neutral)
    change = directions.edit(words, 0.05)
    styles = task.problem.space.decode(last_of(task).particles.latents)
    begin = inversion.styles_of(start, task.renderer)
    for row, share in zip(styles, (0.5, 1.0, 1.5), strict=True):
        torch.testing.assert_close(row, begin + share * 0.5 * editing.ALPHA * change, rtol=1e-3, atol=1e-4)


def test_our_edit_starts_near_the_picture_not_at_copies_of_it(
    models: tuple[GeneratorModel, PromptModel], start: Start
) -> None:
    first = next(tasks.edit(EDIT, start, *models).steps())
    assert first.diversity > 0
    drawn = (first.images - start.image).abs().mean()
    fresh = models[0].render(models[0].spaces["w"].sample([4, 5, 6]), "w")
    assert drawn < 0.3 * (fresh - start.image).abs().mean()


def test_what_words_do_not_speak_of_moves_less(
    models: tuple[GeneratorModel, PromptModel], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of the basis: the relevant coordinates' full deviation, the others' IRRELEVANT times it."""
    monkeypatch.setattr(styleclip, "FEWEST", 2)
    task = tasks.edit(replace(EDIT, disentanglement=0.6), start, *models)
    directions = styleclip.require_directions(*models, "w")
    words = styleclip.text_direction(models[1], EDIT.prompt, EDIT.neutral)
    weight = torch.where(directions.is_relevant(words, 0.6), 1.0, editing.IRRELEVANT)
    assert 2 <= (weight == 1).sum() < len(weight)
    statistics = models[0].spaces["w"].statistics  # type: ignore[attr-defined]
    moved = task.problem.space.basis @ statistics.factor.T  # type: ignore[attr-defined]
    torch.testing.assert_close(moved, torch.diag(directions.std * weight), rtol=1e-3, atol=1e-3)


def test_the_baseline_of_an_edit_is_the_one_it_names() -> None:
    assert tasks.baseline(replace(EDIT, baseline="optimise")).method == "optimise"
    without = tasks.baseline(replace(EDIT, baseline="no repulsion"))
    assert without.flow.diversity == 0 and without.method == "gmi"
    with pytest.raises(ValueError, match="no baseline"):
        tasks.baseline(replace(EDIT, baseline="none"))
    assert tasks.baseline(INPAINT).flow.diversity == 0


@pytest.mark.parametrize("method", EDIT_METHODS)
def test_an_edit_goes_on_from_any_result(models: tuple[GeneratorModel, PromptModel], start: Start, method: Any) -> None:
    """The start of the next link shows the result exactly, whichever method made it and goes on from it."""
    task = tasks.edit(replace(EDIT, method=method), start, *models)
    step = last_of(task)
    link = task.start(step, 1)
    torch.testing.assert_close(link.image, step.images[1:2])
    renderer = inversion.Renderer(models[0], link.noise)
    shown = renderer.synthesis(inversion.styles_of(link, renderer)[None])
    torch.testing.assert_close(shown, link.image, rtol=1e-3, atol=1e-4)
    for further_settings in (replace(EDIT, method="gmi", n=1), replace(EDIT, method="direction", n=1)):
        further = tasks.edit(further_settings, link, *models)
        first = next(further.steps())
        assert (first.images - link.image).abs().mean() < 0.1


def test_missing_directions_are_said(
    models: tuple[GeneratorModel, PromptModel], start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMI_CACHE", str(tmp_path))
    for settings, space in ((EDIT, "w"), (replace(EDIT, method="direction"), "s")):
        with pytest.raises(styleclip.DirectionsMissingError, match=f"--space {space}"):
            tasks.edit(settings, start, *models)
    tasks.edit(replace(EDIT, method="clip"), start, *models)  # needs none


def test_a_persons_own_generator_edits_as_well(models: tuple[GeneratorModel, PromptModel], start: Start) -> None:
    lone = replace(models[0], encoder=None, discriminator=None)
    for method in EDIT_METHODS:
        assert last_of(tasks.edit(replace(EDIT, method=method), start, lone, models[1])).images.isfinite().all()


def test_figures_of_an_edit(models: tuple[GeneratorModel, PromptModel], start: Start) -> None:
    task = tasks.edit(EDIT, start, *models)
    step = last_of(task)
    changes = (step.images.clamp(-1, 1) - start.target).abs().mean((1, 2, 3)) / 2
    assert task.figures(step) == {"distance_to_original": pytest.approx(changes.tolist())}
    assert task.picture(step, 2).pixels.tolist() == imaging.to_uint8(step.images)[2].tolist()


# ---- inpaint ---------------------------------------------------------------------------------------------


def upload(generator: GeneratorModel, size: tuple[int, int] = (16, 16)) -> Picture:
    """A picture of the generator in a field of noise, `size` wide and high."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    with torch.no_grad():
        image = imaging.to_uint8(generator.render(generator.spaces["w"].sample([9]), "w"))[0]
    pixels[:16, :16] = image
    return Picture(pixels, "mine.png", b"profile")


def hole(size: tuple[int, int]) -> masks.Mask:
    mask = np.zeros((size[1], size[0]), bool)
    mask[5:11, 4:12] = True
    return mask


def inpainting(
    models: tuple[GeneratorModel, PromptModel], settings: InpaintSettings, size: tuple[int, int] = (16, 16)
) -> tuple[tasks.Inpainting, Picture, masks.Mask]:
    picture = upload(models[0], size)
    mask = tasks.prepare_mask(settings, hole(size), picture)
    *_, start = inversion.invert(picture, models[0], mask=mask, steps=4)
    return tasks.inpaint(settings, picture, mask, start, *models), picture, mask


@pytest.mark.parametrize("size", [(16, 16), (40, 28), (17, 90)])
@pytest.mark.parametrize("prompt", ["", "a smile"])
def test_known_pixels_keep_every_bit(
    models: tuple[GeneratorModel, PromptModel], size: tuple[int, int], prompt: str
) -> None:
    settings = replace(INPAINT, prompt=prompt)
    task, picture, mask = inpainting(models, settings, size)
    alpha = masks.feather_mask(mask, settings.feather)
    for step in task.steps():
        for index in range(3):
            result = task.picture(step, index)
            assert result.size == size and result.icc_profile == b"profile"
            assert np.array_equal(result.pixels[alpha == 0], picture.pixels[alpha == 0])
            assert (result.pixels[mask] != picture.pixels[mask]).any()
    figures = task.figures(step)
    assert figures["known_pixels_changed"] == 0 and len(figures["distance_to_original"]) == 3
    assert figures["hole_diversity"] == step.diversity > 0
    assert figures["mask_share"] == pytest.approx(mask.mean())


def test_steps_show_the_picture_with_the_hole_filled(models: tuple[GeneratorModel, PromptModel]) -> None:
    """Outside of the feathered mask the streamed pictures are the upload; the features are those of what is shown."""
    task, _, mask = inpainting(models, replace(INPAINT, prompt="a smile"))
    step = last_of(task)
    known = torch.from_numpy(masks.feather_mask(mask, INPAINT.feather) == 0)
    assert torch.equal(step.images[..., known], task.begin.target[..., known].expand(3, -1, -1))
    with torch.no_grad():
        features = models[1].image_features(step.images)
    torch.testing.assert_close(step.features, features, rtol=1e-3, atol=1e-4)
    text = models[1].text_features(["a smile"])[0]
    torch.testing.assert_close(step.text_scores, features @ text, atol=1e-4, rtol=1e-3)


def test_without_a_prompt_nothing_is_scored(models: tuple[GeneratorModel, PromptModel]) -> None:
    task, *_ = inpainting(models, INPAINT)
    assert [term.name for term, _ in task.problem.conditions] == ["known pixels"]
    assert not last_of(task).text_scores.any()


def test_a_full_mask_generates(models: tuple[GeneratorModel, PromptModel], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known: the particles begin at the prior's own samples."""
    monkeypatch.setattr(inpainting_task, "STARTS_TRIED", 1)
    picture = upload(models[0])
    mask = np.ones((16, 16), bool)
    *_, start = inversion.invert(picture, models[0], mask=mask)
    task = tasks.inpaint(replace(INPAINT, prompt="a smile"), picture, mask, start, *models)
    assert [term.name for term, _ in task.problem.conditions] == ["text"]
    with torch.no_grad():
        fresh = models[0].render(models[0].spaces["w"].sample([4, 5, 6]), "w")
    torch.testing.assert_close(next(task.steps()).images, fresh, rtol=1e-2, atol=1e-2)


def test_a_prompt_chooses_among_each_particles_own_draws(
    models: tuple[GeneratorModel, PromptModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every first picture scores as well as without a choice, or better; other particles do not matter."""
    wish = replace(INPAINT, prompt="a smile")
    chosen = next(inpainting(models, wish)[0].steps())
    alone = next(inpainting(models, replace(wish, n=1))[0].steps())
    torch.testing.assert_close(chosen.images[:1], alone.images)
    monkeypatch.setattr(inpainting_task, "STARTS_TRIED", 1)
    first = next(inpainting(models, wish)[0].steps())
    assert (chosen.text_scores >= first.text_scores - 1e-5).all() and (chosen.text_scores > first.text_scores).any()


def test_the_baseline_of_an_inpainting_differs_in_the_flow_alone(models: tuple[GeneratorModel, PromptModel]) -> None:
    """What both sides share gives the same pictures as a baseline that is prepared for itself."""
    settings = replace(INPAINT, prompt="a smile", baseline=True)
    picture = upload(models[0])
    mask = tasks.prepare_mask(settings, hole((16, 16)), picture)
    *_, start = inversion.invert(picture, models[0], mask=mask, steps=4)
    told: list[str] = []
    ours = tasks.inpaint(settings, picture, mask, start, *models, watch=lambda doing, _: told.append(doing))
    assert list(dict.fromkeys(told)) == ["Trying how the picture may vary", "Looking for starts that fit the words"]
    assert ours.without_repulsion().settings == tasks.baseline(settings)
    last_of(ours)
    alone = last_of(tasks.inpaint(tasks.baseline(settings), picture, mask, start, *models))
    assert torch.equal(last_of(ours.without_repulsion()).images, alone.images)


def test_the_mask_is_prepared_as_the_settings_say() -> None:
    picture, mask = Picture(np.zeros((28, 40, 3), np.uint8)), hole((40, 28))
    grown = tasks.prepare_mask(replace(INPAINT, grow=2), mask, picture)
    assert np.array_equal(grown, masks.grow_mask(mask, 2))
    inverted = tasks.prepare_mask(replace(INPAINT, grow=-1, invert=True), mask, picture)
    assert np.array_equal(inverted, masks.grow_mask(~mask, -1))


@pytest.mark.parametrize(
    ("settings", "mask"),
    [
        (INPAINT, np.zeros((16, 16), bool)),
        (replace(INPAINT, invert=True), np.ones((16, 16), bool)),
        (replace(INPAINT, grow=-8), hole((16, 16))),
    ],
)
def test_nothing_left_to_repaint_is_said(settings: InpaintSettings, mask: masks.Mask) -> None:
    with pytest.raises(PictureError, match="nothing to repaint"):
        tasks.prepare_mask(settings, mask, Picture(np.zeros((16, 16, 3), np.uint8)))


def test_a_mask_of_another_size_is_said(models: tuple[GeneratorModel, PromptModel]) -> None:
    picture = upload(models[0])
    with pytest.raises(PictureError, match="exactly as large"):
        tasks.prepare_mask(INPAINT, hole((40, 28)), picture)
    *_, start = inversion.invert(picture, models[0], steps=0)
    with pytest.raises(PictureError, match="exactly as large"):
        tasks.inpaint(INPAINT, picture, hole((40, 28)), start, *models)


def test_an_inpainting_goes_on_from_its_result(models: tuple[GeneratorModel, PromptModel]) -> None:
    task, picture, _ = inpainting(models, INPAINT)
    step = last_of(task)
    link = task.start(step, 0)
    assert link.picture is not None and link.picture.size == picture.size
    torch.testing.assert_close(link.target, step.images[:1])
    assert last_of(tasks.edit(EDIT, link, *models)).images.isfinite().all()
