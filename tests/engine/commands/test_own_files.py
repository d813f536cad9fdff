"""Files as people have them: every kind is drawn from on the command line, or refused when it is opened, with why.

The kinds are made here, small. Where the optional set of files is there, each of its models is tried too.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import pathlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from engine import __main__ as cli
from engine.checkpoints import open_checkpoint
from engine.checkpoints.arrays import ArrayShell
from engine.models.loading import load_generator
from engine.networks.biggan import Discriminator as BigGANDiscriminator
from engine.networks.biggan import Generator as BigGAN
from engine.networks.stylegan2 import Discriminator, Generator
from tests.engine.checkpoints import expected
from tests.engine.checkpoints.ada_pickle import write_ada_pickle
from tests.engine.tiny import CHANNELS, RESOLUTION, W_DIM, Z_DIM
from tests.goldens import SHARED

pytestmark = pytest.mark.usefixtures("tiny_bundle")

CASES = SHARED / "cases" / "models"


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GMI_MODELS", str(tmp_path / "models"))


def drawn(model: Path, out: Path, *more: str) -> list[np.ndarray[Any, Any]]:
    """Two pictures after two steps, written by the command line."""
    options = ["--n", "2", "--steps", "2", "--seed", "3", "--threads", "1", *more]
    assert cli.main(["generate", "a smile", "--model", str(model), "--out", str(out), *options]) == 0
    return [np.asarray(Image.open(out / f"{i:02d}.png")) for i in range(2)]


def refused(model: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `models check` says of a file that it refuses."""
    assert cli.main(["models", "check", str(model)]) == 1
    return capsys.readouterr().out


def checked(model: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["models", "check", str(model)]) == 0
    return capsys.readouterr().out


# ---- the optional set ------------------------------------------------------------------------------------

REFUSALS = {  # why a file of the set is refused: everything else is drawn from
    "ada-const-4x6.pt": r"synthesis\.b4\.const is 8 x 4 x 6, not 8 x 4 x 4",
    "ada-rgba.pkl": "draws pictures of 4 channels",
    "ada-rgba.pt": "draws pictures of 4 channels",
    "ada-two.pkl": "draws pictures of 2 channels",
    "ada-two.pt": "draws pictures of 2 channels",
    "mis-extra-key.pt": r"1 key \(foo\.bar\) is unexpected\. It has more layers",
    "mis-no-noise_const.pt": r"7 keys \(.*noise_const.* and 5 more\) are missing\. Only the parameters were saved",
    "mis-no-resample.pt": r"11 keys \(.*resample_filter.* and 9 more\) are missing\. Only the parameters were saved",
    "mis-no-torgb-bias.pt": r"1 key \(synthesis\.b32\.torgb\.bias\) is missing\. Layers were left out",
    "mis-no-w_avg.pt": r"1 key \(mapping\.w_avg\) is missing\. Only the parameters were saved",
    "mis-wrong-shape.pt": r"1 key is of another shape \(synthesis\.b32\.conv1\.bias is 9, not 8\)",
}
OTHER_PICTURES = ("grey", "cond", "half", "bf16", "no-avg", "no-noises")  # than the plain file's


@pytest.mark.skipif(not CASES.is_dir(), reason="the optional set of people's files is not there")
def test_every_file_of_the_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrapped and prefixed ones draw the same pictures, byte for byte, as the plain file."""
    import re

    plain = drawn(CASES / "ada-plain.pkl", tmp_path / "plain")
    for path in sorted(CASES.iterdir()):
        if path.name in REFUSALS:
            said = refused(path, capsys)
            assert re.search(REFUSALS[path.name], said), (path.name, said)
            continue
        pictures = drawn(path, tmp_path / path.name)
        assert all(picture.shape == (32, 32, 3) for picture in pictures), path.name
        if not any(kind in path.name for kind in OTHER_PICTURES):
            # Other layouts of the same weights multiply in another order: half a level at most, then rounded.
            far = [np.abs(one.astype(int) - other).max() for one, other in zip(pictures, plain, strict=True)]
            assert max(far) <= (1 if path.name.startswith("ros") else 0), path.name
        if "grey" in path.name:
            assert all((picture == picture[..., :1]).all() for picture in pictures)


# ---- wrappings -------------------------------------------------------------------------------------------


def network(classes: int = 0, channels: int = 3) -> Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Generator(Z_DIM, classes, W_DIM, RESOLUTION, channels, channels=CHANNELS, mapping_layers=2)
    made.mapping.w_avg.copy_(made.mapping.to_w(torch.zeros(1, Z_DIM), torch.ones(1, classes) if classes else None)[0])
    return made


STATE = {key: value.detach() for key, value in network().state_dict().items()}
OTHER = {"x.weight": torch.ones(3)}


def prefixed(prefix: str, state: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in (state or STATE).items()}


WRAPPED: dict[str, tuple[Any, str]] = {
    **{
        f"under {name}": ({name: STATE, "epoch": 3}, f"found under {name}")
        for name in (
            "params", "params_ema", "netG", "generator", "model_state_dict", "model_ema", "ema", "G", "g_ema",
            "weights", "state_dict", "anything",
        )
    },
    **{
        f"behind {prefix}": (prefixed(prefix), f"taken off the beginning of all keys: {prefix}")
        for prefix in ("module.", "_orig_mod.", "module._orig_mod.", "model.", "generator.", "G_ema.", "a.b.c.")
    },
    "averaged before others": ({"g": OTHER, "d": OTHER, "ema": STATE, "G": OTHER}, "found under ema"),
    "networks under prefixes": (
        {**prefixed("D.", OTHER), **prefixed("G_ema."), **prefixed("G.", OTHER)}, "found under G_ema",
    ),
    "two wrappings and a prefix": ({"model": {"ema": prefixed("module.")}}, "found under model.ema"),
    "beside numbers": ({**STATE, "step": 5, "name": "x"}, "not used: name, step"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrappings_are_taken_off_and_said(kind: str, tmp_path: Path) -> None:
    content, note = WRAPPED[kind]
    torch.save(content, tmp_path / "wrapped.pt")
    opened = open_checkpoint(tmp_path / "wrapped.pt")
    assert any(note in said for said in opened.provenance.notes), opened.provenance.notes
    found = opened.networks["generator"]
    assert found.keys() == STATE.keys() and all(torch.equal(found[key], STATE[key]) for key in STATE)


def test_wrapped_files_draw_the_same_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(STATE, tmp_path / "plain.pt")
    plain = drawn(tmp_path / "plain.pt", tmp_path / "a")
    torch.save({"params_ema": prefixed("module._orig_mod.")}, tmp_path / "wrapped.pt")
    for one, other in zip(drawn(tmp_path / "wrapped.pt", tmp_path / "b"), plain, strict=True):
        assert np.array_equal(one, other)
    assert "module._orig_mod." in checked(tmp_path / "wrapped.pt", capsys)


def test_prefixes_that_belong_to_a_network_stay() -> None:
    """All keys of a dVAE begin with `blocks.`, and many do not end where a prefix would."""
    from engine.checkpoints.wrapping import peeled, unwrapped, without_wrappers

    assert [prefix for _, prefix in peeled({"a.b.c": 1, "a.b.d": 2})] == ["", "a.", "a.b."]
    assert [prefix for _, prefix in peeled({"a.b": 1, "a": 2})] == [""]
    assert [prefix for _, prefix in peeled({})] == [""]
    assert without_wrappers({"module.a.x": 1, "module.a.y": 2}) == {"a.x": 1, "a.y": 2}
    assert without_wrappers({"blocks.a": 1, "blocks.b": 2}) == {"blocks.a": 1, "blocks.b": 2}
    endless: dict[str, Any] = {}
    endless["state_dict"] = endless
    assert len(list(unwrapped(endless))) < 20
    opened = open_checkpoint(expected.path("dalle_decoder.pkl"))
    assert opened.networks["decoder"].keys() >= {"blocks.input.w"}


# ---- what lies beside the weights of a training ----------------------------------------------------------


def test_a_trainings_values_are_kept_inert_and_ignored(tmp_path: Path) -> None:
    """Settings, paths, dictionaries with defaults, whole optimizers: their classes are named, and nothing is made."""
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    counts: collections.defaultdict[str, list[int]] = collections.defaultdict(list)
    counts["a"].append(1)
    beside = {
        "args": argparse.Namespace(size=32, out=pathlib.Path("runs/1"), seeds=collections.deque([1], maxlen=3)),
        "windows": pathlib.PureWindowsPath("C:/x"),
        "counts": counts,
        "seen": collections.Counter("aab"),
        "fixed": frozenset({1}),
        "when": datetime.datetime(2024, 5, 1),
        "optim": optimizer.state_dict(),
        "optimizer": optimizer,
        "schedule": torch.optim.lr_scheduler.StepLR(optimizer, 5),
        "random": torch.get_rng_state(),
        "numpy": np.random.default_rng(0).integers(9, size=3),
    }
    for legacy in (False, True):
        torch.save({"g_ema": STATE, **beside}, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
        opened = open_checkpoint(tmp_path / "x.pt")
        assert opened.networks["generator"].keys() == STATE.keys()


@pytest.mark.parametrize(
    ("make", "wish"),
    [
        (lambda: collections.defaultdict(print), "__builtin__.print"),
        (lambda: collections.defaultdict(collections.Counter), "collections.defaultdict"),
    ],
)
def test_a_default_that_would_be_called_is_refused(
    make: Callable[[], Any], wish: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"g_ema": STATE, "counts": make()}, tmp_path / "x.pt")
    assert f"it wants {wish}" in refused(tmp_path / "x.pt", capsys)


# ---- rosinality's --------------------------------------------------------------------------------------------


def rosinality() -> dict[str, Any]:
    content: dict[str, Any] = torch.load(expected.path("rosinality_32.pt"), weights_only=True)
    return content


def test_a_rosinality_training(tmp_path: Path) -> None:
    whole = rosinality()
    training = {**whole, "g": OTHER, "d": OTHER, "args": argparse.Namespace(size=32), "ada_aug_p": 0.0}
    torch.save(training, tmp_path / "x.pt")
    opened = open_checkpoint(tmp_path / "x.pt")
    expected.check_rosinality(opened)
    assert "not used: ada_aug_p, args, g" in opened.provenance.notes
    only = {"g": prefixed("module._orig_mod.", whole["g_ema"]), "latent_avg": whole["latent_avg"]}
    torch.save(only, tmp_path / "only.pt")
    opened = open_checkpoint(tmp_path / "only.pt")
    expected.check_rosinality(opened)
    assert any("no averaged generator" in note for note in opened.provenance.notes)


def test_rosinality_without_noises(tmp_path: Path) -> None:
    """They are drawn from a fixed seed, the same each time, and said."""
    whole = rosinality()
    whole["g_ema"] = {key: value for key, value in whole["g_ema"].items() if not key.startswith("noises.")}
    torch.save(whole, tmp_path / "x.pt")
    first = open_checkpoint(tmp_path / "x.pt", cache=tmp_path / "1")
    second = open_checkpoint(tmp_path / "x.pt", cache=tmp_path / "2")
    assert any("no noises in the file: drawn from a fixed seed" in note for note in first.provenance.notes)
    noises = {key: value for key, value in first.networks["generator"].items() if key.endswith("noise_const")}
    assert {value.shape[0] for value in noises.values()} == {4, 8, 16, 32} and len(noises) == 7
    assert all(torch.equal(value, second.networks["generator"][key]) for key, value in noises.items())
    load_generator(str(tmp_path / "x.pt"))


def test_a_whole_pickled_rosinality_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.save(g_ema)`: objects of classes that are not here; their weights are taken, alone and in a dictionary."""
    whole = rosinality()
    names = ModuleType("model")

    def tree(state: dict[str, Tensor], name: str) -> nn.Module:
        kind = type(name, (nn.Module,), {"__module__": "model"})
        setattr(names, name, kind)
        made: nn.Module = kind()
        children: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            head, _, rest = key.partition(".")
            if rest:
                children.setdefault(head, {})[rest] = value
            else:
                made.register_buffer(head, value)
        for head, inner in children.items():
            made.add_module(head, tree(inner, "StyledConv"))
        return made

    network = tree(whole["g_ema"], "Generator")
    monkeypatch.setitem(sys.modules, "model", names)
    for child in network.modules():  # each name stands for one class while they are written
        child.__class__ = getattr(names, type(child).__name__)
    torch.save(network, tmp_path / "alone.pt")
    torch.save({"g_ema": network, "latent_avg": whole["latent_avg"]}, tmp_path / "dictionary.pt")
    monkeypatch.delitem(sys.modules, "model")
    state = open_checkpoint(tmp_path / "dictionary.pt").networks["generator"]
    expected.check_rosinality(open_checkpoint(tmp_path / "dictionary.pt"))
    alone = open_checkpoint(tmp_path / "alone.pt").networks["generator"]
    assert all(torch.equal(alone[key], value) for key, value in state.items() if key != "mapping.w_avg")


# ---- StyleGAN2-ADA's -------------------------------------------------------------------------------------


def test_an_ada_generator_alone(tmp_path: Path) -> None:
    """Without its dictionary, pickled or saved by torch, as pivotal tuning does."""
    import pickle

    from tests.engine.checkpoints.ada_pickle import module_tree, reference_modules

    words = {"synthesis_kwargs": {"conv_clamp": 256}}
    with reference_modules():
        made = module_tree(STATE, "Generator", words)
        (tmp_path / "alone.pkl").write_bytes(pickle.dumps(made))
        torch.save(made, tmp_path / "tuned.pt")
    for name in ("alone.pkl", "tuned.pt"):
        opened = open_checkpoint(tmp_path / name)
        found = opened.networks["generator"]
        assert found.keys() == STATE.keys() and all(torch.equal(found[key], STATE[key]) for key in STATE)
        assert opened.configuration["generator"]["conv_clamp"].value == 256


def test_grey_pickles_are_drawn_as_colours(tmp_path: Path) -> None:
    states = {
        "G_ema": network(channels=1).state_dict(),
        "D": Discriminator(0, RESOLUTION, 1, channels=CHANNELS).state_dict(),
    }
    write_ada_pickle(tmp_path / "grey.pkl", states, {})
    for picture in drawn(tmp_path / "grey.pkl", tmp_path / "out"):
        assert picture.shape == (RESOLUTION, RESOLUTION, 3) and (picture == picture[..., :1]).all()


def test_classes_of_a_conditional_pickle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Chosen by number, by name where the folder says them, found from the prompt, or mixed; labels say which."""
    states = {
        "G_ema": network(classes=3).state_dict(),
        "D": Discriminator(3, RESOLUTION, channels=CHANNELS, cmap_dim=8, mapping_layers=2).state_dict(),
    }
    write_ada_pickle(tmp_path / "classes.pkl", states, {})
    checked(tmp_path / "classes.pkl", capsys)
    first = drawn(tmp_path / "classes.pkl", tmp_path / "1", "--class", "1")
    other = drawn(tmp_path / "classes.pkl", tmp_path / "2", "--classes", "2")
    assert not np.array_equal(first[0], other[0])
    drawn(tmp_path / "classes.pkl", tmp_path / "auto")  # nothing tells their names: each seed has a class of its own
    drawn(tmp_path / "classes.pkl", tmp_path / "mixed", "--classes", "0,1", "--relaxed-classes")
    report = json.loads((tmp_path / "1" / "run.json").read_text())
    assert report["settings"]["classes"] == ["1"]
    options = ["--model", str(tmp_path / "classes.pkl"), "--out", str(tmp_path / "wrong"), "--n", "1", "--steps", "1"]
    assert cli.main(["generate", "x", *options, "--classes", "7"]) == 2
    assert "there is no class '7'" in capsys.readouterr().err
    assert cli.main(["generate", "x", *options, "--classes", "1", "--space", "w"]) == 2
    assert "space 'w' has none; leave them out, or use z" in capsys.readouterr().err


# ---- TensorFlow's, BigGAN's ----------------------------------------------------------------------------------


def test_tensorflow_networks_with_labels(tmp_path: Path) -> None:
    """mapping/LabelConcat: labels times weights beside z, both normalised as one vector; a logit for each class."""
    from engine.checkpoints import stylegan2_tf
    from engine.checkpoints.arrays import Storage, StoredArray
    from engine.checkpoints.building import build_network
    from engine.checkpoints.content import read_content
    from engine.checkpoints.pickle_machine import Node

    def array(values: Tensor) -> ArrayShell:
        shell = ArrayShell()
        data = memoryview(bytearray(values.contiguous().numpy().tobytes()))
        storage = Storage(torch.float32, values.numel(), data)
        shell.stored = StoredArray(storage, 0, tuple(values.shape), values.contiguous().stride())
        return shell

    _, discriminator, generator = read_content(expected.path("sg2_tf_legacy32.pkl")).value
    random = torch.Generator().manual_seed(1)
    mapping: Node = generator.state["components"]["mapping"]
    variables = dict(mapping.state["variables"])
    first = variables["Dense0/weight"].stored.tensor()
    z_dim, labels = first.shape[0], torch.randn(3, first.shape[0], generator=random)
    wide = torch.randn(2 * z_dim, first.shape[1], generator=random)
    mapping.state["variables"] = [
        *((name, one) for name, one in variables.items() if name != "Dense0/weight"),
        ("Dense0/weight", array(wide)),
        ("LabelConcat/weight", array(labels)),
    ]
    judge = dict(discriminator.state["variables"])
    last = judge["Output/weight"].stored.tensor()
    judge |= {"Output/weight": array(last.repeat(1, 3)), "Output/bias": array(torch.zeros(3))}
    discriminator.state["variables"] = list(judge.items())
    parts = stylegan2_tf.read((generator, discriminator, generator))
    settings = {role: {name: one.value for name, one in stated.items()} for role, stated in parts.stated.items()}
    assert settings["generator"]["normalization"] == "together"
    network: Any = build_network(
        "stylegan2", "generator", parts.networks["generator"], settings["generator"], place="x"
    )
    z, c = torch.randn(2, z_dim, generator=random), torch.eye(3)[[2, 0]]
    x = torch.cat([z, c @ labels], dim=1)
    x = x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()
    step = settings["generator"].get("lr_multiplier", 0.01)
    bias = variables["Dense0/bias"].stored.tensor()
    y = torch.nn.functional.leaky_relu(x @ wide * (step / wide.shape[0] ** 0.5) + bias * step, 0.2) * 2**0.5
    assert torch.allclose(network.mapping.fc0(x), y, atol=1e-5)
    assert network.c_dim == 3 and torch.allclose(network.mapping.to_w(z, c), rest_of(network.mapping, y), atol=1e-5)
    judged: Any = build_network("stylegan2", "discriminator", parts.networks["discriminator"], {}, place="x")
    assert judged.judges_by_class and judged.of_any_class(torch.zeros(1, 3, 32, 32)).shape == (1, 1)


def rest_of(mapping: Any, y: Tensor) -> Tensor:
    """The layers of a mapping network behind the first."""
    for i in range(1, mapping.num_layers):
        y = mapping.get_submodule(f"fc{i}")(y)
    return y


def biggan(shared_dim: int = 4) -> BigGAN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = BigGAN(6 if shared_dim else 5, 3, shared_dim, channels=[(4, 4), (4, 4)], hierarchical=shared_dim > 0)
    return made


def test_a_biggan_with_an_embedding_for_each_layer(tmp_path: Path) -> None:
    """Without G_shared: scales and offsets of a layer are rows of its own tables, which mix as classes do."""
    network = biggan(shared_dim=0).eval()
    tables = [key for key in network.state_dict() if ".bn1.gain." in key]
    assert tables == [f"blocks.{i}.0.bn1.gain.weight" for i in range(2)]
    torch.save(network.state_dict(), tmp_path / "G_ema.pth")
    opened = open_checkpoint(tmp_path / "G_ema.pth")
    assert opened.family == "biggan"
    model = load_generator(str(tmp_path / "G_ema.pth"))
    assert model.classes == ("0", "1", "2")
    z, one = torch.randn(2, 5, generator=torch.Generator().manual_seed(0)), torch.eye(3)[[1, 2]]
    with torch.no_grad():
        images = model.network(z, model.network.embed_classes(one))
        assert torch.allclose(images, network(z, network.embed_classes(torch.tensor([1, 2]))), atol=1e-5)
        norm: Any = network.get_submodule("blocks.0.0.bn1")
        mixed = norm.gain(torch.tensor([[0.25, 0.75, 0.0]]))
        assert torch.allclose(mixed[0], 0.25 * norm.gain.weight[0] + 0.75 * norm.gain.weight[1])
    for picture in drawn(tmp_path / "G_ema.pth", tmp_path / "out"):
        assert picture.shape == (16, 16, 3)


def test_a_folder_of_a_biggan_training(tmp_path: Path) -> None:
    """The averaged generator and the discriminator of the same step; optimizers and the rest are left out, and said."""
    folder = tmp_path / "run"
    folder.mkdir()
    averaged, judge = biggan(), BigGANDiscriminator(3, channels=[(3, 4, 4), (4, 4, 4)], down=[True, False])
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    best = {key: 2 * value for key, value in averaged.state_dict().items()}
    for name, value in {
        "G": best, "G_ema": averaged.state_dict(), "D": judge.state_dict(), "G_optim": optimizer, "D_optim": optimizer,
        "state_dict": {"itr": 5, "epoch": 1}, "G_ema_copy0": best, "D_copy0": best, "G_optim_copy0": optimizer,
    }.items():  # fmt: skip
        torch.save(value, folder / f"{name}.pth")
    opened = open_checkpoint(folder)
    assert (opened.family, set(opened.networks)) == ("biggan", {"generator", "discriminator"})
    assert torch.equal(opened.networks["generator"]["linear.weight"], averaged.linear.weight)
    (note,) = (note for note in opened.provenance.notes if note.startswith("not used, of the training: "))
    assert "G_optim.pth" in note and "state_dict.pth" in note and "G.pth" in note and "G_ema_copy0.pth" in note
    load_generator(str(folder))
    for name in ("G_ema", "D"):
        (folder / f"{name}.pth").unlink()
    torch.save(best, folder / "G_ema_best1.pth")
    best_one = open_checkpoint(folder).networks["generator"]
    assert torch.equal(best_one["linear.weight"], 2 * averaged.linear.weight)
    (tmp_path / "alone").mkdir()
    torch.save(averaged.state_dict(), tmp_path / "alone" / "state_dict.pth")
    assert open_checkpoint(tmp_path / "alone").family == "biggan"


# ---- weights that are no numbers to compute with ---------------------------------------------------------


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1e39])
@pytest.mark.parametrize("kind", ["pt", "safetensors", "ckpt"])
def test_weights_that_are_not_finite(
    wrong: float, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import save_file

    state = {key: value.double() if wrong == 1e39 else value.clone() for key, value in STATE.items()}
    state["synthesis.b8.conv1.weight"][0, 0, 0, 0] = wrong
    path = tmp_path / f"x.{kind}"
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "pt")
    said = refused(path, capsys)
    assert "generator has a value that is no finite number of 32 bits (synthesis.b8.conv1.weight)" in said


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "float8_e4m3fn", "float8_e5m2", "complex64"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_quantised_weights(kind: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import save_file

    state = {key: value.to(getattr(torch, kind)) for key, value in STATE.items()}
    save = save_file if suffix == "safetensors" else torch.save
    save(state, tmp_path / f"x.{suffix}")
    said = refused(tmp_path / f"x.{suffix}", capsys)
    if (kind, suffix) == ("complex64", "pt"):
        assert "it wants torch.ComplexFloatStorage" in said
    else:
        assert kind in said and "Weights must be floating-point numbers of 16, 32 or 64 bits" in said


def test_whole_numbers_in_other_places_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({**STATE, "mapping.w_avg": torch.zeros(W_DIM, dtype=torch.int16)}, tmp_path / "x.pt")
    said = refused(tmp_path / "x.pt", capsys)
    assert "1 key (mapping.w_avg) is whole numbers (int16)" in said


# ---- files that nearly fit ---------------------------------------------------------------------------------

MISFITS: dict[str, tuple[dict[str, Tensor | None], str]] = {
    "a layer more": ({"foo.bar": torch.ones(1)}, "1 key (foo.bar) is unexpected. It has more layers than a StyleGAN2"),
    "buffers left out": (
        {key: None for key in STATE if key.endswith(("noise_const", "resample_filter", "w_avg"))},
        "are missing. Only the parameters were saved: save the network's whole state_dict().",
    ),
    "a parameter left out": (
        {"synthesis.b16.torgb.bias": None},
        "1 key (synthesis.b16.torgb.bias) is missing. Layers were left out when it was saved",
    ),
    "another shape": (
        {"synthesis.b16.conv1.bias": torch.zeros(9)},
        "1 key is of another shape (synthesis.b16.conv1.bias is 9, not 8). Its layers do not fit each other",
    ),
    "one left out, one more": (
        {"synthesis.b16.torgb.bias": None, "foo.bar": torch.ones(1)},
        "1 key (synthesis.b16.torgb.bias) is missing; 1 key (foo.bar) is unexpected. It is another network than",
    ),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_what_does_not_fit_is_said(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes, reason = MISFITS[kind]
    state = {key: value for key, value in {**STATE, **changes}.items() if value is not None}
    torch.save(state, tmp_path / "x.pt")
    assert reason in refused(tmp_path / "x.pt", capsys)


# ---- models of other kinds -----------------------------------------------------------------------------------

STRANGERS: dict[str, tuple[Any, str]] = {
    "StyleGAN3": (["mapping.fc0.weight", "synthesis.input.freqs", "synthesis.L0_36_512.weight"], "a StyleGAN3;"),
    "StyleGAN-XL": (["mapping.embed_proj.weight", "synthesis.L0_36_512.weight"], "a StyleGAN-XL;"),
    "projected GAN": (["synthesis.init.init.1.weight_orig", "synthesis.feat_8.1.weight_orig"], "a projected GAN"),
    "GigaGAN": (["G.style_network.net.0.weight", "G.init_block", "G.layers.0.0.to_rgb.weight"], "a GigaGAN;"),
    "lucidrains": (
        ["GAN.S.net.0.weight", "GAN.G.initial_block", "GAN.G.blocks.0.to_style1.weight"],
        "a StyleGAN2 of lucidrains' stylegan2-pytorch (model_N.pt)",
    ),
    "LoRA of kohya": (["lora_unet_down_blocks_0.lora_up.weight", "lora_unet_down_blocks_0.alpha"], "a LoRA: changes"),
    "LoRA of PEFT": (["base_model.model.q_proj.lora_A.weight"], "a LoRA: changes to the weights of another model"),
    "ControlNet": (["control_model.input_blocks.0.weight"], "a ControlNet;"),
    "Stable Diffusion": (
        ["model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.decoder.conv_in.weight"],
        "a Stable Diffusion checkpoint;",
    ),
    "U-Net": (["down_blocks.0.resnets.0.conv1.weight", "time_embedding.linear_1.weight"], "a U-Net of diffusers;"),
    "autoencoder": (["encoder.down_blocks.0.x.weight", "decoder.up_blocks.0.x.weight"], "an autoencoder of diffusers;"),
    "diffusion transformer": (["transformer_blocks.0.attn.to_q.weight", "proj_out.weight"], "a diffusion transformer;"),
    "language model": (["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"], "a language model;"),
    "nothing known": (["a.weight", "b.weight"], "belong to no network that is known here; its first keys: "),
}


@pytest.mark.parametrize("kind", STRANGERS)
@pytest.mark.parametrize("form", ["safetensors", "nested"])
def test_models_of_other_kinds_are_named(
    kind: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import save_file

    keys, name = STRANGERS[kind]
    state = {key: torch.ones(2) for key in keys}
    if form == "safetensors":
        save_file(state, tmp_path / "x.safetensors")
        said = refused(tmp_path / "x.safetensors", capsys)
    else:
        torch.save({"state_dict": state, "epoch": 3}, tmp_path / "x.pt")
        said = refused(tmp_path / "x.pt", capsys)
    assert name in said
    if kind != "nothing known":
        assert "is not supported here. These are: StyleGAN2, " in said


def test_lucidrains_models_by_their_own_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gan = {"S.net.0.weight": OTHER["x.weight"], "GE.blocks.0.to_style1.weight": torch.ones(1)}
    torch.save({"GAN": gan, "version": "1.9.0"}, tmp_path / "model_5.pt")
    assert "stylegan2-pytorch (model_N.pt) without its averaged networks or of another version" in refused(
        tmp_path / "model_5.pt", capsys
    )


def test_successors_in_pickles_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, (keys, name) in enumerate(
        (
            (["synthesis.L0_36_512.weight"], "it is a StyleGAN3, which is not supported"),
            (["synthesis.L0_36_512.weight", "mapping.embed_proj.weight"], "it is a StyleGAN-XL, which is not"),
            (["synthesis.feat_8.weight", "synthesis.se_64.weight"], "it is a projected GAN (FastGAN), which is not"),
            (["synthesis.other.weight"], "StyleGAN3 and other successors are not supported"),
        )
    ):
        path = tmp_path / f"{number}.pkl"
        write_ada_pickle(path, {"G_ema": {key: torch.ones(1) for key in keys}}, {})
        said = refused(path, capsys)
        assert "its G_ema has not the layers of StyleGAN2" in said and name in said


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("x.onnx", b"\x08\x07\x12\x07pytorch\x1a\x052.1.0", "an ONNX file"),
        ("x.gguf", b"GGUF\x03\x00\x00\x00", "a GGUF file of a language model"),
        ("x.tflite", b"\x1c\x00\x00\x00TFL3", "a TensorFlow Lite file"),
        ("x.h5", b"\x89HDF\r\n", "an HDF5 file"),
    ],
)
def test_other_formats_are_named(
    name: str, data: bytes, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(data + bytes(100))
    assert f"it is {reason}" in refused(tmp_path / name, capsys)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("model_index.json", "a folder of diffusers"),
        ("adapter_config.json", "a LoRA (PEFT)"),
        ("saved_model.pb", "Saved"),
    ],
)
def test_folders_of_other_programs_are_named(
    file: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / file).write_text("{}")
    torch.save(OTHER, tmp_path / "weights.pt")
    assert reason in refused(tmp_path, capsys)
