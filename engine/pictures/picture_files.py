"""A person's own pictures: read from any common file, cut to a square, saved with their colour profile.

Pixels are taken as the file has them: a colour profile is kept beside them, not applied, so that what was not
changed is written back bit for bit. Pillow and numpy only.
"""

import hashlib
import io
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from engine.errors import PictureError

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF")
FORMATS_TEXT = "JPEG, PNG, WebP, GIF or TIFF"
MAX_PIXELS = 100_000_000
MAX_BYTES = 600_000_000  # a file of 100 megapixels at 16 bits a channel
WHITE: Colour = (255, 255, 255)

# How files begin that people take for pictures: (offset, bytes, what it is, what to do).
_NOT_PICTURES = (
    (4, b"ftypheic", "a HEIC photo", "Export it as JPEG"),
    (4, b"ftypheix", "a HEIC photo", "Export it as JPEG"),
    (4, b"ftypmif1", "a HEIF photo", "Export it as JPEG"),
    (4, b"ftypavif", "an AVIF picture", "Save it as PNG"),
    (4, b"ftyp", "a video", "Save one of its frames as PNG"),
    (0, b"\x1a\x45\xdf\xa3", "a video", "Save one of its frames as PNG"),
    (8, b"AVI ", "a video", "Save one of its frames as PNG"),
    (0, b"\x00\x00\x01\xba", "a video", "Save one of its frames as PNG"),
    (0, b"FLV", "a video", "Save one of its frames as PNG"),
    (0, b"OggS", "a video or sound", "Save one of its frames as PNG"),
    (0, b"%PDF", "a PDF", "Export the page as PNG"),
    (0, b"<svg", "a drawing in SVG", "Export it as PNG"),
    (0, b"<?xml", "an XML file", "If it is a drawing, export it as PNG"),
    (0, b"8BPS", "a Photoshop file", "Export it as PNG"),
    (0, b"BM", "a BMP picture", "Save it as PNG"),
    (0, b"PK", "an archive", "Unpack it"),
)


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture [H, W, 3] uint8 with its name and ICC profile, if it has any."""

    pixels: Pixels
    name: str = ""
    icc_profile: bytes | None = None

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    @cached_property
    def sha256(self) -> str:
        """Of the size and the pixels, whatever file they came from."""
        digest = hashlib.sha256(struct.pack("<II", *self.size))
        digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.hexdigest()

    def with_pixels(self, pixels: Pixels) -> "Picture":
        """Other pixels under the same name and profile."""
        return replace(self, pixels=pixels)


@dataclass(frozen=True)
class Box:
    """A square of a picture, in its pixels; it may reach beyond the picture's edges."""

    left: int
    top: int
    side: int


# ---- reading ---------------------------------------------------------------------------------------------


def read_picture(source: Path | bytes, *, background: Colour = WHITE, name: str = "") -> Picture:
    """A JPEG, PNG, WebP, TIFF or the first frame of a GIF as 8-bit RGB.

    The EXIF orientation is applied, transparency flattened on `background`, greyscale, palette, CMYK and 16-bit
    pictures converted. Raises PictureError; a picture of more than MAX_PIXELS is refused before it is decoded.
    """
    name = name or (source.name if isinstance(source, Path) else "the picture")
    data = _read_bytes(source, name)
    with warnings.catch_warnings():
        # Pillow's own, lower limit; ours is checked in `_open`, before anything is decoded.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.simplefilter("ignore", UserWarning)  # of damaged metadata that nobody needs
        picture = _decoded(_open(data, name), name)
    return Picture(_to_rgb(picture, background), name, _rgb_profile(picture))


def picture_from_pixels(
    pixels: NDArray[Any], *, background: Colour = WHITE, name: str = "the picture", icc_profile: bytes | None = None
) -> Picture:
    """A picture from an array: uint8 [H, W], [H, W, 3], or [H, W, 4] with transparency. Raises PictureError."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,), (4,)):
        raise PictureError(f"{name}: expected bytes [H, W], [H, W, 3] or [H, W, 4], got {pixels.dtype} {pixels.shape}.")
    _check_size((pixels.shape[1], pixels.shape[0]), name)
    return Picture(_to_rgb(Image.fromarray(pixels), background), name, icc_profile)


def _read_bytes(source: Path | bytes, name: str) -> bytes:
    try:
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if size > MAX_BYTES:
            raise PictureError(f"{name} has {size / 1e6:,.0f} MB; at most {MAX_BYTES / 1e6:,.0f} MB can be read.")
        data = source if isinstance(source, bytes) else source.read_bytes()
    except FileNotFoundError as error:
        raise PictureError(f"{name}: there is no such file. Check its path.") from error
    except OSError as error:
        raise PictureError(f"{name} cannot be read: {error.strerror or error}.") from error
    if not data:
        raise PictureError(f"{name} is empty (0 bytes). Choose another file.")
    return data


def _open(data: bytes, name: str) -> Image.Image:
    """The picture with its header read and its size checked, not decoded."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    except (OSError, SyntaxError, ValueError, TypeError, struct.error, OverflowError, EOFError, MemoryError) as error:
        raise PictureError(_why_not(data, name)) from error
    _check_size(picture.size, name)
    return picture


def _why_not(data: bytes, name: str) -> str:
    for offset, magic, what, advice in _NOT_PICTURES:
        if data[offset : offset + len(magic)] == magic:
            return f"{name} is {what}; pictures can be {FORMATS_TEXT}. {advice} and try again."
    return (
        f"{name} is not a readable picture: it is damaged, or not {FORMATS_TEXT}. Open it elsewhere and save it as PNG."
    )


def _check_size(size: tuple[int, int], name: str) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise _too_large(name, size)
    if min(size) < 1:
        raise PictureError(f"{name} has no pixels. Choose another file.")


def _too_large(name: str, size: tuple[int, int] | None = None) -> PictureError:
    found = f"{size[0]:,} x {size[1]:,} pixels ({size[0] * size[1] / 1e6:,.0f} megapixels)" if size else "far more"
    return PictureError(
        f"{name} has {found}; at most {MAX_PIXELS // 1_000_000} megapixels can be read. Reduce it and try again."
    )


def _decoded(picture: Image.Image, name: str) -> Image.Image:
    """The first frame, upright."""
    try:
        picture.load()
        upright = ImageOps.exif_transpose(picture)
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    except MemoryError as error:
        raise PictureError(f"{name} is too large for this computer's memory. Reduce it and try again.") from error
    except Exception as error:  # decoders raise every kind for a damaged file
        raise PictureError(
            f"{name} is damaged: its pixels cannot be read ({str(error) or type(error).__name__}). Open it elsewhere "
            "and save it as PNG."
        ) from error
    _check_size(upright.size, name)  # a frame may be larger than its header said
    return upright


def _to_rgb(picture: Image.Image, background: Colour) -> Pixels:
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _to_8_bit(picture)
    elif picture.mode in ("CMYK", "LAB"):
        picture = _by_profile(picture)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        picture = picture.convert("RGBa").convert("RGBA") if picture.mode == "RGBa" else picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (*background, 255)), picture)
    return np.array(picture.convert("RGB"))


def _to_8_bit(picture: Image.Image) -> Image.Image:
    """Greyscale of 16 or 32 bits: the full range of 16 bits, or of what occurs where it is another."""
    values = np.asarray(picture).astype(np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    top = 65535.0
    if picture.mode == "F":
        top = 1.0 if values.max(initial=0) <= 1 else 255.0 if values.max() <= 255 else 65535.0
    elif values.max(initial=0) > top:
        top = float(values.max())
    return Image.fromarray(np.rint(values.clip(0, top) * (255 / top)).astype(np.uint8))


def _by_profile(picture: Image.Image) -> Image.Image:
    """CMYK by its own profile where it has a usable one, L*a*b* by its definition, else Pillow's own formula."""
    try:
        source = (
            ImageCms.createProfile("LAB")
            if picture.mode == "LAB"
            else ImageCms.ImageCmsProfile(io.BytesIO(picture.info.get("icc_profile") or b""))
        )
        converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture.convert("RGB") if picture.mode == "CMYK" else picture.getchannel(0)
    assert converted is not None  # only an in-place conversion returns None
    return converted


def _rgb_profile(picture: Image.Image) -> bytes | None:
    """The ICC profile, if it describes RGB pixels: those of grey and CMYK files no longer fit."""
    profile = picture.info.get("icc_profile")
    if isinstance(profile, bytes) and profile[16:20] == b"RGB " and picture.mode in ("RGB", "RGBA", "P", "RGBX"):
        return profile
    return None


# ---- squares of a picture --------------------------------------------------------------------------------


def whole_square(width: int, height: int) -> Box:
    """The largest square in the middle."""
    side = min(width, height)
    return Box((width - side) // 2, (height - side) // 2, side)


def cut(pixels: NDArray[Any], box: Box) -> NDArray[Any]:
    """The box of an array [H, W, ...] -> [side, side, ...]; beyond the edges the border pixels go on."""
    height, width = pixels.shape[:2]
    rows = np.arange(box.top, box.top + box.side).clip(0, height - 1)
    columns = np.arange(box.left, box.left + box.side).clip(0, width - 1)
    if rows[0] + box.side - 1 == rows[-1] and columns[0] + box.side - 1 == columns[-1]:
        return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return pixels[rows[:, None], columns[None]]


def resized(pixels: Pixels, side: int) -> Pixels:
    """A square picture [S, S, 3] at another size, antialiased; unchanged where it has that size already."""
    if pixels.shape[0] == side:
        return pixels
    return np.array(Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side), Image.Resampling.LANCZOS))


def encode_picture(picture: Picture, metadata: Mapping[str, Any] | None = None) -> bytes:
    """A PNG of the picture's own size, with its colour profile; metadata as in `png_files.encode_png`."""
    from engine.pictures import png_files

    return png_files.encode_png(picture.pixels, metadata, icc_profile=picture.icc_profile)
