"""The Gaussian kernel k(a, b) = exp(-|a - b|^2 / h), its bandwidths, and its mollified version.

All functions are pure. N particles, M anchors, D features.
"""

import math

import torch
from torch import Tensor

SMALLEST_BANDWIDTH = 1e-12  # identical particles have no spread; any positive h then gives k = 1
WIDE = 16.0  # median squared distances: Stein's estimator errs least where all particles are near (docs/method.md)


def kernel_precision(tensor: Tensor) -> Tensor:
    """`tensor` in the precision of the kernel algebra: float64.

    At n <= 64 this costs microseconds, and |a - b|^2 = |a|^2 + |b|^2 - 2ab keeps its digits. Apple's MPS has
    no float64.
    """
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2 for a: [N, D], b: [M, D] -> [N, M], never negative."""
    squares = a.square().sum(1)[:, None] + b.square().sum(1)[None, :] - 2 * a @ b.T
    return squares.clamp_min(0)


def nearest_bandwidth(squares: Tensor, k: int = 3) -> Tensor:
    """Median over i of the squared distance to the k-th nearest other particle, k = min(3, n - 1).

    The kernel then always sees about k neighbours, whatever the features' scale. squares: [N, N] -> [].
    """
    n = len(squares)
    if n < 2:
        return squares.new_ones(())
    nearest = squares.kthvalue(min(k, n - 1) + 1, dim=1).values  # the first is the particle itself
    return nearest.quantile(0.5).clamp_min(SMALLEST_BANDWIDTH)


def median_bandwidth(squares: Tensor) -> Tensor:
    """Median over pairs of the squared distance / log n (Liu & Wang 2016, SVGD). squares: [N, N] -> [].

    For two particles / log 3: log 2 would narrow the kernel of a pair beyond that of any other number. Of an even
    number of pairs the lower middle one counts.
    """
    n = len(squares)
    if n < 2:
        return squares.new_ones(())
    pairs = squares[*torch.triu_indices(n, n, offset=1, device=squares.device)]
    return (pairs.median() / math.log(max(n, 3))).clamp_min(SMALLEST_BANDWIDTH)


def wide_bandwidth(squares: Tensor) -> Tensor:
    """WIDE times the median over pairs of the squared distance: every particle sees all. squares: [N, N] -> []."""
    n = len(squares)
    return WIDE * math.log(max(n, 3)) * median_bandwidth(squares)


def choose_bandwidth(squares: Tensor, rule: str | float) -> Tensor:
    """h by the rule "nearest", "median" or "wide", or the number itself. squares: [N, N] -> []."""
    rules = {"nearest": nearest_bandwidth, "median": median_bandwidth, "wide": wide_bandwidth}
    return rules[rule](squares) if isinstance(rule, str) else squares.new_tensor(float(rule))


def mollified_bandwidth(h: Tensor, s: float) -> Tensor:
    """h of the kernel convolved with a Gaussian of standard deviation s * sqrt(h) in feature space (Eq. 3).

    exp(-|D|^2 / h) is a Gaussian of variance h / 2; convolving adds variances: h / 2 + s^2 h. The constant
    prefactor (1 + 2 s^2)^(-D / 2) is dropped: it would make eta meaningless. s counts in sqrt(h), so h = 1
    gives Eq. 3's sigma.
    """
    return h * (1 + 2 * s * s)


def log_kernel(f: Tensor, anchors: Tensor, h: Tensor) -> Tensor:
    """log k(f_i, a_j) = -|f_i - a_j|^2 / h for f: [N, D], anchors: [M, D] -> [N, M]."""
    return -squared_distances(f, anchors) / h


def sampled_log_kernel(f: Tensor, anchors: Tensor, h: Tensor) -> Tensor:
    """log of the kernel averaged over S noisy versions of each anchor (Eq. 3 by Monte Carlo).

    f: [N, D], anchors: [M, S, D] -> [N, M].
    """
    m, samples, _ = anchors.shape
    logs = log_kernel(f, anchors.flatten(0, 1), h).unflatten(1, (m, samples))
    return logs.logsumexp(dim=2) - math.log(samples)
