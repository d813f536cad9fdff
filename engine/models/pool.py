"""Models in memory: each loaded once and shared, the least recently used given up when they take too much.

    pool = ModelPool(budget=4 << 30)
    with pool.holding():                          # a run: none of the models it asks for is given up before its end
        model = pool.get(key, read, watch=watch)  # read(loading) -> model

A model that was given up while somebody still has it is found again instead of being loaded twice.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from engine.models.memory import default_budget
from engine.system.files import Watch

_LOOK_EVERY = 0.05  # seconds, while another thread loads the same model
_DEEPEST = 6  # of what is looked through for tensors

Loaded = TypeVar("Loaded")
Key = tuple[Hashable, ...]


class Loading:
    """What a reader tells while it loads. Each of its methods may raise `LoadingStopped`."""

    def __init__(self, watch: Watch | None, make_room: Callable[[int], None]) -> None:
        self.watch: Watch = watch or (lambda doing, share: None)
        self.make_room = make_room  # bytes that are about to be taken


@dataclass(frozen=True)
class Kept:
    """A loaded model: its key, the bytes of its tensors, whether a run has it now, seconds since its last use."""

    key: Key
    bytes: int
    in_use: bool
    idle: float


@dataclass
class _Entry:
    model: Any
    bytes: int
    used: float


class ModelPool:
    """Thread-safe. budget: bytes that the models may take together; one alone may take more."""

    def __init__(self, budget: int | None = None) -> None:
        self._budget = budget
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()  # the least recently used first
        self._given_up: weakref.WeakValueDictionary[Key, Any] = weakref.WeakValueDictionary()
        self._holds: Counter[Key] = Counter()
        self._mine = threading.local()
        self._loading: dict[Key, threading.Lock] = {}
        self._lock = threading.RLock()

    @property
    def budget(self) -> int:
        if self._budget is None:
            self._budget = default_budget()
        return self._budget

    def set_budget(self, budget: int) -> None:
        """Gives up at once what is too much. Raises ValueError for a budget that is not positive."""
        if budget <= 0:
            raise ValueError(f"the budget must be positive, got {budget}")
        with self._lock:
            self._budget = budget
            self._make_room(0)

    def get(self, key: Key, read: Callable[[Loading], Loaded], *, watch: Watch | None = None) -> Loaded:
        """The model of that key, loaded now if it is not there. What `read` raises is raised, and nothing kept.

        watch: told how far the loading is, and may end it by raising `LoadingStopped`.
        """
        loading = self._lock_of(key)
        while not loading.acquire(timeout=_LOOK_EVERY):
            if watch is not None:
                watch("Waiting: this model is being loaded already", None)
        try:
            model = self._find(key)
            if model is None:
                model = read(Loading(watch, self._make_room))
            self._keep(key, model)
            found: Loaded = model
            return found
        finally:
            loading.release()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Whatever this thread asks for inside is not given up before the end."""
        outer: list[Key] | None = getattr(self._mine, "held", None)
        self._mine.held = []
        try:
            yield
        finally:
            with self._lock:
                self._holds.subtract(self._mine.held)
                self._holds += Counter()  # drops the zeros
                self._mine.held = outer
                self._make_room(0)

    def kept(self) -> tuple[Kept, ...]:
        """The loaded models, the most recently used first."""
        now = time.monotonic()
        with self._lock:
            return tuple(
                Kept(key, entry.bytes, self._holds[key] > 0, now - entry.used)
                for key, entry in reversed(self._entries.items())
            )

    def forget(self, condition: Callable[[Key], bool]) -> None:
        """Gives up the models whose key fits, such as those of a deleted file; also for those who still have one."""
        with self._lock:
            for key in [key for key in self._entries if condition(key)]:
                del self._entries[key]
            for key in [key for key in self._given_up if condition(key)]:
                del self._given_up[key]

    # --- under the lock

    def _lock_of(self, key: Key) -> threading.Lock:
        with self._lock:
            return self._loading.setdefault(key, threading.Lock())

    def _find(self, key: Key) -> Any:
        with self._lock:
            entry = self._entries.get(key)
            return entry.model if entry is not None else self._given_up.get(key)

    def _keep(self, key: Key, model: Any) -> None:
        with self._lock:
            self._given_up.pop(key, None)
            self._entries[key] = _Entry(model, bytes_of(model), time.monotonic())
            self._entries.move_to_end(key)
            held: list[Key] | None = getattr(self._mine, "held", None)
            if held is not None:
                held.append(key)
                self._holds[key] += 1
            self._make_room(0, besides=key)

    def _make_room(self, needed: int, *, besides: Key | None = None) -> None:
        """Gives up the least recently used models, not those held, until `needed` more bytes fit the budget."""
        with self._lock:
            total = sum(entry.bytes for entry in self._entries.values())
            for key in list(self._entries):
                if total + needed <= self.budget:
                    return
                if key == besides or self._holds[key] > 0:
                    continue
                entry = self._entries.pop(key)
                total -= entry.bytes
                self._given_up[key] = entry.model


def bytes_of(model: Any) -> int:
    """Bytes of all tensors in a model: of its networks' parameters and buffers, and of plain ones; each once."""
    sizes: dict[int, int] = {}
    _measure(model, sizes, _DEEPEST)
    return sum(sizes.values())


def _measure(value: Any, sizes: dict[int, int], depth: int) -> None:
    if isinstance(value, nn.Module):
        for tensor in (*value.parameters(), *value.buffers()):
            _measure(tensor, sizes, depth)
    elif isinstance(value, Tensor):
        # A parameter mapped from a file is a part of one large storage: its own size counts.
        sizes[value.data_ptr()] = max(sizes.get(value.data_ptr(), 0), value.numel() * value.element_size())
    elif depth > 0 and isinstance(value, Mapping):
        for inner in value.values():
            _measure(inner, sizes, depth - 1)
    elif depth > 0 and is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            _measure(getattr(value, field.name), sizes, depth - 1)
