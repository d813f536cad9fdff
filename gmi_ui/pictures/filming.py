"""A run's video, drawn on the worker: the page goes on meanwhile, and can end it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gmi_ui.models.models import watch_of
from gmi_ui.notices import NotPossibleError
from gmi_ui.pictures.saving import Pictures, check_picture, name_of
from gmi_ui.runs.run import BASELINE, OURS, Run
from gmi_ui.runs.work import Phase, Rounds, Work

if TYPE_CHECKING:
    from engine.pictures.film import Curve
    from engine.pictures.video import VideoFormat
    from engine.tasks.filming import Filmed
    from gmi_ui.models.models import Models

BOTH = "both"
TOO_SHORT = "Of this run only the newest step was kept, so there is nothing that moves. Press Run for a new one."


@dataclass(frozen=True)
class FilmChoice:
    """What a video shows. side: "ours", "baseline" or BOTH; index: one picture, None: all."""

    kind: "VideoFormat"
    side: str = BOTH
    index: int | None = None
    has_curves: bool = True

    def sides_of(self, run: Run) -> list[str]:
        """The sides that are shown. Raises NotPossibleError for one, or a picture, that is not there."""
        if self.side not in (OURS, BASELINE, BOTH):
            raise NotPossibleError("That picture is not there any more.")
        names = [name for name in run.titles if name in run.moment.sides and self.side in (name, BOTH)]
        if not names:
            raise NotPossibleError("There are no pictures to save yet.")
        for name in names:
            check_picture(run, name, self.index or 0)
        return names


class Filming(Work):
    """Writes the video of a run to `path`, which is there once the work is done."""

    def __init__(self, run: Run, choice: FilmChoice, pictures: Pictures) -> None:
        super().__init__()
        self._run, self._choice = run, choice
        self._sides = choice.sides_of(run)
        what = "" if choice.index is None else f"_picture-{choice.index + 1}"
        name = f"{name_of(run)}_seed-{run.settings.seed}{what}_{choice.side}.{choice.kind}"
        self.path: Path = pictures.place_for(run, name)

    def carry_out(self, models: "Models") -> Rounds:
        from engine.pictures.video import save_video
        from engine.tasks.filming import frames

        self.enter(Phase.RUNNING)
        yield
        sides = [self._filmed(name) for name in self._sides]
        if all(len(side.kept) < 2 for side in sides):
            raise NotPossibleError(TOO_SHORT)
        words = self._run.job.words(self._run.settings)
        shown = frames(sides, only=self._choice.index, words=words, watch=watch_of(self))
        save_video(self.path, shown, self._choice.kind)

    def _filmed(self, name: str) -> "Filmed":
        from engine.tasks.filming import Filmed

        run, side = self._run, self._run.moment.sides[name]
        kept = [one.particles for one in side.kept]
        return Filmed(run.titles[name], run.tasks[name], side.step, kept, self._curves(name))

    def _curves(self, name: str) -> "list[Curve]":
        from engine.pictures.film import Curve

        side = self._run.moment.sides[name]
        figures = self._run.figures if self._choice.has_curves else ()
        return [Curve(figure.label, side.curves[figure.key], side.first) for figure in figures]
