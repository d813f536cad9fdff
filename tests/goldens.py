"""The golden tensors of the reference networks and tiny files of public formats.

What the readers' tests need lies in `tests/data`. The larger rest, parity of every architecture, is optional: it is
looked for in `../shared` beside the repository, or where GMI_TEST_SHARED says.
"""

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

DATA = Path(__file__).resolve().parent / "data"
SHARED_VARIABLE = "GMI_TEST_SHARED"
SHARED = Path(os.environ.get(SHARED_VARIABLE) or Path(__file__).resolve().parents[2] / "shared")


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


class ReferenceAbsent(pytest.skip.Exception):  # type: ignore[name-defined]
    """A test's skip because the machine has none of the optional reference files, no fault of the machine's."""


def reference(name: str) -> Path:
    """The file or folder `goldens/...` or `checkpoints/...`: of `tests/data`, else of the optional set.

    Skips the test where that set is absent. Fails it where the set is there but lacks this file.
    """
    for folder in (DATA, SHARED):
        if (folder / name).exists():
            return folder / name
    if (SHARED / "goldens").is_dir():  # another folder of that name is none of ours
        pytest.fail(f"{SHARED} lacks {name}: fetch the set of reference files again, or set {SHARED_VARIABLE}")
    raise ReferenceAbsent(f"{name} is of the optional set of reference files, which is not at {SHARED}")


def golden(name: str) -> Golden:
    """Load `<name>.json` and `<name>.safetensors`."""
    about = json.loads(reference(f"goldens/{name}.json").read_text())
    return Golden(about, load_file(reference(f"goldens/{name}.safetensors")))


def manifest(name: str) -> dict[str, Any]:
    """Load `manifests/<name>.json`: every key and shape of one full-size public checkpoint under "keys"."""
    loaded: dict[str, Any] = json.loads(reference(f"goldens/manifests/{name}.json").read_text())
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
