"""Pictures that results are to be unlike: what they do, what is refused, on the command line too."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine import __main__ as cli
from engine.inference.flow import Step
from engine.pictures import imaging, png_files
from engine.pictures.examples import Examples, examples_of, read_example_files
from engine.pictures.picture_files import Picture
from engine.settings import FlowSettings, GenerateSettings, SettingsError
from engine.tasks import check, generate
from tests.engine.tasks.test_tasks import ToyModel
from tests.engine.toys import ToyPromptModel

FLOW = FlowSettings(steps=6, diversity=1.0, condition_weight=0.0)
SETTINGS = GenerateSettings("a woman", n=3, seed=10, flow=FLOW)


def pictures_of(step: Step) -> Examples:
    return examples_of(Picture(pixels) for pixels in imaging.to_uint8(step.images))


def last(settings: GenerateSettings, seen: Examples | None = None) -> Step:
    *_, step = generate(settings, ToyModel(), ToyPromptModel(), seen=seen).steps()
    return step


def nearest(step: Step, others: Step) -> float:
    """The mean cosine of each picture to the likest of the others."""
    return (step.features @ others.features.T).amax(1).mean().item()


@pytest.mark.parametrize("n", [1, 3])
def test_results_keep_away_from_what_was_seen(n: int) -> None:
    """The same particles once more, which begin exactly there; a single one too."""
    settings = replace(SETTINGS, n=n)
    first = last(settings)
    seen = pictures_of(first)
    again = last(replace(settings, unlike=seen.sha256), seen)
    assert nearest(again, first) < nearest(last(settings), first) - 0.02
    baseline = generate(replace(settings, unlike=seen.sha256), ToyModel(), ToyPromptModel(), seen=seen).baseline()
    *_, alone = baseline.steps()
    plain = last(replace(settings, flow=replace(FLOW, diversity=0.0)))
    torch.testing.assert_close(alone.particles.latents, plain.particles.latents)


def test_what_is_missing_is_told_before_the_run() -> None:
    seen = pictures_of(last(SETTINGS))
    for settings, given, message in (
        (
            replace(SETTINGS, unlike=seen.sha256),
            None,
            "unlike: the pictures that this run is to be unlike are not here",
        ),
        (replace(SETTINGS, unlike="cd" * 32), seen, "unlike: these are other pictures"),
    ):
        for ask in (check, generate):
            with pytest.raises(SettingsError, match=message):
                ask(settings, ToyModel(), ToyPromptModel(), seen=given)
    with pytest.raises(SettingsError, match="unlike: expected nothing, or the hash"):
        replace(SETTINGS, unlike="model")
    older = SETTINGS.to_dict()
    del older["unlike"]  # as pictures were saved before there was such a field
    assert GenerateSettings.from_dict(older) == SETTINGS


def test_the_command_is_unlike_files_and_folders(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(name: str, *more: str) -> int:
        return cli.main(
            ["generate", "a smile", "--out", str(tmp_path / name), "--n", "2", "--steps", "3", "--threads", "1", *more]
        )

    assert run("first") == run("other", "--seed", "9") == 0
    seen = [tmp_path / "first", tmp_path / "other" / "00.png"]
    assert run("again", "--unlike", *map(str, seen), "--like", str(seen[1])) == 0
    report = json.loads((tmp_path / "again" / "run.json").read_text())
    assert report["settings"]["unlike"] == read_example_files(seen).sha256
    assert report["settings"]["like"] == read_example_files(seen[1:]).sha256
    assert png_files.read_metadata(tmp_path / "again" / "00.png")["settings"] == report["settings"]
    assert (tmp_path / "again" / "00.png").read_bytes() != (tmp_path / "first" / "00.png").read_bytes()
    capsys.readouterr()
    assert run("wrong", "--unlike", str(tmp_path / "nowhere.png")) == 2
    assert "nowhere.png" in capsys.readouterr().err
