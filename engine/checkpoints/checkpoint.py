"""What every reader gives: the family, the weights under our networks' key names, and what shapes cannot tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.checkpoints.arrays import StoredArray
from engine.checkpoints.refusal import SAVE_AS_FLOATS, Refused, printable

State = Mapping[str, Tensor]
MAX_TENSORS = 20_000  # of one network; the largest known have three thousand
MAX_KEY = 1024  # letters of a tensor's name; those of known networks have a hundred
SPARE_BYTES = 16 << 20
LARGEST = torch.finfo(torch.float32).max  # networks run in 32 bits
_WEIGHTS = (".weight", ".bias", ".weight_orig", ".w", ".b")
_MASK = "attn_mask"  # of prompt models: minus infinity where a word may not look


@dataclass(frozen=True)
class Setting:
    """A number or word that the shapes of the weights cannot tell, and where it comes from: "the file", "usual", ..."""

    value: Any
    source: str


@dataclass(frozen=True)
class Parts:
    """What a reader finds in a file's content.

    networks: role -> state dict; stated: role -> name -> Setting, as far as the file tells; notes: what a person
    should know, for example what was left out.
    """

    format: str
    family: str
    networks: Mapping[str, State]
    stated: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Provenance:
    """Where weights come from: the file or folder, its format, its size in bytes, the sha256 of its content."""

    path: Path
    format: str
    bytes: int
    sha256: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """An opened model: networks by role, each a state dict of tensors on the CPU in the types of the file.

    configuration: role -> name -> Setting, complete. `engine.checkpoints.building` makes networks of it.
    """

    family: str
    networks: Mapping[str, State]
    configuration: Mapping[str, Mapping[str, Setting]]
    provenance: Provenance

    @property
    def keys(self) -> int:
        """Number of tensors."""
        return sum(len(state) for state in self.networks.values())

    @property
    def parameters(self) -> int:
        """Number of numbers."""
        return sum(tensor.numel() for state in self.networks.values() for tensor in state.values())


def tensors_of(values: Any, where: str) -> dict[str, Tensor]:
    """A state dict of a file's dictionary from text to arrays. Raises Refused naming what else stands there."""
    if not isinstance(values, dict):
        raise Refused(f"{where} should be a dictionary of tensors, found {type(values).__name__}.")
    if len(values) > MAX_TENSORS:
        raise Refused(f"{where} holds {len(values):,} tensors, more than any network has.")
    check_shared(values.values())
    state = {}
    for key, value in values.items():
        if not isinstance(key, str) or not isinstance(value, StoredArray | Tensor):
            raise Refused(f"{where} should hold tensors only, found {printable(str(type(value).__name__))}.")
        state[key] = value.tensor() if isinstance(value, StoredArray) else value
    return state


def check_shared(values: Iterable[Any]) -> None:
    """Raises Refused where arrays of a file come to far more bytes than they lie in: copies would fill the memory."""
    arrays = [value for value in values if isinstance(value, StoredArray)]
    lie_in = sum(storage.bytes for storage in {array.storage for array in arrays})
    total = sum(array.bytes for array in arrays)
    if total > 2 * lie_in + SPARE_BYTES:
        raise Refused(f"its {len(arrays):,} tensors come to {total:,} bytes, but lie in {lie_in:,}.")


def is_state_dict(value: Any) -> bool:
    """Whether a value is a dictionary from text to arrays, and not empty."""
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, StoredArray | Tensor) for k, v in value.items())
    )


def check_numbers(networks: Mapping[str, State]) -> None:
    """Raises Refused for weights that are no floating-point numbers as networks compute with, or not finite."""
    for role, state in networks.items():
        for key, tensor in state.items():
            if tensor.is_complex() or (tensor.is_floating_point() and tensor.itemsize == 1):
                kind = str(tensor.dtype).removeprefix("torch.")
                raise Refused(f"its {role} has numbers of the type {kind} ({printable(key)}). {SAVE_AS_FLOATS}")
            if not tensor.is_floating_point() and key.endswith(_WEIGHTS):
                kind = str(tensor.dtype).removeprefix("torch.")
                raise Refused(f"its {role} has whole numbers ({kind}) as weights ({printable(key)}). {SAVE_AS_FLOATS}")
            if tensor.is_floating_point() and tensor.numel() and not key.endswith(_MASK):
                low, high = (float(end) for end in tensor.aminmax())
                if not max(-low, high) <= LARGEST:
                    raise Refused(
                        f"its {role} has a value that is no finite number of 32 bits ({printable(key)}): its training "
                        "failed, or the file is damaged. Take an earlier step of the training."
                    )


def check_amount(networks: Mapping[str, State], file_bytes: int) -> None:
    """Raises Refused where the tensors together are far more than the file holds: names for the same bytes."""
    count = sum(len(state) for state in networks.values())
    total = sum(tensor.numel() * tensor.element_size() for state in networks.values() for tensor in state.values())
    if count > MAX_TENSORS or total > 2 * file_bytes + SPARE_BYTES:
        raise Refused(f"its {count:,} tensors come to {total:,} bytes, the file has {file_bytes:,}.")
