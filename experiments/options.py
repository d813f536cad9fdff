"""What every experiment's command line shares: `--quick`, and which judge measures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

WRITTEN = ("out", "figure", "sheet")  # options that name a file to write


def add_judge(parser: argparse.ArgumentParser) -> None:
    """`--fresh-judge`."""
    parser.add_argument(
        "--fresh-judge", action="store_true", help="measure with the judge in training/runs, not with the one shipped"
    )


def parse(
    parser: argparse.ArgumentParser, quick: Mapping[str, object], arguments: Sequence[str] | None = None
) -> argparse.Namespace:
    """The command line, with `--quick`: whatever else is asked for, `quick`'s values hold.

    Files that a quick run writes begin with "quick-": its numbers mean nothing and replace none that do.
    """
    parser.add_argument(
        "--quick", action="store_true", help="tiny counts: shows in seconds that the command works, measures nothing"
    )
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        for name, value in quick.items():
            if not hasattr(chosen, name):
                raise ValueError(f"quick: there is no option {name!r}")
            setattr(chosen, name, value)
        for name in WRITTEN:
            path = getattr(chosen, name, None)
            if isinstance(path, Path):
                setattr(chosen, name, path.with_name(f"quick-{path.name}"))
        print("--quick: tiny counts, these numbers mean nothing", flush=True)
    return chosen


def write_numbers(path: Path, numbers: Mapping[str, Any]) -> None:
    """As JSON; null for what is infinite or was not measured."""
    path.write_text(json.dumps(_known(numbers), indent=1) + "\n", encoding="utf-8")


def _known(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _known(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(part) for part in value]
    return None if isinstance(value, float) and not isfinite(value) else value
