"""Whole pickled networks: the tree of modules that torch keeps in each object's state, walked into a state dict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from engine.checkpoints.arrays import StoredArray
from engine.checkpoints.checkpoint import MAX_KEY, MAX_TENSORS
from engine.checkpoints.pickle_machine import Node
from engine.checkpoints.refusal import Refused, printable

MAX_DEPTH = 32
MAX_MODULES = 20_000


def is_module(value: Any) -> bool:
    """Whether a value is an object as torch pickles its modules."""
    return isinstance(value, Node) and isinstance(value.state, dict) and "_modules" in value.state


def state_of_modules(root: Node) -> dict[str, StoredArray]:
    """The state dict of a module: `_parameters` and `_buffers` of it and all below, names joined by dots.

    Raises Refused for objects that are no modules, and for modules that contain themselves.
    """
    state: dict[str, StoredArray] = {}
    for prefix, node in walk(root, lambda node: [] if node is None else _entries(node, "_modules")):
        if node is None:
            continue
        if not isinstance(node, Node) or not isinstance(node.state, dict):
            raise Refused(f"its module {printable(prefix) or 'at the top'} is no network.")
        for key, value in _entries(node, "_parameters") + _entries(node, "_buffers"):
            if value is None:
                continue
            if not isinstance(value, StoredArray):
                raise Refused(f"its entry {printable(prefix + key)!r} is no tensor.")
            state[prefix + key] = value
        if len(state) > MAX_TENSORS:
            raise Refused(f"its modules come to more than {MAX_TENSORS:,} tensors; no network has as many.")
    return state


def walk(root: Any, children: Callable[[Any], list[tuple[str, Any]]]) -> Iterator[tuple[str, Any]]:
    """Every node with the dotted prefix of its keys, a node before its children.

    Raises Refused for trees that are too deep or too large to be a network, such as those that contain themselves.
    """
    pending: list[tuple[str, Any, int]] = [("", root, 0)]
    visited = 0
    while pending:
        prefix, node, depth = pending.pop()
        visited += 1
        if depth > MAX_DEPTH or visited > MAX_MODULES:
            raise Refused("its modules are nested too deeply, or contain themselves.")
        if len(prefix) > MAX_KEY:
            raise Refused(f"the name of a module in it has more than {MAX_KEY:,} letters.")
        yield prefix, node
        pending += [(f"{prefix}{key}.", child, depth + 1) for key, child in children(node)]


def _entries(node: Node, name: str) -> list[tuple[str, Any]]:
    entries = node.state.get(name, {})
    if not isinstance(entries, dict) or not all(isinstance(key, str) for key in entries):
        raise Refused(f"a network in it has no proper {name}.")
    return list(entries.items())
