"""From networks to what runs need of a generator: its latent spaces, and pictures from a decoded latent.

One function per family other than StyleGAN2, which `models` knows itself. Roles of networks are those of the
checkpoint readers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from engine.errors import ModelError
from engine.latents.classes import ClassSpace
from engine.latents.codebook import Codebook, CodeSpace, SoftCodeSpace, StraightThroughSpace
from engine.latents.sentences import SentenceSpace
from engine.latents.spaces import LatentSpace
from engine.networks import biggan, biggan_deep, dalle_dvae, dfgan, vqgan

Networks = Mapping[str, nn.Module]
Synthesis = Callable[[Tensor, LatentSpace], Tensor]  # a space's decoded latents, and the space -> images
DEFAULT_SIDE = 256  # of pictures from a codebook, where nothing tells what the decoder was trained on


@dataclass(frozen=True)
class Details:
    """What a model's row tells beside its networks.

    bank: codes [M, h, w] where particles may start, or kept sentence vectors [M, C].
    """

    resolution: int = 0
    classes: tuple[str, ...] = ()
    bank: Tensor | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Parts:
    """A generator taken apart; the first space is the default one."""

    network: nn.Module
    resolution: int
    spaces: Mapping[str, LatentSpace]
    synthesize: Synthesis
    discriminator: Callable[[Tensor], Tensor] | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ColourDiscriminator:
    """A discriminator of grey pictures that takes images [N, 3, H, W], by their mean."""

    network: biggan.Discriminator

    def __call__(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images.mean(1, keepdim=True))
        return logits


def biggan_parts(networks: Networks, details: Details) -> Parts:
    """Roles: generator, and optionally discriminator."""
    network, judge = networks["generator"], networks.get("discriminator")
    assert isinstance(network, biggan.Generator)
    names = class_names(details.classes, network.n_classes)

    def synthesize(decoded: Tensor, space: LatentSpace) -> Tensor:
        z, classes = decoded.split([network.dim_z, network.n_classes], dim=1)
        images: Tensor = network(z, network.embed_classes(classes))
        return images.expand(-1, 3, -1, -1)

    discriminator: Callable[[Tensor], Tensor] | None = judge
    if isinstance(judge, biggan.Discriminator) and judge.img_channels == 1:
        discriminator = ColourDiscriminator(judge)
    space = ClassSpace(network.dim_z, names, tuple(range(len(names))), device=_device(network))
    return Parts(network, network.img_resolution, {"z": space}, synthesize, discriminator, names)


def biggan_deep_parts(networks: Networks, details: Details) -> Parts:
    """Role: generator. Beside z, the space "z+" has a z for the first layer and each block."""
    network = networks["generator"]
    assert isinstance(network, biggan_deep.BigGAN)
    names = class_names(details.classes, network.num_classes)

    def synthesize(decoded: Tensor, space: LatentSpace) -> Tensor:
        assert isinstance(space, ClassSpace)
        z, classes = decoded.split([space.blocks * network.z_dim, network.num_classes], dim=1)
        z = z if space.blocks == 1 else z.unflatten(1, (space.blocks, network.z_dim))
        images: Tensor = network(z, classes, space.psi)
        return images

    every, device = tuple(range(len(names))), _device(network)
    spaces = [
        ClassSpace(network.z_dim, names, every, blocks=blocks, truncates="factor", device=device, name=name)
        for name, blocks in (("z", 1), ("z+", network.num_conditions))
    ]
    return Parts(network, network.img_resolution, {s.name: s for s in spaces}, synthesize, classes=names)


def dalle_dvae_parts(networks: Networks, details: Details) -> Parts:
    """Role: decoder. Runs need no encoder."""
    decoder = networks["decoder"]
    assert isinstance(decoder, dalle_dvae.Decoder)

    def synthesize(decoded: Tensor, space: LatentSpace) -> Tensor:
        return decoder.images(decoder.from_vectors(decoded))

    book = Codebook(decoder.codes().detach())
    resolution = details.resolution or DEFAULT_SIDE
    spaces = _code_spaces(book, resolution // decoder.scale_factor, details, soft=True)
    return Parts(decoder, resolution, spaces, synthesize)


def vqgan_parts(networks: Networks, details: Details) -> Parts:
    """Role: autoencoder."""
    network = networks["autoencoder"]
    assert isinstance(network, vqgan.VQGAN)

    def synthesize(decoded: Tensor, space: LatentSpace) -> Tensor:
        return network.decode(decoded)

    book = Codebook(network.codes().detach())
    resolution = details.resolution or DEFAULT_SIDE
    spaces = _code_spaces(book, resolution // network.scale_factor, details, soft=False)
    return Parts(network, resolution, spaces, synthesize)


def dfgan_parts(networks: Networks, details: Details) -> Parts:
    """Role: generator. The sentence vector is a part of the latent, see `engine.latents.sentences`."""
    network = networks["generator"]
    assert isinstance(network, dfgan.Generator)
    kept = details.bank
    if kept is not None and (kept.ndim != 2 or kept.shape[1] != network.cond_dim):
        raise ModelError(f"The kept sentences {list(kept.shape)} do not fit a generator of {network.cond_dim} numbers.")

    def synthesize(decoded: Tensor, space: LatentSpace) -> Tensor:
        z, sentences = decoded.split([network.nz, network.cond_dim], dim=1)
        images: Tensor = network(z, sentences)
        return images

    space = SentenceSpace.around(network.nz, network.cond_dim, kept, _device(network))
    return Parts(network, network.img_size, {"z": space}, synthesize)


FAMILIES: Mapping[str, Callable[[Networks, Details], Parts]] = {
    "biggan": biggan_parts,
    "biggan_deep": biggan_deep_parts,
    "dalle_dvae": dalle_dvae_parts,
    "vqgan": vqgan_parts,
    "dfgan": dfgan_parts,
}


def class_names(told: tuple[str, ...], count: int) -> tuple[str, ...]:
    """The names told; ImageNet's where there are 1,000 classes and none is told; else their numbers.

    Raises ModelError where the names told are not as many as the classes.
    """
    if told and len(told) != count:
        raise ModelError(f"The generator has {count} classes, but its description names {len(told)}.")
    if told:
        return told
    if count == 1000:
        from torchvision.models import ResNet18_Weights  # about 2 seconds

        return tuple(ResNet18_Weights.DEFAULT.meta["categories"])
    return tuple(str(number) for number in range(count))


def _code_spaces(book: Codebook, side: int, details: Details, *, soft: bool) -> dict[str, LatentSpace]:
    bank = None if details.bank is None else details.bank.long()  # files hold them in 16 bits
    if bank is not None and (bank.shape[1:] != (side, side) or int(bank.max()) >= len(book.codes)):
        raise ModelError(f"The kept codes {list(bank.shape)} do not fit {len(book.codes)} codes at {side} x {side}.")
    kinds = (CodeSpace, StraightThroughSpace, *((SoftCodeSpace,) if soft else ()))
    return {kind.name: kind(book, side, side, bank) for kind in kinds}


def _device(network: nn.Module) -> Any:
    return next(network.parameters()).device
