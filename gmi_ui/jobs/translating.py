"""Translation runs: a picture redrawn in another domain in different styles, beside the model alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.settings import TranslateSettings
from gmi_ui.notices import Notice
from gmi_ui.pictures.workspace import SHOWN_SIDE, PictureVersion, picture_jpeg
from gmi_ui.runs.job import DIVERSITY, PLAIN, TEXT, Console, Figure, Job, Prepared, tell_doubts, tell_what_was_cut
from gmi_ui.runs.steering import repels

if TYPE_CHECKING:
    from engine.inference.flow import Step
    from engine.pictures.examples import Examples
    from engine.pictures.picture_files import Picture
    from engine.tasks import Task
    from engine.tasks.translation import Translation
    from gmi_ui.models.models import Models

BASELINES = {"none": "Nothing", "no repulsion": "The same without repulsion", "plain": PLAIN}
DOMAIN = Figure("domain", "Domain", "Mean logit of the domain, by the model's own discriminator. Higher fits better.")
DISTANCE = Figure("distance", "Distance", "Mean distance to the picture before. Lower keeps more of it.")


@dataclass(eq=False)
class TranslateJob(Job[TranslateSettings]):
    """Translations of one version's picture. references: pictures whose styles are taken; has_judge: whether the
    model comes with its discriminator."""

    version: PictureVersion
    references: "Examples | None" = None
    has_judge: bool = True
    _ours: "Translation | None" = field(default=None, init=False)

    @property
    def origin(self) -> int:  # type: ignore[override]
        return self.version.number

    def titles(self, settings: TranslateSettings) -> Mapping[str, str]:
        ours = "Different styles" if repels(settings.flow) else "Without repulsion"
        beside = {"baseline": BASELINES[settings.baseline]} if settings.is_compared else {}
        return {"ours": PLAIN if settings.method == "plain" else ours} | beside

    def figures(self, settings: TranslateSettings) -> tuple[Figure, ...]:
        known = (*([DOMAIN] if self.has_judge else []), *([TEXT] if settings.prompt else []))
        return (*known, DIVERSITY, DISTANCE)

    def measure(self, task: "Task", step: "Step") -> Mapping[str, float]:
        told = {
            {"distance_to_original": "distance", "domain_logits": "domain"}[name]: sum(map(float, values)) / len(values)
            for name, values in task.figures(step).items()
        }
        return {**super().measure(task, step), **told}

    def prepare(self, settings: TranslateSettings, models: "Models", console: Console) -> Prepared:
        from engine import tasks
        from engine.tasks.translation import what_is_missing

        generator = models.generator(settings.model)
        yield
        prompt_model = models.prompt_model(settings.prompt_model)
        tell_what_was_cut(prompt_model.truncated_words, [settings.prompt], console)
        tell_doubts(settings.prompt, generator, prompt_model, console)
        if missing := what_is_missing(tasks.check_translation(settings, generator, self.references)):
            console.say(Notice(missing))
        sides = {"ours": settings} | ({"baseline": tasks.baseline(settings)} if settings.is_compared else {})
        prepared: dict[str, Translation] = {}
        for name, chosen in sides.items():
            prepared[name] = tasks.translate(
                chosen, self.version.picture, generator, prompt_model, references=self.references
            )
            yield
        self._ours = prepared["ours"]
        return prepared

    def extras(self, settings: TranslateSettings) -> Mapping[str, Any]:
        from engine.tasks.start_metadata import translate_extras

        return translate_extras(self._ours.begin, self._ours.references, self.version.text) if self._ours else {}

    def began_at(self) -> "Picture":
        return self.version.picture

    def called(self, settings: TranslateSettings) -> str:
        return ", ".join(filter(None, (settings.domain, settings.prompt)))

    def words(self, settings: TranslateSettings) -> str:
        """They speak of what is to change."""
        return ""

    def before(self, settings: TranslateSettings) -> str | None:
        """The square of it that is translated, as the model sees it."""
        if self._ours is None:
            return None
        from engine.pictures.picture_files import Picture

        return picture_jpeg(Picture(self._ours.begin.pixels), SHOWN_SIDE)
