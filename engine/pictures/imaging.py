"""Tensors to pictures and files: the only place that knows uint8, [H, W, 3], JPEG and PNG.

A saved PNG carries how it was made, as JSON in the text chunk `gmi` (see `picture_metadata`), and nothing
that differs between two equal runs, such as a time.
"""

import errno
import io
import json
import math
import re
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from engine.errors import MetadataError, SaveError
from engine.settings import LIMITS
from engine.system.files import write_atomic
from engine.version import VERSION

Pixels = NDArray[np.uint8]

TEXT_KEY = "gmi"
MAX_METADATA_BYTES = 1 << 19  # a kept latent of the largest public generator takes 200 kB
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say: equal pictures give an equal file


def to_uint8(images: Tensor) -> Pixels:
    """Images [N, 3, H, W], nominally in [-1, 1], to pixels [N, H, W, 3]; values outside are clamped."""
    scaled = (images.detach().float() * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def from_uint8(pixels: Pixels) -> Tensor:
    """Pixels [N, H, W, 3] to images [N, 3, H, W] in [-1, 1]; `to_uint8` gives the same pixels back."""
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def to_jpeg(image: Pixels, *, quality: int = 85, max_side: int = 512) -> bytes:
    """One picture [H, W, 3] as JPEG, reduced to at most `max_side` pixels a side (never enlarged)."""
    picture = Image.fromarray(image)
    picture.thumbnail((max_side, max_side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def grid(images: Pixels, *, columns: int | None = None) -> Pixels:
    """Pictures [N, H, W, 3] row by row in one [rows * H, columns * W, 3]; empty places are black.

    Without `columns` the grid is as square as N allows, wider rather than higher.
    """
    n, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    cells = np.zeros((rows * columns, height, width, channels), dtype=np.uint8)
    cells[:n] = images
    joined = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return joined.reshape(rows * height, columns * width, channels)


def picture_metadata(
    *,
    settings: Mapping[str, Any],
    seeds: Sequence[int],
    index: int,
    models: Mapping[str, str],
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a PNG carries: particles act on each other, so remaking one needs the seeds of all.

    settings: `GenerateSettings.to_dict()`; index: which of `seeds` this picture grew from; models: the sha256
    of each model's file by name; extra: whatever else remaking it takes, such as where an edit began.
    """
    return {
        "version": VERSION,
        "settings": dict(settings),
        "seeds": [int(seed) for seed in seeds],
        "index": index,
        "models": dict(models),
        **({"extra": dict(extra)} if extra else {}),
    }


def encode_png(image: Pixels, metadata: Mapping[str, Any] | None = None, *, icc_profile: bytes | None = None) -> bytes:
    """One picture [H, W, 3] as PNG, with metadata and a colour profile if given; equal arguments give equal bytes.

    Raises ValueError for metadata that JSON or `read_metadata` would refuse.
    """
    text = PngInfo()
    if metadata is not None:
        encoded = json.dumps(metadata, allow_nan=False)
        if len(encoded) > MAX_METADATA_BYTES:
            raise ValueError(
                f"The metadata take {len(encoded):,} bytes; at most {MAX_METADATA_BYTES:,} can be read back."
            )
        text.add_text(TEXT_KEY, encoded)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", pnginfo=text, icc_profile=icc_profile)
    return buffer.getvalue()


def save_png(path: Path, image: Pixels, metadata: Mapping[str, Any] | None = None) -> None:
    """Writes a PNG atomically. Raises SaveError."""
    save_file(path, encode_png(image, metadata))


def save_zip(path: Path, files: Mapping[str, bytes]) -> None:
    """Writes files, keyed by their path inside, as one zip atomically; equal files give equal bytes.

    Stored, not deflated: PNGs are compressed already. Raises SaveError.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data)
    save_file(path, buffer.getvalue())


def save_file(path: Path, data: bytes) -> None:
    """Writes a file atomically, with the folders above it. Raises SaveError."""
    make_folder(path.parent)
    try:
        write_atomic(path, data)
    except OSError as error:
        raise _save_error(path, error) from error


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, if they are not there. Raises SaveError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _save_error(path, error) from error


def _save_error(path: Path, error: OSError) -> SaveError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "no space is left on the disk. Free some, or choose another folder, then save again."
    else:
        advice = f"{error.strerror or error}. Choose another folder and save again."
    return SaveError(f"{path} could not be saved: {advice}")


def read_metadata(source: Path | bytes) -> dict[str, Any]:
    """The metadata of a PNG made here, as `picture_metadata` built them.

    The settings' values are checked by `GenerateSettings.from_dict`. Raises MetadataError if the file is no
    PNG, carries none, or carries some that this program cannot have written.
    """
    text = _read_text(source)
    if len(text) > MAX_METADATA_BYTES:
        raise MetadataError(
            f"The settings inside the picture take {len(text):,} bytes; this program writes at most "
            f"{MAX_METADATA_BYTES:,}. They were not written by it."
        )
    try:
        metadata = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MetadataError(f"The settings inside the picture are damaged: {error}.") from error
    _check(metadata)
    return metadata


def _read_text(source: Path | bytes) -> str:
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=["PNG"]) as picture:  # stops before the pixels
            text = picture.info.get(TEXT_KEY)
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise MetadataError("This file is not a readable PNG picture. Drop a PNG that was saved here.") from error
    if not isinstance(text, str):
        raise MetadataError(
            "This picture carries no settings: it was not saved by this program, or another one removed them."
        )
    return text


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _check(metadata: Any) -> None:
    if not isinstance(metadata, dict):
        raise MetadataError("The settings inside the picture are not a table of names and values.")
    for name, is_valid in _CHECKS.items():
        if name not in metadata:
            raise MetadataError(f"The settings inside the picture lack {name!r}: they are not complete.")
        if not is_valid(metadata[name]):
            raise MetadataError(f"The settings inside the picture have an impossible value of {name!r}.")
    if not isinstance(metadata.get("extra", {}), dict):
        raise MetadataError("The settings inside the picture have an impossible value of 'extra'.")
    if unknown := sorted(metadata.keys() - _CHECKS.keys() - {"extra"}):
        raise MetadataError(f"The settings inside the picture have unknown entries: {', '.join(unknown)[:200]}.")
    if metadata["index"] >= len(metadata["seeds"]):
        raise MetadataError("The settings inside the picture have an index beyond their seeds.")


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LIMITS["seed"][1]


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _is_seed_list(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= LIMITS["n"][1] and all(map(_is_seed, value))


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "version": lambda value: isinstance(value, str) and len(value) <= 32,
    "settings": lambda value: isinstance(value, dict),
    "seeds": _is_seed_list,
    "index": _is_seed,
    "models": lambda value: isinstance(value, dict) and all(map(_is_sha256, value.values())),
}
