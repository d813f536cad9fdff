"""The two containers of `torch.save`: a zip archive (since 1.6) and pickles one behind the other (before).

Each gives the saved value with tensors as checked `StoredArray`s; `torch.load` is never called on the file.
"""

from __future__ import annotations

import struct
from typing import Any

from engine.checkpoints.arrays import TORCH_STORAGES, Storage
from engine.checkpoints.pickle_machine import Known, Ledger, check_wishes, run_pickle
from engine.checkpoints.refusal import Refused, printable
from engine.checkpoints.vocabulary import torchscript_vocabulary, vocabulary
from engine.checkpoints.zip_archive import ZipArchive

LEGACY_PREFIX = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickle of the format's magic number
_LEGACY_PROTOCOL = 1001


def read_pickle(data: memoryview, ledger: Ledger) -> Any:
    """The value of a plain pickle, its tensors nested torch files. Raises Refused."""
    value, _ = run_pickle(data, 0, vocabulary(ledger, lambda inner: _nested_storage(inner, ledger)), ledger)
    check_wishes(ledger)
    return value


def read_torch_legacy(data: memoryview, ledger: Ledger) -> Any:
    """The value of a torch file without zip archive. Raises Refused."""
    names = vocabulary(ledger, lambda inner: _nested_storage(inner, ledger))
    position = 0
    _, position = run_pickle(data, position, names, ledger)  # the magic number, which the caller has seen
    protocol, position = run_pickle(data, position, names, ledger)
    if protocol != _LEGACY_PROTOCOL:
        raise Refused("its torch format has an unknown version.")
    system, position = run_pickle(data, position, names, ledger)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Refused("it was written by a big-endian machine.")
    storages: dict[str, Storage] = {}
    value, position = run_pickle(data, position, names, ledger, lambda key: _legacy_object(key, storages))
    keys, position = run_pickle(data, position, names, ledger)
    check_wishes(ledger)
    _attach(data, position, keys, storages, ledger)
    return value


def read_torch_zip(data: memoryview, ledger: Ledger) -> Any:
    """The value of a torch file that is a zip archive. Raises Refused."""
    archive = ZipArchive(data)
    root = _root(archive)
    order = archive.entries.get(f"{root}/byteorder")
    if order is not None and bytes(archive.read(order.name)) != b"little":
        raise Refused("it was written by a big-endian machine.")
    storages: dict[str, Storage] = {}

    def load(key: Any) -> Storage:
        _, storage, name = _storage(key, storages, fields=5)
        if storage.data is None:
            storage.attach(archive.read(f"{root}/data/{name}"))
            ledger.arrive(storage.count * storage.dtype.itemsize)
        return storage

    if f"{root}/constants.pkl" in archive.entries:
        names = torchscript_vocabulary(ledger)
    else:
        names = vocabulary(ledger, lambda inner: _nested_storage(inner, ledger))
    value, _ = run_pickle(archive.read(f"{root}/data.pkl"), 0, names, ledger, load)
    check_wishes(ledger)
    return value


def is_torch_legacy(data: memoryview) -> bool:
    """Whether a file begins as torch's format without zip archive."""
    return bytes(data[: len(LEGACY_PREFIX)]) == LEGACY_PREFIX


def _nested_storage(data: memoryview, ledger: Ledger) -> Any:
    if not is_torch_legacy(data):
        raise Refused("a tensor in it is no torch file.")
    return read_torch_legacy(data, ledger)


def _root(archive: ZipArchive) -> str:
    """The single folder of the archive. The code in a TorchScript archive stays unread."""
    roots = [name.removesuffix("/data.pkl") for name in archive.entries if name.endswith("/data.pkl")]
    if len(roots) != 1 or "/" in roots[0]:
        raise Refused("it is a zip archive, but not one that torch.save wrote: it holds no single data.pkl.")
    return roots[0]


def _storage(key: Any, storages: dict[str, Storage], *, fields: int) -> tuple[bool, Storage, str]:
    """The storage that a persistent id names: ("storage", type, key, device, count[, view]).

    Returns whether it is new, the storage and its key.
    """
    if not isinstance(key, tuple) or len(key) != fields or key[0] != "storage":
        raise Refused("it refers to something outside of its pickle that is no storage of a tensor.")
    _, kind, name, _, count = key[:5]
    dtype = TORCH_STORAGES.get(kind.name.removeprefix("torch.")) if isinstance(kind, Known) else None
    if dtype is None or not isinstance(name, str) or not isinstance(count, int) or count < 0:
        raise Refused("it refers to a storage without type, name or number of elements.")
    if name in storages:
        storage = storages[name]
        if (storage.dtype, storage.count) != (dtype, count):
            raise Refused(f"it describes its storage {printable(name)!r} in two ways.")
        return False, storage, name
    storages[name] = Storage(dtype, count)
    return True, storages[name], name


def _legacy_object(key: Any, storages: dict[str, Storage]) -> Any:
    """A storage, or a class with its source code, of which the class's name is kept and the code dropped."""
    if isinstance(key, tuple) and len(key) == 4 and key[0] == "module" and isinstance(key[1], Known):
        return key[1]
    _, storage, _ = _storage(key, storages, fields=6)
    if key[5] is not None:
        raise Refused("it holds a view of a storage, as torch wrote before 1.0. Save it again with a newer torch.")
    return storage


def _attach(data: memoryview, position: int, keys: Any, storages: dict[str, Storage], ledger: Ledger) -> None:
    """Gives the storages their bytes, which lie behind the pickles in the order of `keys`."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise Refused("its list of storages is none.")
    if len(set(keys)) != len(keys) or set(keys) != set(storages):
        raise Refused("its list of storages does not fit its tensors.")
    for key in keys:
        storage = storages[key]
        if position + 8 > len(data):
            raise Refused("it is cut short: the numbers of its tensors are missing.")
        (count,) = struct.unpack_from("<q", data, position)
        position += 8
        size = storage.count * storage.dtype.itemsize
        if count != storage.count or position + size > len(data):
            raise Refused(
                f"it claims a tensor of {storage.count:,} elements but holds fewer; it is cut short or damaged."
            )
        storage.attach(data[position : position + size])
        ledger.arrive(size)
        position += size
