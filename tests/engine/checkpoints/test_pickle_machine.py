"""The pickle machine agrees with Python's own on plain values, and keeps what is foreign away from everything."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import Any

import pytest

from engine.checkpoints import pickle_machine
from engine.checkpoints.pickle_machine import (
    FOREIGN,
    MAX_INTEGER_BYTES,
    MAX_LINE,
    MAX_NESTING,
    MAX_OPERATIONS,
    MAX_WISHES,
    VIEW_FROM,
    Known,
    Ledger,
    Node,
    is_plain_key,
    plain_set,
    run_pickle,
)
from engine.checkpoints.refusal import Refused
from engine.checkpoints.torch_file import read_pickle
from tests.engine.checkpoints.hostile import (
    APPENDS,
    BINPERSID,
    BUILD,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_SET,
    EMPTY_TUPLE,
    MARK,
    NEWOBJ,
    NEWOBJ_EX,
    NONE,
    OBJ,
    POP,
    PROTO4,
    REDUCE,
    SETITEM,
    STOP,
    TUPLE1,
    blob,
    call,
    dictionary,
    get,
    integer,
    name,
    pickled,
    put,
    text,
    tuple_of,
)
from tests.engine.checkpoints.legacy import legacy_file


def run(data: bytes, vocabulary: dict[tuple[str, str], Known] | None = None, **options: Any) -> Any:
    """The value of a pickle, with no names known unless given."""
    return run_pickle(memoryview(data), 0, vocabulary or {}, options.pop("ledger", None) or Ledger(), **options)[0]


# ---- plain values ----------------------------------------------------------------------------------------

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 255, 256, 65535, 65536, 2**31 - 1, -(2**31), 2**31, 2**63, -(2**63), 2**200, -(2**400),
    0.0, -0.0, 1.5, -1e300, 1e-310, float("inf"), "", "a", "ä€😀", "\ud800", "line\nbreak\\u0041'\"", "x" * 255,
    "x" * 256, "x" * 4000, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1], list(range(2500)), {},
    {"a": 1}, {i: str(i) for i in range(2500)}, {None: 1, 2.5: 2, True: 3}, {"a": [{"b": (1, [2, {"c": None}])}]},
)  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("number", range(len(VALUES)))
def test_plain_values_are_pythons(number: int, protocol: int) -> None:
    value = VALUES[number]
    data = pickle.dumps(value, protocol)
    found = run(data)
    assert found == value and type(found) is type(value) and repr(found) == repr(value)
    assert run_pickle(memoryview(data + b"rest"), 0, {}, Ledger())[1] == len(data)
    assert run_pickle(memoryview(b"before" + data), 6, {}, Ledger())[1] == 6 + len(data)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", [b"", b"\x00\xff", {"a", 1, 2.5}, {"a": b"z" * 200}, set()])
def test_values_that_older_protocols_write_as_calls(value: Any, protocol: int) -> None:
    assert read_pickle(memoryview(pickle.dumps(value, protocol)), Ledger()) == value


def test_long_texts() -> None:
    assert run(pickle.dumps("ä" * 70_000, 2)) == run(pickle.dumps("ä" * 70_000, 4)) == "ä" * 70_000


def test_frozen_sets() -> None:
    assert run(pickle.dumps(frozenset([1, "a"]), 4)) == {1, "a"}


@pytest.mark.parametrize("protocol", range(6))
def test_what_occurs_twice_is_one_object(protocol: int) -> None:
    """By the memo, also beyond 255 entries, where its opcodes are longer."""
    inner: list[Any] = ["a"]
    value = [inner, inner, *([i] for i in range(300)), inner]
    found = run(pickle.dumps(value, protocol))
    assert found == value and found[0] is found[1] is found[-1] and found[2] is not found[3]
    endless: list[Any] = []
    endless.append(endless)
    found = run(pickle.dumps(endless, protocol))
    assert len(found) == 1 and found[0] is found


@pytest.mark.parametrize("size", [VIEW_FROM - 1, VIEW_FROM])
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_long_bytes_stay_where_they_are(size: int, protocol: int) -> None:
    found = run(pickle.dumps(b"z" * size, protocol))
    assert bytes(found) == b"z" * size
    assert isinstance(found, memoryview) == (size >= VIEW_FROM)
    array = run(pickle.dumps(bytearray(b"z" * size), 5))
    assert bytes(array) == b"z" * size


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"I5\n.", 5),
        (b"I-5\n.", -5),
        (b"I01\n.", True),
        (b"I00\n.", False),
        (b"L123456789012345678901L\n.", 123456789012345678901),
        (b"L-7\n.", -7),
        (b"F1e3\n.", 1000.0),
        (b"S'ab'\n.", "ab"),
        (b'S"a\'b"\n.', "a'b"),
        (b"S''\n.", ""),
        (b"Va\\u20ac\n.", "a€"),
        (b"U\x02\xe4b.", "äb"),
        (b"T\x02\x00\x00\x00\xe4b.", "äb"),
        (b"\x80\x02\x8b\x02\x00\x00\x00\xff\xfe.", -257),
        (b"\x80\x02\x8a\x00.", 0),
        (b"J\xff\xff\xff\xff.", -1),
        (b"M\xff\xff.", 65535),
        (b"K\xff.", 255),
        (b"G?\xf0\x00\x00\x00\x00\x00\x00.", 1.0),
        (b"(I1\nI2\nl.", [1, 2]),
        (b"(Va\nI2\nd.", {"a": 2}),
        (b"(I1\nI2\nt.", (1, 2)),
        (b"I1\n(I2\nI3\n1.", 1),
        (b"I1\nI2\n0.", 1),
        (b"I1\n2\x86.", (1, 1)),
        (b"Va\np5\n0g5\n.", "a"),
        (b"Va\nq\x050h\x05.", "a"),
        (b"\x80\x04" + b"(I1\nVa\nI2\nVb\n\x91.", {1, 2, "a", "b"}),
        (b"(0I1\n.", 1),
    ],
)
def test_opcodes_of_older_writers(data: bytes, value: Any) -> None:
    """By hand: what Python 2 wrote, and what a pickler of today no longer writes."""
    found = run(data)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"S'ab\n.", "quoted text"),
        (b"S'\n.", "quoted text"),
        (b"Sab\n.", "quoted text"),
        (b"S'a\\n'\n.", "quoted text"),
        (b"I1.5\n.", "is no integer"),
        (b"I--5\n.", "is no integer"),
        (b"I\xc2\xb2\n.", "is no integer"),
        (b"I" + b"1" * 129 + b"\n.", "is no integer"),
        (b"Fx\n.", "is no number"),
        (b"0.", "drops a value that is not there"),
        (b".", "takes a value that is not there"),
        (b"p1\n.", "changes a value that is not there"),
        (b"2.", "changes a value that is not there"),
        (b"(2.", "changes a value that is not there"),
        (b"g1\n.", "recalls value 1"),
        (b"1.", "lacks a mark"),
        (b"\x80\x06N.", "claims protocol 6"),
        (b"(o.", "makes an object of nothing"),
        (b"N(I1\nu.", "sets items of a NoneType"),
        (b"}(I1\nu.", "a key without its value"),
        (b"}(I1\nd.", "a key without its value"),
        (b"NNa.", "appends to a NoneType"),
        (b"\x80\x04N(N\x90.", "adds members to a NoneType"),
        (b"\x80\x04\x8f((t\x90.", "neither text nor number"),
        (b"}Nb.", "attributes that are no dictionary"),
        (b"NNR.", "calls something that is no function"),
        (b"}]Ns.", "a key of type list"),
    ],
)
def test_damaged_opcodes_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        run(data)


# ---- limits ----------------------------------------------------------------------------------------------


def test_integers_as_long_as_allowed() -> None:
    number = 1 << (8 * MAX_INTEGER_BYTES - 2)
    assert run(pickle.dumps(number, 2)) == number
    with pytest.raises(Refused, match=f"takes {MAX_INTEGER_BYTES + 1} bytes"):
        run(pickle.dumps(number << 8, 2))
    assert run(b"I" + b"9" * 2 * MAX_INTEGER_BYTES + b"\n.") == 10 ** (2 * MAX_INTEGER_BYTES) - 1


def test_lines_as_long_as_allowed() -> None:
    assert run(b"V" + b"a" * (MAX_LINE - 1) + b"\n.") == "a" * (MAX_LINE - 1)
    with pytest.raises(Refused, match="does not end within"):
        run(b"V" + b"a" * MAX_LINE + b"\n.")


def test_as_many_operations_as_allowed() -> None:
    """N pushed and popped k times, a last N, and the end: 2 k + 2 operations; a mark's values cost 1/16 each."""
    most = (MAX_OPERATIONS - 2) // 2
    assert run(b"N0" * most + b"N.") is None
    with pytest.raises(Refused, match="more than 500,000 operations"):
        run(b"N0" * (most + 1) + b"N.")
    ledger = Ledger()
    run(MARK + NONE * 320 + b"l.", ledger=ledger)
    assert ledger.operations == 1 + 320 + 1 + 1 + 320 // 16


def test_copies_are_counted() -> None:
    ledger = Ledger(copyable=10)
    ledger.copy(4)
    ledger.copy(6)
    with pytest.raises(Refused, match="copied again and again"):
        ledger.copy(1)


def test_a_file_may_have_a_megabyte_copied_unless_told_otherwise() -> None:
    ledger = Ledger()
    ledger.copy(1 << 20)
    with pytest.raises(Refused, match="copied again and again"):
        ledger.copy(1)


def test_arrivals_are_told_in_total() -> None:
    told: list[int] = []
    ledger = Ledger(on_arrival=told.append)
    ledger.arrive(5)
    ledger.arrive(7)
    assert told == [5, 12] and ledger.arrived == 12
    Ledger().arrive(5)  # nobody to tell


def nest(data: bytes) -> bytes:
    return legacy_file(pickled(call("torch.storage", "_load_from_bytes", blob(data))), {})


def test_pickles_side_by_side_are_not_nested() -> None:
    """A StyleGAN2-ADA pickle holds hundreds of torch files; only one inside the other counts, to a depth of three."""
    from tests.engine.checkpoints.hostile import storage

    inner = legacy_file(pickled(storage(legacy=True)), {"0": bytes(16)})
    one = call("torch.storage", "_load_from_bytes", blob(inner))
    found = read_pickle(memoryview(bytearray(pickled(MARK, one * 50, b"l"))), Ledger())
    assert len(found) == 50 and {entry.count for entry in found} == {4}
    twice = pickled(call("torch.storage", "_load_from_bytes", blob(nest(inner))))
    assert read_pickle(memoryview(bytearray(twice)), Ledger()).count == 4
    with pytest.raises(Refused, match=f"nests more than {MAX_NESTING} pickles"):
        read_pickle(memoryview(pickled(call("torch.storage", "_load_from_bytes", blob(nest(nest(inner)))))), Ledger())


def test_what_may_be_a_key() -> None:
    """Numbers around 2^61 - 1, where hashes wrap, are none."""
    assert all(map(is_plain_key, ("a", 1.5, None, True, (1 << 60) - 1, -(1 << 60) + 1, Known("x"))))
    assert not any(map(is_plain_key, ((), [], 1 << 60, -(1 << 60), FOREIGN, b"a", object())))
    assert run(pickle.dumps({(1 << 60) - 1: 1}, 2)) == {(1 << 60) - 1: 1}
    assert plain_set(["a", FOREIGN]) == {"a", FOREIGN}


# ---- names -----------------------------------------------------------------------------------------------


class Probe:
    """A known function that notes its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *arguments: Any) -> str:
        self.calls.append(arguments)
        return "made"


SYSTEM = name("os", "system")
CALLS: dict[str, Callable[[bytes], bytes]] = {
    "REDUCE": lambda arguments: name("m", "f") + tuple_of(arguments) + REDUCE,
    "NEWOBJ": lambda arguments: name("m", "f") + tuple_of(arguments) + NEWOBJ,
    "NEWOBJ_EX": lambda arguments: name("m", "f") + tuple_of(arguments) + EMPTY_DICT + NEWOBJ_EX,
    "OBJ": lambda arguments: MARK + name("m", "f") + arguments + OBJ,
    "INST": lambda arguments: MARK + arguments + b"im\nf\n",
}


@pytest.mark.parametrize("form", CALLS)
def test_known_functions_are_called(form: str) -> None:
    probe = Probe()
    assert run(pickled(CALLS[form](integer(5) + text("a"))), {("m", "f"): Known("m.f", probe, probe)}) == "made"
    assert probe.calls == [(5, "a")]


@pytest.mark.parametrize("form", CALLS)
@pytest.mark.parametrize("argument", [SYSTEM, SYSTEM + tuple_of(text("true")) + REDUCE])
def test_what_is_foreign_reaches_no_function_of_ours(form: str, argument: bytes) -> None:
    """Whatever a known function does with its arguments, it never sees a name beyond the vocabulary or its results."""
    probe, ledger = Probe(), Ledger()
    found = run(pickled(CALLS[form](integer(5) + argument)), {("m", "f"): Known("m.f", probe, probe)}, ledger=ledger)
    assert found is FOREIGN and probe.calls == [] and ledger.wants == ["os.system"]


def test_foreign_arguments_as_a_whole() -> None:
    probe, ledger = Probe(), Ledger()
    known = {("m", "f"): Known("m.f", probe, probe)}
    assert run(pickled(name("m", "f"), SYSTEM, REDUCE), known, ledger=ledger) is FOREIGN
    assert probe.calls == []


@pytest.mark.parametrize("key", [SYSTEM, tuple_of(text("storage"), SYSTEM)])
def test_what_is_foreign_is_no_persistent_id(key: bytes) -> None:
    assert run(pickled(key, BINPERSID), persistent_load=lambda _: pytest.fail("was asked")) is FOREIGN
    assert run(pickled(integer(5), BINPERSID), persistent_load=lambda key: [key]) == [5]
    assert run(b"Pabc\n.", persistent_load=lambda key: [key]) == ["abc"]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((SYSTEM, dictionary(a=NONE), BUILD), FOREIGN),
        ((EMPTY_DICT, SYSTEM, BUILD), {}),
        ((SYSTEM, NONE, NONE, SETITEM), FOREIGN),
        ((EMPTY_DICT, SYSTEM, NONE, SETITEM), {}),
        ((SYSTEM, MARK, NONE, APPENDS), FOREIGN),
        ((SYSTEM, NONE, b"a"), FOREIGN),
        ((SYSTEM, MARK, NONE, b"\x90"), FOREIGN),
        ((SYSTEM, EMPTY_TUPLE, REDUCE, EMPTY_TUPLE, REDUCE), FOREIGN),
        ((SYSTEM, text("x"), b"\x93"), FOREIGN),
    ],
)
def test_operations_on_what_is_foreign_are_void(parts: tuple[bytes, ...], expected: Any) -> None:
    ledger = Ledger()
    assert run(pickled(*parts), ledger=ledger) == expected
    assert ledger.wants == ["os.system"]


def test_names_are_matched_in_module_and_name() -> None:
    known = {("m", "f"): Known("m.f")}
    assert run(pickled(name("m", "f")), known).name == "m.f"
    assert run(pickled(text("m"), text("f"), b"\x93"), known).name == "m.f"
    for module, attribute in (("m", "g"), ("n", "f"), ("m.f", ""), ("f", "m")):
        assert run(pickled(text(module), text(attribute), b"\x93"), known) is FOREIGN


def test_functions_are_called_only_the_way_they_may_be() -> None:
    probe = Probe()
    known = {("m", "f"): Known("m.f", call=probe), ("m", "C"): Known("m.C", new=probe)}
    assert run(pickled(name("m", "f"), EMPTY_TUPLE, REDUCE), known) == "made"
    assert run(pickled(name("m", "C"), EMPTY_TUPLE, NEWOBJ), known) == "made"
    with pytest.raises(Refused, match=r"makes m\.f, which may only be named"):
        run(pickled(name("m", "f"), EMPTY_TUPLE, NEWOBJ), known)
    with pytest.raises(Refused, match=r"calls m\.C, which may only be named"):
        run(pickled(name("m", "C"), EMPTY_TUPLE, REDUCE), known)


@pytest.mark.parametrize("error", [TypeError, ValueError, AttributeError, KeyError, IndexError, OverflowError])
def test_arguments_that_do_not_fit(error: type[Exception]) -> None:
    def fails() -> None:
        raise error("inside")

    with pytest.raises(Refused, match=r"calls m\.f with arguments that do not fit"):
        run(pickled(name("m", "f"), EMPTY_TUPLE, REDUCE), {("m", "f"): Known("m.f", fails)})


def test_wishes_are_told_once_each_and_end_the_reading_when_there_are_many() -> None:
    ledger = Ledger()
    run(pickled(SYSTEM, POP, SYSTEM, POP, name("builtins", "eval")), ledger=ledger)
    assert ledger.wants == ["os.system", "builtins.eval"]
    with pytest.raises(Refused, match=r"it wants os\.system, builtins\.eval\. A file") as caught:
        pickle_machine.check_wishes(ledger)
    assert caught.value.wants == ("os.system", "builtins.eval")
    ledger = Ledger()
    names = [name("m", f"f{i}") + POP for i in range(MAX_WISHES - 1)]
    run(pickled(*names, NONE), ledger=ledger)
    with pytest.raises(Refused, match="and 26 more"):
        run(pickled(name("m", "last"), POP, b"\xff"), ledger=ledger)


def test_what_a_damaged_file_wants_is_told_first() -> None:
    with pytest.raises(Refused, match=r"it wants os\.system"):
        run(pickled(SYSTEM)[:-1] + b"\xff")
    with pytest.raises(Refused, match="is no pickle opcode"):
        run(b"\x80\x02N\xff")


def test_nodes_take_one_state() -> None:
    node = Node("a.B")
    node.build({"x": 1})
    assert (node.name, node.state) == ("a.B", {"x": 1})
    for built in (node, Node("a.B", {}), Node("a.B", [])):
        with pytest.raises(Refused, match="builds one a.B twice"):
            built.build({})
    empty = Node("a.B")
    empty.build(None)
    with pytest.raises(Refused, match="twice"):
        empty.build({})


def test_the_attributes_of_a_dictionary_are_dropped() -> None:
    """A state dict's `_metadata`."""
    assert run(pickled(dictionary(a=NONE), dictionary(_metadata=NONE), BUILD)) == {"a": None}


def test_memoize_numbers_by_what_is_remembered() -> None:
    parts = text("a"), b"\x94", POP, text("b"), b"\x94", POP, get(0), get(1), b"\x86"
    assert run(pickled(*parts, protocol=PROTO4)) == ("a", "b")
    assert run(pickled(text("a"), put(1 << 31), POP, get(1 << 31))) == "a"


def test_sets_take_members() -> None:
    assert run(pickled(EMPTY_SET, MARK, integer(1), text("a"), b"\x90", protocol=PROTO4)) == {1, "a"}


def test_frames_are_checked_against_the_file() -> None:
    body = text("abc") + STOP
    assert run(PROTO4 + b"\x95" + struct.pack("<Q", len(body)) + body) == "abc"
    with pytest.raises(Refused, match="a frame of its pickle is longer"):
        run(PROTO4 + b"\x95" + struct.pack("<Q", len(body) + 1) + body)


def test_lists_keep_their_order() -> None:
    assert run(pickled(EMPTY_LIST, MARK, integer(1), integer(2), APPENDS, integer(3), b"a")) == [1, 2, 3]
    assert run(pickled(integer(1), integer(2), integer(3), b"\x87", TUPLE1)) == ((1, 2, 3),)
