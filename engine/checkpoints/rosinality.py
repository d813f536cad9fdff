"""rosinality's StyleGAN2 files: a dictionary with `g_ema`, perhaps `d` and `latent_avg`; or the bare `g_ema`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from engine.checkpoints.arrays import StoredArray
from engine.checkpoints.checkpoint import Parts, is_state_dict, tensors_of, without_prefix
from engine.checkpoints.refusal import Refused
from engine.networks.stylegan2 import ada_state_from_rosinality

FORMAT = "rosinality StyleGAN2 file"
_MARKS = {"input.input", "style.1.weight", "conv1.conv.weight", "to_rgb1.conv.weight"}


def matches(value: Any) -> bool:
    return isinstance(value, dict) and (_is_generator(value) or _is_generator(value.get("g_ema")))


def read(value: dict[str, Any]) -> Parts:
    """The averaged generator under StyleGAN2-ADA's names. Raises Refused for one with layers missing."""
    bare = _is_generator(value)
    state = tensors_of(without_prefix(value if bare else value["g_ema"], "module."), "g_ema")
    average = None if bare else value.get("latent_avg")
    notes = []
    if average is None:
        notes.append("no latent_avg in the file: truncation pulls towards w = 0")
    if not bare and "d" in value:
        notes.append("not used: d, whose layers differ from StyleGAN2-ADA's")
    return Parts(FORMAT, "stylegan2", {"generator": _renamed(state, average)}, notes=tuple(notes))


def _renamed(state: Mapping[str, Tensor], average: Any) -> dict[str, Tensor]:
    if average is not None and not isinstance(average, StoredArray | Tensor):
        raise Refused("its latent_avg is no tensor.")
    try:
        return ada_state_from_rosinality(state, average.tensor() if isinstance(average, StoredArray) else average)
    except (KeyError, IndexError, RuntimeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else "a tensor has an unexpected shape"
        raise Refused(f"its g_ema is not rosinality's StyleGAN2: {reason}.") from error


def _is_generator(value: Any) -> bool:
    return is_state_dict(value) and without_prefix(value, "module.").keys() >= _MARKS
