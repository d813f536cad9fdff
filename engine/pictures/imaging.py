"""Tensors to pictures and back: the only place that takes one for the other."""

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine.pictures.png_files import Pixels


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
