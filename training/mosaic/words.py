"""Captions for every picture of the pool, and which pictures each caption fits.

What is known of a picture is a set of tokens: the words of its names ("red", "heart"), of its colours, of its kind
("emoji"), and of parts ("brown_hair"). A caption requires tokens, a ground, and for our own avatars the claims of
`training.avatars.captions`. It fits the pictures that have them all. Between two kinds of people what one caption
says often cannot be told of the other's picture, which then counts neither for nor against it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from training.avatars import captions as avatar_captions
from training.avatars import traits
from training.fashion import data as fashion
from training.mosaic import styles
from training.mosaic.colours import INKS
from training.mosaic.pool import Facts, Look, Pool

Tokens = frozenset[str]

# Fashion-MNIST's classes in the words of people; the first is the class's own token.
CLOTHES: Mapping[str, tuple[str, ...]] = {
    "T-shirt": ("t-shirt", "tee", "short-sleeved top", "plain t-shirt"),
    "trousers": ("trousers", "pants", "slacks", "long trousers", "wide trousers"),
    "pullover": ("pullover", "sweater", "jumper", "sweatshirt", "long-sleeved pullover"),
    "dress": ("dress", "gown", "long dress", "summer dress", "sleeveless dress"),
    "coat": ("coat", "jacket", "overcoat", "warm coat", "winter coat"),
    "sandal": ("sandal", "open sandal", "sandals", "high-heeled sandal", "strappy sandal"),
    "shirt": ("shirt", "blouse", "button-up shirt", "striped shirt"),
    "sneaker": ("sneaker", "trainer", "running shoe", "sneakers", "trainers", "sports shoe"),
    "bag": ("bag", "handbag", "purse", "shoulder bag"),
    "ankle boot": ("ankle boot", "boot", "ankle boots", "boots", "bootie"),
}
SHOES = ("sandal", "sneaker", "ankle boot")
GARMENT_FRAMES = (
    "{}", "{}", "{}", "a photo of {}", "a picture of {}", "a grey photo of {}", "{} in grey",
    "a black and white photo of {}", "{} on black", "a product photo of {}",
)  # fmt: skip
EMOJI_FRAMES = ("{}", "{}", "{}", "{} emoji", "an emoji of {}", "a picture of {}", "a drawing of {}", "{} symbol")
ICON_FRAMES = ("{} icon", "{} icon", "{} icon", "an icon of {}", "{} symbol", "{}", "a pictogram of {}", "{} sign")
STYLE_FRAMES = ("{}", "{}", "{}", "a picture of {}", "a portrait of {}", "an avatar of {}")
GROUND_FORMS = ("on a {} background", "{} background", "on {}", "in front of a {} wall", "with a {} background")
_PLURALS = re.compile(r"(?<=[a-z]{3})(?<![su])s$")


def tokens(text: str) -> Tokens:
    """The words of a text, singular, without articles."""
    words = re.split(r"[^a-z0-9-]+", text.lower().replace("t shirt", "t-shirt").replace("’", "").replace("'", ""))
    return frozenset(_PLURALS.sub("", word) for word in words if word not in ("", "a", "an", "the", "of", "with", "in"))


PEOPLE = tokens(
    "person man woman boy girl face head people avatar character portrait cartoon hair glasses beard hat smile child "
    "lady guy human moustache baby"
) | {"glasses"}


OF_AVATARS: Tokens = frozenset({"person", "face", "head", "avatar", "cartoon", "kind:avatar"})


def whole(tag: str) -> str:
    """Several words as one token: "brown hair" is not "brown" and "hair"."""
    return tag.replace(" ", "_")


@dataclass(frozen=True)
class Caption:
    """A text and what it requires of a picture."""

    text: str
    source: str
    required: Tokens = frozenset()
    ground: str = ""
    claims: avatar_captions.Claims = field(default_factory=dict)

    @cached_property
    def is_of_people(self) -> bool:
        return self.source in ("avatars", "styles") or bool(self.required & PEOPLE)


@dataclass(frozen=True)
class Shown:
    """A picture as it was shown, and what is known of it."""

    source: str
    known: Tokens
    ground: str
    traits: int = -1  # row of the pool's traits, for our own avatars

    @cached_property
    def is_of_people(self) -> bool:
        return self.source in ("avatars", "styles") or bool(self.known & PEOPLE)


class Author:
    """Writes captions for pictures of a pool. labels: of its avatars, one value index per group."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.labels = traits.labels(pool.traits)
        self._known = [_known(facts) for facts in pool.facts]

    def shown(self, row: int, look: Look) -> Shown:
        """What is known of a picture in these colours."""
        facts = self.pool.facts[row]
        source, known = facts["source"], self._known[row]
        if source == "avatars":
            labels = self._avatar(facts)
            return Shown(source, known | avatar_tokens(labels), _background(labels), facts["traits"])
        ground = {"fashion": "black"}.get(source, look.ground)
        return Shown(source, known | ({look.ink} if look.ink else frozenset()), ground)

    def _avatar(self, facts: Facts) -> dict[str, int]:
        return {group: int(self.labels[group][facts["traits"]]) for group in traits.GROUPS}

    def caption(self, row: int, look: Look, rng: random.Random) -> tuple[Caption, Caption | None]:
        """A caption, and a rival: the same with one thing changed (or None)."""
        facts = self.pool.facts[row]
        if facts["source"] == "avatars":
            return self._avatar_captions(facts, rng)
        if facts["source"] == "fashion":
            return _garment(facts, rng), None
        if facts["source"] == "styles":
            return _styled(facts, look, rng)
        return _glyph(facts, look, rng)

    def _avatar_captions(self, facts: Facts, rng: random.Random) -> tuple[Caption, Caption | None]:
        labels = self._avatar(facts)
        writer = avatar_captions.Writer(rng)
        before = rng.getstate()
        text, claims = writer.caption(labels)
        after = rng.getstate()
        groups = [group for group in claims if labels[group] >= 0]
        rival = None
        if groups:
            other = avatar_captions.changed(rng, labels, rng.choice(groups))
            after = rng.getstate()
            rng.setstate(before)
            rival = _of_avatar(writer.caption(other))
            rng.setstate(after)
        return _of_avatar((text, claims)), rival

    def fits(self, written: Sequence[Caption], pictures: Sequence[Shown]) -> np.ndarray:
        """Which captions fit which pictures: int8 [captions, pictures], 1 fits, 0 does not, -1 cannot be told."""
        result = np.array([[_fit(caption, picture) for picture in pictures] for caption in written], dtype=np.int8)
        mine = [i for i, caption in enumerate(written) if caption.source == "avatars"]
        avatars = [j for j, picture in enumerate(pictures) if picture.traits >= 0]
        if mine and avatars:
            rows = [pictures[j].traits for j in avatars]
            labels = {group: value[rows] for group, value in self.labels.items()}
            result[np.ix_(mine, avatars)] = avatar_captions.fits([written[i].claims for i in mine], labels)
        return result


def _of_avatar(written: tuple[str, avatar_captions.Claims]) -> Caption:
    return Caption(written[0], "avatars", claims=written[1])


def _fit(caption: Caption, picture: Shown) -> int:
    if caption.source == "avatars":
        return -1 if picture.is_of_people else 0  # our own avatars are looked at by their traits
    has_all = caption.required <= picture.known
    if caption.ground and picture.ground and caption.ground != picture.ground:
        return 0
    if has_all:
        return 1 if not caption.ground or picture.ground else -1
    foreign = caption.source != picture.source or caption.source == "styles"
    return -1 if foreign and caption.is_of_people and picture.is_of_people and not _contradicts(caption, picture) else 0


def _contradicts(caption: Caption, picture: Shown) -> bool:
    """Whether a caption names a kind of picture that this one is not, or both are of the same style."""
    kinds = {token for token in caption.required if token.startswith("kind:")}
    return bool(kinds - picture.known) or (caption.source == picture.source and bool(kinds))


# ---- what is known ---------------------------------------------------------------------------------------


def _known(facts: Facts) -> Tokens:
    source = facts["source"]
    if source == "avatars":
        return OF_AVATARS
    if source == "fashion":
        name = fashion.CLASSES[facts["class"]]
        words = frozenset().union(*(tokens(synonym) for synonym in CLOTHES[name]))
        extra = {"shoe"} if name in SHOES else set()
        return words | {"clothe", "clothing", "grey", "kind:photo"} | extra
    if source == "styles":
        nouns = {f"kind:{noun}" for noun in styles.STYLES[facts["origin"]].nouns}
        return frozenset({"person", "face", "head", "character", *map(whole, facts["tags"]), *nouns})
    words = frozenset().union(tokens(facts["name"]), *(tokens(also) for also in facts["also"]))
    return words | {"kind:emoji" if source == "emoji" else "kind:icon"}


_SHARED = {
    "beard": "beard", "goatee": "beard", "moustache": "moustache", "smile": "smile", "big smile": "smile", "sad": "sad",
    "surprised": "surprised",
}  # fmt: skip


def avatar_tokens(labels: Mapping[str, int]) -> Tokens:
    """What captions of other styles say too."""
    names = {group: traits.values_of(group)[value] for group, value in labels.items() if value >= 0}
    found = {names.get("person", "person")}
    found |= {"glasses"} if names.get("glasses") in ("round", "square") else set()
    found |= {"sunglasses"} if names.get("glasses") == "sunglasses" else set()
    found |= {"hat"} if names.get("hat", "none") != "none" else set()
    found |= {_SHARED[value] for value in (names.get("facial_hair"), names.get("mouth")) if value in _SHARED}
    for group, noun in (("hair_colour", "hair"), ("clothes_colour", "clothes")):
        if group in names:
            found.add(f"{names[group]}_{noun}")
    return frozenset(found)


def _background(labels: Mapping[str, int]) -> str:
    value = labels["background"]
    return traits.values_of("background")[value] if value >= 0 else ""


# ---- captions --------------------------------------------------------------------------------------------


def _with_article(name: str, rng: random.Random) -> str:
    if rng.random() < 0.3:
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def framed(frames: Sequence[str], name: str, rng: random.Random) -> str:
    frame = rng.choice(frames)
    return _with_article(frame.format(name), rng) if frame.startswith("{}") else frame.format(_with_article(name, rng))


def on_ground(text: str, ground: str, rng: random.Random) -> str:
    return f"{text}{', ' if rng.random() < 0.2 else ' '}{rng.choice(GROUND_FORMS).format(ground)}"


def _garment(facts: Facts, rng: random.Random) -> Caption:
    name = fashion.CLASSES[facts["class"]]
    word = rng.choice(CLOTHES[name])
    frame = rng.choice(GARMENT_FRAMES)
    kinds = {"kind:photo"} if any(said in frame for said in ("photo", "grey", "black")) else set()
    required = tokens(word) | kinds
    if name in SHOES and not word.endswith("s") and rng.random() < 0.2:
        word += "s"
    if word.endswith("s") and name != "dress":
        word = rng.choice(["{}", "a pair of {}", "a pair of {}"]).format(word)
    else:
        word = _with_article(word, rng)
    return Caption(frame.format(word), "fashion", required)


_OTHERS = ("black", "brown", "blonde", "red", "blue", "green", "pink")


def _styled(facts: Facts, look: Look, rng: random.Random) -> tuple[Caption, Caption | None]:
    noun = rng.choice(styles.STYLES[facts["origin"]].nouns)
    required = {f"kind:{noun}"}
    if rng.random() < 0.2:
        noun, required = rng.choice(["a person", "a face", "a character"]), {"person"}
    tags = rng.sample(facts["tags"], min(len(facts["tags"]), rng.choice([0, 1, 1, 2, 2, 3])))
    ground = look.ground if rng.random() < 0.3 else ""

    def write(chosen: Sequence[str]) -> Caption:
        said = " and ".join(rng.choice(styles.phrases(tag)) for tag in chosen)
        text = rng.choice(STYLE_FRAMES).format(f"{noun} with {said}" if said else noun)
        text = on_ground(text, ground, rng) if ground else text
        return Caption(text, "styles", frozenset(required | set(map(whole, chosen))), ground)

    coloured = [tag for tag in tags if tag.endswith((" hair", " clothes", " body", " face")) and " " in tag]
    rival = None
    if coloured:
        other = rng.choice(coloured)
        changed = f"{rng.choice(_OTHERS)} {other.rsplit(' ', 1)[1]}"
        if changed != other:
            rival = write([changed if tag == other else tag for tag in tags])
    return write(tags), rival


def _glyph(facts: Facts, look: Look, rng: random.Random) -> tuple[Caption, Caption | None]:
    names = [facts["name"]] * 4 + list(facts["also"])
    name = rng.choice(names)
    if rng.random() < 0.12 and len(facts["also"]) > 1:
        name = f"{facts['name']}, {rng.choice(facts['also'])}"
    emoji = facts["source"] == "emoji"
    ground = look.ground if rng.random() < (0.3 if emoji else 0.4) else ""
    ink = look.ink if look.ink and rng.random() < 0.6 else ""
    state = rng.getstate()

    def write(ink: str, ground: str) -> Caption:
        rng.setstate(state)
        text = framed(EMOJI_FRAMES if emoji else ICON_FRAMES, f"{ink} {name}".strip(), rng)
        kinds = {"kind:emoji"} if "emoji" in text else {"kind:icon"} if "icon" in text or "pictogram" in text else set()
        text = on_ground(text, ground, rng) if ground else text
        return Caption(text, facts["source"], tokens(name) | ({ink} if ink else set()) | kinds, ground)

    caption = write(ink, ground)
    if not ink and not ground:
        return caption, None
    if ink and ground and rng.random() < 0.5:
        return caption, write(ground, ink)
    other = rng.choice([colour for colour in INKS if colour not in (ink, ground)])
    rival = write(other, ground) if ink and (not ground or rng.random() < 0.5) else write(ink, other)
    return caption, rival
