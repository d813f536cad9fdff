"""Without words: are the pictures more like real ones than the plain generator's? (Zhou et al. 2022, Tables 1 and 7.)

    python -m experiments.unconditional                              # fashion, as in the README
    python -m experiments.unconditional --model avatars --pictures 256
    python -m experiments.unconditional --split validation --set step_size=0.1 --rows "A + B + C"

C is the discriminator's logit, B the density of the examples that come with the model, A the particles' repulsion, in
features of the model's prompt model. The plain generator is the baseline: the same seeds, not moved. Measured with the
judge's features, which no run optimised: the Fréchet distance to held-out pictures, which neither the training nor B
saw (fashion: of its scores before the softmax, as on the model's card), precision and recall (k = 3) and the mean over
pairs of 1 - cosine, centred on the held-out pictures' mean. "held-out" are others of them. Weights and step sizes were
chosen on the seeds and pictures of `--split validation`; the table is of others.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import engine
from engine import tasks
from engine.inference.flow import pairwise_diversity
from engine.metrics.frechet import frechet_distance
from engine.metrics.manifold import precision_recall
from engine.models.table import find_row, first_settings
from engine.settings import GenerateSettings
from experiments import options
from training import judges
from training.avatars import pool
from training.fashion import data
from training.figures import judge_features
from training.jobs import to_tensor

RESULTS = Path(__file__).parent / "results" / "unconditional.json"
FIRST_SEEDS = {"validation": 200_000, "reporting": 300_000}
GROUP = 64  # particles of one run, as many as a run may have
NEIGHBOURS = 3
PLAIN = "plain generator"
ROWS: Mapping[str, Mapping[str, Any]] = {  # what is left out of a run
    "C": {"diversity": 0.0, "data_weight": 0.0},
    "B": {"diversity": 0.0, "condition_weight": 0.0},
    "A": {"data_weight": 0.0, "condition_weight": 0.0},
    "A + C": {"data_weight": 0.0},
    "A + B": {"condition_weight": 0.0},
    "B + C": {"diversity": 0.0},
    "A + B + C": {},
}
QUICK = {"pictures": 8, "held_out": 16, "steps": 2, "rows": ["A + C", "A + B + C"]}


class Seen(NamedTuple):
    """N pictures as a judge sees them: what the Fréchet distance is of, and features for all else, [N, D] both."""

    scores: Tensor
    features: Tensor


class Bench(NamedTuple):
    """A model's judge, and the held-out pictures that it compares with, beside others of them."""

    look: Callable[[Tensor], Seen]
    held_out: Seen
    others: Seen


def fashion(count: int, split: str) -> Bench:
    """Test pictures: of the first half for validation, of the second for the report."""
    judge, (pixels, _) = judges.load_fashion(), data.load("t10k")

    @torch.no_grad()
    def look(images: Tensor) -> Seen:
        features = torch.cat([judge.features(part[:, :1].clamp(-1, 1)) for part in images.split(250)])
        return Seen(judge.head(features), features)

    half = pixels.split(len(pixels) // 2)[list(FIRST_SEEDS).index(split)]
    return Bench(look, *(look(data.to_images(part)) for part in half[: 2 * count].chunk(2)))


def avatars(count: int, split: str) -> Bench:
    """Renders of seeds that neither the training nor the model's examples have."""
    judge = judges.load_avatars()

    def look(images: Tensor) -> Seen:
        features = judge_features(judge, images)
        return Seen(features, features)

    renders = pool.held_out(2 * count, seed=pool.HELD_OUT_SEED + FIRST_SEEDS[split], settled=True)
    return Bench(look, *(look(to_tensor(part)) for part in (renders.images[:count], renders.images[count:])))


BENCHES: Mapping[str, Callable[[int, str], Bench]] = {"fashion": fashion, "avatars": avatars}


def pictures_of(settings: GenerateSettings, count: int) -> tuple[Tensor, float]:
    """The pictures [count, 3, H, W] of as many runs as that takes, and the seconds of one picture."""
    model, prompt_model = engine.load_generator(settings.model), engine.load_prompt_model(settings.prompt_model)
    shown, began = [], time.perf_counter()
    for first in range(0, count, GROUP):
        part = replace(settings, n=min(GROUP, count - first), seed=settings.seed + first)
        *_, step = engine.generate(part, model, prompt_model).steps()
        shown.append(step.pictures.clamp(-1, 1))
    return torch.cat(shown), (time.perf_counter() - began) / count


def measure(bench: Bench, found: Seen) -> dict[str, float]:
    """The columns of the table."""
    both = precision_recall(bench.held_out.features, found.features, k=NEIGHBOURS)
    return {
        "frechet": frechet_distance(bench.held_out.scores, found.scores),
        "precision": both.precision,
        "recall": both.recall,
        "diversity": pairwise_diversity(found.features - bench.held_out.features.mean(0)),
    }


def settings_of(arguments: argparse.Namespace) -> GenerateSettings:
    """A run of the model without words, with what the arguments change in its flow."""
    row = find_row(arguments.model, "generator")
    settings = replace(first_settings(row.name, row.family, row), prompt="", seed=FIRST_SEEDS[arguments.split])
    changes = {name: json.loads(value) for name, value in (item.split("=", 1) for item in arguments.set)}
    if arguments.steps:
        changes["steps"] = arguments.steps
    return replace(settings, flow=replace(settings.flow, **changes))


def compare(bench: Bench, settings: GenerateSettings, rows: Sequence[str], count: int) -> dict[str, dict[str, float]]:
    """The plain generator, then each row; beside them held-out pictures themselves."""
    found = {"held-out": measure(bench, Seen(*(part[:count] for part in bench.others)))}
    for name in (PLAIN, *rows):
        side = replace(settings, flow=replace(settings.flow, **ROWS.get(name, {})))
        images, seconds = pictures_of(tasks.baseline(side) if name == PLAIN else side, count)
        found[name] = measure(bench, bench.look(images)) | {"seconds": seconds}
        print(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in found[name].items()), flush=True)
    return found


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown."""
    lines = ["| | Fréchet distance | precision | recall | diversity | s a picture |", "|---" * 6 + "|"]
    for name, row in rows.items():
        cells = [f"{row[key]:.3f}" for key in ("frechet", "precision", "recall", "diversity")]
        cells.append(f"{row['seconds']:.2f}" if "seconds" in row else "-")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=list(BENCHES), default="fashion")
    parser.add_argument("--split", choices=list(FIRST_SEEDS), default="reporting")
    parser.add_argument("--pictures", type=int, default=1024, help="of each row (%(default)s)")
    parser.add_argument("--held-out", type=int, default=2048, help="pictures to compare with (%(default)s)")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=["B + C", "A + C", "A + B + C"])
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=JSON", help="other flow settings of every run")
    parser.add_argument("--steps", type=int, help="of the flow (the preset's)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the numbers go (%(default)s)")
    arguments = options.parse(parser, QUICK)
    engine.set_threads(None)
    settings = settings_of(arguments)
    bench = BENCHES[arguments.model](arguments.held_out, arguments.split)
    rows = compare(bench, settings, arguments.rows, arguments.pictures)
    print(f"\n{arguments.model}: {arguments.pictures} pictures, {settings.flow.steps} steps\n\n{table(rows)}")
    kept = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {}
    flow = settings.to_dict()["flow"]
    kept[arguments.model] = {"split": arguments.split, "pictures": arguments.pictures, "flow": flow, "rows": rows}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    options.write_numbers(arguments.out, kept)


if __name__ == "__main__":
    main()
