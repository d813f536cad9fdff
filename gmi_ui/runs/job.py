"""What a run knows of its task: which sides there are, what is measured, how they are begun.

`run.Run` knows only a `Job`. A new task of the engine is one class in `gmi_ui/jobs`, and a tab that makes runs of it.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from engine.families import find_family
from engine.settings import FlowSettings, RunSettings
from gmi_ui.notices import Notice
from gmi_ui.runs.steering import repels, with_marks

if TYPE_CHECKING:
    from engine.inference.flow import Step
    from engine.pictures.picture_files import Picture
    from engine.tasks import Task
    from engine.tasks.inversion import Start
    from engine.tasks.marks import Marked
    from gmi_ui.models.models import Models
    from gmi_ui.runs.work import Moment

AnySettings = TypeVar("AnySettings", bound=RunSettings)
Steps: TypeAlias = "Generator[Step, FlowSettings | None, None]"
Prepared: TypeAlias = "Generator[None, None, Mapping[str, Task]]"

OWN_PICTURES = ("edit", "inpaint", "translate")  # the tabs that hand their pictures to each other


class Figure(NamedTuple):
    """A number over the steps of a side. help: what it says, in a sentence."""

    key: str
    label: str
    help: str


TEXT = Figure("text", "Text score", "Mean cosine of the pictures' and the text's features. Higher fits better.")
FIT = Figure(
    "fit", "Fit", "Mean share of random captions that fit a picture worse than its prompt: the same of any model."
)
DIVERSITY = Figure("diversity", "Diversity", "Mean over pairs of 1 - cosine of image features. Higher differs more.")
PLAIN = "The model alone"  # a side on which nothing moves


class Variation(NamedTuple):
    """What an inpainting run showed: the masked share of the crop, and the diversity in the hole."""

    share: float
    ours: float
    baseline: float | None


class Console(Protocol):
    """Where a job tells how far its preparation is."""

    def say(self, notice: Notice) -> None: ...

    def tell(self, doing: str, share: float | None = None) -> None: ...

    @property
    def is_stopping(self) -> bool: ...


class Job(Generic[AnySettings]):
    """One task as the page sees it. What most tasks have in common is here; each says what differs."""

    has_marks: bool = False  # whether pictures can be liked, be what others are to be unlike, and be pinned
    origin: int | None = None  # the number of the picture version that the run begins at
    mask: bytes | None = None  # PNG, white is repainted

    def has_map(self, settings: AnySettings) -> bool:
        """Whether the pictures of all sides are shown in one plane."""
        return False

    def titles(self, settings: AnySettings) -> Mapping[str, str]:
        """The sides that a run has, "ours" first, and what a person reads above each."""
        ours = "With repulsion" if repels(settings.flow) else "Without repulsion"
        return {"ours": ours} | ({"baseline": "Baseline"} if settings.is_compared else {})

    def figures(self, settings: AnySettings) -> tuple[Figure, ...]:
        """What is drawn as curves."""
        return (TEXT, DIVERSITY)

    def measure(self, task: "Task", step: "Step") -> Mapping[str, float]:
        """A step's figures by key."""
        text = {} if step.text_scores is None else {"text": float(step.text_scores.mean())}
        fit = {} if step.fits is None else {"fit": float(step.fits.mean())}
        return {**text, **fit, **task.progress(step), "diversity": step.diversity}

    def baseline(self, settings: AnySettings) -> RunSettings:
        """The settings of the side beside ours."""
        from engine import tasks

        return tasks.baseline(settings)

    def prepare(self, settings: AnySettings, models: "Models", console: Console) -> Prepared:
        """Loads what the run needs and returns its tasks by side; yields where it may be stopped meanwhile."""
        raise NotImplementedError

    def extras(self, settings: AnySettings) -> Mapping[str, Any]:
        """What a saved picture carries besides its settings; plain JSON values."""
        return {}

    def began_at(self) -> "Picture | None":
        """The picture that the run begins at; None where there is none."""
        return None

    def before(self, settings: AnySettings) -> str | None:
        """The picture before the run, as base64 JPEG; None where there was none."""
        return None

    def words(self, settings: AnySettings) -> str:
        """What a result shows as a whole, in the words that made it; empty where no words say so."""
        return settings.prompt

    def called(self, settings: AnySettings) -> str:
        """What results are called, in files' names and beside versions of a picture."""
        return settings.prompt

    def leads_to(self, task: "Task") -> Sequence[str]:
        """The tabs that can work on a side's pictures."""
        return OWN_PICTURES

    def start(self, task: "Task", step: "Step", index: int) -> "Start | None":
        """Where a result lies in its run's model; None where that has to be found."""
        return task.start(step, index)

    def pinned(self, settings: AnySettings) -> frozenset[int]:
        """The places of the pictures that the settings pin."""
        return frozenset()

    def marked(self, task: "Task", marks: "Marked") -> "Task":
        """The task where these marks are in force; only of jobs that have marks."""
        return task

    def variation(self, moment: "Moment") -> Variation | None:
        """What a run in a hole has shown so far; None of other tasks."""
        return None


def can_be_edited(task: "Task") -> bool:
    """Whether the side's own model can edit its pictures."""
    return "edit" in find_family(task.generator.family).possible_tasks


def as_moved(settings: AnySettings) -> AnySettings:
    """Plain runs, the model's and that of another beside it: with every slider as it was last moved, to the end, and
    without the marks that were set meanwhile."""
    others: dict[str, Any] = {"beside": as_moved(settings.other)} if settings.other else {}
    return with_marks(replace(settings, flow=settings.flow.as_moved, **others), ())


def model_names(settings: RunSettings) -> tuple[str, ...]:
    """Every model that a run with these settings loads."""
    return (settings.model, settings.prompt_model, *(model_names(settings.other) if settings.other else ()))


def tell_what_was_cut(truncated_words: Callable[[str], str], texts: Sequence[str], console: Console) -> None:
    """Says which words the prompt model does not read."""
    for text in texts:
        if text and (cut := truncated_words(text)):
            console.say(
                Notice(
                    f"The prompt is longer than the model reads. Left out: “{shortened(cut)}”",
                    "warning",
                    of_controls=True,
                )
            )


def tell_doubts(prompt: str, generator: Any, prompt_model: Any, console: Console) -> None:
    """Says what of the prompt the models do not know."""
    from engine.models.domain import doubt

    if found := doubt(prompt, generator, prompt_model):
        console.say(Notice(found.text, "warning" if found.is_outside else "info"))


def shortened(text: str, limit: int = 120) -> str:
    """The text, its middle left out where it is long."""
    return text if len(text) <= limit else f"{text[: limit // 2].rstrip()} … {text[-limit // 2 :].lstrip()}"
