"""Tiny models with the engine's interfaces: blobs for pictures, colours for words."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from engine.errors import ModelError
from engine.families.stylegan2 import synthesis_of
from engine.latents.classes import ClassSpace
from engine.latents.codebook import Codebook, CodeSpace, SoftCodeSpace, StraightThroughSpace
from engine.latents.spaces import LatentSpace, SphereSpace, WPlusSpace, WSpace, w_statistics
from engine.models.loading import GeneratorModel
from engine.models.table import ModelRow
from engine.networks.stylegan2 import Generator
from engine.settings import GenerateSettings
from gmi_ui.models.models import Loaders, Models

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
    family: str = "stylegan2"
    classes: tuple[str, ...] = ()
    references: Mapping[str, Tensor] = field(default_factory=dict)
    domain: str = "blobs of colour"
    domain_likeness: float | None = None

    draft_resolution = 0
    left_out = None

    def render(self, latents: Tensor, space: str | LatentSpace, *, draft: bool = False) -> Tensor:
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


# ---- a generator with classes, and one with a codebook ---------------------------------------------------

CLASS_NAMES = ("dress", "coat", "ankle boot", "bag")
CLASS_PROMPTS, CODE_PROMPTS = ("a long dress", "a coat"), ("a green square", "yellow stripes")
CODE_SIDE = 4
BANK = 600  # grids of codes that particles may start at
WIDE = "clip-wide"


@dataclass(frozen=True, eq=False)
class TinyClasses(TinyGenerator):
    """Blobs of 16 pixels whose brightness is that of their class."""

    name: str = "fashion"
    sha256: str = hashlib.sha256(b"classes").hexdigest()
    examples: tuple[str, ...] = CLASS_PROMPTS
    spaces: Mapping[str, LatentSpace] = field(
        default_factory=lambda: {"z": ClassSpace(DIM, CLASS_NAMES, tuple(range(len(CLASS_NAMES))))}
    )
    family: str = "biggan"
    classes: tuple[str, ...] = CLASS_NAMES

    draft_resolution = 0

    def render(self, latents: Tensor, space: str | LatentSpace, *, draft: bool = False) -> Tensor:
        """[N, 12 + K] -> [N, 3, 32, 32]."""
        space = self.spaces[space] if isinstance(space, str) else space
        z, weights = space.decode(latents).split([DIM, len(CLASS_NAMES)], dim=1)
        brightness = weights @ torch.linspace(-0.6, 0.6, len(CLASS_NAMES))
        return (super().render(z, "z") + brightness[:, None, None, None]).clamp(-1, 1)


@dataclass(frozen=True, eq=False)
class TinyCodes(TinyGenerator):
    """A mosaic of 4 x 4 colours out of a book of eight."""

    name: str = "mosaic"
    sha256: str = hashlib.sha256(b"codes").hexdigest()
    default_space: str = "codes"
    examples: tuple[str, ...] = CODE_PROMPTS
    spaces: Mapping[str, LatentSpace] = field(default_factory=lambda: code_spaces())
    family: str = "dalle_dvae"

    draft_resolution = 0

    def render(self, latents: Tensor, space: str | LatentSpace, *, draft: bool = False) -> Tensor:
        """[N, 16, 3] -> [N, 3, 16, 16]."""
        time.sleep(self.delay)
        space = self.spaces[space] if isinstance(space, str) else space
        return functional.interpolate(space.decode(latents), scale_factor=4.0)


def code_spaces() -> dict[str, LatentSpace]:
    corners = torch.tensor([[x, y, z] for x in (-0.9, 0.9) for y in (-0.9, 0.9) for z in (-0.9, 0.9)])
    bank = torch.randint(len(corners), (BANK, CODE_SIDE, CODE_SIDE), generator=torch.Generator().manual_seed(7))
    kinds = (CodeSpace, StraightThroughSpace, SoftCodeSpace)
    return {kind.name: kind(Codebook(corners), CODE_SIDE, CODE_SIDE, bank) for kind in kinds}


@dataclass(frozen=True, eq=False)
class WordyPromptModel(TinyPromptModel):
    """Texts are alike that share words."""

    name: str = WIDE
    sha256: str = hashlib.sha256(b"words").hexdigest()

    def text_features(self, texts: Sequence[str]) -> Tensor:
        rows = [super(WordyPromptModel, self).text_features(text.lower().split()).sum(0) for text in texts]
        return functional.normalize(torch.stack(rows), dim=1)


def three_models(*, delay: float = 0.0) -> Models:
    """`avatars`, `fashion` with classes and `mosaic` with codes; `clip-wide` is the prompt model of the latter two."""
    generators = {one.name: one for one in (TinyGenerator(delay), TinyClasses(delay), TinyCodes(delay))}
    prompt_models = {one.name: one for one in (TinyPromptModel(), WordyPromptModel())}
    rows = [tiny_row(), *(other_row(one) for one in list(generators.values())[1:])]
    rows += [replace(tiny_row(), name=name, kind="prompt", family="open_clip") for name in prompt_models]
    return Models(
        Loaders(
            generator=one_of(generators),  # type: ignore[arg-type]
            prompt_model=one_of(prompt_models),  # type: ignore[arg-type]
            rows=lambda: rows,
        )
    )


def other_row(generator: TinyGenerator) -> ModelRow:
    return replace(
        tiny_row(),
        name=generator.name,
        family=generator.family,
        examples=generator.examples,
        classes=generator.classes,
        prompt_model=WIDE,
    )


def one_of(models: Mapping[str, Tiny]) -> Callable[[str], Tiny]:
    """A loader that knows some models."""

    def load(asked: str) -> Tiny:
        return only(asked if asked in models else " or ".join(models), models.get(asked))(asked)  # type: ignore[return-value]

    return load


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
        synthesize=synthesis_of(network),
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
