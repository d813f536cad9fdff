"""The figures on the card of `fashion`, measured on the test pictures by the judge.

    python -m training.fashion.figures            # prints them and writes assets/fashion/figures.json

The judge never took part in any optimisation, nor did the 10,000 test pictures. Seeds of the generated pictures
are counted from 10,000.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import engine
from engine.latents.classes import ClassSpace
from engine.metrics.frechet import frechet_distance
from engine.metrics.manifold import precision_recall
from engine.models.loading import GeneratorModel
from training import judges
from training.fashion import classifier, data

BUNDLE = Path("assets/fashion")
FIRST_SEED = 10_000
COUNT, MANIFOLD_COUNT = 10_000, 2048
TRUNCATIONS = (1.0, 0.7, 0.5)


@dataclass(frozen=True)
class Judged:
    """What the judge makes of N pictures: features [N, 128], scores before the softmax [N, 10]."""

    features: Tensor
    scores: Tensor


@torch.no_grad()
def judged(judge: classifier.Classifier, images: Tensor) -> Judged:
    features = torch.cat([judge.features(part) for part in images.split(250)])
    return Judged(features, judge.head(features))


@torch.no_grad()
def generated(model: GeneratorModel, psi: float, count: int) -> tuple[Tensor, Tensor]:
    """Pictures [N, 1, 32, 32] and the classes [N] that were asked for: all in turn, equally often."""
    space = model.spaces["z"].truncated(psi)
    assert isinstance(space, ClassSpace)
    seeds = range(FIRST_SEED, FIRST_SEED + count)
    images = [model.render(part, space)[:, :1].clamp(-1, 1) for part in space.sample(seeds).split(250)]
    return torch.cat(images), torch.tensor([space.classes[seed % len(space.classes)] for seed in seeds])


def figures(model: GeneratorModel, judge: classifier.Classifier, count: int = COUNT) -> dict[str, object]:
    """All numbers of the card."""
    pixels, labels = data.load("t10k")
    real = judged(judge, data.to_images(pixels[:count]))
    found: dict[str, object] = {
        "judge's accuracy on the test pictures": float((real.scores.argmax(1) == labels[:count]).double().mean())
    }
    for psi in TRUNCATIONS:
        images, asked = generated(model, psi, count)
        made = judged(judge, images)
        right = made.scores.argmax(1) == asked
        some = min(MANIFOLD_COUNT, count)
        both = precision_recall(real.features[:some], made.features[:some], k=3)
        found |= {
            f"FID, truncation {psi:g}": frechet_distance(real.scores, made.scores),
            f"precision, truncation {psi:g}": both.precision,
            f"recall, truncation {psi:g}": both.recall,
            f"asked class, truncation {psi:g}": float(right.double().mean()),
        }
        if psi == TRUNCATIONS[0]:
            by_class = {
                name: float(right[asked == number].double().mean()) for number, name in enumerate(model.classes)
            }
    return found | {"asked class, by class": by_class}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT, help="pictures")
    count = parser.parse_args().count
    engine.set_threads(None)
    model = engine.load_generator("fashion", assets=BUNDLE.parent)
    text = json.dumps(figures(model, judges.load_fashion(), count), indent=2)
    print(text)
    (BUNDLE / "figures.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
