"""The judges: networks that measure what the tables report. No optimisation ever uses them.

A folder each: `judge.json` (data, licence, how it was made, held-out figures, hashes), `card.md` (the same for people),
`weights.safetensors` in half precision, and where a table compares with pictures that are not here,
`reference.safetensors` with the judge's features of them. `python -m training.judges.export` writes them.

`load_avatars`, `load_fashion` and `load_mosaic` read those; with `fresh=True` the weights that the last training left
in `training/runs`, for who wants to know how much depends on the judge.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import engine
from engine.checkpoints import read_safetensors, write_safetensors
from engine.checkpoints.safetensors_file import verify
from engine.models.clip import CONFIG_NAME, PromptModel
from engine.models.table import ASSETS
from engine.networks.mini_tower import MiniTower
from training.avatars import classifier as avatar_classifier
from training.fashion import classifier as fashion_classifier

FOLDER = Path(__file__).parent
FRESH_MOSAIC = Path("training/runs/clip-mosaic/judge/judge.safetensors")
NAMES = ("avatars", "fashion", "mosaic")
_EMBEDDING = "text.token_embedding.weight"


def load_avatars(folder: Path = FOLDER, *, fresh: bool = False) -> MiniTower:
    """The attribute classifier of avatars. Raises ModelError where a file is damaged."""
    if fresh:
        return avatar_classifier.load("judge")
    return avatar_classifier.of_weights(_tensors(folder, "avatars", "weights"))


def load_fashion(folder: Path = FOLDER, *, fresh: bool = False) -> fashion_classifier.Classifier:
    """The classifier of clothes. Raises ModelError where a file is damaged."""
    if fresh:
        return fashion_classifier.load()
    network = fashion_classifier.Classifier()
    network.load_state_dict(_tensors(folder, "fashion", "weights"))
    return network.eval().requires_grad_(False)


def load_mosaic(folder: Path = FOLDER, *, fresh: bool = False) -> PromptModel:
    """The second prompt model of mosaic's pictures. Raises ModelError where a file is missing or damaged."""
    if fresh:
        return engine.load_prompt_model(str(FRESH_MOSAIC))
    with tempfile.TemporaryDirectory() as whole:  # the engine reads whole checkpoints only
        path = Path(whole) / "judge.safetensors"
        write_safetensors(path, with_all_words(_tensors(folder, "mosaic", "weights")), dtype=torch.float16)
        path.with_name(CONFIG_NAME).write_bytes((ASSETS / "clip-mosaic" / CONFIG_NAME).read_bytes())
        return replace(engine.load_prompt_model(str(path)), name="the judge of mosaic")


def reference(name: str) -> dict[str, Tensor]:
    """Features of pictures that a table compares with, as the judge of that name sees them."""
    return _tensors(FOLDER, name, "reference")


def facts(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """What `judge.json` tells of a judge."""
    found: dict[str, Any] = json.loads((folder / name / "judge.json").read_text(encoding="utf-8"))
    return found


def _tensors(folder: Path, name: str, role: str) -> dict[str, Tensor]:
    file = facts(name, folder)["files"][role]
    path = folder / name / file["path"]
    verify(path, file["sha256"])
    return read_safetensors(path)


def without_unseen_words(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A prompt model's tensors with one row for all tokens that training never saw: nine tenths of the table."""
    table = state[_EMBEDDING]
    rows, counts = table.unique(dim=0, return_counts=True)
    other = rows[counts.argmax()]
    seen = (table != other).any(1)
    rest = {name: value for name, value in state.items() if name != _EMBEDDING}
    return {**rest, "words.seen": seen.nonzero()[:, 0].int(), "words.rows": table[seen], "words.other": other}


def with_all_words(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The opposite of `without_unseen_words`."""
    rest = {name: value for name, value in state.items() if not name.startswith("words.")}
    table = state["words.other"].repeat(_vocabulary(), 1)
    table[state["words.seen"].long()] = state["words.rows"]
    return {**rest, _EMBEDDING: table}


def _vocabulary() -> int:
    config = json.loads((ASSETS / "clip-mosaic" / CONFIG_NAME).read_text(encoding="utf-8"))
    return int(config["model_cfg"]["text_cfg"]["vocab_size"])
