"""Opening a model file or folder: read by the reader that its content asks for, converted once, then mapped.

    checkpoint = open_checkpoint(Path("ffhq.pkl"))

The first opening reads the file, whatever its format, and keeps a converted safetensors in the cache; later ones map
that into memory and read nothing until a weight is used. Safetensors files that this program fetched are mapped
themselves, small ones of the user's are read each time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.checkpoints import (
    biggan_deep,
    converted,
    dalle_dvae,
    dfgan,
    lucidrains,
    pipeline_folder,
    psp,
    rosinality,
    stargan2,
    state_dict,
    stylegan2_ada,
    stylegan2_tf,
    torchscript,
    vqgan,
)
from engine.checkpoints.cache import converted_path, known_sha256
from engine.checkpoints.checkpoint import Checkpoint, Parts, Provenance, check_amount, check_numbers, is_state_dict
from engine.checkpoints.configuration import complete
from engine.checkpoints.content import (
    IN_MEMORY,
    MAX_FILE,
    MAX_JSON,
    Content,
    is_safetensors,
    parse_json,
    read_content,
    size_to_read,
)
from engine.checkpoints.pipeline_folder import PipelineFolder
from engine.checkpoints.refusal import Refused, printable
from engine.checkpoints.strangers import name_stranger, not_supported
from engine.checkpoints.wrapping import unwrapped
from engine.errors import ModelError
from engine.system.fields import FieldError, read_bytes
from engine.system.files import Watch, save_error
from engine.system.folders import cache_folder, models_folder

WEIGHT_SUFFIXES = (".safetensors", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin")
INDEX_SUFFIXES = (".safetensors.index.json", ".bin.index.json")
MAX_FILES = 256
READERS_VERSION = 5  # of what the readers make of a file: what the cache keeps of another is made anew

_OF_TRAINING = re.compile(
    r"(?i)(^|[_.-])(optim|optimizer|scheduler|scaler|rng_state|training_args)([_.-]|\d|$)|^state_dict(_|$)"
)
_AVERAGED = re.compile(r"G_ema((?:_\w+)?)")
_STRANGER_FILES = {
    "adapter_config.json": "a LoRA (PEFT): changes to the weights of another model, which is not in it",
    "saved_model.pb": "a SavedModel of TensorFlow",
}

# The order matters: the first that recognises a content reads it, bare state dicts are what is left.
_READERS = (
    stylegan2_ada,
    stylegan2_tf,
    torchscript,
    psp,
    rosinality,
    lucidrains,
    dalle_dvae,
    stargan2,
    dfgan,
    biggan_deep,
    vqgan,
    state_dict,
)


@dataclass(frozen=True)
class Sources:
    """The files of one model: the weights, and what was found beside them (`config.json`, a yaml)."""

    path: Path
    weights: tuple[Path, ...]
    index: Path | None = None
    config: Path | None = None
    description: Path | None = None
    description_is_given: bool = False
    left_out: tuple[Path, ...] = ()  # what a training keeps beside the weights
    pipeline: PipelineFolder | None = None  # whose weights these are, each file a part


def open_checkpoint(
    path: Path,
    *,
    given: Mapping[str, Any] | None = None,
    description: Path | None = None,
    cache: Path | None = None,
    watch: Watch | None = None,
) -> Checkpoint:
    """The model in a file or folder, its configuration complete.

    given: settings that overrule the file's, `name` or `role.name` -> value; description: a VQGAN's yaml or a
    BigGAN's config.json, where it does not lie beside the file; cache: the folder for converted models (the
    platform's); watch: told how far the reading is, and may end it by raising. Raises Refused, whose message names
    the file and the reason, or ModelError.
    """
    folder = cache if cache is not None else cache_folder()
    try:
        sources = find_sources(path, description)
        size = _bytes_to_read(sources)
        hashes = _hashes(sources, folder, watch)
        sha256 = _identity(hashes)
        is_kept_as_it_is = _is_kept_as_it_is(sources, size)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    place = converted_path(folder, sha256, READERS_VERSION)
    parts = None if is_kept_as_it_is else _read_converted(place)
    if parts is None:
        parts = read_files(sources, watch, hashes=hashes, scratch=folder)
        if not is_kept_as_it_is:
            if watch is not None:
                watch(f"Keeping {path.name} as safetensors", None)
            parts = _keep(place, parts)
    try:
        parts = _described(parts, sources)
        configuration = complete(parts.family, parts.networks, parts.stated, given or {})
    except Refused as error:
        raise error.naming(path.name) from error
    notes = parts.notes
    if sources.left_out:
        names = ", ".join(printable(file.name, 40) for file in sources.left_out[:8])
        notes = (*notes, f"not used, of the training: {names}")
    provenance = Provenance(path, parts.format, size, sha256, notes)
    return Checkpoint(parts.family, parts.networks, configuration, provenance)


def convert(checkpoint: Checkpoint, out: Path) -> None:
    """Writes an opened model, with its configuration, as one safetensors file that `open_checkpoint` opens.

    Raises SaveError.
    """
    parts = Parts(
        checkpoint.provenance.format,
        checkpoint.family,
        checkpoint.networks,
        checkpoint.configuration,
        checkpoint.provenance.notes,
    )
    try:
        converted.write(out, parts)
    except OSError as error:
        raise save_error(out, error) from error


# ---- which files -----------------------------------------------------------------------------------------


def find_sources(path: Path, description: Path | None = None) -> Sources:
    """The files that make up the model at `path`. Raises ModelError where none or too many are there."""
    if path.is_dir():
        return _folder_sources(path, description)
    if not path.exists():
        raise ModelError(f"There is no file {path}.")
    if not path.is_file():
        raise ModelError(f"{path} is no ordinary file.")
    if path.name.endswith(".json"):
        index = _index_sources(path)
        if index is None:
            raise ModelError(f"{path} describes a model but holds none; open the weights, or the folder of both.")
        return index
    return _with_companions(Sources(path, (path,)), path.parent, description)


def _folder_sources(folder: Path, description: Path | None) -> Sources:
    if pipeline_folder.is_pipeline(folder):
        found = pipeline_folder.find_parts(folder)
        return Sources(folder, tuple(found.weights.values()), pipeline=found)
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    for file in files:
        if file.name.endswith(INDEX_SUFFIXES) and (index := _index_sources(file)) is not None:
            return replace(_with_companions(index, folder, description), path=folder)
    if what := _stranger_folder(folder):
        raise Refused(not_supported(what), file=folder.name)
    weights = tuple(file for file in files if file.suffix in WEIGHT_SUFFIXES)
    if not weights:
        raise ModelError(f"{folder} holds no file of weights ({', '.join(WEIGHT_SUFFIXES)}).")
    if len(weights) > MAX_FILES:
        raise ModelError(f"{folder} holds {len(weights)} files of weights; open the one that you mean.")
    weights, left_out = _without_training(weights)
    return _with_companions(Sources(folder, weights, left_out=left_out), folder, description)


def _without_training(weights: tuple[Path, ...]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The files of weights, and those of a training beside them, both by their names.

    Optimizers go where anything else is there. Where a generator and its average are there, as in folders of
    BigGAN-PyTorch, the average is taken, the best of several, and the discriminator of the same step.
    """
    kept = [file for file in weights if not _OF_TRAINING.search(file.stem)] or list(weights)
    averaged = {file: match[1] for file in kept if (match := _AVERAGED.fullmatch(file.stem))}
    if averaged:
        chosen = min(averaged, key=lambda file: (averaged[file] != "", "best" not in averaged[file], averaged[file]))
        kept = [file for file in kept if file == chosen or file.stem == f"D{averaged[chosen]}"]
    return tuple(kept), tuple(file for file in weights if file not in kept)


def _stranger_folder(folder: Path) -> str:
    """What a folder of another program is, in words; else empty."""
    for name, what in _STRANGER_FILES.items():
        if (folder / name).is_file():
            return what
    return ""


def _index_sources(path: Path) -> Sources | None:
    """The shards that an index names, or None for a JSON that is no index. Raises Refused for a wrong one."""
    try:
        weight_map = _read_json(path).get("weight_map")
        if weight_map is None:
            return None
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise Refused("its weight_map is no list of files.")
        names = sorted(set(weight_map.values()))
        for name in names:
            if Path(name).name != name or name in ("", ".", "..") or "\\" in name:
                raise Refused(f"it names the shard {printable(name)!r}, which is no file of its own folder.")
        if len(names) > MAX_FILES:
            raise Refused(f"it names {len(names)} shards.")
    except Refused as error:
        raise error.naming(path.name) from error
    shards = tuple(path.parent / name for name in names)
    if missing := [shard.name for shard in shards if not shard.is_file()]:
        raise ModelError(f"{path} names shards that are not beside it: {', '.join(missing[:4])}. Fetch them too.")
    return Sources(path, shards, index=path)


def _with_companions(sources: Sources, folder: Path, description: Path | None) -> Sources:
    if description is not None:
        if not description.is_file():
            raise ModelError(f"There is no file {description}.")
        if description.suffix == ".json":
            return replace(sources, config=description, description_is_given=True)
        return replace(sources, description=description, description_is_given=True)
    config = folder / "config.json"
    return replace(
        sources,
        config=config if config.is_file() else None,
        description=_find_yaml(sources.weights[0]),
    )


def _find_yaml(weights: Path) -> Path | None:
    """The yaml of the same name; else the only one in the folder, or in `configs` beside the folder."""
    if (same := weights.with_suffix(".yaml")).is_file():
        return same
    for folder in (weights.parent, weights.parent.parent / "configs"):
        found = sorted(path for path in folder.glob("*.yaml") if path.is_file()) if folder.is_dir() else []
        if len(found) == 1:
            return found[0]
    return None


# ---- reading ---------------------------------------------------------------------------------------------


def read_files(
    sources: Sources,
    watch: Watch | None = None,
    *,
    hashes: Mapping[Path, str] | None = None,
    scratch: Path | None = None,
) -> Parts:
    """Reads the files with the readers that their contents ask for, past the cache. Raises Refused, ModelError.

    hashes: the sha256 of each, which it must still have; scratch: the folder for copies of large ones.
    """

    def content(file: Path) -> Content:
        own = _is_own(file)
        return read_content(file, watch, sha256=(hashes or {}).get(file), scratch=scratch, own=own)

    if sources.pipeline is not None:
        return pipeline_folder.read_parts(sources.pipeline, content)
    if sources.index is not None:
        return _read_shards(sources, content)
    found = [(file, _understood(content(file), file)) for file in sources.weights]
    return found[0][1] if len(found) == 1 else _merged(sources.path, found)


def _understood(content: Content, path: Path) -> Parts:
    """What a file's content is. Raises Refused naming the file, also where its weights take more than there is."""
    try:
        return _read_content(content)
    except Refused as error:
        raise error.naming(path.name) from error
    except (MemoryError, RecursionError, OverflowError) as error:
        raise Refused("it takes more memory than it should; it is damaged.", file=path.name) from error
    except RuntimeError as error:  # torch's own word for too little memory
        if "allocate" not in str(error):
            raise
        raise Refused("it takes more memory than there is.", file=path.name) from error


def _read_content(content: Content) -> Parts:
    parts = converted.read(content) if converted.matches(content) else _read_value(content)
    check_amount(parts.networks, content.bytes)
    check_numbers(parts.networks)
    return replace(parts, format=f"{parts.format} ({content.container})")


def _read_value(content: Content) -> Parts:
    """What the first reader finds that knows the content, or what lies inside of its wrappings."""
    largest: dict[str, Any] = {}
    for found in unwrapped(content.value):
        if is_state_dict(found.value) and len(found.value) > len(largest):
            largest = found.value
        for reader in _READERS:
            if reader.matches(found.value):
                parts = reader.read(found.value)
                return replace(parts, notes=(*found.notes, *parts.notes))
    if stranger := name_stranger(content.value):
        raise Refused(not_supported(stranger))
    if largest:
        return state_dict.read(largest)  # refused, with its first keys
    raise Refused(f"it is a {content.container}, but holds no model that is known here ({_outline(content)}).")


def _described(parts: Parts, sources: Sources) -> Parts:
    """The parts with what the description beside the weights adds; one of another model is left out, unless given."""
    is_biggan = parts.family == "biggan_deep"
    path, role = (sources.config, "generator") if is_biggan else (sources.description, "autoencoder")
    if path is None or not (is_biggan or parts.family == "vqgan"):
        return parts
    try:
        if is_biggan:
            settings = biggan_deep.settings_of(parts.networks[role], _read_json(path))
        else:
            settings = vqgan.settings_of(parts.networks[role], vqgan.read_description(path))
    except Refused as error:
        if sources.description_is_given:
            raise
        note = f"{path.name} beside the file was left out: {error.reason}"
        return replace(parts, notes=(*parts.notes, note))
    return replace(parts, stated={**parts.stated, role: {**parts.stated.get(role, {}), **settings}})


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return parse_json(read_bytes(path, MAX_JSON))
    except FieldError as error:
        raise Refused(f"{error}.") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error


def _read_shards(sources: Sources, read: Callable[[Path], Content]) -> Parts:
    """All shards of an index as one state dict. Raises Refused where their keys are not those of the index."""
    assert sources.index is not None
    weight_map = _read_json(sources.index)["weight_map"]
    everything: dict[str, Any] = {}
    total, container = 0, ""
    for shard in sources.weights:
        content = read(shard)
        expected = {key for key, name in weight_map.items() if name == shard.name}
        if not isinstance(content.value, dict) or content.value.keys() != expected:
            raise Refused("its keys are not those that the index lists for it.", file=shard.name)
        everything |= content.value
        total, container = total + content.bytes, content.container
    return _understood(Content(f"{len(sources.weights)} shards of {container}", everything, total), sources.index)


def _merged(folder: Path, found: list[tuple[Path, Parts]]) -> Parts:
    """One model of several files: of one family, each another role. Raises ModelError for anything else."""
    listed = "; ".join(f"{path.name}: {parts.family} {'+'.join(parts.networks)}" for path, parts in found[:8])
    roles = [role for _, parts in found for role in parts.networks]
    if len({parts.family for _, parts in found}) > 1 or len(set(roles)) < len(roles):
        raise ModelError(f"{folder} holds several models; open the file that you mean ({listed}).")
    first = found[0][1]
    return Parts(
        first.format,
        first.family,
        {role: state for _, parts in found for role, state in parts.networks.items()},
        {role: settings for _, parts in found for role, settings in parts.stated.items()},
        tuple(note for _, parts in found for note in parts.notes if "file of its own" not in note),
    )


def _outline(content: Content) -> str:
    value = content.value
    if isinstance(value, dict):
        keys = [printable(key, 40) if isinstance(key, str) else type(key).__name__ for key in list(value)[:5]]
        return "a dictionary of " + (", ".join(keys) or "nothing")
    return f"a {type(value).__name__}"


# ---- the cache -------------------------------------------------------------------------------------------


def _bytes_to_read(sources: Sources) -> int:
    """Of all weights, before any is read. Raises Refused where they are too many, ModelError for what is no file."""
    size = sum(size_to_read(file) for file in sources.weights)
    if size > MAX_FILE:
        raise Refused(f"its files come to more than {MAX_FILE >> 30} GB.", file=sources.path.name)
    if sources.index is not None and size_to_read(sources.index) > MAX_JSON:
        raise Refused("it is far too long for a description of a model.", file=sources.index.name)
    return size


def _is_own(path: Path) -> bool:
    """Whether a file is this program's own, which nobody writes over while it is mapped."""
    place = path.resolve()
    return any(place.is_relative_to(folder().resolve()) for folder in (models_folder, cache_folder))


def _is_kept_as_it_is(sources: Sources, size: int) -> bool:
    """Whether the cache holds no converted copy: of a safetensors that can be mapped, or read quickly."""
    if (len(sources.weights) != 1 and sources.pipeline is None) or not all(map(is_safetensors, sources.weights)):
        return False
    return all(map(_is_own, sources.weights)) or size <= IN_MEMORY


def _hashes(sources: Sources, folder: Path, watch: Watch | None = None) -> dict[Path, str]:
    files = (*sources.weights, *([sources.index] if sources.index is not None else []))
    files += sources.pipeline.others if sources.pipeline is not None else ()
    return {file: known_sha256(file, folder, watch) for file in files}


def _identity(hashes: Mapping[Path, str]) -> str:
    """The content's sha256: of the file of weights, or of the names and sha256 of all where there are several."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return hashlib.sha256("".join(f"{sha256} {file.name}\n" for file, sha256 in hashes.items()).encode()).hexdigest()


def _read_converted(place: Path) -> Parts | None:
    """What the cache holds, or None. A damaged entry is made anew."""
    if not place.is_file():
        return None
    try:
        return converted.read(read_content(place, own=True))
    except ModelError:
        with suppress(OSError):  # where it cannot be deleted it is replaced, or read past
            place.unlink()
        return None


def _keep(place: Path, parts: Parts) -> Parts:
    """The parts from a new entry of the cache; as they are where it cannot be written."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        converted.write(place, parts)
    except OSError as error:
        return replace(parts, notes=(*parts.notes, f"not kept converted in {place.parent}: {error.strerror or error}"))
    return _read_converted(place) or parts


def forget(path: Path, *, cache: Path | None = None) -> None:
    """Deletes what the cache holds of the model in a file or folder. Raises ModelError if that is not there."""
    folder = cache if cache is not None else cache_folder()
    try:
        sha256 = _identity(_hashes(find_sources(path), folder))
        converted_path(folder, sha256, READERS_VERSION).unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(f"{path} cannot be read, or the cache not written: {error.strerror or error}.") from error
