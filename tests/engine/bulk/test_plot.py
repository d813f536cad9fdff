"""Plots: every cell has its two values and else the same settings, and is in its place in the picture."""

from dataclasses import replace

import numpy as np
import pytest

from engine.bulk.axes import Axis, make_axis
from engine.bulk.plot import MOST_CELLS, MOST_PICTURES, metadata, plan
from engine.pictures import png_files
from engine.pictures.plot_sheet import PlotSheet
from engine.pictures.png_files import Pixels
from engine.settings import FlowSettings, GenerateSettings, SettingsError

X, Y = make_axis("diversity", "0,0.5,1"), make_axis("seed", "3,4")


def base_of(model: str | None, preset: str | None) -> GenerateSettings:
    """Another model has steps of its own."""
    steps = 60 if model in (None, "avatars") else 20
    settings = GenerateSettings("a hat", model=model or "avatars", n=4, flow=FlowSettings(steps=steps))
    return settings.with_preset(preset) if preset else settings


def test_cells_differ_in_their_two_values_alone() -> None:
    plot = plan(base_of, X, Y)
    assert [cell.place for cell in plot.cells] == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]
    for cell in plot.cells:
        diversity, seed = X.values[cell.column], Y.values[cell.row]
        expected = replace(base_of(None, None), seed=int(seed), baseline=False)
        assert cell.settings == replace(expected, flow=replace(expected.flow, diversity=float(diversity)))
    assert plot.shown == 4 and plot.words == '"a hat", avatars, 60 steps, step size 0.3'


def test_a_model_brings_its_own_settings_and_is_loaded_once() -> None:
    plot = plan(base_of, make_axis("model", "avatars, fashion"), make_axis("diversity", "0,1"))
    assert [cell.settings.flow.steps for cell in plot.cells] == [60, 20, 60, 20]
    assert [cell.settings.model for cell in plot.by_model] == ["avatars"] * 2 + ["fashion"] * 2
    presets = plan(base_of, make_axis("preset", "robust,paper"), make_axis("diversity", "1"))
    assert [cell.settings.preset for cell in presets.cells] == ["robust", "paper"]
    assert presets.cells[1].settings.flow.step_schedule == "constant"


@pytest.mark.parametrize(
    ("x", "y", "shown", "told"),
    [
        (X, X, None, "on both axes"),
        (make_axis("seed", "1:9"), make_axis("steps", "1:9"), None, f"{MOST_CELLS} or fewer"),
        (make_axis("seed", "1:16"), make_axis("n", "64,63"), None, f"{MOST_PICTURES:,} or fewer"),
        (X, None, 0, "outside 1 to"),
        (make_axis("detail_steps", "900"), None, None, "detail_steps"),
    ],
)
def test_what_cannot_be_plotted_is_told(x: Axis, y: Axis | None, shown: int | None, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        plan(base_of, x, y, shown=shown)


def test_the_picture_says_everything_and_restores_its_base() -> None:
    plot = plan(base_of, X, Y)
    sheet = plot.sheet.draw({(0, 0): [np.zeros((8, 8, 3), np.uint8)]})
    read = png_files.read_metadata(png_files.encode_png(sheet, metadata(plot, {"avatars": "ab" * 32}, 1)))
    assert GenerateSettings.from_dict(read["settings"]) == plot.base
    assert read["extra"]["plot"]["x"] == {"field": "diversity", "values": [0.0, 0.5, 1.0]}
    assert read["extra"]["plot"]["y"]["values"] == [3, 4] and read["seeds"] == [0, 1, 2, 3]


def noise(seed: int, width: int = 64, height: int = 80) -> Pixels:
    return np.random.default_rng(seed).integers(0, 250, (height, width, 3), np.uint8)


def place_of(picture: Pixels, sheet: Pixels) -> tuple[int, int]:
    """Where a picture lies in a sheet, pixel for pixel: (top, left)."""
    height, width = picture.shape[:2]
    corners = np.argwhere((sheet == picture[0, 0]).all(2))
    found = [(y, x) for y, x in corners if np.array_equal(sheet[y : y + height, x : x + width], picture)]
    (place,) = found
    return place


def test_pictures_lie_in_rows_and_columns() -> None:
    sheet = PlotSheet("Diversity", ("0", "1"), "Prompt", ("a hat", "a very long prompt " * 9), 2, "words")
    cells = {(x, y): [noise(10 * x + y), noise(100 + 10 * x + y)] for x in range(2) for y in range(2)}
    drawn = sheet.draw(cells)
    places = {place: [place_of(picture, drawn) for picture in shown] for place, shown in cells.items()}
    for (x, y), ((top, left), (second_top, second_left)) in places.items():
        assert second_top == top and second_left > left
        assert top == places[0, y][0][0] and left == places[x, 0][0][1]
    assert places[1, 0][0][1] > places[0, 0][1][1] and places[0, 1][0][0] > places[0, 0][0][0]


def test_a_plot_has_one_size_from_its_first_cell_on_and_notes_where_there_is_none() -> None:
    sheet = PlotSheet("Diversity", ("0", "1"), "", ("",), 1)
    first = sheet.draw({(0, 0): [noise(1)]})
    noted = sheet.draw({(0, 0): [noise(1)]}, {(1, 0): "The flow left the numbers."})
    whole = sheet.draw({(0, 0): [noise(1)], (1, 0): [noise(2)]})
    assert first.shape == noted.shape == whole.shape
    assert place_of(noise(1), first) == place_of(noise(1), whole)
    assert not np.array_equal(first, noted) and sheet.draw({}).ndim == 3


def test_large_pictures_are_reduced_to_a_sheet_that_can_be_opened() -> None:
    sheet = PlotSheet("x", tuple("abcdefgh"), "y", tuple("abcdefgh"), 16)
    drawn = sheet.draw({(0, 0): [np.zeros((1024, 1024, 3), np.uint8)]})
    assert drawn.shape[0] * drawn.shape[1] <= 24_000_000
