"""Prompts by the dozen: `a {red|blue} hat` stands for two, a file for one a line."""

import re
from collections.abc import Iterator

from engine.settings import SettingsError

MOST_PROMPTS = 1_000
_COMMENT = "#"
_OPEN, _CLOSE, _OR = "{", "}", "|"


def alternatives(text: str) -> tuple[str, ...]:
    """Every prompt that the text stands for, in the order in which they are written; the text itself where it has
    no braces. Groups may lie in each other.

    Raises SettingsError for braces that do not match, and for more than MOST_PROMPTS.
    """
    if _OPEN not in text and _CLOSE not in text:
        return (text,)
    found, end = _sequence(text, 0)
    if end < len(text):
        raise SettingsError(f"prompt: in {text[:60]!r} is a }} without its {{. Write alternatives as {{red|blue}}.")
    return tuple(dict.fromkeys(" ".join(one.split()) for one in found))


def _sequence(text: str, start: int, *, inside: bool = False) -> tuple[list[str], int]:
    """What the text from `start` stands for, and where that ends: at its end, or at | or } inside of braces."""
    found, at = [""], start
    while at < len(text):
        letter = text[at]
        if letter == _CLOSE or (inside and letter == _OR):
            break
        if letter == _OPEN:
            group, at = _group(text, at)
            _check_count(len(found) * len(group))
            found = [before + one for before in found for one in group]
        else:
            found, at = [before + letter for before in found], at + 1
    return found, at


def _group(text: str, start: int) -> tuple[list[str], int]:
    """The alternatives of the group that begins at `start`, and where it ends."""
    found: list[str] = []
    at = start
    while True:
        more, at = _sequence(text, at + 1, inside=True)
        found += more
        _check_count(len(found))
        if at >= len(text):
            raise SettingsError(f"prompt: in {text[:60]!r} is a {{ without its }}. Write alternatives as {{red|blue}}.")
        if text[at] == _CLOSE:
            return found, at + 1


def _check_count(count: int) -> None:
    if count > MOST_PROMPTS:
        raise SettingsError(f"prompt: that stands for more than {MOST_PROMPTS:,} prompts; leave out some alternatives.")


def read_prompts(text: str) -> tuple[str, ...]:
    """One prompt a line, each with its alternatives; empty lines and those that begin with # do not count.

    Raises SettingsError where there are none or too many, naming the line of what is wrong.
    """
    found: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(_COMMENT):
            continue
        try:
            found += alternatives(line.strip())
        except SettingsError as error:
            raise SettingsError(f"{error} (Line {number}.)") from error
        _check_count(len(found))
    if not found:
        raise SettingsError("prompts: there are none; write one a line.")
    return tuple(dict.fromkeys(found))


def split_prompts(text: str) -> tuple[str, ...]:
    """Prompts divided by | outside of braces, or one a line, each with its alternatives. Raises SettingsError."""
    return read_prompts("\n".join(_parts(text)))


def _parts(text: str) -> Iterator[str]:
    depth, part = 0, ""
    for letter in text:
        depth += (letter == _OPEN) - (letter == _CLOSE)
        if letter == _OR and depth <= 0:
            yield part
            part = ""
        else:
            part += letter
    yield part


def slug(text: str, limit: int = 48) -> str:
    """A file name from a prompt: its letters and digits, of any script."""
    words = re.sub(r"[\W_]+", "-", text.casefold()).strip("-")
    return words[:limit].rstrip("-") or "picture"
