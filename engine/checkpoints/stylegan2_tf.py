"""StyleGAN2 pickles of the TensorFlow original: a tuple (G, D, Gs) of networks, each a list of named arrays.

Names and layouts against ours: convolutions are [height, width, in, out], dense layers [in, out], style biases lack
the 1 that is added to them, the kernels of up-convolutions are mirrored, and noise images are numbered by layer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from engine.checkpoints.arrays import ArrayShell, StoredArray
from engine.checkpoints.checkpoint import MAX_KEY, MAX_TENSORS, Parts, Setting, tensors_of
from engine.checkpoints.pickle_machine import Node
from engine.checkpoints.refusal import Refused, printable
from engine.networks.stylegan2 import binomial_filter

FORMAT = "StyleGAN2 TensorFlow pickle"
_NETWORK = "dnnlib.tflib.network.Network"
_OLDEST = 4
_MAX_DEPTH = 4
_MAX_COMPONENTS = 64
_TAPS = [1, 3, 3, 1]
_LABELS = "mapping/LabelConcat/weight"

Arrays = Mapping[str, Tensor]


def matches(value: Any) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 3
        and all(isinstance(network, Node) and network.name == _NETWORK for network in value)
    )


def read(value: tuple[Node, Node, Node]) -> Parts:
    """`Gs` becomes the generator, `D` the discriminator. Raises Refused for networks other than StyleGAN2's."""
    _, discriminator, generator = value
    arrays = _arrays(generator)
    if "synthesis/4x4/Const/const" not in arrays:
        raise Refused("its Gs has not the layers of StyleGAN2; StyleGAN (1) and progressive GANs are not supported.")
    networks = {"generator": _generator(arrays), "discriminator": _discriminator(_arrays(discriminator))}
    words, judge = _words(generator), _words(discriminator)
    stated: dict[str, dict[str, Setting]] = {
        "generator": _found(words, {"lr_multiplier": "mapping_lrmul"}) | _normalization(arrays),
        "discriminator": _found(judge, {"lr_multiplier": "mapping_lrmul", "mbstd_group_size": "mbstd_group_size"}),
    }
    return Parts(FORMAT, "stylegan2", networks, stated, ("not used: G",))


def _normalization(arrays: Arrays) -> dict[str, Setting]:
    """StyleGAN2's own networks with labels put them beside z and normalise both as one; ADA's do so apart."""
    return {"normalization": Setting("together" if _LABELS in arrays else "apart", "this kind of file")}


def _words(node: Node) -> dict[str, Any]:
    """What the network was made with. Raises Refused for anything but the usual activation."""
    words = node.state.get("static_kwargs", {}) if isinstance(node.state, dict) else {}
    if not isinstance(words, dict):
        raise Refused("a network in it has no proper static_kwargs.")
    for name in ("nonlinearity", "mapping_nonlinearity"):
        if words.get(name, "lrelu") != "lrelu":
            raise Refused(f"its {name} is not lrelu, as in all released models.")
    if list(words.get("resample_kernel") or _TAPS) != _TAPS:
        raise Refused(f"its resample_kernel is not {_TAPS}, as in all released models.")
    return words


def _found(words: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Setting]:
    found = {}
    for ours, theirs in names.items():
        if theirs in words:
            if not isinstance(words[theirs], int | float):
                raise Refused(f"{theirs} of a network in it is no number.")
            found[ours] = Setting(words[theirs], "the file")
    return found


def _arrays(network: Node) -> dict[str, Tensor]:
    """All variables of a network and its components, `component/layer/name` -> array."""
    stored: dict[str, StoredArray] = {}
    numbers: dict[str, Tensor] = {}
    pending: list[tuple[str, Any, int]] = [("", network, 0)]
    while pending:
        prefix, node, depth = pending.pop()
        state = node.state if isinstance(node, Node) and node.name == _NETWORK else None
        if depth > _MAX_DEPTH or len(prefix) > MAX_KEY or not isinstance(state, dict):
            raise Refused("a network in it is none of TensorFlow's.")
        version = state.get("version")
        if not isinstance(version, int) or version < _OLDEST:
            raise Refused(f"its networks have version {version!r}, StyleGAN2's have {_OLDEST}.")
        for entry in _listed(state, "variables", list):
            name, array = entry if isinstance(entry, tuple | list) and len(entry) == 2 else (None, None)
            if not isinstance(name, str):
                raise Refused("its list of variables is none.")
            if isinstance(array, ArrayShell) and array.stored is not None:
                stored[prefix + name] = array.stored
            elif isinstance(array, int | float):
                numbers[prefix + name] = torch.tensor(float(array))
            else:
                raise Refused(f"its variable {printable(name)!r} is no array.")
        if len(stored) + len(numbers) > MAX_TENSORS or len(pending) > _MAX_COMPONENTS:
            raise Refused("a network in it has more variables than any network of TensorFlow's.")
        components = _listed(state, "components", dict)
        pending += [(f"{prefix}{name}/", child, depth + 1) for name, child in components.items()]
    return {**tensors_of(stored, "the file"), **numbers}


def _listed(state: Mapping[str, Any], name: str, kind: type) -> Any:
    value = state.get(name, kind())
    if not isinstance(value, kind):
        raise Refused(f"a network in it has no proper {name}.")
    return value


# ---- names and layouts -----------------------------------------------------------------------------------


def _convolution(weight: Tensor) -> Tensor:
    return weight.permute(3, 2, 0, 1)


def _mirrored(weight: Tensor) -> Tensor:
    return weight.flip(0, 1).permute(3, 2, 0, 1)


def _transposed(weight: Tensor) -> Tensor:
    return weight.t()


def _as_it_is(value: Tensor) -> Tensor:
    return value


def _plus_one(value: Tensor) -> Tensor:
    return value + 1


def _first(value: Tensor) -> Tensor:
    return value[0]


_Rule = tuple[str, str, Callable[[Tensor], Tensor]]
_AFFINE: tuple[_Rule, ...] = (("mod_weight", "affine.weight", _transposed), ("mod_bias", "affine.bias", _plus_one))
_LAYER: tuple[_Rule, ...] = (
    ("bias", "bias", _as_it_is),
    ("noise_strength", "noise_strength", _as_it_is),
    *_AFFINE,
)


def _generator_rules() -> list[_Rule]:
    """Pattern of the file's name, template of ours, what becomes of the array."""
    side = r"(\d{1,4})x\1"
    rules: list[_Rule] = [
        (r"dlatent_avg", "mapping.w_avg", _as_it_is),
        (r"mapping/LabelEmbed/weight", "mapping.embed.weight", _transposed),
        (_LABELS, "mapping.embed.weight", _transposed),
        (r"mapping/LabelEmbed/bias", "mapping.embed.bias", _as_it_is),
        (r"mapping/Dense(\d+)/weight", r"mapping.fc\1.weight", _transposed),
        (r"mapping/Dense(\d+)/bias", r"mapping.fc\1.bias", _as_it_is),
        (r"synthesis/4x4/Const/const", "synthesis.b4.const", _first),
        (r"synthesis/4x4/Conv/weight", "synthesis.b4.conv1.weight", _convolution),
        (rf"synthesis/{side}/Conv0_up/weight", r"synthesis.b\1.conv0.weight", _mirrored),
        (rf"synthesis/{side}/Conv1/weight", r"synthesis.b\1.conv1.weight", _convolution),
        (rf"synthesis/{side}/ToRGB/weight", r"synthesis.b\1.torgb.weight", _convolution),
        (rf"synthesis/{side}/ToRGB/bias", r"synthesis.b\1.torgb.bias", _as_it_is),
        (rf"synthesis/{side}/Skip/weight", r"synthesis.b\1.skip.weight", _mirrored),
    ]
    for theirs, ours, change in _LAYER:
        rules.append((rf"synthesis/4x4/Conv/{theirs}", f"synthesis.b4.conv1.{ours}", change))
        rules.append((rf"synthesis/{side}/Conv0_up/{theirs}", rf"synthesis.b\1.conv0.{ours}", change))
        rules.append((rf"synthesis/{side}/Conv1/{theirs}", rf"synthesis.b\1.conv1.{ours}", change))
    for theirs, ours, change in _AFFINE:
        rules.append((rf"synthesis/{side}/ToRGB/{theirs}", rf"synthesis.b\1.torgb.{ours}", change))
    return rules


_DISCRIMINATOR_RULES: list[_Rule] = [
    (r"(\d{1,4})x\1/FromRGB/weight", r"b\1.fromrgb.weight", _convolution),
    (r"(\d{1,4})x\1/FromRGB/bias", r"b\1.fromrgb.bias", _as_it_is),
    (r"(\d{1,4})x\1/Conv0/weight", r"b\1.conv0.weight", _convolution),
    (r"(\d{1,4})x\1/Conv0/bias", r"b\1.conv0.bias", _as_it_is),
    (r"(\d{1,4})x\1/Conv1_down/weight", r"b\1.conv1.weight", _convolution),
    (r"(\d{1,4})x\1/Conv1_down/bias", r"b\1.conv1.bias", _as_it_is),
    (r"(\d{1,4})x\1/Skip/weight", r"b\1.skip.weight", _convolution),
    (r"LabelEmbed/weight", "mapping.embed.weight", _transposed),
    (r"LabelEmbed/bias", "mapping.embed.bias", _as_it_is),
    (r"Mapping(\d+)/weight", r"mapping.fc\1.weight", _transposed),
    (r"Mapping(\d+)/bias", r"mapping.fc\1.bias", _as_it_is),
    (r"4x4/Conv/weight", "b4.conv.weight", _convolution),
    (r"4x4/Conv/bias", "b4.conv.bias", _as_it_is),
    (r"4x4/Dense0/weight", "b4.fc.weight", _transposed),
    (r"4x4/Dense0/bias", "b4.fc.bias", _as_it_is),
    (r"Output/weight", "b4.out.weight", _transposed),
    (r"Output/bias", "b4.out.bias", _as_it_is),
]
_UNUSED = re.compile(r"lod|.*/noise\d+|.*/lod|.*resample_kernel.*")


def _renamed(arrays: Arrays, rules: list[_Rule]) -> dict[str, Tensor]:
    """Every array by the rule that fits its name. Raises Refused for a name without rule."""
    compiled = [(re.compile(pattern), ours, change) for pattern, ours, change in rules]
    state = {}
    for name, array in arrays.items():
        for pattern, ours, change in compiled:
            if match := pattern.fullmatch(name):
                state[match.expand(ours)] = _changed(name, array, change)
                break
        else:
            if not _UNUSED.fullmatch(name):
                raise Refused(f"its variable {printable(name)!r} belongs to no layer of StyleGAN2.")
    return state


def _changed(name: str, array: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    try:
        return change(array)
    except (RuntimeError, IndexError) as error:
        raise Refused(f"its variable {printable(name)!r} has the wrong number of axes.") from error


def _generator(arrays: Arrays) -> dict[str, Tensor]:
    state = _renamed(arrays, _generator_rules())
    if _LABELS in arrays:
        # There labels times weights, here also divided by the square root of the labels' number, and with a bias.
        if arrays[_LABELS].ndim != 2:
            raise Refused(f"its variable {_LABELS!r} has the wrong number of axes.")
        count = arrays[_LABELS].shape[0]
        state["mapping.embed.weight"] = state["mapping.embed.weight"] * math.sqrt(count)
        state["mapping.embed.bias"] = state["mapping.embed.weight"].new_zeros(len(state["mapping.embed.weight"]))
    kernel = binomial_filter()
    for key in [key for key in state if key.endswith("noise_strength")]:
        layer = key.removesuffix(".noise_strength")
        match = re.fullmatch(r"synthesis\.b(\d{1,4})\.conv([01])", layer)
        assert match is not None  # by the rules above
        number = 2 * (int(match[1]).bit_length() - 1) - 5 + int(match[2])
        noise = arrays.get(f"synthesis/noise{number}")
        if noise is None or noise.ndim != 4:
            raise Refused(f"it lacks the noise image {number}, or that is no image.")
        state[f"{layer}.noise_const"] = noise[0, 0]
        state[f"{layer}.resample_filter"] = kernel
        state[f"synthesis.b{match[1]}.resample_filter"] = kernel
        if f"synthesis.b{match[1]}.skip.weight" in state:
            state[f"synthesis.b{match[1]}.skip.resample_filter"] = kernel
    return state


def _discriminator(arrays: Arrays) -> dict[str, Tensor]:
    state = _renamed(arrays, _DISCRIMINATOR_RULES)
    kernel = binomial_filter()
    for key in list(state):
        match = re.fullmatch(r"(b\d+)\.(fromrgb|conv0|conv1|conv|skip)\.weight", key)
        if match:
            state[f"{match[1]}.{match[2]}.resample_filter"] = kernel
            if match[1] != "b4":
                state[f"{match[1]}.resample_filter"] = kernel
    return state
