"""BigGAN-deep as Hugging Face's port keeps it: deeper blocks, batch statistics for each truncation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.families.common import WITH_CLASSES, class_names, device_of
from engine.families.declaration import Assembled, Details, Family, Network, positive, switches_or_none

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engine.families.declaration import State
    from engine.latents.spaces import LatentSpace


def _generator(state: State, **options: Any) -> nn.Module:
    from engine.networks import biggan_deep

    return biggan_deep.generator_from_shapes(state, **options)


def assemble(networks: Mapping[str, nn.Module], details: Details) -> Assembled:
    """Beside z, the space "z+" has a z for the first layer and each block."""
    from engine.latents.classes import ClassSpace
    from engine.networks import biggan_deep

    network = networks["generator"]
    assert isinstance(network, biggan_deep.BigGAN)
    names = class_names(details.classes, network.num_classes)

    def synthesize(decoded: Tensor, space: LatentSpace) -> Tensor:
        assert isinstance(space, ClassSpace)
        z, classes = decoded.split([space.blocks * network.z_dim, network.num_classes], dim=1)
        z = z if space.blocks == 1 else z.unflatten(1, (space.blocks, network.z_dim))
        images: Tensor = network(z, classes, space.psi)
        return images

    every, device = tuple(range(len(names))), device_of(network)
    spaces = [
        ClassSpace(network.z_dim, names, every, blocks=blocks, truncates="factor", device=device, name=name)
        for name, blocks in (("z", 1), ("z+", network.num_conditions))
    ]
    return Assembled(network, network.img_resolution, {s.name: s for s in spaces}, synthesize, classes=names)


FAMILY = Family(
    name="biggan_deep",
    label="BigGAN-deep",
    tasks=("generate",),
    networks={
        "generator": Network(  # its files are told by `engine.checkpoints.biggan_deep`, which reads their config too
            _generator,
            options=(
                switches_or_none("up", "blocks that double the side; null: every second"),
                positive("eps", 1e-4, "of the batch norms"),
            ),
        ),
    },
    assemble=assemble,
    spaces=("z", "z+"),
    **WITH_CLASSES,
)
