"""A person's own pictures: read from any common file, cut to a square, saved with their colour profile.

Pixels are taken as the file has them: a colour profile is kept beside them, not applied, so that what was not
changed is written back bit for bit. Transparency is kept too: what is shown and worked on is the picture on a
background, what is saved is its own colours and opacity. Pillow and numpy only.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from engine.errors import PictureError
from engine.pictures.decoding import MAX_PIXELS, MAX_SIDE, Pixels, check_size, read_layers
from engine.settings import SCALES

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
_ROWS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Transparency:
    """What a picture with transparent parts is: colours [H, W, 3], alpha [H, W], 255 where it is opaque.

    background: what it was laid on to be seen.
    """

    colours: Pixels
    alpha: Pixels
    background: Colour = WHITE


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture [H, W, 3] uint8 as it is seen, with its name and ICC profile, if it has any.

    transparency: where parts of it are transparent; `pixels` are then `flattened` from it. is_deep: whether its file
    has more than 8 bits a sample.
    """

    pixels: Pixels
    name: str = ""
    icc_profile: bytes | None = None
    transparency: Transparency | None = None
    is_deep: bool = False

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
        """Of the size and the pixels as they are seen, whatever file they came from."""
        digest = hashlib.sha256(struct.pack("<II", *self.size))
        digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.hexdigest()

    def with_pixels(self, pixels: Pixels, transparency: Transparency | None = None) -> "Picture":
        """Other pixels under the same name and profile."""
        return replace(self, pixels=pixels, transparency=transparency)


@dataclass(frozen=True)
class Box:
    """A square of a picture, in its pixels; it may reach beyond the picture's edges."""

    left: int
    top: int
    side: int


# ---- reading ---------------------------------------------------------------------------------------------


def read_picture(source: Path | bytes, *, background: Colour = WHITE, name: str = "") -> Picture:
    """A JPEG, PNG, WebP, TIFF or the first frame of a GIF as 8-bit RGB, upright; see `decoding.read_layers`.

    background: what transparent parts are seen on. Raises PictureError.
    """
    name = name or (source.name if isinstance(source, Path) else "the picture")
    layers = read_layers(source, name)
    if layers.alpha is None:
        return Picture(layers.colours, name, layers.icc_profile, is_deep=layers.is_deep)
    transparency = Transparency(layers.colours, layers.alpha, background)
    return Picture(flattened(transparency), name, layers.icc_profile, transparency, layers.is_deep)


def depth_note(picture: Picture) -> str:
    """What is lost of a picture of more bits; empty for others."""
    if not picture.is_deep:
        return ""
    return (
        f"{picture.name} has more than 8 bits a colour. Here pictures have 8, also those that are saved: keep the file "
        "for its finer shades."
    )


def picture_from_pixels(
    pixels: NDArray[Any], *, background: Colour = WHITE, name: str = "the picture", icc_profile: bytes | None = None
) -> Picture:
    """A picture from an array: uint8 [H, W], [H, W, 3], or [H, W, 4] with transparency. Raises PictureError."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,), (4,)):
        raise PictureError(f"{name}: expected bytes [H, W], [H, W, 3] or [H, W, 4], got {pixels.dtype} {pixels.shape}.")
    check_size((pixels.shape[1], pixels.shape[0]), name)
    if pixels.shape[2:] == (4,):
        transparency = Transparency(pixels[..., :3].copy(), pixels[..., 3].copy(), background)
        return Picture(flattened(transparency), name, icc_profile, transparency)
    colours = np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else pixels.copy()
    return Picture(colours, name, icc_profile)


def flattened(transparency: Transparency) -> Pixels:
    """The picture on its background: a c + (1 - a) b, rounded; exactly the colours where it is opaque."""
    colours, alpha = transparency.colours, transparency.alpha
    background = np.array(transparency.background, np.uint16)
    result = np.empty_like(colours)
    for top in range(0, len(alpha), _ROWS_AT_ONCE):
        rows = slice(top, top + _ROWS_AT_ONCE)
        opacity = alpha[rows, :, None].astype(np.uint16)
        result[rows] = (colours[rows] * opacity + background * (255 - opacity) + 127) // 255  # at most 65,152
    return result


def redrawn(picture: Picture, pixels: Pixels, box: Box | None = None) -> Picture:
    """A square [S, S, 3] drawn anew of the box of a picture, or all of it: under its name, with its profile.

    As transparent as the picture is there: on the picture's background it looks as it was drawn.
    """
    old = picture.transparency
    if old is None:
        return picture.with_pixels(pixels)
    alpha = resized(old.alpha if box is None else cut(old.alpha, box), len(pixels))
    opacity = alpha[..., None].astype(np.float32) / 255
    background = np.array(old.background, np.float32)
    colours = background + (pixels - background) / np.maximum(opacity, 1 / 255)
    own: Pixels = np.where(opacity == 1, pixels, np.rint(colours).clip(0, 255)).astype(np.uint8)
    return picture.with_pixels(pixels, Transparency(own, alpha, old.background))


def cropped(picture: Picture, left: int, top: int, right: int, bottom: int) -> Picture:
    """A rectangle of it, without its profile."""
    window, old = (slice(top, bottom), slice(left, right)), picture.transparency
    part = None if old is None else Transparency(old.colours[window], old.alpha[window], old.background)
    return Picture(np.ascontiguousarray(picture.pixels[window]), picture.name, None, part)


def put_back(picture: Picture, part: Picture, left: int, top: int) -> Picture:
    """The picture with a rectangle of another, its transparency included. Raises ValueError where it does not fit."""
    window = slice(top, top + part.height), slice(left, left + part.width)
    pixels = picture.pixels.copy()
    pixels[window] = part.pixels  # raises where they differ in size
    if picture.transparency is None and part.transparency is None:
        return picture.with_pixels(pixels)
    whole, inner = _layers(picture, part), _layers(part, picture)
    colours, alpha = whole.colours.copy(), whole.alpha.copy()
    colours[window], alpha[window] = inner.colours, inner.alpha
    return picture.with_pixels(pixels, Transparency(colours, alpha, whole.background))


def _layers(picture: Picture, other: Picture) -> Transparency:
    """Its colours and opacity; of an opaque one on the other's background."""
    if picture.transparency is not None:
        return picture.transparency
    background = other.transparency.background if other.transparency else WHITE
    return Transparency(picture.pixels, np.full(picture.pixels.shape[:2], 255, np.uint8), background)


# ---- squares of a picture --------------------------------------------------------------------------------


def whole_square(width: int, height: int) -> Box:
    """The largest square in the middle."""
    side = min(width, height)
    return Box((width - side) // 2, (height - side) // 2, side)


def square_of(picture: Picture, box: Box) -> Picture:
    """That square of a picture, with its name, profile and transparency. Raises PictureError where it is not inside."""
    right, bottom = box.left + box.side, box.top + box.side
    if min(box.left, box.top) < 0 or box.side < 1 or right > picture.width or bottom > picture.height:
        raise PictureError(
            f"{picture.name} has {picture.width} x {picture.height} pixels: there is no square of {box.side} at "
            f"{box.left}, {box.top} in it. Choose a smaller one, or another place."
        )
    return replace(cropped(picture, box.left, box.top, right, bottom), icc_profile=picture.icc_profile)


def square_at(picture: Picture, across: float, down: float, share: float) -> Box:
    """The square of `share` of a picture's shorter side; across, down: 0 at the left and top edges, 1 at the others."""
    across, down, share = (min(max(value, 0.0), 1.0) for value in (across, down, share))
    side = max(1, round(share * min(picture.size)))
    return Box(round(across * (picture.width - side)), round(down * (picture.height - side)), side)


def cut(pixels: NDArray[Any], box: Box) -> NDArray[Any]:
    """The box of an array [H, W, ...] -> [side, side, ...]; beyond the edges the border pixels go on."""
    height, width = pixels.shape[:2]
    rows = np.arange(box.top, box.top + box.side).clip(0, height - 1)
    columns = np.arange(box.left, box.left + box.side).clip(0, width - 1)
    if rows[0] + box.side - 1 == rows[-1] and columns[0] + box.side - 1 == columns[-1]:
        return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return pixels[rows[:, None], columns[None]]


def resized(pixels: Pixels, side: int) -> Pixels:
    """A square picture [S, S, 3] or channel [S, S] at another size, antialiased; unchanged where it has that size."""
    if pixels.shape[0] == side:
        return pixels
    return np.array(Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side), Image.Resampling.LANCZOS))


def covering(pixels: Pixels, width: int, height: int) -> Pixels:
    """A picture [H, W, 3] at another size, antialiased; of other proportions its middle: [height, width, 3]."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.array(ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS))


def can_be_enlarged(picture: Picture, scale: int) -> bool:
    """Whether it can be saved `scale` times as large and read back."""
    width, height = picture.width * scale, picture.height * scale
    return scale in SCALES and width * height <= MAX_PIXELS and max(width, height) <= MAX_SIDE


def enlarged(picture: Picture, scale: int) -> Picture:
    """`scale` times as wide and high, by Lanczos' filter. Raises PictureError where that is too large."""
    if scale == 1:
        return picture
    width, height = picture.width * scale, picture.height * scale
    if not can_be_enlarged(picture, scale):
        raise PictureError(f"A picture of {width} x {height} is too large to be saved. Choose a smaller size.")

    def larger(pixels: Pixels) -> Pixels:
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))

    whole = picture.transparency
    if whole is not None:
        whole = replace(whole, colours=larger(whole.colours), alpha=larger(whole.alpha))
    return picture.with_pixels(larger(picture.pixels), whole)


def encode_picture(picture: Picture, metadata: Mapping[str, Any] | None = None) -> bytes:
    """A PNG of the picture's own size, with its colour profile and transparency; metadata as in `png_files`."""
    from engine.pictures import png_files

    pixels, transparency = picture.pixels, picture.transparency
    if transparency is not None:
        pixels = np.dstack([transparency.colours, transparency.alpha])
    return png_files.encode_png(pixels, metadata, icc_profile=picture.icc_profile)
