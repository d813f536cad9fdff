"""The studio in a window of its own, by pywebview: an optional package, which the desktop's own web view draws for.

The window is another process: what draws it may crash, and the studio with its pictures goes on.
"""

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

PACKAGE = "webview"  # of pywebview
SIZE, LEAST = (1360, 900), (420, 600)  # pixels
INSTALL = "Install it with: pip install pywebview (on Linux: pip install 'pywebview[qt]')"


def open_window(title: str, address: str, folder: Path, log: IO[str]) -> subprocess.Popen[bytes]:
    """A process that shows a page and ends, with code 0, when its window is closed.

    folder: where the window keeps what a browser would, such as the page's last settings; log: a file for what it
    says, which may be much: a pipe that nobody reads would stop it.
    """
    command = [sys.executable, "-m", __name__, title, address, str(folder)]
    return subprocess.Popen(command, stderr=log, cwd=Path(__file__).parent.parent)


def why_not(window: subprocess.Popen[bytes], log: IO[str]) -> str:
    """Why a process could show no window, once it has ended; "" where it could."""
    if window.wait() == 0:
        return ""
    log.seek(0)
    told = log.read().strip().splitlines()
    if importlib.util.find_spec(PACKAGE) is None:
        return f"--window: a package is missing that it needs. {INSTALL}"
    why = told[-1 if told[0].startswith("Traceback") else 0] if told else f"exit code {window.returncode}"
    return f"--window: no window can be opened here ({why.rstrip('.')})."


def main() -> None:
    """Shows the page that the command line names."""
    webview: Any = importlib.import_module(PACKAGE)
    title, address, folder = sys.argv[1:]
    webview.settings["ALLOW_DOWNLOADS"] = True
    webview.create_window(title, address, width=SIZE[0], height=SIZE[1], min_size=LEAST)
    webview.start(private_mode=False, storage_path=folder)


if __name__ == "__main__":
    main()
