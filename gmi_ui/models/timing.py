"""How long models take on this machine: measured from runs, and foretold before one begins.

A step costs about as much for each picture, whatever the prompt: seconds for one picture and step, by model, are all
that has to be remembered, and for each start where some are tried. Before the first run of a model that is slow to
draw, a step of one picture is made and measured.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.settings import SAMPLERS, FlowSettings, GenerateSettings, RunSettings
from gmi_ui.notices import Notice

if TYPE_CHECKING:
    from engine.tasks import Task

# Seconds of a step for one picture over seconds of drawing one: forward and backward, discriminator, prompt model.
STEP_PER_DRAWING = 6.0
SLOW_DRAWING = 0.2  # seconds for one picture, from which a whole step is tried
DRAWN_TOGETHER = 4  # several take less time each than one alone
# Of a step in which codes take turns, in those before: what they try is drawn as well. Measured of mosaic.
TURN_COST = 2.5
WORTH_TELLING = 120.0  # seconds of a run from which its length is told before it begins


class StepTimes:
    """Seconds for one picture and step, by the generator's name. Thread-safe."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, bool], float] = {}  # by the model, and whether codes took turns
        self._tries: dict[str, float] = {}  # seconds of one start that is tried, by the model
        self._lock = threading.Lock()

    def of(self, model: str) -> float | None:
        """None for a model that was not measured yet."""
        return self._seconds.get((model, False))

    def turn_cost(self, model: str) -> float:
        """Of a step in which codes take turns, in those before."""
        plain, turn = (self._seconds.get((model, turns)) for turns in (False, True))
        return turn / plain if plain and turn else TURN_COST

    def searched(self, settings: RunSettings, seconds: float) -> None:
        """The starts of a run were looked for, in that time."""
        if (tried := tries_of(settings)) > 0:
            with self._lock:
                each = seconds / tried
                self._tries[settings.model] = (self._tries.get(settings.model, each) + each) / 2

    def search(self, settings: RunSettings) -> float | None:
        """Seconds that looking for a run's starts will take; None for a model of which that was not measured yet."""
        tried, each = tries_of(settings), self._tries.get(settings.model)
        return 0.0 if tried == 0 else None if each is None else tried * each

    def whole(self, settings: RunSettings) -> float | None:
        """Seconds that all steps of a run will take; None for a model that was not measured yet, and for two."""
        each = self.of(settings.model)
        if each is None or settings.other:
            return None
        return seconds_of_steps(settings.flow, each * pictures_of(settings), self.turn_cost(settings.model))

    def took(self, settings: RunSettings, seconds: float, *, turns: bool = False) -> float:
        """All sides of a run took a step, in that time; returns what the next ones will take.

        turns: whether codes took turns in it.

        Two steps count alike: one alone may have been held up by something else.
        """
        if settings.other:  # two models, and nobody knows which took how much of it
            return seconds
        each = seconds / pictures_of(settings)
        key = settings.model, turns
        with self._lock:
            before = self._seconds.get(key, each)
            self._seconds[key] = (before + each) / 2
            return self._seconds[key] * pictures_of(settings)


def pictures_of(settings: RunSettings) -> int:
    """How many pictures a step of a run draws: those of all sides that move. The plain generator's stand still."""
    is_plain = not settings.other and (settings.preset in SAMPLERS or not settings.prompt)
    is_plain = is_plain and isinstance(settings, GenerateSettings)
    return settings.n * (2 if settings.is_compared and not is_plain else 1)


def tries_of(settings: RunSettings) -> int:
    """How many starts are tried before a run; 0 where none are chosen from."""
    if not isinstance(settings, GenerateSettings):
        return 0
    tried = settings.candidates if settings.candidates > 1 else 0
    return settings.n * tried + (settings.seeds_drawn if settings.choose else 0)


def seconds_of_steps(flow: FlowSettings, step_seconds: float, turn_cost: float) -> float:
    """Of all steps of a run, with those in which codes take turns."""
    return step_seconds * (flow.steps + (turn_cost - 1) * flow.detail_steps)


def foretell(settings: RunSettings, tasks: "Mapping[str, Task]", times: StepTimes) -> float | None:
    """Seconds that a step of a run will take which is about to begin, by earlier runs, or by a trial now."""
    each = times.of(settings.model)
    if each is not None and not settings.other:
        return each * pictures_of(settings)
    if not tasks:
        return None
    share = pictures_of(settings) / len(tasks)
    return sum(seconds_of_step(task) * share for task in tasks.values())


def seconds_of_step(task: "Task") -> float:
    """Of one picture: by drawing it without gradient, of slow models by a step of it alone.

    The first drawing of a network also computes what it keeps of its weights, so what counts comes after it.
    """
    import torch

    drawing = 0.0
    for together in (1, DRAWN_TOGETHER):
        if drawing > SLOW_DRAWING * DRAWN_TOGETHER:
            break  # plainly slow, even for a first time
        latents = task.particles.latents[:together]
        started = time.perf_counter()
        with torch.no_grad():
            task.problem.render(latents)
        drawing = (time.perf_counter() - started) / len(latents)
    if drawing < SLOW_DRAWING:
        return STEP_PER_DRAWING * drawing
    one = replace(task.particles, latents=task.particles.latents[:1], seeds=task.particles.seeds[:1])
    steps = task.steps(None, one)
    started = time.perf_counter()
    next(steps)
    steps.close()
    return time.perf_counter() - started


def notice_of(settings: RunSettings, step_seconds: float, turn_cost: float = TURN_COST) -> Notice | None:
    """What is said before a run that takes long; how long it still takes is told by its progress alone."""
    flow = settings.flow
    seconds = seconds_of_steps(flow, step_seconds, turn_cost)
    if seconds < WORTH_TELLING:
        return None
    return Notice(
        f"This run takes long on this machine: {flow.steps} steps of about {duration(seconds / flow.steps)} for "
        f"{pictures_of(settings)} pictures. Fewer pictures, fewer steps, or nothing beside them take less. Stop keeps "
        "what is there.",
        passing=True,
    )


def duration(seconds: float) -> str:
    """In words: 0.4 s, 40 s, 12 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
