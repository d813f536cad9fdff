"""Many pictures, and several processes that share their work, from the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine import __main__ as cli
from engine.pictures import png_files
from engine.settings import CrowdSettings, SettingsError, settings_from_dict

ROOT = Path(__file__).resolve().parents[3]
MANY = 66  # more than a page shows
ASKED = [
    "generate",
    "a coat",
    "--model",
    "fashion",
    "--n",
    str(MANY),
    "--steps",
    "2",
    "--chunk",
    "33",
    "--threads",
    "1",
]


TWO = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--")


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A module of Python, with nothing in it of what other tests have made of this process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def test_two_processes_make_the_pictures_of_one(tmp_path: Path) -> None:
    alone = start("engine", *ASKED, "--out", str(tmp_path / "one"))
    assert alone.returncode == 0, alone.stderr
    ended = start(*TWO, "engine", *ASKED, "--out", str(tmp_path / "two"))
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("2/2") == 1  # only one of them talks
    one, two = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    assert one == two and len(two) == MANY
    reports = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "two")]
    assert reports[0]["ours"] == reports[1]["ours"]


def test_an_error_ends_both_processes_and_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    ended = start(*TWO, "engine", *ASKED, "--out", str(tmp_path / "out"))
    assert ended.returncode != 0
    assert ended.stderr.count("is a file; give the name of a folder") == 1


@pytest.mark.usefixtures("tiny_bundle")
def test_a_crowd_of_pictures(tmp_path: Path) -> None:
    arguments = ["generate", "a smile", "--n", str(MANY), "--steps", "1", "--seed", "7", "--baseline"]
    assert cli.main([*arguments, "--out", str(tmp_path)]) == 0
    assert len(files_of(tmp_path)) == 2 * MANY
    report = json.loads((tmp_path / "run.json").read_text())
    assert report["settings"]["n"] == MANY and len(report["ours"]["text_scores"]) == MANY
    told = png_files.read_metadata(tmp_path / f"{MANY - 1}.png")
    assert (told["seeds"], told["index"], told["settings"]["seed"]) == ([7 + MANY - 1], 0, 7)
    settings = CrowdSettings.from_dict(report["settings"])
    assert settings.n == MANY
    with pytest.raises(SettingsError, match="n: 66 is outside 1 to 64"):
        settings_from_dict(report["settings"])  # what the page would remake it by


@pytest.mark.usefixtures("tiny_bundle")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n", "4097"], "n: 4097 is outside 1 to 4096"),
        (["--n", "0"], "n: 0 is outside 1 to 4096"),
        (["--n", "65", "--video", "run.webp"], "video: of at most 64 pictures"),
        (["--chunk", "0"], "chunk: 0 is outside 1 to 4096"),
    ],
)
def test_numbers_that_cannot_be(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["generate", "a smile", "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_commands_are_no_work_for_several(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["models", "list"]) == 2
    assert "only generate shares its work among several; start one" in capsys.readouterr().err
