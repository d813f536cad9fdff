"""DF-GAN files: a dictionary with `model`, which holds `netG` and perhaps `netD` and `netC`."""

from __future__ import annotations

from typing import Any

from engine.checkpoints.checkpoint import Parts, is_state_dict, tensors_of
from engine.checkpoints.wrapping import without_wrappers

FORMAT = "DF-GAN file"
_ROLES = {"netG": "generator", "netD": "discriminator", "netC": "conditional_discriminator"}
_MARKS = {"fc.weight", "GBlocks.0.c1.weight"}


def matches(value: Any) -> bool:
    model = value.get("model") if isinstance(value, dict) else None
    if not isinstance(model, dict) or not is_state_dict(model.get("netG")):
        return False
    return without_wrappers(model["netG"]).keys() >= _MARKS


def read(value: dict[str, Any]) -> Parts:
    """The networks by role."""
    model = value["model"]
    networks = {
        role: tensors_of(without_wrappers(model[name]), name)
        for name, role in _ROLES.items()
        if is_state_dict(model.get(name))
    }
    return Parts(FORMAT, "dfgan", networks)
