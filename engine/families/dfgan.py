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
    from engine.networks import dfgan


def _generator(state: State) -> nn.Module:
    from engine.networks import dfgan

    return dfgan.generator_from_shapes(state)


def _discriminator(state: State) -> nn.Module:
    from engine.networks import dfgan

    return dfgan.discriminator_from_shapes(state)


def _head(state: State) -> nn.Module:
    from engine.networks import dfgan

    return dfgan.head_from_shapes(state)


def assemble(networks: Mapping[str, nn.Module], details: Details) -> Assembled:
    """The sentence vector is a part of the latent, or what the prompt model makes of a prompt that the model's row
    names, see `engine.latents.sentences`."""
    from engine.networks import dfgan

    network = networks["generator"]
    assert isinstance(network, dfgan.Generator)

    def synthesize(decoded: Tensor, space: LatentSpace) -> Tensor:
        z, sentences = decoded.split([network.nz, network.cond_dim], dim=1)
        images: Tensor = network(z, sentences)
        return images

    spaces = {"z": _space(network, details)}
    return Assembled(network, network.img_size, spaces, synthesize, discriminator=_critic(networks, network))


def _space(network: dfgan.Generator, details: Details) -> LatentSpace:
    """Raises ModelError for kept sentence vectors of another generator, and where a reader comes without any."""
    from engine.latents.sentences import ReadSpace, SentenceSpace

    kept, device = details.latents.get("sentences"), device_of(network)
    if kept is not None and (kept.ndim != 2 or kept.shape[1] != network.cond_dim):
        raise ModelError(f"The kept sentences {list(kept.shape)} do not fit a generator of {network.cond_dim} numbers.")
    around = SentenceSpace.around(network.nz, network.cond_dim, None if kept is None else kept.float(), device)
    if details.read is None:
        return around
    if kept is None:
        raise ModelError(f"{details.name}: its row names who reads sentences, but no `latents` file with some of them.")
    return ReadSpace(around.dim, around.mean, around.spread, read=details.read, kept=kept.to(around.mean))


def _critic(networks: Mapping[str, nn.Module], network: dfgan.Generator) -> dfgan.Critic | None:
    """Both parts of the discriminator; None where one is missing. Raises ModelError for those of another generator."""
    from engine.networks import dfgan

    trunk, head = networks.get("discriminator"), networks.get("conditional_discriminator")
    if not (isinstance(trunk, dfgan.Discriminator) and isinstance(head, dfgan.ConditionalHead)):
        return None
    if trunk.img_size != network.img_size or head.inputs != trunk.channels + network.cond_dim:
        raise ModelError(
            f"Its discriminator judges pictures of {trunk.img_size} px with sentences of "
            f"{head.inputs - trunk.channels} numbers; its generator draws {network.img_size} px from "
            f"{network.cond_dim} numbers."
        )
    return dfgan.Critic(trunk, head)


FAMILY = Family(
    name="dfgan",
    label="DF-GAN",
    tasks=("generate",),
    networks={
        "generator": Network(_generator, has_keys("fc.weight GBlocks.0.c1.weight to_rgb.1.weight")),
        "discriminator": Network(_discriminator, has_keys("conv_img.weight DBlocks.0.gamma")),
        "conditional_discriminator": Network(_head, has_keys("joint_conv.0.weight joint_conv.2.weight")),
    },
    assemble=assemble,
)
