"""--video of the commands that make pictures: the run is kept while it goes on, and filmed at its end."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from engine.commands import output
from engine.commands.progress import show_search
from engine.settings import SettingsError

if TYPE_CHECKING:
    from engine.inference.flow import Particles, Step
    from engine.pictures.film import Curve
    from engine.tasks import Task

TITLES = {"ours": "Ours", "baseline": "Baseline"}
_FIGURES = (("text", "Text score"), ("diversity", "Diversity"))


def add_video_options(parser: argparse.ArgumentParser) -> None:
    """A video of the run besides its pictures."""
    parser.add_argument(
        "--video",
        type=Path,
        metavar="FILE",
        help="also a video of the run: a .webp, .gif or, with imageio-ffmpeg, .mp4",
    )
    parser.add_argument(
        "--video-picture", type=int, metavar="I", help="show picture I alone, as its file is numbered (all of them)"
    )
    parser.add_argument("--video-plain", action="store_true", help="draw no curves below the pictures of the video")


@dataclass
class _Side:
    task: "Task"
    kept: "tuple[Particles, ...]" = ()
    newest: "Step | None" = None
    values: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Camera:
    """Keeps what a video needs of the steps of every side."""

    path: Path
    only: int | None = None
    has_curves: bool = True
    _sides: dict[str, _Side] = field(default_factory=dict)

    @classmethod
    def asked_for(cls, options: argparse.Namespace) -> "Camera | None":
        """What the options ask for. Raises SettingsError, PictureError or SaveError for what cannot be."""
        from engine.pictures.video import format_of

        if options.video is None:
            if options.video_picture is not None or options.video_plain:
                raise SettingsError("video: give --video FILE too: where the video goes.")
            return None
        format_of(options.video)
        if options.video_picture is not None and not 0 <= options.video_picture < options.n:
            raise SettingsError(f"video_picture: {options.video_picture} is outside 0 to {options.n - 1}.")
        output.check_file(options.video)
        return cls(options.video, options.video_picture, not options.video_plain)

    def watching(self, name: str, task: "Task", steps: "Iterator[Step]") -> "Iterator[Step]":
        """The steps of a side, each kept as it comes."""
        from engine.pictures.film import thinned

        side = self._sides[name] = _Side(task)
        for step in steps:
            side.newest, side.kept = step, thinned((*side.kept, step.particles))
            if step.text_scores is not None:
                side.values.setdefault("text", []).append(float(step.text_scores.mean()))
            side.values.setdefault("diversity", []).append(step.diversity)
            yield step

    def save(self, words: str) -> None:
        """Draws the video and says on stderr how far it is. Raises SaveError."""
        from engine.pictures.video import format_of, save_video
        from engine.tasks.filming import Filmed, frames

        show = show_search("video")
        sides = [
            Filmed(TITLES[name], side.task, side.newest, side.kept, self._curves(side))
            for name, side in self._sides.items()
            if side.newest is not None
        ]
        save_video(self.path, frames(sides, only=self.only, words=words, watch=show), format_of(self.path))
        show("", 1.0)
        print(f"The video is {self.path}.", file=sys.stderr)

    def _curves(self, side: _Side) -> "list[Curve]":
        from engine.pictures.film import Curve

        return [Curve(label, side.values[key]) for key, label in _FIGURES if self.has_curves and key in side.values]
