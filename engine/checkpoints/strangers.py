"""Models that people have and nothing here draws with, told by the names of their weights: a refusal can say so."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor

from engine.checkpoints.arrays import StoredArray
from engine.checkpoints.modules import is_module, state_of_modules
from engine.families import FAMILIES

MAX_KEYS = 5_000  # looked at
_DEPTH = 4


@dataclass(frozen=True)
class Stranger:
    """A kind of file. marks: patterns, each of which some key must begin with."""

    what: str
    marks: tuple[str, ...]


_LAYER3 = r"(.*\.)?synthesis\.L\d+_\d+_\d+\."
# The first whose marks are all there: the particular before the general.
STRANGERS = (
    Stranger("a StyleGAN-XL", (_LAYER3, r"(.*\.)?mapping\.embed_proj\.")),
    Stranger("a StyleGAN3", (_LAYER3,)),
    Stranger("a projected GAN (FastGAN)", (r"(.*\.)?feat_\d+\.", r"(.*\.)?(init\.|se_\d+|to_big)")),
    Stranger("a projected GAN's discriminator", (r"(.*\.)?feature_network\.pretrained\.",)),
    Stranger("a GigaGAN", (r"(.*\.)?style_network\.", r"(.*\.)?(text_encoder|init_block|init_conv|layers)\.")),
    Stranger(
        "a StyleGAN2 of lucidrains' stylegan2-pytorch (model_N.pt) without its averaged networks or of another version",
        (r"(.*\.)?S[E]?\.net\.\d+\.", r"(.*\.)?G[E]?\.blocks\.\d+\.to_style1\."),
    ),
    Stranger(
        "a LoRA: changes to the weights of another model, which is not in it",
        (r".*(lora_up|lora_down|lora_A|lora_B|lora\.up|lora\.down|hada_w1_a|lokr_w1)\b",),
    ),
    Stranger("a ControlNet", (r"(.*\.)?(control_model|controlnet_cond_embedding)\.",)),
    Stranger("a Stable Diffusion checkpoint", (r"(.*\.)?model\.diffusion_model\.",)),
    Stranger("a U-Net of diffusers", (r"(.*\.)?down_blocks\.\d+\.resnets\.", r"(.*\.)?time_embedding\.")),
    Stranger("an autoencoder of diffusers", (r"(.*\.)?encoder\.down_blocks\.", r"(.*\.)?decoder\.up_blocks\.")),
    Stranger(
        "a diffusion transformer",
        (r"(.*\.)?(transformer_blocks|double_blocks|joint_blocks)\.\d+\.", r"(.*\.)?(proj_out|final_layer)\."),
    ),
    Stranger("a textual inversion: words for another model, which is not in it", (r"string_to_param|emb_params",)),
    Stranger(
        "a language model", (r"(.*\.)?(lm_head|embed_tokens|wte)\.weight", r"(.*\.)?(layers|h|blocks)\.\d+\."),
    ),
    Stranger("an ESRGAN, which enlarges pictures", (r"(.*\.)?(RRDB_trunk|body)\.\d+\.(RDB1|rdb1)\.",)),
    Stranger("a StyleGAN (1)", (r"(.*\.)?(g_mapping|g_synthesis)\.",)),
)  # fmt: skip


def name_stranger(value: Any) -> str:
    """What a file's content is, in words, if it is a kind that is known to exist; else empty."""
    keys = list(islice(_keys(value, "", _DEPTH), MAX_KEYS))
    for stranger in STRANGERS:
        if all(any(re.match(mark, key) for key in keys) for mark in stranger.marks):
            return stranger.what
    return ""


def not_supported(what: str) -> str:
    """The reason of a refusal."""
    known = (f"{one.label} (a folder with {one.index})" if one.index else one.label for one in FAMILIES.values())
    return f"it is {what}; that is not supported here. These are: {', '.join(known)}."


def _keys(value: Any, prefix: str, depth: int) -> Iterable[str]:
    """The names of a content's arrays, and of the dictionaries around them."""
    if is_module(value):
        value = state_of_modules(value)
    if not isinstance(value, dict) or depth == 0:
        return
    for key, inner in value.items():
        if isinstance(key, str) and len(key) < 500:
            yield prefix + key
            if not isinstance(inner, StoredArray | Tensor):
                yield from _keys(inner, f"{prefix}{key}.", depth - 1)
