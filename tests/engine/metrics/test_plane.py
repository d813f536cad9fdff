"""Features in the plane: principal components that follow what moves, without turning for no reason."""

import math

import pytest
import torch

from engine.metrics.plane import following_plane, mean_distance


def features(n: int = 16, dim: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def test_points_of_a_plane_keep_their_distances() -> None:
    """Features A z + b with orthonormal columns of A: all of their differences lie in the plane that is found."""
    flat = features(12, 2) * torch.tensor([3.0, 1.0])
    basis, _ = torch.linalg.qr(features(40, 2, seed=1))
    lifted = flat @ basis.T + 5.0
    plane = following_plane(lifted)
    assert plane is not None and plane.share == pytest.approx(1.0)
    assert torch.pdist(plane.places(lifted)).numpy() == pytest.approx(torch.pdist(flat.double()).numpy(), rel=1e-4)


def test_its_share_is_that_of_the_two_largest_eigenvalues() -> None:
    """Of the covariance: the first two principal components are the best plane there is (Eckart-Young)."""
    seen = features()
    plane = following_plane(seen)
    assert plane is not None
    values = torch.linalg.eigvalsh(torch.cov(seen.double().T))
    assert plane.share == pytest.approx(float(values[-2:].sum() / values.sum()), rel=1e-6)
    places = plane.places(seen)
    assert places.mean(0).abs().max() < 1e-9 and places[:, 0].var() >= places[:, 1].var()
    assert torch.allclose(plane.axes @ plane.axes.T, torch.eye(2).double(), atol=1e-12)
    assert mean_distance(places) <= mean_distance(seen.double())


def test_equal_features_give_equal_places_in_any_order() -> None:
    seen = features()
    order = torch.randperm(len(seen), generator=torch.Generator().manual_seed(3))
    first, second = following_plane(seen), following_plane(seen[order])
    assert first is not None and second is not None
    assert torch.allclose(first.places(seen)[order], second.places(seen[order]), atol=1e-6)


def test_what_rests_stays_where_it_is() -> None:
    seen = features()
    first = following_plane(seen)
    again = following_plane(seen, first)
    assert first is not None and again is not None
    assert torch.allclose(first.places(seen), again.places(seen), atol=1e-6)


def test_the_axes_are_not_turned_within_their_plane() -> None:
    """Points turned by a right angle: both planes are equal, and only the points have moved."""
    flat = features(12, 2) * torch.tensor([3.0, 2.9])
    flat = flat - flat.mean(0)
    basis, _ = torch.linalg.qr(features(40, 2, seed=1))
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    first = following_plane(flat @ basis.T)
    assert first is not None
    turned = following_plane(flat @ turn.T @ basis.T, first)
    assert turned is not None
    assert torch.allclose(first.axes, turned.axes, atol=1e-5)


def test_small_moves_move_points_little() -> None:
    """Drifting features: no step moves a point by more than a tenth of the cloud's reach."""
    seen, drift = features(16, 64), features(16, 64, seed=9)
    plane, places = None, None
    for _ in range(30):
        seen = seen + 0.02 * drift
        plane = following_plane(seen, plane)
        assert plane is not None
        now = plane.places(seen)
        if places is not None:
            assert (now - places).norm(dim=1).max() < 0.1 * now.abs().max()
        places = now


@pytest.mark.parametrize("seen", [features(1), features(2), features(1).repeat(8, 1), torch.zeros(5, 3)])
def test_without_a_plane_there_is_none(seen: torch.Tensor) -> None:
    assert following_plane(seen) is None
    before = following_plane(features(16, seen.shape[1]))
    if len(seen) == 1 or not seen.any():
        now = following_plane(seen, before)
        assert now is not None and math.isfinite(now.share)


def test_mean_distances() -> None:
    assert mean_distance(torch.tensor([[0.0, 0.0]])) == 0
    assert mean_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0]])) == 5
