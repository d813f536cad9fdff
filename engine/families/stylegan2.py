"""StyleGAN2 (Karras et al. 2020): a mapping from z to w, then a synthesis with a w for each layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.errors import ModelError
from engine.families.common import check_channels, class_names
from engine.families.declaration import (
    Assembled,
    Details,
    Family,
    Network,
    count_or_none,
    has_keys,
    one_of,
    positive,
    positive_or_none,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engine.families.declaration import State, Synthesis
    from engine.latents.settling import Settling
    from engine.latents.spaces import LatentSpace, MappingNetwork, WStatistics
    from engine.networks import stylegan2

PROGRESSIVE = "Encoder4Editing"
WIDE = "wide"
STATISTICS = ("mean", "factor", "radius", "low", "high")  # of w, as the `latents` file of a model keeps them


def _generator(state: State, **options: Any) -> nn.Module:
    from engine.networks import stylegan2

    return stylegan2.generator_from_shapes(state, **options)


def _discriminator(state: State, **options: Any) -> nn.Module:
    from engine.networks import stylegan2

    return stylegan2.discriminator_from_shapes(state, **options)


def _encoder(state: State, *, encoder_type: str, encoder_view: str) -> nn.Module:
    if "head.weight" not in state:
        from engine.networks.irse_encoder import encoder_from_shapes

        return encoder_from_shapes(state, progressive=encoder_type == PROGRESSIVE, is_wide=encoder_view == WIDE)
    from engine.networks.mini_tower import MiniTower  # brings timm, about 2 seconds

    return MiniTower(num_classes=len(state["head.weight"]))


def assemble(networks: Mapping[str, nn.Module], details: Details) -> Assembled:
    """Spaces of z, with a class where it needs one, of w and of a w for each layer.

    Where the model has no statistics of w they are estimated from the mapping network, but then a coordinate's sign
    may differ between machines, and a kept latent mean another picture.
    """
    from engine.networks import stylegan2

    network, judge = networks["generator"], networks.get("discriminator")
    assert isinstance(network, stylegan2.Generator)
    check_channels(network.img_channels, details)
    if details.draft_resolution not in (0, *network.synthesis.drafts):
        possible = ", ".join(map(str, network.synthesis.drafts)) or "none"
        raise ModelError(f"{details.name}: draft_resolution is {details.draft_resolution}; its network has {possible}.")
    classes = class_names(details.classes, network.c_dim) if network.c_dim else ()
    return Assembled(
        network,
        network.img_resolution,
        _spaces(network, details, classes),
        synthesis_of(network),
        default_space="z" if classes else "w",
        sketch=synthesis_of(network, details.draft_resolution) if details.draft_resolution else None,
        discriminator=_judge(judge, network, details) if isinstance(judge, stylegan2.Discriminator) else None,
        encoder=networks.get("encoder"),
        encoder_side=_encoder_side(networks.get("encoder"), network, details),
        classes=classes,
    )


def _judge(
    network: stylegan2.Discriminator, generator: stylegan2.Generator, details: Details
) -> Callable[[Tensor], Tensor]:
    """Images [N, 3, H, W] to logits [N, 1], whatever channels and classes the network has.

    It may judge smaller pictures than the generator draws. Raises ModelError where drafts are too small for it.
    """
    from engine.networks.colours import GreyDiscriminator, ReducingDiscriminator

    if 0 < details.draft_resolution < network.img_resolution:
        raise ModelError(
            f"{details.name}: its discriminator judges pictures of {network.img_resolution} px, and drafts have "
            f"{details.draft_resolution}. Leave the discriminator or the draft_resolution out."
        )
    network.b4.mbstd_group_size = 1  # how real a particle looks must not depend on which others are in the batch
    judge: Callable[[Tensor], Tensor] = network.of_any_class if network.judges_by_class else network
    judge = GreyDiscriminator(judge) if network.img_channels == 1 else judge
    smaller = network.img_resolution < generator.img_resolution
    return ReducingDiscriminator(judge, network.img_resolution) if smaller else judge


def _encoder_side(encoder: nn.Module | None, network: stylegan2.Generator, details: Details) -> int:
    """Pixels of what the encoder reads, where its shapes tell. Raises ModelError for one of another generator."""
    from engine.networks.irse_encoder import Backbone

    if not isinstance(encoder, Backbone):
        return 0
    found = [(encoder.num_ws, encoder.w_dim)]
    if hasattr(encoder, "latent_avg"):
        found.append((encoder.latent_avg.shape[0], encoder.latent_avg.shape[1]))
    for rows, numbers in found:
        if numbers != network.w_dim or rows not in (1, network.num_ws):
            raise ModelError(
                f"{details.name}: its encoder finds {rows} w of {numbers} numbers, but its generator draws from "
                f"{network.num_ws} of {network.w_dim}."
            )
    return encoder.input_side


def synthesis_of(network: stylegan2.Generator, resolution: int | None = None) -> Synthesis:
    """One w is that of every layer; grey pictures get three equal channels. resolution: of a draft."""
    from engine.networks.colours import as_colours

    def synthesize(decoded: Tensor, space: LatentSpace) -> Tensor:
        ws = decoded[:, None].expand(-1, network.num_ws, -1) if decoded.ndim == 2 else decoded
        return as_colours(network.synthesis(ws, resolution=resolution))

    return synthesize


def _spaces(network: stylegan2.Generator, details: Details, classes: tuple[str, ...]) -> dict[str, LatentSpace]:
    from engine.latents.classes import MappedClassSpace
    from engine.latents.spaces import MappedSphereSpace, PlainWSpace, WPlusSpace, WSpace

    mapping = _mapping_of_all_classes(network) if classes else network.mapping.to_w
    statistics = _statistics(network, mapping, details)
    w = WSpace(mapping, network.z_dim, statistics)
    z: LatentSpace = MappedSphereSpace(network.z_dim, details.device, mapping=mapping, mean=statistics.mean)
    if classes:
        every, average = tuple(range(len(classes))), network.mapping.w_avg
        z = MappedClassSpace(
            network.z_dim, classes, every, device=details.device, mapping=network.mapping.to_w, mean=average
        )
    spaces: tuple[LatentSpace, ...] = (z, w, PlainWSpace(w), WPlusSpace(w, network.num_ws))
    if (settling := _settling(network, details)) is not None:
        spaces += (replace(w, name="w_settled", settling=settling),)
    return {space.name: space for space in spaces}


def _mapping_of_all_classes(network: stylegan2.Generator) -> MappingNetwork:
    """z -> w of some class, each as often: which one follows from z. So W holds what all classes may look like.

    The first coordinate chooses, by its share of the normal distribution below it.
    """
    import torch
    from torch.nn import functional

    def mapping(z: Tensor) -> Tensor:
        below = torch.special.ndtr(z[:, 0])
        classes = (below * network.c_dim).long().clamp(0, network.c_dim - 1)
        return network.mapping.to_w(z, functional.one_hot(classes, network.c_dim).to(z.dtype))

    return mapping


def _statistics(network: stylegan2.Generator, mapping: MappingNetwork, details: Details) -> WStatistics:
    """Those kept with the model. Raises ModelError for those of another."""
    from engine.latents.spaces import WStatistics, w_statistics

    stored = details.latents
    if not stored:
        return w_statistics(mapping, network.z_dim, device=details.device)
    if missing := sorted(set(STATISTICS) - stored.keys()):
        raise ModelError(f"{details.place} lacks {', '.join(missing)}.")
    if stored["mean"].shape != (network.w_dim,) or len(stored["factor"]) != network.w_dim:
        raise ModelError(f"{details.place} does not fit a generator whose w has {network.w_dim} numbers.")
    mean, factor, low, high = (stored[name].to(details.device) for name in ("mean", "factor", "low", "high"))
    return WStatistics(mean, factor, float(stored["radius"]), low, high)


def _settling(network: stylegan2.Generator, details: Details) -> Settling | None:
    """The one that the model's latents describe, if they do. Raises ModelError for one that fits no such w."""
    import torch

    from engine.latents.settling import Settling

    stored = {name: value.to(details.device) for name, value in details.latents.items()}
    try:
        settling = Settling.from_tensors(stored)
        if settling is not None:
            settling(torch.zeros(1, network.w_dim, device=details.device))
    except KeyError as error:
        raise ModelError(f"{details.place} lacks settle.{error.args[0]}.") from error
    except (RuntimeError, IndexError, ValueError) as error:
        place = details.place
        raise ModelError(f"{place} settles no w of {network.w_dim} numbers: {str(error).splitlines()[0]}") from error
    return settling


_OPTIONS = (
    positive("lr_multiplier", 0.01, "of the mapping network's layers"),
    positive_or_none("conv_clamp", "256 in networks trained with float16 layers"),
)
_ENCODER_TYPE = one_of(
    "encoder_type", (PROGRESSIVE, "GradualStyleEncoder"), "e4e's or pSp's arithmetic, of encoders with a pyramid"
)
_NORMALIZATION = one_of(
    "normalization",
    ("apart", "together"),
    "of z and the class: each for itself, or as one vector, as in TensorFlow networks with LabelConcat",
)
_ENCODER_VIEW = one_of("encoder_view", ("square", WIDE), "wide: 4 : 3, without the bars above and below, as of cars")
_GROUP = count_or_none("mbstd_group_size", 4, "pictures per group of the batch statistic")

FAMILY = Family(
    name="stylegan2",
    label="StyleGAN2",
    tasks=("generate", "edit", "inpaint"),
    networks={
        "generator": Network(
            _generator,
            has_keys("mapping.fc0.weight synthesis.b4.const synthesis.b4.conv1.weight"),
            (*_OPTIONS, _NORMALIZATION),
        ),
        "discriminator": Network(
            _discriminator, has_keys("b4.conv.weight b4.fc.weight b4.out.weight b8.conv0.weight"), (*_OPTIONS, _GROUP)
        ),
        "encoder": Network(_encoder, options=(_ENCODER_TYPE, _ENCODER_VIEW)),
    },
    assemble=assemble,
    bytes_per_pixel=1650.0,  # fitted to 470 MB a picture at 256 px and 2.1 GB at 1024 px, in float32 on the CPU
)
