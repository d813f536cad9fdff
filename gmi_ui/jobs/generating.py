"""Generate runs: pictures for a prompt, beside the same seeds without repulsion or the pictures of another model."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.families import find_family
from engine.settings import SAMPLERS, GenerateSettings, RunSettings
from gmi_ui.models.models import shown_name, watch_of
from gmi_ui.runs.job import DIVERSITY, FIT, PLAIN, TEXT, Console, Figure, Job, Prepared, tell_doubts, tell_what_was_cut

if TYPE_CHECKING:
    from engine.tasks import Task
    from engine.tasks.marks import Marked
    from engine.tasks.towards import Shown
    from gmi_ui.models.models import Models

SAMPLER_NAMES = {"dot": "DOT", "ddls": "DDLS", "dgflow": "DGflow", "svgd": "SVGD"}
NOT_COMPARABLE = "Each side is judged by its own prompt model, so these numbers of the two do not compare."
OF_FEW = "Of a few pictures it only tells two sides of as many apart"
DISTANCE = Figure(
    "frechet",
    "Distance",
    "Fréchet distance of image features to those of the model's examples. Lower is more like them. "
    f"{OF_FEW}; by itself it means something from several hundred pictures on.",
)
PRECISION = Figure("precision", "Precision", "Share of the pictures that lie among the model's examples (k = 3).")
RECALL = Figure("recall", "Recall", f"Share of the model's examples that lie among the pictures (k = 3). {OF_FEW}.")
REWARD = Figure("reward", "Second judge", "Mean logit of the second prompt model for these words. Higher fits better.")


@dataclass(frozen=True, eq=False)
class GenerateJob(Job[GenerateSettings]):
    """Pictures for a prompt. examples: pictures to go towards, to be like, unlike or to start from, by the hash that
    settings name them by."""

    examples: Mapping[str, "Shown"] = field(default_factory=dict)
    has_marks = True

    def titles(self, settings: GenerateSettings) -> Mapping[str, str]:
        if settings.other:
            return {"ours": heading(settings), "baseline": heading(settings.other)}
        titles = {**super().titles(settings)}
        if settings.preset in SAMPLER_NAMES and not settings.flow.diversity:
            titles["ours"] = SAMPLER_NAMES[settings.preset]
        if "baseline" in titles and (not settings.prompt or settings.preset in SAMPLERS):
            titles["baseline"] = PLAIN
        return titles

    def figures(self, settings: GenerateSettings) -> tuple[Figure, ...]:
        """Without words, how like the model's examples the pictures are, where it has some."""
        figures = super().figures(settings) if settings.prompt else (DISTANCE, PRECISION, RECALL, DIVERSITY)
        if settings.prompt and settings.reward_model:
            figures = (*figures, REWARD)
        if not settings.other or settings.other.prompt_model == settings.prompt_model:
            return figures
        told = (figure._replace(help=f"{figure.help} {NOT_COMPARABLE}") for figure in figures if figure != TEXT)
        return (FIT, *told) if settings.prompt else tuple(told)

    def has_map(self, settings: GenerateSettings) -> bool:
        """Where one prompt model sees all sides."""
        return not settings.other or settings.other.prompt_model == settings.prompt_model

    def baseline(self, settings: GenerateSettings) -> RunSettings:
        return settings.other or super().baseline(settings)

    def prepare(self, settings: GenerateSettings, models: "Models", console: Console) -> Prepared:
        from engine import tasks

        prepared: dict[str, Task] = {}
        sides = [("ours", settings)] + ([("baseline", settings.beside)] if settings.beside else [])
        for name, chosen in sides:
            generator = models.generator(chosen.model)
            yield
            prompt_model = models.prompt_model(chosen.prompt_model)
            if name == "ours" or chosen.prompt_model != settings.prompt_model:
                tell_what_was_cut(prompt_model.truncated_words, [chosen.prompt], console)
            if generator.left_out is not None:
                tell_what_was_cut(generator.left_out, [chosen.prompt], console)
            tell_doubts(chosen.prompt, generator, prompt_model, console)
            yield
            watch = watch_of(console)  # where starts are looked for, hundreds of pictures are drawn for each
            started = time.perf_counter()
            given: Any = self.examples.get(chosen.towards)
            seen, liked = self.examples.get(chosen.unlike), self.examples.get(chosen.like)
            begun: Any = self.examples.get(chosen.start_from)
            reward = models.prompt_model(chosen.reward_model) if chosen.reward_model and chosen.prompt else None
            shown: Any = {"seen": seen, "liked": liked, "picture": None if begun is None else begun.pictures[0]}
            prepared[name] = tasks.generate(
                chosen, generator, prompt_model, examples=given, reward=reward, watch=watch, **shown
            )
            models.step_times.searched(chosen, time.perf_counter() - started)
        if settings.is_compared and not settings.beside:
            prepared["baseline"] = prepared["ours"].baseline()
        return prepared

    def pinned(self, settings: GenerateSettings) -> frozenset[int]:
        return frozenset(pin.place for pin in settings.pinned)

    def marked(self, task: "Task", marks: "Marked") -> "Task":
        from engine.tasks.generation import Generation

        assert isinstance(task, Generation)
        return task.marked(marks)

    def called(self, settings: GenerateSettings) -> str:
        return settings.prompt or "Without words"

    def leads_to(self, task: "Task") -> Sequence[str]:
        """Other models than the one that drew the pictures see no sense in them; but for translators of such ones."""
        possible = find_family(task.generator.family).possible_tasks
        return (*possible, "translate") if "edit" in possible else possible


GENERATE = GenerateJob()


def heading(settings: RunSettings) -> str:
    """A side's models, as a person reads them above its pictures."""
    return f"{shown_name(settings.model)}, judged by {shown_name(settings.prompt_model)}"
