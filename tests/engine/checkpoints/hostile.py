"""Hostile model files, assembled opcode by opcode: each must be refused with its reason and run nothing.

`corpus(canary)` gives name -> (bytes, pattern of the reason). Were any payload to run, it would create the canary
file. The names that the payloads ask for are those that the public scanners of pickles list as dangerous.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from tests.engine.checkpoints.legacy import MAGIC, PROTOCOL, SYSTEM, legacy_file

Case = tuple[bytes, str]
CUT = "cut short|damaged|middle of"

# ---- an assembler for pickles ----------------------------------------------------------------------------

PROTO2, PROTO4 = b"\x80\x02", b"\x80\x04"
MARK, STOP, REDUCE, BUILD, NEWOBJ, TUPLE, EMPTY_TUPLE = b"(", b".", b"R", b"b", b"\x81", b"t", b")"
NONE, TRUE, FALSE, EMPTY_DICT, EMPTY_LIST, SETITEM, SETITEMS = b"N", b"\x88", b"\x89", b"}", b"]", b"s", b"u"
APPENDS, TUPLE1, TUPLE2, TUPLE3, DUP, POP, STACK_GLOBAL = b"e", b"\x85", b"\x86", b"\x87", b"2", b"0", b"\x93"
BINPERSID, OBJ, MEMOIZE, NEWOBJ_EX, EMPTY_SET, ADDITEMS = b"Q", b"o", b"\x94", b"\x92", b"\x8f", b"\x90"


def name(module: str, attribute: str) -> bytes:
    """GLOBAL."""
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    """BINUNICODE."""
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def blob(value: bytes) -> bytes:
    """BINBYTES."""
    return b"B" + struct.pack("<I", len(value)) + value


def integer(value: int) -> bytes:
    """LONG1."""
    data = value.to_bytes(max(1, (value.bit_length() + 8) // 8), "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def tuple_of(*values: bytes) -> bytes:
    return MARK + b"".join(values) + TUPLE


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    return name(module, attribute) + tuple_of(*arguments) + REDUCE


def put(index: int) -> bytes:
    """LONG_BINPUT."""
    return b"r" + struct.pack("<I", index)


def get(index: int) -> bytes:
    """LONG_BINGET."""
    return b"j" + struct.pack("<I", index)


def dictionary(**values: bytes) -> bytes:
    return EMPTY_DICT + MARK + b"".join(text(key) + value for key, value in values.items()) + SETITEMS


def pickled(*parts: bytes, protocol: bytes = PROTO2) -> bytes:
    return protocol + b"".join(parts) + STOP


# ---- containers ------------------------------------------------------------------------------------------


def archive(entries: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for entry, content in entries.items():
            file.writestr(zipfile.ZipInfo(entry), content, compress_type=compression)
    return out.getvalue()


def torch_zip(value: bytes, storages: dict[str, bytes] | None = None, **more: bytes) -> bytes:
    entries = {"m/data.pkl": value, "m/byteorder": b"little", "m/version": b"3\n"}
    entries |= {f"m/data/{key}": content for key, content in (storages or {}).items()}
    return archive({**entries, **more})


def storage(key: str = "0", count: int = 4, kind: str = "FloatStorage", *, legacy: bool = False) -> bytes:
    last = NONE if legacy else b""
    fields = tuple_of(text("storage"), name("torch", kind), text(key), text("cpu"), integer(count), last)
    return fields + BINPERSID


def tensor(source: bytes, offset: int = 0, shape: tuple[int, ...] = (4,), strides: tuple[int, ...] = (1,)) -> bytes:
    return call(
        "torch._utils",
        "_rebuild_tensor_v2",
        source,
        integer(offset),
        tuple_of(*map(integer, shape)),
        tuple_of(*map(integer, strides)),
        FALSE,
        call("collections", "OrderedDict"),
    )


def safetensors(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + data


# ---- what they want --------------------------------------------------------------------------------------

# Functions that the public scanners of pickles (picklescan, fickling, modelscan) list as dangerous.
_WANTED_TABLE = """
os.system posix.system nt.system os.popen os.execv os.execvp os.spawnl os.posix_spawn posix.posix_spawn
os.remove os.environ.update os.fork os.kill os.putenv os.rename subprocess.Popen subprocess.call
subprocess.check_call subprocess.check_output subprocess.run subprocess.getoutput builtins.eval builtins.exec
builtins.compile builtins.getattr builtins.setattr builtins.open builtins.__import__ builtins.breakpoint
builtins.globals builtins.vars builtins.map builtins.apply builtins.print builtins.input __builtin__.eval
__builtin__.exec __builtin__.getattr __builtin__.apply __builtin__.execfile __builtin__.file __main__.Payload
sys.modules sys.settrace sys.addaudithook runpy.run_path runpy.run_module runpy._run_code
importlib.import_module importlib.__import__ imp.load_source pickle.loads pickle.load _pickle.loads
cPickle.loads dill.loads cloudpickle.loads joblib.load marshal.loads shelve.open pty.spawn platform.popen
commands.getoutput popen2.popen2 shutil.rmtree shutil.move tempfile.mktemp socket.socket
socket.create_connection ssl.create_default_context http.client.HTTPSConnection httplib.HTTPConnection
urllib.request.urlopen urllib.request.urlretrieve requests.get requests.api.request aiohttp.ClientSession
ftplib.FTP smtplib.SMTP telnetlib.Telnet webbrowser.open xmlrpc.client.ServerProxy
asyncio.create_subprocess_shell bdb.Bdb.run pdb.run pdb.Pdb cProfile.run profile.Profile.run profile.run
timeit.timeit timeit.main trace.Trace.run code.interact code.InteractiveInterpreter codeop.compile_command
doctest.debug_script pydoc.pipepager pydoc.locate functools.partial functools.reduce operator.attrgetter
operator.methodcaller operator.itemgetter itertools.starmap types.CodeType types.FunctionType types.MethodType
inspect.getsource ctypes.CDLL ctypes.cdll.LoadLibrary pip.main pip._internal.main ensurepip._run_pip venv.create
site.main distutils.file_util.write_file lib2to3.pgen2.pgen.ParserGenerator lib2to3.pgen2.grammar.Grammar.loads
idlelib.autocomplete.AutoComplete idlelib.pyshell.ModifiedInterpreter.runcode idlelib.run.Executive.runcode
_osx_support._read_output uuid._get_command_stdout test.support.script_helper.assert_python_ok
logging.config.listen linecache.updatecache numpy.testing._private.utils.runstring
numpy.f2py.crackfortran.getlincoef numpy.load numpy.save numpy.fromfile torch.load torch.jit.load torch.hub.load
torch.serialization.load torch.storage.torch.load torch._utils.os.system torch._inductor.codecache.compile_file
torch.utils.collect_env.run torch.utils.bottleneck.__main__.run_cprofile
torch.utils._config_module.ConfigModule.load_config
torch.fx.experimental.symbolic_shapes.ShapeEnv.evaluate_guards_expression torch.nn.Module
torch.nn.modules.conv.Conv2d torch._tensor._rebuild_from_type_v2 torch._utils._rebuild_tensor_v3
torch_utils.persistence._src_to_module torch_utils.persistence.persistent_class dnnlib.util.call_func_by_name
dnnlib.util.get_obj_by_name dnnlib.util.open_url dnnlib.tflib.network.import_module collections.defaultdict
collections.Counter builtins.type builtins.object copyreg._reconstructor copy_reg._reconstructor
copyreg.add_extension
"""
WANTED = tuple(_WANTED_TABLE.split())


def wanted() -> Iterator[tuple[str, str]]:
    for path in WANTED:
        module, _, attribute = path.rpartition(".")
        yield module, attribute


def payloads(canary: Path) -> Iterator[tuple[str, Case]]:
    """Every wanted function called, in pickles of several protocols and inside each kind of torch file."""
    arguments = (text(f"touch {canary}"),)
    for number, (module, attribute) in enumerate(wanted()):
        wish = f"it wants {module}.{attribute}".replace(".", r"\.")
        payload = call(module, attribute, *arguments)
        forms = (
            ("protocol 0", name(module, attribute) + b"(V" + f"touch {canary}".encode() + b"\ntR."),
            ("protocol 2", pickled(payload)),
            (
                "stack global",
                pickled(text(module), text(attribute), STACK_GLOBAL, *arguments, TUPLE1, REDUCE, protocol=PROTO4),
            ),
            ("torch zip", torch_zip(pickled(payload))),
            ("torch legacy", legacy_file(pickled(payload), {})),
            ("in a dictionary", pickled(dictionary(state_dict=dictionary(weight=payload)))),
        )
        form, data = forms[number % len(forms)]
        yield f"{module}.{attribute} ({form})", (data, wish)


def opcodes(canary: Path) -> Iterator[tuple[str, Case]]:
    """The other ways to a function: other opcodes, the memo, the registry, attributes of what is allowed."""
    command = text(f"touch {canary}")
    system = name("os", "system")
    wish = r"it wants os\.system"
    yield "INST", (b"(" + f"S'touch {canary}'\n".encode() + b"ios\nsystem\n.", wish)
    yield "OBJ", (pickled(MARK, system, command, OBJ), wish)
    yield "NEWOBJ", (pickled(system, tuple_of(command), NEWOBJ), wish)
    yield "NEWOBJ_EX", (pickled(system, tuple_of(command), EMPTY_DICT, NEWOBJ_EX, protocol=PROTO4), wish)
    yield "BUILD on a function", (pickled(system, dictionary(__class__=command), BUILD), wish)
    yield "name only", (pickled(system), wish)
    yield (
        "name in the memo",
        (pickled(text("os"), put(0), POP, text("system"), put(1), POP, get(0), get(1), STACK_GLOBAL), wish),
    )
    yield (
        "memo rewritten",
        (
            pickled(
                name("collections", "OrderedDict"), put(7), POP, system, put(7), POP, get(7), tuple_of(command), REDUCE
            ),
            wish,
        ),
    )
    yield "memo by MEMOIZE", (pickled(system, MEMOIZE, POP, b"h\x00", tuple_of(command), REDUCE, protocol=PROTO4), wish)
    yield "DUP of the function", (pickled(system, DUP, POP, tuple_of(command), REDUCE), wish)
    yield "dropped with POP", (pickled(call("os", "system", command), POP, EMPTY_DICT), wish)
    yield "after a valid value", (pickled(EMPTY_DICT, call("os", "system", command), POP), wish)
    yield "as a dictionary's key", (pickled(EMPTY_DICT, call("os", "system", command), NONE, SETITEM), wish)
    yield "in a set", (pickled(EMPTY_SET, MARK, system, ADDITEMS, protocol=PROTO4), wish)
    yield (
        "as an argument of a known function",
        (pickled(call("collections", "OrderedDict", call("os", "system", command))), wish),
    )
    yield "two wishes", (pickled(system, name("builtins", "eval"), TUPLE2), r"it wants os\.system, builtins\.eval")
    yield (
        "forty wishes",
        (pickled(MARK, *(name("m", f"f{i}") for i in range(40)), TUPLE), r"it wants m\.f0.*and 26 more"),
    )
    yield "wish, then rubbish", (pickled(system)[:-1] + b"\xff\xff", wish)
    yield "wish, then the end", (pickled(system)[:-1], wish)
    yield (
        "name computed by a call",
        (
            pickled(call("_codecs", "encode", text("os")), text("system"), STACK_GLOBAL, protocol=PROTO4),
            "names a function by something that is no text",
        ),
    )
    yield (
        "dotted name in a known module",
        (
            pickled(text("torch._utils"), text("_rebuild_tensor_v2.__globals__"), STACK_GLOBAL, protocol=PROTO4),
            r"it wants torch\._utils\._rebuild_tensor_v2\.__globals__",
        ),
    )
    yield (
        "module and name cut elsewhere",
        (
            pickled(text("torch"), text("_utils._rebuild_tensor_v2"), STACK_GLOBAL, protocol=PROTO4),
            r"it wants torch\._utils\._rebuild_tensor_v2",
        ),
    )
    yield "known name with a space", (pickled(name("collections ", "OrderedDict")), "it wants collections .OrderedDict")
    yield "name of other letters", (pickled(name("оs", "system")), "it wants оs.system")  # noqa: RUF001 (Cyrillic o)
    yield (
        "name with escapes",
        (
            pickled(text("os\x1b[2J\n"), text("system"), STACK_GLOBAL, protocol=PROTO4),
            r"wants os\\u001b\[2J\\u000a\.system",
        ),
    )
    yield (
        "getattr chain",
        (
            pickled(
                call("builtins", "getattr", call("builtins", "__import__", text("os")), text("system")),
                tuple_of(command),
                REDUCE,
            ),
            r"it wants builtins\.getattr, builtins\.__import__",
        ),
    )
    yield (
        "attribute of a known class",
        (
            pickled(call("builtins", "getattr", name("collections", "OrderedDict"), text("__init__"))),
            r"it wants builtins\.getattr",
        ),
    )
    for opcode, argument in ((b"\x82", b"\x01"), (b"\x83", b"\x01\x00"), (b"\x84", b"\x01\x00\x00\x00")):
        yield f"EXT {opcode!r}", (pickled(opcode + argument, tuple_of(command), REDUCE), "extension registry")
    yield "PERSID", (b"Pos.system\n.", "object outside of itself")
    yield "BINPERSID", (pickled(tuple_of(text("os"), text("system")), BINPERSID), "object outside of itself")
    yield (
        "BINPERSID in a torch zip",
        (torch_zip(pickled(tuple_of(text("os"), text("system")), BINPERSID)), "no storage of a tensor"),
    )
    yield "PERSID in a torch zip", (torch_zip(b"Pstorage\n."), "no storage of a tensor")
    yield "NEXT_BUFFER", (pickled(b"\x97", protocol=b"\x80\x05"), "buffers outside of itself")
    yield "READONLY_BUFFER", (pickled(NONE, b"\x98", protocol=b"\x80\x05"), "buffers outside of itself")
    yield (
        "a module's class by persistent id",
        (
            legacy_file(
                pickled(tuple_of(text("module"), system, text("f.py"), command), BINPERSID, EMPTY_TUPLE, NEWOBJ), {}
            ),
            wish,
        ),
    )
    yield "call of a number", (pickled(integer(1), tuple_of(command), REDUCE), "calls something that is no function")
    yield (
        "call of a text",
        (pickled(text("os.system"), tuple_of(command), REDUCE), "calls something that is no function"),
    )
    yield (
        "arguments that are a list",
        (pickled(name("collections", "OrderedDict"), EMPTY_LIST, REDUCE), "without a tuple of arguments"),
    )
    yield (
        "call of a mere name",
        (pickled(call("torch", "FloatStorage", integer(1 << 40))), r"torch\.FloatStorage, which may only be named"),
    )
    yield (
        "making of a mere function",
        (pickled(name("torch._utils", "_rebuild_parameter"), EMPTY_TUPLE, NEWOBJ), "may only be named"),
    )
    yield (
        "named arguments",
        (
            pickled(name("dnnlib.util", "EasyDict"), EMPTY_TUPLE, dictionary(a=NONE), NEWOBJ_EX, protocol=PROTO4),
            "named arguments",
        ),
    )
    yield "BUILD of a list", (pickled(EMPTY_LIST, dictionary(__class__=NONE), BUILD), "sets the state of a list")
    yield "BUILD of a text", (pickled(text("a"), dictionary(a=NONE), BUILD), "sets the state of a str")
    yield (
        "BUILD of a known function",
        (pickled(name("collections", "OrderedDict"), dictionary(call=command), BUILD), "sets the state of a Known"),
    )
    yield (
        "BUILD twice",
        (
            pickled(name("dall_e.decoder", "Decoder"), EMPTY_TUPLE, NEWOBJ, EMPTY_DICT, BUILD, EMPTY_DICT, BUILD),
            "builds one dall_e.decoder.Decoder twice",
        ),
    )
    yield "items of a text", (pickled(text("a"), NONE, NONE, SETITEM), "sets items of a str")
    yield "append to a dictionary", (pickled(EMPTY_DICT, MARK, NONE, APPENDS), "appends to a dict")


def nested(canary: Path) -> Iterator[tuple[str, Case]]:
    """Known functions with arguments that carry something else: pickles in pickles, arrays of objects, source code."""
    evil = pickled(call("os", "system", text(f"touch {canary}")))
    wish = r"it wants os\.system"

    def load(data: bytes) -> bytes:
        return call("torch.storage", "_load_from_bytes", blob(data))

    yield "pickle in a tensor", (pickled(load(legacy_file(evil, {}))), wish)
    yield "pickle as a tensor", (pickled(load(evil)), "a tensor in it is no torch file")
    yield "pickle in the list of storages", (MAGIC + PROTOCOL + SYSTEM + pickled(EMPTY_DICT) + evil, wish)
    yield "pickle in the system information", (MAGIC + PROTOCOL + evil, wish)
    yield "pickle as the protocol", (MAGIC + evil, wish)
    yield "zip in a tensor", (pickled(load(torch_zip(evil))), "a tensor in it is no torch file")
    deep = legacy_file(evil, {})
    for _ in range(6):
        deep = legacy_file(pickled(load(deep)), {})
    yield "pickles in pickles in pickles", (deep, "nests more than 3 pickles")
    yield (
        "a tensor of two storages",
        (
            pickled(load(legacy_file(pickled(EMPTY_LIST), {}))),
            "something else than one storage",
        ),
    )
    yield (
        "bytes from a text",
        (pickled(call("torch.storage", "_load_from_bytes", text("x"))), "something that is no bytes"),
    )
    for encoding in ("rot13", "zlib_codec", "unicode_escape", "idna", "LATIN1"):
        yield (
            f"encode as {encoding}",
            (pickled(call("_codecs", "encode", text("a"), text(encoding))), "otherwise than as latin-1"),
        )
    yield "encode bytes", (pickled(call("_codecs", "encode", blob(b"a"), text("latin1"))), "otherwise than as latin-1")
    yield (
        "encode what latin-1 lacks",
        (pickled(call("_codecs", "encode", text("€"), text("latin1"))), "bytes written as a text"),
    )
    yield "bytes of a text", (pickled(call("builtins", "bytes", text("a"))), "with arguments that do not fit")
    yield "bytes of a size", (pickled(call("builtins", "bytes", integer(1 << 40))), "with arguments that do not fit")
    for code in ("O", "O8", "V8", "S5", "U4", ">f4", "c8", "i4,O", "object", "M8"):
        yield (
            f"numpy type {code}",
            (pickled(call("numpy", "dtype", text(code), FALSE, TRUE)), "array of type .*; only arrays of numbers"),
        )
    dtype = call("numpy", "dtype", text("f4"), FALSE, TRUE)
    state = tuple_of(integer(3), text("<"), NONE, NONE, NONE, integer(-1), integer(-1), integer(0))
    built = dtype + state + BUILD
    records = tuple_of(
        integer(3), text("<"), NONE, tuple_of(text("a")), dictionary(a=NONE), integer(-1), integer(-1), integer(0)
    )
    yield "numpy records", (pickled(dtype, records, BUILD), "array of records")
    big = tuple_of(integer(3), text(">"), NONE, NONE, NONE, integer(-1), integer(-1), integer(0))
    yield "numpy big-endian", (pickled(dtype, big, BUILD), "byte order '>'")
    yield "numpy type built twice", (pickled(built, state, BUILD), "array of records")
    empty = call("numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), tuple_of(integer(0)), blob(b"b"))
    yield (
        "numpy array of a foreign class",
        (
            pickled(
                call("numpy.core.multiarray", "_reconstruct", name("numpy", "memmap"), tuple_of(integer(0)), blob(b"b"))
            ),
            r"it wants numpy\.memmap",
        ),
    )
    yield (
        "numpy array of a known other class",
        (
            pickled(
                call(
                    "numpy.core.multiarray", "_reconstruct", name("collections", "OrderedDict"), EMPTY_TUPLE, blob(b"b")
                )
            ),
            r"a class other than numpy\.ndarray",
        ),
    )
    for about, shape, data in (
        ("more elements than bytes", (1000,), blob(b"\0" * 40)),
        ("2^60 elements", (1 << 30, 1 << 30), blob(b"\0" * 40)),
        ("fewer elements than bytes", (2,), blob(b"\0" * 40)),
    ):
        array = tuple_of(integer(1), tuple_of(*map(integer, shape)), built, FALSE, data)
        yield f"numpy array, {about}", (pickled(empty, array, BUILD), r"claims [\d,]+ elements .* but holds")
    objects = tuple_of(integer(1), tuple_of(integer(1)), built, FALSE, EMPTY_LIST + MARK + evil[2:-1] + APPENDS)
    yield "numpy array of objects", (pickled(empty, objects, BUILD), wish)
    plain = tuple_of(integer(1), tuple_of(integer(1)), built, FALSE, EMPTY_LIST)
    yield "numpy array from a list", (pickled(empty, plain, BUILD), "contents that are no bytes")
    yield (
        "numpy array with a negative side",
        (
            pickled(empty, tuple_of(integer(1), tuple_of(integer(-1)), built, FALSE, blob(b"")), BUILD),
            "a type or shape that is none",
        ),
    )
    yield (
        "numpy scalar of objects",
        (
            pickled(call("numpy.core.multiarray", "scalar", call("numpy", "dtype", text("O8")), blob(evil))),
            "only arrays of numbers",
        ),
    )
    yield (
        "numpy scalar of the wrong size",
        (pickled(call("numpy.core.multiarray", "scalar", dtype, blob(b"123"))), "type and bytes do not fit"),
    )
    source = text(f"import os; os.system('touch {canary}')")

    def persistent(**changes: bytes) -> bytes:
        meta = dict(
            type=text("class"), version=integer(6), module_src=source, class_name=text("Generator"), state=EMPTY_DICT
        )
        return call("torch_utils.persistence", "_reconstruct_persistent_obj", dictionary(**{**meta, **changes}))

    yield "source code in a network", (pickled(dictionary(G_ema=persistent())), "has not the layers of StyleGAN2")
    yield (
        "network of another class",
        (pickled(dictionary(G_ema=persistent(class_name=text("os.system")))), "it holds a 'os.system' where"),
    )
    yield (
        "network of a later version",
        (pickled(dictionary(G_ema=persistent(version=integer(7)))), "has version 7, expected 1 to 6"),
    )
    yield "network without state", (pickled(dictionary(G_ema=persistent(state=NONE))), "has no state")
    yield (
        "network that is a function",
        (pickled(dictionary(G_ema=persistent(type=text("func")))), "lacks its class name"),
    )
    yield (
        "network with a strange activation",
        (
            pickled(
                dictionary(
                    G_ema=persistent(
                        state=dictionary(
                            _parameters=EMPTY_DICT,
                            _modules=dictionary(),
                            _buffers=dictionary(**{"synthesis.b4.const": empty}),
                        )
                    )
                )
            ),
            "is no tensor",
        ),
    )
    itself = EMPTY_DICT + put(5) + POP
    cyclic = itself + persistent(state=get(5)) + put(6) + POP
    cyclic += get(5) + text("_modules") + EMPTY_DICT + text("again") + get(6) + SETITEM + SETITEM + POP
    yield "network that contains itself", (pickled(cyclic, dictionary(G_ema=get(6))), "contain themselves")
    network = name("dnnlib.tflib.network", "Network") + EMPTY_TUPLE + NEWOBJ
    run_me = dictionary(
        version=integer(4),
        build_module_src=source,
        build_func_name=text("G_main"),
        variables=EMPTY_LIST,
        components=EMPTY_DICT,
    )
    yield (
        "source code in a TensorFlow network",
        (pickled(*(network + run_me + BUILD,) * 3, TUPLE3), "has not the layers of StyleGAN2"),
    )
    yield "TensorFlow network without state", (pickled(*(network,) * 3, TUPLE3), "none of TensorFlow's")
    old = dictionary(version=integer(2))
    yield "TensorFlow network of StyleGAN 1", (pickled(*(network + old + BUILD,) * 3, TUPLE3), "have version 2")
    named = network + EMPTY_DICT + put(1) + dictionary(version=integer(4))[1:] + BUILD + put(2)
    cycle = get(1) + text("components") + dictionary(again=get(2)) + SETITEM + POP
    yield (
        "TensorFlow network that contains itself",
        (pickled(named, cycle, get(2), get(2), TUPLE3), "none of TensorFlow's"),
    )


def resources() -> Iterator[tuple[str, Case]]:
    """Files that would fill the memory, take for ever, or overflow the stack."""
    yield "memo index of 2^32", (pickled(NONE, put(0xFFFFFFFF), EMPTY_LIST, TUPLE2), "no model that is known")
    for about, opcode in (
        ("BINBYTES", b"B\xff\xff\xff\xff"),
        ("BINBYTES8", b"\x8e" + b"\xff" * 8),
        ("BINUNICODE", b"X\xff\xff\xff\xff"),
        ("BINUNICODE8", b"\x8d" + b"\xff" * 7 + b"\x7f"),
        ("BYTEARRAY8", b"\x96" + b"\xff" * 8),
        ("BINSTRING", b"T\xff\xff\xff\x7f"),
    ):
        yield f"{about} beyond the end", (PROTO4 + opcode + b"abc.", "in the middle of")
    yield "BINSTRING of negative length", (PROTO2 + b"T\xff\xff\xff\xff.", "negative length")
    yield "FRAME beyond the end", (PROTO4 + b"\x95" + b"\xff" * 8 + b"N.", "a frame of its pickle is longer")
    yield "LONG4 of 2 GB", (PROTO2 + b"\x8b\xff\xff\xff\x7f.", "an integer of its pickle takes")
    yield "LONG4 of negative length", (PROTO2 + b"\x8b\xff\xff\xff\xff.", "an integer of its pickle takes")
    yield "LONG1 of 255 bytes", (PROTO2 + b"\x8a\xff" + b"\x7f" * 255 + b".", "an integer of its pickle takes 255")
    yield "LONG of 4000 digits", (b"L" + b"9" * 4000 + b"L\n.", "is no integer")
    yield "a line without end", (b"V" + b"a" * 10_000 + b".", "does not end within")
    depth = 200_000
    yield "lists in lists", (pickled(EMPTY_LIST * depth, b"a" * (depth - 1)), "no model that is known")
    yield "tuples in tuples", (pickled(EMPTY_TUPLE, TUPLE1 * depth), "no model that is known")
    yield (
        "a nested tuple as a key",
        (pickled(EMPTY_DICT, EMPTY_TUPLE, TUPLE1 * depth, NONE, SETITEM), "a key of type tuple"),
    )
    yield (
        "a nested tuple in a set",
        (pickled(EMPTY_SET, MARK, EMPTY_TUPLE, TUPLE1 * depth, ADDITEMS, protocol=PROTO4), "neither text nor number"),
    )
    yield "a huge integer as a key", (pickled(EMPTY_DICT, integer((1 << 61) - 1), NONE, SETITEM), "a key of type int")
    yield "a list that holds itself", (pickled(EMPTY_LIST, put(0), get(0), b"a"), "no model that is known")
    yield (
        "a dictionary that holds itself",
        (pickled(EMPTY_DICT, put(0), text("state_dict"), get(0), SETITEM), "no model that is known"),
    )
    laughs = EMPTY_LIST + put(0) + b"".join(get(i) * 0 + MARK + get(i) * 10 + b"l" + put(i + 1) for i in range(60))
    yield "a billion laughs in lists", (pickled(laughs), "no model that is known")
    pairs = text("a") + NONE + TUPLE2 + put(0) + POP
    pairs += b"".join(get(i) + get(i) + TUPLE2 + put(i + 1) + POP for i in range(64))
    yield "a billion laughs in tuples", (pickled(pairs, get(64)), "no model that is known")
    yield (
        "a billion laughs as a dictionary",
        (pickled(pairs, call("collections", "OrderedDict", get(64))), "something that is no pair"),
    )
    long = text("a" * 1_000_000) + put(0) + POP
    yield (
        "a text encoded ten thousand times",
        (
            pickled(long, *(call("_codecs", "encode", get(0), text("latin1")) for _ in range(10_000))),
            "copied again and again",
        ),
    )
    many = EMPTY_LIST + put(0) + MARK + b"".join(integer(i) for i in range(50_000)) + APPENDS + POP
    yield (
        "a set copied a thousand times",
        (pickled(many, *(call("builtins", "set", get(0)) for _ in range(1000))), "more than .* operations"),
    )
    pair = EMPTY_LIST + put(1) + MARK + (text("a") + NONE + TUPLE2 + put(2) + get(2) * 20_000) + APPENDS + POP
    yield (
        "a dictionary made a thousand times of a long list",
        (pickled(pair, *(call("collections", "OrderedDict", get(1)) for _ in range(1000))), "more than .* operations"),
    )
    yield "a million marks", (pickled(MARK * 500_001), "more than .* operations")
    yield "a million sets", (pickled(EMPTY_SET * 500_001, protocol=PROTO4), "more than .* operations")
    yield "a million duplicates", (pickled(NONE, DUP * 500_001), "more than .* operations")
    inner = legacy_file(pickled(NONE * 20_000), {})
    yield (
        "a nested file read a thousand times",
        (
            pickled(
                blob(inner), put(0), POP, *(call("torch.storage", "_load_from_bytes", get(0)) for _ in range(1000))
            ),
            "something else than one storage|more than .* operations",
        ),
    )


def tensors() -> Iterator[tuple[str, Case]]:
    """Tensors whose description and bytes disagree."""
    four = {"0": b"\0" * 16}
    for about, count in (("2^60", 1 << 60), ("one more", 5), ("one fewer", 3), ("none", 0)):
        yield (
            f"zip: storage claims {about}",
            (torch_zip(pickled(tensor(storage(count=count), shape=(min(count, 4),))), four), r"claims [\d,]+ elements"),
        )
        value = pickled(tensor(storage(count=count, legacy=True), shape=(min(count, 4),)))
        yield f"legacy: storage claims {about}", (legacy_file(value, four), r"claims a tensor of [\d,]+ elements")
    for about, arguments in {
        "offset beyond the end": dict(offset=1),
        "negative offset": dict(offset=-1),
        "shape too long": dict(shape=(5,)),
        "shape of 2^80": dict(shape=(1 << 40, 1 << 40), strides=(0, 0)),
        "expanded from one element": dict(shape=(1 << 30,), strides=(0,)),
        "strides beyond the end": dict(shape=(2, 2), strides=(4, 1)),
        "negative strides": dict(strides=(-1,)),
        "more strides than sides": dict(strides=(1, 1)),
        "nine axes": dict(shape=(1,) * 9, strides=(1,) * 9),
        "a side beyond 2^40": dict(shape=(0, 1 << 41), strides=(1, 1)),
    }.items():
        yield (
            f"tensor: {about}",
            (
                torch_zip(pickled(tensor(storage(), **arguments)), four),  # type: ignore[arg-type]
                "claims a tensor of|outside of its storage|no lists of lengths",
            ),
        )
    yield "tensor without storage", (pickled(tensor(NONE)), "something that is no storage")
    yield (
        "parameter of a text",
        (pickled(call("torch._utils", "_rebuild_parameter", text("a"))), "something that is no tensor"),
    )
    both = TUPLE2.join([tensor(storage()) + tensor(storage(kind="ByteStorage", count=16)), b""])
    yield "one storage, two types", (torch_zip(pickled(both), four), "describes its storage '0' in two ways")
    yield (
        "storage of an unknown type",
        (torch_zip(pickled(storage(kind="QInt8Storage")), four), r"it wants torch\.QInt8Storage"),
    )
    yield (
        "storage by a text type",
        (
            torch_zip(
                pickled(tuple_of(text("storage"), text("FloatStorage"), text("0"), text("cpu"), integer(4)), BINPERSID),
                four,
            ),
            "a storage without type",
        ),
    )
    yield "storage that is not there", (torch_zip(pickled(tensor(storage(key="7"))), four), "lacks 'm/data/7'")
    yield (
        "storage outside of data",
        (torch_zip(pickled(tensor(storage(key="../data.pkl"))), four), r"lacks 'm/data/\.\./data\.pkl'"),
    )
    yield (
        "a thousand names for the same bytes",
        (
            torch_zip(
                pickled(
                    tensor(storage(count=1 << 20), shape=(1 << 20,)),
                    put(0),
                    POP,
                    dictionary(
                        **{
                            "linear.weight": get(0),
                            "shared.weight": get(0),
                            "blocks.0.0.conv1.weight": get(0),
                            "output_layer.2.weight": get(0),
                            **{f"k{i}": get(0) for i in range(1000)},
                        }
                    ),
                ),
                {"0": b"\0" * (4 << 20)},
            ),
            "tensors come to",
        ),
    )


def zips() -> Iterator[tuple[str, Case]]:
    value = pickled(EMPTY_DICT)
    for entry in ("../../evil", "/etc/cron.d/evil", "m/../../evil", "C:/evil", "m\\..\\evil", "~/evil", "m/a\x00b"):
        data = archive(
            {"m/data.pkl": value, "placeholder" + "x" * (len(entry.encode()) - 11 if len(entry) > 11 else 0): b"x"}
        )
        wrong = archive({"m/data.pkl": value, "Z" * len(entry.encode()): b"x"})
        yield (
            f"zip slip {entry!r}",
            (wrong.replace(b"Z" * len(entry.encode()), entry.encode()), "leads out of its folder"),
        )
        del data
    yield (
        "zip bomb",
        (
            archive({"m/data.pkl": value, "m/data/0": b"\0" * 10_000_000}, compression=zipfile.ZIP_DEFLATED),
            "is compressed",
        ),
    )
    whole = torch_zip(value, {"0": bytes(range(64))})
    central = whole.index(b"PK\x01\x02")
    end = whole.index(b"PK\x05\x06")

    def patched(position: int, data: bytes, source: bytes = whole) -> bytes:
        return source[:position] + data + source[position + len(data) :]

    yield "zip encrypted", (patched(central + 8, b"\x01\x00"), "is encrypted")
    yield (
        "zip entry of 4 GB",
        (patched(central + 20, b"\xfe\xff\xff\xff" * 2), "overlaps something else or ends outside"),
    )
    yield "zip entry elsewhere", (patched(central + 42, b"\x01\x00\x00\x00"), "is not where the directory says")
    yield "zip entry beyond the end", (patched(central + 42, b"\xff\xff\xff\x7f"), CUT)
    yield "zip directory elsewhere", (patched(end + 16, b"\x00\x00\x00\x00"), "directory of its archive is damaged")
    yield "zip directory beyond the end", (patched(end + 16, b"\xff\xff\xff\x7f"), "outside of the file")
    yield "zip of 60000 entries", (patched(end + 8, b"\x60\xea" * 2), "damaged")
    yield "zip64 without its record", (patched(end + 8, b"\xff\xff" * 2), "directory of its archive is damaged")
    yield "zip in several parts", (patched(end + 4, b"\x02\x00"), "split over several files")
    yield "zip without end", (whole[:end], "has no end")
    yield (
        "zip with a lying second name",
        (patched(whole.index(b"m/byteorder"), b"m/BYTEORDER"), "not where the directory says"),
    )
    yield "zip with a wrong checksum", (whole.replace(bytes(range(64)), bytes(64)), "no model that is known")
    lying = torch_zip(pickled(dictionary(G_ema=tensor(storage()))), {"0": b"ABCDEFGHIJKLMNOP"})
    yield (
        "zip with changed numbers",
        (lying.replace(b"ABCDEFGHIJKLMNOP", b"ABCDEFGHIJKLMNOX"), "does not fit its checksum"),
    )
    twice = archive({"m/data.pkl": value, "m/data.pkX": value})
    yield "zip with a name twice", (twice.replace(b"m/data.pkX", b"m/data.pkl"), "holds 'm/data.pkl' twice")
    yield "zip with overlapping entries", (_overlapping(), "overlaps something else")
    yield "zip that is no torch file", (archive({"word/document.xml": b"<a/>"}), "holds no single data.pkl")
    yield "zip of two models", (archive({"a/data.pkl": value, "b/data.pkl": value}), "holds no single data.pkl")
    evil_script = pickled(call("os", "system", text("true")))
    yield (
        "TorchScript",
        (
            archive({"m/data.pkl": evil_script, "m/constants.pkl": b"", "m/code/__torch__.py": b"def f(): pass"}),
            r"it wants os\.system",
        ),
    )
    for module in ("__torch__evil", "__torch", "a.__torch__"):
        strange = pickled(name(module, "Model"), EMPTY_TUPLE, NEWOBJ)
        yield (
            f"TorchScript with a class of {module}",
            (archive({"m/data.pkl": strange, "m/constants.pkl": b""}), rf"it wants {module}\.Model"),
        )
    yield (
        "TorchScript that calls a class",
        (
            archive({"m/data.pkl": pickled(call("__torch__.a", "Model")), "m/constants.pkl": b""}),
            r"calls __torch__\.a\.Model, which may only be named",
        ),
    )
    yield "numpy archive", (archive({"arr_0.npy": b"\x93NUMPY"}), "holds no single data.pkl")
    yield "big-endian zip", (archive({"m/data.pkl": value, "m/byteorder": b"big"}), "big-endian")
    evil = pickled(call("os", "system", text("true")))
    yield "evil pickle behind a good zip", (whole + evil, CUT + "|no model that is known")
    yield "good zip behind an evil pickle", (evil + whole, r"it wants os\.system")


def _overlapping() -> bytes:
    """Two names for the same bytes, as in zip bombs that quote their own entries."""
    content = pickled(EMPTY_DICT)
    crc = zlib.crc32(content)

    def local(entry: bytes) -> bytes:
        return (
            struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 0, crc, len(content), len(content), len(entry), 0)
            + entry
        )

    inner = local(b"m/data/0")
    shared = inner + content
    outer_size = len(shared)
    first = (
        struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 0, zlib.crc32(shared), outer_size, outer_size, 10, 0)
        + b"m/data.pkl"
    )

    def central(entry: bytes, sum_: int, size: int, place: int) -> bytes:
        return (
            struct.pack(
                "<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, sum_, size, size, len(entry), 0, 0, 0, 0, 0, place
            )
            + entry
        )

    directory = central(b"m/data.pkl", zlib.crc32(shared), outer_size, 0) + central(
        b"m/data/0", crc, len(content), len(first)
    )
    body = first + shared
    return body + directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, len(directory), len(body), 0)


def legacy() -> Iterator[tuple[str, Case]]:
    four = {"0": b"\0" * 16}
    value = pickled(tensor(storage(legacy=True)))
    whole = legacy_file(value, four)
    keys = pickle.dumps(["0"], protocol=2)
    yield (
        "legacy of another version",
        (MAGIC + pickle.dumps(1002, protocol=2) + whole[len(MAGIC) + len(PROTOCOL) :], "unknown version"),
    )
    yield "legacy big-endian", (MAGIC + PROTOCOL + pickle.dumps({"little_endian": False}, protocol=2), "big-endian")
    yield "legacy without numbers", (whole[:-24], "cut short")
    yield "legacy without its last byte", (whole[:-1], "cut short")
    yield "legacy with another list", (legacy_file(value, {"1": b"\0" * 16}), "does not fit its tensors")
    yield (
        "legacy with a list twice",
        (MAGIC + PROTOCOL + SYSTEM + value + pickle.dumps(["0", "0"], protocol=2), "does not fit its tensors"),
    )
    yield (
        "legacy with a list of numbers",
        (MAGIC + PROTOCOL + SYSTEM + value + pickle.dumps([1], protocol=2), "list of storages is none"),
    )
    for about, count in (("negative", -1), ("huge", 1 << 62), ("other", 3)):
        data = MAGIC + PROTOCOL + SYSTEM + value + keys + struct.pack("<q", count) + b"\0" * 16
        yield f"legacy with a {about} count", (data, "claims a tensor of 4 elements but holds fewer")
    view = tuple_of(
        text("storage"),
        name("torch", "FloatStorage"),
        text("0"),
        text("cpu"),
        integer(4),
        tuple_of(text("1"), integer(0), integer(4)),
    )
    yield "legacy with a view", (legacy_file(pickled(view, BINPERSID), four), "a view of a storage")
    yield "legacy cut in its magic", (MAGIC + b"\x80", CUT)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        info = tarfile.TarInfo("../../evil")
        info.size = 4
        file.addfile(info, io.BytesIO(b"evil"))
    yield "tar of the oldest torch", (tar.getvalue(), "a tar archive")


def others() -> Iterator[tuple[str, Case]]:
    yield "text", (b"hello, I am a model\n" * 50, "no model file that is known")
    yield "zeros", (b"\0" * 4096, "no model file that is known")
    yield "web page", (b"\n <!DOCTYPE html><html><body>Quota exceeded</body></html>", "a web page, not a model")
    yield "gzip", (b"\x1f\x8b\x08" + b"\0" * 100, "a gzip archive: unpack it first")
    yield "program", (b"\x7fELF" + b"\0" * 100, "a program, not a model")
    yield "Git LFS pointer", (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull")
    yield "one byte", (b"\x80", CUT)
    yield "protocol 99", (b"\x80\x63N.", "claims protocol 99")
    yield "no opcode", (b"\x80\x02\xff.", "is no pickle opcode")
    yield "empty stack", (b"\x80\x02.", "takes a value that is not there")
    yield "mark on the stack", (b"\x80\x02(.", "takes a value that is not there")
    yield "no mark", (b"\x80\x02t.", "lacks a mark")
    yield "memo of nothing", (b"\x80\x02h\x07.", "recalls value 7, which it never stored")
    yield "put of nothing", (b"\x80\x02q\x00.", "changes a value that is not there")
    yield "key without value", (b"\x80\x02}(Nu.", "a key without its value")
    yield "text that is none", (b"\x80\x02X\x02\x00\x00\x00\xff\xfe.", "a text of its pickle is not readable")
    yield "quoted text with escapes", (b"S'\\x41'\n.", "a quoted text")
    yield "float that is none", (b"Fnumber\n.", "is no number")
    yield "only a number", (pickled(integer(5)), "no model that is known here .a int.")
    yield (
        "unknown keys",
        (
            torch_zip(pickled(dictionary(weight=tensor(storage()))), {"0": b"\0" * 16}),
            "belong to no network that is known here",
        ),
    )
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    data = b"\0" * 16
    for about, header in {
        "offsets beyond the end": {"a": {**entry, "data_offsets": [0, 1 << 40]}},
        "offsets backwards": {"a": {**entry, "data_offsets": [16, 0]}},
        "overlapping tensors": {"a": entry, "b": entry},
        "a shape that does not fit": {"a": {**entry, "shape": [5]}},
        "a shape that overflows": {"a": {**entry, "shape": [1 << 32, 1 << 32]}},
        "a type that does not exist": {"a": {**entry, "dtype": "O8"}},
        "a hole": {"a": {**entry, "data_offsets": [8, 24]}},
        "metadata that is no text": {"a": entry, "__metadata__": {"x": {"y": 1}}},
        "half a header": b'{"a": {',
        "nested lists": b'{"a": ' + b"[" * 100_000,
        "the same key twice": b'{"a": %b, "a": %b}' % ((json.dumps(entry).encode(),) * 2),
    }.items():
        yield f"safetensors: {about}", (safetensors(header, data), "no safetensors file after all|belong to no network")
    yield "safetensors: header beyond the end", (safetensors({"a": entry}, data, length=1 << 40), "no model file|is no")
    yield (
        "safetensors: header of 100 MB claimed",
        (safetensors({"a": entry}, data + b"\0" * 4096, length=4000), "no safetensors file after all"),
    )
    long_header = b'{"__metadata__": {"a": "' + b"x" * (17 << 20) + b'"}}'
    yield "safetensors: header of 17 MB", (safetensors(long_header), "its header has 17,")
    converted: dict[str, object] = {
        "version": 1,
        "format": "x",
        "family": "stylegan2",
        "roles": ["generator"],
        "stated": {},
        "notes": [],
    }
    changes: dict[str, dict[str, object]] = {
        "of another version": {"version": 99},
        "without roles": {"roles": None},
        "with settings that are none": {"stated": {"generator": {"conv_clamp": 5}}},
        "with a role too few": {"roles": ["discriminator"]},
        "with an impossible setting": {"stated": {"generator": {"conv_clamp": ["os.system", "the file"]}}},
    }
    for about, change in changes.items():
        metadata = {"gmi_model": json.dumps({**converted, **change})}
        header = {"__metadata__": metadata, "generator.a": entry}
        yield (
            f"converted model {about}",
            (safetensors(header, data), "another version|description is damaged|states generator.conv_clamp"),
        )
    yield (
        "converted model of no JSON",
        (safetensors({"__metadata__": {"gmi_model": "[" * 3000}, "a": entry}, data), "description is damaged"),
    )


def corpus(canary: Path) -> dict[str, Case]:
    """All hostile files: name -> bytes and the pattern of the reason."""
    cases: dict[str, Case] = {}
    groups = (
        payloads(canary),
        opcodes(canary),
        nested(canary),
        resources(),
        tensors(),
        zips(),
        legacy(),
        others(),
    )
    for group in groups:
        for label, case in group:
            assert label not in cases, label
            cases[label] = case
    return cases
