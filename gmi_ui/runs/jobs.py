"""What differs between runs of different tasks: which sides there are, what is measured, how they are begun.

A run (`runs.Run`) knows only a `Job`. A new task of the engine is one class here, and a tab that makes runs of it.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

from engine.settings import FlowSettings, RunSettings
from gmi_ui.models.models import watch_of
from gmi_ui.notices import Notice

if TYPE_CHECKING:
    from engine.inference.flow import Particles, Problem, Step
    from engine.models.loading import GeneratorModel
    from engine.pictures.picture_files import Picture
    from gmi_ui.models.models import Models
    from gmi_ui.runs.run import Run

AnySettings = TypeVar("AnySettings", bound=RunSettings)
Steps: TypeAlias = "Generator[Step, FlowSettings | None, None]"


class Figure(NamedTuple):
    """A number over the steps of a side. help: what it says, in a sentence."""

    key: str
    label: str
    help: str


TEXT = Figure("text", "Text score", "Mean cosine of the pictures' and the text's features. Higher fits better.")
DIVERSITY = Figure("diversity", "Diversity", "Mean over pairs of 1 - cosine of image features. Higher differs more.")


NOT_COMPARABLE = "Each side is judged by its own prompt model, so the numbers of the two do not compare."


class Stage(NamedTuple):
    """Where a run of two stages is. begins: the share of the steps before the second one."""

    number: int
    text: str
    begins: float


STAGE_TEXTS = ("all codes together", "codes in turn")


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

    @property
    def is_stopping(self) -> bool: ...


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
        from engine.inference.flow import refine

        return refine(self.problem, particles or self.particles, flow or self.settings.flow)

    def shown(self, step: "Step") -> "Step":
        return step

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the pictures may be of; none where there are no classes."""
        from engine.latents.classes import ClassSpace

        space = self.problem.space
        return tuple(space.names[number] for number in space.classes) if isinstance(space, ClassSpace) else ()

    def labels(self, step: "Step") -> tuple[str, ...]:
        """The class of each picture; none where there are no classes."""
        from engine.latents.classes import ClassSpace

        space = self.problem.space
        if not isinstance(space, ClassSpace):
            return ()
        shares, own = space.weights(step.particles.latents).max(1)
        names = [space.names[space.classes[number]] for number in own.tolist()]
        if not space.relaxed:
            return tuple(names)
        return tuple(f"{name} {100 * share:.0f} %" for name, share in zip(names, shares.tolist(), strict=True))

    def stage(self, step: "Step") -> "Stage | None":
        """Which of the two stages the step is in; None where there is only one."""
        from engine.inference.flow import Partwise

        flow = self.settings.flow
        if not flow.detail_steps or not isinstance(self.problem.space, Partwise):
            return None
        return Stage(step.stage, STAGE_TEXTS[step.stage - 1], (flow.steps - flow.detail_steps) / flow.steps)

    def picture(self, step: "Step", index: int) -> "Picture":
        from engine.pictures import imaging
        from engine.pictures.picture_files import Picture

        return Picture(imaging.to_uint8(step.images[index : index + 1])[0])


class GenerateJob:
    """Pictures for a prompt, beside the same seeds without repulsion or the pictures of another model."""

    def titles(self, settings: Any) -> Mapping[str, str]:
        if settings.beside:
            return {"ours": heading(settings), "baseline": heading(settings.beside)}
        return {"ours": "With repulsion"} | ({"baseline": "Baseline"} if settings.baseline else {})

    def figures(self, settings: Any) -> tuple[Figure, ...]:
        if not settings.beside or settings.beside.prompt_model == settings.prompt_model:
            return (TEXT, DIVERSITY)
        return tuple(figure._replace(help=f"{figure.help} {NOT_COMPARABLE}") for figure in (TEXT, DIVERSITY))

    def measure(self, task: Any, step: "Step") -> Mapping[str, float]:
        return {"text": float(step.text_scores.mean()), "diversity": step.diversity}

    def baseline(self, settings: Any) -> RunSettings:
        from engine import tasks

        return settings.beside or tasks.baseline(settings)

    def sides(self, settings: Any) -> Mapping[str, Any]:
        """The settings of each side."""
        return {name: settings if name == "ours" else self.baseline(settings) for name in self.titles(settings)}

    def prepare(self, settings: Any, models: "Models", console: Console) -> Prepared:
        from engine import tasks

        prepared: dict[str, Generating] = {}
        for name, chosen in self.sides(settings).items():
            generator = models.generator(chosen.model)
            yield
            prompt_model = models.prompt_model(chosen.prompt_model)
            if name == "ours" or chosen.prompt_model != settings.prompt_model:
                tell_what_was_cut(prompt_model.truncated_words, [chosen.prompt], console)
            if prepared and not settings.beside:  # the baseline differs in the flow alone
                prepared[name] = replace(prepared["ours"], settings=chosen)
                continue
            yield
            watch = watch_of(console)  # where starts are looked for, hundreds of pictures are drawn for each
            made = tasks.generate(chosen, generator, prompt_model, watch=watch)
            prepared[name] = Generating(*made, chosen, generator)
        return prepared

    def adopt(self, run: "Run") -> None:
        pass

    def extras(self, settings: RunSettings) -> Mapping[str, Any]:
        return {}


GENERATE = GenerateJob()


def heading(settings: RunSettings) -> str:
    """A side's models, as a person reads them above its pictures."""
    return f"{shown_name(settings.model)}, judged by {shown_name(settings.prompt_model)}"


def shown_name(model: str) -> str:
    """A model's name; of a path, its last part."""
    return model.replace("\\", "/").rstrip("/").rpartition("/")[2] or model


def as_moved(settings: AnySettings) -> AnySettings:
    """Plain runs, the model's and that of another beside it: with every slider as it was last moved, to the end."""
    beside: RunSettings | None = getattr(settings, "beside", None)
    others: dict[str, Any] = {"beside": as_moved(beside)} if beside else {}
    return replace(settings, flow=settings.flow.as_moved, **others)


def model_names(settings: RunSettings) -> tuple[str, ...]:
    """Every model that a run with these settings loads."""
    beside: RunSettings | None = getattr(settings, "beside", None)
    return (settings.model, settings.prompt_model, *(model_names(beside) if beside else ()))


def tell_what_was_cut(truncated_words: Callable[[str], str], texts: Sequence[str], console: Console) -> None:
    """Says which words the prompt model does not read."""
    for text in texts:
        if text and (cut := truncated_words(text)):
            console.say(Notice(f"The prompt is longer than the model reads. Left out: “{shortened(cut)}”", "warning"))


def shortened(text: str, limit: int = 120) -> str:
    """The text, its middle left out where it is long."""
    return text if len(text) <= limit else f"{text[: limit // 2].rstrip()} … {text[-limit // 2 :].lstrip()}"
