"""Stage 3 of the avatars: image -> w, supervised on pairs, a quarter of them made by the generator.

python -m training.avatars.encoder --steps 1000
python -m training.avatars.encoder --minutes 4 --batch 256 --workers 4 --generated 0    # on a GPU, beside `larger`
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from engine.checkpoints import read_safetensors
from engine.networks.mini_tower import MiniTower
from training.avatars import classifier, drawing, larger
from training.avatars.stream import statistics, stream
from training.jobs import Average, Job, Pace, pick_device, shrink

FOLDER = Path("training/runs/avatars/encoder")
SIDE = 64  # pixels of what it sees


def build(start: Path | None = None) -> MiniTower:
    """An encoder that starts as these weights, of a narrower W too, or as the attribute tower."""
    network = MiniTower(num_classes=larger.W_DIM)
    if start is None:
        tower = classifier.load("tower").state_dict()
        network.load_state_dict({name: value for name, value in tower.items() if "head" not in name}, strict=False)
    else:
        network.load_state_dict(classifier.with_head(read_safetensors(start), network))
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--minutes", type=float, help="end after these, the schedule with them")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw ahead")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--from", type=Path, dest="start", help="start from these weights")
    parser.add_argument("--generated", type=float, default=0.25, help="share of pictures by the generator")
    arguments = parser.parse_args()
    torch.manual_seed(6)
    device = pick_device(arguments.device)
    mean, unit = (torch.from_numpy(part.astype(np.float32)).to(device) for part in statistics())
    network = build(arguments.start).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01, betas=(0.9, 0.99))
    average = Average(network, 0.998)
    job, pace = Job(FOLDER), Pace(arguments.steps, arguments.minutes)
    job.resume(network=network, optimizer=optimizer, average=average)
    made = round(arguments.generated * arguments.batch)
    generator = larger.load_average()[0].to(device) if made else None
    drawings = stream(
        arguments.batch, drawing.CANVAS, 61, job.step, workers=arguments.workers, device=device, named=True
    )  # fmt: skip
    for shown, images in drawings:
        if pace.set_rate(optimizer, job.step, arguments.rate) >= 1:
            break
        w, noise = (shown - mean) / unit, torch.Generator(device).manual_seed(62_000_000 + job.step)
        images = shrink(images, SIDE)
        level = 0.04 * torch.rand(len(images), 1, 1, 1, generator=noise, device=device)
        images = images + level * torch.randn(images.shape, generator=noise, device=device)
        if generator is not None:
            with torch.no_grad():
                pictures = larger.synthesize(generator, w[:made])[larger.RESOLUTION].clamp(-1, 1)
                images = torch.cat([shrink(pictures, SIDE), images[made:]])
        with torch.autocast(device.type, torch.bfloat16):
            found = network(images).float()
        error = (found - w).square().mean()
        optimizer.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update(network, job.step)
        job.finish_step(unexplained=error.detach())
    job.save()
    torch.save({name: value.cpu() for name, value in average.state_dict().items()}, job.folder / "weights.pt")


if __name__ == "__main__":
    main()
