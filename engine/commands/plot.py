"""`python -m engine plot`: two settings over lists of values, in one picture with labels."""

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.bulk.axes import Axis, read_axis
from engine.bulk.plot import MOST_SHOWN, USUALLY_SHOWN, Cell, Plot, metadata, plan
from engine.commands import output
from engine.commands.generate import Given, add_generate_options, run_one
from engine.commands.shared import Interrupted, Models, RunError, add_run_options, hashes, load_models
from engine.errors import ModelError
from engine.pictures.png_files import Pixels
from engine.settings import GENERATE_PRESETS, GenerateSettings, SettingsError
from engine.system import files
from engine.version import VERSION


def add_commands(commands: Any) -> None:
    """Adds the command to the subparsers of `python -m engine`."""
    parser = commands.add_parser("plot", help="compare values of two settings in one picture")
    parser.set_defaults(command=_plot, baseline=False)
    parser.add_argument("prompt", help="what the pictures should show")
    axis = "NAME=VALUES: a list such as 0,0.5,1 or a range such as 0:1:0.25"
    parser.add_argument(
        "--x", required=True, metavar="AXIS", help=f"{axis}; of prompt divided by |, of model by commas"
    )
    parser.add_argument("--y", metavar="AXIS", help="likewise, for the rows")
    parser.add_argument(
        "--show",
        type=int,
        metavar="K",
        help=f"the first K pictures of every cell, {MOST_SHOWN} at most (up to {USUALLY_SHOWN})",
    )
    add_run_options(parser, video=False, presets=GENERATE_PRESETS)
    add_generate_options(parser)


@dataclass
class _Drawn:
    """What there is of a plot so far."""

    pictures: dict[tuple[int, int], list[Pixels]] = field(default_factory=dict)
    errors: dict[tuple[int, int], str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)


def _plot(options: argparse.Namespace) -> None:
    given = Given.by(options)
    plot = _planned(options, given)
    folder = output.run_folder(options.out, overwrite=options.overwrite)
    drawn = _Drawn()
    try:
        _carry_out(plot, options, given, folder, drawn)
    except KeyboardInterrupt as error:
        if not drawn.pictures:
            raise
        _save(plot, folder, drawn)
        raise Interrupted(f"The plot so far is {folder / output.PLOT}.") from error
    if not drawn.pictures:
        raise RunError(f"No cell has pictures. {next(iter(drawn.errors.values()))}")
    _save(plot, folder, drawn)
    print(f"The plot is {folder / output.PLOT}.", file=sys.stderr)


def _planned(options: argparse.Namespace, given: Given) -> Plot:
    """The plot that the options ask for. Raises SettingsError."""

    def base_of(model: str | None, preset: str | None) -> GenerateSettings:
        changed = {"model": model or options.model, "preset": preset or options.preset}
        return given.settings(argparse.Namespace(**{**vars(options), **changed}))

    y: Axis | None = read_axis(options.y) if options.y else None
    return plan(base_of, read_axis(options.x), y, shown=options.show)


def _carry_out(plot: Plot, options: argparse.Namespace, given: Given, folder: Path, drawn: _Drawn) -> None:
    """Every cell into its folder; what cannot be is told, and the rest goes on."""
    loaded: tuple[tuple[str, str], Models] | None = None
    for number, cell in enumerate(plot.by_model):
        print(f"cell {number + 1} of {len(plot.cells)}: {_told(plot, cell)}", file=sys.stderr)
        try:
            if loaded is None or loaded[0] != cell.models:
                loaded = None  # before the next: two may not fit into memory
                chosen = dict(zip(("model", "prompt_model"), cell.models, strict=True))
                loaded = cell.models, load_models(argparse.Namespace(**{**vars(options), **chosen}))
            if not drawn.models:
                output.clear_run(folder)  # not before there is something else to keep
            drawn.models |= hashes(cell.settings, loaded[1])
            files.make_folder(folder / cell.name)
            run_one(cell.settings, loaded[1], given, folder / cell.name, scale=options.scale)
        except (SettingsError, ModelError, RunError) as error:
            print(f"note: {error}", file=sys.stderr)
            drawn.errors[cell.place] = str(error)
        else:
            drawn.pictures[cell.place] = _pictures_in(folder / cell.name, plot.shown)


def _told(plot: Plot, cell: Cell) -> str:
    """The values of a cell."""
    told = [f"{plot.x.label.lower()} {plot.x.texts[cell.column]}"]
    return ", ".join(told + ([f"{plot.y.label.lower()} {plot.y.texts[cell.row]}"] if plot.y else []))


def _pictures_in(folder: Path, most: int) -> list[Pixels]:
    from engine.pictures.picture_files import read_picture

    return [read_picture(path).pixels for path in sorted(folder.glob("*.png"))[:most]]


def _save(plot: Plot, folder: Path, drawn: _Drawn) -> None:
    """The picture of the plot, and its report. Raises SaveError."""
    from engine.pictures.png_files import save_png
    from engine.system.runtime import threads_in_use

    sheet = plot.sheet.draw(drawn.pictures, drawn.errors)
    save_png(folder / output.PLOT, sheet, metadata(plot, drawn.models, threads_in_use()))
    cells = [_report_of(cell, folder, drawn) for cell in plot.cells]
    report = {
        "version": VERSION,
        "settings": plot.base.to_dict(),
        "models": drawn.models,
        "plot": plot.to_dict(),
        "cells": cells,
    }
    files.save_file(folder / output.REPORT, json.dumps(report, indent=2, allow_nan=False).encode() + b"\n")


def _report_of(cell: Cell, folder: Path, drawn: _Drawn) -> dict[str, Any]:
    about: dict[str, Any] = {"x": cell.column, "y": cell.row, "folder": cell.name}
    if cell.place in drawn.errors:
        return {**about, "error": drawn.errors[cell.place]}
    if cell.place not in drawn.pictures:
        return {**about, "error": "It was not drawn: the plot was interrupted."}
    ours = json.loads((folder / cell.name / output.REPORT).read_bytes())["ours"]
    scores = ours.get("text_scores")
    return {**about, "text_score": sum(scores) / len(scores) if scores else None, "diversity": ours["diversity"]}
