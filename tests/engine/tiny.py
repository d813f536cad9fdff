"""A folder like `assets/` with random networks so small that a run takes a fraction of a second."""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

import engine.networks.mini_tower  # noqa: F401  (registers the tower)
from engine.checkpoints import verify, write_safetensors
from engine.latents.spaces import w_statistics
from engine.networks import comodgan, dfgan, stargan2
from engine.networks.mini_tower import MiniTower
from engine.networks.stylegan2 import Discriminator, Generator

RESOLUTION = 16
Z_DIM = 6
W_DIM = 8
CHANNELS = {4: 8, 8: 8, 16: 8}

CLIP_CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": 64,
            "timm_model_name": "gmi_mini_tower",
            "timm_pool": "",
            "timm_proj": "linear",
        },
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
        "custom_text": True,
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.6], "std": [0.5, 0.6, 0.4], "interpolation": "bicubic"},
}


def write_assets(assets: Path) -> Path:
    """Writes `avatars` and `clip-mini` into `assets`; returns it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        write_generator(assets / "avatars")
        write_clip(assets / "clip-mini")
    return assets


def write_generator(folder: Path) -> None:
    """A StyleGAN2 with discriminator, encoder and latent statistics, and its model.json."""
    folder.mkdir(parents=True)
    generator = Generator(Z_DIM, 0, W_DIM, RESOLUTION, channels=CHANNELS, mapping_layers=2)
    discriminator = Discriminator(0, RESOLUTION, channels=CHANNELS)
    statistics = w_statistics(generator.mapping.to_w, Z_DIM, samples=500)
    latents = {
        "mean": statistics.mean,
        "factor": statistics.factor,
        "radius": torch.tensor(statistics.radius),
        "low": statistics.low,
        "high": statistics.high,
    }
    hashes = {
        "generator": _write(folder, "generator", generator),
        "discriminator": _write(folder, "discriminator", discriminator),
        "encoder": _write(folder, "encoder", MiniTower(num_classes=W_DIM)),
        "latents": write_safetensors(folder / "latents.safetensors", latents),
    }
    files = {role: {"path": f"{role}.safetensors", "sha256": sha256} for role, sha256 in hashes.items()}
    measured = {"encoder_side": 64, "in_domain_distance": 0.04, "framed_distance": 0.06}
    values = {"name": "avatars", "kind": "generator", "family": "stylegan2", "resolution": RESOLUTION, "files": files}
    write_row(folder, **values, **measured)


def write_clip(folder: Path, *, name: str = "clip-mini") -> None:
    """A clip-mini with narrower text, float16 on disk, and its model.json."""
    folder.mkdir(parents=True)
    config = folder / "open_clip_config.json"
    config.write_text(json.dumps(CLIP_CONFIG))
    network = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    weights = folder / "clip-mini.safetensors"
    sha256 = write_safetensors(weights, network.state_dict(), dtype=torch.float16)
    files = {
        "config": {"path": config.name, "sha256": verify(config)},
        "weights": {"path": weights.name, "sha256": sha256},
    }
    write_row(folder, name=name, kind="prompt", family="open_clip", resolution=64, files=files)


def write_row(folder: Path, **values: Any) -> None:
    """Writes a model.json with the given values and a licence."""
    values = {"licence": "MIT", "examples": ["a smile"], **values}
    (folder / "model.json").write_text(json.dumps(values))


def _write(folder: Path, role: str, network: nn.Module) -> str:
    return write_safetensors(folder / f"{role}.safetensors", network.state_dict())


def write_translator(folder: Path, *, judged: bool = True) -> Path:
    """A StarGAN v2 of 32 px with the domains "long" and "short", and its model.json; judged: with discriminator."""
    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks: dict[str, nn.Module] = {
            "generator": stargan2.Generator((4, 8), 6),
            "mapping_network": stargan2.MappingNetwork(5, 6, 2, hidden=8),
            "style_encoder": stargan2.StyleEncoder((4, 4, 8, 8), 6, 2),
        }
        if judged:
            networks["discriminator"] = stargan2.Discriminator((4, 4, 8, 8), 2)
        with torch.no_grad():  # untrained, its styles would hardly differ
            for name, weight in networks["mapping_network"].named_parameters():
                if name.endswith("weight"):
                    weight.mul_(5)
        hashes = {role: _write(folder, role, network) for role, network in networks.items()}
    files = {role: {"path": f"{role}.safetensors", "sha256": sha256} for role, sha256 in hashes.items()}
    values = {"name": folder.name, "kind": "generator", "family": "stargan2", "resolution": 32, "files": files}
    write_row(folder, **values, classes=["long", "short"])
    return folder


def write_reader(folder: Path, *, sentences: str = "clip-mini", judged: bool = True) -> Path:
    """A DF-GAN of 16 px whose sentence vectors are those of a prompt model; judged: with both critics."""
    folder.mkdir(parents=True)
    dim = CLIP_CONFIG["model_cfg"]["embed_dim"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks: dict[str, nn.Module] = {"generator": dfgan.Generator(Z_DIM, dim, (8, 8, 4))}
        if judged:
            networks["discriminator"] = dfgan.Discriminator((2, 4, 4))
            networks["conditional_discriminator"] = dfgan.ConditionalHead(4 + dim, 3)
        kept = nn.functional.normalize(torch.randn(7, dim), dim=1)
    hashes = {role: _write(folder, role, network) for role, network in networks.items()}
    hashes["latents"] = write_safetensors(folder / "latents.safetensors", {"sentences": kept}, dtype=torch.float16)
    files = {role: {"path": f"{role}.safetensors", "sha256": sha256} for role, sha256 in hashes.items()}
    values = {"name": folder.name, "kind": "generator", "family": "dfgan", "resolution": 16, "files": files}
    write_row(folder, **values, sentences=sentences, tuned={"realism": 1.0, "condition_weight": 0.5})
    return folder


def write_filler(folder: Path, *, judged: bool = True, **values: Any) -> Path:
    """A Co-Mod-GAN of 16 px and its model.json; judged: with discriminator. values: of model.json besides."""
    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks: dict[str, nn.Module] = {"generator": comodgan.Generator((Z_DIM, W_DIM), CHANNELS, code_dim=4)}
        if judged:
            networks["discriminator"] = Discriminator(0, RESOLUTION, 4, channels=CHANNELS, mbstd_channels=0)
        hashes = {role: _write(folder, role, network) for role, network in networks.items()}
    files = {role: {"path": f"{role}.safetensors", "sha256": sha256} for role, sha256 in hashes.items()}
    row = {"name": folder.name, "kind": "generator", "family": "comodgan", "resolution": RESOLUTION, "files": files}
    write_row(folder, **row, **values)
    return folder
