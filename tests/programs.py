"""Programs that tests start."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program whose output can be read; killed at the end, whatever the test came to."""
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, **options) as program:
        try:
            yield program
        finally:
            program.kill()
