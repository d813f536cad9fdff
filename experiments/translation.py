"""Translation by `hairstyles`: does it reach the domain, what else changes, how different are the results?

    python -m experiments.translation                          # both tables: styles from latents, and from a reference
    python -m experiments.translation --part curve             # distance to drawings against diversity, as in Fig. 7

Held-out faces, each to every domain that it is not in, n results each; and with one held-out reference picture.
"Domain": the share of results that the judge puts into the one asked for. "Kept": the share of the face's other
attributes that stay, of those that the judge saw rightly. "Taken": of the reference's cut, hat and their colours, as a
drawing of the exact result shows them. Diversity: mean over pairs of 1 - cosine of the judge's features, centred on the
drawings' mean. Fréchet: distance of those features between all results and drawings of the same faces with hair of
those domains. The judge took part in no optimisation.

The curve: diversity and both distances at several step sizes and numbers of steps, styles from latents alone, each face
to one other domain, these in turn; no steps is the plain model. "Kernel": the unbiased squared MMD of those features
(KID), which unlike Fréchet's distance does not grow where pictures are few.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import engine
from engine import tasks
from engine.inference.flow import pairwise_diversity
from engine.metrics.frechet import frechet_distance
from engine.metrics.kernel import kernel_distance
from engine.networks.mini_tower import MiniTower
from engine.networks.stargan2 import Translator
from engine.pictures.examples import examples_of
from engine.pictures.picture_files import Picture
from engine.settings import TranslateSettings
from experiments import options
from training import judges
from training.avatars import classifier
from training.figures import judge_features
from training.jobs import save_sheet
from training.translate import triples
from training.translate.figures import HeldOut, agreeing, of_domain, seen_rightly

RESULTS = Path(__file__).parent / "results" / "translation.json"
BARE = "no discriminator"  # the flow as of released files, which lack it
METHODS = ("plain", "no repulsion", "gmi", BARE)
PARTS = ("latents", "references", "curve")
OTHERS = len(triples.DOMAINS) - 1  # that a face is not in
STEP_SIZES, STEP_COUNTS = (0.02, 0.04, 0.08, 0.16, 0.32), (10, 30)
DRAWN = 400  # drawings that results are compared with
QUICK = {"faces": 1, "domains": 1, "n": 2, "steps": 2, "drawn": 40}


class Asked(NamedTuple):
    """A translation: of which held-out face, to which domain, with that face's reference or with drawn styles."""

    face: int
    domain: int
    by_reference: bool


class Measured(NamedTuple):
    """Of one translation; features: [n, D]."""

    in_domain: float
    kept: float
    taken: float
    diversity: float
    seconds: float
    features: Tensor


class Bench:
    """The model, the judge and the held-out triples."""

    def __init__(self, faces: int, drawn: int) -> None:
        self.model, self.prompt_model = engine.load_generator("hairstyles"), engine.load_prompt_model("clip-mini")
        whole = self.model.network
        parts = whole.generator, whole.mapping_network, whole.style_encoder
        self.bare = replace(self.model, network=Translator(*parts).eval())
        self.judge: MiniTower = judges.load_avatars()
        self.triples = HeldOut.draw(max(faces, drawn), self.model.resolution)
        self.of_faces, self.of_results = (
            seen_rightly(self.judge, self.triples.images(which), self.triples.rows[which]) for which in (0, 2)
        )
        self.drawings = judge_features(self.judge, self.triples.images(2))
        self.face_domains = triples.domains_of({group: self.of_faces[group].numpy() for group in ("hat", "hair_style")})

    def ask(self, faces: int, domains: int, *, by_reference: bool) -> Iterator[Asked]:
        """Each face to its reference's domain, or to the first so many that it is not in."""
        for face in range(faces):
            if by_reference:
                yield Asked(face, int(self.triples.domains[face]), True)
                continue
            others = [number for number in range(len(triples.DOMAINS)) if number != self.face_domains[face]]
            yield from (Asked(face, number, False) for number in others[:domains])

    def run(self, asked: Asked, settings: TranslateSettings, *, bare: bool = False) -> tuple[Tensor, float]:
        """Results [n, 3, H, W] in [-1, 1], and how long they took. bare: without the discriminator."""
        picture, references = Picture(self.triples.pixels[0][asked.face]), None
        settings = replace(settings, domain=triples.DOMAINS[asked.domain], seed=settings.seed + 100 * asked.face)
        if asked.by_reference:
            references = examples_of([Picture(self.triples.pixels[1][asked.face])])
            settings = replace(settings, references=references.sha256)
        began = time.perf_counter()
        model = self.bare if bare else self.model
        task = tasks.translate(settings, picture, model, self.prompt_model, references=references)
        *_, step = task.steps()
        return step.pictures.clamp(-1, 1), time.perf_counter() - began

    def measure(self, asked: Asked, images: Tensor, seconds: float) -> Measured:
        found, features = classifier.predict(self.judge, images), judge_features(self.judge, images)
        of_face = {group: values[asked.face].expand(len(images)) for group, values in self.of_faces.items()}
        of_result = {group: values[asked.face].expand(len(images)) for group, values in self.of_results.items()}
        return Measured(
            in_domain=float((of_domain(found) == asked.domain).double().mean()),
            kept=agreeing(found, of_face, triples.CONTENT),
            taken=agreeing(found, of_result, triples.STYLED) if asked.by_reference else float("nan"),
            diversity=pairwise_diversity(features - self.drawings.mean(0)),
            seconds=seconds,
            features=features,
        )

    def summary(self, results: Sequence[Measured]) -> dict[str, float]:
        """Means over translations."""
        row = {name: _mean([getattr(one, name) for one in results]) for name in Measured._fields[:-1]}
        features = torch.cat([one.features for one in results])
        distances = frechet_distance(self.drawings, features), kernel_distance(self.drawings, features)
        return row | dict(zip(("frechet", "kernel"), distances, strict=True))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def settings_of(method: str, n: int, steps: int | None, step_size: float | None = None) -> TranslateSettings:
    """ "no repulsion" is ours without it, BARE ours with another model."""
    settings = TranslateSettings(model="hairstyles", n=n, seed=1)
    flow = settings.flow
    flow = replace(flow, steps=steps or flow.steps, step_size=step_size or flow.step_size)
    settings = replace(settings, flow=flow)
    return settings if method in ("gmi", BARE) else tasks.baseline(replace(settings, baseline=method))  # type: ignore[arg-type]


def compare(bench: Bench, arguments: argparse.Namespace, *, by_reference: bool) -> dict[str, dict[str, float]]:
    """The methods' means, all from the same starts."""
    found: dict[str, list[Measured]] = {method: [] for method in arguments.methods}
    shown = []
    for asked in bench.ask(arguments.faces, arguments.domains, by_reference=by_reference):
        for method in arguments.methods:
            chosen = settings_of(method, arguments.n, arguments.steps)
            images, seconds = bench.run(asked, chosen, bare=method == BARE)
            found[method].append(bench.measure(asked, images, seconds))
            first = [bench.triples.images(which)[asked.face] for which in ((0, 1) if by_reference else (0,))]
            shown.append(torch.cat([torch.stack(first), images])[:8])
    if arguments.sheet:
        place = arguments.sheet.with_stem(f"{arguments.sheet.stem}-{'references' if by_reference else 'latents'}")
        save_sheet(place, torch.cat(shown), columns=len(shown[0]))
    return {method: bench.summary(results) for method, results in found.items()}


def curve(bench: Bench, arguments: argparse.Namespace) -> dict[str, Any]:
    """The plain model, then every step size with every number of steps."""
    every = list(bench.ask(arguments.faces, OTHERS, by_reference=False))
    asked = [every[OTHERS * face + face % OTHERS] for face in range(arguments.faces)]
    counts = (arguments.steps,) if arguments.steps else STEP_COUNTS
    tried = {"the model alone": settings_of("plain", arguments.n, 1)} | {
        f"{steps} steps of {size:g}": settings_of("gmi", arguments.n, steps, size)
        for steps in counts
        for size in STEP_SIZES
    }
    rows = {}
    for name, settings in tried.items():
        rows[name] = bench.summary([bench.measure(one, *bench.run(one, settings)) for one in asked])
        print(table({name: rows[name]}).splitlines()[-1], flush=True)
    print(f"\nThe curve:\n\n{table(rows)}", flush=True)
    return {"faces": arguments.faces, "n": arguments.n, "rows": rows}


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    head = ["| | domain | kept | taken | diversity | Fréchet | kernel | s |", "|---|---|---|---|---|---|---|---|"]
    return "\n".join([*head, *(f"| {name} | {_cells(row)} |" for name, row in rows.items())])


def _cells(row: Mapping[str, float]) -> str:
    shares = ["" if np.isnan(row[name]) else f"{100 * row[name]:.1f} %" for name in ("in_domain", "kept", "taken")]
    distances = [f"{row[name]:.0f}" for name in ("frechet", "kernel")]
    return " | ".join([*shares, f"{row['diversity']:.3f}", *distances, f"{row['seconds']:.1f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=("all", *PARTS), default="all", help="all: both tables")
    parser.add_argument("--faces", type=int, default=12)
    parser.add_argument("--domains", type=int, default=3, help="of each face, with drawn styles")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--steps", type=int, help="of the flow (the preset's)")
    parser.add_argument("--drawn", type=int, default=DRAWN, help="drawings that results are compared with")
    parser.add_argument("--sheet", type=Path, help="write the pictures there, the face first in every row")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the numbers go (%(default)s)")
    arguments = options.parse(parser, QUICK)
    engine.set_threads(None)
    bench = Bench(arguments.faces, arguments.drawn)
    kept = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {}
    counts = {name: getattr(arguments, name) for name in ("faces", "n")}
    if arguments.part != "curve" and any(kept.get(name) != value for name, value in counts.items()):
        kept = {name: value for name, value in kept.items() if name not in PARTS[:2]}  # tables of other counts
    for part in PARTS[:2] if arguments.part == "all" else (arguments.part,):
        if part == "curve":
            kept[part] = curve(bench, arguments)
            continue
        rows = compare(bench, arguments, by_reference=part == "references")
        kept |= counts | {part: kept.get(part, {}) | rows}  # other methods' rows stay
        print(f"By {part}:\n\n{table(rows)}\n", flush=True)
    options.write_numbers(arguments.out, kept)


if __name__ == "__main__":
    main()
