"""Stage 3 of the avatars: image -> w, supervised on pairs, a quarter of them made by the generator.

python -m training.avatars.encoder --steps 1000
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from engine.networks.mini_tower import MiniTower
from training import clip_mini
from training.avatars import classifier, pool, synthesis
from training.jobs import Average, Job, batches, set_schedule, shrink, to_tensor

FOLDER = Path("training/runs/avatars/encoder")
SIDE = 64  # pixels of what it sees


def build() -> MiniTower:
    """An encoder that starts as the attribute tower."""
    network = MiniTower(num_classes=synthesis.W_DIM)
    tower = classifier.load("tower").state_dict()
    network.load_state_dict({name: value for name, value in tower.items() if "head" not in name}, strict=False)
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=48)
    arguments = parser.parse_args()
    torch.manual_seed(6)
    data, statistics = pool.open_pool(), synthesis.trait_statistics()
    network = build().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01, betas=(0.9, 0.99))
    average = Average(network, 0.998)
    job = Job(FOLDER)
    job.resume(network=network, optimizer=optimizer, average=average)
    generator, quarter = synthesis.load_average(), arguments.batch // 4
    for rows in batches(len(data), arguments.batch, 61, job.step):
        if job.step >= arguments.steps:
            break
        set_schedule(optimizer, job.step, arguments.steps, 1e-3)
        rows = np.random.default_rng(job.step).permutation(rows)
        noise = torch.Generator().manual_seed(62_000_000 + job.step)
        renders = shrink(to_tensor(data.images[rows[quarter:]]), SIDE)
        renders = renders + 0.04 * torch.rand(len(renders), 1, 1, 1, generator=noise) * torch.randn(
            renders.shape, generator=noise
        )
        images = torch.cat(
            [shrink(clip_mini.generated(generator, data.shown[rows[:quarter]], statistics), SIDE), renders]
        )
        with torch.autocast("cpu", torch.bfloat16):
            found = network(images).float()
        error = (found - synthesis.to_w(data.shown[rows], statistics)).square().mean()
        optimizer.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update(network, job.step)
        job.finish_step(unexplained=error.item())
    job.save()


if __name__ == "__main__":
    main()
