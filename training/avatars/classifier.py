"""Attribute classifiers: the judge (never optimised against) and the start of clip-mini's image tower.

    python -m training.avatars.classifier --name judge --seed 11 --steps 2500
    python -m training.avatars.classifier --name tower --seed 12 --steps 2500

    python -m training.avatars.classifier --name judge --seed 11 --minutes 3 --batch 256 --workers 4    # on a GPU

They share an architecture but neither seed nor pictures: each draws its own, step by step. Half of them are the
prior's, the others settled places of all that a flow can reach.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.checkpoints import read_safetensors
from engine.networks.mini_tower import MiniTower
from training.avatars import drawing, pool, traits
from training.avatars.stream import stream
from training.jobs import Average, Job, Pace, pick_device, shrink, to_tensor, trained

FOLDER = Path("training/runs/avatars")
SLICES: dict[str, slice] = {}
for _group in traits.ALL_GROUPS:
    _start = max((part.stop for part in SLICES.values()), default=0)
    SLICES[_group] = slice(_start, _start + len(traits.values_of(_group)))
CLASSES = max(part.stop for part in SLICES.values())


def degrade(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift, blur, recolour and add noise, so that judgements hold for pictures that a network made."""
    across, down = (int(s) for s in np.random.default_rng(generator.initial_seed()).integers(-2, 3, size=2))
    images = torch.roll(images, (across, down), dims=(2, 3))

    def uniform() -> Tensor:
        return torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device)

    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    amount = uniform() * (uniform() < 0.5)
    images = torch.lerp(images, blurred, amount)
    level = 0.12 * uniform() ** 2
    return images + level * torch.randn(images.shape, generator=generator, device=images.device)


def attribute_loss(logits: Tensor, labels: dict[str, Tensor]) -> Tensor:
    """Mean cross-entropy over the groups; a label of -1 does not count."""
    losses = []
    for group, wanted in labels.items():
        told = (wanted >= 0).sum().clamp(min=1)
        losses.append(
            F.cross_entropy(logits[:, SLICES[group]].float(), wanted, ignore_index=-1, reduction="sum") / told
        )
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
    parser.add_argument("--minutes", type=float, help="end after these, the schedule with them")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw ahead")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--from", type=Path, dest="start", help="start from these weights, of fewer groups too")
    parser.add_argument("--held-out", type=int, default=1000, help="drawings to measure the accuracy on")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    device = pick_device(arguments.device)
    network = MiniTower(num_classes=CLASSES).to(device).to(memory_format=torch.channels_last)
    if arguments.start:
        network.load_state_dict(with_head(read_safetensors(arguments.start), network))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.02, betas=(0.9, 0.99))
    average = Average(network, 0.998)
    job, pace = Job(FOLDER / arguments.name), Pace(arguments.steps, arguments.minutes)
    job.resume(network=network, optimizer=optimizer, average=average)
    drawings = stream(
        arguments.batch, drawing.CANVAS, arguments.seed, job.step, workers=arguments.workers, device=device, named=True
    )
    for shown, images in drawings:
        if pace.set_rate(optimizer, job.step, 1.5e-3) >= 1:
            break
        generator = torch.Generator(device).manual_seed(arguments.seed * 1_000_000 + job.step)
        labels = {
            group: torch.from_numpy(value).to(device) for group, value in traits.labels(shown.cpu().numpy()).items()
        }
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(degrade(shrink(images, 64), generator))
        loss = attribute_loss(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update(network, job.step)
        job.finish_step(loss=loss.detach())
    job.save()
    torch.save({name: value.cpu() for name, value in average.state_dict().items()}, job.folder / "weights.pt")
    if arguments.held_out:
        result = accuracy(load(arguments.name), pool.held_out(arguments.held_out))
        job.log("  ".join(f"{group} {share:.3f}" for group, share in result.items()))
        job.log(f"worst {np.min(list(result.values())):.3f}")


def with_head(state: Mapping[str, Tensor], network: MiniTower) -> dict[str, Tensor]:
    """The weights for a network with more outputs: the new ones start as they are there."""
    result = network.state_dict()
    for name, value in state.items():
        if result[name].shape == value.shape:
            result[name] = value
        else:
            result[name][: len(value)] = value.to(result[name])
    return result


if __name__ == "__main__":
    main()
