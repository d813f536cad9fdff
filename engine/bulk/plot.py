"""A plot of two settings: which runs it is made of, and how they become one picture. Needs no torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.bulk.axes import Axis, Value, with_value
from engine.pictures.plot_sheet import PlotSheet
from engine.pictures.png_files import THREADS, fitting, picture_metadata
from engine.settings import GenerateSettings, SettingsError, plain

MOST_CELLS = 64
MOST_PICTURES = 1_024  # of all cells together
MOST_SHOWN = 16  # pictures of a cell
USUALLY_SHOWN = 4
_SETTLING = ("model", "preset")  # what other settings follow from

# The settings of a model and a preset; None: those that were chosen.
BaseOf = Callable[[str | None, str | None], GenerateSettings]


@dataclass(frozen=True)
class Cell:
    """One run of a plot, by its place: columns go with x, rows with y."""

    column: int
    row: int
    settings: GenerateSettings

    @property
    def place(self) -> tuple[int, int]:
        return self.column, self.row

    @property
    def models(self) -> tuple[str, str]:
        """The names of the generator and of the prompt model."""
        return self.settings.model, self.settings.prompt_model

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"x{self.column}-y{self.row}"


@dataclass(frozen=True)
class Plot:
    """All of a plot. shown: how many pictures of each cell are seen, the first ones."""

    base: GenerateSettings
    x: Axis
    y: Axis | None
    shown: int
    cells: tuple[Cell, ...]

    @property
    def by_model(self) -> tuple[Cell, ...]:
        """The cells in the order in which models need to be loaded once."""
        models = list(dict.fromkeys(cell.models for cell in self.cells))
        return tuple(sorted(self.cells, key=lambda cell: models.index(cell.models)))

    @property
    def sheet(self) -> PlotSheet:
        """How it becomes one picture."""
        y = self.y
        return PlotSheet(
            self.x.label, self.x.texts, y.label if y else "", y.texts if y else ("",), self.shown, self.words
        )

    @property
    def words(self) -> str:
        """What all cells have in common."""
        base, axes = self.base, {axis.field for axis in (self.x, self.y) if axis}
        told = {
            "prompt": f'"{base.prompt}"' if base.prompt else "without words",
            "model": base.model,
            "seed": f"seed {base.seed}",
            "steps": f"{base.flow.steps} steps",
            "step_size": f"step size {plain(base.flow.step_size)}",
            "diversity": f"diversity {plain(base.flow.diversity)}",
        }
        return ", ".join(text for field, text in told.items() if field not in axes)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: what the plot is of; every cell's settings follow from these and its base."""
        return {"x": self.x.to_dict(), "y": self.y.to_dict() if self.y else None, "shown": self.shown}


def plan(base_of: BaseOf, x: Axis, y: Axis | None = None, *, shown: int | None = None) -> Plot:
    """The plot of one or two settings, with the same seeds in all cells, unless they are an axis.

    shown: of each cell, at most n; USUALLY_SHOWN where none is given. Raises SettingsError for equal axes, for too many
    cells or pictures, and for settings that cannot be.
    """
    if y is not None and y.field == x.field:
        raise SettingsError(f"axis: {x.field} is on both axes; choose another setting for one of them.")
    rows: Sequence[Value | None] = y.values if y else (None,)
    if len(x.values) * len(rows) > MOST_CELLS:
        raise SettingsError(
            f"axis: {len(x.values)} x {len(rows)} cells are too many; a plot has {MOST_CELLS} or fewer."
        )
    base = replace(base_of(None, None), baseline=False, beside=None)
    if shown is not None and not 1 <= shown <= MOST_SHOWN:
        raise SettingsError(f"show: {shown} is outside 1 to {MOST_SHOWN}.")
    cells = []
    for row, of_row in enumerate(rows):
        for column, of_column in enumerate(x.values):
            values = {x.field: of_column} | ({y.field: of_row} if y and of_row is not None else {})
            cells.append(Cell(column, row, _settings(base_of, values)))
    if (count := sum(cell.settings.n for cell in cells)) > MOST_PICTURES:
        raise SettingsError(f"n: {count:,} pictures in all cells are too many; a plot has {MOST_PICTURES:,} or fewer.")
    most = max(cell.settings.n for cell in cells)
    return Plot(base, x, y, min(shown or USUALLY_SHOWN, most), tuple(cells))


def _settings(base_of: BaseOf, values: Mapping[str, Value]) -> GenerateSettings:
    model, preset = (values.get(name) for name in _SETTLING)
    settings = base_of(None if model is None else str(model), None if preset is None else str(preset))
    settings = replace(settings, baseline=False, beside=None)
    for field, value in values.items():
        if field not in _SETTLING:
            settings = with_value(settings, field, value)
    return settings


def metadata(plot: Plot, models: Mapping[str, str], threads: int) -> dict[str, Any]:
    """What the plot's PNG carries: the base settings, which the page restores, and in its extras what was varied.

    models: the sha256 of each model's file by name.
    """
    seeds = [(plot.base.seed + index) % 2**32 for index in range(plot.base.n)]
    return fitting(
        picture_metadata(
            settings=plot.base.to_dict(),
            seeds=seeds,
            index=0,
            models=models,
            extra={"plot": plot.to_dict(), THREADS: threads},
        )
    )
