"""Why a file is not opened, in words for a person."""

from collections.abc import Sequence
from typing import Any

from engine.errors import ModelError
from engine.system.fields import Field, FieldError

_NAMES_SHOWN = 6
SAVE_AS_FLOATS = (
    "Weights must be floating-point numbers of 16, 32 or 64 bits; save the model as such, before it is quantised."
)


class Refused(ModelError):
    """A file that is not opened: it asks for code, is damaged, or is nothing we know.

    wants: the functions and classes it asks for beyond what a file of weights needs, in the file's own spelling.
    reason: the message without the file's name, as raised by whatever looked at the bytes.
    """

    def __init__(self, reason: str, *, wants: Sequence[str] = (), file: str = "") -> None:
        super().__init__(f"{file} is refused: {reason}" if file else f"refused: {reason}")
        self.reason = reason
        self.wants = tuple(wants)
        self.file = file

    def naming(self, file: str) -> "Refused":
        """The same refusal, saying which file, unless it says so already."""
        return self if self.file else Refused(self.reason, wants=self.wants, file=file)


def refused_wishes(wants: Sequence[str]) -> Refused:
    """The refusal of a file that asks for `wants`."""
    shown = ", ".join(wants[:_NAMES_SHOWN])
    more = f" and {len(wants) - _NAMES_SHOWN} more" if len(wants) > _NAMES_SHOWN else ""
    return Refused(
        f"it wants {shown}{more}. A file of weights needs no such thing, and nothing of it was run. "
        "Take the model from its makers, or ask them for safetensors.",
        wants=wants,
    )


def printable(text: str, limit: int = 80) -> str:
    """`text` for a message: control characters escaped, cut to `limit` characters."""
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[: limit + 1])
    return shown if len(text) <= limit else shown[:limit] + "…"


def checked(field: Field, value: Any, name: str) -> Any:
    """What a description beside the weights says, by its whitelist. name: of the file. Raises Refused."""
    try:
        return field(value, "")
    except FieldError as error:
        raise Refused(f"of its {name}, {error}.") from error
