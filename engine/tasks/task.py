"""What every task makes of its settings and models: a `Task`, ready to run, of which page and command line know all."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor

from engine.families.declaration import SEARCHING
from engine.inference.flow import Particles, Problem, Step, ending_cost, refine
from engine.inference.terms import Extractor
from engine.latents.spaces import LatentSpace
from engine.pictures import imaging
from engine.pictures.picture_files import Picture
from engine.settings import SAMPLERS, EditSettings, FlowSettings, GenerateSettings, RunSettings, TranslateSettings
from engine.system.files import Watch
from engine.tasks.inversion import Start

AnySettings = TypeVar("AnySettings", bound=RunSettings)
Flow = Generator[Step, FlowSettings | None, None]


class GeneratorLike(Protocol):
    """What the tasks need of `loading.GeneratorModel`."""

    @property
    def name(self) -> str: ...

    @property
    def family(self) -> str: ...

    @property
    def references(self) -> Mapping[str, Tensor]: ...

    @property
    def spaces(self) -> Mapping[str, LatentSpace]: ...

    @property
    def default_space(self) -> str: ...

    @property
    def discriminator(self) -> Extractor | None: ...

    @property
    def draft_resolution(self) -> int: ...

    def render(self, latents: Tensor, space: str | LatentSpace, *, draft: bool = False) -> Tensor: ...


class PromptModelLike(Protocol):
    """What the tasks need of `clip.PromptModel`."""

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def logit_scale(self) -> float: ...

    def image_features(self, images: Tensor) -> Tensor: ...

    def text_features(self, texts: Sequence[str]) -> Tensor: ...


class CodeStage(NamedTuple):
    """Where a run of codes is that has two stages. begins: the share of the steps before the second one."""

    number: int
    text: str
    begins: float


@dataclass(frozen=True, eq=False)
class Task:
    """A run, ready to go: its problem, where its particles start, and what becomes of a step.

    `generate`, `edit` and `inpaint` each return one; what differs between them is a method here.
    """

    settings: RunSettings
    problem: Problem
    particles: Particles
    generator: GeneratorLike

    def steps(self, flow: FlowSettings | None = None, particles: Particles | None = None) -> Flow:
        """The run, from its start or from the particles of one of its steps; as `flow.refine`, each step as `shown`."""
        steps = self._iterate(particles or self.particles, self._own_flow(flow or self.settings.flow))
        new_flow: FlowSettings | None = None
        try:
            step = next(steps)
            while True:
                new_flow = yield self.shown(step)
                step = steps.send(None if new_flow is None else self._own_flow(new_flow))
        except StopIteration:
            return
        finally:
            steps.close()

    @property
    def ending_cost(self) -> float:
        """How many steps' time the run takes beyond its steps."""
        return ending_cost(self.problem.space)

    @property
    def aim(self) -> str:
        """A sentence of what the pictures move towards where no words say it; empty where words do."""
        return ""

    def baseline(self) -> Self:
        """What this run is compared with, from the same particles; only of tasks that prepare nothing anew for it."""
        return replace(self, settings=baseline(self.settings))

    def shown(self, step: Step) -> Step:
        """The step with what a person sees of its images."""
        return step

    def picture(self, step: Step, index: int) -> Picture:
        """What is saved of a result."""
        return Picture(imaging.to_uint8(step.picture(index))[0])

    def figures(self, step: Step) -> dict[str, Any]:
        """What the report says of the results besides text scores and diversity: numbers by name, lists with one for
        each particle."""
        return {}

    def progress(self, step: Step) -> Mapping[str, float]:
        """Numbers by name that are told of every step, besides text scores and diversity."""
        return {}

    def labels(self, step: Step) -> tuple[str, ...]:
        """What each picture is besides, such as its class; empty where there is nothing to say."""
        return ()

    def stage(self, step: Step) -> CodeStage | None:
        """Which of the two stages of a run of codes the step is in; None where there is only one."""
        return None

    def start(self, step: Step, index: int) -> Start | None:
        """Where an edit of one result starts; None where its model cannot edit it as it is."""
        return None

    def _iterate(self, particles: Particles, flow: FlowSettings) -> Flow:
        """Of step 0 alone, as where the model alone is the baseline, nothing moves."""
        if flow.until == 0:
            return standing_still(self.problem, particles, flow)
        return refine(self.problem, particles, flow)

    def _own_flow(self, flow: FlowSettings) -> FlowSettings:
        """What the method makes of the settings."""
        return flow


def redrawn(task: Task, newest: Step, particles: Particles) -> Step:
    """An earlier step of the task's run with its pictures, drawn again from the particles that were kept of it.

    Its log-values, features and scores are those of the newest step.
    """
    with torch.no_grad():
        images = task.problem.pictures(particles.latents, None)
    return task.shown(replace(newest, particles=particles, images=images, draw=None, step=particles.step))


def standing_still(problem: Problem, particles: Particles, flow: FlowSettings) -> Flow:
    """As `flow.refine`, but nothing moves: the pictures that the particles begin at, at every step.

    Where terms look at drafts, the last step is described by the pictures themselves, as there.
    """
    step = _first(problem, particles, flow)
    while True:
        flow = (yield step) or flow
        if step.step >= flow.steps:
            return
        moved = replace(step.particles, step=step.step + 1)
        if problem.show is not None and moved.step >= flow.steps:
            step = _first(problem, moved, flow)
        else:
            step = replace(step, particles=moved, step=moved.step, total=flow.steps, seconds=0.0)


def _first(problem: Problem, particles: Particles, flow: FlowSettings) -> Step:
    steps = refine(problem, particles, flow)
    step = next(steps)
    steps.close()
    return step


def without_repulsion(settings: AnySettings) -> AnySettings:
    """The same run from the same seeds without repulsion."""
    return replace(settings, flow=replace(settings.flow, diversity=0.0))


def model_alone(settings: AnySettings) -> AnySettings:
    """The same run without a move: what the generator draws at where the particles begin."""
    return replace(settings, flow=replace(settings.flow, until=0))


def baseline(settings: AnySettings) -> AnySettings:
    """The run that `settings` are compared with: without repulsion; of an edit or a translation, by the baseline named.

    Without words, and of others' samplers, it is the plain generator, whose pictures are those of step 0 (Zhou et al.
    2022, Table 1). Raises ValueError for settings that name none.
    """
    if isinstance(settings, EditSettings | TranslateSettings) and settings.baseline != "no repulsion":
        if settings.baseline == "none":
            raise ValueError("These settings ask for no baseline.")
        chosen: Any = settings
        return replace(chosen, method=settings.baseline)
    if isinstance(settings, GenerateSettings) and (not settings.prompt or settings.preset in SAMPLERS):
        return model_alone(settings)
    return without_repulsion(settings)


def particle_seeds(seed: int, n: int) -> tuple[int, ...]:
    """seed, seed + 1, ...: any particle's start can be asked for again by its own seed."""
    return tuple((seed + i) % 2**32 for i in range(n))


@torch.no_grad()
def fittest(candidates: Tensor, score: Callable[[Tensor], Tensor], at_once: int, watch: Watch | None = None) -> Tensor:
    """Of its candidates [N, C, ...] each particle's that scores highest and that no earlier particle has: [N, ...].

    Two particles at one place would not repel each other; one has another's only where it has none of its own left.
    score: [M, ...] -> [M], asked for `at_once` at a time. watch: told before each time, may raise to end it.
    """
    distinct, which = candidates.flatten(0, 1).unique(dim=0, return_inverse=True)
    scores: list[Tensor] = []
    for part in distinct.split(at_once):
        if watch is not None:
            watch(SEARCHING, len(scores) * at_once / len(distinct))
        scores.append(score(part))
    found = torch.cat(scores)
    best: list[int] = []
    for own in which.view(candidates.shape[:2]):
        free = own[~torch.isin(own, torch.tensor(best, dtype=own.dtype, device=own.device))]
        own = free if len(free) else own
        best.append(int(own[found[own].argmax()]))
    return distinct[best]
