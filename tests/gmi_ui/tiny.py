"""Tiny models with the engine's interfaces: blobs for pictures, colours for words."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from engine.errors import ModelError
from engine.latents import LatentSpace, SphereSpace, WPlusSpace, WSpace, w_statistics
from engine.model_table import ModelRow
from engine.models import GeneratorModel
from engine.networks.stylegan2 import Generator
from engine.settings import GenerateSettings
from gmi_ui.models import Loaders, Models

DIM = 12
SIDE = 32
CONTEXT = 24  # words
GENERATOR, PROMPT_MODEL = "avatars", "clip-mini"


@dataclass(frozen=True, eq=False)
class TinyGenerator:
    """Three blobs of colour, from 12 coordinates. `delay`: seconds that a forward pass takes."""

    delay: float = 0.0
    name: str = GENERATOR
    sha256: str = hashlib.sha256(b"blobs").hexdigest()
    default_space: str = "z"
    discriminator: None = None
    examples: tuple[str, ...] = ("blue and green", "red on white")
    spaces: Mapping[str, LatentSpace] = field(default_factory=lambda: {"z": SphereSpace(DIM)})

    def render(self, latents: Tensor, space: str | LatentSpace) -> Tensor:
        """[N, 12] -> [N, 3, 32, 32] in [-1, 1]."""
        time.sleep(self.delay)
        axis = torch.linspace(-1.6, 1.6, SIDE)
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"))  # [2, H, W]
        images = latents.new_zeros(len(latents), 3, SIDE, SIDE)
        for blob in latents.view(-1, 2, 6).unbind(1):
            place, colour = blob[:, :2, None, None], blob[:, 2:5, None, None]
            images = images + colour * torch.exp(-2 * (grid - place).square().sum(1, keepdim=True))
        return torch.tanh(images)


@dataclass(frozen=True, eq=False)
class TinyPromptModel:
    """Image features: the picture at 4 x 4, centred. Text features: drawn from the text."""

    name: str = PROMPT_MODEL
    sha256: str = hashlib.sha256(b"colours").hexdigest()
    logit_scale: float = 20.0

    def image_features(self, images: Tensor) -> Tensor:
        return functional.normalize(functional.adaptive_avg_pool2d(images, 4).flatten(1) + 0.05, dim=1)

    def text_features(self, texts: Sequence[str]) -> Tensor:
        drawn = []
        for text in texts:
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
            drawn.append(torch.randn(48, generator=torch.Generator().manual_seed(seed)))
        return functional.normalize(torch.stack(drawn), dim=1)

    def truncated_words(self, prompt: str) -> str:
        return " ".join(prompt.split()[CONTEXT:])


def tiny_row() -> ModelRow:
    """The table's row of the tiny generator."""
    return ModelRow(
        name=GENERATOR,
        kind="generator",
        family="stylegan2",
        resolution=SIDE,
        licence="MIT",
        files={},
        folder=Path(),
        examples=("blue and green", "red on white"),
    )


Tiny = TypeVar("Tiny")


def only(name: str, model: Tiny) -> Callable[[str], Tiny]:
    """A loader that knows one model and fails for others as the engine's does."""

    def load(asked: str) -> Tiny:
        if asked != name:
            raise ModelError(f"There is no model {asked!r}. Bundled: {name}.")
        return model

    return load


def tiny_models(*, delay: float = 0.0) -> Models:
    """Models that load at once."""
    return Models(
        Loaders(
            generator=only(GENERATOR, TinyGenerator(delay=delay)),  # type: ignore[arg-type]
            prompt_model=only(PROMPT_MODEL, TinyPromptModel()),  # type: ignore[arg-type]
            rows=lambda: [tiny_row()],
        )
    )


def tiny_settings(prompt: str = "blue", **changes: object) -> GenerateSettings:
    """A run of few particles and steps."""
    values = {"prompt": prompt, "n": 3, "seed": 5, "flow": {"steps": 6}, **changes}
    return GenerateSettings.from_dict(values)


# ---- a StyleGAN2, which editing needs --------------------------------------------------------------------

STYLE_SIDE = 16


def style_generator(*, delay: float = 0.0) -> GeneratorModel:
    """An untrained StyleGAN2 of 16 pixels, always the same. `delay`: seconds that a picture takes."""
    channels = {4: 8, 8: 8, 16: 8}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = Generator(6, 0, 8, STYLE_SIDE, channels=channels, mapping_layers=2).eval().requires_grad_(False)
        statistics = w_statistics(network.mapping.to_w, 6, samples=500)
    w = WSpace(network.mapping.to_w, 6, statistics)
    spaces: tuple[LatentSpace, ...] = (w, WPlusSpace(w, network.num_ws))
    if delay:
        network.synthesis.register_forward_pre_hook(lambda *_: time.sleep(delay))
    return GeneratorModel(
        name=GENERATOR,
        resolution=STYLE_SIDE,
        network=network,
        spaces={space.name: space for space in spaces},
        default_space="w",
        discriminator=None,
        encoder=None,
        sha256=hashlib.sha256(b"styles").hexdigest(),
        licence="MIT",
        examples=("blue and green", "red on white"),
    )


def style_models(*, delay: float = 0.0) -> Models:
    """Models for editing that load at once."""
    generator = style_generator(delay=delay)
    return Models(
        Loaders(
            generator=only(GENERATOR, generator),
            prompt_model=only(PROMPT_MODEL, TinyPromptModel()),  # type: ignore[arg-type]
            rows=lambda: [tiny_row()],
        )
    )
