"""How much memory models may keep, and about how much a run takes. Needs no torch."""

from __future__ import annotations

from engine.families import find_family
from engine.system.memory import total_memory

SHARE = 0.5  # of the machine's memory that loaded models may keep; runs, pages and other programs need the rest
SMALLEST_BUDGET = 512 << 20
PER_WEIGHT_BYTE = 1.5
PROGRAM_BYTES = 400 << 20  # of torch, open_clip and a small prompt model


def default_budget() -> int:
    """Bytes that loaded models may keep, if nobody says otherwise: half of the memory."""
    return max(int(total_memory() * SHARE), SMALLEST_BUDGET)


def run_bytes(family: str, resolution: int, weights: int, n: int) -> int:
    """About how many bytes a run of n pictures needs in all, the model's weights included.

    What a picture takes beyond the weights, at its peak, are the activations that the backward passes of a frozen
    generator and its discriminator need: it grows with the pixels and, for features that do not, with the weights.
    A family that was not measured has a cautious figure; `python -m experiments.memory_benchmark` measures any model.
    """
    pixels = resolution**2 * find_family(family).bytes_per_pixel
    return PROGRAM_BYTES + weights + int(n * (pixels + PER_WEIGHT_BYTE * weights))
