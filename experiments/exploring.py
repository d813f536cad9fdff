"""More, unlike these: how much is found in several rounds that know of each other, against rounds that do not?

    python -m experiments.exploring --prompts 4

Each of the reporting prompts runs in rounds of n avatars of fresh seeds. "Unlike": each round is unlike all pictures
of the rounds before it; "fresh": none knows of another; "at once": one run of as many pictures. Present: the share of
the requested attributes that the judge sees. Found: the different values that it sees of attributes nobody asked for,
of all that there are. Vendi: how many different pictures there are, in the judge's features centred on held-out
renders. Nearest: the mean over pictures after the first round of 1 - cosine of those features to the nearest of earlier
rounds; of those at once, in their order. The judge took part in no run.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import engine
from engine.metrics.kernel import vendi_score
from engine.models.table import find_row, first_settings
from engine.pictures.examples import examples_of
from engine.pictures.picture_files import Picture
from engine.settings import GenerateSettings
from experiments import options
from experiments.prompts import Prompt, reporting
from experiments.text_guidance import Judge
from training.avatars import classifier, traits
from training.figures import judge_features

RESULTS = Path(__file__).parent / "results" / "exploring.json"
QUICK = {"prompts": 1, "n": 2, "rounds": 2, "steps": 2, "judge_renders": 16}
WAYS = ("unlike", "fresh", "at once")


class Found(NamedTuple):
    """Of all pictures of one prompt."""

    present: float
    found: float
    vendi: float
    nearest: float


def explore(way: str, settings: GenerateSettings, rounds: int) -> Tensor:
    """All pictures [rounds * n, 3, H, W] in [-1, 1], the earliest first."""
    model, prompt_model = engine.load_generator(settings.model), engine.load_prompt_model(settings.prompt_model)
    if way == "at once":
        rounds, settings = 1, replace(settings, n=rounds * settings.n)
    images: list[Tensor] = []
    pictures: list[Picture] = []
    for number in range(rounds):
        chosen, seen = replace(settings, seed=settings.seed + number * settings.n), None
        if way == "unlike" and pictures:
            seen = examples_of(pictures)
            chosen = replace(chosen, unlike=seen.sha256)
        *_, step = engine.generate(chosen, model, prompt_model, seen=seen).steps()
        images.append(step.pictures.clamp(-1, 1))
        pictures += [Picture(pixels) for pixels in engine.to_uint8(images[-1])]
    return torch.cat(images)


def measure(judge: Judge, prompt: Prompt, images: Tensor, n: int) -> Found:
    """n: pictures of a round."""
    labels, features = classifier.predict(judge.network, images), judge_features(judge.network, images) - judge.mean
    groups = [group for group in labels if group not in prompt.wanted]
    values = sum(len(traits.values_of(group)) for group in groups)
    seen = sum(len(labels[group].unique()) for group in groups)
    unit = F.normalize(features.double(), dim=1)
    cosines = unit @ unit.T
    nearest = [cosines[row, : row // n * n].max() for row in range(n, len(unit))]
    return Found(
        present=judge.present(labels, prompt),
        found=seen / values,
        vendi=vendi_score(features),
        nearest=float(1 - torch.stack(nearest).mean()),
    )


def compare(prompts: Sequence[Prompt], arguments: argparse.Namespace) -> dict[str, Found]:
    """Every way's means over the prompts."""
    judge = Judge(arguments.judge_renders, fresh=arguments.fresh_judge)
    row = find_row("avatars", "generator")
    first = first_settings("avatars", row.family, row)
    assert isinstance(first, GenerateSettings)
    flow = replace(first.flow, steps=arguments.steps or first.flow.steps)
    rows: dict[str, list[Found]] = {way: [] for way in WAYS}
    for number, prompt in enumerate(prompts):
        settings = replace(first, prompt=prompt.text, n=arguments.n, seed=1 + 1000 * number, flow=flow)
        for way in WAYS:
            images = explore(way, settings, arguments.rounds)
            rows[way].append(measure(judge, prompt, images, arguments.n))
            print(f"{prompt.text}, {way}: {cells(rows[way][-1])}", flush=True)
    return {
        way: Found(*(sum(column) / len(found) for column in zip(*found, strict=True))) for way, found in rows.items()
    }


def cells(found: Found) -> str:
    return f"{100 * found.present:.1f} % | {100 * found.found:.1f} % | {found.vendi:.2f} | {found.nearest:.3f}"


def table(rows: Mapping[str, Found]) -> str:
    head = ["| | present | found | Vendi | nearest |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(f"| {way} | {cells(found)} |" for way, found in rows.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=len(reporting.AVATARS), help="use only the first so many")
    parser.add_argument("--n", type=int, default=8, help="pictures of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of the flow (the preset's)")
    parser.add_argument("--judge-renders", type=int, default=1024, help="renders for the mean features")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the numbers go (%(default)s)")
    options.add_judge(parser)
    arguments = options.parse(parser, QUICK)
    engine.set_threads(None)
    rows = compare(reporting.AVATARS[: arguments.prompts], arguments)
    print(f"\n{table(rows)}")
    told = {way: found._asdict() for way, found in rows.items()}
    counts = {"prompts": arguments.prompts, "n": arguments.n, "rounds": arguments.rounds}
    options.write_numbers(arguments.out, {**counts, **told})


if __name__ == "__main__":
    main()
