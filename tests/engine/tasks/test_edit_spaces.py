"""The latent spaces of edits, seen from a start."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.models.loading import GeneratorModel, load_generator
from engine.tasks.edit_spaces import FURTHEST, StyleEditSpace, WEditSpace, conditioned_draws
from engine.tasks.inversion import Renderer, Start, posterior, start_from_latents, styles_of

SEEDS = (4, 5, 6)


@pytest.fixture
def generator(tiny_assets: Path) -> GeneratorModel:
    return load_generator("avatars", assets=tiny_assets)


@pytest.fixture
def renderer(generator: GeneratorModel) -> Renderer:
    return Renderer(generator)


@pytest.fixture
def start(generator: GeneratorModel) -> Start:
    return start_from_latents(generator, "w+", generator.spaces["w+"].sample([2])[0])


def moves(
    renderer: Renderer, start: Start, *, per_layer: bool = False, basis: torch.Tensor | None = None
) -> WEditSpace:
    size = start.latents.shape[1]
    basis = torch.eye(size) if basis is None else basis
    return WEditSpace(renderer, start, basis, 0.3 * torch.eye(size), per_layer)


def test_no_move_is_the_start(renderer: Renderer, start: Start) -> None:
    for space in (
        moves(renderer, start),
        moves(renderer, start, per_layer=True),
        StyleEditSpace(renderer, start, torch.ones(renderer.synthesis.size)),
    ):
        latents = torch.zeros(2, *space.shape)
        images = renderer.synthesis(space.decode(latents))
        torch.testing.assert_close(images, start.image.expand_as(images))
        assert torch.equal(space.constrain(latents), latents)
        assert not space.log_prior(latents).any() and space.truncated(0.5) is space


def test_a_move_of_w_is_that_move_of_every_layer(renderer: Renderer, start: Start) -> None:
    shared, layered = moves(renderer, start), moves(renderer, start, per_layer=True)
    latents = torch.randn(2, *shared.shape, generator=torch.Generator().manual_seed(0))
    repeated = latents[:, None].expand(-1, layered.shape[0], -1)
    torch.testing.assert_close(shared.decode(latents), layered.decode(repeated))
    torch.testing.assert_close(shared.to_w_plus(latents), start.latents + latents[:, None])


def test_draws_are_samples_conditioned_on_the_start(renderer: Renderer, start: Start) -> None:
    """C (u_i - u): all of the sample where C is 1, nothing where it is 0."""
    factor = torch.diag(torch.tensor([1.0, 0.0] * (start.latents.shape[1] // 2)))
    drawn = start.latents.mean(0) + conditioned_draws(renderer, start, SEEDS, factor)
    torch.testing.assert_close(drawn[:, ::2], renderer.space.whitened.sample(SEEDS)[:, ::2])
    torch.testing.assert_close(drawn[:, 1::2], start.latents.mean(0)[1::2].expand(3, -1))


def test_a_particle_starts_where_its_seed_says(renderer: Renderer, start: Start) -> None:
    space = moves(renderer, start)
    together = space.sample(SEEDS)
    assert all(torch.equal(space.sample([seed])[0], row) for seed, row in zip(SEEDS, together, strict=True))


@pytest.mark.parametrize("size", [8, 333])
def test_a_particle_starts_at_the_same_bits_however_many_there_are(size: int) -> None:
    """A product of several rows at once may round differently from that of one, where spaces are large."""
    drawn = torch.Generator().manual_seed(3)
    samples = torch.randn(12, size, generator=drawn)
    whitened = SimpleNamespace(sample=lambda seeds: samples[list(seeds)], radius=1.0)
    renderer: Any = SimpleNamespace(space=SimpleNamespace(whitened=whitened))
    start: Any = SimpleNamespace(latents=torch.randn(5, size, generator=drawn))
    factor, basis = torch.randn(2, size, size, generator=drawn)
    together = conditioned_draws(renderer, start, range(12), factor)
    expected = (samples - start.latents.mean(0)) @ factor @ factor.T
    torch.testing.assert_close(together, expected, rtol=1e-3, atol=1e-2)
    space = WEditSpace(renderer, start, basis, factor)
    several = space.sample(range(12))
    for seed in range(12):
        assert torch.equal(conditioned_draws(renderer, start, [seed], factor)[0], together[seed])
        assert torch.equal(space.sample([seed])[0], several[seed])


def test_a_basis_changes_the_coordinates_not_the_draws(renderer: Renderer, start: Start) -> None:
    basis = torch.randn(start.latents.shape[1], start.latents.shape[1], generator=torch.Generator().manual_seed(1))
    plain, other = moves(renderer, start), moves(renderer, start, basis=basis)
    torch.testing.assert_close(other.sample(SEEDS) @ basis, plain.sample(SEEDS), rtol=1e-3, atol=1e-4)


def test_in_posterior_coordinates_the_draws_are_the_same(renderer: Renderer, start: Start) -> None:
    factor = posterior(start, renderer)
    space = WEditSpace(renderer, start, factor.T, factor)
    torch.testing.assert_close(
        space.sample(SEEDS) @ factor.T, conditioned_draws(renderer, start, SEEDS, factor), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("per_layer", [False, True])
def test_moves_are_shortened_at_the_edge(renderer: Renderer, start: Start, per_layer: bool) -> None:
    """u stays on its line from the start, and within the limit; a move within it does not change."""
    space = moves(renderer, start, per_layer=per_layer)
    latents = 100 * torch.randn(5, *space.shape, generator=torch.Generator().manual_seed(0))
    latents[0] *= 1e-4
    kept = space.constrain(latents)
    assert torch.equal(kept[0], latents[0])
    directions = torch.nn.functional.cosine_similarity(kept, latents, dim=-1)
    torch.testing.assert_close(directions, torch.ones_like(directions))
    here = start.latents if per_layer else start.latents.mean(0)
    limit = FURTHEST * here.norm(dim=-1).clamp_min(renderer.space.whitened.radius)
    lengths = (here + kept[1:]).norm(dim=-1)
    torch.testing.assert_close(lengths, limit.expand_as(lengths), rtol=1e-3, atol=1e-3)


def test_only_editable_channels_move(renderer: Renderer, start: Start) -> None:
    std = torch.rand(renderer.synthesis.size) + 0.1
    space = StyleEditSpace(renderer, start, std)
    changed = space.decode(torch.ones(1, *space.shape)) - space.decode(torch.zeros(1, *space.shape))
    torch.testing.assert_close(changed[0], std * renderer.synthesis.editable, atol=1e-5, rtol=1e-5)
    assert not space.sample(SEEDS).any()


def test_moves_are_seen_from_the_start_with_its_residual(renderer: Renderer, start: Start) -> None:
    residual = torch.randn(renderer.synthesis.size, generator=torch.Generator().manual_seed(5))
    moved = replace(start, residual=residual)
    latents = torch.randn(2, 8, generator=torch.Generator().manual_seed(6)) * 0.1
    torch.testing.assert_close(
        moves(renderer, moved).decode(latents), moves(renderer, start).decode(latents) + residual
    )
    styles = StyleEditSpace(renderer, moved, torch.ones(renderer.synthesis.size))
    torch.testing.assert_close(styles.decode(torch.zeros(1, *styles.shape))[0], styles_of(start, renderer) + residual)


def test_spaces_say_their_size(renderer: Renderer, start: Start) -> None:
    layers, size = start.latents.shape
    shared, layered = moves(renderer, start), moves(renderer, start, per_layer=True)
    styles = StyleEditSpace(renderer, start, torch.ones(renderer.synthesis.size))
    assert (shared.name, layered.name, styles.name) == ("w", "w+", "s")
    assert (shared.shape, layered.shape, styles.shape) == ((size,), (layers, size), (renderer.synthesis.size,))
    for space in (shared, layered, styles):
        assert space.scale == pytest.approx(math.prod(space.shape) ** 0.5)
        latents = torch.full((2, *space.shape), 0.5)
        torch.testing.assert_close(space.log_prior(latents), torch.full((2,), -0.5 * 0.25 * math.prod(space.shape)))


def test_a_move_of_each_layer_begins_alike(renderer: Renderer, start: Start) -> None:
    layered = moves(renderer, start, per_layer=True).sample(SEEDS)
    torch.testing.assert_close(layered, moves(renderer, start).sample(SEEDS)[:, None].expand_as(layered))


def test_single_channels_move_no_further_than_published(renderer: Renderer, start: Start) -> None:
    space = StyleEditSpace(renderer, start, torch.ones(renderer.synthesis.size))
    latents = torch.zeros(1, *space.shape)
    latents[0, :3] = torch.tensor([-40.0, 40.0, 24.0])
    assert space.constrain(latents)[0, :4].tolist() == [-25.0, 25.0, 24.0, 0.0]


def test_a_start_that_is_far_out_may_go_as_far_again(renderer: Renderer, start: Start) -> None:
    """Its own length is the limit then, FURTHEST times."""
    far = replace(start, latents=start.latents * 20)
    here = far.latents.mean(0)
    assert here.norm() > 2 * renderer.space.whitened.radius
    space = moves(renderer, far)
    out = space.constrain(here[None] * 3)
    assert (here + out[0]).norm().item() == pytest.approx(FURTHEST * here.norm().item(), rel=1e-4)
    back = -here[None] * 0.5
    assert torch.equal(space.constrain(back), back)
