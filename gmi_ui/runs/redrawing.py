"""Earlier steps of a run, drawn again from the particles that were kept of them."""

from dataclasses import replace
from typing import TYPE_CHECKING

from gmi_ui.notices import NotPossibleError
from gmi_ui.runs.run import Run
from gmi_ui.runs.work import KeptStep, Side

if TYPE_CHECKING:
    from engine.inference.flow import Step


def step_of(run: Run, side: str, step: int | None = None) -> "Step":
    """A side's newest step, or the one kept at or before `step`. Raises NotPossibleError if it is gone."""
    shown = run.pictured(side, step)
    return shown.step if isinstance(shown, Side) else redrawn(run, side, shown)


def redrawn(run: Run, side: str, kept: KeptStep) -> "Step":
    """The step as it was, pictures included; its log-values and features stay those of the newest step."""
    from engine.tasks import task

    if side not in run.tasks:
        raise NotPossibleError("That picture is not there any more.")
    newest = run.moment.sides[side].step
    scored = replace(newest, text_scores=kept.text_scores, fits=kept.fits)
    return task.redrawn(run.tasks[side], scored, kept.particles)
