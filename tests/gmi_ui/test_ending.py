"""The end of the studio: what goes on is stopped after its step and its pictures are kept; no abort, exit code 130."""

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gmi_ui.jobs.generating import GENERATE
from gmi_ui.runs.run import Run
from gmi_ui.services import Services
from tests.gmi_ui.tiny import tiny_settings
from tests.gmi_ui.waiting import wait_until
from tests.programs import running

ROOT = Path(__file__).resolve().parents[2]
STUDIO = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
from gmi_ui import command_line, studio
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.runs.run import Run
from tests.browser.helpers import free_port
from tests.gmi_ui.tiny import tiny_models, tiny_settings
studio.engine_loaders = lambda *_: None
studio.Models = lambda _: tiny_models(delay=0.05)
serve = studio.serve
def serve_and_run(*arguments):
    server = serve(*arguments)
    run = Run(tiny_settings(flow={"steps": 1000}), GENERATE)
    server.services.start(server.services.sessions.get("ab" * 16), run)
    while run.moment.step < 3:
        pass
    return server
studio.serve = serve_and_run
sys.argv = ["app.py", "--no-browser", "--port", str(free_port())]
sys.exit(command_line.main())
"""


def test_the_worker_ends_after_its_step(slow_services: Services) -> None:
    run, waiting = Run(tiny_settings(flow={"steps": 1000}), GENERATE), Run(tiny_settings(), GENERATE)
    slow_services.start(slow_services.sessions.get("ab" * 16), run)
    slow_services.start(slow_services.sessions.get("cd" * 16), waiting)
    wait_until(lambda: run.moment.step >= 2)
    assert slow_services.end(20) is run
    assert run.moment.phase == "stopped" and waiting.moment.phase == "stopped"
    assert not slow_services.queue._thread.is_alive()


def test_an_idle_studio_ends_at_once(services: Services) -> None:
    assert services.end(20) is None
    assert not services.queue._thread.is_alive()


@pytest.mark.skipif(os.name == "nt", reason="terminals there interrupt otherwise")
def test_ctrl_c_during_a_run_keeps_its_pictures_and_exits_with_130(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GMI_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    with running([sys.executable, "-c", STUDIO], env=environment, cwd=tmp_path, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        first = program.stdout.readline()
        assert "Ctrl+C ends it" in first
        program.send_signal(signal.SIGINT)
        told, errors = program.communicate(timeout=60)
    assert program.returncode == 130, errors
    assert "terminate called" not in errors and "Traceback" not in errors
    assert "The pictures of the unfinished run are in " in told, (told, errors)
    kept = Path(told.rpartition("The pictures of the unfinished run are in ")[2].strip())
    with zipfile.ZipFile(kept) as archive:
        assert len([name for name in archive.namelist() if "_seed-" in name]) == 6  # three and the baseline's
    assert kept.is_relative_to(tmp_path / "cache" / "interrupted")
    assert not list(tmp_path.glob("gmi-studio-*"))
