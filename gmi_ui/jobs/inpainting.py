"""Inpainting runs: a part of a picture painted anew in different ways, beside the same seeds without repulsion."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.settings import InpaintSettings
from gmi_ui.models.models import watch_of
from gmi_ui.notices import Notice
from gmi_ui.pictures.workspace import PictureVersion
from gmi_ui.runs.inversion import find_start
from gmi_ui.runs.job import TEXT, Console, Figure, Job, Prepared, Variation, tell_doubts, tell_what_was_cut

if TYPE_CHECKING:
    from engine.inference.flow import Step
    from engine.tasks import Task
    from gmi_ui.models.models import Models
    from gmi_ui.runs.work import Moment

HOLE_DIVERSITY = Figure(
    "diversity", "Diversity", "Mean over pairs of 1 - cosine of the hole's features. Higher differs more."
)


class InpaintJob(Job[InpaintSettings]):
    """Repaintings of what `mask` covers of one version's picture."""

    def __init__(self, version: PictureVersion, mask: bytes) -> None:
        self.version, self.mask = version, mask
        self.origin = version.number
        self.share: float | None = None  # of the picture that is repainted, once known
        self._extras: Mapping[str, Any] = {}

    def figures(self, settings: InpaintSettings) -> tuple[Figure, ...]:
        return (TEXT, HOLE_DIVERSITY) if settings.prompt else (HOLE_DIVERSITY,)

    def prepare(self, settings: InpaintSettings, models: "Models", console: Console) -> Prepared:
        from engine import tasks
        from engine.pictures import masks
        from engine.tasks.offers import out_of_domain
        from engine.tasks.start_metadata import inpaint_extras

        picture = self.version.picture
        mask = masks.decode_mask(self.mask, picture.size)
        prepared = tasks.prepare_mask(settings, mask, picture)
        self.share = masks.mask_share(prepared)
        self._extras = inpaint_extras(self.mask, prepared, picture, self.version.text)
        generator = models.generator(settings.model)
        yield
        prompt_model = models.prompt_model(settings.prompt_model)
        tell_what_was_cut(prompt_model.truncated_words, [settings.prompt], console)
        tell_doubts(settings.prompt, generator, prompt_model, console)
        doing = "Looking at what surrounds the mask"
        start = yield from find_start(picture, generator, prompt_model, console, doing, prepared)
        if start.in_domain is False:
            console.say(Notice(out_of_domain("inpaint", generator.name, models.names(task="inpaint")), "warning"))
        watch = watch_of(console)
        ours = tasks.inpaint(settings, picture, prepared, start, generator, prompt_model, watch=watch)
        return {"ours": ours} | ({"baseline": ours.without_repulsion()} if settings.is_compared else {})

    def extras(self, settings: InpaintSettings) -> Mapping[str, Any]:
        from engine.tasks.start_metadata import inpaint_extras

        return self._extras or inpaint_extras(self.mask, None, self.version.picture, self.version.text)

    def before(self, settings: InpaintSettings) -> str:
        return self.version.shown

    def words(self, settings: InpaintSettings) -> str:
        """They speak of the hole alone."""
        return ""

    def start(self, task: "Task", step: "Step", index: int) -> None:
        """What was pasted into another picture lies nowhere as a whole."""

    def variation(self, moment: "Moment") -> Variation | None:
        if self.share is None or "ours" not in moment.sides:
            return None
        newest = {name: side.curves["diversity"][-1] for name, side in moment.sides.items()}
        return Variation(self.share, newest["ours"], newest.get("baseline"))
