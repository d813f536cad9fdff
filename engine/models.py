"""Loading models: a name of the table, or a file of the user's own -> a frozen network, ready to run.

A loaded model is kept for the life of the process, one per name and device.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from engine.checkpoints import read_safetensors, verify
from engine.clip import WEIGHT_SUFFIXES, PromptModel, find_weights, load_clip_folder, load_clip_public
from engine.errors import ModelError
from engine.latents import (
    LatentSpace,
    MappedSphereSpace,
    PlainWSpace,
    WPlusSpace,
    WSpace,
    WStatistics,
    w_statistics,
)
from engine.model_table import ASSETS, PUBLIC_PREFIX, ModelFile, ModelRow, find_row, list_models, read_row
from engine.networks import stylegan2

__all__ = [
    "GeneratorModel",
    "ModelError",
    "PromptModel",
    "list_models",
    "load_generator",
    "load_prompt_model",
]

Device = torch.device | str
State = Mapping[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)
Loaded = TypeVar("Loaded", "GeneratorModel", PromptModel)


@dataclass(frozen=True, eq=False)
class GeneratorModel:
    """A frozen generator with its latent spaces.

    discriminator: images [N, 3, H, W] to logits [N, 1], each image for itself; encoder: images [N, 3, 64, 64]
    to w [N, w_dim]. Either may be missing.
    """

    name: str
    resolution: int
    network: stylegan2.Generator
    spaces: Mapping[str, LatentSpace]
    default_space: str
    discriminator: stylegan2.Discriminator | None
    encoder: nn.Module | None
    sha256: str
    licence: str
    examples: tuple[str, ...]

    def render(self, latents: Tensor, space: str | LatentSpace) -> Tensor:
        """Latents [N, *space.shape] to images [N, 3, H, W], nominally in [-1, 1]. Differentiable.

        space: a name of `spaces`, or such a space truncated. Raises ValueError for a name it does not have.
        """
        if isinstance(space, str):
            if space not in self.spaces:
                raise ValueError(f"{self.name} has no latent space {space!r}; it has {', '.join(self.spaces)}.")
            space = self.spaces[space]
        decoded = space.decode(latents)
        ws = decoded[:, None].expand(-1, self.network.num_ws, -1) if decoded.ndim == 2 else decoded
        images: Tensor = self.network.synthesis(ws)
        return images


def load_generator(name_or_path: str, device: Device = "cpu", *, assets: Path = ASSETS) -> GeneratorModel:
    """A bundled generator by name, a folder with a model.json, or a StyleGAN2 .safetensors file.

    Raises ModelError.
    """
    return _once("generator", name_or_path, device, assets, _read_generator)


def load_prompt_model(name_or_path: str, device: Device = "cpu", *, assets: Path = ASSETS) -> PromptModel:
    """A bundled prompt model by name, `open_clip:ARCHITECTURE/TAG`, or a checkpoint beside its configuration.

    Raises ModelError.
    """
    return _once("prompt", name_or_path, device, assets, _read_prompt_model)


_loaded: dict[tuple[str, ...], Any] = {}
_lock = threading.Lock()  # two runs that ask for one model at once must not load it twice


def _once(
    kind: str, name: str, device: Device, assets: Path, read: Callable[[str, Device, Path], Loaded]
) -> Loaded:
    key = (kind, name, str(device), str(assets))
    with _lock:
        if key not in _loaded:
            _loaded[key] = read(name, device, assets)
        model: Loaded = _loaded[key]
        return model


def _read_generator(name: str, device: Device, assets: Path) -> GeneratorModel:
    row = _own_generator_row(Path(name)) if _is_path(name) else find_row(name, "generator", assets)
    if row.family not in _GENERATOR_FAMILIES:
        families = ", ".join(_GENERATOR_FAMILIES)
        raise ModelError(f"{row.name} is of the family {row.family!r}; generators are: {families}.")
    return _GENERATOR_FAMILIES[row.family](row, device)


def _read_prompt_model(name: str, device: Device, assets: Path) -> PromptModel:
    if name.startswith(PUBLIC_PREFIX):
        architecture, _, weights = name.removeprefix(PUBLIC_PREFIX).partition("/")
        return load_clip_public(architecture, weights, name=name, device=device)
    if _is_path(name):
        path = Path(name)
        weights_path = find_weights(path) if path.is_dir() else path
        return load_clip_folder(weights_path, sha256=verify(weights_path), name=name, device=device)
    row = find_row(name, "prompt", assets)
    config, weights_file = row.file("config"), row.file("weights")
    verify(config.path, config.sha256)
    sha256 = verify(weights_file.path, weights_file.sha256)
    return load_clip_folder(weights_file.path, sha256=sha256, name=row.name, device=device)


def _is_path(name: str) -> bool:
    """Whether a person means a file or folder rather than a name of the table."""
    return "/" in name or "\\" in name or Path(name).suffix in WEIGHT_SUFFIXES


def _own_generator_row(path: Path) -> ModelRow:
    """A row for the user's own folder (it tells its row itself) or file (StyleGAN2, no more is known)."""
    if path.is_dir():
        return read_row(path)
    return ModelRow(
        name=str(path),
        kind="generator",
        family="stylegan2",
        resolution=0,
        licence="unknown: the user's own file",
        files={"generator": ModelFile(path, verify(path))},
        folder=path.parent,
    )


def _stylegan2(row: ModelRow, device: Device) -> GeneratorModel:
    """The `stylegan2` family: files `generator`, and optionally `discriminator`, `encoder` and `latents`.

    `latents` holds the statistics of W. Where it is missing they are estimated from the mapping
    network, but then a coordinate's sign may differ between machines, and a kept latent mean another picture.
    """
    network = _fitted(row, "generator", stylegan2.generator_from_shapes, device)
    if network.c_dim:
        raise ModelError(
            f"{row.name} needs a class ({network.c_dim} classes); only generators without can be used."
        )
    spaces = _spaces(network, _statistics(row, network, device), device)
    if row.default_space not in spaces:
        raise ModelError(
            f"{row.name}: default_space is {row.default_space!r}; there are {', '.join(spaces)}."
        )
    has_discriminator, has_encoder = "discriminator" in row.files, "encoder" in row.files
    return GeneratorModel(
        name=row.name,
        resolution=network.img_resolution,
        network=network,
        spaces=spaces,
        default_space=row.default_space,
        discriminator=_fitted(row, "discriminator", _lone_discriminator, device)
        if has_discriminator
        else None,
        encoder=_fitted(row, "encoder", _encoder, device) if has_encoder else None,
        sha256=row.file("generator").sha256,
        licence=row.licence,
        examples=row.examples,
    )


_GENERATOR_FAMILIES: Mapping[str, Callable[[ModelRow, Device], GeneratorModel]] = {"stylegan2": _stylegan2}


def _lone_discriminator(state: State) -> stylegan2.Discriminator:
    """Groups of one: how real a particle looks must not depend on which others are in the batch."""
    return stylegan2.discriminator_from_shapes(state, mbstd_group_size=1)


def _encoder(state: State) -> nn.Module:
    from engine.networks.mini_tower import MiniTower  # brings timm, about 2 seconds

    return MiniTower(num_classes=len(state["head.weight"]))


def _fitted(row: ModelRow, role: str, build: Callable[[State], Network], device: Device) -> Network:
    """The network that `build` makes for a file's shapes, with its weights. Raises ModelError."""
    state = _tensors(row, role)
    try:
        network = build(state)
        network.load_state_dict(state)
    except (ValueError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{row.file(role).path} does not hold a {row.family} {role}: {reason}") from error
    return network.to(device).eval().requires_grad_(False)


def _tensors(row: ModelRow, role: str) -> State:
    file = row.file(role)
    verify(file.path, file.sha256)
    return read_safetensors(file.path)


def _statistics(row: ModelRow, network: stylegan2.Generator, device: Device) -> WStatistics:
    if "latents" not in row.files:
        return w_statistics(network.mapping.to_w, network.z_dim, device=device)
    stored = _tensors(row, "latents")
    if missing := sorted({"mean", "factor", "radius", "low", "high"} - stored.keys()):
        raise ModelError(f"{row.file('latents').path} lacks {', '.join(missing)}.")
    if stored["mean"].shape != (network.w_dim,) or len(stored["factor"]) != network.w_dim:
        raise ModelError(
            f"{row.file('latents').path} does not fit a generator whose w has {network.w_dim} numbers."
        )
    mean, factor, low, high = (stored[name].to(device) for name in ("mean", "factor", "low", "high"))
    return WStatistics(mean, factor, float(stored["radius"]), low, high)


def _spaces(network: stylegan2.Generator, statistics: WStatistics, device: Device) -> dict[str, LatentSpace]:
    w = WSpace(network.mapping.to_w, network.z_dim, statistics)
    z = MappedSphereSpace(network.z_dim, device, mapping=network.mapping.to_w, mean=statistics.mean)
    spaces = (z, w, PlainWSpace(w), WPlusSpace(w, network.num_ws))
    return {space.name: space for space in spaces}
