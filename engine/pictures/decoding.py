"""Picture files to pixels, within bounds of memory and time: what a file needs is known from its header, before it is
decoded; then it is converted in strips, so that beside the decoder's own copy there is only the result.

Pixels are taken as the file has them, but for its orientation; colours are 8 bits, profiles are not applied where the
result can carry them. Pillow and numpy only.
"""

import io
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from engine.errors import PictureError
from engine.pictures import png_chunks
from engine.pictures.profiles import rgb_of_grey

Pixels = NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF")
FORMATS_TEXT = "JPEG, PNG, WebP, GIF or TIFF"
MAX_PIXELS = 100_000_000
MAX_SIDE = 60_000  # pixels
MAX_BYTES = 600_000_000  # of a file
MAX_MEMORY = 850_000_000  # bytes, for the file, the decoder and the result together
MAX_SCANNED = 2_000_000_000  # pixels times the scans of a progressive JPEG, each of which goes over all of them
MAX_PROGRESSIVE_BYTES = 60_000_000  # of such a file, in which a byte takes several times as long as in others
MAX_LAB = 40_000_000  # pixels of L*a*b*, whose conversion is slow
MAX_STRIPS = 1_000_000  # of a TIFF

_STRIP = 2_000_000  # pixels converted at once
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}  # bytes a pixel in Pillow; 4 of other modes
_RESULT, _TRANSPARENT_RESULT = 3, 7  # bytes a pixel; see `Layers` and `picture_files.Picture`
_WEBP_DECODER = 16  # bytes a pixel: two canvases, the frame, and its copy
_TIFF_BYTES = (1, 2, 7)  # kinds of tags that are kept as they are: bytes, text, anything
_MOST_TAGS = 1_000  # looked at; a picture has some 20
_MOST_EXIF = 1 << 20  # bytes; cameras write up to 64 kB
_ROWS_A_STRIP = 278

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
class Layers:
    """What a file holds. colours: [H, W, 3]; alpha: [H, W], None where all of it is opaque; is_lossy: whether its
    format blurs what is black and white; is_deep: whether it has more than the 8 bits a sample that are left here."""

    colours: Pixels
    alpha: Pixels | None
    icc_profile: bytes | None
    is_lossy: bool
    is_deep: bool

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.colours.shape[1], self.colours.shape[0]


def read_layers(source: Path | bytes, name: str) -> Layers:
    """A JPEG, PNG, WebP, TIFF or the first frame of a GIF, upright.

    Greyscale, palette, CMYK, L*a*b* and 16-bit pictures are converted. Raises PictureError, for a picture that would
    take too much memory or time before it is decoded.
    """
    data = _read_bytes(source, name)
    with warnings.catch_warnings():
        # Pillow's own, lower limit; ours is checked in `_open`, before anything is decoded.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.simplefilter("ignore", UserWarning)  # of damaged metadata that nobody needs
        profile, depth = None, 8
        if data.startswith(png_chunks.SIGNATURE):
            data, profile, depth = _png_parts(data, name)
        _check_tiff_tags(data, name)
        picture = _open(data, name)
        _check_needs(picture, data, name)
        profile = profile if profile is not None else picture.info.get("icc_profile")
        _load(picture, name)
        is_lossy = picture.format == "JPEG" or (picture.format == "WEBP" and b"VP8 " in data[:64])
        del data  # what it takes is free for the result
        depth = max(depth, _stored_depth(picture))
        return _converted(picture, _Conversion(picture.mode, depth, profile, _top(picture)), is_lossy, name)


# ---- before anything is decoded --------------------------------------------------------------------------


def _read_bytes(source: Path | bytes, name: str) -> bytes:
    try:
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if size > MAX_BYTES:
            raise PictureError(f"{name} has {size / 1e6:,.0f} MB; at most {MAX_BYTES / 1e6:,.0f} MB can be read.")
        if isinstance(source, Path) and source.exists() and not source.is_file():
            raise PictureError(f"{name} cannot be read: it is no ordinary file. Choose a picture file.")
        data = source if isinstance(source, bytes) else source.read_bytes()
    except FileNotFoundError as error:
        raise PictureError(f"{name}: there is no such file. Check its path.") from error
    except OSError as error:
        raise PictureError(f"{name} cannot be read: {error.strerror or error}.") from error
    if not data:
        raise PictureError(f"{name} is empty (0 bytes). Choose another file.")
    return data


def _png_parts(data: bytes, name: str) -> tuple[bytes, bytes | None, int]:
    """A PNG without what Pillow would stumble over, its colour profile, and the bits of its samples."""
    try:
        depth = png_chunks.depth_of(data) if png_chunks.is_png(io.BytesIO(data)) else 8
        return png_chunks.without_extras(data), png_chunks.profile_of(data), depth
    except ValueError as error:
        raise PictureError(f"{name} is no picture that can be read: {error}. Save it again as PNG.") from error


def _check_tiff_tags(data: bytes, name: str) -> None:
    """Raises PictureError for a TIFF with more numbers in a tag than any picture needs: each would become an object."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return
    is_big = data[2:4] in (b"+\0", b"\0+")
    entry, counted = (order + ("HHQQ" if is_big else "HHII")), order + ("Q" if is_big else "H")
    try:
        (place,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)
        (count,) = struct.unpack_from(counted, data, place)
        place += struct.calcsize(counted)
        for index in range(min(count, _MOST_TAGS)):
            _, kind, numbers, _ = struct.unpack_from(entry, data, place + index * struct.calcsize(entry))
            if numbers > MAX_STRIPS and kind not in _TIFF_BYTES:
                raise PictureError(f"{name} has over {MAX_STRIPS:,} strips. Open it elsewhere and save it as PNG.")
    except struct.error:
        return  # damaged, which opening it tells


def _open(data: bytes, name: str) -> Image.Image:
    """The picture with its header read and its size checked, not decoded."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    except (OSError, SyntaxError, ValueError, TypeError, struct.error, OverflowError, EOFError, MemoryError) as error:
        raise PictureError(_why_not(data, name)) from error
    check_size(picture.size, name)
    return picture


def _why_not(data: bytes, name: str) -> str:
    for offset, magic, what, advice in _NOT_PICTURES:
        if data[offset : offset + len(magic)] == magic:
            return f"{name} is {what}; pictures can be {FORMATS_TEXT}. {advice} and try again."
    return (
        f"{name} is not a readable picture: it is damaged, or not {FORMATS_TEXT}. Open it elsewhere and save it as PNG."
    )


def check_size(size: tuple[int, int], name: str) -> None:
    """Raises PictureError for width and height that are too many pixels, or none."""
    if size[0] * size[1] > MAX_PIXELS:
        raise _too_large(name, size)
    if max(size) > MAX_SIDE:
        raise PictureError(
            f"{name} has {size[0]:,} x {size[1]:,} pixels; at most {MAX_SIDE:,} a side can be read. Cut it and try "
            "again."
        )
    if min(size) < 1:
        raise PictureError(f"{name} has no pixels. Choose another file.")


def _too_large(name: str, size: tuple[int, int] | None = None) -> PictureError:
    found = f"{size[0]:,} x {size[1]:,} pixels ({size[0] * size[1] / 1e6:,.0f} megapixels)" if size else "far more"
    return PictureError(
        f"{name} has {found}; at most {MAX_PIXELS // 1_000_000} megapixels can be read. Reduce it and try again."
    )


def _check_needs(picture: Image.Image, data: bytes, name: str) -> None:
    """Raises PictureError where decoding would take too much memory or time."""
    pixels = picture.width * picture.height
    result = _TRANSPARENT_RESULT if _may_be_transparent(picture) else _RESULT
    needed = len(data) + pixels * (_STORED.get(picture.mode, 4) + result) + _decoder_bytes(picture, data, pixels, name)
    if needed > MAX_MEMORY:
        raise PictureError(
            f"{name} would take {needed / 1e6:,.0f} MB of memory to read ({picture.width:,} x {picture.height:,} "
            f"pixels, {picture.format}); at most {MAX_MEMORY / 1e6:,.0f} MB are used. Reduce it and try again."
        )
    if picture.mode == "LAB" and pixels > MAX_LAB:
        raise PictureError(
            f"{name} has {pixels / 1e6:,.0f} megapixels in L*a*b*; at most {MAX_LAB // 1_000_000} can be read. "
            "Save it in RGB, or reduce it, and try again."
        )


def _decoder_bytes(picture: Image.Image, data: bytes, pixels: int, name: str) -> int:
    """What the decoder of the format takes beside the pixels that it hands on."""
    if picture.format == "WEBP":
        return _WEBP_DECODER * pixels
    if picture.format == "JPEG" and picture.info.get("progressive"):
        scans = data.count(b"\xff\xda")  # nowhere else in its pixels; a preview inside counts too
        if scans * pixels > MAX_SCANNED or len(data) > MAX_PROGRESSIVE_BYTES:
            raise PictureError(
                f"{name} is a progressive JPEG of {len(data) / 1e6:,.0f} MB in {scans:,} scans, which would take too "
                "long to read. Save it again, not progressive."
            )
        return 2 * len(picture.getbands()) * pixels  # all coefficients are kept until the last scan
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        tags: Any = picture.tag_v2
        turning = 0 if tags.get(ExifTags.Base.Orientation, 1) == 1 else _STORED.get(picture.mode, 4) * pixels
        if tags.get(259, 1) == 1:
            return turning  # not compressed: read into place
        rows = min(int(tags.get(_ROWS_A_STRIP) or picture.height), picture.height)
        bits = tags.get(258, (8,))
        return turning + rows * picture.width * max(sum(map(int, bits)), 8) // 8  # the decoder unpacks whole strips
    return 0


def _may_be_transparent(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info


# ---- decoded ---------------------------------------------------------------------------------------------


def _load(picture: Image.Image, name: str) -> None:
    try:
        picture.load()
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    except MemoryError as error:
        raise PictureError(f"{name} is too large for this computer's memory. Reduce it and try again.") from error
    except Exception as error:  # decoders raise every kind for a damaged file
        raise PictureError(
            f"{name} is damaged: its pixels cannot be read ({str(error) or type(error).__name__}). Open it elsewhere "
            "and save it as PNG."
        ) from error
    check_size(picture.size, name)  # a frame may be larger than its header said


@dataclass(frozen=True)
class _Conversion:
    """What the strips of one picture share. depth: bits of a sample in the file; top: the value that is white, of
    pictures of more bits than Pillow's."""

    mode: str
    depth: int
    profile: bytes | None
    top: float

    def of(self, strip: Image.Image) -> tuple[Pixels, Pixels | None]:
        """Colours [H, W, 3] and alpha [H, W] of a strip."""
        key = strip.info.get("transparency")
        if self.mode in ("RGBA", "LA", "PA", "RGBa", "La") or (self.mode == "P" and key is not None):
            rgba = np.asarray(strip.convert("RGBA"))
            return rgba[..., :3], rgba[..., 3]
        if self.mode.startswith("I") or self.mode == "F":
            values = np.asarray(strip)
            colours = np.broadcast_to(self._to_8_bit(values)[..., None], (*values.shape, 3))
            return colours, _opacity(values != key) if isinstance(key, int) else None
        if self.mode in ("CMYK", "LAB"):
            return np.asarray(_by_profile(strip, self.profile).convert("RGB")), None
        colours = np.asarray(strip.convert("RGB"))
        return colours, None if key is None else _opacity((colours != self._as_stored(key)).any(-1))

    def _as_stored(self, key: int | tuple[int, ...]) -> Any:
        """The transparent colour at 8 bits, as Pillow has the pixels."""
        numbers = np.atleast_1d(np.array(key, dtype=np.int64))
        if self.mode == "1":
            return numbers  # which Pillow scales itself
        return numbers >> 8 if self.depth > 8 else numbers * 255 // ((1 << self.depth) - 1)

    def _to_8_bit(self, values: NDArray[Any]) -> Pixels:
        if self.top == 65535 and values.dtype == np.uint16:
            return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
        numbers = values.astype(np.float32 if self.mode == "F" else np.float64)
        numbers = np.nan_to_num(numbers, nan=0.0, posinf=0.0, neginf=0.0)
        return np.rint(numbers.clip(0, self.top) * (255 / self.top)).astype(np.uint8)


def _opacity(is_seen: NDArray[np.bool_]) -> Pixels:
    return np.where(is_seen, np.uint8(255), np.uint8(0))


def _strips(picture: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    rows = max(1, _STRIP // picture.width)
    for top in range(0, picture.height, rows):
        bottom = min(top + rows, picture.height)
        yield slice(top, bottom), picture.crop((0, top, picture.width, bottom))


def _top(picture: Image.Image) -> float:
    """Of greyscale of 16 or 32 bits: the full range of 16 bits, or of what occurs where it is another."""
    if picture.mode not in ("I", "F"):
        return 65535.0
    greatest = 0.0
    for _, strip in _strips(picture):
        values = np.asarray(strip)
        greatest = max(greatest, float(values.max(initial=0, where=np.isfinite(values))))
    if picture.mode == "F":
        return 1.0 if greatest <= 1 else 255.0 if greatest <= 255 else 65535.0
    return max(greatest, 65535.0)


def _stored_depth(picture: Image.Image) -> int:
    """Bits of a sample as far as Pillow tells them, by its mode or a TIFF's tag; 0 where it does not."""
    if picture.mode == "F" or picture.mode.startswith("I"):
        return 16
    tags = getattr(picture, "tag_v2", {})
    return max(tags.get(TiffImagePlugin.BITSPERSAMPLE, ()), default=0)


def _converted(picture: Image.Image, conversion: _Conversion, is_lossy: bool, name: str) -> Layers:
    try:
        colours = np.empty((picture.height, picture.width, 3), np.uint8)
        alpha = np.empty(colours.shape[:2], np.uint8) if _may_be_transparent(picture) else None
    except MemoryError as error:
        raise PictureError(f"{name} is too large for this computer's memory. Reduce it and try again.") from error
    for rows, strip in _strips(picture):
        colours[rows], opacity = conversion.of(strip)
        if alpha is not None:
            alpha[rows] = 255 if opacity is None else opacity
    if alpha is not None and alpha.min() == 255:
        alpha = None
    orientation = _orientation(picture)
    profile = _rgb_profile(picture.mode, conversion.profile)
    picture.im = None  # type: ignore[assignment]  # the decoder's copy, before the result is turned
    upright = None if alpha is None else _turned(alpha, orientation)
    return Layers(_turned(colours, orientation), upright, profile, is_lossy, conversion.depth > 8)


def _orientation(picture: Image.Image) -> int:
    if len(picture.info.get("exif", b"")) > _MOST_EXIF:
        return 1
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged ones raise every kind
        return 1


def _turned(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """As the eight orientations of EXIF say: 1 is upright, from 5 on rows and columns are exchanged."""
    if not 2 <= orientation <= 8:
        return array
    turned = array.swapaxes(0, 1) if orientation >= 5 else array
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    return np.ascontiguousarray(turned)


# ---- colour profiles -------------------------------------------------------------------------------------


def _by_profile(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """CMYK by its own profile where it has a usable one, L*a*b* by its definition, else Pillow's own formula."""
    try:
        source = (
            ImageCms.createProfile("LAB")
            if picture.mode == "LAB"
            else ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
        )
        converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture.convert("RGB") if picture.mode == "CMYK" else picture.getchannel(0)
    assert converted is not None  # only an in-place conversion returns None
    return converted


def _rgb_profile(mode: str, profile: Any) -> bytes | None:
    """A profile that describes the pixels as they are read: an RGB file's own, or for grey one with its tone curve.

    That of a CMYK file no longer fits.
    """
    if not isinstance(profile, bytes):
        return None
    if profile[16:20] == b"RGB " and mode in ("RGB", "RGBA", "P", "RGBX", "RGBa", "PA"):
        return profile
    if profile[16:20] == b"GRAY" and (mode in ("1", "L", "LA", "La", "F") or mode.startswith("I")):
        return rgb_of_grey(profile)
    return None
