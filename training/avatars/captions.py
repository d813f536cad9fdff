"""Words for avatars: how people ask for each value, captions of random subsets, and which pictures a caption fits.

A caption is built from claims. A claim is a group and the set of its values that the words allow: "glasses"
allows round and square ones, "no beard" everything but a beard. So it is known for every picture whether the
caption fits it, which the contrastive loss needs: in a batch many pictures fit "a man".
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.avatars import traits

Claims = dict[str, frozenset[int]]


@dataclass(frozen=True)
class Words:
    """Interchangeable phrases and the values of the group that they allow."""

    values: tuple[str, ...]
    phrases: tuple[str, ...]


# Noun phrases that follow "with", "wearing" or nothing; {c} is a colour where one may stand.
HAIR_STYLE = (
    Words(("short",), ("short {c} hair", "{c} cropped hair", "a short {c} haircut")),
    Words(("side part",), ("side-parted {c} hair", "{c} hair with a side part", "a {c} side parting")),
    Words(("spiky",), ("spiky {c} hair", "{c} spikes", "{c} spiked hair")),
    Words(("mohawk",), ("a {c} mohawk", "a {c} mohawk haircut", "a {c} punk haircut")),
    Words(("afro",), ("a {c} afro", "{c} afro hair", "a big {c} afro")),
    Words(("curly",), ("curly {c} hair", "{c} curls", "short curly {c} hair")),
    Words(("bob",), ("a {c} bob", "a {c} bob haircut", "chin-length {c} hair", "{c} bob hair with bangs")),
    Words(("long straight",), ("long straight {c} hair", "straight {c} hair", "{c} straight long hair")),
    Words(("long wavy",), ("long wavy {c} hair", "wavy {c} hair", "{c} waves")),
    Words(("bun",), ("a {c} bun", "a {c} hair bun", "{c} hair in a bun", "a {c} top knot")),
    Words(("pigtails",), ("{c} pigtails", "{c} hair in pigtails", "two {c} bunches", "{c} bunches")),
    Words(("long straight", "long wavy"), ("long {c} hair",)),
    Words(("bald",), ("no hair", "a bald head", "a shaved head")),
)
GLASSES = (
    Words(("round",), ("round glasses", "round spectacles", "circular glasses")),
    Words(("square",), ("square glasses", "rectangular glasses", "square spectacles")),
    Words(("sunglasses",), ("sunglasses", "dark glasses", "shades", "dark sunglasses", "black sunglasses")),
    Words(("round", "square"), ("glasses", "eyeglasses", "spectacles", "clear glasses")),
    Words(("none",), ("no glasses",)),
)
FACIAL_HAIR = (
    Words(("beard",), ("a beard", "a full beard", "a big beard", "a bushy beard", "a {c} beard")),
    Words(("moustache",), ("a moustache", "a mustache", "only a moustache", "a {c} moustache")),
    Words(("goatee",), ("a goatee", "a chin beard", "a small goatee", "a {c} goatee")),
    Words(("none",), ("no beard", "no facial hair", "a clean shaven face", "no moustache")),
    Words(("beard", "moustache", "goatee"), ("facial hair",)),
)
HAT = (
    Words(("cap",), ("a {c} cap", "a {c} baseball cap", "a {c} peaked cap")),
    Words(
        ("beanie",),
        ("a {c} beanie", "a {c} woolly hat", "a {c} knit hat", "a {c} bobble hat", "a {c} winter hat"),
    ),
    Words(("top hat",), ("a {c} top hat", "a tall {c} hat", "a {c} cylinder hat", "a {c} magician hat")),
    Words(("cap", "beanie", "top hat"), ("a {c} hat",)),
    Words(("none",), ("no hat", "no cap")),
)
MOUTH = (
    Words(("smile",), ("a slight smile", "a small smile", "a gentle smile", "a closed-mouth smile")),
    Words(("big smile",), ("a big smile", "a wide grin", "a toothy smile", "a laughing face", "a broad smile")),
    Words(("smile", "big smile"), ("a smile", "a happy face", "a smiling face", "a happy expression")),
    Words(("sad",), ("a sad face", "a frown", "a sad expression", "an unhappy face")),
    Words(
        ("surprised",),
        ("a surprised face", "an open mouth", "a shocked expression", "a surprised expression"),
    ),
    Words(("neutral",), ("a neutral expression", "a serious face", "a straight face", "a serious expression")),
)
EYES = (
    Words(("open",), ("open eyes", "normal eyes")),
    Words(("closed",), ("closed eyes", "both eyes closed", "eyes closed", "shut eyes")),
    Words(("wink",), ("a wink", "one eye closed", "a winking eye")),
    Words(("wide",), ("wide eyes", "wide open eyes", "big eyes", "huge eyes")),
)
CLOTHES = (
    Words(("t-shirt",), ("a {c} t-shirt", "a {c} tee", "a plain {c} t-shirt", "a {c} tshirt")),
    Words(("hoodie",), ("a {c} hoodie", "a {c} hooded sweatshirt", "a {c} hooded sweater")),
    Words(("shirt",), ("a {c} shirt", "a {c} collared shirt", "a {c} shirt with a collar", "a {c} polo shirt")),
    Words(
        ("striped sweater",),
        ("a {c} striped sweater", "a {c} striped shirt", "a {c} sweater with stripes", "{c} stripes"),
    ),
    Words(("tank top",), ("a {c} tank top", "a sleeveless {c} top", "a {c} vest top", "a {c} singlet")),
    Words(("suit",), ("a {c} suit", "a {c} suit and tie", "a {c} jacket and tie", "a {c} business suit")),
    Words(traits.SHAPES["clothes"], ("{c} clothes", "{c} clothing", "a {c} outfit")),
)
# What few pictures have: said where it is there, and never that it is not.
RARE: Mapping[str, tuple[Words, ...]] = {
    "eyepatch": (Words(("eyepatch",), ("an eyepatch", "an eye patch", "a black eyepatch", "a patch over one eye")),),
    "turban": (Words(("turban",), ("a {c} turban", "a {c} turban", "a wrapped {c} turban")),),
    "headscarf": (
        Words(("headscarf",), ("a {c} headscarf", "a {c} hijab", "a {c} hijab", "a {c} head scarf", "a {c} veil")),
    ),
    "tongue": (
        Words(("tongue",), ("tongue out", "a tongue sticking out", "its tongue out", "an outstretched tongue")),
    ),
    "heart_eyes": (Words(("heart_eyes",), ("heart eyes", "hearts for eyes", "heart-shaped eyes", "red heart eyes")),),
}
PHRASES: Mapping[str, tuple[Words, ...]] = {
    **RARE, "hair_style": HAIR_STYLE, "glasses": GLASSES, "facial_hair": FACIAL_HAIR, "hat": HAT, "mouth": MOUTH,
    "eyes": EYES, "clothes": CLOTHES,
}  # fmt: skip
COLOUR_OF = {
    "hair_style": "hair_colour",
    "facial_hair": "hair_colour",
    "hat": "hat_colour",
    "clothes": "clothes_colour",
    "turban": "hat_colour",
    "headscarf": "hat_colour",
}
# A colour of a part that is not described any further.
BARE_COLOURS = {
    "hair_colour": ("with {c} hair", "with {c} hair", "with hair dyed {c}", "whose hair is {c}", "{c} hair"),
    "hat_colour": ("wearing a {c} hat", "with a {c} hat", "in a {c} hat", "{c} hat"),
    "clothes_colour": ("wearing {c} clothes", "in {c} clothes", "dressed in {c}", "wearing {c}", "with {c} clothes"),
}
COLOUR_WORDS: Mapping[str, tuple[str, ...]] = {
    "black": ("black", "black", "jet black"), "brown": ("brown", "brown", "brunette", "chestnut"),
    "blonde": ("blonde", "blond", "golden", "fair"), "grey": ("grey", "gray"), "white": ("white", "white", "snow white"),
    "pink": ("pink", "pink", "bright pink"), "blue": ("blue", "blue", "bright blue"), "green": ("green",),
    "purple": ("purple", "purple", "violet"), "red": ("red", "red"), "orange": ("orange",), "yellow": ("yellow",),
}  # fmt: skip
RED_HAIR = ("red", "red", "ginger", "orange red")
BLACK_CLOTHES = ("black", "black", "dark")

# What may stand before the subject, after it as a participle, and instead of "no ...".
ADJECTIVES: Mapping[str, tuple[Words, ...]] = {
    "hair_style": (Words(("bald",), ("bald", "hairless")), Words(("curly",), ("curly-haired",)),
                   Words(("long straight", "long wavy"), ("long-haired",))),
    "facial_hair": (Words(("beard",), ("bearded",)), Words(("none",), ("clean shaven", "clean-shaven")),
                    Words(("moustache",), ("moustached",))),
    "mouth": (Words(("smile", "big smile"), ("smiling", "happy", "cheerful")), Words(("sad",), ("sad", "frowning", "unhappy")),
              Words(("surprised",), ("surprised", "shocked", "astonished")), Words(("neutral",), ("serious", "unsmiling")),
              Words(("big smile",), ("laughing", "grinning"))),
    "eyes": (Words(("wink",), ("winking",)), Words(("closed",), ("sleeping", "sleepy"))),
    "skin": (Words(("pale",), ("pale", "pale-skinned", "very pale")), Words(("light",), ("light-skinned", "fair-skinned")),
             Words(("tan",), ("tanned", "tan-skinned", "olive-skinned")), Words(("brown",), ("brown-skinned",)),
             Words(("dark",), ("dark-skinned",))),
}  # fmt: skip
SKIN_NOUNS = {
    "pale": ("pale skin", "very light skin"), "light": ("light skin", "fair skin"), "tan": ("tan skin", "tanned skin", "olive skin"),
    "brown": ("brown skin",), "dark": ("dark skin", "very dark skin"),
}  # fmt: skip
WITHOUT: Mapping[str, tuple[Words, ...]] = {
    "glasses": (Words(("none",), ("glasses", "any glasses", "spectacles")),
                Words(("none", "round", "square"), ("sunglasses", "shades"))),
    "facial_hair": (Words(("none", "moustache"), ("a beard",)), Words(("none",), ("a moustache",)),
                    Words(("none",), ("facial hair", "a beard or moustache"))),
    "hat": (Words(("none",), ("a hat", "any hat", "headwear")), Words(("none", "beanie", "top hat"), ("a cap",))),
    "hair_style": (Words(("bald",), ("hair", "any hair")),),
    "mouth": (Words(("neutral", "sad", "surprised"), ("a smile",)),),
}  # fmt: skip
NOUNS = {
    0: ("man", "man", "guy", "boy", "gentleman", "male"),
    1: ("woman", "woman", "lady", "girl", "female"),
}
ANYONE = ("person", "person", "face", "avatar", "character", "human", "cartoon")
FRAMES = (
    "{}", "{}", "{}", "{}", "a portrait of {}", "a picture of {}", "a cartoon of {}", "an avatar of {}", "a photo of {}",
    "portrait of {}", "an illustration of {}", "a drawing of {}", "the face of {}",
)  # fmt: skip


def _indices(group: str, values: Sequence[str]) -> frozenset[int]:
    names = traits.values_of(group)
    return frozenset(names.index(value) for value in values)


def _colour_word(rng: random.Random, group: str, index: int) -> str:
    name = traits.values_of(group)[index]
    words = COLOUR_WORDS[name]
    if group == "hair_colour" and name == "red":
        words = RED_HAIR
    elif group != "hair_colour":
        words = (
            BLACK_CLOTHES
            if name == "black"
            else tuple(word for word in words if word not in ("brunette", "golden", "fair"))
        )
    return rng.choice(words)


class Writer:
    """Writes captions for avatars with known labels (one value index per group, -1 where it cannot be told)."""

    def __init__(self, rng: random.Random, *, typos: float = 0.06) -> None:
        self.rng, self.typos = rng, typos

    def caption(self, labels: Mapping[str, int], count: int | None = None) -> tuple[str, Claims]:
        """A caption of about `count` of the picture's known values (1 to 6 by default), and what it claims."""
        rng = self.rng
        groups = (*PHRASES, *BARE_COLOURS, "skin", "background")
        rare = [group for group in RARE if labels.get(group, 0) == 1]
        known = [*rare, *(group for group in groups if group not in RARE and labels[group] >= 0)]
        if rare and "hat_colour" in known and {"turban", "headscarf"} & set(rare):
            known.remove("hat_colour")  # no hat's
        count = count or rng.choice([1, 1, 2, 2, 3, 3, 4, 5, 6])
        chosen = rng.sample(known, min(count, len(known)))
        if rare and not set(rare) & set(chosen) and rng.random() < 0.5:
            chosen[rng.randrange(len(chosen))] = rng.choice(rare)  # what strikes first is said first
        claims: Claims = {}
        front: list[str] = []
        back: list[str] = []
        ending = ""
        is_pirate = "eyepatch" in chosen and rng.random() < 0.48
        for group in chosen:
            if group == "eyepatch" and is_pirate and rng.random() < 0.4:
                claims[group] = frozenset({1})  # the word says it
            elif group == "background":
                ending = self._background(labels[group], claims)
            elif group == "skin":
                self._skin(labels[group], claims, front, back)
            elif group in PHRASES:
                self._part(group, labels, claims, front, back)
            elif group not in claims:
                back.append(self._bare_colour(group, labels[group], claims))
        noun = "pirate" if is_pirate else self._noun(labels["person"], claims)
        says_something = is_pirate or "person" in claims
        text = self._sentence(self._subject(noun, front), back, ending, is_needed=says_something)
        return self._misspell(text), claims

    def _noun(self, person: int, claims: Claims) -> str:
        if person >= 0 and self.rng.random() < 0.55:
            claims["person"] = frozenset({person})
            return self.rng.choice(NOUNS[person])
        return self.rng.choice(ANYONE)

    def _subject(self, noun: str, front: list[str]) -> str:
        words = " ".join([*front, noun])
        article = "an" if words[0] in "aeiou" else "a"
        return f"{article} {words}" if self.rng.random() < 0.9 else words

    def _sentence(self, subject: str, back: list[str], ending: str, *, is_needed: bool) -> str:
        """is_needed: whether the subject claims something of its own."""
        rng = self.rng
        if back and not ending and not is_needed and rng.random() < 0.2:
            return ", ".join(item.split(" ", 1)[1] if item.startswith(("with ", "wearing ")) else item for item in back)
        joined = subject
        for i, item in enumerate(back):
            previous = back[i - 1].split(" ", 1)[0] if i else ""
            verb, _, rest = item.partition(" ")
            if i and verb == previous and verb in ("with", "wearing"):
                joined += (" and " if i == len(back) - 1 else ", ") + (rest if rng.random() < 0.8 else item)
            else:
                joined += (", " if rng.random() < 0.25 else " ") + item
        joined = (rng.choice(FRAMES)).format(joined)
        return f"{joined}{', ' if rng.random() < 0.3 else ' '}{ending}".strip() if ending else joined

    def _part(self, group: str, labels: Mapping[str, int], claims: Claims, front: list[str], back: list[str]) -> None:
        rng, value = self.rng, labels[group]
        name = traits.values_of(group)[value]
        adjectives = [words for words in ADJECTIVES.get(group, ()) if name in words.values]
        negations = [words for words in WITHOUT.get(group, ()) if name in words.values]
        if negations and rng.random() < (0.5 if name in ("none", "bald") else 0.06):
            words = negations[rng.randrange(len(negations))]
            back.append(f"{rng.choice(['without', 'without', 'with no', 'not wearing' if group in ('glasses', 'hat') else 'without'])} "
                        f"{rng.choice(words.phrases)}".replace("with no a ", "with no ").replace("with no any ", "with no "))  # fmt: skip
        elif adjectives and rng.random() < 0.45:
            words = adjectives[rng.randrange(len(adjectives))]
            adjective = rng.choice(words.phrases)
            front.append(adjective) if rng.random() < 0.6 else back.append(adjective)
        else:
            fitting = [words for words in PHRASES[group] if name in words.values]
            words = fitting[rng.randrange(len(fitting))]
            phrase = rng.choice(words.phrases)
            colour_group = COLOUR_OF.get(group, "")
            need = group == "clothes" and len(words.values) > 1
            if colour_group and "{c}" in phrase:
                colour = labels[colour_group]
                if colour >= 0 and (need or rng.random() < 0.65):
                    claims[colour_group] = frozenset({colour})
                    phrase = phrase.replace("{c}", _colour_word(rng, colour_group, colour))
                    if group == "hair_style" and rng.random() < 0.4:
                        # The colour alone: what people ask for most.
                        back.append(f"with {_colour_word(rng, colour_group, colour)} hair")
                        return
                elif need:
                    return
                phrase = " ".join(phrase.replace("{c}", "").split())
            wear = group in ("glasses", "hat", "clothes", "eyepatch", "turban", "headscarf")
            verb = (
                rng.choice(["wearing", "with", "in"] if group == "clothes" else ["wearing", "with"]) if wear else "with"
            )
            if phrase.startswith("no ") and verb == "in":
                verb = "with"
            article_fixed = phrase.replace("a orange", "an orange")
            back.append(f"{verb} {article_fixed}")
        allowed = _indices(group, words.values)
        if len(allowed) < len(traits.values_of(group)):
            claims[group] = allowed

    def _bare_colour(self, group: str, index: int, claims: Claims) -> str:
        claims[group] = frozenset({index})
        if group == "hat_colour":
            claims.setdefault("hat", _indices("hat", ("cap", "beanie", "top hat")))
        phrase = self.rng.choice(BARE_COLOURS[group]).replace("{c}", _colour_word(self.rng, group, index))
        return phrase.replace("a orange", "an orange")

    def _skin(self, index: int, claims: Claims, front: list[str], back: list[str]) -> None:
        claims["skin"] = frozenset({index})
        name = traits.values_of("skin")[index]
        if self.rng.random() < 0.5:
            front.insert(0, (self.rng.choice(ADJECTIVES["skin"][index].phrases)))
        else:
            back.append(f"with {self.rng.choice(SKIN_NOUNS[name])}")

    def _background(self, index: int, claims: Claims) -> str:
        claims["background"] = frozenset({index})
        colour = self.rng.choice(COLOUR_WORDS[traits.values_of("background")[index]])
        form = (self.rng.choice([
            "on a {} background", "{} background", "against a {} background", "in front of a {} wall", "with a {} background",
        ]))  # fmt: skip
        return form.format(colour).replace("a orange", "an orange")

    def _misspell(self, text: str) -> str:
        rng = self.rng
        if rng.random() > self.typos or len(text) < 6:
            return text
        i = rng.randrange(1, len(text) - 2)
        return (rng.choice([
            text[:i] + text[i + 1 :], text[:i] + text[i] + text[i:], text[:i] + text[i + 1] + text[i] + text[i + 2 :],
        ]))  # fmt: skip


def fits(claims: Sequence[Claims], labels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which captions fit which pictures: int8 [captions, pictures], 1 fits, 0 does not, -1 cannot be told."""
    pictures = len(next(iter(labels.values())))
    unknown = np.zeros((len(claims), pictures), dtype=bool)
    wrong = np.zeros_like(unknown)
    for group in labels:
        rows = [i for i, claim in enumerate(claims) if group in claim]
        if not rows:
            continue
        allowed = np.ones((len(rows), len(traits.values_of(group)) + 1), dtype=bool)  # the last column: unknown
        for j, i in enumerate(rows):
            allowed[j, :-1] = [value in claims[i][group] for value in range(allowed.shape[1] - 1)]
        wrong[rows] |= ~allowed[:, labels[group]]
        unknown[rows] |= labels[group] < 0
    return np.where(wrong, 0, np.where(unknown, -1, 1)).astype(np.int8)


def changed(rng: random.Random, labels: Mapping[str, int], group: str) -> dict[str, int]:
    """The labels with another value in one group: the source of a hard negative."""
    others = [i for i in range(len(traits.values_of(group))) if i != labels[group]]
    return {**labels, group: rng.choice(others)}


def swapped(rng: random.Random, labels: Mapping[str, int], groups: Sequence[str]) -> dict[str, int] | None:
    """The labels with the colours of two of these groups exchanged; None where no two have each other's colour."""
    pairs = []
    for i, one in enumerate(groups):
        for other in groups[i + 1 :]:
            names, others = traits.values_of(one), traits.values_of(other)
            first, second = names[labels[one]], others[labels[other]]
            if first != second and first in others and second in names:
                pairs.append({one: names.index(second), other: others.index(first)})
    return {**labels, **rng.choice(pairs)} if pairs else None
