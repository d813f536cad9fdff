"""How sure a measure of two sets of features is: the bootstrap (Efron 1979)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Interval(NamedTuple):
    """A measure of the sets as they are, and the limits between which it lies for sets drawn again."""

    value: float
    low: float
    high: float


def bootstrap(
    measure: Callable[[Tensor, Tensor], float],
    real: Tensor,
    generated: Tensor,
    *,
    level: float = 0.95,
    draws: int = 200,
    redraw_real: bool = False,
) -> Interval:
    """The percentile interval of a measure of features [N, D] and [M, D], whose rows are drawn with replacement.

    By default only the generated ones are, as where `real` is a whole test set. The draws are always the same. A
    measure by nearest neighbours finds copies of a row at distance 0: of those take halves without replacement
    instead. Raises ValueError for a level outside of (0, 1) or no draw.
    """
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"expected a level between 0 and 1 and at least 1 draw, got {level} and {draws}")
    generator = torch.Generator().manual_seed(0)

    def again(rows: Tensor) -> Tensor:
        return rows[torch.randint(len(rows), (len(rows),), generator=generator)]

    found = torch.tensor([measure(again(real) if redraw_real else real, again(generated)) for _ in range(draws)])
    low, high = found.double().quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64))
    return Interval(measure(real, generated), float(low), float(high))
