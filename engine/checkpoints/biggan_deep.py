"""BigGAN-deep as Hugging Face's port keeps it: a state dict, and a config.json in the same folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from engine.checkpoints.checkpoint import Parts, Setting, is_state_dict, tensors_of
from engine.checkpoints.refusal import Refused, checked
from engine.system.fields import either, flag, list_of, number, part_of, whole

FORMAT = "BigGAN-deep state dict"
# Of what Hugging Face's port writes; other fields are not read.
_CONFIG = part_of(
    {
        "class_embed_dim": whole(1, 1 << 16),
        "num_classes": whole(1, 1 << 20),
        "z_dim": whole(1, 1 << 16),
        "layers": list_of(list_of(either(flag, whole(1, 1 << 16)), 1, 3), 0, 63),
        "eps": number(0, 1, above=True),
    }
)
_MARKS = {"embeddings.weight", "generator.gen_z.weight_orig", "generator.conv_to_rgb.weight_orig"}


def matches(value: Any) -> bool:
    return is_state_dict(value) and value.keys() >= _MARKS


def read(value: dict[str, Any]) -> Parts:
    """The generator."""
    state = tensors_of(value, "the file")
    guess = _guessed_up(state)
    settings = {} if guess is None else {"up": Setting(guess, "guessed from the widths")}
    return Parts(FORMAT, "biggan_deep", {"generator": state}, {"generator": settings})


def settings_of(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Setting]:
    """`up`, the blocks that double the side, and `eps`, from the config.json's content.

    Raises Refused for the config of another model: where it and the shapes tell the same, they must agree.
    """
    if state["embeddings.weight"].ndim != 2 or state["generator.gen_z.weight_orig"].ndim != 2:
        raise Refused("its embeddings or its first layer are no matrices.")
    config = checked(_CONFIG, config, "config.json")
    class_dim, classes = state["embeddings.weight"].shape
    expected = {
        "class_embed_dim": class_dim,
        "num_classes": classes,
        "z_dim": state["generator.gen_z.weight_orig"].shape[1] - class_dim,
    }
    for name, found in expected.items():
        if name in config and config[name] != found:
            raise Refused(
                f"its config.json says {name} {str(config[name])[:20]}, the weights have {found}: another model's."
            )
    settings = {}
    if "layers" in config:
        settings["up"] = Setting(_up(config["layers"]), "its config.json")
    if "eps" in config:
        settings["eps"] = Setting(config["eps"], "its config.json")
    return settings


def _guessed_up(state: Mapping[str, Tensor]) -> list[bool] | None:
    """Where a block changes the width that the usual pattern (every second block doubles) would not double: all such.

    None where the usual pattern fits, as in all released generators. Each block that narrows also doubles.
    """
    narrows = []
    for i in range(len(state)):
        means, last = (state.get(f"generator.layers.{i}.{key}") for key in ("bn_0.running_means", "conv_3.weight_orig"))
        if means is not None and last is not None and means.ndim == 2 and last.ndim == 4:
            narrows.append(means.shape[1] != last.shape[0])
    fits = all(i % 2 == 1 for i, narrow in enumerate(narrows) if narrow)
    return None if fits else narrows


def _up(layers: list[list[Any]]) -> list[bool]:
    """The first entries of `layers`: [doubles the side, in, out] each."""
    if not all(isinstance(layer[0], bool) for layer in layers):
        raise Refused("the layers of its config.json are no list of [true or false, number, number].")
    return [layer[0] for layer in layers]
