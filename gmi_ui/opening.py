"""Pictures onto an workspace: from a file, from a cell of any tab, from the gallery, or from a saved edit."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.settings import EditSettings, RunSettings
from gmi_ui.models.models import random_latents
from gmi_ui.notices import BusyError, NotPossibleError
from gmi_ui.pictures.restoring import Restored
from gmi_ui.pictures.saving import check_picture
from gmi_ui.pictures.workspace import PictureVersion
from gmi_ui.runs.job import can_be_edited, shortened
from gmi_ui.runs.redrawing import step_of
from gmi_ui.services import BUSY, Services
from gmi_ui.sessions import Arrival, Session

if TYPE_CHECKING:
    from engine.pictures.picture_files import Picture, Pixels
    from engine.tasks.inversion import Start
    from gmi_ui.runs.run import Run

TEXT_LENGTH = 80
WHITE = "#ffffff"


class Opening:
    """How pictures come to one tab: `finds` says whether it needs to know where they lie in the model; where it does
    not, they are only looked at, see `Inversion`.
    """

    def __init__(self, services: Services, *, finds: bool) -> None:
        self._services, self._finds = services, finds
        self._task = "edit" if finds else "inpaint"

    def file(
        self, session: Session, path: str, model: str, prompt_model: str, *, background: str = WHITE
    ) -> PictureVersion:
        """A person's own picture, its transparent parts on a colour (#rrggbb); or its saved w, as the model draws it.

        Raises PictureError or ModelError; nothing changes then.
        """
        from engine.pictures import picture_files
        from engine.tasks import saved_starts

        if saved_starts.is_saved_w(Path(path)):
            start = saved_starts.saved_start(Path(path), self._services.models.generator(model))
            return self._add(session, _drawn(start, Path(path).name), Path(path).name, starts={model: start})
        picture = picture_files.read_picture(Path(path), background=colour_of(background))
        version = self._add(session, picture, picture.name)
        self._services.find(version, model, prompt_model, task=self._task)
        return version

    def cell(self, session: Session, run: "Run", side: str, index: int, step: int | None) -> PictureVersion:
        """A picture of any run. Raises NotPossibleError if it is gone."""
        check_picture(run, side, index)
        drawn = step_of(run, side, step)
        picture = run.tasks[side].picture(drawn, index)
        text = shortened(run.settings.prompt or "Repainted", TEXT_LENGTH)
        version = self._add(session, picture, text, parent=self._parent(session, run))
        task, made = run.tasks[side], run.settings_of(side)
        if self._finds and (words := run.job.words(made)):
            session.arrival = Arrival(fields={"neutral": words})  # what it is, for the edit to come
        start = run.job.start(task, drawn, index)
        if start is not None:
            version.starts[made.model] = start
        elif self._finds:
            # The models that made it, if they can edit, else the usual ones.
            finder: RunSettings | type[EditSettings] = made if can_be_edited(task) else EditSettings
            self._services.find(version, finder.model, finder.prompt_model, task=self._task)
        return version

    def gallery(self, session: Session, index: int, model: str) -> PictureVersion:
        """One of the random pictures that a first visitor sees. Raises NotPossibleError for any other."""
        from engine.tasks import inversion

        generator = self._services.models.generator(model)
        latents = random_latents(generator)
        if not 0 <= index < len(latents):
            raise NotPossibleError("That picture is not there any more.")
        start = inversion.start_from_latents(generator, generator.default_space, latents[index])
        return self._add(session, _drawn(start, "example"), "An example", starts={model: start})

    def saved(self, session: Session, path: str, restored: Restored) -> PictureVersion:
        """What a saved picture was made from: of an edit its start, of an inpainting itself and the mask.

        Raises PictureError, MetadataError or SettingsError for a file that was tampered with.
        """
        from engine.pictures import picture_files
        from engine.tasks.start_metadata import background_of, picture_before, start_from_dict

        model = restored.settings.model
        saved = picture_files.read_picture(Path(path), background=background_of(restored.extra), name=restored.text)
        if restored.scale > 1:  # saved larger than it was made, and than its mask is
            saved = reduced(saved, restored.scale)
        if self._finds and "start" in restored.extra:
            start = start_from_dict(restored.extra["start"], self._services.models.generator(model))
            picture = picture_files.redrawn(saved, _drawn(start, restored.text).pixels)
            return self._add(session, picture, restored.text, starts={model: replace(start, picture=picture)})
        mask = restored.mask
        version = self._add(session, picture_before(saved, restored.extra), restored.text)
        if mask is not None:
            version.mask, version.mask_number = mask, version.mask_number + 1
            session.workspace.touch()
        self._services.find(version, model, restored.settings.prompt_model, task=self._task)
        return version

    def go_to(self, session: Session, number: int) -> PictureVersion:
        """An earlier picture, with the run that was made from it. Raises NotPossibleError."""
        version = session.workspace.find(number)
        if not session.show(version.run):
            raise BusyError(BUSY)
        self._leave(session.workspace.current, besides=version)
        search = version.inversion
        if search is not None and search.was_left:
            self._services.find(version, search.model, search.prompt_model, task=self._task)
        return session.workspace.go_to(number)

    def _add(self, session: Session, picture: "Picture", text: str, **known: Any) -> PictureVersion:
        if not session.show(None):
            raise BusyError(BUSY)
        session.notice = None
        self._leave(session.workspace.current)
        return session.workspace.add(picture, text, **known)

    @staticmethod
    def _leave(version: PictureVersion | None, *, besides: PictureVersion | None = None) -> None:
        """Ends the search for a picture that is turned away from: others need not wait for it."""
        if version is None or version is besides or not version.is_being_found:
            return
        assert version.inversion is not None
        version.inversion.was_left = True
        version.inversion.stop()

    @staticmethod
    def _parent(session: Session, run: "Run") -> PictureVersion | None:
        """The picture of this workspace that the run began at."""
        return next((version for version in session.workspace.versions if version.run is run), None)


def _drawn(start: "Start", name: str) -> "Picture":
    """A start as its model draws it."""
    from engine.pictures import imaging
    from engine.pictures.picture_files import Picture

    return Picture(imaging.to_uint8(start.image)[0], name)


def reduced(picture: "Picture", scale: int) -> "Picture":
    """A picture that was saved `scale` times as large, at its own size again."""
    import numpy as np
    from PIL import Image

    size = picture.width // scale, picture.height // scale

    def smaller(pixels: "Pixels") -> "Pixels":
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))

    whole = picture.transparency
    if whole is not None:
        whole = replace(whole, colours=smaller(whole.colours), alpha=smaller(whole.alpha))
    return replace(picture, pixels=smaller(picture.pixels), transparency=whole)


def colour_of(text: str | None) -> tuple[int, int, int]:
    """#rrggbb or rgb(r, g, b), as browsers write colours, to bytes; white for anything else."""
    text = text or ""
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        red, green, blue = bytes.fromhex(text[1:])
        return red, green, blue
    numbers = re.match(r"rgba?\((\d+)[^,]*,\s*(\d+)[^,]*,\s*(\d+)", text)
    if numbers is None:
        return 255, 255, 255
    red, green, blue = (min(int(number), 255) for number in numbers.groups())
    return red, green, blue
