"""Folders in diffusers' layout that are not what they say, or ask for code: each is refused with its reason.

All are opened in one process that has `evil.py` in reach, which writes a file when anything imports it.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.checkpoints import Refused, convert, open_checkpoint
from engine.errors import ModelError
from engine.models.loading import load_generator
from engine.networks import diffusion
from tests.engine import pipelines
from tests.engine.models.hostile_configurations import EVIL

ROOT = Path(__file__).resolve().parents[3]
UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
Change = Callable[[Path], object]


def said(file: str, **values: Any) -> Change:
    """Other values of fields of a JSON file; a value of ... takes the field away."""

    def change(folder: Path) -> None:
        told = json.loads((folder / file).read_text()) | values
        (folder / file).write_text(json.dumps({name: value for name, value in told.items() if value is not ...}))

    return change


def written(file: str, data: str | bytes) -> Change:
    def change(folder: Path) -> None:
        (folder / file).write_bytes(data if isinstance(data, bytes) else data.encode())

    return change


def gone(file: str) -> Change:
    return lambda folder: (folder / file).unlink()


def renamed(file: str, name: str) -> Change:
    return lambda folder: (folder / file).rename((folder / file).parent / name)


def cut(file: str) -> Change:
    return lambda folder: os.truncate(folder / file, (folder / file).stat().st_size // 2)


def cast(file: str, dtype: torch.dtype) -> Change:
    def change(folder: Path) -> None:
        save_file({key: tensor.to(dtype) for key, tensor in load_file(folder / file).items()}, folder / file)

    return change


def all_of(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return __import__, ("evil",)


PICKLED = pickle.dumps({"conv_in.weight": Bomb()})
INDEX, UNET, VAE = "model_index.json", "unet/config.json", "vae/config.json"
TEXT, SCHEDULE = "text_encoder/config.json", "scheduler/scheduler_config.json"
HOSTILE: dict[str, tuple[Change, str]] = {
    "pipeline by name": (said(INDEX, _class_name="evil.Evil"), "of the pipeline evil.Evil, which does not run here"),
    "pipeline of a list": (said(INDEX, _class_name=["evil", "Evil"]), "_class_name is a list of 2"),
    "custom pipeline": (said(INDEX, custom_pipeline="evil"), "custom_pipeline is not a field"),
    "remote code": (said(INDEX, auto_map={"AutoModel": "evil.Evil"}), "auto_map is not a field"),
    "part of a module": (said(INDEX, unet=["evil", "Evil"]), "its unet is Evil of evil, expected UNet2DConditionModel"),
    "part of a library": (said(INDEX, vae=["os", "system"]), "its vae is system of os"),
    "part of another class": (said(INDEX, unet=["diffusers", "DiffusionPipeline"]), "its unet is DiffusionPipeline"),
    "scheduler of a module": (said(INDEX, scheduler=["evil", "Evil"]), "its scheduler is Evil of evil"),
    "tokenizer of a class": (said(INDEX, tokenizer=["transformers", "AutoTokenizer"]), "its tokenizer is AutoToken"),
    "a further part": (said(INDEX, evil=["evil", "Evil"]), "evil is not a field"),
    "a part that is no pair": (said(INDEX, unet="evil"), "unet is 'evil', expected a list of 2"),
    "no part": (said(INDEX, unet=...), "lacks 'unet'"),
    "deep": (written(INDEX, "[" * 100_000), "lie more than 32 deep"),
    "endless": (written(INDEX, "[" + "1," * 400_000 + "1]"), "longer than"),
    "twice": (written(INDEX, '{"_class_name": "a", "_class_name": "b"}'), "twice"),
    "no json": (written(INDEX, EVIL), "no readable JSON"),
    "unet of a class": (said(UNET, _class_name="Evil"), "_class_name is 'Evil'"),
    "block of a module": (said(UNET, down_block_types=["evil.Evil", "DownBlock2D"]), r"down_block_types\[0\] is 'evil"),
    "an activation": (said(UNET, act_fn="__import__"), "act_fn is '__import__'"),
    "an unknown field": (said(UNET, _target_="os.system"), "_target_ is not a field"),
    "an endless width": (said(UNET, block_out_channels=[8, 10**9]), r"block_out_channels\[1\] is 1000000000"),
    "more width than weights": (said(UNET, block_out_channels=[2048, 4096]), "far more than it holds|of another shape"),
    "endless layers": (said(UNET, layers_per_block=10**6), "layers_per_block is 1000000"),
    "a kernel": (said(UNET, conv_in_kernel=10**6), "conv_in_kernel is 1000000, expected 3"),
    "no groups": (said(UNET, norm_num_groups=3), "divisible|unet"),
    "an autoencoder's block": (said(VAE, up_block_types=["Evil", "Evil"]), r"up_block_types\[0\] is 'Evil'"),
    "a factor of zero": (said(VAE, scaling_factor=0), "scaling_factor is 0"),
    "text by remote code": (said(TEXT, auto_map={"AutoModel": "evil.Evil"}), "auto_map is not a field"),
    "text of a class": (said(TEXT, architectures=["Evil"]), r"architectures\[0\] is 'Evil'"),
    "text of another kind": (said(TEXT, model_type="evil"), "model_type is 'evil'"),
    "text with an activation": (said(TEXT, hidden_act="evil"), "hidden_act is 'evil'"),
    "times without end": (said(SCHEDULE, num_train_timesteps=10**9), "num_train_timesteps is 1000000000"),
    "noise alone": (said(SCHEDULE, num_train_timesteps=99_999, beta_start=0.5, beta_end=0.5), "division|domain"),
    "times of its own": (said(SCHEDULE, trained_betas=[0.1] * 9), "trained_betas is a list of 9, expected null"),
    "words without end": (
        written("tokenizer/tokenizer.json", json.dumps({"model": {"type": "BPE", "vocab": {"a": 10**9}}})),
        "is 1000000000",
    ),
    "words of another kind": (written("tokenizer/tokenizer.json", '{"model": {"type": "Evil"}}'), "type is 'Evil'"),
    "a tokenizer's class": (
        all_of(said("tokenizer/tokenizer_config.json", auto_map={"AutoTokenizer": "evil.Evil"}, pad_token=["evil"])),
        "pad_token is a list of 1, expected an object",
    ),
    "pickle as safetensors": (written(UNET_FILE, PICKLED), "no whole safetensors file"),
    "pickle alone": (
        all_of(gone(UNET_FILE), written("unet/diffusion_pytorch_model.bin", PICKLED)),
        "holds no safetensors. Of a pipeline nothing else is read",
    ),
}
WRONG: dict[str, tuple[Change, str]] = {
    "another pipeline": (said(INDEX, _class_name="FluxPipeline"), "of the pipeline FluxPipeline, which does not run"),
    "many steps": (said(SCHEDULE, _class_name="PNDMScheduler"), "a PNDMScheduler, of models that take tens of steps"),
    "many Euler steps": (said(SCHEDULE, timestep_spacing="leading"), "a model of tens of steps, .* SD-Turbo says"),
    "no weights": (gone(UNET_FILE), "unet/diffusion_pytorch_model.safetensors is missing .* half a download"),
    "half of the weights": (cut(UNET_FILE), "damaged|no whole safetensors"),
    "an unfinished download": (
        renamed(UNET_FILE, "diffusion_pytorch_model.safetensors.incomplete"),
        "still being fetched, or its download was broken off",
    ),
    "no configuration": (gone(VAE), "vae/config.json is missing"),
    "no schedule": (gone(SCHEDULE), "scheduler/scheduler_config.json is missing"),
    "no words": (gone("tokenizer/tokenizer.json"), "tokenizer/vocab.json is missing"),
    "shards": (
        all_of(gone(UNET_FILE), written("unet/diffusion_pytorch_model.safetensors.index.json", "{}")),
        r"several files.* Fetch the variant of 16 bits",
    ),
    "weights of 8 bits": (cast(UNET_FILE, torch.float8_e4m3fn), "numbers of the type float8_e4m3fn"),
    "weights of another part": (
        lambda folder: shutil.copy(folder / "vae" / Path(UNET_FILE).name, folder / UNET_FILE),
        "does not hold a one_step_diffusion unet",
    ),
    "another text encoder": (said(UNET, cross_attention_dim=20), "of another shape"),
}


def copies(tmp_path: Path, cases: dict[str, tuple[Change, str]]) -> dict[str, str]:
    """A folder for each case, changed; the label of each by its folder's name."""
    pipelines.save_pipeline(tmp_path / "good", "sd")
    names = {}
    for number, (label, (change, _)) in enumerate(cases.items()):
        place = tmp_path / "cases" / f"pipeline-{number:03}"
        shutil.copytree(tmp_path / "good", place)
        for part in (place, place / "unet", place / "text_encoder", place / "tokenizer"):
            (part / "evil.py").write_text(EVIL)
        change(place)
        names[place.name] = label
    return names


def test_what_a_folder_asks_for_is_not_done(tmp_path: Path) -> None:
    names = copies(tmp_path, HOSTILE)
    (tmp_path / "reach").mkdir()
    (tmp_path / "reach" / "evil.py").write_text(EVIL)
    canary = tmp_path / "canary"
    environment = {
        **os.environ,
        "CANARY": str(canary),
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path / "reach"))),
        "GMI_CACHE": str(tmp_path / "cache"),
        "GMI_MODELS": str(tmp_path / "models"),
    }
    command = [sys.executable, "-m", "tests.engine.models.run_configurations", str(tmp_path / "cases")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) == len(HOSTILE)
    for name, outcome, message, seconds in outcomes:
        label = names[name]
        assert outcome in ("Refused", "ModelError"), f"{label}: {outcome} {message}"
        assert re.search(HOSTILE[label][1], message), f"{label}: {message}"
        assert seconds < 60, label  # the first that is built waits for diffusers to be imported
    assert not canary.exists(), canary.read_text()


def test_the_canary_sings(tmp_path: Path) -> None:
    """What the test above would show if a file were listened to."""
    (tmp_path / "evil.py").write_text(EVIL)
    environment = {**os.environ, "CANARY": str(tmp_path / "canary"), "PYTHONPATH": str(tmp_path)}
    code = f"import pickle; pickle.loads({PICKLED!r})".replace(__name__, "evil")
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert (tmp_path / "canary").exists()


def test_folders_that_do_not_fit_are_answered(tmp_path: Path) -> None:
    for name, label in copies(tmp_path, WRONG).items():
        with pytest.raises(ModelError, match=WRONG[label][1]):
            load_generator(str(tmp_path / "cases" / name))


def test_16_bits_are_taken_where_nothing_else_is_there(tmp_path: Path) -> None:
    """A folder of a download of the variant "fp16": names end in .fp16, numbers are rounded to 16 bits."""
    pipelines.save_pipeline(tmp_path / "whole", "sdxl")
    halved = pipelines.tiny_pipeline("sdxl").to(torch.float16)
    halved.save_pretrained(tmp_path / "half", variant="fp16")
    assert not (tmp_path / "half" / UNET_FILE).exists()
    opened = open_checkpoint(tmp_path / "half")
    assert {tensor.dtype for tensor in opened.networks["unet"].values()} == {torch.float16}
    pictures = []
    for name in ("whole", "half"):
        model = load_generator(str(tmp_path / name))
        space = model.spaces["noise"]
        pictures.append(model.render(space.sample((1,)), space))
    assert 0 < (pictures[0] - pictures[1]).abs().max() < 0.05


def test_converted_to_one_file_it_is_the_same_model(tmp_path: Path) -> None:
    pipelines.save_pipeline(tmp_path / "folder", "lcm")
    convert(open_checkpoint(tmp_path / "folder"), tmp_path / "one.safetensors")
    pictures = []
    for place in (tmp_path / "folder", tmp_path / "one.safetensors"):
        model = load_generator(str(place))
        space = model.spaces["noise"]
        pictures.append(model.render(space.sample((1,)), space))
    assert torch.equal(*pictures)


OLD = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}


def test_older_names_are_read(tmp_path: Path) -> None:
    """As folders of earlier versions have them: a prefix and places of the text encoder, attention of the autoencoder,
    the words in two files, a schedule without what was not yet told."""
    pipelines.save_pipeline(tmp_path / "new", "lcm")
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    vae, text = (
        tmp_path / "old" / name for name in (UNET_FILE.replace("unet", "vae"), "text_encoder/model.safetensors")
    )
    state = load_file(vae)
    for new, old in OLD.items():
        state = {key.replace(new, old): tensor for key, tensor in state.items()}
    assert any(".proj_attn." in key for key in state)
    save_file(state, vae)
    state = {f"text_model.{key}": tensor for key, tensor in load_file(text).items()}
    save_file(state | {"text_model.embeddings.position_ids": torch.arange(77)[None]}, text)
    words, merges = pipelines.word_table()
    folder = tmp_path / "old" / "tokenizer"
    for file in folder.iterdir():
        file.unlink()
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges))
    said(SCHEDULE, original_inference_steps=..., timestep_scaling=..., _name_or_path="x/y")(tmp_path / "old")
    pictures = []
    for name in ("new", "old"):
        model = load_generator(str(tmp_path / name))
        space = model.spaces["noise"]
        pictures.append(model.render(space.sample((1,)), space))
    assert torch.equal(*pictures)


def test_a_replaced_part_is_seen(tmp_path: Path) -> None:
    """A model stays loaded; another schedule in its folder makes it another model."""
    pipelines.save_pipeline(tmp_path, "sd")
    first = load_generator(str(tmp_path))
    assert load_generator(str(tmp_path)) is first
    said(SCHEDULE, beta_end=0.02)(tmp_path)
    second = load_generator(str(tmp_path))
    assert second is not first and second.sha256 != first.sha256


def test_without_the_packages_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipelines.save_pipeline(tmp_path, "sd")

    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(diffusion.importlib, "import_module", missing)
    with pytest.raises(ModelError, match=r"pip install -r requirements-diffusion\.txt"):
        load_generator(str(tmp_path))


def test_a_lora_alone_is_named(tmp_path: Path) -> None:
    save_file({"unet.down_blocks.0.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "pytorch_lora_weights.safetensors")
    with pytest.raises(Refused, match="a LoRA: changes to the weights of another model"):
        open_checkpoint(tmp_path)
