"""The command that starts the studio: `python app.py` in a checkout, `gmi-studio` where it is installed."""

import argparse
import atexit
import os
import re
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from gmi_ui.guard import name_of
from gmi_ui.studio import LaunchOptions, OptionsError, launch

INTERRUPTED_CODE = 130  # as shells have it
OURS_AT_WORK = ("runs", "outputs", "warming", "open ", "fetch ")  # how threads are called that may be computing


def parse(arguments: Sequence[str] | None = None) -> LaunchOptions:
    """The command line. Ends the program with a message for options that do not go together."""
    parser = argparse.ArgumentParser(description="Type a prompt, watch different pictures form.")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument(
        "--window", action="store_true", help="open a window of its own instead; needs: pip install pywebview"
    )
    parser.add_argument("--host", default=LaunchOptions.host, help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, help="port (default: the first free one from 7860)")
    parser.add_argument(
        "--device", default=LaunchOptions.device, help="cpu, cuda, or auto: the GPU where there is one (default: auto)"
    )
    parser.add_argument("--threads", type=_count, help="processor threads (default: all cores but one)")
    parser.add_argument("--auth", type=_user, metavar="USER:PASSWORD", help="ask for this name and password")
    parser.add_argument("--share", action="store_true", help="a public address through gradio; needs --auth")
    parser.add_argument(
        "--allow-host",
        action="append",
        type=_host_name,
        default=[],
        metavar="NAME",
        help="another name under which the page is reached, as behind a reverse proxy; may be given several times",
    )
    parser.add_argument(
        "--root-path",
        type=_root_path,
        default=LaunchOptions.root_path,
        metavar="PATH",
        help="the path, or the whole https address, below which a reverse proxy serves the page, such as /studio",
    )
    keeping = parser.add_mutually_exclusive_group()
    keeping.add_argument(
        "--outputs",
        type=_folder,
        metavar="FOLDER",
        help="where every finished picture is kept (default: as chosen under History; at first $GMI_OUTPUTS, or the "
        "folder GMI Studio among your pictures)",
    )
    keeping.add_argument("--no-outputs", action="store_true", help="keep no finished pictures")
    parser.add_argument(
        "--mcp",
        action="store_true",
        help="offer what the API has as tools for MCP, too; needs: pip install 'gradio[mcp]'",
    )
    chosen = parser.parse_args(arguments)
    try:
        return LaunchOptions(
            host=chosen.host,
            port=chosen.port,
            device=chosen.device,
            threads=chosen.threads,
            browser=not chosen.no_browser,
            window=chosen.window,
            share=chosen.share,
            auth=chosen.auth,
            allow_hosts=tuple(chosen.allow_host),
            root_path=chosen.root_path,
            outputs=chosen.outputs,
            keeps=not chosen.no_outputs,
            mcp=chosen.mcp,
        )
    except OptionsError as error:
        parser.error(str(error))


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: choose a number from 1 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of threads: choose 1 or more")
    return int(text)


def _user(text: str) -> tuple[str, str]:
    name, colon, password = text.partition(":")
    if not (name and colon and password):
        raise argparse.ArgumentTypeError("write it as user:password")
    return name, password


def _host_name(text: str) -> str:
    if not name_of(text) or not re.fullmatch(r"[\w.:\[\]-]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name: write it like studio.example.org")
    return text.lower()


def _folder(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    if not text or (path.exists() and not path.is_dir()):
        raise argparse.ArgumentTypeError(f"{text!r} is no folder")
    return path


def _root_path(text: str) -> str:
    if not re.fullmatch(r"(https?://[^/\s?#]+)?(/[^/\s?#]+)*/?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no path: write it like /studio, or https://example.org/studio")
    return text.rstrip("/")


def main() -> int:
    """Runs until interrupted, which is exit code 130, or until its window is closed."""
    options, code = parse(), INTERRUPTED_CODE
    try:
        code = INTERRUPTED_CODE if launch(options) else 0
    except OptionsError as error:
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"The studio could not start: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # while it started, or once more while it ended
        pass
    _leave_if_busy(code)
    return code


def _leave_if_busy(code: int, patience: float = 3.0) -> None:
    """Ends the program now if threads still compute: an end as usual would have torch abort it."""
    until = time.monotonic() + patience
    ours = [thread for thread in threading.enumerate() if thread.name.startswith(OURS_AT_WORK)]
    for thread in ours:
        thread.join(max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in ours):
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
