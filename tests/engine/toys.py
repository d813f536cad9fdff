"""A generator, an image tower and a prompt model small enough to check by hand, in float64."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.inference.flow import Particles, Problem, Step
from engine.inference.terms import TextLikelihood
from engine.latents.spaces import LatentSpace, SphereSpace

LATENT, SIDE, FEATURES = 6, 4, 5
PIXELS = 3 * SIDE * SIDE


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class ToyGenerator(nn.Module):
    """latents [N, 6] -> images [N, 3, 4, 4] in [-1, 1]; counts what passes through it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(numbers(LATENT, PIXELS, seed=1) / LATENT**0.5, requires_grad=False)
        self.forward_sizes: list[int] = []
        self.backward_passes = 0
        self.register_full_backward_hook(self._count_backward)

    def forward(self, latents: Tensor) -> Tensor:
        self.forward_sizes.append(len(latents))
        return (latents @ self.weight).tanh().view(-1, 3, SIDE, SIDE)

    def _count_backward(self, *_: object) -> None:
        self.backward_passes += 1


@dataclass(eq=False)
class ToyTower:
    """images [N, 3, H, W] -> features [N, 5] of length 1; remembers how many images each call had."""

    seed: int = 2
    calls: list[int] = field(default_factory=list)

    def __call__(self, images: Tensor) -> Tensor:
        self.calls.append(len(images))
        weight = numbers(PIXELS, FEATURES, seed=self.seed).to(images)
        return F.normalize((images.flatten(1) @ weight / PIXELS**0.5 + 0.1).tanh(), dim=1)


@dataclass(eq=False)
class ToyPromptModel:
    tower: ToyTower = field(default_factory=ToyTower)
    logit_scale: float = 10.0
    name: str = "toy tower"
    sha256: str = "0" * 64

    def image_features(self, images: Tensor) -> Tensor:
        return self.tower(images)

    def text_features(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([F.normalize(numbers(FEATURES, seed=100 + len(text)), dim=0) for text in texts])


@dataclass(frozen=True, eq=False)
class DoubleSpace(SphereSpace):
    """The sphere in float64."""

    def sample(self, seeds: Sequence[int]) -> Tensor:
        return super().sample(seeds).double()


@dataclass(frozen=True, eq=False)
class FreeSpace(DoubleSpace):
    """The same, not constrained."""

    def constrain(self, latents: Tensor) -> Tensor:
        return latents


def toy_problem(
    *,
    generator: Callable[[Tensor], Tensor] | None = None,
    tower: ToyTower | None = None,
    space: LatentSpace | None = None,
) -> Problem:
    tower = tower or ToyTower()
    text = F.normalize(numbers(FEATURES, seed=3), dim=0)
    return Problem(
        render=generator or ToyGenerator(),
        space=space or DoubleSpace(LATENT),
        extractor=tower,
        text=text,
        conditions=((TextLikelihood(tower, text, logit_scale=10.0), 1.0),),
    )


def toy_particles(n: int, *, first_seed: int = 0) -> Particles:
    seeds = tuple(range(first_seed, first_seed + n))
    return Particles(DoubleSpace(LATENT).sample(seeds), seeds)


def text_of(problem: Problem) -> Tensor:
    """[D], of a problem that has words."""
    assert problem.text is not None
    return problem.text


def scores_of(step: Step) -> Tensor:
    """[N], of a step that has words."""
    assert step.text_scores is not None
    return step.text_scores
