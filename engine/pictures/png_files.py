"""PNG files with what made them inside. Needs no torch.

A saved PNG carries how it was made, as JSON in the text chunk `gmi` (see `picture_metadata`), and nothing
that differs between two equal runs, such as a time.
"""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.errors import MetadataError
from engine.pictures.png_chunks import find_text, is_png, open_source
from engine.settings import LIMITS
from engine.system.files import save_file
from engine.version import VERSION

Pixels = NDArray[np.uint8]

TEXT_KEY = "gmi"
MOST_THREADS = 4096
MAX_METADATA_BYTES = 1 << 19  # a kept latent of the largest public generator takes 200 kB
THREADS = "threads"  # among the extras: how many computed the picture
SCALE = "scale"  # among the extras: how many times as large it was saved as it was made
PARENT = "parent"  # among the extras: the sha256 of the saved picture that it was made from
LEFT_OUT = "left_out"  # among the extras: names of those that were too large
_LEFT_OUT_TEXTS = {
    "mask": "The mask is too detailed to be kept inside the saved picture: keep its file, and upload it again when the "
    "settings are restored.",
    "start": "Where the edit began is too large to be kept inside the saved picture: when it is restored, the picture "
    "is searched anew, and the edits will differ a little.",
    "source": "The picture that was translated is too large to be kept inside the saved picture: keep its file, and "
    "open it again when the settings are restored.",
    "references": "The reference pictures are too large to be kept inside the saved picture: keep their files, and "
    "give them again when the settings are restored.",
}
_NO_PNG = "This file is not a readable PNG picture. Drop a PNG that was saved here."


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


def fitting(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata; where they are too large, without the largest of their extras, whose names they tell instead."""
    extra = dict(metadata.get("extra", {}))
    left_out = list(extra.pop(LEFT_OUT, ()))
    sizes = {name: len(json.dumps(value)) for name, value in extra.items()}
    fitted = dict(metadata)
    while len(json.dumps(fitted)) > MAX_METADATA_BYTES and sizes:
        name = max(sizes, key=lambda name: sizes[name])
        del sizes[name], extra[name]
        left_out.append(name)
        fitted["extra"] = {**extra, LEFT_OUT: sorted(left_out)}
    return fitted


def threads_of(metadata: Mapping[str, Any]) -> int | None:
    """How many threads computed a picture; None where it does not say."""
    threads = metadata.get("extra", {}).get(THREADS)
    return threads if type(threads) is int and 0 < threads <= MOST_THREADS else None


def parent_of(extra: Mapping[str, Any]) -> str:
    """The sha256 of the saved picture that one was made from; "" where its extras do not say."""
    parent = extra.get(PARENT)
    return str(parent) if _is_sha256(parent) else ""


def parent_extra(parent: str) -> dict[str, str]:
    """The extra of a picture that was made from another; nothing for one that was not."""
    return {PARENT: parent} if parent else {}


def scale_extra(scale: int) -> dict[str, int]:
    """The extra of a picture that is saved larger than it was made; nothing for one that is not."""
    return {SCALE: scale} if scale > 1 else {}


def left_out_of(metadata: Mapping[str, Any]) -> str:
    """What a person should know of what was too large to be saved with a picture; "" where nothing was."""
    names = metadata.get("extra", {}).get(LEFT_OUT)
    told = [text for name, text in _LEFT_OUT_TEXTS.items() if isinstance(names, list) and name in names]
    return " ".join(told)


def encode_png(image: Pixels, metadata: Mapping[str, Any] | None = None, *, icc_profile: bytes | None = None) -> bytes:
    """One picture [H, W, 3], or [H, W, 4] with transparency, as PNG, with metadata and a colour profile if given.

    Equal arguments give equal bytes.

    Raises ValueError for metadata that JSON or `read_metadata` would refuse; see `fitting`.
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
        with open_source(source) as file:
            if not is_png(file):
                raise MetadataError(_NO_PNG)
            found = find_text(file, TEXT_KEY, MAX_METADATA_BYTES)
    except OSError as error:
        raise MetadataError(_NO_PNG) from error
    except MetadataError:
        raise
    except ValueError as error:
        raise MetadataError(f"The settings inside the picture are damaged: {error}.") from error
    if found is None:
        raise MetadataError(
            "This picture carries no settings: it was not saved by this program, or another one removed them."
        )
    text, is_whole = found
    if not is_whole:
        raise MetadataError("The settings inside the picture are damaged: their checksum is wrong.")
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
