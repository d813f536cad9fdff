"""Opens every file of a folder in a process of its own and reports, as JSON, what happened to each.

Python's audit events are recorded while files are opened: imports of anything new, code that is compiled or run,
processes, sockets, unpickling by Python's own machine, files opened for writing. Also time and memory.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

SUSPICIOUS = (
    "os.", "subprocess.", "socket.", "pty.", "shutil.", "pickle.", "import", "exec", "compile", "ctypes.", "urllib.",
    "code.__new__", "function.__new__", "marshal.", "webbrowser.", "builtins.", "sys.", "glob.", "tempfile.", "http.",
)  # fmt: skip
HARMLESS = ("os.listdir", "os.scandir", "sys._getframe", "sys.unraisablehook", "sys.excepthook")
FUTURE = 1 << 32  # as if just written: the sha256 of such a file is not remembered, so nothing of ours is written
MEMORY = 6 << 30  # address space, torch's own libraries included

events: list[str] = []
watching = False


def listen(event: str, arguments: tuple[Any, ...]) -> None:
    if not watching or event in HARMLESS:
        return
    if event == "import" and arguments and arguments[0] in sys.modules:
        return
    if event.startswith(SUSPICIOUS):
        events.append(f"{event} {str(arguments)[:200]}")
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        events.append(f"open {arguments[0]!s} {arguments[1]}")


def main() -> None:
    """folder, then the file to report to."""
    global watching
    from engine.checkpoints import Refused, open_checkpoint

    folder, report = Path(sys.argv[1]), Path(sys.argv[2])
    for valid in sys.argv[3:]:  # imports whatever a valid file of each kind needs, once
        open_checkpoint(Path(valid))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ.pop("CANARY", None)
    sys.addaudithook(listen)
    results = []
    for path in sorted(folder.iterdir()):
        os.utime(path, (FUTURE, FUTURE))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        watching = True
        wants: tuple[str, ...] = ()
        try:
            open_checkpoint(path)
            outcome, message = "opened", ""
        except Refused as error:
            outcome, message, wants = "refused", str(error), error.wants
        except BaseException as error:  # noqa: BLE001 (every crash is to be reported, SystemExit too)
            outcome, message = "crashed", f"{type(error).__name__}: {error}"
        watching = False
        results.append(
            {
                "file": path.name,
                "outcome": outcome,
                "message": message,
                "wants": list(wants),
                "seconds": time.perf_counter() - started,
                "grown_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
                "events": list(events),
            }
        )
        events.clear()
    report.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
