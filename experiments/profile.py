"""Where a step's time goes with each bundled generator, and whether the shares are still those that were recorded.

    python -m experiments.profile                       # prints the table, writes experiments/results/profile.json
    python -m experiments.profile --compare             # compares with that file; says what has become slower

Of `--n` pictures: the generator forward, forward and backward; the prompt model and the discriminator forward and
backward; kernel and solve; a step in the middle of a run without repulsion and with it. Medians, one thread. Seconds
differ from machine to machine, ratios of what one process measured far less: one that is 15 % above what was recorded
is worth a look. A busy machine disturbs them too, so that `--compare` warns and never fails.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import engine
from engine.inference.terms import Batch, Repulsion
from engine.models.table import first_settings
from experiments import options
from experiments.step_benchmark import median_seconds, step_seconds

RESULTS = Path(__file__).parent / "results" / "profile.json"
MODELS = ("avatars", "fashion", "mosaic")
PARTS = ("forward", "generator", "prompt model", "discriminator", "kernel", "without repulsion", "step")
WORTH_A_LOOK = 1.15
SMALLEST = 0.05  # ratio that is looked at: shorter parts are hardly measured
QUICK: Mapping[str, object] = {"n": 2, "repeats": 1, "models": ["fashion"]}

Seconds = dict[str, float]


def profile(name: str, n: int, repeats: int) -> Seconds:
    """Seconds of the parts of a step with a generator, by name."""
    model = engine.load_generator(name)
    row = next(row for row in engine.list_models() if row.name == name)
    settings = replace(first_settings(name, row.family, row), n=n, seed=1, candidates=1)
    task = engine.generate(settings, model, engine.load_prompt_model(settings.prompt_model))
    problem, particles = task.problem, task.particles
    flow = replace(settings.flow, detail_steps=0)

    def forward() -> Tensor:
        with torch.no_grad():
            return problem.render(particles.latents)

    def both(function: Callable[[Tensor], Tensor], inputs: Tensor) -> float:
        inputs = inputs.detach().requires_grad_()
        return median_seconds(lambda: torch.autograd.grad(function(inputs).sum(), inputs), repeats)

    images = forward()
    batch = Batch(particles.latents, images)
    batch.features(problem.extractor)
    repulsion = Repulsion(problem.extractor)
    return {
        "forward": median_seconds(forward, repeats),
        "generator": both(problem.render, particles.latents),
        "prompt model": both(problem.extractor, images),
        "discriminator": both(model.discriminator, images) if model.discriminator else 0.0,
        "kernel": median_seconds(lambda: repulsion.log_value(batch), repeats),
        "without repulsion": step_seconds(problem, particles, replace(flow, diversity=0.0), repeats),
        "step": step_seconds(problem, particles, flow, repeats),
    }


def ratios(seconds: Mapping[str, float]) -> Seconds:
    """Each part by the generator's forward pass, and repulsion's price."""
    by_forward = {name: seconds[name] / seconds["forward"] for name in PARTS[1:]}
    return by_forward | {"with / without repulsion": seconds["step"] / seconds["without repulsion"]}


def slower(found: Mapping[str, Seconds], recorded: Mapping[str, Seconds]) -> list[str]:
    """A sentence for each ratio that lies WORTH_A_LOOK times above what was recorded."""
    told = []
    for name, own in found.items():
        for part, ratio in own.items():
            before = recorded.get(name, {}).get(part, 0.0)
            if before > SMALLEST and ratio > WORTH_A_LOOK * before:
                told.append(
                    f"{name}: the ratio of {part!r} is {ratio:.2f}, {ratio / before:.2f} times the recorded one."
                )
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--compare", action="store_true", help="with the file, which stays as it is")
    chosen = options.parse(parser, QUICK)
    engine.set_threads(1)
    print(f"| ms, {chosen.n} pictures | {' | '.join(PARTS)} | with / without |\n|---|{'---:|' * (len(PARTS) + 1)}")
    found = {}
    for name in chosen.models:
        seconds = profile(name, chosen.n, chosen.repeats)
        found[name] = ratios(seconds)
        columns = " | ".join(f"{1000 * seconds[part]:.1f}" for part in PARTS)
        print(f"| {name} | {columns} | {found[name]['with / without repulsion']:.2f} |", flush=True)
    if not chosen.compare:
        options.write_numbers(chosen.out, found)
        return
    recorded = json.loads(RESULTS.read_text(encoding="utf-8"))
    for sentence in slower(found, recorded) or ["No part is 15 % slower by its ratio than was recorded."]:
        print(sentence)


if __name__ == "__main__":
    main()
