"""The judge of `fashion`: a classifier of Fashion-MNIST that no generator is trained against.

    python -m training.fashion.classifier --steps 6000

Pictures are shifted, mirrored and partly erased in training, so that its judgements hold for made pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.fashion import data
from training.jobs import Average, Job, batches, set_schedule, trained

FOLDER = Path("training/runs/fashion/classifier")
FEATURES = 128


class Classifier(nn.Module):
    """Pictures [N, 1, 32, 32] in [-1, 1] to class scores [N, 10]."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = ((1, width), (width, 2 * width), (2 * width, 4 * width))
        self.stages = nn.Sequential(*(layer for before, after in sizes for layer in _stage(before, after)))
        self.fc = nn.Linear(4 * width * 4 * 4, FEATURES)
        self.head = nn.Linear(FEATURES, len(data.CLASSES))

    def features(self, images: Tensor) -> Tensor:
        """The layer before the scores: [N, 128]."""
        return F.relu(self.fc(self.stages(images).flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(F.dropout(self.features(images), 0.3, self.training))
        return scores


def _stage(before: int, after: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return [*layers, nn.MaxPool2d(2)]


def vary(images: Tensor, generator: torch.Generator) -> Tensor:
    """The batch shifted by up to two pixels, each picture mirrored half of the time, half of them with a hole."""
    shift = [int(s) for s in torch.randint(-2, 3, (2,), generator=generator)]
    images = torch.roll(images, shift, dims=(2, 3))
    mirror = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    images = torch.where(mirror, images.flip(3), images)
    corner = torch.randint(0, 24, (2, len(images), 1, 1, 1), generator=generator)
    side = torch.arange(data.RESOLUTION)
    row, column = side[:, None] - corner[0], side[None] - corner[1]
    inside = (row >= 0) & (row < 8) & (column >= 0) & (column < 8)
    erased = inside & (torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5)
    return torch.where(erased, torch.full_like(images, -1.0), images)


def load(folder: Path = FOLDER) -> Classifier:
    """The trained judge in evaluation mode; FileNotFoundError says how to train it."""
    network = Classifier()
    network.load_state_dict(trained(folder / "weights.pt", "training.fashion.classifier"))
    return network.eval().requires_grad_(False)


@torch.no_grad()
def in_parts(function: nn.Module, images: Tensor, size: int = 250) -> Tensor:
    """function(images), `size` pictures at a time."""
    return torch.cat([function(part) for part in images.split(size)])


def accuracy(network: Classifier, count: int = 10_000) -> float:
    """Share of the first `count` of the 10,000 test pictures that get their class."""
    pixels, labels = (part[:count] for part in data.load("t10k"))
    return float((in_parts(network, data.to_images(pixels)).argmax(1) == labels).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--held-out", type=int, default=10_000, help="test pictures to measure the accuracy on")
    arguments = parser.parse_args()
    torch.manual_seed(31)
    pixels, labels = data.load("train")
    network = Classifier().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.02)
    average = Average(network, 0.998)
    job = Job(FOLDER)
    job.resume(network=network, optimizer=optimizer, average=average)
    for rows in batches(len(pixels), arguments.batch, 31, job.step):
        if job.step >= arguments.steps:
            break
        set_schedule(optimizer, job.step, arguments.steps, 2e-3)
        generator = torch.Generator().manual_seed(31_000_000 + job.step)
        images = vary(data.to_images(pixels[rows]), generator).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            scores = network(images)
        loss = F.cross_entropy(scores.float(), labels[rows], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(network, job.step)
        job.finish_step(loss=loss.item())
    job.save()
    torch.save(average.state_dict(), job.folder / "weights.pt")
    job.log(f"accuracy on the test pictures {accuracy(load(), arguments.held_out):.4f}")


if __name__ == "__main__":
    main()
