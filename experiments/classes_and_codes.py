"""Classes and codes: do the pictures show what was asked for, how different are they, and what does each part add?

    python -m experiments.classes_and_codes                    # both tables of the README, and the figure
    python -m experiments.classes_and_codes --part fashion --prompts 4 --steps 20
    python -m experiments.classes_and_codes --part mosaic --figure figure.png

fashion: classes are found from the prompt, n particles, without repulsion (the baseline) and with it. The classifier
of `training/judges/fashion`, which no run optimised, says whether a picture is of the right class; diversity is the
mean over pairs of 1 - cosine of its features, centred on the test pictures' mean.

mosaic: held-out captions of every source, n particles, both stages with the pull to the codes, and without either.
Every picture is drawn from the nearest codes alone, so that nothing counts which only vectors between the codes can
show; "between codes" is the text score of what the run showed. A picture passes where its prompt's score is above the
95 % quantile of those of other held-out captions. Scores are of the whole picture, no random views. The judge is a
second prompt model (`training/judges/mosaic`), which no run optimised: what pleases the first one by tricks does not
please it. Its features also measure diversity, and how near the pictures are to real ones
(realism, Kynkäänniemi et al. 2019, Eq. 3: k = 3, 2,048 of the training's pictures).
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import engine
from engine.inference.flow import Problem, Step, pairwise_diversity
from engine.latents.codebook import CodeSpace
from engine.metrics.manifold import neighbour_radii, realism
from engine.models.clip import PromptModel
from engine.models.table import find_row, first_settings
from engine.settings import GenerateSettings, SettingsError
from experiments import options, prompts
from experiments.prompts import reporting, tuning
from training import judges
from training.fashion import data
from training.figures import clip_features
from training.jobs import save_sheet

SPLITS = {"tuning": tuning, "reporting": reporting}
PROMPTS_OF_SOURCE, OTHERS_OF_SOURCE = 6, 60
CAPTION_SEEDS = {"tuning": 20_260_101, "reporting": 20_260_301}
PROMPT_WORDS = 3  # at least, where a picture has no name
QUANTILE = 0.95
QUICK = {"prompts": 1, "n": 2, "steps": 4, "candidates": 8, "shown": 2}
NEIGHBOURS = 3  # of the realism


class Run(NamedTuple):
    """The last step of a run, what it was a run of, and how long it took."""

    problem: Problem
    step: Step
    seconds: float
    text_score: float


def carry_out(settings: GenerateSettings) -> Run:
    """One run with the models that its settings name."""
    model, prompt_model = engine.load_generator(settings.model), engine.load_prompt_model(settings.prompt_model)
    task = engine.generate(settings, model, prompt_model)
    seconds = 0.0
    for step in task.steps():
        seconds += step.seconds
    assert step.text_scores is not None
    return Run(task.problem, step, seconds, float(step.text_scores.mean()))


def base_settings(model: str, arguments: argparse.Namespace) -> GenerateSettings:
    """What a run of a bundled model begins with, and what the arguments change in it or in its flow."""
    row = find_row(model, "generator")
    settings, changes = first_settings(model, row.family, row), arguments.changes
    if arguments.steps:
        changes = {"steps": arguments.steps, **changes}
        if settings.flow.detail_steps:
            changes = {"detail_steps": arguments.steps // 2, **changes}
    if arguments.candidates and settings.candidates > 1:
        changes = {"candidates": arguments.candidates, **changes}
    of_flow = {name: value for name, value in changes.items() if hasattr(settings.flow, name)}
    rest = {name: value for name, value in changes.items() if name not in of_flow}
    return replace(settings, flow=replace(settings.flow, **of_flow), **rest)


def prompts_of(
    base: GenerateSettings, texts: Sequence[str], arguments: argparse.Namespace
) -> Iterator[GenerateSettings]:
    """The settings of every prompt, each from its own seeds."""
    for number, prompt in enumerate(texts):
        yield replace(base, prompt=prompt, n=arguments.n, seed=arguments.seed + 1000 * number)


def table(rows: Mapping[str, Sequence[tuple[float, ...]]], columns: Mapping[str, str]) -> str:
    """A Markdown table of the means of each row's results. columns: heading to format."""
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, results in rows.items():
        means = [sum(column) / len(column) for column in zip(*results, strict=True)]
        shown = [f"{value:{form}}" for value, form in zip(means, columns.values(), strict=True)]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


# ---- fashion ---------------------------------------------------------------------------------------------


class Judge:
    """The classifier, and the mean of its features over the test pictures."""

    def __init__(self, *, fresh: bool = False) -> None:
        self.network = judges.load_fashion(fresh=fresh)
        self.mean = judges.reference("fashion")["mean"]

    @torch.no_grad()
    def measure(self, images: Tensor, wanted: str) -> tuple[float, float]:
        """The share of the pictures [N, 3, 32, 32] of the class, and their diversity."""
        features = self.network.features(images[:, :1].clamp(-1, 1))
        found = self.network.head(features).argmax(1)
        share = (found == data.CLASSES.index(wanted)).double().mean()
        return float(share), pairwise_diversity(features - self.mean)


def measure_fashion(arguments: argparse.Namespace) -> str:
    """The table of fashion: the baseline, and ours. A prompt that finds no class has no picture of the right one."""
    judge, wanted = (
        Judge(fresh=arguments.fresh_judge),
        dict(list(SPLITS[arguments.split].FASHION.items())[: arguments.prompts]),
    )
    base = base_settings("fashion", arguments)
    rows: dict[str, list[tuple[float, ...]]] = {}
    lines, ratios, refused = [], [], 0
    for settings in prompts_of(base, list(wanted), arguments):
        found = {}
        for name, flow in {"baseline": replace(base.flow, diversity=0.0), "ours": base.flow}.items():
            try:
                run = carry_out(replace(settings, flow=flow))
            except SettingsError as error:
                print(f"{settings.prompt}: {error}", flush=True)
                refused += 1
                break
            share, diversity = judge.measure(run.step.pictures, wanted[settings.prompt])
            found[name] = (100 * share, diversity, run.text_score, run.seconds)
            rows.setdefault(name, []).append(found[name])
        if not found:
            continue
        ratios.append(found["ours"][1] / max(found["baseline"][1], 1e-6))
        told = ", ".join(
            f"{name} {share:.0f} %, diversity {diversity:.3f}" for name, (share, diversity, *_) in found.items()
        )
        lines.append(f"{settings.prompt}: {told}")
        print(lines[-1], flush=True)
    means = {name: sum(result[1] for result in results) / len(results) for name, results in rows.items()}
    counts = f"{len(wanted)} {arguments.split} prompts, n = {arguments.n}, {base.flow.steps} steps"
    head = f"fashion: {counts}, {base.prompt_model}"
    columns = {"right class (%)": ".1f", "diversity": ".3f", "text score": ".3f", "s a run": ".1f"}
    ratio = f"Diversity: {means['ours'] / means['baseline']:.2f} times the baseline's."
    answered = 1 - refused / len(wanted)
    rows = {name: [(share * answered, *rest) for share, *rest in results] for name, results in rows.items()}
    refusals = f"{refused} prompts found no class: they count as wrong, and in no other column."
    return "\n".join([head, "", table(rows, columns), "", ratio, refusals])


# ---- mosaic ----------------------------------------------------------------------------------------------


def write_captions(path: Path = prompts.MOSAIC) -> None:
    """Draws both splits' prompts and the captions to compare with, from held-out pictures of the training's pool."""
    import numpy as np

    from training.mosaic import pool, words

    everything = pool.open_pool()
    author = words.Author(everything)
    drawn: dict[str, dict[str, list[str]]] = {"tuning": {}, "reporting": {}, "others": {}}
    for split, seed in CAPTION_SEEDS.items():
        rng, np_rng = random.Random(seed), np.random.default_rng(seed)
        for source in pool.SOURCES:
            chosen: list[str] = []
            rest: list[str] = []
            known = {text for texts in drawn.values() for text in texts.get(source, ())}
            for row in np_rng.permutation(everything.rows(held_out=True, source=source)):
                text = author.caption(row, everything.look(row, np_rng), rng)[0].text
                if text in (*chosen, *rest, *known):
                    continue
                is_prompt = len(chosen) < PROMPTS_OF_SOURCE and is_telling(text, everything.facts[row].get("name", ""))
                (chosen if is_prompt else rest).append(text)
            drawn[split][source] = chosen
            drawn["others"].setdefault(source, rest[:OTHERS_OF_SOURCE])
    path.write_text(json.dumps(drawn, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def is_telling(text: str, name: str) -> bool:
    """Whether a caption says what to draw: a glyph by its name, people by more than that they are people."""
    return name in text if name else len(text.split()) >= PROMPT_WORDS


VARIANTS: Mapping[str, Mapping[str, object]] = {
    "both stages": {},
    "one stage": {"detail_steps": 0},
    "no regulariser": {"codebook": 0.0},
}


def quantised(problem: Problem, latents: Tensor) -> Tensor:
    """The pictures of the nearest codes alone: [N, 3, H, W]."""
    space = problem.space
    assert isinstance(space, CodeSpace)
    with torch.no_grad():
        return problem.render(space.snapped(latents, 1.0))


class Reader:
    """A prompt model, and how well the other held-out captions fit a picture by it."""

    def __init__(self, model: PromptModel, others: Sequence[str]) -> None:
        self.model = model
        self.others = torch.cat([model.text_features(others[i : i + 64]) for i in range(0, len(others), 64)])

    def score(self, features: Tensor, prompt: str) -> tuple[float, float]:
        """The mean cosine of features [N, D] and the prompt; the share that fits it better than 95 % of the others."""
        text = self.model.text_features([prompt])[0]
        bars = (features @ self.others.T).quantile(QUANTILE, dim=1)
        return float((features @ text).mean()), 100 * float((features @ text > bars).double().mean())


def measure_mosaic(arguments: argparse.Namespace) -> str:
    """The table of mosaic, and its figure: a prompt a row, the variants side by side."""
    by_source, others = prompts.mosaic_captions(arguments.split)
    wanted = [texts[i] for i in range(PROMPTS_OF_SOURCE) for texts in by_source.values()][: arguments.prompts]
    base = base_settings("mosaic", arguments)
    reader = Reader(engine.load_prompt_model(base.prompt_model), others)
    judge = Reader(judges.load_mosaic(fresh=arguments.fresh_judge), others)
    real = judges.reference("mosaic")["real"]
    radii = neighbour_radii(real, NEIGHBOURS)
    rows: dict[str, list[tuple[float, ...]]] = {}
    sheet = []
    for settings in prompts_of(base, wanted, arguments):
        pictures = []
        for name in arguments.variants:
            flow = replace(base.flow, **VARIANTS[name])  # type: ignore[arg-type]
            run = carry_out(replace(settings, flow=flow))
            images = quantised(run.problem, run.step.particles.latents)
            score, passing = reader.score(clip_features(reader.model, images), settings.prompt)
            features = clip_features(judge.model, images)
            of_judge, passing_judge = judge.score(features, settings.prompt)
            near = float(realism(features, real, radii).mean())
            between = run.text_score
            result = (passing, score, passing_judge, of_judge, near, pairwise_diversity(features), between)
            rows.setdefault(name, []).append((*result, run.seconds))
            pictures.append(images[: arguments.shown])
            print(f"{settings.prompt}, {name}: {' '.join(f'{value:.3f}' for value in rows[name][-1])}", flush=True)
        sheet.append(torch.cat(pictures))
    if arguments.figure:
        save_sheet(arguments.figure, torch.cat(sheet), columns=arguments.shown * len(arguments.variants))
    flow = base.flow
    stages = f"{flow.steps - flow.detail_steps} + {flow.detail_steps} steps"
    columns = {
        "passes (%)": ".1f",
        "text score": ".3f",
        "passes by the judge (%)": ".1f",
        "judge's score": ".3f",
        "realism": ".3f",
        "diversity": ".3f",
        "between codes": ".3f",
        "s a run": ".1f",
    }
    head = (
        f"mosaic: {len(wanted)} held-out {arguments.split} captions, n = {arguments.n}, {stages}, {base.prompt_model}"
    )
    return "\n".join([head, "", table(rows, columns)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("all", "fashion", "mosaic"), default="all")
    parser.add_argument("--split", choices=list(SPLITS), default="reporting")
    parser.add_argument("--prompts", type=int, help="use only the first so many of each part")
    parser.add_argument("--n", type=int, help="particles (8 of fashion, 4 of mosaic)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=JSON", help="other settings of every run")
    parser.add_argument("--steps", type=int, help="of every run; half of them the second stage, where there are two")
    parser.add_argument("--candidates", type=int, help="starts that each particle of mosaic tries (512)")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="of mosaic")
    parser.add_argument("--shown", type=int, default=4, help="pictures of each run in the figure")
    parser.add_argument("--figure", type=Path, help="write mosaic's pictures there")
    parser.add_argument("--write-captions", action="store_true", help="draw mosaic's prompts anew, and end")
    parser.add_argument("--out", type=Path, help="also write the tables there")
    options.add_judge(parser)
    arguments = options.parse(parser, QUICK)
    if arguments.write_captions:
        write_captions()
        return
    engine.set_threads(None)
    changes = {name: json.loads(value) for name, value in (item.split("=", 1) for item in arguments.set)}
    parts = {"fashion": (measure_fashion, 8), "mosaic": (measure_mosaic, 4)}
    texts = []
    for name, (measure, usual) in parts.items():
        if arguments.part in (name, "all"):
            own = argparse.Namespace(**vars(arguments) | {"changes": changes, "n": arguments.n or usual})
            texts.append(measure(own))
            print(f"\n{texts[-1]}\n", flush=True)
    if arguments.out:
        arguments.out.write_text("\n\n".join(texts) + "\n")


if __name__ == "__main__":
    main()
