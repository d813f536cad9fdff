"""Tiny pipelines in diffusers' layout, made by diffusers itself: small configurations, random weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

WORDS = ("a", "an", "the", "red", "blue", "green", "hat", "dog", "cat", "house", "picture", "of", "on", "with")
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {**BETAS, "timestep_spacing": "trailing"}),
    "ancestral": ("EulerAncestralDiscreteScheduler", {**BETAS, "timestep_spacing": "trailing"}),
    "lcm": ("LCMScheduler", {}),
}
ALONE = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def libraries() -> tuple[Any, Any]:
    """diffusers and transformers; skips the test where one is missing."""
    reason = "needs diffusers and transformers: pip install -r requirements-diffusion.txt"
    return pytest.importorskip("diffusers", reason=reason), pytest.importorskip("transformers", reason=reason)


def word_table() -> tuple[dict[str, int], list[str]]:
    """A vocabulary of bytes and a few words, and the merges that make those, as CLIP writes them."""
    from open_clip.tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    words = dict.fromkeys([*letters, *(letter + "</w>" for letter in letters)])
    merges: dict[str, None] = {}
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:  # from the left: r e d</w> -> re d</w> -> red</w>
            merges[f"{parts[0]} {parts[1]}"] = None
            parts = [parts[0] + parts[1], *parts[2:]]
            words[parts[0]] = None
    words |= {"<|startoftext|>": None, "<|endoftext|>": None}
    return {word: number for number, word in enumerate(words)}, list(merges)


def tokenizer(pad: str = "<|endoftext|>") -> Any:
    _, transformers = libraries()
    words, merges = word_table()
    pairs = [tuple(merge.split(" ")) for merge in merges]
    return transformers.CLIPTokenizer(vocab=words, merges=pairs, pad_token=pad, model_max_length=77)


def text_encoder(width: int, *, projected: bool = False, act: str = "quick_gelu") -> Any:
    _, transformers = libraries()
    words, _ = word_table()
    config = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=3,
        num_attention_heads=2,
        hidden_act=act,
        bos_token_id=words["<|startoftext|>"],
        eos_token_id=words["<|endoftext|>"],
        pad_token_id=words["<|endoftext|>"],
    )
    made = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return made(config).eval()


def unet(context: int, **more: Any) -> Any:
    diffusers, _ = libraries()
    return diffusers.UNet2DConditionModel(
        **{
            "sample_size": 8,
            "block_out_channels": (8, 16),
            "layers_per_block": 1,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "cross_attention_dim": context,
            "attention_head_dim": 2,
            "norm_num_groups": 4,
        }
        | more
    ).eval()


def vae(scaling_factor: float = 0.18215) -> Any:
    diffusers, _ = libraries()
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=scaling_factor,
    ).eval()


def scheduler(name: str, **more: Any) -> Any:
    diffusers, _ = libraries()
    kind, fields = SCHEDULERS[name]
    return getattr(diffusers, kind)(**{**fields, **more})


def tiny_pipeline(name: str, **schedule: Any) -> Any:
    """ "sd" and "ancestral" (SD-Turbo's class), "sdxl", "lcm" (guidance embedded), "sd-lcm"; weights of seed 0."""
    diffusers, _ = libraries()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "sdxl":
            made = diffusers.StableDiffusionXLPipeline(
                vae=vae(0.13025),
                text_encoder=text_encoder(8),
                text_encoder_2=text_encoder(12, projected=True, act="gelu"),
                tokenizer=tokenizer(),
                tokenizer_2=tokenizer("!"),
                unet=unet(
                    20,
                    addition_embed_type="text_time",
                    addition_time_embed_dim=4,
                    projection_class_embeddings_input_dim=6 * 4 + 12,
                    transformer_layers_per_block=(1, 1),
                    use_linear_projection=True,
                ),
                scheduler=scheduler("ancestral", **schedule),
                add_watermarker=False,
            )
        elif name == "lcm":
            made = diffusers.LatentConsistencyModelPipeline(
                vae=vae(),
                text_encoder=text_encoder(16),
                tokenizer=tokenizer(),
                unet=unet(16, time_cond_proj_dim=6),
                scheduler=scheduler("lcm", **schedule),
                **ALONE,
            )
        else:
            kind = {"sd": "euler", "ancestral": "ancestral", "sd-lcm": "lcm"}[name]
            made = diffusers.StableDiffusionPipeline(
                vae=vae(),
                text_encoder=text_encoder(16, act="gelu"),
                tokenizer=tokenizer("!"),
                unet=unet(16),
                scheduler=scheduler(kind, **schedule),
                **ALONE,
            )
    made.set_progress_bar_config(disable=True)
    return made


def save_pipeline(folder: Path, name: str, **how: Any) -> Any:
    """Writes a tiny pipeline as diffusers does. Returns it."""
    made = tiny_pipeline(name)
    made.save_pretrained(folder, safe_serialization=True, **how)
    return made


def keep_words_in_two_files(folder: Path) -> None:
    """As in the folders that hubs have: vocab.json and merges.txt where today's transformers writes tokenizer.json."""
    words, merges = word_table()
    for tokens in folder.glob("tokenizer*"):
        (tokens / "tokenizer.json").unlink()
        (tokens / "vocab.json").write_text(json.dumps(words))
        (tokens / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
