"""Progress bars on stderr."""

import sys
import time

from engine.system.files import Watch

BAR_WIDTH = 30


def show_bar(label: str, done: int, total: int, seconds: float) -> None:
    """A progress bar with the time left; its line ends when all is done."""
    share = done / total if total else 1.0
    bar = ("#" * round(BAR_WIDTH * share)).ljust(BAR_WIDTH, ".")
    left = f"{seconds / share - seconds:.0f} s left" if done else ""
    end = "\n" if done >= total else ""
    print(f"\r{label:<8} [{bar}] {done}/{total} {left:<12}", end=end, file=sys.stderr, flush=True)


def show_search(label: str = "starts") -> Watch:
    """A progress bar for what comes before the first step."""
    started = time.perf_counter()

    def watch(doing: str, share: float | None) -> None:
        if share is not None:
            show_bar(label, round(100 * share), 100, time.perf_counter() - started)

    return watch
