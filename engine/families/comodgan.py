"""Co-Mod-GAN (Zhao et al. 2021): fills the holes of a picture, many ways for one hole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import ModelError
from engine.families.declaration import Assembled, Details, Family, Network, has_keys, one_of, positive

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engine.families.declaration import State
    from engine.latents.spaces import LatentSpace


def _generator(state: State, **options: Any) -> nn.Module:
    from engine.networks import comodgan

    return comodgan.generator_from_shapes(state, **options)


def _discriminator(state: State) -> nn.Module:
    from engine.networks import stylegan2

    return stylegan2.discriminator_from_shapes(state)


def assemble(networks: Mapping[str, nn.Module], details: Details) -> Assembled:
    """The networks together. What z draws depends on the picture and its hole, see `engine.tasks.filling`."""
    from engine.networks import comodgan, stylegan2

    network, judge = networks["generator"], networks.get("discriminator")
    assert isinstance(network, comodgan.Generator)
    if network.img_channels != 3:
        raise ModelError(f"{details.name} fills pictures of {network.img_channels} channels; only coloured ones, of 3.")
    if judge is not None:
        assert isinstance(judge, stylegan2.Discriminator)
        judge.b4.mbstd_group_size = 1  # how real a particle looks must not depend on which others are in the batch

    def synthesize(decoded: Tensor, space: LatentSpace) -> Tensor:
        raise ValueError(f"{details.name} draws nothing without a picture that has a hole.")

    return Assembled(comodgan.Filler(network, judge), network.img_size, {}, synthesize, default_space="z")


_ARITHMETIC = one_of(
    "arithmetic",
    ("original", "port"),
    "of the TensorFlow original, or of the PyTorch port, which lacks one of its sums",
)

FAMILY = Family(
    name="comodgan",
    label="Co-Mod-GAN",
    tasks=("inpaint",),
    networks={
        "generator": Network(
            _generator,
            has_keys("G_mapping.G_mapping.Dense0.weight G_synthesis.G_4x4.ToRGB.bias"),
            (_ARITHMETIC, positive("lr_multiplier", 0.01, "of the mapping network's layers")),
        ),
        "discriminator": Network(_discriminator),
    },
    assemble=assemble,
    purpose="Fills holes of a picture",
    bytes_per_pixel=3000.0,  # measured: 550 MB a picture at 256 px and 1.4 GB at 512 px, in float32 on the CPU
    choices=(),
    fills_holes=True,
)
