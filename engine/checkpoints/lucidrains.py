"""lucidrains' `model_N.pt`: a dictionary with `GAN`, which holds the networks of a training under prefixes."""

from __future__ import annotations

from typing import Any

from engine.checkpoints.checkpoint import Parts, is_state_dict, tensors_of
from engine.families import find_family

FORMAT = "lucidrains StyleGAN2 file"
FAMILY = "lucidrains"
_AVERAGED = ("SE.", "GE.")


def matches(value: Any) -> bool:
    return is_state_dict(value) and find_family(FAMILY).networks["generator"].is_in(value)


def read(value: dict[str, Any]) -> Parts:
    """The averaged mapping and generator; of the rest, a note."""
    kept = {key: array for key, array in value.items() if key.startswith(_AVERAGED)}
    others = sorted({key.partition(".")[0] for key in value if not key.startswith(_AVERAGED)})
    notes = (f"not used: {', '.join(others[:8])}",) if others else ()
    return Parts(FORMAT, FAMILY, {"generator": tensors_of(kept, "GAN")}, notes=notes)
