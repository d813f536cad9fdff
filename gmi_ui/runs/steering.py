"""Sliders that move while a run goes on: what each side's choices are then, so that the run can be made again."""

from dataclasses import replace

from engine.settings import LIMITS, FlowSettings

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
