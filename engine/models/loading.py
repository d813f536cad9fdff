"""Loading models: a name of the table, or a file of the user's own -> a frozen network, ready to run.

A loaded model is kept and shared, one per name and device, until the memory is needed for others (`POOL`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from engine.checkpoints import Checkpoint, open_checkpoint, read_safetensors, verify
from engine.checkpoints.building import Undrawn, build
from engine.checkpoints.opening import WEIGHT_SUFFIXES as GENERATOR_SUFFIXES
from engine.checkpoints.state_dict import OPEN_CLIP
from engine.errors import LoadingStopped, ModelError
from engine.latents.spaces import (
    LatentSpace,
    MappedSphereSpace,
    PlainWSpace,
    WPlusSpace,
    WSpace,
    WStatistics,
    w_statistics,
)
from engine.models.clip import WEIGHT_SUFFIXES, PromptModel, find_weights, load_clip_folder, load_clip_public
from engine.models.families import FAMILIES, Details, Synthesis
from engine.models.pool import Loading, ModelPool
from engine.models.precision import generator_dtype, lowered
from engine.models.store import OWN_LICENCE, OwnModel, find_installed
from engine.models.table import (
    ASSETS,
    PUBLIC_PREFIX,
    ROW_FILE,
    TASKS,
    ModelFile,
    ModelRow,
    find_row,
    list_models,
    read_row,
)
from engine.networks import biggan, biggan_deep, dalle_dvae, dfgan, stylegan2, vqgan
from engine.system.files import Watch

__all__ = [
    "POOL",
    "GeneratorModel",
    "LoadingStopped",
    "ModelError",
    "OtherModel",
    "PromptModel",
    "inspect_file",
    "list_models",
    "load_generator",
    "load_other",
    "load_prompt_model",
]

POOL = ModelPool()

UNTOLD_SPACE = "w"  # what a row says that says nothing

Device = torch.device | str
State = Mapping[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)
Loaded = TypeVar("Loaded", "GeneratorModel", "OtherModel", PromptModel)


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
    dtype: torch.dtype = torch.float32  # what `render` computes in, see `engine.models.precision`

    def render(self, latents: Tensor, space: str | LatentSpace) -> Tensor:
        """Latents [N, *space.shape] to images [N, 3, H, W], nominally in [-1, 1]. Differentiable.

        space: a name of `spaces`, or such a space truncated. Raises ValueError for a name it does not have.
        """
        if isinstance(space, str):
            if space not in self.spaces:
                raise ValueError(f"{self.name} has no latent space {space!r}; it has {', '.join(self.spaces)}.")
            space = self.spaces[space]
        decoded = space.decode(latents)
        with lowered(decoded.device, self.dtype):
            return self._draw(decoded, space).float() if self.dtype != torch.float32 else self._draw(decoded, space)

    def _draw(self, decoded: Tensor, space: LatentSpace) -> Tensor:
        if self.synthesize is not None:
            return self.synthesize(decoded, space)
        ws = decoded[:, None].expand(-1, self.network.num_ws, -1) if decoded.ndim == 2 else decoded
        images: Tensor = self.network.synthesis(ws)
        return images


@dataclass(frozen=True, eq=False)
class OtherModel:
    """The frozen networks of a model that draws nothing from latents alone, such as StarGAN v2, by role."""

    name: str
    family: str
    networks: Mapping[str, nn.Module]
    sha256: str
    licence: str


def load_generator(
    name_or_path: str, device: Device = "cpu", *, assets: Path = ASSETS, watch: Watch | None = None
) -> GeneratorModel:
    """A bundled or installed generator by name, a folder with a model.json, or a file of any format that opens.

    watch: told how far the loading is; it may end it by raising LoadingStopped. Raises ModelError.
    """
    return _pooled("generator", name_or_path, device, assets, watch, _read_generator)


def load_prompt_model(
    name_or_path: str, device: Device = "cpu", *, assets: Path = ASSETS, watch: Watch | None = None
) -> PromptModel:
    """A bundled prompt model by name, `open_clip:ARCHITECTURE/TAG`, or a checkpoint beside its configuration.

    watch: as of `load_generator`. Raises ModelError.
    """
    return _pooled("prompt", name_or_path, device, assets, watch, _read_prompt_model)


def load_other(
    name_or_path: str, device: Device = "cpu", *, assets: Path = ASSETS, watch: Watch | None = None
) -> OtherModel:
    """The networks of an installed model or a file, of whatever family. watch: as above. Raises ModelError."""
    return _pooled("other", name_or_path, device, assets, watch, _read_other)


def inspect_file(path: Path, *, architecture: str = "", device: Device = "cpu", watch: Watch | None = None) -> OwnModel:
    """What a file or folder of the user's own is, found by loading it; it stays loaded.

    architecture: one of open_clip, for a prompt model that does not tell its own. watch: as above. Raises ModelError.
    """
    if architecture:
        name = f"{PUBLIC_PREFIX}{architecture}/{path}"
        return _own_prompt_model(name, path, load_prompt_model(name, device, watch=watch))
    if (path / ROW_FILE).is_file():
        row = read_row(path)
        if row.kind == "prompt":
            return _own_prompt_model(str(path), path, load_prompt_model(str(path), device, watch=watch))
        return _own_model(str(path), path, row.family, load_generator(str(path), device, watch=watch).resolution)
    opened = open_checkpoint(path, watch=watch)
    if opened.family == OPEN_CLIP:
        return _own_prompt_model(str(path), path, load_prompt_model(str(path), device, watch=watch))
    if opened.family in _GENERATOR_FAMILIES:
        side = load_generator(str(path), device, watch=watch).resolution
    else:
        networks = load_other(str(path), device, watch=watch).networks
        side = max((int(getattr(network, "img_size", 0)) for network in networks.values()), default=0)
    return _own_model(str(path), path, opened.family, side, opened.provenance.format)


def _own_model(
    name: str, path: Path, family: str, resolution: int, form: str = "folder with a description"
) -> OwnModel:
    return OwnModel(name, "generator", family, resolution, _bytes_on_disk(path), form, str(path))


def _own_prompt_model(name: str, path: Path, model: PromptModel) -> OwnModel:
    side = max(model.image_size)
    return OwnModel(name, "prompt", OPEN_CLIP, side, _bytes_on_disk(path), f"{OPEN_CLIP} checkpoint", str(path))


def _bytes_on_disk(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.suffix in GENERATOR_SUFFIXES]
    return sum(file.stat().st_size for file in files)


_Read = Callable[[str, Device, Path, Loading], Loaded]


def _pooled(kind: str, name: str, device: Device, assets: Path, watch: Watch | None, read: _Read[Loaded]) -> Loaded:
    key = (kind, name, str(device), str(assets))
    return POOL.get(key, lambda loading: read(name, device, assets, loading), watch=watch)


def _read_generator(name: str, device: Device, assets: Path, loading: Loading) -> GeneratorModel:
    row = _own_generator_row(Path(name), loading) if _is_path(name) else _named_row(name, assets, loading)
    if row.family not in _GENERATOR_FAMILIES:
        families = ", ".join(_GENERATOR_FAMILIES)
        tasks = " and ".join(TASKS.get(row.family, ()))
        use = f" It is made for another task ({tasks})." if tasks else ""
        raise ModelError(f"{row.name} is of the family {row.family!r}; generators are: {families}.{use}")
    loading.make_room(sum(_bytes_as_floats(state) for state in row.states.values()) or row.size)
    loading.watch(f"Building {row.name}", None)
    return _GENERATOR_FAMILIES[row.family](row, device)


def _bytes_as_floats(state: State) -> int:
    return sum(4 * tensor.numel() for tensor in state.values())


def _read_prompt_model(name: str, device: Device, assets: Path, loading: Loading) -> PromptModel:
    if name.startswith(PUBLIC_PREFIX):
        architecture, _, weights = name.removeprefix(PUBLIC_PREFIX).partition("/")
        return load_clip_public(architecture, weights, name=name, device=device, watch=loading.watch)
    if _is_path(name):
        path = Path(name)
        weights_path = find_weights(path) if path.is_dir() else path
        return load_clip_folder(weights_path, name=name, device=device, watch=loading.watch)
    row = find_row(name, "prompt", assets)
    config, weights_file = row.file("config"), row.file("weights")
    verify(config.path, config.sha256)
    verify(weights_file.path, weights_file.sha256)
    return load_clip_folder(weights_file.path, name=row.name, device=device, watch=loading.watch)


def _read_other(name: str, device: Device, assets: Path, loading: Loading) -> OtherModel:
    here = None if _is_path(name) else find_installed(name)
    if here is None and not _is_path(name):
        raise ModelError(f"There is no installed model {name!r}; `python -m engine models get` fetches public ones.")
    opened = open_checkpoint(here.folder if here else Path(name), watch=loading.watch)
    loading.make_room(sum(map(_bytes_as_floats, opened.networks.values())))
    networks = {}
    for role in opened.networks:
        loading.watch(f"Building the {role} of {name}", None)
        networks[role] = build(opened, role, device=device)
    licence = here.model.licence if here else OWN_LICENCE
    return OtherModel(name, opened.family, networks, opened.provenance.sha256, licence)


def _is_path(name: str) -> bool:
    """Whether a person means a file or folder rather than a name of the table."""
    return "/" in name or "\\" in name or Path(name).suffix in (*WEIGHT_SUFFIXES, *GENERATOR_SUFFIXES)


def _named_row(name: str, assets: Path, loading: Loading) -> ModelRow:
    """The row of a public model that is installed, or of a bundled one."""
    here = find_installed(name)
    if here is None:
        return find_row(name, "generator", assets)
    opened = open_checkpoint(here.folder, watch=loading.watch)
    return _opened_row(opened, name, here.model.licence, here.model.resolution)


def _own_generator_row(path: Path, loading: Loading) -> ModelRow:
    """A row for the user's own folder, if it tells its row itself, or for whatever model the file or folder holds."""
    if (path / ROW_FILE).is_file():
        return read_row(path)
    return _opened_row(open_checkpoint(path, watch=loading.watch), str(path), OWN_LICENCE)


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
        raise ModelError(f"{row.name} needs a class ({network.c_dim} classes); only generators without can be used.")
    spaces = _spaces(network, _statistics(row, network, device), device)
    if row.default_space not in spaces:
        raise ModelError(f"{row.name}: default_space is {row.default_space!r}; there are {', '.join(spaces)}.")
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
        dtype=generator_dtype(device),
    )


def _other_family(row: ModelRow, device: Device) -> GeneratorModel:
    """A family of `families`: the networks whose files the row names, and `latents` with the codes of a bank."""
    builders = _BUILDERS[row.family]
    main = next(iter(builders))
    row.file(main)
    networks = {
        role: _fitted(row, role, lambda state, make=make: make(state, row.options), device)  # type: ignore[misc]
        for role, make in builders.items()
        if role in row.files
    }
    kept = _tensors(row, "latents") if "latents" in row.files else {}
    bank = kept.get("sentences", kept.get("codes"))
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
        dtype=generator_dtype(device),
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
    "dfgan": {"generator": lambda state, options: dfgan.generator_from_shapes(state)},
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


def _fitted(row: ModelRow, role: str, make: Callable[[State], Network], device: Device) -> Network:
    """The network that `make` makes for a file's shapes, with its weights. Raises ModelError."""
    state = _tensors(row, role)
    try:
        with Undrawn():
            network = make(state)
        network.load_state_dict(state)  # copied: the last bits of a product depend on where in memory its factors lie
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
        raise ModelError(f"{row.file('latents').path} does not fit a generator whose w has {network.w_dim} numbers.")
    mean, factor, low, high = (stored[name].to(device) for name in ("mean", "factor", "low", "high"))
    return WStatistics(mean, factor, float(stored["radius"]), low, high)


def _spaces(network: stylegan2.Generator, statistics: WStatistics, device: Device) -> dict[str, LatentSpace]:
    w = WSpace(network.mapping.to_w, network.z_dim, statistics)
    z = MappedSphereSpace(network.z_dim, device, mapping=network.mapping.to_w, mean=statistics.mean)
    spaces = (z, w, PlainWSpace(w), WPlusSpace(w, network.num_ws))
    return {space.name: space for space in spaces}
