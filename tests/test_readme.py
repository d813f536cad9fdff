"""What the README tells people to type does what it says, with the bundled models."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


def blocks(language: str) -> list[str]:
    """The fenced code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_two_commands_are_there() -> None:
    text = README.read_text(encoding="utf-8")
    assert "pip install -r requirements.txt && python app.py\n" in text
    assert "pip install -r requirements.txt -r requirements-dev.txt && pytest\n" in text


def test_the_python_example_runs(tmp_path: Path) -> None:
    (example,) = blocks("python")
    assert len(example.strip().splitlines()) <= 15
    run(["-c", example], tmp_path)
    assert list(tmp_path.rglob("*.png"))


def test_the_command_line_runs(tmp_path: Path) -> None:
    text = "\n".join(blocks("bash") + blocks("sh")).replace("\\\n", " ")
    pictures = ("python -m engine generate", "python -m engine edit")
    lines = [line for line in text.splitlines() if line.startswith(pictures)]
    assert len(lines) == 2
    for line in lines:
        run(shlex.split(line)[1:], tmp_path)
    reports = list(tmp_path.rglob("run.json"))
    assert len(reports) == 2
    for report in reports:
        assert len(list(report.parent.glob("*.png"))) == json.loads(report.read_text())["settings"]["n"]
