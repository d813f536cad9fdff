"""Bare state dicts of one network (torch or safetensors): the family is told by the names of the keys."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from engine.checkpoints.checkpoint import Parts, is_state_dict, tensors_of, without_prefix
from engine.checkpoints.refusal import Refused, printable
from engine.families import FAMILIES

FORMAT = "state dict"
OPEN_CLIP = "open_clip"
_WRAPPERS = ("state_dict", "model", "g_ema", "G_ema", "ema", "params_ema")


def matches(value: Any) -> bool:
    return _inner(value) is not None


def read(value: dict[str, Any]) -> Parts:
    """One network of the family that its keys tell. Raises Refused for keys of no known network."""
    inner = _inner(value)
    if inner is None:
        raise Refused("it holds no state dict.")
    state = tensors_of(without_prefix(inner, "module."), "the file")
    family, role = _family(state)
    left_out = [] if inner is value else sorted(str(key)[:40] for key, entry in value.items() if entry is not inner)
    notes = (f"not used: {', '.join(left_out[:8])}",) if left_out else ()
    form = f"{OPEN_CLIP} checkpoint" if family == OPEN_CLIP else FORMAT
    return Parts(form, family, {role: state}, notes=notes)


def _inner(value: Any) -> dict[str, Any] | None:
    """The state dict itself, or the one below one of the usual names."""
    if is_state_dict(value):
        found: dict[str, Any] = value
        return found
    if isinstance(value, dict):
        for name in _WRAPPERS:
            if is_state_dict(value.get(name)):
                wrapped: dict[str, Any] = value[name]
                return wrapped
    return None


def _family(state: dict[str, Tensor]) -> tuple[str, str]:
    for family in FAMILIES.values():
        for role, network in family.networks.items():
            if network.is_in(state):
                return family.name, role
    if "logit_scale" in state and any(key.startswith(("visual.", "image_encoder.")) for key in state):
        return OPEN_CLIP, "model"
    some = ", ".join(printable(key, 40) for key in list(state)[:3])
    raise Refused(f"its {len(state):,} tensors belong to no network that is known here; its first keys: {some}.")
