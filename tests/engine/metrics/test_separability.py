"""P-IDS and U-IDS on sets whose values are known, and the support vector machine against scikit-learn's."""

import numpy as np
import pytest
import torch

from engine.metrics.separability import decisions, fitted_plane, separability


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_plane_of_two_points_is_the_closed_form() -> None:
    """Of x = 1 (real) and x = -1 (made) both are active, the bias is 0: w = 4 C (1 - w), so w = 4 C / (1 + 4 C)."""
    for strength in (0.1, 1.0, 30.0):
        plane = fitted_plane(torch.tensor([[1.0]]), torch.tensor([[-1.0]]), strength=strength)
        expected = torch.tensor([4 * strength / (1 + 4 * strength), 0.0], dtype=torch.float64)
        torch.testing.assert_close(plane, expected)


@pytest.mark.parametrize("strength", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("dim", [4, 60])  # with 60 the sets can be told apart
def test_the_plane_is_where_the_gradient_vanishes_and_no_step_leads_lower(strength: float, dim: int) -> None:
    real, made = normal(1, 40, dim), normal(2, 40, dim) + 0.3
    plane = fitted_plane(real, made, strength=strength).requires_grad_()

    def loss(weights: torch.Tensor) -> torch.Tensor:
        margins = torch.cat([1 - decisions(real, weights), 1 + decisions(made, weights)])
        return weights.square().sum() / 2 + strength * margins.clamp_min(0).square().sum()

    (gradient,) = torch.autograd.grad(loss(plane), plane)
    assert gradient.norm() < 1e-7 * (1 + strength)
    with torch.no_grad():
        assert all(loss(plane + 0.01 * normal(seed, dim + 1)) > loss(plane) for seed in range(20))


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
def test_the_machine_is_scikit_learns(strength: float) -> None:
    """LinearSVC in the primal, whose bias is regularised, too; its tolerance is what the results may differ by."""
    svm = pytest.importorskip("sklearn.svm")
    real, made = normal(3, 300, 8), 0.7 * normal(4, 300, 8) + 0.4
    machine = svm.LinearSVC(dual=False, C=strength, tol=1e-10, max_iter=100_000)
    machine.fit(torch.cat([real, made]).numpy(), np.repeat([1, 0], 300))
    theirs = np.append(machine.coef_[0], machine.intercept_)
    np.testing.assert_allclose(fitted_plane(real, made, strength=strength).numpy(), theirs, rtol=1e-4, atol=1e-6)
    of_real, of_made = (machine.decision_function(one.numpy()) for one in (real, made))
    found = separability(real, made, strength=strength)
    assert found.paired == pytest.approx((of_made > of_real).mean())
    assert found.unpaired == pytest.approx(((of_real < 0).mean() + (of_made > 0).mean()) / 2)


def test_sets_far_apart_fool_nobody_and_equal_ones_everybody() -> None:
    """Of one distribution, judged by machines that saw other pairs: every second one, but for the errors of 2,000."""
    far = separability(normal(5, 50, 3), normal(6, 50, 3) + 20, folds=5)
    assert max(far) == 0
    same = separability(normal(7, 2000, 3), normal(8, 2000, 3), folds=5)
    assert same == pytest.approx((0.5, 0.5), abs=4 * 0.5 / 2000**0.5)


def test_few_pictures_seem_told_apart_by_the_machine_that_saw_them() -> None:
    real, made = normal(9, 20, 40), normal(10, 20, 40)
    assert max(separability(real, made, strength=1e3)) == 0
    assert separability(real, made, strength=1e3, folds=4).unpaired > 0.2


def test_it_is_the_same_again_and_whatever_the_order_of_the_pairs() -> None:
    real, made = normal(11, 60, 5), normal(12, 60, 5) + 0.2
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    assert separability(real, made) == separability(real, made) == separability(real[order], made[order])


def test_what_makes_no_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="expected pairs of rows"):
        separability(torch.zeros(3, 2), torch.zeros(4, 2))
    for folds in (0, 4):
        with pytest.raises(ValueError, match="expected 1 to 3 folds"):
            separability(torch.zeros(3, 2), torch.zeros(3, 2), folds=folds)
