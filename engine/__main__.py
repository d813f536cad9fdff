"""The command line: `python -m engine generate "PROMPT" --out DIR`, `edit`, `inpaint`, `invert`, `models` and more.

Exit codes: 0 done; 2 something a person can put right, said on stderr; 130 interrupted. The same command
gives the same pictures byte for byte; of run.json only `seconds_per_step` differs.
"""

import argparse
import sys
from collections.abc import Sequence

from engine.commands import generate, models, pictures
from engine.commands.shared import RunError, quicken
from engine.errors import ModelError, PictureError, SaveError
from engine.settings import SettingsError
from engine.version import VERSION

OPTION_OF = {"truncation_psi": "truncation", "detail_steps": "stage2"}  # where a field of the settings differs


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    if getattr(options, "quick", False):
        quicken(options)
    try:
        return options.command(options) or 0
    except KeyboardInterrupt:
        print("\nInterrupted. Pictures that were already written are kept.", file=sys.stderr)
        return 130
    except (SettingsError, ModelError, PictureError, SaveError, RunError) as error:
        print(f"error: {as_option(error)}", file=sys.stderr)
        return 2


def as_option(error: Exception) -> str:
    """The message, with the option in place of the settings' field where their names differ."""
    field, colon, rest = str(error).partition(":")
    return f"{OPTION_OF.get(field, field)}{colon}{rest}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engine", description="Different pictures for one prompt.")
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(title="commands", required=True)
    generate.add_commands(commands)
    pictures.add_commands(commands)
    models.add_arguments(commands.add_parser("models", help="list, fetch, check and convert models"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
