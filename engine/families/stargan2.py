"""StarGAN v2 (Choi et al. 2020): redraws a picture in another domain, in a style from a latent or from a reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import ModelError
from engine.families.common import class_names
from engine.families.declaration import Assembled, Details, Family, Network, has_keys

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engine.families.declaration import State
    from engine.latents.spaces import LatentSpace


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


def _fan(state: State) -> nn.Module:
    from engine.networks import fan

    return fan.fan_from_shapes(state)


def assemble(networks: Mapping[str, nn.Module], details: Details) -> Assembled:
    """The networks together; the classes are the names of the domains.

    It has no latent space of its own: where particles may go depends on the picture and the domain, see
    `engine.tasks.translation`.
    """
    from engine.networks import stargan2

    roles = ("generator", "mapping_network", "style_encoder")
    if missing := [role for role in roles if role not in networks]:
        raise ModelError(f"{details.name} lacks its {' and '.join(missing)}; to translate pictures it needs all three.")
    parts: dict[str, Any] = {role: networks[role] for role in (*roles, "discriminator", "fan") if role in networks}
    translator = stargan2.Translator(**parts)

    def synthesize(decoded: Tensor, space: LatentSpace) -> Tensor:
        raise ValueError(f"{details.name} draws nothing without a picture to translate.")

    names = class_names(details.classes, translator.num_domains)
    return Assembled(translator, translator.img_size, {}, synthesize, default_space="style", classes=names)


FAMILY = Family(
    name="stargan2",
    label="StarGAN v2",
    tasks=("translate",),
    networks={
        "generator": Network(_generator, has_keys("from_rgb.weight to_rgb.2.weight encode.0.conv1.weight")),
        "mapping_network": Network(_mapping_network, has_keys("shared.0.weight unshared.0.0.weight")),
        "style_encoder": Network(_style_encoder, has_keys("shared.0.weight shared.1.conv1.weight unshared.0.weight")),
        "discriminator": Network(_discriminator),
        "fan": Network(_fan, has_keys("conv1.conv.weight m0.b2_plus_1.conv1.weight l0.weight")),
    },
    assemble=assemble,
    purpose="Redraws a picture in another domain",
    choices=(),
)
