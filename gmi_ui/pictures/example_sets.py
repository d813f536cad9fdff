"""Pictures that runs go towards or keep away from: the newest sets, by the hash that settings name them by."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gmi_ui.notices import NotPossibleError

if TYPE_CHECKING:
    from engine.pictures.examples import Examples
    from engine.pictures.picture_files import Picture

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

    def more(self, sha256: str, pictures: "Sequence[Picture]") -> "Examples":
        """A set and these pictures as a new set, which is kept. Raises NotPossibleError where they are too many."""
        from engine.pictures.examples import MOST_EXAMPLES, examples_of

        earlier = self.find(sha256)
        examples = examples_of([*(earlier.pictures if earlier else ()), *pictures])
        if len(examples) > MOST_EXAMPLES:
            raise NotPossibleError(
                f"That would be {len(examples)} pictures to be unlike; {MOST_EXAMPLES} are the most. Press “Forget "
                "them”, then go on from here."
            )
        self.add(examples)
        return examples

    def count(self, sha256: str) -> int | None:
        """How many pictures a set has; None for one that is not here."""
        examples = self.find(sha256)
        return None if examples is None else len(examples)
