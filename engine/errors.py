"""Errors whose message is written for a person, without anything that takes long to import."""

import difflib
import re
from collections.abc import Iterable

_NO_MEMORY = re.compile("out of memory|not enough memory|allocate memory", re.IGNORECASE)  # torch's words


class ModelError(ValueError):
    """A model cannot be loaded; the message says which file or name is wrong, how, and what to do."""


class LoadingStopped(ModelError):
    """The loading of a model was stopped by whoever asked for it."""


class MetadataError(ValueError):
    """A picture's settings are missing, damaged or forged; the message says which part."""


class SaveError(OSError):
    """A file could not be written; the message says where, why and what to do."""


class PictureError(ValueError):
    """A picture or a mask cannot be used; the message says why, what was expected, and what to do."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the memory was full, of the machine or of a GPU; torch has no error of its own for the former."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: `; did you mean X?` with the closest known name, `.` when none is close."""
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f"; did you mean {lowered[close[0]]}?" if close else "."
