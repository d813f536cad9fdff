"""rosinality's StyleGAN2 files: a dictionary with `g_ema`, perhaps `d` and `latent_avg`; or the bare `g_ema`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engine.checkpoints.arrays import StoredArray
from engine.checkpoints.checkpoint import Parts, Setting, is_state_dict, tensors_of
from engine.checkpoints.refusal import Refused
from engine.checkpoints.wrapping import AVERAGED, GENERATORS, Unwrapped, peeled
from engine.networks.stylegan2 import MappingNetwork, ada_state_from_rosinality

FORMAT = "rosinality StyleGAN2 file"
NOISE_SEED = 0
AVERAGED_SAMPLES = 10_000
_MARKS = {"input.input", "style.1.weight", "conv1.conv.weight", "to_rgb1.conv.weight"}
_USUAL_STEP = 0.01  # of the mapping network's layers, which this format does not tell


def matches(value: Any) -> bool:
    return isinstance(value, dict) and (_generator(value) is not None or _name(value) is not None)


def read(value: dict[str, Any]) -> Parts:
    """The generator, averaged where it is there, under StyleGAN2-ADA's names. Raises Refused where layers miss."""
    name = None if _generator(value) is not None else _name(value)
    bare = name is None
    found = _generator(value if name is None else value[name])
    assert found is not None
    state = tensors_of(found.value, name or "the file")
    notes = list(found.notes)
    if name is not None and name != "g_ema":
        notes.append(f"found under {name}")
    if name in GENERATORS and not bare:
        notes.append(f"it has no averaged generator (g_ema): {name} as it was at that step, whose pictures are rougher")
    if "noises.noise_0" not in state:
        state |= _drawn_noises(state)
        notes.append("no noises in the file: drawn from a fixed seed, so fine details differ from its training's")
    average = None if bare else value.get("latent_avg")
    renamed = _renamed(state, average)
    if average is None:
        renamed["mapping.w_avg"] = _average(renamed)
        notes.append(f"no latent_avg in the file: taken as the mean of {AVERAGED_SAMPLES:,} samples")
    if not bare and isinstance(value.get("d"), dict):
        notes.append("not used: d, whose layers differ from StyleGAN2-ADA's")
    others = [] if bare else sorted(str(key)[:40] for key in value if key not in (name, "d", "latent_avg"))
    if others:
        notes.append(f"not used: {', '.join(others[:8])}")
    stated = {"generator": {"normalization": Setting("apart", "this kind of file")}}  # there are no labels
    return Parts(FORMAT, "stylegan2", {"generator": renamed}, stated, tuple(notes))


def _generator(value: Any) -> Unwrapped | None:
    """The state dict with what its keys had in front taken off, if it is one of these generators."""
    if is_state_dict(value):
        for state, prefix in peeled(value):
            if state.keys() >= _MARKS:
                return Unwrapped(state, prefix=prefix)
    return None


def _name(value: dict[str, Any]) -> str | None:
    """Under which name the generator lies, the averaged one before others."""
    return next((name for name in (*AVERAGED, *GENERATORS) if _generator(value.get(name)) is not None), None)


def _renamed(state: Mapping[str, Tensor], average: Any) -> dict[str, Tensor]:
    if average is not None and not isinstance(average, StoredArray | Tensor):
        raise Refused("its latent_avg is no tensor.")
    try:
        return ada_state_from_rosinality(state, average.tensor() if isinstance(average, StoredArray) else average)
    except (KeyError, IndexError, RuntimeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else "a tensor has an unexpected shape"
        raise Refused(f"its g_ema is not rosinality's StyleGAN2: {reason}.") from error


def _drawn_noises(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A noise image for each layer, as files of before June 2020 lack them: 4 x 4, then two of each side."""
    layers = 1 + sum(key.startswith("convs.") and key.endswith(".conv.weight") for key in state)
    if layers > 2 * 11:  # 4 x 4 to 4,096 x 4,096
        raise Refused(f"it has {layers} layers of convolutions, more than any StyleGAN2.")
    random = torch.Generator().manual_seed(NOISE_SEED)
    sides = [4 * 2 ** ((i + 1) // 2) for i in range(layers)]
    return {f"noises.noise_{i}": torch.randn(1, 1, side, side, generator=random) for i, side in enumerate(sides)}


@torch.no_grad()
def _average(state: Mapping[str, Tensor]) -> Tensor:
    """The mean w of z ~ N(0, I), as rosinality's own `mean_latent` takes it."""
    layers = {
        key.removeprefix("mapping."): value.float() for key, value in state.items() if key.startswith("mapping.fc")
    }
    try:
        z_dim, depth = layers["fc0.weight"].shape[1], sum(key.endswith(".weight") for key in layers)
        w_dim = layers[f"fc{depth - 1}.weight"].shape[0]
        network = MappingNetwork(
            z_dim, 0, w_dim, num_ws=None, num_layers=depth, layer_features=len(layers["fc0.bias"]),
            lr_multiplier=_USUAL_STEP,
        )  # fmt: skip
        network.load_state_dict(layers)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise Refused("its g_ema is not rosinality's StyleGAN2: its style layers do not fit each other.") from error
    random = torch.Generator().manual_seed(NOISE_SEED)
    total = torch.zeros(w_dim, dtype=torch.float64)
    for _ in range(AVERAGED_SAMPLES // 1000):
        total += network.to_w(torch.randn(1000, z_dim, generator=random)).double().sum(0)
    return (total / AVERAGED_SAMPLES).to(state["mapping.fc0.weight"].dtype)
