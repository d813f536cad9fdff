"""Masks: what of a picture is to be repainted, and putting the new picture into the old one.

A mask is bool [H, W] of the picture's size, True where it is repainted. `feather_mask` makes an alpha
[H, W] in [0, 1] of it: 1 on the mask, 0 where not a bit may change. Pillow and numpy only.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.errors import PictureError
from engine.pictures.picture_files import Box, Picture, Pixels, cut, picture_from_pixels, read_picture

Mask = NDArray[np.bool_]
Alpha = NDArray[np.float32]

BLACK = (0, 0, 0)
THRESHOLD = 128  # of the brightness, or of a painted layer's opacity


# ---- where masks come from -------------------------------------------------------------------------------


def read_mask(source: Path | bytes, size: tuple[int, int], *, name: str = "") -> Mask:
    """A mask from a picture file: bright (from the middle grey on) is repainted, transparent is not.

    size: width and height of the picture it belongs to. Raises PictureError.
    """
    picture = read_picture(source, background=BLACK, name=name)
    _check_same_size(picture.size, size, picture.name)
    return _is_bright(picture.pixels)


def mask_from_pixels(pixels: NDArray[Any], size: tuple[int, int]) -> Mask:
    """A mask from an array: [H, W] or [H, W, 3] by brightness, a painted layer [H, W, 4] by its opacity.

    Raises PictureError.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 4 and pixels.dtype == np.uint8:
        mask: Mask = pixels[..., 3] >= THRESHOLD
    else:
        mask = _is_bright(picture_from_pixels(pixels, name="the mask").pixels)
    _check_same_size((mask.shape[1], mask.shape[0]), size, "the mask")
    return mask


def check_mask(mask: Mask, size: tuple[int, int]) -> None:
    """Raises PictureError for a mask of another size, or one that leaves nothing to repaint."""
    _check_same_size((mask.shape[1], mask.shape[0]), size, "the mask")
    if not mask.any():
        raise PictureError(
            "The mask is empty: there is nothing to repaint. Paint over a part of the picture, upload a mask with "
            "white in it, or invert it."
        )


def _is_bright(pixels: Pixels) -> Mask:
    return np.asarray(Image.fromarray(pixels).convert("L")) >= THRESHOLD


def _check_same_size(found: tuple[int, int], wanted: tuple[int, int], name: str) -> None:
    if found != wanted:
        raise PictureError(
            f"{name} has {found[0]} x {found[1]} pixels, but the picture has {wanted[0]} x {wanted[1]}. Make the mask "
            "exactly as large as the picture."
        )


# ---- mask algebra ----------------------------------------------------------------------------------------


def mask_share(mask: Mask) -> float:
    """Share of the picture that is repainted."""
    return float(mask.mean())


def invert_mask(mask: Mask) -> Mask:
    """What was kept is repainted, and the other way round."""
    return ~mask


def grow_mask(mask: Mask, pixels: int) -> Mask:
    """Every pixel at most `pixels` from the mask, along rows and columns; negative: shrunk by as much.

    Shrinking is growing the rest, but the world beyond the picture's edge belongs to neither.
    """
    if pixels < 0:
        return ~grow_mask(~mask, -pixels)
    return _window_sums(mask, pixels) > 0


def feather_mask(mask: Mask, pixels: int) -> Alpha:
    """1 on the mask, falling in a line to 0 over the `pixels` around it; 0 from there on: [H, W] in [0, 1].

    The mask grown by half of them, averaged over a window of the other half: the window of a pixel of the mask
    sees the grown mask only, that of a pixel further away than both halves sees none of it.
    """
    blurred = pixels // 2
    grown = grow_mask(mask, pixels - blurred)
    inside = _window_sums(np.ones_like(mask), blurred)
    return (_window_sums(grown, blurred) / inside).astype(np.float32)


def _window_sums(mask: Mask, radius: int) -> NDArray[np.int64]:
    """How much of the mask lies in the (2 radius + 1)^2 window of each pixel: [H, W]."""
    sums = mask.astype(np.int64)
    for axis in (0, 1):
        length = sums.shape[axis]
        total = np.concatenate([np.zeros_like(sums.take([0], axis)), sums.cumsum(axis)], axis)
        index = np.arange(length)
        high, low = (index + radius + 1).clip(max=length), (index - radius).clip(min=0)
        sums = total.take(high, axis) - total.take(low, axis)
    return sums


def bounds(mask: Mask) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a mask that is not empty; the last two are exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


# ---- the result ------------------------------------------------------------------------------------------


def paste(picture: Picture, box: Box, pixels: Pixels, alpha: Alpha) -> Picture:
    """The picture with a square [side, side, 3] put into its box through `alpha` [H, W].

    Where alpha is 0, outside of the box too, every pixel stays as it is, bit for bit.
    """
    result = picture.pixels.copy()
    top, left = max(box.top, 0), max(box.left, 0)
    bottom, right = min(box.top + box.side, picture.height), min(box.left + box.side, picture.width)
    window = (slice(top, bottom), slice(left, right))
    new = pixels[top - box.top : bottom - box.top, left - box.left : right - box.left]
    result[window] = blended(result[window], new, alpha[window])
    return picture.with_pixels(result)


def blended(old: Pixels, new: Pixels, alpha: Alpha) -> Pixels:
    """(1 - alpha) old + alpha new, rounded; exactly old where alpha is 0, exactly new where it is 1.

    Bytes and their differences are exact in float32, so at both ends nothing is left to round.
    """
    mixed: Pixels = np.rint(old + alpha[..., None] * (new.astype(np.float32) - old)).astype(np.uint8)
    return mixed


def count_changed(before: Picture, after: Picture, alpha: Alpha) -> int:
    """How many pixels with alpha 0 are not what they were."""
    return int((before.pixels != after.pixels).any(-1)[alpha == 0].sum())


def cut_alpha(alpha: Alpha, box: Box) -> Alpha:
    """The alpha of a box; nothing is known beyond the picture's edges, so that counts as 1."""
    result = np.array(cut(alpha, box))
    height, width = alpha.shape
    rows, columns = np.arange(box.top, box.top + box.side), np.arange(box.left, box.left + box.side)
    result[(rows < 0) | (rows >= height)] = 1
    result[:, (columns < 0) | (columns >= width)] = 1
    return result
