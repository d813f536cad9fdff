"""What the samplers work with: a generator of points and the discriminators that judge it.

The small networks were trained by `training.points`. Without a generator particles are points of the plane
themselves: then the density ratio that a discriminator learns is known.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.checkpoints import read_safetensors
from engine.lab.targets import Target

Z_DIM, WIDTH = 2, 64
ROLES = ("generator", "critic", "ratio")
# A discriminator is smooth. That of densities as narrow as the targets, exactly known, would be so steep that no usual
# step size could follow it: it sees both densities through a blur of this deviation.
BLUR = 0.15
Function = Callable[[Tensor], Tensor]


def mlp(outputs: int, width: int = WIDTH) -> nn.Sequential:
    """Three hidden layers with ReLU; one output is a number a point: [N, 2] -> [N, outputs] or [N]."""
    layers: list[nn.Module] = [nn.Linear(Z_DIM, width), nn.ReLU()]
    for _ in range(2):
        layers += [nn.Linear(width, width), nn.ReLU()]
    layers.append(nn.Linear(width, outputs))
    return nn.Sequential(*layers, nn.Flatten(0)) if outputs == 1 else nn.Sequential(*layers)


@dataclass(frozen=True, eq=False)
class Networks:
    """generator: z [N, 2] -> points [N, 2]; critic and ratio: points -> [N], the latter log p / q."""

    generator: Function
    critic: Function
    ratio: Function


def exact_networks(target: Target) -> Networks:
    """No generator: particles are points, which begin as N(0, I). The critic is the blurred log of the ratio."""

    def ratio(points: Tensor) -> Tensor:
        variance = 1 + BLUR**2
        normal = -points.square().sum(1) / (2 * variance) - math.log(2 * math.pi * variance)
        return target.log_density(points, blur=BLUR) - normal

    return Networks(torch.Tensor.contiguous, ratio, ratio)


def key_of(name: str, role: str) -> str:
    """The prefix of a network's weights in the file."""
    return f"{name.replace(' ', '-')}.{role}."


def read_networks(path: Path, name: str) -> Networks:
    """The trained networks of a set. Raises ModelError where the file is missing or damaged, KeyError without them."""
    weights = read_safetensors(path)
    return Networks(*(_network(weights, key_of(name, role), 2 if role == "generator" else 1) for role in ROLES))


def _network(weights: Mapping[str, Tensor], prefix: str, outputs: int) -> nn.Module:
    network = mlp(outputs, len(weights[f"{prefix}0.bias"]))
    network.load_state_dict(
        {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    )
    return network.eval().requires_grad_(False)
