"""`models check` refuses exactly what loading refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine import __main__ as cli
from engine.checkpoints import convert, open_checkpoint, write_safetensors
from engine.checkpoints.checkpoint import Parts
from engine.checkpoints.converted import METADATA_KEY, VERSION
from engine.checkpoints.converted import write as write_converted
from engine.errors import ModelError
from engine.models.loading import inspect_file
from engine.networks import dalle_dvae, dfgan
from engine.networks.stylegan2 import Discriminator, Generator
from tests.engine.checkpoints.expected import CHECKS
from tests.engine.checkpoints.hostile import corpus
from tests.engine.tiny import CHANNELS, CLIP_CONFIG, RESOLUTION, W_DIM, Z_DIM, write_assets
from tests.goldens import reference

Make = Callable[[Path], Path]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GMI_MODELS", str(tmp_path / "models"))


def checked(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code of `models check`, and what it says."""
    code = cli.main(["models", "check", str(path)])
    return code, capsys.readouterr().out


def refusal(path: Path) -> str:
    """Why loading refuses the file; empty where it loads."""
    try:
        inspect_file(path)
    except ModelError as error:
        return str(error)
    return ""


def agree(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What checking says and what loading says, once it is sure that both refuse or neither does."""
    why = refusal(path)
    code, said = checked(path, capsys)
    assert (code == 0, "nothing was refused" in said) == (not why, not why), (
        f"loading: {why or 'fine'}\nchecking: {said}"
    )
    return said, why


# ---- files that are what they seem -----------------------------------------------------------------------


@pytest.mark.parametrize("name", CHECKS)
def test_files_of_public_formats(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, why = agree(reference(f"checkpoints/{name}"), capsys)
    assert not why or name == "dalle_encoder.pkl"  # one half of a model, see below


@pytest.mark.parametrize("name", CHECKS)
def test_their_converted_files(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert(open_checkpoint(reference(f"checkpoints/{name}")), tmp_path / "model.safetensors")
    _, why = agree(tmp_path / "model.safetensors", capsys)
    assert not why or name == "dalle_encoder.pkl"


def test_bundled_models_file_by_file_and_as_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assets = write_assets(tmp_path / "assets")
    fine = [path.name for path in sorted(assets.glob("*/*")) if not agree(path, capsys)[1]]
    assert fine == ["generator.safetensors", "clip-mini.safetensors"]
    for folder in (assets / "avatars", assets / "clip-mini"):
        said, why = agree(folder, capsys)
        assert not why and "licence" in said


# ---- files that are nearly models ------------------------------------------------------------------------


def bare(network: nn.Module, **changes: Tensor | None) -> Make:
    """A state dict with some entries exchanged, or left out where they are None."""

    def make(folder: Path) -> Path:
        state = {key: value for key, value in {**network.state_dict(), **changes}.items() if value is not None}
        save_file({key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors")
        return folder / "model.safetensors"

    return make


def parts(family: str, networks: dict[str, nn.Module], **values: Any) -> Make:
    """A converted model."""

    def make(folder: Path) -> Path:
        states = {role: network.state_dict() for role, network in networks.items()}
        write_converted(folder / "model.safetensors", Parts("a format", family, states, **values))
        return folder / "model.safetensors"

    return make


def described(**changes: Any) -> Make:
    """The folder of a bundled model with some entries of its model.json exchanged."""

    def make(folder: Path) -> Path:
        path = write_assets(folder / "assets") / "avatars"
        values = json.loads((path / "model.json").read_text())
        (path / "model.json").write_text(json.dumps({**values, **changes}))
        return path

    return make


def clip_of_another_shape(folder: Path) -> Path:
    path = write_assets(folder / "assets") / "clip-mini"
    config = json.loads(json.dumps(CLIP_CONFIG))
    config["model_cfg"]["embed_dim"] = 32
    (path / "open_clip_config.json").write_text(json.dumps(config))
    return path / "clip-mini.safetensors"


def clip_without_its_configuration(folder: Path) -> Path:
    path = write_assets(folder / "assets") / "clip-mini"
    (path / "open_clip_config.json").unlink()
    return path / "clip-mini.safetensors"


def metadata_of_a_newer_version(folder: Path) -> Path:
    about = {"version": VERSION + 1, "family": "stylegan2", "roles": [], "stated": {}, "notes": [], "format": "x"}
    save_file({"a": torch.zeros(1)}, folder / "m.safetensors", metadata={METADATA_KEY: json.dumps(about)})
    return folder / "m.safetensors"


def generator(channels: int = 3) -> Generator:
    return Generator(Z_DIM, 0, W_DIM, RESOLUTION, channels, channels=CHANNELS, mapping_layers=2)


NEARLY: dict[str, tuple[Make, str]] = {
    "a generator of transparent pictures": (bare(generator(channels=4)), "draws pictures of 4 channels"),
    "a layer is missing": (bare(generator(), **{"synthesis.b8.conv1.affine.bias": None}), "does not hold a stylegan2"),
    "a layer of another width": (bare(generator(), **{"synthesis.b8.conv1.bias": torch.zeros(3)}), "does not hold"),
    "a discriminator alone": (bare(Discriminator(0, RESOLUTION, channels=CHANNELS)), "but no generator"),
    "an encoder alone": (
        bare(dalle_dvae.Encoder(4, 10, n_blk_per_group=1)),
        "encoder of a DALL-E dVAE, but no decoder",
    ),
    "a discriminator of sentences alone": (
        parts("dfgan", {"discriminator": dfgan.Discriminator([2, 4, 4])}),
        "discriminator of a DF-GAN, but no generator",
    ),
    "a family of the future": (parts("diffusion", {"generator": nn.Linear(1, 1)}), "no network for the generator of a"),
    "a role of the future": (
        parts("stargan2", {"sculptor": nn.Linear(1, 1)}),
        "sculptor of a StarGAN v2, but no generator",
    ),
    "statistics of another generator": (
        parts("stylegan2", {"generator": generator(), "latents": nn.Linear(1, 1)}),
        "lacks factor, high, low, mean, radius",
    ),
    "another version": (metadata_of_a_newer_version, "converted by another version"),
    "a prompt model of another shape": (clip_of_another_shape, "is not a checkpoint that fits"),
    "a prompt model without its configuration": (clip_without_its_configuration, "does not tell its architecture"),
    "a description with an unknown option": (described(options={"lr_multiplie": 1}), "no setting 'lr_multiplie'"),
    "a description with a wrong option": (described(options={"conv_clamp": "x"}), "conv_clamp should be a positive"),
    "a description with an unknown space": (described(default_space="v"), "default_space is 'v'"),
    "a description of another family": (described(family="biggan"), "does not hold a biggan generator"),
    "a description of no family": (described(family="diffusion"), "generators are: stylegan2, biggan"),
    "a description with a wrong limit": (described(in_domain_distance=-1), "in_domain_distance is -1"),
    "a description with a wrong framing": (described(framed_distance=2), "framed_distance is 2, expected a number"),
    "a description with a wrong size": (described(encoder_side="64"), "encoder_side is '64'"),
}


@pytest.mark.parametrize("label", NEARLY)
def test_what_is_nearly_a_model(label: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, reason = NEARLY[label]
    said, why = agree(make(tmp_path), capsys)
    assert why
    with pytest.raises(ModelError, match=reason):
        raise ModelError(why)
    with pytest.raises(ModelError, match=reason):
        raise ModelError(said)


def test_a_network_that_no_run_needs_is_told_but_does_not_matter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decoder, encoder = dalle_dvae.Decoder(4, 10, n_init=6, n_blk_per_group=1), nn.Linear(1, 1)
    path = parts("dalle_dvae", {"decoder": decoder, "encoder": encoder})(tmp_path)
    said, why = agree(path, capsys)
    assert not why and "not used: model.safetensors does not hold a dalle_dvae encoder" in said


def test_a_discriminator_of_another_generator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    networks = {
        "generator": dfgan.Generator(10, 6, (8, 8, 4)),
        "discriminator": dfgan.Discriminator([2, 4, 4]),
        "conditional_discriminator": dfgan.ConditionalHead(9, 3),
    }
    said, why = agree(parts("dfgan", networks)(tmp_path), capsys)
    for text in (said, why):
        assert "judges pictures of 16 px with sentences of 5 numbers; its generator draws 16 px from 6 numbers" in text


def test_given_settings_are_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = bare(generator())(tmp_path)
    assert cli.main(["models", "check", str(path), "--set", "conv_clamp=256"]) == 0
    assert "generator.conv_clamp     256 (given" in capsys.readouterr().out
    assert cli.main(["models", "check", str(path), "--set", "conv_clamp=0"]) == 1
    assert "conv_clamp should be a positive number or null" in capsys.readouterr().out


def test_two_files_of_one_model_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("dalle_encoder.pkl", "dalle_decoder.pkl"):
        shutil.copy(reference(f"checkpoints/{name}"), tmp_path / name)
    assert not agree(tmp_path, capsys)[1]
    write_safetensors(tmp_path / "third.safetensors", generator().state_dict())
    assert "holds several models" in agree(tmp_path, capsys)[1]


# ---- hostile files ---------------------------------------------------------------------------------------


def test_hostile_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of the corpus; what each is refused for, and that nothing of it runs, is tested with the readers."""
    place = tmp_path / "files"
    place.mkdir()
    for number, (label, (data, _)) in enumerate(corpus(tmp_path / "canary").items()):
        path = place / f"{number}.pt"
        path.write_bytes(data)
        assert agree(path, capsys)[1], label
        path.unlink()
    assert not (tmp_path / "canary").exists()
