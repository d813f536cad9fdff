"""What is known of the pictures of other avatar styles, in words: tags and phrases from the parts that were drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training.mosaic.colours import nearest_colour


@dataclass(frozen=True)
class Style:
    """Names of a style's pictures and the options they are drawn with."""

    nouns: tuple[str, ...]
    options: Mapping[str, Any]
    skins: bool = True  # whether its people have skin colours


_HALF = {"glassesProbability": 40, "beardProbability": 30, "hatProbability": 30, "facialHairProbability": 30}
STYLES: Mapping[str, Style] = {
    "adventurer": Style(
        ("an anime character", "an anime face", "a comic character"),
        {"glassesProbability": 40, "earringsProbability": 30, "featuresProbability": 20},
    ),
    "big-smile": Style(("a smiley person", "a cartoon kid", "a smiling cartoon head"), {"accessoriesProbability": 50}),
    "fun-emoji": Style(("a square smiley", "a colourful smiley face", "a square emoji face"), {}, skins=False),
    "lorelei": Style(
        ("a black and white portrait", "an ink drawing of a face", "a line drawing of a face"),
        {"glassesProbability": 40, "beardProbability": 25, "earringsProbability": 25, "hairAccessoriesProbability": 10},
        skins=False,
    ),
    "micah": Style(
        ("a flat illustration of a person", "a pastel cartoon person"),
        {"glassesProbability": 40, "facialHairProbability": 25},
    ),
    "notionists": Style(
        ("a black and white person", "an ink drawing of a person", "a line drawing of a person"),
        {"glassesProbability": 40, "beardProbability": 30, "gestureProbability": 30, "bodyIconProbability": 30},
        skins=False,
    ),
    "open-peeps": Style(
        ("a hand drawn person", "a sketched person", "a doodle of a person"),
        {"accessoriesProbability": 45, "facialHairProbability": 30, "maskProbability": 8},
    ),
    "personas": Style(("a flat cartoon person", "a round cartoon person"), {"facialHairProbability": 30}),
    "pixel-art": Style(("a pixel art person", "a pixel face", "an 8-bit character", "pixel art"), _HALF),
    "thumbs": Style(("a thumb", "a thumb character", "a round blob with a face"), {}, skins=False),
    "toon-head": Style(("a toon head", "a cartoon head", "a cartoon portrait"), {"beardProbability": 40}),
}

# A part's name begins with ... -> tag; the tag's words are its phrase unless PHRASES has others.
_MEANINGS: Mapping[str, Mapping[str, str]] = {
    "glasses": {"dark": "sunglasses", "": "glasses"},
    "beard": {"moustacheTwirl": "moustache", "": "beard"},
    "hat": {"": "hat"},
    "mask": {"": "mask"},
    "earrings": {"": "earrings"},
    "hairAccessories": {"flowers": "flowers"},
    "features": {"mustache": "moustache", "freckles": "freckles", "blush": "blush"},
    "gesture": {"wave": "waving", "point": "pointing", "hand": "hand"},
    "accessories": {
        "catEars": "cat ears", "glasses": "glasses", "sunglasses": "sunglasses", "mustache": "moustache",
        "faceMask": "mask", "eyepatch": "eye patch", "clownNose": "clown nose", "sleepMask": "sleep mask",
        "sailormoonCrown": "crown",
    },
    "facialHair": {"moustache": "moustache", "goatee": "beard", "chin": "beard", "full": "beard", "beard": "beard"},
    "eyes": {
        "glasses": "glasses", "sunglasses": "sunglasses", "shades": "sunglasses", "wink": "wink", "love": "heart eyes",
        "stars": "star eyes", "starstruck": "star eyes", "sleep": "closed eyes", "closed": "closed eyes",
        "crying": "crying", "tearDrop": "crying",
    },
    "mouth": {
        "happy": "smile", "smile": "smile", "bigSmile": "smile", "openedSmile": "smile", "laugh": "smile",
        "teethSmile": "smile", "wideSmile": "smile", "lilSmile": "smile", "sad": "sad", "frown": "sad",
        "openSad": "sad", "surprise": "surprised", "agape": "surprised", "pacifier": "pacifier", "faceMask": "mask",
        "tongueOut": "tongue out", "kissHeart": "kiss", "angry": "angry",
    },
    "face": {
        "smile": "smile", "rage": "angry", "angry": "angry", "veryAngry": "angry", "eyesClosed": "closed eyes",
        "monster": "monster", "cyclops": "one eye",
    },
    "hair": {
        "long": "long hair", "straightHair": "long hair", "wavyBob": "bob", "bobCut": "bob", "bobBangs": "bob",
        "short": "short hair", "mohawk": "mohawk", "curly": "curly hair", "bun": "bun", "straightBun": "bun",
        "braids": "braids", "bald": "bald", "mrClean": "bald", "cap": "hat", "beanie": "hat", "turban": "turban",
        "pigtails": "pigtails", "spiky": "spiky hair", "dannyPhantom": "spiky hair", "shavedHead": "bald",
        "froBun": "bun",
    },
    "rearHair": {"long": "long hair"},
    "head": {
        "afro": "afro", "longAfro": "afro", "bun": "bun", "bear": "bear hood", "hat": "hat", "hijab": "headscarf",
        "long": "long hair", "mohawk": "mohawk", "noHair": "bald", "short": "short hair", "turban": "turban",
    },
    "clothes": {"turtleNeck": "turtleneck", "dress": "dress", "openJacket": "jacket", "tShirt": "t-shirt"},
}  # fmt: skip
_COLOURED = {"hairColor": "hair", "clothingColor": "clothes", "clothesColor": "clothes", "shirtColor": "clothes"}
PHRASES: Mapping[str, tuple[str, ...]] = {
    "beard": ("a beard", "facial hair"), "moustache": ("a moustache", "a mustache"), "hat": ("a hat",),
    "mask": ("a mask", "a face mask"), "smile": ("a smile", "a happy face", "a smiling mouth"),
    "sad": ("a sad face", "a sad mouth", "a frown"), "surprised": ("a surprised face", "an open mouth"),
    "angry": ("an angry face",), "wink": ("a wink", "one eye closed"), "crying": ("tears",),
    "bob": ("a bob haircut", "bob hair"), "mohawk": ("a mohawk",), "bun": ("a hair bun", "hair in a bun"),
    "afro": ("an afro",), "bald": ("a bald head", "no hair"), "turban": ("a turban",), "monster": ("a monster face",),
    "headscarf": ("a headscarf", "a hijab"), "turtleneck": ("a turtleneck",), "dress": ("a dress",),
    "jacket": ("a jacket",), "t-shirt": ("a t-shirt",), "waving": ("a waving hand",), "pointing": ("a pointing hand",),
    "hand": ("a raised hand",), "eye patch": ("an eye patch",), "clown nose": ("a clown nose",),
    "pacifier": ("a pacifier",), "crown": ("a crown",), "sleep mask": ("a sleep mask",), "kiss": ("a kiss",),
    "bear hood": ("a bear hood",), "one eye": ("one big eye",), "tongue out": ("its tongue out",),
    "blush": ("red cheeks",),
}  # fmt: skip


def features(style: str, extra: Mapping[str, Any]) -> list[str]:
    """The tags of one avatar: "glasses", "brown hair", "red clothes", ..."""
    tags: list[str] = []
    for part, meanings in _MEANINGS.items():
        value = str(extra.get(part) or "")
        matching = [start for start in meanings if value and value.startswith(start)]
        if matching:
            tags.append(meanings[max(matching, key=len)])
    for key, noun in _COLOURED.items():
        colour = str(extra.get(key) or "")
        if len(colour) == 7 and not (noun == "hair" and {"bald", "hat"} & set(tags)) and style not in ("lorelei",):
            tags.append(f"{nearest_colour(colour)} {noun}")
    if style == "thumbs" and len(str(extra.get("shapeColor"))) == 7:
        tags.append(f"{nearest_colour(str(extra['shapeColor']))} body")
    if style == "fun-emoji":
        tags.append(f"{nearest_colour(str(extra['primaryBackgroundColor']))} face")
    return list(dict.fromkeys(tags))


def phrases(tag: str) -> tuple[str, ...]:
    """Ways to say what a tag says, to follow "with"."""
    if tag in PHRASES:
        return PHRASES[tag]
    return (f"a {tag}",) if tag.endswith((" body", " face")) else (tag,)
