"""Does an edit show, what else changes, and how different are the results? Ours, and StyleCLIP's two ways.

    python -m experiments.editing                       # both tables: inversion, then edits
    python -m experiments.editing --part edits --faces 4 --edits 4 --methods gmi "no repulsion" direction

Inversion: held-out renders, redrawn from their latents; an attribute is kept if the judge sees in the redrawn
picture what it saw, rightly, in the render. Edits: 20 edits of one attribute on held-out faces that do not show it,
n results each. Success: the share that shows the edit. Kept: the share of the other visible attributes that stay.
Diversity: mean over pairs of 1 - cosine of the judge's features, which nothing optimised, centred on the renders'
mean; "shown" counts only the pairs in which both show the edit, so that no method gains by missing it.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import engine
from engine import tasks
from engine.inference.flow import pairwise_diversity
from engine.pictures import picture_files
from engine.settings import EditSettings
from engine.tasks import inversion, styleclip
from experiments import options
from experiments.text_guidance import Judge
from training.avatars import classifier, pool, traits
from training.figures import judge_features
from training.jobs import save_sheet, to_tensor


class Edit(NamedTuple):
    """words: what it should be; wanted: the values of `group` that show it; hides: groups that can no longer be told;
    of: the faces it is tried on, by the values of another group."""

    words: str
    group: str
    wanted: tuple[str, ...]
    hides: tuple[str, ...] = ()
    of: tuple[str, str] | None = None


MEN = ("person", "man")
HAT_HIDES = ("hair_style", "hair_colour")
EDITS = (
    Edit("add a beard", "facial_hair", ("beard",), of=MEN),
    Edit("red hair", "hair_colour", ("red",)),
    Edit("wearing sunglasses", "glasses", ("sunglasses",), ("eyes",)),
    Edit("a big smile", "mouth", ("big smile",)),
    Edit("a person with blue hair", "hair_colour", ("blue",)),
    Edit("a person with a hat", "hat", ("cap", "beanie", "top hat"), HAT_HIDES),
    Edit("a person in a suit", "clothes", ("suit",)),
    Edit("a pink background", "background", ("pink",)),
    Edit("a man with a moustache", "facial_hair", ("moustache",), of=MEN),
    Edit("a surprised face", "mouth", ("surprised",)),
    Edit("closed eyes", "eyes", ("closed",)),
    Edit("round glasses", "glasses", ("round",)),
    Edit("a person in a hoodie", "clothes", ("hoodie",)),
    Edit("blonde hair", "hair_colour", ("blonde",)),
    Edit("a person with an afro", "hair_style", ("afro",)),
    Edit("a sad face", "mouth", ("sad",)),
    Edit("a blue background", "background", ("blue",)),
    Edit("a woolly hat", "hat", ("beanie",), HAT_HIDES),
    Edit("a bald person", "hair_style", ("bald",), ("hair_colour",)),
    Edit("green hair", "hair_colour", ("green",)),
)  # fmt: skip
METHODS = ("gmi", "no repulsion", "clip", "direction", "optimise")
QUICK = {"renders": 1, "faces": 1, "edits": 1, "n": 2, "steps": 2, "judge_renders": 16, "among": 60}


class Result(NamedTuple):
    """Of one edit of one face; `diversity_shown` is NaN where fewer than two results show the edit."""

    success: float
    kept: float
    diversity: float
    diversity_shown: float
    distance: float
    seconds: float


# ---- inversion -------------------------------------------------------------------------------------------


def invert_renders(count: int, judge: Judge, sheet: Path | None) -> str:
    """The table of what inversion keeps of `count` held-out renders."""
    model = engine.load_generator("avatars")
    held_out = pool.held_out(count, model.resolution)
    prompt_model = engine.load_prompt_model("clip-mini")
    redrawn, distances, seconds = [], [], []
    for pixels in held_out.images:
        *_, start = inversion.invert(picture_files.Picture(pixels), model, prompt_model=prompt_model)
        redrawn.append(start.image.clamp(-1, 1))
        distances.append(start.distance)
        seconds.append(start.seconds)
    found, seen = classifier.predict(judge.network, torch.cat(redrawn)), seen_rightly(held_out, judge)
    kept = {group: (found[group] == value) | (value < 0) for group, value in seen.items()}
    everything = torch.stack(list(kept.values())).all(0).float().mean()
    if sheet:
        save_sheet(sheet, torch.stack([to_tensor(held_out.images), torch.cat(redrawn)], 1).flatten(0, 1))
    rows = [f"| {group.replace('_', ' ')} | {100 * share_kept(kept[group], seen[group]):.1f} % |" for group in kept]
    return "\n".join(
        [
            f"{count} held-out renders: all visible attributes kept on {100 * everything:.1f} %; distance "
            f"{np.mean(distances):.4f} (95 % below {np.quantile(distances, 0.95):.4f}, largest {max(distances):.4f}); "
            f"{np.mean(seconds):.1f} s each",
            "",
            "| attribute | kept |",
            "|---|---|",
            *rows,
        ]
    )


def seen_rightly(held_out: pool.Pool, judge: Judge) -> dict[str, Tensor]:
    """What the judge sees in the renders [N], -1 where that is hidden or wrong: nothing can be said of it later."""
    found, labels = classifier.predict(judge.network, to_tensor(held_out.images)), traits.labels(held_out.shown)
    return {
        group: torch.where(found[group] == torch.from_numpy(labels[group]), found[group], -1) for group in traits.GROUPS
    }


def share_kept(kept: Tensor, seen: Tensor) -> float:
    return float(kept[seen >= 0].float().mean())


def measure_domain(files: Sequence[Path], count: int) -> str:
    """Distances of held-out renders and of other pictures, between which the model's `in_domain_distance` lies."""
    model = engine.load_generator("avatars")
    groups = {
        "held-out renders": [picture_files.Picture(pixels) for pixels in pool.held_out(count, model.resolution).images],
        "noise and stripes": list(other_pictures()),
        "files": [picture_files.read_picture(path) for path in files],
    }
    lines = [
        f"in_domain_distance {model.in_domain_distance}",
        "",
        "| | n | least | median | greatest |",
        "|---|---|---|---|---|",
    ]
    for name, members in groups.items():
        distances = [list(inversion.invert(picture, model))[-1].distance for picture in members]
        if distances:
            least, middle, most = np.quantile(distances, (0, 0.5, 1))
            lines.append(f"| {name} | {len(distances)} | {least:.4f} | {middle:.4f} | {most:.4f} |")
    return "\n".join(lines)


def other_pictures(side: int = 256) -> Iterator[picture_files.Picture]:
    """Noise at several scales, stripes, and skies over fields."""
    rng = np.random.default_rng(0)
    for cells in (4, 8, 16, 64):
        coarse = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        yield picture_files.Picture(picture_files.resized(coarse, side))
    y, x = np.mgrid[:side, :side]
    yield picture_files.Picture(np.repeat((127 + 127 * np.sin((x + y) / 7))[..., None], 3, 2).astype(np.uint8))
    for horizon in (90, 128, 170):
        ridge = horizon + 20 * np.sin(x / 31) + 9 * np.sin(x / 11)
        sky, field = np.array([120, 175, 240]), np.array([85, 150, 70])
        land = np.where((y < ridge)[..., None], sky + (y / 4)[..., None], field - (y / 8)[..., None])
        yield picture_files.Picture(land.clip(0, 255).astype(np.uint8))


# ---- edits -----------------------------------------------------------------------------------------------


def faces_for(edit: Edit, held_out: pool.Pool, seen: dict[str, Tensor], count: int, skip: int) -> list[int]:
    """Rows of faces whose value of the group is known and another than wanted."""
    wanted = torch.tensor([traits.values_of(edit.group).index(value) for value in edit.wanted])
    fits = (seen[edit.group] >= 0) & ~torch.isin(seen[edit.group], wanted)
    if edit.of is not None:
        fits &= seen[edit.of[0]] == traits.values_of(edit.of[0]).index(edit.of[1])
    rows: list[int] = fits.nonzero()[:, 0].tolist()
    return [rows[(skip + i) % len(rows)] for i in range(min(count, len(rows)))]


def judge_edit(edit: Edit, images: Tensor, before: dict[str, int], judge: Judge) -> tuple[float, float, float, float]:
    """Success, kept, diversity and diversity of the successful, of results [N, 3, H, W]."""
    found = classifier.predict(judge.network, images)
    wanted = torch.tensor([traits.values_of(edit.group).index(value) for value in edit.wanted])
    shows = torch.isin(found[edit.group], wanted)
    others = [group for group, value in before.items() if value >= 0 and group not in (edit.group, *edit.hides)]
    kept = torch.stack([(found[group] == before[group]).float().mean() for group in others]).mean()
    features = judge_features(judge.network, images) - judge.mean
    among = pairwise_diversity(features[shows]) if shows.sum() > 1 else math.nan
    return float(shows.float().mean()), float(kept), pairwise_diversity(features), among


def run_edits(arguments: argparse.Namespace, judge: Judge) -> str:
    """The table of the methods, means over edits and faces; all begin at the same inversions."""
    model, prompt_model = engine.load_generator("avatars"), engine.load_prompt_model("clip-mini")
    held_out = pool.held_out(arguments.among, model.resolution)
    seen = seen_rightly(held_out, judge)
    results: dict[str, list[Result]] = {method: [] for method in arguments.methods}
    lines = []
    sheets = []
    for number, edit in enumerate(EDITS[: arguments.edits]):
        of_edit: dict[str, list[Result]] = {method: [] for method in arguments.methods}
        for row in faces_for(edit, held_out, seen, arguments.faces, skip=7 * number):
            *_, start = inversion.invert(picture_files.Picture(held_out.images[row]), model, prompt_model=prompt_model)
            before = {group: int(values[row]) for group, values in seen.items()}
            for method in arguments.methods:
                settings = edit_settings(edit, method, arguments, seed=arguments.seed + 100 * row)
                began = time.perf_counter()
                *_, step = tasks.edit(settings, start, model, prompt_model).steps()
                seconds = time.perf_counter() - began
                images = step.pictures.clamp(-1, 1)
                distance = float((images - start.image).abs().mean()) / 2
                of_edit[method].append(Result(*judge_edit(edit, images, before, judge), distance, seconds))
                sheets.append(torch.cat([start.image.clamp(-1, 1), images[:7]]))
        for method, found in of_edit.items():
            results[method] += found
            lines.append(row_of(f"{edit.words}, {method}", found))
            print(lines[-1], flush=True)
    if arguments.sheet:
        save_sheet(arguments.sheet, torch.cat(sheets), columns=1 + min(7, arguments.n))
    head = ["| | success | others kept | diversity | of those shown | distance | s |", "|---|---|---|---|---|---|---|"]
    return "\n".join([*head, *lines, *(row_of(f"**all, {method}**", found) for method, found in results.items())])


def edit_settings(edit: Edit, method: str, arguments: argparse.Namespace, *, seed: int) -> EditSettings:
    """ "no repulsion" is ours without it."""
    settings = EditSettings(edit.words, n=arguments.n, seed=seed)
    if arguments.steps:
        settings = replace(settings, flow=replace(settings.flow, steps=arguments.steps))
    if method == "no repulsion":
        return tasks.baseline(replace(settings, baseline="no repulsion"))
    return replace(settings, method=method)  # type: ignore[arg-type]


def row_of(name: str, results: Sequence[Result]) -> str:
    success, kept, diversity, shown, distance, seconds = (np.nanmean(column) for column in zip(*results, strict=True))
    return (
        f"| {name} | {100 * success:.1f} % | {100 * kept:.1f} % | {diversity:.3f} | {shown:.3f} | {distance:.3f} | "
        f"{seconds:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("all", "inversion", "edits", "domain"), default="all")
    parser.add_argument("--renders", type=int, default=200, help="renders to invert")
    parser.add_argument("--faces", type=int, default=25, help="faces for each edit")
    parser.add_argument("--among", type=int, default=600, help="renders to choose those faces from")
    parser.add_argument("--edits", type=int, default=len(EDITS), help="only the first so many")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["gmi", "no repulsion", "direction"])
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--steps", type=int, help="of the flow (the preset's)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--judge-renders", type=int, default=256, help="renders for the judge's mean features")
    parser.add_argument("--files", type=Path, nargs="*", default=[], help="other pictures, for --part domain")
    parser.add_argument("--sheet", type=Path, help="write the pictures there, the start first in every row")
    parser.add_argument("--out", type=Path, help="also write the tables there")
    options.add_judge(parser)
    arguments = options.parse(parser, QUICK)
    engine.set_threads(None)
    judge, parts = Judge(arguments.judge_renders, fresh=arguments.fresh_judge), []
    if arguments.part in ("all", "inversion"):
        sheet = arguments.sheet if arguments.part == "inversion" else None
        parts.append(invert_renders(arguments.renders, judge, sheet))
        print(parts[-1], flush=True)
    if arguments.part == "domain":
        parts.append(measure_domain(arguments.files, arguments.renders))
        print(parts[-1], flush=True)
    if arguments.part in ("all", "edits"):
        needed = {"gmi": "w", "no repulsion": "w", "direction": "s"}
        for method in arguments.methods:
            if method in needed:  # said before anything is computed
                models = engine.load_generator("avatars"), engine.load_prompt_model("clip-mini")
                styleclip.require_directions(*models, needed[method])  # type: ignore[arg-type]
        parts.append(run_edits(arguments, judge))
        print(parts[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
