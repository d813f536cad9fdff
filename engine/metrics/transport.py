"""The earth mover's distance between two sets of points, exactly (Villani 2009, Definition 6.1, p = 1)."""

from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

MOST_POINTS = 4096  # the costs are N^2 numbers, the solution takes up to N^3 steps


def earth_movers_distance(real: Tensor, generated: Tensor) -> float:
    """The mean distance of the best one-to-one assignment of points [N, D] to points [N, D].

    By scipy where it is installed. Raises ValueError for sets of different sizes or of more than MOST_POINTS.
    """
    if len(real) != len(generated) or not 0 < len(real) <= MOST_POINTS:
        raise ValueError(
            f"expected as many points of each set, 1 to {MOST_POINTS:,}; got {len(real):,} and {len(generated):,}"
        )
    costs = torch.cdist(real.double(), generated.double()).cpu().numpy()
    if (optimize := _installed("scipy.optimize")) is not None:
        return float(costs[optimize.linear_sum_assignment(costs)].mean())
    return float(costs[np.arange(len(costs)), best_assignment(costs)].mean())


def best_assignment(costs: np.ndarray) -> np.ndarray:
    """The column of each row in the assignment of least cost: [N, N] -> [N].

    By shortest augmenting paths (Jonker & Volgenant 1987): rows join one after the other, each along the path of least
    reduced cost to a free column. u and v are the dual prices of rows and columns: cost - u - v is never negative, and
    zero where a row is assigned. 256 points take about 0.1 s, 60 times as long as in scipy.
    """
    n = len(costs)
    u, v = np.zeros(n), costs.min(axis=0)
    row_of, column_of = np.full(n, -1), np.full(n, -1)
    for column, row in enumerate(costs.argmin(axis=0)):
        if column_of[row] < 0:
            row_of[column], column_of[row] = row, column
    for start in np.flatnonzero(column_of < 0):
        way, before, is_seen = np.full(n, np.inf), np.full(n, -1), np.zeros(n, dtype=bool)
        row, length, rows = start, 0.0, [start]
        while True:
            through = length + costs[row] - u[row] - v
            is_shorter = ~is_seen & (through < way)
            way[is_shorter], before[is_shorter] = through[is_shorter], row
            column = int(np.where(is_seen, np.inf, way).argmin())
            length, is_seen[column] = way[column], True
            if row_of[column] < 0:
                break
            row = row_of[column]
            rows.append(row)
        u[start] += length
        u[rows[1:]] += length - way[column_of[rows[1:]]]
        v[is_seen] -= length - way[is_seen]
        while True:  # every row on the path takes the column that led on from it
            row = row_of[column] = before[column]
            column_of[row], column = column, column_of[row]
            if row == start:
                break
    return column_of


def _installed(name: str) -> Any:
    """A package that the studio does without; None where it is missing."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return None
