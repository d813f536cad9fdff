"""Launch options, and what building the page costs and leaves behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from gmi_ui import command_line
from gmi_ui.api.endpoints import NAMES
from gmi_ui.studio import LaunchOptions, OptionsError, build, check_device
from tests.gmi_ui.tiny import tiny_models

ROOT = Path(__file__).resolve().parents[2]


def test_the_defaults_stay_on_this_machine() -> None:
    options = command_line.parse([])
    assert options.host == "127.0.0.1" and not options.share and options.auth is None and options.browser


def test_every_option_arrives() -> None:
    line = "--no-browser --host 0.0.0.0 --port 8123 --device cuda --threads 3 --auth ann:p:w --share"
    assert command_line.parse(line.split()) == LaunchOptions(
        host="0.0.0.0", port=8123, device="cuda", threads=3, browser=False, share=True, auth=("ann", "p:w")
    )


@pytest.mark.parametrize(
    ("line", "word"),
    [("--share", "--auth"), ("--auth ann", "user:password"), ("--port 0", "port"), ("--port x", "port"),
     ("--threads 0", "threads"), ("--nonsense", "nonsense")],
)  # fmt: skip
def test_options_that_cannot_be_used_say_what_to_do(line: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.parse(line.split())
    assert ended.value.code == 2 and word in capsys.readouterr().err


def test_sharing_without_a_password_is_refused_in_code_too() -> None:
    with pytest.raises(OptionsError):
        LaunchOptions(share=True)


@pytest.mark.parametrize("device", ["banana", "cuda:99", "../cpu", ""])
def test_a_device_that_is_not_there_is_refused_before_anything_starts(
    device: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OptionsError, match="--device: .* cannot be used here"):
        check_device(device)
    monkeypatch.setattr("sys.argv", ["app.py", "--no-browser", "--device", device])
    assert command_line.main() == 2
    assert "Use cpu" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_device_that_is_always_there_is_not_tried(device: str) -> None:
    check_device(device)


def test_the_page_keeps_no_state_in_gradio_and_asks_for_no_font() -> None:
    page, _ = build(tiny_models())
    config = page.get_config_file()
    assert not {component["type"] for component in config["components"]} & {"state", "browserstate", "timer"}
    public = [one["api_name"] for one in config["dependencies"] if one["api_visibility"] != "private"]
    assert tuple(public) == NAMES
    queued = [one["api_name"] for one in config["dependencies"] if one["backend_fn"] and one["queue"] is not False]
    assert tuple(queued) == NAMES


def test_building_the_page_does_not_wait_for_torch() -> None:
    code = "import sys, app, gmi_ui.studio; sys.exit('torch' in sys.modules or 'open_clip' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_nothing_is_written_beside_the_sources() -> None:
    build(tiny_models())
    assert not list((ROOT / "gmi_ui").rglob("*.pyi"))
