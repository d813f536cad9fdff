"""Latent reweighting: an importance w(z) of latents, learnt against a critic (Issenhuth et al. 2022).

The generator stays as it is. w is trained to give weight to latents whose pictures the critic takes for real, the
critic to tell the weighted pictures from real ones; then latents are accepted with w(z) / m, moved up w, or both.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.latents.spaces import seeded
from engine.samplers.transport import Function, tangential


@dataclass(frozen=True)
class Reweighting:
    """lambda_1, lambda_2 and m of Eq. 6: how hard the mean weight is held at 1, weights below m; m bounds w."""

    mean_weight: float = 10.0
    bound_weight: float = 3.0
    bound: float = 3.0


class Importance(nn.Module):
    """z [N, Z] -> w(z) >= 0, [N]: an MLP with ReLU, as in the paper; at first all weights are near 1."""

    def __init__(self, z_dim: int, width: int = 400, depth: int = 4) -> None:
        super().__init__()
        sizes = [z_dim, *[width] * (depth - 1)]
        layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in zip(sizes, sizes[1:], strict=False)]
        self.layers, self.last = nn.Sequential(*layers), nn.Linear(sizes[-1], 1)
        nn.init.zeros_(self.last.weight)
        nn.init.ones_(self.last.bias)

    def forward(self, z: Tensor) -> Tensor:
        return self.last(self.layers(z))[:, 0].relu()


def importance_loss(weights: Tensor, values: Tensor, settings: Reweighting) -> Tensor:
    """What the importance network descends: minus Eq. 6, for w(z) [N] and the critic's values D(g(z)) [N].

    -E[w (D - min D)] + lambda_1 (E w - 1)^2 + lambda_2 E max(0, w - m)^2. The printed algorithm has the first sign
    the other way round, which would give weight to what looks false.
    """
    gain = (weights * (values - values.min())).mean()
    held = settings.mean_weight * (weights.mean() - 1).square()
    bounded = settings.bound_weight * (weights - settings.bound).clamp_min(0).square().mean()
    return held + bounded - gain


def critic_loss(real: Tensor, generated: Tensor, weights: Tensor) -> Tensor:
    """The Wasserstein critic's loss on real values [M] and on generated ones [N], weighted by w(z) (Eq. 5)."""
    return (weights * generated).mean() - real.mean()


def latent_rs(
    importance: Function, draw: Callable[[int], Tensor], count: int, *, generator: torch.Generator,
    bound: float = 3.0, most_rounds: int = 1000,
) -> Tensor:  # fmt: skip
    """latentRS: `count` latents of those that `draw(n)` gives, each accepted with w(z) / m (Algorithm 2).

    Raises ValueError where so few are accepted that `most_rounds` of them do not give enough.
    """
    found: list[Tensor] = []
    for _ in range(most_rounds):
        z = draw(count)
        with torch.no_grad():
            chance = importance(z) / bound
        found.append(z[torch.rand(len(z), generator=generator).to(chance) < chance])
        if sum(map(len, found)) >= count:
            return torch.cat(found)[:count]
    raise ValueError(f"{sum(map(len, found))} of {most_rounds * count} latents were accepted: their weights are near 0")


def latent_ga(importance: Function, z: Tensor, *, steps: int = 10, rate: float = 0.05) -> Iterator[Tensor]:
    """latentGA: ascent on w without the part of the gradient along z, that latents keep their length (Algorithm 3).

    After latentRS it is latentRS+GA.
    """
    yield z
    for _ in range(steps):
        moving = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(importance(moving).sum(), moving)
        z = z + rate * tangential(gradient, z)
        yield z


def train_importance(
    g: Function, critic: nn.Module, real: Tensor, z_dim: int, *, steps: int = 2000, batch: int = 128,
    settings: Reweighting | None = None, gradient_penalty: float = 10.0, width: int = 400,
) -> Importance:  # fmt: skip
    """w against a Wasserstein critic with gradient penalty, which it trains too, one step each in turn.

    real: [M, ...], the data. Rates 1e-4 and 4e-4, Adam (.5, .5), as in the paper.
    """
    settings, draws = settings or Reweighting(), seeded("importance")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draws.initial_seed())
        importance = Importance(z_dim, width).to(real.device)
    ascent = torch.optim.Adam(importance.parameters(), lr=1e-4, betas=(0.5, 0.5))
    judging = torch.optim.Adam(critic.parameters(), lr=4e-4, betas=(0.5, 0.5))
    for _ in range(steps):
        z = torch.randn(batch, z_dim, generator=draws).to(real)
        some = real[torch.randint(len(real), (batch,), generator=draws)]
        with torch.no_grad():
            made, weights = g(z), importance(z)
        loss = critic_loss(critic(some), critic(made), weights)
        loss = loss + gradient_penalty * slope_penalty(critic, some, made, draws)
        judging.zero_grad(set_to_none=True)
        loss.backward()
        judging.step()
        with torch.no_grad():
            values = critic(made)
        loss = importance_loss(importance(z), values, settings)
        ascent.zero_grad(set_to_none=True)
        loss.backward()
        ascent.step()
    return importance.eval().requires_grad_(False)


def slope_penalty(critic: Function, real: Tensor, made: Tensor, draws: torch.Generator) -> Tensor:
    """Mean (|grad D| - 1)^2 between pairs of real and generated samples [N, ...] (Gulrajani et al. 2017, Eq. 3)."""
    share = torch.rand(len(real), *[1] * (real.dim() - 1), generator=draws).to(real)
    between = torch.lerp(real, made, share).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
