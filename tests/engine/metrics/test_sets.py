"""The measures on sets whose values are known."""

import sys
from itertools import permutations

import pytest
import torch

from engine.metrics.frechet import frechet_distance
from engine.metrics.inception import inception_score
from engine.metrics.intervals import bootstrap
from engine.metrics.kernel import kernel_distance, vendi_score
from engine.metrics.manifold import density_coverage
from engine.metrics.transport import MOST_POINTS, best_assignment, earth_movers_distance


def test_the_vendi_score_counts_different_pictures() -> None:
    assert vendi_score(torch.eye(5)) == pytest.approx(5)
    assert vendi_score(torch.ones(7, 3)) == pytest.approx(1)
    assert vendi_score(torch.tensor([[2.0, 0], [5, 0], [0, 1], [0, 3]])) == pytest.approx(2)  # lengths do not count
    with pytest.raises(ValueError, match="at least 1 row"):
        vendi_score(torch.zeros(0, 3))


def test_the_kernel_distance_of_one_distribution_is_zero_on_the_average() -> None:
    """The mean over draws within four of its own errors; of a shifted one it is far above."""
    draws = torch.Generator().manual_seed(0)
    same = torch.tensor([kernel_distance(*torch.randn(2, 50, 4, generator=draws)) for _ in range(200)])
    assert same.mean().abs() < 4 * same.std() / len(same) ** 0.5
    assert (same < 0).any()
    assert kernel_distance(torch.randn(50, 4, generator=draws), torch.randn(50, 4, generator=draws) + 2) > same.max()


def test_the_inception_score_of_sure_and_even_pictures_is_the_number_of_classes() -> None:
    sure = 1000 * torch.eye(4).repeat(3, 1)
    assert inception_score(sure) == pytest.approx(4)
    assert inception_score(torch.zeros(9, 4)) == pytest.approx(1)
    assert inception_score(sure[:1].repeat(5, 1)) == pytest.approx(1)
    with pytest.raises(ValueError, match="1 to 2 splits"):
        inception_score(torch.zeros(2, 4), splits=3)


def test_the_earth_movers_distance_is_that_of_the_shift() -> None:
    points = torch.randn(60, 3, generator=torch.Generator().manual_seed(1))
    shuffled = points[torch.randperm(60, generator=torch.Generator().manual_seed(2))]
    assert earth_movers_distance(points, shuffled + torch.tensor([0.0, 3, 4])) == pytest.approx(5)
    with pytest.raises(ValueError, match="as many points"):
        earth_movers_distance(points, points[:5])
    with pytest.raises(ValueError, match="4,096"):
        earth_movers_distance(torch.zeros(MOST_POINTS + 1, 1), torch.zeros(MOST_POINTS + 1, 1))


def test_without_scipy_the_assignment_is_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4 points by trying all; of 40 as scipy's, in float64; without scipy the distance is that of the shift."""
    draws = torch.Generator().manual_seed(6)
    costs = torch.rand(4, 4, generator=draws, dtype=torch.float64).numpy()
    least = min(sum(costs[row, column] for row, column in enumerate(order)) for order in permutations(range(4)))
    assert sum(costs[row, column] for row, column in enumerate(best_assignment(costs))) == pytest.approx(least)
    optimize = pytest.importorskip("scipy.optimize")
    for costs in torch.rand(5, 40, 40, generator=draws, dtype=torch.float64).numpy():
        found = best_assignment(costs)
        assert sorted(found) == list(range(40))
        least = costs[optimize.linear_sum_assignment(costs)].sum()
        assert costs[range(40), found].sum() == pytest.approx(least, rel=1e-12)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    points = torch.arange(4.0)[:, None]
    assert earth_movers_distance(points, points + 2) == pytest.approx(2)


def test_an_outlier_does_not_raise_density() -> None:
    """Its ball holds everything, but is one of many; copies of the real set have density 1 and more."""
    real = torch.cat([torch.randn(100, 2, generator=torch.Generator().manual_seed(3)), torch.tensor([[50.0, 50]])])
    nowhere = torch.tensor([[20.0, 20], [20.0, 21], [21.0, 20]])
    assert density_coverage(real, nowhere).density < 0.3
    copies = density_coverage(real, real)
    assert copies.coverage == 1 and copies.density >= 1


def test_a_bootstrap_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Of a mean, whose interval is known: 95 % of the intervals of 200 sets hold it, within four errors."""
    draws = torch.Generator().manual_seed(4)

    def mean(_: torch.Tensor, values: torch.Tensor) -> float:
        return float(values.mean())

    held = 0
    for _ in range(200):
        found = bootstrap(mean, torch.zeros(1), torch.randn(40, generator=draws), draws=100)
        assert found.low <= found.value <= found.high
        held += found.low <= 0 <= found.high
    assert 0.87 <= held / 200 <= 0.99


def test_an_interval_is_the_same_again_and_wider_where_both_sets_are_drawn() -> None:
    draws = torch.Generator().manual_seed(5)
    real, generated = torch.randn(60, 3, generator=draws), torch.randn(60, 3, generator=draws) + 0.5
    once, again = (bootstrap(frechet_distance, real, generated, draws=100) for _ in range(2))
    assert once == again
    both = bootstrap(frechet_distance, real, generated, draws=100, redraw_real=True)
    assert both.high - both.low > once.high - once.low
    with pytest.raises(ValueError, match="level between 0 and 1"):
        bootstrap(frechet_distance, real, generated, level=95)
