"""Do the pictures show what was asked for, and how different are they? Ours against the baseline.

    python -m experiments.text_guidance                     # the table of the README, on the reporting prompts
    python -m experiments.text_guidance --split tuning --diversity 0.3 0.5 0.7
    python -m experiments.text_guidance --split tuning --prompts 4 --towards-weight 0.5    # with B of Eq. 6

Every prompt runs with n particles from the same seeds, without repulsion (the baseline) and with it. The judge
(`training/judges/avatars`) counts how many of the requested attributes each picture shows. Diversity is
measured in features that no run optimised: the mean over pairs of 1 - cosine of the judge's features (centred on
the renders' mean), and the share of the attributes nobody requested in which two pictures differ. Precision: the
share of pictures on the manifold of held-out renders (k = 3). The last row is what independent draws
would reach: held-out drawings that happen to fit the prompt. `--split rare` asks for what few drawings have.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import engine
from engine.inference.flow import Step, pairwise_diversity
from engine.metrics.manifold import covered_share, neighbour_radii
from engine.models.table import find_row, first_settings
from engine.settings import OF_THE_MODEL
from experiments import options
from experiments.prompts import Prompt, reporting, tuning
from training import judges
from training.avatars import classifier, pool, traits
from training.figures import judge_features
from training.jobs import to_tensor

QUICK = {"prompts": 2, "n": 2, "steps": 2, "judge_renders": 16, "drawings": 200}
SPLITS = {"tuning": tuning.AVATARS, "reporting": reporting.AVATARS, "rare": reporting.RARE}


class Result(NamedTuple):
    """Means over prompts."""

    present: float
    text_score: float
    diversity: float
    differing: float
    precision: float
    seconds_per_step: float


class Judge:
    """The attribute classifier and the manifold of held-out renders in its features."""

    def __init__(self, renders: int = 1024, *, fresh: bool = False) -> None:
        self.network = judges.load_avatars(fresh=fresh)
        features = judge_features(self.network, to_tensor(pool.held_out(renders).images))
        self.mean = features.mean(0)
        self.centres = features.double()
        self.radii = neighbour_radii(self.centres, 3)

    def present(self, found: dict[str, Tensor], prompt: Prompt) -> float:
        """Share of (picture, requested group) pairs that show an allowed value."""
        shares = []
        for group, wanted in prompt.wanted.items():
            allowed = torch.tensor([traits.values_of(group).index(value) for value in wanted])
            shares.append(torch.isin(found[group], allowed).double().mean())
        return float(torch.stack(shares).mean())

    def differing(self, found: dict[str, Tensor], prompt: Prompt) -> float:
        """Share of (pair of pictures, unrequested group) that differ."""
        groups = [group for group in found if group not in prompt.wanted]
        pairs = list(combinations(range(len(found["person"])), 2))
        return sum(float(found[group][i] != found[group][j]) for group in groups for i, j in pairs) / (
            len(groups) * len(pairs)
        )

    def measure(self, prompt: Prompt, step: Step, seconds: float) -> Result:
        assert step.text_scores is not None
        images = step.pictures.clamp(-1, 1)
        found, features = classifier.predict(self.network, images), judge_features(self.network, images)
        return Result(
            present=self.present(found, prompt),
            text_score=float(step.text_scores.mean()),
            diversity=pairwise_diversity(features - self.mean),
            differing=self.differing(found, prompt),
            precision=covered_share(features.double(), self.centres, self.radii),
            seconds_per_step=seconds,
        )


def run(
    prompts: Sequence[Prompt],
    flow: engine.FlowSettings,
    judge: Judge,
    *,
    n: int,
    seed: int,
    space: str | None = None,
    towards: str = "",
) -> Result:
    """The mean result of one setting over the prompts. space, towards: as of `GenerateSettings`."""
    model, prompt_model = engine.load_generator("avatars"), engine.load_prompt_model("clip-mini")
    results = []
    for i, prompt in enumerate(prompts):
        settings = engine.GenerateSettings(
            prompt.text, n=n, seed=seed + 1000 * i, space=space, flow=flow, towards=towards
        )
        task = engine.generate(settings, model, prompt_model)
        seconds = 0.0
        for step in task.steps():
            seconds += step.seconds
        results.append(judge.measure(prompt, step, seconds / flow.steps))
    return Result(*(sum(column) / len(results) for column in zip(*results, strict=True)))


def independent(prompts: Sequence[Prompt], judge: Judge, *, n: int, drawings: int) -> Result | None:
    """What independent draws would reach: held-out drawings in which the judge finds all that was asked for.

    The first `n` of each prompt; prompts that fit fewer are left out, None where none is left.
    """
    prompt_model = engine.load_prompt_model("clip-mini")
    images = to_tensor(pool.held_out(drawings).images)
    parts = [classifier.predict(judge.network, part) for part in images.split(256)]
    found = {group: torch.cat([part[group] for part in parts]) for group in parts[0]}
    features = judge_features(judge.network, images)
    results = []
    for prompt in prompts:
        fitting = torch.ones(len(images), dtype=torch.bool)
        for group, wanted in prompt.wanted.items():
            allowed = torch.tensor([traits.values_of(group).index(value) for value in wanted])
            fitting &= torch.isin(found[group], allowed)
        rows = fitting.nonzero()[:n, 0]
        if len(rows) == n:
            scores = prompt_model.image_features(images[rows]) @ prompt_model.text_features([prompt.text])[0]
            differing = judge.differing({group: values[rows] for group, values in found.items()}, prompt)
            diversity = pairwise_diversity(features[rows] - judge.mean)
            precision = covered_share(features[rows].double(), judge.centres, judge.radii)
            results.append(Result(1.0, float(scores.mean()), diversity, differing, precision, 0.0))
    if not results:
        return None
    return Result(*(sum(column) / len(results) for column in zip(*results, strict=True)))


def table(rows: dict[str, Result]) -> str:
    """A Markdown table, the first row being the baseline to which diversity is compared."""
    first = next(iter(rows.values()))
    lines = [
        "| | requested present | text score | diversity | ratio | differing unrequested | ratio | precision | s/step |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {100 * row.present:.1f} % | {row.text_score:.3f} | {row.diversity:.3f} | "
            f"{row.diversity / first.diversity:.2f} | {row.differing:.3f} | {row.differing / first.differing:.2f} | "
            f"{row.precision:.2f} | {f'{row.seconds_per_step:.3f}' if row.seconds_per_step else '-'} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=tuple(SPLITS), default="reporting")
    parser.add_argument("--space", help="in which the particles move (the model's)")
    parser.add_argument("--prompts", type=int, help="use only the first so many")
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--diversity", type=float, nargs="*", default=None, help="default: the preset's")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=JSON", help="other flow settings of both")
    parser.add_argument(
        "--towards-weight", type=float, default=0.0, help="both go towards the model's own examples (%(default)s)"
    )
    parser.add_argument("--steps", type=int, help="of the flow (the preset's)")
    parser.add_argument("--judge-renders", type=int, default=1024, help="renders for precision and the mean features")
    parser.add_argument("--drawings", type=int, default=4096, help="drawings among which some fit the prompt")
    parser.add_argument("--out", type=Path, help="also write the table there")
    options.add_judge(parser)
    arguments = options.parse(parser, QUICK)
    engine.set_threads(None)
    row = find_row("avatars", "generator")
    base = first_settings("avatars", row.family, row).flow
    changes = {name: json.loads(value) for name, value in (item.split("=", 1) for item in arguments.set)}
    base = replace(base, **changes)
    if arguments.steps:
        base = replace(base, steps=arguments.steps)
    towards = OF_THE_MODEL if arguments.towards_weight else ""
    base = replace(base, data_weight=arguments.towards_weight)
    prompts = SPLITS[arguments.split][: arguments.prompts]
    judge = Judge(arguments.judge_renders, fresh=arguments.fresh_judge)
    rows: dict[str, Result] = {}
    for diversity in [0.0, *(arguments.diversity or [base.diversity])]:
        name = "baseline (no repulsion)" if diversity == 0 else f"ours, diversity {diversity:g}"
        flow = replace(base, diversity=diversity)
        rows[name] = run(
            prompts, flow, judge, n=arguments.n, seed=arguments.seed, space=arguments.space, towards=towards
        )
        print(f"{name}: {rows[name]}", flush=True)
    if fitting := independent(prompts, judge, n=arguments.n, drawings=arguments.drawings):
        rows["drawings that fit, independent"] = fitting
    text = table(rows)
    print(f"\n{len(prompts)} {arguments.split} prompts, n = {arguments.n}, {base.steps} steps\n\n{text}")
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
