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


def ridge_distance(kernel: Tensor, eta: float) -> float:
    """|(eta I + K)^-1 - eta^-1 I|_F."""
    identity = torch.eye(len(kernel)).double()
    return (torch.linalg.inv(eta * identity + kernel) - identity / eta).norm().item()


@pytest.mark.parametrize("eta", [0.01, 0.5, 30.0])
@pytest.mark.parametrize("h", [0.1, 2.0, 1000.0])
@pytest.mark.parametrize("n", [2, 40])
def test_theorem_5_the_ridge_is_near_the_kernel_density(n: int, h: float, eta: float):
    """|(eta I + K)^-1 - eta^-1 I|_F <= |K|_F / eta^2: both sides' difference is -(eta I + K)^-1 K eta^-1, and the
    inverse of eta I plus a positive semi-definite K has no eigenvalue above 1 / eta. So alpha tends to 1 / eta, KDE's
    up to a factor. The bound is attained as eta grows."""
    kernel = kernel_matrix(numbers(n, 3), h)
    bound = kernel.norm().item() / eta**2
    assert ridge_distance(kernel, eta) <= bound * (1 + 1e-9)
    assert ridge_distance(kernel, 1e4 * n) == pytest.approx(kernel.norm().item() / (1e4 * n) ** 2, rel=1e-3)


def test_theorem_5_has_another_rate_than_printed():
    """O(n eta^-4) as printed fails in n: of n particles in one place K = 1 1^T, and the distance at eta = n is
    n / (eta (eta + n)) = 1 / (2 n), n^2 / 2 times n eta^-4. |K|_F / eta^2 = 1 / n holds for all n."""
    for n in (4, 32, 256):
        kernel = torch.ones(n, n).double()
        assert ridge_distance(kernel, n) == pytest.approx(1 / (2 * n))
        assert ridge_distance(kernel, n) / (n * n**-4.0) == pytest.approx(n**2 / 2)
        assert kernel.norm().item() / n**2 == pytest.approx(1 / n)


@pytest.mark.parametrize("eta", [1e-6, 0.1, 3.0])
def test_krr_density_is_the_kde_density_squashed(eta: float):
    """Where all row sums of K equal one q_K, as on a regular heptagon, K alpha = q_K / (q_K + eta)."""
    angles = 2 * math.pi * torch.arange(7).double() / 7
    kernel = kernel_matrix(torch.stack([angles.cos(), angles.sin()], dim=1), h=0.9)
    kde = kernel.sum(1)
    krr = density.log_density(kernel.log(), density.krr_weights(kernel, eta)).exp()
    torch.testing.assert_close(krr, kde / (kde + eta))


def test_weights_by_name():
    """KDE's are 1, also for Stein, who has none; a ridge with a number for eta may be negative and stays so."""
    kernel = kernel_matrix(numbers(16, 2), h=2.0)
    for estimator in ("kde", "stein"):
        assert torch.equal(density.weights(kernel, estimator, 0.05), torch.ones(16).double())
    assert torch.equal(density.weights(kernel, "krr", 0.05), density.krr_weights(kernel, 0.05))


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


def test_stein_score_of_an_averaged_kernel():
    """K_ij = mean_s k(f_i, a_js) and <grad, K>_i = sum_j mean_s (2 / h) k(f_i, a_js) (f_i - a_js), written out."""
    f, h, eta = numbers(5, 2), 0.8, 0.3
    anchors = f[:, None] + 0.4 * numbers(5, 3, 2, seed=1)
    kernel, pushes = torch.zeros(5, 5).double(), torch.zeros(5, 2).double()
    for i in range(5):
        for j in range(5):
            for a in anchors[j]:
                k = math.exp(-(f[i] - a).square().sum().item() / h)
                kernel[i, j] += k / 3
                pushes[i] += 2 / h * k / 3 * (f[i] - a)
    expected = -torch.linalg.inv(kernel + eta * torch.eye(5)) @ pushes
    score = density.stein_score(f, kernel, torch.tensor(h).double(), eta, anchors=anchors)
    torch.testing.assert_close(score, expected)


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


@pytest.mark.parametrize("eta", ["positive", 1e-6])
def test_many_anchors_are_solved_for_as_few_are(eta: str | float, monkeypatch: pytest.MonkeyPatch):
    """By conjugate gradients, or where a tiny eta makes those slow, by elimination after all: alpha to 1e-6."""
    f = numbers(300, 16)
    kernel = kernel_matrix(f, float(kernels.nearest_bandwidth(kernels.squared_distances(f, f))))
    if eta != "positive":
        kernel = kernel_matrix(f, 500.0)  # nearly flat: as ill-conditioned as eta allows
    expected = density.weights(kernel, "krr", eta)
    monkeypatch.setattr(density, "DENSE", 100)
    torch.testing.assert_close(density.weights(kernel, "krr", eta), expected, rtol=1e-6, atol=1e-6)


def test_conjugate_gradients_give_up_where_they_do_not_converge():
    f = numbers(300, 16)
    kernel = kernel_matrix(f, 500.0)
    assert density._conjugate_gradients(density._add_to_diagonal(kernel, 1e-9), torch.ones_like(kernel[0])) is None
    easy = density._add_to_diagonal(kernel, density.positive_eta(kernel))
    found = density._conjugate_gradients(easy, torch.ones_like(kernel[0]))
    assert found is not None
    torch.testing.assert_close(easy @ found, torch.ones_like(found))
