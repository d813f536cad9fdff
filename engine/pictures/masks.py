"""Masks: what of a picture is to be repainted, and putting the new picture into the old one.

A mask is [H, W] of the picture's size: bool, True where it is repainted, or where it is soft uint8, from 0 (kept) to
255 (repainted). `feather_mask` makes an alpha [H, W] in [0, 1] of it: 0 outside of the mask, where not a bit may
change, whatever the feather. Pillow and numpy only.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.errors import PictureError
from engine.pictures.decoding import Layers, Pixels, read_layers
from engine.pictures.picture_files import Box, Picture, Transparency, cut, picture_from_pixels

Mask = NDArray[np.bool_] | NDArray[np.uint8]
Alpha = NDArray[np.float32]

BLURRED = 32  # of 255: how far a format that blurs may put black and white from where they were
PLAIN = 16  # of 255: how far from black or white counts as such, where a mask has transparent parts
SAME_ASPECT = 0.02  # the most that width : height of a mask that was resized may differ, for its whole pixels
_INVERT = "Repaint the rest instead, if it should be the other way round."
_NEAR = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]


# ---- where masks come from -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ReadMask:
    """A mask, and what a person should know of how the file was understood; "" where that goes without saying."""

    mask: Mask
    note: str = ""


def read_mask(source: Path | bytes, size: tuple[int, int], *, name: str = "") -> ReadMask:
    """A mask from a picture file.

    White is repainted, black is not, grey by as much. Of a file with transparent parts that are not just beside the
    mask: strokes on transparency, of whatever colour, are what is repainted; of a picture or a plain colour with a hole
    it is the hole. A file of another size is resized, where it has the same proportions: each pixel then counts by the
    share of it that is white. size: width and height of the picture it belongs to. Raises PictureError.
    """
    name = name or (source.name if isinstance(source, Path) else "the mask")
    layers = read_layers(source, name)
    notes = []
    is_hole = None if layers.alpha is None or _says_it_in_colours(layers) else _is_hole(layers.alpha)
    if is_hole is None:
        levels = _luminance(layers)
    else:
        assert layers.alpha is not None
        levels = ~layers.alpha if is_hole else layers.alpha
        what = "the transparent part" if is_hole else "what is painted on transparency"
        notes.append(f"Of {name}, {what} is repainted ({_percent(levels)}). {_INVERT}")
    if layers.is_lossy:
        levels = _without_blur(levels)
    if layers.size != size:
        notes.append(
            f"{name} has {_size_text(layers.size)} pixels and was resized to the picture's {_size_text(size)}."
        )
    return ReadMask(_hard_if_it_is(_resized(levels, size, name)), " ".join(notes))


def decode_mask(png: bytes, size: tuple[int, int]) -> Mask:
    """A mask as `encode_mask` or the page wrote it, white is repainted, at the picture's size. Raises PictureError."""
    try:
        painted = Image.open(io.BytesIO(png), formats=["PNG"])
        if painted.width * painted.height > max(4 * size[0] * size[1], 1 << 24):
            raise ValueError("more pixels than any mask needs")
        levels = np.asarray(painted.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError("The painted mask did not arrive whole. Press Run again.") from error
    return _hard_if_it_is(_box_resized(levels, size))


def encode_mask(mask: Mask) -> bytes:
    """A mask as PNG, white is repainted: of one bit a pixel, or of eight where it is soft."""
    buffer = io.BytesIO()
    levels = Image.fromarray(mask)
    (levels.convert("1") if mask.dtype == np.bool_ else levels).save(buffer, "PNG")
    return buffer.getvalue()


def mask_from_pixels(pixels: NDArray[Any], size: tuple[int, int]) -> Mask:
    """A mask from an array: [H, W] or [H, W, 3] by brightness, a painted layer [H, W, 4] by its opacity.

    Raises PictureError.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 4 and pixels.dtype == np.uint8:
        levels: Pixels = pixels[..., 3]
    else:
        colours = picture_from_pixels(pixels, name="the mask").pixels
        levels = np.asarray(Image.fromarray(colours).convert("L"))
    _check_same_size((levels.shape[1], levels.shape[0]), size, "the mask")
    return _hard_if_it_is(levels)


def check_mask(mask: Mask, size: tuple[int, int]) -> None:
    """Raises PictureError for a mask of another size, or one that leaves nothing to repaint."""
    _check_same_size((mask.shape[1], mask.shape[0]), size, "the mask")
    if not mask.any():
        raise PictureError(
            "The mask is empty: there is nothing to repaint. Paint over a part of the picture, upload a mask with "
            "white in it, or invert it."
        )


def _luminance(layers: Layers) -> Pixels:
    """Of the picture over black: [H, W]."""
    levels = np.array(Image.fromarray(layers.colours).convert("L"))
    if layers.alpha is not None:
        levels = ((levels.astype(np.uint16) * layers.alpha + 127) // 255).astype(np.uint8)
    return levels


def _says_it_in_colours(layers: Layers) -> bool:
    """Whether what is seen is black in some parts and white in others, and nothing else."""
    assert layers.alpha is not None
    seen = layers.colours[layers.alpha >= 128]
    dark, bright = (seen <= PLAIN).all(-1), (seen >= 255 - PLAIN).all(-1)
    return bool(dark.any() and bright.any() and (dark | bright).mean() > 0.9)


def _is_hole(alpha: Pixels) -> bool:
    """Whether most of the edge is opaque: then something was cut out, else painted onto nothing."""
    edge = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
    return bool((edge >= 128).mean() > 0.5)


def _without_blur(levels: Pixels) -> Pixels:
    stretched = (levels.astype(np.float32) - BLURRED) * (255 / (255 - 2 * BLURRED))
    return np.rint(stretched.clip(0, 255)).astype(np.uint8)


def _hard_if_it_is(levels: Pixels) -> Mask:
    """As bool, where nothing lies between black and white."""
    is_hard = bool(((levels == 0) | (levels == 255)).all())
    return levels > 0 if is_hard else levels


def _resized(levels: Pixels, size: tuple[int, int], name: str) -> Pixels:
    found = (levels.shape[1], levels.shape[0])
    if found == size:
        return levels
    across, down = found[0] * size[1], found[1] * size[0]
    if abs(across - down) > min(sum(size) / 2, SAME_ASPECT * max(across, down)):
        _check_same_size(found, size, name)
    return _box_resized(levels, size)


def _box_resized(levels: Pixels, size: tuple[int, int]) -> Pixels:
    """Each pixel by the share of it that is white; enlarged, by the pixel that it lies in."""
    if (levels.shape[1], levels.shape[0]) == size:
        return levels
    return np.asarray(Image.fromarray(levels).resize(size, Image.Resampling.BOX))


def _check_same_size(found: tuple[int, int], wanted: tuple[int, int], name: str) -> None:
    if found != wanted:
        raise PictureError(
            f"{name} has {_size_text(found)} pixels, but the picture has {_size_text(wanted)}. Make the mask exactly "
            "as large as the picture, or give it the same proportions."
        )


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _percent(levels: Pixels) -> str:
    share = 100 * mask_share(levels)
    return "under 1 %" if 0 < share < 1 else f"{share:.0f} %"


# ---- mask algebra ----------------------------------------------------------------------------------------


def mask_share(mask: Mask) -> float:
    """Share of the picture that is repainted."""
    return float(mask.mean()) / (1 if mask.dtype == np.bool_ else 255)


def invert_mask(mask: Mask) -> Mask:
    """What was kept is repainted, and the other way round."""
    return ~mask


def grow_mask(mask: Mask, pixels: int) -> Mask:
    """Every pixel as the greatest at most `pixels` away, along rows and columns; negative: shrunk by as much.

    Shrinking is growing the rest, but the world beyond the picture's edge belongs to neither.
    """
    if pixels < 0:
        return ~grow_mask(~mask, -pixels)
    for axis in (0, 1):
        mask = _greatest_along(mask, pixels, axis)
    return mask


def _greatest_along(values: NDArray[Any], radius: int, axis: int) -> NDArray[Any]:
    """The greatest within `radius` along an axis; the reach of what is compared doubles with every pass."""
    result, reach = values, 0
    while reach < radius:
        move = min(max(1, reach), radius - reach)
        moved = result.copy()
        later, earlier = _shifted(axis, move), _shifted(axis, -move)
        moved[later] = np.maximum(moved[later], result[earlier])
        moved[earlier] = np.maximum(moved[earlier], result[later])
        result, reach = moved, reach + move
    return result


def _shifted(axis: int, by: int) -> tuple[slice, slice]:
    """All but the first, or for a negative number the last, rows or columns."""
    cut_off = slice(by, None) if by > 0 else slice(None, by)
    return (cut_off, slice(None)) if axis == 0 else (slice(None), cut_off)


def feather_mask(mask: Mask, pixels: int) -> Alpha:
    """0 outside of the mask, rising in a line to 1 over the `pixels` just inside its edge: [H, W] in [0, 1].

    At the d-th pixel from the edge it is d / (pixels + 1). Where the mask is thinner than that, it rises to its middle
    line, so that every part of it is repainted. Of a soft mask nowhere more than the mask itself. The picture's own
    edges are none of the mask's.
    """
    alpha = np.zeros(mask.shape, np.float32)
    if not mask.any():
        return alpha
    left, top, right, bottom = bounds(mask)
    around = slice(max(top - 1, 0), bottom + 1), slice(max(left - 1, 0), right + 1)
    part = mask[around]
    depth = _depths(part > 0, pixels + 1)
    share = (depth / np.maximum(_depths_above(depth), 1)).astype(np.float32)
    alpha[around] = share if part.dtype == np.bool_ else np.minimum(share, part.astype(np.float32) / 255)
    return alpha


def _depths(covered: NDArray[np.bool_], most: int) -> NDArray[np.int32]:
    """How many pixels each of the mask's is from what is not, along rows, columns and diagonals, at most `most`.

    Two passes over the rows, each with what the row before knows and what goes on within the row.
    """
    depth = np.where(covered, np.int32(most), np.int32(0))
    column = np.arange(depth.shape[1], dtype=np.int32)
    for rows in (depth, depth[::-1, ::-1]):
        before = None
        for row in rows:
            if before is not None:
                near = before.copy()
                near[1:] = np.minimum(near[1:], before[:-1])
                near[:-1] = np.minimum(near[:-1], before[1:])
                np.minimum(row, near + 1, out=row)
            np.minimum(row, np.minimum.accumulate(row - column) + column, out=row)
            before = row
    return depth


def _depths_above(depth: NDArray[np.int32]) -> NDArray[np.int32]:
    """The depth that each pixel reaches by going inwards as long as that leads deeper."""
    height, width = depth.shape
    padded = np.zeros((height + 2, width + 2), np.int32)
    padded[1:-1, 1:-1] = depth
    flat, above = padded.ravel(), padded.ravel().copy()
    steps = [row * (width + 2) + column for row, column in _NEAR]
    deepest = int(depth.max())
    shallow = np.flatnonzero((flat > 0) & (flat < deepest))
    shallow = shallow[np.argsort(flat[shallow], kind="stable")]
    ends = np.searchsorted(flat[shallow], np.arange(1, deepest + 1))
    for level in range(deepest - 1, 0, -1):
        here = shallow[ends[level - 1] : ends[level]]
        for step in steps:
            there = here + step
            reached = np.where(flat[there] == level + 1, above[there], 0)
            above[here] = np.maximum(above[here], reached)
    return above.reshape(padded.shape)[1:-1, 1:-1]


def bounds(mask: Mask) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a mask that is not empty; the last two are exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


# ---- the result ------------------------------------------------------------------------------------------


def paste(picture: Picture, box: Box, pixels: Pixels, alpha: Alpha) -> Picture:
    """The picture with a square [side, side, 3] put into its box through `alpha` [H, W].

    Where alpha is 0, outside of the box too, every pixel stays as it is, bit for bit, its transparency included; what
    is repainted becomes opaque.
    """
    result = picture.pixels.copy()
    top, left = max(box.top, 0), max(box.left, 0)
    bottom, right = min(box.top + box.side, picture.height), min(box.left + box.side, picture.width)
    window = (slice(top, bottom), slice(left, right))
    new = pixels[top - box.top : bottom - box.top, left - box.left : right - box.left]
    result[window] = blended(result[window], new, alpha[window])
    old = picture.transparency
    return picture.with_pixels(result, None if old is None else _painted_over(old, window, new, alpha[window]))


def _painted_over(old: Transparency, window: tuple[slice, slice], new: Pixels, alpha: Alpha) -> Transparency:
    """The same with colours and opacity: what is laid over covers by alpha, what was there by the rest of its own."""
    colours, opacity = old.colours.copy(), old.alpha.copy()
    rest = (1 - alpha) * opacity[window] / 255
    total = alpha + rest
    share = np.divide(alpha, total, out=np.zeros_like(total), where=total > 0)
    colours[window] = blended(colours[window], new, share)
    opacity[window] = np.where(alpha > 0, np.rint(255 * total), opacity[window]).astype(np.uint8)
    return Transparency(colours, opacity, old.background)


def blended(old: Pixels, new: Pixels, alpha: Alpha) -> Pixels:
    """(1 - alpha) old + alpha new, rounded; exactly old where alpha is 0, exactly new where it is 1.

    Bytes and their differences are exact in float32, so at both ends nothing is left to round.
    """
    mixed: Pixels = np.rint(old + alpha[..., None] * (new.astype(np.float32) - old)).astype(np.uint8)
    return mixed


def count_changed(before: Picture, after: Picture, alpha: Alpha) -> int:
    """How many pixels with alpha 0 are not what they were, in colour or transparency."""
    changed = (before.pixels != after.pixels).any(-1)
    if before.transparency is not None and after.transparency is not None:
        changed |= (before.transparency.colours != after.transparency.colours).any(-1)
        changed |= before.transparency.alpha != after.transparency.alpha
    return int(changed[alpha == 0].sum())


def cut_alpha(alpha: Alpha, box: Box) -> Alpha:
    """The alpha of a box; nothing is known beyond the picture's edges, so that counts as 1."""
    result = np.array(cut(alpha, box))
    height, width = alpha.shape
    rows, columns = np.arange(box.top, box.top + box.side), np.arange(box.left, box.left + box.side)
    result[(rows < 0) | (rows >= height)] = 1
    result[:, (columns < 0) | (columns >= width)] = 1
    return result
