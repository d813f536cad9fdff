"""A pickle machine that cannot run code: it interprets the opcodes itself and makes inert values only.

Python's own unpickler imports whatever a file names and calls it with whatever the file holds. This one knows
a fixed vocabulary of names (`vocabulary.py`), each standing for a function of ours; nothing is ever imported or
looked up. A name beyond the vocabulary becomes a `Foreign` value, on which every operation is void, so the rest of
the file is still read and the refusal can list everything that the file asks for.

Bounds. Every length is compared with the bytes that are left before memory is taken; long byte strings stay views
of the file. One ledger counts the operations of a file with all pickles nested in it. No value is hashed, compared
or printed deeply, because a file may nest values a million deep or make a list hold itself.

The opcodes are those of Python's `pickletools`, protocols 0 to 5.
"""

from __future__ import annotations

import codecs
import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.checkpoints.arrays import StoredArray
from engine.checkpoints.refusal import Refused, printable, refused_wishes

MAX_OPERATIONS = 500_000  # the largest public checkpoints take some 200,000; each makes 220 bytes at most
MAX_NESTING = 3  # a StyleGAN2-ADA pickle holds torch files, which hold pickles
MAX_WISHES = 32
MAX_INTEGER_BYTES = 64
MAX_LINE = 4096
VIEW_FROM = 256  # bytes from which a byte string stays a view of the file

Buffer = bytes | memoryview
PersistentLoad = Callable[[Any], Any]


@dataclass
class Ledger:
    """What one file has used up, nested pickles included, and what it asked for that it does not get.

    copyable: bytes that may still be copied out of the file, about its own size; arrivable: those that its tensors may
    come to. on_arrival: told the bytes of tensors that have been read so far; may raise to end the reading.
    """

    copyable: int = 1 << 20
    arrivable: int = 1 << 62
    on_arrival: Callable[[int], None] | None = None
    operations: int = 0
    depth: int = 0
    arrived: int = 0
    wants: list[str] = field(default_factory=list)

    def arrive(self, length: int) -> None:
        """Counts the bytes of a tensor that was read. Raises Refused where they are far more than the file's."""
        self.arrived += length
        if self.arrived > self.arrivable:
            raise Refused("its tensors come to far more bytes than it has: the same ones again and again.")
        if self.on_arrival is not None:
            self.on_arrival(self.arrived)

    def spend(self, operations: int = 1) -> None:
        """Counts operations. Raises Refused beyond the limit."""
        self.operations += operations
        if self.operations > MAX_OPERATIONS:
            raise Refused(f"its pickle takes more than {MAX_OPERATIONS:,} operations; no known model needs as many.")

    def copy(self, length: int) -> None:
        """Counts copied bytes. Raises Refused where a file has more copied than it holds."""
        self.copyable -= length
        if self.copyable < 0:
            raise Refused("it has the same bytes copied again and again, which would fill the memory.")

    def wish(self, name: str) -> None:
        """Notes a name beyond the vocabulary. Raises Refused when there are enough to show."""
        if name not in self.wants:
            self.wants.append(name)
        if len(self.wants) >= MAX_WISHES:
            raise refused_wishes(self.wants)


@dataclass(frozen=True, eq=False)
class Known:
    """A name of the vocabulary. `call` is what calling it means here, `new` what making one of it means.

    None: it may be named only. Both are functions of ours and take what the file gives, unchecked.
    """

    name: str
    call: Callable[..., Any] | None = None
    new: Callable[..., Any] | None = None


class Foreign:
    """Stands for a name beyond the vocabulary and for all that is made of it."""

    __slots__ = ()


FOREIGN = Foreign()


class Node:
    """An object of a known class: the class's name and the state that the file gives it. No behaviour."""

    __slots__ = ("name", "state", "is_built")

    def __init__(self, name: str, state: Any = None) -> None:
        self.name = name
        self.state = state
        self.is_built = state is not None

    def build(self, state: Any) -> None:
        """Takes the state that the file gives, once. Raises Refused for a second."""
        if self.is_built:
            raise Refused(f"it builds one {printable(self.name)} twice.")
        self.state, self.is_built = state, True


Vocabulary = Mapping[tuple[str, str], Known]
_MARK: Any = object()


def run_pickle(
    data: memoryview,
    position: int,
    vocabulary: Vocabulary,
    ledger: Ledger,
    persistent_load: PersistentLoad | None = None,
) -> tuple[Any, int]:
    """The value of the pickle that starts at `position`, and the position behind it.

    Raises Refused for a damaged pickle. Names beyond the vocabulary are noted in the ledger: the caller must
    refuse the file when there are any (`check_wishes`).
    """
    machine = _Machine(data, position, vocabulary, ledger, persistent_load)
    ledger.depth += 1
    if ledger.depth > MAX_NESTING:
        raise Refused(f"it nests more than {MAX_NESTING} pickles in each other.")
    try:
        value = machine.run()
    except Refused:
        check_wishes(ledger)  # what a file asks for says more than that it is also malformed
        raise
    finally:
        ledger.depth -= 1
    return value, machine.position


def check_wishes(ledger: Ledger) -> None:
    """Raises Refused if anything beyond the vocabulary was asked for."""
    if ledger.wants:
        raise refused_wishes(ledger.wants)


def is_plain_key(value: Any) -> bool:
    """Whether a value may be hashed: not a tuple, whose hash recurses, nor a huge integer, whose hashes collide.

    Objects and tensors, as the keys of an optimizer's memory, are hashed by their place alone.
    """
    by_place = isinstance(value, Known | Node | StoredArray)
    return by_place or isinstance(value, str | float | None) or (isinstance(value, int) and abs(value) < 1 << 60)


class _Machine:
    """One run over one pickle. Methods `_op_*` are named after the opcodes of `pickletools`."""

    def __init__(
        self,
        data: memoryview,
        position: int,
        vocabulary: Vocabulary,
        ledger: Ledger,
        persistent_load: PersistentLoad | None,
    ) -> None:
        self.data = data
        self.position = position
        self.vocabulary = vocabulary
        self.ledger = ledger
        self.persistent_load = persistent_load
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.is_done = False

    def run(self) -> Any:
        while not self.is_done:
            self.ledger.spend()
            code = self._take(1)[0]
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise Refused(f"byte {self.position - 1} is no pickle opcode; the file is damaged or no pickle.")
            operation(self)
        return self._pop()

    # ---- bytes ----

    def _take(self, length: int) -> memoryview:
        end = self.position + length
        if end > len(self.data):
            raise Refused(
                f"it ends at byte {len(self.data):,}, in the middle of {length:,} bytes; it is cut short or damaged."
            )
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _line(self) -> str:
        return _decode(self._raw_line())

    def _raw_line(self) -> bytes:
        window = bytes(self.data[self.position : self.position + MAX_LINE])
        end = window.find(b"\n")
        if end < 0:
            raise Refused(f"a line of its pickle does not end within {MAX_LINE} bytes.")
        self.position += end + 1
        return window[:end]

    def _bytes(self, length: int) -> Buffer:
        taken = self._take(length)
        return taken if length >= VIEW_FROM else bytes(taken)

    # ---- the stack ----

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise Refused("its pickle takes a value that is not there; it is damaged.")
        return self.stack.pop()

    def _top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise Refused("its pickle changes a value that is not there; it is damaged.")
        return self.stack[-1]

    def _pop_marked(self) -> list[Any]:
        """All above the last mark, which goes too."""
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                values = self.stack[index + 1 :]
                del self.stack[index:]
                self.ledger.spend(len(values) // 16)
                return values
        raise Refused("its pickle lacks a mark; it is damaged.")

    # ---- names and what is made of them ----

    def _named(self, module: Any, name: Any) -> Known | Foreign:
        if not isinstance(module, str) or not isinstance(name, str):
            if isinstance(module, Foreign) or isinstance(name, Foreign):
                return FOREIGN
            raise Refused("it names a function by something that is no text.")
        known = self.vocabulary.get((module, name))
        if known is None:
            self.ledger.wish(printable(f"{module}.{name}"))
            return FOREIGN
        return known

    def _called(self, target: Any, arguments: Any, verb: str) -> Any:
        if isinstance(target, Foreign):
            return FOREIGN
        if not isinstance(target, Known):
            raise Refused("it calls something that is no function.")
        function = target.call if verb == "calls" else target.new
        if function is None:
            raise Refused(f"it {verb} {target.name}, which may only be named.")
        if isinstance(arguments, Foreign):
            return FOREIGN
        if not isinstance(arguments, tuple):
            raise Refused(f"it {verb} {target.name} without a tuple of arguments.")
        if any(isinstance(argument, Foreign) for argument in arguments):
            return FOREIGN
        try:
            return function(*arguments)
        except Refused:
            raise
        except (TypeError, ValueError, AttributeError, KeyError, IndexError, OverflowError) as error:
            raise Refused(f"it {verb} {target.name} with arguments that do not fit.") from error

    def _op_global(self) -> None:
        module = self._line()
        self._push(self._named(module, self._line()))

    def _op_stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._push(self._named(module, name))

    def _op_reduce(self) -> None:
        arguments, target = self._pop(), self._pop()
        self._push(self._called(target, arguments, "calls"))

    def _op_newobj(self) -> None:
        arguments, target = self._pop(), self._pop()
        self._push(self._called(target, arguments, "makes"))

    def _op_newobj_ex(self) -> None:
        keywords, arguments, target = self._pop(), self._pop(), self._pop()
        if not isinstance(keywords, Foreign) and keywords != {}:
            raise Refused("it makes an object with named arguments; no known model does.")
        self._push(self._called(target, arguments, "makes"))

    def _op_inst(self) -> None:
        module = self._line()
        target = self._named(module, self._line())
        self._push(self._called(target, tuple(self._pop_marked()), "makes"))

    def _op_obj(self) -> None:
        values = self._pop_marked()
        if not values:
            raise Refused("it makes an object of nothing.")
        self._push(self._called(values[0], tuple(values[1:]), "makes"))

    def _op_build(self) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, Foreign) or isinstance(state, Foreign):
            return
        if isinstance(target, dict):
            if not isinstance(state, dict):
                raise Refused("it gives a dictionary attributes that are no dictionary.")
            return  # a state dict's `_metadata`, which no network needs
        build = getattr(target, "build", None)
        if build is None:
            raise Refused(f"it sets the state of a {type(target).__name__}; no known model does.")
        build(state)

    def _op_ext1(self) -> None:
        raise Refused("it uses the extension registry (copyreg), which can stand for any function.")

    _op_ext2 = _op_ext4 = _op_ext1

    def _op_persid(self) -> None:
        self._push(self._persistent(self._line()))

    def _op_binpersid(self) -> None:
        self._push(self._persistent(self._pop()))

    def _persistent(self, key: Any) -> Any:
        if self.persistent_load is None:
            raise Refused("it refers to an object outside of itself (a persistent id).")
        if isinstance(key, Foreign) or (isinstance(key, tuple) and any(isinstance(k, Foreign) for k in key)):
            return FOREIGN
        return self.persistent_load(key)

    def _op_next_buffer(self) -> None:
        raise Refused("it refers to buffers outside of itself.")

    _op_readonly_buffer = _op_next_buffer

    # ---- containers ----

    def _set_items(self, pairs: list[Any]) -> None:
        target = self._top()
        if isinstance(target, Foreign):
            return
        if not isinstance(target, dict) or len(pairs) % 2:
            raise Refused(f"it sets items of a {type(target).__name__}, or a key without its value.")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if isinstance(key, Foreign):
                continue
            if not is_plain_key(key):
                raise Refused(f"a dictionary of its pickle has a key of type {type(key).__name__}.")
            target[key] = value

    def _op_setitem(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def _op_setitems(self) -> None:
        self._set_items(self._pop_marked())

    def _append(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, Foreign):
            return
        if not isinstance(target, list):
            raise Refused(f"it appends to a {type(target).__name__}.")
        target.extend(values)

    def _op_append(self) -> None:
        value = self._pop()
        self._append([value])

    def _op_appends(self) -> None:
        self._append(self._pop_marked())

    def _op_additems(self) -> None:
        values, target = self._pop_marked(), self._top()
        if isinstance(target, Foreign):
            return
        if not isinstance(target, set):
            raise Refused(f"it adds members to a {type(target).__name__}.")
        target |= plain_set(values)

    def _op_frozenset(self) -> None:
        self._push(plain_set(self._pop_marked()))

    def _op_empty_list(self) -> None:
        self._push([])

    def _op_empty_dict(self) -> None:
        self._push({})

    def _op_empty_set(self) -> None:
        self._push(set())

    def _op_empty_tuple(self) -> None:
        self._push(())

    def _op_list(self) -> None:
        self._push(self._pop_marked())

    def _op_dict(self) -> None:
        pairs = self._pop_marked()
        self._push({})
        self._set_items(pairs)

    def _op_tuple(self) -> None:
        self._push(tuple(self._pop_marked()))

    def _op_tuple1(self) -> None:
        self._push((self._pop(),))

    def _op_tuple2(self) -> None:
        second, first = self._pop(), self._pop()
        self._push((first, second))

    def _op_tuple3(self) -> None:
        third, second, first = self._pop(), self._pop(), self._pop()
        self._push((first, second, third))

    # ---- plain values ----

    def _op_none(self) -> None:
        self._push(None)

    def _op_newtrue(self) -> None:
        self._push(True)

    def _op_newfalse(self) -> None:
        self._push(False)

    def _op_binint(self) -> None:
        self._push(self._number("<i"))

    def _op_binint1(self) -> None:
        self._push(self._number("<B"))

    def _op_binint2(self) -> None:
        self._push(self._number("<H"))

    def _op_binfloat(self) -> None:
        self._push(self._number(">d"))

    def _op_int(self) -> None:
        text = self._line()
        self._push({"00": False, "01": True}[text] if text in ("00", "01") else _integer(text))

    def _op_long(self) -> None:
        self._push(_integer(self._line().removesuffix("L")))

    def _op_float(self) -> None:
        text = self._line()
        try:
            self._push(float(text))
        except ValueError as error:
            raise Refused(f"{printable(text)!r} in its pickle is no number.") from error

    def _op_long1(self) -> None:
        self._push_long(self._number("<B"))

    def _op_long4(self) -> None:
        self._push_long(self._number("<i"))

    def _push_long(self, length: int) -> None:
        if not 0 <= length <= MAX_INTEGER_BYTES:
            raise Refused(f"an integer of its pickle takes {length:,} bytes, expected {MAX_INTEGER_BYTES} at most.")
        self._push(int.from_bytes(self._take(length), "little", signed=True))

    def _op_unicode(self) -> None:
        try:
            self._push(codecs.raw_unicode_escape_decode(self._raw_line())[0])
        except UnicodeError as error:
            raise Refused("a text of its pickle is not readable.") from error

    def _op_short_binunicode(self) -> None:
        self._push(_decode(self._take(self._number("<B"))))

    def _op_binunicode(self) -> None:
        self._push(_decode(self._take(self._number("<I"))))

    def _op_binunicode8(self) -> None:
        self._push(_decode(self._take(self._number("<Q"))))

    def _op_string(self) -> None:
        text = self._line()
        if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"" or "\\" in text:
            raise Refused("a quoted text of its pickle is not readable.")
        self._push(text[1:-1])

    def _op_short_binstring(self) -> None:
        self._push(str(self._take(self._number("<B")), "latin-1"))

    def _op_binstring(self) -> None:
        length = self._number("<i")
        if length < 0:
            raise Refused("a text of its pickle has a negative length.")
        self._push(str(self._take(length), "latin-1"))

    def _op_short_binbytes(self) -> None:
        self._push(self._bytes(self._number("<B")))

    def _op_binbytes(self) -> None:
        self._push(self._bytes(self._number("<I")))

    def _op_binbytes8(self) -> None:
        self._push(self._bytes(self._number("<Q")))

    _op_bytearray8 = _op_binbytes8

    # ---- the stack and the memo ----

    def _op_mark(self) -> None:
        self._push(_MARK)

    def _op_pop(self) -> None:
        if not self.stack:
            raise Refused("its pickle drops a value that is not there; it is damaged.")
        self.stack.pop()

    def _op_pop_mark(self) -> None:
        self._pop_marked()

    def _op_dup(self) -> None:
        self._push(self._top())

    def _remember(self, index: int) -> None:
        self.memo[index] = self._top()

    def _recall(self, index: int) -> None:
        if index not in self.memo:
            raise Refused(f"its pickle recalls value {index}, which it never stored.")
        self._push(self.memo[index])

    def _op_put(self) -> None:
        self._remember(_integer(self._line()))

    def _op_binput(self) -> None:
        self._remember(self._number("<B"))

    def _op_long_binput(self) -> None:
        self._remember(self._number("<I"))

    def _op_memoize(self) -> None:
        self._remember(len(self.memo))

    def _op_get(self) -> None:
        self._recall(_integer(self._line()))

    def _op_binget(self) -> None:
        self._recall(self._number("<B"))

    def _op_long_binget(self) -> None:
        self._recall(self._number("<I"))

    # ---- the stream ----

    def _op_proto(self) -> None:
        protocol = self._number("<B")
        if protocol > 5:
            raise Refused(f"its pickle claims protocol {protocol}; there are 0 to 5.")

    def _op_frame(self) -> None:
        length = self._number("<Q")
        if length > len(self.data) - self.position:
            raise Refused("a frame of its pickle is longer than the file; it is cut short or damaged.")

    def _op_stop(self) -> None:
        self.is_done = True


def plain_set(values: list[Any]) -> set[Any]:
    """A set of the values. Raises Refused for one that may not be hashed."""
    if any(not is_plain_key(value) and not isinstance(value, Foreign) for value in values):
        raise Refused("a set of its pickle has a member that is neither text nor number.")
    return set(values)


def _decode(data: bytes | memoryview) -> str:
    try:
        return str(data, "utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise Refused("a text of its pickle is not readable.") from error


def _integer(text: str) -> int:
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 2 * MAX_INTEGER_BYTES:
        raise Refused(f"{printable(text)!r} in its pickle is no integer.")
    return int(text)


_OPERATIONS: dict[int, Callable[[_Machine], None]] = {
    ord(opcode.code): getattr(_Machine, f"_op_{opcode.name.lower()}") for opcode in pickletools.opcodes
}
