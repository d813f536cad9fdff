"""Fashion-MNIST as Debian packages it: `apt-get install dataset-fashion-mnist`.

60,000 pictures for training and 10,000 for judging, 28 px in grey; here a black border makes them 32 px. The 10
classes have names in plain words, which prompts are compared with.
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASSES = (
    "T-shirt",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
RESOLUTION = 32
_TYPES = {0x08: np.uint8}  # the only one these files use


def read_idx(path: Path) -> np.ndarray:
    """An array from a gzipped IDX file: two zero bytes, type, rank, big-endian sizes, the numbers.

    Raises FileNotFoundError saying what to install, ValueError for a file of another format.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run `apt-get install dataset-fashion-mnist`")
    content = gzip.decompress(path.read_bytes())
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES:
        raise ValueError(f"{path} is not an IDX file of bytes")
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start], dtype=">i4").tolist())
    numbers = np.frombuffer(content, dtype=_TYPES[content[2]], offset=start)
    if numbers.size != int(np.prod(shape)):
        raise ValueError(f"{path} holds {numbers.size:,} numbers, its header promises {int(np.prod(shape)):,}")
    return numbers.reshape(shape)


@cache
def load(split: str) -> tuple[Tensor, Tensor]:
    """Pictures uint8 [N, 28, 28] and classes int64 [N] of the split "train" or "t10k"."""
    images = read_idx(FOLDER / f"{split}-images-idx3-ubyte.gz")
    labels = read_idx(FOLDER / f"{split}-labels-idx1-ubyte.gz")
    return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))


def to_images(pixels: Tensor) -> Tensor:
    """uint8 [N, 28, 28] -> [N, 1, 32, 32] in [-1, 1], with a black border of two pixels."""
    border = (RESOLUTION - pixels.shape[-1]) // 2
    return F.pad(pixels[:, None].float() / 127.5 - 1, (border,) * 4, value=-1.0)
