"""The whitelist: every name that a checkpoint may mention, and the function of ours that stands for it.

The match is exact in module and name. No entry imports anything: what a file calls `torch._utils._rebuild_tensor_v2`
is our `stored_array`, and an object of `dall_e.decoder.Decoder` a `Node` without behaviour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.checkpoints.arrays import (
    TORCH_STORAGES,
    ArrayShell,
    DtypeShell,
    Storage,
    StoredArray,
    latin1,
    numpy_scalar,
    stored_array,
)
from engine.checkpoints.pickle_machine import FOREIGN, Known, Ledger, Node, Vocabulary, is_plain_key, plain_set
from engine.checkpoints.refusal import SAVE_AS_FLOATS, Refused

_TYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_OTHER_TYPES = (
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2",
    "uint16", "uint32", "uint64",
)  # fmt: skip
PERSISTENCE_VERSIONS = range(1, 7)
TORCHSCRIPT = "__torch__"
_SCRIPT_LISTS = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist")

# Classes whose objects a whole pickled network holds: their state is kept, their behaviour is written anew.
NODE_CLASSES = (
    ("dnnlib.tflib.network", "Network"),
    ("dall_e.encoder", "Encoder"),
    ("dall_e.encoder", "EncoderBlock"),
    ("dall_e.decoder", "Decoder"),
    ("dall_e.decoder", "DecoderBlock"),
    ("dall_e.utils", "Conv2d"),
    *(
        (module, name)
        for module in ("model", "models.stylegan2.model")  # rosinality's, and those that copied it
        for name in (
            "Generator",
            "Discriminator",
            "PixelNorm",
            "EqualLinear",
            "EqualConv2d",
            "ScaledLeakyReLU",
            "ConstantInput",
            "ModulatedConv2d",
            "NoiseInjection",
            "StyledConv",
            "ToRGB",
            "Blur",
            "Upsample",
            "Downsample",
            "ConvLayer",
            "ResBlock",
        )
    ),
    ("op.fused_act", "FusedLeakyReLU"),
    ("models.stylegan2.op.fused_act", "FusedLeakyReLU"),
    ("torch.nn.modules.activation", "LeakyReLU"),
    ("torch.nn.modules.activation", "ReLU"),
    ("torch.nn.modules.container", "ModuleList"),
    ("torch.nn.modules.container", "Sequential"),
    ("torch.nn.parallel.data_parallel", "DataParallel"),
    ("torch.nn.modules.linear", "Identity"),
    ("torch.nn.modules.pooling", "MaxPool2d"),
    ("torch.nn.modules.upsampling", "Upsample"),
)
# Objects of a training that lie beside weights: settings, places of files, optimizers. Kept without behaviour, unused.
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
_OPTIMIZERS = (
    ("adadelta", "Adadelta"), ("adagrad", "Adagrad"), ("adam", "Adam"), ("adamax", "Adamax"), ("adamw", "AdamW"),
    ("asgd", "ASGD"), ("nadam", "NAdam"), ("radam", "RAdam"), ("rmsprop", "RMSprop"), ("sgd", "SGD"),
)  # fmt: skip
_SCHEDULES = (
    "ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "ExponentialLR", "LinearLR",
    "MultiStepLR", "OneCycleLR", "PolynomialLR", "ReduceLROnPlateau", "SequentialLR", "StepLR",
)  # fmt: skip
INERT_CLASSES = (
    ("argparse", "Namespace"),
    ("types", "SimpleNamespace"),
    *((module, name) for module in ("pathlib", "pathlib._local") for name in _PATHS),
    *(("datetime", name) for name in ("date", "datetime", "time", "timedelta", "timezone")),
    ("uuid", "UUID"),
    ("decimal", "Decimal"),
    *((f"torch.optim.{module}", name) for module, name in _OPTIMIZERS),
    *(("torch.optim.lr_scheduler", name) for name in _SCHEDULES),
    *((f"torch.{module}.grad_scaler", "GradScaler") for module in ("amp", "cuda.amp")),
    ("omegaconf.dictconfig", "DictConfig"),
    ("omegaconf.listconfig", "ListConfig"),
    *(("omegaconf.base", name) for name in ("ContainerMetadata", "Metadata")),
    *(("omegaconf.nodes", f"{kind}Node") for kind in ("Any", "Boolean", "Float", "Integer", "String", "Path")),
    ("ml_collections.config_dict.config_dict", "ConfigDict"),
)
# Dictionaries by other names.
DICTIONARIES = (
    ("collections", "OrderedDict"),
    ("dnnlib.util", "EasyDict"),
    ("easydict", "EasyDict"),
    ("addict.addict", "Dict"),
    ("munch", "Munch"),
    ("yacs.config", "CfgNode"),
    *((f"{package}.utilities.parsing", "AttributeDict") for package in ("pytorch_lightning", "lightning.pytorch")),
    ("lightning_fabric.utilities.data", "AttributeDict"),
    ("lightning.fabric.utilities.data", "AttributeDict"),
)
# What a defaultdict may make its missing entries of.
_FACTORIES = ("bool", "dict", "float", "int", "list", "set", "str", "tuple")
# Names that stand in a file as such: keys of Lightning's callbacks, types of numbers.
MERE_NAMES = (
    *((module, name) for module in ("builtins", "__builtin__") for name in _FACTORIES if name != "set"),
    ("typing", "Any"),
    ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
    ("pytorch_lightning.callbacks.early_stopping", "EarlyStopping"),
    ("pytorch_lightning.callbacks.lr_monitor", "LearningRateMonitor"),
    *(("torch", name) for name in (*_TYPES, *_OTHER_TYPES)),
    ("torch.storage", "UntypedStorage"),
    ("numpy", "ndarray"),
)


def vocabulary(ledger: Ledger, load_nested: Callable[[memoryview], Any]) -> Vocabulary:
    """The whitelist for one file. load_nested reads the torch file inside a tensor of a plain pickle."""

    def load_from_bytes(data: Any) -> Storage:
        if not isinstance(data, bytes | memoryview):
            raise Refused("it loads a tensor from something that is no bytes.")
        storage = load_nested(memoryview(data))
        if not isinstance(storage, Storage):
            raise Refused("a torch file inside it holds something else than one storage.")
        return storage

    def encode(text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise Refused("it encodes a text otherwise than as latin-1.")
        ledger.copy(len(text))
        return latin1(text)

    def default_dict(factory: Any = None, *more: Any) -> Any:
        """A plain dictionary; what would be made of missing entries is named, not called."""
        module, _, name = factory.name.partition(".") if isinstance(factory, Known) else ("", "", "")
        is_plain = module in ("builtins", "__builtin__", "collections") and name in (*_FACTORIES, "OrderedDict")
        if more or not (factory is None or is_plain):
            ledger.wish("collections.defaultdict")
            return FOREIGN
        return {}

    def counter(counts: Any = None, *more: Any) -> Any:
        if more or not isinstance(counts, dict | None):
            ledger.wish("collections.Counter")
            return FOREIGN
        return ordered_dict(counts or ())

    def rebuild_tensor_v3(storage: Any, *details: Any) -> Any:
        """How torch writes types that have no storage of their own: of those none is one of weights."""
        kind = details[-1] if details else None
        if not isinstance(storage, Storage) or not isinstance(kind, Known):
            ledger.wish("torch._utils._rebuild_tensor_v3")
            return FOREIGN
        raise Refused(f"it holds tensors of the type {kind.name.removeprefix('torch.')}. {SAVE_AS_FLOATS}")

    def deque(values: Any = (), *_: Any) -> list[Any]:
        if not isinstance(values, list | tuple):
            raise Refused("it makes a list of something that is none.")
        ledger.spend(len(values))
        return list(values)

    def ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
        if isinstance(pairs, dict):
            pairs = list(pairs.items())
        if not isinstance(pairs, list | tuple):
            raise Refused("it makes a dictionary of something that is no list of pairs.")
        ledger.spend(len(pairs))
        made = {}
        for pair in pairs:
            if not isinstance(pair, tuple | list) or len(pair) != 2 or not is_plain_key(pair[0]):
                raise Refused("it makes a dictionary of something that is no pair.")
            made[pair[0]] = pair[1]
        return made

    def make_set(values: Any = ()) -> set[Any]:
        if not isinstance(values, list | tuple):
            raise Refused("it makes a set of something that is no list.")
        ledger.spend(len(values))
        return plain_set(list(values))

    def numpy_reconstruct(kind: Any, shape: Any, code: Any) -> ArrayShell:
        if not isinstance(kind, Known) or kind.name != "numpy.ndarray":
            raise Refused("it rebuilds an array of a class other than numpy.ndarray.")
        return ArrayShell(ledger.arrive)

    functions: dict[tuple[str, str], Callable[..., Any]] = {
        ("builtins", "set"): make_set,
        ("__builtin__", "set"): make_set,
        ("builtins", "frozenset"): make_set,
        ("__builtin__", "frozenset"): make_set,
        ("collections", "Counter"): counter,
        ("collections", "defaultdict"): default_dict,
        ("collections", "deque"): deque,
        ("builtins", "bytes"): _no_bytes,
        ("__builtin__", "bytes"): _no_bytes,
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent_object,
        ("torch._utils", "_rebuild_tensor"): stored_array,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
        ("torch._utils", "_rebuild_tensor_v3"): rebuild_tensor_v3,
        ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
        ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        ("torch.storage", "_load_from_bytes"): load_from_bytes,
        ("torch", "Size"): _size,
        ("torch", "device"): _device,
        ("numpy", "dtype"): DtypeShell,
        ("numpy.core.multiarray", "_reconstruct"): numpy_reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): numpy_reconstruct,
        ("numpy.core.multiarray", "scalar"): numpy_scalar,
        ("numpy._core.multiarray", "scalar"): numpy_scalar,
        ("_codecs", "encode"): encode,
    }
    known = {key: Known(".".join(key), call=function) for key, function in functions.items()}
    known |= {key: Known(".".join(key), call=ordered_dict, new=ordered_dict) for key in DICTIONARIES}
    known |= {key: _inert(".".join(key)) for key in INERT_CLASSES}
    known |= {key: Known(".".join(key)) for key in MERE_NAMES}
    known |= {("torch", name): Known(f"torch.{name}") for name in TORCH_STORAGES if "." not in name}
    known |= {key: Known(".".join(key), new=_node_maker(".".join(key))) for key in NODE_CLASSES}
    return known


class TorchScriptVocabulary(dict[tuple[str, str], Known]):
    """The whitelist and the classes of a TorchScript archive, whose code nobody reads: all begin with `__torch__.`."""

    def get(self, key: Any, default: Any = None) -> Any:
        module, name = key
        if module == TORCHSCRIPT or module.startswith(f"{TORCHSCRIPT}."):
            return Known(f"{module}.{name}", new=_node_maker(f"{module}.{name}"))
        return super().get(key, default)


def torchscript_vocabulary(ledger: Ledger) -> Vocabulary:
    """The whitelist for the `data.pkl` of a TorchScript archive; tensors in it are storages of the archive."""

    def no_nested(_: memoryview) -> Any:
        raise Refused("a TorchScript archive in it holds another torch file.")

    lists = {("torch.jit._pickle", name): Known(f"torch.jit._pickle.{name}", call=_same) for name in _SCRIPT_LISTS}
    tag = {("torch.jit._pickle", "restore_type_tag"): Known("torch.jit._pickle.restore_type_tag", call=_same)}
    return TorchScriptVocabulary({**vocabulary(ledger, no_nested), **lists, **tag})


def _same(value: Any, *_: Any) -> Any:
    """What TorchScript says of a list's type is of no use here."""
    return value


def _node_maker(name: str) -> Callable[[], Node]:
    return lambda: Node(name)


def _inert(name: str) -> Known:
    """Whatever it is made of, it stays a name."""

    def make(*_: Any) -> Node:
        return Node(name)

    return Known(name, call=make, new=make)


def _persistent_object(meta: Any) -> Node:
    """What StyleGAN2-ADA wraps around each module. Its source code (`module_src`) is dropped unread."""
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("class_name"), str):
        raise Refused("a network object in it lacks its class name.")
    if meta.get("version") not in PERSISTENCE_VERSIONS:
        raise Refused(f"a network object in it has version {meta.get('version')!r}, expected 1 to 6.")
    if not isinstance(meta.get("state"), dict):
        raise Refused("a network object in it has no state.")
    return Node(meta["class_name"], meta["state"])


def _rebuild_tensor_v2(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredArray:
    """The rest, whether it wants a gradient and its hooks, is of no use here."""
    return stored_array(storage, offset, shape, strides)


def _rebuild_parameter(data: Any, *_: Any) -> StoredArray:
    if not isinstance(data, StoredArray):
        raise Refused("it makes a parameter of something that is no tensor.")
    return data


def _no_bytes() -> bytes:
    """How pickles before protocol 3 write empty bytes, such as those of an array without elements."""
    return b""


def _size(lengths: Any) -> tuple[int, ...]:
    if not isinstance(lengths, tuple):
        raise Refused("it makes a shape of something that is no tuple.")
    return lengths


def _device(*_: Any) -> None:
    """Where a tensor once lived says nothing about here."""
