"""Bare state dicts of one network (torch or safetensors): the family is told by the names of the keys."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from engine.checkpoints.checkpoint import Parts, is_state_dict, tensors_of, without_prefix
from engine.checkpoints.refusal import Refused, printable

FORMAT = "state dict"
OPEN_CLIP = "open_clip"
_WRAPPERS = ("state_dict", "model", "g_ema", "G_ema", "ema", "params_ema")

# Family, role and keys that together no other network here has.
_SIGNATURES: tuple[tuple[str, str, frozenset[str]], ...] = tuple(
    (family, role, frozenset(keys.split()))
    for family, role, keys in (
        ("biggan", "generator", "shared.weight linear.weight blocks.0.0.conv1.weight output_layer.2.weight"),
        ("biggan", "discriminator", "embed.weight linear.weight blocks.0.0.conv1.weight"),
        ("stylegan2", "generator", "mapping.fc0.weight synthesis.b4.const synthesis.b4.conv1.weight"),
        ("stylegan2", "discriminator", "b4.conv.weight b4.fc.weight b4.out.weight b8.conv0.weight"),
        ("dfgan", "generator", "fc.weight GBlocks.0.c1.weight to_rgb.1.weight"),
        ("dfgan", "discriminator", "conv_img.weight DBlocks.0.gamma"),
        ("comodgan", "generator", "G_mapping.G_mapping.Dense0.weight G_synthesis.G_4x4.ToRGB.bias"),
        ("stargan2", "generator", "from_rgb.weight to_rgb.2.weight encode.0.conv1.weight"),
        ("stargan2", "mapping_network", "shared.0.weight unshared.0.0.weight"),
        ("stargan2", "style_encoder", "shared.0.weight shared.1.conv1.weight unshared.0.weight"),
    )
)


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
    if {"blocks.input.w", "blocks.output.conv.w"} <= state.keys():
        # The first layer of the encoder looks at 7 x 7 pixels, that of the decoder at single codes.
        return "dalle_dvae", "encoder" if state["blocks.input.w"].shape[-1:] == (7,) else "decoder"
    for family, role, keys in _SIGNATURES:
        if keys <= state.keys():
            return family, role
    if "logit_scale" in state and any(key.startswith(("visual.", "image_encoder.")) for key in state):
        return OPEN_CLIP, "model"
    some = ", ".join(printable(key, 40) for key in list(state)[:3])
    raise Refused(f"its {len(state):,} tensors belong to no network that is known here; its first keys: {some}.")
