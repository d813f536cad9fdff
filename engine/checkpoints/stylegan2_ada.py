"""StyleGAN2-ADA pickles (PyTorch): a dictionary of pickled networks, `G`, `D`, `G_ema`, with constructors' words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.checkpoints.checkpoint import Parts, Setting, tensors_of
from engine.checkpoints.modules import state_of_modules
from engine.checkpoints.pickle_machine import Node
from engine.checkpoints.refusal import Refused, printable
from engine.checkpoints.strangers import name_stranger

FORMAT = "StyleGAN2-ADA pickle"
_ACTIVATION = "lrelu"


def matches(value: Any) -> bool:
    return _is_alone(value) or (isinstance(value, dict) and isinstance(value.get("G_ema"), Node))


def _is_alone(value: Any) -> bool:
    """Whether it is a generator without its dictionary."""
    return isinstance(value, Node) and value.name == "Generator"


def read(value: dict[str, Any] | Node) -> Parts:
    """`G_ema` becomes the generator, `D` the discriminator; raises Refused for other networks than StyleGAN2's."""
    if isinstance(value, Node):
        value = {"G_ema": value}
    stranger = name_stranger(value["G_ema"]) or name_stranger(value.get("D"))
    generator = value["G_ema"] if stranger else _network(value["G_ema"], "Generator")
    networks = {"generator": tensors_of(state_of_modules(generator), "G_ema")}
    if "synthesis.b4.const" not in networks["generator"]:
        what = f"it is {stranger}, which is" if stranger else "StyleGAN3 and other successors are"
        raise Refused(f"its G_ema has not the layers of StyleGAN2; {what} not supported.")
    stated = {"generator": _generator_settings(generator)}
    if isinstance(value.get("D"), Node):
        discriminator = _network(value["D"], "Discriminator")
        networks["discriminator"] = tensors_of(state_of_modules(discriminator), "D")
        stated["discriminator"] = _discriminator_settings(discriminator)
    left_out = [name for name in ("G", "augment_pipe") if value.get(name) is not None]
    notes = (f"not used: {', '.join(left_out)}",) if left_out else ()
    return Parts(FORMAT, "stylegan2", networks, stated, notes)


def _network(node: Node, expected: str) -> Node:
    if node.name != expected:
        raise Refused(f"it holds a {printable(node.name)!r} where a StyleGAN2 {expected} should be.")
    return node


def _generator_settings(node: Node) -> dict[str, Setting]:
    words = _words(node)
    mapping, synthesis = _inner(words, "mapping_kwargs"), _inner(words, "synthesis_kwargs")
    for place in (mapping, synthesis, _inner(synthesis, "block_kwargs"), _inner(synthesis, "layer_kwargs")):
        _check_activation(place)
    stated = _found({"lr_multiplier": mapping, "conv_clamp": synthesis})
    return {**stated, "normalization": Setting("apart", "this kind of file")}


def _discriminator_settings(node: Node) -> dict[str, Setting]:
    words = _words(node)
    epilogue, mapping = _inner(words, "epilogue_kwargs"), _inner(words, "mapping_kwargs")
    for place in (mapping, epilogue, _inner(words, "block_kwargs")):
        _check_activation(place)
    return _found({"lr_multiplier": mapping, "conv_clamp": words, "mbstd_group_size": epilogue})


def _found(places: Mapping[str, Mapping[str, Any]]) -> dict[str, Setting]:
    return {name: Setting(_number(name, place[name]), "the file") for name, place in places.items() if name in place}


def _words(node: Node) -> dict[str, Any]:
    return _inner(node.state, "_init_kwargs")


def _inner(words: Mapping[str, Any], name: str) -> dict[str, Any]:
    inner = words.get(name) or {}
    if not isinstance(inner, dict):
        raise Refused(f"{name} of a network in it is no dictionary.")
    return inner


def _number(name: str, value: Any) -> float | int | None:
    if value is not None and not isinstance(value, int | float):
        raise Refused(f"{name} of a network in it is no number.")
    return value


def _check_activation(words: Mapping[str, Any]) -> None:
    activation = words.get("activation", _ACTIVATION)
    if activation != _ACTIVATION:
        shown = printable(activation) if isinstance(activation, str) else type(activation).__name__
        raise Refused(f"its network uses the activation {shown!r}; only {_ACTIVATION}, as in all released models.")
