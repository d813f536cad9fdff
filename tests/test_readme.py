"""What the README tells people to type does what it says, with the bundled models: every command, with --quick."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.commands.models import places_of
from engine.models.store import INSTALLED
from tests.browser.helpers import free_port
from tests.engine import pipelines
from tests.gmi_ui.waiting import wait_until
from training.avatars.pool import held_out
from training.fashion import data

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
# What .ci/run does with the README's own words, for it takes a new virtual environment.
INSTALLING = (
    "pip install -r requirements.txt && python app.py",
    "pip install -r requirements.txt -r requirements-dev.txt && pytest",
    "pip install .",
    "pip install -r experiments/requirements.txt",
    "pip install -r requirements-diffusion.txt",
)
USUAL = "http://127.0.0.1:7860"
FETCHING = "python -m engine models get"
PIPELINE = "sd-turbo"  # which a person fetches, and is a tiny one here
MODELS = "models"  # the folder of the models that were fetched
PLACEHOLDERS = {
    "FILE": str(ROOT / "assets/fashion/generator.safetensors"),
    "NETS": str(ROOT / "tests/data/checkpoints/stargan_100000_nets_ema.ckpt"),
}
SECONDS = 300  # for one command on a busy machine; a quiet core takes 5 to 20


def blocks(language: str) -> list[str]:
    """The fenced code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Everything to be typed: lines of the shell blocks, and code in the text that starts a program; each once."""
    prose = re.sub(r"^```.*?^```", "", README.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    inline = [span for span in spans if re.match(r"(python|pip|pytest|bash|gmi-studio) ", span)]
    lines = "\n".join(blocks("sh") + blocks("bash")).replace("\\\n", " ").splitlines()
    typed = [re.sub(r"\s+#.*", "", line).strip() for line in lines]
    return list(dict.fromkeys(command for command in typed + inline if command))


RUNNABLE = [command for command in commands() if command not in INSTALLING and not command.startswith(FETCHING)]


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def quick(command: str) -> list[str]:
    """The words after `python`, with --quick where the command has counts."""
    program, *words = shlex.split(command)
    assert program == "python", f"{command!r} can only be tried if it is Python"
    words = [PLACEHOLDERS.get(word, word) for word in words]
    if words[1:3] == ["engine", "models"]:
        return words
    # The folder may hold what an earlier command wrote, beside which a person's next run would get a new name.
    makes_runs = words[1] == "engine" and words[2] in ("generate", "plot", "edit", "inpaint", "translate")
    over = ["--overwrite"] if makes_runs else []
    return [*words, "--quick", *over]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a person is who types one command after the other, with a picture and a mask at hand."""
    path = tmp_path_factory.mktemp("typed")
    mask = np.zeros((128, 128), np.uint8)
    mask[40:80, 30:100] = 255
    Image.fromarray(mask).save(path / "mask.png")
    if importlib.util.find_spec("diffusers") and importlib.util.find_spec("transformers"):
        place = path / MODELS / PIPELINE
        pipelines.save_pipeline(place, "sd")
        files = [file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file()]
        (place / INSTALLED).write_text(json.dumps({"name": PIPELINE, "sha256": dict.fromkeys(files, "")}))
    return path


def test_the_commands_that_install_are_there_and_ci_runs_them() -> None:
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")
    for command in INSTALLING:
        assert command in commands()
        assert command in ci


def test_commands_are_found() -> None:
    """The list is derived: should the README be written differently, it must not shrink to nothing unnoticed."""
    assert len(RUNNABLE) >= 12
    modules = {shlex.split(command)[2] for command in RUNNABLE}
    assert {"engine", "experiments.text_guidance", "experiments.editing", "experiments.inpainting"} <= modules


def test_the_python_example_runs(tmp_path: Path) -> None:
    example, _ = blocks("python")
    assert len(example.strip().splitlines()) <= 15
    done = run(["-c", example], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(tmp_path.rglob("*.png"))


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a studio with the bundled models."""
    port, log = free_port(), tmp_path_factory.mktemp("studio") / "log"
    with log.open("w") as output:
        command = [sys.executable, "app.py", "--no-browser", "--port", str(port)]
        server = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: server.poll() is not None or "(Ctrl+C ends it)" in log.read_text(), SECONDS)
            assert server.poll() is None, log.read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait()


def test_the_program_runs(studio: str, tmp_path: Path) -> None:
    _, program = blocks("python")
    assert USUAL in program and len(program.strip().splitlines()) <= 21
    done = run(["-c", program.replace(USUAL, studio)], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "running 3 of 20" in done.stdout and done.stdout.count("is of seed") == 4
    assert len(list(tmp_path.glob("*.png"))) == 8


def test_the_call_by_curl_works(studio: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("apt-get install curl")
    (script,) = blocks("shell")
    upload = re.search("`(curl [^`]*upload[^`]*)`", README.read_text(encoding="utf-8"))
    assert USUAL in script and upload
    Image.fromarray(held_out(1).images[0]).save(tmp_path / "mine.png")
    environment = {**os.environ, "no_proxy": "127.0.0.1"}
    typed = f"{script.replace(USUAL, studio)}\n{upload[1]}\n"
    done = subprocess.run(
        ["bash", "-c", typed], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (events, end), (_, path) = done.stdout.split("event: complete"), done.stdout.rsplit("[", 1)
    assert '"step": 3, "total": 10' in events and end.count("image/png") == 2
    assert Path(json.loads(f"[{path}")[0]).name == "mine.png"


@pytest.mark.parametrize("command", RUNNABLE, ids=[" ".join(command.split()[2:5]) for command in RUNNABLE])
def test_every_command_runs(command: str, folder: Path) -> None:
    """One folder for all: what one writes another may read."""
    environment = {}
    if "out/00.png" in command and not (folder / "out").exists():  # this test alone
        (folder / "out").mkdir()
        Image.fromarray(held_out(1).images[0]).save(folder / "out/00.png")
    if "package_benchmark" in command:
        pytest.importorskip("dall_e", reason="pip install -r experiments/requirements.txt")
    if PIPELINE in command:
        pipelines.libraries()
        environment = {"GMI_MODELS": str(folder / MODELS)}
    if "experiments.unconditional" in command and "avatars" not in command and not data.FOLDER.exists():
        pytest.skip("apt-get install dataset-fashion-mnist")
    before = {path for path in ROOT.glob("assets/**/*")} | {path for path in ROOT.glob("training/judges/**/*")}
    times = {path: path.stat().st_mtime_ns for path in before if path.is_file()}
    done = run(quick(command), folder, **environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {path: path.stat().st_mtime_ns for path in times} == times, "a command wrote over what is shipped"
    if "--out" in command and "engine" in command:
        out = folder / shlex.split(command)[shlex.split(command).index("--out") + 1]
        assert out.exists()
        if (out / "plot.png").exists():
            cells = json.loads((out / "run.json").read_text())["cells"]
            assert all(len(list((out / cell["folder"]).glob("*.png"))) == 2 for cell in cells)
        elif out.is_dir() and not (out / "run.json").exists():  # several prompts
            assert len(list(out.glob("*/run.json"))) > 1
        elif out.is_dir():
            settings = json.loads((out / "run.json").read_text())["settings"]
            assert len(list(out.glob("*.png"))) == settings["n"] == 2


@pytest.mark.parametrize("command", [command for command in commands() if command.startswith(FETCHING)])
def test_models_to_be_fetched_are_known(command: str) -> None:
    """Tests need no network, so the names alone are looked up."""
    places = places_of(shlex.split(command)[5])
    assert places and all(place.licence and place.files for place in places)
