"""What a person chose for the studio as a whole, kept from one start to the next."""

import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from engine.errors import SaveError
from engine.system import files
from gmi_ui.notices import NotPossibleError

FILE = "preferences.json"  # in the cache
MOST_THREADS = 1024
LONGEST_NAME = 4_000  # characters
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preferences:
    """model: that a new page begins with, "" for the studio's own; threads: of the processor, from the next start on;
    None: all cores but one.
    """

    model: str = ""
    threads: int | None = None

    @classmethod
    def of(cls, values: Any) -> Self:
        """Raises NotPossibleError, with words for a person, for what cannot be one."""
        model, threads = values.get("model", ""), values.get("threads")
        if not isinstance(model, str) or len(model) > LONGEST_NAME:
            raise NotPossibleError("That is no name of a model.")
        if threads is not None and (type(threads) is not int or not 1 <= threads <= MOST_THREADS):
            raise NotPossibleError(f"Threads: choose 1 to {MOST_THREADS}, or leave it empty for all cores but one.")
        return cls(model, threads)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Those kept in a file; the usual ones where there are none. A damaged file is set aside."""
        try:
            return cls.of(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, AttributeError, RecursionError, NotPossibleError) as error:
            kept = path.with_name(f"{path.name}.damaged")
            with suppress(OSError):
                path.replace(kept)
            _log.warning("%s is damaged (%s): it was set aside as %s.", path, error, kept.name)
            return cls()

    def write(self, path: Path) -> None:
        """Raises NotPossibleError where they cannot be kept."""
        try:
            files.make_folder(path.parent)
            files.save_file(path, json.dumps(asdict(self)).encode())
        except SaveError as error:
            raise NotPossibleError(f"The settings cannot be kept: {error}") from error


class KeptPreferences:
    """path: where they are kept; None: nowhere, they go with the studio. Those of an option at the start win."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.now = Preferences.read(path) if path else Preferences()

    def choose(self, values: Any) -> None:
        """Raises NotPossibleError; nothing changed then."""
        chosen = Preferences.of(values)
        if self._path is not None:
            chosen.write(self._path)
        self.now = chosen
