import pytest
import torch
from torch import Tensor

from engine.metrics.perceptual import perceptual_distance, perceptual_diversity
from engine.models.loading import load_prompt_model


def maps(n: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, c, side, side, generator=generator, dtype=torch.float64) for c, side in ((3, 4), (5, 2))]


def test_the_distance_is_that_of_directions_place_by_place() -> None:
    """At one of four places the direction is orthogonal, |a - b|^2 = 2; how long it is does not count."""
    a = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    a[:, 0] = 3.0
    b = 0.1 * a
    b[0, :, 0, 1] = torch.tensor([0.0, 7.0])
    torch.testing.assert_close(perceptual_distance([a], [b]), torch.tensor([2 / 4]).double())
    torch.testing.assert_close(perceptual_distance([a, -a], [b, a]), torch.tensor([2 / 4 + 4]).double())


def test_it_is_symmetric_and_zero_of_a_picture_to_itself() -> None:
    first, second = maps(6, 0), maps(6, 1)
    torch.testing.assert_close(perceptual_distance(first, second), perceptual_distance(second, first))
    assert perceptual_distance(first, first).abs().max() == 0
    assert (perceptual_distance(first, second) > 0).all()


def test_where_a_network_sees_nothing_there_is_a_number() -> None:
    nothing = [torch.zeros_like(one) for one in maps(2, 0)]
    assert (perceptual_distance(nothing, nothing) == 0).all()
    torch.testing.assert_close(perceptual_distance(nothing, maps(2, 0)), torch.full((2,), 2.0).double())


def test_the_gradient_is_that_of_the_distance() -> None:
    first, second = maps(2, 0), maps(2, 1)
    assert torch.autograd.gradcheck(
        lambda *given: perceptual_distance(given, second), [one.requires_grad_() for one in first]
    )


def test_diversity_is_the_mean_over_pairs() -> None:
    seen = maps(3, 2)
    pairs = [
        perceptual_distance(*([one[i : i + 1] for one in seen] for i in pair)) for pair in ((0, 1), (0, 2), (1, 2))
    ]
    assert perceptual_diversity(seen) == pytest.approx(float(torch.cat(pairs).mean()))
    assert perceptual_diversity([one[:1] for one in seen]) == 0.0


def test_maps_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected maps of the same shapes"):
        perceptual_distance(maps(2, 0), maps(3, 0))
    with pytest.raises(ValueError, match="expected maps of the same shapes"):
        perceptual_distance([], [])


def test_by_the_studios_own_tower_a_moved_picture_is_nearer_than_another() -> None:
    """Pixels say otherwise: stripes that moved by their width are all wrong there, and a grey picture half right."""
    model = load_prompt_model("clip-mini")
    row = torch.arange(64) // 2 % 2 * 2.0 - 1
    stripes = row.expand(1, 3, 64, 64)
    moved, grey = stripes.roll(2, dims=3), torch.zeros(1, 3, 64, 64)
    assert (stripes - moved).square().mean() > (stripes - grey).square().mean()

    def see(images: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return model.network.visual.trunk.forward_stages(model.preprocess(images))

    near, far = (perceptual_distance(see(stripes), see(other)) for other in (moved, grey))
    assert near < far
