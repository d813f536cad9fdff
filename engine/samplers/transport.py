"""Gradient flows in the latents by the discriminator: DOT, DDLS, DGflow."""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.inference.terms import TRANSPORT_SHIFT

Function = Callable[[Tensor], Tensor]
Ratio = Literal["kl", "js", "log_d"]

PAIRS = 100  # by which the discriminator's Lipschitz constant is found


def lipschitz(g: Function, d: Function, latents: Tensor) -> float:
    """k_eff of Tanaka 2019, Eq. 14: the greatest |D(g(a)) - D(g(b))| / |a - b| of pairs of latents [N, Z].

    In the latents' space, as the transport there needs it. Raises ValueError for fewer than two latents.
    """
    if len(latents) < 2:
        raise ValueError("expected at least 2 latents")
    with torch.no_grad():
        values = d(g(latents))
        far = torch.pdist(latents[: 2 * PAIRS])
        apart = torch.pdist(values[: 2 * PAIRS, None])
    return float((apart / far.clamp_min(torch.finfo(far.dtype).tiny)).max())


def dot(
    g: Function, d: Function, z: Tensor, *, steps: int = 10, rate: float = 0.01, k_eff: float | None = None,
    on_sphere: bool = False, start: Tensor | None = None,
) -> Iterator[Tensor]:  # fmt: skip
    """Discriminator optimal transport (Tanaka 2019, Algorithm 2): descent on |z - z_0| - D(g(z)) / k_eff.

    k_eff: by default that of these latents. on_sphere: without the part of the gradient along z, for priors whose
    latents have nearly one length. start: z_0, of a transport that goes on; by default z itself.
    """
    start, scale = z.clone() if start is None else start, k_eff if k_eff is not None else lipschitz(g, d, z)
    yield z
    for _ in range(steps):
        moving = z.detach().requires_grad_()
        cost = (moving - start + TRANSPORT_SHIFT).norm(dim=1) - d(g(moving)) / scale
        (gradient,) = torch.autograd.grad(cost.sum(), moving)
        z = z - rate * (tangential(gradient, z) if on_sphere else gradient)
        yield z


def ddls(
    g: Function, d: Function, z: Tensor, *, steps: int = 100, step_size: float = 0.01, generator: torch.Generator,
) -> Iterator[Tensor]:  # fmt: skip
    """Discriminator driven latent sampling (Che et al. 2020, Algorithm 1): Langevin dynamics on the energy
    E(z) = |z|^2 / 2 - D(g(z)), whose density is the prior's times the discriminator's ratio."""
    yield z
    for _ in range(steps):
        gradient = _gradient(lambda latents: d(g(latents)) - latents.square().sum(1) / 2, z)
        noise = torch.randn(z.shape, generator=generator, dtype=z.dtype)
        z = z + step_size / 2 * gradient + step_size**0.5 * noise.to(z.device)
        yield z


def dgflow(
    g: Function, d: Function, z: Tensor, *, ratio: Ratio = "kl", steps: int = 25, step_size: float = 0.1,
    noise: float = 0.01, generator: torch.Generator | None = None,
) -> Iterator[Tensor]:  # fmt: skip
    """Discriminator gradient flow (Ansari et al. 2021, Algorithm 1): z <- z - eta grad f'(r) + sqrt(2 eta gamma) xi.

    r = exp(-D(g(z))) is the density ratio q / p, and f the divergence's function: then grad f'(r) is -w grad D with
    w = 1 for KL, r log r; sigmoid(D) for Jensen-Shannon, r log r - (r + 1) log((r + 1) / 2); sigmoid(-D) for log D,
    (r + 1) log(r + 1) - 2 log 2. noise: gamma; 0 is the deterministic flow. Raises ValueError for noise without a
    generator.
    """
    if noise > 0 and generator is None:
        raise ValueError("noise needs a generator")
    yield z
    for _ in range(steps):
        moving = z.detach().requires_grad_()
        logits = d(g(moving))
        (gradient,) = torch.autograd.grad(logits.sum(), moving)
        z = z + step_size * flow_weight(logits.detach(), ratio)[:, None] * gradient
        if noise > 0:
            drawn = torch.randn(z.shape, generator=generator, dtype=z.dtype)
            z = z + (2 * step_size * noise) ** 0.5 * drawn.to(z.device)
        yield z


def flow_weight(logits: Tensor, ratio: Ratio) -> Tensor:
    """By how much the divergence's flow follows the gradient of the logits [N]: r f''(r) at r = exp(-logits)."""
    if ratio == "kl":
        return torch.ones_like(logits)
    return F.sigmoid(logits if ratio == "js" else -logits)


def tangential(gradient: Tensor, z: Tensor) -> Tensor:
    """The part of gradients [N, Z] along the sphere on which z [N, Z] lies: without <gradient, z> z / |z|^2."""
    along = (gradient * z).sum(1, keepdim=True) / z.square().sum(1, keepdim=True)
    return gradient - along * z


def _gradient(value: Function, z: Tensor) -> Tensor:
    moving = z.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(value(moving).sum(), moving)
    return gradient
