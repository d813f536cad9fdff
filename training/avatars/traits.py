"""The parameters of an avatar: what they are called, how they are sampled, which words they deserve.

An avatar is one row of 64 numbers, its traits: convex weights over the values of every shape group (hair
style, glasses, ...), an RGB colour per coloured part, and a few continuous proportions. Every point of
that space can be drawn (`drawing.py`): between two hair styles lies a third outline, not a ghost of two.
That is what makes blends of the generator's `w` clean: its teacher has no holes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

SHAPES: Mapping[str, tuple[str, ...]] = {
    "hair_style": (
        "bald", "short", "side part", "spiky", "mohawk", "afro", "curly", "bob", "long straight",
        "long wavy", "bun", "pigtails",
    ),
    "glasses": ("none", "round", "square", "sunglasses"),
    "facial_hair": ("none", "moustache", "goatee", "beard"),
    "hat": ("none", "cap", "beanie", "top hat"),
    "mouth": ("neutral", "smile", "big smile", "sad", "surprised"),
    "eyes": ("open", "closed", "wink", "wide"),
    "clothes": ("t-shirt", "hoodie", "shirt", "striped sweater", "tank top", "suit"),
}  # fmt: skip

COLOURS: Mapping[str, Mapping[str, tuple[int, int, int]]] = {
    "skin": {
        "pale": (255, 226, 205), "light": (244, 196, 160), "tan": (212, 154, 106), "brown": (156, 100, 62),
        "dark": (92, 57, 38),
    },
    "hair_colour": {
        "black": (38, 34, 40), "brown": (112, 66, 38), "blonde": (240, 200, 96), "red": (206, 76, 30),
        "grey": (150, 152, 158), "white": (240, 240, 238), "pink": (244, 112, 176), "blue": (52, 110, 220),
        "green": (58, 168, 92), "purple": (132, 70, 186),
    },
    "clothes_colour": {
        "red": (214, 48, 49), "orange": (240, 140, 40), "yellow": (248, 212, 66), "green": (62, 160, 84),
        "blue": (44, 98, 200), "purple": (128, 74, 178), "pink": (244, 138, 186), "white": (244, 244, 242),
        "black": (44, 46, 54),
    },
    "background": {
        "white": (246, 246, 244), "grey": (176, 182, 190), "blue": (126, 190, 240), "green": (150, 214, 154),
        "yellow": (252, 226, 122), "orange": (250, 178, 116), "pink": (248, 178, 204), "purple": (190, 160, 230),
    },
    "hat_colour": {
        "red": (204, 42, 44), "yellow": (246, 204, 56), "green": (50, 146, 78), "blue": (38, 88, 188),
        "pink": (240, 126, 178), "white": (242, 242, 240), "black": (36, 38, 46),
    },
}  # fmt: skip

PROPORTIONS = (
    "head_width",
    "jaw",
    "eye_spacing",
    "eye_size",
    "brow_height",
    "brow_angle",
    "nose",
    "tilt",
    "shift",
)
PRESENTATION = ("man", "woman")
GROUPS = (*SHAPES, *COLOURS, "person")
# What a row may have besides: columns after the others, each between absent (0) and present (1). Generators of
# `SIZE` traits do not know them.
EXTRAS = ("eyepatch", "turban", "headscarf", "tongue", "heart_eyes")
ALL_GROUPS = (*GROUPS, *EXTRAS)

# How often each value is drawn; groups that are not named here are uniform.
FREQUENCIES: Mapping[str, Sequence[float]] = {
    "glasses": (0.52, 0.16, 0.16, 0.16),
    "facial_hair": (0.4, 0.2, 0.2, 0.2),  # of men; women have none but for a few
    "hat": (0.58, 0.14, 0.14, 0.14),
    "eyes": (0.5, 0.16, 0.17, 0.17),
}


def _layout() -> dict[str, slice]:
    slices, start = {}, 0
    widths = {group: len(values) for group, values in SHAPES.items()}
    widths |= dict.fromkeys(COLOURS, 3)
    widths |= {"person": 1, "proportions": len(PROPORTIONS)}
    for group, width in widths.items():
        slices[group] = slice(start, start + width)
        start += width
    return slices


LAYOUT = _layout()
SIZE = max(part.stop for part in LAYOUT.values())
WIDE = SIZE + len(EXTRAS)

# How fast `settle` goes from one value to the next. Outlines of hair blend well; half a hat does not.
POWERS: Mapping[str, float] = {
    "hair_style": 3, "glasses": 5, "facial_hair": 4, "hat": 5, "mouth": 4, "eyes": 3, "clothes": 5,
}  # fmt: skip
PULLS: Mapping[str, float] = {"hair_colour": 0.7, "clothes_colour": 0.6, "background": 0.6, "hat_colour": 0.7}
PULL_WIDTH = 0.12  # of the Gaussian around each named colour: about half of the way to its neighbours
SKIN_TINT = 0.03  # how far a skin may be from the line through the named ones


def values_of(group: str) -> tuple[str, ...]:
    """The names of a group's values, in the order of their indices."""
    if group in SHAPES:
        return SHAPES[group]
    if group in EXTRAS:
        return ("none", group)
    return PRESENTATION if group == "person" else tuple(COLOURS[group])


def anchors(group: str) -> np.ndarray:
    """The named colours of a colour group: [V, 3] in [0, 1]."""
    return np.asarray(list(COLOURS[group].values()), dtype=np.float32) / 255


def latent_size() -> int:
    """How many Gaussian coordinates `from_gaussian` reads."""
    return sum(_latent_widths().values())


def _latent_widths() -> dict[str, int]:
    widths = {group: len(values) for group, values in SHAPES.items()}
    for group in COLOURS:
        widths[group] = len(COLOURS[group]) + 3
    return widths | {"person": 1, "proportions": len(PROPORTIONS)}


def latent_blocks() -> dict[str, slice]:
    """Which of the coordinates that `from_gaussian` reads are of which group, or of the proportions."""
    blocks, start = {}, 0
    for group, width in _latent_widths().items():
        blocks[group] = slice(start, start + width)
        start += width
    return blocks


def from_gaussian(z: np.ndarray, *, sharpness: float = 7.0) -> np.ndarray:
    """Map Gaussian coordinates [N, latent_size()] to traits [N, SIZE], continuously.

    Each shape group is a softmax of its block of coordinates at the inverse temperature `sharpness`: mostly
    one value, at times a blend. A colour is the same softmax over the named colours plus a small offset.
    """
    traits = np.zeros((len(z), SIZE), dtype=np.float32)
    blocks = {group: z[:, part] for group, part in latent_blocks().items()}
    woman = 1 / (1 + np.exp(-sharpness * blocks["person"]))
    traits[:, LAYOUT["person"]] = 0.08 + 0.84 * woman
    for group in SHAPES:
        frequency = np.asarray(FREQUENCIES.get(group, np.ones(len(SHAPES[group]))))
        bias = np.log(frequency / frequency.sum())
        logits = sharpness * (blocks[group] + 0.9 * bias)
        if group == "facial_hair":
            logits[:, :1] += 14 * woman
        traits[:, LAYOUT[group]] = _softmax(logits)
    for group in COLOURS:
        named = len(COLOURS[group])
        mixed = _softmax(sharpness * blocks[group][:, :named]) @ anchors(group)
        traits[:, LAYOUT[group]] = np.clip(mixed + 0.025 * blocks[group][:, named:], 0, 1)
    traits[:, LAYOUT["proportions"]] = np.clip(0.8 * blocks["proportions"], -2, 2)
    return traits


def extras_from_gaussian(z: np.ndarray, *, sharpness: float = 7.0) -> np.ndarray:
    """Map Gaussian coordinates [N, len(EXTRAS)] to the presence of each extra: about one in twenty has it."""
    return (1 / (1 + np.exp(-sharpness * (z - 1.6)))).astype(np.float32)


def wide_from_gaussian(z: np.ndarray) -> np.ndarray:
    """Map Gaussian coordinates [N, latent_size() + len(EXTRAS)] to traits [N, WIDE]."""
    size = latent_size()
    return np.concatenate([from_gaussian(z[:, :size]), extras_from_gaussian(z[:, size:])], axis=1)


def sample(rng: np.random.Generator, count: int, *, sharpness: float = 7.0, extras: bool = False) -> np.ndarray:
    """Draw traits [count, SIZE] as the bundled generator's prior does; with extras [count, WIDE]."""
    rows = from_gaussian(rng.standard_normal((count, latent_size())).astype(np.float32), sharpness=sharpness)
    if not extras:
        return rows
    z = rng.standard_normal((count, len(EXTRAS))).astype(np.float32)
    return np.concatenate([rows, extras_from_gaussian(z, sharpness=sharpness)], axis=1)


def statistics(count: int = 50_000) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [SIZE] of the prior's traits."""
    drawn = sample(np.random.default_rng(5), count)
    return drawn.mean(0), drawn.std(0)


def project(traits: np.ndarray) -> np.ndarray:
    """The nearest traits that can be drawn: weights on the simplex, colours in [0, 1], proportions in [-2, 2]."""
    result = np.clip(traits, 0, 1)
    for group in SHAPES:
        result[:, LAYOUT[group]] = _project_simplex(traits[:, LAYOUT[group]])
    result[:, LAYOUT["proportions"]] = np.clip(traits[:, LAYOUT["proportions"]], -2, 2)
    return result


def settle(traits: np.ndarray) -> np.ndarray:
    """The traits to draw where a picture has to be clean everywhere: `project`, then most of the way to a value.

    Between two values the picture switches rather than fades: a hat of a third of its size is a mistake to
    whoever looks at it. Colours go towards the named ones and skins onto the line through theirs, so no face
    turns grey. All of it is continuous: a flow still feels which way the other value lies.
    """
    result = project(traits)
    for group, power in POWERS.items():
        sharp = result[:, LAYOUT[group]] ** power
        result[:, LAYOUT[group]] = sharp / sharp.sum(1, keepdims=True)
    for group, pull in PULLS.items():
        colour = result[:, LAYOUT[group]]
        distance = np.square(colour[:, None] - anchors(group)).sum(-1)
        named = _softmax(-distance / (2 * PULL_WIDTH**2)) @ anchors(group)
        result[:, LAYOUT[group]] = colour + pull * (named - colour)
    result[:, LAYOUT["skin"]] = _onto_line(result[:, LAYOUT["skin"]], anchors("skin"), SKIN_TINT)
    present = np.clip(2 * result[:, SIZE:] - 0.5, 0, 1)
    result[:, SIZE:] = present**2 * (3 - 2 * present)
    return result


def labels(traits: np.ndarray, *, margin: float = 0.25) -> dict[str, np.ndarray]:
    """The value of each group [N], or -1 where it cannot be told: a blend, or hidden by another part.

    `margin`: by how much the first value must lead the second (weights, or relative colour distance). Rows [N, WIDE]
    also have the extras' labels, 1 where one is there; `hat_colour` is then a turban's or a headscarf's too.
    """
    result = {}
    for group in SHAPES:
        result[group] = _leading(traits[:, LAYOUT[group]], margin)
    for group in COLOURS:
        result[group] = _leading_colour(traits, group, margin)
    woman = traits[:, LAYOUT["person"].start]
    result["person"] = np.where(woman < 0.35, 0, np.where(woman > 0.65, 1, -1))
    bald, bare = result["hair_style"] == 0, result["hat"] == 0
    result["hair_colour"] = np.where(bald | (result["hair_style"] < 0), -1, result["hair_colour"])
    result["hat_colour"] = np.where(bare | (result["hat"] < 0), -1, result["hat_colour"])
    result["hair_style"] = np.where(bare, result["hair_style"], -1)
    result["eyes"] = np.where((result["glasses"] == 3) | (result["glasses"] < 0), -1, result["eyes"])
    return result | _extra_labels(traits, result, margin) if traits.shape[1] > SIZE else result


def _extra_labels(traits: np.ndarray, shown: Mapping[str, np.ndarray], margin: float) -> dict[str, np.ndarray]:
    """Which extras are there, and what they leave of the other groups: as `drawing` has them give way."""
    amount = {name: traits[:, SIZE + i] for i, name in enumerate(EXTRAS)}
    present = {name: np.where(value > 0.75, 1, np.where(value < 0.25, 0, -1)) for name, value in amount.items()}
    scarf, tongue = present["headscarf"], present["tongue"]
    over_eyes = np.maximum(np.abs(present["eyepatch"]), np.abs(present["heart_eyes"])) > 0
    on_head = (np.abs(present["turban"]) > 0) | (np.abs(scarf) > 0)
    instead_of_glasses = (present["eyepatch"] == 1) | (present["heart_eyes"] == 1)
    colour = _leading_colour(traits, "hat_colour", margin)
    cloth = (present["turban"] == 1) | (scarf == 1)
    return {
        "glasses": np.where(over_eyes, np.where(instead_of_glasses, 0, -1), shown["glasses"]),
        "eyes": np.where(over_eyes, -1, shown["eyes"]),
        "hat": np.where(on_head, -1, shown["hat"]),
        "hat_colour": np.where(cloth, colour, np.where(on_head, -1, shown["hat_colour"])),
        "hair_style": np.where(on_head, -1, shown["hair_style"]),
        "hair_colour": np.where(on_head, -1, shown["hair_colour"]),
        "mouth": np.where(tongue == 0, shown["mouth"], -1),
        **present,
    }


def _leading_colour(traits: np.ndarray, group: str, margin: float) -> np.ndarray:
    distance = np.linalg.norm(traits[:, None, LAYOUT[group]] - anchors(group), axis=-1)
    closeness = 1 / (distance + 1e-3)
    return _leading(closeness / closeness.sum(1, keepdims=True), margin)


def _leading(weights: np.ndarray, margin: float) -> np.ndarray:
    ordered = np.sort(weights, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > margin
    return np.where(clear, weights.argmax(1), -1)


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def _project_simplex(points: np.ndarray) -> np.ndarray:
    """Euclidean projection of each row on the probability simplex (sort-and-threshold)."""
    ordered = -np.sort(-points, axis=1)
    excess = np.cumsum(ordered, axis=1) - 1
    count = np.arange(1, points.shape[1] + 1)
    support = (ordered - excess / count > 0).sum(1, keepdims=True)
    threshold = np.take_along_axis(excess, support - 1, axis=1) / support
    return np.maximum(points - threshold, 0)


def _onto_line(points: np.ndarray, corners: np.ndarray, tolerance: float) -> np.ndarray:
    """Points [N, 3], brought to within `tolerance` of the polyline through `corners` [V, 3]."""
    starts, along = corners[:-1], np.diff(corners, axis=0)
    share = ((points[:, None] - starts) * along).sum(-1) / np.square(along).sum(-1)
    feet = starts + np.clip(share, 0, 1)[..., None] * along
    nearest = np.linalg.norm(points[:, None] - feet, axis=-1).argmin(1)
    foot = feet[np.arange(len(points)), nearest]
    offset = points - foot
    length = np.linalg.norm(offset, axis=1, keepdims=True)
    return foot + offset * np.minimum(1, tolerance / np.maximum(length, 1e-6))
