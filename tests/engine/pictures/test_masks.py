"""Mask algebra in closed form, and pixels outside of the mask that keep every bit through every format."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.errors import PictureError
from engine.pictures.masks import (
    blended,
    bounds,
    check_mask,
    count_changed,
    cut_alpha,
    feather_mask,
    grow_mask,
    invert_mask,
    mask_from_pixels,
    mask_share,
    paste,
    read_mask,
)
from engine.pictures.picture_files import Box, Picture, encode_picture, read_picture


def random_mask(height: int = 30, width: int = 40, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((height, width)) > 0.97


def brute_force_grown(mask: Any, radius: int) -> Any:
    result = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        result[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = True
    return result


@pytest.mark.parametrize("radius", [0, 1, 3, 50])
def test_growing(radius: int) -> None:
    """Every pixel within `radius` rows and columns of the mask."""
    assert np.array_equal(grow_mask(random_mask(), radius), brute_force_grown(random_mask(), radius))


def test_shrinking_is_growing_the_rest() -> None:
    mask = ~random_mask()
    assert np.array_equal(grow_mask(mask, -2), ~brute_force_grown(~mask, 2))
    full = np.ones((5, 5), bool)
    assert grow_mask(full, -2).all()  # beyond the edge lies no rest
    assert not grow_mask(np.eye(5, dtype=bool), -1).any()


def test_growing_twice_is_growing_by_the_sum() -> None:
    mask = random_mask()
    assert np.array_equal(grow_mask(grow_mask(mask, 2), 3), grow_mask(mask, 5))


def test_inverting_twice() -> None:
    mask = random_mask()
    assert np.array_equal(invert_mask(invert_mask(mask)), mask)
    assert mask_share(mask) + mask_share(invert_mask(mask)) == pytest.approx(1)


def test_a_feathered_edge_is_a_line() -> None:
    """A half plane with a feather of 4: 1 inside, then 4/5, 3/5, 2/5, 1/5 of the 5-pixel window, then 0."""
    mask = np.zeros((9, 20), bool)
    mask[:, :8] = True
    for pixels, falling in ((4, [4 / 5, 3 / 5, 2 / 5, 1 / 5]), (1, [1]), (3, [1, 2 / 3, 1 / 3]), (0, [])):
        expected = [1.0] * 8 + falling + [0.0] * (12 - len(falling))
        np.testing.assert_allclose(feather_mask(mask, pixels)[4], expected, rtol=1e-6)


@pytest.mark.parametrize("pixels", [0, 1, 2, 5, 8])
def test_a_feather_covers_the_mask_and_ends_where_it_says(pixels: int) -> None:
    mask = random_mask()
    alpha = feather_mask(mask, pixels)
    assert (alpha[mask] == 1).all()
    assert (alpha[~grow_mask(mask, pixels)] == 0).all()
    assert alpha.min() >= 0 and alpha.max() <= 1


def test_bounds() -> None:
    mask = np.zeros((10, 12), bool)
    mask[3:5, 7:11] = True
    assert bounds(mask) == (7, 3, 11, 5)


@pytest.mark.parametrize("radius", [0, 3])
def test_compositing(radius: int) -> None:
    """old + alpha (new - old): exactly old at 0, exactly new at 1, the rounded mixture between."""
    rng = np.random.default_rng(1)
    old, new = rng.integers(0, 256, (2, 30, 40, 3), dtype=np.uint8)
    alpha = feather_mask(random_mask(), radius)
    mixed = blended(old, new, alpha)
    assert np.array_equal(mixed[alpha == 0], old[alpha == 0])
    assert np.array_equal(mixed[alpha == 1], new[alpha == 1])
    exact = old + alpha[..., None].astype(float) * (new.astype(float) - old)
    assert np.abs(mixed - exact).max() <= 0.5 + 1e-4


def test_the_ends_of_compositing_are_exact() -> None:
    """For every pair of bytes: old at alpha 0, new at 1; a byte over itself is itself whatever the alpha."""
    old, new = (np.repeat(values[..., None], 3, 2) for values in np.mgrid[:256, :256].astype(np.uint8))
    for alpha, expected in ((0.0, old), (1.0, new)):
        assert np.array_equal(blended(old, new, np.full((256, 256), alpha, np.float32)), expected)
    shares = np.random.default_rng(3).random((256, 256)).astype(np.float32)
    assert np.array_equal(blended(old, old, shares), old)
    assert blended(old, new, np.full((256, 256), 0.5, np.float32))[10, 21].tolist() == [16] * 3  # 15.5 to the even


@pytest.mark.parametrize("pixels", [1, 2, 3, 4, 7])
def test_feathering_falls_in_a_line(pixels: int) -> None:
    """Beside a straight edge, far from the borders.

    p pixels are grown by p - b and averaged over windows of 2 b + 1, b = p // 2: the window of a pixel d away from
    the mask holds p - d + 1 of its 2 b + 1 columns, at least none and at most all.
    """
    mask = np.zeros((41, 60), bool)
    mask[:, :20] = True
    alpha = feather_mask(mask, pixels)
    blur = pixels // 2
    for d in range(1, 20):
        held = min(max(pixels - d + 1, 0), 2 * blur + 1)
        assert alpha[20, 19 + d] == pytest.approx(held / (2 * blur + 1)), d
    assert (alpha[20, :20] == 1).all() and alpha.dtype == np.float32


def test_windows_at_the_edge_count_only_what_is_there() -> None:
    """A mask along the picture's edge stays 1 there: what lies beyond is no rest that would thin it."""
    mask = np.zeros((9, 9), bool)
    mask[:2] = True
    alpha = feather_mask(mask, 4)
    assert (alpha[:2] == 1).all() and np.array_equal(alpha, np.repeat(alpha[:, :1], 9, 1))
    assert (np.diff(alpha[:, 0]) <= 0).all()


@pytest.mark.parametrize("box", [Box(5, 4, 16), Box(-6, -3, 20), Box(30, 20, 24), Box(-10, -10, 60)])
def test_pasting_touches_only_alpha_and_the_box(box: Box) -> None:
    rng = np.random.default_rng(2)
    picture = Picture(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    new = rng.integers(0, 256, (box.side, box.side, 3), dtype=np.uint8)
    alpha = np.ones((30, 40), np.float32)
    result = paste(picture, box, new, alpha)
    y, x = np.mgrid[:30, :40]
    inside = (y >= box.top) & (y < box.top + box.side) & (x >= box.left) & (x < box.left + box.side)
    assert np.array_equal(result.pixels[~inside], picture.pixels[~inside])
    assert np.array_equal(result.pixels[inside], new[(y - box.top)[inside], (x - box.left)[inside]])
    assert np.array_equal(paste(picture, box, new, 0 * alpha).pixels, picture.pixels)


def picture_file(kind: str) -> bytes:
    pixels = np.random.default_rng(3).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    if kind == "GIF":
        picture = picture.quantize(200)
    if kind == "CMYK":
        picture, kind = picture.convert("CMYK"), "JPEG"
    if kind == "16 bit":
        picture, kind = Image.fromarray(pixels[..., 0].astype(np.uint16) * 250), "PNG"
    if kind == "alpha":
        picture.putalpha(Image.fromarray(pixels[..., 0]))
        kind = "PNG"
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "CMYK", "16 bit", "alpha"])
def test_known_pixels_survive_bit_for_bit(kind: str) -> None:
    """Uploaded in any format, painted into, saved as PNG and read back: outside of alpha all is as it was read."""
    upload = read_picture(picture_file(kind))
    mask = random_mask(48, 64, seed=5)
    alpha = feather_mask(mask, 3)
    new = np.random.default_rng(6).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    saved = read_picture(encode_picture(paste(upload, Box(10, 4, 40), new, alpha), None))
    assert saved.size == upload.size
    assert np.array_equal(saved.pixels[alpha == 0], upload.pixels[alpha == 0])
    assert count_changed(upload, saved, alpha) == 0
    assert (saved.pixels != upload.pixels).any()


def test_changed_pixels_are_counted() -> None:
    before = Picture(np.zeros((4, 4, 3), np.uint8))
    pixels = before.pixels.copy()
    pixels[0, :3] = 9
    alpha = np.zeros((4, 4), np.float32)
    alpha[0, 0] = 0.1
    assert count_changed(before, before.with_pixels(pixels), alpha) == 2


def test_beyond_the_picture_nothing_is_known() -> None:
    alpha = np.zeros((2, 2), np.float32)
    assert cut_alpha(alpha, Box(-1, 0, 3)).tolist() == [[1, 0, 0], [1, 0, 0], [1, 1, 1]]
    assert cut_alpha(alpha, Box(0, -1, 3)).tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 1]]
    assert cut_alpha(alpha, Box(-1, -1, 4)).tolist() == [[1] * 4, [1, 0, 0, 1], [1, 0, 0, 1], [1] * 4]
    ramp = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    inside = cut_alpha(ramp, Box(1, 0, 2))
    assert np.array_equal(inside, ramp[:, 1:])
    inside[:] = 0  # a copy: the alpha itself stays
    assert ramp[1, 2] > 0


def mask_file(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_white_is_repainted(tmp_path: Path) -> None:
    grey = np.array([[0, 127, 128, 255]], np.uint8)
    assert read_mask(mask_file(grey), (4, 1)).tolist() == [[False, False, True, True]]
    transparent = np.array([[[255, 255, 255, 0], [255, 255, 255, 255]]], np.uint8)
    assert read_mask(mask_file(transparent), (2, 1)).tolist() == [[False, True]]
    path = tmp_path / "mask.png"
    path.write_bytes(mask_file(grey))
    assert read_mask(path, (4, 1)).sum() == 2


def test_a_painted_layer_counts_by_its_opacity() -> None:
    layer = np.zeros((2, 3, 4), np.uint8)
    layer[0, 1] = (0, 0, 0, 255)  # black paint is paint
    assert mask_from_pixels(layer, (3, 2)).tolist() == [[False, True, False], [False] * 3]
    assert mask_from_pixels(layer[..., 3], (3, 2)).sum() == 1
    assert mask_from_pixels(layer[..., :3] + np.uint8(200), (3, 2)).all()


def test_colours_are_bright_by_their_luminance() -> None:
    """ITU-R 601: green 150, yellow 226 of 255 are bright; red 76 and blue 29 are not."""
    colours = np.array([[[0, 255, 0], [255, 255, 0], [255, 0, 0], [0, 0, 255]]], np.uint8)
    assert read_mask(mask_file(colours), (4, 1)).tolist() == [[True, True, False, False]]
    assert mask_from_pixels(colours, (4, 1)).tolist() == [[True, True, False, False]]


def test_half_transparent_white_is_over_black() -> None:
    """Opacity 128 of white over black is 128, which is bright; 127 is not. Paint counts by opacity alone."""
    layer = np.zeros((1, 3, 4), np.uint8)
    layer[0, :, :3], layer[0, :, 3] = 255, (127, 128, 255)
    assert read_mask(mask_file(layer), (3, 1)).tolist() == [[False, True, True]]
    assert mask_from_pixels(layer, (3, 1)).tolist() == [[False, True, True]]
    with pytest.raises(PictureError, match="the mask: expected bytes"):
        mask_from_pixels(layer.astype(np.float32), (3, 1))


def test_a_mask_of_another_size_is_refused() -> None:
    message = r"has 4 x 3 pixels, but the picture has .* exactly as large"
    with pytest.raises(PictureError, match=message):
        read_mask(mask_file(np.zeros((3, 4), np.uint8)), (5, 3))
    with pytest.raises(PictureError, match=message):
        check_mask(np.ones((3, 4), bool), (4, 4))
    with pytest.raises(PictureError, match="the mask has 4 x 3 pixels"):
        mask_from_pixels(np.zeros((3, 4), np.uint8), (3, 4))
    with pytest.raises(PictureError, match=r"hole\.png has 4 x 3"):
        read_mask(mask_file(np.zeros((3, 4), np.uint8)), (3, 4), name="hole.png")


def test_an_empty_mask_is_refused_and_a_full_one_allowed() -> None:
    with pytest.raises(PictureError, match="nothing to repaint"):
        check_mask(np.zeros((3, 4), bool), (4, 3))
    check_mask(np.ones((3, 4), bool), (4, 3))
