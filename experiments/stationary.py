"""Where does the flow come to rest, and what does repulsion that gives way to the condition make of it?

    python -m experiments.stationary            # the table of docs/method.md, minutes
    python -m experiments.stationary --quick    # tiny counts, seconds

The target is N(0, I) in D dimensions: C = log p(c | x) = -|x|^2 / 2. n particles follow Eq. 6 with l1 = l3 = 1, in
small steps, from N(0, 4 I), and come to rest. Their root mean square of a coordinate should be 1. Columns are what is
done with repulsion that works against the condition; the last one starts from N(0, .09 I).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

import engine
from engine.inference import density, kernels
from engine.inference.flow import without_opposition
from engine.settings import Estimator
from experiments import options

RESULTS = Path(__file__).parent / "results" / "stationary.json"
STEP_SIZE, STEPS = 0.05, 1500
WIDE_START, NARROW_START = 2.0, 0.3

Resolve = Callable[[Tensor, Tensor], Tensor]  # repulsion and condition, [n, D] each -> the repulsion that remains


def limited(move: Tensor, condition: Tensor) -> Tensor:
    """`move` whose component against `condition` is at most as long as that: it may stop a rise, and turn none.

    Where Eq. 6 rests, with move = -condition, it changes nothing.
    """
    share = (move * condition).sum(1, keepdim=True) / condition.square().sum(1, keepdim=True).clamp_min(1e-36)
    return move - (share + 1).clamp_max(0) * condition


RESOLVED: Mapping[str, tuple[Resolve, float]] = {
    "Eq. 6": (lambda move, condition: move, WIDE_START),
    "conflict-free": (without_opposition, WIDE_START),
    "a fifth kept": (lambda move, condition: without_opposition(move, condition, kept=0.2), WIDE_START),
    "half kept": (lambda move, condition: without_opposition(move, condition, kept=0.5), WIDE_START),
    "while C rises": (limited, WIDE_START),
    "while C rises, narrow start": (limited, NARROW_START),
}
# Estimator, bandwidth, eta.
ESTIMATORS: Mapping[str, tuple[Estimator, str | float, float]] = {
    "KDE, h = .2": ("kde", 0.2, 0.0),
    "KDE, h = 1": ("kde", 1.0, 0.0),
    "ridge, h = 1, eta .1 (paper)": ("krr", 1.0, 0.1),
    "Stein, h = 16, eta .01": ("stein", 16.0, 0.01),
    "Stein, wide, eta .01": ("stein", "wide", 0.01),
}


def repulsion(x: Tensor, estimator: Estimator, bandwidth: str | float, eta: float) -> Tensor:
    """-grad A at the particles [n, D], the others and their weights held."""
    squares = kernels.squared_distances(x, x)
    h = kernels.choose_bandwidth(squares, bandwidth)
    kernel = (-squares / h).exp()
    if estimator == "stein":
        return -density.stein_score(x, kernel, h, eta)
    weighted = kernel * density.weights(kernel, estimator, eta)
    total = weighted.sum(1, keepdim=True)
    return (2 / h) * (x * total - weighted @ x) / total


def deviation(name: str, resolved: str, *, n: int, dim: int, steps: int) -> float:
    """Root mean square coordinate over the last quarter of the steps."""
    resolve, start = RESOLVED[resolved]
    x = start * torch.randn(n, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    squares = []
    for step in range(steps):
        condition = -x
        x = x + STEP_SIZE * (condition + resolve(repulsion(x, *ESTIMATORS[name]), condition))
        if step >= 0.75 * steps:
            squares.append(x.square().mean())
    return float(torch.stack(squares).mean().sqrt())


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Markdown: a row for each estimator, dimension and count."""
    lines = ["| estimator | D | n | " + " | ".join(RESOLVED) + " |", "|---" * (3 + len(RESOLVED)) + "|"]
    for row in rows:
        found = row["deviations"]
        assert isinstance(found, dict)
        cells = [f"{found[name]:.2f}" if found[name] < 10 else "> 10" for name in RESOLVED]
        lines.append(f"| {row['estimator']} | {row['D']} | {row['n']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--counts", type=int, nargs="+", default=[8, 32, 64])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the numbers go (%(default)s)")
    chosen = options.parse(parser, {"dimensions": [1], "counts": [8], "steps": 100})
    engine.set_threads(None)
    rows = []
    for name in ESTIMATORS:
        for dim in chosen.dimensions:
            for n in chosen.counts:
                found = {way: deviation(name, way, n=n, dim=dim, steps=chosen.steps) for way in RESOLVED}
                rows.append({"estimator": name, "D": dim, "n": n, "deviations": found})
    print(table(rows))
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    options.write_numbers(chosen.out, {"steps": chosen.steps, "rows": rows})


if __name__ == "__main__":
    main()
