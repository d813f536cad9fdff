"""Loading models: a name of the table, or a file of the user's own -> a frozen network, ready to run.

A loaded model is kept and shared, one per name and device, until the memory is needed for others (`POOL`).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from engine.checkpoints import Checkpoint, open_checkpoint, read_safetensors, verify
from engine.checkpoints.building import build, build_network, can_build
from engine.checkpoints.configuration import complete
from engine.checkpoints.opening import WEIGHT_SUFFIXES as GENERATOR_SUFFIXES
from engine.checkpoints.pipeline_folder import is_pipeline
from engine.checkpoints.state_dict import OPEN_CLIP
from engine.errors import LoadingStopped, ModelError
from engine.families import FAMILIES, find_family
from engine.families.declaration import Assembled, Details, Family
from engine.latents.spaces import LatentSpace
from engine.models.clip import (
    CONFIG_NAME,
    WEIGHT_SUFFIXES,
    PromptModel,
    find_weights,
    load_clip_folder,
    load_clip_public,
)
from engine.models.pool import Loading, ModelPool
from engine.models.precision import generator_dtype, lowered
from engine.models.public import PUBLIC_MODELS
from engine.models.store import OWN_LICENCE, OwnModel, find_installed
from engine.models.table import ASSETS, PUBLIC_PREFIX, ROW_FILE, ModelFile, ModelRow, find_row, list_models, read_row
from engine.system.files import Watch

if TYPE_CHECKING:
    from engine.families.declaration import Synthesis

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
_MARKED = 1000  # files of a folder that are looked at
REFERENCES = "references"  # the role of the file with features of examples

Device = torch.device | str
State = Mapping[str, Tensor]
Loaded = TypeVar("Loaded", "GeneratorModel", "OtherModel", PromptModel)


@dataclass(frozen=True, eq=False)
class GeneratorModel:
    """A frozen generator with its latent spaces.

    synthesize: a space's decoded latents, and the space, to images. discriminator: images [N, 3, H, W] to logits
    [N, 1], or to features where it is a `terms.Matcher`, each image for itself; encoder: images [N, 3, side, side] to
    w [N, w_dim] or a w for each layer [N, L, w_dim], side as `encoder_side` says. Either may be missing. sketch: as
    synthesize, pictures of `draft_resolution` px, where that is not 0. classes: their names, in the network's order.
    in_domain_distance, framed_distance, domain, domain_likeness: see `engine.models.table.ModelRow`. references:
    features [M, D] of pictures like those it was trained on, as prompt models see them, by their sha256. left_out: of
    one that is told the prompt, the end of a text that it has no place for.
    """

    name: str
    resolution: int
    network: Any  # the family's generator
    spaces: Mapping[str, LatentSpace]
    default_space: str
    synthesize: "Synthesis"
    discriminator: Callable[[Tensor], Tensor] | None
    encoder: nn.Module | None
    sha256: str
    licence: str
    examples: tuple[str, ...]
    family: str = "stylegan2"
    classes: tuple[str, ...] = ()
    dtype: torch.dtype = torch.float32  # what `render` computes in, see `engine.models.precision`
    encoder_side: int = 0  # 0: the resolution
    draft_resolution: int = 0
    sketch: "Synthesis | None" = None
    in_domain_distance: float | None = None
    framed_distance: float | None = None
    references: Mapping[str, Tensor] = field(default_factory=dict)
    domain: str = ""
    domain_likeness: float | None = None
    left_out: Callable[[str], str] | None = None

    def render(self, latents: Tensor, space: str | LatentSpace, *, draft: bool = False) -> Tensor:
        """Latents [N, *space.shape] to images [N, 3, H, W], nominally in [-1, 1]. Differentiable.

        space: a name of `spaces`, or such a space truncated. draft: smaller, where the model has such pictures. Raises
        ValueError for a name it does not have.
        """
        if isinstance(space, str):
            if space not in self.spaces:
                raise ValueError(f"{self.name} has no latent space {space!r}; it has {', '.join(self.spaces)}.")
            space = self.spaces[space]
        decoded = space.decode(latents)
        with lowered(decoded.device, self.dtype):
            images = self.sketch(decoded, space) if draft and self.sketch else self.synthesize(decoded, space)
            return images.float() if self.dtype != torch.float32 else images


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
        made = load_generator(str(path), device, watch=watch)
        return _own_model(str(path), path, row.family, made.resolution, classes=made.classes)
    opened = open_checkpoint(path, watch=watch)
    if opened.family == OPEN_CLIP:
        return _own_prompt_model(str(path), path, load_prompt_model(str(path), device, watch=watch))
    classes: tuple[str, ...] = ()
    if find_family(opened.family).is_generator:
        made = load_generator(str(path), device, watch=watch)
        side, classes = made.resolution, made.classes
    else:
        networks = load_other(str(path), device, watch=watch).networks
        side = max((int(getattr(network, "img_size", 0)) for network in networks.values()), default=0)
    provenance = opened.provenance
    return _own_model(str(path), path, opened.family, side, provenance.format, classes, provenance.notes)


def _own_model(
    name: str,
    path: Path,
    family: str,
    resolution: int,
    form: str = "folder with a description",
    classes: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> OwnModel:
    return OwnModel(name, "generator", family, resolution, _bytes_on_disk(path), form, str(path), classes, notes)


def _own_prompt_model(name: str, path: Path, model: PromptModel) -> OwnModel:
    side = max(model.image_size)
    return OwnModel(name, "prompt", OPEN_CLIP, side, _bytes_on_disk(path), f"{OPEN_CLIP} checkpoint", str(path))


def _bytes_on_disk(path: Path) -> int:
    pattern = "*/*" if is_pipeline(path) else "*"
    files = [path] if path.is_file() else [file for file in path.glob(pattern) if file.suffix in GENERATOR_SUFFIXES]
    return sum(file.stat().st_size for file in files)


_Read = Callable[[str, Device, Path, Loading], Loaded]


def _pooled(kind: str, name: str, device: Device, assets: Path, watch: Watch | None, read: _Read[Loaded]) -> Loaded:
    key = (kind, name, str(device), str(assets), _mark(name))
    POOL.forget(lambda other: other[:4] == key[:4] and other != key)  # what the file was before it was replaced
    return POOL.get(key, lambda loading: read(name, device, assets, loading), watch=watch)


def _mark(name: str) -> tuple[tuple[str, int, int, int], ...]:
    """What tells a person's files from those that were there before: size, time and place of each, none for names."""
    path = Path(name.removeprefix(PUBLIC_PREFIX).partition("/")[2] if name.startswith(PUBLIC_PREFIX) else name)
    if not _is_path(str(path)):
        return ()
    folder = path if path.is_dir() else path.parent
    beside = (ROW_FILE, "config.json", CONFIG_NAME, path.with_suffix(".yaml").name)
    files = folder.iterdir() if path.is_dir() else [path, *(folder / one for one in beside)]
    files = [*files, *folder.glob("*/*")] if is_pipeline(path) else files
    marks = []
    for file in files:
        with suppress(OSError):
            state = file.stat()
            marks.append((file.name, state.st_size, state.st_mtime_ns, state.st_ino))
    return tuple(sorted(marks)[:_MARKED])


def try_to_load(opened: Checkpoint) -> None:
    """Makes what loading the file would make, and gives it up. Raises ModelError where loading it would."""
    loading, path = Loading(None, lambda _: None), opened.provenance.path
    if opened.family == OPEN_CLIP:
        _own_clip(path, str(path), "cpu", loading)
    elif find_family(opened.family).is_generator:
        _assemble(_opened_row(opened, str(path), OWN_LICENCE), "cpu", loading)
    else:
        _build_all(opened, str(path), OWN_LICENCE, "cpu", loading)


def unused_problems(opened: Checkpoint) -> list[str]:
    """Why networks that no run of the model needs cannot be built, one sentence each."""
    networks = find_family(opened.family).networks
    unused = [role for role in opened.networks if role in networks and not networks[role].in_runs]
    problems = []
    for role in unused:
        try:
            if can_build(opened.family, role):
                build(opened, role)
        except ModelError as error:
            problems.append(str(error))
    return problems


def _read_generator(name: str, device: Device, assets: Path, loading: Loading) -> GeneratorModel:
    row = _own_generator_row(Path(name), loading) if _is_path(name) else _named_row(name, assets, loading)
    return _assemble(row, device, loading, assets)


def _bytes_as_floats(state: State) -> int:
    return sum(4 * tensor.numel() for tensor in state.values())


def _read_prompt_model(name: str, device: Device, assets: Path, loading: Loading) -> PromptModel:
    if name.startswith(PUBLIC_PREFIX):
        architecture, _, weights = name.removeprefix(PUBLIC_PREFIX).partition("/")
        return load_clip_public(architecture, weights, name=name, device=device, watch=loading.watch)
    if _is_path(name):
        return _own_clip(Path(name), name, device, loading)
    row = find_row(name, "prompt", assets)
    config, weights_file = row.file("config"), row.file("weights")
    verify(config.path, config.sha256)
    verify(weights_file.path, weights_file.sha256)
    return load_clip_folder(weights_file.path, name=row.name, device=device, watch=loading.watch)


def _own_clip(path: Path, name: str, device: Device, loading: Loading) -> PromptModel:
    weights = find_weights(path) if path.is_dir() else path
    return load_clip_folder(weights, name=name, device=device, watch=loading.watch)


def _read_other(name: str, device: Device, assets: Path, loading: Loading) -> OtherModel:
    here = None if _is_path(name) else find_installed(name)
    if here is None and not _is_path(name):
        raise ModelError(f"There is no installed model {name!r}; `python -m engine models get` fetches public ones.")
    opened = open_checkpoint(here.folder if here else Path(name), watch=loading.watch)
    return _build_all(opened, name, here.model.licence if here else OWN_LICENCE, device, loading)


def _build_all(opened: Checkpoint, name: str, licence: str, device: Device, loading: Loading) -> OtherModel:
    loading.make_room(sum(map(_bytes_as_floats, opened.networks.values())))
    networks = {}
    for role in opened.networks:
        loading.watch(f"Building the {role} of {name}", None)
        networks[role] = build(opened, role, device=device)
    return OtherModel(name, opened.family, networks, opened.provenance.sha256, licence)


def _is_path(name: str) -> bool:
    """Whether a person means a file or folder rather than a name of the table."""
    return "/" in name or "\\" in name or Path(name).suffix in (*WEIGHT_SUFFIXES, *GENERATOR_SUFFIXES)


def _named_row(name: str, assets: Path, loading: Loading) -> ModelRow:
    """The row of a public model that is installed, or of a bundled one."""
    here = find_installed(name)
    if here is None and any(model.name == name for model in PUBLIC_MODELS):
        raise ModelError(f"{name} is not on this machine; `python -m engine models get {name}` fetches it.")
    if here is None:
        return find_row(name, "generator", assets)
    opened = open_checkpoint(here.folder, watch=loading.watch)
    row = _opened_row(opened, name, here.model.licence, here.model.resolution, here.model.classes)
    return replace(row, domain=here.model.shows)


def _own_generator_row(path: Path, loading: Loading) -> ModelRow:
    """A row for the user's own folder, if it tells its row itself, or for whatever model the file or folder holds."""
    if (path / ROW_FILE).is_file():
        return read_row(path)
    return _opened_row(open_checkpoint(path, watch=loading.watch), str(path), OWN_LICENCE)


def _opened_row(
    opened: Checkpoint, name: str, licence: str, resolution: int = 0, classes: tuple[str, ...] = ()
) -> ModelRow:
    """A row for an opened checkpoint, with its settings as options."""
    settings = {
        f"{role}.{setting}": about.value
        for role, configuration in opened.configuration.items()
        for setting, about in configuration.items()
    }
    told = next((value for key, value in settings.items() if key.endswith(".resolution")), resolution)
    path, sha256 = opened.provenance.path, opened.provenance.sha256
    return ModelRow(
        name=name,
        kind="generator",
        family=opened.family,
        resolution=told,
        licence=licence,
        files={role: ModelFile(path, sha256) for role in opened.networks},
        folder=path.parent,
        classes=classes,
        options=settings,
        states=opened.networks,
    )


def _assemble(row: ModelRow, device: Device, loading: Loading, assets: Path = ASSETS) -> GeneratorModel:
    """The generator of a row: the networks that a run needs, put together by its family. Raises ModelError."""
    family = find_family(row.family)
    if family.assemble is None:
        generators = ", ".join(name for name, other in FAMILIES.items() if other.is_generator)
        use = f" It is made for another task ({' and '.join(family.tasks)})." if family.tasks else ""
        raise ModelError(f"{row.name} is of the family {row.family!r}; generators are: {generators}.{use}")
    main = _main_file(row, family)
    loading.make_room(sum(_bytes_as_floats(state) for state in row.states.values()) or row.size)
    loading.watch(f"Building {row.name}", None)
    settings = _settings(row)
    networks = {
        role: build_network(
            row.family, role, _tensors(row, role), settings[role], place=_place(row, role), device=device, copied=True
        )
        for role, network in family.networks.items()
        if network.in_runs and role in row.files
    }
    made = _put_together(family, networks, row, device, assets)
    if row.default_space and row.default_space not in made.spaces:
        raise ModelError(f"{row.name}: default_space is {row.default_space!r}; there are {', '.join(made.spaces)}.")
    if row.draft_resolution and made.sketch is None:
        raise ModelError(f"{row.name}: draft_resolution is {row.draft_resolution}; a {family.label} draws no drafts.")
    return GeneratorModel(
        name=row.name,
        resolution=made.resolution,
        network=made.network,
        spaces=made.spaces,
        default_space=row.default_space or made.default_space or next(iter(made.spaces)),
        synthesize=made.synthesize,
        discriminator=made.discriminator,
        encoder=made.encoder,
        sha256=main.sha256,
        licence=row.licence,
        examples=row.examples,
        family=row.family,
        classes=made.classes,
        dtype=generator_dtype(device),
        encoder_side=row.encoder_side or made.encoder_side,
        draft_resolution=row.draft_resolution,
        sketch=made.sketch,
        in_domain_distance=row.in_domain_distance,
        framed_distance=row.framed_distance,
        references=_tensors(row, REFERENCES) if REFERENCES in row.files else {},
        domain=row.domain,
        domain_likeness=row.domain_likeness,
        left_out=made.left_out,
    )


def _main_file(row: ModelRow, family: Family) -> ModelFile:
    """The file without which a family has no generator. Raises ModelError where it is not there."""
    role = next(iter(family.networks))
    if role not in row.files and row.states:
        name, held = next(iter(row.files.values())).path.name, " and ".join(row.states)
        raise ModelError(f"{name} holds the {held} of a {family.label}, but no {role}, which is what draws pictures.")
    return row.file(role)


def _put_together(
    family: Family, networks: Mapping[str, nn.Module], row: ModelRow, device: Device, assets: Path
) -> Assembled:
    assert family.assemble is not None
    latents = _tensors(row, "latents") if "latents" in row.files else {}
    place = _place(row, "latents") if latents else ""
    try:
        return family.assemble(
            networks,
            Details(
                row.name,
                device,
                row.resolution,
                row.draft_resolution,
                row.classes,
                latents,
                place,
                partial(_sentence_vectors, row.sentences, device, assets) if row.sentences else None,
            ),
        )
    except ModelError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, RuntimeError, ArithmeticError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{row.name} does not make a {family.label}: {reason}") from error


def _sentence_vectors(prompt_model: str, device: Device, assets: Path, texts: Sequence[str]) -> Tensor:
    """The features [N, C] of texts by a prompt model, which is loaded when it is first asked."""
    return load_prompt_model(prompt_model, device, assets=assets).text_features(texts)


def _settings(row: ModelRow) -> dict[str, dict[str, Any]]:
    """What the shapes cannot tell, by role, complete. Raises ModelError for options that its family does not know."""
    roles = [role for role in find_family(row.family).networks if role in row.files]
    try:
        configuration = complete(row.family, roles, {}, row.options)
    except ModelError as error:
        raise ModelError(f"{row.name}: {error}") from error
    return {role: {name: one.value for name, one in settings.items()} for role, settings in configuration.items()}


def _place(row: ModelRow, role: str) -> str:
    """For a person: the file that holds that role."""
    path = row.file(role).path
    return path.name if role in row.states else str(path)


def _tensors(row: ModelRow, role: str) -> State:
    if role in row.states:
        return row.states[role]
    file = row.file(role)
    verify(file.path, file.sha256)
    return read_safetensors(file.path)
