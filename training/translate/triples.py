"""Exact triples for translation: a face, a reference, and the face with the reference's hair and hat.

A domain is a kind of head: long hair, short hair, a hat, none. What the style has to say is drawn from a latent z:
cut, hat, and both colours. Everything else is the content. So the latent, the reference and the result are known
together, and all three networks can be supervised.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count as counted

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from training.avatars import pool, traits

DOMAINS = ("long hair", "short hair", "hat", "no hair")
LONG, SHORT, HAT, NONE = range(4)
CUTS = traits.SHAPES["hair_style"]
LONG_CUTS = ("bob", "long straight", "long wavy", "pigtails")
STYLED = ("hair_style", "hat", "hair_colour", "hat_colour")  # groups of traits that belong to the style
CONTENT = tuple(group for group in traits.GROUPS if group not in STYLED)
SHARPNESS = 10.0  # of the choices that a latent makes
COLOUR_NOISE = 0.025
KEPT = 12  # drawn batches that are mixed
_WIDTHS = {
    "hair_style": len(CUTS), "hat": len(traits.SHAPES["hat"]),
    "hair_colour": len(traits.COLOURS["hair_colour"]) + 3, "hat_colour": len(traits.COLOURS["hat_colour"]) + 3,
}  # fmt: skip
LATENT_DIM = sum(_WIDTHS.values())
STYLED_DIM = sum(traits.LAYOUT[group].stop - traits.LAYOUT[group].start for group in STYLED)


def _choices() -> dict[str, np.ndarray]:
    """Which values a group may take in each domain: [K, V]."""
    is_long = np.array([cut in LONG_CUTS for cut in CUTS])
    bald = np.array([cut == "bald" for cut in CUTS])
    has_hat = np.arange(_WIDTHS["hat"]) > 0
    return {
        "hair_style": np.stack([is_long, ~is_long & ~bald, ~bald, bald]),
        "hat": np.stack([~has_hat, ~has_hat, has_hat, ~has_hat]),
    }


CHOICES = _choices()


def dress(rows: np.ndarray, z: np.ndarray, domains: np.ndarray) -> np.ndarray:
    """Settled traits [N, SIZE] with the hair that the latents [N, LATENT_DIM] say in each one's domain."""
    result, start = rows.copy(), 0
    for group, width in _WIDTHS.items():
        block, start = z[:, start : start + width], start + width
        if group in CHOICES:
            chosen = _softmax(np.where(CHOICES[group][domains], SHARPNESS * block, -np.inf))
        else:
            named = width - 3
            mixed = _softmax(SHARPNESS * block[:, :named]) @ traits.anchors(group)
            chosen = np.clip(mixed + COLOUR_NOISE * block[:, named:], 0, 1)
        result[:, traits.LAYOUT[group]] = chosen
    settled: np.ndarray = traits.settle(result).astype(np.float32)
    return settled


def styled(rows: np.ndarray) -> np.ndarray:
    """What a style has to say of the traits: [N, STYLED_DIM]."""
    return np.concatenate([rows[:, traits.LAYOUT[group]] for group in STYLED], axis=1)


def sayings(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latents [N, LATENT_DIM], domains [N] and what they say [N, STYLED_DIM], without pictures."""
    z = rng.standard_normal((count, LATENT_DIM)).astype(np.float32)
    domains = rng.integers(len(DOMAINS), size=count)
    return z, domains, styled(dress(traits.sample(rng, count), z, domains))


class StyleCode:
    """What styles say as numbers that a network can easily use: the styled traits, whitened, in a fixed random basis.

    Each of `width` numbers is about a standard normal's size; nothing but the styled traits is in them.
    """

    def __init__(self, width: int, samples: int = 4000) -> None:
        *_, said = sayings(np.random.default_rng(5), samples)
        self.mean, self.deviation = said.mean(0), said.std(0) + 0.05
        basis, _ = np.linalg.qr(np.random.default_rng(6).standard_normal((width, STYLED_DIM)))
        self.basis = (basis.T * np.sqrt(width / STYLED_DIM)).astype(np.float32)

    def __call__(self, said: Tensor) -> Tensor:
        """[N, STYLED_DIM] -> [N, width]."""
        mean, deviation, basis = (torch.from_numpy(part).to(said) for part in (self.mean, self.deviation, self.basis))
        return ((said - mean) / deviation) @ basis


def with_hair_of(rows: np.ndarray, references: np.ndarray) -> np.ndarray:
    """The traits with the hair and the hat of the references."""
    result = rows.copy()
    for group in STYLED:
        result[:, traits.LAYOUT[group]] = references[:, traits.LAYOUT[group]]
    return result


def domains_of(labels: dict[str, np.ndarray]) -> np.ndarray:
    """The domain [N] that labels (`traits.labels`, or a judge's) tell; -1 where they cannot."""
    hat, cut = labels["hat"], labels["hair_style"]
    long_cuts = [CUTS.index(name) for name in LONG_CUTS]
    of_cut = np.where(cut == 0, NONE, np.where(np.isin(cut, long_cuts), LONG, SHORT))
    return np.where(hat > 0, HAT, np.where((hat < 0) | (cut < 0), -1, of_cut))


def examples(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Traits [3, N, SIZE] of faces, references and results; latents [2, N, LATENT_DIM] and domains [2, N] of both."""
    z = rng.standard_normal((2, count, LATENT_DIM)).astype(np.float32)
    domains = rng.integers(len(DOMAINS), size=(2, count))
    faces, references = (dress(traits.sample(rng, count), z[i], domains[i]) for i in range(2))
    return np.stack([faces, references, with_hair_of(faces, references)]), z, domains


class Triples(IterableDataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Endless batches: pictures [3, B, size, size, 3] as uint8, latents [2, B, LATENT_DIM], domains [2, B], and what
    the styles of both say [2, B, STYLED_DIM]."""

    def __init__(self, batch: int, size: int, seed: int, first: int = 0) -> None:
        self.batch, self.size, self.seed, self.first = batch, size, seed, first

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        worker = get_worker_info()  # they take turns
        begin, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for step in counted(self.first + begin, stride):
            rows, z, domains = examples(np.random.default_rng((self.seed, step)), self.batch)
            pixels = pool.render(rows.reshape(-1, rows.shape[-1]), self.size)
            pixels = pixels.reshape(3, self.batch, self.size, self.size, 3)
            said = np.stack([styled(of) for of in rows[:2]])
            yield torch.from_numpy(pixels), torch.from_numpy(z), torch.from_numpy(domains), torch.from_numpy(said)


def stream(
    batch: int, size: int, seed: int, first: int, *, workers: int, device: torch.device, uses: int = 1
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Pictures [3, B, 3, size, size] in [-1, 1], latents, domains and what styles say, on the device.

    Drawn ahead by `workers` processes.

    Every drawn batch is shown `uses` times, mixed with those before it.
    """
    loader: DataLoader[tuple[Tensor, ...]] = DataLoader(
        Triples(batch, size, seed, first), batch_size=None, num_workers=workers,
        prefetch_factor=4 if workers else None, pin_memory=device.type == "cuda",
    )  # fmt: skip
    kept: list[tuple[Tensor, ...]] = []
    for parts in loader:
        kept = [*kept, tuple(part.to(device, non_blocking=True) for part in parts)][-KEPT:]
        pixels, z, domains, said = (torch.cat(part, dim=1) for part in zip(*kept, strict=True))
        for _ in range(uses):
            rows = torch.randint(pixels.shape[1], (batch,), device=device)
            images = pixels[:, rows].permute(0, 1, 4, 2, 3).float().div_(127.5).sub_(1)
            yield images, z[:, rows], domains[:, rows], said[:, rows]


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    result: np.ndarray = exponents / exponents.sum(1, keepdims=True)
    return result
