"""What a configuration file may say: exact fields, each with its type and range; whatever else it says is refused.

    SIZES = table({"width": whole(1, 4096), "name": text(200)}, needed=("width",))
    values = SIZES(read_json(path, 1 << 16), "sizes")

A field is a function of a value and its place in the file. It returns the value as plain Python, or raises
`FieldError`, whose message says which field, what it holds, and what was expected.
"""

import json
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

Field = Callable[[Any, str], Any]

_DEEPEST = 32  # objects and lists within each other; ours and those of open_clip have four


class FieldError(ValueError):
    """A configuration says something that it may not; the message says what and where."""


def whole(low: int, high: int) -> Field:
    """A whole number from `low` to `high`."""

    def read(value: Any, place: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise _wrong(value, place, f"a whole number from {low:,} to {high:,}")
        return value

    return read


def number(low: float, high: float, *, above: bool = False) -> Field:
    """A finite number from `low` (or above it) to `high`."""
    expected = f"a number above {low:g}, at most {high:g}" if above else f"a number from {low:g} to {high:g}"

    def read(value: Any, place: str) -> float:
        if type(value) not in (int, float) or not low <= value <= high or (above and value == low):
            raise _wrong(value, place, expected)
        return float(value)

    return read


def flag(value: Any, place: str) -> bool:
    """true or false."""
    if type(value) is not bool:
        raise _wrong(value, place, "true or false")
    return value


def text(most: int, pattern: str = "", what: str = "") -> Field:
    """Printable text of at most `most` characters, all of it like `pattern`; what: that in words."""
    expected = what or f"a text of at most {most:,} characters"

    def read(value: Any, place: str) -> str:
        is_text = isinstance(value, str) and len(value) <= most and value.isprintable()
        if not is_text or (pattern and not re.fullmatch(pattern, value)):
            raise _wrong(value, place, expected)
        return str(value)

    return read


def one_of(values: Collection[str]) -> Field:
    """One of some words."""
    listed = list(values)
    shown = ", ".join(repr(value) for value in listed[:12]) + (" ..." if len(listed) > 12 else "")

    def read(value: Any, place: str) -> str:
        if not isinstance(value, str) or value not in listed:
            raise _wrong(value, place, f"one of {shown}")
        return value

    return read


def only(expected: Any) -> Field:
    """This one value."""

    def read(value: Any, place: str) -> Any:
        if type(value) is not type(expected) or value != expected:
            raise _wrong(value, place, json.dumps(expected))
        return value

    return read


def or_none(field: Field) -> Field:
    """null, or what `field` takes."""
    return lambda value, place: None if value is None else field(value, place)


def either(*fields: Field) -> Field:
    """What one of the fields takes; what the last one says of a value that none takes."""

    def read(value: Any, place: str) -> Any:
        for field in fields[:-1]:
            try:
                return field(value, place)
            except FieldError:
                continue
        return fields[-1](value, place)

    return read


def list_of(field: Field, low: int, high: int) -> Field:
    """A list of `low` to `high` entries."""
    amount = f"{low}" if low == high else f"{low:,} to {high:,}"

    def read(value: Any, place: str) -> list[Any]:
        if not isinstance(value, list) or not low <= len(value) <= high:
            raise _wrong(value, place, f"a list of {amount}")
        return [field(entry, f"{place}[{index}]") for index, entry in enumerate(value)]

    return read


def table(fields: Mapping[str, Field], needed: Collection[str] = ()) -> Field:
    """An object of exactly these fields, the `needed` ones at least."""

    def read(value: Any, place: str) -> dict[str, Any]:
        given = _object(value, place)
        for name in given:
            if name not in fields:
                raise FieldError(
                    f"{_inside(place, shown(name, 60))} is not a field that is known here; "
                    f"there are {', '.join(fields)}"
                )
        return _chosen(given, place)

    def _chosen(given: Mapping[str, Any], place: str) -> dict[str, Any]:
        for name in needed:
            if name not in given:
                raise FieldError(f"it lacks '{_inside(place, name)}'")
        return {name: fields[name](entry, _inside(place, name)) for name, entry in given.items()}

    return read


def part_of(fields: Mapping[str, Field]) -> Field:
    """Of an object that others wrote for their own use: these fields, where they are there; nothing else is read."""

    def read(value: Any, place: str) -> dict[str, Any]:
        given = _object(value, place)
        return {name: field(given[name], _inside(place, name)) for name, field in fields.items() if name in given}

    return read


def named(field: Field, name: Field, most: int) -> Field:
    """An object of at most `most` entries, whose names are like `name`."""

    def read(value: Any, place: str) -> dict[str, Any]:
        given = _object(value, place)
        if len(given) > most:
            raise FieldError(f"{place or 'it'} has {len(given):,} entries, expected {most:,} at most")
        return {name(key, f"a name in {place}"): field(entry, _inside(place, key)) for key, entry in given.items()}

    return read


def anything(value: Any, place: str) -> None:
    """What is known to be there and used by nothing."""
    return None


def shown(value: Any, most: int = 40) -> str:
    """A value for a message: its beginning, on one line, without control characters."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value):,}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    cut = value[: most + 1] if isinstance(value, str) else str(value)[: most + 1]
    told = "".join(c if c.isprintable() else "?" for c in cut)
    return told if len(told) <= most else told[:most] + "…"


def _wrong(value: Any, place: str, expected: str) -> FieldError:
    quoted = f"'{shown(value)}'" if isinstance(value, str) else shown(value)
    return FieldError(f"{place or 'it'} is {quoted}, expected {expected}")


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise _wrong(value, place, "an object of named fields")
    return value


# ---- files -----------------------------------------------------------------------------------------------


def read_json(path: Path, most: int) -> Any:
    """The content of a JSON file. Raises FieldError for one that is no plain JSON, OSError if it cannot be read."""
    return parse_json(read_bytes(path, most))


def parse_json(data: bytes) -> Any:
    """Strict JSON: no name twice, no NaN or infinity, at most 32 objects and lists within each other."""
    try:
        if _depth(data) > _DEEPEST:
            raise FieldError(f"its objects and lists lie more than {_DEEPEST} deep")
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_refuse_constant)
    except FieldError:
        raise
    except (ValueError, RecursionError) as error:  # also digits without end
        place = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise FieldError(f"it is no readable JSON{place}") from error


def read_bytes(path: Path, most: int) -> bytes:
    """The bytes of a small ordinary file: no device, no pipe. Raises FieldError, OSError if it cannot be read."""
    with open(path, "rb", opener=_open_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FieldError("it is no ordinary file")
        data = file.read(most + 1)
    if len(data) > most:
        raise FieldError(f"it is longer than {most:,} bytes, so it is no description of a model")
    return data


def _open_without_waiting(path: str, flags: int) -> int:
    """A named pipe without a writer would otherwise be waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


_TEXTS = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)


def _depth(data: bytes) -> int:
    """How many objects and lists lie within each other, found without recursion."""
    deepest = now = 0
    for byte in _TEXTS.sub(b"", data):
        if byte in b"[{":
            now += 1
            deepest = max(deepest, now)
        elif byte in b"]}":
            now -= 1
    return deepest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise FieldError(f"it says {shown(twice)} twice")
    return found


def _refuse_constant(name: str) -> float:
    raise FieldError(f"it says {name}, which is no number")
