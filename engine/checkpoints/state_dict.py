"""Bare state dicts of one network (torch or safetensors): the family is told by the names of the keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.checkpoints.checkpoint import Parts, is_state_dict, tensors_of
from engine.checkpoints.refusal import Refused, printable
from engine.families import FAMILIES

FORMAT = "state dict"
OPEN_CLIP = "open_clip"


def matches(value: Any) -> bool:
    return is_state_dict(value) and family_of(value) is not None


def read(value: dict[str, Any]) -> Parts:
    """One network of the family that its keys tell. Raises Refused for keys of no known network."""
    state = tensors_of(value, "the file")
    found = family_of(state)
    if found is None:
        some = ", ".join(printable(key, 40) for key in list(state)[:3])
        raise Refused(f"its {len(state):,} tensors belong to no network that is known here; its first keys: {some}.")
    family, role = found
    form = f"{OPEN_CLIP} checkpoint" if family == OPEN_CLIP else FORMAT
    return Parts(form, family, {role: state})


def family_of(state: Mapping[str, Any]) -> tuple[str, str] | None:
    """The family and role that the keys of a state dict, and the shapes of its tensors, tell."""
    for family in FAMILIES.values():
        for role, network in family.networks.items():
            if network.is_in(state):
                return family.name, role
    if "logit_scale" in state and any(key.startswith(("visual.", "image_encoder.")) for key in state):
        return OPEN_CLIP, "model"
    return None
