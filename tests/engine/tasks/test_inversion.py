"""Finding a picture's latents, the framing, and how far they may vary."""

from dataclasses import replace
from pathlib import Path

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
    first = guess(generator, start.target, WHOLE)[0]
    torch.testing.assert_close(start.latents, first.expand_as(start.latents))


def test_without_an_encoder_the_guess_is_the_mean(lone: GeneratorModel) -> None:
    first = next(invert(picture_of(lone), lone))
    assert first.total == inversion.STEPS_WITHOUT and not first.latents.any()


def test_a_picture_of_another_kind_is_said_to_be(lone: GeneratorModel) -> None:
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[::2] = 255
    *_, start = invert(Picture(stripes), lone, steps=20)
    assert lone.in_domain_distance is not None
    assert start.in_domain is False and start.distance > lone.in_domain_distance


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


def test_the_comparison_has_true_gradients() -> None:
    rng = torch.Generator().manual_seed(0)
    target = torch.rand(1, 3, 8, 8, generator=rng, dtype=torch.float64)
    known = (torch.rand(1, 1, 8, 8, generator=rng) > 0.3).double()
    comparison = Comparison(target, known, lambda images: [images.sin(), images.square()])
    images = torch.rand(2, 3, 8, 8, generator=rng, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(comparison.loss, images)


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
