"""Networks from opened checkpoints: built from shapes and settings, then given the checkpoint's own tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from engine.checkpoints.checkpoint import Checkpoint, State
from engine.errors import ModelError
from engine.networks import biggan, biggan_deep, comodgan, dalle_dvae, dfgan, stargan2, stylegan2, vqgan

_Build = Callable[..., nn.Module]


class Undrawn(TorchFunctionMode):
    """Leaves initial weights undrawn: they would cost seconds and move torch's global random state.

    The meta device would spare even the memory, but its first use imports torch's compiler, which takes longer.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))


def _vqgan(state: State, *, resolution: int) -> nn.Module:
    """The side of the training's pictures is for those who draw latents; the network takes any."""
    return vqgan.vqgan_from_shapes(state)


BUILDERS: Mapping[tuple[str, str], _Build] = {
    ("stylegan2", "generator"): stylegan2.generator_from_shapes,
    ("stylegan2", "discriminator"): stylegan2.discriminator_from_shapes,
    ("biggan", "generator"): biggan.generator_from_shapes,
    ("biggan", "discriminator"): biggan.discriminator_from_shapes,
    ("biggan_deep", "generator"): biggan_deep.generator_from_shapes,
    ("dalle_dvae", "encoder"): dalle_dvae.encoder_from_shapes,
    ("dalle_dvae", "decoder"): dalle_dvae.decoder_from_shapes,
    ("vqgan", "autoencoder"): _vqgan,
    ("stargan2", "generator"): stargan2.generator_from_shapes,
    ("stargan2", "mapping_network"): stargan2.mapping_network_from_shapes,
    ("stargan2", "style_encoder"): stargan2.style_encoder_from_shapes,
    ("stargan2", "discriminator"): stargan2.discriminator_from_shapes,
    ("dfgan", "generator"): dfgan.generator_from_shapes,
    ("comodgan", "generator"): comodgan.generator_from_shapes,
}


def build(checkpoint: Checkpoint, role: str, *, device: torch.device | str = "cpu") -> nn.Module:
    """The network of that role, frozen, in float32. Raises ModelError where weights and network do not fit.

    On the CPU its weights are those of the checkpoint, mapped from the cache and not copied where they are float32.
    """
    name = checkpoint.provenance.path.name
    if role not in checkpoint.networks:
        raise ModelError(f"{name} holds no {role}; it holds {', '.join(checkpoint.networks)}.")
    builder = BUILDERS.get((checkpoint.family, role))
    if builder is None:
        raise ModelError(f"{name}: there is no network for the {role} of a {checkpoint.family} yet.")
    state = {k: v.float() if v.is_floating_point() else v for k, v in checkpoint.networks[role].items()}
    words: dict[str, Any] = {key: setting.value for key, setting in checkpoint.configuration[role].items()}
    try:
        with Undrawn():
            network = builder(state, **words)
        network.load_state_dict(state, assign=True)
    except (ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{name} does not hold a {checkpoint.family} {role}: {reason}") from error
    return network.to(device).eval().requires_grad_(False)
