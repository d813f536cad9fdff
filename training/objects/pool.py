"""The pictures of `objects`: every emoji and icon once, 128 px, and a first place in W for each.

    python -m training.objects.pool

Premultiplied RGBA on nothing, so that inks and grounds are chosen anew at every step. The places are the principal
components of a prompt model's features: what means the same begins close together.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

import engine
from training.mosaic import sources
from training.mosaic.pool import EVERYTHING, Facts

FOLDER = Path("training/runs/objects/pool")
ASSETS = Path("assets")
SIZE = 128
DIMENSIONS = 160  # of an entry's place
MARGINS = {"emoji": 0.07, "icons": 0.11}
HELD_OUT = 20  # one name of so many is not trained on


@dataclass(frozen=True, eq=False)
class Pool:
    """pictures: premultiplied uint8 [N, 128, 128, 4]; facts: of each; places: float32 [N, DIMENSIONS]."""

    pictures: np.ndarray
    facts: list[Facts]
    places: np.ndarray

    def rows(self, *, held_out: bool) -> np.ndarray:
        """Numbers of the pictures for training, or of those for judging."""
        return np.array([i for i, facts in enumerate(self.facts) if facts["held_out"] == held_out])


def open_pool(folder: Path = FOLDER) -> Pool:
    """Read the pool; FileNotFoundError says how to make one."""
    if not (folder / "places.npy").exists():
        raise FileNotFoundError(f"{folder} holds no pool: run `python -m training.objects.pool` first")
    facts = [json.loads(line) for line in (folder / "facts.jsonl").open()]
    pictures = np.fromfile(folder / "pictures.rgba", dtype=np.uint8).reshape(-1, SIZE, SIZE, 4)
    return Pool(pictures, facts, np.load(folder / "places.npy").astype(np.float32))


def glyphs(at_most: int) -> Iterator[tuple[str, sources.Glyph]]:
    """Every emoji, then every icon, with its source."""
    for origin in sources.EMOJI_SETS:
        yield from (("emoji", glyph) for glyph in islice(sources.emoji(origin), at_most))
    yield from (("icons", glyph) for glyph in islice(sources.icons(), at_most))


def on_white(pictures: np.ndarray) -> torch.Tensor:
    """Premultiplied uint8 [N, S, S, 4] -> images [N, 3, S, S] in [-1, 1]; icons, which have no colour, in black."""
    whole = torch.from_numpy(pictures).float() / 255
    return (whole[..., :3] + 1 - whole[..., 3:]).permute(0, 3, 1, 2) * 2 - 1


@torch.no_grad()
def first_places(pictures: np.ndarray) -> np.ndarray:
    """Unit-variance principal components of clip-mosaic's features, [N, DIMENSIONS]; fewer dimensions are padded."""
    model = engine.load_prompt_model("clip-mosaic", assets=ASSETS)
    features = torch.cat(
        [model.image_features(on_white(part)) for part in np.array_split(pictures, len(pictures) // 64 + 1)]
    )
    centred = features - features.mean(0)
    _, deviations, directions = torch.linalg.svd(centred, full_matrices=False)
    used = min(DIMENSIONS, len(deviations))
    # The square root: large components stay larger, and small ones still tell pictures of one name apart.
    places = centred @ directions[:used].t() / (deviations[:used] / len(features) ** 0.5).sqrt()
    places = places / places.std()
    return torch.nn.functional.pad(places, (0, DIMENSIONS - used)).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--at-most", type=int, default=EVERYTHING, help="pictures of a set")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    sources.install()
    facts: list[Facts] = []

    def drawn() -> Iterator[str]:
        for source, glyph in glyphs(arguments.at_most):
            held_out = zlib.crc32(f"{glyph.origin}/{glyph.name}".encode()) % HELD_OUT == 0
            facts.append({
                "source": source, "origin": glyph.origin, "name": glyph.name, "also": list(glyph.also), **glyph.facts,
                "held_out": held_out,
            })  # fmt: skip
            yield glyph.svg(MARGINS[source]).replace('width="64" height="64"', f'width="{SIZE}" height="{SIZE}"')

    path = FOLDER / "pictures.rgba"
    path.unlink(missing_ok=True)
    sources.rasterise(drawn(), SIZE, path)
    (FOLDER / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in facts))
    pictures = np.fromfile(path, dtype=np.uint8).reshape(-1, SIZE, SIZE, 4)
    np.save(FOLDER / "places.npy", first_places(pictures).astype(np.float16))
    print(f"{len(facts)} pictures of {len({row['name'] for row in facts})} names")


if __name__ == "__main__":
    main()
