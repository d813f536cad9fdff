"""A pool of rendered avatars on disk, shared by every training script: pictures, traits and the traits asked for.

    python -m training.avatars.pool --count 120000

Half of the rows ask for traits outside of what can be drawn (weights beyond the simplex, colours beyond the
cube) and show their projection; a quarter are broad blends. So the generator learns a clean picture for all of W.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.avatars import drawing, traits

FOLDER = Path("training/runs/avatars/pool")
CHUNK = 2_000
HELD_OUT_SEED = 1_000_003


@dataclass(frozen=True)
class Pool:
    """Rendered avatars. `images`: uint8 [N, S, S, 3]; `asked` and `shown`: traits float32 [N, traits.SIZE]."""

    images: np.ndarray
    asked: np.ndarray
    shown: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


def asked_traits(rng: np.random.Generator, count: int) -> np.ndarray:
    """Traits [count, SIZE] that cover the neighbourhood of the prior: half of it exactly, the rest wider."""
    result = traits.sample(rng, count)
    quarter = count // 4
    result[:quarter] = traits.sample(rng, quarter, sharpness=2.0)
    noise = rng.standard_normal(result[: 2 * quarter].shape).astype(np.float32)
    result[: 2 * quarter] += 0.15 * rng.uniform(size=(2 * quarter, 1)).astype(np.float32) * noise
    return result[rng.permutation(count)]


def render(wanted: np.ndarray, size: int) -> np.ndarray:
    """Draw every row of projected traits: uint8 [N, size, size, 3]."""
    return np.stack([drawing.draw(row, size) for row in wanted])


def open_pool(folder: Path = FOLDER) -> Pool:
    """Map the finished chunks of a pool into memory; FileNotFoundError says how to make one."""
    if not (folder / "pool.json").exists():
        raise FileNotFoundError(f"{folder} holds no pool: run `python -m training.avatars.pool` first")
    facts = json.loads((folder / "pool.json").read_text())
    shape = (facts["count"], facts["size"], facts["size"], 3)
    images = np.memmap(folder / "images.u8", dtype=np.uint8, mode="r", shape=shape)
    asked = np.load(folder / "asked.npy")
    return Pool(images, asked, traits.project(asked))


def held_out(count: int, size: int = drawing.CANVAS, *, seed: int = HELD_OUT_SEED, settled: bool = False) -> Pool:
    """Renders of the prior that no training run has seen: another seed, nothing outside of the prior.

    settled: brought to the nearest place with whole parts, as w_settled brings w.
    """
    shown = traits.sample(np.random.default_rng(seed), count, extras=True)
    shown = traits.settle(shown) if settled else shown
    return Pool(render(shown, size), shown, shown)


def _write_chunk(folder: Path, shape: tuple[int, ...], start: int, asked: np.ndarray) -> None:
    images = np.memmap(folder / "images.u8", dtype=np.uint8, mode="r+", shape=shape)
    images[start : start + len(asked)] = render(traits.project(asked), shape[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=120_000)
    parser.add_argument("--size", type=int, default=drawing.CANVAS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    folder, count = arguments.folder, arguments.count
    folder.mkdir(parents=True, exist_ok=True)
    asked = asked_traits(np.random.default_rng(arguments.seed), count)
    np.save(folder / "asked.npy", asked)
    shape = (count, arguments.size, arguments.size, 3)
    np.memmap(folder / "images.u8", dtype=np.uint8, mode="w+", shape=shape).flush()
    with ProcessPoolExecutor(arguments.processes) as workers:
        jobs = [
            workers.submit(_write_chunk, folder, shape, start, asked[start : start + CHUNK])
            for start in range(0, count, CHUNK)
        ]
        for done, job in enumerate(jobs, 1):
            job.result()
            print(f"\r{done * CHUNK} of {count} avatars", end="", flush=True)
    (folder / "pool.json").write_text(json.dumps({"count": count, "size": arguments.size, "seed": arguments.seed}))
    print()


if __name__ == "__main__":
    main()
