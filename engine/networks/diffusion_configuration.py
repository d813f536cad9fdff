"""What the configuration files of a pipeline in diffusers' layout may say: exact fields, each of its type and range.

A class is never looked up by a name that a file says: PIPELINES lists which names are known, and what each part may be.
Fields that would change how a network computes, and that no pipeline here uses, may have their usual value alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.networks.denoising import SAMPLERS
from engine.system.fields import (
    Field,
    FieldError,
    anything,
    either,
    flag,
    list_of,
    number,
    one_of,
    only,
    or_none,
    shown,
    table,
    text,
    whole,
)

INDEX = "model_index.json"
MAX_CONFIGURATION = 1 << 18  # bytes

_NAME = text(300)
_WIDTH = whole(1, 8192)
_ACT = one_of(("silu", "swish", "gelu", "relu", "mish"))
_MADE_BY = {"_diffusers_version": text(40), "_name_or_path": or_none(_NAME)}
_NONE = only(None)
_OFF = only(False)
_PER_BLOCK = either(_WIDTH, list_of(_WIDTH, 1, 6))

UNET: Field = table(
    {
        **_MADE_BY,
        "_class_name": only("UNet2DConditionModel"),
        "sample_size": whole(1, 1024),
        "in_channels": whole(1, 64),
        "out_channels": whole(1, 64),
        "center_input_sample": flag,
        "flip_sin_to_cos": flag,
        "freq_shift": whole(0, 1),
        "down_block_types": list_of(one_of(("CrossAttnDownBlock2D", "DownBlock2D")), 1, 6),
        "mid_block_type": only("UNetMidBlock2DCrossAttn"),
        "up_block_types": list_of(one_of(("CrossAttnUpBlock2D", "UpBlock2D")), 1, 6),
        "only_cross_attention": either(_OFF, list_of(_OFF, 1, 6)),
        "block_out_channels": list_of(_WIDTH, 1, 6),
        "layers_per_block": either(whole(1, 8), list_of(whole(1, 8), 1, 6)),
        "downsample_padding": whole(0, 1),
        "mid_block_scale_factor": number(0.1, 10),
        "dropout": number(0, 1),
        "act_fn": _ACT,
        "norm_num_groups": whole(1, 256),
        "norm_eps": number(0, 0.1, above=True),
        "cross_attention_dim": _WIDTH,
        "transformer_layers_per_block": either(whole(0, 16), list_of(whole(0, 16), 1, 6)),
        "reverse_transformer_layers_per_block": _NONE,
        "encoder_hid_dim": _NONE,
        "encoder_hid_dim_type": _NONE,
        "attention_head_dim": _PER_BLOCK,
        "num_attention_heads": _NONE,
        "dual_cross_attention": _OFF,
        "use_linear_projection": flag,
        "class_embed_type": _NONE,
        "addition_embed_type": or_none(only("text_time")),
        "addition_time_embed_dim": or_none(_WIDTH),
        "num_class_embeds": _NONE,
        "upcast_attention": or_none(flag),
        "resnet_time_scale_shift": only("default"),
        "resnet_skip_time_act": _OFF,
        "resnet_out_scale_factor": either(only(1), only(1.0)),
        "time_embedding_type": only("positional"),
        "time_embedding_dim": _NONE,
        "time_embedding_act_fn": _NONE,
        "timestep_post_act": _NONE,
        "time_cond_proj_dim": or_none(_WIDTH),
        "conv_in_kernel": only(3),
        "conv_out_kernel": only(3),
        "projection_class_embeddings_input_dim": or_none(whole(1, 65536)),
        "attention_type": only("default"),
        "class_embeddings_concat": _OFF,
        "mid_block_only_cross_attention": or_none(_OFF),
        "cross_attention_norm": _NONE,
        "addition_embed_type_num_heads": whole(1, 256),
    },
    needed=("_class_name", "sample_size", "block_out_channels", "down_block_types", "up_block_types"),
)

VAE: Field = table(
    {
        **_MADE_BY,
        "_class_name": only("AutoencoderKL"),
        "in_channels": only(3),
        "out_channels": only(3),
        "down_block_types": list_of(only("DownEncoderBlock2D"), 1, 6),
        "up_block_types": list_of(only("UpDecoderBlock2D"), 1, 6),
        "block_out_channels": list_of(_WIDTH, 1, 6),
        "layers_per_block": whole(1, 8),
        "act_fn": _ACT,
        "latent_channels": whole(1, 64),
        "norm_num_groups": whole(1, 256),
        "sample_size": or_none(whole(1, 8192)),
        "scaling_factor": number(0, 100, above=True),
        "shift_factor": _NONE,
        "latents_mean": _NONE,
        "latents_std": _NONE,
        "force_upcast": flag,
        "use_quant_conv": only(True),
        "use_post_quant_conv": only(True),
        "mid_block_add_attention": flag,
    },
    needed=("_class_name", "block_out_channels", "down_block_types", "up_block_types"),
)

_TOKEN = or_none(whole(0, 1_000_000))
TEXT_ENCODER: Field = table(
    {
        "_name_or_path": _NAME,
        "architectures": list_of(one_of(("CLIPTextModel", "CLIPTextModelWithProjection")), 1, 1),
        "attention_dropout": number(0, 1),
        "bos_token_id": _TOKEN,
        "dropout": number(0, 1),
        "dtype": or_none(one_of(("float32", "float16", "bfloat16"))),
        "eos_token_id": _TOKEN,
        "hidden_act": one_of(("quick_gelu", "gelu")),
        "hidden_size": whole(1, 4096),
        "initializer_factor": number(0, 100),
        "initializer_range": number(0, 100),
        "intermediate_size": whole(1, 32768),
        "layer_norm_eps": number(0, 0.1, above=True),
        "max_position_embeddings": whole(2, 1024),
        "model_type": only("clip_text_model"),
        "num_attention_heads": whole(1, 64),
        "num_hidden_layers": whole(1, 64),
        "pad_token_id": _TOKEN,
        "projection_dim": whole(1, 8192),
        "torch_dtype": or_none(one_of(("float32", "float16", "bfloat16"))),
        "transformers_version": text(40),
        "vocab_size": whole(2, 1_000_000),
    },
    needed=("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size"),
)
NOT_OF_THE_NETWORK = ("architectures", "_name_or_path", "dtype", "torch_dtype", "transformers_version", "dropout")

_SCHEDULE = {
    **_MADE_BY,
    "num_train_timesteps": whole(50, 100_000),
    "beta_start": number(0, 0.5, above=True),
    "beta_end": number(0, 0.5, above=True),
    "beta_schedule": one_of(("scaled_linear", "linear")),
    "trained_betas": _NONE,
    "prediction_type": one_of(("epsilon", "v_prediction", "sample")),
    "steps_offset": whole(0, 1),
    "rescale_betas_zero_snr": _OFF,
    "timestep_spacing": text(20),
    "clip_sample": _OFF,
    "set_alpha_to_one": flag,
    # Of other schedulers, which left them there; nothing reads them.
    "skip_prk_steps": flag,
    "sample_max_value": number(0, 1000),
    "clip_sample_range": number(0, 1000),
    "dynamic_thresholding_ratio": number(0, 1),
    "thresholding": _OFF,
}
_NEEDED = ("_class_name", "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")
_EULER = {
    **_SCHEDULE,
    "_class_name": one_of([name for name, sampler in SAMPLERS.items() if sampler != "lcm"]),
    "timestep_spacing": only("trailing"),
    "interpolation_type": only("linear"),
    "timestep_type": only("discrete"),
    "use_karras_sigmas": or_none(_OFF),
    "use_exponential_sigmas": or_none(_OFF),
    "use_beta_sigmas": or_none(_OFF),
    "sigma_min": _NONE,
    "sigma_max": _NONE,
    "final_sigmas_type": only("zero"),
}
_LCM = {
    **_SCHEDULE,
    "_class_name": only("LCMScheduler"),
    "timestep_spacing": one_of(("leading", "trailing", "linspace")),  # the consistency model has times of its own
    "original_inference_steps": whole(4, 1000),
    "timestep_scaling": number(0, 1000, above=True),
}
LCM_USUAL = {"original_inference_steps": 50, "timestep_scaling": 10.0}  # which older files do not tell
_EULER_TABLE: Field = table(_EULER, needed=(*_NEEDED, "timestep_spacing"))
_LCM_TABLE: Field = table(_LCM, needed=_NEEDED)


def _schedule(value: Any, place: str) -> dict[str, Any]:
    """scheduler_config.json of a model of few steps; FieldError says what makes it one of many."""
    told = value.get("_class_name") if isinstance(value, dict) else None
    if isinstance(told, str) and told not in SAMPLERS:
        raise FieldError(
            f"it is a {shown(told)}, of models that take tens of steps; models of one to four steps come with "
            f"{', '.join(SAMPLERS)}"
        )
    if told == "LCMScheduler":
        checked: dict[str, Any] = {**LCM_USUAL, **_LCM_TABLE(value, place)}
        if checked["original_inference_steps"] > checked["num_train_timesteps"]:
            raise FieldError("original_inference_steps are more than num_train_timesteps")
        return checked
    spacing = value.get("timestep_spacing", "linspace") if isinstance(value, dict) else "trailing"
    if isinstance(spacing, str) and spacing != "trailing":
        raise FieldError(
            f"its timestep_spacing is {shown(spacing)!r}, so it is a model of tens of steps, through which no "
            "gradient fits; a distilled one such as SD-Turbo says 'trailing'"
        )
    return dict(_EULER_TABLE(value, place))


SCHEDULE: Field = _schedule

# Of each part the library and class that an index names: (unet, vae, ...). None: a part that is not used here.
_TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
_PARTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "unet": ("diffusers", ("UNet2DConditionModel",)),
    "vae": ("diffusers", ("AutoencoderKL",)),
    "text_encoder": ("transformers", ("CLIPTextModel",)),
    "tokenizer": ("transformers", _TOKENIZERS),
    "scheduler": ("diffusers", tuple(SAMPLERS)),
}
_SECOND_PARTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "text_encoder_2": ("transformers", ("CLIPTextModelWithProjection",)),
    "tokenizer_2": ("transformers", _TOKENIZERS),
}
PIPELINES: Mapping[str, Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "StableDiffusionPipeline": _PARTS,
    "StableDiffusionXLPipeline": {**_PARTS, **_SECOND_PARTS},
    "LatentConsistencyModelPipeline": _PARTS,
}
_UNUSED = ("feature_extractor", "image_encoder", "safety_checker")


def index_field(pipeline: str) -> Field:
    """model_index.json of a pipeline that PIPELINES lists."""
    parts = PIPELINES[pipeline]
    return table(
        {
            **_MADE_BY,
            "_class_name": only(pipeline),
            "force_zeros_for_empty_prompt": flag,
            "requires_safety_checker": flag,
            "add_watermarker": or_none(flag),
            **{name: _part(*of) for name, of in parts.items()},
            **{name: anything for name in _UNUSED},
        },
        needed=("_class_name", *parts),
    )


def _part(library: str, classes: tuple[str, ...]) -> Field:
    def read(value: Any, place: str) -> list[str]:
        """[library, class], of which the class is one of ours."""
        pair: list[str] = list_of(text(100), 2, 2)(value, place)
        # A scheduler that is none of ours is answered by what it says of itself.
        if pair[0] != library or (pair[1] not in classes and place != "scheduler"):
            raise FieldError(
                f"its {place} is {shown(pair[1])} of {shown(pair[0])}, expected {' or '.join(classes)} of {library}"
            )
        return pair

    return read
