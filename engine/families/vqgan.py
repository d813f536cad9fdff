"""VQGAN (Esser et al. 2021): an autoencoder through a codebook, of which runs use the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.families.common import UNTOLD_SIDE, WITH_CODES, code_spaces
from engine.families.declaration import Assembled, Details, Family, Network, count

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engine.families.declaration import State
    from engine.latents.spaces import LatentSpace


def _autoencoder(state: State, *, resolution: int) -> nn.Module:
    """The side of the training's pictures is for those who draw latents; the network takes any."""
    from engine.networks import vqgan

    return vqgan.vqgan_from_shapes(state)


def assemble(networks: Mapping[str, nn.Module], details: Details) -> Assembled:
    """Spaces of vectors near the codes and of the nearest codes."""
    from engine.latents.codebook import Codebook
    from engine.networks import vqgan

    network = networks["autoencoder"]
    assert isinstance(network, vqgan.VQGAN)

    def synthesize(decoded: Tensor, space: LatentSpace) -> Tensor:
        return network.decode(decoded)

    book = Codebook(network.codes().detach())
    resolution = details.resolution or UNTOLD_SIDE
    spaces = code_spaces(book, resolution // network.scale_factor, details, mixtures=False)
    return Assembled(network, resolution, spaces, synthesize)


FAMILY = Family(
    name="vqgan",
    label="VQGAN",
    tasks=("generate",),
    networks={
        "autoencoder": Network(  # its files are told by `engine.checkpoints.vqgan`, which reads their yaml too
            _autoencoder, options=(count("resolution", UNTOLD_SIDE, "side of the pictures it was trained on"),)
        ),
    },
    assemble=assemble,
    spaces=("codes", "straight-through"),
    **WITH_CODES,
)
