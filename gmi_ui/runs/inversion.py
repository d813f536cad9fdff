"""A person's own picture being found in a generator's latent space."""

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from gmi_ui.models.models import watch_of
from gmi_ui.runs.job import Console
from gmi_ui.runs.work import Phase, Rounds, Work

if TYPE_CHECKING:
    from engine.models.clip import PromptModel
    from engine.models.loading import GeneratorModel
    from engine.pictures.masks import Mask
    from engine.pictures.picture_files import Picture
    from engine.tasks.inversion import Start
    from gmi_ui.models.models import Models


class Inversion(Work):
    """The search for `picture`: its newest guess, at the end the result, is `start`, and `starts[model]`.

    task: what for. To inpaint, a look is enough that tells whether the model can draw such a picture; the search then
    waits for the mask.
    """

    def __init__(
        self, picture: "Picture", starts: "dict[str, Start]", model: str, prompt_model: str, *, task: str = "edit"
    ) -> None:
        super().__init__()
        self.model, self.prompt_model, self.task = model, prompt_model, task
        self.start: Start | None = None
        self.was_left = False  # stopped because another picture was turned to
        self._picture, self._starts = picture, starts

    def carry_out(self, models: "Models") -> Rounds:
        from engine.tasks import inversion

        generator = models.generator(self.model)
        self.enter(Phase.RUNNING)
        yield
        if self.task == "inpaint":
            self.start = inversion.guessed_start(self._picture, generator, watch=watch_of(self))
            self.show()
            return
        prompt_model = models.prompt_model(self.prompt_model)
        found: Iterator[Start] = inversion.invert(
            self._picture, generator, prompt_model=prompt_model, watch=watch_of(self)
        )
        for start in found:
            self.start = self._starts[self.model] = start
            self.tick()
            self.show()
            yield


def find_start(
    picture: "Picture",
    generator: "GeneratorModel",
    prompt_model: "PromptModel",
    console: Console,
    doing: str,
    mask: "Mask | None" = None,
) -> "Generator[None, None, Start | None]":
    """The picture's place in the generator, found while a run is prepared; yields where that may be stopped.

    None where there is a mask and the generator fills holes by itself.
    """
    from engine.tasks import inversion, look_around

    watch = watch_of(console)  # tens of drawings: of a large model minutes
    if mask is None:
        found = inversion.invert(picture, generator, prompt_model=prompt_model, watch=watch)
    else:
        found = look_around(picture, mask, generator, prompt_model, watch=watch)
    start = None
    for start in found:
        console.tell(doing, start.step / max(start.total, 1))
        yield
    return start
