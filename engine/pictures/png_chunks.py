"""The chunks that a PNG file consists of: found without decoding anything, whatever their number and size.

Pillow refuses a picture for a long text or a wrong checksum beside its pixels; here neither counts. A chunk that a
picture can do without is left out of what Pillow gets to see.
"""

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_CHUNKS = 200_000  # writers make them of 8 kB and more
MAX_PROFILE_BYTES = 16 << 20  # of a colour profile; the largest in use have about 4 MB
_SHOWN = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")  # all that the pixels depend on
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_DAMAGED = (zlib.error, ValueError, IndexError)


@dataclass(frozen=True)
class Chunk:
    """Where a chunk's data are in the file, and whether it is one that readers must understand."""

    kind: bytes
    offset: int
    length: int

    @property
    def is_critical(self) -> bool:
        return not self.kind[:1].islower()

    def data(self, file: BinaryIO, most: int | None = None) -> bytes:
        """Its data, at most so many bytes of them."""
        file.seek(self.offset)
        return file.read(self.length if most is None else min(self.length, most))

    def is_whole(self, file: BinaryIO) -> bool:
        """Whether its checksum is right."""
        data = self.data(file)
        return file.read(4) == zlib.crc32(self.kind + data).to_bytes(4)


def chunks_of(file: BinaryIO) -> Iterator[Chunk]:
    """Every chunk, up to the first that is cut off. Nothing for a file that is no PNG.

    Raises ValueError at more than MOST_CHUNKS of them.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return
    place, count = len(SIGNATURE), 0
    while place + 12 <= size:
        if (count := count + 1) > MOST_CHUNKS:
            raise ValueError(f"it has more than {MOST_CHUNKS:,} parts")
        file.seek(place)
        header = file.read(8)
        chunk = Chunk(header[4:], place + 8, int.from_bytes(header[:4]))
        if chunk.offset + chunk.length + 4 > size:
            return
        yield chunk
        if chunk.kind == b"IEND":
            return
        place = chunk.offset + chunk.length + 4


def is_png(file: BinaryIO) -> bool:
    """Whether a file begins as a PNG does, with a whole header."""
    file.seek(0)
    start = file.read(33)
    return len(start) == 33 and start.startswith(SIGNATURE) and start[12:16] == b"IHDR"


def open_source(source: Path | bytes) -> BinaryIO:
    """A file to find chunks in. Raises OSError."""
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def without_extras(data: bytes) -> bytes:
    """The PNG with only what its pixels depend on; itself where there is nothing more, or where it is damaged.

    As readers do, what is not critical is left out where its checksum is wrong. Raises ValueError as `chunks_of`.
    """
    file = io.BytesIO(data)
    chunks = list(chunks_of(file))
    if not chunks or chunks[-1].kind != b"IEND":
        return data
    kept = [one for one in chunks if one.is_critical or (one.kind in _SHOWN and one.is_whole(file))]
    if len(kept) == len(chunks):
        return data
    view = memoryview(data)
    return SIGNATURE + b"".join(view[chunk.offset - 8 : chunk.offset + chunk.length + 4] for chunk in kept)


def depth_of(data: bytes) -> int:
    """Bits of each sample, as the header of a PNG says."""
    return data[24]


def profile_of(data: bytes) -> bytes | None:
    """The colour profile; None where there is none, or one that is damaged or of more than MAX_PROFILE_BYTES."""
    file = io.BytesIO(data)
    for chunk in chunks_of(file):
        if chunk.kind == b"iCCP" and chunk.is_whole(file):
            _, _, rest = chunk.data(file).partition(b"\0")
            try:
                return inflated(rest[1:], MAX_PROFILE_BYTES)
            except _DAMAGED:
                return None
    return None


def find_text(file: BinaryIO, key: str, most: int) -> tuple[str, bool] | None:
    """The first text of that name, before the pixels or behind them, and whether its checksum is right.

    None where there is none. Raises ValueError for one that is damaged, or has far more than `most` bytes.
    """
    name = key.encode("latin-1")
    for chunk in chunks_of(file):
        if chunk.kind not in _TEXTS or chunk.data(file, len(name) + 1) != name + b"\0":
            continue
        if chunk.length > most + 4096:
            raise ValueError(f"it takes {chunk.length:,} bytes")
        try:
            return _text_in(chunk.kind, chunk.data(file)[len(name) + 1 :], most), chunk.is_whole(file)
        except _DAMAGED as error:
            raise ValueError(str(error) or "it is cut off") from error
    return None


def _text_in(kind: bytes, rest: bytes, most: int) -> str:
    if kind == b"tEXt":
        return rest.decode("latin-1")
    if kind == b"zTXt":
        return inflated(rest[1:], most).decode("latin-1")
    is_compressed, rest = rest[0], rest[2:].split(b"\0", 2)[2]  # behind the language and the translated name
    return (inflated(rest, most) if is_compressed else rest).decode("utf-8")


def inflated(data: bytes, most: int) -> bytes:
    """What zlib packed. Raises ValueError for more than `most` bytes, which are then not unpacked, zlib.error."""
    stream = zlib.decompressobj()
    result = stream.decompress(data, most + 1)
    if len(result) > most:
        raise ValueError(f"it takes more than {most:,} bytes")
    if not stream.eof:
        raise ValueError("it is cut off")
    return result
