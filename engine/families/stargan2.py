"""StarGAN v2 (Choi et al. 2020): redraws a picture in another domain. Opened, checked and converted, not run yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.families.declaration import Family, Network, has_keys

if TYPE_CHECKING:
    from torch import nn

    from engine.families.declaration import State


def _generator(state: State) -> nn.Module:
    from engine.networks import stargan2

    return stargan2.generator_from_shapes(state)


def _mapping_network(state: State) -> nn.Module:
    from engine.networks import stargan2

    return stargan2.mapping_network_from_shapes(state)


def _style_encoder(state: State) -> nn.Module:
    from engine.networks import stargan2

    return stargan2.style_encoder_from_shapes(state)


def _discriminator(state: State) -> nn.Module:
    from engine.networks import stargan2

    return stargan2.discriminator_from_shapes(state)


FAMILY = Family(
    name="stargan2",
    label="StarGAN v2",
    tasks=("translate",),
    networks={
        "generator": Network(_generator, has_keys("from_rgb.weight to_rgb.2.weight encode.0.conv1.weight")),
        "mapping_network": Network(_mapping_network, has_keys("shared.0.weight unshared.0.0.weight")),
        "style_encoder": Network(_style_encoder, has_keys("shared.0.weight shared.1.conv1.weight unshared.0.weight")),
        "discriminator": Network(_discriminator),
    },
    purpose="Redraws a picture in another domain",
)
