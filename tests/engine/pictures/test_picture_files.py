"""Reading a person's own pictures: every format and mode, orientation, transparency, limits, and what is no picture."""

import hashlib
import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from engine.errors import PictureError
from engine.pictures import decoding
from engine.pictures.decoding import MAX_PIXELS
from engine.pictures.picture_files import (
    Box,
    Picture,
    Transparency,
    cut,
    depth_note,
    encode_picture,
    flattened,
    picture_from_pixels,
    read_picture,
    redrawn,
    resized,
    square_at,
    square_of,
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


def png_by_hand(
    width: int,
    height: int,
    *,
    bit_depth: int = 8,
    colour_type: int = 0,
    rows: bytes = b"",
    before: Sequence[tuple[bytes, bytes]] = (),
    after: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """before, after: chunks beside the pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(rows, 1)), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


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


# ---- modes, limits and names -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "what", "advice"),
    [
        (b"\0\0\0\x18ftypheic", "a HEIC photo", "Export it as JPEG"),
        (b"\0\0\0\x18ftypheix", "a HEIC photo", "Export it as JPEG"),
        (b"\0\0\0\x18ftypmif1", "a HEIF photo", "Export it as JPEG"),
        (b"\0\0\0\x18ftypavif", "an AVIF picture", "Save it as PNG"),
        (b"\0\0\0\x18ftypisom", "a video", "Save one of its frames as PNG"),
        (b"\x1a\x45\xdf\xa3", "a video", "Save one of its frames as PNG"),
        (b"RIFF\0\0\0\0AVI ", "a video", "Save one of its frames as PNG"),
        (b"\x00\x00\x01\xba", "a video", "Save one of its frames as PNG"),
        (b"FLV", "a video", "Save one of its frames as PNG"),
        (b"OggS", "a video or sound", "Save one of its frames as PNG"),
        (b"%PDF", "a PDF", "Export the page as PNG"),
        (b"<svg", "a drawing in SVG", "Export it as PNG"),
        (b"<?xml", "an XML file", "If it is a drawing, export it as PNG"),
        (b"8BPS", "a Photoshop file", "Export it as PNG"),
        (b"BM", "a BMP picture", "Save it as PNG"),
        (b"PK", "an archive", "Unpack it"),
    ],
)
def test_strangers_are_called_by_their_names(begin: bytes, what: str, advice: str) -> None:
    with pytest.raises(PictureError) as caught:
        read_picture(begin + bytes(30), name="mine")
    formats = "JPEG, PNG, WebP, GIF or TIFF"
    assert str(caught.value) == f"mine is {what}; pictures can be {formats}. {advice} and try again."


def test_the_name_of_a_picture(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(noise()), "PNG")
    (tmp_path / "x.png").write_bytes(data)
    assert read_picture(data).name == "the picture"
    assert read_picture(data, name="mine").name == read_picture(tmp_path / "x.png", name="mine").name == "mine"
    assert picture_from_pixels(noise()).name == "the picture" and picture_from_pixels(noise(), name="a").name == "a"
    assert picture_from_pixels(noise(), icc_profile=SRGB).icc_profile == SRGB


def test_a_file_as_large_as_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(noise()), "PNG")
    (tmp_path / "x.png").write_bytes(data)
    monkeypatch.setattr(decoding, "MAX_BYTES", len(data))
    read_picture(data), read_picture(tmp_path / "x.png")
    monkeypatch.setattr(decoding, "MAX_BYTES", len(data) - 1)
    for source in (data, tmp_path / "x.png"):
        with pytest.raises(PictureError, match="has 0 MB; at most 0 MB can be read"):
            read_picture(source)


def test_arrays_as_large_as_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 12 * 20)
    picture_from_pixels(noise())
    with pytest.raises(PictureError, match=r"has 21 x 12 pixels \(0 megapixels\); at most 0 megapixels can be read"):
        picture_from_pixels(noise(width=21))
    for shape in ((0, 5, 3), (5, 0, 3)):
        with pytest.raises(PictureError, match="has no pixels"):
            picture_from_pixels(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "too large for this computer's memory"),
        (Image.DecompressionBombError(), "has far more; at most 100 megapixels"),
        (RuntimeError("bits"), r"is damaged: its pixels cannot be read \(bits\)"),
        (RuntimeError(), r"is damaged: its pixels cannot be read \(RuntimeError\)"),
    ],
)
def test_what_decoders_raise(error: Exception, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(noise()), "TIFF")

    def fails(self: Image.Image) -> None:
        raise error

    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", fails)
    with pytest.raises(PictureError, match=message):
        read_picture(data)


def test_a_frame_that_is_larger_than_its_header_said(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(noise()), "PNG")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 12 * 20)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda picture: setattr(picture, "_size", (21, 12)))
    with pytest.raises(PictureError, match="has 21 x 12 pixels"):
        read_picture(data)


def test_grey_with_transparency() -> None:
    layer = Image.fromarray(np.array([[[100, 255], [100, 0], [100, 51]]], dtype=np.uint8), "LA")
    read = read_picture(encoded(layer, "PNG"), background=(200, 0, 200))
    assert read.pixels.tolist() == [[[100] * 3, [200, 0, 200], [180, 20, 180]]]


def test_one_colour_may_stand_for_transparent() -> None:
    """PNG's tRNS chunk for pictures without an alpha of their own: grey 7, or one exact colour."""
    grey = encoded(Image.fromarray(np.array([[7, 8]], dtype=np.uint8)), "PNG", transparency=7)
    assert read_picture(grey, background=(1, 2, 3)).pixels.tolist() == [[[1, 2, 3], [8, 8, 8]]]
    colours = Image.fromarray(np.array([[[7, 8, 9], [7, 8, 10]]], dtype=np.uint8))
    coloured = encoded(colours, "PNG", transparency=(7, 8, 9))
    assert read_picture(coloured, background=(1, 2, 3)).pixels.tolist() == [[[1, 2, 3], [7, 8, 10]]]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0, 257, 65535], [0, 1, 255]),
        ([0, 65536, 131072], [0, 128, 255]),
        ([-5, 0, 65535], [0, 0, 255]),
    ],
)
def test_whole_numbers_of_32_bits(values: list[int], shown: list[int]) -> None:
    """In the range of 16 bits, or where one lies beyond, of what occurs."""
    read = read_picture(encoded(Image.fromarray(np.array([values], dtype=np.int32)), "TIFF"))
    assert read.pixels[0, :, 0].tolist() == shown


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 1.01, 255.0], [0, 1, 255]),
        ([0.0, 256.0, 65535.0], [0, 1, 255]),
        ([float("nan"), float("inf"), 1.0], [0, 0, 255]),
        ([-1.0, 0.25, 0.5], [0, 64, 128]),
    ],
)
def test_floats_in_their_ranges(values: list[float], shown: list[int]) -> None:
    """To 1, to 255 or to 65535, whichever holds the greatest; what is no number is black."""
    read = read_picture(encoded(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF"))
    assert read.pixels[0, :, 0].tolist() == shown


def test_lab_by_its_definition() -> None:
    """L* 0, 50 and 100 without colour are black, the grey 119 of sRGB, and white; a* > 0 is red, b* < 0 blue.

    Files hold a* and b* as signed bytes.
    """
    values = np.array([[[0, 0, 0], [128, 0, 0], [255, 0, 0], [128, 72, 0], [128, 0, -68]]]).astype(np.uint8)
    pixels = read_picture(encoded(Image.fromarray(values, "LAB"), "TIFF")).pixels[0].astype(int)
    assert np.abs(pixels[:3] - np.array([[0] * 3, [119] * 3, [255] * 3])).max() <= 2
    assert pixels[3][0] > pixels[3][1] + 60 and pixels[4][2] > pixels[4][0] + 60


def test_profiles_of_what_they_describe() -> None:
    """Of RGB pixels, with transparency or a palette, too; a CMYK file's own is applied or left out."""
    layer = Image.fromarray(noise(channels=4))
    assert read_picture(encoded(layer, "PNG", icc_profile=SRGB)).icc_profile == SRGB
    palette = Image.fromarray(noise()).quantize(7)
    assert read_picture(encoded(palette, "PNG", icc_profile=SRGB)).icc_profile == SRGB
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert read_picture(encoded(Image.fromarray(noise()), "PNG", icc_profile=lab)).icc_profile is None
    ink = Image.fromarray(np.array([[[0, 255, 255, 0]]], dtype=np.uint8), "CMYK")
    for damaged in (b"no profile", SRGB):
        read = read_picture(encoded(ink, "TIFF", icc_profile=damaged))
        assert read.pixels.tolist() == [[[255, 0, 0]]] and read.icc_profile is None


@pytest.mark.parametrize(("mode", "space"), [("CMYK", b"CMYK"), ("LAB", b"Lab ")])
def test_inks_are_converted_by_the_files_own_profile(mode: str, space: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """To sRGB; L*a*b* by its definition, whatever profile the file carries."""
    asked: list[tuple[bytes, bytes, str]] = []

    def convert(picture: Image.Image, source: Any, target: Any, *, outputMode: str) -> Image.Image:
        source = source if mode == "CMYK" else ImageCms.ImageCmsProfile(source)
        profiles = [source.tobytes(), ImageCms.ImageCmsProfile(target).tobytes()]
        asked.append((profiles[0][16:20] if mode == "LAB" else profiles[0], profiles[1][16:20], outputMode))
        return Image.new("RGB", picture.size, (1, 2, 3))

    monkeypatch.setattr(ImageCms, "profileToProfile", convert)
    ink = Image.new(mode, (2, 1))
    read = read_picture(encoded(ink, "TIFF", icc_profile=SRGB))
    assert read.pixels.tolist() == [[[1, 2, 3]] * 2] and read.icc_profile is None
    assert asked == [(space if mode == "LAB" else SRGB, b"RGB ", "RGB")]


def test_other_pixels_keep_name_and_profile() -> None:
    picture = Picture(noise(), "mine", SRGB)
    other = picture.with_pixels(noise(seed=1))
    assert (other.name, other.icc_profile) == ("mine", SRGB) and np.array_equal(other.pixels, noise(seed=1))
    assert (picture.width, picture.height, picture.size) == (20, 12, (20, 12))


def test_the_hash_is_of_size_and_pixels() -> None:
    """sha256 of width and height as 32 bits and the bytes row by row, however they lie in memory."""
    pixels = noise()
    expected = hashlib.sha256(struct.pack("<II", 20, 12) + pixels.tobytes()).hexdigest()
    assert Picture(pixels).sha256 == Picture(np.asfortranarray(pixels)).sha256 == expected
    assert Picture(pixels.reshape(20, 12, 3)).sha256 != expected


@pytest.mark.parametrize(
    ("size", "box"), [((10, 6), Box(2, 0, 6)), ((6, 10), Box(0, 2, 6)), ((7, 4), Box(1, 0, 4)), ((5, 5), Box(0, 0, 5))]
)
def test_the_largest_square(size: tuple[int, int], box: Box) -> None:
    assert whole_square(*size) == box


@pytest.mark.parametrize("box", [Box(0, 0, 4), Box(2, 1, 3), Box(1, 2, 3), Box(-1, 1, 3), Box(1, -1, 3), Box(5, 1, 4)])
def test_cutting_takes_the_nearest_pixel(box: Box) -> None:
    """Row and column clipped to the picture; a box within it is a view."""
    pixels = noise(5, 6)
    rows, columns = (np.arange(start, start + box.side) for start in (box.top, box.left))
    found = cut(pixels, box)
    assert np.array_equal(found, pixels[rows.clip(0, 4)[:, None], columns.clip(0, 5)[None]])
    inside = rows[0] >= 0 and columns[0] >= 0 and rows[-1] < 5 and columns[-1] < 6
    assert np.shares_memory(found, pixels) == inside


def test_resizing_is_lanczos_of_any_layout() -> None:
    pixels = noise(16, 16)
    expected = np.asarray(Image.fromarray(pixels).resize((5, 5), Image.Resampling.LANCZOS))
    assert np.array_equal(resized(pixels, 5), expected)
    assert np.array_equal(resized(np.asfortranarray(pixels), 5), expected)


def test_metadata_of_an_encoded_picture() -> None:
    data = encode_picture(Picture(noise()), {"a": 1})
    with Image.open(io.BytesIO(data)) as read:
        assert read.text["gmi"] == '{"a": 1}' and read.size == (20, 12)  # type: ignore[attr-defined]


# ---- transparency ----------------------------------------------------------------------------------------


def test_transparency_is_kept_and_written() -> None:
    """Colours under transparent parts too; what is seen is the picture on its background."""
    pixels = noise(channels=4)
    read = read_picture(encoded(Image.fromarray(pixels), "PNG"), background=(1, 2, 3))
    assert read.transparency is not None and read.transparency.background == (1, 2, 3)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_picture(read)))), pixels)
    opaque = read_picture(
        encoded(Image.fromarray(np.dstack([noise(), np.full((12, 20), 255)]).astype(np.uint8)), "PNG")
    )
    assert opaque.transparency is None and np.array_equal(opaque.pixels, noise())
    assert picture_from_pixels(pixels).transparency is not None


def test_flattening_is_the_rounded_mixture() -> None:
    """a c + (1 - a) b for every pair of opacity and colour, against exact numbers."""
    alpha, colour = np.mgrid[:256, :256].astype(np.uint8)
    seen = flattened(Transparency(np.repeat(colour[..., None], 3, 2), alpha, (200, 0, 255)))
    for channel, background in enumerate((200, 0, 255)):
        exact = background + alpha / 255 * (colour.astype(float) - background)
        assert np.array_equal(seen[..., channel], np.rint(exact))


@pytest.mark.parametrize(("depth", "key"), [(1, 1), (2, 2), (4, 9), (16, 40000)])
def test_one_grey_may_stand_for_transparent_at_any_depth(depth: int, key: int) -> None:
    """PNG's tRNS names it by the numbers of the file, which Pillow scales to 8 bits."""
    values = [key, 0 if depth == 1 else key + 1]
    row = b"\0" + (struct.pack(">HH", *values) if depth == 16 else packed_bits(values, depth))
    data = png_by_hand(2, 1, bit_depth=depth, rows=row, before=[(b"tRNS", struct.pack(">H", key))])
    read = read_picture(data, background=(9, 8, 7))
    assert read.pixels[0, 0].tolist() == [9, 8, 7]
    assert read.pixels[0, 1].tolist() == [round(values[1] * 255 / ((1 << depth) - 1))] * 3
    assert read.transparency is not None and read.transparency.alpha.tolist() == [[0, 255]]


def test_one_colour_of_sixteen_bits_may_stand_for_transparent() -> None:
    row = b"\0" + struct.pack(">6H", 65535, 0, 0x8000, 0, 0, 0)
    data = png_by_hand(
        2, 1, bit_depth=16, colour_type=2, rows=row, before=[(b"tRNS", struct.pack(">3H", 65535, 0, 0x8000))]
    )
    assert read_picture(data, background=(9, 8, 7)).pixels.tolist() == [[[9, 8, 7], [0, 0, 0]]]


def packed_bits(values: list[int], depth: int) -> bytes:
    return bytes([sum(value << (8 - depth * (place + 1)) for place, value in enumerate(values))])


def test_a_square_drawn_anew_is_as_transparent_as_the_picture_there() -> None:
    """On the background it looks as it was drawn, where it can: colours end at 0 and 255."""
    alpha = np.tile(np.linspace(0, 255, 20).astype(np.uint8), (12, 1))
    picture = read_picture(
        encoded(Image.fromarray(np.dstack([noise(), alpha])), "PNG", icc_profile=SRGB), background=(90, 90, 90)
    )
    drawn = np.full((4, 4, 3), 110, np.uint8)
    anew = redrawn(picture, drawn, Box(8, 0, 12))
    assert anew.transparency is not None and anew.icc_profile == SRGB and np.array_equal(anew.pixels, drawn)
    assert np.array_equal(anew.transparency.alpha, resized(alpha[:, 8:], 4))
    assert np.abs(flattened(anew.transparency).astype(int) - drawn).max() <= 1
    again = redrawn(anew, drawn)
    assert again.transparency is not None and np.array_equal(again.transparency.alpha, anew.transparency.alpha)
    assert redrawn(Picture(noise()), drawn).transparency is None


# ---- what stands beside the pixels -----------------------------------------------------------------------


def large_profile() -> bytes:
    """A usable profile of 1.5 MB."""
    return (len(SRGB) + 1_500_000).to_bytes(4) + SRGB[4:] + bytes(1_500_000)


def test_profiles_and_texts_of_any_size_are_no_reason_to_refuse(tmp_path: Path) -> None:
    """Our own files with the profile of a photo, and texts that Pillow stops at."""
    photo = encoded(Image.fromarray(noise()), "JPEG", icc_profile=large_profile())
    read = read_picture(photo)
    assert read.icc_profile == large_profile()
    written = encode_picture(read, {"a": 1})
    again = read_picture(written)
    assert again.icc_profile == large_profile() and np.array_equal(again.pixels, read.pixels)
    text = b"comment\0\0" + zlib.compress(bytes(3_000_000))
    row = b"\0" + bytes([1, 2, 3])
    many = png_by_hand(1, 1, colour_type=2, rows=row, before=[(b"zTXt", text)] * 200, after=[(b"zTXt", text)] * 200)
    assert read_picture(many).pixels.tolist() == [[[1, 2, 3]]]


def test_a_wrong_checksum_beside_the_pixels_is_no_reason_to_refuse() -> None:
    """As other readers do: the part is left out. One of the header is."""
    row, profile = b"\0" + bytes([1, 2, 3]), b"p\0\0" + zlib.compress(SRGB)
    good = png_by_hand(
        1, 1, colour_type=2, rows=row, before=[(b"iCCP", profile), (b"gAMA", bytes(4)), (b"eXIf", b"junk")]
    )
    assert read_picture(good).icc_profile == SRGB
    for kind in (b"iCCP", b"gAMA", b"eXIf"):
        data = with_wrong_checksum(good, kind)
        read = read_picture(data)
        assert read.pixels.tolist() == [[[1, 2, 3]]] and (read.icc_profile is None) == (kind == b"iCCP")
    with pytest.raises(PictureError, match="damaged"):
        read_picture(with_wrong_checksum(good, b"IHDR"))


def with_wrong_checksum(data: bytes, kind: bytes) -> bytes:
    place = data.index(kind)
    end = place + 4 + int.from_bytes(data[place - 4 : place])
    return data[:end] + bytes(255 - byte for byte in data[end : end + 4]) + data[end + 4 :]


def grey_profile(gamma: float) -> bytes:
    """A grey ICC profile (version 2) with one power as its tone curve."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    table = struct.pack(">I", 2) + struct.pack(">4sII", b"kTRC", 156, 14) + struct.pack(">4sII", b"wtpt", 172, 20)
    head = bytes(4) + b"lcms" + struct.pack(">I", 0x02200000) + b"mntrGRAYXYZ " + bytes(12) + b"acsp"
    head += bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    body = head + table + curve + white
    return len(body).to_bytes(4) + body[4:]


def test_what_is_lost_of_more_than_8_bits_is_said(tmp_path: Path) -> None:
    """Of colours and grey, PNG and TIFF; of usual pictures nothing, also of few bits."""
    grey = Image.fromarray(np.full((2, 2), 700, np.uint16))
    for name in ("deep.png", "deep.tif"):
        grey.save(tmp_path / name)
        assert depth_note(read_picture(tmp_path / name)).startswith(f"{name} has more than 8 bits a colour")
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "float.tif")
    assert depth_note(read_picture(tmp_path / "float.tif"))
    assert depth_note(read_picture(png_by_hand(1, 1, bit_depth=16, colour_type=2, rows=bytes(7))))
    for mode, name in (
        ("RGB", "a.png"),
        ("RGBA", "a.png"),
        ("1", "a.png"),
        ("P", "a.gif"),
        ("L", "a.tif"),
        ("RGB", "a.tif"),
    ):
        Image.new(mode, (2, 2)).save(tmp_path / name)
        assert depth_note(read_picture(tmp_path / name)) == ""


@pytest.mark.parametrize("kind", ["L", "LA", "16 bit"])
@pytest.mark.parametrize("gamma", [1.0, 1.8])
def test_grey_pictures_keep_their_tone_curve(gamma: float, kind: str) -> None:
    """Their numbers stay; the profile beside them says what they look like: sRGB's answer to value ** gamma."""
    values = np.arange(0, 256, 5, dtype=np.uint8)[None]
    picture = Image.fromarray(values.astype(np.uint16) * 257 if kind == "16 bit" else values)
    data = encoded(picture.convert("LA") if kind == "LA" else picture, "PNG", icc_profile=grey_profile(gamma))
    read = read_picture(data)
    assert np.array_equal(read.pixels, np.repeat(values[..., None], 3, 2)) and read.icc_profile is not None
    written = read_picture(encode_picture(read))
    assert written.icc_profile == read.icc_profile
    source = ImageCms.ImageCmsProfile(io.BytesIO(read.icc_profile))
    shown = ImageCms.profileToProfile(Image.fromarray(read.pixels), source, ImageCms.createProfile("sRGB"))
    assert shown is not None
    light = (values / 255.0) ** gamma
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(np.asarray(shown)[..., 1] - expected).max() < 2.5


def test_grey_profiles_that_are_damaged_are_left_out() -> None:
    for damaged in (
        b"x" * 16 + b"GRAY",
        grey_profile(2.2)[:140],
        grey_profile(2.2)[:20] + b"Lab " + grey_profile(2.2)[24:],
    ):
        assert read_picture(encoded(Image.fromarray(noise(channels=1)), "PNG", icc_profile=damaged)).icc_profile is None


# ---- what a file needs, before it is decoded -------------------------------------------------------------

SIDE = 6_000  # of large pictures: what they take a pixel shows beside what a strip takes
LARGE: Mapping[str, tuple[int, Callable[[], bytes]]] = {  # bytes a pixel, of Pillow's copy and the result
    "grey of 16 bits": (5, lambda: png_by_hand(SIDE, SIDE, bit_depth=16, rows=bytes(SIDE * (2 * SIDE + 1)))),
    "one bit": (4, lambda: png_by_hand(SIDE, SIDE, bit_depth=1, rows=bytes(SIDE * (SIDE // 8 + 1)))),
    "float": (7, lambda: encoded(Image.new("F", (SIDE, SIDE)), "TIFF", compression="tiff_deflate")),
    "L*a*b*": (7, lambda: encoded(Image.new("LAB", (SIDE, SIDE)), "TIFF", compression="tiff_deflate")),
    "transparent": (11, lambda: png_by_hand(SIDE, SIDE, colour_type=6, rows=bytes(SIDE * (4 * SIDE + 1)))),
}
READ = """
import sys
from pathlib import Path
from engine.pictures.picture_files import read_picture

def figure(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])

before = figure("VmRSS")
read_picture(Path(sys.argv[1]))
print(figure("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured on Linux")
@pytest.mark.parametrize("kind", LARGE)
def test_reading_takes_what_the_header_foretells(kind: str, tmp_path: Path) -> None:
    """In a process of its own: the file, the decoder's copy and the result, beside at most 120 MB for a strip."""
    bytes_a_pixel, make = LARGE[kind]
    (tmp_path / "large").write_bytes(make())
    command = [sys.executable, "-c", READ, str(tmp_path / "large")]
    taken = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert taken < bytes_a_pixel * SIDE * SIDE + (tmp_path / "large").stat().st_size + 120_000_000


def progressive(side: int, scans: int) -> bytes:
    """A JPEG whose last scan is said again and again."""
    data = encoded(Image.new("RGB", (side, side), (9, 99, 200)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + (scans - data.count(b"\xff\xda")) * data[last:-2] + b"\xff\xd9"


def jpeg_by_hand(side: int) -> bytes:
    """A progressive JPEG whose header says side x side."""
    data = encoded(Image.new("RGB", (16, 16)), "JPEG", progressive=True)
    place = data.index(b"\xff\xc2") + 5
    return data[:place] + struct.pack(">HH", side, side) + data[place + 4 :]


def webp_by_hand(width: int, height: int) -> bytes:
    """The header of a lossless WebP and nothing behind it."""
    bits = (width - 1) | (height - 1) << 14
    pixels = b"\x2f" + bits.to_bytes(4, "little") + bytes(11)
    chunk = b"VP8L" + len(pixels).to_bytes(4, "little") + pixels
    return b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk


def tiff_by_hand(mode: str, side: int, *, strips: int = 1) -> bytes:
    """A TIFF of one deflated strip, whose size is then said to be side x side."""
    data = encoded(Image.new(mode, (10, 10)), "TIFF", compression="tiff_deflate", tiffinfo={278: 10})
    made = bytearray(data)
    for tag in (256, 257, 278):
        place = max(data.find(struct.pack("<HHI", tag, kind, 1)) for kind in (3, 4))
        made[place : place + 12] = struct.pack("<HHII", tag, 4, 1, side)
    place = max(data.find(struct.pack("<HHI", 273, kind, 1)) for kind in (3, 4))
    made[place + 4 : place + 8] = struct.pack("<I", strips)
    if strips > 1:
        made[place + 8 : place + 12] = struct.pack("<I", len(made))
        made += bytes(8 * strips)
    return bytes(made)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: progressive(2_600, 300), "in 300 scans, which would take too long"),
        (lambda: jpeg_by_hand(8_300), "896 MB of memory.*JPEG"),
        (lambda: webp_by_hand(7_000, 7_000), "1,127 MB of memory to read .*WEBP.*at most 850 MB"),
        (lambda: png_by_hand(9_500, 9_500, colour_type=6), "993 MB of memory.*PNG"),
        (lambda: tiff_by_hand("LAB", 6_400), r"41 megapixels in L\*a"),
        (lambda: tiff_by_hand("RGB", 9_500), "903 MB of memory.*TIFF"),
        (lambda: tiff_by_hand("RGB", 10, strips=1_000_001), "over 1,000,000 strips"),
        (lambda: png_by_hand(100_000_000, 1, rows=b""), "100,000,000 x 1 pixels; at most 60,000 a side"),
        (lambda: png_by_hand(1, 1, rows=b"\0\0", before=[(b"teXt", b"")] * 200_001), "more than 200,000 parts"),
    ],
    ids=["scans", "progressive", "WebP", "transparent", "L*a*b*", "one strip", "strips", "long", "chunks"],
)
def test_what_would_take_too_much_is_refused_before_it_is_decoded(
    make: Callable[[], bytes], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make()
    monkeypatch.setattr(decoding, "_load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(PictureError, match=message):
        read_picture(data)


def test_where_it_was_held_is_not_looked_for_in_endless_metadata() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    row = b"\0" + bytes([1, 2, 3, 4, 5, 6])
    for padding, first in ((0, [4, 5, 6]), (2 << 20, [1, 2, 3])):
        extra = [(b"eXIf", exif.tobytes()[6:] + bytes(padding))]
        read = read_picture(png_by_hand(2, 1, colour_type=2, rows=row, before=extra))
        assert read.pixels[0, 0].tolist() == first


def test_a_fifo_is_no_picture(tmp_path: Path) -> None:
    """Opening one would wait for a writer."""
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(PictureError, match="no ordinary file"):
        read_picture(tmp_path / "pipe.png")


def test_squares_of_a_picture_by_place_and_share() -> None:
    """Shares of the shorter side, places from edge to edge; beyond them is no square."""
    pixels = np.arange(6 * 10 * 3, dtype=np.uint8).reshape(6, 10, 3)
    transparency = Transparency(pixels, np.full((6, 10), 9, np.uint8))
    picture = Picture(pixels, "mine.png", b"profile", transparency)
    assert square_at(picture, 0.5, 0.5, 1.0) == whole_square(10, 6) == Box(2, 0, 6)
    assert square_at(picture, 1.0, 0.0, 0.5) == Box(7, 0, 3) and square_at(picture, -5, 9, 1e-9) == Box(0, 5, 1)
    part = square_of(picture, Box(7, 1, 3))
    np.testing.assert_array_equal(part.pixels, pixels[1:4, 7:])
    assert (part.name, part.icc_profile) == ("mine.png", b"profile")
    assert part.transparency is not None and part.transparency.alpha.shape == (3, 3)
    for outside in (Box(8, 0, 3), Box(0, 4, 3), Box(-1, 0, 2), Box(0, 0, 0)):
        with pytest.raises(
            PictureError, match=r"mine.png has 10 x 6 pixels: there is no square of \d at -?\d, \d in it"
        ):
            square_of(picture, outside)
