"""How well do n samples tell the score grad log q of the density they were drawn from?

    python -m experiments.score_estimates            # the tables of docs/method.md, a minute
    python -m experiments.score_estimates --quick    # tiny counts, seconds

The samples come from a standard normal and from two unit normals, 4 apart, in D dimensions. Each estimator of
`engine.inference.density` gives a score at each sample. Its error is the root of the mean over draws of
sum |estimate - truth|^2 / sum |truth|^2: 0 is perfect, 1 no better than to say 0. Bandwidths h are multiples of the
median squared distance between the samples; "best" is the one of least error among them, from one list for every
estimator, so that none is held back by a rule.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

import engine
from engine.inference import density, kernels
from experiments import options

RESULTS = Path(__file__).parent / "results" / "score_estimates.json"
WIDTHS = tuple(4.0**k for k in range(-4, 6))  # bandwidths, in the median squared distance

Draw = Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]  # n, D -> samples and true scores, [n, D]
Estimate = Callable[[Tensor, Tensor, Tensor], Tensor]  # samples [n, D], their kernel [n, n], h [] -> scores [n, D]


def normal(n: int, dim: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Of N(0, I), whose score is -x."""
    x = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    return x, -x


def mixture(n: int, dim: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Of (N(c, I) + N(-c, I)) / 2 with c = 2 e_1, whose score is -x + tanh(<x, c>) c."""
    centre = torch.zeros(dim, dtype=torch.float64)
    centre[0] = 2.0
    signs = 2 * torch.randint(0, 2, (n, 1), generator=generator) - 1
    x = torch.randn(n, dim, generator=generator, dtype=torch.float64) + signs * centre
    return x, -x + torch.tanh(x @ centre)[:, None] * centre


TARGETS: Mapping[str, Draw] = {"normal": normal, "mixture": mixture}


def from_weights(weights: Callable[[Tensor], Tensor]) -> Estimate:
    """grad log sum_j alpha_j k(x, x_j), alpha = weights(kernel), by the chain rule."""

    def score(x: Tensor, kernel: Tensor, h: Tensor) -> Tensor:
        weighted = kernel * weights(kernel)
        total = weighted.sum(1, keepdim=True)
        return -(2 / h) * (x * total - weighted @ x) / total

    return score


def stein(eta: float) -> Estimate:
    return lambda x, kernel, h: density.stein_score(x, kernel, h, eta)


ESTIMATORS: Mapping[str, Estimate] = {
    "KDE": from_weights(density.kde_weights),
    "ridge, eta .1": from_weights(lambda kernel: density.krr_weights(kernel, 0.1)),
    "ridge, positive": from_weights(lambda kernel: density.weights(kernel, "krr", "positive")),
    "Stein, eta .001": stein(0.001),
    "Stein, eta .01": stein(0.01),
    "Stein, eta .1": stein(0.1),
}
# (estimator, bandwidth) that presets and the paper use: no search.
RULES: Mapping[str, tuple[str, str | float]] = {
    "paper: ridge, eta .1, h = 1": ("ridge, eta .1", 1.0),
    "ridge, positive, nearest": ("ridge, positive", "nearest"),
    "KDE, nearest": ("KDE", "nearest"),
    "KDE, median": ("KDE", "median"),
    "Stein, eta .01, wide": ("Stein, eta .01", "wide"),
}


def errors(target: str, n: int, dim: int, draws: int) -> dict[str, dict[str, float]]:
    """By estimator: the error at its best bandwidth, and that bandwidth; by rule: the error."""
    squares: dict[tuple[str, str | float], list[float]] = {}
    for seed in range(draws):
        x, truth = TARGETS[target](n, dim, torch.Generator().manual_seed(seed))
        distances = kernels.squared_distances(x, x)
        median = kernels.wide_bandwidth(distances) / kernels.WIDE
        tried: list[tuple[str, str | float, Tensor]]
        tried = [(name, width, width * median) for name in ESTIMATORS for width in WIDTHS]
        tried += [(rule, "", kernels.choose_bandwidth(distances, RULES[rule][1])) for rule in RULES]
        for name, width, h in tried:
            estimate = ESTIMATORS[name if name in ESTIMATORS else RULES[name][0]]
            score = estimate(x, (-distances / h).exp(), h)
            error = float((score - truth).square().sum() / truth.square().sum())
            squares.setdefault((name, width), []).append(error)
    roots = {key: math.sqrt(sum(values) / len(values)) for key, values in squares.items()}
    found = {rule: {"error": roots[rule, ""]} for rule in RULES}
    for name in ESTIMATORS:
        width = min(WIDTHS, key=lambda width: roots[name, width])
        found[name] = {"error": roots[name, width], "bandwidth": width}
    return found


def table(rows: Sequence[Mapping[str, object]], names: Sequence[str]) -> str:
    """Markdown: a row for each target, dimension and count, a column for each estimator, the least error in bold."""
    lines = ["| | D | n | " + " | ".join(names) + " |", "|---" * (3 + len(names)) + "|"]
    for row in rows:
        found = row["errors"]
        assert isinstance(found, dict)
        shown = [f"{found[name]['error']:.2f}" for name in names]
        least = min(shown, key=float)
        cells = [f"**{text}**" if text == least else text for text in shown]
        lines.append(f"| {row['target']} | {row['D']} | {row['n']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[1, 2, 8, 32])
    parser.add_argument("--counts", type=int, nargs="+", default=[8, 32, 128, 512])
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the numbers go (%(default)s)")
    chosen = options.parse(parser, {"dimensions": [1, 2], "counts": [8], "draws": 2})
    engine.set_threads(None)
    rows = []
    for target in TARGETS:
        for dim in chosen.dimensions:
            for n in chosen.counts:
                rows.append({"target": target, "D": dim, "n": n, "errors": errors(target, n, dim, chosen.draws)})
    print(f"Error of the score, each estimator at its best bandwidth, {chosen.draws} draws\n")
    print(table(rows, list(ESTIMATORS)))
    print("\nError of the score, bandwidths by rule\n")
    print(table(rows, list(RULES)))
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    options.write_numbers(chosen.out, {"draws": chosen.draws, "rows": rows})


if __name__ == "__main__":
    main()
