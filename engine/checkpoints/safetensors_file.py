"""Reading and writing safetensors: the format of the bundled models. It holds numbers only, no code."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from engine.checkpoints.content import size_to_read
from engine.errors import ModelError
from engine.system.files import sha256_of, write_atomic

_FETCH_AGAIN = "Fetch the file again (in a clone: `git checkout -- {path}`)."


def verify(path: Path, sha256: str | None = None) -> str:
    """Checks that the file is there and, if a hash is given, that it fits. Returns the file's sha256.

    Raises ModelError naming the file and what to do.
    """
    if not path.is_file():
        raise ModelError(f"The model file {path} is missing. " + _FETCH_AGAIN.format(path=path))
    size_to_read(path)  # no pipe, device or endless hole is hashed
    try:
        found = sha256_of(path)
    except OSError as error:
        raise ModelError(f"The model file {path} cannot be read: {error.strerror}.") from error
    if sha256 is not None and found != sha256:
        raise ModelError(
            f"The model file {path} is damaged or was changed: its sha256 is {found[:12]}…, "
            f"expected {sha256[:12]}…. " + _FETCH_AGAIN.format(path=path)
        )
    return found


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, floating ones as float32 whatever they were stored in. Raises ModelError."""
    try:
        tensors = load(path.read_bytes())
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"The model file {path} is not a readable safetensors file: {error}.") from error
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], *, dtype: torch.dtype | None = None) -> str:
    """Writes the tensors atomically, floating ones as `dtype` if given; returns the file's sha256.

    Equal tensors give equal bytes. Raises ValueError for a value that `dtype` cannot hold.
    """
    stored = {}
    for key, tensor in sorted(tensors.items()):
        converted = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        if tensor.is_floating_point() and not torch.isfinite(converted).all():
            raise ValueError(f"{key} holds a value that is not finite in {converted.dtype}.")
        stored[key] = converted.clone()  # safetensors refuses tensors that share memory
    write_atomic(path, save(stored))
    return sha256_of(path)
