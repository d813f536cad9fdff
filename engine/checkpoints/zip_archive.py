"""The zip files that torch writes: uncompressed entries, read in place, never unpacked.

Only what torch writes is accepted: no compression, no encryption, each name once, every entry within the file and
none overlapping another, checksums right. So a small file cannot claim a large one, and a name cannot lead anywhere.
The code of a TorchScript archive, which torch compresses, may be there but cannot be read.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

from engine.checkpoints.refusal import Refused, printable

MAX_ENTRIES = 100_000
_END = struct.Struct("<4s4H2LH")
_END64_PLACE = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class Entry:
    """One file of the archive: its bytes lie at [begin, begin + size) of the archive."""

    name: str
    begin: int
    size: int
    crc: int
    is_plain: bool = True


class ZipArchive:
    """The entries of a zip file that lies in `data`. Raises Refused for anything that torch would not write."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.entries = {entry.name: entry for entry in _read_entries(data)}

    def read(self, name: str) -> memoryview:
        """The bytes of an entry, a view. Raises Refused for a missing or damaged one."""
        entry = self.entries.get(name)
        if entry is None:
            raise Refused(f"its archive lacks {printable(name)!r}; it is cut short or damaged.")
        if not entry.is_plain:
            raise Refused(f"{printable(name)!r} in its archive is compressed; torch stores plainly.")
        content = self.data[entry.begin : entry.begin + entry.size]
        if zlib.crc32(content) != entry.crc:
            raise Refused(f"{printable(name)!r} in its archive does not fit its checksum; fetch the file again.")
        return content


def _read_entries(data: memoryview) -> list[Entry]:
    count, begin, end = _directory(data)
    if count > MAX_ENTRIES:
        raise Refused(f"its archive claims {count:,} entries, expected {MAX_ENTRIES:,} at most.")
    entries: dict[str, Entry] = {}
    position = begin
    for _ in range(count):
        entry, position = _read_entry(data, position, end)
        if entry.name in entries:
            raise Refused(f"its archive holds {printable(entry.name)!r} twice.")
        entries[entry.name] = entry
    _check_overlaps(list(entries.values()), begin)
    return list(entries.values())


def _directory(data: memoryview) -> tuple[int, int, int]:
    """Number of entries, begin and end of the central directory."""
    tail = bytes(data[-(1 << 16) - _END.size :])
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or len(tail) - found < _END.size:
        raise Refused("its archive has no end; it is cut short (an interrupted download?). Fetch it again.")
    place = len(data) - len(tail) + found
    _, disk, _, _, count, size, begin, _ = _END.unpack(tail[found : found + _END.size])
    if disk not in (0, 0xFFFF):
        raise Refused("its archive is split over several files.")
    if 0xFFFF in (count, disk) or 0xFFFFFFFF in (size, begin):
        count, size, begin = _directory64(data, place - _END64_PLACE.size)
    if begin + size > place:
        raise Refused("the directory of its archive lies outside of the file; it is cut short or damaged.")
    return count, begin, begin + size


def _directory64(data: memoryview, place: int) -> tuple[int, int, int]:
    magic, _, offset, _ = _unpack(_END64_PLACE, data, place)
    if magic != b"PK\x06\x07":
        raise Refused("the directory of its archive is damaged.")
    fields = _unpack(_END64, data, offset)
    if fields[0] != b"PK\x06\x06":
        raise Refused("the directory of its archive is damaged.")
    return fields[7], fields[8], fields[9]


def _read_entry(data: memoryview, position: int, end: int) -> tuple[Entry, int]:
    fields = _unpack(_CENTRAL, data, position)
    magic, flags, method, crc, packed, size = fields[0], fields[3], fields[4], fields[7], fields[8], fields[9]
    name_length, extra_length, comment_length, place = fields[10], fields[11], fields[12], fields[16]
    after_name = position + _CENTRAL.size + name_length
    after = after_name + extra_length + comment_length
    if magic != b"PK\x01\x02" or after > end:
        raise Refused("the directory of its archive is damaged.")
    name = _checked_name(bytes(data[position + _CENTRAL.size : after_name]))
    size, packed, place = _large_sizes(bytes(data[after_name : after_name + extra_length]), size, packed, place)
    if flags & _ENCRYPTED:
        raise Refused(f"{printable(name)!r} in its archive is encrypted.")
    if (method != 0 or packed != size) and name.split("/")[1:2] == ["code"]:
        return Entry(name, _content_begin(data, place, name), packed, crc, is_plain=False), after
    if method != 0 or packed != size:
        raise Refused(f"{printable(name)!r} in its archive is compressed; torch stores plainly. Save the model again.")
    return Entry(name, _content_begin(data, place, name), size, crc), after


def _checked_name(raw: bytes) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("its archive holds a file whose name is not readable.") from error
    parts = name.split("/")
    if ".." in parts or parts[0] in ("", "~") or "\\" in name or ":" in parts[0] or "\0" in name:
        raise Refused(f"its archive holds {printable(name)!r}, a name that leads out of its folder.")
    return name


def _large_sizes(extra: bytes, size: int, packed: int, place: int) -> tuple[int, int, int]:
    """The 64-bit values of a field that says 0xFFFFFFFF stand in the extra record 1, in this order."""
    values = [size, packed, place]
    if 0xFFFFFFFF not in values:
        return size, packed, place
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == 1:
            record = extra[position + 4 : position + 4 + length]
            wide = iter(struct.unpack(f"<{len(record) // 8}Q", record[: len(record) // 8 * 8]))
            found = [next(wide, -1) if value == 0xFFFFFFFF else value for value in values]
            if -1 not in found:
                return found[0], found[1], found[2]
        position += 4 + length
    raise Refused("an entry of its archive lacks its size.")


def _content_begin(data: memoryview, place: int, name: str) -> int:
    """Where the bytes of an entry begin: behind its own header, which must carry the same name."""
    fields = _unpack(_LOCAL, data, place)
    begin = place + _LOCAL.size + fields[9]
    if fields[0] != b"PK\x03\x04" or bytes(data[place + _LOCAL.size : begin]) != name.encode():
        raise Refused(f"{printable(name)!r} in its archive is not where the directory says; it is damaged.")
    return begin + int(fields[10])


def _check_overlaps(entries: list[Entry], directory: int) -> None:
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.begin):
        if entry.begin < end or entry.begin + entry.size > directory:
            raise Refused(f"{printable(entry.name)!r} in its archive overlaps something else or ends outside.")
        end = entry.begin + entry.size


def _unpack(layout: struct.Struct, data: memoryview, position: int) -> tuple[Any, ...]:
    if position < 0 or position + layout.size > len(data):
        raise Refused("its archive is cut short or damaged.")
    return layout.unpack_from(data, position)
