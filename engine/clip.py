"""CLIP through open_clip behind one small class: unit-length features of images and of texts.

`load_clip_public` takes any model that open_clip knows, `load_clip_folder` a local checkpoint and clip-mini.
open_clip is imported when the first model is loaded: it brings torchvision and timm, about 3 seconds.
"""

import bisect
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.checkpoints import verify
from engine.errors import ModelError, did_you_mean

CONFIG_NAME = "open_clip_config.json"
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")

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
        return F.normalize(self.network.encode_image(self.preprocess(images)), dim=-1)

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


def load_clip_folder(
    weights: Path, *, sha256: str, name: str, device: torch.device | str = "cpu"
) -> PromptModel:
    """Loads a checkpoint (.safetensors, .pt, .pth, .bin) whose folder holds its open_clip_config.json.

    sha256: what `verify` found. No network, unless the configuration names a Hugging Face text tower. Raises
    ModelError for a file that does not fit the configuration.
    """
    config = weights.parent / CONFIG_NAME
    if not config.is_file():
        raise ModelError(
            f"{weights} needs its model configuration beside it: put {CONFIG_NAME} in {weights.parent}."
        )
    import open_clip

    import engine.networks.mini_tower  # noqa: F401  (registers clip-mini's tower in timm)

    place = f"local-dir:{weights.parent}"
    try:
        with _quiet_logging():
            network = open_clip.create_model(place, load_weights=False)
            open_clip.load_checkpoint(network, str(weights))
            tokenizer = open_clip.get_tokenizer(place)
    except Exception as error:  # open_clip raises every kind, from KeyError to pickle's own
        raise ModelError(f"{weights} is not a checkpoint that fits {config}: {_first_line(error)}") from error
    return _prompt_model(name, sha256, network, tokenizer, device)


def load_clip_public(
    architecture: str, weights: str, *, name: str, device: torch.device | str = "cpu"
) -> PromptModel:
    """Loads a model open_clip knows; `weights`: one of its tags (downloaded once, then cached) or a file.

    Raises ModelError for an unknown architecture or tag, a failed download, a file that does not fit.
    """
    import open_clip

    if architecture not in open_clip.list_models():
        raise ModelError(
            f"open_clip has no architecture {architecture!r}"
            f"{did_you_mean(architecture, open_clip.list_models())} "
            "`open_clip.list_pretrained()` lists them all."
        )
    tag = open_clip.get_pretrained_cfg(architecture, weights)
    if not tag and not Path(weights).is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
        raise ModelError(f"{weights!r} is neither a file nor a tag of {architecture}; its tags: {tags}.")
    try:
        with _quiet_logging():
            network = open_clip.create_model(architecture, pretrained=weights)
            tokenizer = open_clip.get_tokenizer(architecture)
            file = Path(open_clip.download_pretrained(tag) if tag else weights)
    except Exception as error:  # open_clip raises every kind, from OSError to pickle's own
        raise ModelError(
            f"{architecture}/{weights} could not be loaded: {_first_line(error)} "
            "A tag is downloaded at its first use; without a network, give a local file."
        ) from error
    return _prompt_model(name, verify(file), network, tokenizer, device)


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
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


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
