"""Better samples from a trained generator of real pictures: ours beside others' samplers, on Fashion-MNIST.

    python -m experiments.fashion_samplers                     # every sampler; about 20 minutes of a core to itself
    python -m experiments.fashion_samplers --table steps       # step size by steps (Zhou et al. 2022, Table 6)
    python -m experiments.fashion_samplers --table terms       # A, B and C alone (Table 7)
    python -m experiments.fashion_samplers --table times       # the first one's rows timed anew, all in one run
    python -m experiments.fashion_samplers --methods plain DOT KRR --n 256

The generator and its discriminator are those of the bundled `fashion`, all its classes in turn; every method moves, or
chooses among, the same latents by the code that Generate runs. Kernels see the discriminator's penultimate features;
B is the density of 1,024 training pictures in them. What chooses by the discriminator has its logit calibrated by
validation pictures. Particles act on each other in groups of 64.

Measured by the classifier of `training.judges`, which took part in no run, against test pictures: the Fréchet distance
by its 128 features and by its ten scores before the softmax, the inception score by these, precision and recall (k = 3)
and the earth mover's distance by the features. What a method leaves open was chosen by the first distance, to one half
of the test pictures from latents of its own; the table is of the other half, once. "held-out" are test pictures of the
first half. A row that is in the file already, with the same counts, is not measured again.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import engine
from engine.inference.flow import DivergenceError, Particles, Problem, refine
from engine.inference.terms import Realism, References, TransportCost
from engine.lab.sampling import RAW_FLOW
from engine.metrics.frechet import Gaussian, distance_to, fitted_gaussian
from engine.metrics.inception import inception_score
from engine.metrics.intervals import bootstrap
from engine.metrics.manifold import precision_recall
from engine.metrics.transport import earth_movers_distance
from engine.networks import biggan
from engine.networks.colours import GreyDiscriminator
from engine.samplers.rejection import calibrated
from engine.settings import SAMPLERS, FlowSettings, GenerateSettings, Selection
from engine.tasks.sampling import chosen_seeds, steepest, values
from engine.tasks.task import particle_seeds
from experiments import options
from training import judges
from training.fashion import data

RESULTS = Path(__file__).parent / "results" / "fashion_samplers.json"
MODEL = "fashion"
FIRST_SEEDS = {"validation": 600_000, "reporting": 700_000}
REFERENCES = 1024  # training pictures that B is estimated from
GROUP = 64  # particles that act on each other, or are chosen at once: as many as a run of the page has
NEIGHBOURS = 3
QUICK = {"n": 16, "tuning_n": 8, "held_out": 32, "few": True, "most_steps": 2}
COLUMNS = ("frechet", "frechet_scores", "inception", "precision", "recall", "emd", "ms")
# Of Table 1 of the paper, from the greatest Fréchet distance to the least.
EXPECTED = ("plain", "DOT", "DDLS", "DGflow", "KDE", "KRR", "KRR smoothed")

# Eq. 6 with A and B alone, kept within the latents' limits.
OURS = replace(RAW_FLOW, steps=15, condition_weight=0.0, eta=0.1, constrain=True)


@dataclass(frozen=True, eq=False)
class Bench:
    """The generator, what judges it, and the problem that all methods work on.

    ratio: the discriminator's logit calibrated to the log-ratio of densities, for what chooses by it.
    """

    problem: Problem
    ratio: Realism
    look: Callable[[Tensor], Seen]
    held_out: Seen
    others: Seen

    @cached_property
    def spread(self) -> float:
        """The mean squared distance of two training pictures' features."""
        assert self.problem.data is not None
        return 2 * float(self.problem.data.features.double().var(0, correction=0).sum())

    @cached_property
    def real(self) -> Gaussian:
        return fitted_gaussian(self.held_out.features)

    @cached_property
    def real_scores(self) -> Gaussian:
        return fitted_gaussian(self.held_out.scores)


class Seen(NamedTuple):
    """N pictures as the judge sees them: scores before the softmax [N, 10] and features [N, 128]."""

    scores: Tensor
    features: Tensor


@dataclass(frozen=True)
class Entry:
    """A method: the flow's settings, where they do not move the fields that its choices are made from; or a selection.

    choices: of a field of the flow the values tried; "h" is the bandwidth in units of the features' spread.
    """

    flow: FlowSettings | None = None
    choose: Selection = ""
    draws: int = 8
    choices: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def settings(self, few: bool) -> Iterator[dict[str, float]]:
        """Every combination; with few, the first alone."""
        every = [dict(zip(self.choices, values, strict=True)) for values in product(*self.choices.values())]
        yield from every[:1] if few else every


STEPS = (0.03, 0.1, 0.3)
WIDTHS = (0.1,)  # of .1 and .3 what KDE came nearest with; the others have it from there
FLOW = {"step_size": STEPS, "h": WIDTHS}
METHODS: dict[str, Entry] = {
    "plain": Entry(),
    "SIR": Entry(choose="sir"),
    "DRS": Entry(choose="drs"),
    "MH-GAN": Entry(choose="mh", draws=16),
    "DOT": Entry(SAMPLERS["dot"], choices={"step_size": (0.01, 0.03)}),
    "DDLS": Entry(replace(SAMPLERS["ddls"], steps=40), choices={"step_size": (0.005, 0.02)}),
    "DGflow": Entry(SAMPLERS["dgflow"], choices={"step_size": (0.03, 0.1, 0.3)}),
    "SVGD": Entry(replace(SAMPLERS["svgd"], steps=25), choices={"step_size": (0.01, 0.03)}),
    "KDE": Entry(replace(OURS, estimator="kde"), choices=FLOW),
    "KDE smoothed": Entry(replace(OURS, estimator="kde", mollifier=1.0), choices=FLOW),
    "KRR": Entry(OURS, choices=FLOW),
    "KRR smoothed": Entry(replace(OURS, mollifier=1.0), choices=FLOW),
    "Stein": Entry(replace(OURS, estimator="stein", eta=0.01), choices={"step_size": STEPS, "h": (1.0, 3.0)}),
    "KRR + C": Entry(OURS, choices={"step_size": (0.1,), "h": WIDTHS, "realism": (0.1, 0.3)}),
}
_NOTHING = {"diversity": 0.0, "data_weight": 0.0, "realism": 0.0}
TERMS: dict[str, Mapping[str, float]] = {
    "plain": _NOTHING,
    "A": {**_NOTHING, "diversity": 1.0},
    "B": {**_NOTHING, "data_weight": 1.0},
    "C": {**_NOTHING, "realism": 1.0},
    "A + B": {"realism": 0.0},
    "A + B + C": {"realism": 0.3},
}
SIZES, LENGTHS = (0.1, 0.2, 0.3, 0.5, 1.0, 2.0), (5, 10, 15)


# ---- what is measured ------------------------------------------------------------------------------------


def prepare(arguments: argparse.Namespace, split: str) -> Bench:
    """Raises FileNotFoundError where Fashion-MNIST is not installed."""
    model, judge = engine.load_generator(MODEL), judges.load_fashion()
    space = model.spaces["z"]
    grey = model.discriminator
    assert isinstance(grey, GreyDiscriminator) and isinstance(grey.network, biggan.Discriminator)
    critic: biggan.Discriminator = grey.network

    def features(images: Tensor) -> Tensor:
        return critic.features(images.mean(1, keepdim=True))

    def head(seen: Tensor) -> Tensor:
        by_class = seen @ critic.embed.weight.t() * critic.embed.gain()
        return critic.linear(seen)[:, 0] + by_class.logsumexp(1) - math.log(critic.n_classes)

    @torch.no_grad()
    def look(images: Tensor) -> Seen:
        found = torch.cat([judge.features(part[:, :1].clamp(-1, 1)) for part in images.split(250)])
        return Seen(judge.head(found), found)

    pixels, _ = data.load("t10k")
    validation, reporting = (half[: arguments.held_out] for half in pixels.chunk(2))
    half, other = (validation, reporting) if split == "validation" else (reporting, validation)
    real, _ = data.load("train")
    chosen = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))[:REFERENCES]
    with torch.no_grad():
        references = torch.cat([critic.features(part) for part in data.to_images(real[chosen]).split(256)])
    realism = Realism(features, head)
    problem = Problem(
        render=lambda latents: model.render(latents, space), space=space, extractor=features, text=None,
        data=References(references), realism=realism,
    )  # fmt: skip
    a, b = calibration(problem, realism, torch.cat([features(part) for part in data.to_images(validation).split(256)]))
    ratio = Realism(features, lambda seen: a * head(seen) + b)
    return Bench(problem, ratio, look, look(data.to_images(half)), look(data.to_images(other)))


def calibration(problem: Problem, realism: Realism, real: Tensor) -> tuple[float, float]:
    """(a, b) by which the logit a * D + b tells the features of validation pictures from the generator's best."""
    assert realism.head is not None
    latents = problem.space.sample(particle_seeds(FIRST_SEEDS["validation"], len(real)))
    return calibrated(realism.head(real), values(problem, realism, latents))


def starts(split: str, n: int) -> Iterator[tuple[int, ...]]:
    """The seeds of every group."""
    seeds = particle_seeds(FIRST_SEEDS[split], n)
    yield from (seeds[first : first + GROUP] for first in range(0, n, GROUP))


def flow_of(bench: Bench, flow: FlowSettings, chosen: Mapping[str, float], most_steps: int) -> FlowSettings:
    """The method's flow with what was chosen."""
    changes: dict[str, Any] = {name: value for name, value in chosen.items() if name != "h"}
    if "h" in chosen:
        changes["bandwidth"] = chosen["h"] * bench.spread
    return replace(flow, **changes, steps=min(flow.steps, most_steps))


def paths(bench: Bench, flow: FlowSettings, split: str, n: int, kept: Sequence[int]) -> dict[int, Tensor]:
    """Pictures [n, 3, H, W] of every step that is to be kept. Raises DivergenceError."""
    parts: dict[int, list[Tensor]] = {step: [] for step in kept}
    problem = bench.problem
    if flow.transport:
        flow = replace(flow, realism=flow.realism / steepest(problem, flow))
    for seeds in starts(split, n):
        particles = Particles(bench.problem.space.sample(seeds), seeds)
        if flow.transport:
            problem = replace(problem, transport=TransportCost(particles.latents))
        for step in refine(problem, particles, flow):
            if step.step in parts:
                parts[step.step].append(step.pictures)
    return {step: torch.cat(images) for step, images in parts.items()}


def selected(bench: Bench, entry: Entry, split: str, n: int) -> Tensor:
    """Pictures [n, 3, H, W] that the discriminator chooses; every choice has starts of its own."""
    made = []
    for number, first in enumerate(range(0, n, GROUP)):
        count = min(GROUP, n - first)
        seed = FIRST_SEEDS[split] + number * GROUP * entry.draws * 10
        settings = GenerateSettings("", n=count, seed=seed, choose=entry.choose, draws=entry.draws)
        chosen = chosen_seeds(settings, bench.problem, bench.ratio, bench.problem.space.sample)
        made.append(bench.problem.pictures(bench.problem.space.sample(chosen), None))
    return torch.cat(made)


def draw(
    bench: Bench, entry: Entry, chosen: Mapping[str, float], split: str, n: int, most_steps: int
) -> tuple[Tensor, float]:
    """A method's pictures [n, 3, H, W], and milliseconds of the processor for one. Raises DivergenceError."""
    began = time.process_time()
    if entry.choose:
        images = selected(bench, entry, split, n)
    elif entry.flow is None:
        images = torch.cat(
            [bench.problem.pictures(bench.problem.space.sample(seeds), None) for seeds in starts(split, n)]
        )
    else:
        flow = flow_of(bench, entry.flow, chosen, most_steps)
        images = paths(bench, flow, split, n, [flow.steps])[flow.steps]
    return images, 1000 * (time.process_time() - began) / n


def measured(bench: Bench, seen: Seen) -> dict[str, Any]:
    """The columns of the table, but for the time. +-: half the width of the bootstrap's 95 % interval."""
    n = len(seen.features)
    held_out = bench.held_out.features[:n]
    both = precision_recall(held_out, seen.features, k=NEIGHBOURS)
    distance = bootstrap(lambda _, made: distance_to(bench.real, made), held_out, seen.features)
    score = bootstrap(lambda _, made: inception_score(made), held_out, seen.scores)
    return {
        "frechet": distance.value,
        "frechet_half": (distance.high - distance.low) / 2,
        "frechet_scores": distance_to(bench.real_scores, seen.scores),
        "inception": score.value,
        "inception_half": (score.high - score.low) / 2,
        "precision": both.precision,
        "recall": both.recall,
        "emd": earth_movers_distance(held_out, seen.features),
    }


def tuned(bench: Bench, entry: Entry, arguments: argparse.Namespace) -> dict[str, float]:
    """The choices that come nearest to the validation pictures; those that diverge are none."""
    every = list(entry.settings(arguments.few))
    if len(every) == 1:
        return every[0]

    def distance(chosen: Mapping[str, float]) -> float:
        try:
            images, _ = draw(bench, entry, chosen, "validation", arguments.tuning_n, arguments.most_steps)
        except DivergenceError:
            return math.inf
        return distance_to(bench.real, bench.look(images).features)

    return min(every, key=distance)


# ---- the tables ------------------------------------------------------------------------------------------


class Rows:
    """What the file holds of a table; a row with the same counts is not measured again."""

    def __init__(self, path: Path, table: str, counts: Mapping[str, Any], *, resumes: bool) -> None:
        self._path, self._table, self._counts = path, table, dict(counts)
        self._all = json.loads(path.read_text(encoding="utf-8")) if path.exists() and resumes else {}
        kept = self._all.get(table, {})
        self.rows: dict[str, Any] = kept["rows"] if kept.get("counts") == self._counts else {}

    def get(self, name: str, measure: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        if name not in self.rows:
            self.rows[name] = dict(measure())
            self.save()
        return self.rows[name]

    def save(self) -> None:
        self._all[self._table] = {"counts": self._counts, "rows": self.rows}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        options.write_numbers(self._path, self._all)


def line(name: str, row: Mapping[str, Any]) -> str:
    """Markdown."""
    if row.get("frechet") is None:
        return f"| {name} | diverged |"
    cells = [f"{row['frechet']:.2f} +- {row['frechet_half']:.2f}", *(f"{row[key]:.3f}" for key in COLUMNS[1:-1])]
    return f"| {name} | {' | '.join(cells)} | {row['ms']:.1f} |"


HEADER = (
    "| | Fréchet distance | of scores | inception score | precision | recall | EMD | ms a picture |\n"
    + "|---" * 8
    + "|"
)


def verdicts(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Whether each row is nearer to the test pictures than that which the paper has before it."""
    known = [name for name in EXPECTED if rows.get(name, {}).get("frechet") is not None]
    for before, name in zip(known, known[1:], strict=False):
        first, second = rows[before], rows[name]
        apart = abs(first["frechet"] - second["frechet"]) > first["frechet_half"] + second["frechet_half"]
        held = "held" if second["frechet"] < first["frechet"] else "did not hold"
        yield f"{name} below {before}: {held}{'' if apart else ', within the intervals'}"


def compare(arguments: argparse.Namespace, rows: Rows) -> None:
    validation, reporting = prepare(arguments, "validation"), prepare(arguments, "reporting")
    print(HEADER, flush=True)
    floor = Seen(*(part[: arguments.n] for part in reporting.others))
    print(line("held-out", rows.get("held-out", lambda: {**measured(reporting, floor), "ms": 0.0})), flush=True)

    def measure(name: str) -> dict[str, Any]:
        entry = METHODS[name]
        chosen = tuned(validation, entry, arguments)
        try:
            images, ms = draw(reporting, entry, chosen, "reporting", arguments.n, arguments.most_steps)
        except DivergenceError:
            return {"chosen": chosen, "frechet": None}
        return {**measured(reporting, reporting.look(images)), "ms": ms, "chosen": chosen}

    for name in arguments.methods:
        print(line(name, rows.get(name, lambda name=name: measure(name))), flush=True)  # type: ignore[misc]
    print("\n" + "\n".join(verdicts(rows.rows)))


def by_steps(arguments: argparse.Namespace, rows: Rows) -> None:
    """KRR by A and B on the validation pictures, with the bandwidth .3: as Table 6, this is how a step is chosen."""
    bench, sizes = prepare(arguments, "validation"), SIZES[:1] if arguments.few else SIZES
    lengths = [length for length in LENGTHS if length <= arguments.most_steps] or [arguments.most_steps]
    print(
        "| step size | "
        + " | ".join(f"{length} steps" for length in lengths)
        + " |\n"
        + "|---" * (1 + len(lengths))
        + "|"
    )

    def measure(size: float) -> dict[str, Any]:
        weight = max(1.0, size)  # a step of 1 is the largest that settings have; twice the weights go twice as far
        chosen = {"step_size": min(1.0, size), "h": 0.3, "diversity": weight, "data_weight": weight}
        flow = flow_of(bench, OURS, chosen, lengths[-1])
        try:
            found = paths(bench, flow, "validation", arguments.n, lengths)
        except DivergenceError:
            return {str(length): None for length in lengths}
        return {str(length): distance_to(bench.real, bench.look(images).features) for length, images in found.items()}

    for size in sizes:
        row = rows.get(str(size), lambda size=size: measure(size))  # type: ignore[misc]
        told = ["diverged" if row[str(length)] is None else f"{row[str(length)]:.2f}" for length in lengths]
        print(f"| {size:g} | {' | '.join(told)} |", flush=True)


def by_terms(arguments: argparse.Namespace, rows: Rows) -> None:
    """KRR, a step of .1 and a bandwidth of .3, on the test pictures."""
    bench = prepare(arguments, "reporting")
    print(HEADER, flush=True)

    def measure(terms: Mapping[str, float]) -> dict[str, Any]:
        entry = Entry(replace(OURS, **terms))  # type: ignore[arg-type]
        chosen = {"step_size": 0.1, "h": 0.3}
        try:
            images, ms = draw(bench, entry, chosen, "reporting", arguments.n, arguments.most_steps)
        except DivergenceError:
            return {"frechet": None}
        return {**measured(bench, bench.look(images)), "ms": ms}

    for name, terms in TERMS.items():
        print(line(name, rows.get(name, lambda terms=terms: measure(terms))), flush=True)  # type: ignore[misc]


def retime(arguments: argparse.Namespace, rows: Rows) -> None:
    """What each method takes, all in one run: of a group of pictures, with what was chosen."""
    bench = prepare(arguments, "validation")
    for name, entry in METHODS.items():
        if (row := rows.rows.get(name)) and row["frechet"] is not None:
            _, row["ms"] = draw(
                bench, entry, row["chosen"], "validation", min(GROUP, arguments.n), arguments.most_steps
            )
            print(line(name, row), flush=True)
    rows.save()


TABLES = {"samplers": compare, "times": retime, "steps": by_steps, "terms": by_terms}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", choices=TABLES, default="samplers")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--n", type=int, default=1024, help="pictures of each row (%(default)s)")
    parser.add_argument("--tuning-n", type=int, default=128, help="pictures where choices are made (%(default)s)")
    parser.add_argument("--held-out", type=int, default=5000, help="test pictures to compare with (%(default)s)")
    parser.add_argument("--few", action="store_true", help="choose nothing: each method's first values")
    parser.add_argument("--most-steps", type=int, default=1000, help="of any method (its own)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the numbers go (%(default)s)")
    arguments = options.parse(parser, QUICK)
    engine.set_threads(None)
    counts = {name: getattr(arguments, name) for name in ("n", "tuning_n", "held_out", "few", "most_steps")}
    table = "samplers" if arguments.table == "times" else arguments.table
    TABLES[arguments.table](arguments, Rows(arguments.out, table, counts, resumes=not arguments.quick))


if __name__ == "__main__":
    main()
