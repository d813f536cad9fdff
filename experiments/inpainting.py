"""Is what fills the hole plausible, different, and what was asked for? Ours against the same seeds without repulsion.

    python -m experiments.inpainting                    # all tables
    python -m experiments.inpainting --faces 6 --shares 0.1 0.4 0.7 --prompts 4

Masks: random free-form strokes that cover a tenth to seven tenths of held-out renders. Precision: the share of the
finished pictures on the manifold of held-out renders (k = 3, the judge's features). Hole diversity: mean over pairs
of 1 - cosine of the judge's features, centred on the renders' mean; the pictures differ in the hole alone. With a
prompt the mask covers the region that the words speak of, and the judge says whether it shows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import engine
from engine import tasks
from engine.inference.flow import Step, pairwise_diversity
from engine.metrics.manifold import covered_share
from engine.pictures import masks, picture_files
from engine.settings import InpaintSettings
from engine.tasks import inversion
from experiments import options
from experiments.text_guidance import Judge
from training.avatars import classifier, larger, pool, traits
from training.figures import judge_features
from training.jobs import save_sheet

SIDE = larger.RESOLUTION  # pixels of the renders, in which masks are drawn
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
QUICK = {"faces": 1, "shares": [0.4], "prompts": 1, "n": 2, "steps": 2, "judge_renders": 16}


class Wish(NamedTuple):
    """words: the prompt; wanted: the values of `group` that show it; region: left, top, right, bottom, of the side."""

    words: str
    group: str
    wanted: tuple[str, ...]
    region: tuple[float, float, float, float]


EYES, MOUTH, TOP = (0.25, 0.35, 0.75, 0.58), (0.3, 0.55, 0.7, 0.75), (0.12, 0.02, 0.88, 0.42)
BODY, CHIN, HEAD = (0.0, 0.72, 1.0, 1.0), (0.25, 0.5, 0.75, 0.85), (0.1, 0.02, 0.9, 0.8)
WISHES = (
    Wish("sunglasses", "glasses", ("sunglasses",), EYES),
    Wish("a big smile", "mouth", ("big smile",), MOUTH),
    Wish("a hat", "hat", ("cap", "beanie", "top hat"), TOP),
    Wish("a person in a suit", "clothes", ("suit",), BODY),
    Wish("a beard", "facial_hair", ("beard",), CHIN),
    Wish("round glasses", "glasses", ("round",), EYES),
    Wish("a sad face", "mouth", ("sad",), MOUTH),
    Wish("a hoodie", "clothes", ("hoodie",), BODY),
    Wish("a person with red hair", "hair_colour", ("red",), HEAD),
    Wish("a top hat", "hat", ("top hat",), TOP),
)


class Result(NamedTuple):
    """Of one side of one face: means over its pictures."""

    changed: float
    precision: float
    diversity: float
    shown: float  # NaN without a prompt
    seconds: float


def free_form_mask(share: float, rng: np.random.Generator, side: int = SIDE) -> masks.Mask:
    """Thick wandering strokes until at least `share` of the square is covered."""
    mask = np.zeros((side, side), bool)
    y, x = np.mgrid[:side, :side]
    while mask.mean() < share:
        place, angle = rng.uniform(0, side, 2), rng.uniform(0, 2 * np.pi)
        radius = rng.uniform(0.04, 0.1) * side
        for _ in range(rng.integers(3, 9)):
            mask |= (x - place[0]) ** 2 + (y - place[1]) ** 2 < radius**2
            if mask.mean() >= share:
                break
            angle += rng.normal(0, 0.7)
            place = np.clip(place + radius * np.array([np.cos(angle), np.sin(angle)]), 0, side)
    return mask


def region_mask(wish: Wish, side: int = SIDE) -> masks.Mask:
    """The rectangle that the words speak of."""
    left, top, right, bottom = (round(side * edge) for edge in wish.region)
    mask = np.zeros((side, side), bool)
    mask[top:bottom, left:right] = True
    return mask


def run_case(
    pixels: picture_files.Pixels,
    mask: masks.Mask,
    wish: Wish | None,
    arguments: argparse.Namespace,
    judge: Judge,
    seed: int,
) -> tuple[dict[str, Result], torch.Tensor]:
    """Both sides of one face and mask, and the pictures: the upload with the hole, ours, the baseline."""
    model, prompt_model = engine.load_generator("avatars"), engine.load_prompt_model("clip-mini")
    picture = picture_files.Picture(pixels)
    settings = InpaintSettings(wish.words if wish else "", n=arguments.n, seed=seed, feather=arguments.feather)
    if arguments.steps:
        settings = replace(settings, flow=replace(settings.flow, steps=arguments.steps))
    *_, start = inversion.invert(picture, model, mask=mask)
    results = {}
    shown = [torch.where(torch.from_numpy(mask), torch.zeros(()), start.target)]
    for name, side in (("ours", settings), ("baseline", tasks.baseline(settings))):
        task = tasks.inpaint(side, picture, mask, start, model, prompt_model)
        seconds = 0.0
        for step in task.steps():
            seconds += step.seconds
        results[name] = measure(task, step, wish, judge, seconds)
        shown.append(step.images[: arguments.shown].clamp(-1, 1))
    return results, torch.cat(shown)


def measure(task: tasks.Task, step: Step, wish: Wish | None, judge: Judge, seconds: float) -> Result:
    """The figures of one side's last step."""
    images = step.images.clamp(-1, 1)
    features = judge_features(judge.network, images)
    shown = float("nan")
    if wish is not None:
        wanted = torch.tensor([traits.values_of(wish.group).index(value) for value in wish.wanted])
        shown = float(torch.isin(classifier.predict(judge.network, images)[wish.group], wanted).float().mean())
    return Result(
        changed=task.figures(step)["known_pixels_changed"],
        precision=covered_share(features.double(), judge.centres, judge.radii),
        diversity=pairwise_diversity(features - judge.mean),
        shown=shown,
        seconds=seconds,
    )


def row_of(name: str, sides: Sequence[dict[str, Result]]) -> str:
    """One row of a table, means over the cases."""
    cells = []
    for side in ("ours", "baseline"):
        changed, precision, diversity, shown, _ = zip(*(case[side] for case in sides), strict=True)
        cells += [f"{sum(changed):.0f}", f"{np.mean(precision):.2f}", f"{np.mean(diversity):.3f}"]
        cells.append("" if np.isnan(shown).all() else f"{100 * np.nanmean(shown):.1f} %")
    ours, other = (sum(case[side].diversity for case in sides) for side in ("ours", "baseline"))
    return f"| {name} | {' | '.join(cells)} | {ours / max(other, 1e-9):.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=25, help="faces for every size of mask, and for every prompt")
    parser.add_argument("--shares", type=float, nargs="*", default=list(SHARES), help="sizes of the masks")
    parser.add_argument("--prompts", type=int, default=len(WISHES), help="only the first so many")
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--steps", type=int, help="of the flow (the preset's)")
    parser.add_argument("--feather", type=int, default=InpaintSettings.feather)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--judge-renders", type=int, default=1024)
    parser.add_argument("--shown", type=int, default=4, help="pictures of each side on the sheet")
    parser.add_argument("--sheet", type=Path, help="write the pictures of the first face of every row there")
    parser.add_argument("--out", type=Path, help="also write the table there")
    options.add_judge(parser)
    arguments = options.parse(parser, QUICK)
    engine.set_threads(None)
    judge = Judge(arguments.judge_renders, fresh=arguments.fresh_judge)
    cases: list[tuple[str, float | Wish]] = [(f"{100 * share:.0f} % hidden", share) for share in arguments.shares]
    cases += [(wish.words, wish) for wish in WISHES[: arguments.prompts]]
    held_out = pool.held_out(arguments.judge_renders + arguments.faces * len(cases), SIDE).images
    columns = ("changed", "precision", "diversity", "shown")
    heads = " | ".join(f"{side} {column}" for side in ("ours:", "baseline:") for column in columns)
    lines = [f"| | {heads} | ratio of diversity |", "|" + "---|" * 10]
    sheets, everything = [], []
    for row, (name, case) in enumerate(cases):
        sides = []
        first = arguments.judge_renders + arguments.faces * row  # other faces for every row
        for number, pixels in enumerate(held_out[first : first + arguments.faces]):
            rng = np.random.default_rng((arguments.seed, number, round(1000 * case) if isinstance(case, float) else 0))
            mask = free_form_mask(case, rng) if isinstance(case, float) else region_mask(case)
            wish = None if isinstance(case, float) else case
            results, images = run_case(pixels, mask, wish, arguments, judge, arguments.seed + 100 * number)
            sides.append(results)
            if number == 0:
                sheets.append(images)
        everything += sides
        lines.append(row_of(name, sides))
        print(lines[-1], flush=True)
    lines.append(row_of("**all**", everything))
    print("\n" + "\n".join(lines))
    if arguments.sheet:
        save_sheet(arguments.sheet, torch.cat(sheets), columns=1 + 2 * min(arguments.shown, arguments.n))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
