"""Attribute classifiers: the judge (never optimised against) and the start of clip-mini's image tower.

    python -m training.avatars.classifier --name judge --seed 11 --steps 2500
    python -m training.avatars.classifier --name tower --seed 12 --steps 2500

They share an architecture but neither seed nor pictures: the judge is trained on the first half of the pool,
the tower on the second.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.networks.mini_tower import MiniTower
from training.avatars import pool, traits
from training.jobs import Job, batches, set_schedule, shrink, to_tensor, trained

FOLDER = Path("training/runs/avatars")
SLICES: dict[str, slice] = {}
for _group in traits.ALL_GROUPS:
    _start = max((part.stop for part in SLICES.values()), default=0)
    SLICES[_group] = slice(_start, _start + len(traits.values_of(_group)))
CLASSES = max(part.stop for part in SLICES.values())


def degrade(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift, blur, recolour and add noise, so that judgements hold for pictures that a network made."""
    shift = tuple(int(s) for s in torch.randint(-2, 3, (2,), generator=generator))
    images = torch.roll(images, shift, dims=(2, 3))
    count = len(images)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    amount = torch.rand(count, 1, 1, 1, generator=generator) * (torch.rand(count, 1, 1, 1, generator=generator) < 0.5)
    images = torch.lerp(images, blurred, amount)
    level = 0.12 * torch.rand(count, 1, 1, 1, generator=generator) ** 2
    return images + level * torch.randn(images.shape, generator=generator)


def attribute_loss(logits: Tensor, labels: dict[str, Tensor]) -> Tensor:
    """Mean cross-entropy over the groups; a label of -1 does not count."""
    losses = [
        F.cross_entropy(logits[:, SLICES[group]].float(), labels[group], ignore_index=-1)
        for group in labels
        if (labels[group] >= 0).any()
    ]
    return torch.stack(losses).mean()


def predict(network: MiniTower, images: Tensor) -> dict[str, Tensor]:
    """The value of every group that the network knows, for images [N, 3, H, W] in [-1, 1]: indices [N]."""
    with torch.no_grad():
        logits = torch.cat([network(shrink(part, 64)) for part in images.split(64)])
    return {group: logits[:, part].argmax(1) for group, part in SLICES.items() if part.stop <= logits.shape[1]}


def of_weights(state: Mapping[str, Tensor]) -> MiniTower:
    """A classifier in evaluation mode: of all groups, or without the extras as its weights are."""
    network = MiniTower(num_classes=len(state["head.bias"]))
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def load(name: str = "judge", folder: Path = FOLDER) -> MiniTower:
    """A trained classifier in evaluation mode; FileNotFoundError says how to train it."""
    return of_weights(trained(folder / name / "weights.pt", f"training.avatars.classifier --name {name}"))


def accuracy(network: MiniTower, held_out: pool.Pool) -> dict[str, float]:
    """Share of right values per group, over the pictures whose value can be told."""
    found = predict(network, to_tensor(held_out.images))
    wanted = traits.labels(held_out.shown)
    shared = [group for group in found if group in wanted]
    return {group: float((found[group].numpy() == wanted[group])[wanted[group] >= 0].mean()) for group in shared}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="judge", choices=("judge", "tower"))
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--held-out", type=int, default=1000, help="drawings to measure the accuracy on")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    data = pool.open_pool()
    half = len(data) // 2
    first = 0 if arguments.name == "judge" else half
    labels = {group: torch.from_numpy(value) for group, value in traits.labels(data.shown).items()}
    network = MiniTower(num_classes=CLASSES).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.02, betas=(0.9, 0.99))
    job = Job(FOLDER / arguments.name)
    job.resume(network=network, optimizer=optimizer)
    for rows in batches(half, arguments.batch, arguments.seed, job.step):
        if job.step >= arguments.steps:
            break
        set_schedule(optimizer, job.step, arguments.steps, 1.5e-3)
        generator = torch.Generator().manual_seed(arguments.seed * 1_000_000 + job.step)
        images = degrade(shrink(to_tensor(data.images[rows + first]), 64), generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images)
        loss = attribute_loss(logits, {group: value[rows + first] for group, value in labels.items()})
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        job.finish_step(loss=loss.item())
    job.save()
    torch.save(network.state_dict(), job.folder / "weights.pt")
    result = accuracy(load(arguments.name), pool.held_out(arguments.held_out))
    job.log("  ".join(f"{group} {share:.3f}" for group, share in result.items()))
    job.log(f"worst {np.min(list(result.values())):.3f}")


if __name__ == "__main__":
    main()
