"""What can be called, one class a task: its parameters, typed, are the fields, and it makes a run of them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from engine.models.table import usual_prompt_model
from engine.settings import (
    RANDOM_SEED,
    EditBaseline,
    EditMethod,
    EditSettings,
    GenerateSettings,
    InpaintSettings,
    SettingsError,
    TranslateBaseline,
    TranslateMethod,
    TranslateSettings,
)
from gmi_ui.api.asking import settings_of
from gmi_ui.api.uploads import GivenFile, path_of
from gmi_ui.jobs.editing import EditJob
from gmi_ui.jobs.generating import GenerateJob
from gmi_ui.jobs.inpainting import InpaintJob
from gmi_ui.jobs.translating import TranslateJob
from gmi_ui.models.catalogue import check_task, look_up
from gmi_ui.notices import Notice
from gmi_ui.opening import read_file
from gmi_ui.pictures.workspace import PictureVersion
from gmi_ui.runs.run import Run
from gmi_ui.services import Services

if TYPE_CHECKING:
    from engine.pictures.examples import Examples

Preset: TypeAlias = Literal["robust", "paper", "kde", "stein", "krr", "kde_smoothed", "krr_smoothed"]
GeneratePreset: TypeAlias = Literal[Preset, "dot", "ddls", "dgflow", "svgd"]
Files: TypeAlias = list[GivenFile]
More: TypeAlias = dict[str, Any]
NO_SETTINGS = ("picture", "mask", "towards", "unlike", "references", "pictures_every", "more")


class Call:
    """One call. Its fields are not checked yet: anybody can send anything."""

    model: str
    prompt_model: str
    pictures_every: int  # steps after which new pictures are told of; 0: at the end only
    more: More | None

    def run(self, services: Services) -> Run:
        """A run to be queued. Raises ValueError or NotPossibleError, with words for a person, where there can be none.

        May take a while: files are read, and a person's own model may be loaded.
        """
        raise NotImplementedError

    def _given(self, **more: Any) -> dict[str, Any]:
        """The settings among the fields, and `more`."""
        names = [field.name for field in fields(self) if field.name not in NO_SETTINGS]  # type: ignore[arg-type]
        return {name: getattr(self, name) for name in names} | {"prompt_model": self.prompt_model or None} | more

    def _check_models(self, services: Services, task: str, usual: str) -> None:
        """Raises ModelError or NotPossibleError for models that are not here, or not for this task."""
        models = services.models
        for name, value in (("model", self.model), ("prompt_model", self.prompt_model)):
            if not isinstance(value, str):
                raise SettingsError(f"{name}: expected the name of a model.")
        row = models.row(self.model)
        check_task(self.model, row.family if row else models.generator(self.model).family, task, usual)
        if self.prompt_model and self.prompt_model not in models.names("prompt"):
            models.prompt_model(self.prompt_model)


@dataclass(frozen=True)
class GenerateCall(Call):
    """Draws many different pictures for a prompt; for an empty one, pictures that look real."""

    prompt: str
    model: str = GenerateSettings.model
    n: int = GenerateSettings.n
    steps: int | None = None
    step_size: float | None = None
    diversity: float | None = None
    seed: int = RANDOM_SEED
    preset: GeneratePreset = "robust"
    prompt_model: str = ""
    baseline: bool = False
    towards: Files | None = None
    unlike: Files | None = None
    pictures_every: int = 0
    more: More | None = None

    def run(self, services: Services) -> Run:
        self._check_models(services, "generate", GenerateSettings.model)
        entry, examples = look_up(services.models, self.model), {}
        given = self._given()
        for name, files in (("towards", self.towards), ("unlike", self.unlike)):
            if (found := examples_in(files, name)) is not None:
                examples[found.sha256] = found
                given[name] = found.sha256
        return Run(settings_of(entry.first, given, self.more, flow_of=entry.family.flow), GenerateJob(examples))


@dataclass(frozen=True)
class EditCall(Call):
    """Changes a picture as words say, in several ways at once."""

    picture: GivenFile
    prompt: str
    neutral: str = EditSettings.neutral
    model: str = EditSettings.model
    n: int = EditSettings.n
    steps: int | None = None
    step_size: float | None = None
    diversity: float | None = None
    strength: float = EditSettings.strength
    disentanglement: float = EditSettings.disentanglement
    identity: float = EditSettings.identity
    method: EditMethod = EditSettings.method
    baseline: EditBaseline = "none"
    seed: int = RANDOM_SEED
    preset: Preset = "robust"
    prompt_model: str = ""
    towards: Files | None = None
    pictures_every: int = 0
    more: More | None = None

    def run(self, services: Services) -> Run:
        self._check_models(services, "edit", EditSettings.model)
        examples = examples_in(self.towards, "towards")
        given = self._given(towards=examples.sha256 if examples else "")
        settings = settings_of(EditSettings("-"), given, self.more)
        version = version_of(self.picture, settings.model, services)
        return Run(settings, EditJob(version, examples), parent=version.made_from)


@dataclass(frozen=True)
class InpaintCall(Call):
    """Repaints the part of a picture that a mask covers, in different ways; every other pixel stays as it was."""

    picture: GivenFile
    mask: GivenFile
    prompt: str = ""
    model: str = InpaintSettings.model
    n: int = InpaintSettings.n
    steps: int | None = None
    step_size: float | None = None
    diversity: float | None = None
    invert: bool = InpaintSettings.invert
    grow: int = InpaintSettings.grow
    feather: int = InpaintSettings.feather
    known_weight: float = InpaintSettings.known_weight
    baseline: bool = False
    seed: int = RANDOM_SEED
    preset: Preset = "robust"
    prompt_model: str = ""
    pictures_every: int = 0
    more: More | None = None

    def run(self, services: Services) -> Run:
        from engine import tasks
        from engine.pictures import masks

        self._check_models(services, "inpaint", InpaintSettings.model)
        usual = usual_prompt_model(services.models.row(self.model))
        settings = settings_of(InpaintSettings(prompt_model=usual), self._given(), self.more)
        version = version_of(self.picture, settings.model, services)
        read = masks.read_mask(path_of(self.mask, "mask"), version.picture.size)
        tasks.prepare_mask(settings, read.mask, version.picture)  # an empty one is told before the run
        fills_holes = services.models.family(settings.model).fills_holes
        job = InpaintJob(version, masks.encode_mask(read.mask), fills_holes=fills_holes)
        run = Run(settings, job, parent=version.made_from)
        if read.note:
            run.say(Notice(read.note))
        return run


@dataclass(frozen=True)
class TranslateCall(Call):
    """Redraws a picture in another domain of a model: the bundled one gives a drawn face other hair or a hat."""

    picture: GivenFile
    domain: str = TranslateSettings.domain
    references: Files | None = None
    prompt: str = ""
    model: str = TranslateSettings.model
    n: int = TranslateSettings.n
    steps: int | None = None
    step_size: float | None = None
    diversity: float | None = None
    style_scale: float = TranslateSettings.style_scale
    content_scale: float = TranslateSettings.content_scale
    identity: float = TranslateSettings.identity
    method: TranslateMethod = TranslateSettings.method
    baseline: TranslateBaseline = "none"
    seed: int = RANDOM_SEED
    preset: Preset = "robust"
    prompt_model: str = ""
    pictures_every: int = 0
    more: More | None = None

    def run(self, services: Services) -> Run:
        self._check_models(services, "translate", TranslateSettings.model)
        references = examples_in(self.references, "references")
        given = self._given(references=references.sha256 if references else "")
        settings = settings_of(TranslateSettings(), given, self.more)
        version = version_of(self.picture, settings.model, services)
        return Run(settings, TranslateJob(version, references), parent=version.made_from)


CALLS: Mapping[str, type[Call]] = {
    "generate": GenerateCall,
    "edit": EditCall,
    "inpaint": InpaintCall,
    "translate": TranslateCall,
}


def version_of(picture: Any, model: str, services: Services) -> PictureVersion:
    """What a run begins at. Raises PictureError or ModelError."""
    read, known = read_file(services, path_of(picture, "picture"), model)
    return PictureVersion(1, read.name, read, **known)


def examples_in(files: Any, name: str) -> "Examples | None":
    """Given pictures; None where there are none. Raises PictureError."""
    from engine.pictures.examples import read_examples

    if files in (None, "", []):
        return None
    many = files if isinstance(files, list) else [files]
    return read_examples(path_of(one, name) for one in many)
