"""Holes filled by a Co-Mod-GAN: does the flow make the network's fillings more real, and how different, as in Fig. 4?

    python -m experiments.filling --model FILE               # the model alone, C without repulsion, ours
    python -m experiments.filling --model FILE --shares 0.3 --pictures 200 --strengths 0.1 1 10
    python -m experiments.filling --model FILE --pool        # held-out pictures of all that `training.fill` learns

Held-out drawings of avatars, one free-form hole each of every size, n results each from the same z. Features are those
of mosaic's judge, which took part in no optimisation. P-IDS and U-IDS (Zhao et al. 2021): how often linear support
vector machines of several strengths C of the hinge, fitted to other pictures, take a result for real; higher is better.
Fréchet: distance to the pictures without holes. Both are means over the n results of a picture, taken one at a time.
Diversity: mean over the pairs of a picture's results of 1 - cosine, centred on the mean of the real pictures. Realism:
mean logit of the model's own discriminator. Known pixels are counted that differ: none may.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import engine
from engine import tasks
from engine.inference.flow import Step, pairwise_diversity
from engine.metrics.frechet import frechet_distance
from engine.metrics.separability import separability
from engine.models.loading import GeneratorModel, PromptModel
from engine.networks.comodgan import Filler
from engine.pictures import imaging
from engine.pictures.picture_files import Picture
from engine.settings import InpaintSettings
from experiments import options
from experiments.inpainting import free_form_mask
from training import judges
from training.avatars import pool as avatars
from training.fill.figures import FOLDS, STRENGTHS, judged
from training.jobs import save_sheet
from training.mosaic import dvae
from training.mosaic import pool as mosaic

RESULTS = Path(__file__).parent / "results" / "filling.json"
SHARES = (0.1, 0.3, 0.5, 0.7)
METHODS = ("plain", "no repulsion", "ours")
QUICK = {"pictures": 3, "shares": [0.4], "strengths": [1.0], "n": 2, "steps": 2}


@dataclass(frozen=True)
class Results:
    """Of one method and one size of holes: features of the results [N, n, D], means of what was told of the runs."""

    features: Tensor
    realism: float
    changed: int
    seconds: float


def held_out(count: int, side: int, *, of_all: bool) -> np.ndarray:
    """Pictures that nothing was trained on: uint8 [N, side, side, 3]."""
    if not of_all:
        return avatars.held_out(count, side).images
    data = mosaic.open_pool()
    sources = [source for source in data.sources if source != "fashion"]
    images = [dvae.held_out(data, source, -(-count // len(sources))) for source in sources]
    return imaging.to_uint8(torch.cat(images))[:count]


def fill_all(
    pictures: np.ndarray, share: float, method: str, models: tuple[GeneratorModel, PromptModel], judge: PromptModel,
    chosen: argparse.Namespace,
) -> tuple[Results, Tensor]:  # fmt: skip
    """The results of one method, and the pictures of the first run."""
    features, logits, changed, seconds, first = [], [], 0, 0.0, None
    for number, pixels in enumerate(pictures):
        mask = free_form_mask(share, np.random.default_rng((chosen.seed, number, round(1000 * share))), len(pixels))
        settings = InpaintSettings(model=models[0].name, n=chosen.n, seed=chosen.seed + 100 * number, feather=0)
        if chosen.steps:
            settings = replace(settings, flow=replace(settings.flow, steps=chosen.steps))
        if method == "no repulsion":
            settings = replace(settings, flow=replace(settings.flow, diversity=0.0))
        task = tasks.inpaint(settings, Picture(pixels), mask, None, *models)
        began = time.perf_counter()
        step = last_of(task.baseline() if method == "plain" else task)
        seconds += time.perf_counter() - began
        told = task.figures(step)
        logits.append(sum(told["realism_logits"]) / chosen.n)
        changed += told["known_pixels_changed"]
        features.append(judged(judge.image_features, step.images))
        if first is None:
            first = torch.cat([task.canvas.target * task.canvas.known, step.images.clamp(-1, 1)])
    assert first is not None
    count = len(pictures)
    return Results(torch.stack(features), sum(logits) / count, changed, seconds / count), first


def last_of(task: tasks.Task) -> Step:
    *_, step = task.steps()
    return step


def measure(real: Tensor, found: Results, strengths: Sequence[float]) -> dict[str, float]:
    """One row of numbers. real: [N, D]."""
    columns = found.features.unbind(1)
    folds = min(FOLDS, len(real))
    row = {"frechet": float(np.mean([frechet_distance(real, made) for made in columns]))}
    for strength in strengths:
        told = [separability(real, made, strength=strength, folds=folds) for made in columns]
        row[f"P-IDS {strength:g}"] = float(np.mean([one.paired for one in told]))
        row[f"U-IDS {strength:g}"] = float(np.mean([one.unpaired for one in told]))
    row["diversity"] = float(np.mean([pairwise_diversity(rows - real.mean(0)) for rows in found.features]))
    return row | {"realism": found.realism, "changed": found.changed, "seconds": found.seconds}


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown."""
    columns = list(next(iter(rows.values())))
    head = [f"| | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 1)]
    return "\n".join(
        head + [f"| {name} | {' | '.join(map(_shown, row, row.values()))} |" for name, row in rows.items()]
    )


def _shown(column: str, value: float) -> str:
    if "IDS" in column:
        return f"{100 * value:.1f} %"
    return f"{value:.0f}" if column == "changed" else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=60, help="with one hole of each size")
    parser.add_argument("--pool", action="store_true", help="of training/runs/mosaic/pool, not avatars drawn anew")
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES), help="sizes of the holes")
    parser.add_argument("--strengths", type=float, nargs="+", default=list(STRENGTHS), help="the machines' C")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--model", required=True, help="a file or folder; `training.make --only fill` makes one")
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--steps", type=int, help="of the flow (the preset's)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sheet", type=Path, help="write the results of the first picture there, one row a method")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the numbers go (%(default)s)")
    options.add_judge(parser)
    chosen = options.parse(parser, QUICK)
    engine.set_threads(None)
    models = engine.load_generator(chosen.model), engine.load_prompt_model("clip-mosaic")
    if not isinstance(models[0].network, Filler):
        parser.error(f"{chosen.model} is no model that fills holes")
    judge = judges.load_mosaic(fresh=chosen.fresh_judge)
    pictures = held_out(chosen.pictures, models[0].resolution, of_all=chosen.pool)
    real = judged(judge.image_features, imaging.from_uint8(pictures))
    kept: dict[str, object] = {"pictures": len(pictures), "n": chosen.n}
    sheets = []
    for share in chosen.shares:
        rows = {}
        for method in chosen.methods:
            found, shown = fill_all(pictures, share, method, models, judge, chosen)
            rows[method] = measure(real, found, chosen.strengths)
            sheets.append(shown)
        kept[f"{share:g}"] = rows
        print(f"{100 * share:.0f} % hidden:\n\n{table(rows)}\n", flush=True)
    if chosen.sheet:
        save_sheet(chosen.sheet, torch.cat(sheets), columns=1 + chosen.n)
    options.write_numbers(chosen.out, kept)


if __name__ == "__main__":
    main()
