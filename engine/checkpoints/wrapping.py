"""What people's programs wrap around weights: dictionaries of a training, prefixes of all keys, whole modules.

One rule for all of it: what does not say which network it is is taken off, layer by layer, until a reader knows what
is inside. A prefix that all keys share says nothing, nor do `params_ema` or `state_dict` around a dictionary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from engine.checkpoints.arrays import StoredArray
from engine.checkpoints.checkpoint import MAX_KEY, is_state_dict
from engine.checkpoints.modules import is_module, state_of_modules
from engine.checkpoints.pickle_machine import Node
from engine.checkpoints.refusal import printable

# Names around networks, the better first: averaged generators, generators, whatever is saved, what no picture needs.
AVERAGED = (
    "g_ema", "G_ema", "netG_ema", "generator_ema", "params_ema", "model_ema", "ema", "ema_model", "ema_state_dict",
    "state_dict_ema", "GE",
)  # fmt: skip
GENERATORS = ("g", "G", "netG", "net_g", "generator", "gen", "GAN")
_WHOLE = ("params", "weights", "state_dict", "model_state_dict", "model", "network", "net", "module", "checkpoint")
_TRANSPARENT = ("module", "_orig_mod")  # of DataParallel and torch.compile
_LAST = ("d", "D", "netD", "net_d", "discriminator", "D_ema", "optimizer", "optim", "loss")
_ORDER = {name: rank for rank, name in enumerate((*AVERAGED, *GENERATORS, *_WHOLE))}
_AFTER_ALL = {name: len(_ORDER) + 1 + rank for rank, name in enumerate(_LAST)}

MAX_LAYERS = 5
MAX_TRIED = 64  # wrappings of one file
_NOTED = 8


@dataclass(frozen=True)
class Unwrapped:
    """What is inside of some of a file's wrappings. under: the names around it; prefix: what its keys began with."""

    value: Any
    under: tuple[str, ...] = ()
    prefix: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was taken off and what was left, for a person."""
        notes = []
        if self.under:
            notes.append(f"found under {'.'.join(self.under)}")
        if self.prefix:
            notes.append(f"taken off the beginning of all keys: {printable(self.prefix)}")
        if self.left_out:
            more = f" and {len(self.left_out) - _NOTED} more" if len(self.left_out) > _NOTED else ""
            notes.append(f"not used: {', '.join(self.left_out[:_NOTED])}{more}")
        return tuple(notes)


def unwrapped(value: Any) -> Iterator[Unwrapped]:
    """The value as it is, then what is inside of its wrappings, the likeliest first."""
    pending = [Unwrapped(value)]
    for _ in range(MAX_TRIED):
        if not pending:
            return
        found = pending.pop(0)
        yield from _peeled(found)
        if len(found.under) < MAX_LAYERS:
            pending = [*_opened(found), *pending]


def peeled(state: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """A state dict as it is, then without the first word that all of its keys share, and so on; with what went."""
    inner, prefix = dict(state), ""
    for _ in range(MAX_LAYERS):
        yield inner, prefix
        first = next(iter(inner), "").partition(".")[0] + "."
        if not inner or not all(key.startswith(first) and len(key) > len(first) for key in inner):
            return
        inner, prefix = {key[len(first) :]: value for key, value in inner.items()}, prefix + first


def without_wrappers(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict without the words that all of its keys share, as far as these are names of wrappings."""
    inner: dict[str, Any] = {}
    for inner, _ in peeled(state):
        following = next(iter(inner), "").partition(".")[0]
        if following not in _TRANSPARENT and following not in _ORDER:
            return inner
    return inner


def _peeled(found: Unwrapped) -> Iterator[Unwrapped]:
    if not is_state_dict(found.value) or max(map(len, found.value)) > MAX_KEY:
        yield found
        return
    for state, prefix in peeled(found.value):
        yield Unwrapped(state, found.under, found.prefix + prefix, found.left_out)


def _opened(found: Unwrapped) -> list[Unwrapped]:
    """What lies directly inside, the likeliest first."""
    value = found.value
    if isinstance(value, Node):
        return [Unwrapped(state_of_modules(value), found.under, "", found.left_out)] if is_module(value) else []
    if not isinstance(value, dict):
        return []
    if any(is_module(inner) for inner in value.values()):
        plain = {key: state_of_modules(inner) if is_module(inner) else inner for key, inner in value.items()}
        return [Unwrapped(plain, found.under, "", found.left_out)]
    groups = _groups(value)
    inside = [key for key, inner in groups.items() if isinstance(inner, dict)]
    inside.sort(key=lambda key: _ORDER.get(key, _AFTER_ALL.get(key, len(_ORDER))))
    opened = []
    arrays = {k: inner for k, inner in value.items() if isinstance(k, str) and isinstance(inner, StoredArray | Tensor)}
    if arrays and len(arrays) > len(value) / 2 and len(arrays) < len(value):  # numbers and words among the weights
        opened.append(Unwrapped(arrays, found.under, "", (*found.left_out, *_others(value, arrays))))
    for key in inside[:MAX_TRIED]:
        rest = (*found.left_out, *_others(groups, [key]))
        opened.append(Unwrapped(groups[key], (*found.under, printable(key, 40)), "", rest))
    return opened


def _groups(value: dict[Any, Any]) -> dict[str, Any]:
    """The entries; of a flat state dict whose keys begin with names of networks, a dictionary for each such name."""
    if not is_state_dict(value):
        return {key: inner for key, inner in value.items() if isinstance(key, str)}
    groups: dict[str, Any] = {}
    for key, array in value.items():
        first, dot, rest = key.partition(".")
        if dot and rest:
            groups.setdefault(first, {})[rest] = array
    is_split = len(groups) > 1 and any(name in _ORDER or name in _AFTER_ALL for name in groups)
    return groups if is_split else {}


def _others(values: Mapping[Any, Any], taken: Any) -> list[str]:
    return sorted(printable(str(key), 40) for key in values if key not in taken)
