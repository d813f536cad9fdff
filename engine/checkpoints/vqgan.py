"""VQGAN checkpoints of taming-transformers: Lightning's dictionary with `state_dict`, and a yaml beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from engine.checkpoints.checkpoint import Parts, Setting, is_state_dict, tensors_of
from engine.checkpoints.refusal import Refused, checked
from engine.system.fields import FieldError, or_none, part_of, read_bytes, whole

FORMAT = "VQGAN checkpoint"
MAX_YAML = 1 << 14
_MARKS = {"decoder.conv_in.weight", "post_quant_conv.weight"}
_DROPPED = ("loss.",)  # the discriminator and LPIPS of the training


class _PlainLoader(yaml.SafeLoader):
    """Plain values only: no aliases, which would fill the memory from a few lines, and no tags, which name classes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        if getattr(self.peek_event(), "tag", None) is not None:
            raise yaml.YAMLError("tags are not read")
        return super().compose_node(parent, index)


_SIZE = whole(1, 1 << 20)
# Of a training's settings; the classes that they name, and everything else, are not read.
_DETAILS = {"z_channels": _SIZE, "out_ch": _SIZE, "resolution": or_none(whole(1, 1 << 14))}
_WORDS = {"ddconfig": part_of(_DETAILS), "n_embed": _SIZE}
_PARAMS = {**_WORDS, "params": part_of(_WORDS)}
_DESCRIPTION = part_of({**_PARAMS, "model": part_of(_PARAMS)})


def matches(value: Any) -> bool:
    return _is_model(value) or (isinstance(value, dict) and _is_model(value.get("state_dict")))


def read(value: dict[str, Any]) -> Parts:
    """The autoencoder without the training's loss."""
    bare = _is_model(value)
    everything = tensors_of(value if bare else value["state_dict"], "state_dict")
    state = {key: tensor for key, tensor in everything.items() if not key.startswith(_DROPPED)}
    notes = [] if len(state) == len(everything) else [f"not used: loss.* ({len(everything) - len(state)} tensors)"]
    return Parts(FORMAT, "vqgan", {"autoencoder": state}, notes=tuple(notes))


def read_description(path: Path) -> dict[str, Any]:
    """The content of a yaml file. Raises Refused for anything but plain values."""
    try:
        value = yaml.load(read_bytes(path, MAX_YAML).decode("utf-8"), Loader=_PlainLoader)
    except FieldError as error:
        raise Refused(f"{error}.", file=path.name) from error
    except (OSError, yaml.YAMLError, RecursionError, ValueError, ArithmeticError, LookupError, TypeError) as error:
        raise Refused("it is no readable yaml of plain values.", file=path.name) from error
    if not isinstance(value, dict):
        raise Refused("it is no description of a VQGAN.", file=path.name)
    return value


def _is_model(value: Any) -> bool:
    return is_state_dict(value) and value.keys() >= _MARKS


def settings_of(state: Mapping[str, Tensor], description: Mapping[str, Any]) -> dict[str, Setting]:
    """The picture's side, the only thing that the shapes do not tell, from the yaml's content.

    Raises Refused for another model's yaml: where it and the shapes tell the same, they must agree.
    """
    description = checked(_DESCRIPTION, description, "yaml")
    words = _path(description, "model", "params") or _path(description, "params") or description
    details = _path(words, "ddconfig")
    if details is None:
        raise Refused("its yaml holds no ddconfig, so it describes no VQGAN.")
    expected = {
        "z_channels": _axis(state, "decoder.conv_in.weight", 1),
        "out_ch": _axis(state, "decoder.conv_out.weight", 0),
    }
    for name, found in expected.items():
        if name in details and details[name] != found:
            raise Refused(f"its yaml says {name} {str(details[name])[:20]}, the weights have {found}: another model's.")
    codes = _axis(state, "quantize.embedding.weight", 0) or _axis(state, "quantize.embed.weight", 0)
    if "n_embed" in words and words["n_embed"] != codes:
        raise Refused(f"its yaml says n_embed {str(words['n_embed'])[:20]}, the weights have {codes}: another model's.")
    resolution = details.get("resolution")
    return {} if resolution is None else {"resolution": Setting(resolution, "the yaml")}


def _axis(state: Mapping[str, Tensor], key: str, axis: int) -> int | None:
    return state[key].shape[axis] if key in state and state[key].ndim > axis else None


def _path(values: Any, *names: str) -> Any:
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else None
