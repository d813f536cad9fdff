"""Endless drawings for training, made as they are needed by processes of their own: drawing one takes 1 to 4 ms.

What is asked for covers all places of W that a flow can reach, most of them settled (`traits.settle`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import count as counted

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from training.avatars import pool, traits

EXTRAS_UNIT = 0.33  # of w, at least: rare as they are, an extra is as far away as a hat


@cache
def statistics() -> tuple[np.ndarray, np.ndarray]:
    """Mean and unit [WIDE] of the prior's traits in W: their standard deviations, but for the extras."""
    mean, deviation = traits.statistics()
    z = np.random.default_rng(6).standard_normal((50_000, len(traits.EXTRAS))).astype(np.float32)
    extras = traits.extras_from_gaussian(z)
    return np.concatenate([mean, extras.mean(0)]), np.concatenate([deviation, np.maximum(extras.std(0), EXTRAS_UNIT)])


@cache
def _spread() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cholesky factor of the prior's covariance and its extremes, as the engine's W has them."""
    drawn = traits.sample(np.random.default_rng(7), 20_000, extras=True).astype(np.float64)
    covariance = np.cov(drawn.T) + 1e-6 * np.eye(traits.WIDE)
    return np.linalg.cholesky(covariance), drawn.min(0), drawn.max(0)


def asked_traits(rng: np.random.Generator, count: int) -> np.ndarray:
    """Traits [count, WIDE] from all that the flow can reach.

    Two fifths are the prior's, half of them with noise; one fifth lies on lines through two of the prior's; two
    fifths are Gaussian, wider or narrower in every coordinate, within the prior's extremes.
    """
    result = traits.sample(rng, count, extras=True)
    kind = rng.permutation(count) * 10 // count
    noisy, between, wide = kind < 2, (kind >= 4) & (kind < 6), kind >= 6
    noise = rng.standard_normal(result.shape).astype(np.float32)
    result += np.where(noisy, 0.15 * rng.uniform(size=count), 0).astype(np.float32)[:, None] * noise
    other = traits.sample(rng, count, extras=True)
    share = np.where(between, rng.uniform(-0.2, 1.2, size=count), 0).astype(np.float32)[:, None]
    result += share * (other - result)
    factor, low, high = _spread()
    scale = rng.uniform(0.6, 1.5, size=(count, 1)) * rng.uniform(0.75, 1.25, size=result.shape)
    gaussian = np.clip(statistics()[0] + scale * (noise @ factor.T), low, high)
    result = np.where(wide[:, None], gaussian, result).astype(np.float32)
    # Extras are rare in the prior: three in ten pictures get one more, half of these in part.
    given, extra = rng.uniform(size=count) < 0.3, traits.SIZE + rng.integers(len(traits.EXTRAS), size=count)
    amount = np.where(rng.uniform(size=count) < 0.5, 1, rng.uniform(size=count))
    result[given, extra[given]] = amount[given]
    return result


def examples(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """What the synthesis network is given and what it has to draw: traits [count, WIDE] each.

    Two thirds are settled places of all that the flow reaches. The others are the prior's blends, half of them with
    noise, so that it draws the ways between the values too.
    """
    settled = count * 2 // 3
    given = traits.settle(asked_traits(rng, settled))
    blends = traits.sample(rng, count - settled, extras=True)
    noise = rng.standard_normal(blends.shape).astype(np.float32)
    blends += 0.1 * rng.uniform(-1, 1, size=(len(blends), 1)).clip(0).astype(np.float32) * noise
    given = np.concatenate([given, blends]).astype(np.float32)[rng.permutation(count)]
    return given, traits.project(given)


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """Endless batches: traits [B, WIDE] as float32 and their drawings [B, size, size, 3] as uint8."""

    def __init__(self, batch: int, size: int, seed: int, first: int = 0, *, named: bool = False) -> None:
        """first: the step to begin at. named: for networks that tell traits; else `examples`, for those that draw."""
        self.batch, self.size, self.seed, self.first, self.named = batch, size, seed, first, named

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()  # they take turns
        begin, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for step in counted(self.first + begin, stride):
            rng = np.random.default_rng((self.seed, step))
            given, shown = examples(rng, self.batch)
            if self.named:
                half = self.batch // 2
                given = shown = np.concatenate([traits.sample(rng, self.batch - half, extras=True), shown[:half]])
            yield torch.from_numpy(given), torch.from_numpy(pool.render(shown, self.size))


def stream(
    batch: int, size: int, seed: int, first: int, *, workers: int, device: torch.device, named: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Traits and pictures [B, 3, size, size] in [-1, 1] on the device, drawn ahead by `workers` processes."""
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
        Stream(batch, size, seed, first, named=named), batch_size=None, num_workers=workers,
        prefetch_factor=4 if workers else None, pin_memory=device.type == "cuda",
    )  # fmt: skip
    for given, pixels in loader:
        images = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        yield given.to(device, non_blocking=True), images
