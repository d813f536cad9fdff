"""`plot`, and `generate` with many prompts."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from engine import __main__ as cli
from engine.commands import generate as generate_command
from engine.inference.flow import DivergenceError
from engine.pictures import png_files
from engine.settings import GenerateSettings

pytestmark = pytest.mark.usefixtures("tiny_bundle")

OPTIONS = ["--n", "2", "--steps", "2", "--seed", "5", "--threads", "1"]


def plot(out: Path, *more: str, prompt: str = "a smile") -> int:
    return cli.main(["plot", prompt, "--out", str(out), *OPTIONS, *more])


def test_a_plot_is_a_picture_and_a_run_for_every_cell(tmp_path: Path) -> None:
    out = tmp_path / "plot"
    assert plot(out, "--x", "diversity=0:1:0.5", "--y", "step_size=0.1,0.3", "--show", "1") == 0
    report = json.loads((out / "run.json").read_text())
    assert [cell["folder"] for cell in report["cells"]] == [f"x{x}-y{y}" for y in range(2) for x in range(3)]
    for cell in report["cells"]:
        own = json.loads((out / cell["folder"] / "run.json").read_text())
        assert own["settings"]["flow"]["diversity"] == (0.0, 0.5, 1.0)[cell["x"]]
        assert own["settings"]["flow"]["step_size"] == (0.1, 0.3)[cell["y"]]
        assert own["settings"]["seed"] == 5 and len(list((out / cell["folder"]).glob("*.png"))) == 2
        assert cell["diversity"] == own["ours"]["diversity"]
    carried = png_files.read_metadata(out / "plot.png")
    assert carried["extra"]["plot"] == report["plot"]
    assert GenerateSettings.from_dict(carried["settings"]).seed == 5 and carried["models"] == report["models"]
    with Image.open(out / "plot.png") as picture:
        assert picture.width > 3 * 60


def test_a_cell_is_what_generate_makes_of_its_settings(tmp_path: Path) -> None:
    assert plot(tmp_path / "plot", "--x", "diversity=0,1") == 0
    alone = ["generate", "a smile", "--out", str(tmp_path / "alone"), *OPTIONS, "--diversity", "1"]
    assert cli.main(alone) == 0
    for name in ("00.png", "01.png"):
        assert (tmp_path / "plot/x1-y0" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_a_plot_is_not_mixed_with_another(tmp_path: Path) -> None:
    out = tmp_path / "plot"
    assert plot(out, "--x", "diversity=0,1") == 0
    assert plot(out, "--x", "diversity=0") == 0
    assert (tmp_path / "plot-2/plot.png").exists()
    assert plot(out, "--x", "diversity=1", "--overwrite") == 0
    assert {path.name for path in out.iterdir()} == {"plot.png", "run.json", "x0-y0"}


def test_what_fails_is_told_in_its_cell_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "plot"
    assert plot(out, "--x", "space=w,nowhere") == 0
    cells = json.loads((out / "run.json").read_text())["cells"]
    assert "error" not in cells[0] and "nowhere" in cells[1]["error"]
    assert "nowhere" in capsys.readouterr().err
    assert plot(tmp_path / "none", "--x", "space=nowhere") == 2
    assert "No cell has pictures" in capsys.readouterr().err and not (tmp_path / "none/plot.png").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--x", "diversity=0,9"], "9 is outside 0 to 2"),
        (["--x", "diversity="], "empty"),
        (["--x", "diversity=0,1", "--y", "diversity=0,1"], "both axes"),
        (["--x", "seed=1:9", "--y", "steps=1:9"], "64 or fewer"),
        (["--x", "colour=red"], "no setting"),
        (["--x", "diversity=0,1", "--show", "0"], "show: 0"),
    ],
)
def test_what_cannot_be_plotted_is_said_before_anything_runs(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plot(tmp_path / "plot", *options) == 2
    assert told in capsys.readouterr().err and not (tmp_path / "plot").exists()


def test_an_interrupted_plot_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.commands import plot as plot_command

    made: list[Path] = []

    def interrupt(settings: object, models: object, given: object, folder: Path, **options: object) -> None:
        if made:
            raise KeyboardInterrupt
        made.append(folder)
        generate_command.run_one(settings, models, given, folder)  # type: ignore[arg-type]

    monkeypatch.setattr(plot_command, "run_one", interrupt)
    assert plot(tmp_path / "plot", "--x", "diversity=0,1") == 130
    assert "The plot so far is" in capsys.readouterr().err
    cells = json.loads((tmp_path / "plot/run.json").read_text())["cells"]
    assert "diversity" in cells[0] and "interrupted" in cells[1]["error"]
    assert (tmp_path / "plot/plot.png").exists()


def generate(out: Path, *arguments: str) -> int:
    return cli.main(["generate", *arguments, "--out", str(out), *OPTIONS])


def test_alternatives_are_a_run_each(tmp_path: Path) -> None:
    assert generate(tmp_path / "out", "a {red|blue} hat") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"00-a-red-hat", "01-a-blue-hat"}
    for name, prompt in (("00-a-red-hat", "a red hat"), ("01-a-blue-hat", "a blue hat")):
        report = json.loads((tmp_path / "out" / name / "run.json").read_text())
        assert report["settings"]["prompt"] == prompt and len(report["ours"]["text_scores"]) == 2
    assert generate(tmp_path / "one", "a {red} hat") == 0
    assert (tmp_path / "one/00.png").exists()


def test_a_file_of_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prompts.txt").write_text("# hats\na red hat\na {sad|glad} man\n", encoding="utf-8")
    assert generate(tmp_path / "out", "--prompts", str(tmp_path / "prompts.txt")) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "00-a-red-hat",
        "01-a-sad-man",
        "02-a-glad-man",
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("a smile\n"))
    assert generate(tmp_path / "piped", "--prompts", "-") == 0
    assert (tmp_path / "piped/00.png").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "write what the pictures should show"),
        (["a hat", "--prompts", "-"], "not both"),
        (["a {hat"], "without its"),
        (["{a|b}", "--video", "run.webp"], "one prompt at a time"),
        (["--prompts", "/no/such/file"], "/no/such/file"),
    ],
)
def test_prompts_that_cannot_be_used(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(tmp_path / "out", *arguments) == 2
    assert told in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_run_that_diverges_leaves_its_cell_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.tasks import Generation

    steps = Generation.steps

    def diverge(self: Generation, *arguments: object) -> object:
        if self.settings.flow.diversity == 1:
            raise DivergenceError("The pictures are not finite.", "step_size", self.settings.flow, None)
        return steps(self)

    monkeypatch.setattr(Generation, "steps", diverge)
    assert plot(tmp_path / "plot", "--x", "diversity=0,1") == 0
    assert "not finite" in json.loads((tmp_path / "plot/run.json").read_text())["cells"][1]["error"]
