"""Edit runs: from a picture's place in the latent space, towards words, beside a baseline from the same start."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.settings import EditSettings
from gmi_ui.models.models import watch_of
from gmi_ui.pictures.workspace import SHOWN_SIDE, PictureVersion, picture_jpeg
from gmi_ui.runs.inversion import find_start
from gmi_ui.runs.job import Console, Figure, Job, Prepared, tell_doubts, tell_what_was_cut

if TYPE_CHECKING:
    from engine.inference.flow import Step
    from engine.models.clip import PromptModel
    from engine.models.loading import GeneratorModel
    from engine.pictures.examples import Examples
    from engine.pictures.picture_files import Picture
    from engine.tasks import Task
    from engine.tasks.inversion import Start
    from gmi_ui.models.models import Models

METHODS = {
    "gmi": "Different edits",
    "clip": "Each layer by itself, by words",
    "direction": "One way for all (StyleCLIP)",
    "optimise": "One by one (StyleCLIP)",
}
BASELINES = {
    "none": "Nothing",
    "no repulsion": "The same without repulsion",
    "direction": "One way for all (StyleCLIP)",
    "optimise": "One by one (StyleCLIP)",
}
DISTANCE = Figure("distance", "Distance", "Mean distance to the picture before the edit. Lower keeps more of it.")


@dataclass(frozen=True, eq=False)
class EditJob(Job[EditSettings]):
    """Edits of one version's picture."""

    version: PictureVersion
    examples: "Examples | None" = None  # a person's own pictures to go towards

    @property
    def origin(self) -> int:  # type: ignore[override]
        return self.version.number

    def titles(self, settings: EditSettings) -> Mapping[str, str]:
        beside = {"baseline": BASELINES[settings.baseline]} if settings.is_compared else {}
        return {"ours": METHODS[settings.method]} | beside

    def figures(self, settings: EditSettings) -> tuple[Figure, ...]:
        return (*super().figures(settings), DISTANCE)

    def measure(self, task: "Task", step: "Step") -> Mapping[str, float]:
        distances = task.figures(step)["distance_to_original"]
        return {**super().measure(task, step), "distance": sum(map(float, distances)) / len(distances)}

    def prepare(self, settings: EditSettings, models: "Models", console: Console) -> Prepared:
        from engine import tasks

        generator = models.generator(settings.model)
        yield
        prompt_model = models.prompt_model(settings.prompt_model)
        tell_what_was_cut(prompt_model.truncated_words, [settings.neutral, settings.prompt], console)
        tell_doubts(settings.prompt, generator, prompt_model, console)
        if settings.model not in self.version.starts:
            doing = f"Finding the picture in {settings.model}"
            found = yield from find_start(self.version.picture, generator, prompt_model, console, doing)
            self.version.starts[settings.model] = found
        start = self.version.starts[settings.model]
        sides = {"ours": settings}
        if settings.is_compared:
            sides["baseline"] = tasks.baseline(settings)
        prepared: dict[str, Task] = {}
        for name, chosen in sides.items():
            prepared[name] = yield from edit_task(
                chosen, start, generator, prompt_model, console, examples=self.examples
            )
            yield
        return prepared

    def began_at(self) -> "Picture":
        return self.version.picture

    def extras(self, settings: EditSettings) -> Mapping[str, Any]:
        from engine.tasks.start_metadata import edit_extras

        return edit_extras(self.version.starts.get(settings.model), self.version.picture, self.version.text)

    def before(self, settings: EditSettings) -> str | None:
        """As its model draws it."""
        if settings.model not in self.version.starts:
            return None
        from engine.pictures import imaging
        from engine.pictures.picture_files import Picture

        drawn = imaging.to_uint8(self.version.starts[settings.model].image)[0]
        return picture_jpeg(Picture(drawn), SHOWN_SIDE)


def edit_task(
    settings: EditSettings,
    start: "Start",
    generator: "GeneratorModel",
    prompt_model: "PromptModel",
    console: Console,
    *,
    examples: "Examples | None" = None,
) -> "Generator[None, None, Task]":
    """One side, ready to run.

    Where its method needs edit directions of the two models that nobody measured yet, they are measured first: the
    bundled models bring theirs, a person's own model is measured once.
    """
    from engine import tasks
    from engine.tasks import styleclip

    watch = watch_of(console)  # to try how the picture may vary takes tens of drawings: of a large model minutes
    try:
        return tasks.edit(settings, start, generator, prompt_model, examples=examples, watch=watch)
    except styleclip.DirectionsMissingError as missing:
        for done, total in styleclip.compute_directions(generator, prompt_model, missing.space):
            console.tell("Measuring once how this model follows words", done / total)
            yield
    return tasks.edit(settings, start, generator, prompt_model, examples=examples, watch=watch)
