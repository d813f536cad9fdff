"""Precision and recall against hand-computed sets."""

import pytest
import torch

from engine.metrics.manifold import covered_share, neighbour_radii, precision_recall, realism


def test_radii_are_distances_to_the_kth_neighbour() -> None:
    """On the line 0, 1, 3, 6 the nearest neighbours are 1, 1, 2, 3 away, the second ones 3, 2, 3, 5."""
    points = torch.tensor([[0.0], [1.0], [3.0], [6.0]], dtype=torch.float64)
    assert neighbour_radii(points, 1).tolist() == [1, 1, 2, 3]
    assert neighbour_radii(points, 2).tolist() == [3, 2, 3, 5]


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match="more than k = 3"):
        neighbour_radii(torch.zeros(3, 2), 3)


def test_a_ball_holds_what_lies_on_its_edge() -> None:
    centres, radii = torch.tensor([[0.0, 0.0]]), torch.tensor([1.0])
    points = torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.0, 1.01]])
    assert covered_share(points, centres, radii) == pytest.approx(2 / 3)


def test_equal_distributions_score_high_and_separate_ones_zero() -> None:
    draws = torch.Generator().manual_seed(0)
    one, other = torch.randn(400, 3, generator=draws), torch.randn(400, 3, generator=draws)
    same, apart = precision_recall(one, other), precision_recall(one, other + 50)
    assert min(same) > 0.8
    assert apart == (0.0, 0.0)


def test_a_collapsed_generator_has_precision_but_no_recall() -> None:
    draws = torch.Generator().manual_seed(1)
    real = torch.randn(400, 3, generator=draws)
    collapsed = real[:1] + 1e-3 * torch.randn(400, 3, generator=draws)
    found = precision_recall(real, collapsed)
    assert found.precision == 1.0
    assert found.recall < 0.05


def test_realism_is_the_best_ratio_of_radius_to_distance() -> None:
    """By the balls of radius 1 around 0 and 2 around 10; that of radius 50, above the median, does not count."""
    centres, radii = torch.tensor([[0.0], [10.0], [40.0]]), torch.tensor([1.0, 2.0, 50.0])
    assert realism(torch.tensor([[0.5], [2.0], [6.0], [40.0]]), centres, radii).tolist() == pytest.approx(
        [2.0, 0.5, 0.5, 2 / 30]
    )
