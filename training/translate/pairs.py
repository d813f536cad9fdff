"""What the translation is taught with: a picture, a reference, and the picture with the reference's hair.

The domains are groups of hair. The drawing program knows the answer, so it is drawn too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count as counted

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from training.avatars import pool, traits

SIZE = 128
DOMAINS: Mapping[str, tuple[str, ...]] = {
    "long hair": ("long straight", "long wavy", "bob", "pigtails"),
    "short hair": ("short", "side part", "spiky", "mohawk", "afro", "curly", "bun"),
    "hat": (),
    "bald": ("bald",),
}
HAT, BALD = list(DOMAINS).index("hat"), list(DOMAINS).index("bald")
HAIR = ("hair_style", "hair_colour", "hat", "hat_colour")  # what a reference gives away
COVERING = ("turban", "headscarf")


def of_domains(rng: np.random.Generator, domains: np.ndarray) -> np.ndarray:
    """Traits [N, WIDE] of pictures of these domains [N]; all else as the prior has it, settled."""
    rows = traits.settle(traits.sample(rng, len(domains), extras=True))
    for name in COVERING:
        rows[:, traits.SIZE + traits.EXTRAS.index(name)] = 0
    styles, hats = traits.SHAPES["hair_style"], traits.SHAPES["hat"]
    for row, domain in zip(rows, domains, strict=True):
        names = DOMAINS[list(DOMAINS)[domain]]
        _set(row, "hair_style", str(rng.choice(names or styles)))
        _set(row, "hat", str(rng.choice(hats[1:])) if domain == HAT else "none")
    return rows


def with_hair_of(rows: np.ndarray, references: np.ndarray, domains: np.ndarray) -> np.ndarray:
    """The first traits with the hair of the second [N, WIDE], which are of these domains [N]."""
    result = rows.copy()
    for group in HAIR:
        result[:, traits.LAYOUT[group]] = references[:, traits.LAYOUT[group]]
    # A bald reference has no hair whose colour could be seen: the beard stays as it is.
    bald, colour = domains == BALD, traits.LAYOUT["hair_colour"]
    result[bald, colour] = rows[bald, colour]
    return result


def _set(row: np.ndarray, group: str, value: str) -> None:
    row[traits.LAYOUT[group]] = np.eye(len(traits.SHAPES[group]))[traits.SHAPES[group].index(value)]


Sample = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class Pairs(IterableDataset[Sample]):
    """Endless batches: pictures, references, answers, uint8 [B, 128, 128, 3]; the domains of the first two [B]."""

    def __init__(self, batch: int, seed: int, first: int = 0) -> None:
        self.batch, self.seed, self.first = batch, seed, first

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        begin, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for step in counted(self.first + begin, stride):
            yield self.draw(np.random.default_rng((self.seed, step)))

    def draw(self, rng: np.random.Generator) -> Sample:
        domains, others = rng.integers(len(DOMAINS), size=(2, self.batch))
        rows, references = of_domains(rng, domains), of_domains(rng, others)
        answers = with_hair_of(rows, references, others)
        pictures = (torch.from_numpy(pool.render(part, SIZE)) for part in (rows, references, answers))
        source, reference, answer = pictures
        return source, reference, answer, torch.from_numpy(domains), torch.from_numpy(others)


def pairs(batch: int, seed: int, first: int, *, workers: int, device: torch.device) -> Iterator[Sample]:
    """The same with images [B, 3, 128, 128] in [-1, 1] on the device, drawn ahead by `workers` processes."""
    loader: DataLoader[Sample] = DataLoader(
        Pairs(batch, seed, first), batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None,
        pin_memory=device.type == "cuda",
    )  # fmt: skip
    for source, reference, answer, domains, others in loader:
        images = [
            part.to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
            for part in (source, reference, answer)
        ]
        yield images[0], images[1], images[2], domains.to(device), others.to(device)
