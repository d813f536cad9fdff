"""Pictures and files: exact pixels, metadata that come back, forged ones that do not, full disks."""

import errno
import io
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.errors import MetadataError, SaveError
from engine.pictures import imaging, png_files
from engine.settings import LIMITS, GenerateSettings
from engine.system import files
from engine.version import VERSION

METADATA = png_files.picture_metadata(
    settings=GenerateSettings("a woman with “pink” hair 🎩", n=2).to_dict(),
    seeds=[7, 2**32 - 1],
    index=1,
    models={"avatars": "ab" * 32},
)


def picture(side: int = 8) -> imaging.Pixels:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def png_with(text: str, *, key: str = "gmi", compressed: bool = False) -> bytes:
    chunks = PngInfo()
    chunks.add_text(key, text, zip=compressed)
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def test_pixels_are_rounded_and_clamped() -> None:
    """uint8 = floor(127.5 x + 128): -1 and 1 are the ends, the middle is 128, beyond is clamped."""
    values = torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0, 0.5 / 127.5])
    images = values.view(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert imaging.to_uint8(images)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255, 128]


def test_every_byte_comes_back() -> None:
    """x = v / 127.5 - 1, in [-1, 1], is shown as v again."""
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    images = imaging.from_uint8(pixels)
    assert images.shape == (1, 3, 16, 16) and images.dtype == torch.float32
    assert images.amin() == -1 and images.amax() == 1
    torch.testing.assert_close(images[0, 0].flatten(), torch.arange(256) / 127.5 - 1)
    assert np.array_equal(imaging.to_uint8(images), pixels)
    coloured = np.zeros((1, 2, 3, 3), np.uint8)
    coloured[0, 1, 2] = (255, 0, 128)
    assert imaging.from_uint8(coloured)[0, :, 1, 2].tolist() == pytest.approx([1, -1, 128 / 127.5 - 1], abs=1e-6)
    images.zero_()  # a copy: the pixels stay
    assert pixels.max() == 255


def test_channels_go_last() -> None:
    images = torch.zeros(2, 3, 4, 5)
    images[1, 2, 3, 4] = 1
    pixels = imaging.to_uint8(images)
    assert pixels.shape == (2, 4, 5, 3) and pixels.dtype == np.uint8
    assert pixels[1, 3, 4].tolist() == [128, 128, 255]


def test_jpeg_is_reduced_and_never_enlarged() -> None:
    assert Image.open(io.BytesIO(imaging.to_jpeg(picture(64), max_side=16))).size == (16, 16)
    small = Image.open(io.BytesIO(imaging.to_jpeg(picture(8))))
    assert (small.size, small.format) == ((8, 8), "JPEG")


def test_jpeg_keeps_proportions_and_takes_a_quality() -> None:
    wide = np.random.default_rng(1).integers(0, 256, (20, 80, 3), dtype=np.uint8)
    assert Image.open(io.BytesIO(imaging.to_jpeg(wide, max_side=40))).size == (40, 10)
    large = np.zeros((600, 520, 3), np.uint8)
    assert max(Image.open(io.BytesIO(imaging.to_jpeg(large))).size) == 512
    sizes = [len(imaging.to_jpeg(wide, quality=quality)) for quality in (30, 85, 95)]
    assert sizes == sorted(sizes) and len(imaging.to_jpeg(wide)) == sizes[1]


@pytest.mark.parametrize(
    ("n", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (3, 2, 2), (4, 2, 2), (6, 2, 3), (7, 3, 3), (10, 3, 4)]
)
def test_grids_are_as_square_as_can_be(n: int, rows: int, columns: int) -> None:
    images = np.full((n, 2, 5, 3), 9, np.uint8)
    joined = imaging.grid(images)
    assert joined.shape == (rows * 2, columns * 5, 3)
    assert (joined == 9).sum() == n * 2 * 5 * 3 and (joined[-1, -1] == 0).all() == (n < rows * columns)


def test_grid_places_row_by_row() -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] + np.ones((5, 2, 2, 3), dtype=np.uint8)
    joined = imaging.grid(images)
    assert joined.shape == (4, 6, 3)
    assert joined[::2, ::2, 0].tolist() == [[1, 2, 3], [4, 5, 0]]
    assert imaging.grid(images, columns=5).shape == (2, 10, 3)


def test_what_a_picture_carries() -> None:
    plain = png_files.picture_metadata(settings={"a": 1}, seeds=np.array([3, 4]).tolist(), index=1, models={"m": "ab"})
    assert plain == {"version": VERSION, "settings": {"a": 1}, "seeds": [3, 4], "index": 1, "models": {"m": "ab"}}
    assert png_files.picture_metadata(settings={}, seeds=[0], index=0, models={}, extra={}).keys() == plain.keys()
    more = png_files.picture_metadata(settings={}, seeds=[0], index=0, models={}, extra={"start": [1]})
    assert more["extra"] == {"start": [1]} and png_files.read_metadata(png_files.encode_png(picture(), more)) == more


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": [0] * int(LIMITS["n"][1]), "index": int(LIMITS["n"][1]) - 1},
        {"seeds": [int(LIMITS["seed"][1])], "index": 0},
        {"version": "v" * 32},
        {"models": {}},
        {"extra": {}},
    ],
)
def test_metadata_at_the_limits(change: dict[str, Any]) -> None:
    metadata = {**METADATA, **change}
    assert png_files.read_metadata(png_files.encode_png(picture(), metadata)) == metadata


def test_metadata_as_long_as_allowed() -> None:
    """To the byte, when writing and when reading."""
    room = png_files.MAX_METADATA_BYTES - len(json.dumps({**METADATA, "settings": {"prompt": ""}}))
    longest = {**METADATA, "settings": {"prompt": "x" * room}}
    assert png_files.read_metadata(png_files.encode_png(picture(), longest)) == longest
    longer = {**METADATA, "settings": {"prompt": "x" * (room + 1)}}
    with pytest.raises(ValueError, match=r"take 524,289 bytes; at most 524,288 can be read back"):
        png_files.encode_png(picture(), longer)
    with pytest.raises(MetadataError, match="take 524,289 bytes; this program writes at most 524,288"):
        png_files.read_metadata(png_with(json.dumps(longer)))


def test_a_colour_profile_is_written() -> None:
    data = png_files.encode_png(picture(), METADATA, icc_profile=b"a profile")
    with Image.open(io.BytesIO(data)) as read:
        assert read.info["icc_profile"] == b"a profile"
    with Image.open(io.BytesIO(png_files.encode_png(picture()))) as read:
        assert read.info == {}


def test_zips_store_what_is_compressed_already(tmp_path: Path) -> None:
    """With the earliest time a zip can say, so that nothing tells two equal runs apart."""
    files.save_zip(tmp_path / "deep" / "a.zip", {"x/00.png": b"a" * 1000, "b.txt": b""})
    with zipfile.ZipFile(tmp_path / "deep" / "a.zip") as archive:
        assert [(entry.filename, entry.date_time, entry.compress_size) for entry in archive.infolist()] == [
            ("x/00.png", (1980, 1, 1, 0, 0, 0), 1000),
            ("b.txt", (1980, 1, 1, 0, 0, 0), 0),
        ]


def test_png_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "00.png"
    png_files.save_png(path, picture(), METADATA)
    assert png_files.read_metadata(path) == METADATA == png_files.read_metadata(path.read_bytes())
    restored = GenerateSettings.from_dict(png_files.read_metadata(path)["settings"])
    assert restored.prompt == "a woman with “pink” hair 🎩"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), picture())


def test_equal_pictures_give_equal_bytes(tmp_path: Path) -> None:
    data = png_files.encode_png(picture(), METADATA)
    assert data == png_files.encode_png(picture(), METADATA)
    for name in ("a.zip", "b.zip"):
        files.save_zip(tmp_path / name, {"00.png": data, "baseline/00.png": data})
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["00.png", "baseline/00.png"]
        assert png_files.read_metadata(archive.read("baseline/00.png")) == METADATA


def test_the_largest_kept_latent_fits() -> None:
    """W+ of a 1024 px StyleGAN2 has 18 x 512 numbers; float32 values need up to 22 characters in JSON."""
    start = torch.randn(18 * 512, generator=torch.Generator().manual_seed(0)).tolist()
    settings = GenerateSettings("x", start=tuple(start)).to_dict()
    metadata = png_files.picture_metadata(settings=settings, seeds=[0], index=0, models={})
    assert png_files.read_metadata(png_files.encode_png(picture(), metadata)) == metadata


def test_metadata_that_could_not_be_read_back_are_not_written() -> None:
    with pytest.raises(ValueError, match="can be read back"):
        png_files.encode_png(picture(), {**METADATA, "settings": {"prompt": "x" * png_files.MAX_METADATA_BYTES}})
    with pytest.raises(ValueError, match="JSON"):
        png_files.encode_png(picture(), {**METADATA, "index": float("nan")})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": []}, "impossible value of 'seeds'"),
        ({"seeds": [0] * 65}, "impossible value of 'seeds'"),
        ({"seeds": [True]}, "impossible value of 'seeds'"),
        ({"seeds": [0.5]}, "impossible value of 'seeds'"),
        ({"seeds": [-1]}, "impossible value of 'seeds'"),
        ({"seeds": [2**32]}, "impossible value of 'seeds'"),
        ({"index": 2}, "index beyond their seeds"),
        ({"index": "0"}, "impossible value of 'index'"),
        ({"settings": []}, "impossible value of 'settings'"),
        ({"models": {"avatars": "../../etc"}}, "impossible value of 'models'"),
        ({"version": "v" * 33}, "impossible value of 'version'"),
        ({"run": "rm"}, "unknown entries: run"),
        ({"extra": []}, "impossible value of 'extra'"),
        ({"index": True}, "impossible value of 'index'"),
        ({"index": -1}, "impossible value of 'index'"),
        ({"seeds": 5}, "impossible value of 'seeds'"),
        ({"models": []}, "impossible value of 'models'"),
        ({"models": {"a": "AB" * 32}}, "impossible value of 'models'"),
        ({"models": {"a": "ab" * 32 + "\n"}}, "impossible value of 'models'"),
        ({"models": {"a": 5}}, "impossible value of 'models'"),
        ({"version": 5}, "impossible value of 'version'"),
    ],
)
def test_forged_metadata(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MetadataError, match=message):
        png_files.read_metadata(png_with(json.dumps({**METADATA, **change})))


@pytest.mark.parametrize("name", list(METADATA))
def test_incomplete_metadata(name: str) -> None:
    left = {key: value for key, value in METADATA.items() if key != name}
    with pytest.raises(MetadataError, match=f"lack '{name}'"):
        png_files.read_metadata(png_with(json.dumps(left)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        '{"seeds": NaN}',
        "1" * 10_000,
        '{"a": 1e999, "b": -Infinity}',
        "null",
        "[]",
        "\x00",
    ],
    ids=["empty", "open", "deep", "nan", "huge number", "infinity", "null", "list", "zero byte"],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_metadata_that_are_no_settings(text: str, compressed: bool) -> None:
    with pytest.raises(MetadataError):
        png_files.read_metadata(png_with(text, compressed=compressed))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("size", [png_files.MAX_METADATA_BYTES + 1, 20_000_000])
def test_oversized_metadata(size: int, compressed: bool) -> None:
    """A zipped chunk of 20 MB is 20 kB in the file: it must not be unpacked."""
    with pytest.raises(MetadataError):
        png_files.read_metadata(png_with(" " * size, compressed=compressed))


def test_pictures_without_settings_and_no_pictures() -> None:
    with pytest.raises(MetadataError, match="carries no settings"):
        png_files.read_metadata(png_with("x", key="comment"))
    with pytest.raises(MetadataError, match="carries no settings"):
        png_files.read_metadata(png_files.encode_png(picture()))
    for data in (b"", b"GIF89a", imaging.to_jpeg(picture()), b"<svg/>"):
        with pytest.raises(MetadataError, match="not a readable PNG"):
            png_files.read_metadata(data)
    with pytest.raises(MetadataError, match="not a readable PNG"):
        png_files.read_metadata(Path("/nonexistent.png"))


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt"])
def test_settings_behind_the_pixels_and_beside_other_texts(kind: str) -> None:
    """Other programs move and repack texts, and add their own of any length."""
    written = png_files.encode_png(picture(), METADATA)
    place = written.index(b"tEXtgmi\0")
    end = place + 4 + int.from_bytes(written[place - 4 : place])
    text = written[place + 8 : end]
    payload = {
        "tEXt": text,
        "zTXt": b"\0" + zlib.compress(text),
        "iTXt": b"\1\0\0\0" + zlib.compress(text),
    }[kind]
    moved = written[: place - 4] + written[end + 4 : -12]
    moved += chunk(b"zTXt", b"other\0\0" + zlib.compress(bytes(2_000_000))) + chunk(kind.encode(), b"gmi\0" + payload)
    assert png_files.read_metadata(moved + written[-12:]) == METADATA
    damaged = moved[:-4] + bytes(4) + written[-12:]
    with pytest.raises(MetadataError, match="checksum"):
        png_files.read_metadata(damaged)


def chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)


def test_what_is_too_large_is_left_out_and_told() -> None:
    """The largest of the extras, and only as many as must; settings always fit."""
    small = {**METADATA, "extra": {"text": "x", "mask": "m" * 100}}
    assert png_files.fitting(small) == small and png_files.left_out_of(small) == ""
    half = png_files.MAX_METADATA_BYTES // 2
    large = {**METADATA, "extra": {"text": "x", "mask": "m" * (half + 99), "start": "s" * half}}
    fitted = png_files.fitting(large)
    assert fitted["extra"] == {"text": "x", "start": "s" * half, "left_out": ["mask"]}
    assert png_files.read_metadata(png_files.encode_png(picture(), fitted)) == fitted
    assert "mask is too detailed" in png_files.left_out_of(fitted) and large["extra"]["mask"]
    told = {**METADATA, "extra": {"left_out": ["start"], "mask": "m" * 2 * half}}
    assert png_files.fitting(told)["extra"] == {"left_out": ["mask", "start"]}
    assert "searched anew" in png_files.left_out_of(told)
    assert png_files.left_out_of({**METADATA, "extra": {"left_out": 5}}) == ""


def test_damaged_pngs_never_raise_anything_else() -> None:
    """Every prefix, and 2,000 files with a few bytes changed: settings or a MetadataError, nothing else."""
    data = png_files.encode_png(picture(), METADATA)
    rng = np.random.default_rng(0)
    damaged = [data[:length] for length in range(0, len(data), 7)]
    for _ in range(2000):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            changed[place] = rng.integers(256)
        damaged.append(bytes(changed))
    refused = 0
    for candidate in damaged:
        try:
            assert png_files.read_metadata(candidate).keys() == METADATA.keys()
        except MetadataError:
            refused += 1
    assert 0 < refused < len(damaged)


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "00.png"
    path.write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "write":
        monkeypatch.setattr(files.os, "fdopen", full)
    else:
        monkeypatch.setattr(files.os, call, full)
    with pytest.raises(SaveError, match=r"00\.png could not be saved: no space is left on the disk\. Free some"):
        png_files.save_png(path, picture(), METADATA)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["00.png"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "no space is left on the disk. Free some, or choose another folder"),
        (errno.EDQUOT, "no space is left on the disk. Free some, or choose another folder"),
        (errno.EROFS, "Read-only file system. Choose another folder and save again"),
    ],
)
def test_why_a_file_could_not_be_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "write_atomic", fails)
    with pytest.raises(SaveError, match=f"a.bin could not be saved: {advice}"):
        files.save_file(tmp_path / "a.bin", b"x")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SaveError, match=r"could not be saved: .*Choose another folder"):
        png_files.save_png(tmp_path / "file" / "00.png", picture(), METADATA)
    with pytest.raises(SaveError, match=r"file/new could not be saved: "):
        files.make_folder(tmp_path / "file" / "new")
    files.make_folder(tmp_path / "a" / "b")
    files.make_folder(tmp_path / "a" / "b")  # it may be there
    assert (tmp_path / "a" / "b").is_dir()
