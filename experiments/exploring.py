"""How much is found in several rounds that know of each other, and do likes do what they say?

    python -m experiments.exploring --prompts 3 --steps 20

Each of the reporting prompts runs in rounds of n avatars of fresh seeds. "Unlike": each round is unlike all pictures
of the rounds before it; "fresh": none knows of another; "at once": one run of as many pictures. Present: the share of
the requested attributes that the judge sees. Found: the different values that it sees of attributes nobody asked for,
of all that there are. Vendi: how many different pictures there are, in the judge's features centred on held-out
renders. Nearest: the mean over pictures after the first round of 1 - cosine of those features to the nearest of earlier
rounds; of those at once, in their order. The first round of the first two is the same.

Likes: of the fresh pictures the first LIKED that wear something nobody asked for are liked, and the next round of n
other seeds is drawn towards them; how many of it wear such a thing, beside chance, the share of the fresh pictures.
The judge took part in no run.
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
from engine.settings import GenerateSettings
from engine.tasks.towards import SeenFeatures
from experiments import options
from experiments.prompts import Prompt, reporting
from experiments.text_guidance import Judge
from training.avatars import classifier, traits
from training.figures import judge_features

RESULTS = Path(__file__).parent / "results" / "exploring.json"
QUICK = {"prompts": 1, "n": 2, "rounds": 2, "steps": 2, "judge_renders": 16}
WAYS = ("fresh", "unlike", "at once")
WORN = ("glasses", "hat", "facial_hair")  # attributes that a picture may have or lack
LIKED = 4
MOST_CHANCE = 0.5  # what more of the pictures have already is no test


class Found(NamedTuple):
    """Of all pictures of one prompt."""

    present: float
    found: float
    vendi: float
    nearest: float


class Liked(NamedTuple):
    """Of one prompt. what: which attribute the liked pictures shared; had: how many of `of` next ones had it; chance:
    the share of the fresh pictures; present: as of `Found`, of the next ones."""

    what: str
    had: int
    of: int
    chance: float
    present: float


class Drawn(NamedTuple):
    """Pictures [N, 3, H, W] in [-1, 1], and their features [N, D] as the prompt model saw them."""

    images: Tensor
    features: Tensor

    def __add__(self, more: Drawn) -> Drawn:  # type: ignore[override]
        return Drawn(torch.cat([self.images, more.images]), torch.cat([self.features, more.features]))

    def seen(self, prompt_model: engine.PromptModel, places: Sequence[int] | None = None) -> SeenFeatures:
        rows = self.features if places is None else self.features[list(places)]
        return SeenFeatures(rows, prompt_model.sha256)


def draw(settings: GenerateSettings, *, seen: SeenFeatures | None = None, liked: SeenFeatures | None = None) -> Drawn:
    """One run. seen, liked: as of `engine.generate`."""
    model, prompt_model = engine.load_generator(settings.model), engine.load_prompt_model(settings.prompt_model)
    *_, step = engine.generate(settings, model, prompt_model, seen=seen, liked=liked).steps()
    return Drawn(step.pictures.clamp(-1, 1), step.features)


def explore(way: str, settings: GenerateSettings, rounds: int, first: Drawn | None = None) -> Drawn:
    """All pictures, the earliest first. first: those of the first round, where they are there already."""
    if way == "at once":
        return draw(replace(settings, n=rounds * settings.n))
    drawn = first or draw(settings)
    prompt_model = engine.load_prompt_model(settings.prompt_model)
    for number in range(1, rounds):
        chosen = replace(settings, seed=settings.seed + number * settings.n)
        seen = drawn.seen(prompt_model)
        drawn += draw(replace(chosen, unlike=seen.sha256), seen=seen) if way == "unlike" else draw(chosen)
    return drawn


def like(judge: Judge, prompt: Prompt, settings: GenerateSettings, drawn: Drawn) -> Liked | None:
    """settings: of the run that is to be like some of those drawn. None where they share nothing to be liked for."""
    labels = classifier.predict(judge.network, drawn.images)
    for group in (group for group in WORN if group not in prompt.wanted):
        having = wears(labels, group)
        chance = float(having.double().mean())
        if int(having.sum()) >= LIKED and chance <= MOST_CHANCE:
            liked = drawn.seen(engine.load_prompt_model(settings.prompt_model), having.nonzero()[:LIKED, 0].tolist())
            labels = classifier.predict(judge.network, draw(replace(settings, like=liked.sha256), liked=liked).images)
            return Liked(group, int(wears(labels, group).sum()), settings.n, chance, judge.present(labels, prompt))
    return None


def wears(labels: Mapping[str, Tensor], group: str) -> Tensor:
    """[N], whether the judge sees any value of the attribute but "none"."""
    return labels[group] != traits.values_of(group).index("none")


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


def compare(prompts: Sequence[Prompt], arguments: argparse.Namespace) -> None:
    """Measures one prompt after the other, and writes what is known after each; all at once at last."""
    judge = Judge(arguments.judge_renders, fresh=arguments.fresh_judge)
    row = find_row("avatars", "generator")
    base = first_settings("avatars", row.family, row)
    assert isinstance(base, GenerateSettings)
    flow = replace(base.flow, steps=arguments.steps or base.flow.steps)
    runs = [
        replace(base, prompt=prompt.text, n=arguments.n, seed=1 + 1000 * number, flow=flow)
        for number, prompt in enumerate(prompts)
    ]
    rows: dict[str, list[Found]] = {way: [] for way in WAYS}
    likes: list[Liked] = []

    def add(way: str, prompt: Prompt, drawn: Drawn) -> None:
        rows[way].append(measure(judge, prompt, drawn.images, arguments.n))
        print(f"{prompt.text}, {way}: {cells(rows[way][-1])}", flush=True)

    for prompt, settings in zip(prompts, runs, strict=True):
        fresh = explore("fresh", settings, arguments.rounds)
        add("fresh", prompt, fresh)
        first = Drawn(*(part[: arguments.n] for part in fresh))
        add("unlike", prompt, explore("unlike", settings, arguments.rounds, first))
        wanted = replace(flow, data_weight=arguments.like_weight or flow.data_weight)
        following = replace(settings, seed=settings.seed + arguments.rounds * arguments.n, flow=wanted)
        if liked := like(judge, prompt, following, fresh):
            likes.append(liked)
        write(arguments, flow.steps, rows, likes)
    for prompt, settings in zip(prompts, runs, strict=True):
        add("at once", prompt, explore("at once", settings, arguments.rounds))
        write(arguments, flow.steps, rows, likes)


def write(
    arguments: argparse.Namespace, steps: int, rows: Mapping[str, Sequence[Found]], likes: Sequence[Liked]
) -> None:
    """The table so far, and all numbers into the file."""
    print(f"\n{table(rows)}\n" + "\n".join(f"likes, {told(liked)}" for liked in likes), flush=True)
    counts = {"prompts": len(rows["fresh"]), "n": arguments.n, "rounds": arguments.rounds, "steps": steps}
    by_prompt = {way: [one._asdict() for one in found] for way, found in rows.items()}
    means = {way: mean_of(found)._asdict() for way, found in rows.items() if found}
    likes_told = {"likes": [liked._asdict() for liked in likes]}
    options.write_numbers(arguments.out, {**counts, **means, **likes_told, "by_prompt": by_prompt})


def mean_of(found: Sequence[Found]) -> Found:
    return Found(*(sum(column) / len(found) for column in zip(*found, strict=True)))


def told(liked: Liked) -> str:
    share, chance = 100 * liked.had / liked.of, 100 * liked.chance
    return (
        f"{liked.what}: {liked.had} of {liked.of} ({share:.0f} %), chance {chance:.0f} %, present {liked.present:.2f}"
    )


def cells(found: Found) -> str:
    return f"{100 * found.present:.1f} % | {100 * found.found:.1f} % | {found.vendi:.2f} | {found.nearest:.3f}"


def table(rows: Mapping[str, Sequence[Found]]) -> str:
    """Markdown; how many times as much as in fresh rounds of the same prompts is found, behind Vendi and nearest."""
    head = ["| | present | found | Vendi | ratio | nearest | ratio |", "|---|---|---|---|---|---|---|"]
    fresh = rows["fresh"]
    return "\n".join(head + [line(way, mean_of(one), mean_of(fresh[: len(one)])) for way, one in rows.items() if one])


def line(way: str, found: Found, base: Found) -> str:
    vendi, nearest = found.vendi / base.vendi, found.nearest / base.nearest
    parts = [f"{100 * found.present:.1f} %", f"{100 * found.found:.1f} %", f"{found.vendi:.2f}", f"{vendi:.2f}"]
    return f"| {' | '.join([way, *parts, f'{found.nearest:.3f}', f'{nearest:.2f}'])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=len(reporting.AVATARS), help="use only the first so many")
    parser.add_argument("--n", type=int, default=8, help="pictures of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of the flow (the preset's)")
    parser.add_argument("--like-weight", type=float, help="how much liked pictures count (as the page begins with)")
    parser.add_argument("--judge-renders", type=int, default=1024, help="renders for the mean features")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the numbers go (%(default)s)")
    options.add_judge(parser)
    arguments = options.parse(parser, QUICK)
    engine.set_threads(None)
    compare(reporting.AVATARS[: arguments.prompts], arguments)


if __name__ == "__main__":
    main()
