"""Free-form holes of 0 to 100 % of a picture: brush strokes and rectangles (Zhao et al. 2021, Section 5.1)."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

NEARLY = 0.98  # of the picture; what is to be larger is all of it
STROKES = 0.6  # share of the parts that are strokes
TURN = 0.9  # radians, the standard deviation from one piece of a stroke to the next


def free_form_hole(rng: np.random.Generator, size: int) -> np.ndarray:
    """Where nothing is known: bool [size, size]; its share is drawn evenly from 0 to 1 and met from above."""
    share = rng.uniform()
    if share > NEARLY:
        return np.ones((size, size), dtype=bool)
    canvas = Image.new("1", (size, size))
    pen = ImageDraw.Draw(canvas)
    while np.asarray(canvas).mean() < share:
        if rng.uniform() < STROKES:
            _stroke(pen, rng, size)
        else:
            _rectangle(pen, rng, size)
    return np.asarray(canvas).copy()


def known_pixels(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """float32 [count, 1, size, size], 1 where a pixel is known."""
    holes = np.stack([free_form_hole(rng, size) for _ in range(count)])
    return (~holes)[:, None].astype(np.float32)


def _rectangle(pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: int) -> None:
    width, height = rng.uniform(size / 10, size / 2, 2)
    left, top = rng.uniform(-width / 2, size - width / 2), rng.uniform(-height / 2, size - height / 2)
    pen.rectangle((left, top, left + width, top + height), fill=1)


def _stroke(pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: int) -> None:
    """A brush that wanders, round at its ends and corners."""
    radius, angle = rng.uniform(size / 40, size / 9), rng.uniform(0, 2 * np.pi)
    place = rng.uniform(0, size, 2)
    path = [place]
    for _ in range(rng.integers(1, 6)):
        angle += rng.normal(0, TURN)
        step = rng.uniform(size / 10, size / 3)
        path.append((path[-1] + step * np.array([np.cos(angle), np.sin(angle)])).clip(0, size))
    pen.line([tuple(point) for point in path], fill=1, width=max(1, round(2 * radius)))
    for x, y in path:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
