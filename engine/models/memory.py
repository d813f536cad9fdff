"""How much memory models may keep, and about how much a run takes. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable

from engine.families import find_family
from engine.settings import LIMITS, SettingsError
from engine.system.memory import free_memory, total_memory

SHARE = 0.5  # of the machine's memory that loaded models may keep; runs, pages and other programs need the rest
SMALLEST_BUDGET = 512 << 20
PER_WEIGHT_BYTE = 1.5
PROGRAM_BYTES = 400 << 20  # of torch, open_clip and a small prompt model


def default_budget() -> int:
    """Bytes that loaded models may keep, if nobody says otherwise: half of the memory."""
    return max(int(total_memory() * SHARE), SMALLEST_BUDGET)


def run_bytes(family: str, resolution: int, weights: int, n: int) -> int:
    """About how many bytes a run of n pictures needs in all, the model's weights included.

    Of diffusion models with one denoising step.

    What a picture takes beyond the weights, at its peak, are the activations that the backward passes of a frozen
    generator and its discriminator need: it grows with the pixels and, for features that do not, with the weights.
    A family that was not measured has a cautious figure; `python -m experiments.memory_benchmark` measures any model.
    """
    if (beyond := find_family(family).bytes_beyond) is not None:
        return PROGRAM_BYTES + weights + beyond(resolution**2, n, 1)
    pixels = resolution**2 * find_family(family).bytes_per_pixel
    return PROGRAM_BYTES + weights + int(n * (pixels + PER_WEIGHT_BYTE * weights))


def free_bytes(device: object = "cpu") -> int:
    """What is free of the memory that a run on that device takes: the machine's, or the GPU's with what torch keeps."""
    if not str(device).startswith("cuda"):
        return free_memory()
    import torch

    place = torch.device(str(device))
    return int(
        torch.cuda.mem_get_info(place)[0] + torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
    )


def check_fits(family: str, width: int, height: int, n: int, steps: int, free: Callable[[], int]) -> None:
    """Raises SettingsError for a run of a loaded model that takes more than is free, naming the n that fits.

    Of families that foretell what a run takes beyond the weights. width, height: of its pictures; steps: of denoising;
    free: asked for how many bytes there are.
    """
    beyond = find_family(family).bytes_beyond
    if beyond is None:
        return
    room, pixels = free(), width * height
    needed = beyond(pixels, n, steps)
    if needed <= room:
        return
    fitting = max((k for k in range(1, int(LIMITS["n"][1]) + 1) if beyond(pixels, k, steps) <= room), default=0)
    one = f"{width} x {height} pixels" + (f" in {steps} steps" if steps > 1 else "")
    told = f"{n} of {one} take about {_gigabytes(needed)} beside the model, and {_gigabytes(room)} are free"
    if fitting:
        raise SettingsError(f"n: {told}. Choose {fitting}, smaller pictures, or end other programs.")
    fewer = " or fewer denoising steps" if steps > 1 else ""
    raise SettingsError(
        f"n: {told}; not even one fits. Choose a smaller width and height{fewer}, or end other programs."
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
