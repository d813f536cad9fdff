"""Training of `fashion`, at sizes that take a second."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.latents.classes import ClassSpace
from engine.models.loading import load_generator
from engine.networks.biggan import draw_weights
from training.fashion import adversarial, classifier, data, export, figures


def idx(array: np.ndarray) -> bytes:
    """An array of bytes as a gzipped IDX file."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(size).to_bytes(4, "big") for size in array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Forty random pictures for training and as many for judging."""
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split in ("train", "t10k"):
        (folder / f"{split}-images-idx3-ubyte.gz").write_bytes(idx(rng.integers(256, size=(40, 28, 28))))
        (folder / f"{split}-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(40) % 10))
    monkeypatch.setattr(data, "FOLDER", folder)
    data.load.cache_clear()
    yield folder
    data.load.cache_clear()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adversarial, "GENERATOR_CHANNELS", ((8, 8), (8, 8), (8, 8)))
    monkeypatch.setattr(adversarial, "DISCRIMINATOR_CHANNELS", ((1, 8, 8), (8, 8, 8), (8, 8, 8), (8, 8, 8)))


def train(folder: Path, steps: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Tensor]]:
    monkeypatch.setattr(adversarial, "FOLDER", folder)
    monkeypatch.setattr("sys.argv", ["adversarial", "--steps", str(steps), "--batch", "8"])
    adversarial.main()
    parts: dict[str, dict[str, Tensor]] = torch.load(folder / "state.pt", weights_only=True)["parts"]
    return parts


def test_files_are_read(dataset: Path) -> None:
    images, labels = data.load("train")
    assert images.shape == (40, 28, 28) and labels[:11].tolist() == [*range(10), 0]
    padded = data.to_images(images)
    assert padded.shape == (40, 1, 32, 32)
    assert (padded[:, :, :2] == -1).all() and (padded[..., -2:] == -1).all()
    torch.testing.assert_close(padded[:, 0, 2:-2, 2:-2], images / 127.5 - 1)


def test_wrong_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="apt-get install dataset-fashion-mnist"):
        data.read_idx(tmp_path / "none.gz")
    (tmp_path / "text.gz").write_bytes(gzip.compress(b"hello"))
    with pytest.raises(ValueError, match="not an IDX file"):
        data.read_idx(tmp_path / "text.gz")
    (tmp_path / "short.gz").write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 9, 1, 2])))
    with pytest.raises(ValueError, match="holds 2 numbers, its header promises 9"):
        data.read_idx(tmp_path / "short.gz")


def test_training_resumes_bit_for_bit(
    dataset: Path, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps and then three more are six, with rates that do not depend on how many are planned."""
    monkeypatch.setattr(adversarial, "set_rates", lambda *arguments: None)
    whole = train(tmp_path / "whole", 6, monkeypatch)
    first = train(tmp_path / "halves", 3, monkeypatch)
    second = train(tmp_path / "halves", 6, monkeypatch)
    for part in ("generator", "discriminator", "average"):
        assert all(torch.equal(second[part][name], value) for name, value in whole[part].items())
        assert any(not torch.equal(first[part][name], value) for name, value in whole[part].items())
    assert (tmp_path / "halves" / "latest.png").exists()


def test_the_rates_are_constant_and_then_fall_to_nothing() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizers = {"generator": torch.optim.Adam([parameter]), "discriminator": torch.optim.Adam([parameter])}
    for step, share in ((0, 1.0), (60, 1.0), (80, 0.5), (100, 0.0), (120, 0.0)):
        adversarial.set_rates(optimizers, step, 100)
        for name, optimizer in optimizers.items():
            assert optimizer.param_groups[0]["lr"] == pytest.approx(share * adversarial.RATES[name])


def test_averaged_statistics_are_those_of_the_averages_pictures(small: None) -> None:
    """In evaluation every norm sees what it was measured on: mean 0 and variance 1 before its scale."""
    generator = adversarial.build_generator()
    draw_weights(generator, torch.Generator().manual_seed(0))
    averaged = adversarial.averaged_generator(generator.state_dict(), batches_seen=20)
    norm = averaged.output_layer[0]
    inputs: list[Tensor] = []
    norm.register_forward_pre_hook(lambda module, arguments: inputs.append(arguments[0]))
    z, classes = adversarial.draw_inputs(2000, 123)
    averaged(z, averaged.embed_classes(classes))
    torch.testing.assert_close(inputs[0].mean(dim=(0, 2, 3)), norm.stored_mean, rtol=0.1, atol=0.05)
    torch.testing.assert_close(inputs[0].var(dim=(0, 2, 3)), norm.stored_var, rtol=0.2, atol=0.02)
    before, after = generator.state_dict(), averaged.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before if "stored" not in key)


def test_the_judge_varies_pictures_without_touching_most_pixels() -> None:
    images = torch.ones(16, 1, 32, 32)
    varied = classifier.vary(images, torch.Generator().manual_seed(0))
    erased = (varied == -1).flatten(1).sum(1)
    assert set(erased.tolist()) == {0, 64}
    assert classifier.Classifier(width=4)(varied).shape == (16, 10)


def test_export_and_figures(dataset: Path, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle is a loadable model with named classes, and all its figures can be computed."""
    with pytest.raises(FileNotFoundError, match="training.fashion.adversarial"):
        export.export(tmp_path / "run", tmp_path / "bundle")
    train(tmp_path / "run", 2, monkeypatch)
    export.export(tmp_path / "run", tmp_path / "bundle")
    model = load_generator(str(tmp_path / "bundle"))
    space = model.spaces["z"]
    assert model.classes == data.CLASSES and isinstance(space, ClassSpace)
    assert model.discriminator is not None
    assert model.discriminator(model.render(space.sample(range(2)), "z")).shape == (2, 1)
    found = figures.figures(model, classifier.Classifier(width=4).eval(), count=40)
    assert {"FID, truncation 1", "recall, truncation 0.5", "asked class, by class"} <= found.keys()
    assert len(found["asked class, by class"]) == 10  # type: ignore[arg-type]
