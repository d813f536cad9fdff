"""Networks from state dicts: built for the shapes and the settings by the family's builder, then given the weights.

This is the only place that does so: what is built here for `models check` is what a run gets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from engine.checkpoints.checkpoint import Checkpoint, State
from engine.checkpoints.refusal import SAVE_AS_FLOATS, printable
from engine.errors import ModelError
from engine.families import find_family

_REASON_SHOWN = 300  # letters of an error of torch's; all keys of a network would fill the screen
_OF_WRONG_SHAPES = (  # what a builder raises for shapes that make no network
    ValueError, LookupError, TypeError, RuntimeError, ArithmeticError, AttributeError, AssertionError, MemoryError,
)  # fmt: skip
_DRAWN = (Tensor.normal_, Tensor.uniform_)
_MADE = (torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand)
_SPARE_NUMBERS = 1 << 22  # tables that networks make for themselves
_KEYS_SHOWN = 2  # of each kind of misfit
_KEY_SHOWN = 40


class Bounded(TorchFunctionMode):
    """Inside it, networks are made that take about as many numbers as `state` holds: ValueError comes before more.

    A file can claim wide layers by a few small tensors or a line of its configuration, and the others would fill the
    memory before they are compared with what it holds.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        self._most, self._taken = 2 * sum(value.numel() for value in state.values()) + _SPARE_NUMBERS, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _MADE:
            self._taken += _numbers(args, kwargs or {})
            if self._taken > self._most:
                raise ValueError(f"its layers would take more than {self._most:,} numbers, far more than it holds")
        return func(*args, **(kwargs or {}))


class Undrawn(Bounded):
    """Leaves initial weights undrawn, too: they would cost seconds and move torch's global random state.

    The meta device would spare even the memory, but its first use imports torch's compiler, which takes longer.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in _DRAWN else super().__torch_function__(func, types, args, kwargs)


def _numbers(sizes: Sequence[Any], options: Mapping[str, Any]) -> int:
    """How many numbers `torch.empty(*sizes, **options)` and its like would take."""
    given = options.get("size", sizes[0] if sizes and not isinstance(sizes[0], int) else sizes)
    sides = [side for side in given if isinstance(side, int)] if isinstance(given, Sequence) else []
    return math.prod(sides) if all(side >= 0 for side in sides) else 0


def can_build(family: str, role: str) -> bool:
    """Whether there is a network for that role of a family."""
    return role in find_family(family).networks


def build(checkpoint: Checkpoint, role: str, *, device: torch.device | str = "cpu") -> nn.Module:
    """The network of that role, frozen, in float32. Raises ModelError where weights and network do not fit.

    On the CPU its weights are those of the checkpoint, mapped from the cache and not copied where they are float32.
    """
    name = checkpoint.provenance.path.name
    if role not in checkpoint.networks:
        raise ModelError(f"{name} holds no {role}; it holds {', '.join(checkpoint.networks)}.")
    settings = {key: setting.value for key, setting in checkpoint.configuration[role].items()}
    return build_network(checkpoint.family, role, checkpoint.networks[role], settings, place=name, device=device)


def build_network(
    family: str,
    role: str,
    state: State,
    settings: Mapping[str, Any],
    *,
    place: object,
    device: torch.device | str = "cpu",
    copied: bool = False,
) -> nn.Module:
    """A family's network with these weights and all of its settings, frozen, in float32 unless its family keeps types.

    place: where the weights are from, for the error. copied: whether the weights get memory of their own, as those
    of runs do: the last bits of a product depend on where in memory its factors lie. Raises ModelError where weights
    and network do not fit.
    """
    network = find_family(family).networks.get(role)
    if network is None:
        raise ModelError(f"{place}: there is no network for the {role} of a {family} yet.")
    if not network.keeps_types:
        state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    try:
        with Undrawn(state):
            built = network.build(state, **settings)
        problem = _misfit(built, state, f"{find_family(family).label} {role}")
        if not problem:
            built.load_state_dict(state, assign=network.keeps_types or not copied)
    except ModelError:
        raise
    except _OF_WRONG_SHAPES as error:
        # Torch's own first line only says that there are errors; the second begins to name them.
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2]) or type(error).__name__
        reason = printable(reason, _REASON_SHOWN)
        raise ModelError(f"{place} does not hold a {family} {role}: {reason}") from error
    if problem:
        raise ModelError(f"{place} does not hold a {family} {role}: {problem}")
    return (built if network.keeps_types else built.to(device)).eval().requires_grad_(False)


def _misfit(built: nn.Module, state: State, what: str) -> str:
    """Which weights a network lacks, which it has no place for, which are of another shape, and what that means."""
    expected = built.state_dict()
    missing = [key for key in expected if key not in state]
    strange = [key for key in state if key not in expected]
    shared = [key for key in expected if key in state]
    misshapen = [key for key in shared if state[key].shape != expected[key].shape]
    whole = [key for key in shared if expected[key].is_floating_point() and not state[key].is_floating_point()]
    found = []
    if missing:
        found.append(f"{_keys(missing)} missing")
    if strange:
        found.append(f"{_keys(strange)} unexpected")
    if misshapen:
        key = misshapen[0]
        sides = f"({key} is {_sides(state[key])}, not {_sides(expected[key])})"
        found.append(f"{_keys(misshapen, named=False)} of another shape {sides}")
    if found:
        return f"{'; '.join(found)}. {_meaning(built, missing, strange, misshapen, what)}"
    if whole:
        kind = str(state[whole[0]].dtype).removeprefix("torch.")
        return f"{_keys(whole)} whole numbers ({kind}). {SAVE_AS_FLOATS}"
    return ""


def _meaning(built: nn.Module, missing: list[str], strange: list[str], misshapen: list[str], what: str) -> str:
    if not strange and not misshapen:
        if set(missing) <= {name for name, _ in built.named_buffers()}:
            return "Only the parameters were saved: save the network's whole state_dict()."
        return "Layers were left out when it was saved, or it is another network: save its whole state_dict()."
    if strange and not missing and not misshapen:
        return f"It has more layers than a {what}: a changed network. Save it without them if it draws without them."
    if misshapen and not missing and not strange:
        return f"Its layers do not fit each other as those of a {what} do: a changed network, or a damaged file."
    return f"It is another network than a {what}, or a changed one."


def _keys(keys: list[str], *, named: bool = True) -> str:
    """How many, and the first of them."""
    count = "1 key is" if len(keys) == 1 else f"{len(keys):,} keys are"
    if not named:
        return count
    shown = ", ".join(printable(key, _KEY_SHOWN) for key in keys[:_KEYS_SHOWN])
    more = f" and {len(keys) - _KEYS_SHOWN:,} more" if len(keys) > _KEYS_SHOWN else ""
    number, verb = count.rsplit(" ", 1)
    return f"{number} ({shown}{more}) {verb}"


def _sides(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"
