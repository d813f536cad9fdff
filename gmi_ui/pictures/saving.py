"""Pictures as files to download: PNGs with everything that made them inside, alone or in a zip."""

import atexit
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gmi_ui.models.models import shown_name
from gmi_ui.notices import Notice, NotPossibleError
from gmi_ui.runs.job import model_names
from gmi_ui.runs.redrawing import step_of
from gmi_ui.runs.run import OURS, Run

if TYPE_CHECKING:
    from engine.inference.flow import Step

KEPT_FOR = 3600.0  # seconds


class Pictures:
    """Writes files into a folder of its own, which the server may serve.

    A file is there to be fetched at once, under its own name: after KEPT_FOR seconds it may go.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or temporary_folder()

    def save_one(self, run: Run, side: str, index: int, step: int | None = None) -> Path:
        """One picture, of the newest step or a kept one.

        Raises NotPossibleError if it is not there, SaveError if it cannot be written.
        """
        from engine.system import files

        check_picture(run, side, index)
        data = png(run, side, index, step_of(run, side, step))
        suffix = f"_{place_of(run, side)}" if side != OURS else ""
        name = f"{name_of(run)}_{seed_of(run, side, index)}{suffix}.png"
        path = self.folder / run.id / name
        self._forget_old()
        files.save_file(path, data)
        return path

    def save_all(self, run: Run, step: int | None = None) -> Path:
        """Every picture of every side, those beside ours in a folder of their own. Raises as `save_one`."""
        from engine.system import files

        pictures = {}
        for side, shown in run.moment.sides.items():
            folder = f"{place_of(run, side)}/" if side != OURS else ""
            drawn = step_of(run, side, step)
            for index in range(len(shown.step.images)):
                pictures[f"{folder}{index:02d}.png"] = png(run, side, index, drawn)
        if not pictures:
            raise NotPossibleError("There are no pictures to save yet.")
        path = self.folder / run.id / f"{name_of(run)}_{run.settings.seed}.zip"
        self._forget_old()
        files.save_zip(path, pictures)
        return path

    def _forget_old(self) -> None:
        for folder in self.folder.iterdir():
            if time.time() - folder.stat().st_mtime > KEPT_FOR:
                shutil.rmtree(folder, ignore_errors=True)


def temporary_folder() -> Path:
    """A folder that goes when the program ends."""
    folder = Path(tempfile.mkdtemp(prefix="studio-")).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def check_picture(run: Run, side: str, index: int) -> None:
    """Raises NotPossibleError if the run has no such picture."""
    shown = run.moment.sides.get(side)
    if shown is None or not 0 <= index < len(shown.step.images):
        raise NotPossibleError("That picture is not there any more.")


def png(run: Run, side: str, index: int, drawn: "Step") -> bytes:
    """A picture at full size with its settings, all seeds, its index and the models' hashes inside."""
    from engine.pictures import picture_files, png_files

    settings = run.settings_at(side, drawn.step)
    metadata = png_files.picture_metadata(
        settings=settings.to_dict(),
        seeds=drawn.particles.seeds,
        index=index,
        models={name: run.model_hashes[name] for name in model_names(settings) if name in run.model_hashes},
        extra=run.job.extras(settings),
    )
    metadata = png_files.fitting(metadata)
    if told := png_files.left_out_of(metadata):
        run.say(Notice(told, "warning"))
    return picture_files.encode_picture(run.tasks[side].picture(drawn, index), metadata)


def seed_of(run: Run, side: str, index: int) -> int:
    """The seed that a picture grew from."""
    return run.moment.sides[side].step.particles.seeds[index]


def name_of(run: Run) -> str:
    """How a run's files begin."""
    return slug(run.settings.prompt or "repainted")


def place_of(run: Run, side: str) -> str:
    """What the files of the pictures beside ours are told by: the other model's name, or that of the side."""
    return slug(shown_name(run.other.model)) if run.other else side


def slug(text: str, limit: int = 48) -> str:
    """A file name from a prompt: its letters and digits, of any script."""
    words = re.sub(r"[\W_]+", "-", text.casefold()).strip("-")
    return words[:limit].rstrip("-") or "picture"
