"""Arrays as files describe them: checked against the bytes that are really there, made into tensors only when wanted.

A file states a type, a number of elements, a shape, strides and an offset, each of which may lie. All are compared
with the bytes of the storage first; memory is taken afterwards, for what is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.checkpoints.refusal import Refused, printable

MAX_DIMENSIONS = 8
MAX_LENGTH = 1 << 40

TORCH_STORAGES: Mapping[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "storage.UntypedStorage": torch.uint8,
}
NUMPY_CODES: Mapping[str, torch.dtype] = {
    "f8": torch.float64,
    "f4": torch.float32,
    "f2": torch.float16,
    "i8": torch.int64,
    "i4": torch.int32,
    "i2": torch.int16,
    "i1": torch.int8,
    "u1": torch.uint8,
    "b1": torch.bool,
}


@dataclass(eq=False)
class Storage:
    """`count` elements in a row. In files of old torch versions the bytes come last: until then `data` is None."""

    dtype: torch.dtype
    count: int
    data: memoryview | None = None
    _flat: Tensor | None = field(default=None, init=False, repr=False)

    @property
    def bytes(self) -> int:
        return self.count * self.dtype.itemsize

    def attach(self, data: memoryview) -> None:
        """Takes the bytes. Raises Refused where their number is not that of the elements."""
        if len(data) != self.bytes:
            raise Refused(f"it claims {self.count:,} elements ({self.bytes:,} bytes) but holds {len(data):,} bytes.")
        self.data = data

    def flat(self) -> Tensor:
        """All elements [count], a view of the file's bytes where their address allows it; made once.

        Raises Refused where the bytes have not come.
        """
        if self._flat is None:
            if self.data is None:
                raise Refused("it names a tensor whose numbers are not in the file; it is cut short.")
            raw = torch.frombuffer(bytearray(self.data) if self.data.readonly else self.data, dtype=torch.uint8)
            if self.dtype == torch.bool:
                self._flat = raw != 0  # a byte other than 0 and 1 must not become a truth value
            else:
                self._flat = (raw if raw.data_ptr() % self.dtype.itemsize == 0 else raw.clone()).view(self.dtype)
        return self._flat


@dataclass(frozen=True, eq=False)
class StoredArray:
    """A tensor in a file: its storage and where in it the elements lie (offset and strides in elements)."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> torch.dtype:
        return self.storage.dtype

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * self.dtype.itemsize

    def tensor(self) -> Tensor:
        """The tensor, a view of the file's bytes where their address allows it. Raises Refused without bytes."""
        if self.elements == 0:
            return torch.empty(self.shape, dtype=self.dtype)
        return self.storage.flat().as_strided(self.shape, self.strides, self.offset)


def stored_array(storage: Any, offset: Any, shape: Any, strides: Any) -> StoredArray:
    """A checked `StoredArray` from what a file says. Raises Refused where it reaches beyond its storage."""
    if not isinstance(storage, Storage):
        raise Refused("it rebuilds a tensor from something that is no storage.")
    if not _are_lengths(shape) or not _are_lengths(strides) or len(shape) != len(strides):
        raise Refused("it rebuilds a tensor whose shape or strides are no lists of lengths.")
    if not isinstance(offset, int) or not 0 <= offset <= storage.count:
        raise Refused("it rebuilds a tensor that begins outside of its storage.")
    elements = math.prod(shape)
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if elements > storage.count or (elements and last >= storage.count):
        shown = "x".join(map(str, shape))
        raise Refused(f"it claims a tensor of {shown} elements in a storage of {storage.count:,}.")
    return StoredArray(storage, offset, tuple(shape), tuple(strides))


def _are_lengths(values: Any) -> bool:
    return (
        isinstance(values, tuple | list)
        and len(values) <= MAX_DIMENSIONS
        and all(isinstance(value, int) and 0 <= value <= MAX_LENGTH for value in values)
    )


# ---- numpy -----------------------------------------------------------------------------------------------


class DtypeShell:
    """numpy.dtype(code, align, copy), then its state. Only plain numbers in this machine's byte order pass."""

    __slots__ = ("code", "is_built")

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or code not in NUMPY_CODES:
            shown = printable(code) if isinstance(code, str) else type(code).__name__
            raise Refused(f"it holds an array of type {shown!r}; only arrays of numbers are read, no objects.")
        self.code = code
        self.is_built = False

    @property
    def dtype(self) -> torch.dtype:
        return NUMPY_CODES[self.code]

    def build(self, state: Any) -> None:
        """state: (version, byte order, subtype, field names, fields, size, alignment, flags)."""
        if self.is_built or not isinstance(state, tuple) or not 8 <= len(state) <= 9 or state[2:5] != (None,) * 3:
            raise Refused("it describes an array of records; only arrays of numbers are read.")
        if state[1] not in ("<", "|", "="):
            raise Refused(f"it holds numbers in the byte order {state[1]!r}, expected little-endian.")
        self.is_built = True


class ArrayShell:
    """An empty numpy array, then its state. `stored` once it has one. on_bytes: told how many bytes it takes."""

    __slots__ = ("stored", "_on_bytes")

    def __init__(self, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        self.stored: StoredArray | None = None
        self._on_bytes = on_bytes

    def build(self, state: Any) -> None:
        """state: (version, shape, dtype, is Fortran order, bytes). Raises Refused where the counts disagree."""
        if self.stored is not None or not isinstance(state, tuple) or len(state) != 5:
            raise Refused("it gives a numpy array a state that is none.")
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, DtypeShell) or not _are_lengths(shape):
            raise Refused("it gives a numpy array a type or shape that is none.")
        if isinstance(data, str | bytes | memoryview):
            self._on_bytes(len(data))
        if isinstance(data, str):  # written by Python 2
            data = latin1(data)
        if not isinstance(data, bytes | memoryview):
            raise Refused("it gives a numpy array contents that are no bytes; arrays of objects are not read.")
        storage = Storage(dtype.dtype, math.prod(shape))
        storage.attach(memoryview(data))
        self.stored = stored_array(storage, 0, shape, _strides(shape, bool(is_fortran)))


def numpy_scalar(dtype: Any, data: Any) -> float | int | bool:
    """numpy's scalar(dtype, bytes) as a Python number."""
    if isinstance(data, str):
        data = latin1(data)
    if not isinstance(dtype, DtypeShell) or not isinstance(data, bytes) or len(data) != dtype.dtype.itemsize:
        raise Refused("it holds a numpy number whose type and bytes do not fit.")
    value: float | int | bool = np.frombuffer(data, dtype=f"<{dtype.code}")[0].item()
    return value


def latin1(text: str) -> bytes:
    """The bytes that Python 2, or protocol 2, wrote as text."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise Refused("it holds bytes written as a text that they cannot be.") from error


def _strides(shape: tuple[int, ...] | list[int], is_fortran: bool) -> tuple[int, ...]:
    order = range(len(shape)) if is_fortran else range(len(shape) - 1, -1, -1)
    strides, step = [0] * len(shape), 1
    for axis in order:
        strides[axis] = step
        step *= max(shape[axis], 1)
    return tuple(strides)
