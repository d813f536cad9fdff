"""The one picture of a plot: cells in rows and columns, with the values of both settings beside them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from engine.pictures.lettering import SOFT, Colour, shortened_to, width_of, wrapped, write
from engine.pictures.png_files import Pixels

MOST_PIXELS = 24_000_000  # of the whole
LARGEST, SMALLEST = 256, 32  # pixels of one picture's longer side
_PAGE: Colour = (255, 255, 255)
_EMPTY: Colour = (238, 236, 231)
_EDGE, _GAP, _BETWEEN = 20, 3, 14
_TEXT, _LINE, _MOST_LINES = 15, 20, 4
_ROW_HEAD = 130  # width of the values of y
_FOOT = 30

Place = tuple[int, int]  # column and row


@dataclass(frozen=True)
class PlotSheet:
    """What is written beside the cells. shown: pictures of a cell; words: what is said at the bottom.

    y_label: empty where there is only one setting; y_texts then has one empty text.
    """

    x_label: str
    x_texts: Sequence[str]
    y_label: str
    y_texts: Sequence[str]
    shown: int
    words: str = ""

    def draw(self, cells: Mapping[Place, Sequence[Pixels]], notes: Mapping[Place, str] | None = None) -> Pixels:
        """The plot, as far as it is there: the pictures [H, W, 3] of each cell, the first `shown` of them.

        notes: what is said in cells that have none.
        """
        layout = _Layout.of(self, cells)
        sheet = Image.new("RGB", layout.size, _PAGE)
        self._write_heads(sheet, layout)
        for row in range(len(self.y_texts)):
            for column in range(len(self.x_texts)):
                place = column, row
                left, top = layout.corner(place)
                _draw_cell(sheet, layout, (left, top), list(cells.get(place, ()))[: self.shown])
                if place not in cells and notes and place in notes:
                    _write_note(sheet, layout, (left, top), notes[place])
        foot = shortened_to(self.words, 14, sheet.width - 2 * _EDGE)
        write(sheet, (_EDGE, sheet.height - _EDGE - 14), foot, 14, colour=SOFT)
        return np.asarray(sheet)

    def _write_heads(self, sheet: Image.Image, layout: "_Layout") -> None:
        middle = layout.left + (sheet.width - layout.left - _EDGE) / 2
        room = sheet.width - layout.left - _EDGE
        write(sheet, (middle, _EDGE), shortened_to(self.x_label, _TEXT, room), _TEXT, colour=SOFT, anchor="ma")
        for column, lines in enumerate(layout.heads):
            left, _ = layout.corner((column, 0))
            for number, line in enumerate(lines):
                top = layout.top - 8 - (len(lines) - number) * _LINE
                write(sheet, (left + layout.cell[0] / 2, top), line, _TEXT, anchor="ma")
        if not self.y_label:
            return
        write(sheet, (_EDGE, layout.top - 8 - _LINE), shortened_to(self.y_label, _TEXT, _ROW_HEAD), _TEXT, colour=SOFT)
        for row, text in enumerate(self.y_texts):
            _, top = layout.corner((0, row))
            lines = wrapped(text, _TEXT, _ROW_HEAD - 10, max(1, min(_MOST_LINES, layout.cell[1] // _LINE)))
            for number, line in enumerate(lines):
                middle = top + layout.cell[1] / 2 + (number - len(lines) / 2) * _LINE
                write(sheet, (_EDGE, middle), line, _TEXT)


@dataclass(frozen=True)
class _Layout:
    """Where everything is: the size of a picture, how many stand beside each other in a cell, and the heads' lines."""

    picture: tuple[int, int]
    columns: int
    rows: int
    left: int
    top: int
    heads: Sequence[Sequence[str]]
    size: tuple[int, int]

    @classmethod
    def of(cls, sheet: PlotSheet, cells: Mapping[Place, Sequence[Pixels]]) -> "_Layout":
        width, height = _largest(cells)
        longer = min(max(width, height, 64), LARGEST)
        columns = math.ceil(math.sqrt(sheet.shown))
        while True:
            scale = longer / max(width, height)
            picture = max(1, round(width * scale)), max(1, round(height * scale))
            layout = cls._with(sheet, picture, columns)
            if math.prod(layout.size) <= MOST_PIXELS or longer <= SMALLEST:
                return layout
            longer -= max(1, longer // 20)

    @classmethod
    def _with(cls, sheet: PlotSheet, picture: tuple[int, int], columns: int) -> "_Layout":
        rows = math.ceil(sheet.shown / columns)
        width = columns * (picture[0] + _GAP) - _GAP
        height = rows * (picture[1] + _GAP) - _GAP
        heads = [wrapped(text, _TEXT, max(width, 60), _MOST_LINES) for text in sheet.x_texts]
        left = _EDGE + (_ROW_HEAD if sheet.y_label else 0)
        top = _EDGE + _LINE + 4 + max(map(len, heads)) * _LINE + 8
        across = max(width, 60) * len(heads) + _BETWEEN * (len(heads) - 1)
        down = (height + _BETWEEN) * len(sheet.y_texts)
        least = _EDGE + width_of(sheet.x_label, _TEXT)
        return cls(
            picture, columns, rows, left, top, heads, (left + max(across, least) + _EDGE, top + down + _FOOT + 4)
        )

    @property
    def cell(self) -> tuple[int, int]:
        width = self.columns * (self.picture[0] + _GAP) - _GAP
        return max(width, 60), self.rows * (self.picture[1] + _GAP) - _GAP

    def corner(self, place: Place) -> tuple[int, int]:
        """Left and top of a cell."""
        return self.left + place[0] * (self.cell[0] + _BETWEEN), self.top + place[1] * (self.cell[1] + _BETWEEN)


def _largest(cells: Mapping[Place, Sequence[Pixels]]) -> tuple[int, int]:
    """Width and height of the largest picture; of a plot without any, a square's."""
    sizes = [(pixels.shape[1], pixels.shape[0]) for shown in cells.values() for pixels in shown]
    return max(sizes, key=math.prod, default=(128, 128))


def _draw_cell(sheet: Image.Image, layout: _Layout, corner: tuple[int, int], pictures: Sequence[Pixels]) -> None:
    if not pictures:
        left, top = corner
        ImageDraw.Draw(sheet).rectangle((left, top, left + layout.cell[0] - 1, top + layout.cell[1] - 1), fill=_EMPTY)
    for index, pixels in enumerate(pictures):
        row, column = divmod(index, layout.columns)
        small = Image.fromarray(pixels)
        if small.size != layout.picture:
            scale = min(layout.picture[0] / small.width, layout.picture[1] / small.height)
            size = max(1, round(small.width * scale)), max(1, round(small.height * scale))
            small = small.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
        left = corner[0] + column * (layout.picture[0] + _GAP) + (layout.picture[0] - small.width) // 2
        top = corner[1] + row * (layout.picture[1] + _GAP) + (layout.picture[1] - small.height) // 2
        sheet.paste(small, (left, top))


def _write_note(sheet: Image.Image, layout: _Layout, corner: tuple[int, int], note: str) -> None:
    lines = wrapped(note, 13, layout.cell[0] - 12, max(1, (layout.cell[1] - 8) // 17))
    for number, line in enumerate(lines):
        write(sheet, (corner[0] + 6, corner[1] + 6 + number * 17), line, 13, colour=SOFT)
