"""Colours of inks and grounds, with their names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

INKS: Mapping[str, tuple[int, int, int]] = {
    "black": (28, 28, 34), "white": (250, 250, 250), "grey": (128, 132, 140), "red": (214, 44, 48),
    "orange": (240, 132, 32), "yellow": (250, 208, 56), "green": (48, 158, 80), "blue": (40, 96, 208),
    "purple": (130, 70, 184), "pink": (240, 116, 172), "brown": (124, 78, 48),
}  # fmt: skip
GROUNDS: Mapping[str, tuple[int, int, int]] = {
    "white": (253, 253, 253), "black": (26, 26, 32), "grey": (186, 190, 198), "red": (226, 84, 84),
    "orange": (250, 178, 112), "yellow": (252, 228, 128), "green": (148, 214, 152), "blue": (126, 186, 240),
    "purple": (190, 160, 230), "pink": (250, 184, 208), "brown": (176, 136, 104),
}  # fmt: skip
# What light and dark shades are called too.
_SHADES: Mapping[str, tuple[tuple[int, int, int], ...]] = {
    "blonde": ((229, 215, 163), (226, 186, 135), (232, 196, 100), (236, 220, 191)),
    "brown": ((113, 71, 45), (58, 26, 0), (165, 87, 40), (106, 78, 53), (172, 101, 17)),
    "teal": ((84, 215, 199), (35, 141, 128), (133, 194, 198)),
    "black": ((14, 14, 14), (44, 27, 24), (34, 15, 0)),
    "pink": ((245, 93, 129), (219, 163, 190), (245, 151, 151)),
}


def nearest_colour(code: str) -> str:
    """The name of "#rrggbb"."""
    rgb = np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)], dtype=float)
    named = [*INKS.items(), *GROUNDS.items(), *((name, c) for name, all_ in _SHADES.items() for c in all_)]
    return min(named, key=lambda item: float(np.square(rgb - item[1]).sum()))[0]


def jittered(rng: np.random.Generator, colour: tuple[int, int, int], amount: float = 10.0) -> np.ndarray:
    """A shade of the same name, float32 [3] in [0, 255]."""
    return (np.array(colour, dtype=np.float32) + rng.uniform(-amount, amount, 3).astype(np.float32)).clip(0, 255)


def contrast(first: tuple[int, int, int], second: tuple[int, int, int]) -> float:
    """Distance of two colours, lightness counting most; 0 to about 255."""
    difference = np.subtract(first, second).astype(float)
    lightness = difference @ (0.299, 0.587, 0.114)
    return float(np.hypot(lightness, 0.35 * np.linalg.norm(difference)))
