"""Finding a picture's latents, the framing, and how far they may vary."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import LoadingStopped
from engine.latents.styles import style_layers
from engine.models.loading import GeneratorModel, load_generator
from engine.pictures import imaging
from engine.pictures.picture_files import Box, Picture
from engine.settings import SettingsError
from engine.tasks import inversion
from engine.tasks.inversion import (
    Comparison,
    Renderer,
    candidate_boxes,
    guess,
    invert,
    noise_correlation,
    posterior,
    start_from_latents,
    styles_of,
)

WHOLE = torch.ones(1, 1, 16, 16)


@pytest.fixture
def generator(tiny_assets: Path) -> GeneratorModel:
    """Tiny, with the rough guesses of an encoder that was never trained."""
    return load_generator("avatars", assets=tiny_assets)


@pytest.fixture
def lone(generator: GeneratorModel) -> GeneratorModel:
    """A person's own file: no encoder, no discriminator."""
    return replace(generator, encoder=None, discriminator=None)


def picture_of(generator: GeneratorModel, seed: int = 7) -> Picture:
    space = generator.spaces["w"]
    with torch.no_grad():
        return Picture(imaging.to_uint8(generator.render(space.sample([seed]), space))[0])


@pytest.mark.parametrize(("with_encoder", "seed"), [(True, 9), (False, 8)])
def test_a_generated_picture_is_found(
    generator: GeneratorModel, lone: GeneratorModel, with_encoder: bool, seed: int
) -> None:
    """The search starts far away and ends within two grey levels of 255, at the picture's own w.

    A network that was never trained has other w that draw nearly the same: the seeds are of pictures without.
    """
    model = generator if with_encoder else lone
    steps = list(invert(picture_of(model, seed), model, steps=150))
    assert [step.step for step in steps] == list(range(151))
    assert steps[0].distance > 4 * steps[-1].distance
    assert steps[-1].distance < 2 / 255
    assert [step.in_domain for step in steps[:-1]] == [None] * 150 and steps[-1].in_domain
    own = model.spaces["w"].sample([seed])[0]
    assert (steps[-1].latents - own).norm(dim=1).max() < 0.5 * own.norm()


def test_what_is_yielded_is_what_its_latents_show(lone: GeneratorModel) -> None:
    renderer = Renderer(lone)
    losses = []
    for start in invert(picture_of(lone), lone, steps=12):
        torch.testing.assert_close(renderer.render(start.latents[None], start.residual), start.image)
        losses.append(Comparison(start.target, WHOLE).distance(start.image))
    assert losses[-1] < losses[0]


def test_no_steps_give_the_guess(generator: GeneratorModel) -> None:
    (start,) = invert(picture_of(generator), generator, steps=0)
    first = Renderer(generator).space.whitened.statistics.whiten(guess(generator, start.target, WHOLE))[0]
    torch.testing.assert_close(start.latents, first.expand_as(start.latents))


def test_a_w_for_each_layer_begins_as_the_encoder_finds_it(generator: GeneratorModel) -> None:
    """Exactly, though such w are none that the mapping network gives: what its range leaves out is kept as styles."""
    layers, w_dim = generator.network.num_ws, generator.network.w_dim
    ws = 5 * torch.randn(1, layers, w_dim, generator=torch.Generator().manual_seed(0))

    class Encoder(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return ws.expand(len(images), -1, -1)

    far = replace(generator, encoder=Encoder())
    shown = far.network.synthesis(ws)
    first, *_, last = invert(picture_of(generator), far, steps=8)
    torch.testing.assert_close(first.image, shown, rtol=1e-4, atol=1e-4)
    assert (Renderer(far).render(first.latents[None]) - shown).abs().max() > 0.5
    assert torch.equal(first.residual, last.residual)
    torch.testing.assert_close(Renderer(far).render(last.latents[None], last.residual), last.image)
    target = imaging.from_uint8(picture_of(generator).pixels[None])
    wrong = (shown.clamp(-1, 1) - target).abs().mean().item() / 2
    assert inversion._misfit(picture_of(generator), Box(0, 0, 16), None, far) == pytest.approx(wrong, rel=1e-4)
    known = WHOLE.clone()
    known[..., 4:, :] = 0
    torch.testing.assert_close(guess(far, target, known), ws)


def test_without_an_encoder_the_guess_is_the_mean(lone: GeneratorModel) -> None:
    first = next(invert(picture_of(lone), lone))
    assert first.total == inversion.STEPS_WITHOUT and not first.latents.any()


def test_a_picture_of_another_kind_is_said_to_be(lone: GeneratorModel) -> None:
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[::2] = 255
    *_, start = invert(Picture(stripes), lone, steps=20)
    assert lone.in_domain_distance is not None
    assert start.in_domain is False and start.distance > lone.in_domain_distance


def test_a_look_tells_the_domain_by_the_guess_of_the_encoder(
    generator: GeneratorModel, lone: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The distance of the search's first step against the model's own limit; nothing without either."""
    picture = picture_of(generator)
    first = next(invert(picture, generator, steps=5))
    for limit, is_known in ((first.distance + 1e-6, True), (first.distance - 1e-6, False)):
        start = inversion.guessed_start(picture, replace(generator, in_domain_distance=limit))
        assert start is not None and start.in_domain is is_known and start.distance == first.distance
    monkeypatch.setattr(inversion, "invert", lambda *_, **__: pytest.fail("a search"))
    assert inversion.guessed_start(picture, replace(generator, in_domain_distance=None)) is None
    assert inversion.guessed_start(picture, lone) is None


def test_nothing_is_said_of_the_domain_of_a_model_that_was_not_measured(lone: GeneratorModel) -> None:
    *_, start = invert(picture_of(lone), replace(lone, in_domain_distance=None), steps=2)
    assert start.in_domain is None


@pytest.mark.parametrize(("told", "side"), [(0, 16), (24, 24), (64, 64)])
def test_the_encoder_sees_pictures_of_the_size_it_was_trained_on(
    generator: GeneratorModel, told: int, side: int
) -> None:
    """That of the generator itself where the model does not tell."""
    seen = []

    class Encoder(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(images.shape))
            return images.new_zeros(len(images), generator.network.w_dim)

    guess(replace(generator, encoder=Encoder(), encoder_side=told), torch.zeros(2, 3, 16, 16), WHOLE)
    assert seen == [(2, 3, side, side)]


def test_a_hole_is_filled_by_the_mean_colour_then_by_what_the_guess_shows(generator: GeneratorModel) -> None:
    """Three times the last guess's picture, beside the known pixels as they are; grey would be taken for the picture's.

    The first filling is the mean of the known pixels of each channel. Without a hole there is one look.
    """
    seen: list[torch.Tensor] = []

    class Encoder(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.mean((1, 2, 3))[:, None] * torch.linspace(-1, 1, generator.network.w_dim)

    spy = replace(generator, encoder=Encoder(), encoder_side=0)
    target = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.4
    known = torch.ones(1, 1, 16, 16)
    guess(spy, target, known)
    assert len(seen) == 1 and torch.equal(seen.pop(), target)
    known[..., 4:12, 4:] = 0
    found = guess(spy, target, known)
    assert len(seen) == 4
    hole = (known == 0).expand_as(target)
    for images in seen:
        assert torch.equal(images[~hole], target[~hole])
    means = (target * known).sum((2, 3)) / known.sum()
    torch.testing.assert_close(seen[0], torch.where(hole, means[:, :, None, None], target))
    statistics = Renderer(generator).space.whitened.statistics
    guesses = [statistics.whiten(Encoder()(images)) for images in list(seen)]
    for before, images in zip(guesses[:3], seen[1:4], strict=True):
        shown = generator.render(before, "w").clamp(-1, 1)
        torch.testing.assert_close(images[hole], shown[hole])
    torch.testing.assert_close(statistics.whiten(found), guesses[3])


def test_the_hidden_part_is_not_looked_at(generator: GeneratorModel) -> None:
    """Whatever lies under the mask, the result is the same, bit for bit."""
    mask = np.zeros((16, 16), bool)
    mask[4:9, 3:12] = True
    picture = picture_of(generator)
    pixels = picture.pixels.copy()
    pixels[mask] = 255 - pixels[mask]
    ends = [list(invert(one, generator, mask=mask, steps=5))[-1] for one in (picture, Picture(pixels))]
    assert torch.equal(ends[0].latents, ends[1].latents)
    assert ends[0].distance == ends[1].distance


def test_nothing_known_is_the_mean(generator: GeneratorModel) -> None:
    *_, start = invert(picture_of(generator), generator, mask=np.ones((16, 16), bool), steps=3)
    assert start.latents.abs().max() < 1e-3 and start.distance == 0


@pytest.mark.parametrize("space", ["z", "w", "w_plain", "w+"])
def test_a_finished_cell_is_taken_over_exactly(generator: GeneratorModel, space: str) -> None:
    latents = generator.spaces[space].sample([3])
    start = start_from_latents(generator, space, latents[0])
    torch.testing.assert_close(start.image, generator.render(latents, space), rtol=1e-4, atol=1e-5)
    renderer = Renderer(generator)
    torch.testing.assert_close(renderer.synthesis(styles_of(start, renderer)[None]), start.image)


def test_an_unknown_space(generator: GeneratorModel) -> None:
    with pytest.raises(SettingsError, match="space: 'v' is unknown"):
        start_from_latents(generator, "v", torch.zeros(8))
    with pytest.raises(SettingsError, match="only a StyleGAN2"):
        Renderer(replace(generator, spaces={"z": generator.spaces["z"]}))


def test_noise_is_searched_where_there_is_some(lone: GeneratorModel) -> None:
    """The optimised noise stays white, belongs to the start alone, and draws what it drew."""
    noisy = replace(lone, network=_with_noise(lone))
    before = {name: values.clone() for name, values in noisy.network.state_dict().items()}
    *_, start = invert(picture_of(noisy), noisy, steps=10)
    assert set(start.noise) == {layer.name for layer in style_layers(noisy.network.synthesis) if not layer.is_rgb}
    for values in start.noise.values():
        assert not values.requires_grad
        torch.testing.assert_close(values.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
        torch.testing.assert_close(values.std(), torch.tensor(1.0), atol=1e-5, rtol=0)
    shown = Renderer(noisy, start.noise).render(start.latents[None], start.residual)
    torch.testing.assert_close(shown, start.image)
    assert all(torch.equal(before[name], values) for name, values in noisy.network.state_dict().items())


def _with_noise(generator: GeneratorModel) -> torch.nn.Module:
    import copy

    network = copy.deepcopy(generator.network)
    for layer in style_layers(network.synthesis):
        if not layer.is_rgb:
            network.synthesis.get_submodule(layer.name).noise_strength.fill_(0.1)
    return network


def test_correlated_noise_is_penalised() -> None:
    """White noise is nearly 0; a constant map of size 8 is 1 per direction; two sizes of one are 1 + 4^2."""
    white = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    assert noise_correlation([white]) < 0.1
    assert noise_correlation([torch.ones(8, 8)]).item() == pytest.approx(2)
    assert noise_correlation([torch.ones(16, 16)]).item() == pytest.approx(2 * (1 + 4**2))


def test_the_comparison_in_closed_form() -> None:
    """A constant difference of .5 over what is known: .5 by pixels, half of .5 by averages, 0 by neighbours."""
    target, known = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    known[..., :8, :] = 1
    comparison = Comparison(target, known)
    images = torch.full((2, 3, 16, 16), 0.5)
    images[1, :, 8:] = 9.0
    torch.testing.assert_close(comparison.loss(images), torch.full((2,), 0.75))
    assert comparison.distance(images[:1]) == pytest.approx(0.25)


def test_the_comparison_looks_at_differences_to_the_neighbours() -> None:
    """Stripes of plus and minus .5: .5 by pixels, 0 by averages; of 16 columns 15 differ by 1 from the next."""
    stripes = torch.full((1, 3, 16, 16), 0.5)
    stripes[..., ::2] = -0.5
    comparison = Comparison(torch.zeros_like(stripes), WHOLE)
    torch.testing.assert_close(comparison.loss(stripes), torch.tensor([0.5 + 15 / 16]))
    torch.testing.assert_close(comparison.loss(stripes.mT), torch.tensor([0.5 + 15 / 16]))
    half = WHOLE.clone()
    half[..., 8:, :] = 0  # a difference counts where both pixels are known
    torch.testing.assert_close(Comparison(torch.zeros_like(stripes), half).loss(stripes.mT), torch.tensor([0.5 + 1.0]))


def test_what_is_beyond_the_range_of_colours_counts_as_its_end() -> None:
    bright = torch.full((1, 3, 16, 16), 4.0, requires_grad=True)
    for end in (1.0, -1.0):
        comparison = Comparison(torch.full((1, 3, 16, 16), end), WHOLE)
        assert comparison.loss(end * bright.detach()).item() == comparison.distance(end * bright.detach()) == 0
    loss = Comparison(torch.zeros(1, 3, 16, 16), WHOLE).loss(bright)
    assert loss.item() == pytest.approx(1.5)
    loss.sum().backward()
    assert bright.grad is not None and (bright.grad > 0).all()  # the way back


def test_the_comparison_reduces_large_pictures_and_what_is_known_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """By averages over 2 x 2 pixels, of which only those count that are known as a whole."""
    monkeypatch.setattr(inversion, "LOSS_SIDE", 8)
    known = WHOLE.clone()
    known[..., 3, 6] = 0
    images = torch.zeros(1, 3, 16, 16)
    images[..., 2:4, 6:8] = 0.8
    assert Comparison(torch.zeros_like(images), known).loss(images).item() == 0
    images[..., 0:2, 0:2] = torch.tensor([[0.4, -0.4], [0.0, 0.0]])
    assert Comparison(torch.zeros_like(images), known).loss(images).item() == pytest.approx(0, abs=1e-6)
    assert Comparison(torch.zeros_like(images), WHOLE).loss(images).item() > 0


def test_features_are_compared_relative_to_their_size() -> None:
    """FEATURE_WEIGHT times the mean over maps of |a - b| / |b|: here of 1/2 and of 1/8."""
    target, images = torch.zeros(1, 3, 16, 16), torch.zeros(2, 3, 16, 16)

    def features(pictures: torch.Tensor) -> list[torch.Tensor]:
        size = 2.0 if pictures is target else torch.tensor([3.0, 2.0])
        return [
            torch.ones(len(pictures), 4, 2, 2) * torch.as_tensor(size).view(-1, 1, 1, 1),
            torch.full((len(pictures), 8), 8.0 if pictures is target else 7.0),
        ]

    expected = inversion.FEATURE_WEIGHT * torch.tensor([(1 / 2 + 1 / 8) / 2, (0 + 1 / 8) / 2])
    torch.testing.assert_close(Comparison(target, WHOLE, features).loss(images), expected)


def test_which_features_are_compared(generator: GeneratorModel, lone: GeneratorModel) -> None:
    """The encoder's stages, else the prompt model's; none where a part is hidden, as features mix it in."""

    class Prompts:
        def image_features(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3))

    prompts: Any = Prompts()
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    hidden = WHOLE.clone()
    hidden[..., 0, 0] = 0
    assert inversion._features(generator, prompts, hidden) is None and inversion._features(lone, None, WHOLE) is None
    by_words = inversion._features(lone, prompts, WHOLE)
    assert by_words is not None and torch.equal(by_words(images)[0], images.mean((2, 3)))
    by_encoder = inversion._features(generator, prompts, WHOLE)
    assert by_encoder is not None and generator.encoder is not None
    stages = generator.encoder.forward_stages(inversion._to_encoder_size(generator, images))  # type: ignore[operator]
    for ours, theirs in zip(by_encoder(images), stages, strict=True):
        assert torch.equal(ours, theirs)


def test_the_comparison_has_true_gradients() -> None:
    rng = torch.Generator().manual_seed(0)
    target = torch.rand(1, 3, 8, 8, generator=rng, dtype=torch.float64)
    known = (torch.rand(1, 1, 8, 8, generator=rng) > 0.3).double()
    comparison = Comparison(target, known, lambda images: [images.sin(), images.square()])
    images = torch.rand(2, 3, 8, 8, generator=rng, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(comparison.loss, images)


def test_the_search_keeps_the_best_it_saw(lone: GeneratorModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps far too large lead away from a picture that the guess shows already: the guess is the result."""
    with torch.no_grad():
        mean = lone.render(torch.zeros(1, *lone.spaces["w"].shape), "w")
    picture = Picture(imaging.to_uint8(mean)[0])
    for name in ("RATE", "LAYER_RATE"):
        monkeypatch.setattr(inversion, name, 20.0)
    *_, start = invert(picture, lone, steps=6)
    assert not start.latents.any()
    torch.testing.assert_close(start.image, mean)
    assert start.distance < 1 / 255


def test_one_w_is_searched_first_then_one_for_each_layer(lone: GeneratorModel) -> None:
    """Of ten steps the first SHARED_PART move all layers alike; what a step moved is seen in the next start."""
    shared = round(inversion.SHARED_PART * 10)
    starts = list(invert(picture_of(lone), lone, steps=10))
    spread = [float((start.latents - start.latents[0]).abs().max()) for start in starts]
    assert not any(spread[: shared + 1]) and spread[shared + 1] > 0 and spread[-1] > spread[shared + 1]
    assert starts[1].latents.abs().max() > 0


def spread_of_layers(generator: GeneratorModel) -> float:
    *_, start = invert(picture_of(generator), generator, steps=30)
    return float((start.latents - start.latents.mean(0)).norm())


def test_layers_differ_no_more_than_they_need(lone: GeneratorModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """LAYER_WEIGHT pulls them together, MEAN_WEIGHT all of them to the mean w."""
    monkeypatch.setattr(inversion, "SHARED_PART", 0.0)
    usual = spread_of_layers(lone)
    monkeypatch.setattr(inversion, "LAYER_WEIGHT", 0.0)
    free = spread_of_layers(lone)
    monkeypatch.setattr(inversion, "LAYER_WEIGHT", 5.0)
    held = spread_of_layers(lone)
    assert held < 0.9 * usual < 0.9 * free


def test_the_mean_w_attracts(lone: GeneratorModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def length() -> float:
        *_, start = invert(picture_of(lone), lone, steps=30)
        return float(start.latents.norm())

    usual = length()
    monkeypatch.setattr(inversion, "MEAN_WEIGHT", 1.0)
    assert length() < 0.8 * usual


def test_the_first_move_is_short(lone: GeneratorModel) -> None:
    """Adam's first moves are as long as its rate in every coordinate: a WARM_UP-th of RATE at first."""
    first, second, *_ = invert(picture_of(lone), lone, steps=40)
    moved = (second.latents - first.latents).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, inversion.RATE / inversion.WARM_UP), rtol=0.02, atol=0)


def test_the_rates_of_a_search(lone: GeneratorModel) -> None:
    """Up over WARM_UP steps, down by a cosine to a fiftieth; the layers' own stand still at first."""
    search = _search(lone, picture_of(lone), total=8)
    rates = []
    for _ in range(8):
        search.advance()
        rates.append([group["lr"] for group in search._adam.param_groups])
    shared, layers, _ = (np.array(column) for column in zip(*rates, strict=True))
    cosine = 0.51 + 0.49 * np.cos(np.pi * np.arange(8) / 8)
    warm = np.minimum(1, np.arange(1, 9) / inversion.WARM_UP)
    np.testing.assert_allclose(shared, inversion.RATE * cosine * warm)
    np.testing.assert_allclose(layers, inversion.LAYER_RATE * cosine * warm * (np.arange(8) >= 0.6 * 8))


def _search(generator: GeneratorModel, picture: Picture, total: int) -> inversion._Search:
    target = imaging.from_uint8(picture.pixels[None])
    latents = torch.zeros(generator.spaces["w+"].shape)
    residual = torch.zeros(Renderer(generator).synthesis.size)
    return inversion._Search(generator, Comparison(target, WHOLE), latents, residual, total)


def test_the_start_of_a_search_says_where_it_came_from(lone: GeneratorModel) -> None:
    picture = picture_of(lone)
    first, *_, last = invert(picture, lone, steps=2)
    assert last.picture is picture and last.box == Box(0, 0, 16) and (last.step, last.total) == (2, 2)
    assert 0 < first.seconds < last.seconds
    assert not last.residual.any() and not last.noise
    torch.testing.assert_close(last.target, imaging.from_uint8(picture.pixels[None]))


def test_a_picture_is_in_the_domain_up_to_the_measured_distance(lone: GeneratorModel) -> None:
    told = replace(lone, in_domain_distance=0.25)
    assert [inversion.is_in_domain(distance, told) for distance in (0.2, 0.25, 0.3)] == [True, True, False]


def test_what_a_partly_hidden_pixel_shows_is_not_known(lone: GeneratorModel) -> None:
    """Of a picture twice the generator's size one pixel is hidden: the whole pixel of the generator it lies in is."""
    mask = np.zeros((32, 32), bool)
    mask[7, 20] = True
    picture = Picture(np.zeros((32, 32, 3), np.uint8))
    _, known = inversion._target(picture, Box(0, 0, 32), mask, lone)
    expected = torch.ones(1, 1, 16, 16)
    expected[..., 3, 10] = 0
    assert torch.equal(known, expected)
    # Of a smaller picture, what is drawn between a hidden pixel and a shown one is half hidden, so not known.
    small = np.zeros((8, 8), bool)
    small[2, 4] = True
    _, known = inversion._target(Picture(np.zeros((8, 8, 3), np.uint8)), Box(0, 0, 8), small, lone)
    expected = torch.ones(1, 1, 16, 16)
    expected[..., 3:7, 7:11] = 0
    assert torch.equal(known, expected)


def test_the_most_hidden_of_several_pixels_counts() -> None:
    alpha = np.zeros((32, 32), np.float32)
    alpha[7, 20], alpha[6, 20] = 0.3, 0.1
    hole = inversion.to_resolution(alpha, WHOLE)
    assert hole.shape == (1, 1, 16, 16) and hole[0, 0, 3, 10] == pytest.approx(0.3) and hole.count_nonzero() == 1
    assert torch.equal(inversion.to_resolution(alpha[:16, :16], WHOLE)[0, 0], torch.from_numpy(alpha[:16, :16]))


def test_what_a_box_holds_beyond_the_picture_is_not_known(lone: GeneratorModel) -> None:
    mask = np.zeros((16, 24), bool)
    mask[4:8, 0:2] = True
    picture = Picture(np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8))
    target, known = inversion._target(picture, Box(-3, 0, 16), mask, lone)
    expected = WHOLE.clone()
    expected[..., :3] = 0
    expected[..., 4:8, 3:5] = 0
    assert torch.equal(known, expected)
    torch.testing.assert_close(target[..., 3:], imaging.from_uint8(picture.pixels[None, :, :13]))


# ---- the posterior ---------------------------------------------------------------------------------------


def test_the_posterior_of_a_linear_picture(lone: GeneratorModel) -> None:
    """For pictures linear in u it is (I + J^T J / (tolerance^2 pixels))^-1, here from the Jacobian itself."""
    dimensions = lone.spaces["w"].shape[0]
    jacobian = torch.randn(3 * 16 * 16, dimensions, generator=torch.Generator().manual_seed(3)) * 0.01

    class Linear(Renderer):
        def render(self, latents: torch.Tensor, residual: torch.Tensor | float = 0.0) -> torch.Tensor:
            return (latents[:, 0] @ jacobian.T).view(-1, 3, 16, 16)

    start = start_from_latents(lone, "w", torch.zeros(dimensions))
    factor = posterior(start, Linear(lone), tolerance=0.02)
    precision = torch.eye(dimensions) + jacobian.T @ jacobian / (0.02**2 * len(jacobian))
    torch.testing.assert_close(factor @ factor.T, torch.linalg.inv(precision), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("end", [1.5, -1.5])
def test_changes_beyond_the_range_of_colours_are_no_changes(lone: GeneratorModel, end: float) -> None:
    """Of a picture that is far too bright, or too dark, nothing is seen: the posterior is the prior."""

    class Overexposed(Renderer):
        def render(self, latents: torch.Tensor, residual: torch.Tensor | float = 0.0) -> torch.Tensor:
            return end + 0.1 * latents[:, :1, :1, None].tanh().expand(-1, 3, 16, 16)

    start = start_from_latents(lone, "w", torch.zeros(lone.spaces["w"].shape))
    factor = posterior(start, Overexposed(lone))
    torch.testing.assert_close(factor @ factor.T, torch.eye(len(factor)))


def test_the_posterior_is_the_prior_where_nothing_is_known(lone: GeneratorModel) -> None:
    start = start_from_latents(lone, "w", lone.spaces["w"].sample([1])[0])
    factor = posterior(start, Renderer(lone), torch.zeros(1, 1, 16, 16))
    torch.testing.assert_close(factor @ factor.T, torch.eye(len(factor)))


def test_draws_differ_less_in_what_is_known(lone: GeneratorModel) -> None:
    renderer = Renderer(lone)
    start = start_from_latents(lone, "w", lone.spaces["w"].sample([1])[0])
    known = WHOLE.clone()
    known[..., :8] = 0
    factor = posterior(start, renderer, known)
    draws = torch.randn(64, factor.shape[1], generator=torch.Generator().manual_seed(0)) @ factor.T
    with torch.no_grad():
        changes = (renderer.render(start.latents + draws[:, None]) - start.image).square()
    assert changes[..., 8:].mean() < 0.75 * changes[..., :8].mean()


def test_the_posterior_tells_how_far_it_is_and_is_computed_once(
    lone: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inversion, "POSTERIOR_PIXELS", 3 * 16**2)
    renderer, told = Renderer(lone), []
    start = start_from_latents(lone, "w", lone.spaces["w"].sample([1])[0])
    first = posterior(start, renderer, watch=lambda doing, share: told.append(share))
    shares = [3 * i / start.latents.shape[1] for i in range(len(told))]
    assert len(told) > 1 and told == pytest.approx(shares)
    assert posterior(start, renderer, watch=lambda doing, share: pytest.fail("again")) is first
    assert posterior(start, renderer, tolerance=1.0) is not first


def test_a_posterior_that_was_ended_is_not_kept(lone: GeneratorModel) -> None:
    def stop(doing: str, share: float | None) -> None:
        raise LoadingStopped(doing)

    renderer = Renderer(lone)
    start = start_from_latents(lone, "w", lone.spaces["w"].sample([1])[0])
    with pytest.raises(LoadingStopped):
        posterior(start, renderer, watch=stop)
    assert posterior(start, renderer).isfinite().all()


def test_what_the_range_of_w_leaves_out_is_taken_over(generator: GeneratorModel) -> None:
    """A z whose w lies beyond the samples that the range was measured on: the difference is in the residual."""
    space = generator.spaces["z"]
    statistics = generator.spaces["w"].statistics  # type: ignore[attr-defined]
    beyond = next(
        z for z in space.sample(range(300)) if (generator.network.mapping.to_w(z[None]) > statistics.high + 0.01).any()
    )
    start = start_from_latents(generator, "z", beyond)
    assert start.residual.abs().max() > 1e-3
    torch.testing.assert_close(start.image, generator.render(beyond[None], "z"), rtol=1e-4, atol=1e-5)
    assert start.latents.shape == generator.spaces["w+"].shape and start.in_domain and start.distance == 0
    assert torch.equal(start.target, start.image) and start.picture is None


def test_residual_styles_are_added(lone: GeneratorModel) -> None:
    renderer = Renderer(lone)
    latents = lone.spaces["w+"].sample([4])
    residual = torch.randn(renderer.synthesis.size, generator=torch.Generator().manual_seed(0))
    plain = renderer.synthesis.styles(lone.spaces["w+"].decode(latents))
    torch.testing.assert_close(renderer.styles(latents, residual), plain + residual)
    torch.testing.assert_close(renderer.styles(latents), plain)
    with torch.no_grad():
        torch.testing.assert_close(renderer.render(latents, residual), renderer.synthesis(plain + residual))


def test_only_the_directions_of_the_largest_variance_take_part(
    lone: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is known the covariance is 1 along them and 0 along the others."""
    monkeypatch.setattr(inversion, "POSTERIOR_DIRECTIONS", 3)
    start = start_from_latents(lone, "w", lone.spaces["w"].sample([1])[0])
    factor = posterior(start, Renderer(lone), torch.zeros(1, 1, 16, 16))
    variances = lone.spaces["w"].statistics.factor.square().sum(0)  # type: ignore[attr-defined]
    expected = torch.zeros(len(variances))
    expected[variances.topk(3).indices] = 1
    assert factor.shape == (len(variances), 3)
    torch.testing.assert_close(factor @ factor.T, torch.diag(expected))


# ---- framing ---------------------------------------------------------------------------------------------


def blank(width: int, height: int) -> Picture:
    return Picture(np.zeros((height, width, 3), np.uint8))


def test_a_square_picture_is_tried_as_a_whole_first() -> None:
    assert candidate_boxes(blank(128, 128))[0] == Box(0, 0, 128)
    assert candidate_boxes(blank(300, 200))[0] == Box(50, 0, 200)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (90, 90), (1600, 1200)])
def test_every_square_holds_the_mask(size: tuple[int, int]) -> None:
    width, height = size
    mask = np.zeros((height, width), bool)
    mask[height // 2 : height // 2 + 30, 5:45] = True
    boxes = candidate_boxes(blank(*size), mask)
    assert len(set(boxes)) == len(boxes)
    for box in boxes:
        assert box.left <= 5 and box.left + box.side >= 45
        assert box.top <= height // 2 and box.top + box.side >= height // 2 + 30
        assert box.left >= 0 and box.top >= 0 and box.left + box.side <= width and box.top + box.side <= height


def test_a_mask_longer_than_the_picture_is_high_reaches_beyond_it() -> None:
    mask = np.zeros((100, 300), bool)
    mask[40:60, 10:260] = True
    (box,) = {box.side: box for box in candidate_boxes(blank(300, 100), mask)}.values()
    assert box.side == 250 and box.top == -75 and box.left <= 10 and box.left + 250 >= 260


def corners(picture: Picture, side: int, mask: np.ndarray | None = None) -> list[tuple[int, int]]:
    return [(box.left, box.top) for box in candidate_boxes(picture, mask) if box.side == side]


def test_the_squares_that_are_tried() -> None:
    """The largest, three quarters of it, ...; each in the middle first, then from one edge of the picture to the
    other."""
    boxes = candidate_boxes(blank(300, 200))
    assert list(dict.fromkeys(box.side for box in boxes)) == [200, 150, 110, 80]
    assert corners(blank(300, 200), 200) == [(50, 0), (0, 0), (100, 0)]
    assert set(corners(blank(300, 200), 150)) == {(x, y) for x in (0, 75, 150) for y in (0, 25, 50)}
    assert corners(blank(300, 200), 150)[0] == (75, 25)
    assert {box.side for box in candidate_boxes(blank(100, 120))} == {100, 75}  # .55 of it is below SMALLEST_BOX
    assert {box.side for box in candidate_boxes(blank(40, 30))} == {30}


def test_squares_are_tried_from_one_end_of_the_mask_to_the_other() -> None:
    """A mask from 100 to 140: a square of 150 begins at 0 to 100, one of 80 at 60 to 100."""
    mask = np.zeros((200, 300), bool)
    mask[90:95, 100:140] = True
    assert {x for x, _ in corners(blank(300, 200), 150, mask)} == {0, 50, 75, 100}
    assert {x for x, _ in corners(blank(300, 200), 80, mask)} == {60, 80, 100}
    assert {y for _, y in corners(blank(300, 200), 80, mask)} == {15, 52, 60, 90}
    wide = np.zeros((200, 300), bool)
    wide[:, 0:160] = True
    assert candidate_boxes(blank(300, 200), wide) == [Box(0, 0, 200)]


def test_a_mask_of_everything_frames_as_none_does() -> None:
    everything = np.ones((200, 300), bool)
    assert candidate_boxes(blank(300, 200), everything) == candidate_boxes(blank(300, 200))


def framed(
    generator: GeneratorModel,
    monkeypatch: pytest.MonkeyPatch,
    misfit: Callable[[Box], float],
    size: tuple[int, int] = (300, 200),
    mask: np.ndarray | None = None,
) -> tuple[Box, list[Box]]:
    """What `find_box` chooses where a square fits so badly, and which squares it tried."""
    tried: list[Box] = []

    def told(picture: Picture, box: Box, mask: object, generator: object) -> float:
        tried.append(box)
        return misfit(box)

    monkeypatch.setattr(inversion, "_misfit", told)
    return inversion.find_box(blank(*size), generator, mask), tried


def test_a_picture_framed_as_the_models_own_is_not_searched(
    generator: GeneratorModel, lone: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, tried = framed(generator, monkeypatch, lambda box: 0.059 if box.side == 200 else 0.0)
    assert best == Box(50, 0, 200) and tried == [best]
    best, tried = framed(generator, monkeypatch, lambda box: 0.061 if box.side == 200 else 0.0)
    assert best.side < 200 and len(tried) == len(set(tried)) > 20
    unmeasured = replace(generator, framed_distance=None)  # nothing tells when it is enough
    best, tried = framed(unmeasured, monkeypatch, lambda box: 0.001 if box.side == 200 else 0.0)
    assert best.side < 200 and len(tried) > 20
    best, tried = framed(lone, monkeypatch, lambda box: 1.0)
    assert best == Box(50, 0, 200) and not tried  # nothing tells without an encoder


def test_a_watch_is_told_of_every_square_and_may_end_the_search(
    generator: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []

    def watch(doing: str, share: float | None) -> None:
        assert doing == "Looking for the part of the picture that the model can draw" and share is not None
        told.append(share)
        if len(told) == 30:
            raise LoadingStopped("enough")

    monkeypatch.setattr(inversion, "_misfit", lambda picture, box, mask, generator: box.side / 10 + box.left)
    with pytest.raises(LoadingStopped, match="enough"):
        next(invert(blank(300, 200), replace(generator, framed_distance=None), watch=watch))
    assert told[0] == 0 and told == sorted(set(told)) and 0.3 < told[-1] < 1


@pytest.mark.parametrize(("misfit", "is_chosen"), [(0.5, False), (0.33, False), (0.30, True)])
def test_a_smaller_square_must_fit_better(
    generator: GeneratorModel, monkeypatch: pytest.MonkeyPatch, misfit: float, is_chosen: bool
) -> None:
    """A side of .4 costs (1 / .4)^.5 = 1.58: .3 is as good as .474, .33 as .522, where the largest has .5."""
    best, _ = framed(generator, monkeypatch, lambda box: misfit if box.side <= 80 else 0.5)
    assert (best.side <= 80) == is_chosen and (best == Box(50, 0, 200)) == (not is_chosen)


@pytest.mark.parametrize("wanted", [Box(33, 41, 96), Box(180, 60, 118), Box(0, 50, 150)])
def test_the_framing_is_searched_more_finely(
    generator: GeneratorModel, monkeypatch: pytest.MonkeyPatch, wanted: Box
) -> None:
    """Where the misfit grows with the distance from some square, that one is found to a 20th of its side."""

    def misfit(box: Box) -> float:
        centres = (box.left - wanted.left + (box.side - wanted.side) / 2, box.top - wanted.top)
        return 0.1 + (sum(map(abs, centres)) + abs(box.side - wanted.side)) / 100

    best, tried = framed(generator, monkeypatch, misfit)
    assert misfit(best) - 0.1 < 3 * 0.07 * wanted.side / 100
    for box in tried:
        assert box.side >= inversion.SMALLEST_BOX and min(box.left, box.top) >= 0
        assert box.left + box.side <= 300 and box.top + box.side <= 200


def test_a_finer_search_keeps_the_mask_inside(generator: GeneratorModel, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.zeros((200, 300), bool)
    mask[60:130, 100:180] = True
    away = Box(250, 150, 64)
    best, tried = framed(
        generator, monkeypatch, lambda box: 0.1 + (250 - box.left + 150 - box.top + box.side) / 500, mask=mask
    )
    for box in tried:
        assert box.left <= 100 and box.left + box.side >= 180 and box.top <= 60 and box.top + box.side >= 130
    assert away not in tried and best.left > 85 and best.top > 45


def test_nearby_squares() -> None:
    """By a part of its side each way; by half of it narrower and wider around the same centre."""
    near = inversion._nearby_boxes(Box(100, 60, 100), 0.12, blank(300, 200), None)
    assert near == [
        Box(112, 60, 100), Box(88, 60, 100), Box(100, 72, 100), Box(100, 48, 100),
        Box(106, 66, 88), Box(94, 54, 112),
    ]  # fmt: skip
    assert inversion._nearby_boxes(Box(0, 0, 64), 0.001, blank(65, 66), None) == [Box(1, 0, 64), Box(0, 1, 64)]
    mask = np.zeros((200, 300), bool)
    mask[100, 195:199] = True
    near = inversion._nearby_boxes(Box(100, 60, 100), 0.02, blank(300, 200), mask)
    assert near == [Box(102, 60, 100), Box(100, 62, 100), Box(100, 58, 100), Box(101, 61, 98), Box(99, 59, 102)]
    tight = np.zeros((200, 300), bool)
    tight[50:150, 100:200] = True
    assert inversion._nearby_boxes(Box(95, 45, 110), 0.04545, blank(300, 200), tight) == [
        Box(100, 45, 110), Box(90, 45, 110), Box(95, 50, 110), Box(95, 40, 110), Box(97, 47, 106), Box(93, 43, 114),
    ]  # fmt: skip
    assert Box(100, 50, 100) in inversion._nearby_boxes(Box(99, 49, 102), 0.02, blank(300, 200), tight)
    assert inversion._nearby_boxes(Box(100, 50, 100), 0.02, blank(300, 200), tight) == [Box(99, 49, 102)]


def test_how_badly_a_square_fits_is_seen_by_one_pass_of_the_encoder(generator: GeneratorModel) -> None:
    picture = picture_of(generator)
    box, hidden = Box(0, 0, 16), np.zeros((16, 16), bool)
    hidden[:8] = True
    for mask in (None, hidden):
        target, known = inversion._target(picture, box, mask, generator)
        with torch.no_grad():
            whiten = Renderer(generator).space.whitened.statistics.whiten
            drawn = generator.render(whiten(guess(generator, target, known)), "w")
        wrong = (drawn.clamp(-1, 1) - target).abs()[..., 8 if mask is not None else 0 :, :].mean() / 2
        assert inversion._misfit(picture, box, mask, generator) == pytest.approx(wrong.item(), rel=1e-4)
