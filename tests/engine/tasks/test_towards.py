"""Real examples that particles go towards: whose they are, what they do, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from engine import __main__ as cli
from engine.inference.flow import Step
from engine.models.loading import list_models, load_generator, load_prompt_model
from engine.models.table import ModelRow
from engine.pictures import imaging, png_files
from engine.pictures.examples import Examples
from engine.pictures.picture_files import Picture
from engine.settings import OF_THE_MODEL, EditSettings, FlowSettings, GenerateSettings, SettingsError
from engine.tasks import check, generate
from engine.tasks.towards import example_features
from tests.engine.tasks.test_tasks import ToyModel
from tests.engine.toys import LATENT, SIDE, DoubleSpace, ToyGenerator, ToyPromptModel, ToyTower

FLOW = FlowSettings(data_weight=1.0, steps=6, diversity=0.0, condition_weight=0.0)
SETTINGS = GenerateSettings("a woman", n=4, seed=10, flow=FLOW, towards=OF_THE_MODEL)
REFERENCES = ToyTower()(ToyGenerator()(DoubleSpace(LATENT).sample(range(30, 35))))  # what the generator can reach
MODEL = ToyModel(references={ToyPromptModel.sha256: REFERENCES.half()})


def own_examples() -> Examples:
    draws = np.random.default_rng(3)
    pictures = tuple(Picture(draws.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(3))
    return Examples(pictures, "ab" * 32)


def last(settings: GenerateSettings, examples: Examples | None = None) -> tuple[Step, Step]:
    steps = list(generate(settings, MODEL, ToyPromptModel(), examples=examples).steps())
    return steps[0], steps[-1]


def distance(step: Step, references: Tensor) -> float:
    return (step.features.double()[:, None] - references.double()[None]).norm(dim=2).amin(1).mean().item()


def test_the_models_own_examples_attract() -> None:
    first, end = last(SETTINGS)
    assert distance(end, REFERENCES) < 0.8 * distance(first, REFERENCES)
    for still in (replace(SETTINGS, towards=""), replace(SETTINGS, flow=replace(FLOW, data_weight=0.0))):
        first, end = last(still)
        torch.testing.assert_close(first.particles.latents, end.particles.latents)  # back on the sphere rounds
        assert "data" not in end.log_values


def test_a_persons_own_pictures_attract() -> None:
    examples = own_examples()
    features = example_features(examples, ToyPromptModel().image_features, torch.device("cpu"))
    images = torch.cat([imaging.from_uint8(picture.pixels[None]) for picture in examples.pictures])
    torch.testing.assert_close(features, ToyPromptModel().image_features(images))
    first, end = last(replace(SETTINGS, towards=examples.sha256), examples)
    assert distance(end, features) < 0.8 * distance(first, features)


def test_looking_at_the_pictures_is_told_and_can_be_ended() -> None:
    told: list[float | None] = []
    example_features(
        own_examples(), ToyPromptModel().image_features, torch.device("cpu"), lambda _, share: told.append(share)
    )
    assert told == [0, pytest.approx(1 / 3), pytest.approx(2 / 3)]


def test_a_resumed_run_is_the_uninterrupted_one_and_chunks_are_the_whole() -> None:
    settings = replace(SETTINGS, flow=FlowSettings(steps=4))
    task = generate(settings, MODEL, ToyPromptModel())
    whole = list(task.steps())
    *_, resumed = task.steps(particles=whole[2].particles)
    assert torch.equal(resumed.particles.latents, whole[-1].particles.latents)
    *_, chunked = task.steps(replace(settings.flow, chunk=3))
    torch.testing.assert_close(chunked.particles.latents, whole[-1].particles.latents, rtol=1e-6, atol=1e-6)


def test_what_is_missing_or_does_not_fit_is_told_before_the_run() -> None:
    foreign, bare, examples = replace(ToyPromptModel(), sha256="1" * 64), ToyModel(), own_examples()
    own = replace(SETTINGS, towards=examples.sha256)
    for settings, model, prompt_model, given, message in (
        (SETTINGS, bare, ToyPromptModel(), None, "toy comes with no examples of its own"),
        (SETTINGS, MODEL, foreign, None, "seen by another prompt model; toy tower can make nothing of them"),
        (own, MODEL, ToyPromptModel(), None, "are not here. Give them again"),
        (replace(own, towards="cd" * 32), MODEL, ToyPromptModel(), examples, "other pictures than those"),
    ):
        for ask in (check, generate):
            with pytest.raises(SettingsError, match=message):
                ask(settings, model, prompt_model, examples=given)
    check(own, MODEL, foreign, examples=examples)  # a person's own go with any prompt model


@pytest.mark.parametrize("towards", ["elsewhere", "AB" * 32, "ab" * 31, None, 3])
def test_settings_name_nothing_else(towards: object) -> None:
    for make in (GenerateSettings, EditSettings):
        with pytest.raises(SettingsError, match="towards: expected nothing, 'model', or the hash"):
            make("a woman", towards=towards)  # type: ignore[arg-type]
        settings = make("a woman", towards="ab" * 32)
        assert make.from_dict(settings.to_dict()) == settings
        older = make("a woman").to_dict()
        del older["towards"]  # as pictures were saved before there was such a field
        assert make.from_dict(older).towards == ""


@pytest.mark.parametrize("row", [row for row in list_models() if row.kind == "generator"], ids=lambda row: row.name)
def test_bundled_examples_fit_their_prompt_model_and_are_small(row: ModelRow) -> None:
    """Unit features of its own prompt model that differ from each other: at most a megabyte."""
    if "references" not in row.files:
        return
    assert row.file("references").path.stat().st_size <= 1_000_000
    prompt_model = load_prompt_model(row.prompt_model or GenerateSettings.prompt_model)
    (features,) = load_generator(row.name).references.values()
    assert list(load_generator(row.name).references) == [prompt_model.sha256]
    assert 300 <= len(features) <= 2000
    torch.testing.assert_close(features.float().norm(dim=1), torch.ones(len(features)), rtol=0, atol=2e-3)
    assert len(features.unique(dim=0)) > 0.95 * len(features)


def test_the_command_goes_towards_a_folder(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for number, picture in enumerate(own_examples().pictures):
        png_files.save_png(folder / f"{number}.png", picture.pixels)

    def run(name: str, *more: str) -> int:
        return cli.main(
            ["generate", "a smile", "--out", str(tmp_path / name), "--n", "2", "--steps", "2", "--threads", "1", *more]
        )

    assert run("plain") == 0
    assert run("towards", "--towards", str(folder), "--towards-weight", "2.5") == 0
    report = json.loads((tmp_path / "towards" / "run.json").read_text())
    assert len(report["settings"]["towards"]) == 64 and report["settings"]["flow"]["data_weight"] == 2.5
    assert png_files.read_metadata(tmp_path / "towards" / "00.png")["settings"] == report["settings"]
    assert (tmp_path / "towards" / "00.png").read_bytes() != (tmp_path / "plain" / "00.png").read_bytes()
    capsys.readouterr()
    for more, message in (
        (("--towards", str(tmp_path / "nowhere")), "there is no such folder"),
        (("--towards", "model"), "avatars comes with no examples of its own"),
        (("--towards-weight", "2"), "towards_weight: give --towards too"),
        (("--towards", str(folder), "--towards-weight", "1000"), "towards_weight: 1000.0 is outside 0 to 100"),
    ):
        assert run("wrong", *more) == 2
        assert message in capsys.readouterr().err
