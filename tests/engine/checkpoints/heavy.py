"""Files that would take all of the memory, or hours: sparse, shared, multiplied, nested, devices and pipes.

`corpus(folder)` writes them and gives path -> pattern of the reason. None takes more than a few megabytes of the disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.engine.checkpoints import hostile
from tests.engine.checkpoints.hostile import (
    BUILD,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_TUPLE,
    FALSE,
    MARK,
    NEWOBJ,
    NONE,
    POP,
    SETITEM,
    SETITEMS,
    TRUE,
    TUPLE3,
    call,
    dictionary,
    get,
    integer,
    name,
    pickled,
    put,
    storage,
    tensor,
    text,
    torch_zip,
    tuple_of,
)

HUGE = 300 << 30
Write = Callable[[Path], None]


def sparse(size: int, head: bytes = b"") -> Write:
    def write(path: Path) -> None:
        path.write_bytes(head)
        os.truncate(path, size)

    return write


def raw(data: bytes) -> Write:
    return lambda path: _nothing(path.write_bytes(data))


def saved(state: dict[str, Tensor]) -> Write:
    return lambda path: torch.save(state, path)


def _nothing(_: object) -> None:
    return None


def link_to(target: str) -> Write:
    return lambda path: path.symlink_to(target)


def folder_of(*files: tuple[str, Write]) -> Write:
    def write(path: Path) -> None:
        path.mkdir()
        for inner, make in files:
            make(path / inner)

    return write


def many_views(count: int, elements: int, kind: str, *, rosinality: bool = False) -> bytes:
    """One storage under many names, each of a layer that would be copied, made float, or scanned."""
    keys = ["synthesis.b4.const", "synthesis.b4.conv1.weight", "mapping.fc0.weight"]
    if rosinality:
        keys = ["input.input", "style.1.weight", "conv1.conv.weight", "to_rgb1.conv.weight"]
    keys += [f"convs.{i}.conv.weight" for i in range(count)]
    size = {"FloatStorage": 4, "BoolStorage": 1}[kind] * elements
    view = tensor(storage(count=elements, kind=kind), shape=(1, elements), strides=(1, 1))
    value = pickled(view, put(0), POP, dictionary(**dict.fromkeys(keys, get(0))))
    return torch_zip(value, {"0": bytes(size)})


def one_element_views(count: int, elements: int) -> bytes:
    """Many tensors of one element in one storage of bools, each of which would have it all made anew."""
    shared = storage(count=elements, kind="BoolStorage") + put(1) + POP
    one = call(
        "torch._utils", "_rebuild_tensor_v2", get(1), integer(0), tuple_of(integer(1)), tuple_of(integer(1)), FALSE,
        call("collections", "OrderedDict"),
    )  # fmt: skip
    keys = ["synthesis.b4.const", "synthesis.b4.conv1.weight", "mapping.fc0.weight"]
    keys += [f"k{i}" for i in range(count)]
    value = pickled(shared, EMPTY_DICT, MARK, *(text(key) + one for key in keys), SETITEMS)
    return torch_zip(value, {"0": bytes(elements)})


def one_text_as_many_arrays(count: int, letters: int) -> bytes:
    """A text that Python 2 would have written for bytes, in a TensorFlow network of many arrays."""
    built = call("numpy", "dtype", text("i1"), FALSE, TRUE)
    built += tuple_of(integer(3), text("|"), NONE, NONE, NONE, integer(-1), integer(-1), integer(0)) + BUILD
    empty = call(
        "numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), tuple_of(integer(0)), hostile.blob(b"b")
    )
    array = empty + tuple_of(integer(1), tuple_of(integer(letters)), built, FALSE, get(1)) + BUILD
    entries = b"".join(tuple_of(text(f"v{i}"), array) for i in range(count))
    state = dictionary(
        version=integer(4), variables=EMPTY_LIST + MARK + entries + hostile.APPENDS, components=EMPTY_DICT
    )
    network = name("dnnlib.tflib.network", "Network") + EMPTY_TUPLE + NEWOBJ + state + BUILD
    return pickled(text("a" * letters), put(1), POP, network, network, network, TUPLE3)


def long_names(kind: str, letters: int, width: int) -> bytes:
    """Modules under names of a million letters, some in others, so that what is joined multiplies."""
    parts = [text("a" * letters), put(0), POP]

    def node(children: bytes) -> bytes:
        if kind == "tensorflow":
            state = dictionary(version=integer(4), variables=EMPTY_LIST) + text("components") + children + SETITEM
            return name("dnnlib.tflib.network", "Network") + EMPTY_TUPLE + NEWOBJ + state + BUILD
        state = dictionary(_parameters=EMPTY_DICT, _buffers=EMPTY_DICT) + text("_modules") + children + SETITEM
        if kind == "torchscript":
            state = children
        module = ("__torch__", "M") if kind == "torchscript" else ("dall_e.decoder", "Decoder")
        return name(*module) + EMPTY_TUPLE + NEWOBJ + state + BUILD

    inner = node(EMPTY_DICT)
    for level in range(4):
        parts += [inner, put(level + 1), POP]
        children = EMPTY_DICT + get(0) + get(level + 1) + SETITEM
        children += b"".join(text(f"c{i}") + get(level + 1) + SETITEM for i in range(width))
        inner = node(children)
    if kind == "tensorflow":
        return pickled(*parts, inner, put(9), POP, get(9), get(9), get(9), TUPLE3)
    value = pickled(*parts, inner)
    if kind == "torchscript":
        return hostile.archive({"m/data.pkl": value, "m/constants.pkl": b""})
    return value


def wide_stylegan() -> dict[str, Tensor]:
    """A few small tensors of a generator whose other layers would have 2 x 10^9 numbers."""
    return {
        "synthesis.b4.const": torch.zeros(4096, 4, 4),
        "mapping.fc0.weight": torch.zeros(4096, 4),
        **{f"synthesis.b{side}.conv1.weight": torch.zeros(4096, 1, 1, 1) for side in (4, 8, 16, 32, 64)},
        "synthesis.b64.torgb.weight": torch.zeros(3, 1, 1, 1),
    }


def wide_dvae() -> dict[str, Tensor]:
    """A decoder whose first layer says 4,096 channels for all."""
    return {
        "blocks.input.w": torch.zeros(4096, 64, 1, 1),
        "blocks.input.b": torch.zeros(4096),
        "blocks.output.conv.w": torch.zeros(6, 4096, 1, 1),
        "blocks.output.conv.b": torch.zeros(6),
        **{f"blocks.group_{g}.block_{b}.res_path.conv_1.w": torch.zeros(1) for g in (1, 2, 3, 4) for b in (1, 2)},
    }


def deep_mapping(layers: int) -> Write:
    """A generator of very many layers of one number each."""
    state = {f"synthesis.b4.{key}": torch.zeros(1, 1, 1, 1) for key in ("const", "conv1.weight", "torgb.weight")}
    return lambda path: save_file(
        {**state, **{f"mapping.fc{i}.{kind}": torch.zeros(1, 1) for i in range(layers) for kind in ("weight", "bias")}},
        path,
    )


def nested_json(letters: int) -> bytes:
    return b'{"a": ' + b"[" * letters


def cases() -> Iterator[tuple[str, Write, str]]:
    large = "larger than 64 GB"
    holes = "most of it is holes"
    yield "sparse300.pt", sparse(HUGE, b"PK\x03\x04"), large
    yield "sparse300.safetensors", sparse(HUGE, b"\x40" + bytes(7) + b"{"), large
    yield "sparse60.pkl", sparse(60 << 30, b"\x80\x02"), holes
    yield "sparse2.ckpt", sparse(2 << 30), holes
    yield "many_sparse", folder_of(*((f"{i:03d}.safetensors", sparse(10 << 30)) for i in range(100))), holes
    yield "device.pt", link_to("/dev/zero"), "no ordinary file"
    yield "terminal.safetensors", link_to("/dev/tty"), "no ordinary file"
    yield "pipe.pt", lambda path: os.mkfifo(path), "no ordinary file"
    yield (
        "pipes",
        folder_of(("config.json", os.mkfifo), ("a.yaml", os.mkfifo), ("a.pt", raw(b"\x80\x02N."))),
        "known here",
    )
    yield "views600.pt", raw(many_views(600, 5 << 20, "FloatStorage")), "tensors come to"
    yield "views600ros.pt", raw(many_views(600, 5 << 20, "FloatStorage", rosinality=True)), "tensors come to"
    yield "bools.pt", raw(one_element_views(5000, 4 << 20)), "whole numbers|does not hold"
    yield "texts.pkl", raw(one_text_as_many_arrays(800, 1 << 20)), "again and again"
    for kind in ("modules", "torchscript", "tensorflow"):
        yield f"names_{kind}.pkl", raw(long_names(kind, 1_000_000, 12)), "letters|none of TensorFlow's|more variables"
    yield "wide.pt", saved(wide_stylegan()), "its layers would take more than"
    yield "wide_dvae.pt", saved(wide_dvae()), "its layers would take more than"
    yield "deep.safetensors", deep_mapping(3_000), "does not hold a stylegan2"
    yield "many.safetensors", deep_mapping(15_000), "tensors, more than any network has"
    yield "nested.pt", raw(hostile.pickled(EMPTY_TUPLE, hostile.TUPLE1 * 100_000)), "no model that is known"
    yield (
        "nested_dicts.pt",
        raw(pickled(b"".join(EMPTY_DICT + text("state_dict") for _ in range(100_000)), NONE, SETITEM * 100_000)),
        "no model that is known",
    )
    yield "nested.safetensors", raw(hostile.safetensors(nested_json(100_000))), "no safetensors file after all"
    yield "nested.json", raw(nested_json(100_000)), "describes a model but holds none|JSON"
    yield (
        "many_keys.pt",
        raw(pickled(EMPTY_DICT, MARK, *(text(f"k{i}") + NONE for i in range(50_000)), SETITEMS)),
        "no model",
    )
    yield "gzip.pt", raw(b"\x1f\x8b\x08" + bytes(1000)), "gzip"


def corpus(folder: Path) -> dict[str, str]:
    """Writes all cases; file or folder name -> pattern of the reason."""
    reasons = {}
    for label, write, reason in cases():
        write(folder / label)
        reasons[label] = reason
    return reasons


def main() -> None:
    """Child: opens each path of a folder as `models check` does; reports seconds and memory as JSON."""
    import resource
    import sys
    import time

    from engine.checkpoints import open_checkpoint
    from engine.errors import ModelError
    from engine.models.loading import try_to_load

    folder, report = Path(sys.argv[1]), Path(sys.argv[2])
    for warm in sys.argv[3:]:  # imports whatever opening needs, once
        try_to_load(open_checkpoint(Path(warm)))
    found: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        try:
            try_to_load(open_checkpoint(path))
            outcome, message = "opened", ""
        except ModelError as error:
            outcome, message = "refused", str(error)
        except BaseException as error:  # noqa: BLE001 (every crash is to be reported)
            outcome, message = "crashed", f"{type(error).__name__}: {error}"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        found[path.name] = (outcome, message, time.perf_counter() - began, grown)
        report.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
