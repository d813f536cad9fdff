"""Files of pSp and e4e: a StyleGAN2 with its encoder, what is left out of them, and what is refused."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine import __main__ as cli
from engine.checkpoints import Refused, open_checkpoint
from engine.checkpoints.building import build
from engine.errors import ModelError
from engine.models.loading import GeneratorModel, load_generator
from engine.networks.irse_encoder import MeanEncoder, PyramidEncoder
from tests.engine import encoder_files
from tests.engine.encoder_files import INPUT, LAYERS, SIDE, W_DIM, encoder_file, write_encoder_file

PICTURES = torch.rand(2, 3, INPUT, INPUT, generator=torch.Generator().manual_seed(0)) * 2 - 1


def saved(value: Any, folder: Path) -> Path:
    torch.save(value, folder / "faces.pt")
    return folder / "faces.pt"


def loaded(value: Any, folder: Path) -> GeneratorModel:
    return load_generator(str(saved(value, folder)))


def offsets(file: dict[str, Any], progressive: bool) -> Tensor:
    """What its encoder gives without any average."""
    from engine.networks.irse_encoder import encoder_from_shapes

    state = {k.removeprefix("encoder."): v for k, v in file["state_dict"].items() if k.startswith("encoder.")}
    network = encoder_from_shapes(state, progressive=progressive)
    network.load_state_dict(state)
    with torch.no_grad():
        found: Tensor = network.eval()(PICTURES)
    return found


@pytest.mark.parametrize("kind", ["Encoder4Editing", "GradualStyleEncoder"])
def test_both_kinds_open_as_a_stylegan2_with_encoder(kind: str, tmp_path: Path) -> None:
    file = encoder_file(kind)
    model = loaded(file, tmp_path)
    assert (model.family, model.resolution, model.encoder_side) == ("stylegan2", SIDE, INPUT)
    assert isinstance(model.encoder, PyramidEncoder) and model.encoder.progressive == (kind == "Encoder4Editing")
    expected = offsets(file, kind == "Encoder4Editing") + file["latent_avg"]
    torch.testing.assert_close(model.encoder(PICTURES), expected)
    torch.testing.assert_close(model.network.mapping.w_avg, file["latent_avg"][0])


def test_every_tensor_of_the_file_is_one_of_the_networks(tmp_path: Path) -> None:
    """The kernels that up-convolutions keep are under other names, and where there is none the usual one is added."""
    file = encoder_file()
    opened = open_checkpoint(saved(file, tmp_path))
    encoder = opened.networks["encoder"]
    assert {f"encoder.{key}" for key in encoder} - {"encoder.latent_avg"} == {
        key for key in file["state_dict"] if key.startswith("encoder.")
    }
    beside = {f"encoder.{key}": value for key, value in encoder.items()}
    assert all(torch.equal(beside[key], file["state_dict"].get(key, file["latent_avg"])) for key in beside)
    assert opened.provenance.format == "file of a StyleGAN2 with encoder (pSp, e4e) (torch zip archive)"
    assert opened.provenance.notes == ()
    setting = opened.configuration["encoder"]["encoder_type"]
    assert (setting.value, setting.source) == ("Encoder4Editing", "the file's opts")


def test_an_encoder_of_cars_looks_at_the_middle(tmp_path: Path) -> None:
    opened = open_checkpoint(saved(encoder_file(dataset_type="cars_encode"), tmp_path))
    setting = opened.configuration["encoder"]["encoder_view"]
    assert (setting.value, setting.source) == ("wide", "the file's opts")
    pictures = PICTURES.clone()
    pictures[:, :, : INPUT // 8], pictures[:, :, -INPUT // 8 :] = 9, -9
    encoder = build(opened, "encoder")
    assert torch.equal(encoder(pictures), encoder(PICTURES))


def test_options_as_argparse_makes_them(tmp_path: Path) -> None:
    """With a path among them; wrapped as another program's file of models is, too."""
    file = encoder_file("GradualStyleEncoder", exp_dir=Path("runs"))
    file["opts"] = argparse.Namespace(**file["opts"])
    for value in (file, {"model": file}):
        setting = open_checkpoint(saved(value, tmp_path)).configuration["encoder"]["encoder_type"]
        assert (setting.value, setting.source) == ("GradualStyleEncoder", "the file's opts")


def test_what_a_file_may_lack(tmp_path: Path) -> None:
    """Without `opts` it is taken for e4e's; without `state_dict` its weights lie beside the rest."""
    file = encoder_file("GradualStyleEncoder")
    bare = {**file["state_dict"], "latent_avg": file["latent_avg"]}
    opened = open_checkpoint(saved(bare, tmp_path))
    setting = opened.configuration["encoder"]["encoder_type"]
    assert (setting.value, setting.source) == ("Encoder4Editing", "usual value")
    assert opened.provenance.notes == ()
    told = open_checkpoint(tmp_path / "faces.pt", given={"encoder_type": "GradualStyleEncoder"})
    expected = offsets(file, progressive=False) + file["latent_avg"]
    torch.testing.assert_close(build(told, "encoder")(PICTURES), expected)
    parallel = {f"module.{key}": value for key, value in file["state_dict"].items()}
    opened = open_checkpoint(saved({**file, "state_dict": parallel}, tmp_path))
    assert opened.networks.keys() == {"generator", "encoder"}


def test_w_of_a_training_that_did_not_start_from_the_average(tmp_path: Path) -> None:
    file = encoder_file("GradualStyleEncoder", start_from_latent_avg=False)
    model = loaded(file, tmp_path)
    assert model.encoder is not None
    torch.testing.assert_close(model.encoder(PICTURES), offsets(file, progressive=False))
    torch.testing.assert_close(model.network.mapping.w_avg, file["latent_avg"][0])


def test_without_an_average_it_is_the_generator_s(tmp_path: Path) -> None:
    file = encoder_file()
    del file["latent_avg"]
    opened = open_checkpoint(saved(file, tmp_path))
    expected = offsets(file, progressive=True) + opened.networks["generator"]["mapping.w_avg"]
    torch.testing.assert_close(build(opened, "encoder")(PICTURES), expected)


def test_averages_that_differ_by_layer(tmp_path: Path) -> None:
    file = encoder_file()
    file["latent_avg"] = torch.randn(LAYERS, W_DIM, generator=torch.Generator().manual_seed(3))
    model = loaded(file, tmp_path)
    assert model.encoder is not None
    torch.testing.assert_close(model.encoder(PICTURES), offsets(file, progressive=True) + file["latent_avg"])
    torch.testing.assert_close(model.network.mapping.w_avg, file["latent_avg"].mean(0))


@pytest.mark.parametrize("rows", [1, LAYERS])
def test_an_encoder_to_one_w(rows: int, tmp_path: Path) -> None:
    """The average of all layers, told once or for each, as pSp and e4e do."""
    file = encoder_file("BackboneEncoderUsingLastLayerIntoW", encoder=encoder_files.mean_state())
    file["latent_avg"] = file["latent_avg"][:rows]
    model = loaded(file, tmp_path)
    assert isinstance(model.encoder, MeanEncoder) and model.encoder_side == 256
    expected = offsets(file, progressive=False) + file["latent_avg"][0]
    found = model.encoder(PICTURES)
    torch.testing.assert_close(found if rows == 1 else found[:, 0], expected)


def test_weights_keep_their_type_on_disk(tmp_path: Path) -> None:
    file = encoder_file()
    file["state_dict"] = {k: v.half() if v.is_floating_point() else v for k, v in file["state_dict"].items()}
    opened = open_checkpoint(saved(file, tmp_path))
    assert opened.networks["encoder"]["body.0.res_layer.1.weight"].dtype == torch.float16
    assert opened.networks["encoder"]["body.0.res_layer.0.num_batches_tracked"].dtype == torch.int64
    assert build(opened, "encoder")(PICTURES).dtype == torch.float32


def test_what_a_training_keeps_besides_is_named(tmp_path: Path) -> None:
    file = encoder_file()
    file["state_dict"]["pool.weight"] = torch.ones(2)
    beside = {"optimizer": {"state": {0: {"step": 3}}}, "global_step": 5, "best_val_loss": 0.5}
    opened = open_checkpoint(saved({**file, **beside}, tmp_path))
    assert opened.provenance.notes == ("not used: best_val_loss, global_step, optimizer, pool",)


@pytest.mark.parametrize(
    ("encoder", "kind", "why"),
    [
        (encoder_files.pyramid_state(channels=19), "GradualStyleEncoder", r"\(GradualStyleEncoder\), which reads 19"),
        (encoder_files.pyramid_state(channels=6), 5, "its encoder, which reads 6 channels .* not a picture's 3"),
        ({"conv1.weight": torch.ones(4, 3, 7, 7)}, "ResNetBackboneEncoder", r"\(ResNetBackboneEncoder\), which is no"),
    ],
)  # fmt: skip
def test_encoders_of_something_else_are_left_out(encoder: Any, kind: Any, why: str, tmp_path: Path) -> None:
    """A pSp of drawings or maps of labels, an iterative encoder, another network: the generator opens."""
    path = saved(encoder_file(kind, encoder=encoder), tmp_path)
    (note,) = open_checkpoint(path).provenance.notes
    assert note.startswith("opened without its encoder") and note.endswith("searched as without one")
    assert re.search(why, note)
    assert load_generator(str(path)).encoder is None


@pytest.mark.parametrize("average", [5, torch.ones(2, 3, 4), torch.ones(0, W_DIM)])
def test_an_average_that_is_none(average: Any, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="its latent_avg is no w, nor one for each layer"):
        open_checkpoint(saved({**encoder_file(), "latent_avg": average}, tmp_path))


def test_parts_that_do_not_fit_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Checking says what loading says."""
    wrong = {
        "finds 8 w of 8 numbers, but its generator draws from 6 of 8": encoder_file(
            encoder=encoder_files.pyramid_state(layers=8)
        ),
        "finds 5 w of 8 numbers, but": {**encoder_file(), "latent_avg": torch.ones(5, W_DIM)},
        "does not hold a stylegan2 encoder: its body has 23 units": encoder_file(
            encoder={k: v for k, v in encoder_files.pyramid_state().items() if not k.startswith("body.23.")}
        ),
    }
    for reason, file in wrong.items():
        path = saved(file, tmp_path)
        with pytest.raises(ModelError, match=reason):
            load_generator(str(path))
        assert cli.main(["models", "check", str(path)]) == 1
        assert reason in capsys.readouterr().out


def test_check_and_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_encoder_file(tmp_path / "faces.pt", kind="GradualStyleEncoder")
    assert cli.main(["models", "check", str(path)]) == 0
    said = capsys.readouterr().out
    assert "nothing was refused" in said and "\"GradualStyleEncoder\" (the file's opts; e4e's or pSp's" in said
    out = tmp_path / "out.safetensors"
    assert cli.main(["models", "convert", str(path), "--out", str(out)]) == 0
    first, second = load_generator(str(path)).encoder, load_generator(str(out)).encoder
    assert first is not None and second is not None and torch.equal(first(PICTURES), second(PICTURES))
