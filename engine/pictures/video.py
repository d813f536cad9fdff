"""Moving pictures as WebP, GIF and MP4 files, encoded frame by frame as the frames come. Needs no torch.

MP4 needs the optional package imageio-ffmpeg, which brings a program that encodes H.264.
"""

import errno
import importlib
import importlib.util
import io
import itertools
import os
import shutil
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, get_args

from PIL import Image

from engine.errors import PictureError
from engine.pictures.png_files import Pixels
from engine.system.files import make_folder, replacing, save_error

VideoFormat = Literal["webp", "gif", "mp4"]
FORMATS: tuple[VideoFormat, ...] = get_args(VideoFormat)
FRAMES_A_SECOND = 12
HOLD = 18  # frames' time that the last one stays besides its own
NO_MP4 = 'MP4 needs the package imageio-ffmpeg: type pip install "imageio-ffmpeg>=0.5,<1", or choose WebP or GIF.'
_ENCODER = "imageio_ffmpeg"
_FRAME_MS = round(1000 / FRAMES_A_SECOND)
_WEBP_QUALITY, _WEBP_EFFORT = 82, 2  # at effort 4, the usual one, a frame takes twice as long
_MP4_QUALITY = 7.0  # of 10
_UNBLENDED = 2  # of a WebP frame: it replaces what was there
_LEAST_FREE = 1 << 20  # bytes; the encoder of MP4 does not say that it failed for want of room


def has_mp4() -> bool:
    """Whether MP4 files can be written here."""
    return importlib.util.find_spec(_ENCODER) is not None


def format_of(path: Path) -> VideoFormat:
    """The format that a file's name asks for. Raises PictureError for any other, and for MP4 where it cannot be had."""
    return check_format(path.suffix.lower().removeprefix("."), path.name)


def check_format(name: str, file_name: str = "") -> VideoFormat:
    """The format of that name. Raises PictureError as `format_of`."""
    known = next((one for one in FORMATS if one == name), None)
    if known is None:
        raise PictureError(f"{file_name or name!r}: a video is a .webp, .gif or .mp4 file. Give it such a name.")
    if known == "mp4" and not has_mp4():
        raise PictureError(NO_MP4)
    return known


def save_video(path: Path, frames: Iterable[Pixels], kind: VideoFormat) -> None:
    """Writes frames [H, W, 3] of one size, H and W even, atomically: 12 a second, the last one for longer.

    WebP and GIF begin anew at their end. Whatever `frames` raises passes through, and then there is no file. Raises
    SaveError.
    """
    make_folder(path.parent)
    write = {"webp": _write_webp, "gif": _write_gif, "mp4": _write_mp4}[kind]
    try:
        with replacing(path) as temporary:
            write(temporary, iter(frames))
    except OSError as error:
        raise save_error(path, error) from error


# ---- WebP ------------------------------------------------------------------------------------------------


def _write_webp(path: Path, frames: Iterator[Pixels]) -> None:
    """A container of single pictures (RFC 9649, 2.7): Pillow's own would keep all frames in memory until the last."""
    first = next(frames)
    height, width = first.shape[:2]
    with path.open("r+b") as file:
        file.write(b"RIFF\0\0\0\0WEBP")
        animated = b"\x02\0\0\0" + _low24(width - 1) + _low24(height - 1)
        _write_chunk(file, b"VP8X", animated)
        _write_chunk(file, b"ANIM", struct.pack("<4BH", 255, 255, 255, 255, 0))  # background, endless
        last = first
        for frame in frames:
            _write_chunk(file, b"ANMF", _webp_frame(last, _FRAME_MS))
            last = frame
        _write_chunk(file, b"ANMF", _webp_frame(last, _FRAME_MS * (HOLD + 1)))
        size = file.tell()
        file.seek(4)
        file.write(struct.pack("<I", size - 8))


def _webp_frame(frame: Pixels, milliseconds: int) -> bytes:
    """The content of an ANMF chunk: place, size, duration, and the one VP8 chunk of a still picture."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "WEBP", quality=_WEBP_QUALITY, method=_WEBP_EFFORT)
    still = buffer.getvalue()[12:]
    assert still[:4] == b"VP8 "
    height, width = frame.shape[:2]
    place = _low24(0) + _low24(0) + _low24(width - 1) + _low24(height - 1)
    return place + _low24(milliseconds) + bytes([_UNBLENDED]) + still


def _write_chunk(file: BinaryIO, name: bytes, content: bytes) -> None:
    file.write(name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2))


def _low24(number: int) -> bytes:
    return number.to_bytes(3, "little")


# ---- GIF and MP4 -----------------------------------------------------------------------------------------


def _write_gif(path: Path, frames: Iterator[Pixels]) -> None:
    """Each frame has a palette of its own. Equal frames become one that stays for longer."""
    images = map(Image.fromarray, _held(frames))
    with path.open("r+b") as file:
        next(images).save(file, "GIF", save_all=True, append_images=images, duration=_FRAME_MS, loop=0)


def _held(frames: Iterator[Pixels]) -> Iterator[Pixels]:
    """The frames, and the last one again until it was shown long enough."""
    last = None
    for last in frames:
        yield last
    if last is not None:
        yield from itertools.repeat(last, HOLD)


def _write_mp4(path: Path, frames: Iterator[Pixels]) -> None:
    encoder = importlib.import_module(_ENCODER)
    first = next(frames)
    height, width = first.shape[:2]
    writer = encoder.write_frames(
        str(path),
        (width, height),
        fps=FRAMES_A_SECOND,
        macro_block_size=2,
        quality=_MP4_QUALITY,
        ffmpeg_log_level="fatal",
        output_params=["-f", "mp4", "-movflags", "faststart"],
    )
    writer.send(None)
    try:
        for frame in _held(itertools.chain([first], frames)):
            writer.send(frame.tobytes())
    except OSError as error:
        _check_room(path)
        raise OSError(errno.EIO, f"the encoder of MP4 ended early ({str(error).splitlines()[0]})") from error
    finally:
        writer.close()
    _check_room(path)


def _check_room(path: Path) -> None:
    """Raises OSError where the disk is full."""
    if shutil.disk_usage(path.parent).free < _LEAST_FREE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
