"""BigGAN (Brock et al. 2019) in ajbrock's layout: a z and a class to each block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from engine.families.common import WITH_CLASSES, check_channels, class_names, device_of
from engine.families.declaration import Assembled, Details, Family, Network, has_keys, positive, switches_or_none

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engine.families.declaration import State
    from engine.latents.spaces import LatentSpace


def _generator(state: State, **options: Any) -> nn.Module:
    from engine.networks import biggan

    return biggan.generator_from_shapes(state, **options)


def _discriminator(state: State, **options: Any) -> nn.Module:
    from engine.networks import biggan

    return biggan.discriminator_from_shapes(state, **options)


def assemble(networks: Mapping[str, nn.Module], details: Details) -> Assembled:
    """One space, z with a class; grey pictures get three equal channels."""
    from engine.latents.classes import ClassSpace
    from engine.networks import biggan
    from engine.networks.colours import GreyDiscriminator, as_colours

    network, judge = networks["generator"], networks.get("discriminator")
    assert isinstance(network, biggan.Generator)
    check_channels(network.img_channels, details)
    names = class_names(details.classes, network.n_classes)

    def synthesize(decoded: Tensor, space: LatentSpace) -> Tensor:
        z, classes = decoded.split([network.dim_z, network.n_classes], dim=1)
        images: Tensor = network(z, network.embed_classes(classes))
        return as_colours(images)

    discriminator: Callable[[Tensor], Tensor] | None = judge
    if isinstance(judge, biggan.Discriminator) and judge.img_channels == 1:
        discriminator = GreyDiscriminator(judge)
    space = ClassSpace(network.dim_z, names, tuple(range(len(names))), device=device_of(network))
    return Assembled(
        network, network.img_resolution, {"z": space}, synthesize, discriminator=discriminator, classes=names
    )


FAMILY = Family(
    name="biggan",
    label="BigGAN",
    tasks=("generate",),
    networks={
        "generator": Network(
            _generator,
            has_keys("blocks.0.0.bn1.gain.weight linear.weight blocks.0.0.conv1.weight output_layer.2.weight"),
            (positive("bn_eps", 1e-5, "1e-4 in ports of TensorFlow's weights"),),
        ),
        "discriminator": Network(
            _discriminator,
            has_keys("embed.weight linear.weight blocks.0.0.conv1.weight"),
            (switches_or_none("down", "blocks that halve the side; null: those whose shortcut has weights"),),
        ),
    },
    assemble=assemble,
    **WITH_CLASSES,
)
