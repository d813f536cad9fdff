"""A plot of two settings, drawn on the worker: one run after the other, each cell shown as soon as it is done."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.bulk.plot import Cell, Plot, metadata
from engine.errors import LoadingStopped
from gmi_ui.notices import Notice, explain
from gmi_ui.runs.run import OURS, Run
from gmi_ui.runs.work import Phase, Rounds, Work

if TYPE_CHECKING:
    from engine.pictures.png_files import Pixels
    from gmi_ui.models.models import Models

DOING = "Drawing the plot"


@dataclass(frozen=True)
class DrawnCell:
    """What is shown of a cell. pictures: the first ones, [H, W, 3] each, none where it failed; error: why it did."""

    cell: Cell
    pictures: "tuple[Pixels, ...]" = ()
    text_score: float | None = None
    diversity: float | None = None
    error: str = ""


class Plotting(Work):
    """new_run: makes the run of a cell's settings; finished: told each run that came to its end."""

    def __init__(self, plot: Plot, new_run: Callable[[Cell], Run], finished: Callable[[Run], None]) -> None:
        super().__init__()
        self.plot = plot
        self._new_run, self._finished = new_run, finished
        self._drawn: tuple[DrawnCell, ...] = ()
        self._current: Run | None = None
        self._models: dict[str, str] = {}

    @property
    def drawn(self) -> tuple[DrawnCell, ...]:
        """The cells that are done, in the order in which they were: it only grows."""
        return self._drawn

    def stop(self, notice: Notice | None = None) -> None:
        super().stop(notice)
        if self._current is not None:
            self._current.stop()

    def sheet(self) -> bytes:
        """The plot so far as a PNG with everything that it is of inside."""
        from engine.pictures.png_files import encode_png
        from engine.system.runtime import threads_in_use

        drawn = self._drawn
        pictures = {one.cell.place: one.pictures for one in drawn if one.pictures}
        notes = {one.cell.place: one.error for one in drawn if one.error}
        carried = metadata(self.plot, dict(self._models), threads_in_use())
        return encode_png(self.plot.sheet.draw(pictures, notes), carried)

    def carry_out(self, models: "Models") -> Rounds:
        self.enter(Phase.RUNNING)
        for cell in self.plot.by_model:
            yield
            run = self._current = self._new_run(cell)
            try:
                yield from self._run(run, models)
            except LoadingStopped:
                raise
            except Exception as error:  # one cell's; the others go on
                notice = explain(error)
                run.enter(Phase.FAILED, notice)
                self._add(DrawnCell(cell, error=notice.text))
            else:
                self._take(cell, run)
            finally:
                run.stop()  # where the plot was closed in the middle
                self._current = None

    def _run(self, run: Run, models: "Models") -> Rounds:
        run.enter(Phase.LOADING)
        with closing(run.carry_out(models)) as rounds:
            for _ in rounds:
                of_cell = run.moment.step / max(run.total, 1) if run.moment.sides else 0.0
                self.tell(DOING, (len(self._drawn) + of_cell) / len(self.plot.cells))
                yield

    def _take(self, cell: Cell, run: Run) -> None:
        """A run that came to its end."""
        from engine.pictures import imaging

        self._models.update(run.model_hashes)
        self._finished(run)
        run.enter(Phase.DONE)
        step = run.moment.sides[OURS].step
        pictures = imaging.to_uint8(step.pictures[: self.plot.shown])
        score = None if step.text_scores is None else float(step.text_scores.mean())
        self._add(DrawnCell(cell, tuple(pictures), score, step.diversity))

    def _add(self, drawn: DrawnCell) -> None:
        self._drawn = (*self._drawn, drawn)
        self.tell(DOING, len(self._drawn) / len(self.plot.cells))
