"""The table of models: one row each, told by the model's own `model.json`. Reading it needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from engine.errors import ModelError, did_you_mean
from engine.families import Family, find_family
from engine.settings import LIMITS, GenerateSettings
from engine.system.fields import (
    FieldError,
    anything,
    either,
    flag,
    list_of,
    named,
    number,
    one_of,
    or_none,
    read_json,
    table,
    text,
    whole,
)

ModelKind = Literal["generator", "prompt"]

_INSTALLED = Path(__file__).resolve().parents[1] / "assets"  # where a wheel puts them
ASSETS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).resolve().parents[2] / "assets"
ROW_FILE = "model.json"
MAX_ROW = 4 << 20  # bytes; the names of 100,000 classes
PUBLIC_PREFIX = "open_clip:"

FALLBACK_PROMPT = "a picture"


@dataclass(frozen=True)
class ModelFile:
    """One file of a model and the sha256 that it must have."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class ModelRow:
    """What is known of a model without loading it. `files` by role: generator, discriminator, weights, ..."""

    name: str
    kind: ModelKind
    family: str
    resolution: int
    licence: str
    files: Mapping[str, ModelFile]
    folder: Path
    data: str = ""
    paper: str = ""
    examples: tuple[str, ...] = ()
    default_space: str = ""  # of latents; "" for the family's own
    spaces: tuple[str, ...] = ()  # others that it has and its family does not, to choose from
    prompt_model: str = ""  # of a generator: the one that knows its pictures; "" for the usual one
    sentences: str = ""  # of a generator that is told sentences: the prompt model whose features of a text those are
    classes: tuple[str, ...] = ()  # names, in the generator's order
    options: Mapping[str, Any] = field(default_factory=dict)  # what weights cannot tell, by `name` or `role.name`
    encoder_side: int = 0  # pixels of what the encoder was trained on; 0 for the generator's own
    draft_resolution: int = 0  # pixels of the pictures that a run looks at while it goes on; 0: of its own
    # Distances of `engine.tasks.inversion`, None where nobody measured them: the largest at which a search redraws
    # pictures of the model's own kind, and the one below which the encoder's guess shows a picture to be framed right.
    in_domain_distance: float | None = None
    framed_distance: float | None = None
    domain: str = ""  # of a generator: what it draws, in words that go on "NAME draws ..."
    tuned: Mapping[str, float] = field(default_factory=dict)  # numbers of a run that fit it better than its family's
    domain_likeness: float | None = None  # below which a prompt asks for something else, see `engine.models.domain`
    states: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # state dicts by role, where opened already

    @property
    def size(self) -> int:
        """Bytes on disk; missing files count nothing."""
        return sum(file.path.stat().st_size for file in self.files.values() if file.path.is_file())

    @property
    def main_sha256(self) -> str | None:
        """By which the model is known: of its generator, or a prompt model's weights; None where none is told."""
        roles = (*find_family(self.family).networks, "weights")
        return next((self.files[role].sha256 for role in roles if role in self.files), None)

    def file(self, role: str) -> ModelFile:
        """The file of that role. Raises ModelError if the row names none."""
        if role not in self.files:
            raise ModelError(f"{self.folder / ROW_FILE} names no {role!r} file; a {self.family} model needs one.")
        return self.files[role]


def list_models(assets: Path = ASSETS) -> tuple[ModelRow, ...]:
    """The bundled models, by kind and name. Raises ModelError for a damaged or duplicate row."""
    rows: dict[str, ModelRow] = {}
    for path in sorted(assets.glob(f"*/{ROW_FILE}")):
        row = read_row(path.parent)
        if row.name in rows:
            raise ModelError(f"Two models are called {row.name!r}: {rows[row.name].folder} and {row.folder}.")
        rows[row.name] = row
    return tuple(sorted(rows.values(), key=lambda row: (row.kind, row.name)))


def find_row(name: str, kind: ModelKind, assets: Path = ASSETS) -> ModelRow:
    """The bundled model of that name and kind. Raises ModelError naming the ones there are."""
    rows = {row.name: row for row in list_models(assets)}
    if name not in rows:
        known = [row.name for row in rows.values() if row.kind == kind]
        listed = ", ".join(known) or f"none (is {assets} complete?)"
        raise ModelError(f"There is no {kind} model {name!r}{did_you_mean(name, known)} Bundled: {listed}.")
    if rows[name].kind != kind:
        raise ModelError(f"{name!r} is a {rows[name].kind} model; a {kind} model is needed here.")
    return rows[name]


def first_settings(model: str, family: str, row: ModelRow | None = None) -> GenerateSettings:
    """What a run of a model begins with: by its family and, where the table has one, its row."""
    prompt = row.examples[0] if row and row.examples else FALLBACK_PROMPT
    about = family_of(family, row)
    return GenerateSettings(
        prompt, model=model, prompt_model=usual_prompt_model(row), flow=about.flow(), candidates=about.candidates
    )


def usual_prompt_model(row: ModelRow | None) -> str:
    """The name of the prompt model that knows a generator's pictures, or the usual one."""
    return row.prompt_model if row and row.prompt_model else GenerateSettings.prompt_model


def family_of(name: str, row: ModelRow | None) -> Family:
    """The family of that name, with the numbers that fit the row's model where it has some."""
    family = find_family(name)
    if not (row and row.tuned):
        return family
    realism = {name: value for name, value in row.tuned.items() if name == "realism"}  # counts in every preset
    return replace(family, tuned={**family.tuned, **row.tuned}, raw={**family.raw, **realism})


def read_row(folder: Path) -> ModelRow:
    """The row that a model's folder tells. Raises ModelError for a missing, damaged or incomplete file."""
    path = folder / ROW_FILE
    try:
        return _row(_ROW(read_json(path, MAX_ROW), ""), folder)
    except FileNotFoundError as error:
        raise ModelError(f"{folder} is not a model: it holds no {ROW_FILE}.") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    except FieldError as error:
        raise ModelError(f"{path} is not a valid model description: {error}.") from error


_FILE_NAME = text(
    255,
    r"(?!\.)(?!(?i:con|prn|aux|nul|com\d|lpt\d)(\.|$))[^/\\:]+",
    "the name of a file in the model's own folder",
)
_OPTION = either(or_none(flag), whole(-(10**9), 10**9), number(-1e9, 1e9), text(100), list_of(flag, 0, 64))
_BUNDLED_NAME = text(100, r"[\w-][\w.-]*|", "the name of a model that comes with the studio")
_ROW = table(
    {
        "name": text(200),
        "kind": one_of(get_args(ModelKind)),
        "family": text(40, r"\w+", "the name of a family"),
        "resolution": whole(1, 8192),
        "licence": text(200),
        "data": text(2000),
        "paper": text(2000),
        "examples": list_of(text(1000), 0, 200),
        "default_space": text(20, r"[\w+]*", "the name of a latent space"),
        "spaces": list_of(text(20, r"[\w+]+", "the name of a latent space"), 0, 8),
        "prompt_model": _BUNDLED_NAME,
        "sentences": _BUNDLED_NAME,
        "classes": list_of(text(200), 0, 100_000),
        "options": named(_OPTION, text(100, r"\w+(\.\w+)?", "a setting, such as generator.conv_clamp"), 64),
        "encoder_side": whole(0, 4096),
        "draft_resolution": whole(0, 4096),
        "in_domain_distance": or_none(number(0, 1, above=True)),
        "framed_distance": or_none(number(0, 1, above=True)),
        "domain": text(300),
        "domain_likeness": or_none(number(-1, 1)),
        "tuned": table(
            {name: number(*LIMITS[name]) for name in ("step_size", "diversity_gain", "condition_weight", "realism")}
        ),
        "files": named(
            table(
                {"path": _FILE_NAME, "sha256": text(64, "[0-9a-f]{64}", "64 hexadecimal digits")},
                needed=("path", "sha256"),
            ),
            text(40, r"\w+", "a role, such as generator"),
            16,
        ),
        # What the making of a bundled model leaves there, for people.
        "steps": anything,
        "codes": anything,
        "counts": anything,
        "sources": anything,
    },
    needed=("name", "kind", "family", "resolution", "licence", "files"),
)


def _row(values: dict[str, Any], folder: Path) -> ModelRow:
    return ModelRow(
        name=values["name"],
        kind=values["kind"],
        family=values["family"],
        resolution=values["resolution"],
        licence=values["licence"],
        data=values.get("data", ""),
        paper=values.get("paper", ""),
        examples=tuple(values.get("examples", ())),
        default_space=values.get("default_space", ""),
        spaces=tuple(values.get("spaces", ())),
        prompt_model=values.get("prompt_model", ""),
        sentences=values.get("sentences", ""),
        classes=tuple(values.get("classes", ())),
        options=values.get("options", {}),
        encoder_side=values.get("encoder_side", 0),
        draft_resolution=values.get("draft_resolution", 0),
        in_domain_distance=values.get("in_domain_distance"),
        framed_distance=values.get("framed_distance"),
        domain=values.get("domain", ""),
        domain_likeness=values.get("domain_likeness"),
        tuned=values.get("tuned", {}),
        files={role: ModelFile(folder / file["path"], file["sha256"]) for role, file in values["files"].items()},
        folder=folder,
    )
