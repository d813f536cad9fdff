"""The frames of a run's video: the sides' pictures beside each other, with curves of their figures below them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image, ImageDraw

from engine.pictures.lettering import LINE, SOFT, Colour, shortened_to, width_of, write
from engine.pictures.png_files import Pixels

MOST_FRAMES = 64  # different ones
MOST_PIXELS = 1_000_000  # of a frame
LARGEST_CELL, SMALLEST_CELL = 512, 96  # pixels of one picture's longer side
COLOURS: tuple[Colour, ...] = ((12, 106, 115), (119, 111, 134))  # of the sides, as on the page
_PAGE: Colour = (255, 255, 255)
_EDGE, _GAP, _BETWEEN = 16, 8, 28
_HEAD, _FOOT = 34, 30  # heights of the line above the pictures, and of that at the bottom
_CHART, _CHARTS_GAP = 66, 14
_SMOOTHING = 3  # curves are drawn so many times as large, then reduced
_LEAST_CELL = 24  # pixels; where even these have no room, a frame is larger
_SQUAREST = 1.5  # width to height that the whole comes near to


class Stepped(Protocol):
    """Something kept of a step."""

    @property
    def step(self) -> int: ...


AnyKept = TypeVar("AnyKept", bound=Stepped)


def thinned(kept: tuple[AnyKept, ...], most: int = MOST_FRAMES) -> tuple[AnyKept, ...]:
    """Once there are too many, only every second step, then every fourth, ...; the newest always stays."""
    stride, rest = 1, kept
    while len(rest) > most:
        rest = (*(one for one in kept[:-1] if one.step % stride == 0), kept[-1])
        stride *= 2
    return rest


@dataclass(frozen=True)
class Curve:
    """A figure of a side over the steps: values[i] belongs to step first + i."""

    label: str
    values: Sequence[float]
    first: int = 0

    def until(self, step: int) -> Sequence[float]:
        """The values up to `step`, at least the first."""
        return self.values[: max(1, step - self.first + 1)]


@dataclass(frozen=True)
class FilmSide:
    """What does not change of a side: its heading, and its curves over the whole run; none where none are drawn."""

    title: str
    curves: Sequence[Curve] = ()


@dataclass(frozen=True)
class Film:
    """The layout of all frames of a video. count: pictures of each side; size: width and height of one, in pixels.

    total: the step that the run ends at; words: what is said at the bottom, left of the step.
    """

    sides: Sequence[FilmSide]
    count: int
    size: tuple[int, int]
    total: int
    words: str = ""

    @property
    def columns(self) -> int:
        """Of each side, so that the whole is somewhat wider than high."""
        ratio = self.size[0] / self.size[1]

        def shape(columns: int) -> float:
            rows = math.ceil(self.count / columns)
            return abs(math.log(len(self.sides) * columns * ratio / (rows * _SQUAREST)))

        full = [n for n in range(1, self.count + 1) if math.ceil(self.count / n) * n - self.count < n / 2]
        return min(full, key=shape)

    @property
    def rows(self) -> int:
        return math.ceil(self.count / self.columns)

    @property
    def cell(self) -> tuple[int, int]:
        """Width and height of a picture in a frame: its own, within limits, as far as a frame has room for all."""
        longer = max(self.size)
        wanted = min(max(longer, SMALLEST_CELL), LARGEST_CELL)
        while wanted > _LEAST_CELL and math.prod(self._size_with(*self._scaled(wanted))) > MOST_PIXELS:
            wanted -= max(1, wanted // 50)
        return self._scaled(wanted)

    @property
    def frame(self) -> tuple[int, int]:
        """Width and height of a frame, both even."""
        width, height = self._size_with(*self.cell)
        return width + width % 2, height + height % 2

    def _scaled(self, longer: int) -> tuple[int, int]:
        scale = longer / max(self.size)
        return max(1, round(self.size[0] * scale)), max(1, round(self.size[1] * scale))

    def _size_with(self, width: int, height: int) -> tuple[int, int]:
        side = self._side_width(width)
        charts = _CHART + _GAP if any(side.curves for side in self.sides) else 0
        grid = self.rows * (height + _GAP) - _GAP
        whole = len(self.sides) * (side + _BETWEEN) - _BETWEEN
        return 2 * _EDGE + whole, _EDGE + _HEAD + grid + charts + _FOOT

    def _side_width(self, cell: int) -> int:
        least = 130 * max((len(side.curves) for side in self.sides), default=0)
        return max(self.columns * (cell + _GAP) - _GAP, least, 200)

    def draw(self, pictures: Sequence[Pixels], step: int) -> Pixels:
        """The frame of a step: pictures, [N, H, W, 3] of each side -> [height, width, 3]."""
        sheet = Image.new("RGB", self.frame, _PAGE)
        width, height = self.cell
        side_width = self._side_width(width)
        below = _EDGE + _HEAD + self.rows * (height + _GAP)
        for number, (side, shown) in enumerate(zip(self.sides, pictures, strict=True)):
            left = _EDGE + number * (side_width + _BETWEEN)
            _draw_heading(sheet, side.title, left, side_width, COLOURS[number % len(COLOURS)])
            self._draw_pictures(sheet, shown, left + (side_width - self.columns * (width + _GAP) + _GAP) // 2)
            if side.curves:
                self._draw_charts(sheet, number, (left, below), side_width, step)
        self._draw_foot(sheet, step)
        return np.asarray(sheet)

    def _draw_pictures(self, sheet: Image.Image, pictures: Pixels, left: int) -> None:
        width, height = self.cell
        for index, pixels in enumerate(pictures):
            row, column = divmod(index, self.columns)
            small = Image.fromarray(pixels)
            if small.size != (width, height):
                small = small.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
            sheet.paste(small, (left + column * (width + _GAP), _EDGE + _HEAD + row * (height + _GAP)))

    def _draw_charts(self, sheet: Image.Image, number: int, place: tuple[int, int], width: int, step: int) -> None:
        side = self.sides[number]
        each = (width - (len(side.curves) - 1) * _CHARTS_GAP) // len(side.curves)
        for index, curve in enumerate(side.curves):
            others = [other.curves[index] for other in self.sides if other is not side and len(other.curves) > index]
            left = place[0] + index * (each + _CHARTS_GAP)
            _draw_chart(sheet, curve, others, (left, place[1]), each, step, self.total, COLOURS[number % len(COLOURS)])

    def _draw_foot(self, sheet: Image.Image, step: int) -> None:
        told = f"step {step} of {self.total}"
        width, height = sheet.size
        write(sheet, (width - _EDGE, height - _FOOT + 6), told, 14, colour=SOFT, anchor="ra")
        room = width - 3 * _EDGE - width_of(told, 14)
        write(sheet, (_EDGE, height - _FOOT + 6), shortened_to(self.words, 14, room), 14, colour=SOFT)


def _draw_heading(sheet: Image.Image, title: str, left: int, width: int, colour: Colour) -> None:
    ImageDraw.Draw(sheet).ellipse((left, _EDGE + 6, left + 9, _EDGE + 15), fill=colour)
    write(sheet, (left + 18, _EDGE + 1), shortened_to(title, 16, width - 18), 16)


def _draw_chart(
    sheet: Image.Image,
    curve: Curve,
    others: Sequence[Curve],
    place: tuple[int, int],
    width: int,
    step: int,
    total: int,
    colour: Colour,
) -> None:
    """Name, newest value, and the curve up to the step, over the range of all curves of this figure."""
    left, top = place
    shown = curve.until(step)
    value = f"{shown[-1]:.3f}"
    write(sheet, (left + width, top), value, 14, anchor="ra")
    write(sheet, (left, top + 1), shortened_to(curve.label, 13, width - width_of(value, 14) - 8), 13, colour=SOFT)
    values = [number for one in (curve, *others) for number in one.values if math.isfinite(number)] or [0.0]
    margin = max(0.08 * (max(values) - min(values)), 0.005)
    low, high = min(values) - margin, max(values) + margin
    height = _CHART - 22
    chart = Image.new("RGB", (width * _SMOOTHING, height * _SMOOTHING), _PAGE)
    draw = ImageDraw.Draw(chart)

    def points(one: Curve) -> list[tuple[float, float]]:
        return [
            (
                (chart.width - 8) * min((one.first + i) / max(total, 1), 1.0) + 3,
                (chart.height - 8) * (high - number) / (high - low) + 3,
            )
            for i, number in enumerate(one.until(step))
            if math.isfinite(number)
        ]

    draw.line((0, chart.height - 2, chart.width, chart.height - 2), fill=LINE, width=_SMOOTHING)
    for one, tint, thick in [*((other, LINE, 4) for other in others), (curve, colour, 6)]:
        if line := points(one):
            draw.line(line if len(line) > 1 else [*line, *line], fill=tint, width=thick, joint="curve")
            x, y = line[-1]
            draw.ellipse((x - 7, y - 7, x + 7, y + 7), fill=tint)
    sheet.paste(chart.resize((width, height), Image.Resampling.LANCZOS), (left, top + 20))
