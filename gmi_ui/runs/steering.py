"""Sliders and marks that change while a run goes on: what counts from which step, so that the run can be made again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from engine.settings import LIMITS, FlowSettings, GenerateSettings, Mark, RunSettings

AnySettings = TypeVar("AnySettings", bound=RunSettings)

STEERED = ("step_size", "diversity")  # what a run follows while it goes on


def repels(flow: FlowSettings) -> bool:
    """Whether pictures repel each other at any step."""
    return any((flow.diversity, *(diversity for _, _, diversity in flow.changes)))


def before_step(flow: FlowSettings, step: int) -> FlowSettings:
    """The choices with those moves of sliders alone that came before `step`."""
    return replace(flow, changes=tuple(change for change in flow.changes if change[0] < step))


def moved_from(flow: FlowSettings, step: int, step_size: float, diversity: float) -> FlowSettings:
    """The choices with these values from `step` on, in place of all that would have come then."""
    earlier = before_step(flow, step)
    now = earlier.as_moved
    if (now.step_size, now.diversity) == (step_size, diversity):
        return earlier
    return replace(earlier, changes=(*earlier.changes, (step, step_size, diversity)))


def moved_along(other: FlowSettings, ours: FlowSettings, step: int, step_size: float, diversity: float) -> FlowSettings:
    """Another model's choices where `ours` get these values from `step` on.

    Diversity means the same to every model. A step size is each model's own, so it changes by the factor that ours
    has changed by since the run began. What did not move keeps its value.
    """
    now, before = before_step(other, step).as_moved, before_step(ours, step).as_moved
    if step_size == before.step_size:
        step_size = now.step_size
    else:
        low, high = LIMITS["step_size"]
        step_size = min(max(other.step_size * (step_size / ours.step_size), low), high)
    return moved_from(other, step, step_size, now.diversity if diversity == before.diversity else diversity)


def marks_of(settings: RunSettings) -> tuple[Mark, ...]:
    """The marks that were set while a run with these settings went on."""
    return settings.marks if isinstance(settings, GenerateSettings) else ()


def with_marks(settings: AnySettings, marks: Sequence[Mark]) -> AnySettings:
    """The settings of the same run with these marks in place of its own; of a task without marks as they are."""
    if not isinstance(settings, GenerateSettings):
        return settings
    return replace(settings, marks=tuple(marks))


def marks_before(marks: Sequence[Mark], step: int) -> tuple[Mark, ...]:
    """Those that counted for a step's pictures."""
    return tuple(mark for mark in marks if mark.step < step)


def with_mark(marks: Sequence[Mark], mark: Mark) -> tuple[Mark, ...]:
    """One more; of several on one picture at one step the newest alone."""
    same = (mark.step, mark.picture, mark.name)
    return (*(one for one in marks if (one.step, one.picture, one.name) != same), mark)
