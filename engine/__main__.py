"""The command line: `python -m engine generate "PROMPT" --out DIR`, `plot`, `edit`, `models` and more.

Exit codes: 0 done; 2 something a person can put right, said on stderr; 130 interrupted. The same command
gives the same pictures byte for byte; of run.json only `seconds_per_step` differs.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from engine.commands import generate, models, pictures, plot, several
from engine.commands.shared import RunError, quicken
from engine.errors import ModelError, PictureError, SaveError, is_out_of_memory
from engine.settings import SettingsError
from engine.system.files import is_out_of_space
from engine.version import VERSION

OPTION_OF = {
    "truncation_psi": "truncation",
    "detail_steps": "stage2",
    "domain": "to",
    "references": "reference",
}  # where a field of the settings differs


PIPE_CODE = 141  # as shells have it


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    with suppress(AttributeError):  # of what stands in for it in tests
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a name that it has no letters for
    options = _parser().parse_args(arguments)
    if getattr(options, "quick", False):
        quicken(options)
    try:
        several.check_alone(options, generate.carry_out)
        return options.command(options) or 0
    except KeyboardInterrupt as error:
        told = str(error) or "What was already written is kept."
        print(f"\nInterrupted. {told}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read has read enough, such as `| head`
        with suppress(AttributeError, OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still held goes nowhere
        return PIPE_CODE
    except (SettingsError, ModelError, PictureError, SaveError, RunError) as error:
        print(f"error: {as_option(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        if is_out_of_space(error):
            place = f" that holds {error.filename}" if error.filename else ""
            print(f"error: no space is left on the disk{place}. Free some, then try again.", file=sys.stderr)
            return 2
        if error.filename is None or error.strerror is None:
            raise
        print(f"error: {error.filename}: {error.strerror}. Give another file or folder.", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"\nerror: {_out_of_memory(options)}", file=sys.stderr)  # the progress bar's line ends there
        return 2


def _out_of_memory(options: argparse.Namespace) -> str:
    """What to do where the memory was full; `n` is the number of pictures, where the command makes some."""
    n = getattr(options, "n", 1)
    fewer = (
        f"Make fewer pictures at once, such as --n {n // 2}" if n > 1 else "Use a smaller model or a smaller picture"
    )
    return f"the memory is full. {fewer}, or end other programs, and try again."


def as_option(error: Exception) -> str:
    """The message, with the option in place of the settings' field where their names differ."""
    field, colon, rest = str(error).partition(":")
    return f"{OPTION_OF.get(field, field)}{colon}{rest}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engine", description="Different pictures for one prompt.")
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(title="commands", required=True)
    generate.add_commands(commands)
    plot.add_commands(commands)
    pictures.add_commands(commands)
    models.add_arguments(commands.add_parser("models", help="list, fetch, check and convert models"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
