"""The prior of mosaic's codes: `python -m training.mosaic.prior --steps 1000`.

It repairs grids: noise on the code vectors, wrong codes one by one or in blocks, or both.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.networks.code_prior import CodePrior
from training.jobs import Average, Job, set_schedule
from training.mosaic import dvae, pool

FOLDER = Path("training/runs/mosaic/prior")
NOISE = 1.2  # at most, in units of a coordinate's deviation
WRONG = 0.6  # at most this share of the codes


def damaged(vectors: Tensor, codes: Tensor, generator: torch.Generator) -> Tensor:
    """Grids of code vectors [N, D, h, w] with noise and wrong codes, how much differs from grid to grid."""
    count, features, height, width = vectors.shape

    def chance(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    wrong = codes[torch.randint(len(codes), (count, height, width), generator=generator)].permute(0, 3, 1, 2)
    single = chance(count, 1, height, width)
    block = F.interpolate(chance(count, 1, height // 4, width // 4), size=(height, width), mode="nearest")
    field = torch.where(chance(count, 1, 1, 1) < 0.5, single, block)
    share = WRONG * chance(count, 1, 1, 1) * (chance(count, 1, 1, 1) < 0.6)
    mixed = torch.where(field < share, torch.lerp(vectors, wrong, chance(count, 1, 1, 1).sqrt()), vectors)
    level = NOISE * chance(count, 1, 1, 1) * codes.std(0).mean()
    return mixed + level * torch.randn(mixed.shape, generator=generator)


def train(steps: int, batch: int) -> None:
    data = pool.open_pool()
    parts = {source: data.rows(held_out=False, source=source) for source in pool.SOURCES}
    autoencoder = dvae.load_average()
    codes = autoencoder.quantiser.codes
    torch.manual_seed(111)
    network = CodePrior(len(codes), codes.shape[1]).to(memory_format=torch.channels_last)
    network.mean.copy_(codes.mean(0))
    network.deviation.copy_(codes.std(0).mean())
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98))
    average, job = Average(network, 0.998), Job(FOLDER)
    job.resume(network=network, optimizer=optimizer, average=average)
    while job.step < steps:
        set_schedule(optimizer, job.step, steps, 2e-3)
        rng = np.random.default_rng((112, job.step))
        images = dvae.load_batch(data, dvae.sample_rows(parts, batch, rng), rng)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            z = autoencoder.vectors(images)
        vectors, indices = autoencoder.quantise(z)
        given = damaged(vectors, codes, torch.Generator().manual_seed(113_000_000 + job.step))
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(given)
        loss = F.cross_entropy(logits.float(), indices.view(len(z), *z.shape[2:]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update(network, job.step)
        job.finish_step(loss=loss.item())
    job.save()


def load_average(folder: Path = FOLDER) -> CodePrior:
    """The averaged network of the last checkpoint. FileNotFoundError says how to make one."""
    path = folder / "state.pt"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run `python -m training.mosaic.prior`")
    state = torch.load(path, weights_only=True)["parts"]["average"]
    network = CodePrior(dvae.VOCABULARY, dvae.FEATURES)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    train(arguments.steps, arguments.batch)


if __name__ == "__main__":
    main()
