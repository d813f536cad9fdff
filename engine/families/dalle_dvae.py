"""DALL-E's discrete VAE (Ramesh et al. 2021): an encoder to a grid of codes, and a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.families.common import UNTOLD_SIDE, WITH_CODES, code_spaces
from engine.families.declaration import Assembled, Details, Family, Network

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engine.families.declaration import State
    from engine.latents.spaces import LatentSpace

_FIRST, _LAST = "blocks.input.w", "blocks.output.conv.w"


def _decoder(state: State) -> nn.Module:
    from engine.networks import dalle_dvae

    return dalle_dvae.decoder_from_shapes(state)


def _encoder(state: State) -> nn.Module:
    from engine.networks import dalle_dvae

    return dalle_dvae.encoder_from_shapes(state)


def _is_encoder(state: State) -> bool:
    """The first layer of the encoder looks at 7 x 7 pixels, that of the decoder at single codes."""
    return {_FIRST, _LAST} <= state.keys() and state[_FIRST].shape[-1:] == (7,)


def _is_decoder(state: State) -> bool:
    return {_FIRST, _LAST} <= state.keys() and not _is_encoder(state)


def assemble(networks: Mapping[str, nn.Module], details: Details) -> Assembled:
    """Spaces of vectors near the codes, of the nearest codes and of mixtures of codes."""
    from engine.latents.codebook import Codebook
    from engine.networks import dalle_dvae

    decoder = networks["decoder"]
    assert isinstance(decoder, dalle_dvae.Decoder)

    def synthesize(decoded: Tensor, space: LatentSpace) -> Tensor:
        return decoder.images(decoder.from_vectors(decoded))

    book = Codebook(decoder.codes().detach())
    resolution = details.resolution or UNTOLD_SIDE
    spaces = code_spaces(book, resolution // decoder.scale_factor, details, mixtures=True)
    return Assembled(decoder, resolution, spaces, synthesize)


FAMILY = Family(
    name="dalle_dvae",
    label="DALL-E dVAE",
    tasks=("generate",),
    networks={"decoder": Network(_decoder, _is_decoder), "encoder": Network(_encoder, _is_encoder, in_runs=False)},
    assemble=assemble,
    spaces=("codes", "straight-through", "soft"),
    **WITH_CODES,
)
