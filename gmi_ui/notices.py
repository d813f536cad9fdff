"""What the page says to a person: short notices, and the words for everything that can go wrong.

Errors that the engine raises itself carry a message for a person already. They are known by their module, not
by their class: naming the classes would import torch, and delay the page.
"""

import itertools
import logging
import time
from dataclasses import dataclass, field
from typing import Literal

from engine.errors import ModelError, is_out_of_memory
from engine.settings import SettingsError
from engine.system.files import is_out_of_space

Kind = Literal["info", "warning", "error"]
_log = logging.getLogger(__name__)
# Not from 1: a restarted server must not repeat the number of a message that a page has dismissed.
_numbers = itertools.count(time.time_ns() // 1_000_000)


@dataclass(frozen=True)
class Notice:
    """One message. The number tells the page's screen reader region a repeated text from an old one.

    passing: speaks of what is going on, and is of no use once that is over. of_controls: is of no use once a control
    of the tab changes. action: what failed, where that is of no use once it succeeds.
    """

    text: str
    kind: Kind = "info"
    passing: bool = False
    of_controls: bool = False
    action: str = ""
    number: int = field(default_factory=lambda: next(_numbers))


class NotPossibleError(Exception):
    """A click that cannot be followed now; the message says why and what to do."""


class BusyError(NotPossibleError):
    """It cannot be followed because something else goes on."""


def explain(error: Exception) -> Notice:
    """The notice for an error: its own words where they were written for a person, else what to do about it.

    Errors nobody foresaw go to the log with their traceback; the page names them and goes on.
    """
    if isinstance(error, NotPossibleError):
        return Notice(str(error), "warning", passing=isinstance(error, BusyError))
    if is_ours(error):
        return Notice(str(error), "error", of_controls=isinstance(error, SettingsError | ModelError))
    if is_out_of_memory(error):
        return Notice("The memory is full. Make fewer pictures at once, then press Run.", "error")
    if isinstance(error, OSError) and is_out_of_space(error):
        return Notice(
            f"No space is left on the disk{_where(error)}. Free some space, then save again: the pictures are kept.",
            "error",
        )
    if isinstance(error, OSError) and error.filename and error.strerror:
        return Notice(f"{shortened_path(error.filename)} cannot be used: {error.strerror}. Choose another.", "error")
    _log.error("unforeseen error", exc_info=error)
    return Notice(
        f"Something unforeseen went wrong ({type(error).__name__}: {error}). The pictures made so far are "
        "kept; the details are in the terminal that runs the studio.",
        "error",
    )


def shortened_path(path: object, limit: int = 80) -> str:
    """The end of a path, as much as a notice has room for."""
    text = str(path)
    return text if len(text) <= limit else "…" + text[1 - limit :]


def is_ours(error: Exception) -> bool:
    """Whether the engine raised the error itself, with a message that is meant to be read."""
    return type(error).__module__.startswith(("engine.", "gmi_ui."))


def _where(error: OSError) -> str:
    return f" that holds {error.filename}" if error.filename else ""
