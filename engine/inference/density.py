"""Density estimates from particles: KDE, kernel ridge regression (Eq. 4 and 5), Stein.

All functions are pure. K_ij = k(f_i, f_j) is the kernel matrix of M anchors. Adding an estimator = one
function.
"""

import torch
from torch import Tensor

from engine.inference import kernels
from engine.settings import Estimator

SMALLEST_ETA = 1e-3
DENSE = 512  # anchors up to which systems are solved by elimination, which takes M^3 operations
TOLERANCE, MOST_ROUNDS = 1e-12, 200  # of the iteration above that: residual by right-hand side; each takes M^2


def weights(kernel: Tensor, estimator: Estimator, eta: str | float) -> Tensor:
    """alpha of q(f) = sum_j alpha_j k(f, f_j), [M]; for Stein, which has none, KDE's. kernel: [M, M]."""
    if estimator != "krr":
        return kde_weights(kernel)
    alpha = krr_weights(kernel, choose_eta(kernel, eta))
    return alpha.clamp_min(0) if eta == "positive" else alpha  # proven non-negative: this is rounding


def choose_eta(kernel: Tensor, eta: str | float) -> Tensor:
    """The ridge: a number, or by the rule "positive". -> []."""
    return positive_eta(kernel) if eta == "positive" else kernel.new_tensor(float(eta))


def kde_weights(kernel: Tensor) -> Tensor:
    """alpha = 1. kernel: [M, M] -> [M]."""
    return torch.ones_like(kernel[0])


def krr_weights(kernel: Tensor, eta: Tensor | float) -> Tensor:
    """alpha = (K + eta I)^-1 1, kernel ridge regression of the constant 1 (Eq. 4). kernel: [M, M] -> [M].

    Some alpha are negative unless eta is large enough, see `positive_eta`.
    """
    return solve(_add_to_diagonal(kernel, eta), torch.ones_like(kernel[0]))


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """x of matrix x = right for a symmetric, positive definite matrix [M, M] and right: [M].

    Above DENSE rows by conjugate gradients (Hestenes & Stiefel 1952): K + eta I with the eta of `positive_eta` has
    a condition number of about 2, and a dozen rounds reach the rounding errors of elimination. Where an eta that a
    person chose is too small for that, by elimination after all.
    """
    if len(matrix) > DENSE and (found := _conjugate_gradients(matrix, right)) is not None:
        return found
    return torch.linalg.solve(matrix, right)


def _conjugate_gradients(matrix: Tensor, right: Tensor) -> Tensor | None:
    """None where MOST_ROUNDS do not bring the residual below TOLERANCE."""
    x, residual = torch.zeros_like(right), right.clone()
    direction, square = residual.clone(), residual.square().sum()
    enough = max(TOLERANCE, 10 * torch.finfo(right.dtype).eps) ** 2 * square
    for _ in range(MOST_ROUNDS):
        if square <= enough:
            return x
        image = matrix @ direction
        length = square / (direction @ image)
        x = x + length * direction
        residual = residual - length * image
        square, before = residual.square().sum(), square
        direction = residual + (square / before) * direction
    return None


def positive_eta(kernel: Tensor) -> Tensor:
    """An eta >= 1e-3 with which no alpha is negative. kernel: [M, M], entries >= 0 -> [].

    Split K + eta I = B + R into its diagonal and the rest, and let P = B^-1 R. Then
    alpha = (I + P)^-1 B^-1 1 = (I - P^2)^-1 (I - P) B^-1 1. The inverse is a series of non-negative matrices,
    and (I - P) B^-1 1 >= 0 once every row sum of R is at most the smallest of B. With K_ii = 1 this reads
    eta >= max_i sum_{j != i} K_ij - 1.
    """
    diagonal = kernel.diagonal()
    return ((kernel.sum(1) - diagonal).amax() - diagonal.amin()).clamp_min(SMALLEST_ETA)


def log_density(log_kernel: Tensor, alpha: Tensor) -> Tensor:
    """log sum_j alpha_j k(f_i, a_j). log_kernel: [N, M], alpha: [M] -> [N].

    A log-sum-exp, as far kernels underflow; it carries signs, as a small fixed eta makes some alpha negative.
    Where the sum is not positive there is no logarithm: the value is then very small and the gradient zero.
    """
    exponents = alpha.abs().log() + log_kernel
    shift = exponents.detach().amax(dim=1, keepdim=True)
    total = (alpha.sign() * (exponents - shift).exp()).sum(1)
    return total.clamp_min(torch.finfo(total.dtype).tiny).log() + shift[:, 0]


def stein_score(f: Tensor, kernel: Tensor, h: Tensor, eta: Tensor | float, *, anchors: Tensor | None = None) -> Tensor:
    """grad log q at the particles: -(K + eta I)^-1 <grad, K> (Li & Turner 2018). f: [N, D] -> [N, D].

    <grad, K>_i = sum_j grad_{f_j} k(f_i, f_j) = (2 / h) sum_j K_ij (f_i - f_j) for the kernel matrix [N, N]. Of a
    kernel averaged over S noisy versions of each particle, anchors: [N, S, D], K and its gradient are both averages.
    """
    parts, centres = kernel, f
    if anchors is not None:
        centres = anchors.flatten(0, 1)
        parts = kernels.log_kernel(f, centres, h).exp() / anchors.shape[1]
    pushes = (2 / h) * (f * parts.sum(1, keepdim=True) - parts @ centres)
    return -torch.linalg.solve(_add_to_diagonal(kernel, eta), pushes)


def smoothed_score(z: Tensor, score: Tensor) -> Tensor:
    """1/N sum_j [k(z_j, z_i) score_j + grad_{z_j} k(z_j, z_i)], how SVGD moves particles (Liu & Wang 2016, Eq. 8).

    z: [N, Z]; score: [N, Z], of the density that is wanted; k: the Gaussian kernel with the median bandwidth.
    """
    h = kernels.median_bandwidth(kernels.squared_distances(z, z))
    kernel = kernels.log_kernel(z, z, h).exp()
    push = 2 / h * (z * kernel.sum(1, keepdim=True) - kernel @ z)
    return (kernel @ score + push) / len(z)


def adagrad(move: Tensor, squares: Tensor | None) -> tuple[Tensor, Tensor]:
    """The move with each coordinate divided by the root of its mean square so far, and these squares: [N, Z] each.

    As SVGD's authors do it, forgetting a tenth a step; squares: None at the first.
    """
    squares = move.square() if squares is None else 0.9 * squares + 0.1 * move.square()
    return move / (squares.sqrt() + 1e-6), squares


def _add_to_diagonal(kernel: Tensor, eta: Tensor | float) -> Tensor:
    return kernel + eta * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
