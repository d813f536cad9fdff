import math

import pytest
import torch
from torch import Tensor

from engine.inference import density, kernels
from tests.engine.toys import numbers


def kernel_matrix(f: Tensor, h: float) -> Tensor:
    return kernels.log_kernel(f, f, torch.tensor(h).double()).exp()


def test_krr_weights_of_two_particles():
    """K = [[1, k], [k, 1]]: both alpha are 1 / (1 + k + eta)."""
    f, h, eta = torch.tensor([[0.0], [0.7]]).double(), 0.5, 0.2
    k = math.exp(-0.49 / 0.5)
    expected = torch.full((2,), 1 / (1 + k + eta)).double()
    torch.testing.assert_close(density.krr_weights(kernel_matrix(f, h), eta), expected)


@pytest.mark.parametrize("eta", [1e-6, 0.1, 3.0])
def test_krr_density_is_the_kde_density_squashed(eta: float):
    """Where all row sums of K equal one q_K, as on a regular heptagon, K alpha = q_K / (q_K + eta)."""
    angles = 2 * math.pi * torch.arange(7).double() / 7
    kernel = kernel_matrix(torch.stack([angles.cos(), angles.sin()], dim=1), h=0.9)
    kde = kernel.sum(1)
    krr = density.log_density(kernel.log(), density.krr_weights(kernel, eta)).exp()
    torch.testing.assert_close(krr, kde / (kde + eta))


def test_a_small_eta_makes_weights_negative():
    kernel = kernel_matrix(numbers(16, 2), h=2.0)
    assert (density.krr_weights(kernel, 0.05) < 0).any()


@pytest.mark.parametrize("seed", range(40))
def test_positive_eta_keeps_every_weight_positive(seed: int):
    """Random particles of every number, dimension, spread and clustering."""
    generator = torch.Generator().manual_seed(seed)
    n, dim = (
        int(torch.randint(2, 65, (), generator=generator)),
        int(torch.randint(1, 9, (), generator=generator)),
    )
    clusters = numbers(3, dim, seed=seed)[torch.randint(0, 3, (n,), generator=generator)]
    f = clusters + 10 ** (2 * torch.rand((), generator=generator).item() - 2) * numbers(n, dim, seed=seed + 1)
    h = 10 ** (4 * torch.rand((), generator=generator).item() - 2)
    kernel = kernel_matrix(f, h)
    alpha = density.krr_weights(kernel, density.positive_eta(kernel))
    assert (alpha >= -1e-9).all()  # rounding of a system with condition number below n * 1e3 / SMALLEST_ETA
    assert (density.weights(kernel, "krr", "positive") >= 0).all()


@pytest.mark.parametrize("seed", range(10))
def test_positive_eta_holds_for_unequal_diagonals_too(seed: int):
    """A kernel averaged over noise has K_ii < 1 and is not symmetric."""
    kernel = torch.rand(9, 9, generator=torch.Generator().manual_seed(seed)).double()
    assert (density.krr_weights(kernel, density.positive_eta(kernel)) >= -1e-12).all()


def test_positive_eta_is_the_documented_rule_for_a_unit_diagonal():
    kernel = kernel_matrix(numbers(10, 2), h=5.0)
    assert density.positive_eta(kernel).item() == pytest.approx((kernel.sum(1) - 1).max().item() - 1)
    assert density.positive_eta(torch.eye(4).double()) == density.SMALLEST_ETA


@pytest.mark.parametrize("sign", [1.0, -0.05])
def test_log_density_is_the_logarithm_of_the_sum(sign: float):
    kernel, alpha = kernel_matrix(numbers(6, 3), h=4.0), torch.linspace(0.5, 2, 6).double()
    alpha[2] *= sign
    torch.testing.assert_close(density.log_density(kernel.log(), alpha), (kernel @ alpha).log())


def test_log_density_gradient_with_weights_of_both_signs():
    f, anchors, h = numbers(3, 4).requires_grad_(), numbers(5, 4, seed=1), torch.tensor(6.0).double()
    alpha = torch.tensor([1.0, 2.0, 0.0, 0.7, -0.1]).double()
    assert torch.autograd.gradcheck(lambda f: density.log_density(kernels.log_kernel(f, anchors, h), alpha), f)


def test_log_density_does_not_underflow():
    """At |f - a|^2 / h = 1e6 every kernel is 0 in float64; value and gradient are the nearest anchor's."""
    f = torch.tensor([[1000.0]]).double().requires_grad_()
    anchors, h = torch.tensor([[0.0], [-1.0]]).double(), torch.tensor(1.0).double()
    value = density.log_density(kernels.log_kernel(f, anchors, h), torch.tensor([2.0, 2.0]).double())
    assert value.item() == pytest.approx(math.log(2) - 1e6)
    assert torch.autograd.grad(value.sum(), f)[0].item() == pytest.approx(-2000)


def test_a_sum_that_is_not_positive_gives_a_finite_value_and_no_gradient():
    f = torch.zeros(1, 1).double().requires_grad_()
    log_kernel = kernels.log_kernel(f, torch.tensor([[0.1], [1.0]]).double(), torch.tensor(1.0).double())
    value = density.log_density(log_kernel, torch.tensor([-1.0, 0.2]).double())
    assert value.isfinite().all()
    assert torch.autograd.grad(value.sum(), f)[0].item() == 0


def test_two_particles_repel_each_other_as_calculated():
    """KDE: A_1 = log(1 + k), grad A_1 = -(2 / h) (f_1 - f_2) k / (1 + k): -grad A_1 points away from f_2."""
    f, h = torch.tensor([[0.0, 0.0], [0.6, 0.3]]).double(), torch.tensor(0.5).double()
    moving = f.clone().requires_grad_()
    value = density.log_density(kernels.log_kernel(moving, f, h), torch.ones(2).double())
    (gradient,) = torch.autograd.grad(value.sum(), moving)
    k = math.exp(-0.45 / 0.5)
    torch.testing.assert_close(gradient[0], -(2 / 0.5) * (f[0] - f[1]) * k / (1 + k))
    torch.testing.assert_close(gradient[1], -gradient[0])


def test_stein_score_of_two_particles():
    """<grad, K> = (2 / h) k (d, -d), d = f_1 - f_2, for which K + eta I has the eigenvalue 1 - k + eta."""
    f, h, eta = torch.tensor([[0.0, 0.0], [0.6, 0.3]]).double(), 0.5, 0.1
    k = math.exp(-0.45 / 0.5)
    expected = -(2 / h) * k * (f[0] - f[1]) / (1 - k + eta)
    score = density.stein_score(f, kernel_matrix(f, h), torch.tensor(h).double(), eta)
    torch.testing.assert_close(score, torch.stack([expected, -expected]))


def test_stein_score_of_a_gaussian_approaches_the_true_score():
    """grad log N(0, I) = -x. With a wide kernel the error falls with the number of samples."""

    def relative_error(n: int) -> float:
        x = numbers(n, 2, seed=5)
        score = density.stein_score(x, kernel_matrix(x, 32.0), torch.tensor(32.0).double(), 0.1)
        return ((score + x).norm() / x.norm()).item()

    few, many = relative_error(40), relative_error(600)
    assert many < 0.5 * few
    assert many < 0.2  # of the score's norm; 600 samples leave this estimator .16, mostly in the tails


def test_stein_score_is_permutation_equivariant():
    f, order = numbers(7, 3), torch.tensor([3, 1, 5, 0, 6, 2, 4])
    h = torch.tensor(2.0).double()
    score = density.stein_score(f, kernel_matrix(f, 2.0), h, 0.1)
    torch.testing.assert_close(density.stein_score(f[order], kernel_matrix(f[order], 2.0), h, 0.1), score[order])
