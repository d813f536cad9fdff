"""Pictures onto a workspace: from a file, from a cell of any tab, from the gallery, or from a saved edit."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.settings import OF_THE_MODEL, EditSettings, RunSettings
from gmi_ui.jobs.editing import EditJob
from gmi_ui.jobs.generating import GenerateJob
from gmi_ui.jobs.inpainting import InpaintJob
from gmi_ui.jobs.translating import TranslateJob
from gmi_ui.models.models import random_latents
from gmi_ui.notices import BusyError, Notice, NotPossibleError
from gmi_ui.pictures.last_runs import LeftRun
from gmi_ui.pictures.restoring import Restored
from gmi_ui.pictures.saving import check_picture
from gmi_ui.pictures.workspace import PictureVersion
from gmi_ui.runs.job import Job, can_be_edited, shortened
from gmi_ui.runs.redrawing import step_of
from gmi_ui.runs.returned import ReturnedRun
from gmi_ui.services import BUSY, Services
from gmi_ui.sessions import Arrival, Session

if TYPE_CHECKING:
    from engine.inference.flow import Step
    from engine.pictures.picture_files import Picture, Pixels
    from engine.tasks.inversion import Start
    from gmi_ui.runs.run import Run

TEXT_LENGTH = 80
MOST_TEXT = 200  # characters of what a kept picture was called
PICTURES_MISSING = (
    "Your last run went towards pictures of your own, which are not here: choose the same files again under “Towards "
    "pictures like these”, then press Run."
)
WHITE = "#ffffff"


class Opening:
    """How pictures come to a tab. One that edits needs to know where they lie in the model; for one that inpaints they
    are only looked at, see `Inversion`; one that translates asks for neither.
    """

    def __init__(self, services: Services, task: str) -> None:
        self._services, self._task = services, task
        self._finds = task == "edit"

    def file(
        self, session: Session, path: str, model: str, prompt_model: str, *, background: str = WHITE
    ) -> PictureVersion:
        """A person's own picture, its transparent parts on a colour (#rrggbb); or its saved w, as the model draws it.

        Raises PictureError or ModelError; nothing changes then.
        """
        picture, known = read_file(self._services, Path(path), model, background=background)
        version = self.add(session, picture, picture.name, **known)
        if model not in version.starts:
            self._services.find(version, model, prompt_model, task=self._task)
        return version

    def cell(self, session: Session, run: "Run", side: str, index: int, step: int | None) -> PictureVersion:
        """A picture of any run. Raises NotPossibleError if it is gone."""
        drawn, picture = picture_of(run, side, index, step)
        text = shortened(run.job.called(run.settings), TEXT_LENGTH)
        kept = self._services.outputs.made_from(run, side, index, step)
        version = self.add(session, picture, text, parent=self._parent(session, run), made_from=kept)
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
        return self.add(session, _drawn(start, "example"), "An example", starts={model: start})

    def saved(self, session: Session, path: str, restored: Restored) -> PictureVersion:
        """What a saved picture was made from: of an edit its start, of an inpainting itself and the mask, of a
        translation the square that was translated.

        Where the model has other weights than made it, a start says nothing: of an edit the picture itself.

        Raises PictureError, MetadataError or SettingsError for a file that was tampered with.
        """
        from engine.pictures import picture_files
        from engine.tasks.start_metadata import background_of, picture_before, start_from_dict, translated_from

        model = restored.settings.model
        saved = picture_files.read_picture(Path(path), background=background_of(restored.extra), name=restored.text)
        if restored.scale > 1:  # saved larger than it was made, and than its mask is
            saved = reduced(saved, restored.scale)
        generator = self._services.models.generator(model) if self._finds and "start" in restored.extra else None
        if generator is not None and restored.made_by in (None, generator.sha256):
            start = start_from_dict(restored.extra["start"], generator)
            picture = picture_files.redrawn(saved, _drawn(start, restored.text).pixels)
            starts = {model: replace(start, picture=picture)}
            return self.add(session, picture, restored.text, starts=starts, made_from=restored.parent)
        if self._task == "translate":
            source, _ = translated_from(restored.extra)
            picture = picture_files.redrawn(saved, source.pixels) if source else saved
            return self.add(session, picture, restored.text, made_from=restored.parent)
        mask = restored.mask
        before = picture_before(saved, restored.extra)
        version = self.add(session, before, restored.text, made_from=restored.parent)
        if mask is not None:
            version.mask, version.mask_number = mask, version.mask_number + 1
            session.workspace.touch()
        self._services.find(version, model, restored.settings.prompt_model, task=self._task)
        return version

    def square(self, session: Session, number: int, across: float, down: float, share: float) -> PictureVersion:
        """A square of a version as a picture of its own; see `picture_files.square_at`. Raises NotPossibleError."""
        from engine.pictures.picture_files import square_at, square_of

        version = session.workspace.find(number)
        part = square_of(version.picture, square_at(version.picture, across, down, share))
        return self.add(session, part, version.text, parent=version, made_from=version.made_from)

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

    def add(self, session: Session, picture: "Picture", text: str, **known: Any) -> PictureVersion:
        """A picture of which all is known that has to be. Raises NotPossibleError while a run goes on."""
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


def read_file(
    services: Services, path: Path, model: str, *, background: str = WHITE
) -> "tuple[Picture, dict[str, Any]]":
    """The picture in a file, and what else a `PictureVersion` of it knows. Raises PictureError or ModelError."""
    from engine.pictures import picture_files
    from engine.tasks import saved_starts

    if saved_starts.is_saved_w(path):
        start = saved_starts.saved_start(path, services.models.generator(model))
        return _drawn(start, path.name), {"starts": {model: start}}
    picture = picture_files.read_picture(path, background=colour_of(background))
    return picture, {"made_from": services.outputs.id_of(path)}


def picture_of(run: "Run", side: str, index: int, step: int | None) -> "tuple[Step, Picture]":
    """A step of a run, the newest for None, and one of its pictures. Raises NotPossibleError if it is gone."""
    check_picture(run, side, index)
    drawn = step_of(run, side, step)
    return drawn, run.tasks[side].picture(drawn, index)


def keep_references(services: Services, settings: RunSettings, extra: Mapping[str, Any]) -> None:
    """The references of a translation, as the model saw them, where they are no longer here. Raises SettingsError."""
    from engine.pictures.examples import Examples
    from engine.tasks.start_metadata import translated_from

    named = getattr(settings, "references", "")
    _, references = translated_from(extra) if named else (None, ())
    if references and services.examples.find(named) is None:
        services.examples.add(Examples(references, named))


def bring_back(services: Services, session: Session) -> None:
    """The tab's last run as it was left: controls, picture, mask and results.

    Raises NotPossibleError while a run goes on, and for one that is gone or damaged; SettingsError, PictureError or
    ModelError for what it began at.
    """
    from engine.pictures.png_files import parent_of

    left = services.last_runs.left(session.before, session.tab)
    version = _left_at(services, session, left)
    session.arrival = Arrival(left.settings)
    keep_references(services, left.settings, left.extra)
    sides = (left.settings, left.settings.other)
    named = {
        getattr(side, name, "") for side in sides for name in ("towards", "references", "unlike", "like", "start_from")
    }
    examples = {sha256: services.examples.find(sha256) for sha256 in named - {"", OF_THE_MODEL}}
    if None in examples.values():
        session.say(Notice(PICTURES_MISSING, "warning"))
        return
    job: Job[Any]
    if version is None:
        job = GenerateJob({sha256: found for sha256, found in examples.items() if found is not None})
    elif left.mask is not None:
        fills_holes = services.models.family(left.settings.model).fills_holes
        job = InpaintJob(version, left.mask, fills_holes=fills_holes)
    elif session.tab == "translate":
        generator: Any = services.models.generator(left.settings.model)
        given = services.examples.pictures(getattr(left.settings, "references", ""))
        job = TranslateJob(version, given, generator.network.discriminator is not None)
    else:
        job = EditJob(version, services.examples.pictures(getattr(left.settings, "towards", "")))
    parent = parent_of(left.extra)
    session.descend(left.settings, parent)
    run = ReturnedRun(left.settings, job, left.sides, left.models, parent=parent, marked=left.marked)
    services.start(session, run)
    if run.job.origin is not None:
        session.workspace.adopt(run)


def _left_at(services: Services, session: Session, left: LeftRun) -> PictureVersion | None:
    """The picture that a run began at, as the tab had it."""
    if left.picture is None:
        return None
    from engine.pictures import picture_files, png_files
    from engine.tasks.start_metadata import background_of, start_from_dict

    text = str(left.extra.get("text", ""))[:MOST_TEXT]
    picture = picture_files.read_picture(left.picture, background=background_of(left.extra), name=text)
    known: dict[str, Any] = {"made_from": png_files.parent_of(left.extra)}
    if "start" in left.extra:
        start = start_from_dict(left.extra["start"], services.models.generator(left.settings.model))
        known["starts"] = {left.settings.model: replace(start, picture=picture)}
    version = Opening(services, session.tab).add(session, picture, text, **known)
    if left.mask is not None:
        version.mask, version.mask_number = left.mask, version.mask_number + 1
        session.workspace.touch()
    return version


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
