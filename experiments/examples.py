"""Do the offered examples work? The share of pictures of each that show all it asks for, by judges that steer nothing.

    python -m experiments.examples                      # every example of every bundled model, as the page runs it
    python -m experiments.examples --model avatars --seeds 1 2 3
    python -m experiments.examples --out experiments/results/examples.json    # what the tests compare with

avatars: all requested attributes at once. fashion: the class. mosaic, emblems: the prompt fits the picture, that of
mosaic drawn from the nearest codes, better than 95 % of other held-out captions do, by the second prompt model.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import engine
from engine.inference.flow import Step
from engine.latents.codebook import CodeSpace
from engine.models.table import find_row, first_settings
from engine.settings import GenerateSettings
from engine.tasks import Task
from experiments import options, prompts
from experiments.prompts import offered
from training import judges
from training.avatars import classifier, traits
from training.fashion import data
from training.figures import clip_features

RESULTS = Path(__file__).parent / "results" / "examples.json"
ENOUGH = 0.75  # of the pictures of an example
FIRST_SEED = 1  # of the page
QUANTILE = 0.95
QUICK = {"n": 2, "steps": 2, "candidates": 4}
MODELS = ("avatars", "emblems", "fashion", "mosaic")

Shown = Callable[[Tensor, str], Tensor]  # pictures [N, 3, H, W] in [-1, 1] and the prompt -> bools [N]


class Result(NamedTuple):
    """Of one example from one seed: the share of the pictures that show it."""

    model: str
    prompt: str
    seed: int
    shown: float


@cache
def judge_of(model: str) -> Shown:
    """Whether pictures of a bundled model show a prompt that it offers."""
    return {"avatars": _avatars, "fashion": _fashion, "mosaic": _things, "emblems": _things}[model]()


def _avatars() -> Shown:
    network = judges.load_avatars()
    wanted = {prompt.text: prompt.wanted for prompt in offered.AVATARS}

    def shown(images: Tensor, prompt: str) -> Tensor:
        found = classifier.predict(network, images)
        every = torch.ones(len(images), dtype=torch.bool)
        for group, values in wanted[prompt].items():
            allowed = torch.tensor([traits.values_of(group).index(value) for value in values])
            every &= torch.isin(found[group], allowed)
        return every

    return shown


def _fashion() -> Shown:
    network = judges.load_fashion()

    def shown(images: Tensor, prompt: str) -> Tensor:
        with torch.no_grad():
            found = network.head(network.features(images[:, :1])).argmax(1)
        return found == data.CLASSES.index(offered.FASHION[prompt])

    return shown


def _things() -> Shown:
    model = judges.load_mosaic()
    others = prompts.mosaic_captions("reporting")[1]
    features = torch.cat([model.text_features(others[i : i + 64]) for i in range(0, len(others), 64)])

    def shown(images: Tensor, prompt: str) -> Tensor:
        pictures = clip_features(model, images)
        bars = (pictures @ features.T).quantile(QUANTILE, dim=1)
        return pictures @ model.text_features([prompt])[0] > bars

    return shown


def examples_of(model: str) -> tuple[str, ...]:
    """The prompts that the page offers for a bundled model."""
    return find_row(model, "generator").examples


def settings_of(model: str, prompt: str, seed: int = FIRST_SEED) -> GenerateSettings:
    """What the page runs when an example is clicked, without the baseline beside it."""
    row = find_row(model, "generator")
    return replace(first_settings(model, row.family, row), prompt=prompt, seed=seed, baseline=False)


def shorter(
    settings: GenerateSettings, *, steps: int | None, n: int | None, candidates: int | None = None
) -> GenerateSettings:
    """The same run with fewer steps, pictures or starts."""
    flow = settings.flow
    if steps:
        flow = flow.with_steps(steps)
    if candidates and settings.candidates > 1:
        settings = replace(settings, candidates=candidates)
    return replace(settings, flow=flow, n=n or settings.n)


def share_shown(settings: GenerateSettings) -> float:
    """Runs an example; the share of its pictures that show it."""
    return float(judge_of(settings.model)(pictures_of(settings), settings.prompt).double().mean())


def pictures_of(settings: GenerateSettings) -> Tensor:
    """What a run ends with: [N, 3, H, W] in [-1, 1]."""
    task = engine.generate(
        settings, engine.load_generator(settings.model), engine.load_prompt_model(settings.prompt_model)
    )
    for step in task.steps():
        last = step
    return _pictures(task, last)


def _pictures(task: Task, step: Step) -> Tensor:
    """As they would be saved: those of codes from the nearest ones."""
    space = task.problem.space
    images = step.pictures
    if isinstance(space, CodeSpace):
        with torch.no_grad():
            images = task.problem.render(space.snapped(step.particles.latents, 1.0))
    return images.clamp(-1, 1)


def measure(arguments: argparse.Namespace) -> Iterator[Result]:
    """Every example from every seed."""
    for model in [arguments.model] if arguments.model else MODELS:
        for prompt in examples_of(model):
            for seed in arguments.seeds:
                chosen = settings_of(model, prompt, seed)
                chosen = shorter(chosen, steps=arguments.steps, n=arguments.n, candidates=arguments.candidates)
                yield Result(model, prompt, seed, share_shown(chosen))


def table(results: Mapping[tuple[str, str], list[float]]) -> str:
    """A Markdown table: of each example the mean over seeds, and the worst."""
    lines = ["| model | example | shown | of the worst seed |", "|---|---|---|---|"]
    for (model, prompt), shares in results.items():
        mean, worst = 100 * sum(shares) / len(shares), 100 * min(shares)
        lines.append(f"| {model} | {prompt} | {mean:.0f} % | {worst:.0f} % |")
    return "\n".join(lines)


def report(results: Mapping[tuple[str, str], list[float]]) -> dict[str, dict[str, Any]]:
    """Of each model its generator's sha256, and the least share of each example."""
    made: dict[str, dict[str, Any]] = {}
    for (model, prompt), shares in results.items():
        made.setdefault(model, {"sha256": sha256_of(model), "shown": {}})["shown"][prompt] = min(shares)
    return made


def sha256_of(model: str) -> str:
    """Of the file that draws."""
    files = find_row(model, "generator").files
    return (files.get("generator") or files["decoder"]).sha256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, help="only this one's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[FIRST_SEED])
    parser.add_argument("--n", type=int, help="pictures (the page's)")
    parser.add_argument("--steps", type=int, help="of every run, both stages together (the page's)")
    parser.add_argument("--candidates", type=int, help="starts that each particle of mosaic tries (the page's)")
    parser.add_argument(
        "--out", type=Path, help="also write the shares there, with the hashes of the models, as RESULTS has them"
    )
    arguments = options.parse(parser, QUICK)
    engine.set_threads(None)
    found: dict[tuple[str, str], list[float]] = {}
    for result in measure(arguments):
        found.setdefault((result.model, result.prompt), []).append(result.shown)
        print(f"{result.model}: {result.prompt}, seed {result.seed}: {100 * result.shown:.0f} %", flush=True)
    print(f"\n{table(found)}")
    if arguments.out:
        arguments.out.write_text(json.dumps(report(found), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
