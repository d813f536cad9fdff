"""The table of models: one row each, told by the model's own `model.json`. Reading it needs no torch."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from engine.errors import ModelError, did_you_mean
from engine.families import find_family
from engine.settings import GenerateSettings

ModelKind = Literal["generator", "prompt"]

_INSTALLED = Path(__file__).resolve().parents[1] / "assets"  # where a wheel puts them
ASSETS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).resolve().parents[2] / "assets"
ROW_FILE = "model.json"
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
    prompt_model: str = ""  # of a generator: the one that knows its pictures; "" for the usual one
    classes: tuple[str, ...] = ()  # names, in the generator's order
    options: Mapping[str, Any] = field(default_factory=dict)  # what weights cannot tell, by `name` or `role.name`
    encoder_side: int = 0  # pixels of what the encoder was trained on; 0 for the generator's own
    # Distances of `engine.tasks.inversion`, None where nobody measured them: the largest at which a search redraws
    # pictures of the model's own kind, and the one below which the encoder's guess shows a picture to be framed right.
    in_domain_distance: float | None = None
    framed_distance: float | None = None
    states: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # state dicts by role, where opened already

    @property
    def size(self) -> int:
        """Bytes on disk; missing files count nothing."""
        return sum(file.path.stat().st_size for file in self.files.values() if file.path.is_file())

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
    prompt_model = row.prompt_model if row and row.prompt_model else GenerateSettings.prompt_model
    prompt = row.examples[0] if row and row.examples else FALLBACK_PROMPT
    about = find_family(family)
    return GenerateSettings(
        prompt, model=model, prompt_model=prompt_model, flow=about.flow(), candidates=about.candidates
    )


def read_row(folder: Path) -> ModelRow:
    """The row that a model's folder tells. Raises ModelError for a missing, damaged or incomplete file."""
    path = folder / ROW_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{folder} is not a model: it holds no {ROW_FILE}.") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged: {error}.") from error
    try:
        return _row(values, folder)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"{path} is not a valid model description: {reason}.") from error


def _row(values: Any, folder: Path) -> ModelRow:
    if values["kind"] not in get_args(ModelKind):
        raise ValueError(f"kind is {values['kind']!r}, expected one of {', '.join(get_args(ModelKind))}")
    return ModelRow(
        name=str(values["name"]),
        kind=values["kind"],
        family=str(values["family"]),
        resolution=int(values["resolution"]),
        licence=str(values["licence"]),
        data=str(values.get("data", "")),
        paper=str(values.get("paper", "")),
        examples=tuple(str(example) for example in values.get("examples", ())),
        default_space=str(values.get("default_space", "")),
        prompt_model=str(values.get("prompt_model", "")),
        classes=tuple(str(name) for name in values.get("classes", ())),
        options=dict(values.get("options", {})),
        encoder_side=_encoder_side(values.get("encoder_side", 0)),
        in_domain_distance=_distance(values, "in_domain_distance"),
        framed_distance=_distance(values, "framed_distance"),
        files={role: _file(file, folder) for role, file in values["files"].items()},
        folder=folder,
    )


def _encoder_side(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 4096:
        raise ValueError(f"encoder_side is {value!r}, expected a number of pixels")
    return value


def _distance(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1:
        raise ValueError(f"{name} is {value!r}, expected a number above 0, at most 1")
    return float(value)


def _file(values: Mapping[str, str], folder: Path) -> ModelFile:
    path, sha256 = Path(values["path"]), values["sha256"]
    if path.name != str(path):
        raise ValueError(f"{str(path)!r} is not a file name in the model's own folder")
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"the sha256 of {path} is not 64 hexadecimal digits")
    return ModelFile(folder / path, sha256)
