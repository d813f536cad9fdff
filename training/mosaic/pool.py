"""The pictures that mosaic and its prompt model are trained on: 64 px, with what is known of each.

    python -m training.mosaic.pool
    python -m training.mosaic.pool --at-most 100 --without-missing    # little, of what can be had here

A folder of `<source>.rgba` (premultiplied uint8, glyphs on nothing, so that inks and grounds can be chosen anew each
time) and `<source>.jsonl`. Called again, it makes the sources that are missing. Held-out pictures are glyphs, avatars
and photographs of their own, not other sizes of those trained on.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.avatars import pool as avatar_pool
from training.avatars import traits
from training.fashion import data as fashion
from training.jobs import shrink
from training.mosaic import colours, sources, styles

FOLDER = Path("training/runs/mosaic/pool")
SIZE = 64
SOURCES = ("avatars", "styles", "emoji", "icons", "fashion")
COUNTS = {"avatars": 12_000, "styles": 1_300, "fashion": 16_000}  # styles: of each
HELD_OUT = 20  # one picture of so many
HELD_OUT_FASHION = 800
SEED = 71
SHIFT = 3  # pixels

Facts = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """The colours that a glyph is shown in; a picture with a ground of its own has none."""

    ink: str = ""
    ground: str = ""


@dataclass(frozen=True, eq=False)
class Pool:
    """pictures: N of premultiplied uint8 [64, 64, 4]; facts: what is known of each; traits: of avatars, [M, SIZE]."""

    pictures: Sequence[np.ndarray]
    facts: Sequence[Facts]
    traits: np.ndarray

    def __len__(self) -> int:
        return len(self.facts)

    @property
    def sources(self) -> tuple[str, ...]:
        """Those that it has pictures of, in the order of `SOURCES`: all but in a pool made without some."""
        had = {facts["source"] for facts in self.facts}
        return tuple(source for source in SOURCES if source in had)

    def rows(self, *, held_out: bool, source: str = "") -> np.ndarray:
        """Numbers of the pictures for training, or of those for judging."""
        return np.array([
            i for i, facts in enumerate(self.facts)
            if facts["held_out"] == held_out and source in ("", facts["source"])
        ])  # fmt: skip

    def look(self, row: int, rng: np.random.Generator) -> Look:
        """Colours for one picture: an ink that can be told from its ground; half of the emoji on white."""
        facts = self.facts[row]
        if facts["opaque"]:
            return Look()
        names = list(colours.GROUNDS)
        ground = "white" if rng.random() < (0.4 if facts["source"] != "icons" else 0.2) else str(rng.choice(names))
        if facts["source"] != "icons":
            return Look("", ground)
        inks = [
            name for name, ink in colours.INKS.items()
            if name != ground and colours.contrast(ink, colours.GROUNDS[ground]) > 60
        ]  # fmt: skip
        return Look(str(rng.choice(inks)), ground)

    def show(self, rows: Iterable[int], looks: Sequence[Look], rng: np.random.Generator) -> np.ndarray:
        """The pictures in these colours, glyphs moved by up to `SHIFT` pixels: uint8 [N, 64, 64, 3]."""
        shown = []
        for row, look in zip(rows, looks, strict=True):
            picture = self.pictures[row]
            if not look.ground:
                shown.append(picture[..., :3])
                continue
            picture = np.roll(picture, rng.integers(-SHIFT, SHIFT + 1, 2), axis=(0, 1)).astype(np.float32)
            alpha = picture[..., 3:] / 255
            image = picture[..., :3] + colours.jittered(rng, colours.GROUNDS[look.ground]) * (1 - alpha)
            if look.ink:
                image += colours.jittered(rng, colours.INKS[look.ink]) * alpha
            shown.append((image + 0.5).clip(0, 255).astype(np.uint8))
        return np.stack(shown)


def open_pool(folder: Path = FOLDER) -> Pool:
    """Read the pool; FileNotFoundError says how to make one."""
    if not (folder / "pool.json").exists():
        raise FileNotFoundError(f"{folder} holds no pool: run `python -m training.mosaic.pool` first")
    pictures: list[np.ndarray] = []
    known = json.loads((folder / "pool.json").read_text())["counts"]
    for source in known:
        pictures += list(np.memmap(folder / f"{source}.rgba", dtype=np.uint8, mode="r").reshape(-1, SIZE, SIZE, 4))
    facts = [json.loads(line) for source in known for line in (folder / f"{source}.jsonl").open()]
    if len(pictures) != len(facts):
        raise ValueError(f"{folder} holds {len(pictures)} pictures but {len(facts)} descriptions: delete it")
    return Pool(pictures, facts, np.load(folder / "traits.npy"))


def shares_of(shares: Mapping[str, float], present: Collection[str]) -> dict[str, float]:
    """The shares of the sources that are there, of sum 1 again."""
    if set(shares) <= set(present):
        return dict(shares)
    total = sum(share for source, share in shares.items() if source in present)
    return {source: share / total for source, share in shares.items() if source in present}


# ---- making it -------------------------------------------------------------------------------------------


def _opaque(images: np.ndarray, folder: Path, source: str, facts: Sequence[Facts]) -> None:
    """Write pictures uint8 [N, 64, 64, 3] that fill their frame."""
    alpha = np.full((*images.shape[:3], 1), 255, dtype=np.uint8)
    np.concatenate([images, alpha], axis=3).tofile(folder / f"{source}.rgba")
    _describe(folder, source, facts)


def _describe(folder: Path, source: str, facts: Sequence[Facts]) -> None:
    lines = (json.dumps({"source": source, **row}) + "\n" for row in facts)
    (folder / f"{source}.jsonl").write_text("".join(lines))


def make_avatars(folder: Path, at_most: int) -> None:
    """Our own drawings, by the prior."""
    shown = traits.sample(np.random.default_rng(SEED), min(at_most, COUNTS["avatars"]))
    np.save(folder / "traits.npy", shown)
    images = avatar_pool.render(shown, SIZE)
    _opaque(images, folder, "avatars", [
        {"origin": "avatars", "traits": i, "opaque": True, "held_out": i % HELD_OUT == 0} for i in range(len(shown))
    ])  # fmt: skip


def make_fashion(folder: Path, at_most: int) -> None:
    """Fashion-MNIST at 32 px as the generator `fashion` makes it, enlarged as the prompt model does."""
    images, facts = [], []
    for split, wanted in (("train", COUNTS["fashion"]), ("t10k", HELD_OUT_FASHION)):
        pixels, labels = fashion.load(split)
        count = min(at_most, wanted)
        chosen = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(SEED))[:count]
        grey = torch.cat([shrink(fashion.to_images(part), SIZE) for part in pixels[chosen].split(500)])
        images.append(((grey + 1) * 127.5 + 0.5).clamp(0, 255).byte().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy())
        facts += [
            {"origin": "fashion-mnist", "class": int(label), "opaque": True, "held_out": split == "t10k"}
            for label in labels[chosen]
        ]
    _opaque(np.concatenate(images), folder, "fashion", facts)


def make_styles(folder: Path, at_most: int) -> None:
    """Avatars of other styles."""
    facts: list[Facts] = []
    each = min(-(-at_most // len(styles.STYLES)), COUNTS["styles"])

    def drawn() -> Iterator[str]:
        for name, style in styles.STYLES.items():
            for i, row in enumerate(sources.style_avatars(name, each, str(SEED), style.options)):
                tags = styles.features(name, row["extra"])
                opaque = row["extra"]["primaryBackgroundColor"] != "transparent"
                facts.append({"origin": name, "tags": tags, "opaque": opaque, "held_out": i % HELD_OUT == 0})
                yield row["svg"]

    _rasterised(folder, "styles", drawn, facts)


def make_glyphs(folder: Path, at_most: int, source: str, glyphs: Callable[[], Iterator[sources.Glyph]]) -> None:
    """Emoji or icons, each at two sizes."""
    facts: list[Facts] = []
    rng = np.random.default_rng(SEED)
    narrow = (0.03, 0.12) if source == "emoji" else (0.06, 0.18)

    def drawn() -> Iterator[str]:
        for glyph in islice(glyphs(), -(-at_most // 2)):
            known = {"origin": glyph.origin, "name": glyph.name, "also": list(glyph.also), **glyph.facts}
            kept = zlib.crc32(f"{glyph.origin}/{glyph.name}".encode()) % HELD_OUT == 0
            for margin in rng.uniform(*narrow, 2):
                facts.append({**known, "opaque": False, "held_out": kept})
                yield glyph.svg(margin)

    _rasterised(folder, source, drawn, facts)


def _rasterised(folder: Path, source: str, drawn: Callable[[], Iterator[str]], facts: list[Facts]) -> None:
    part = folder / f"{source}.rgba.part"
    part.unlink(missing_ok=True)
    count = sources.rasterise(drawn(), SIZE, part)
    if count != len(facts):
        raise sources.PackageError(f"{source}: {len(facts)} pictures were asked for, {count} came")
    part.replace(folder / f"{source}.rgba")
    _describe(folder, source, facts)


def _all_emoji() -> Iterator[sources.Glyph]:
    for origin in sources.EMOJI_SETS:
        yield from sources.emoji(origin)


MAKERS: Mapping[str, Callable[[Path, int], None]] = {
    "avatars": make_avatars,
    "styles": make_styles,
    "emoji": lambda folder, at_most: make_glyphs(folder, at_most, "emoji", _all_emoji),
    "icons": lambda folder, at_most: make_glyphs(folder, at_most, "icons", sources.icons),
    "fashion": make_fashion,
}
FROM_PACKAGES = ("styles", "emoji", "icons")
EVERYTHING = 10**9


def sources_here(*, without_missing: bool) -> tuple[list[str], list[dict[str, str]]]:
    """What pictures can be drawn from on this machine, and the licences of the packages among it.

    Where something is missing, it is said and left out if that is allowed, or PackageError or FileNotFoundError tell.
    """
    here, licences = list(SOURCES), []
    try:
        sources.install()
        licences = sources.licences()
    except (sources.PackageError, OSError) as error:
        if not without_missing:
            raise
        print(f"without {', '.join(FROM_PACKAGES)}: {error}", flush=True)
        here = [source for source in here if source not in FROM_PACKAGES]
    try:
        fashion.load("t10k")
    except FileNotFoundError as error:
        if not without_missing:
            raise
        print(f"without fashion: {error}", flush=True)
        here.remove("fashion")
    return here, licences


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--at-most", type=int, default=EVERYTHING, help="pictures of a source")
    parser.add_argument("--without-missing", action="store_true", help="leave out what cannot be drawn here")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    here, licences = sources_here(without_missing=arguments.without_missing)
    for source in here:
        if not (FOLDER / f"{source}.jsonl").exists():
            print(f"drawing {source}", flush=True)
            MAKERS[source](FOLDER, arguments.at_most)
    counts = {source: sum(1 for _ in (FOLDER / f"{source}.jsonl").open()) for source in here}
    (FOLDER / "pool.json").write_text(json.dumps({"seed": SEED, "counts": counts, "licences": licences}, indent=2))
    print(counts)


if __name__ == "__main__":
    main()
