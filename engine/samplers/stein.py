"""Stein variational gradient descent (Liu & Wang 2016)."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from engine.inference.density import adagrad, smoothed_score


def svgd(
    log_density: Callable[[Tensor], Tensor], z: Tensor, *, steps: int = 100, step_size: float = 0.1
) -> Iterator[Tensor]:
    """z_i <- z_i + eps / N sum_j [k(z_j, z_i) grad log p(z_j) + grad_{z_j} k(z_j, z_i)] (Algorithm 1).

    log_density: z [N, Z] -> [N], up to a constant. k is the Gaussian kernel with the median bandwidth; steps follow
    Adagrad, as in the paper's code: each coordinate's step size is divided by the root of its mean square so far.
    """
    squares = None
    yield z
    for _ in range(steps):
        z, squares = svgd_step(log_density, z, squares, step_size=step_size)
        yield z


def svgd_step(
    log_density: Callable[[Tensor], Tensor], z: Tensor, squares: Tensor | None, *, step_size: float = 0.1
) -> tuple[Tensor, Tensor]:
    """One step, and the mean squares [N, Z] that Adagrad carries to the next; None: the first step."""
    move, squares = adagrad(smoothed_score(z, score_of(log_density, z)), squares)
    return z + step_size * move, squares


def score_of(log_density: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """grad log p at latents [N, Z]."""
    moving = z.detach().requires_grad_()
    (score,) = torch.autograd.grad(log_density(moving).sum(), moving)
    return score
