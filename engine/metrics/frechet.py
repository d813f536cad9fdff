"""The Fréchet distance between two sets of features, each taken as a Gaussian (Heusel et al. 2017, Eq. 6)."""

import torch
from torch import Tensor


def frechet_distance(real: Tensor, generated: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features [N, D] and [M, D].

    The trace of the root is the sum of the roots of C1 C2's eigenvalues, which are those of the symmetric
    C1^(1/2) C2 C1^(1/2): real and not negative but for rounding. float64. Raises ValueError for fewer than 2 rows.
    """
    if min(len(real), len(generated)) < 2:
        raise ValueError(f"expected at least 2 rows of features each, got {len(real)} and {len(generated)}")
    real, generated = real.double(), generated.double()
    first, second = real.T.cov(), generated.T.cov()
    values, vectors = torch.linalg.eigh(first.reshape(real.shape[1], -1))
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    product = torch.linalg.eigvalsh(root @ second.reshape(real.shape[1], -1) @ root)
    traces = values.sum() + second.reshape(real.shape[1], -1).trace() - 2 * product.clamp_min(0).sqrt().sum()
    return float((real.mean(0) - generated.mean(0)).square().sum() + traces)
