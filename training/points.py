"""Generators of points in the plane and their critics: WGAN-GP on the sets of `engine.lab.targets`.

    python -m training.points            # the papers' two sets, a minute each, into training/runs/points
    python -m training.points --lab      # the small ones of the page's lab, into assets/lab

Latents are standard normal in the plane. A discriminator that begins as the critic is then trained by cross-entropy on
the finished generator: its logit is the log of the density ratio. The lab's are half as wide, so that there is
something left to improve.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.checkpoints import write_safetensors
from engine.lab import networks as lab
from engine.lab.networks import ROLES, Z_DIM, mlp
from engine.lab.targets import SETS
from engine.latents.spaces import seeded
from engine.samplers.reweighting import slope_penalty
from training.objectives import NON_SATURATING, WASSERSTEIN, Objective

FOLDER = Path("training/runs/points")
LAB = Path("assets/lab/networks.safetensors")
PAPERS = ("swiss roll", "25 Gaussians")
WIDTH, BATCH = 128, 256
CRITIC_STEPS = 5  # a step of the generator
SLOPE_WEIGHT = 0.1  # of the gradient penalty: at 10 a critic of points this near is as good as flat
RATIO_STEPS = 2000
STEPS, LAB_STEPS = 2500, 5000


@dataclass(frozen=True, eq=False)
class Networks(lab.Networks):
    """generator: z [N, 2] -> points [N, 2]; critic and ratio: points -> [N]."""

    generator: nn.Module
    critic: nn.Module
    ratio: nn.Module


def train(name: str, steps: int, *, seed: int = 0, ratio_steps: int = RATIO_STEPS, width: int = WIDTH) -> Networks:
    """WGAN-GP, then the density ratio, on as many new points as it takes."""
    draws, sample = seeded("points", name, seed), SETS[name]().sample
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draws.initial_seed())
        generator, critic = mlp(2, width), mlp(1, width)
    making = torch.optim.Adam(generator.parameters(), lr=1e-4, betas=(0.5, 0.9))
    judging = torch.optim.Adam(critic.parameters(), lr=1e-4, betas=(0.5, 0.9))
    for _ in range(steps):
        for _ in range(CRITIC_STEPS):
            _judge(critic, judging, WASSERSTEIN, sample(BATCH, draws), _made(generator, draws), draws)
        loss = WASSERSTEIN.generator(critic(generator(torch.randn(BATCH, Z_DIM, generator=draws))))
        making.zero_grad(set_to_none=True)
        loss.backward()
        making.step()
    ratio = mlp(1, width)
    ratio.load_state_dict(critic.state_dict())
    telling = torch.optim.Adam(ratio.parameters(), lr=3e-4)
    for _ in range(ratio_steps):
        _judge(ratio, telling, NON_SATURATING, sample(BATCH, draws), _made(generator, draws), None)
    return Networks(*(network.eval().requires_grad_(False) for network in (generator, critic, ratio)))


@torch.no_grad()
def _made(generator: nn.Module, draws: torch.Generator) -> Tensor:
    points: Tensor = generator(torch.randn(BATCH, Z_DIM, generator=draws))
    return points


def _judge(
    critic: nn.Module, optimizer: torch.optim.Optimizer, objective: Objective, real: Tensor, made: Tensor,
    draws: torch.Generator | None,
) -> None:  # fmt: skip
    """One step; draws: of the places where slopes are held, None where they are free."""
    loss = objective.discriminator(critic(real), critic(made))
    if draws is not None:
        loss = loss + SLOPE_WEIGHT * slope_penalty(critic, real, made, draws)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def load(name: str, steps: int, *, folder: Path = FOLDER, seed: int = 0) -> Networks:
    """The networks of a set, trained where there are none yet of so many steps."""
    path = folder / f"{name.replace(' ', '-')}-{steps}-{seed}.pt"
    if not path.exists():
        networks = train(name, steps, seed=seed)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({role: getattr(networks, role).state_dict() for role in ROLES}, path)
    state = torch.load(path, weights_only=True)
    networks = Networks(*(mlp(2 if role == "generator" else 1, WIDTH) for role in ROLES))
    for role, weights in state.items():
        getattr(networks, role).load_state_dict(weights)
        getattr(networks, role).eval().requires_grad_(False)
    return networks


def export(path: Path = LAB, *, steps: int = LAB_STEPS, ratio_steps: int = RATIO_STEPS) -> None:
    """Trains the lab's networks of every set and writes them into one file, in half precision."""
    weights: dict[str, Tensor] = {}
    for name in SETS:
        networks = train(name, steps, ratio_steps=ratio_steps, width=lab.WIDTH)
        for role in ROLES:
            state = getattr(networks, role).state_dict()
            weights |= {lab.key_of(name, role) + key: value for key, value in state.items()}
        print(f"{name}: {steps} steps", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors(path, weights, dtype=torch.float16)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, help=f"of the generator ({STEPS:,}, with --lab {LAB_STEPS:,})")
    parser.add_argument("--lab", action="store_true", help=f"the lab's, into {LAB}")
    arguments = parser.parse_args()
    if arguments.lab:
        steps = arguments.steps or LAB_STEPS
        return export(steps=steps, ratio_steps=min(steps, RATIO_STEPS))
    steps = arguments.steps or STEPS
    for name in PAPERS:
        load(name, steps)
        print(f"{name}: {steps} steps", flush=True)


if __name__ == "__main__":
    main()
