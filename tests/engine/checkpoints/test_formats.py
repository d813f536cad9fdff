"""What each reader takes from a file's content, what it leaves out and says so, and what it refuses."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.checkpoints import (
    Refused,
    biggan_deep,
    content,
    convert,
    converted,
    dalle_dvae,
    open_checkpoint,
    rosinality,
    stargan2,
    state_dict,
    stylegan2_ada,
    stylegan2_tf,
    torchscript,
    vqgan,
)
from engine.checkpoints.arrays import ArrayShell, DtypeShell
from engine.checkpoints.building import build
from engine.checkpoints.checkpoint import MAX_TENSORS, SPARE_BYTES, Setting, check_amount, tensors_of
from engine.checkpoints.content import Content, is_safetensors, parse_json, read_content
from engine.checkpoints.modules import MAX_DEPTH, state_of_modules
from engine.checkpoints.pickle_machine import Known, Ledger, Node
from engine.checkpoints.refusal import printable, refused_wishes
from engine.checkpoints.safetensors_file import read_safetensors, verify, write_safetensors
from engine.checkpoints.torch_file import read_pickle, read_torch_zip
from engine.errors import ModelError
from engine.networks import dfgan
from tests.engine.checkpoints import expected, hostile
from tests.engine.checkpoints.hostile import (
    APPENDS,
    EMPTY_LIST,
    EMPTY_TUPLE,
    MARK,
    NEWOBJ,
    POP,
    REDUCE,
    archive,
    call,
    dictionary,
    get,
    integer,
    pickled,
    put,
    safetensors,
    text,
    tuple_of,
)

# ---- containers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "reason"),
    [
        (b"\x1f\x8b", "gzip"),
        (b"7z\xbc\xaf", "7z"),
        (b"Rar!", "rar"),
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ", "xz"),
        (bytes(257) + b"ustar", "tar archive"),
        (b"\x89HDF", "HDF5"),
        (b"\x93NUMPY", "numpy array"),
        (b"\x7fELF", "program"),
        (b"MZ", "program"),
        (b"\x89PNG", "picture"),
        (b"\xff\xd8\xff", "picture"),
        (b"GGUF", "GGUF"),
        (b"version https://git-lfs", "git lfs pull"),
        (b" \n<!DOCTYPE", "a web page"),
        (b"<html", "a web page"),
        (b"<?xml", "a web page"),
        (b" {", "no readable JSON"),
        (b"\x80\x02\xff", "(?<=refused: )byte 2 is no pickle opcode"),
        (b"N", r"no model file that is known here \(safetensors, torch, pickle\)\.$"),
        (b"hello", r"no model file that is known here \(safetensors, torch, pickle\)\.$"),
        (b"cposix\nsystem\n", r"no model file that is known here \(safetensors, torch, pickle\)\.$"),
    ],
)
def test_strangers_are_called_by_their_names(begin: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(begin + bytes(100))
    with pytest.raises(Refused, match=rf"model\.pkl is refused: (.*){reason}"):
        open_checkpoint(tmp_path / "model.pkl")


def test_a_file_beyond_the_limit_is_not_mapped(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.touch()
    os.truncate(path, content.MAX_FILE + 1)  # a hole, which takes no disk
    with pytest.raises(Refused, match="it is larger than 64 GB"):
        read_content(path)
    path.unlink()


@pytest.mark.parametrize("error", [MemoryError, RecursionError])
def test_running_out_of_memory_is_the_files_fault(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(content, "read_torch_zip", fails)
    (tmp_path / "x.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(Refused, match=r"x\.pt is refused: it takes more memory than it should; it is damaged"):
        read_content(tmp_path / "x.pt")


@pytest.mark.parametrize(("times", "reason"), [(2, "holds no model that is known"), (3, "copied again and again")])
def test_a_file_may_have_its_own_size_and_a_megabyte_copied(times: int, reason: str, tmp_path: Path) -> None:
    """A text of a million letters is encoded: twice is within 1 MB and 2^20, three times is not."""
    encoded = call("_codecs", "encode", get(0), text("latin1"))
    (tmp_path / "x").write_bytes(pickled(text("a" * 1_000_000), put(0), POP, *[encoded] * times))
    with pytest.raises(Refused, match=reason):
        open_checkpoint(tmp_path / "x")


def test_json_is_an_object_of_bounded_length(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_json(b' {"a": [1]} ') == {"a": [1]}
    for wrong, reason in ((b"[1]", "no description of a model"), (b"{", "no readable JSON"), (b"[" * 99_999, "JSON")):
        with pytest.raises(Refused, match=reason):
            parse_json(wrong)
    monkeypatch.setattr(content, "MAX_JSON", 8)
    assert parse_json(b'{"a": 1}') == {"a": 1}
    with pytest.raises(Refused, match="far too long"):
        parse_json(b'{"a": 11}')


def test_what_counts_as_safetensors(tmp_path: Path) -> None:
    """The length of the header fits into the file, and the header begins as JSON does."""
    path = tmp_path / "x"
    whole = safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4))
    for data, answer in (
        (whole, True),
        (b"\x09" + bytes(7) + b"{x", True),
        (b"\x0a" + bytes(7) + b"{x", False),
        (whole.replace(b"{", b"[", 1), False),
        (b"\x01" + bytes(7), False),
        (b"", False),
    ):
        path.write_bytes(data)
        assert is_safetensors(path) == answer, data


def test_headers_as_long_as_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)))
    length = int.from_bytes(path.read_bytes()[:8], "little")
    monkeypatch.setattr(content, "MAX_HEADER", length)
    assert read_content(path).value["a"].tolist() == [0]
    monkeypatch.setattr(content, "MAX_HEADER", length - 1)
    with pytest.raises(Refused, match=f"its header has {length} bytes, expected {length - 1} at most"):
        read_content(path)


def test_values_beside_the_weights_open(tmp_path: Path) -> None:
    """What torch saves of devices, shapes, types of numbers and numpy numbers in a training's file."""
    import numpy as np

    state = dfgan.Generator(3, 2, [4, 4, 2]).state_dict()
    beside = {
        "device": torch.device("cpu"),
        "size": torch.Size([1, 2]),
        "types": [torch.float32, torch.bfloat16, torch.bool],
        "loss": np.float64(0.5),
        "seen": {1, 2},
        "parameter": nn.Parameter(torch.ones(2)),
        "empty": np.zeros((0, 3), np.float32),
    }
    for legacy in (False, True):
        torch.save({"state_dict": state, **beside}, tmp_path / "x", _use_new_zipfile_serialization=not legacy)
        opened = open_checkpoint(tmp_path / "x")
        assert opened.family == "dfgan" and opened.networks["generator"].keys() == state.keys()
        left_out = "not used: device, empty, loss, parameter, seen, size, types"
        assert opened.provenance.notes == ("found under state_dict", left_out)


def test_torchscript_gives_its_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = dfgan.Generator(3, 2, [4, 4, 2]).eval()
    torch.jit.trace(network, (torch.zeros(1, 3), torch.zeros(1, 2)), check_trace=False).save(tmp_path / "x.pt")
    opened = open_checkpoint(tmp_path / "x.pt")
    assert opened.family == "dfgan" and "TorchScript archive, state dict" in opened.provenance.format
    assert "the code in it was not read" in opened.provenance.notes[-1]
    found = opened.networks["generator"]
    assert found.keys() == network.state_dict().keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in network.state_dict().items())


# ---- amounts and state dicts -----------------------------------------------------------------------------


def test_tensors_may_come_to_twice_the_file() -> None:
    """And some megabytes: names for the same bytes are an attack only where they are many."""
    networks = {"generator": {"a": torch.empty(SPARE_BYTES + 20, dtype=torch.uint8, device="meta")}}
    check_amount(networks, 10)
    with pytest.raises(Refused, match=r"its 1 tensors come to 16,777,236 bytes, the file has 9\."):
        check_amount(networks, 9)
    one = torch.empty(0, device="meta")
    check_amount({"generator": dict.fromkeys(map(str, range(MAX_TENSORS)), one)}, 10)
    with pytest.raises(Refused, match="its 20,001 tensors come to 0 bytes"):
        check_amount({"a": dict.fromkeys(map(str, range(MAX_TENSORS)), one), "b": {"x": one}}, 10)


def test_state_dicts_hold_tensors_only() -> None:
    assert tensors_of({"a": torch.ones(1)}, "x").keys() == {"a"}
    for value, reason in (([], "x should be a dictionary of tensors, found list"), ({"a": 1}, "found int")):
        with pytest.raises(Refused, match=reason):
            tensors_of(value, "x")
    with pytest.raises(Refused, match="tensors only"):
        tensors_of({1: torch.ones(1)}, "x")


def test_prompt_models_are_told_by_either_name_of_their_pictures_side() -> None:
    one = torch.ones(1)
    for key in ("visual.proj", "image_encoder.model.x"):
        parts = state_dict.read({"logit_scale": one, key: one})
        assert (parts.family, set(parts.networks), parts.format) == ("open_clip", {"model"}, "open_clip checkpoint")
    for keys in (("logit_scale", "text.visual.x"), ("visual.proj", "text.x")):
        with pytest.raises(Refused, match=f"its 2 tensors belong to no network .* its first keys: {', '.join(keys)}"):
            state_dict.read(dict.fromkeys(keys, one))


def test_refusals_say_what_and_where() -> None:
    error = Refused("it is bad.", wants=("a.b",))
    assert str(error) == "refused: it is bad." and error.reason == "it is bad."
    named = error.naming("x.pkl")
    assert str(named) == "x.pkl is refused: it is bad." and named.wants == ("a.b",)
    assert named.naming("y.pkl") is named
    assert "wants a, b, c, d, e, f." in str(refused_wishes(list("abcdef")))
    assert "wants a, b, c, d, e, f and 1 more." in str(refused_wishes(list("abcdefg")))
    assert printable("a\x1b\n€") == "a\\u001b\\u000a€"
    assert printable("abcd", 4) == "abcd" and printable("abcde", 4) == "abcd…"
    assert printable("a" * 80) == "a" * 80 and printable("a" * 81) == "a" * 80 + "…"


# ---- converted models ------------------------------------------------------------------------------------


def test_converted_tensors_are_those_of_the_model(tmp_path: Path) -> None:
    """Views, transposed and shared ones, which the format cannot hold as they are, and other types of numbers."""
    base = torch.arange(12.0).view(3, 4)
    state: dict[str, Tensor] = {
        "row": base[1],
        "transposed": base.t(),
        "whole": base,
        "again": base,
        "half": torch.ones(2, dtype=torch.float16),
        "count": torch.tensor(5),
        "dotted.name": torch.zeros(2, 0),
    }
    parts = converted.Parts("form", "stylegan2", {"generator": state, "discriminator": {"again": base}})
    converted.write(tmp_path / "x.safetensors", parts)
    read = converted.read(read_content(tmp_path / "x.safetensors"))
    assert (read.format, read.family, set(read.networks)) == ("form", "stylegan2", {"generator", "discriminator"})
    for key, tensor in state.items():
        found = read.networks["generator"][key]
        assert found.dtype == tensor.dtype and torch.equal(found, tensor)
    assert torch.equal(read.networks["discriminator"]["again"], base)


def test_large_tensors_are_written_without_a_copy() -> None:
    """What fills its own memory is passed on; only what shares memory is copied."""
    own, base = torch.ones(3), torch.arange(4.0)
    flat = converted._flat({"generator": {"a": own, "b": base, "c": base, "d": base[:2]}})
    assert flat["generator.a"].data_ptr() == own.data_ptr() and flat["generator.b"].data_ptr() == base.data_ptr()
    assert flat["generator.c"].data_ptr() != base.data_ptr() and flat["generator.d"].data_ptr() != base.data_ptr()


def test_settings_and_notes_survive_converting(tmp_path: Path) -> None:
    opened = open_checkpoint(expected.path("vqgan_tiny.ckpt"), given={"resolution": 24})
    convert(opened, tmp_path / "x.safetensors")
    again = open_checkpoint(tmp_path / "x.safetensors")
    setting = again.configuration["autoencoder"]["resolution"]
    assert (setting.value, setting.source) == (24, "given")
    assert again.provenance.notes == opened.provenance.notes
    assert again.provenance.format == f"{opened.provenance.format} (safetensors)"


def test_a_file_that_states_what_cannot_be_is_refused(tmp_path: Path) -> None:
    stated = {"generator": {"lr_multiplier": Setting(-1, "the file")}}
    weights = {"generator": {"mapping.fc0.weight": torch.ones(1)}}
    converted.write(tmp_path / "x.safetensors", converted.Parts("form", "stylegan2", weights, stated))
    with pytest.raises(Refused, match=r"the file states generator\.lr_multiplier = -1, not a positive number\."):
        open_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.parametrize("change", [{"roles": 5}, {"stated": []}, {"stated": {"generator": {"x": 1}}}, {"notes": 5}])
def test_damaged_descriptions_of_converted_models(change: dict[str, Any]) -> None:
    about = {"version": 1, "format": "", "family": "x", "roles": ["generator"], "stated": {}, "notes": [], **change}
    held = Content("safetensors", {"generator.a": torch.ones(1)}, 9, {"gmi_model": json.dumps(about)})
    assert converted.matches(held)
    with pytest.raises(Refused, match="description is damaged"):
        converted.read(held)


# ---- families --------------------------------------------------------------------------------------------


def biggan_state(*widths: tuple[int, int], z: int = 3, classes: int = 5, embedding: int = 2) -> dict[str, Tensor]:
    """The keys by which a BigGAN-deep and its blocks' widths (in, out) are told."""
    state = {
        "embeddings.weight": torch.zeros(embedding, classes),
        "generator.gen_z.weight_orig": torch.zeros(8, z + embedding),
        "generator.conv_to_rgb.weight_orig": torch.zeros(3, 4, 3, 3),
    }
    for i, (before, after) in enumerate(widths):
        state[f"generator.layers.{i}.bn_0.running_means"] = torch.zeros(51, before)
        state[f"generator.layers.{i}.conv_3.weight_orig"] = torch.zeros(after, 2, 1, 1)
    return state


@pytest.mark.parametrize(
    ("widths", "up"),
    [
        (((8, 8), (8, 4), (4, 4), (4, 2)), None),
        (((8, 8), (8, 8)), None),
        (((8, 4), (4, 4)), [True, False]),
        (((8, 8), (8, 4), (4, 2)), [False, True, True]),
    ],
)
def test_biggans_blocks_are_guessed_from_their_widths(widths: Any, up: list[bool] | None) -> None:
    """Where not every block that narrows is a second one."""
    state = biggan_state(*widths)
    assert biggan_deep.matches(state)
    parts = biggan_deep.read(state)
    found = parts.stated["generator"].get("up")
    assert (None if found is None else found.value) == up
    assert found is None or found.source == "guessed from the widths"


def test_biggans_config_must_fit_the_weights() -> None:
    state = biggan_state()
    fitting = {"class_embed_dim": 2, "num_classes": 5, "z_dim": 3}
    assert biggan_deep.settings_of(state, fitting) == {}
    for name in fitting:
        with pytest.raises(Refused, match=rf"says {name} 9, the weights have {fitting[name]}: another model's"):
            biggan_deep.settings_of(state, {**fitting, name: 9})
    found = biggan_deep.settings_of(state, {"layers": [[True, 8, 4], [False]], "eps": 1})
    assert found["up"].value == [True, False] and found["eps"].value == 1.0
    assert {setting.source for setting in found.values()} == {"its config.json"}
    wrong: tuple[Any, ...] = (5, [5], [[]], [[1, 2]])
    for layers in wrong:
        with pytest.raises(Refused, match=r"no list of|layers(\[0\])? is (5|a list of 0), expected a list"):
            biggan_deep.settings_of(state, {"layers": layers})
    for key in ("embeddings.weight", "generator.gen_z.weight_orig"):
        with pytest.raises(Refused, match="no matrices"):
            biggan_deep.settings_of({**state, key: torch.zeros(3)}, {})


def test_rosinalitys_files_with_and_without_average(tmp_path: Path) -> None:
    """Bare weights, a discriminator that is left out, and the average that truncation then pulls to."""
    whole = torch.load(expected.path("rosinality_32.pt"), weights_only=True)
    averaged = open_checkpoint(expected.path("rosinality_32.pt")).networks["generator"]["mapping.w_avg"]
    assert torch.equal(averaged, whole["latent_avg"])
    bare, half = whole["g_ema"], {"g_ema": whole["g_ema"], "d": {"x": torch.ones(1)}}
    no_average = "no latent_avg in the file: taken as the mean of 10,000 samples"
    mapping: Any = build(open_checkpoint(expected.path("rosinality_32.pt")), "generator").mapping
    w = mapping.to_w(torch.randn(10_000, mapping.z_dim, generator=torch.Generator().manual_seed(5)))
    not_used = "not used: d, whose layers differ from StyleGAN2-ADA's"
    for name, value, notes in (("bare", bare, (no_average,)), ("half", half, (no_average, not_used))):
        torch.save(value, tmp_path / name)
        opened = open_checkpoint(tmp_path / name)
        assert opened.provenance.notes == notes
        found = opened.networks["generator"]["mapping.w_avg"]
        # Two means of 10,000 samples differ by sqrt(2 / 10,000) of the standard deviation, by 5 of these hardly ever.
        assert ((found - w.mean(0)).abs() < 5 * w.std(0) * (2 / 10_000) ** 0.5).all()
        build(opened, "generator")
    parallel = {"g_ema": {f"module.{key}": tensor for key, tensor in bare.items()}, "latent_avg": whole["latent_avg"]}
    torch.save(parallel, tmp_path / "parallel")
    expected.check_rosinality(open_checkpoint(tmp_path / "parallel"))
    del bare["conv1.conv.modulation.weight"]
    with pytest.raises(Refused, match="its g_ema is not rosinality's StyleGAN2: it lacks"):
        rosinality.read(bare)
    with pytest.raises(Refused, match="its latent_avg is no tensor"):
        rosinality.read({"g_ema": whole["g_ema"], "latent_avg": 5})


def test_stargans_networks_and_the_rest() -> None:
    part = {"module.a": torch.ones(1)}
    needed = {"generator": part, "mapping_network": part, "style_encoder": part}
    parts = stargan2.read({**needed, "fan": part, "discriminator": part, "step": 5})
    assert set(parts.networks) == {*needed, "discriminator", "fan"} and parts.notes == ("not used: step",)
    assert all(state.keys() == {"a"} for state in parts.networks.values())
    assert stargan2.read(needed).notes == ()
    for name in needed:
        assert stargan2.matches(needed) and not stargan2.matches({**needed, name: 5})


def module(state: dict[str, Any] | None = None, *, name: str = "Generator", **words: Any) -> Node:
    """A network as StyleGAN2-ADA pickles it."""
    array = ArrayShell()
    dtype = DtypeShell("f4")
    array.build((1, (1,), dtype, False, bytes(4)))
    inner = Node("x", {"_buffers": {"const": array.stored}, "_parameters": {"bias": None}})
    block = Node("x", {"_modules": {"b4": inner, "unused": None}})
    return Node(name, {"_modules": {"synthesis": block}, "_init_kwargs": words, **(state or {})})


def test_stylegan_adas_words() -> None:
    parts = stylegan2_ada.read(
        {
            "G_ema": module(mapping_kwargs={"lr_multiplier": 0.5}, synthesis_kwargs={"conv_clamp": None}),
            "D": module(
                name="Discriminator",
                conv_clamp=9,
                mapping_kwargs={"lr_multiplier": 2},
                epilogue_kwargs={"mbstd_group_size": 7},
            ),
            "G": module(),
            "augment_pipe": None,
        }
    )
    assert parts.notes == ("not used: G",)
    assert {name: setting.value for name, setting in parts.stated["generator"].items()} == {
        "lr_multiplier": 0.5,
        "conv_clamp": None,
        "normalization": "apart",
    }
    assert {name: setting.value for name, setting in parts.stated["discriminator"].items()} == {
        "lr_multiplier": 2,
        "conv_clamp": 9,
        "mbstd_group_size": 7,
    }
    assert parts.networks["generator"].keys() == {"synthesis.b4.const"}
    assert set(stylegan2_ada.read({"G_ema": module(), "D": None}).networks) == {"generator"}
    assert stylegan2_ada.read({"G_ema": module(), "augment_pipe": 1}).notes == ("not used: augment_pipe",)


@pytest.mark.parametrize("role", ["G_ema", "D"])
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"mapping_kwargs": {"activation": "relu"}}, "uses the activation 'relu'; only lrelu"),
        ({"synthesis_kwargs": {"activation": 5}, "epilogue_kwargs": {"activation": 5}}, "uses the activation 'int'"),
        (
            {
                "synthesis_kwargs": {"block_kwargs": {"activation": "swish"}},
                "block_kwargs": {"activation": "swish"},
            },
            "'swish'",
        ),
        ({"mapping_kwargs": 5}, "mapping_kwargs of a network in it is no dictionary"),
        ({"mapping_kwargs": {"lr_multiplier": "x"}}, "lr_multiplier of a network in it is no number"),
    ],
)
def test_stylegan_adas_words_that_no_network_here_has(role: str, words: dict[str, Any], reason: str) -> None:
    strange = module(name="Generator" if role == "G_ema" else "Discriminator", **words)
    with pytest.raises(Refused, match=reason):
        stylegan2_ada.read({"G_ema": module(), role: strange})


def test_stylegan_adas_other_networks() -> None:
    with pytest.raises(Refused, match="it holds a 'Discriminator' where a StyleGAN2 Generator should be"):
        stylegan2_ada.read({"G_ema": module(name="Discriminator")})
    with pytest.raises(Refused, match="StyleGAN3 and other successors are not supported"):
        stylegan2_ada.read({"G_ema": Node("Generator", {})})
    layer = module(synthesis_kwargs={"layer_kwargs": {"activation": "relu"}})
    with pytest.raises(Refused, match="uses the activation 'relu'"):
        stylegan2_ada.read({"G_ema": layer})


def test_the_numbers_that_openai_keeps_beside_the_weights_are_left_out() -> None:
    array = ArrayShell()
    array.build((1, (1,), DtypeShell("f4"), False, bytes(4)))
    numbers = dict.fromkeys(("input_resolution", "context_length", "vocab_size", "logit_scale"), array.stored)
    root = Node(
        "__torch__.Model", {**numbers, "visual": Node("__torch__.V", {"proj": array.stored}), "training": False}
    )
    parts = torchscript.read(root)
    assert parts.networks["model"].keys() == {"logit_scale", "visual.proj"}


def test_torchscripts_lists_and_tags_are_their_values() -> None:
    numbers = EMPTY_LIST + MARK + integer(1) + integer(2) + APPENDS
    names = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist")
    parts = [call("torch.jit._pickle", kind, numbers) for kind in names]
    parts.append(call("torch.jit._pickle", "restore_type_tag", numbers, text("List[int]")))
    data = archive({"m/data.pkl": pickled(MARK, *parts, b"l"), "m/constants.pkl": b""})
    assert read_torch_zip(memoryview(data), Ledger()) == [[1, 2]] * 5


def test_names_of_types_and_dictionaries() -> None:
    """Every type of numbers that a file may name, and dictionaries however they are made."""
    types = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool")
    for kind in types:
        found = read_pickle(memoryview(pickled(hostile.name("torch", kind))), Ledger())
        assert isinstance(found, Known) and found.name == f"torch.{kind}"
    for module, attribute in (("collections", "OrderedDict"), ("dnnlib.util", "EasyDict")):
        for how in (REDUCE, NEWOBJ):
            assert read_pickle(memoryview(pickled(hostile.name(module, attribute), EMPTY_TUPLE, how)), Ledger()) == {}
        pair = tuple_of(text("a"), integer(1))
        for pairs in (tuple_of(pair), EMPTY_LIST + MARK + pair + APPENDS, dictionary(a=integer(1))):
            assert read_pickle(memoryview(pickled(call(module, attribute, pairs))), Ledger()) == {"a": 1}


def test_readers_tell_their_own() -> None:
    """By what stands there, of the right kind: nothing else, and nothing that only has the shape."""
    tensors = {"a": torch.ones(1)}
    clip = {"logit_scale": torch.ones(1), "visual.proj": torch.ones(1)}
    tf = Node("dnnlib.tflib.network.Network")
    cases: dict[Any, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
        stylegan2_tf: (((tf,) * 3, [tf] * 3), ((tf,) * 2, (tf, tf, Node("x")), (tf, tf, tf.name), "abc", None)),
        stylegan2_ada: (({"G_ema": module()}, module()), ({"G_ema": 5}, {"G": module()}, [module()], None)),
        torchscript: ((Node("__torch__.a"),), (Node("__torch__evil.a"), Node("a"), "__torch__.a", None)),
        dalle_dvae: ((Node("dall_e.encoder.Encoder"),), (Node("dall_e.Encoder"), "dall_e.encoder.Encoder", None)),
        state_dict: ((clip,), (tensors, {"ema": clip}, {}, {"a": 1}, [clip], None)),
        stargan2: (
            ({"generator": tensors, "mapping_network": tensors, "style_encoder": tensors},),
            ({"generator": tensors, "mapping_network": tensors}, [tensors] * 3, None),
        ),
        biggan_deep: ((biggan_state(),), (tensors, {**biggan_state(), "x": 1}, [biggan_state()], None)),
    }
    for reader, (own, others) in cases.items():
        assert all(reader.matches(value) for value in own), reader
        assert not any(reader.matches(value) for value in others), reader


def test_modules_are_walked_to_a_depth() -> None:
    def chain(depth: int) -> Node:
        node = Node("x", {})
        for _ in range(depth):
            node = Node("x", {"_modules": {"a": node}})
        return node

    assert state_of_modules(chain(MAX_DEPTH)) == {}
    with pytest.raises(Refused, match="nested too deeply"):
        state_of_modules(chain(MAX_DEPTH + 1))
    with pytest.raises(Refused, match=r"its entry 'a\.w' is no tensor"):
        state_of_modules(Node("x", {"_modules": {"a": Node("x", {"_parameters": {"w": 5}})}}))
    with pytest.raises(Refused, match=r"its module a\. is no network"):
        state_of_modules(Node("x", {"_modules": {"a": 5}}))
    for entries in (5, {5: None}):
        with pytest.raises(Refused, match="no proper _buffers"):
            state_of_modules(Node("x", {"_buffers": entries}))


# ---- TensorFlow's StyleGAN2 ------------------------------------------------------------------------------


def numbered(*shape: int) -> ArrayShell:
    """0, 1, 2, ... as a numpy array of a pickle."""
    values = torch.arange(float(torch.Size(shape).numel()))
    shell, dtype = ArrayShell(), DtypeShell("f4")
    shell.build((1, shape, dtype, False, values.numpy().tobytes()))
    return shell


def network(variables: dict[str, Any], *, words: Any = None, components: Any = None, version: Any = 4) -> Node:
    state = {
        "version": version,
        "variables": list(variables.items()),
        "components": components or {},
        "static_kwargs": words or {},
    }
    return Node("dnnlib.tflib.network.Network", state)


def tensorflow(generator: dict[str, Any], discriminator: dict[str, Any] | None = None, **options: Any) -> Any:
    generator = {"synthesis/4x4/Const/const": numbered(1, 2, 4, 4), **generator}
    return stylegan2_tf.read((network({}), network(discriminator or {}), network(generator, **options)))


def test_tensorflows_layouts() -> None:
    """Convolutions [h, w, in, out], dense [in, out], biases of styles without their 1, up-convolutions mirrored."""
    parts = tensorflow(
        {
            "dlatent_avg": numbered(3),
            "lod": 0.0,
            "synthesis/4x4/Conv/weight": numbered(3, 3, 2, 5),
            "synthesis/4x4/Conv/mod_weight": numbered(3, 2),
            "synthesis/4x4/Conv/mod_bias": numbered(2),
            "synthesis/4x4/Conv/noise_strength": 0.25,
            "synthesis/noise0": numbered(1, 1, 4, 4),
            "synthesis/8x8/Conv0_up/weight": numbered(3, 3, 2, 5),
            "synthesis/8x8/Conv0_up/noise_strength": 0.5,
            "synthesis/noise1": numbered(1, 1, 8, 8),
            "synthesis/8x8/Conv1/noise_strength": 0.75,
            "synthesis/noise2": numbered(1, 1, 8, 8),
            "synthesis/8x8/Skip/weight": numbered(1, 1, 2, 5),
            "synthesis/8x8/ToRGB/mod_bias": numbered(2),
            "mapping/LabelEmbed/weight": numbered(4, 3),
            "mapping/Dense11/bias": numbered(2),
        },
        {
            "8x8/Conv1_down/weight": numbered(3, 3, 2, 5),
            "LabelEmbed/bias": numbered(2),
            "4x4/Dense0/weight": numbered(4, 3),
        },
    )
    state = parts.networks["generator"]
    plain = torch.arange(90.0).view(3, 3, 2, 5)
    assert torch.equal(state["synthesis.b4.conv1.weight"], plain.permute(3, 2, 0, 1))
    assert torch.equal(state["synthesis.b8.conv0.weight"], plain.flip(0, 1).permute(3, 2, 0, 1))
    assert torch.equal(state["synthesis.b4.conv1.affine.weight"], torch.arange(6.0).view(3, 2).t())
    assert state["synthesis.b4.conv1.affine.bias"].tolist() == [1, 2]
    assert state["synthesis.b8.torgb.affine.bias"].tolist() == [1, 2]
    assert state["synthesis.b4.const"].shape == (2, 4, 4) and state["mapping.w_avg"].tolist() == [0, 1, 2]
    assert torch.equal(state["mapping.embed.weight"], torch.arange(12.0).view(4, 3).t())
    assert state["mapping.fc11.bias"].tolist() == [0, 1]
    strengths = {key: float(t) for key, t in state.items() if key.endswith("noise_strength")}
    assert strengths == {
        "synthesis.b4.conv1.noise_strength": 0.25,
        "synthesis.b8.conv0.noise_strength": 0.5,
        "synthesis.b8.conv1.noise_strength": 0.75,
    }
    assert state["synthesis.b4.conv1.noise_const"].shape == (4, 4)
    assert state["synthesis.b8.conv1.noise_const"].shape == (8, 8)
    taps = torch.tensor([1.0, 3, 3, 1]) / 8
    for key in ("b8.conv0", "b8", "b8.skip", "b4"):
        torch.testing.assert_close(state[f"synthesis.{key}.resample_filter"], taps.outer(taps))
    assert "synthesis.b4.skip.resample_filter" not in state and "lod" not in state
    judge = parts.networks["discriminator"]
    assert torch.equal(judge["b8.conv1.weight"], plain.permute(3, 2, 0, 1))
    assert torch.equal(judge["b4.fc.weight"], torch.arange(12.0).view(4, 3).t())
    assert judge.keys() == {
        "b8.conv1.weight", "mapping.embed.bias", "b4.fc.weight", "b8.conv1.resample_filter", "b8.resample_filter",
    }  # fmt: skip
    assert parts.notes == ("not used: G",)


def test_tensorflows_words() -> None:
    parts = tensorflow({}, words={"mapping_lrmul": 0.5, "nonlinearity": "lrelu", "resample_kernel": (1, 3, 3, 1)})
    assert parts.stated["generator"]["lr_multiplier"].value == 0.5 and parts.stated["discriminator"] == {}
    (only,) = tensorflow({}, words={"resample_kernel": None}).stated["generator"].items()
    assert (only[0], only[1].value) == ("normalization", "apart")
    for words, reason in (
        ({"nonlinearity": "relu"}, "its nonlinearity is not lrelu"),
        ({"mapping_nonlinearity": "relu"}, "its mapping_nonlinearity is not lrelu"),
        ({"resample_kernel": [1, 2, 1]}, "its resample_kernel is not"),
        ({"mapping_lrmul": "x"}, "mapping_lrmul of a network in it is no number"),
        ([5], "no proper static_kwargs"),
    ):
        with pytest.raises(Refused, match=reason):
            tensorflow({}, words=words)
    judge = network({}, words={"mapping_lrmul": 2, "mbstd_group_size": 8})
    stated = stylegan2_tf.read(
        (network({}), judge, network({"synthesis/4x4/Const/const": numbered(1, 2, 4, 4)}))
    ).stated
    assert {name: setting.value for name, setting in stated["discriminator"].items()} == {
        "lr_multiplier": 2,
        "mbstd_group_size": 8,
    }


def test_tensorflows_networks_that_do_not_fit() -> None:
    for variables, reason in (
        ({"synthesis/8x8/Conv1/strange": numbered(1)}, "'synthesis/8x8/Conv1/strange' belongs to no layer"),
        ({"synthesis/8x16/Conv1/bias": numbered(1)}, "belongs to no layer"),
        ({"synthesis/4x4/Conv/weight": numbered(3)}, "'synthesis/4x4/Conv/weight' has the wrong number of axes"),
        ({"synthesis/4x4/Conv/noise_strength": 1.0}, "it lacks the noise image 0"),
        (
            {"synthesis/4x4/Conv/noise_strength": 1.0, "synthesis/noise0": numbered(4, 4)},
            "it lacks the noise image 0, or that is no image",
        ),
        ({"dlatent_avg": "x"}, "its variable 'dlatent_avg' is no array"),
        ({"dlatent_avg": ArrayShell()}, "is no array"),
    ):
        with pytest.raises(Refused, match=reason):
            tensorflow(variables)
    with pytest.raises(Refused, match=r"StyleGAN \(1\) and progressive GANs are not supported"):
        stylegan2_tf.read((network({}), network({}), network({})))
    for version in (3, None, "4"):
        with pytest.raises(Refused, match=r"its networks have version .*, StyleGAN2's have 4"):
            tensorflow({}, version=version)
    assert tensorflow({}, version=5).family == "stylegan2"


def test_tensorflows_components_are_joined_to_a_depth() -> None:
    mapping = network({"Dense0/bias": numbered(2)})
    assert "mapping.fc0.bias" in tensorflow({}, components={"mapping": mapping}).networks["generator"]
    node = network({})
    for _ in range(3):
        node = network({}, components={"a": node})
    assert tensorflow({}, components={"a": node}).family == "stylegan2"  # four levels below the top
    node = network({}, components={"a": node})
    with pytest.raises(Refused, match="none of TensorFlow's"):
        tensorflow({}, components={"a": node})
    for state in ({"version": 4, "variables": {}}, {"version": 4, "components": []}, {"version": 4, "variables": [5]}):
        with pytest.raises(Refused, match="no proper variables|no proper components|list of variables is none"):
            tensorflow({}, components={"a": Node("dnnlib.tflib.network.Network", state)})
    with pytest.raises(Refused, match="none of TensorFlow's"):
        tensorflow({}, components={"a": Node("another.Network", {"version": 4})})


# ---- VQGAN's yaml ----------------------------------------------------------------------------------------


def test_vqgans_yaml_must_fit_the_weights() -> None:
    state = {
        "decoder.conv_in.weight": torch.zeros(8, 6, 3, 3),
        "decoder.conv_out.weight": torch.zeros(3, 8, 3, 3),
        "quantize.embedding.weight": torch.zeros(20, 6),
    }
    details = {"z_channels": 6, "out_ch": 3, "resolution": 64}
    words = {"ddconfig": details, "n_embed": 20}
    for description in ({"model": {"params": words}}, {"params": words}, words):
        found = vqgan.settings_of(state, description)
        assert (found["resolution"].value, found["resolution"].source) == (64, "the yaml")
    gumbel = {**state, "quantize.embed.weight": torch.zeros(20, 6)}
    del gumbel["quantize.embedding.weight"]
    assert vqgan.settings_of(gumbel, words)["resolution"].value == 64
    for change, reason in (
        ({"z_channels": 7}, "says z_channels 7, the weights have 6"),
        ({"out_ch": 4}, "says out_ch 4, the weights have 3"),
    ):
        with pytest.raises(Refused, match=reason):
            vqgan.settings_of(state, {**words, "ddconfig": {**details, **change}})
    with pytest.raises(Refused, match="says n_embed 21, the weights have 20"):
        vqgan.settings_of(gumbel, {**words, "n_embed": 21})
    with pytest.raises(Refused, match="holds no ddconfig"):
        vqgan.settings_of(state, {"model": {}})
    assert vqgan.settings_of(state, {"ddconfig": {"resolution": None}}) == {}
    for side in (0, "64", (1 << 14) + 1, True):
        with pytest.raises(Refused, match=r"ddconfig\.resolution is .*, expected a whole number from 1 to 16,384"):
            vqgan.settings_of(state, {"ddconfig": {"resolution": side}})
    assert vqgan.settings_of(state, {"ddconfig": {"resolution": 1 << 14}})["resolution"].value == 1 << 14


def test_vqgans_yaml_as_long_as_allowed(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: 1".ljust(vqgan.MAX_YAML))
    assert vqgan.read_description(path) == {"a": 1}
    path.write_text("a: 1".ljust(vqgan.MAX_YAML + 1))
    with pytest.raises(Refused, match=r"x\.yaml is refused: it is longer than 16,384 bytes"):
        vqgan.read_description(path)
    for wrong, reason in (
        ("- 1", "no description of a VQGAN"),
        ("a: [", "no readable yaml"),
        ("a: &x 1\nb: *x", "yaml"),
    ):
        path.write_text(wrong)
        with pytest.raises(Refused, match=reason):
            vqgan.read_description(path)
    with pytest.raises(Refused, match="no readable yaml"):
        vqgan.read_description(tmp_path / "gone.yaml")


def test_vqgans_training_loss_is_left_out() -> None:
    state = {"decoder.conv_in.weight": torch.ones(1), "post_quant_conv.weight": torch.ones(1)}
    loss = {"loss.discriminator.x": torch.ones(1), "loss.y": torch.ones(1)}
    for value in ({"state_dict": {**state, **loss}}, {**state, **loss}):
        assert vqgan.matches(value)
        parts = vqgan.read(value)
        assert parts.networks["autoencoder"].keys() == state.keys()
        assert parts.notes == ("not used: loss.* (2 tensors)",)
    assert vqgan.read(dict(state)).notes == ()


# ---- the format of the bundled models --------------------------------------------------------------------


def unreadable(_: Path) -> str:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_bundled_files_are_written_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    base = torch.arange(6.0).view(2, 3)
    tensors = {"b": base.t(), "a": base, "count": torch.tensor([1, 2]), "wide": base.double()}
    sha256 = write_safetensors(path, tensors, dtype=torch.float16)
    assert write_safetensors(tmp_path / "y", dict(reversed(tensors.items())), dtype=torch.float16) == sha256
    assert verify(path) == verify(path, sha256) == sha256
    read = read_safetensors(path)
    assert {key: tensor.dtype for key, tensor in read.items()} == {
        "a": torch.float32,
        "b": torch.float32,
        "count": torch.int64,
        "wide": torch.float32,
    }
    assert torch.equal(read["b"], base.t()) and read["count"].tolist() == [1, 2]
    write_safetensors(path, tensors)
    assert torch.equal(read_safetensors(path)["wide"], base)
    with pytest.raises(ModelError, match="is damaged or was changed: its sha256 is .* expected 0000"):
        verify(path, "0" * 64)
    again = r"Fetch the file again \(in a clone: `git checkout -- .*gone`\)\.$"
    with pytest.raises(ModelError, match=f"The model file .*gone is missing. {again}"):
        verify(tmp_path / "gone")
    with monkeypatch.context() as context:
        context.setattr("engine.checkpoints.safetensors_file.sha256_of", unreadable)
        with pytest.raises(ModelError, match=r"x\.safetensors cannot be read: Input/output error\."):
            verify(path)
    path.write_bytes(b"x")
    with pytest.raises(ModelError, match="is not a readable safetensors file"):
        read_safetensors(path)
    for value in (float("inf"), float("nan"), 1e6):
        with pytest.raises(ValueError, match=r"x holds a value that is not finite in torch\.float16"):
            write_safetensors(path, {"x": torch.tensor([value])}, dtype=torch.float16)
