"""A picture's place in a StyleGAN2 as other programs save it: numpy arrays, torch tensors; or as `invert` does here.

Known are `w_pivot.pt` of PTI, `projected_w.npz` of StyleGAN2-ADA's projector, `latents.pt` of e4e, the projections of
rosinality, and any file with one array. As of models, nothing in a file is run.
"""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.checkpoints.arrays import ArrayShell, StoredArray
from engine.checkpoints.content import is_safetensors, read_content
from engine.checkpoints.refusal import Refused, printable
from engine.errors import ModelError

MAX_BYTES = 256 << 20  # a torch file may hold all steps of a search, of which the tensor is the last
MAX_ARCHIVE = 8 << 20  # of numpy arrays, and of each array in it
MAX_NUMBERS = 1 << 20  # of a w: 18 layers of 512 have 9,216
MAX_DEPTH = 3  # of lists and dictionaries around an array
MAX_HEADER = 10_000  # of a numpy array; numpy's own limit
KEYS = ("w", "ws", "w_pivot", "projected_w", "latent", "latents", "latent_code")
OWN_KEY = "latents"  # of a safetensors file: whitened, as `invert` writes them
_NOISE, _NPY = "noise.", ".npy"
_NUMPY, _ZIP, _PICKLE = b"\x93NUMPY", b"PK\x03\x04", b"\x80"


@dataclass(frozen=True, eq=False)
class SavedW:
    """What a file holds, finite and in float32: `ws` [..., w_dim] as saved elsewhere; or `latents` [L, K], whitened,
    with residual styles [S] and the noise by layer, as saved here. The others are None or empty.
    """

    name: str
    ws: Tensor | None = None
    latents: Tensor | None = None
    residual: Tensor | None = None
    noise: Mapping[str, Tensor] = field(default_factory=dict)


def is_saved_w(path: Path) -> bool:
    """Whether a file begins as one of arrays, which no picture does. False for what cannot be read."""
    try:
        if not path.is_file():
            return False
        head = _head(path)
        if head.startswith(_ZIP):
            names = _names_in_archive(path)
            return path.stat().st_size > MAX_ARCHIVE or _are_arrays(names) or any(map(_is_of_torch, names))
        return head.startswith((_NUMPY, _PICKLE)) or is_safetensors(path)
    except OSError:
        return False


def read_saved_w(path: Path) -> SavedW:
    """The w in a file. Raises Refused naming the file and the reason, or ModelError where it cannot be read."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Refused(f"it has more than {MAX_BYTES >> 20} MB, far more than a w needs.")
        head = _head(path)
        if head.startswith(_NUMPY):
            return SavedW(path.name, _checked(_array(path.read_bytes())))
        if head.startswith(_ZIP) and _are_arrays(_names_in_archive(path)):
            return SavedW(path.name, _checked(_array_of_archive(path)))
        content = read_content(path)
        if content.container == "safetensors" and OWN_KEY in content.value:
            return _own(path.name, content.value)
        return SavedW(path.name, _checked(_tensor(content.value)))
    except Refused as error:
        raise error.naming(path.name) from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}.") from error


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_NUMPY))


def _is_of_torch(name: str) -> bool:
    return name.rpartition("/")[2] == "data.pkl"


def _own(name: str, tensors: Mapping[str, Tensor]) -> SavedW:
    """What `invert` wrote."""
    noise = {key.removeprefix(_NOISE): _finite(one) for key, one in tensors.items() if key.startswith(_NOISE)}
    residual = tensors.get("residual")
    return SavedW(
        name,
        latents=_checked(tensors[OWN_KEY]),
        residual=None if residual is None else _checked(residual),
        noise=noise,
    )


def _checked(w: Tensor) -> Tensor:
    """As float32. Raises Refused for anything but a w of usual size, its numbers finite."""
    if not 1 <= w.ndim <= 4 or not 0 < w.numel() <= MAX_NUMBERS:
        raise Refused(
            f"its array is of {' x '.join(map(str, w.shape)) or 'one number'}, expected a w, or one for each layer."
        )
    return _finite(w)


def _finite(values: Tensor) -> Tensor:
    if not values.is_floating_point():
        kind = str(values.dtype).removeprefix("torch.")
        raise Refused(f"its numbers are of type {kind}, expected those with a point.")
    numbers = values.float()
    if not torch.isfinite(numbers).all():
        raise Refused("some of its numbers are infinite or none at all (NaN): the search that made it has failed.")
    return numbers.clone()  # its own memory: the file may go


# ---- torch files and pickles -----------------------------------------------------------------------------


def _tensor(value: Any, depth: int = 0) -> Tensor:
    """The one array, or the one under a usual name, also where a list or dictionary of one picture is around it."""
    if isinstance(value, ArrayShell) and value.stored is not None:
        return value.stored.tensor()  # of a pickle that is nothing but an array
    if isinstance(value, StoredArray):
        return value.tensor()
    if isinstance(value, Tensor):
        return value
    entries: list[Any] = []
    if isinstance(value, dict):
        named = [value[key] for key in KEYS if isinstance(value.get(key), StoredArray | Tensor)]
        entries = named[:1] or list(value.values())
    elif isinstance(value, list | tuple):
        entries = list(value)
    if len(entries) == 1 and depth < MAX_DEPTH:
        return _tensor(entries[0], depth + 1)
    held = f"{len(entries)} things" if entries else f"a {type(value).__name__}"
    raise Refused(f"it holds {held}, expected one array, or one called {', '.join(KEYS[:-1])} or {KEYS[-1]}.")


# ---- numpy -----------------------------------------------------------------------------------------------


def _names_in_archive(path: Path) -> list[str]:
    """Of a zip archive that is small enough to be one of numpy's; otherwise none."""
    if path.stat().st_size > MAX_ARCHIVE:
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return []


def _are_arrays(names: list[str]) -> bool:
    return bool(names) and all(name.endswith(_NPY) for name in names)


def _array_of_archive(path: Path) -> Tensor:
    """The array under a usual name, or the only one. Raises Refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename.removesuffix(_NPY): entry for entry in archive.infolist()}
            name = next((key for key in KEYS if key in entries), next(iter(entries)) if len(entries) == 1 else None)
            if name is None:
                shown = ", ".join(printable(key, 40) for key in list(entries)[:5])
                raise Refused(f"it holds the arrays {shown}, expected one called {', '.join(KEYS[:-1])} or {KEYS[-1]}.")
            if entries[name].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Refused("its archive is compressed in a way that numpy does not use.")
            with archive.open(entries[name]) as file:
                data = file.read(MAX_ARCHIVE + 1)  # whatever size it claims
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        if isinstance(error, Refused):
            raise
        raise Refused(f"its archive is damaged: {printable(str(error))}. Save it again.") from error
    if len(data) > MAX_ARCHIVE:
        raise Refused(f"its array has more than {MAX_ARCHIVE >> 20} MB, far more than a w needs.")
    return _array(data)


def _array(data: bytes) -> Tensor:
    """An array as numpy saves it, without its help for objects. Raises Refused."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise Refused("it is a numpy array of records, expected numbers.")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file, max_header_size=MAX_HEADER)
    except (ValueError, SyntaxError, TypeError, tokenize.TokenError, MemoryError, RecursionError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused("it is no readable numpy array; it is damaged. Save it again.") from error
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise Refused(f"its array is of type {printable(str(dtype), 40)}, expected numbers with a point.")
    held = len(data) - file.tell()
    if min(shape, default=1) < 1 or math.prod(shape) * dtype.itemsize != held:
        shown = printable(" x ".join(map(str, shape)) or "one number", 40)
        raise Refused(f"it claims an array of {shown} but holds {held:,} bytes; it is damaged.")
    values = np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if is_fortran else "C")
    return torch.from_numpy(np.array(values, dtype=np.float64, order="C"))
