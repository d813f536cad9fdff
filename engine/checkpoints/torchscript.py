"""TorchScript archives, as OpenAI gave out CLIP: the tree of attributes in `data.pkl`; the code is never read.

Networks whose parameters are attributes under the usual names give their state dict that way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine.checkpoints import state_dict
from engine.checkpoints.arrays import StoredArray
from engine.checkpoints.checkpoint import Parts, tensors_of
from engine.checkpoints.modules import walk
from engine.checkpoints.pickle_machine import Node
from engine.checkpoints.refusal import Refused
from engine.checkpoints.vocabulary import TORCHSCRIPT

FORMAT = "TorchScript archive"
_NOTE = "the code in it was not read: the network is built from its weights alone"
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size")  # numbers that OpenAI keeps as tensors


def matches(value: Any) -> bool:
    return isinstance(value, Node) and value.name.startswith(f"{TORCHSCRIPT}.")


def read(value: Node) -> Parts:
    """The network of the family that its keys tell. Raises Refused for keys of no known network."""
    state = {key: tensor for key, tensor in _state(value).items() if key not in _NO_WEIGHTS}
    parts = state_dict.read(tensors_of(state, "the file"))
    return replace(parts, format=f"{FORMAT}, {parts.format}", notes=(*parts.notes, _NOTE))


def _state(root: Node) -> dict[str, StoredArray]:
    """Every tensor among the attributes of a module and all below it, names joined by dots."""
    return {
        f"{prefix}{key}": value
        for prefix, node in walk(root, _modules)
        for key, value in _attributes(node).items()
        if isinstance(value, StoredArray)
    }


def _modules(node: Node) -> list[tuple[str, Node]]:
    return [(key, value) for key, value in _attributes(node).items() if isinstance(value, Node)]


def _attributes(node: Node) -> dict[str, Any]:
    attributes = node.state if isinstance(node.state, dict) else {}
    if not all(isinstance(key, str) for key in attributes):
        raise Refused("a module in it has an attribute without a name.")
    return attributes
