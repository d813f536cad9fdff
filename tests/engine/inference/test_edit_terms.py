"""The terms of Edit and Inpaint: closed forms, and gradients checked in float64."""

import torch

from engine.inference.terms import (
    Batch,
    Composed,
    DistanceToStart,
    EditDirection,
    Extractor,
    KnownPixels,
    Repulsion,
    Term,
)
from tests.engine.toys import LATENT, SIDE, ToyTower, numbers

TARGET = numbers(1, 3, SIDE, SIDE, seed=5)
KNOWN = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64)
KNOWN[..., :2] = 1
KNOWN[..., 2] = 0.25


def batch(latents: torch.Tensor, images: torch.Tensor) -> Batch:
    return Batch(latents, images)


def gradients_agree(term: Term, *, n: int = 3) -> None:
    """The gradients that the flow uses against finite differences of the values."""
    latents, images = numbers(n, LATENT, seed=7), numbers(n, 3, SIDE, SIDE, seed=8)
    whole = batch(latents, images)
    (by_images,), (by_latents,) = whole.gradients([term.log_value(whole)])
    for wanted, values, other, place in ((by_images, images, latents, 1), (by_latents, latents, images, 0)):
        for direction in numbers(4, *values.shape[1:], seed=9):
            ends = []
            for sign in (1, -1):
                moved = values + sign * 1e-6 * direction
                ends.append(term.log_value(batch(moved, other) if place == 0 else batch(other, moved)).detach())
            slope = (ends[0] - ends[1]) / 2e-6
            torch.testing.assert_close((wanted * direction).flatten(1).sum(1), slope, rtol=1e-5, atol=1e-6)


def test_known_pixels_in_closed_form() -> None:
    """-(mean of the squares over what is known) / (2 sigma^2): an error of .3 everywhere, sigma .1: -4.5."""
    images = TARGET + 0.3
    images = torch.cat([TARGET, images])
    value = KnownPixels(TARGET, KNOWN, sigma=0.1).log_value(batch(numbers(2, LATENT), images))
    torch.testing.assert_close(value, torch.tensor([0.0, -4.5], dtype=torch.float64))


def test_what_is_not_known_does_not_count() -> None:
    images = TARGET.clone()
    images[..., 3] += 5
    term = KnownPixels(TARGET, KNOWN)
    assert term.log_value(batch(numbers(1, LATENT), images)).item() == 0
    gradients_agree(term)


def test_the_size_of_the_hole_does_not_change_the_strength() -> None:
    images = TARGET + 0.2
    part, whole = (
        KnownPixels(TARGET, known).log_value(batch(numbers(1, LATENT), images))
        for known in (KNOWN, torch.ones_like(KNOWN))
    )
    torch.testing.assert_close(part, whole)


def test_the_edit_directions_gradient_is_the_direction() -> None:
    direction = numbers(LATENT, seed=2)
    whole = batch(numbers(3, LATENT), numbers(3, 3, SIDE, SIDE))
    term = EditDirection(direction)
    (by_images,), (by_latents,) = whole.gradients([term.log_value(whole)])
    torch.testing.assert_close(by_latents, direction.expand(3, -1))
    assert not by_images.any()
    gradients_agree(term)


def test_each_particle_may_have_its_own_direction_in_styles() -> None:
    """Styles s = M z: the gradient by z is M^T direction_i."""
    matrix, directions = numbers(LATENT, 4, seed=3), numbers(3, 4, seed=4)
    term = EditDirection(directions, styles=lambda latents: latents @ matrix)
    whole = batch(numbers(3, LATENT), numbers(3, 3, SIDE, SIDE))
    _, (by_latents,) = whole.gradients([term.log_value(whole)])
    torch.testing.assert_close(by_latents, directions @ matrix.T)
    gradients_agree(term)


def test_a_goal_ends_the_direction() -> None:
    """The gradient is (goal - how far it was followed) * direction: 0 at the goal, back beyond it."""
    direction, latents = numbers(LATENT, seed=2), numbers(3, LATENT)
    goal = latents @ direction + torch.tensor([0.0, 2.0, -1.0], dtype=torch.float64)
    term = EditDirection(direction, goal=goal)
    whole = batch(latents, numbers(3, 3, SIDE, SIDE))
    torch.testing.assert_close(term.log_value(whole), torch.tensor([0.0, -2.0, -0.5], dtype=torch.float64))
    _, (by_latents,) = whole.gradients([term.log_value(whole)])
    torch.testing.assert_close(by_latents, torch.stack([0 * direction, 2 * direction, -direction]))


def test_the_distance_to_the_start() -> None:
    start = numbers(3, LATENT, seed=6)
    term = DistanceToStart(start)
    whole = batch(start + 2, numbers(3, 3, SIDE, SIDE))
    torch.testing.assert_close(term.log_value(whole), torch.full((3,), -0.5 * 4 * LATENT, dtype=torch.float64))
    _, (by_latents,) = whole.gradients([term.log_value(whole)])
    torch.testing.assert_close(by_latents, torch.full_like(start, -2))
    gradients_agree(term)


def test_composed_pictures_keep_what_is_known() -> None:
    composed = Composed(ToyTower(), TARGET, 1 - KNOWN)
    shown = composed.compose(numbers(2, 3, SIDE, SIDE, seed=1))
    assert torch.equal(shown[..., :2], TARGET[..., :2].expand(2, -1, -1, -1))
    torch.testing.assert_close(shown[..., 3], numbers(2, 3, SIDE, SIDE, seed=1)[..., 3])


def test_repulsion_reaches_the_hole_alone() -> None:
    """Pictures that differ in what is known only are the same picture: no gradient reaches them there."""
    term = Repulsion(Composed(ToyTower(), TARGET, 1 - KNOWN))
    whole = batch(numbers(3, LATENT), numbers(3, 3, SIDE, SIDE, seed=8))
    (by_images,), _ = whole.gradients([term.log_value(whole)])
    assert not by_images[..., :2].any() and by_images[..., 2:].any()


def test_features_of_the_hole_have_true_gradients() -> None:
    class Sum:
        name = "sum of features"

        def __init__(self, extractor: Extractor) -> None:
            self.extractor = extractor

        def log_value(self, batch: Batch) -> torch.Tensor:
            return batch.features(self.extractor).sum(1)

    gradients_agree(Sum(Composed(ToyTower(), TARGET, 1 - KNOWN)))
