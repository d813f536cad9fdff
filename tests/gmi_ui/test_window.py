"""A window of the studio's own: shown by another process, whose crash ends nothing but itself."""

import importlib.util
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gmi_ui import studio
from gmi_ui.command_line import parse
from gmi_ui.studio import LaunchOptions, Server
from gmi_ui.window import open_window, why_not

SHOWING = """
import json, sys
settings = {}
def create_window(title, address, **options): settings.update(title=title, address=address)
def start(**options): json.dump({**settings, **options}, open(FILE, "w"))
"""
FAILING = """
settings = {}
def create_window(*given, **options): pass
def start(**options): raise RuntimeError("there is no screen.")
"""
CRASHING = "import os; os.abort()"
TALKING = (
    SHOWING
    + """
print("much to say " * 100_000, file=sys.stderr)
"""
)


@pytest.fixture
def told(tmp_path: Path) -> Path:
    return tmp_path / "told.json"


def pywebview(text: str, folder: Path, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "webview.py").write_text(f"FILE = {str(told)!r}\n{text}")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def why_no_window(folder: Path, title: str = "x") -> str:
    with tempfile.TemporaryFile("w+") as log:
        return why_not(open_window(title, "http://127.0.0.1:1/", folder, log), log)


def test_a_page_is_shown_until_its_window_is_closed(
    tmp_path: Path, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pywebview(SHOWING, tmp_path, told, monkeypatch)
    assert why_no_window(tmp_path / "kept", "GMI Studio") == ""
    shown = json.loads(told.read_text())
    assert shown == {
        "ALLOW_DOWNLOADS": True,
        "title": "GMI Studio",
        "address": "http://127.0.0.1:1/",
        "private_mode": False,
        "storage_path": str(tmp_path / "kept"),
    }


def test_a_window_that_says_much_goes_on(tmp_path: Path, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pywebview(TALKING, tmp_path, told, monkeypatch)
    with tempfile.TemporaryFile("w+") as log:
        window = open_window("x", "http://127.0.0.1:1/", tmp_path, log)
        assert window.wait(60) == 0


@pytest.mark.parametrize(("text", "why"), [(FAILING, "RuntimeError: there is no screen)."), (CRASHING, "exit code -6")])
def test_why_there_is_no_window_is_told(
    text: str, why: str, tmp_path: Path, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pywebview(text, tmp_path, told, monkeypatch)
    assert why in why_no_window(tmp_path)


def test_without_the_package_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "webview.py").write_text("raise ImportError('none')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install pywebview" in why_no_window(tmp_path)


@pytest.mark.parametrize(("text", "interrupted"), [(SHOWING, False), (FAILING, True)])
def test_the_studio_ends_with_its_window_and_goes_on_in_the_browser_without_one(
    text: str,
    interrupted: bool,
    tmp_path: Path,
    told: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pywebview(text, tmp_path, told, monkeypatch)
    opened: list[str] = []
    waits: list[bool] = []

    class Serving(Server):
        def wait(self, until: Callable[[], bool] | None = None) -> None:
            if until is None:  # without a window: a person's Ctrl+C
                waits.append(True)
                raise KeyboardInterrupt
            while not until():
                pass

        def end(self) -> None:
            return None

    monkeypatch.setattr(studio, "serve", lambda *_: Serving(None, None, "http://127.0.0.1:1/"))  # type: ignore[arg-type]
    monkeypatch.setattr(studio.webbrowser, "open", opened.append)
    assert studio.launch(LaunchOptions(window=True)) is interrupted
    assert bool(waits) is bool(opened) is interrupted
    assert ("no screen" in capsys.readouterr().out) is interrupted


def test_the_command_line_asks_for_it() -> None:
    assert parse(["--window"]).window and not parse([]).window
