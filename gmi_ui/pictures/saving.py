"""Pictures as files to download: PNGs with everything that made them inside, alone or in a zip."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.bulk.prompts import slug
from engine.errors import PictureError
from engine.version import VERSION
from gmi_ui.models.models import shown_name
from gmi_ui.notices import Notice, NotPossibleError
from gmi_ui.runs.job import model_names
from gmi_ui.runs.redrawing import step_of
from gmi_ui.runs.run import OURS, Run
from gmi_ui.temporary import MOST_SAVED, new_folder, trim

if TYPE_CHECKING:
    from engine.inference.flow import Step
    from engine.pictures.picture_files import Picture

MOST_ENLARGED = 240_000_000  # pixels of all that are saved at once, larger than they are
SHEET, REPORT = "contact-sheet.png", "run.json"  # beside the pictures, where all of a run are saved
SHEET_CELL, SHEET_COLUMNS = 256, 8  # pixels of a small picture, how many in a row
KEPT_FOR = 3600.0  # seconds


class Pictures:
    """Writes files into a folder of its own, which the server may serve.

    A file is there to be fetched at once, under its own name: after `kept_for` seconds it may go.
    """

    def __init__(self, folder: Path | None = None, *, kept_for: float = KEPT_FOR) -> None:
        self.folder = folder or new_folder()
        self._kept_for = kept_for

    def save_one(self, run: Run, side: str, index: int, step: int | None = None, *, scale: int = 1) -> Path:
        """One picture, of the newest step or a kept one, `scale` times as large.

        Raises NotPossibleError if it is not there, PictureError if it would be too large, SaveError if it cannot be
        written.
        """
        check_picture(run, side, index)
        drawn = step_of(run, side, step)
        self._forget_old()
        return self._write(run, side, index, drawn, scale)

    def save_step(self, run: Run, side: str, drawn: "Step") -> list[Path]:
        """Every picture of one step of a side. Raises SaveError if one cannot be written."""
        self._forget_old()
        return [self._write(run, side, index, drawn) for index in range(len(drawn.images))]

    def _write(self, run: Run, side: str, index: int, drawn: "Step", scale: int = 1) -> Path:
        from engine.system import files

        suffix = f"_{place_of(run, side)}" if side != OURS else ""
        path = self.folder / run.id / f"{name_of(run)}_{origin_of(index, drawn)}{suffix}{size_of(scale)}.png"
        files.save_file(path, png(run, side, index, drawn, scale=scale))
        return path

    def save_all(self, run: Run, step: int | None = None, *, scale: int = 1) -> Path:
        """Every picture of every side, `scale` times as large, those beside ours in a folder of their own, with all
        of them on one sheet, and what made them in one file. Raises as `save_one`.
        """
        from engine.system import files

        pictures = archive_of(run, step, scale=scale)
        if not pictures:
            raise NotPossibleError("There are no pictures to save yet.")
        at = run.moment.step if step is None else step
        path = self.folder / run.id / f"{name_of(run)}_seed-{run.settings.seed}_step-{at}{size_of(scale)}.zip"
        self._forget_old()
        files.save_zip(path, pictures, made=time.time())
        return path

    def place_for(self, run: Run, name: str) -> Path:
        """Where a file of the run can be written, its folder made. Raises SaveError."""
        from engine.system import files

        self._forget_old()
        files.make_folder(self.folder / run.id)
        return self.folder / run.id / name

    def save_plot(self, place: str, prompt: str, data: bytes) -> Path:
        """A plot's picture, into the folder `place` of ours. Raises SaveError."""
        from engine.system import files

        self._forget_old()
        path = self.folder / place / f"{slug(prompt or 'Without words')}_plot.png"
        files.save_file(path, data)
        return path

    def copy(self, source: Path, place: str) -> Path:
        """A file's copy in the folder `place` of ours. Raises SaveError."""
        from engine.system import files

        self._forget_old()
        target = self.folder / place / source.name
        files.make_folder(target.parent)
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise files.save_error(target, error) from error
        return target

    def _forget_old(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # a system may have swept it
        for folder in self.folder.iterdir():
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > self._kept_for:
                    shutil.rmtree(folder, ignore_errors=True)
        trim(self.folder, MOST_SAVED)


def check_picture(run: Run, side: str, index: int) -> None:
    """Raises NotPossibleError if the run has no such picture."""
    shown = run.moment.sides.get(side)
    if shown is None or not 0 <= index < len(shown.step.images):
        raise NotPossibleError("That picture is not there any more.")


def archive_of(run: Run, step: int | None = None, *, scale: int = 1) -> dict[str, bytes]:
    """Every picture as a PNG, SHEET and REPORT, by their names; nothing where there are no pictures yet.

    Raises PictureError where all of them, `scale` times as large, are too large.
    """
    pictures: dict[str, bytes] = {}
    told: dict[str, Any] = {}
    shown: list[tuple[str, list[Picture]]] = []
    for side in [name for name in run.titles if name in run.moment.sides]:
        folder = f"{place_of(run, side)}/" if side != OURS else ""
        drawn = step_of(run, side, step)
        indices = range(len(drawn.images))
        names = [f"{folder}{index:02d}_{origin_of(index, drawn)}{size_of(scale)}.png" for index in indices]
        shown.append((run.titles[side], [run.tasks[side].picture(drawn, index) for index in indices]))
        check_enlarged([picture for _, small in shown for picture in small], scale)
        for index, name in zip(indices, names, strict=True):
            pictures[name] = png(run, side, index, drawn, scale=scale)
        told[side] = side_report(run, side, drawn, names)
    if not pictures:
        return {}
    text = json.dumps(report_of(run, told, scale=scale), indent=1, ensure_ascii=False)
    return {REPORT: text.encode(), SHEET: contact_sheet(shown), **pictures}


def side_report(run: Run, side: str, drawn: "Step", names: Sequence[str]) -> dict[str, Any]:
    """What a report says of one step of a side, whose pictures are the files `names`."""
    scores = [] if drawn.text_scores is None else drawn.text_scores.tolist()
    return {
        "title": run.titles[side],
        "step": drawn.step,
        "of": drawn.total,
        "pictures": [
            {"file": name, "seed": int(seed), **({"text_score": round(score, 6)} if score is not None else {})}
            for name, seed, score in zip_longest(names, drawn.particles.seeds, scores)
        ],
        "settings": run.settings_at(side, drawn.step).to_dict(),
    }


def report_of(run: Run, sides: Mapping[str, Any], *, scale: int = 1) -> dict[str, Any]:
    """What made the pictures of a run, as plain JSON values. sides: see `side_report`."""
    from engine.pictures import png_files

    return {
        "program": f"gmi-studio {VERSION}",
        "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "task": run.settings.task,
        "prompt": run.settings.prompt,
        "models": dict(run.model_hashes),
        **png_files.scale_extra(scale),
        "sides": dict(sides),
    }


def check_enlarged(pictures: Sequence["Picture"], scale: int) -> None:
    """Raises PictureError where all of them, `scale` times as large, are too large for one file."""
    if scale > 1 and sum(picture.width * picture.height for picture in pictures) * scale**2 > MOST_ENLARGED:
        raise PictureError(
            f"All pictures together are too large to be saved at {scale}x. Choose a smaller size, or save them one by "
            "one."
        )


def contact_sheet(sides: Sequence[tuple[str, Sequence["Picture"]]]) -> bytes:
    """A PNG of all pictures, a row or more of small ones for each side."""
    import numpy as np
    from PIL import Image

    from engine.pictures import png_files

    columns = min(SHEET_COLUMNS, max(len(pictures) for _, pictures in sides))
    rows = [-(-len(pictures) // columns) for _, pictures in sides]
    gap, between = 8, 24
    cell = min(SHEET_CELL, max(max(picture.size) for _, pictures in sides for picture in pictures))
    width = columns * (cell + gap) + gap
    height = sum(count * (cell + gap) for count in rows) + between * (len(sides) - 1) + gap
    sheet = Image.new("RGB", (width, height), "white")
    top = gap
    for (_, pictures), count in zip(sides, rows, strict=True):
        for index, picture in enumerate(pictures):
            small = Image.fromarray(picture.pixels)
            small.thumbnail((cell, cell), reducing_gap=2.0)
            row, column = divmod(index, columns)
            left = gap + column * (cell + gap) + (cell - small.width) // 2
            sheet.paste(small, (left, top + row * (cell + gap) + (cell - small.height) // 2))
        top += count * (cell + gap) + between
    return png_files.encode_png(np.asarray(sheet), None)


def png(run: Run, side: str, index: int, drawn: "Step", *, scale: int = 1) -> bytes:
    """A picture at full size, or `scale` times that, with its settings, all seeds, its index and the models' hashes
    inside.
    """
    from engine.pictures import picture_files, png_files
    from engine.system.runtime import threads_in_use

    settings = run.settings_at(side, drawn.step)
    metadata = png_files.picture_metadata(
        settings=settings.to_dict(),
        seeds=drawn.particles.seeds,
        index=index,
        models={name: run.model_hashes[name] for name in model_names(settings) if name in run.model_hashes},
        extra={
            **run.job.extras(settings),
            **png_files.parent_extra(run.parent),
            **png_files.scale_extra(scale),
            png_files.THREADS: threads_in_use(),
        },
    )
    metadata = png_files.fitting(metadata)
    if told := png_files.left_out_of(metadata):
        run.say(Notice(told, "warning"))
    picture = picture_files.enlarged(run.tasks[side].picture(drawn, index), scale)
    return picture_files.encode_picture(picture, metadata)


def origin_of(index: int, drawn: "Step") -> str:
    """The seed that a picture grew from and the step it is of, for its file's name."""
    return f"seed-{drawn.particles.seeds[index]}_step-{drawn.step}"


def size_of(scale: int) -> str:
    """How the names of files end whose pictures are saved larger than they are."""
    return f"_{scale}x" if scale > 1 else ""


def name_of(run: Run) -> str:
    """How a run's files begin."""
    return slug(run.job.called(run.settings))


def place_of(run: Run, side: str) -> str:
    """What the files of the pictures beside ours are told by: the other model's name, or that of the side."""
    return slug(shown_name(run.other.model)) if run.other else side
