"""What adversarial trainings descend: objectives of a discriminator and a generator, penalties, and aids of others.

An objective is two losses of the discriminator's logits D(x), real [N] and made [M]. `saned` makes a slicing
adversarial one of any. Penalties and what changes a discriminator's input or layers go with any of them; two learning
rates and exponential averages (`training.jobs.Average`) need nothing from here. Slopes of WGAN-GP are held by
`engine.samplers.reweighting.slope_penalty`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from engine.inference.kernels import log_kernel


class Objective(NamedTuple):
    """discriminator: of real and made logits; generator: of made ones. Both -> []."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def _cross_entropy(real: Tensor, made: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(made).mean()


def _wasserstein(real: Tensor, made: Tensor) -> Tensor:
    return made.mean() - real.mean()


def _hinge(real: Tensor, made: Tensor) -> Tensor:
    return F.relu(1 - real).mean() + F.relu(1 + made).mean()


def _least_squares(real: Tensor, made: Tensor) -> Tensor:
    return ((real - 1).square().mean() + made.square().mean()) / 2


def _minus_mean(made: Tensor) -> Tensor:
    return -made.mean()


# Goodfellow et al. 2014, Eq. 1, as it is and with the generator's other loss (Sec. 3): whose gradient does not vanish
# where the discriminator is sure.
SATURATING = Objective(_cross_entropy, lambda made: -F.softplus(made).mean())
NON_SATURATING = Objective(_cross_entropy, lambda made: F.softplus(-made).mean())
LEAST_SQUARES = Objective(_least_squares, lambda made: (made - 1).square().mean() / 2)  # Mao et al. 2017, Eq. 9
WASSERSTEIN = Objective(_wasserstein, _minus_mean)  # Arjovsky et al. 2017; with `clip_weights` or a slope penalty
HINGE = Objective(_hinge, _minus_mean)  # Lim & Ye 2017; Miyato et al. 2018, Eq. 16-17
OBJECTIVES = {
    "saturating": SATURATING,
    "non-saturating": NON_SATURATING,
    "least squares": LEAST_SQUARES,
    "wasserstein": WASSERSTEIN,
    "hinge": HINGE,
}


def smoothed(share: float = 0.1) -> Objective:
    """NON_SATURATING with one-sided label smoothing: real samples' label is 1 - share (Salimans et al. 2016, Sec. 3.4).

    The best discriminator is then (1 - share) p / (p + q).
    """

    def discriminator(real: Tensor, made: Tensor) -> Tensor:
        return _cross_entropy(real, made) + share * real.mean()

    return Objective(discriminator, NON_SATURATING.generator)


# ---- slicing adversarial networks ------------------------------------------------------------------------


class SlicingHead(nn.Module):
    """h(x) [N, D] -> <w, h(x)> [N] with a direction w of length 1 (Takida et al. 2024, Sec. 5)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(features), dim=0))

    def forward(self, features: Tensor) -> Tensor:
        return features @ F.normalize(self.weight, dim=0)

    def apart(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The same logits twice: of a fixed direction, and of fixed features."""
        direction = F.normalize(self.weight, dim=0)
        return features @ direction.detach(), features.detach() @ direction


def saned(objective: Objective, head: SlicingHead) -> Callable[[Tensor, Tensor], Tensor]:
    """The discriminator's loss of features [N, D] and [M, D] (Eq. 19): the objective's own for the features, and the
    Wasserstein loss for the direction, which then points from the made ones' mean to the real ones'."""

    def loss(real: Tensor, made: Tensor) -> Tensor:
        (real_by_features, real_by_direction), (made_by_features, made_by_direction) = map(head.apart, (real, made))
        return objective.discriminator(real_by_features, made_by_features) + _wasserstein(
            real_by_direction, made_by_direction
        )

    return loss


# ---- maximum mean discrepancy ----------------------------------------------------------------------------


def mmd(real: Tensor, made: Tensor, h: float = 2.0) -> Tensor:
    """The unbiased squared MMD of features [N, D] and [M, D] with the kernel exp(-|a - b|^2 / h): the generator's loss
    of an MMD-GAN (Li et al. 2017)."""
    across = log_kernel(real, made, torch.tensor(h)).exp().mean()
    return _mean_of_pairs(real, h) + _mean_of_pairs(made, h) - 2 * across


def repulsive_mmd(real: Tensor, made: Tensor, h: float = 2.0) -> Tensor:
    """The discriminator's loss of a repulsive MMD-GAN (Wang et al. 2019, Eq. 8): real features come apart, made ones
    together."""
    return _mean_of_pairs(real, h) - _mean_of_pairs(made, h)


def _mean_of_pairs(features: Tensor, h: float) -> Tensor:
    kernel, n = log_kernel(features, features, torch.tensor(h)).exp(), len(features)
    return (kernel.sum() - kernel.trace()) / (n * (n - 1))


# ---- penalties and bounds --------------------------------------------------------------------------------


def r1_penalty(logits: Callable[[Tensor], Tensor], real: Tensor, gamma: float) -> Tensor:
    """gamma / 2 |grad D|^2 on real samples [N, ...] (Mescheder et al. 2018, Eq. 9)."""
    real = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(logits(real).sum(), real, create_graph=True)
    return gamma / 2 * gradient.flatten(1).square().sum(1).mean()


def matching_penalty(
    logits: Callable[[Tensor, Tensor], Tensor],
    real: Tensor,
    sentences: Tensor,
    *,
    weight: float = 2.0,
    power: float = 6.0,
) -> Tensor:
    """MA-GP: weight * mean (|dD/dx| + |dD/ds|)^power at real samples x [N, ...] that fit their sentences s [N, C]
    (Tao et al. 2022, Eq. 1, with their k = 2 and p = 6), with the length of both slopes together, as their code has."""
    real, sentences = real.detach().requires_grad_(True), sentences.detach().requires_grad_(True)
    slopes = torch.autograd.grad(logits(real, sentences).sum(), (real, sentences), create_graph=True)
    square = torch.stack([slope.flatten(1).float().square().sum(1) for slope in slopes]).sum(0)
    return weight * square.pow(power / 2).mean()


@torch.no_grad()
def clip_weights(network: nn.Module, limit: float = 0.01) -> None:
    """Every weight to [-limit, limit], after a step (Arjovsky et al. 2017, Algorithm 1)."""
    for weight in network.parameters():
        weight.clamp_(-limit, limit)


def feature_matching(real: Tensor, made: Tensor) -> Tensor:
    """|E f(real) - E f(made)|^2 of a discriminator's features [N, D] and [M, D]: another loss of the generator
    (Salimans et al. 2016, Sec. 3.1)."""
    return (real.mean(0) - made.mean(0)).square().sum()


class HistoricalAverage:
    """|theta - mean of its past values|^2, added to a player's loss (Salimans et al. 2016, Sec. 3.3)."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._weights, self._count = list(weights), 0
        self._means = [torch.zeros_like(weight) for weight in self._weights]

    def penalty(self) -> Tensor:
        """0 before the first `update`."""
        if not self._count:
            return self._weights[0].new_zeros(())
        return torch.stack(
            [(w - mean).square().sum() for w, mean in zip(self._weights, self._means, strict=True)]
        ).sum()

    def update(self) -> None:
        """Count the weights as they are now."""
        self._count += 1
        for mean, weight in zip(self._means, self._weights, strict=True):
            mean.lerp_(weight.detach(), 1 / self._count)


# ---- what a discriminator sees ---------------------------------------------------------------------------


def packed(samples: Tensor, count: int) -> Tensor:
    """PacGAN (Lin et al. 2018): each `count` of samples [N, C, ...] side by side as one, [N / count, count C, ...].

    Raises ValueError where N is no multiple.
    """
    if len(samples) % count:
        raise ValueError(f"{len(samples)} samples do not make packs of {count}")
    return samples.unflatten(0, (-1, count)).flatten(1, 2)


def noised(samples: Tensor, done: float, deviation: float = 0.1) -> Tensor:
    """Instance noise (Sønderby et al. 2017), real and made alike: Gaussian, gone when the training is done (0 to 1)."""
    return samples + max(0.0, 1 - done) * deviation * torch.randn_like(samples)


class MinibatchDiscrimination(nn.Module):
    """Features [N, D] -> [N, D + K]: beside each, how close it is to the others of its batch in K ways, sums of
    exp(-|M_i - M_j|_1) (Salimans et al. 2016, Sec. 3.2)."""

    def __init__(self, features: int, kernels: int = 16, size: int = 8) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(features, kernels, size))

    def forward(self, features: Tensor) -> Tensor:
        rows = torch.einsum("nd,dks->nks", features, self.weight)
        closeness = (-(rows[:, None] - rows[None]).abs().sum(-1)).exp().sum(1) - 1
        return torch.cat([features, closeness], dim=1)


class MinibatchDeviation(nn.Module):
    """[N, C, ...] -> [N, C + 1, ...]: the mean deviation over the batch as one more channel (Karras et al. 2018)."""

    def forward(self, x: Tensor) -> Tensor:
        deviation = x.std(0, correction=0).mean()
        return torch.cat([x, deviation.expand_as(x[:, :1])], dim=1)


class VirtualBatchNorm(nn.Module):
    """Features [N, D] normalised by a reference batch and the sample itself, not by its batch (Salimans et al. 2016,
    Sec. 3.5). reference: [M, D], the same layer's features of samples that were chosen once."""

    mean: Tensor
    square: Tensor

    def __init__(self, reference: Tensor) -> None:
        super().__init__()
        self.count = len(reference)
        self.scale = nn.Parameter(torch.ones(reference.shape[1]))
        self.shift = nn.Parameter(torch.zeros(reference.shape[1]))
        self.register_buffer("mean", reference.mean(0))
        self.register_buffer("square", reference.square().mean(0))

    def forward(self, features: Tensor) -> Tensor:
        share = 1 / (self.count + 1)
        mean = torch.lerp(self.mean, features, share)
        variance = torch.lerp(self.square, features.square(), share) - mean.square()
        return (features - mean) / (variance.clamp_min(0) + 1e-5).sqrt() * self.scale + self.shift


# ---- the generator against a discriminator some steps ahead ----------------------------------------------


def unrolled(
    critic: nn.Module, loss: Callable[[Callable[[Tensor], Tensor]], Tensor], *, steps: int, rate: float
) -> Callable[[Tensor], Tensor]:
    """The discriminator after `steps` of gradient descent on its loss, through which gradients flow (Metz et al. 2017).

    loss: the discriminator's, of a function in its place. Its own weights stay as they are.
    """
    weights: dict[str, Tensor] = dict(critic.named_parameters())
    for _ in range(steps):
        value = loss(partial(_call, critic, weights))
        slopes = torch.autograd.grad(value, list(weights.values()), create_graph=True)
        weights = {name: w - rate * slope for (name, w), slope in zip(weights.items(), slopes, strict=True)}
    return partial(_call, critic, weights)


def _call(critic: nn.Module, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    result: Tensor = functional_call(critic, weights, (x,))
    return result
