"""Inpainting runs: a part of a picture painted anew in different ways, beside the same seeds without repulsion.

Beside a model that fills holes by itself, the model alone.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.settings import InpaintSettings, RunSettings
from gmi_ui.models.models import watch_of
from gmi_ui.notices import Notice
from gmi_ui.pictures.workspace import PictureVersion
from gmi_ui.runs.inversion import find_start
from gmi_ui.runs.job import PLAIN, TEXT, Console, Figure, Job, Prepared, Variation, tell_doubts, tell_what_was_cut

if TYPE_CHECKING:
    from engine.inference.flow import Step
    from engine.pictures.picture_files import Picture
    from engine.tasks import Task
    from gmi_ui.models.models import Models
    from gmi_ui.runs.work import Moment

HOLE_DIVERSITY = Figure(
    "diversity", "Diversity", "Mean over pairs of 1 - cosine of the hole's features. Higher differs more."
)
REALISM = Figure(
    "realism",
    "Realism",
    "Mean logit of the model's own discriminator, which sees picture and hole. Higher fits better.",
)


class InpaintJob(Job[InpaintSettings]):
    """Repaintings of what `mask` covers of one version's picture. fills_holes: see `families.Family`."""

    mask: bytes

    def __init__(self, version: PictureVersion, mask: bytes, *, fills_holes: bool = False) -> None:
        self.version, self.mask, self.fills_holes = version, mask, fills_holes
        self.origin = version.number
        self.share: float | None = None  # of the picture that is repainted, once known
        self._extras: Mapping[str, Any] = {}

    def titles(self, settings: InpaintSettings) -> Mapping[str, str]:
        titles = super().titles(settings)
        if not self.fills_holes:
            return titles
        stays = {"baseline", "ours"} if settings.flow.until == 0 else {"baseline"}
        return {side: PLAIN if side in stays else title for side, title in titles.items()}

    def figures(self, settings: InpaintSettings) -> tuple[Figure, ...]:
        return (*([TEXT] if settings.prompt else []), *([REALISM] if self.fills_holes else []), HOLE_DIVERSITY)

    def baseline(self, settings: InpaintSettings) -> RunSettings:
        from engine.tasks.task import model_alone

        return model_alone(settings) if self.fills_holes else super().baseline(settings)

    def prepare(self, settings: InpaintSettings, models: "Models", console: Console) -> Prepared:
        from engine import tasks
        from engine.pictures import masks
        from engine.tasks.filling import what_is_missing
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
        if missing := what_is_missing(generator):
            console.say(Notice(missing))
        doing = "Looking at what surrounds the mask"
        start = yield from find_start(picture, generator, prompt_model, console, doing, prepared)
        if start is not None and start.in_domain is False:
            console.say(Notice(out_of_domain("inpaint", generator.name, models.names(task="inpaint")), "warning"))
        watch = watch_of(console)
        ours = tasks.inpaint(settings, picture, prepared, start, generator, prompt_model, watch=watch)
        return {"ours": ours} | ({"baseline": ours.baseline()} if settings.is_compared else {})

    def began_at(self) -> "Picture":
        return self.version.picture

    def extras(self, settings: InpaintSettings) -> Mapping[str, Any]:
        from engine.tasks.start_metadata import inpaint_extras

        return self._extras or inpaint_extras(self.mask, None, self.version.picture, self.version.text)

    def before(self, settings: InpaintSettings) -> str:
        return self.version.shown

    def words(self, settings: InpaintSettings) -> str:
        """They speak of the hole alone."""
        return ""

    def called(self, settings: InpaintSettings) -> str:
        return settings.prompt or "Repainted"

    def start(self, task: "Task", step: "Step", index: int) -> None:
        """What was pasted into another picture lies nowhere as a whole."""

    def variation(self, moment: "Moment") -> Variation | None:
        if self.share is None or "ours" not in moment.sides:
            return None
        newest = {name: side.curves["diversity"][-1] for name, side in moment.sides.items()}
        return Variation(self.share, newest["ours"], newest.get("baseline"))
