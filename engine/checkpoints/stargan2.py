"""StarGAN v2's `*_nets_ema.ckpt`: a dictionary of state dicts, one for each network."""

from __future__ import annotations

from typing import Any

from engine.checkpoints.checkpoint import Parts, is_state_dict, tensors_of
from engine.checkpoints.wrapping import without_wrappers

FORMAT = "StarGAN v2 file"
_ROLES = ("generator", "mapping_network", "style_encoder", "discriminator", "fan")
_NEEDED = _ROLES[:3]


def matches(value: Any) -> bool:
    return isinstance(value, dict) and all(is_state_dict(value.get(role)) for role in _NEEDED)


def read(value: dict[str, Any]) -> Parts:
    """All networks; `fan`, which sees where the parts of a face are, is in files of the high-pass variant alone."""
    networks = {
        role: tensors_of(without_wrappers(value[role]), role) for role in _ROLES if is_state_dict(value.get(role))
    }
    left_out = sorted(str(key)[:40] for key in value if key not in _ROLES)
    notes = (f"not used: {', '.join(left_out)}",) if left_out else ()
    return Parts(FORMAT, "stargan2", networks, notes=notes)
