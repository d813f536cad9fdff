"""Writes what torch wrote before 1.6: pickles one behind the other, storages at the end, modules with source code."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
PROTOCOL = pickle.dumps(1001, protocol=2)
SYSTEM = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, protocol=2)


def legacy_file(value: bytes, storages: dict[str, bytes], itemsize: int = 4) -> bytes:
    """A file around the pickle `value`, whose persistent ids name the `storages`."""
    parts = [MAGIC, PROTOCOL, SYSTEM, value, pickle.dumps(list(storages), protocol=2)]
    for content in storages.values():
        parts += [struct.pack("<q", len(content) // itemsize), content]
    return b"".join(parts)


def rewrite_as_legacy(archive: Path, out: Path) -> Path:
    """The same module in the old form.

    The persistent ids of the archive, ("storage", type, key, device, count), lack the sixth entry of the old form,
    None: the TUPLE opcode before each BINPERSID gets it. The top class is named by a persistent id with source code.
    """
    with zipfile.ZipFile(archive) as file:
        root = file.namelist()[0].split("/")[0]
        value = file.read(f"{root}/data.pkl")
        storages = {
            name.split("/")[-1]: file.read(name) for name in file.namelist() if name.startswith(f"{root}/data/")
        }
    out.write_bytes(legacy_file(_with_sixth_entry(value), storages))
    return out


def _with_sixth_entry(value: bytes) -> bytes:
    import pickletools

    result, last_tuple, named_class = bytearray(), -1, False
    operations = list(pickletools.genops(value))
    for (opcode, _, position), following in zip(operations, [*operations[1:], None], strict=True):
        assert position is not None
        end = len(value) if following is None or following[2] is None else following[2]
        if opcode.name == "GLOBAL" and not named_class:
            named_class = True
            name = value[position:end]
            source = b"raise SystemExit('source code was run')"
            result += b"(X\x06\x00\x00\x00module" + name
            result += b"X\x04\x00\x00\x00f.py" + b"X" + struct.pack("<I", len(source)) + source + b"tQ"
            continue
        if opcode.name == "TUPLE":
            last_tuple = len(result)
        if opcode.name == "BINPERSID":
            result[last_tuple:last_tuple] = b"N"
        result += value[position:end]
    return bytes(result)
