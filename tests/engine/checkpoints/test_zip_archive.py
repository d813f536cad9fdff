"""Zip archives as torch writes them, read in place: Python's zipfile agrees, and what lies is refused."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import pytest

from engine.checkpoints import zip_archive
from engine.checkpoints.refusal import Refused
from engine.checkpoints.zip_archive import ZipArchive
from tests.engine.checkpoints.hostile import archive

ENTRIES = {"m/data.pkl": b"N.", "m/data/0": bytes(range(200)), "m/empty": b"", "m/ä": b"x"}


def opened(data: bytes) -> ZipArchive:
    return ZipArchive(memoryview(data))


def local(name: bytes, content: bytes, *, extra: bytes = b"", crc: int | None = None) -> bytes:
    """A local header and the content."""
    sizes = (zlib.crc32(content) if crc is None else crc, len(content), len(content))
    fields = (b"PK\x03\x04", 20, 0x800, 0, 0, 0, *sizes, len(name), len(extra))
    return struct.pack("<4s5H3L2H", *fields) + name + extra + content


def central(
    name: bytes,
    content: bytes,
    place: int,
    *,
    extra: bytes = b"",
    comment: bytes = b"",
    flags: int = 0x800,
    method: int = 0,
    sizes: tuple[int, int] | None = None,
) -> bytes:
    """An entry of the directory; sizes: packed and unpacked."""
    packed, size = sizes or (len(content), len(content))
    fields = (20, 20, flags, method, 0, 0, zlib.crc32(content), packed, size, len(name), len(extra), len(comment))
    return struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *fields, 0, 0, 0, place) + name + extra + comment


def end(count: int, size: int, begin: int, comment: bytes = b"", disk: int = 0) -> bytes:
    return struct.pack("<4s4H2LH", b"PK\x05\x06", disk, 0, count, count, size, begin, len(comment)) + comment


def test_every_entry_is_what_zipfile_reads() -> None:
    data = archive(ENTRIES)
    found = opened(data)
    assert found.entries.keys() == ENTRIES.keys()
    assert {name: bytes(found.read(name)) for name in ENTRIES} == ENTRIES
    entry = found.entries["m/data/0"]
    assert data[entry.begin : entry.begin + entry.size] == ENTRIES["m/data/0"]
    assert opened(end(0, 0, 0)).entries == {}  # an empty archive is its end alone


@pytest.mark.parametrize("length", [1, 1000, (1 << 16) - 1])
def test_a_comment_behind_the_end(length: int) -> None:
    """Also the longest there can be."""
    out = io.BytesIO(archive(ENTRIES))
    with zipfile.ZipFile(out, "a") as file:
        file.comment = b"c" * length
    assert bytes(opened(out.getvalue()).read("m/data/0")) == ENTRIES["m/data/0"]


def test_extra_fields_and_comments_of_entries() -> None:
    """Torch pads with extra fields so that numbers begin at multiples of 64."""
    padding = b"FB" + struct.pack("<H", 10) + bytes(10)
    first, second = local(b"m/a", b"one", extra=padding), local(b"m/b", b"two")
    directory = central(b"m/a", b"one", 0, extra=padding, comment=b"remark") + central(b"m/b", b"two", len(first))
    data = first + second + directory + end(2, len(directory), len(first + second))
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert file.read("m/a") == b"one" and file.read("m/b") == b"two"
    found = opened(data)
    assert bytes(found.read("m/a")) == b"one" and bytes(found.read("m/b")) == b"two"


def zip64(*, marked: str = "", short: bool = False) -> bytes:
    """A valid archive with 64-bit records where `marked` says: any of size, packed, place, directory."""
    first = local(b"m/a", b"first")
    second = local(b"m/b", b"second!")
    wide = {"size": len(b"second!"), "packed": len(b"second!"), "place": len(first)}
    values = b"".join(struct.pack("<Q", wide[name]) for name in wide if name in marked.split())
    values = values[:-8] if short else values
    other = b"FB" + struct.pack("<H", 3) + b"abc"  # another record before it, of an odd length
    extra = other + struct.pack("<2H", 1, len(values)) + values
    sizes = tuple(0xFFFFFFFF if name in marked.split() else wide[name] for name in ("packed", "size"))
    place = 0xFFFFFFFF if "place" in marked.split() else wide["place"]
    directory = central(b"m/a", b"first", 0)
    directory += central(b"m/b", b"second!", place, extra=extra, sizes=(sizes[0], sizes[1]))
    begin = len(first + second)
    if "directory" not in marked.split():
        return first + second + directory + end(2, len(directory), begin)
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 2, 2, len(directory), begin)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, begin + len(directory), 1)
    return first + second + directory + record + locator + end(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, disk=0xFFFF)


@pytest.mark.parametrize(
    "marked",
    ["size", "packed", "place", "size packed", "size packed place", "directory", "size packed place directory"],
)
def test_64_bit_records(marked: str) -> None:
    """Whichever of the values do not fit into 32 bits stand there in the order size, packed, place."""
    data = zip64(marked=marked)
    found = opened(data)
    assert {name: bytes(found.read(name)) for name in found.entries} == {"m/a": b"first", "m/b": b"second!"}


@pytest.mark.parametrize("marked", ["size", "place", "size packed place"])
def test_64_bit_records_that_are_cut(marked: str) -> None:
    with pytest.raises(Refused, match="lacks its size"):
        opened(zip64(marked=marked, short=True))


@pytest.mark.parametrize("magic", [b"PK\x06\x06", b"PK\x06\x07"])
def test_64_bit_directories_whose_records_are_none(magic: bytes) -> None:
    data = zip64(marked="directory")
    with pytest.raises(Refused, match="directory of its archive is damaged"):
        opened(data.replace(magic, b"PKxx"))


def test_the_local_header_must_be_one_and_carry_the_name() -> None:
    """What the directory says and what stands at the place are compared: other readers go by the one or the other."""
    data = archive(ENTRIES)
    place = data.index(b"m/data/0") - 30
    assert data[place : place + 4] == b"PK\x03\x04"
    for wrong in (
        data[:place] + b"PK\x03\x05" + data[place + 4 :],
        data[:place] + b"XX\x03\x04" + data[place + 4 :],
        data[: place + 30] + b"m/data/1" + data[place + 38 :],
        data[: place + 26] + b"\x07\x00" + data[place + 28 :],
    ):
        with pytest.raises(Refused, match="not where the directory says"):
            opened(wrong)


def test_code_may_be_compressed_but_is_never_read() -> None:
    """TorchScript's code; its packed bytes must not pass for its content."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("m/data.pkl", b"N.")
        file.writestr("m/code/a.py", b"pass\n" * 100, compress_type=zipfile.ZIP_DEFLATED)
        file.writestr("m/code/plain.py", b"pass")
    found = opened(out.getvalue())
    assert bytes(found.read("m/data.pkl")) == b"N." and bytes(found.read("m/code/plain.py")) == b"pass"
    assert not found.entries["m/code/a.py"].is_plain
    with pytest.raises(Refused, match=r"'m/code/a\.py' in its archive is compressed"):
        found.read("m/code/a.py")


@pytest.mark.parametrize("name", ["m/data/0", "code/x", "m/x/code/0", "code"])
@pytest.mark.parametrize(("method", "sizes"), [(8, (4, 4)), (0, (4, 5)), (8, (4, 9))])
def test_all_else_must_be_stored_plainly(name: str, method: int, sizes: tuple[int, int]) -> None:
    body = local(name.encode(), b"abcd")
    directory = central(name.encode(), b"abcd", 0, method=method, sizes=sizes)
    with pytest.raises(Refused, match="is compressed; torch stores plainly"):
        opened(body + directory + end(1, len(directory), len(body)))


def test_encrypted_entries_are_refused_whatever_else_their_flags_say() -> None:
    body = local(b"m/a", b"abcd")
    for flags, is_fine in ((0x800, True), (0x801, False), (0x809, False), (0x808, True)):
        directory = central(b"m/a", b"abcd", 0, flags=flags)
        data = body + directory + end(1, len(directory), len(body))
        if is_fine:
            assert bytes(opened(data).read("m/a")) == b"abcd"
        else:
            with pytest.raises(Refused, match="is encrypted"):
                opened(data)


def test_entries_may_touch_but_not_overlap() -> None:
    """Neither each other nor the directory."""
    body = local(b"m/a", b"abcd")
    whole = central(b"m/a", b"abcd", 0)
    assert bytes(opened(body + whole + end(1, len(whole), len(body))).read("m/a")) == b"abcd"
    longer = central(b"m/a", b"abcd", 0, sizes=(5, 5))
    with pytest.raises(Refused, match="overlaps something else or ends outside"):
        opened(body + longer + end(1, len(longer), len(body)))


def test_what_is_missing_or_damaged() -> None:
    data = archive(ENTRIES)
    with pytest.raises(Refused, match="lacks 'm/nothing'"):
        opened(data).read("m/nothing")
    with pytest.raises(Refused, match=r"'m/data/0' in its archive does not fit its checksum"):
        opened(data.replace(bytes(range(200)), bytes(200))).read("m/data/0")
    with pytest.raises(Refused, match="has no end"):
        opened(data[:-1])


def test_as_many_entries_as_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_archive, "MAX_ENTRIES", len(ENTRIES))
    opened(archive(ENTRIES))
    with pytest.raises(Refused, match="claims 5 entries, expected 4 at most"):
        opened(archive({**ENTRIES, "m/more": b""}))


@pytest.mark.parametrize("change", [-1, 1])
def test_a_directory_of_another_length(change: int) -> None:
    """One entry more than there are runs out of the directory; a shorter directory cuts its last entry."""
    body = local(b"m/a", b"abcd")
    directory = central(b"m/a", b"abcd", 0)
    count = 1 + max(change, 0)
    with pytest.raises(Refused, match="damaged"):
        opened(body + directory + end(count, len(directory) + min(change, 0), len(body)))


@pytest.mark.parametrize("name", ["m/../x", "..", "/x", "~/x", "m\\x", "C:/x", "m/a\0b", ""])
def test_names_that_lead_elsewhere(name: str) -> None:
    body = local(name.encode(), b"")
    directory = central(name.encode(), b"", 0)
    with pytest.raises(Refused, match="leads out of its folder"):
        opened(body + directory + end(1, len(directory), len(body)))


def test_names_that_only_look_like_it() -> None:
    for name in ("m/..x", "m/~", "m/a:b", "m/x.."):
        assert opened(archive({name: b"a"})).read(name) == b"a"
    body, directory = local(b"m/\xff", b""), central(b"m/\xff", b"", 0)
    with pytest.raises(Refused, match="whose name is not readable"):
        opened(body + directory + end(1, len(directory), len(body)))
