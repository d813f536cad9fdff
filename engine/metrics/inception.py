"""The inception score: pictures are sure to be something, and not all the same thing (Salimans et al. 2016)."""

import math

import torch
from torch import Tensor


def inception_score(logits: Tensor, *, splits: int = 1) -> float:
    """exp of the mean KL divergence of p(y | x) from p(y), by a classifier's logits [N, K]: from 1 to K.

    With several splits, in the order of the rows, the mean over them: p(y) is then the split's own, and the score is
    lower the smaller they are. Raises ValueError where a split would be empty.
    """
    if not 1 <= splits <= len(logits):
        raise ValueError(f"expected 1 to {len(logits)} splits of {len(logits)} rows, got {splits}")
    n, scores = len(logits), []
    for i in range(splits):
        log_p = logits[i * n // splits : (i + 1) * n // splits].double().log_softmax(1)
        log_marginal = log_p.logsumexp(0) - math.log(len(log_p))
        scores.append((log_p.exp() * (log_p - log_marginal)).sum(1).mean().exp())
    return float(torch.stack(scores).mean())
