"""Which files make up a model, what identifies it, what is kept of it, and which settings win."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.checkpoints import Refused, convert, open_checkpoint, opening
from engine.checkpoints.opening import find_sources, forget
from engine.errors import ModelError, SaveError
from engine.networks import stylegan2
from tests.engine.checkpoints import expected
from tests.engine.checkpoints.test_opening import ada_pickle

HALVES = ("dalle_encoder.pkl", "dalle_decoder.pkl")


def state(seed: int = 0) -> dict[str, Tensor]:
    """A tiny StyleGAN2 generator's."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = stylegan2.Generator(4, 0, 4, 8, channels={4: 4, 8: 4}, mapping_layers=2)
    return {key: tensor.detach().clone() for key, tensor in network.state_dict().items()}


def sharded(folder: Path, tensors: dict[str, Tensor], shards: int = 2, **metadata: Any) -> Path:
    """A folder with an index and its shards; returns the index."""
    folder.mkdir(parents=True)
    weight_map = {key: f"part-{i % shards}.safetensors" for i, key in enumerate(sorted(tensors))}
    for shard in set(weight_map.values()):
        save_file({key: tensors[key] for key in tensors if weight_map[key] == shard}, folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": metadata, "weight_map": weight_map}))
    return index


def entries(own_cache: Path) -> list[str]:
    folder = own_cache / "converted"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


# ---- identity and the cache ------------------------------------------------------------------------------


def halves(folder: Path, names: tuple[str, str] = HALVES) -> Path:
    folder.mkdir()
    for source, name in zip(HALVES, names, strict=True):
        shutil.copy(expected.path(source), folder / name)
    return folder


def sha256_of(path: Path) -> str:
    return open_checkpoint(path).provenance.sha256


def test_a_folders_identity_is_that_of_names_and_contents(tmp_path: Path) -> None:
    """Two folders of the same files are one model; a file under another name makes another one."""
    first, same = halves(tmp_path / "a"), halves(tmp_path / "b")
    renamed = halves(tmp_path / "c", ("encoder.pkl", "dalle_decoder.pkl"))
    exchanged = halves(tmp_path / "d", (HALVES[1], HALVES[0]))
    assert sha256_of(first) == sha256_of(same)
    assert len({sha256_of(folder) for folder in (first, renamed, exchanged)}) == 3
    alone = tmp_path / "e"
    alone.mkdir()
    shutil.copy(expected.path(HALVES[0]), alone / "x.pkl")
    assert sha256_of(alone) == sha256_of(expected.path(HALVES[0]))


def test_the_index_is_part_of_what_it_names(tmp_path: Path) -> None:
    first = sharded(tmp_path / "a", state(), note="one")
    second = sharded(tmp_path / "b", state(), note="two")
    third = sharded(tmp_path / "c", state(), note="one")
    assert sha256_of(first) == sha256_of(third) == sha256_of(first.parent) != sha256_of(second)


def test_sizes_and_formats_are_told(tmp_path: Path) -> None:
    folder = halves(tmp_path / "a")
    opened = open_checkpoint(folder)
    assert opened.provenance.path == folder
    assert opened.provenance.bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert opened.provenance.format == "whole-module dVAE file (torch zip archive)"
    assert opened.provenance.notes == ()  # each file alone says that the other half is missing
    assert "the encoder is in a file of its own" in open_checkpoint(folder / HALVES[1]).provenance.notes[0]
    assert opened.keys == sum(len(open_checkpoint(folder / name).networks[role]) for name, role in zip(
        HALVES, ("encoder", "decoder"), strict=True
    ))  # fmt: skip
    numbers = {role: sum(t.numel() for t in part.values()) for role, part in opened.networks.items()}
    assert opened.parameters == sum(numbers.values())


def test_safetensors_are_not_kept_twice(tmp_path: Path, own_cache: Path) -> None:
    """A single file is mapped itself; shards are joined once; pickles are converted once."""
    save_file(state(), tmp_path / "plain.pt")
    open_checkpoint(tmp_path / "plain.pt")
    assert entries(own_cache) == []
    index = sharded(tmp_path / "a", state())
    open_checkpoint(index)
    assert len(entries(own_cache)) == 1
    open_checkpoint(index)
    open_checkpoint(expected.path("rosinality_32.pt"))
    assert len(entries(own_cache)) == 2


def test_what_the_cache_holds_is_used(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_checkpoint(expected.path("rosinality_32.pt"))
    monkeypatch.setattr(opening, "read_files", lambda *_: pytest.fail("read again"))
    second = open_checkpoint(expected.path("rosinality_32.pt"))
    assert second.provenance == first.provenance and second.configuration == first.configuration
    assert second.networks["generator"].keys() == first.networks["generator"].keys()


def test_forgetting_deletes_that_model_only(own_cache: Path) -> None:
    for name in ("rosinality_32.pt", "dalle_decoder.pkl"):
        open_checkpoint(expected.path(name))
    before = entries(own_cache)
    sha256 = open_checkpoint(expected.path("dalle_decoder.pkl")).provenance.sha256
    forget(expected.path("rosinality_32.pt"))
    assert len(before) == 2 and [name.split(".")[0] for name in entries(own_cache)] == [sha256]
    forget(expected.path("rosinality_32.pt"))
    with pytest.raises(ModelError, match="There is no file"):
        forget(own_cache / "nothing.pt")


def test_another_cache_than_the_platforms(tmp_path: Path, own_cache: Path) -> None:
    open_checkpoint(expected.path("rosinality_32.pt"), cache=tmp_path / "other")
    assert entries(own_cache) == [] and len(entries(tmp_path / "other")) == 1
    forget(expected.path("rosinality_32.pt"), cache=tmp_path / "other")
    assert entries(tmp_path / "other") == []


def test_converting_to_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=r"nowhere/x\.safetensors could not be saved"):
        convert(open_checkpoint(expected.path("rosinality_32.pt")), tmp_path / "nowhere" / "x.safetensors")


def test_a_full_disk_does_not_keep_a_model_from_opening(tmp_path: Path, full_disk: None, own_cache: Path) -> None:
    """It is not kept converted, which a note says; converting it says what to do."""
    opened = open_checkpoint(expected.path("rosinality_32.pt"))
    assert any("not kept converted" in note and "No space left" in note for note in opened.provenance.notes)
    assert entries(own_cache) == []
    with pytest.raises(SaveError, match="no space is left on the disk. Free some"):
        convert(opened, tmp_path / "x.safetensors")
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".x*"))


def test_how_far_the_reading_is(tmp_path: Path) -> None:
    """Hashing, copying, reading and keeping, in this order, each share growing; who is told may end it."""
    told: list[tuple[str, float | None]] = []
    open_checkpoint(expected.path("rosinality_32.pt"), watch=lambda *step: told.append(step))
    kinds = list(dict.fromkeys(what for what, _ in told))
    assert kinds == [
        "Checking rosinality_32.pt",
        "Copying rosinality_32.pt",
        "Reading rosinality_32.pt",
        "Keeping rosinality_32.pt as safetensors",
    ]
    shares = [share for what, share in told if what.startswith("Reading") and share is not None]
    assert shares == sorted(shares) and len(set(shares)) > 10 and 0 < shares[0] < 0.5 < shares[-1] <= 1
    told.clear()
    open_checkpoint(expected.path("rosinality_32.pt"), watch=lambda *step: told.append(step))
    assert not any(what.startswith(("Reading", "Keeping")) for what, _ in told)

    def stop(what: str, share: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_checkpoint(expected.path("dalle_decoder.pkl"), watch=stop)


# ---- which files -----------------------------------------------------------------------------------------


def test_other_files_of_a_folder_do_not_count(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    shutil.copy(expected.path("rosinality_32.pt"), folder / "model.pt")
    for name in ("README.md", "picture.png", ".hidden.pt", "config.json", "notes.json"):
        (folder / name).write_text("{}")
    (folder / "logs.pt").mkdir()
    assert find_sources(folder).weights == (folder / "model.pt",)
    expected.check_rosinality(open_checkpoint(folder))


@pytest.mark.parametrize("suffix", [".safetensors", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin"])
def test_endings_of_weights_in_a_folder(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"x")
    assert find_sources(tmp_path).weights == (tmp_path / f"a{suffix}",)


def test_as_many_files_as_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "MAX_FILES", 2)
    for name in "ab":
        (tmp_path / f"{name}.pt").write_bytes(b"x")
    assert len(find_sources(tmp_path).weights) == 2
    (tmp_path / "c.pt").write_bytes(b"x")
    with pytest.raises(ModelError, match="holds 3 files of weights; open the one that you mean"):
        find_sources(tmp_path)
    assert len(find_sources(sharded(tmp_path / "two", state())).weights) == 2
    with pytest.raises(Refused, match="it names 3 shards"):
        find_sources(sharded(tmp_path / "three", state(), shards=3))


def test_two_files_of_one_role_are_not_guessed_at(tmp_path: Path) -> None:
    for name in "ab":
        shutil.copy(expected.path("rosinality_32.pt"), tmp_path / f"{name}.pt")
    with pytest.raises(ModelError, match=r"holds several models; .*a\.pt: stylegan2 generator; b\.pt: stylegan2"):
        open_checkpoint(tmp_path)


def test_settings_of_several_files_are_joined(tmp_path: Path) -> None:
    """A generator and its discriminator, converted one by one with settings of their own."""
    for role in ("generator", "discriminator"):
        opened = open_checkpoint(ada_pickle(tmp_path / "x.pkl"), given={"lr_multiplier": 0.5})
        part = {role: opened.networks[role]}
        one = opening.Parts("form", "stylegan2", part, {role: opened.configuration[role]}, (role,))
        folder = tmp_path / "both"
        folder.mkdir(exist_ok=True)
        opening.converted.write(folder / f"{role}.safetensors", one)
    both = open_checkpoint(tmp_path / "both")
    assert set(both.networks) == {"generator", "discriminator"}
    assert {role: both.configuration[role]["lr_multiplier"].value for role in both.networks} == {
        "generator": 0.5,
        "discriminator": 0.5,
    }
    assert both.provenance.notes == ("discriminator", "generator")


# ---- shards ----------------------------------------------------------------------------------------------


def test_shards_must_hold_what_the_index_lists(tmp_path: Path) -> None:
    """No key more, none less, none in another shard."""
    tensors = state()
    keys = sorted(tensors)
    for name, change in {
        "more": lambda weight_map: weight_map.pop(keys[0]),
        "less": lambda weight_map: weight_map.update({"absent": "part-0.safetensors"}),
        "elsewhere": lambda weight_map: weight_map.update({keys[0]: "part-1.safetensors"}),
    }.items():
        index = sharded(tmp_path / name, tensors)
        listed = json.loads(index.read_text())
        change(listed["weight_map"])
        index.write_text(json.dumps(listed))
        with pytest.raises(Refused, match=r"part-[01]\.safetensors is refused: its keys are not those that the index"):
            open_checkpoint(index)


def test_shards_that_torch_wrote(tmp_path: Path) -> None:
    tensors = state()
    index = sharded(tmp_path / "a", tensors)
    keys = json.loads(index.read_text())["weight_map"]
    for shard in set(keys.values()):
        (tmp_path / "a" / shard).unlink()
        torch.save({key: tensors[key] for key in keys if keys[key] == shard}, tmp_path / "a" / shard)
    opened = open_checkpoint(index)
    assert "2 shards of torch zip archive" in opened.provenance.format
    assert all(torch.equal(opened.networks["generator"][key], tensor) for key, tensor in tensors.items())
    torch.save([1], tmp_path / "a" / "part-0.safetensors")
    with pytest.raises(Refused, match="its keys are not those"):
        open_checkpoint(index)


@pytest.mark.parametrize("weight_map", [[], "x", {"a": 1}, {"a": ["b"]}])
def test_indices_that_are_none(weight_map: Any, tmp_path: Path) -> None:
    index = tmp_path / "model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(Refused, match=r"model\.bin\.index\.json is refused: its weight_map is no list of files"):
        find_sources(tmp_path)


def test_a_description_alone_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"z_dim": 8}')
    with pytest.raises(ModelError, match="describes a model but holds none; open the weights"):
        open_checkpoint(tmp_path / "config.json")
    (tmp_path / "x.safetensors.index.json").write_text("{}")
    shutil.copy(expected.path("rosinality_32.pt"), tmp_path / "model.pt")
    assert find_sources(tmp_path).weights == (tmp_path / "model.pt",)


# ---- descriptions ----------------------------------------------------------------------------------------


def vqgan_folder(folder: Path, **yamls: int) -> Path:
    """last.ckpt and, of each name, a yaml that states this resolution."""
    folder.mkdir(parents=True)
    shutil.copy(expected.path("vqgan_tiny.ckpt"), folder / "last.ckpt")
    text = expected.path("vqgan_tiny.yaml").read_text()
    assert "resolution: 8" in text
    for name, resolution in yamls.items():
        (folder / f"{name}.yaml").write_text(text.replace("resolution: 8", f"resolution: {resolution}"))
    return folder / "last.ckpt"


def resolution(path: Path, **options: Any) -> tuple[int, str]:
    setting = open_checkpoint(path, **options).configuration["autoencoder"]["resolution"]
    return setting.value, setting.source


def test_which_yaml_is_meant(tmp_path: Path) -> None:
    """That of the same name, else the only one beside the weights, else the only one in `configs`; else none."""
    assert resolution(vqgan_folder(tmp_path / "1", last=16, other=32)) == (16, "the yaml")
    assert resolution(vqgan_folder(tmp_path / "2", other=32)) == (32, "the yaml")
    assert resolution(vqgan_folder(tmp_path / "3", other=32, third=64)) == (256, "usual value")
    assert resolution(vqgan_folder(tmp_path / "4")) == (256, "usual value")
    beside = vqgan_folder(tmp_path / "5" / "checkpoints", other=32, third=64)
    vqgan_folder(tmp_path / "5" / "configs", project=128)
    assert resolution(beside) == (128, "the yaml")
    given = tmp_path / "2" / "other.yaml"
    assert resolution(tmp_path / "1" / "last.ckpt", description=given) == (32, "the yaml")
    assert resolution(tmp_path / "1" / "last.ckpt", given={"resolution": 48}) == (48, "given")
    with pytest.raises(ModelError, match=r"There is no file .*gone\.yaml"):
        open_checkpoint(beside, description=tmp_path / "gone.yaml")


def test_a_description_given_for_another_model_is_refused(tmp_path: Path) -> None:
    path = vqgan_folder(tmp_path / "1")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(expected.path("vqgan_tiny.yaml").read_text().replace("n_embed: 20", "n_embed: 21"))
    with pytest.raises(Refused, match=r"last\.ckpt is refused: its yaml says n_embed 21, the weights have 20"):
        open_checkpoint(path, description=wrong)
    (path.parent / "last.yaml").write_text(wrong.read_text())
    notes = open_checkpoint(path).provenance.notes
    assert "last.yaml beside the file was left out: its yaml says n_embed 21" in notes[-1]


# ---- settings --------------------------------------------------------------------------------------------


def test_a_roles_own_setting_beats_the_general_one(tmp_path: Path) -> None:
    path = ada_pickle(tmp_path / "x.pkl")
    for given in (
        {"lr_multiplier": 0.5, "generator.lr_multiplier": 1.0},
        {"generator.lr_multiplier": 1.0, "lr_multiplier": 0.5},
    ):
        found = open_checkpoint(path, given=given).configuration
        assert (found["generator"]["lr_multiplier"].value, found["generator"]["lr_multiplier"].source) == (1.0, "given")
        assert found["discriminator"]["lr_multiplier"].value == 0.5


def test_what_the_file_states_beats_the_usual_value_and_is_beaten_by_what_is_given(tmp_path: Path) -> None:
    path = ada_pickle(tmp_path / "x.pkl")
    stated = open_checkpoint(path).configuration["generator"]["conv_clamp"]
    assert (stated.value, stated.source) == (256, "the file")
    given = open_checkpoint(path, given={"generator.conv_clamp": 8}).configuration
    assert (given["generator"]["conv_clamp"].value, given["generator"]["conv_clamp"].source) == (8, "given")
    assert given["discriminator"]["conv_clamp"].source == "the file"


STYLEGAN = "sg2_tf_legacy32.pkl"


@pytest.mark.parametrize(
    ("file", "name", "good", "bad"),
    [
        (STYLEGAN, "lr_multiplier", (1, 0.5), (0, -1, True, "1", None, float("inf"), float("nan"))),
        (STYLEGAN, "conv_clamp", (None, 256, 0.5), (0, -1, True, "1", float("inf"), float("nan"))),
        (STYLEGAN, "mbstd_group_size", (None, 1, 4096), (0, 4097, 2.0, True, "4")),
        ("biggan-deep-tiny", "up", (None, [], [True] * 63), ([True] * 64, [1], (True,), True, "up")),
        ("biggan-deep-tiny", "eps", (1e-4, 1), (0, None, False)),
        ("vqgan_tiny.ckpt", "resolution", (1, 4096), (None, 0, 4097, 8.0, True)),
    ],
)
def test_what_settings_may_be(file: str, name: str, good: tuple[Any, ...], bad: tuple[Any, ...]) -> None:
    path = expected.path(file)
    for value in good:
        found = open_checkpoint(path, given={name: value}).configuration
        settings = [settings[name] for settings in found.values() if name in settings]
        assert settings and all(setting.value == value and setting.source == "given" for setting in settings)
    for value in bad:
        with pytest.raises(ModelError, match=f"{name} should be .* got "):
            open_checkpoint(path, given={name: value})


def test_unknown_settings_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"A vqgan has no setting 'resolutoin'; did you mean .*resolution"):
        open_checkpoint(expected.path("vqgan_tiny.ckpt"), given={"resolutoin": 8})
    with pytest.raises(ModelError, match=r"A dalle_dvae has no setting 'x'.* Settings: none\."):
        open_checkpoint(expected.path("dalle_decoder.pkl"), given={"x": 8})
    with pytest.raises(ModelError, match=r"has no setting 'discriminator\.lr_multiplier'"):
        open_checkpoint(expected.path("rosinality_32.pt"), given={"discriminator.lr_multiplier": 1})
