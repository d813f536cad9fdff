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
    decode_mask,
    encode_mask,
    feather_mask,
    grow_mask,
    invert_mask,
    mask_from_pixels,
    mask_share,
    paste,
    read_mask,
)
from engine.pictures.picture_files import Box, Picture, encode_picture, flattened, read_picture


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
    """A half plane: its last columns are p/(p+1), ..., 1/(p+1), all before them 1, all behind them 0."""
    mask = np.zeros((9, 20), bool)
    mask[:, :8] = True
    for pixels in (0, 1, 3, 4):
        rising = np.arange(pixels, 0, -1) / (pixels + 1)
        expected = np.concatenate([np.ones(8 - pixels), rising, np.zeros(12)])
        alpha = feather_mask(mask, pixels)
        np.testing.assert_allclose(alpha, np.tile(expected, (9, 1)), rtol=1e-6)
        assert alpha.dtype == np.float32


def brute_force_depth(mask: Any, y: int, x: int) -> float:
    """The distance along rows, columns and diagonals to the nearest pixel that is not the mask's."""
    rows, columns = np.nonzero(~mask)
    return np.maximum(abs(rows - y), abs(columns - x)).min(initial=10**6)


@pytest.mark.parametrize("pixels", [0, 1, 2, 5, 8, 40])
def test_a_feather_never_leaves_the_mask(pixels: int) -> None:
    """Whatever its shape: not a bit outside, something everywhere inside, and 1 wherever it goes no deeper."""
    for seed in range(3):
        mask = grow_mask(random_mask(seed=seed), 3) & (random_mask(seed=seed + 9) < 1)
        mask[15:25, 4:30] = True
        alpha = feather_mask(mask, pixels)
        assert ((alpha > 0) == mask).all() and alpha.max() == 1
        for y, x in np.argwhere(mask)[::7]:
            depth = brute_force_depth(mask, y, x)
            assert alpha[y, x] >= min(depth / (pixels + 1), 1) - 1e-6
            if depth > pixels:
                assert alpha[y, x] == 1


def test_what_is_thinner_than_the_feather_is_repainted_to_its_middle() -> None:
    """A line of 1 and one of 3 pixels beside a large square, with a feather of 4: their middles are 1."""
    mask = np.zeros((30, 40), bool)
    mask[5:25, 5:25] = True
    mask[:, 30], mask[:, 33:36] = True, True
    alpha = feather_mask(mask, 4)
    assert (alpha[:, 30] == 1).all()
    np.testing.assert_allclose(alpha[:, 33:36], np.tile([0.5, 1, 0.5], (30, 1)))
    np.testing.assert_allclose(alpha[15, 5:11], [0.2, 0.4, 0.6, 0.8, 1, 1], rtol=1e-6)


def test_a_soft_mask_keeps_its_softness() -> None:
    """Its levels, and no more than the line of the feather allows; grown by the greatest, inverted to the rest."""
    soft = np.zeros((20, 20), np.uint8)
    soft[2:18, 2:18] = np.linspace(51, 255, 16).astype(np.uint8)
    np.testing.assert_allclose(feather_mask(soft, 0), soft / 255, atol=1e-7)
    alpha = feather_mask(soft, 3)
    assert alpha[10, 2] == pytest.approx(51 / 255) and alpha[10, 17] == pytest.approx(1 / 4)
    assert (invert_mask(soft) == 255 - soft).all() and mask_share(soft) == pytest.approx(soft.mean() / 255)
    grown, shrunk = grow_mask(soft, 1), grow_mask(soft, -1)
    assert grown[10, 1] == 51 and grown[10, 5] == soft[10, 6] and grown[1, 18] == 255
    assert shrunk[10, 2] == 0 and shrunk[10, 5] == soft[10, 4]
    check_mask(soft, (20, 20))


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


def test_the_edge_of_the_picture_is_none_of_the_masks() -> None:
    mask = np.zeros((9, 9), bool)
    mask[:4] = True
    np.testing.assert_allclose(feather_mask(mask, 2)[:, 0], [1, 1, 2 / 3, 1 / 3, 0, 0, 0, 0, 0], rtol=1e-6)
    assert (feather_mask(np.ones((4, 4), bool), 9) == 1).all() and not feather_mask(np.zeros((4, 4), bool), 9).any()


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
    if "alpha" in kind:
        layer = pixels[..., 0] if kind == "soft alpha" else np.where(pixels[..., 0] > 99, 255, 0).astype(np.uint8)
        picture.putalpha(Image.fromarray(layer))
        kind = "PNG"
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("feather", [0, 1, 4, 32, 256])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "CMYK", "16 bit", "alpha", "soft alpha"])
def test_no_pixel_outside_of_the_mask_changes(kind: str, feather: int) -> None:
    """Uploaded in any format, painted into, saved as PNG and read back: where the mask is black all is as it was read.

    Colours and transparency; inside of the mask, every part is repainted.
    """
    upload = read_picture(picture_file(kind))
    mask = grow_mask(random_mask(48, 64, seed=5), 2)
    alpha = feather_mask(mask, feather)
    new = np.random.default_rng(6).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    saved = read_picture(encode_picture(paste(upload, Box(10, 4, 40), new, alpha), None))
    inside = np.zeros_like(mask)
    inside[4:44, 10:50] = mask[4:44, 10:50]
    assert saved.size == upload.size
    assert np.array_equal(saved.pixels[~inside], upload.pixels[~inside])
    assert count_changed(upload, saved, alpha) == 0
    assert (saved.pixels != upload.pixels).any(-1)[inside].mean() > 0.6
    if "alpha" in kind:
        before, after = upload.transparency, saved.transparency
        assert before is not None and after is not None
        assert np.array_equal(after.alpha[~inside], before.alpha[~inside])
        assert np.array_equal(after.colours[~inside], before.colours[~inside])
        assert (after.alpha[inside] >= before.alpha[inside]).all() and (after.alpha[inside & (alpha == 1)] == 255).all()


def test_what_is_painted_over_transparency_looks_as_it_was_shown() -> None:
    """Laid on the background again, the repainted layer is the repainted picture, up to the rounding of its bytes."""
    upload = read_picture(picture_file("soft alpha"), background=(0, 200, 40))
    alpha = feather_mask(grow_mask(random_mask(48, 64, seed=5), 4), 4)
    new = np.random.default_rng(6).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    painted = paste(upload, Box(0, -8, 64), new, alpha)
    assert painted.transparency is not None
    seen = flattened(painted.transparency).astype(int)
    assert np.abs(seen - painted.pixels)[painted.transparency.alpha > 128].max() <= 2
    assert np.array_equal(seen[alpha == 0], upload.pixels[alpha == 0])


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


def test_white_is_repainted_and_grey_by_as_much(tmp_path: Path) -> None:
    grey = np.array([[0, 127, 128, 255]], np.uint8)
    read = read_mask(mask_file(grey), (4, 1))
    assert read.mask.tolist() == [[0, 127, 128, 255]] and read.note == ""
    path = tmp_path / "mask.png"
    path.write_bytes(mask_file(np.array([[0, 255, 255]], np.uint8)))
    assert read_mask(path, (3, 1)).mask.tolist() == [[False, True, True]]


def layer(colours: Any, opacity: Any) -> bytes:
    return mask_file(np.dstack([colours, opacity]).astype(np.uint8))


def scene() -> Any:
    """A picture with many colours, 30 x 40."""
    return np.random.default_rng(8).integers(0, 256, (30, 40, 3), dtype=np.uint8)


MIDDLE = np.zeros((30, 40), bool)
MIDDLE[10:20, 12:25] = True
PLAIN_WHITE, PLAIN_BLACK = np.full((30, 40, 3), 255, np.uint8), np.zeros((30, 40, 3), np.uint8)


@pytest.mark.parametrize(
    ("colours", "opaque", "told"),
    [
        (scene(), ~MIDDLE, "transparent part is repainted"),
        (PLAIN_WHITE, ~MIDDLE, "transparent part is repainted"),
        (PLAIN_BLACK, ~MIDDLE, "transparent part is repainted"),
        (PLAIN_BLACK, MIDDLE, "painted on transparency is repainted"),
        (PLAIN_WHITE, MIDDLE, "painted on transparency is repainted"),
        (scene(), MIDDLE, "painted on transparency is repainted"),
    ],
    ids=["hole in picture", "hole in white", "hole in black", "black strokes", "white strokes", "colourful strokes"],
)
def test_masks_that_are_given_by_transparency(colours: Any, opaque: Any, told: str) -> None:
    read = read_mask(layer(colours, 255 * opaque), (40, 30), name="m.png")
    assert np.array_equal(read.mask, MIDDLE) and told in read.note
    assert "m.png" in read.note and "(11 %)" in read.note and "Repaint the rest instead" in read.note


def test_transparency_is_as_soft_as_it_is_and_black_and_white_go_before_it() -> None:
    opacity = np.where(MIDDLE, 90, 0)
    assert np.array_equal(read_mask(layer(PLAIN_BLACK, opacity), (40, 30)).mask, opacity)
    assert np.array_equal(read_mask(layer(scene(), 255 - opacity), (40, 30)).mask, opacity)
    black_and_white = np.where(MIDDLE[..., None], 255, PLAIN_BLACK)
    margin = np.full((30, 40), 255)
    margin[:, :3] = 0
    read = read_mask(layer(black_and_white, margin), (40, 30))
    assert np.array_equal(read.mask, MIDDLE) and read.note == ""
    assert np.array_equal(read_mask(layer(black_and_white, np.full((30, 40), 255)), (40, 30)).mask, MIDDLE)


def test_jpeg_blurs_what_was_black_and_white() -> None:
    """A hard mask stays black where it was, but for the blocks of 8 pixels that its edges lie in."""
    mask = np.zeros((64, 64), np.uint8)
    mask[16:40, 20:44] = 255
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "JPEG", quality=75)
    read = read_mask(buffer.getvalue(), (64, 64)).mask
    levels = read.astype(int) * (255 if read.dtype == bool else 1)
    assert (levels[24:32, 24:40] == 255).all() and not levels[48:].any() and not levels[:, :16].any()
    assert np.abs(levels - mask).mean() < 2


def test_a_mask_of_another_size_is_resized_where_its_proportions_are_right() -> None:
    """Each pixel by the share of it that is white: a hard mask enlarged stays hard and where it was."""
    small = np.array([[0, 255, 0], [0, 0, 0]], np.uint8)
    read = read_mask(mask_file(small), (12, 8), name="s.png")
    expected = np.zeros((8, 12), bool)
    expected[:4, 4:8] = True
    assert np.array_equal(read.mask, expected)
    assert read.note == "s.png has 3 x 2 pixels and was resized to the picture's 12 x 8."
    large = np.zeros((8, 12), np.uint8)
    large[0, :4] = 255
    assert read_mask(mask_file(large), (3, 2)).mask.tolist() == [[64, 0, 0], [0, 0, 0]]  # a quarter of the first
    thumbnail = np.full((85, 128), 255, np.uint8)
    assert read_mask(mask_file(thumbnail), (600, 400)).mask.all()  # 128 x 85.33
    for wrong in ((98, 100), (100, 103), (50, 52)):
        with pytest.raises(PictureError, match="give it the same proportions"):
            read_mask(mask_file(np.zeros(wrong[::-1], np.uint8)), (100, 100))


def test_masks_are_written_and_read_again() -> None:
    soft = np.random.default_rng(1).integers(0, 256, (5, 7), dtype=np.uint8)
    for mask in (MIDDLE, soft, np.zeros((2, 2), bool)):
        back = decode_mask(encode_mask(mask), mask.shape[::-1])
        assert back.dtype == mask.dtype and np.array_equal(back, mask)
    assert len(encode_mask(np.ones((1000, 1000), bool))) < 1000  # one bit a pixel
    for damaged in (b"nonsense", encode_mask(MIDDLE)[:40], mask_file(np.zeros((5000, 5000), np.uint8))):
        with pytest.raises(PictureError, match="did not arrive whole"):
            decode_mask(damaged, (40, 30))


def test_a_painted_layer_counts_by_its_opacity() -> None:
    layer = np.zeros((2, 3, 4), np.uint8)
    layer[0, 1] = (0, 0, 0, 255)  # black paint is paint
    assert mask_from_pixels(layer, (3, 2)).tolist() == [[False, True, False], [False] * 3]
    assert mask_from_pixels(layer[..., 3], (3, 2)).sum() == 1
    assert (mask_from_pixels(layer[..., :3] + np.uint8(200), (3, 2)) == 200).all()


def test_colours_are_bright_by_their_luminance() -> None:
    """ITU-R 601: green is 150 of 255, yellow 226, red 76, blue 29."""
    colours = np.array([[[0, 255, 0], [255, 255, 0], [255, 0, 0], [0, 0, 255]]], np.uint8)
    assert read_mask(mask_file(colours), (4, 1)).mask.tolist() == [[150, 226, 76, 29]]
    assert mask_from_pixels(colours, (4, 1)).tolist() == [[150, 226, 76, 29]]


def test_arrays_of_other_kinds_are_refused() -> None:
    with pytest.raises(PictureError, match="the mask: expected bytes"):
        mask_from_pixels(np.zeros((1, 3, 4), np.float32), (3, 1))


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
