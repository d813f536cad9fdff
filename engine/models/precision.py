"""In which numbers networks compute: float32 on the CPU, half of that on a GPU that is made for it.

Weights, latents and the flow's own arithmetic stay in float32; only what a generator draws and what an image tower
sees runs lowered, by torch's autocast, gradients included. bfloat16 has float32's range and is taken wherever the GPU
has it. float16 has not: features beyond 65,504 overflow, which happens in generators (StyleGAN2's authors clamp
theirs for it) but not in the normalised towers of prompt models.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def generator_dtype(device: torch.device | str, *, has_bfloat16: bool | None = None) -> torch.dtype:
    """What a generator on that device draws in. has_bfloat16: of the GPU; asked of torch where not given."""
    if torch.device(device).type != "cuda":
        return torch.float32
    return torch.bfloat16 if _has_bfloat16(has_bfloat16) else torch.float32


def prompt_model_dtype(device: torch.device | str, *, has_bfloat16: bool | None = None) -> torch.dtype:
    """What a prompt model on that device looks at pictures in."""
    if torch.device(device).type != "cuda":
        return torch.float32
    return torch.bfloat16 if _has_bfloat16(has_bfloat16) else torch.float16


def lowered(device: torch.device | str, dtype: torch.dtype) -> AbstractContextManager[object]:
    """While it is entered, products and convolutions run in `dtype`; nothing changes for float32."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype)


def _has_bfloat16(told: bool | None) -> bool:
    # Without emulation: older GPUs compute it slower than float32.
    return torch.cuda.is_bf16_supported(including_emulation=False) if told is None else told
