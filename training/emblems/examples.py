"""What `emblems` learns from: captions with their sentence vectors, and the one picture that each draws for a z.

    python -m training.emblems.examples    # reads the pool of `training.mosaic.pool`

A caption leaves open what z then says: by whose hand a thing is drawn, on which ground, in which ink; of an avatar all
traits that the caption does not claim. So a picture is a function of caption and z, z is normal whatever the caption,
and a generator can learn by differences. Things are what two emoji sets or all five icon sets have a drawing of.
Sentence vectors are the text features of `clip-mosaic`.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import engine
from engine.checkpoints import read_safetensors, write_safetensors
from engine.latents.spaces import TruncatedNormalSpace
from training.avatars import captions as avatar_captions
from training.avatars import pool as avatar_pool
from training.avatars import traits
from training.jobs import to_tensor
from training.mosaic import colours, pool, words

FOLDER = Path("training/runs/emblems/examples")
PROMPT_MODEL = "clip-mosaic"
ASSETS = Path("assets")
SIZE, Z_DIM = pool.SIZE, traits.latent_size()
HANDS = ("twemoji", "noto", "fluent-emoji-flat", "icon")
SOLID = (("ph", True), ("tabler", True), ("bi", True), ("mdi", False))  # icon sets with filled areas, the best first
CAPTIONS_A_DRAWING, AVATARS = 16, 8_000
TAUGHT = 4  # hands that must have drawn a thing: few things that are drawn well, rather than many that are not
SEED, HELD_OUT_SEED = 81, 1_000_081
UNTOLD = -1
COMMON_EMOJI, COMMON_ICON = 2, 5  # sets that have a drawing of it
# Left out: people at their doings, which are a whole drawing in a few pixels, and what only lettering tells apart.
_LEFT_OUT = re.compile(
    r"\b(m[ae]n|wom[ae]n|person|people|family|couple|kiss:|holding hands)\b|o.clock$|-thirty$|\bbutton\b|^japanese |"
    r"^input |^regional |^(black|white) .*(square|circle)$"
)

GROUNDS, INKS = tuple(colours.GROUNDS), tuple(colours.INKS)
_COLOURS = {
    name: torch.tensor(list(named.values())).float() / 255
    for name, named in (("ground", colours.GROUNDS), ("ink", colours.INKS))
}
_READABLE = torch.tensor(
    [[colours.contrast(ink, ground) > 60 for ink in colours.INKS.values()] for ground in colours.GROUNDS.values()]
)
# Which coordinates of z say what a glyph's caption leaves open: by whose hand, the largest one tells; how much the
# ground and the ink are coloured, and how.
HAND, TINTED, TINT, INKED, INK = slice(0, 4), 4, slice(5, 8), 8, slice(9, 12)
LIGHT, DARK = 0.62, 0.45  # lightness from which a ground under an ink is made dark, and to which an ink on it is light


@dataclass(frozen=True)
class Concept:
    """A thing: the row of the pool that each hand drew, -1 for none, and what it is called."""

    drawings: tuple[int, ...]  # in the order of HANDS
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Examples:
    """Captions [T] in words, with `features` [T, D] of length 1 and what they tell; and pictures.

    concept [T]: rows of `drawings` [C, HANDS], which are rows of `glyphs` [G, 64, 64, 4] (premultiplied), -1 for none;
    hands [T, HANDS]: which ones fit the caption's words; ground, ink [T]: numbers of colours, or UNTOLD. The last A
    captions are of avatars: concept UNTOLD, each with its z [A, Z_DIM] and its picture [A, 64, 64, 3].
    """

    texts: Sequence[str]
    features: Tensor
    concept: Tensor
    hands: Tensor
    ground: Tensor
    ink: Tensor
    drawings: Tensor
    glyphs: Tensor
    avatar_z: Tensor
    avatars: Tensor

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def of_glyphs(self) -> int:
        """How many captions are not of avatars."""
        return len(self) - len(self.avatars)

    def show(self, rows: Tensor, z: Tensor) -> Tensor:
        """The pictures of glyphs' captions [N] and z [N, Z_DIM], normal: [N, 3, 64, 64] in [-1, 1]."""
        hand = self.hand(rows, z)
        ground, ink = looks(z, self.ground[rows], self.ink[rows])
        glyphs = self.glyphs[self.drawings[self.concept[rows]].gather(1, hand[:, None])[:, 0]]
        whole = glyphs.permute(0, 3, 1, 2).float() / 255
        alpha = whole[:, 3:]
        is_icon = (hand == HANDS.index("icon"))[:, None, None, None]
        drawn = torch.where(is_icon, ink[:, :, None, None] * alpha, whole[:, :3])
        return (drawn + ground[:, :, None, None] * (1 - alpha)) * 2 - 1

    def hand(self, rows: Tensor, z: Tensor) -> Tensor:
        """Numbers of the hands [N] that z chooses of those that have drawn the thing and fit the words."""
        possible = self.hands[rows] & (self.drawings[self.concept[rows]] >= 0)
        return torch.where(possible, z[:, HAND], -torch.inf).argmax(1)


def looks(z: Tensor, ground: Tensor, ink: Tensor) -> tuple[Tensor, Tensor]:
    """Colours of grounds and inks [N, 3] in [0, 1]: those of the numbers told [N], or where UNTOLD what z says.

    Smooth in z, white and black more often than not, and such that one can be told from the other.
    """
    tint = (0.78 + 0.17 * z[:, TINT]).clamp(0, 1)
    own_ground = torch.lerp(torch.ones_like(tint), tint, _share(z[:, TINTED] - 0.5))
    light = (ink != UNTOLD) & (_COLOURS["ink"][ink.clamp_min(0)].mean(1) > LIGHT)
    own_ground = torch.where(light[:, None], 0.3 * own_ground, own_ground)
    ground_colour = torch.where((ground == UNTOLD)[:, None], own_ground, _COLOURS["ground"][ground.clamp_min(0)])
    shade = (0.3 + 0.2 * z[:, INK]).clamp(0, 1)
    own_ink = torch.lerp(torch.full_like(shade, 0.11), shade, _share(z[:, INKED] - 0.5))
    own_ink = torch.where(ground_colour.mean(1, keepdim=True) < DARK, torch.ones_like(shade), own_ink)
    return ground_colour, torch.where((ink == UNTOLD)[:, None], own_ink, _COLOURS["ink"][ink.clamp_min(0)])


def _share(above: Tensor) -> Tensor:
    """[N] -> [N, 1] in (0, 1), nearly 0 or 1 but about 0."""
    return (8 * above).sigmoid()[:, None]


def draw_z(count: int, generator: torch.Generator) -> Tensor:
    """z [N, Z_DIM], normal and truncated as the engine's."""
    seeds = torch.randint(2**31, (1,), generator=generator)
    return TruncatedNormalSpace(count * Z_DIM).sample(seeds.tolist()).view(count, Z_DIM)


# ---- things and their captions ---------------------------------------------------------------------------


def concepts(
    facts: Sequence[pool.Facts], *, held_out: bool, least: int = COMMON_EMOJI, hands: int = 1
) -> list[Concept]:
    """All things with the drawings for training, or with those held out.

    least: sets that have drawn a thing, held out or not; hands: how many of HANDS must have, of these drawings.
    """
    emoji: dict[str, dict[str, int]] = defaultdict(dict)
    icons: dict[str, dict[tuple[str, bool], int]] = defaultdict(dict)
    sets: dict[str, set[str]] = defaultdict(set)
    names: dict[str, set[str]] = defaultdict(set)
    tags: dict[str, set[str]] = defaultdict(set)
    for row, known in enumerate(facts):
        if known["source"] not in ("emoji", "icons"):
            continue
        name = known["also"][0] if known["source"] == "emoji" and known["also"] else known["name"]
        if _LEFT_OUT.search(name):
            continue
        sets[name].add(known["origin"])
        names[name].add(known["name"])
        tags[name].update(known["also"][1:])
        if known["held_out"] == held_out and known["source"] == "emoji":
            emoji[name].setdefault(known["origin"], row)
        elif known["held_out"] == held_out:
            icons[name].setdefault((known["origin"], known["filled"]), row)
    told = Counter(tag for every in tags.values() for tag in every)
    found = []
    for name, by in sets.items():
        solid = next((icons[name][which] for which in SOLID if which in icons[name]), UNTOLD)
        drawings = (*(emoji[name].get(origin, UNTOLD) for origin in HANDS[:-1]), solid)
        common = sum(origin in HANDS for origin in by) >= least or len(by) >= COMMON_ICON
        if common and sum(row > UNTOLD for row in drawings) >= max(1, hands):
            own = [tag for tag in tags[name] if told[tag] == 1 and tag not in sets]
            found.append(Concept(drawings, tuple(dict.fromkeys((name, *sorted(names[name]), *sorted(own))))))
    return found


def glyph_caption(concept: Concept, rng: random.Random) -> tuple[str, list[bool], int, int]:
    """Words for a thing, which hands they fit, and the colours that they tell."""
    has_icon = concept.drawings[-1] > UNTOLD
    has_emoji = max(concept.drawings[:-1]) > UNTOLD
    as_icon = has_icon and (not has_emoji or rng.random() < 0.25)
    frame = rng.choice(words.ICON_FRAMES if as_icon else words.EMOJI_FRAMES)
    ground = ink = UNTOLD
    name = concept.names[0] if rng.random() < 0.65 else rng.choice(concept.names)
    says_icon = any(word in frame for word in ("icon", "pictogram"))
    if says_icon and rng.random() < 0.6:
        ink = rng.randrange(len(INKS))
        name = f"{INKS[ink]} {name}"
    text = words.framed((frame,), name, rng)
    if rng.random() < 0.3:
        ground = rng.choice([i for i in range(len(GROUNDS)) if ink == UNTOLD or _READABLE[i, ink]])
        text = words.on_ground(text, GROUNDS[ground], rng)
    says_emoji = "emoji" in frame
    fits = [not says_icon] * (len(HANDS) - 1) + [not says_emoji]
    return text, fits, ground, ink


def avatar_captions_of(count: int, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Captions, z [Z_DIM] of what they leave open, and the traits [SIZE] of both together, ready to draw."""
    torch_seed = torch.Generator().manual_seed(int(rng.integers(2**31)))
    own, told = draw_z(count, torch_seed).numpy(), draw_z(count, torch_seed).numpy()
    labels = traits.labels(traits.from_gaussian(told))
    author = avatar_captions.Writer(random.Random(int(rng.integers(2**31))))
    blocks = traits.latent_blocks()
    for i in range(count):
        text, claims = author.caption({group: int(labels[group][i]) for group in traits.GROUPS})
        both = own[i].copy()
        for group in {*claims, *(("person",) if "facial_hair" in claims else ())}:
            both[blocks[group]] = told[i, blocks[group]]
        yield text, own[i], traits.settle(traits.from_gaussian(both[None]))[0]


def make(
    data: pool.Pool,
    *,
    held_out: bool,
    avatars: int,
    captions: int,
    least: int = COMMON_EMOJI,
    hands: int = 1,
    seed: int | None = None,
) -> Examples:
    """Captions of all things and of so many avatars; `captions` of each drawing of a thing. least, hands: as of
    `concepts`; seed: of the captions and avatars, by itself another one where they are held out.
    """
    seed = (HELD_OUT_SEED if held_out else SEED) if seed is None else seed
    things = concepts(data.facts, held_out=held_out, least=least, hands=hands)
    rng = random.Random(seed)
    rows = sorted({row for thing in things for row in thing.drawings if row > UNTOLD})
    place = {row: number for number, row in enumerate(rows)} | {UNTOLD: UNTOLD}
    told = [
        (glyph_caption(thing, rng), number)
        for number, thing in enumerate(things)
        for _ in range(captions * sum(row > UNTOLD for row in thing.drawings))
    ]
    people = list(avatar_captions_of(avatars, np.random.default_rng(seed)))
    texts = [*(text for (text, *_), _ in told), *(text for text, *_ in people)]
    untold = [UNTOLD] * len(people)
    return Examples(
        texts=texts,
        features=sentence_vectors(texts),
        concept=torch.tensor([*(number for _, number in told), *untold], dtype=torch.long),
        hands=torch.tensor([*(fits for (_, fits, *_), _ in told), *[[False] * len(HANDS)] * len(people)]),
        ground=torch.tensor([*(ground for (*_, ground, _), _ in told), *untold], dtype=torch.long),
        ink=torch.tensor([*(ink for (*_, ink), _ in told), *untold], dtype=torch.long),
        drawings=torch.tensor([[place[row] for row in thing.drawings] for thing in things], dtype=torch.long).view(
            -1, len(HANDS)
        ),
        glyphs=torch.from_numpy(np.array([data.pictures[row] for row in rows]).reshape(-1, SIZE, SIZE, 4)),
        avatar_z=torch.from_numpy(np.stack([z for _, z, _ in people])),
        avatars=torch.from_numpy(avatar_pool.render(np.stack([drawn for *_, drawn in people]), SIZE)),
    )


@torch.no_grad()
def sentence_vectors(texts: Sequence[str], *, at_once: int = 256) -> Tensor:
    """The prompt model's text features [N, D] of length 1."""
    model = engine.load_prompt_model(PROMPT_MODEL, assets=ASSETS)
    parts = [model.text_features(texts[start : start + at_once]) for start in range(0, len(texts), at_once)]
    return torch.cat(parts)


# ---- kept ------------------------------------------------------------------------------------------------

_TENSORS = ("features", "concept", "hands", "ground", "ink", "drawings", "glyphs", "avatar_z", "avatars")


def write(examples: Examples, folder: Path) -> None:
    """All of them, features and z in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: getattr(examples, name) for name in _TENSORS}
    for name in ("features", "avatar_z"):
        tensors[name] = tensors[name].half()
    write_safetensors(folder / "examples.safetensors", tensors)
    (folder / "captions.json").write_text(json.dumps(list(examples.texts), ensure_ascii=False))


def read(folder: Path = FOLDER) -> Examples:
    """What `write` has written; FileNotFoundError says how to make them."""
    if not (folder / "captions.json").exists():
        raise FileNotFoundError(f"{folder} holds no examples: run `python -m training.emblems.examples` first")
    tensors: Mapping[str, Tensor] = read_safetensors(folder / "examples.safetensors")
    floats = {name: tensors[name].float() for name in ("features", "avatar_z")}
    return Examples(texts=json.loads((folder / "captions.json").read_text()), **{**tensors, **floats})


def pictures_of(examples: Examples, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For captions [N] a z [N, Z_DIM] each, and the picture [N, 3, 64, 64] of both."""
    z = draw_z(len(rows), generator)
    people = rows >= examples.of_glyphs
    avatar = rows[people] - examples.of_glyphs
    z[people] = examples.avatar_z[avatar]
    images = torch.empty(len(rows), 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    images[people] = to_tensor(examples.avatars[avatar].numpy())
    images[~people] = examples.show(rows[~people], z[~people])
    return z, images


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--avatars", type=int, default=AVATARS)
    parser.add_argument("--captions", type=int, default=CAPTIONS_A_DRAWING, help="of each drawing of a thing")
    parser.add_argument("--sets", type=int, default=COMMON_EMOJI, help="of emoji that have a thing, at least")
    parser.add_argument("--hands", type=int, default=TAUGHT, help="of the four that must have drawn a thing")
    arguments = parser.parse_args()
    counts = {"avatars": arguments.avatars, "captions": arguments.captions}
    examples = make(pool.open_pool(), held_out=False, least=arguments.sets, hands=arguments.hands, **counts)
    write(examples, FOLDER)
    print(f"{len(examples)} captions, {len(examples.drawings)} things in {len(examples.glyphs)} drawings")


if __name__ == "__main__":
    main()
