"""Better samples from a trained generator, in the plane: ours beside others' samplers, by the earth mover's distance.

    python -m experiments.samplers                      # both tables; trains what is missing first, some minutes
    python -m experiments.samplers --methods plain DOT KRR --repeats 3

The generator, its critic and the discriminator that tells the density ratio are `training.points`'. Every method gets
the same latents and gives N points, of which and N new real ones the distance is taken (exact assignment). What a
method lets one choose (step size, bandwidth) is chosen on draws of their own, the table's draws are seen once. Ours
flow down log q - log p, both estimated from N points (real ones of their own draw), in the points themselves; "+ C"
also up the discriminator's logit. The last row is the distance of two real draws, which nothing can beat but by chance.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import engine
from engine.inference.flow import DivergenceError, Particles, refine
from engine.inference.terms import References
from engine.lab.networks import Z_DIM, mlp
from engine.lab.sampling import RAW_FLOW, flow_problem, latent_density
from engine.lab.targets import SETS
from engine.latents.spaces import seeded
from engine.metrics.transport import earth_movers_distance
from engine.samplers import rejection, reweighting, stein, transport
from engine.settings import Estimator
from experiments import options
from training import points

RESULTS = Path(__file__).parent / "results" / "samplers.json"
TRIED = 4  # samples drawn for each that resampling or rejection keeps
CHAIN = 100  # proposals of a Metropolis-Hastings chain
QUICK = {"n": 32, "tuning_n": 16, "repeats": 1, "train_steps": 5, "importance_steps": 5, "few": True}
OURS = replace(RAW_FLOW, steps=15, eta=0.1)


@dataclass(frozen=True, eq=False)
class Bench:
    """One set: its trained networks, and a learnt importance of latents."""

    name: str
    networks: points.Networks
    importance: reweighting.Importance

    def real(self, n: int, *key: str | int) -> Tensor:
        return SETS[self.name]().sample(n, seeded("real", self.name, *key))

    def latents(self, n: int, *key: str | int) -> Tensor:
        return torch.randn(n, Z_DIM, generator=seeded("latents", self.name, *key))


class Draw(NamedTuple):
    """What a method is given: latents [N, 2], N real points of its own, and randomness."""

    z: Tensor
    real: Tensor
    generator: torch.Generator


Method = Callable[[Bench, Draw, Mapping[str, float]], Tensor]


@dataclass(frozen=True)
class Entry:
    """A method, and the values that its choices are made from."""

    method: Method
    choices: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def settings(self, few: bool) -> Iterator[dict[str, float]]:
        """Every combination; with few, the first alone."""
        every = [dict(zip(self.choices, values, strict=True)) for values in product(*self.choices.values())]
        yield from every[:1] if few else every


# ---- the methods -----------------------------------------------------------------------------------------


def _last(states: Iterator[Tensor]) -> Tensor:
    *_, state = states
    return state


def plain(bench: Bench, draw: Draw, chosen: Mapping[str, float]) -> Tensor:
    return bench.networks.generator(draw.z)


def _many(bench: Bench, draw: Draw) -> Tensor:
    """More points than are asked for, of which some are chosen."""
    more = torch.randn(TRIED * len(draw.z), Z_DIM, generator=draw.generator)
    return bench.networks.generator(torch.cat([draw.z, more]))


def sir(bench: Bench, draw: Draw, chosen: Mapping[str, float]) -> Tensor:
    made = _many(bench, draw)
    return made[rejection.sir(bench.networks.ratio(made), len(draw.z), generator=draw.generator)]


def drs(bench: Bench, draw: Draw, chosen: Mapping[str, float]) -> Tensor:
    """As long as it takes."""
    kept: list[Tensor] = []
    highest = float(bench.networks.ratio(_many(bench, draw)).max())
    while sum(map(len, kept)) < len(draw.z):
        made = _many(bench, draw)
        logits = bench.networks.ratio(made)
        kept.append(made[rejection.drs(logits, highest, generator=draw.generator, percentile=chosen["percentile"])])
    return torch.cat(kept)[: len(draw.z)]


def mh(bench: Bench, draw: Draw, chosen: Mapping[str, float]) -> Tensor:
    """A chain that accepted nothing gives the generator's point."""
    n = len(draw.z)
    made = bench.networks.generator(torch.randn(n * CHAIN, Z_DIM, generator=draw.generator)).view(n, CHAIN, 2)
    logits = bench.networks.ratio(made.flatten(0, 1)).view(n, CHAIN)
    ends = rejection.metropolis_hastings(bench.networks.ratio(draw.real), logits, generator=draw.generator)
    moved = made[torch.arange(n), ends.clamp_min(0)]
    return torch.where((ends >= 0)[:, None], moved, bench.networks.generator(draw.z))


def dot(bench: Bench, draw: Draw, chosen: Mapping[str, float]) -> Tensor:
    g, d = bench.networks.generator, bench.networks.critic
    return g(_last(transport.dot(g, d, draw.z, steps=20, rate=chosen["rate"])))


def ddls(bench: Bench, draw: Draw, chosen: Mapping[str, float]) -> Tensor:
    g, d = bench.networks.generator, bench.networks.ratio
    return g(_last(transport.ddls(g, d, draw.z, steps=100, step_size=chosen["step"], generator=draw.generator)))


def dgflow(bench: Bench, draw: Draw, chosen: Mapping[str, float]) -> Tensor:
    g, d = bench.networks.generator, bench.networks.ratio
    flow = transport.dgflow(
        g, d, draw.z, steps=25, step_size=chosen["step"], noise=chosen["noise"], generator=draw.generator
    )
    return g(_last(flow))


def svgd(bench: Bench, draw: Draw, chosen: Mapping[str, float]) -> Tensor:
    moved = stein.svgd(latent_density(bench.networks), draw.z, steps=50, step_size=chosen["step"])
    return bench.networks.generator(_last(moved))


def latent_rs(bench: Bench, draw: Draw, chosen: Mapping[str, float]) -> Tensor:
    return bench.networks.generator(_accepted(bench, draw))


def latent_rs_ga(bench: Bench, draw: Draw, chosen: Mapping[str, float]) -> Tensor:
    moved = reweighting.latent_ga(bench.importance, _accepted(bench, draw), rate=chosen["rate"])
    return bench.networks.generator(_last(moved))


def _accepted(bench: Bench, draw: Draw) -> Tensor:
    def more(n: int) -> Tensor:
        return torch.randn(n, Z_DIM, generator=draw.generator)

    return reweighting.latent_rs(bench.importance, more, len(draw.z), generator=draw.generator)


def ours(estimator: Estimator, *, smoothed: bool = False, condition: bool = False) -> Method:
    """The flow by A and B, and with `condition` by C."""

    def method(bench: Bench, draw: Draw, chosen: Mapping[str, float]) -> Tensor:
        flow = replace(
            OURS, estimator=estimator, step_size=chosen["step"], bandwidth=chosen["h"],
            mollifier=1.0 if smoothed else 0.0,
        )  # fmt: skip
        problem = flow_problem(bench.networks, References(draw.real), condition=condition)
        *_, step = refine(problem, Particles(draw.z, tuple(range(len(draw.z)))), flow)
        return step.images

    return method


STEPS, WIDTHS = (0.01, 0.03, 0.1, 0.3), (0.01, 0.05, 0.2)
FLOW = {"step": STEPS, "h": WIDTHS}
METHODS: dict[str, Entry] = {
    "plain": Entry(plain),
    "SIR": Entry(sir),
    "DRS": Entry(drs, {"percentile": (0.5, 0.8, 0.95)}),
    "MH-GAN": Entry(mh),
    "DOT": Entry(dot, {"rate": (0.003, 0.01, 0.03)}),
    "DDLS": Entry(ddls, {"step": (0.001, 0.003, 0.01, 0.03)}),
    "DGflow": Entry(dgflow, {"step": (0.003, 0.01, 0.03, 0.1), "noise": (0.0, 0.01)}),
    "SVGD": Entry(svgd, {"step": (0.003, 0.01, 0.03)}),
    "latentRS": Entry(latent_rs),
    "latentRS+GA": Entry(latent_rs_ga, {"rate": (0.01, 0.05)}),
    "KDE": Entry(ours("kde"), FLOW),
    "KRR": Entry(ours("krr"), FLOW),
    "KRR smoothed": Entry(ours("krr", smoothed=True), FLOW),
    "Stein": Entry(ours("stein"), FLOW),
    "KRR + C": Entry(ours("krr", condition=True), FLOW),
}


# ---- the table -------------------------------------------------------------------------------------------


def distance(bench: Bench, entry: Entry, n: int, chosen: Mapping[str, float], *key: str | int) -> tuple[float, float]:
    """The distance of one draw, and milliseconds a point; infinite where the method lost a point."""
    draw = Draw(bench.latents(n, *key), bench.real(n, "own", *key), seeded("draw", bench.name, *key))
    began = time.perf_counter()
    try:
        made = entry.method(bench, draw, chosen).detach()
    except DivergenceError:
        return float("inf"), float("nan")
    spent = 1000 * (time.perf_counter() - began) / n
    if not made.isfinite().all():
        return float("inf"), spent
    return earth_movers_distance(bench.real(n, "wanted", *key), made), spent


def measure(bench: Bench, name: str, arguments: argparse.Namespace) -> dict[str, object]:
    """One row: the choices that did best on draws of their own, then every repeat with them."""
    entry = METHODS[name]
    tried = [
        (np.mean([distance(bench, entry, arguments.tuning_n, chosen, "tuning", i)[0] for i in range(2)]), chosen)
        for chosen in entry.settings(arguments.few)
    ]
    _, chosen = min(tried, key=lambda pair: pair[0])
    found = [distance(bench, entry, arguments.n, chosen, "test", i) for i in range(arguments.repeats)]
    distances, times = (np.array(column) for column in zip(*found, strict=True))
    return {
        "set": bench.name,
        "method": name,
        "emd": float(distances.mean()),
        "interval": interval(distances),
        "ms": float(np.median(times)),
        "chosen": chosen,
    }


def interval(values: np.ndarray) -> float:
    """Half the width of the 95 % interval of the mean, by Student's t; NaN of one value."""
    if len(values) < 2:
        return float("nan")
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)


def prepare(name: str, arguments: argparse.Namespace) -> Bench:
    networks = points.load(name, arguments.train_steps, folder=arguments.networks)
    critic = mlp(1, points.WIDTH)
    critic.load_state_dict(networks.critic.state_dict())
    real = SETS[name]().sample(20_000, seeded("importance", name))
    importance = reweighting.train_importance(
        networks.generator, critic, real, Z_DIM, steps=arguments.importance_steps, batch=points.BATCH,
        width=points.WIDTH, gradient_penalty=points.SLOPE_WEIGHT,
    )  # fmt: skip
    return Bench(name, networks, importance)


def line(row: Mapping[str, object]) -> str:
    return f"| {row['method']} | {row['emd']:.4f} | {row['interval']:.4f} | {row['ms']:.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--n", type=int, default=2048, help="points")
    parser.add_argument("--tuning-n", type=int, default=512, help="points where choices are made")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--train-steps", type=int, default=2500, help="of the generator")
    parser.add_argument("--importance-steps", type=int, default=3000)
    parser.add_argument("--few", action="store_true", help="choose nothing: each method's first values")
    parser.add_argument(
        "--networks", type=Path, default=points.FOLDER, help="where trained ones are kept (%(default)s)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the numbers go (%(default)s)")
    arguments = options.parse(parser, QUICK)
    engine.set_threads(None)
    rows: list[dict[str, object]] = []
    for name in points.PAPERS:
        bench = prepare(name, arguments)
        print(f"\n{name}\n\n| | EMD | +- | ms a point |\n|---|---|---|---|", flush=True)
        for method in arguments.methods:
            rows.append(measure(bench, method, arguments))
            print(line(rows[-1]), flush=True)
        keys = [("test", i) for i in range(arguments.repeats)]
        floor = np.array([
            earth_movers_distance(*(bench.real(arguments.n, kind, *key) for kind in ("wanted", "own"))) for key in keys
        ])  # fmt: skip
        best = {"set": name, "method": "real points", "emd": float(floor.mean()), "interval": interval(floor)}
        rows.append({**best, "ms": 0.0, "chosen": {}})
        print(line(rows[-1]), flush=True)
    options.write_numbers(arguments.out, {"n": arguments.n, "repeats": arguments.repeats, "rows": rows})


if __name__ == "__main__":
    main()
