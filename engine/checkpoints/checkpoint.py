"""What every reader gives: the family, the weights under our networks' key names, and what shapes cannot tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from engine.checkpoints.arrays import StoredArray
from engine.checkpoints.refusal import Refused, printable

State = Mapping[str, Tensor]
MAX_TENSORS = 200_000
SPARE_BYTES = 16 << 20


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
    state = {}
    for key, value in values.items():
        if not isinstance(key, str) or not isinstance(value, StoredArray | Tensor):
            raise Refused(f"{where} should hold tensors only, found {printable(str(type(value).__name__))}.")
        state[key] = value.tensor() if isinstance(value, StoredArray) else value
    return state


def is_state_dict(value: Any) -> bool:
    """Whether a value is a dictionary from text to arrays, and not empty."""
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, StoredArray | Tensor) for k, v in value.items())
    )


def check_amount(networks: Mapping[str, State], file_bytes: int) -> None:
    """Raises Refused where the tensors together are far more than the file holds: names for the same bytes."""
    count = sum(len(state) for state in networks.values())
    total = sum(tensor.numel() * tensor.element_size() for state in networks.values() for tensor in state.values())
    if count > MAX_TENSORS or total > 2 * file_bytes + SPARE_BYTES:
        raise Refused(f"its {count:,} tensors come to {total:,} bytes, the file has {file_bytes:,}.")


def without_prefix(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries without `prefix`, if all keys begin with it; otherwise as they are."""
    if state and all(key.startswith(prefix) for key in state):
        return {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)
