"""Our own form of any opened model: one safetensors file, `role.key` -> tensor, the rest as JSON in its metadata."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from engine.checkpoints.checkpoint import Parts, Setting, State
from engine.checkpoints.content import Content
from engine.checkpoints.refusal import Refused
from engine.system.files import replacing

METADATA_KEY = "gmi_model"
VERSION = 1


def matches(content: Content) -> bool:
    return content.container == "safetensors" and METADATA_KEY in content.metadata


def read(content: Content) -> Parts:
    """The parts as they were written. Raises Refused for metadata that does not fit the tensors."""
    try:
        return _read(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused("it is a converted model whose description is damaged. Convert the original again.") from error


def _read(content: Content) -> Parts:
    about = json.loads(content.metadata[METADATA_KEY])
    if about["version"] != VERSION:
        raise Refused(f"it was converted by another version ({str(about['version'])[:9]}). Convert the original again.")
    networks: dict[str, dict[str, Tensor]] = {str(role): {} for role in about["roles"]}
    for name, tensor in content.value.items():
        role, _, key = name.partition(".")
        networks[role][key] = tensor
    stated = {
        str(role): {str(name): Setting(value, str(source)) for name, (value, source) in settings.items()}
        for role, settings in about["stated"].items()
    }
    notes = tuple(str(note) for note in about["notes"])
    return Parts(str(about["format"]), str(about["family"]), networks, stated, notes)


def write(path: Path, parts: Parts) -> None:
    """Writes the parts atomically. Raises OSError, and leaves nothing behind, if that fails."""
    about: dict[str, Any] = {
        "version": VERSION,
        "format": parts.format,
        "family": parts.family,
        "roles": sorted(parts.networks),
        "stated": {
            role: {name: [setting.value, setting.source] for name, setting in settings.items()}
            for role, settings in parts.stated.items()
        },
        "notes": list(parts.notes),
    }
    with replacing(path) as temporary:
        try:
            save_file(_flat(parts.networks), temporary, metadata={METADATA_KEY: json.dumps(about)})
        except SafetensorError as error:
            raise _os_error(error) from error


def _os_error(error: SafetensorError) -> OSError:
    """What the system said when the library could not write: it tells the number in its words alone."""
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(str(error))


def _flat(networks: Mapping[str, State]) -> dict[str, Tensor]:
    """`role.key` -> contiguous tensor of its own memory, as the format wants; what is so already is not copied."""
    flat: dict[str, Tensor] = {}
    seen: set[int] = set()
    for role, state in sorted(networks.items()):
        for key, tensor in sorted(state.items()):
            storage = tensor.untyped_storage()
            own = storage.data_ptr() not in seen and storage.nbytes() == tensor.numel() * tensor.element_size()
            seen.add(storage.data_ptr())
            compact = tensor.contiguous() if own else tensor.clone(memory_format=torch.contiguous_format)
            flat[f"{role}.{key}"] = compact
    return flat
