"""Stage 2 of the avatars: the mapping network z -> w that draws traits as the prior does.

    python -m training.avatars.mapping --steps 14000

Regression on endless pairs (z, w of `traits.from_gaussian(z)`). StyleGAN2 normalises z, so the pairs use
Gaussian z scaled to the sphere of radius sqrt(z_dim) as well: both see the same direction.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from engine.checkpoints import read_safetensors
from engine.networks.stylegan2 import Generator, normalize_second_moment
from training.avatars import larger, traits
from training.avatars.stream import statistics
from training.jobs import Average, Job, set_schedule, trained

FOLDER = Path("training/runs/avatars/mapping")


def load_average() -> Generator:
    """A generator whose mapping network is the newest average (its synthesis network is untrained)."""
    generator = larger.build()
    generator.mapping.load_state_dict(trained(FOLDER / "state.pt", "training.avatars.mapping")["parts"]["average"])
    return generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=14000)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--from", type=Path, dest="start", help="start from these weights, without extras too")
    arguments = parser.parse_args()
    torch.manual_seed(4)
    mean, unit = (torch.from_numpy(part.astype("float32")) for part in statistics())
    generator = larger.build()
    if arguments.start:
        generator.load_state_dict(larger.widened(read_safetensors(arguments.start), generator))
    mapping = generator.mapping
    # Weights are stored 100 times larger (lr_multiplier .01), so this is a usual rate of .01.
    optimizer = torch.optim.Adam(mapping.parameters(), lr=1.0, betas=(0.9, 0.99))
    average = Average(mapping, 0.999)
    job = Job(FOLDER)
    job.resume(mapping=mapping, optimizer=optimizer, average=average)
    while job.step < arguments.steps:
        set_schedule(optimizer, job.step, arguments.steps, 1.0)
        draws = torch.Generator().manual_seed(400_000 + job.step)
        z = normalize_second_moment(torch.randn(arguments.batch, larger.Z_DIM, generator=draws))
        wanted = (torch.from_numpy(traits.wide_from_gaussian(z.numpy())) - mean) / unit
        error = (mapping.to_w(z) - wanted).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        average.update(mapping, job.step)
        job.finish_step(unexplained=error.item())
    average.shadow["w_avg"].zero_()  # w is standardised: its mean is 0
    job.save()


if __name__ == "__main__":
    main()
