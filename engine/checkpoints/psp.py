"""Files of pSp and e4e: a rosinality StyleGAN2 under `decoder.`, an encoder of pictures to its w under `encoder.`.

Beside them lie `latent_avg`, around which the encoder's w are, and `opts`, the training's options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from engine.checkpoints import rosinality
from engine.checkpoints.arrays import StoredArray
from engine.checkpoints.checkpoint import Parts, Setting, tensors_of
from engine.checkpoints.pickle_machine import Node
from engine.checkpoints.refusal import Refused, printable
from engine.checkpoints.wrapping import without_wrappers

FORMAT = "file of a StyleGAN2 with encoder (pSp, e4e)"
PYRAMIDS = ("Encoder4Editing", "GradualStyleEncoder")  # equal in all but their arithmetic, which `opts` tells
CARS = "cars_encode"  # the one training whose pictures are no squares
_DECODER = "decoder.conv1.conv.weight"
_ENCODER = "encoder."
_BODY = "input_layer.0.weight"
_OWN = ("state_dict", "latent_avg", "opts")


def matches(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    keys = _weights(value).keys()
    return _DECODER in keys and any(key.startswith(_ENCODER) for key in keys)


def read(value: dict[str, Any]) -> Parts:
    """The generator under StyleGAN2-ADA's names, and the encoder with `latent_avg` where its w are around that.

    An encoder that reads something else than pictures, or that is no IR-SE-50, is left out, which a note says. Raises
    Refused for what is no such generator.
    """
    weights, opts = _weights(value), _options(value)
    average = _average(value)
    decoder = {"g_ema": _part(weights, "decoder."), "latent_avg": None if average is None else _row(average)}
    parts = rosinality.read(decoder)
    networks, notes = dict(parts.networks), [note.replace("g_ema", "decoder") for note in parts.notes]
    encoder = tensors_of(_part(weights, _ENCODER), "encoder")
    kind = opts.get("encoder_type")
    stated = dict(parts.stated)
    if why := _why_unused(encoder):
        named = f" ({printable(kind, 40)})" if isinstance(kind, str) else ""
        notes.append(f"opened without its encoder{named}, which {why}: pictures are searched as without one")
    else:
        if opts.get("start_from_latent_avg", True) is not False:
            encoder["latent_avg"] = networks["generator"]["mapping.w_avg"][None] if average is None else average
        networks["encoder"] = encoder
        stated["encoder"] = _stated(opts)
    notes += _left_out(value, weights)
    return Parts(FORMAT, "stylegan2", networks, stated, tuple(notes))


def _stated(opts: Mapping[str, Any]) -> dict[str, Setting]:
    """What the training's options tell of the encoder."""
    told = {"encoder_type": opts["encoder_type"]} if opts.get("encoder_type") in PYRAMIDS else {}
    if opts.get("dataset_type") == CARS:
        told["encoder_view"] = "wide"
    return {name: Setting(value, "the file's opts") for name, value in told.items()}


def _why_unused(encoder: Mapping[str, Tensor]) -> str:
    if _BODY not in encoder or "body.0.res_layer.5.fc1.weight" not in encoder:
        return "is no IR-SE-50, the only kind that is known here"
    if encoder[_BODY].ndim == 4 and (channels := encoder[_BODY].shape[1]) != 3:
        return f"reads {channels} channels (a drawing, a map of labels, or a picture beside a guess), not a picture's 3"
    return ""


def _weights(value: dict[str, Any]) -> dict[str, Any]:
    """The arrays, which lie in `state_dict` or beside the rest."""
    inner = value.get("state_dict", value)
    if not isinstance(inner, dict):
        return {}
    arrays = {k: v for k, v in inner.items() if isinstance(k, str) and isinstance(v, StoredArray | Tensor)}
    return without_wrappers(arrays)


def _part(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): array for key, array in weights.items() if key.startswith(prefix)}


def _options(value: dict[str, Any]) -> Mapping[str, Any]:
    """The training's options, a dictionary or what argparse makes."""
    opts = value.get("opts")
    found = opts.state if isinstance(opts, Node) else opts
    return found if isinstance(found, dict) else {}


def _average(value: dict[str, Any]) -> Tensor | None:
    """[L or 1, w_dim]. Raises Refused for what is no such tensor."""
    found = value.get("latent_avg")
    if found is None:
        return None
    if not isinstance(found, StoredArray | Tensor) or len(found.shape) not in (1, 2) or 0 in found.shape:
        raise Refused("its latent_avg is no w, nor one for each layer.")
    average = found.tensor() if isinstance(found, StoredArray) else found
    return average if average.ndim == 2 else average[None]


def _row(average: Tensor) -> Tensor:
    """The mean w, of one that is told for each layer."""
    return average[0] if (average == average[0]).all() else average.mean(0)


def _left_out(value: dict[str, Any], weights: Mapping[str, Any]) -> list[str]:
    """Whatever else a training's file holds, and weights of neither part."""
    others = {key.partition(".")[0] for key in weights if not key.startswith(("decoder.", _ENCODER))}
    if "state_dict" in value:
        others |= {key for key in value if isinstance(key, str)}
    names = sorted(printable(name, 40) for name in others - set(_OWN))
    return [f"not used: {', '.join(names[:8])}"] if names else []
