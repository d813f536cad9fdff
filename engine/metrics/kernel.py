"""Measures by kernels: how far apart two sets of pictures are, and how many different ones there are in one."""

import torch
from torch import Tensor


def kernel_distance(real: Tensor, generated: Tensor) -> float:
    """KID (Binkowski et al. 2018, Sec. 4): the unbiased squared MMD of features [N, D] and [M, D].

    The kernel is (<a, b> / D + 1)^3. It may be negative where the sets are alike, and its expectation, unlike the
    Fréchet distance's, does not depend on N. Raises ValueError for fewer than 2 rows.
    """
    if min(len(real), len(generated)) < 2:
        raise ValueError(f"expected at least 2 rows of features each, got {len(real)} and {len(generated)}")
    real, generated = real.cpu().double(), generated.cpu().double()
    within = _mean_of_pairs(_cubic(real, real)) + _mean_of_pairs(_cubic(generated, generated))
    return float(within - 2 * _cubic(real, generated).mean())


def vendi_score(features: Tensor) -> float:
    """How many different pictures there are among features [N, D]: 1 of N equal ones, N of N orthogonal ones.

    exp of the entropy of the eigenvalues of K / N, K_ij the cosine (Friedman & Dieng 2023, Eq. 2). Raises ValueError
    where there is no row.
    """
    if not len(features):
        raise ValueError("expected at least 1 row of features")
    unit = torch.nn.functional.normalize(features.cpu().double(), dim=1)
    smaller = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit  # the same eigenvalues but for zeros
    shares = torch.linalg.eigvalsh(smaller / len(unit)).clamp_min(0)
    return float(torch.special.entr(shares).sum().exp())


def _cubic(a: Tensor, b: Tensor) -> Tensor:
    """[N, D], [M, D] -> [N, M]."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def _mean_of_pairs(kernel: Tensor) -> Tensor:
    """Off the diagonal."""
    n = len(kernel)
    return (kernel.sum() - kernel.trace()) / (n * (n - 1))
