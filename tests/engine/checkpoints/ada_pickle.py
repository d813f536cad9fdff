"""Writes StyleGAN2-ADA pickles with the real structure: persistent objects around modules, tensors as nested files.

The modules `torch_utils.persistence` and `dnnlib.util` exist only while the file is written, so that reading it
cannot lean on them.
"""

from __future__ import annotations

import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

BUFFERS = ("noise_const", "resample_filter", "w_avg")
MODULE_SOURCE = 'raise SystemExit("the source code in the file was run")'


def _reconstruct_persistent_obj(meta: Any) -> Any:
    raise AssertionError("called while writing")


class EasyDict(dict[str, Any]):
    """As in dnnlib: a dictionary, pickled under the name of its class."""


EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"
_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class Persistent:
    """An object that pickles as torch_utils.persistence makes the reference's networks do."""

    def __init__(self, class_name: str, state: dict[str, Any]) -> None:
        self.class_name, self.state = class_name, state

    def __reduce__(self) -> tuple[Any, ...]:
        meta = {
            "type": "class",
            "version": 6,
            "module_src": MODULE_SOURCE,
            "class_name": self.class_name,
            "state": self.state,
        }
        return _reconstruct_persistent_obj, (EasyDict(meta),), None


@contextmanager
def reference_modules() -> Iterator[None]:
    """The reference's modules, as far as pickling asks for them."""
    modules = {name: ModuleType(name) for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")}
    vars(modules["torch_utils.persistence"])["_reconstruct_persistent_obj"] = _reconstruct_persistent_obj
    vars(modules["dnnlib.util"])["EasyDict"] = EasyDict
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


def module_tree(state: Mapping[str, Tensor], class_name: str, words: Mapping[str, Any] | None = None) -> Persistent:
    """Persistent modules as deep as the dots of the keys."""
    parameters: OrderedDict[str, Any] = OrderedDict()
    buffers: OrderedDict[str, Any] = OrderedDict()
    children: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        head, _, rest = key.partition(".")
        if rest:
            children.setdefault(head, {})[rest] = tensor
        elif head in BUFFERS:
            buffers[head] = tensor
        else:
            parameters[head] = torch.nn.Parameter(tensor)
    modules = OrderedDict((name, module_tree(inner, name.title())) for name, inner in children.items())
    return Persistent(
        class_name,
        {
            "training": False,
            "_parameters": parameters,
            "_buffers": buffers,
            "_non_persistent_buffers_set": set(),
            "_backward_hooks": OrderedDict(),
            "_modules": modules,
            "_init_args": (),
            "_init_kwargs": EasyDict(words or {}),
        },
    )


def write_ada_pickle(
    path: Path,
    states: Mapping[str, Mapping[str, Tensor]],
    words: Mapping[str, Mapping[str, Any]],
    *,
    protocol: int = 3,
    class_name: str = "Generator",
) -> None:
    """`states` and constructor's `words` by name: G, D, G_ema."""
    with reference_modules():
        networks: dict[str, Any] = {
            name: module_tree(state, "Discriminator" if name == "D" else class_name, words.get(name))
            for name, state in states.items()
        }
        networks["training_set_kwargs"] = EasyDict(class_name="training.dataset.ImageFolderDataset", path="x.zip")
        networks["augment_pipe"] = module_tree({"p": torch.zeros([])}, "AugmentPipe")
        path.write_bytes(pickle.dumps(networks, protocol=protocol))
