"""CLIP through open_clip behind one small class: unit-length features of images and of texts.

`load_clip_public` takes any model that open_clip knows, `load_clip_folder` a local checkpoint and clip-mini. Weights
are read by `engine.checkpoints`, which runs nothing of a file; open_clip builds the networks. It is imported when
the first model is loaded: it brings torchvision and timm, about 3 seconds.
"""

import bisect
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.checkpoints import open_checkpoint
from engine.checkpoints.building import Bounded
from engine.checkpoints.state_dict import OPEN_CLIP
from engine.errors import ModelError, did_you_mean
from engine.models.clip_description import CONFIG_NAME, read_clip_description
from engine.models.precision import lowered, prompt_model_dtype
from engine.models.public import PublicFile, PublicModel
from engine.models.store import find_prompt_file
from engine.models.table import PUBLIC_PREFIX
from engine.system.fields import FieldError
from engine.system.files import Watch

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")

_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")  # what a tag may say of it
_VOCABULARY = 49408  # of the tokenizer that comes with open_clip
_HEAD = 64  # channels of an attention head, in every model whose sizes are read from the shapes

# Licences of open_clip's weights by the beginning of their tag, and what they demand.
_TERMS = {
    "openai": ("MIT", ""),
    "laion": ("MIT", ""),
    "datacomp": ("MIT", ""),
    "commonpool": ("MIT", ""),
    "metaclip": ("CC BY-NC 4.0", "not commercially, and with the authors named"),
    "dfn": ("Apple Sample Code License", "the terms on the model's page"),
}
_OTHER_TERMS = ("see the model's page", "the terms on the model's page, which may exclude commercial use")

Tokenizer = Callable[[list[str]], Tensor]


@dataclass(frozen=True, eq=False)
class PromptModel:
    """A frozen pair of image and text towers with features of the same length D."""

    name: str
    sha256: str
    network: Any  # open_clip's CLIP or CustomTextCLIP
    tokenizer: Tokenizer
    image_size: tuple[int, int]
    mean: Tensor  # [3, 1, 1], of images in [0, 1]
    std: Tensor  # [3, 1, 1]
    interpolation: str
    logit_scale: float
    dtype: torch.dtype = torch.float32  # what it looks at pictures in, see `engine.models.precision`

    def preprocess(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] in [-1, 1] to the network's input: clamped, resized, normalised.

        The network sees the picture that would be saved, yet the gradient passes the clamp: a generator's
        white background often lies beyond 1, and could never change its colour otherwise. The resize is
        antialiased, as in the towers' training; pictures that are not square are squeezed.
        """
        images = images + (images.clamp(-1, 1) - images).detach()
        if images.shape[-2:] != self.image_size:
            images = F.interpolate(
                images, self.image_size, mode=self.interpolation, align_corners=False, antialias=True
            )
        return ((images + 1) / 2 - self.mean) / self.std

    def image_features(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] in [-1, 1], any size, to features [N, D] of length 1. Differentiable."""
        seen = self.preprocess(images)
        with lowered(seen.device, self.dtype):
            features = self.network.encode_image(seen)
        return F.normalize(features.to(seen.dtype), dim=-1)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """M texts to features [M, D] of length 1; a text beyond the context is cut."""
        tokens = self.tokenizer(list(texts)).to(self.mean.device)
        return F.normalize(self.network.encode_text(tokens), dim=-1)

    def truncated_words(self, prompt: str) -> str:
        """The end of `prompt` that the context has no room for; empty if all of it is read."""
        kept = self.tokenizer([prompt])
        if not torch.equal(self.tokenizer([prompt + " more"]), kept):
            return ""

        def is_enough(length: int) -> bool:
            return torch.equal(self.tokenizer([prompt[:length]]), kept)

        return prompt[bisect.bisect_left(range(len(prompt)), True, key=is_enough) :].strip()


@dataclass(frozen=True)
class _Weights:
    """What a checkpoint of open_clip holds."""

    state: dict[str, Tensor]
    sha256: str
    is_openai: bool  # a TorchScript file as OpenAI gave out, whose networks use QuickGELU


def load_clip_folder(
    weights: Path, *, name: str, device: torch.device | str = "cpu", watch: Watch | None = None
) -> PromptModel:
    """Loads a checkpoint (.safetensors, .pt, .pth, .bin) whose folder holds its open_clip_config.json.

    Without that file, one of CLIP's own shape (OpenAI's, LAION's): its sizes are those of the weights. No network, and
    nothing that the configuration names is looked up. Raises ModelError for a file that is none, or does not fit the
    configuration.
    """
    read = _read_weights(weights, watch)
    config = weights.parent / CONFIG_NAME
    if not config.is_file():
        return _load_by_shapes(weights, read, name, device)
    place = f"{weights} is not a checkpoint that fits {config}"
    try:
        description = read_clip_description(config)
        tokenizer = description.tokenizer()
        with _quiet_logging():
            network = description.network(read.state)
            _fill(network, read.state)
    except FieldError as error:
        raise ModelError(f"{place}: {error}.") from error
    except OSError as error:
        raise ModelError(f"{config} cannot be read: {error.strerror}.") from error
    except Exception as error:  # open_clip and timm raise every kind, from KeyError to RuntimeError
        raise ModelError(f"{place}: {_first_line(error)}") from error
    return _prompt_model(name, read.sha256, network, tokenizer, device)


def load_clip_public(
    architecture: str,
    weights: str,
    *,
    name: str,
    device: torch.device | str = "cpu",
    watch: Watch | None = None,
) -> PromptModel:
    """Loads a model open_clip knows; `weights`: one of its tags (fetched once, then kept) or a file.

    Raises ModelError for an unknown architecture or tag, a failed download, a file that does not fit.
    """
    import open_clip

    tag = known_tag(architecture, weights)
    if not tag and not Path(weights).is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
        raise ModelError(f"{weights!r} is neither a file nor a tag of {architecture}; its tags: {tags}.")
    file = _tag_file(architecture, weights, tag, watch) if tag else Path(weights)
    read = _read_weights(file, watch)
    try:
        with _quiet_logging(), Bounded(read.state):
            network = open_clip.create_model(
                architecture,
                load_weights=False,
                pretrained_text=False,
                force_quick_gelu=bool(tag.get("quick_gelu")) or read.is_openai,
                force_preprocess_cfg={key: tag[key] for key in _PREPROCESSING if key in tag},
            )
            _fill(network, read.state)
            tokenizer = open_clip.get_tokenizer(architecture)
    except Exception as error:
        raise ModelError(f"{file} does not hold a {architecture}: {_first_line(error)}") from error
    return _prompt_model(name, read.sha256, network, tokenizer, device)


def known_tag(architecture: str, tag: str) -> dict[str, Any]:
    """What open_clip says of a tag: address, preprocessing; empty for none of its tags.

    Raises ModelError for an architecture that open_clip does not know.
    """
    import open_clip

    if architecture not in open_clip.list_models():
        raise ModelError(
            f"open_clip has no architecture {architecture!r}"
            f"{did_you_mean(architecture, open_clip.list_models())} "
            "`open_clip.list_pretrained()` lists them all."
        )
    return dict(open_clip.get_pretrained_cfg(architecture, tag))


def public_prompt_models(architecture: str, tag: str) -> tuple[PublicModel, ...]:
    """The rows by which a tag of open_clip can be fetched, the better place first: safetensors, then as it came.

    Raises ModelError for an unknown architecture or tag.
    """
    import open_clip

    about = known_tag(architecture, tag)
    if not about:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
        raise ModelError(f"{architecture} has no tag {tag!r}; its tags: {tags}.")
    licence, conditions = next((terms for start, terms in _TERMS.items() if tag.startswith(start)), _OTHER_TERMS)
    return tuple(
        PublicModel(
            name=f"{PUBLIC_PREFIX}{architecture}/{tag}",
            family=OPEN_CLIP,
            resolution=0,
            files=(PublicFile(url.rpartition("/")[2], url, 0, sha256),),
            licence=licence,
            conditions=conditions,
            paper="",
            shows="reads texts",
        )
        for url, sha256 in _addresses(about)
    )


def _addresses(about: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Where a tag's file is, and its sha256 where the address tells it."""
    repository, _, file = str(about.get("hf_hub", "")).rpartition("/")
    found: list[tuple[str, str | None]] = []
    if repository:
        from huggingface_hub import hf_hub_url

        stem = Path(file).stem if file else "open_clip_model"
        names = dict.fromkeys([f"{stem}.safetensors", file or "open_clip_pytorch_model.bin"])
        found += [(hf_hub_url(repository, name), None) for name in names]
    if url := str(about.get("url", "")):
        stated = re.search(r"/([0-9a-f]{64})/", url)
        found.append((url, stated[1] if stated else None))
    return found


def _tag_file(architecture: str, weights: str, tag: dict[str, Any], watch: Watch | None) -> Path:
    """The file of a tag: fetched by `models get` or the page, else by open_clip into its own cache."""
    import open_clip

    if (fetched := find_prompt_file(f"{PUBLIC_PREFIX}{architecture}/{weights}")) is not None:
        return fetched
    if watch is not None:
        watch(f"Fetching {architecture}/{weights}", None)
    try:
        with _quiet_logging():
            return Path(open_clip.download_pretrained(tag))
    except Exception as error:  # urllib's, Hugging Face's, the disk's
        raise ModelError(
            f"{architecture}/{weights} could not be loaded: {_first_line(error)} "
            "A tag is downloaded at its first use; without a network, give a local file."
        ) from error


def _read_weights(path: Path, watch: Watch | None) -> _Weights:
    """Raises ModelError for a file that is refused, or that holds something else."""
    opened = open_checkpoint(path, watch=watch)
    if opened.family != OPEN_CLIP:
        raise ModelError(f"{path} holds a {opened.family}, which reads no texts; a prompt model is needed here.")
    state = dict(next(iter(opened.networks.values())))
    return _Weights(state, opened.provenance.sha256, "TorchScript" in opened.provenance.format)


def _fill(network: Any, state: dict[str, Tensor]) -> None:
    """Gives a network of open_clip a checkpoint's weights, older names and sizes brought up to date as open_clip does.

    Raises whatever does not fit.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed

    state = convert_state_dict(network, state)
    if "positional_embedding" in state and not hasattr(network, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    state.pop("text.transformer.embeddings.position_ids", None)  # a buffer of older transformers
    made_anew = {name for name, _ in network.named_buffers()} - network.state_dict().keys()  # TorchScript keeps them
    state = {key: value for key, value in state.items() if key not in made_anew}
    for scalar in ("logit_scale", "logit_bias"):
        own = getattr(network, scalar, None)
        if own is not None:
            state[scalar] = state[scalar].reshape(own.shape) if scalar in state else torch.zeros_like(own)
    resize_pos_embed(state, network)
    resize_text_pos_embed(state, network)
    network.load_state_dict(state)


def _load_by_shapes(weights: Path, read: _Weights, name: str, device: torch.device | str) -> PromptModel:
    """A CLIP whose sizes are those of the weights: a vision transformer or a ResNet, and a text transformer."""
    from open_clip.model import CLIP, set_model_preprocess_cfg
    from open_clip.tokenizer import SimpleTokenizer
    from open_clip.transform import PreprocessCfg

    state = read.state
    try:
        words, width = state["token_embedding.weight"].shape
        if words != _VOCABULARY:
            raise ValueError(f"it reads {words:,} different tokens, expected {_VOCABULARY:,}")
        length = len(state["positional_embedding"])
        text = {"context_length": length, "vocab_size": words, "width": width, "heads": width // _HEAD}
        text["layers"] = _count(state, "transformer.resblocks.{}.ln_1.weight")
        with _quiet_logging(), Bounded(state):
            network = CLIP(state["text_projection"].shape[1], _vision(state), text, quick_gelu=read.is_openai)
            _fill(network, state)
    except (KeyError, ValueError, RuntimeError, IndexError, AssertionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else _first_line(error)
        raise ModelError(
            f"{weights} does not tell its architecture ({reason}). Put its {CONFIG_NAME} into {weights.parent}, or "
            f"name an architecture of open_clip: {PUBLIC_PREFIX}ARCHITECTURE/{weights}."
        ) from error
    set_model_preprocess_cfg(network, {**vars(PreprocessCfg()), "size": network.visual.image_size})
    return _prompt_model(name, read.sha256, network, SimpleTokenizer(context_length=length), device)


def _vision(state: dict[str, Tensor]) -> dict[str, Any]:
    """The image tower's sizes, in open_clip's words. Raises KeyError for a tower of another kind."""
    if "visual.proj" in state:
        width, _, patch, _ = state["visual.conv1.weight"].shape
        side = round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
        layers: Any = _count(state, "visual.transformer.resblocks.{}.ln_1.weight")
        return {"layers": layers, "width": width, "patch_size": patch, "image_size": patch * side, "head_width": _HEAD}
    layers = [_count(state, f"visual.layer{stage}.{{}}.conv1.weight") for stage in (1, 2, 3, 4)]
    side = round((len(state["visual.attnpool.positional_embedding"]) - 1) ** 0.5)
    width = state["visual.layer1.0.conv1.weight"].shape[0]
    return {"layers": layers, "width": width, "patch_size": None, "image_size": 32 * side, "head_width": _HEAD}


def _count(state: dict[str, Tensor], key: str) -> int:
    return next(i for i in range(len(state) + 1) if key.format(i) not in state)


def find_weights(folder: Path) -> Path:
    """The single checkpoint in a folder. Raises ModelError if there is none or more than one."""
    found = sorted(path for path in folder.iterdir() if path.suffix in WEIGHT_SUFFIXES)
    if len(found) != 1:
        listed = ", ".join(path.name for path in found) or "none"
        raise ModelError(f"{folder} must hold one checkpoint ({', '.join(WEIGHT_SUFFIXES)}); found {listed}.")
    return found[0]


def _prompt_model(
    name: str, sha256: str, network: Any, tokenizer: Tokenizer, device: torch.device | str
) -> PromptModel:
    network.to(device).eval().requires_grad_(False)
    preprocess = network.visual.preprocess_cfg
    size = preprocess["size"]  # a side for open_clip's own ResNets, else (height, width)
    return PromptModel(
        name=name,
        sha256=sha256,
        network=network,
        tokenizer=tokenizer,
        image_size=(size, size) if isinstance(size, int) else tuple(size),
        mean=torch.tensor(preprocess["mean"], device=device).view(3, 1, 1),
        std=torch.tensor(preprocess["std"], device=device).view(3, 1, 1),
        interpolation="bilinear" if preprocess["interpolation"] == "bilinear" else "bicubic",
        logit_scale=float(network.logit_scale.exp()),
        dtype=prompt_model_dtype(device),
    )


def _first_line(error: Exception) -> str:
    """What an error says first; torch's only announces what follows."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = " ".join(lines[:2]) if lines and lines[0].endswith(":") else next(iter(lines), "")
    return first[:300] or type(error).__name__


@contextmanager
def _quiet_logging() -> Iterator[None]:
    """open_clip warns on the root logger of what is meant here, like weights that are loaded afterwards."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
