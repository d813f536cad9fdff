"""Text to image in its domain, by a generator that is told the sentence (as Table 3): `emblems`, and flows of it.

    python -m experiments.sentences
    python -m experiments.sentences --split validation --set step_size=0.1    # to choose its numbers by

New captions, kept with what the judge sees in their pictures (of the validation split drawn anew, for which
`training.mosaic.pool` is needed), n pictures each, all rows from the same z. "Plain" is the generator alone, "ours"
the flow; "no repulsion" is ours without A, "discriminator" ours with the matching-aware logit alone as C, "CLIP" with
the prompt model alone. In "moving sentence" the sentence vector is a latent too, that begins and stays at a distance
of LEEWAY times its length from the caption's.

Inception score, of pictures of things: by their nearest of all names. Fréchet: distance of the judge's features to
those of held-out pictures. Retrieval: the share of pictures that prefer their caption to 99, or to 999, others of the
same kind, or as many as there are. Diversity: mean over pairs of a caption's pictures of 1 - cosine of features,
centred. The judge is mosaic's second prompt model, which took part in no optimisation.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import engine
from engine import tasks
from engine.inference.flow import pairwise_diversity
from engine.latents.sentences import ReadSpace, SentenceSpace
from engine.metrics.frechet import frechet_distance
from engine.models.loading import GeneratorModel
from engine.models.table import find_row, first_settings
from engine.settings import FlowSettings, GenerateSettings
from experiments import options
from training import judges
from training.emblems.figures import GLYPHS, PEOPLE, HeldOut
from training.jobs import save_sheet
from training.mosaic import pool

RESULTS = Path(__file__).parent / "results" / "sentences.json"
SEEDS = {"validation": 1, "reporting": 0}  # of the captions
RIVALS = (99, 999)
MODEL = "emblems"
MOVING, LEEWAY = "moving sentence", 0.3
# What each row changes of the flow.
ROWS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"until": 0},
    "no repulsion": {"diversity": 0.0},
    "discriminator": {"condition_weight": 0.0},
    "CLIP": {"condition_weight": 1.0, "realism": 0.0},
    MOVING: {},
    "ours": {},
}
QUICK = {"captions": 2, "glyphs": 6, "people": 4, "n": 2, "steps": 2}


def asked(held: HeldOut, count: int) -> list[int]:
    """Numbers of so many captions, of things and avatars as they are mixed."""
    return np.linspace(0, len(held.captions) - 1, count).round().astype(int).tolist()


def moving(model: GeneratorModel, caption: str) -> GeneratorModel:
    """The model with sentence vectors about the caption's as latents."""
    space = model.spaces["z"]
    assert isinstance(space, ReadSpace)
    sentence = space.read([caption])[0]
    spread = torch.full_like(sentence, LEEWAY * float(sentence.norm()) / len(sentence) ** 0.5)
    return replace(model, spaces={"z": SentenceSpace(space.dim, sentence, spread)})


def pictures_of(settings: GenerateSettings, captions: list[str], *, is_moving: bool = False) -> tuple[Tensor, float]:
    """n pictures of each caption [T, n, 3, 64, 64], and the seconds of one run."""
    model, prompt_model = engine.load_generator(settings.model), engine.load_prompt_model(settings.prompt_model)
    shown, began = [], time.perf_counter()
    for number, caption in enumerate(captions):
        run = replace(settings, prompt=caption, seed=settings.seed + 100 * number)
        *_, step = tasks.generate(run, moving(model, caption) if is_moving else model, prompt_model).steps()
        shown.append(step.pictures.clamp(-1, 1))
    return torch.stack(shown), (time.perf_counter() - began) / len(captions)


def measure(held: HeldOut, rows: list[int], images: Tensor) -> dict[str, float]:
    """The columns of the table for pictures [T, n, 3, 64, 64] of these captions."""
    n = images.shape[1]
    features, of = held.look(images.flatten(0, 1)), torch.tensor(rows).repeat_interleave(n)
    things, centre = ~held.is_avatar[of], held.features.mean(0)
    retrieval = {f"of {rivals + 1:,}": float(held.found(features, of, rivals).double().mean()) for rivals in RIVALS}
    return {
        "inception": held.inception(features[things]) if things.any() else 1.0,
        "frechet": frechet_distance(held.features, features),
        **retrieval,
        "diversity": float(np.mean([pairwise_diversity(one - centre) for one in features.split(n)])),
    }


def changed(flow: FlowSettings, name: str) -> FlowSettings:
    """The flow of a row."""
    return replace(flow, **ROWS[name])


def settings_of(arguments: argparse.Namespace) -> GenerateSettings:
    """What a run of the model begins with, with what the arguments change in its flow."""
    row = find_row(MODEL, "generator")
    settings = replace(first_settings(row.name, row.family, row), n=arguments.n, seed=10_000 * SEEDS[arguments.split])
    changes = {name: json.loads(value) for name, value in (item.split("=", 1) for item in arguments.set)}
    if arguments.steps:
        changes["steps"] = arguments.steps
    return replace(settings, flow=replace(settings.flow, **changes))


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown."""
    shares = [f"of {rivals + 1:,}" for rivals in RIVALS]
    lines = [f"| | inception | Fréchet | {' | '.join(shares)} | diversity | s |", "|---" * (5 + len(shares)) + "|"]
    for name, row in found.items():
        cells = [f"{row['inception']:.1f}", f"{row['frechet']:.3f}", *(f"{100 * row[share]:.1f} %" for share in shares)]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['diversity']:.3f} | {row['seconds']:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--split", choices=list(SEEDS), default="reporting")
    parser.add_argument("--captions", type=int, default=100, help="that pictures are made of (%(default)s)")
    parser.add_argument("--glyphs", type=int, default=GLYPHS, help="held-out captions of things (%(default)s)")
    parser.add_argument("--people", type=int, default=PEOPLE, help="held-out captions of avatars (%(default)s)")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--n", type=int, default=8, help="pictures of each caption (%(default)s)")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=JSON", help="other flow settings of every row")
    parser.add_argument("--steps", type=int, help="of the flow (the preset's)")
    parser.add_argument("--sheet", type=Path, help="write the pictures there, a line for each caption and row")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the numbers go (%(default)s)")
    arguments = options.parse(parser, QUICK)
    engine.set_threads(None)
    settings, judge = settings_of(arguments), judges.load_mosaic()
    counts = arguments.glyphs, arguments.people
    seed = SEEDS[arguments.split]
    held = HeldOut.draw(judge, pool.open_pool(), *counts, seed=seed) if seed else HeldOut.read(judge, *counts)
    rows, found, shown = asked(held, arguments.captions), {}, []
    for name in arguments.rows:
        side = replace(settings, flow=changed(settings.flow, name))
        images, seconds = pictures_of(side, [held.captions[row] for row in rows], is_moving=name == MOVING)
        found[name] = measure(held, rows, images) | {"seconds": seconds}
        shown.append(images)
        print(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in found[name].items()), flush=True)
    print(f"\n{len(rows)} captions, {settings.n} pictures each, {settings.flow.steps} steps\n\n{table(found)}")
    if arguments.sheet:
        save_sheet(arguments.sheet, torch.stack(shown, dim=1).flatten(0, 2), columns=settings.n)
    kept = {"split": arguments.split, "captions": len(rows), "n": settings.n, "flow": settings.to_dict()["flow"]}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    options.write_numbers(arguments.out, kept | {"rows": found})


if __name__ == "__main__":
    main()
