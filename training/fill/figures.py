"""The figures on the card of `fill`: the network alone, on held-out pictures, by the judge of mosaic.

    python -m training.fill.figures            # prints them and writes assets/fill/figures.json

One free-form hole a picture, of any share of it. The judge never took part in any optimisation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

import engine
from engine.metrics.frechet import frechet_distance
from engine.metrics.separability import separability
from engine.networks.comodgan import Filler
from training import judges
from training.fill import adversarial
from training.fill.export import BUNDLE
from training.fill.holes import known_pixels
from training.mosaic import dvae, pool

COUNT = 500  # held-out pictures of a source
SEED = 2_000_027
STRENGTHS = (0.1, 1.0, 10.0)  # of the machines that tell made pictures from real ones
FOLDS = 5

Judge = Callable[[Tensor], Tensor]


@torch.no_grad()
def judged(judge: Judge, images: Tensor) -> Tensor:
    """Pictures [N, 3, H, W] to features [N, D]."""
    return torch.cat([judge(part.clamp(-1, 1)) for part in images.split(50)])


@torch.no_grad()
def filled(filler: Filler, wanted: Tensor, known: Tensor) -> Tensor:
    """The pictures [N, 3, H, W] with their holes filled, each from a z of its own."""
    z = torch.randn(len(wanted), filler.generator.z_dim, generator=torch.Generator().manual_seed(SEED))
    parts = zip(wanted.split(50), known.split(50), z.split(50), strict=True)
    return torch.cat([filler.generator(*part).clamp(-1, 1) for part in parts])


@torch.no_grad()
def figures(filler: Filler, judge: Judge, data: pool.Pool, count: int = COUNT) -> dict[str, object]:
    """All numbers of the card; of the sources of which more than one picture was held out."""
    sources = [
        source
        for source in data.sources
        if source in adversarial.SHARES and len(data.rows(held_out=True, source=source)) > 1
    ]
    rng = np.random.default_rng(SEED)
    differences, distances, realism = {}, {}, {}
    features: list[tuple[Tensor, Tensor]] = []
    for source in sources:
        wanted = dvae.held_out(data, source, count)
        known = torch.from_numpy(known_pixels(rng, len(wanted), adversarial.SIZE))
        made = filled(filler, wanted, known)
        hole = 1 - known
        differences[source] = float((hole * (made - wanted).abs()).sum() / (3 * hole.sum())) / 2
        features.append((judged(judge, wanted), judged(judge, made)))
        distances[source] = frechet_distance(*features[-1])
        if filler.discriminator is not None:
            logits = [filler.logits(filler.features(images, known))[:, 0] for images in (wanted, made)]
            realism[source] = float((logits[0] > logits[1]).double().mean())
    real, of_made = (torch.cat([pair[side] for pair in features]) for side in (0, 1))
    result: dict[str, object] = {
        "mean absolute error in the hole, of 0 to 1": differences,
        "Fréchet distance": distances,
        **({"discriminator: the real one has the higher logit": realism} if realism else {}),
        "Fréchet distance of all": frechet_distance(real, of_made),
    }
    for strength in STRENGTHS:
        paired, unpaired = separability(real, of_made, strength=strength, folds=min(FOLDS, len(real)))
        result |= {f"P-IDS, C = {strength:g}": paired, f"U-IDS, C = {strength:g}": unpaired}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT, help="pictures of a source")
    count = parser.parse_args().count
    engine.set_threads(None)
    filler = engine.load_generator("fill", assets=BUNDLE.parent).network
    assert isinstance(filler, Filler)
    found = figures(filler, judges.load_mosaic().image_features, pool.open_pool(), count)
    text = json.dumps(found, indent=2, ensure_ascii=False)
    print(text)
    (BUNDLE / "figures.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
