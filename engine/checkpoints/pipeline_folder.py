"""Folders in diffusers' layout: model_index.json, and a folder for each part of the pipeline.

The index names a library and a class for each part. Both are compared with a table of ours and nothing is looked up by
them; configurations pass `engine.networks.diffusion_configuration` field by field, words are data, and of weights only
safetensors are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from engine.checkpoints.checkpoint import Parts, Setting, check_amount, check_numbers, tensors_of
from engine.checkpoints.content import Content, is_safetensors
from engine.checkpoints.refusal import Refused, checked, printable
from engine.errors import ModelError
from engine.networks.diffusion import text_encoder_state, vae_state, words_state
from engine.networks.diffusion_configuration import (
    INDEX,
    MAX_CONFIGURATION,
    PIPELINES,
    SCHEDULE,
    TEXT_ENCODER,
    UNET,
    VAE,
    index_field,
)
from engine.networks.tokenizer import (
    MERGES_FILE,
    SETTINGS_FILE,
    SPECIAL_FILE,
    TOKENIZER_FILE,
    VOCABULARY_FILE,
    read_word_table,
)
from engine.system.fields import Field, FieldError, part_of, read_json, text

FAMILY = "one_step_diffusion"
CONFIGURATION, SCHEDULE_FILE = "config.json", "scheduler_config.json"
_UNFINISHED = (".incomplete", ".part", ".crdownload", ".download", ".tmp")
_FIELDS: Mapping[str, Field] = {
    "unet": UNET,
    "vae": VAE,
    "text_encoder": TEXT_ENCODER,
    "text_encoder_2": TEXT_ENCODER,
}
_STEMS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}
_LICENCES = ("license", "licence")
_GET_ALL = "Fetch the whole folder again; a download that was broken off goes on where it was."


@dataclass(frozen=True)
class PipelineFolder:
    """The files of a pipeline. weights: by role; others: every other file that is read."""

    folder: Path
    pipeline: str
    weights: Mapping[str, Path]
    others: tuple[Path, ...]

    @property
    def tokenizers(self) -> tuple[str, ...]:
        return tuple(role for role in PIPELINES[self.pipeline] if role.startswith("tokenizer"))


def is_pipeline(folder: Path) -> bool:
    """Whether a folder is in diffusers' layout."""
    return (folder / INDEX).is_file()


def find_parts(folder: Path) -> PipelineFolder:
    """The files of the pipeline in a folder. Raises Refused for others than ours, ModelError for half of one."""
    pipeline = _pipeline_of(folder)
    parts = PIPELINES[pipeline]
    weights = {role: _weights(folder / role, stem) for role, stem in _STEMS.items() if role in parts}
    others = [folder / INDEX, _there(folder / "scheduler" / SCHEDULE_FILE)]
    others += [_there(folder / role / CONFIGURATION) for role in weights]
    for role in parts:
        if role.startswith("tokenizer"):
            others += _word_files(folder / role)
    return PipelineFolder(folder, pipeline, weights, tuple(others))


def read_parts(found: PipelineFolder, read: Callable[[Path], Content]) -> Parts:
    """The networks of a pipeline, in the types of its files, and what its configurations say. Raises Refused."""
    networks: dict[str, Mapping[str, Tensor]] = {}
    for role, path in found.weights.items():
        place = f"{role}/{path.name}"
        content = read(path)
        if content.container != "safetensors":
            raise Refused("of a pipeline only safetensors are read.", file=place)
        state = tensors_of(content.value, f"its {role}")
        state = text_encoder_state(state) if role.startswith("text_encoder") else state
        state = vae_state(state) if role == "vae" else state
        try:
            check_amount({role: state}, content.bytes)
            check_numbers({role: state})
        except Refused as error:
            raise error.naming(place) from error
        networks[role] = state
    stated: dict[str, dict[str, Setting]] = {
        role: {"configuration": _setting(found.folder / role / CONFIGURATION, _FIELDS[role])} for role in found.weights
    }
    stated["unet"]["schedule"] = _setting(found.folder / "scheduler" / SCHEDULE_FILE, SCHEDULE)
    for role in found.tokenizers:
        networks[role] = _words(found.folder / role)
    return Parts(
        f"diffusers folder, {found.pipeline} (safetensors)", FAMILY, networks, stated, (_licence(found.folder),)
    )


def _pipeline_of(folder: Path) -> str:
    """The name of the pipeline, one of PIPELINES, all of whose parts are of the classes that it should have."""
    told = _checked(folder / INDEX, part_of({"_class_name": text(100)})).get("_class_name", "")
    if told not in PIPELINES:
        raise Refused(
            f"it is a folder of diffusers of the pipeline {printable(told or 'without a name', 60)}, which does not "
            f"run here. These do, with models of one to four steps: {', '.join(PIPELINES)}; for example SD-Turbo.",
            file=folder.name,
        )
    _checked(folder / INDEX, index_field(told))
    return str(told)


def _weights(folder: Path, stem: str) -> Path:
    """The safetensors of a part: in full precision where there are both, else those of 16 bits."""
    part = f"{folder.name}/{stem}.safetensors"
    for name in (f"{stem}.safetensors", f"{stem}.fp16.safetensors"):
        if (path := folder / name).is_file():
            if path.stat().st_size and not is_safetensors(path):
                raise Refused(f"it is no whole safetensors file. {_GET_ALL}", file=f"{folder.name}/{path.name}")
            return path
    beside = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    if any(name.endswith(_UNFINISHED) for name in beside):
        raise ModelError(f"{part} is still being fetched, or its download was broken off. {_GET_ALL}")
    if any(name.startswith(stem) and name.endswith(".index.json") for name in beside):
        raise ModelError(
            f"{folder} holds its weights in several files, which are not read of a pipeline. Fetch the variant of "
            f"16 bits, {stem}.fp16.safetensors, in their place."
        )
    if any(name.endswith((".bin", ".pt", ".pth", ".ckpt", ".msgpack")) for name in beside):
        raise ModelError(
            f"{folder} holds no safetensors. Of a pipeline nothing else is read: fetch {part}, or save the pipeline "
            "with safe_serialization=True."
        )
    raise ModelError(f"{part} is missing in {folder.parent}: half a download? {_GET_ALL}")


def _there(path: Path) -> Path:
    if not path.is_file():
        raise ModelError(
            f"{path.parent.name}/{path.name} is missing in {path.parent.parent}: half a download? {_GET_ALL}"
        )
    return path


def _word_files(folder: Path) -> list[Path]:
    names = (TOKENIZER_FILE,) if (folder / TOKENIZER_FILE).is_file() else (VOCABULARY_FILE, MERGES_FILE)
    more = [folder / name for name in (SETTINGS_FILE, SPECIAL_FILE)]
    return [_there(folder / name) for name in names] + [path for path in more if path.is_file()]


def _words(folder: Path) -> dict[str, Tensor]:
    try:
        return words_state(read_word_table(folder))
    except FieldError as error:
        raise Refused(f"{error}.", file=folder.name) from error
    except OSError as error:
        raise ModelError(f"{folder} cannot be read: {error.strerror}.") from error


def _setting(path: Path, field: Field) -> Setting:
    name = f"{path.parent.name}/{path.name}"
    return Setting(_checked(path, field), name)


def _checked(path: Path, field: Field) -> Any:
    """What a JSON file of the folder says. Raises Refused naming the file, ModelError if it cannot be read."""
    name = path.name if path.name == INDEX else f"{path.parent.name}/{path.name}"
    try:
        return checked(field, read_json(path, MAX_CONFIGURATION), name)
    except Refused as error:
        raise error.naming(path.parent.name if path.name == INDEX else path.parent.parent.name) from error
    except FieldError as error:
        raise Refused(f"{error}.", file=name) from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error


def _licence(folder: Path) -> str:
    names = sorted(file.name for file in folder.iterdir() if file.name.lower().startswith(_LICENCES))
    if not names:
        return "no licence file in the folder: look where the model is from"
    return f"its licence stands in {printable(names[0], 40)}"
