"""StyleGAN2 as lucidrains' stylegan2-pytorch trains it: z to w, and a w to all blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.families.common import device_of
from engine.families.declaration import Assembled, Details, Family, Network, has_keys, positive

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engine.families.declaration import State
    from engine.latents.spaces import LatentSpace


def _generator(state: State, **options: Any) -> nn.Module:
    from engine.networks import lucidrains

    return lucidrains.generator_from_shapes(state, **options)


def assemble(networks: Mapping[str, nn.Module], details: Details) -> Assembled:
    """Spaces of z and of w. There is no w for each layer, nor are there styles as edits want them."""
    from engine.latents.spaces import MappedSphereSpace, PlainWSpace, WSpace, w_statistics
    from engine.networks import lucidrains

    network = networks["generator"]
    assert isinstance(network, lucidrains.Generator)
    device = device_of(network)
    statistics = w_statistics(network.to_w, network.z_dim, device=device)
    w = WSpace(network.to_w, network.z_dim, statistics)
    z = MappedSphereSpace(network.z_dim, device, mapping=network.to_w, mean=statistics.mean)
    spaces: tuple[LatentSpace, ...] = (z, w, PlainWSpace(w))

    def synthesize(decoded: Tensor, space: LatentSpace) -> Tensor:
        return network.synthesis(decoded)

    return Assembled(
        network, network.img_resolution, {space.name: space for space in spaces}, synthesize, default_space="w"
    )


FAMILY = Family(
    name="lucidrains",
    label="StyleGAN2 (lucidrains)",
    tasks=("generate",),
    networks={
        "generator": Network(
            _generator,
            has_keys("SE.net.0.weight GE.initial_conv.weight GE.blocks.0.conv1.weight"),
            (positive("lr_multiplier", 0.1, "of the mapping's layers: lr_mlp of the training"),),
        )
    },
    assemble=assemble,
)
