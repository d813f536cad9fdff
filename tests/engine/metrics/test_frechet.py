"""The Fréchet distance of features."""

import pytest
import torch

from engine.metrics.frechet import distance_to, fitted_gaussian, frechet_distance


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_set_is_at_no_distance_from_itself():
    features = normal(50, 4, seed=0) @ normal(4, 4, seed=1)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)


def test_a_shift_counts_with_its_square():
    features = normal(50, 4, seed=0)
    assert frechet_distance(features, features + torch.tensor([3.0, 0, 4, 0])) == pytest.approx(25)


def test_axes_that_are_scaled_count_by_their_deviations():
    """For covariances that commute, sum (s1 - s2)^2 over the deviations."""
    features = normal(500, 3, seed=2)
    features = (features - features.mean(0)) @ torch.linalg.cholesky(features.T.cov()).inverse().T
    scales = torch.tensor([1.0, 2.0, 5.0]).double()
    assert frechet_distance(features, features * scales) == pytest.approx(((scales - 1) ** 2).sum().item())


def test_it_is_symmetric_and_independent_of_rotation():
    first, second = normal(80, 5, seed=3), normal(60, 5, seed=4) @ normal(5, 5, seed=5)
    rotation = torch.linalg.qr(normal(5, 5, seed=6)).Q
    expected = frechet_distance(first, second)
    assert frechet_distance(second, first) == pytest.approx(expected)
    assert frechet_distance(first @ rotation, second @ rotation) == pytest.approx(expected)


def test_one_feature_and_too_few_rows():
    assert frechet_distance(normal(40, 1, seed=7), normal(40, 1, seed=7) + 2) == pytest.approx(4)
    with pytest.raises(ValueError, match="at least 2 rows"):
        frechet_distance(normal(1, 3, seed=0), normal(5, 3, seed=0))


def test_fewer_pictures_than_features_are_no_trouble():
    """Two points at a and -a on an axis have a variance of 2 a^2 there: trace D + 2 a^2 - 2 sqrt(2) a beside I."""
    real = normal(200, 5, seed=8)
    real = (real - real.mean(0)) @ torch.linalg.cholesky(real.T.cov()).inverse().T
    pair = torch.zeros(2, 5).double()
    pair[:, 0] = torch.tensor([3.0, -3.0])
    assert frechet_distance(real, pair) == pytest.approx(5 + 18 - 2 * 2**0.5 * 3)
    assert distance_to(fitted_gaussian(real), pair) == frechet_distance(real, pair)
    assert frechet_distance(real, pair.float()) == pytest.approx(frechet_distance(real, pair))
