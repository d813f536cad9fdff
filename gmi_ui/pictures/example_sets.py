"""Pictures that people gave to go towards: the newest sets, by the hash that settings name them by."""

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.pictures.examples import Examples

MOST_SETS = 8  # of at most 60 MB each


class ExampleSets:
    """Kept while the studio runs. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._sets: OrderedDict[str, Examples] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, examples: "Examples") -> None:
        """Keeps a set; the one unused for longest goes when they become too many."""
        with self._lock:
            self._sets[examples.sha256] = examples
            self._sets.move_to_end(examples.sha256)
            while len(self._sets) > MOST_SETS:
                self._sets.popitem(last=False)

    def find(self, sha256: str) -> "Examples | None":
        with self._lock:
            if sha256 in self._sets:
                self._sets.move_to_end(sha256)
            return self._sets.get(sha256)

    def count(self, sha256: str) -> int | None:
        """How many pictures a set has; None for one that is not here."""
        examples = self.find(sha256)
        return None if examples is None else len(examples)
