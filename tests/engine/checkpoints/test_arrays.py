"""Arrays of files: numpy's own pickles read back, views of storages in closed form, bytes that are no truth values."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.checkpoints.arrays import (
    MAX_DIMENSIONS,
    MAX_LENGTH,
    ArrayShell,
    DtypeShell,
    Storage,
    latin1,
    numpy_scalar,
    stored_array,
)
from engine.checkpoints.pickle_machine import Ledger
from engine.checkpoints.refusal import Refused
from engine.checkpoints.torch_file import read_pickle, read_torch_zip
from tests.engine.checkpoints.hostile import pickled, storage, tensor, torch_zip

PLAIN_CODES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1")


def read(value: Any, protocol: int = 4) -> Any:
    """What Python pickled, read by our machine."""
    return read_pickle(memoryview(pickle.dumps(value, protocol)), Ledger())


def floats(count: int, *, offset: int = 0) -> Storage:
    """0, 1, 2, ... as float32, `offset` bytes behind an address that float32 may have."""
    memory = np.zeros(4 * count + 16, np.uint8)
    start = -memory.ctypes.data % 8 + offset
    memory[start : start + 4 * count] = np.arange(count, dtype=np.float32).view(np.uint8)
    return Storage(torch.float32, count, memory[start : start + 4 * count].data)


def same(found: Tensor, expected: Any) -> None:
    assert torch.equal(found, torch.from_numpy(expected.copy(order="C")))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", [1, 2, 3, 4])
@pytest.mark.parametrize("code", PLAIN_CODES)
def test_numpys_own_pickles(code: str, protocol: int, order: Any) -> None:
    """Of every type that is read, row by row and column by column; protocols 1 and 2 write bytes as text."""
    array = np.array(np.arange(24).reshape(2, 3, 4) % 2, dtype=code, order=order)
    array[1] += array.dtype.type(code != "b1")
    shell = read(array, protocol)
    assert isinstance(shell, ArrayShell) and shell.stored is not None
    same(shell.stored.tensor(), array)
    assert shell.stored.elements == 24 and shell.stored.bytes == array.nbytes


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 5), (5, 1, 2)])
def test_numpy_arrays_of_odd_shapes(shape: tuple[int, ...], order: Any) -> None:
    array = np.array(np.arange(np.prod(shape)).reshape(shape), dtype="f4", order=order)
    for protocol in (2, 4):
        same(read(array, protocol).stored.tensor(), array)


def test_numpy_arrays_of_python_2() -> None:
    """Their bytes are a text, and their lists of lengths may be lists."""
    dtype = DtypeShell("i2")
    dtype.build((3, "<", None, None, None, -1, -1, 0))
    shell = ArrayShell()
    shell.build((1, [2], dtype, 0, "\x01\x02\xff\xff"))
    assert shell.stored is not None and shell.stored.tensor().tolist() == [513, -1]
    with pytest.raises(Refused, match="a state that is none"):
        shell.build((1, [2], dtype, 0, "\x01\x02\xff\xff"))


@pytest.mark.parametrize(
    "state", [None, (), (1, (2,), 0, 0, b"")[:4], (1, (2,), "i2", 0, b"1234"), (1, 2, None, 0, b"")]
)
def test_states_that_are_no_arrays(state: Any) -> None:
    with pytest.raises(Refused, match="a state that is none|a type or shape that is none"):
        ArrayShell().build(state)


@pytest.mark.parametrize(
    "value", [np.float32(0.1), np.float64(-2.5), np.int64(-(2**40)), np.uint8(255), np.bool_(True)]
)
def test_numpy_numbers(value: Any) -> None:
    found = read(value)
    assert found == value.item() and type(found) is type(value.item())
    assert read(value, 2) == value.item()


def test_numpy_numbers_of_another_size_or_none() -> None:
    dtype = DtypeShell("i2")
    assert numpy_scalar(dtype, "\x01\x01") == 257
    for wrong in ((dtype, b"\x01"), (dtype, b"\x01" * 4), ("i2", b"\x01\x01"), (dtype, 5)):
        with pytest.raises(Refused, match="type and bytes do not fit"):
            numpy_scalar(*wrong)


@pytest.mark.parametrize("order", ["<", "|", "="])
def test_byte_orders_of_this_machine(order: str) -> None:
    dtype = DtypeShell("f4", False, True)
    dtype.build((3, order, None, None, None, -1, -1, 0, None))
    assert dtype.dtype == torch.float32
    for state in ((3, ">", None, None, None, -1, -1, 0), None):
        with pytest.raises(Refused, match="byte order '>'|array of records"):
            DtypeShell("f4").build(state)
    for length in (7, 10):
        with pytest.raises(Refused, match="array of records"):
            DtypeShell("f4").build((3, "<", None, None, None, -1, -1, 0, 0, 0)[:length])


def test_any_byte_but_zero_is_true_and_only_0_and_1_come_out() -> None:
    """A bool tensor whose bytes are 2 or 255 computes nonsense: `~` of it is true, sums count 255."""
    found = stored_array(Storage(torch.bool, 5, memoryview(bytearray([0, 1, 2, 128, 255]))), 0, (5,), (1,)).tensor()
    assert found.tolist() == [False, True, True, True, True]
    assert found.view(torch.uint8).tolist() == [0, 1, 1, 1, 1]
    from_file = torch_zip(pickled(tensor(storage(kind="BoolStorage"), shape=(4,))), {"0": bytes([0, 2, 0, 7])})
    stored = read_torch_zip(memoryview(bytearray(from_file)), Ledger())
    assert stored.tensor().view(torch.uint8).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("offset", range(8))
def test_numbers_at_any_address(offset: int) -> None:
    """A view of the file where a float32 may lie; elsewhere a copy, whose address is one."""
    source = floats(6, offset=offset)
    assert source.data is not None
    found = stored_array(source, 2, (2, 2), (1, 2)).tensor()
    assert found.tolist() == [[2, 4], [3, 5]]
    assert found.data_ptr() % 4 == 0
    address = np.frombuffer(source.data, np.uint8).ctypes.data
    is_view = found.data_ptr() == address + 8
    assert is_view == (offset % 4 == 0)


def test_bytes_that_may_not_be_written_are_copied() -> None:
    """Torch warns of tensors over memory that is read-only, and writing to them would crash."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = stored_array(Storage(torch.uint8, 3, memoryview(b"abc")), 0, (3,), (1,)).tensor()
        found.add_(1)
    assert bytes(found.tolist()) == b"bcd"


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (6,), (1,)),
        (5, (), ()),
        (1, (2, 2), (3, 1)),
        (0, (2, 3), (1, 2)),
        (0, (2, 2), (1, 1)),
        (6, (0,), (1,)),
        (0, (0, 1000), (1, 1)),
        (0, (1,) * MAX_DIMENSIONS, (9,) * MAX_DIMENSIONS),
        (0, (0, MAX_LENGTH), (1, 1)),
    ],
)
def test_views_that_fit(offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """Element i of a view is the storage's offset + sum_k i_k stride_k, up to the last element of the storage."""
    found = stored_array(floats(6), offset, shape, strides)
    assert found.shape == shape and found.strides == strides and found.dtype == torch.float32
    if found.elements:
        expected = torch.arange(6.0).as_strided(shape, strides, offset)
        assert torch.equal(found.tensor(), expected)
    assert found.tensor().shape == shape


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (7, (0,), (1,)),
        (-1, (1,), (1,)),
        (0.0, (1,), (1,)),
        (6, (1,), (1,)),
        (0, (7,), (1,)),
        (0, (7,), (0,)),
        (1, (6,), (1,)),
        (1, (2, 2), (4, 1)),
        (0, (1,) * (MAX_DIMENSIONS + 1), (1,) * (MAX_DIMENSIONS + 1)),
        (0, (0, MAX_LENGTH + 1), (1, 1)),
        (0, (1,), (MAX_LENGTH + 1,)),
        (0, (1,), (-1,)),
        (0, (-1,), (1,)),
        (0, (1.0,), (1,)),
        (0, (1, 1), (1,)),
        (0, 1, (1,)),
        (0, "1", "1"),
    ],
)
def test_views_that_do_not(offset: Any, shape: Any, strides: Any) -> None:
    with pytest.raises(Refused, match="claims a tensor of|outside of its storage|no lists of lengths"):
        stored_array(floats(6), offset, shape, strides)


def test_storages_get_as_many_bytes_as_they_claim() -> None:
    for length in (15, 17, 0):
        with pytest.raises(Refused, match=r"claims 4 elements \(16 bytes\) but holds"):
            Storage(torch.float32, 4).attach(memoryview(bytes(length)))
    whole = Storage(torch.float32, 4)
    with pytest.raises(Refused, match="numbers are not in the file"):
        stored_array(whole, 0, (4,), (1,)).tensor()
    assert stored_array(whole, 0, (0,), (1,)).tensor().shape == (0,)
    whole.attach(memoryview(bytearray(16)))
    assert stored_array(whole, 0, (4,), (1,)).tensor().tolist() == [0] * 4


def test_bytes_written_as_text() -> None:
    assert latin1("a\x00\xff") == b"a\x00\xff"
    with pytest.raises(Refused, match="bytes written as a text"):
        latin1("\u0100")
