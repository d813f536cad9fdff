"""Reading a person's own pictures: every format and mode, orientation, transparency, limits, and what is no picture."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from engine.errors import PictureError
from engine.pictures.picture_files import (
    MAX_PIXELS,
    Box,
    Picture,
    cut,
    encode_picture,
    picture_from_pixels,
    read_picture,
    resized,
    whole_square,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(height: int = 12, width: int = 20, channels: int = 3, seed: int = 0) -> Any:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})],
)
def test_lossless_formats_give_their_pixels(kind: str, options: dict[str, Any]) -> None:
    pixels = noise()
    read = read_picture(encoded(Image.fromarray(pixels), kind, **options))
    assert np.array_equal(read.pixels, pixels) and read.size == (20, 12)


def test_jpeg_is_what_pillow_decodes() -> None:
    data = encoded(Image.fromarray(noise()), "JPEG", quality=90)
    assert np.array_equal(read_picture(data).pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_the_first_frame_of_a_gif() -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (read_picture(data).pixels == (255, 0, 0)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    """The eight ways a camera may lie, as the EXIF standard lists them."""
    pixels = noise(6, 10)
    upright = {
        1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, -1), 7: np.rot90(pixels, 2).swapaxes(0, 1), 8: np.rot90(pixels),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(pixels), "PNG", exif=exif)
    assert np.array_equal(read_picture(data).pixels, upright[orientation])


def test_transparency_is_flattened_on_the_background() -> None:
    """Opaque stays, transparent becomes the background, 20 % of 100 over 200 is 180."""
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [100, 100, 100, 51]]], dtype=np.uint8)
    read = read_picture(encoded(Image.fromarray(pixels), "PNG"), background=(200, 200, 200))
    assert read.pixels.tolist() == [[[10, 20, 30], [200, 200, 200], [180, 180, 180]]]
    assert read_picture(encoded(Image.fromarray(pixels), "PNG")).pixels[0, 1].tolist() == [255, 255, 255]


def test_grey_bilevel_and_palette() -> None:
    grey = noise(channels=1)
    assert np.array_equal(read_picture(encoded(Image.fromarray(grey), "PNG")).pixels, np.repeat(grey[..., None], 3, 2))
    bits = Image.fromarray(grey).convert("1")
    assert set(np.unique(read_picture(encoded(bits, "PNG")).pixels)) <= {0, 255}
    palette = Image.fromarray(noise()).quantize(7)
    assert np.array_equal(read_picture(encoded(palette, "PNG")).pixels, np.asarray(palette.convert("RGB")))


def test_palette_with_a_transparent_colour() -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    read = read_picture(encoded(picture, "PNG", transparency=1), background=(0, 255, 0))
    assert read.pixels.tolist() == [[[255, 0, 0], [0, 255, 0]]]


def test_sixteen_bits_keep_their_range() -> None:
    """v / 257, rounded: 0, 65535 and the middle."""
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        read = read_picture(encoded(Image.fromarray(values), kind))
        assert read.pixels[0, :, 0].tolist() == [0, 1, 128, 255], kind


def test_sixteen_bit_colour() -> None:
    """Pillow cannot write one: a PNG by hand, one pixel of 16 bits a channel."""
    row = b"\0" + struct.pack(">HHH", 65535, 0, 0x8000)
    read = read_picture(png_by_hand(1, 1, bit_depth=16, colour_type=2, rows=row))
    assert read.pixels.tolist() == [[[255, 0, 128]]]


def test_floats_in_zero_to_one() -> None:
    read = read_picture(encoded(Image.fromarray(np.array([[0, 0.5, 1]], dtype=np.float32)), "TIFF"))
    assert read.pixels[0, :, 0].tolist() == [0, 128, 255]


def test_cmyk() -> None:
    picture = Image.fromarray(np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [0, 255, 255, 0]]], dtype=np.uint8), "CMYK")
    read = read_picture(encoded(picture, "TIFF"))
    assert read.pixels.tolist() == [[[255, 255, 255], [0, 0, 0], [255, 0, 0]]]


def test_an_rgb_profile_is_kept_and_written() -> None:
    data = encoded(Image.fromarray(noise()), "PNG", icc_profile=SRGB)
    read = read_picture(data, name="mine.png")
    assert read.icc_profile == SRGB
    written = read_picture(encode_picture(read))
    assert written.icc_profile == SRGB and np.array_equal(written.pixels, read.pixels)
    grey = encoded(Image.fromarray(noise(channels=1)), "PNG", icc_profile=SRGB)
    assert read_picture(grey).icc_profile is None  # it does not describe these pixels


def test_one_pixel() -> None:
    assert read_picture(encoded(Image.new("RGB", (1, 1), "red"), "PNG")).pixels.tolist() == [[[255, 0, 0]]]


def test_from_a_path_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a picture.png"
    path.write_bytes(encoded(Image.fromarray(noise()), "PNG"))
    assert read_picture(path).name == "a picture.png"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is text", "not a readable picture"),
        (b"\0\0\0\x20ftypisom" + bytes(100), "is a video.*Save one of its frames"),
        (b"\x1a\x45\xdf\xa3" + bytes(100), "is a video"),
        (b"RIFF\0\0\0\0AVI LIST", "is a video"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "HEIC photo.*Export it as JPEG"),
        (b"%PDF-1.7", "is a PDF"),
        (b"<svg xmlns='...'/>", "drawing in SVG"),
        (encoded(Image.fromarray(noise(64, 64)), "PNG")[:500], "damaged"),
        (encoded(Image.fromarray(noise(64, 64)), "JPEG")[:700], "damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "not a readable picture|damaged"),
    ],
)
def test_what_is_no_picture_is_said(data: bytes, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        read_picture(data)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="there is no such file"):
        read_picture(tmp_path / "gone.png")
    with pytest.raises(PictureError, match="cannot be read"):
        read_picture(tmp_path)


def png_by_hand(width: int, height: int, *, bit_depth: int = 8, colour_type: int = 0, rows: bytes = b"") -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("size", [(20_000, 15_000), (10_001, 10_000), (100_000, 100_000)])
def test_large_pictures_are_refused_before_they_are_decoded(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bombs: a few hundred bytes that say 100 to 10,000 megapixels."""
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(PictureError, match="at most 100 megapixels"):
        read_picture(png_by_hand(*size))


def test_just_within_the_limit_is_read() -> None:
    width, height = 10_000, MAX_PIXELS // 10_000
    data = encoded(Image.new("1", (width, height), 1), "TIFF", compression="group4")
    assert read_picture(data).size == (width, height)


def test_arrays() -> None:
    grey, layer = noise(channels=1), noise(channels=4)
    assert picture_from_pixels(grey).pixels.shape == (12, 20, 3)
    over_black = picture_from_pixels(layer, background=(0, 0, 0)).pixels
    np.testing.assert_allclose(over_black, layer[..., :3] * (layer[..., 3:] / 255), atol=1)
    for wrong in (noise().astype(np.float32), noise(channels=5), np.zeros((2, 2, 2), np.uint8)):
        with pytest.raises(PictureError, match="expected bytes"):
            picture_from_pixels(wrong)


def test_the_hash_is_of_the_pixels() -> None:
    pixels = noise()
    data = [encoded(Image.fromarray(pixels), kind) for kind in ("PNG", "TIFF")]
    assert read_picture(data[0]).sha256 == read_picture(data[1]).sha256
    assert Picture(pixels).sha256 != Picture(pixels.swapaxes(0, 1)).sha256


def test_squares() -> None:
    assert whole_square(10, 6) == Box(2, 0, 6)
    pixels = noise(6, 10)
    assert np.array_equal(cut(pixels, Box(2, 0, 6)), pixels[:, 2:8])


def test_beyond_the_edge_the_border_goes_on() -> None:
    pixels = np.arange(4, dtype=np.uint8).reshape(2, 2)
    assert cut(pixels, Box(-1, -1, 4)).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


def test_resizing_to_the_same_size_changes_nothing() -> None:
    pixels = noise(8, 8)
    assert resized(pixels, 8) is pixels
    assert resized(np.full((8, 8, 3), 77, np.uint8), 3).tolist() == [[[77] * 3] * 3] * 3
