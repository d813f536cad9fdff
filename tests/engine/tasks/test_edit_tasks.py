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
from engine.pictures.picture_files import Picture, resized
from engine.settings import EDIT_METHODS, OF_THE_MODEL, EditSettings, FlowSettings, InpaintSettings
from engine.tasks import editing, inversion, styleclip
from engine.tasks import inpainting as inpainting_task
from engine.tasks.canvas import KNOWN_ALONE, PROMPT_WEIGHT, Canvas
from engine.tasks.inpainting import InvertedInpainting
from engine.tasks.inversion import Start, start_from_latents
from tests.engine.toys import scores_of, text_of

FLOW = FlowSettings(steps=3)
EDIT = EditSettings("a smile", n=3, seed=4, flow=FLOW)
INPAINT = InpaintSettings(n=3, seed=4, flow=FLOW, feather=2)


@pytest.fixture(scope="session")
def measured(tiny_assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the directions of the tiny models."""
    folder = tmp_path_factory.mktemp("cache")
    models = load_generator("avatars", assets=tiny_assets), load_prompt_model("clip-mini", assets=tiny_assets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(styleclip, "STATISTICS_SAMPLES", 100)
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
        assert step.images.shape == (3, 3, 16, 16) and scores_of(step).shape == (3,)
        assert step.particles.seeds == (4, 5, 6)
    assert not torch.equal(steps[0].images, steps[-1].images)
    with torch.no_grad():
        shown = task.problem.render(steps[-1].particles.latents)
    torch.testing.assert_close(shown, steps[-1].images)


@pytest.mark.parametrize("method", EDIT_METHODS)
def test_resuming_goes_on_where_it_was(models: tuple[GeneratorModel, PromptModel], start: Start, method: Any) -> None:
    """Bit for bit."""
    task = tasks.edit(replace(EDIT, method=method), start, *models)
    steps = list(task.steps())
    resumed = list(task.steps(particles=steps[1].particles))
    assert [step.step for step in resumed] == [1, 2, 3]
    assert torch.equal(resumed[-1].images, steps[-1].images)


@pytest.mark.parametrize("method", EDIT_METHODS)
def test_examples_attract_our_edits_and_no_methods_of_styleclip(
    models: tuple[GeneratorModel, PromptModel], start: Start, method: Any
) -> None:
    generator, prompt_model = models
    references = prompt_model.image_features(generator.render(generator.spaces["w"].sample(range(20, 26)), "w"))
    generator = replace(generator, references={prompt_model.sha256: references})
    settings = replace(EDIT, method=method)
    plain, towards = (
        last_of(tasks.edit(chosen, start, generator, prompt_model))
        for chosen in (settings, replace(settings, towards=OF_THE_MODEL))
    )
    assert torch.equal(plain.images, towards.images) == (method in ("direction", "optimise"))
    assert ("data" in towards.log_values) == (method in ("gmi", "clip"))


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
) -> tuple[InvertedInpainting, Picture, masks.Mask]:
    picture = upload(models[0], size)
    mask = tasks.prepare_mask(settings, hole(size), picture)
    *_, start = inversion.invert(picture, models[0], mask=mask, steps=4)
    task = tasks.inpaint(settings, picture, mask, start, *models)
    assert isinstance(task, InvertedInpainting)
    return task, picture, mask


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
    torch.testing.assert_close(scores_of(step), features @ text, atol=1e-4, rtol=1e-3)


def test_without_a_prompt_nothing_is_scored(models: tuple[GeneratorModel, PromptModel]) -> None:
    task, *_ = inpainting(models, INPAINT)
    assert [term.name for term, _ in task.problem.conditions] == ["known pixels"]
    assert last_of(task).text_scores is None


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
    assert (scores_of(chosen) >= scores_of(first) - 1e-5).all() and (scores_of(chosen) > scores_of(first)).any()


def test_the_baseline_of_an_inpainting_differs_in_the_flow_alone(models: tuple[GeneratorModel, PromptModel]) -> None:
    """What both sides share gives the same pictures as a baseline that is prepared for itself."""
    settings = replace(INPAINT, prompt="a smile", baseline=True)
    picture = upload(models[0])
    mask = tasks.prepare_mask(settings, hole((16, 16)), picture)
    *_, start = inversion.invert(picture, models[0], mask=mask, steps=4)
    told: list[str] = []
    ours = tasks.inpaint(settings, picture, mask, start, *models, watch=lambda doing, _: told.append(doing))
    assert list(dict.fromkeys(told)) == ["Trying how the picture may vary", "Looking for starts that fit the words"]
    assert ours.baseline().settings == tasks.baseline(settings)
    last_of(ours)
    alone = last_of(tasks.inpaint(tasks.baseline(settings), picture, mask, start, *models))
    assert torch.equal(last_of(ours.baseline()).images, alone.images)


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


# ---- what each method is made of -------------------------------------------------------------------------


def conditions_of(task: tasks.Task) -> list[tuple[str, Any]]:
    return [(term.name, pytest.approx(weight)) for term, weight in task.problem.conditions]


def test_our_edit_is_drawn_by_words_and_held_by_the_picture(
    models: tuple[GeneratorModel, PromptModel], start: Start
) -> None:
    """A goal along the edit's direction, the words' likelihood, a pull back; the latter by the settings."""
    settings = replace(EDIT, strength=0.5, identity=0.7, disentanglement=0.2)
    task = tasks.edit(settings, start, *models)
    assert conditions_of(task) == [
        ("edit direction", editing.DIRECTION_WEIGHT),
        ("text", 0.5 * editing.TEXT_WEIGHT),
        ("identity", 0.7),
    ]
    pull, likelihood, held = (term for term, _ in task.problem.conditions)
    directions = styleclip.require_directions(*models, "w")
    words = styleclip.text_direction(models[1], settings.prompt, settings.neutral)
    wanted = directions.edit(words, 0.2) / directions.std
    torch.testing.assert_close(pull.direction, wanted / wanted.norm())  # type: ignore[attr-defined]
    latents = task.particles.latents
    ahead = pull.goal - latents @ pull.direction  # type: ignore[attr-defined]
    torch.testing.assert_close(ahead, torch.full((3,), 0.5 * editing.GOAL))
    torch.testing.assert_close(likelihood.text, words)  # type: ignore[attr-defined]
    assert likelihood.logit_scale == models[1].logit_scale  # type: ignore[attr-defined]
    assert torch.equal(held.start, latents)  # type: ignore[attr-defined]
    assert task.problem.seed == EDIT.seed and task.particles.seeds == (4, 5, 6)
    torch.testing.assert_close(text_of(task.problem), models[1].text_features(["a smile"])[0])


def test_the_draws_of_an_edit_stay_close_to_the_picture(
    models: tuple[GeneratorModel, PromptModel], start: Start
) -> None:
    factor = inversion.posterior(start, inversion.Renderer(models[0]), tolerance=editing.TOLERANCE)
    space = tasks.edit(EDIT, start, *models).problem.space
    torch.testing.assert_close(space.factor, factor)  # type: ignore[attr-defined]


def test_the_methods_in_w_plus_move_each_layer(models: tuple[GeneratorModel, PromptModel], start: Start) -> None:
    """Whitened latents of each layer, from posterior draws; the optimisation by StyleCLIP's own weights."""
    text = models[1].text_features(["a smile"])[0]
    for method, weights, scale in (
        ("clip", [("text", 0.5), ("identity", 0.7)], models[1].logit_scale),
        ("optimise", [("text", 0.5), ("identity", 2 * styleclip.LATENT_WEIGHT * 0.7)], 1.0),
    ):
        settings = replace(EDIT, method=method, strength=0.5, identity=0.7)  # type: ignore[arg-type]
        task = tasks.edit(settings, start, *models)
        assert conditions_of(task) == weights
        likelihood, held = (term for term, _ in task.problem.conditions)
        torch.testing.assert_close(likelihood.text, text)  # type: ignore[attr-defined]
        assert likelihood.logit_scale == scale  # type: ignore[attr-defined]
        latents = task.particles.latents
        assert latents.shape == (3, *models[0].spaces["w+"].shape) and torch.equal(held.start, latents)  # type: ignore[attr-defined]
        assert torch.equal(task.problem.space.basis, torch.eye(8))  # type: ignore[attr-defined]
        assert latents[:, 0].unique(dim=0).shape[0] == 3


def test_one_global_direction_alone_goes_exactly_alpha_far(
    models: tuple[GeneratorModel, PromptModel], start: Start
) -> None:
    task = tasks.edit(replace(EDIT, method="direction", n=1), start, *models)
    assert not task.particles.latents.any()
    directions = styleclip.require_directions(*models, "s")
    words = styleclip.text_direction(models[1], EDIT.prompt, EDIT.neutral)
    moved = last_of(task).particles.latents[0] * directions.std
    torch.testing.assert_close(
        moved, editing.ALPHA * directions.edit(words, EDIT.disentanglement), rtol=1e-4, atol=1e-5
    )


def test_a_constant_gradient_is_followed_to_its_end_whatever_the_preset() -> None:
    flow = FlowSettings(steps=7, step_size=0.3, diversity=0.8, constrain=False, chunk=2, langevin=0.5, prior=0.2)
    line = editing.in_a_line(flow)
    assert (line.steps, line.chunk, line.constrain) == (7, 2, False)
    assert (line.diversity, line.normalise, line.step_schedule) == (0.0, False, "constant")
    assert line.step_size * line.steps == pytest.approx(1.0)
    assert (line.langevin, line.prior) == (FlowSettings().langevin, FlowSettings().prior)


def test_sliders_moved_during_an_edit_do_not_bend_the_line(
    models: tuple[GeneratorModel, PromptModel], start: Start
) -> None:
    task = tasks.edit(replace(EDIT, method="direction"), start, *models)
    straight = last_of(task)
    steps = task.steps()
    next(steps)
    steps.send(replace(FLOW, step_size=0.01, diversity=1.0))
    *_, moved = steps
    torch.testing.assert_close(moved.images, straight.images)


def test_realism_is_judged_where_there_is_a_discriminator(
    models: tuple[GeneratorModel, PromptModel], start: Start
) -> None:
    judged = tasks.edit(EDIT, start, *models).problem.realism
    assert judged is not None
    assert tasks.edit(EDIT, start, replace(models[0], discriminator=None), models[1]).problem.realism is None


def test_the_noise_of_a_start_is_drawn_with(models: tuple[GeneratorModel, PromptModel], start: Start) -> None:
    import copy

    from engine.latents.styles import noisy_layers, style_layers

    network = copy.deepcopy(models[0].network)
    for layer in style_layers(network.synthesis):
        if not layer.is_rgb:
            network.synthesis.get_submodule(layer.name).noise_strength.fill_(0.5)
    noisy = replace(models[0], network=network)
    noise = {name: torch.randn_like(values) for name, values in noisy_layers(network.synthesis).items()}
    with torch.no_grad():
        image = inversion.Renderer(noisy, noise).render(start.latents[None], start.residual)
    own = replace(start, noise=noise, image=image, target=image)
    first = next(tasks.edit(replace(EDIT, method="direction"), own, noisy, models[1]).steps())
    torch.testing.assert_close(first.images, image.expand_as(first.images), rtol=1e-4, atol=1e-5)
    picture = upload(noisy)
    mask = tasks.prepare_mask(INPAINT, hole((16, 16)), picture)
    *_, found = inversion.invert(picture, noisy, mask=mask, steps=2)
    task = tasks.inpaint(INPAINT, picture, mask, found, noisy, models[1])
    moves = torch.zeros(1, *task.problem.space.shape)
    torch.testing.assert_close(task.problem.render(moves), found.image, rtol=1e-4, atol=1e-5)


def test_an_edited_picture_keeps_its_name_and_profile(models: tuple[GeneratorModel, PromptModel], start: Start) -> None:
    mine = Picture(np.zeros((9, 9, 3), np.uint8), "mine.png", b"profile")
    task = tasks.edit(EDIT, replace(start, picture=mine), *models)
    result = task.picture(next(task.steps()), 0)
    assert (result.name, result.icc_profile, result.size) == ("mine.png", b"profile", (16, 16))


def test_a_further_edit_starts_at_the_result(models: tuple[GeneratorModel, PromptModel], start: Start) -> None:
    """With nothing of the picture it came from but its noise; the styles are those that were drawn."""
    begun = replace(start, picture=Picture(np.zeros((9, 9, 3), np.uint8)), distance=0.3)
    for method in EDIT_METHODS:
        task = tasks.edit(replace(EDIT, method=method), begun, *models)
        step = last_of(task)
        link = task.start(step, 2)
        assert link.picture is not None and link.box is None and link.distance == 0
        assert np.array_equal(link.picture.pixels, task.picture(step, 2).pixels)
        assert torch.equal(link.image, step.images[2:3]) and torch.equal(link.target, link.image)
        styles = task.problem.space.decode(step.particles.latents[2:3])[0]
        torch.testing.assert_close(inversion.styles_of(link, task.renderer), styles, rtol=1e-4, atol=1e-5)
        moved_styles = method == "direction"
        assert torch.equal(link.latents, start.latents) == moved_styles
        assert torch.equal(link.residual, start.residual) == (not moved_styles)


def test_channels_that_never_vary_stay(
    models: tuple[GeneratorModel, PromptModel], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A channel without a deviation has no units to move in."""
    directions = styleclip.require_directions(*models, "s")
    still = replace(directions, std=directions.std * (torch.arange(len(directions.std)) % 2))
    monkeypatch.setattr(styleclip, "require_directions", lambda *_: still)
    task = tasks.edit(replace(EDIT, method="direction", disentanglement=0.0), start, *models)
    moved = task.problem.space.decode(last_of(task).particles.latents) - inversion.styles_of(start, task.renderer)
    assert moved.isfinite().all() and not moved[:, ::2].any() and moved[:, 1::2].abs().max() > 0.01


class EnoughError(Exception):
    """Raised by a watch."""


@pytest.mark.parametrize("method", EDIT_METHODS)
def test_the_preparation_of_an_edit_tells_how_far_it_is_and_can_be_ended(
    models: tuple[GeneratorModel, PromptModel], start: Start, method: Any
) -> None:
    """The global direction needs none: all of it begins at the start itself."""
    told: list[tuple[str, float | None]] = []
    settings = replace(EDIT, method=method)
    tasks.edit(settings, start, *models, watch=lambda doing, share: told.append((doing, share)))
    assert {doing for doing, _ in told} == (set() if method == "direction" else {"Trying how the picture may vary"})

    def enough(doing: str, share: float | None) -> None:
        raise EnoughError(doing)

    if told:
        with pytest.raises(EnoughError):
            tasks.edit(settings, replace(start), *models, watch=enough)  # a start remembers what was tried


# ---- what an inpainting is made of -----------------------------------------------------------------------


def test_the_known_pixels_weigh_as_the_settings_say_and_more_where_nothing_else_does(
    models: tuple[GeneratorModel, PromptModel],
) -> None:
    worded, *_ = inpainting(models, replace(INPAINT, prompt="a smile", known_weight=0.5))
    assert conditions_of(worded) == [("known pixels", 0.5), ("text", PROMPT_WEIGHT)]
    silent, *_ = inpainting(models, replace(INPAINT, known_weight=0.5))
    assert conditions_of(silent) == [("known pixels", 0.5 * KNOWN_ALONE)]
    (known, _), (text, _) = worded.problem.conditions
    assert torch.equal(known.target, worded.begin.target)  # type: ignore[attr-defined]
    alpha = torch.from_numpy(masks.feather_mask(hole((16, 16)), INPAINT.feather))
    assert torch.equal(known.known[0, 0], (alpha == 0).float())  # type: ignore[attr-defined]
    assert text.logit_scale == models[1].logit_scale  # type: ignore[attr-defined]
    assert worded.problem.seed == INPAINT.seed and worded.particles.seeds == (4, 5, 6)
    assert worded.problem.realism is not None


@pytest.mark.parametrize(
    ("prompt", "tolerance"), [("", inversion.TOLERANCE), ("a smile", inpainting_task.PROMPT_TOLERANCE)]
)
def test_the_draws_of_an_inpainting_keep_what_is_known(
    models: tuple[GeneratorModel, PromptModel], prompt: str, tolerance: float
) -> None:
    """A prompt may ask for more than the surroundings suggest: wider draws."""
    task, *_ = inpainting(models, replace(INPAINT, prompt=prompt))
    known = (task.canvas.hole == 0).float()
    factor = inversion.posterior(task.begin, task.renderer, known, tolerance=tolerance)
    assert torch.equal(task.problem.space.factor, factor)  # type: ignore[attr-defined]
    assert torch.equal(task.problem.space.basis, factor.T)  # type: ignore[attr-defined]


@pytest.mark.parametrize("seeds", [(4, 5, 6), (2**32 - 2, 2**32 - 1, 0)])
def test_the_draws_that_are_tried_are_each_particles_own(
    models: tuple[GeneratorModel, PromptModel], seeds: tuple[int, ...]
) -> None:
    """Seed s tries s, s + SEED_STRIDE, ..., from 0 again after the last: the first without a choice."""
    task, *_ = inpainting(models, replace(INPAINT, prompt="a smile", seed=seeds[0]))
    assert task.particles.seeds == seeds
    space: Any = task.problem.space
    text = models[1].text_features(["a smile"])[0]
    for seed, latents in zip(seeds, task.particles.latents, strict=True):
        stride, tries = inpainting_task.SEED_STRIDE, inpainting_task.STARTS_TRIED
        draws = space.sample([(seed + number * stride) % 2**32 for number in range(tries)])
        with torch.no_grad():
            scores = task.problem.extractor(task.problem.render(draws)) @ text
        torch.testing.assert_close(latents, draws[scores.argmax()], rtol=1e-4, atol=1e-5)


def test_figures_of_an_inpainting_count_what_changed_outside(models: tuple[GeneratorModel, PromptModel]) -> None:
    task, *_ = inpainting(models, replace(INPAINT, feather=0))
    step = last_of(task)
    changes = (step.images.clamp(-1, 1) - task.begin.target).abs().mean((1, 2, 3)) / 2
    figures = task.figures(step)
    assert figures["distance_to_original"] == pytest.approx(changes.tolist())
    assert figures["mask_share"] == pytest.approx(6 * 8 / 256)

    class Careless(Canvas):
        def paint(self, image: torch.Tensor) -> Picture:
            pixels = self.picture.pixels.copy()
            pixels[0, :2] ^= 255
            return Picture(pixels)

    careless = replace(task, canvas=Careless(**vars(task.canvas)))
    assert careless.figures(step)["known_pixels_changed"] == 3 * 2


@pytest.mark.parametrize("size", [(16, 16), (40, 28)])
def test_a_result_fills_the_hole_and_fades_at_its_edge(
    models: tuple[GeneratorModel, PromptModel], size: tuple[int, int]
) -> None:
    """On the page at the generator's size: target + alpha (drawn - target). In the picture: what was drawn, enlarged
    to the box, wherever the alpha is 1."""
    task, picture, mask = inpainting(models, INPAINT, size)
    step = last_of(task)
    with torch.no_grad():
        drawn = task.problem.render(step.particles.latents)
    target, alpha = task.canvas.target, task.canvas.hole
    assert 0 < float(((alpha > 0) & (alpha < 1)).float().mean()) < 1
    torch.testing.assert_close(step.images, target + alpha * (drawn - target))
    box = task.canvas.box
    for index in range(3):
        enlarged = resized(imaging.to_uint8(step.images[index : index + 1])[0], box.side)
        expected = masks.paste(picture, box, enlarged, masks.feather_mask(mask, INPAINT.feather))
        result = task.picture(step, index)
        assert np.array_equal(result.pixels, expected.pixels) and result.name == "mine.png"
        inside = result.pixels[box.top : box.top + box.side, box.left : box.left + box.side]
        core = masks.cut_alpha(task.canvas.alpha, box)[: inside.shape[0], : inside.shape[1]] == 1
        assert np.array_equal(inside[core], enlarged[: inside.shape[0], : inside.shape[1]][core])
