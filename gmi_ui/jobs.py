"""What differs between runs of different tasks: which sides there are, what is measured, how they are begun.

A run (`runs.Run`) knows only a `Job`. A new task of the engine is one class here, and a tab that makes runs of it.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from engine.settings import FlowSettings, RunSettings
from gmi_ui.notices import Notice

if TYPE_CHECKING:
    from engine.flow import Particles, Problem, Step
    from engine.models import GeneratorModel
    from engine.pictures import Picture
    from gmi_ui.models import Models
    from gmi_ui.runs import Run

Steps: TypeAlias = "Generator[Step, FlowSettings | None, None]"


class Figure(NamedTuple):
    """A number over the steps of a side. help: what it says, in a sentence."""

    key: str
    label: str
    help: str


TEXT = Figure("text", "Text score", "Mean cosine of the pictures' and the text's features. Higher fits better.")
DIVERSITY = Figure("diversity", "Diversity", "Mean over pairs of 1 - cosine of image features. Higher differs more.")


class SideTask(Protocol):
    """One side, ready to run: `engine.tasks.Task`, or `Generating` here."""

    @property
    def problem(self) -> "Problem": ...

    def steps(self, flow: FlowSettings | None = None, particles: "Particles | None" = None) -> Steps: ...

    def shown(self, step: "Step") -> "Step":
        """The step with what a person sees of its images."""
        ...

    def picture(self, step: "Step", index: int) -> "Picture": ...


class Console(Protocol):
    """Where a job tells what it is doing."""

    def say(self, notice: Notice) -> None: ...

    def tell(self, doing: str, share: float | None = None) -> None: ...


Prepared: TypeAlias = "Generator[None, None, Mapping[str, SideTask]]"


class Job(Protocol):
    """What a run of one task does."""

    def titles(self, settings: RunSettings) -> Mapping[str, str]:
        """The sides, ours first, with the heading of each."""
        ...

    def figures(self, settings: RunSettings) -> tuple[Figure, ...]: ...

    def measure(self, task: Any, step: "Step") -> Mapping[str, float]:
        """The figures of a step, by key."""
        ...

    def baseline(self, settings: RunSettings) -> RunSettings: ...

    def prepare(self, settings: RunSettings, models: "Models", console: Console) -> Prepared:
        """Loads what the run needs and returns its tasks by side; yields where it may be stopped meanwhile."""
        ...

    def adopt(self, run: "Run") -> None:
        """The run was queued."""
        ...

    def extras(self, settings: RunSettings) -> Mapping[str, Any]:
        """What a saved picture carries besides its settings; plain JSON values."""
        ...


@dataclass(frozen=True)
class Generating:
    """A side of the Generate task."""

    problem: "Problem"
    particles: "Particles"
    settings: RunSettings
    generator: "GeneratorModel"

    def steps(self, flow: FlowSettings | None = None, particles: "Particles | None" = None) -> Steps:
        from engine.flow import refine

        return refine(self.problem, particles or self.particles, flow or self.settings.flow)

    def shown(self, step: "Step") -> "Step":
        return step

    def picture(self, step: "Step", index: int) -> "Picture":
        from engine import imaging
        from engine.pictures import Picture

        return Picture(imaging.to_uint8(step.images[index : index + 1])[0])


class GenerateJob:
    """Pictures for a prompt, beside the same seeds without repulsion."""

    def titles(self, settings: Any) -> Mapping[str, str]:
        return {"ours": "With repulsion"} | ({"baseline": "Baseline"} if settings.baseline else {})

    def figures(self, settings: RunSettings) -> tuple[Figure, ...]:
        return (TEXT, DIVERSITY)

    def measure(self, task: Any, step: "Step") -> Mapping[str, float]:
        return {"text": float(step.text_scores.mean()), "diversity": step.diversity}

    def baseline(self, settings: Any) -> RunSettings:
        from engine import tasks

        return tasks.baseline(settings)

    def prepare(self, settings: Any, models: "Models", console: Console) -> Prepared:
        from engine import tasks

        generator = models.generator(settings.model)
        yield
        prompt_model = models.prompt_model(settings.prompt_model)
        tell_what_was_cut(prompt_model.truncated_words, [settings.prompt], console)
        sides = {"ours": settings} | ({"baseline": self.baseline(settings)} if settings.baseline else {})
        return {
            name: Generating(*tasks.generate(chosen, generator, prompt_model), chosen, generator)
            for name, chosen in sides.items()
        }

    def adopt(self, run: "Run") -> None:
        pass

    def extras(self, settings: RunSettings) -> Mapping[str, Any]:
        return {}


GENERATE = GenerateJob()


def tell_what_was_cut(truncated_words: Callable[[str], str], texts: Sequence[str], console: Console) -> None:
    """Says which words the prompt model does not read."""
    for text in texts:
        if text and (cut := truncated_words(text)):
            console.say(Notice(f"The prompt is longer than the model reads. Left out: “{shortened(cut)}”", "warning"))


def shortened(text: str, limit: int = 120) -> str:
    """The text, its middle left out where it is long."""
    return text if len(text) <= limit else f"{text[: limit // 2].rstrip()} … {text[-limit // 2 :].lstrip()}"
