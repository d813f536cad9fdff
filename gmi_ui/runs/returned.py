"""A run that was left by its page, or by a studio that was killed: drawn again as it was, from its particles."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.settings import RunSettings
from gmi_ui.notices import NotPossibleError
from gmi_ui.runs.job import Job, model_names
from gmi_ui.runs.run import Run
from gmi_ui.runs.work import KeptStep, Phase, Rounds, Side

if TYPE_CHECKING:
    from engine.inference.flow import Particles
    from engine.tasks.marks import Marked
    from gmi_ui.models.models import Models

CHANGED = (
    "{} changed since, so the pictures of your last run cannot be drawn again. Its settings are back: press Run to "
    "make others."
)


class LeftSide(NamedTuple):
    """What is kept of a side: where its particles were, and its figures at every step."""

    particles: "Particles"
    curves: Mapping[str, tuple[float, ...]]


class ReturnedRun(Run):
    """Shows the newest step of every side again and rests there; it can be continued where it was not at its end."""

    begins_anew = False

    def __init__(
        self,
        settings: RunSettings,
        job: Job[Any],
        left: Mapping[str, LeftSide],
        hashes: Mapping[str, str],
        *,
        parent: str = "",
        marked: "Marked | None" = None,
    ) -> None:
        super().__init__(settings, job, parent=parent)
        self.marked = marked
        self._left, self._left_hashes = left, hashes

    @property
    def is_as_left(self) -> bool:
        """Whether no step was made since."""
        return all(side.step.step <= self._left[name].particles.step for name, side in self.moment.sides.items())

    def carry_out(self, models: "Models") -> Rounds:
        if self.moment.sides:
            yield from super().carry_out(models)
            return
        self.tasks = yield from self.job.prepare(self.settings, models, self)
        self.model_hashes = {name: models.hash_of(name) or "" for name in model_names(self.settings)}
        changed = [name for name, sha256 in self.model_hashes.items() if self._left_hashes.get(name) != sha256]
        if changed:
            raise NotPossibleError(CHANGED.format(" and ".join(changed)))
        self.enter(Phase.RUNNING)
        for name in self.tasks.keys() & self._left.keys():
            yield
            self.show({name: self._as_it_was(name)})
        if self.moment.step < self.total:
            self.stop()
            yield

    def _as_it_was(self, name: str) -> Side:
        task, left = self.tasks[name], self._left[name]
        like = task.particles.latents
        momentum = left.particles.momentum
        particles = replace(
            left.particles,
            latents=left.particles.latents.to(like),
            momentum=momentum and {key: value.to(like.device) for key, value in momentum.items()},
        )
        steps = task.steps(self.flows_from(particles.step)[name], particles)
        step = next(steps)
        steps.close()
        return Side(step, left.curves, (KeptStep(step.particles, step.text_scores, step.fits, step.features),))
