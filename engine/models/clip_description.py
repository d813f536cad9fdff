"""open_clip_config.json: what it may say, and the network and tokenizer that it describes.

open_clip itself would take its words as arguments of classes, look up models and tokenizers by their names, and hand
`tokenizer_kwargs` to a library that can run code beside the file. Here every field has its type and range, a name is
one of a list that open_clip brings itself, and a tokenizer is open_clip's own, or a tokenizer.json read as a table of
words.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.networks.tokenizer import CLEANING, TOKENIZER_FILE, open_clip_tokenizer, read_tokenizer
from engine.system.fields import (
    FieldError,
    either,
    flag,
    list_of,
    number,
    one_of,
    only,
    or_none,
    part_of,
    read_json,
    table,
    text,
    whole,
)

CONFIG_NAME = "open_clip_config.json"
MAX_CONFIG = 1 << 16  # bytes
OWN_TOWER = "gmi_mini_tower"  # of `engine.networks.mini_tower`

_SPARE = 8_000_000  # numbers that a network may have beyond its weights: position embeddings are resized
_ACTIVATION = or_none(table({"approximate": one_of(("none", "tanh"))}))
_NORM = or_none(table({"eps": number(0, 0.1, above=True)}))
_SIDE = whole(8, 1024)
_BLOCKS = {
    "block_type": or_none(one_of(("default", "custom"))),
    "qk_norm": flag,
    "scaled_cosine_attn": flag,
    "scale_heads": flag,
    "scale_attn_inner": flag,
    "scale_attn": flag,
    "scale_fc": flag,
    "mlp_ratio": number(0.1, 16),
    "ls_init_value": or_none(number(0, 10)),
    "act_kwargs": _ACTIVATION,
    "norm_kwargs": _NORM,
    "output_tokens": flag,
    "final_ln_after_pool": flag,
}
_TEXT = {
    **_BLOCKS,
    "context_length": whole(1, 1024),
    "vocab_size": whole(2, 1_000_000),
    "width": whole(1, 8192),
    "heads": whole(1, 256),
    "layers": whole(1, 128),
    "embed_cls": flag,
    "pad_id": whole(0, 1_000_000),
    "eos_id": whole(0, 1_000_000),
    "no_causal_mask": flag,
    "pool_type": one_of(("first", "last", "argmax", "eos", "none")),
    "proj_bias": flag,
    "proj_type": one_of(("linear", "none")),
}
# Said by many files; the tokenizer is still the table of words beside the file.
_TOKENIZER = {
    "hf_tokenizer_name": or_none(text(200)),
    "tokenizer_mode": or_none(only("clip")),
    "tokenizer_kwargs": or_none(table({"clean": one_of(CLEANING), "strip_sep_token": flag})),
}
_PREPROCESSING = {
    "size": either(_SIDE, list_of(_SIDE, 1, 2)),
    "mode": only("RGB"),
    "mean": list_of(number(-10, 10), 3, 3),
    "std": list_of(number(1e-3, 10), 3, 3),
    "interpolation": one_of(("bicubic", "bilinear", "random")),
    "resize_mode": one_of(("shortest", "longest", "squash")),
    "fill_color": whole(0, 255),
}
_FOREIGN_TOWER = (
    "its text tower {name} would have to be fetched and built by its name, which no file may ask for. "
    "Of such models only those that open_clip knows can be used: open_clip:ARCHITECTURE/TAG"
)


@dataclass(frozen=True)
class ClipDescription:
    """What the file says, all of it checked. model: fields of open_clip's CLIP and its parts."""

    model: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    folder: Path

    @property
    def _text(self) -> Mapping[str, Any]:
        words: Mapping[str, Any] = self.model["text_cfg"]
        return words

    def network(self, weights: Mapping[str, Tensor]) -> Any:
        """The untrained network. Raises FieldError where it is much larger than the weights that it is made for."""
        with torch.device("meta"):  # counts without taking memory
            needed = sum(tensor.numel() for tensor in self._built().parameters())
        found = sum(tensor.numel() for tensor in weights.values())
        if needed > 1.25 * found + _SPARE:
            raise FieldError(f"it describes a network of {needed:,} numbers, and the weights have {found:,}")
        return self._built()

    def _built(self) -> Any:
        import open_clip.coca_model
        import open_clip.model as clip
        from open_clip.transform import PreprocessCfg

        import engine.networks.mini_tower  # noqa: F401  (registers clip-mini's tower in timm)

        model = self.model
        words = {name: value for name, value in self._text.items() if name not in _TOKENIZER}
        vision, text = clip.CLIPVisionCfg(**model["vision_cfg"]), clip.CLIPTextCfg(**words)
        width, quick = model["embed_dim"], model.get("quick_gelu", False)
        scales = {
            "init_logit_bias": model.get("init_logit_bias"),
            "nonscalar_logit_scale": model.get("nonscalar_logit_scale", False),
        }
        if "multimodal_cfg" in model:
            decoder = open_clip.coca_model.MultimodalCfg(**model["multimodal_cfg"])
            network: Any = open_clip.coca_model.CoCa(width, decoder, text, vision, quick, **scales)
        elif model.get("custom_text", False):
            network = clip.CustomTextCLIP(width, vision, text, quick, **scales)
        else:
            network = clip.CLIP(width, vision, text, quick, **scales)
        about = {**vars(PreprocessCfg()), **self.preprocessing, "size": network.visual.image_size}
        clip.set_model_preprocess_cfg(network, about)
        return network

    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """open_clip's own; where the file names another, that of the tokenizer.json beside it. Raises FieldError."""
        words = self._text
        length, vocabulary = words.get("context_length", 77), words.get("vocab_size", 49408)
        clean = (words.get("tokenizer_kwargs") or {}).get("clean", CLEANING[0])
        named, beside = words.get("hf_tokenizer_name"), self.folder / TOKENIZER_FILE
        if not named:
            return open_clip_tokenizer(length, vocabulary, clean)
        if not beside.is_file():
            raise FieldError(
                f"it wants the tokenizer {named}, which no file may have fetched by its name. "
                f"Put the {TOKENIZER_FILE} of that tokenizer into {self.folder}"
            )
        return read_tokenizer(beside, length, vocabulary, clean)


def read_clip_description(path: Path) -> ClipDescription:
    """What an open_clip_config.json says. Raises FieldError for what it may not say, OSError if it cannot be read."""
    values = read_json(path, MAX_CONFIG)
    words = part_of({"model_cfg": part_of({"text_cfg": part_of({"hf_model_name": or_none(text(200))})})})(values, "")
    if name := words.get("model_cfg", {}).get("text_cfg", {}).get("hf_model_name"):
        raise FieldError(_FOREIGN_TOWER.format(name=name))
    checked = table(
        {"model_cfg": _model_field(), "preprocess_cfg": table(_PREPROCESSING)},
        needed=("model_cfg",),
    )(values, "")
    return ClipDescription(checked["model_cfg"], checked.get("preprocess_cfg", {}), path.parent)


@lru_cache(maxsize=1)
def _model_field() -> Callable[[Any, str], Any]:
    vision = {
        **_BLOCKS,
        "layers": either(whole(1, 128), list_of(whole(1, 64), 4, 4)),
        "width": whole(1, 8192),
        "head_width": whole(1, 1024),
        "patch_size": or_none(whole(1, 256)),
        "image_size": either(_SIDE, list_of(_SIDE, 2, 2)),
        "patch_dropout": number(0, 1),
        "attentional_pool": either(flag, one_of(("parallel", "cascade"))),
        "attn_pooler_queries": whole(1, 4096),
        "attn_pooler_heads": whole(1, 256),
        "no_ln_pre": flag,
        "pos_embed_type": one_of(("learnable", "sin_cos_2d", "none")),
        "pool_type": one_of(("tok", "avg", "none")),
        "timm_model_name": or_none(one_of(_towers())),
        "timm_model_pretrained": only(False),
        "timm_pool": one_of(("", "avg", "abs_attn", "rot_attn", "map", "token")),
        "timm_proj": or_none(one_of(("", "linear", "mlp", "none"))),
        "timm_proj_bias": flag,
        "timm_drop": number(0, 1),
        "timm_drop_path": or_none(number(0, 1)),
    }
    decoder = {**_TEXT, "dim_head": whole(1, 1024), "n_queries": whole(1, 4096), "attn_pooler_heads": whole(1, 256)}
    return table(
        {
            "embed_dim": whole(1, 8192),
            "vision_cfg": table(vision),
            "text_cfg": table({**_TEXT, **_TOKENIZER}),
            "multimodal_cfg": table(decoder),
            "custom_text": flag,
            "quick_gelu": flag,
            "init_logit_bias": or_none(number(-100, 100)),
            "nonscalar_logit_scale": flag,
        },
        needed=("embed_dim", "vision_cfg", "text_cfg"),
    )


def _towers() -> tuple[str, ...]:
    """Image towers of timm: clip-mini's, and those that configurations name that come with open_clip."""
    import open_clip

    known = (open_clip.get_model_config(name) or {} for name in open_clip.list_models())
    names = {about.get("vision_cfg", {}).get("timm_model_name") for about in known}
    return (OWN_TOWER, *sorted(name for name in names if name))
