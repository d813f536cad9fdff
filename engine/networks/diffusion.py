"""The networks of a latent diffusion model, made by diffusers and transformers, and the generator that they make up.

Both libraries are optional and imported here alone, when a network is made. Classes are named in this file, never by a
model's. Weights are given to a network by whoever makes it; nothing is fetched.

A generator takes noise [N, draws, C, h, w] and what a prompt says to images [N, 3, H, W], h = H / `factor`.
"""

from __future__ import annotations

import copy
import importlib
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engine.errors import ModelError
from engine.networks.denoising import denoised, denoising
from engine.networks.diffusion_configuration import NOT_OF_THE_NETWORK
from engine.networks.tokenizer import PaddedTokenizer
from engine.system.fields import parse_json

INSTALL = (
    "Diffusion models need two packages more: `pip install -r requirements-diffusion.txt`, or "
    "`pip install 'gmi-studio[diffusion]'`."
)
GUIDANCE = 8.5  # what consistency models with an embedded guidance scale are told (Luo et al. 2023: 7.5 + 1)
_PREFIX = "text_model."  # which files of some versions of transformers have and others have not
_BYTES = "words"

State = Mapping[str, Tensor]
Fields = Mapping[str, Any]
Network = TypeVar("Network", bound=nn.Module)


class Told(NamedTuple):
    """What a prompt says to a denoiser. hidden: [1, L, W], a vector for each token; pooled: [1, P], of some models."""

    hidden: Tensor
    pooled: Tensor | None


def library(name: str) -> Any:
    """An optional package. Raises ModelError, which says how to install it, where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(f"{INSTALL} ({name} is missing here.)") from error


def unet_of(state: State, configuration: Fields) -> nn.Module:
    """An untrained denoiser."""
    made: nn.Module = library("diffusers").UNet2DConditionModel(**_own(configuration))
    return made


def vae_of(state: State, configuration: Fields) -> nn.Module:
    """An untrained autoencoder."""
    made: nn.Module = library("diffusers").AutoencoderKL(**_own(configuration))
    return made


def text_encoder_of(state: State, configuration: Fields) -> nn.Module:
    """An untrained text encoder, with a projection where the weights have one."""
    transformers = library("transformers")
    if not configuration:
        raise ValueError("nothing tells its configuration")
    config = transformers.CLIPTextConfig(
        **{name: value for name, value in configuration.items() if name not in NOT_OF_THE_NETWORK}
    )
    is_projected = "text_projection.weight" in state
    return TextEncoder(
        (transformers.CLIPTextModelWithProjection if is_projected else transformers.CLIPTextModel)(config)
    )


class TextEncoder(nn.Module):
    """CLIP's text tower of transformers, under key names that stay the same from version to version.

    They are those of the files without `text_model.`, which some of them have and others have not.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        tower = getattr(network, "text_model", network)
        self.embeddings, self.encoder, self.final_layer_norm = tower.embeddings, tower.encoder, tower.final_layer_norm
        if hasattr(network, "text_projection"):
            self.text_projection = network.text_projection
        self._whole = (network,)  # in a tuple, so that its weights are not counted twice

    @property
    def width(self) -> int:
        return int(self._whole[0].config.hidden_size)

    @property
    def length(self) -> int:
        """How many tokens it reads, the two at the ends included."""
        return int(self._whole[0].config.max_position_embeddings)

    @property
    def vocabulary(self) -> int:
        return int(self._whole[0].config.vocab_size)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """tokens [1, L] to the last but one hidden states and the last ones, normalised, [1, L, W], and the pooled
        vector [1, P] of an encoder that projects it."""
        said = self._whole[0](tokens, output_hidden_states=True)
        return said.hidden_states[-2], said.last_hidden_state, getattr(said, "text_embeds", None)


def text_encoder_state(state: State) -> dict[str, Tensor]:
    """A file's weights under the names of `TextEncoder`; numbers of places, which are no weights, are left out."""
    names = {key: key.removeprefix(_PREFIX) for key in state}
    return {name: state[key] for key, name in names.items() if name != "embeddings.position_ids"}


_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def vae_state(state: State) -> dict[str, Tensor]:
    """A file's weights under today's names; before diffusers 0.17 those of attention were others."""
    renamed = {}
    for key, tensor in state.items():
        for old, new in _OLD_ATTENTION.items():
            key = key.replace(old, new)
        renamed[key] = tensor
    return renamed


class Words(nn.Module):
    """A tokenizer, kept as the bytes of its table [B] among a model's weights: texts to tokens."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer(_BYTES, torch.empty_like(table))
        self._tokenizer: PaddedTokenizer | None = None

    @property
    def tokenizer(self) -> PaddedTokenizer:
        """Raises FieldError for a table that is damaged."""
        if self._tokenizer is None:
            self._tokenizer = PaddedTokenizer(parse_json(bytes(self.get_buffer(_BYTES).cpu().numpy())))
        return self._tokenizer


def words_of(state: State) -> nn.Module:
    """A `Words` without its table. Raises ValueError for a state that holds none."""
    table = state.get(_BYTES)
    if len(state) != 1 or table is None or table.dtype != torch.uint8 or table.dim() != 1:
        raise ValueError("it holds no table of words")
    return Words(table)


def words_state(table: Fields) -> dict[str, Tensor]:
    """The state dict of the `Words` of a table as `engine.networks.tokenizer.read_word_table` gives it."""
    return {_BYTES: torch.frombuffer(bytearray(json.dumps(table).encode()), dtype=torch.uint8)}


def _own(configuration: Fields) -> dict[str, Any]:
    """The fields without those for people; lists as tuples, as the libraries' own defaults are.

    Raises ValueError where there are none.
    """
    if not configuration:
        raise ValueError("nothing tells its configuration")
    own = {name: value for name, value in configuration.items() if not name.startswith("_")}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}


# ---- what a prompt says ----------------------------------------------------------------------------------


class Reader(nn.Module):
    """The text encoders of a model with their tokenizers.

    They stay where they are, on the CPU and in the file's own types, mapped where they were; a text is read by a copy
    that is given up right after.
    """

    def __init__(self, encoders: list[TextEncoder], words: list[Words], *, penultimate: bool) -> None:
        super().__init__()
        self.encoders, self.words = nn.ModuleList(encoders), nn.ModuleList(words)
        self._penultimate = penultimate

    @property
    def pooled_width(self) -> int:
        """How many numbers the vector of a whole text has; 0 where no encoder makes one."""
        last = self.encoders[-1]
        assert isinstance(last, TextEncoder)
        return int(last.text_projection.out_features) if hasattr(last, "text_projection") else 0

    @torch.no_grad()
    def read(self, text: str, device: torch.device, dtype: torch.dtype = torch.float32) -> Told:
        """What the model is told of a text. Of a longer one than it reads the rest is left out."""
        hidden, pooled = [], None
        for encoder, words in zip(self.encoders, self.words, strict=True):
            assert isinstance(encoder, TextEncoder) and isinstance(words, Words)
            tokens = torch.tensor([words.tokenizer(text, encoder.length)], device=device)
            penultimate, last, projected = _placed(encoder, device, dtype)(tokens)
            hidden.append(penultimate if self._penultimate else last)
            pooled = projected if projected is not None else pooled
        return Told(torch.cat(hidden, dim=-1), pooled)

    def left_out(self, text: str) -> str:
        """The end of a text that some encoder does not read; empty where all is read."""
        ends = [
            words.tokenizer.left_out(text, encoder.length)
            for encoder, words in zip(self.encoders, self.words, strict=True)
            if isinstance(encoder, TextEncoder) and isinstance(words, Words)
        ]
        return max(ends, key=len)


def _placed(network: Network, device: torch.device, dtype: torch.dtype) -> Network:
    """A copy; the network itself where it is as wanted already."""
    first = next(network.parameters())
    if (first.device, first.dtype) == (device, dtype):
        return network
    return copy.deepcopy(network).to(device, dtype)


# ---- the generator ---------------------------------------------------------------------------------------


class Recomputed(nn.Module):
    """A layer of which a backward pass keeps the input alone, and computes the rest again."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.is_on = layer, True

    def forward(self, *inputs: Any, **named: Any) -> Any:
        if not (self.is_on and torch.is_grad_enabled()):
            return self.layer(*inputs, **named)
        return checkpoint(self.layer, *inputs, use_reentrant=False, **named)


class Generator(nn.Module):
    """Noise and what a prompt says to images, in one to four steps. Differentiable in the noise.

    A backward pass keeps the inputs of blocks and computes what lies inside of them again, unless `recompute` says
    otherwise.
    """

    def __init__(self, unet: Any, vae: Any, schedule: Fields) -> None:
        super().__init__()
        if unet.config.in_channels != vae.config.latent_channels or unet.config.out_channels != unet.config.in_channels:
            raise ValueError(
                f"its U-Net takes {unet.config.in_channels} channels and gives {unet.config.out_channels}, its "
                f"autoencoder has {vae.config.latent_channels}: they are of different models, or of one that changes "
                "pictures"
            )
        self.unet, self.to_decoder, self.decoder = unet, vae.post_quant_conv, vae.decoder
        self.schedule = schedule
        self.channels: int = vae.config.latent_channels
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.side: int = unet.config.sample_size * self.factor
        self.multiple = self.factor * 2 ** (len(unet.config.block_out_channels) - 1)
        self._scaling: float = vae.config.scaling_factor
        # diffusers' own way keeps all of an autoencoder's block, of which the last takes gigabytes at 512 pixels.
        for block in self.decoder.up_blocks:
            block.resnets = nn.ModuleList(map(Recomputed, block.resnets))
            if block.upsamplers is not None:
                block.upsamplers = nn.ModuleList(map(Recomputed, block.upsamplers))
        self.recompute(True)

    def recompute(self, is_on: bool) -> None:
        """Whether what lies inside of blocks is computed again, which takes a third longer and far less memory."""
        (self.unet.enable_gradient_checkpointing if is_on else self.unet.disable_gradient_checkpointing)()
        for module in self.decoder.modules():
            if isinstance(module, Recomputed):
                module.is_on = is_on

    def forward(
        self,
        noise: Tensor,
        told: Told,
        *,
        steps: int,
        last_only: bool = False,
        begin: Tensor | None = None,
        strength: float = 1.0,
    ) -> Tensor:
        """noise: [N, draws, C, h, w], draws as `denoising` says for `steps`; images [N, 3, H, W], nominally [-1, 1].

        begin, strength: of `denoising`, a picture as `Encoder` encodes it and how much noise is added to it.
        """
        latents = denoised(
            lambda x, time: self._predict(x, time, told),
            noise,
            denoising(self.schedule, steps, strength),
            begin=begin,
            last_only=last_only,
        )
        dtype = next(self.decoder.parameters()).dtype
        images: Tensor = self.decoder(self.to_decoder((latents / self._scaling).to(dtype)))
        return images.to(noise.dtype)

    def _predict(self, x: Tensor, time: int, told: Told) -> Tensor:
        n, dtype = len(x), next(self.unet.parameters()).dtype
        added = None
        if told.pooled is not None:
            height, width = (side * self.factor for side in x.shape[-2:])
            ids = torch.tensor([[height, width, 0, 0, height, width]], device=x.device, dtype=dtype)
            added = {"text_embeds": told.pooled.to(x.device, dtype).expand(n, -1), "time_ids": ids.expand(n, -1)}
        scale = self.unet.config.time_cond_proj_dim
        said: Tensor = self.unet(
            x.to(dtype),
            time,
            encoder_hidden_states=told.hidden.to(x.device, dtype).expand(n, -1, -1),
            timestep_cond=None if scale is None else guidance_embedding(GUIDANCE - 1, scale).to(x.device, dtype),
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        return said.to(x.dtype)


class Encoder(nn.Module):
    """The autoencoder's half that encodes. As `Reader`, it stays on the CPU in the file's types; copies of it work."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.encoder, self.to_moments = vae.encoder, vae.quant_conv
        self._scaling: float = vae.config.scaling_factor

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] in [-1, 1] to the means of their latents [N, C, h, w], as the denoiser takes them."""
        mean, _ = _placed(self, images.device, torch.float32)(images.float()).chunk(2, dim=1)
        latents: Tensor = self._scaling * mean
        return latents

    def forward(self, images: Tensor) -> Tensor:
        """The mean and the logarithm of the variance, side by side: [N, 2 C, h, w]."""
        moments: Tensor = self.to_moments(self.encoder(images))
        return moments


def guidance_embedding(scale: float, size: int) -> Tensor:
    """The guidance scale as sines and cosines of falling frequencies: [1, size] (Luo et al. 2023, after Vaswani)."""
    half = size // 2
    angles = 1000 * scale * torch.exp(-math.log(10_000) / max(half - 1, 1) * torch.arange(half, dtype=torch.float64))
    waves = torch.cat([angles.sin(), angles.cos(), torch.zeros(size % 2, dtype=torch.float64)])
    return waves[None].float()
