"""Distilled latent diffusion models of one to four steps: SD-Turbo and SDXL-Turbo (Sauer et al. 2023), latent
consistency models (Luo et al. 2023).

The latent is the noise; the prompt is told to the model as well as to the prompt model.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from engine.errors import ModelError
from engine.families.declaration import Assembled, Details, Family, Network, Option
from engine.settings import LIMITS

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from engine.families.declaration import State
    from engine.latents.spaces import LatentSpace
    from engine.networks.diffusion import Reader, Told

_KEPT_TEXTS = 4  # what the model is told of texts, a few hundred kB each
UNTOLD: Mapping[str, Any] = {}


def _unet(state: State, *, configuration: Mapping[str, Any], schedule: Mapping[str, Any]) -> nn.Module:
    from engine.networks import diffusion

    if not schedule:
        raise ValueError("nothing tells its schedule")
    made = diffusion.unet_of(state, configuration)
    made.schedule = schedule  # type: ignore[assignment]
    return made


def _vae(state: State, *, configuration: Mapping[str, Any]) -> nn.Module:
    from engine.networks import diffusion

    return diffusion.vae_of(state, configuration)


def _text_encoder(state: State, *, configuration: Mapping[str, Any]) -> nn.Module:
    from engine.networks import diffusion

    return diffusion.text_encoder_of(state, configuration)


def _words(state: State) -> nn.Module:
    from engine.networks import diffusion

    return diffusion.words_of(state)


def _description(name: str, field: str, about: str) -> Option:
    """What a file of the pipeline says, checked by its field of `engine.networks.diffusion_configuration`."""

    def accepts(value: Any) -> bool:
        from engine.networks import diffusion_configuration
        from engine.system.fields import FieldError

        if value == UNTOLD:
            return True  # what cannot be built then
        try:
            getattr(diffusion_configuration, field)(value, "")
        except FieldError:
            return False
        return True

    return Option(name, UNTOLD, "what a file of the pipeline says", accepts, about)


def assemble(networks: Mapping[str, nn.Module], details: Details) -> Assembled:
    """The space of its noise; pictures are drawn from what the space was told. Raises ModelError for parts that are of
    different models."""
    from engine.latents.noise import NoiseSpace
    from engine.networks import denoising, diffusion

    missing = [role for role in ("vae", "text_encoder", "tokenizer") if role not in networks]
    if missing:
        raise ModelError(f"{details.name} holds no {' and no '.join(missing)}; give the whole folder of the pipeline.")
    unet, reader = networks["unet"], _reader(networks, details)
    encoder = diffusion.Encoder(networks["vae"])
    schedule: Mapping[str, Any] = unet.schedule  # type: ignore[assignment]
    device, dtype = _place(details.device)
    generator = diffusion.Generator(unet, networks["vae"], schedule)
    for weights in (*generator.parameters(), *generator.buffers()):
        kind = dtype if weights.is_floating_point() else None
        weights.data = weights.to(device, kind, copy=True)  # where they lay decides the last bits of a product
    _check_width(generator, reader, details)
    low, high = LIMITS["denoising_steps"]
    draws = {steps: denoising.denoising(schedule, steps).draws for steps in range(int(low) + 1, int(high) + 1)}

    @lru_cache(maxsize=_KEPT_TEXTS)
    def read(text: str) -> Told:
        return reader.read(text, device)

    space = NoiseSpace(
        channels=generator.channels,
        height=generator.side,
        width=generator.side,
        factor=generator.factor,
        multiple=generator.multiple,
        usual_steps=denoising.usual_steps(schedule),
        draws_of=draws.__getitem__,
        read=read,
        encode=encoder.encode,
        device=device,
    )

    def synthesize(decoded: Tensor, space: LatentSpace) -> Tensor:
        assert isinstance(space, NoiseSpace)
        told = read("") if space.told is None else space.told
        last_only = space.gradient_steps == "last"
        begin = {"begin": space.begin, "strength": space.strength}
        images: Tensor = generator(decoded, told, steps=space.steps, last_only=last_only, **begin)
        return images

    return Assembled(generator, generator.side, {"noise": space}, synthesize, left_out=reader.left_out)


def _place(device: torch.device | str) -> tuple[torch.device, torch.dtype]:
    """Where the networks of every step lie, and their type: half of float32 on a GPU, beside noise in float32."""
    import torch

    place = torch.device(device)
    if place.type != "cuda":
        return place, torch.float32
    has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return place, torch.bfloat16 if has_bfloat16 else torch.float32


def _reader(networks: Mapping[str, nn.Module], details: Details) -> Reader:
    from engine.networks.diffusion import Reader, TextEncoder, Words

    encoders, words = [], []
    for number in ("", "_2"):
        encoder, table = networks.get(f"text_encoder{number}"), networks.get(f"tokenizer{number}")
        if isinstance(encoder, TextEncoder) and isinstance(table, Words):
            if table.tokenizer.vocabulary > encoder.vocabulary:
                raise ModelError(
                    f"{details.name}: its tokenizer{number} knows {table.tokenizer.vocabulary:,} words and its "
                    f"text_encoder{number} {encoder.vocabulary:,}; they are of different models."
                )
            encoders.append(encoder)
            words.append(table)
    return Reader(encoders, words, penultimate=len(encoders) == 2)


def _check_width(generator: Any, reader: Reader, details: Details) -> None:
    found, wanted = sum(encoder.width for encoder in reader.encoders), generator.unet.config.cross_attention_dim  # type: ignore[misc]
    if found != wanted:
        raise ModelError(
            f"{details.name}: its text encoders make {found} numbers a token and its U-Net takes {wanted}; they are of "
            "different models."
        )
    pooled = generator.unet.config.projection_class_embeddings_input_dim
    told = 6 * (generator.unet.config.addition_time_embed_dim or 0) + reader.pooled_width
    if (pooled is None) != (reader.pooled_width == 0) or (pooled is not None and pooled != told):
        raise ModelError(
            f"{details.name}: its U-Net is told {pooled or 'no'} numbers of the whole text and the size, and its text "
            f"encoders make {told}; they are of different models."
        )


# Of SD-Turbo's shapes in float32, measured in a process of its own beyond the weights: 488 MB at 256 pixels, one step
# and one picture, 121 MB more for each further step, 2.63 GB at 512 pixels; here the larger of the figures a pixel.
# Where pictures repel each other, two gradients go through the graph side by side: 3.82 GB at 512 pixels. On a GPU, in
# half of float32, less is taken. Each picture is there as itself, its gradients and their sums, by count.
_GRAPH_BYTES, _GRADIENT_BYTES, _STEP_BYTES, _PICTURE_BYTES = 10_000, 4500, 1900, 120


def bytes_beyond(pixels: int, n: int, steps: int) -> int:
    """What a run takes beyond the weights: the graph of one picture, and what there is of each."""
    graph = _GRAPH_BYTES + (_GRADIENT_BYTES if n > 1 else 0) + (steps - 1) * _STEP_BYTES
    return pixels * (graph + n * _PICTURE_BYTES)


_CONFIGURATION = "its config.json"
FAMILY = Family(
    name="one_step_diffusion",
    label="one-step diffusion",
    tasks=("generate", "inpaint"),
    networks={
        "unet": Network(
            _unet,
            options=(
                _description("configuration", "UNET", _CONFIGURATION),
                _description("schedule", "SCHEDULE", "its scheduler_config.json"),
            ),
            keeps_types=True,
        ),
        "vae": Network(_vae, options=(_description("configuration", "VAE", _CONFIGURATION),), keeps_types=True),
        "text_encoder": Network(
            _text_encoder, options=(_description("configuration", "TEXT_ENCODER", _CONFIGURATION),), keeps_types=True
        ),
        "text_encoder_2": Network(
            _text_encoder, options=(_description("configuration", "TEXT_ENCODER", _CONFIGURATION),), keeps_types=True
        ),
        "tokenizer": Network(_words, keeps_types=True),
        "tokenizer_2": Network(_words, keeps_types=True),
    },
    assemble=assemble,
    choices=("cutouts", "denoising_steps", "gradient_steps", "width", "height", "start_strength"),
    # Of ReNO's steps: a gradient of length .1 times 5 with a momentum of .9 goes 5 in latents of length 128. A chunk of
    # one particle bounds the memory. Neither was measured with the weights of a public model.
    tuned={"step_size": 0.04, "chunk": 1},
    raw={"chunk": 1},
    index="model_index.json",
    bytes_beyond=bytes_beyond,
)
