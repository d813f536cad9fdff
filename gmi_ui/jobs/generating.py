"""Generate runs: pictures for a prompt, beside the same seeds without repulsion or the pictures of another model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.families import find_family
from engine.settings import GenerateSettings, RunSettings
from gmi_ui.models.models import shown_name, watch_of
from gmi_ui.runs.job import FIT, TEXT, Console, Figure, Job, Prepared, tell_doubts, tell_what_was_cut

if TYPE_CHECKING:
    from engine.pictures.examples import Examples
    from engine.tasks import Task
    from gmi_ui.models.models import Models

NOT_COMPARABLE = "Each side is judged by its own prompt model, so these numbers of the two do not compare."


@dataclass(frozen=True, eq=False)
class GenerateJob(Job[GenerateSettings]):
    """Pictures for a prompt. examples: pictures that people gave to go towards, by the hash that settings name."""

    examples: Mapping[str, "Examples"] = field(default_factory=dict)

    def titles(self, settings: GenerateSettings) -> Mapping[str, str]:
        if settings.other:
            return {"ours": heading(settings), "baseline": heading(settings.other)}
        return super().titles(settings)

    def figures(self, settings: GenerateSettings) -> tuple[Figure, ...]:
        figures = super().figures(settings)
        if not settings.other or settings.other.prompt_model == settings.prompt_model:
            return figures
        told = (figure._replace(help=f"{figure.help} {NOT_COMPARABLE}") for figure in figures if figure != TEXT)
        return (FIT, *told)

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
            tell_doubts(chosen.prompt, generator, prompt_model, console)
            yield
            watch = watch_of(console)  # where starts are looked for, hundreds of pictures are drawn for each
            prepared[name] = tasks.generate(
                chosen, generator, prompt_model, examples=self.examples.get(chosen.towards), watch=watch
            )
        if settings.is_compared and not settings.beside:
            prepared["baseline"] = prepared["ours"].without_repulsion()
        return prepared

    def leads_to(self, task: "Task") -> Sequence[str]:
        """Other models than the one that drew the pictures see no sense in them."""
        return find_family(task.generator.family).possible_tasks


GENERATE = GenerateJob()


def heading(settings: RunSettings) -> str:
    """A side's models, as a person reads them above its pictures."""
    return f"{shown_name(settings.model)}, judged by {shown_name(settings.prompt_model)}"
