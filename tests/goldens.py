"""The golden tensors of the reference networks, found at `../shared/goldens` beside the repository root."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

SHARED = Path(__file__).resolve().parents[2] / "shared"
GOLDENS = SHARED / "goldens"


@dataclass(frozen=True)
class Golden:
    """One golden: `about` is its json, `tensors` maps `state.*`, `in.*`, `out.*` and `out64.*` to tensors."""

    about: dict[str, Any]
    tensors: dict[str, Tensor]

    def group(self, prefix: str, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """The tensors under `prefix.`, without it, floating ones cast to `dtype`."""
        start = f"{prefix}."
        found = {key[len(start) :]: value for key, value in self.tensors.items() if key.startswith(start)}
        if dtype is None:
            return found
        return {key: value.to(dtype) if value.is_floating_point() else value for key, value in found.items()}


def require_shared(path: Path) -> Path:
    """`path` where it exists. Elsewhere skips the test, or fails it in continuous integration (CI=true)."""
    if path.exists():
        return path
    message = f"{path} is absent: put the shared folder with the golden tensors beside the repository"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def golden(name: str) -> Golden:
    """Load `<name>.json` and `<name>.safetensors`."""
    about = json.loads(require_shared(GOLDENS / f"{name}.json").read_text())
    return Golden(about, load_file(require_shared(GOLDENS / f"{name}.safetensors")))


def manifest(name: str) -> dict[str, Any]:
    """Load `manifests/<name>.json`: every key and shape of one full-size public checkpoint under "keys"."""
    loaded: dict[str, Any] = json.loads(require_shared(GOLDENS / "manifests" / f"{name}.json").read_text())
    return loaded


def manifest_state(name: str) -> dict[str, Tensor]:
    """The state dict of one full-size public checkpoint, its tensors on the meta device: shapes alone."""
    return {key: torch.empty(shape, device="meta") for key, shape in manifest(name)["keys"].items()}


def shapes(state: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Every key with its shape."""
    return {key: list(value.shape) for key, value in state.items()}


def assert_near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """max |found - expected| <= tolerance * max |expected|."""
    assert found.shape == expected.shape
    error = (found - expected).abs().max() / expected.abs().max()
    assert error <= tolerance, f"relative error {error:.2e} > {tolerance:.0e}"
