"""Every public file format opens and reproduces what the reference networks made of it, directly and converted."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from engine.checkpoints import Checkpoint, Refused, convert, open_checkpoint
from engine.checkpoints.building import build
from engine.errors import ModelError
from engine.networks import biggan, comodgan, dfgan, stylegan2, vqgan
from tests.engine.checkpoints import expected
from tests.engine.checkpoints.ada_pickle import write_ada_pickle
from tests.engine.checkpoints.expected import CHECKS


def ada_pickle(path: Path, protocol: int = 3) -> Path:
    about = json.loads(expected.path("sg2ada_cond32_expected.json").read_text())
    tensors = expected.tensors("sg2ada_cond32")
    states = {
        name: {key.removeprefix(f"state.{name}."): t for key, t in tensors.items() if key.startswith(f"state.{name}.")}
        for name in ("G", "D", "G_ema")
    }
    words = {"G": about["kwargs"], "G_ema": about["kwargs"], "D": about["disc_kwargs"]}
    write_ada_pickle(path, states, words, protocol=protocol)
    return path


@pytest.mark.parametrize("name", CHECKS)
def test_file_reproduces_the_reference(name: str) -> None:
    family, checks = CHECKS[name]
    opened = open_checkpoint(expected.path(name))
    assert opened.family == family
    for check in checks:
        check(opened)


@pytest.mark.parametrize("name", CHECKS)
def test_converted_file_reproduces_the_reference(name: str, tmp_path: Path) -> None:
    """A copy under a name that says nothing, converted, then opened without the original and the cache."""
    _, checks = CHECKS[name]
    original = open_checkpoint(expected.path(name))
    convert(original, tmp_path / "model.safetensors")
    again = open_checkpoint(tmp_path / "model.safetensors", cache=tmp_path / "other")
    assert again.configuration == original.configuration
    for check in checks:
        check(again)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_stylegan2_ada_pickle_reproduces_the_reference(protocol: int, tmp_path: Path) -> None:
    opened = open_checkpoint(ada_pickle(tmp_path / "network-snapshot.pkl", protocol))
    assert opened.family == "stylegan2"
    assert set(opened.networks) == {"generator", "discriminator"}
    assert opened.configuration["generator"]["conv_clamp"].value == 256
    assert opened.configuration["generator"]["conv_clamp"].source == "the file"
    assert opened.configuration["generator"]["lr_multiplier"].source == "usual value"
    assert opened.configuration["discriminator"]["mbstd_group_size"].value == 4
    expected.check_stylegan2(opened, "sg2ada_cond32")


def test_stylegan2_ada_state_is_the_references_state(tmp_path: Path) -> None:
    """Key by key, bit by bit."""
    opened = open_checkpoint(ada_pickle(tmp_path / "x.pkl"))
    wanted = expected.tensors("sg2ada_cond32")
    for role, name in (("generator", "G_ema"), ("discriminator", "D")):
        prefix = f"state.{name}."
        keys = {key.removeprefix(prefix) for key in wanted if key.startswith(prefix)}
        assert set(opened.networks[role]) == keys
        assert all(torch.equal(opened.networks[role][key], wanted[prefix + key]) for key in keys)


def test_tensorflow_state_is_the_references_state() -> None:
    opened = open_checkpoint(expected.path("sg2_tf_legacy32.pkl"))
    wanted = expected.tensors("sg2_tf_legacy32")
    for role, name in (("generator", "G_ema"), ("discriminator", "D")):
        prefix = f"state.{name}."
        keys = {key.removeprefix(prefix) for key in wanted if key.startswith(prefix)}
        if keys:
            assert set(opened.networks[role]) == keys
            assert all(torch.equal(opened.networks[role][key], wanted[prefix + key]) for key in keys)


@pytest.mark.parametrize("name", [name for name in CHECKS if name != "biggan-deep-tiny"])
def test_the_name_does_not_matter(name: str, tmp_path: Path) -> None:
    family, _ = CHECKS[name]
    for disguise in ("model.safetensors", "picture.png", "noending"):
        copy = tmp_path / disguise
        shutil.copy(expected.path(name), copy)
        assert open_checkpoint(copy).family == family


def test_both_halves_of_the_dvae_in_one_folder(tmp_path: Path) -> None:
    for name in ("dalle_encoder.pkl", "dalle_decoder.pkl"):
        shutil.copy(expected.path(name), tmp_path / name)
    opened = open_checkpoint(tmp_path)
    expected.check_dalle_encoder(opened)
    expected.check_dalle_decoder(opened)


def test_legacy_form_of_a_whole_module(tmp_path: Path) -> None:
    """The dVAE's decoder as torch wrote modules before 1.6: pickles behind each other, classes with source code."""
    from tests.engine.checkpoints.legacy import rewrite_as_legacy

    path = rewrite_as_legacy(expected.path("dalle_decoder.pkl"), tmp_path / "decoder.pkl")
    opened = open_checkpoint(path)
    assert "without archive" in opened.provenance.format
    expected.check_dalle_decoder(opened)


def test_two_models_in_a_folder_are_not_guessed_at(tmp_path: Path) -> None:
    for name in ("rosinality_32.pt", "dalle_decoder.pkl"):
        shutil.copy(expected.path(name), tmp_path / name)
    with pytest.raises(ModelError, match="holds several models; open the file that you mean"):
        open_checkpoint(tmp_path)


# ---- what shapes cannot tell -----------------------------------------------------------------------------


def biggan_folder(tmp_path: Path, **changes: object) -> Path:
    folder = tmp_path / "biggan"
    folder.mkdir()
    shutil.copy(expected.path("biggan-deep-tiny/pytorch_model.bin"), folder / "pytorch_model.bin")
    config = json.loads(expected.path("biggan-deep-tiny/config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


def test_a_config_says_what_shapes_cannot(tmp_path: Path) -> None:
    opened = open_checkpoint(biggan_folder(tmp_path, eps=0.01))
    assert opened.configuration["generator"]["eps"].value == 0.01
    assert opened.configuration["generator"]["eps"].source == "its config.json"
    assert opened.configuration["generator"]["up"].value == [False, True, True, False, True, True]


def test_the_config_of_another_model_is_left_out_unless_given(tmp_path: Path) -> None:
    folder = biggan_folder(tmp_path, z_dim=128)
    opened = open_checkpoint(folder)
    assert opened.configuration["generator"]["eps"].source == "usual value"
    assert "z_dim 128, the weights have 8" in opened.provenance.notes[0]
    expected.check_biggan_deep(opened)
    with pytest.raises(Refused, match="z_dim 128, the weights have 8: another model's"):
        open_checkpoint(folder / "pytorch_model.bin", description=folder / "config.json")


def test_the_yaml_of_another_vqgan_is_left_out(tmp_path: Path) -> None:
    shutil.copy(expected.path("vqgan_tiny.ckpt"), tmp_path / "last.ckpt")
    text = expected.path("vqgan_tiny.yaml").read_text().replace("n_embed: 20", "n_embed: 1024")
    (tmp_path / "last.yaml").write_text(text)
    opened = open_checkpoint(tmp_path / "last.ckpt")
    assert "n_embed 1024, the weights have 20" in " ".join(opened.provenance.notes)
    assert opened.configuration["autoencoder"]["resolution"].source == "usual value"


def test_the_yaml_may_lie_in_configs_beside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "configs").mkdir()
    shutil.copy(expected.path("vqgan_tiny.ckpt"), tmp_path / "checkpoints" / "last.ckpt")
    shutil.copy(expected.path("vqgan_tiny.yaml"), tmp_path / "configs" / "model.yaml")
    opened = open_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert opened.configuration["autoencoder"]["resolution"].value == 8


@pytest.mark.parametrize(
    "text",
    ["a: &a [1]\nb: *a\n", "!!python/object/apply:os.system ['true']", "[" * 5000, "model: {", "- 1", "x" * 70000],
)
def test_yaml_of_more_than_plain_values(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(Refused, match=r"model\.yaml is refused"):
        open_checkpoint(expected.path("vqgan_tiny.ckpt"), description=tmp_path / "model.yaml")


def test_given_settings_overrule(tmp_path: Path) -> None:
    path = ada_pickle(tmp_path / "x.pkl")
    opened = open_checkpoint(path, given={"conv_clamp": None, "generator.lr_multiplier": 1.0})
    assert opened.configuration["generator"]["conv_clamp"].value is None
    assert opened.configuration["discriminator"]["conv_clamp"].value is None
    assert opened.configuration["generator"]["lr_multiplier"].source == "given"
    assert opened.configuration["discriminator"]["lr_multiplier"].value == 0.01
    with pytest.raises(ModelError, match=r"no setting 'conv_clam'; did you mean"):
        open_checkpoint(path, given={"conv_clam": 1})
    with pytest.raises(ModelError, match=r"lr_multiplier should be a positive number .* got -1"):
        open_checkpoint(path, given={"lr_multiplier": -1})


# ---- other containers ------------------------------------------------------------------------------------


def test_plain_and_sharded_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = dict(open_checkpoint(expected.path("rosinality_32.pt")).networks["generator"])
    plain = tmp_path / "plain.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, plain)
    expected.check_rosinality(open_checkpoint(plain))

    folder = tmp_path / "sharded"
    folder.mkdir()
    keys = sorted(state)
    weight_map = {key: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, key in enumerate(keys)}
    for shard in set(weight_map.values()):
        part = {key: state[key].contiguous() for key in keys if weight_map[key] == shard}
        save_file(part, folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    for place in (folder, index):
        opened = open_checkpoint(place)
        assert "2 shards of safetensors" in opened.provenance.format
        expected.check_rosinality(opened)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"not beside it: model-00002-of-00002\.safetensors"):
        open_checkpoint(folder)


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "..", "a\\b", ""])
def test_an_index_cannot_lead_out_of_its_folder(shard: str, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(Refused, match="no file of its own folder"):
        open_checkpoint(index)


def test_dfgan_file_with_module_prefix(tmp_path: Path) -> None:
    generator = dfgan.Generator(3, 2, [4, 4, 2]).state_dict()
    judge, head = dfgan.Discriminator([2, 4, 4]).state_dict(), dfgan.ConditionalHead(6, 3).state_dict()
    groups = {
        name: {f"module.{key}": tensor for key, tensor in state.items()}
        for name, state in (("netG", generator), ("netD", judge), ("netC", head))
    }
    torch.save({"model": groups, "optimizers": {"optimizer_G": {}}, "epoch": 3}, tmp_path / "state_epoch.pth")
    opened = open_checkpoint(tmp_path / "state_epoch.pth")
    assert opened.family == "dfgan"
    expected = {"generator": generator, "discriminator": judge, "conditional_discriminator": head}
    assert opened.networks.keys() == expected.keys()
    for role, state in expected.items():
        assert set(opened.networks[role]) == set(build(opened, role).state_dict()) == state.keys()


def tiny_biggan() -> nn.Module:
    return biggan.Generator(12, 3, 4, channels=[(8, 8), (8, 8)])


def tiny_biggan_judge() -> nn.Module:
    return biggan.Discriminator(3, channels=[(3, 8, 8), (8, 8, 8)], down=[True, False])


def tiny_comodgan() -> nn.Module:
    return comodgan.Generator([3, 4, 4], {4: 4, 8: 2}, code_dim=3)


def tiny_vqgan() -> nn.Module:
    decoder = vqgan.Decoder([32, 32], 2, blocks=1)
    return vqgan.VQGAN(None, decoder, vqgan.GumbelCodebook(5, 2, 2), 2)


def tiny_stylegan() -> nn.Module:
    return stylegan2.Generator(4, 0, 4, 8, channels={4: 4, 8: 4}, mapping_layers=2)


def tiny_stylegan_judge() -> nn.Module:
    return stylegan2.Discriminator(3, 8, channels={4: 4, 8: 4})


def tiny_dfgan() -> nn.Module:
    return dfgan.Generator(3, 2, [4, 4, 2])


def tiny_dfgan_judge() -> nn.Module:
    return dfgan.Discriminator([2, 4, 4])


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("network", "family", "role"),
    [
        (tiny_biggan, "biggan", "generator"),
        (tiny_biggan_judge, "biggan", "discriminator"),
        (tiny_comodgan, "comodgan", "generator"),
        (tiny_vqgan, "vqgan", "autoencoder"),
        (tiny_stylegan, "stylegan2", "generator"),
        (tiny_stylegan_judge, "stylegan2", "discriminator"),
        (tiny_dfgan, "dfgan", "generator"),
        (tiny_dfgan_judge, "dfgan", "discriminator"),
    ],
)
def test_bare_state_dicts_are_told_by_their_keys(
    network: Callable[[], nn.Module], family: str, role: str, legacy: bool, tmp_path: Path
) -> None:
    state = network().state_dict()
    torch.save(state, tmp_path / "weights", _use_new_zipfile_serialization=not legacy)
    opened = open_checkpoint(tmp_path / "weights")
    assert (opened.family, set(opened.networks)) == (family, {role})
    assert all(torch.equal(opened.networks[role][key], tensor) for key, tensor in state.items())
    assert build(opened, role).state_dict().keys() == state.keys()


@pytest.mark.parametrize("name", ["state_dict", "model", "g_ema", "G_ema", "ema", "params_ema"])
def test_a_state_dict_under_a_name_and_a_prefix(name: str, tmp_path: Path) -> None:
    """As training keeps it beside other things, which are told, and as parallel training names its keys."""
    state = tiny_stylegan().state_dict()
    content = {name: {f"module.{key}": tensor for key, tensor in state.items()}, "iterations": 5}
    torch.save(content, tmp_path / "weights")
    opened = open_checkpoint(tmp_path / "weights")
    assert (opened.family, set(opened.networks)) == ("stylegan2", {"generator"})
    assert opened.networks["generator"].keys() == state.keys()
    prefix = "taken off the beginning of all keys: module."
    assert opened.provenance.notes == (f"found under {name}", prefix, "not used: iterations")
    torch.save({**content, "k" * 50: 1, **{f"n{i}": 1 for i in range(9)}}, tmp_path / "weights")
    *_, note = open_checkpoint(tmp_path / "weights").provenance.notes
    shown = f"iterations, {'k' * 40}…, n0, n1, n2, n3, n4, n5"  # names of a screen's length, eight
    assert note == f"not used: {shown} and 3 more"


def test_lightnings_callbacks_beside_a_vqgan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning keys its callbacks' states by their classes: names only, of a package that need not be there."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    callback = type("ModelCheckpoint", (), {"__module__": name})
    state = tiny_vqgan().state_dict()
    content = {"state_dict": state, "callbacks": {callback: {"best_model_score": torch.tensor(0.5)}}}
    with monkeypatch.context() as context:
        for module in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
            context.setitem(sys.modules, module, ModuleType(module))
        setattr(sys.modules[name], "ModelCheckpoint", callback)  # noqa: B010 (mypy knows no such attribute)
        torch.save(content, tmp_path / "last.ckpt")
    opened = open_checkpoint(tmp_path / "last.ckpt")
    assert opened.family == "vqgan" and opened.networks["autoencoder"].keys() == state.keys()


def test_open_clip_training_checkpoint(tmp_path: Path) -> None:
    """What open_clip's training writes: epoch, name, state_dict under `module.`, optimizer."""
    import open_clip

    from tests.engine.tiny import write_clip

    write_clip(tmp_path / "clip")
    network = open_clip.create_model(f"local-dir:{tmp_path / 'clip'}", load_weights=False)
    state = {f"module.{key}": tensor for key, tensor in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters())
    sum(parameter.sum() for parameter in network.parameters()).backward()
    optimizer.step()
    saved = {"epoch": 5, "name": "run", "state_dict": state, "optimizer": optimizer.state_dict()}
    torch.save(saved, tmp_path / "epoch_5.pt")
    opened = open_checkpoint(tmp_path / "epoch_5.pt")
    assert opened.family == "open_clip"
    assert set(opened.networks["model"]) == set(network.state_dict())


# ---- the cache -------------------------------------------------------------------------------------------


def large_ada_pickle(path: Path) -> Path:
    from engine.networks.stylegan2 import Generator

    network = Generator(512, 0, 512, 64, channels={4: 512, 8: 512, 16: 512, 32: 512, 64: 256})
    write_ada_pickle(path, {"G_ema": network.state_dict()}, {"G_ema": {}})
    return path


def test_the_second_opening_is_at_least_five_times_as_fast(tmp_path: Path) -> None:
    """The first reads and hashes 90 MB and writes the converted file; the second maps that file."""
    import os
    import time

    path = large_ada_pickle(tmp_path / "large.pkl")
    long_ago = time.time() - 3600  # a file changed within two seconds is hashed again, to be safe
    os.utime(path, (long_ago, long_ago))

    def seconds() -> float:
        started = time.perf_counter()
        open_checkpoint(path)
        return time.perf_counter() - started

    first = seconds()
    second = min(seconds() for _ in range(3))
    assert first >= 5 * second, f"{first:.3f} s, then {second:.3f} s"


def test_the_cache_is_keyed_by_content(tmp_path: Path, own_cache: Path) -> None:
    first = expected.path("rosinality_32.pt")
    shutil.copy(first, tmp_path / "copy")
    opened: list[Checkpoint] = [open_checkpoint(path) for path in (first, tmp_path / "copy")]
    assert opened[0].provenance.sha256 == opened[1].provenance.sha256
    assert len(list((own_cache / "converted").iterdir())) == 1
    data = bytearray(first.read_bytes())
    data[-1] ^= 1  # the last byte of the last tensor
    (tmp_path / "copy").write_bytes(data)
    assert open_checkpoint(tmp_path / "copy").provenance.sha256 != opened[0].provenance.sha256
    assert len(list((own_cache / "converted").iterdir())) == 2


def test_a_damaged_cache_entry_is_made_anew(own_cache: Path) -> None:
    path = expected.path("rosinality_32.pt")
    open_checkpoint(path)
    (entry,) = (own_cache / "converted").iterdir()
    for damage in (b"", b"{" * 100, entry.read_bytes()[:1000]):
        entry.write_bytes(damage)
        expected.check_rosinality(open_checkpoint(path))
    assert len(entry.read_bytes()) > 1000


def test_a_cache_that_cannot_be_written_is_only_noted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    opened = open_checkpoint(expected.path("rosinality_32.pt"), cache=tmp_path / "file")
    assert "not kept converted" in opened.provenance.notes[-1]
    expected.check_rosinality(opened)


def test_networks_share_the_memory_of_the_cache() -> None:
    """Building copies nothing: the parameters are the mapped tensors themselves."""
    path = expected.path("sg2_tf_legacy32.pkl")
    open_checkpoint(path)
    opened = open_checkpoint(path)
    network = build(opened, "generator")
    assert network.get_parameter("mapping.fc0.weight").data_ptr() == (
        opened.networks["generator"]["mapping.fc0.weight"].data_ptr()
    )


def test_building_leaves_the_global_random_state() -> None:
    opened = open_checkpoint(expected.path("sg2_tf_legacy32.pkl"))
    before = torch.random.get_rng_state()
    build(opened, "generator")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_missing_and_odd_paths(tmp_path: Path) -> None:
    import os

    with pytest.raises(ModelError, match="There is no file"):
        open_checkpoint(tmp_path / "nothing.pkl")
    with pytest.raises(ModelError, match="holds no file of weights"):
        open_checkpoint(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="no ordinary file"):
        open_checkpoint(tmp_path / "pipe")
    (tmp_path / "empty.pt").write_bytes(b"")
    with pytest.raises(Refused, match=r"empty\.pt is refused: it is empty"):
        open_checkpoint(tmp_path / "empty.pt")
