"""StyleCLIP by hand: the channel matrix, the direction, its guard; the regression on W; the optimisation's schedule."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from engine.checkpoints import read_safetensors
from engine.errors import SaveError
from engine.inference.flow import DivergenceError, Particles, Problem
from engine.inference.terms import Batch, DistanceToStart, TextLikelihood
from engine.latents.styles import StyledSynthesis
from engine.models.clip import PromptModel
from engine.models.loading import GeneratorModel, load_generator, load_prompt_model
from engine.models.table import find_row
from engine.settings import FlowSettings, SettingsError
from engine.tasks import styleclip
from engine.tasks.styleclip import Directions, compute_directions, feature_change, find_directions, rate_at, regression
from tests.engine.toys import (
    FEATURES,
    LATENT,
    DoubleSpace,
    ToyGenerator,
    ToyTower,
    numbers,
    scores_of,
    text_of,
)


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


@dataclass(eq=False)
class Wordy:
    """Features of a text by its words alone, each template's own part besides."""

    asked: list[str] = field(default_factory=list)

    def text_features(self, texts: Sequence[str]) -> torch.Tensor:
        self.asked += texts
        return torch.stack([F.normalize(numbers(FEATURES, seed=sum(map(ord, text))), dim=0) for text in texts])


def test_the_direction_leads_from_the_neutral_text_to_the_wanted_one() -> None:
    """The unit difference of the unit means over all templates: a text has more in common with it than the other."""
    model = Wordy()
    direction = styleclip.text_direction(model, "a smile", "a person")  # type: ignore[arg-type]
    assert set(model.asked) == {f.format(text) for f in styleclip.TEMPLATES for text in ("a smile", "a person")}
    ends = [
        F.normalize(model.text_features([template.format(text) for template in styleclip.TEMPLATES]).mean(0), dim=0)
        for text in ("a smile", "a person")
    ]
    torch.testing.assert_close(direction, F.normalize(ends[0] - ends[1], dim=0))
    assert direction @ ends[0] > direction @ ends[1]
    torch.testing.assert_close(styleclip.averaged_text(model, "a smile"), ends[0])  # type: ignore[arg-type]


def test_the_relevance_is_a_cosine_the_effect_as_large_as_the_change() -> None:
    """W's rows are as long as the change: a coordinate of little effect is as relevant as a strong one, but moves
    less."""
    weak = replace(BY_HAND, matrix=BY_HAND.matrix * torch.tensor([0.1, 5.0, 1.0, 1.0])[:, None])
    torch.testing.assert_close(weak.relevance(RIGHT), BY_HAND.relevance(RIGHT))
    assert torch.equal(weak.is_relevant(RIGHT, 0.5), BY_HAND.is_relevant(RIGHT, 0.5))
    torch.testing.assert_close(weak.edit(RIGHT, 0.0), torch.tensor([0.1 / 3 * 2, 1.0 * 10, -0.1 / 3 * 5, 0.0]))


def test_a_relevance_at_the_threshold_counts() -> None:
    tall = Directions(torch.tensor([[1.0, 0.0]] * 4 + [[0.5, 0.75**0.5]] * 2), torch.ones(6))
    assert tall.is_relevant(RIGHT, 0.5).all() and tall.is_relevant(RIGHT, 0.5001).tolist() == [True] * 4 + [False] * 2


# ---- measuring -------------------------------------------------------------------------------------------


def test_the_matrix_is_that_of_the_definition(
    models: tuple[GeneratorModel, PromptModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One channel computed anew: +-5 standard deviations on the same pictures."""
    monkeypatch.setattr(styleclip, "STATISTICS_SAMPLES", 50)
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


def test_of_a_model_with_drafts_those_are_looked_at(
    models: tuple[GeneratorModel, PromptModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(styleclip, "STATISTICS_SAMPLES", 20)
    generator, prompt_model = models
    drawn: list[int] = []

    def sketch(w: torch.Tensor, _: object) -> torch.Tensor:
        drawn.append(len(w))
        return generator.network.synthesis(w[:, None].expand(-1, generator.network.num_ws, -1), resolution=8)

    drafting = replace(generator, draft_resolution=8, sketch=sketch)
    path = tmp_path / "directions.safetensors"
    list(compute_directions(drafting, prompt_model, "w", path=path, count=20))
    assert sum(drawn) == 20
    *_, (done, total) = compute_directions(drafting, prompt_model, "s", path=path, count=2)
    synthesis, matrix = StyledSynthesis(generator.network.synthesis), read_safetensors(path)["matrix"]
    measured = synthesis.editable & synthesis.of_draft(8)
    assert done == total == 4 * int(measured.sum()) < 4 * int(synthesis.editable.sum())
    assert not matrix[~measured].any() and matrix[measured].any()


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


def test_a_full_disk_stops_no_measuring_in_between(
    models: tuple[GeneratorModel, PromptModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_disk: None
) -> None:
    monkeypatch.setattr(styleclip, "CHANNELS_BETWEEN_SAVES", 2)
    monkeypatch.setattr(styleclip, "STATISTICS_SAMPLES", 20)
    measuring = compute_directions(*models, "s", path=tmp_path / "s.safetensors", count=1)
    assert [next(measuring)[0] for _ in range(5)] == [2, 4, 6, 8, 10]
    with pytest.raises(SaveError, match="could not be saved"):
        list(measuring)


def test_what_was_measured_with_another_count_is_not_gone_on_from(
    models: tuple[GeneratorModel, PromptModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(styleclip, "CHANNELS_BETWEEN_SAVES", 4)
    monkeypatch.setattr(styleclip, "STATISTICS_SAMPLES", 20)
    path = tmp_path / "s.safetensors"
    first = compute_directions(*models, "s", path=path, count=1)
    for _ in range(6):
        next(first)
    first.close()
    partial = path.with_suffix(".part")
    channels = int(StyledSynthesis(models[0].network.synthesis).editable.sum())
    assert next(compute_directions(*models, "s", path=path, count=1)) == (2 * 5, 2 * channels)
    assert next(compute_directions(*models, "s", path=path, count=2)) == (4, 4 * channels)
    partial.write_bytes(partial.read_bytes()[:-10])
    assert next(compute_directions(*models, "s", path=path, count=1)) == (2, 2 * channels)
    partial.unlink()
    assert next(compute_directions(*models, "s", path=path, count=1)) == (2, 2 * channels)


def test_random_pictures_are_the_first_ones_of_any_number(models: tuple[GeneratorModel, PromptModel]) -> None:
    few, many = (styleclip._random_w(models[0], count) for count in (2, 5))
    assert torch.equal(few, many[:2])
    space = models[0].spaces["w"]
    assert torch.equal(many[4:], space.decode(space.sample([4])))


def test_the_deviation_of_a_channel_is_that_of_many_pictures(
    models: tuple[GeneratorModel, PromptModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(styleclip, "STATISTICS_SAMPLES", 30)
    path = tmp_path / "s.safetensors"
    measuring = compute_directions(*models, "s", path=path, count=1)
    monkeypatch.setattr(styleclip, "_measured_channel", lambda *_: torch.ones(24))
    list(measuring)
    synthesis = StyledSynthesis(models[0].network.synthesis)
    w = styleclip._random_w(models[0], 30)
    styles = synthesis.styles(w[:, None].expand(-1, models[0].network.num_ws, -1))
    torch.testing.assert_close(read_safetensors(path)["std"], styles.std(0))


def test_the_directions_of_w_are_a_regression_of_the_features(
    models: tuple[GeneratorModel, PromptModel], tmp_path: Path
) -> None:
    generator, prompt_model = models
    path = tmp_path / "w.safetensors"
    assert list(compute_directions(generator, prompt_model, "w", path=path, count=40)) == [
        (16, 40), (32, 40), (40, 40),
    ]  # fmt: skip
    stored = read_safetensors(path)
    w = styleclip._random_w(generator, 40)
    with torch.no_grad():
        features = prompt_model.image_features(generator.render(generator.spaces["w"].sample(range(40)), "w"))
    torch.testing.assert_close(stored["std"], w.std(0))
    expected = regression((w - w.mean(0)) / w.std(0), features)
    torch.testing.assert_close(stored["matrix"], expected, rtol=1e-3, atol=1e-4)


def test_directions_that_cannot_be_written_are_said(models: tuple[GeneratorModel, PromptModel], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SaveError, match="could not be saved"):
        list(compute_directions(*models, "w", path=tmp_path / "file" / "w.safetensors", count=4))


@pytest.mark.parametrize("count", [50, 500])
def test_the_ridge_is_relative_to_the_number_of_pictures(count: int) -> None:
    """For coordinates with x^T x = N I and features x b, the slopes are b / (1 + ridge), whatever N is.

    What is left over, x b ridge / (1 + ridge), gives each coordinate the error e = |left over|^2 / (N - C) / N /
    (1 + ridge), by which it shrinks: s |s|^2 / (|s|^2 + e).
    """
    columns, _ = torch.linalg.qr(torch.cat([torch.ones(count, 1).double(), numbers(count, 3)], dim=1))
    x, truth, ridge = columns[:, 1:] * count**0.5, numbers(3, 4, seed=1), 0.25
    slopes = truth / (1 + ridge)
    left_over = count * (truth * ridge / (1 + ridge)).square().sum()
    error = left_over / (count - 3) / count / (1 + ridge)
    squares = slopes.square().sum(1, keepdim=True)
    expected = slopes * squares / (squares + error)
    torch.testing.assert_close(regression(x, x @ truth + 5.0, ridge=ridge), expected)


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
    assert find_directions(generator, replace(prompt_model, sha256="0" * 64)) is None
    assert find_directions(replace(generator, sha256="0" * 64), prompt_model) is None


def test_a_bundled_generator_brings_its_directions_and_those_count_first(
    models: tuple[GeneratorModel, PromptModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the bundled one itself: a person's own file of the same name lies elsewhere."""
    generator, prompt_model = models
    assets = tmp_path / "assets"
    shipped = assets / "avatars"
    shipped.mkdir(parents=True)
    assert styleclip.bundle_folder(generator, assets) == shipped
    for name in ("/home/me/avatars", "avatars/", "fashion"):
        assert styleclip.bundle_folder(replace(generator, name=name), assets) is None
    monkeypatch.setattr(styleclip, "bundle_folder", lambda one: shipped if one.name == "avatars" else None)
    for folder, value in ((styleclip.directions_folder(), 1.0), (shipped, 2.0)):
        stored = {"matrix": torch.full((8, 24), value), "std": torch.full((8,), 3 * value)}
        styleclip._save(folder / styleclip.file_name(generator, prompt_model, "w"), stored)
        found = styleclip.require_directions(generator, prompt_model, "w")
        assert found.matrix.unique().tolist() == [value] and found.std.unique().tolist() == [3 * value]
    own = styleclip.require_directions(replace(generator, name="/home/me/avatars"), prompt_model, "w")
    assert own.matrix.unique().tolist() == [1.0]
    for space in styleclip.SPACES:
        assert f"-{space}-" in styleclip.file_name(generator, prompt_model, space)
    assert find_directions(generator, prompt_model, "s") is None


def test_the_directions_of_the_bundled_models_are_found_by_their_names() -> None:
    """Sixteen digits of both hashes, as they were written: what is shipped or was measured once is found again."""
    pair: Any = (
        SimpleNamespace(name="avatars", sha256=find_row("avatars", "generator").files["generator"].sha256),
        SimpleNamespace(sha256=find_row("clip-mini", "prompt").files["weights"].sha256),
    )
    folder = styleclip.bundle_folder(pair[0])
    assert folder is not None
    names = {styleclip.file_name(pair[0], pair[1], space) for space in styleclip.SPACES}
    assert {file.name for file in folder.glob("directions-*")} == names


@pytest.mark.parametrize(("space", "count"), [("w", 20), ("s", 2)])
def test_how_many_pictures_are_looked_at_where_nobody_says(
    models: tuple[GeneratorModel, PromptModel], monkeypatch: pytest.MonkeyPatch, space: styleclip.Space, count: int
) -> None:
    """W_SAMPLES of W, IMAGES for every channel of S, either way: written to the cache under the pair's name."""
    monkeypatch.setattr(styleclip, "W_SAMPLES", 20)
    monkeypatch.setattr(styleclip, "IMAGES", 2)
    monkeypatch.setattr(styleclip, "STATISTICS_SAMPLES", 5)
    monkeypatch.setattr(styleclip, "_measured_channel", lambda *args: args[2].new_ones(24))
    *_, (done, total) = compute_directions(*models, space)
    channels = int(StyledSynthesis(models[0].network.synthesis).editable.sum())
    assert done == total == (count if space == "w" else 2 * count * channels)
    assert find_directions(*models, space) is not None
    assert [file.name for file in styleclip.directions_folder().iterdir()] == [styleclip.file_name(*models, space)]


@pytest.mark.parametrize(("space", "fewest"), [("w", 2), ("s", 1)])
def test_too_few_pictures_to_measure_on_are_refused(
    models: tuple[GeneratorModel, PromptModel], monkeypatch: pytest.MonkeyPatch, space: styleclip.Space, fewest: int
) -> None:
    """One picture has no deviation in W; none, or fewer, are never the usual number."""
    monkeypatch.setattr(styleclip, "STATISTICS_SAMPLES", 5)
    for count in range(-1, fewest):
        with pytest.raises(SettingsError, match=f"count: {count} is too small .* give {fewest} or more"):
            next(compute_directions(*models, space, count=count))
    assert find_directions(*models, space) is None
    monkeypatch.setattr(styleclip, "_measured_channel", lambda *args: args[2].new_ones(24))
    assert list(compute_directions(*models, space, count=fewest))
    found = styleclip.require_directions(*models, space)
    assert found.matrix.isfinite().all() and found.std.isfinite().all()


def test_of_few_pictures_a_regression_is_cautious_but_finite() -> None:
    """As many pictures as coordinates, or fewer, leave nothing to judge the error by; the ridge still does."""
    for count in (1, 3, 4):
        found = regression(numbers(count, 4), numbers(count, 3, seed=1))
        assert found.shape == (4, 3) and found.isfinite().all()


def test_a_coordinate_is_worth_what_its_slope_is_beside_its_error() -> None:
    """Pure noise is shrunk to a small part of its slopes; a clear effect stays whole. Numbers keep their kind."""
    x, noise = numbers(60, 4), numbers(60, 3, seed=2)
    truth = numbers(4, 3, seed=1)
    guessed, clear = regression(x, noise, ridge=0.0), regression(x, x @ truth + 0.01 * noise, ridge=0.0)
    plain = torch.linalg.lstsq(x - 0.0, noise - noise.mean(0)).solution
    assert guessed.norm() < 0.75 * plain.norm()
    torch.testing.assert_close(clear, truth, rtol=0.02, atol=0.02)
    assert regression(x.float(), noise.float()).dtype == torch.float32


def test_where_there_are_fewer_coordinates_than_must_move_all_do() -> None:
    two = Directions(torch.tensor([[1.0, 0.0], [0.1, 1.0]]), torch.ones(2))
    assert two.is_relevant(RIGHT, 0.9).all()


@pytest.mark.parametrize(
    "stored",
    [
        {"matrix": torch.ones(7, 3), "done": torch.tensor([4, 2])},
        {"matrix": torch.ones(5, 3), "done": torch.tensor([4, 3])},
        {"matrix": torch.ones(5, 3)},
        {"done": torch.tensor([4, 2])},
        {"matrix": torch.ones(5, 3), "done": torch.tensor([4, 2, 1])},
    ],
)
def test_what_was_kept_of_something_else_is_not_gone_on_from(tmp_path: Path, stored: dict[str, torch.Tensor]) -> None:
    """Another number of channels or of pictures, or a file that lacks something."""
    partial = tmp_path / "a.part"
    styleclip._save(partial, stored)
    matrix, done = styleclip._resumed(partial, 5, 2)
    assert matrix.numel() == 0 and done == 0
    styleclip._save(partial, {"matrix": torch.ones(5, 3), "done": torch.tensor([4, 2])})
    matrix, done = styleclip._resumed(partial, 5, 2)
    assert torch.equal(matrix, torch.ones(5, 3)) and done == 4


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
        cosine = problem.extractor(problem.render(w)) @ text_of(problem)
        loss = (1 - cosine + 0.008 * (w - particles.latents).square().sum(1)).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    torch.testing.assert_close(steps[-1].particles.latents, w.detach())
    assert scores_of(steps[-1]).mean() > scores_of(steps[0]).mean() + 0.1
    assert [step.step for step in steps] == list(range(21))
    assert torch.equal(steps[0].particles.latents, particles.latents)


def test_particles_do_not_touch_each_other_and_chunks_change_nothing() -> None:
    problem, particles = toy()
    alone = Problem(
        render=problem.render,
        space=problem.space,
        extractor=problem.extractor,
        text=text_of(problem),
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


def test_steps_that_were_shown_do_not_change_any_more() -> None:
    problem, particles = toy()
    before = particles.latents.clone()
    seen = [
        (step, step.particles.latents.clone(), step.images.clone())
        for step in styleclip.optimise(problem, particles, FlowSettings(steps=4))
    ]
    for step, latents, images in seen:
        assert torch.equal(step.particles.latents, latents) and torch.equal(step.images, images)
    assert len({tuple(latents.flatten().tolist()) for _, latents, _ in seen}) >= 4
    assert torch.equal(particles.latents, before)


def test_each_step_says_what_it_is_worth() -> None:
    """The log-values and their weights are those of the problem's conditions, at the latents of the step itself."""
    problem, particles = toy()
    *_, step = styleclip.optimise(problem, particles, FlowSettings(steps=3))
    images = problem.render(step.particles.latents)
    torch.testing.assert_close(step.images, images)
    torch.testing.assert_close(step.log_values["text"], problem.extractor(images) @ text_of(problem))
    assert step.particles.seeds == particles.seeds and step.total == 3 and step.seconds > 0


def test_pictures_that_are_no_numbers_end_it_with_the_last_good_step() -> None:
    """Whether the generator draws them or a gradient led there: only usable pictures are shown."""
    problem, particles = toy()
    drawn: list[torch.Tensor] = []

    def breaking(latents: torch.Tensor) -> torch.Tensor:
        drawn.append(latents)
        return problem.render(latents) * (1.0 if len(drawn) < 3 else float("nan"))

    class Steep(TextLikelihood):
        def log_value(self, batch: Batch) -> torch.Tensor:
            return super().log_value(batch) + 0 * (batch.latents - batch.latents.detach()).abs().sqrt().sum()

    steep = Steep(problem.extractor, text_of(problem), logit_scale=1.0)
    for broken, last in (
        (replace(problem, render=breaking), 1),
        (replace(problem, conditions=((steep, 1.0),)), 0),  # the root's gradient at 0 is 0 times infinite
    ):
        shown = []
        with pytest.raises(DivergenceError, match="no longer consist of numbers") as caught:
            for step in styleclip.optimise(broken, particles, FlowSettings(steps=9)):
                shown.append(step)
        assert caught.value.last_good is shown[-1] and shown[-1].step == last and caught.value.setting == "steps"
        assert all(step.images.isfinite().all() for step in shown)
