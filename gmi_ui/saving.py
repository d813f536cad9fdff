"""Pictures as files to download: PNGs with everything that made them inside, alone or in a zip."""

import atexit
import re
import shutil
import tempfile
import time
from pathlib import Path

from engine.settings import GenerateSettings
from gmi_ui.notices import NotPossibleError
from gmi_ui.runs import BASELINE, Run

KEPT_FOR = 3600.0  # seconds


class Pictures:
    """Writes files into a folder of its own, which the server may serve.

    A file is there to be fetched at once, under its own name: after KEPT_FOR seconds it may go.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or temporary_folder()

    def save_one(self, run: Run, side: str, index: int) -> Path:
        """One picture. Raises NotPossibleError if it is not there, SaveError if it cannot be written."""
        from engine import imaging

        data = png(run, side, index)
        suffix = "_baseline" if side == BASELINE else ""
        name = f"{slug(run.settings.prompt)}_{seed_of(run, side, index)}{suffix}.png"
        path = self.folder / run.id / name
        self._forget_old()
        imaging.save_file(path, data)
        return path

    def save_all(self, run: Run) -> Path:
        """Every picture of every side, the baseline in a folder of its own. Raises as `save_one`."""
        from engine import imaging

        files = {}
        for side, shown in run.moment.sides.items():
            folder = "baseline/" if side == BASELINE else ""
            for index in range(len(shown.step.images)):
                files[f"{folder}{index:02d}.png"] = png(run, side, index)
        if not files:
            raise NotPossibleError("There are no pictures to save yet.")
        path = self.folder / run.id / f"{slug(run.settings.prompt)}_{run.settings.seed}.zip"
        self._forget_old()
        imaging.save_zip(path, files)
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


def png(run: Run, side: str, index: int) -> bytes:
    """A picture at full size with its settings, all seeds, its index and the models' hashes inside."""
    from engine import imaging

    shown = run.moment.sides.get(side)
    if shown is None or not 0 <= index < len(shown.step.images):
        raise NotPossibleError("That picture is not there any more.")
    metadata = imaging.picture_metadata(
        settings=side_settings(run, side).to_dict(),
        seeds=shown.step.particles.seeds,
        index=index,
        models=run.model_hashes,
    )
    return imaging.encode_png(imaging.to_uint8(shown.step.images[index : index + 1])[0], metadata)


def side_settings(run: Run, side: str) -> GenerateSettings:
    """The settings that one side ran with, sliders moved during the run included."""
    from engine import tasks

    return tasks.baseline(run.final_settings) if side == BASELINE else run.final_settings


def seed_of(run: Run, side: str, index: int) -> int:
    """The seed that a picture grew from."""
    return run.moment.sides[side].step.particles.seeds[index]


def slug(text: str, limit: int = 48) -> str:
    """A file name from a prompt: its letters and digits, of any script."""
    words = re.sub(r"[\W_]+", "-", text.casefold()).strip("-")
    return words[:limit].rstrip("-") or "picture"
