"""DF-GAN (Tao et al. 2022): a z and a sentence vector to each block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.errors import ModelError
from engine.families.common import device_of
from engine.families.declaration import Assembled, Details, Family, Network, has_keys

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engine.families.declaration import State
    from engine.latents.spaces import LatentSpace


def _generator(state: State) -> nn.Module:
    from engine.networks import dfgan

    return dfgan.generator_from_shapes(state)


def assemble(networks: Mapping[str, nn.Module], details: Details) -> Assembled:
    """The sentence vector is a part of the latent, see `engine.latents.sentences`."""
    from engine.latents.sentences import SentenceSpace
    from engine.networks import dfgan

    network = networks["generator"]
    assert isinstance(network, dfgan.Generator)
    kept = details.latents.get("sentences")
    if kept is not None and (kept.ndim != 2 or kept.shape[1] != network.cond_dim):
        raise ModelError(f"The kept sentences {list(kept.shape)} do not fit a generator of {network.cond_dim} numbers.")

    def synthesize(decoded: Tensor, space: LatentSpace) -> Tensor:
        z, sentences = decoded.split([network.nz, network.cond_dim], dim=1)
        images: Tensor = network(z, sentences)
        return images

    space = SentenceSpace.around(network.nz, network.cond_dim, kept, device_of(network))
    return Assembled(network, network.img_size, {"z": space}, synthesize)


FAMILY = Family(
    name="dfgan",
    label="DF-GAN",
    tasks=("generate",),
    networks={
        "generator": Network(_generator, has_keys("fc.weight GBlocks.0.c1.weight to_rgb.1.weight")),
        # They judge pictures with the sentence vector of a text, which nothing here makes.
        "discriminator": Network(None, has_keys("conv_img.weight DBlocks.0.gamma"), in_runs=False),
        "conditional_discriminator": Network(None, in_runs=False),
    },
    assemble=assemble,
)
