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

from engine.checkpoints import Checkpoint, open_checkpoint, read_safetensors, verify
from engine.checkpoints.opening import WEIGHT_SUFFIXES as GENERATOR_SUFFIXES
from engine.clip import WEIGHT_SUFFIXES, PromptModel, find_weights, load_clip_folder, load_clip_public
from engine.errors import ModelError
from engine.families import FAMILIES, Details, Synthesis
from engine.latents import (
    LatentSpace,
    MappedSphereSpace,
    PlainWSpace,
    WPlusSpace,
    WSpace,
    WStatistics,
    w_statistics,
)
from engine.model_store import find_installed
from engine.model_table import ASSETS, PUBLIC_PREFIX, ROW_FILE, ModelFile, ModelRow, find_row, list_models, read_row
from engine.networks import biggan, biggan_deep, dalle_dvae, stylegan2, vqgan

__all__ = [
    "GeneratorModel",
    "ModelError",
    "PromptModel",
    "list_models",
    "load_generator",
    "load_prompt_model",
]

UNTOLD_SPACE = "w"  # what a row says that says nothing

Device = torch.device | str
State = Mapping[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)
Loaded = TypeVar("Loaded", "GeneratorModel", PromptModel)


@dataclass(frozen=True, eq=False)
class GeneratorModel:
    """A frozen generator with its latent spaces.

    discriminator: images [N, 3, H, W] to logits [N, 1], each image for itself; encoder: images [N, 3, 64, 64]
    to w [N, w_dim]. Either may be missing. synthesize: for families other than stylegan2. classes: their names, in
    the network's order.
    """

    name: str
    resolution: int
    network: Any  # the family's generator
    spaces: Mapping[str, LatentSpace]
    default_space: str
    discriminator: Callable[[Tensor], Tensor] | None
    encoder: nn.Module | None
    sha256: str
    licence: str
    examples: tuple[str, ...]
    family: str = "stylegan2"
    synthesize: Synthesis | None = None
    classes: tuple[str, ...] = ()

    def render(self, latents: Tensor, space: str | LatentSpace) -> Tensor:
        """Latents [N, *space.shape] to images [N, 3, H, W], nominally in [-1, 1]. Differentiable.

        space: a name of `spaces`, or such a space truncated. Raises ValueError for a name it does not have.
        """
        if isinstance(space, str):
            if space not in self.spaces:
                raise ValueError(f"{self.name} has no latent space {space!r}; it has {', '.join(self.spaces)}.")
            space = self.spaces[space]
        decoded = space.decode(latents)
        if self.synthesize is not None:
            return self.synthesize(decoded, space)
        ws = decoded[:, None].expand(-1, self.network.num_ws, -1) if decoded.ndim == 2 else decoded
        images: Tensor = self.network.synthesis(ws)
        return images


def load_generator(name_or_path: str, device: Device = "cpu", *, assets: Path = ASSETS) -> GeneratorModel:
    """A bundled or installed generator by name, a folder with a model.json, or a file of any format that opens.

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
    row = _own_generator_row(Path(name)) if _is_path(name) else _named_row(name, assets)
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
    return "/" in name or "\\" in name or Path(name).suffix in (*WEIGHT_SUFFIXES, *GENERATOR_SUFFIXES)


def _named_row(name: str, assets: Path) -> ModelRow:
    """The row of a public model that is installed, or of a bundled one."""
    here = find_installed(name)
    if here is None:
        return find_row(name, "generator", assets)
    return _opened_row(open_checkpoint(here.folder), name, here.model.licence, here.model.resolution)


def _own_generator_row(path: Path) -> ModelRow:
    """A row for the user's own folder, if it tells its row itself, or for whatever model the file or folder holds."""
    if (path / ROW_FILE).is_file():
        return read_row(path)
    return _opened_row(open_checkpoint(path), str(path), "unknown: the user's own file")


def _opened_row(opened: Checkpoint, name: str, licence: str, resolution: int = 0) -> ModelRow:
    """A row for an opened checkpoint; its settings are the row's options, those of the first network foremost."""
    options: dict[str, Any] = {}
    for role in reversed(list(_BUILDERS.get(opened.family, opened.configuration))):
        options |= {key: setting.value for key, setting in opened.configuration.get(role, {}).items()}
    path, sha256 = opened.provenance.path, opened.provenance.sha256
    return ModelRow(
        name=name,
        kind="generator",
        family=opened.family,
        resolution=options.get("resolution", resolution),
        licence=licence,
        files={role: ModelFile(path, sha256) for role in opened.networks},
        folder=path.parent,
        options=options,
        states=opened.networks,
    )


def _stylegan2(row: ModelRow, device: Device) -> GeneratorModel:
    """The `stylegan2` family: files `generator`, and optionally `discriminator`, `encoder` and `latents`.

    `latents` holds the statistics of W. Where it is missing they are estimated from the mapping
    network, but then a coordinate's sign may differ between machines, and a kept latent mean another picture.
    """
    options = _only(row.options, "lr_multiplier", "conv_clamp")
    network = _fitted(row, "generator", lambda state: stylegan2.generator_from_shapes(state, **options), device)
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
        discriminator=_fitted(row, "discriminator", lambda state: _lone_discriminator(state, **options), device)
        if has_discriminator
        else None,
        encoder=_fitted(row, "encoder", _encoder, device) if has_encoder else None,
        sha256=row.file("generator").sha256,
        licence=row.licence,
        examples=row.examples,
    )


def _other_family(row: ModelRow, device: Device) -> GeneratorModel:
    """A family of `families`: the networks whose files the row names, and `latents` with the codes of a bank."""
    builders = _BUILDERS[row.family]
    main = next(iter(builders))
    row.file(main)
    networks = {
        role: _fitted(row, role, lambda state, build=build: build(state, row.options), device)  # type: ignore[misc]
        for role, build in builders.items()
        if role in row.files
    }
    bank = _tensors(row, "latents").get("codes") if "latents" in row.files else None
    parts = FAMILIES[row.family](networks, Details(row.resolution, row.classes, bank, row.options))
    if row.default_space not in parts.spaces and row.default_space != UNTOLD_SPACE:
        raise ModelError(f"{row.name}: default_space is {row.default_space!r}; there are {', '.join(parts.spaces)}.")
    first = next(iter(parts.spaces))
    return GeneratorModel(
        name=row.name,
        resolution=parts.resolution,
        network=parts.network,
        spaces=parts.spaces,
        default_space=row.default_space if row.default_space in parts.spaces else first,
        discriminator=parts.discriminator,
        encoder=None,
        sha256=row.file(main).sha256,
        licence=row.licence,
        examples=row.examples,
        family=row.family,
        synthesize=parts.synthesize,
        classes=parts.classes,
    )


# What each family's files hold, the one it cannot do without first; options are those of the row.
_BUILDERS: Mapping[str, Mapping[str, Callable[[State, Mapping[str, Any]], nn.Module]]] = {
    "biggan": {
        "generator": lambda state, options: biggan.generator_from_shapes(state, **_only(options, "bn_eps")),
        "discriminator": lambda state, options: biggan.discriminator_from_shapes(state, **_only(options, "down")),
    },
    "biggan_deep": {
        "generator": lambda state, options: biggan_deep.generator_from_shapes(state, **_only(options, "up", "eps")),
    },
    "dalle_dvae": {"decoder": lambda state, options: dalle_dvae.decoder_from_shapes(state)},
    "vqgan": {"autoencoder": lambda state, options: vqgan.vqgan_from_shapes(state)},
}

_GENERATOR_FAMILIES: Mapping[str, Callable[[ModelRow, Device], GeneratorModel]] = {
    "stylegan2": _stylegan2,
    **dict.fromkeys(_BUILDERS, _other_family),
}


def _only(options: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}


def _lone_discriminator(state: State, **options: Any) -> stylegan2.Discriminator:
    """Groups of one: how real a particle looks must not depend on which others are in the batch."""
    return stylegan2.discriminator_from_shapes(state, mbstd_group_size=1, **options)


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
    if role in row.states:
        return {key: value.float() if value.is_floating_point() else value for key, value in row.states[role].items()}
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
