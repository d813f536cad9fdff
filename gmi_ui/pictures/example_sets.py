"""Pictures that runs go towards, are like or unlike: the newest sets, by the hash that settings name them by."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gmi_ui.notices import NotPossibleError

if TYPE_CHECKING:
    from engine.pictures.examples import Examples
    from engine.pictures.picture_files import Picture
    from engine.tasks.towards import SeenFeatures, Shown

MOST_SETS = 8  # of at most 60 MB each
MOST_SEEN = 512  # pictures of which the features are kept: 1 MB at 512 numbers each, and 10 ms of algebra a step


class ExampleSets:
    """Kept while the studio runs. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._sets: OrderedDict[str, Shown] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, examples: "Shown") -> None:
        """Keeps a set; the one unused for longest goes when they become too many."""
        with self._lock:
            self._sets[examples.sha256] = examples
            self._sets.move_to_end(examples.sha256)
            while len(self._sets) > MOST_SETS:
                self._sets.popitem(last=False)

    def find(self, sha256: str) -> "Shown | None":
        with self._lock:
            if sha256 in self._sets:
                self._sets.move_to_end(sha256)
            return self._sets.get(sha256)

    def pictures(self, sha256: str) -> "Examples | None":
        """The set, if it is one of pictures."""
        from engine.pictures.examples import Examples

        found = self.find(sha256)
        return found if isinstance(found, Examples) else None

    def more(self, sha256: str, pictures: "Sequence[Picture]", seen: "SeenFeatures | None" = None) -> "Shown":
        """A set and these pictures, of which `seen` are the features if they are known, as a new set, which is kept.

        Raises NotPossibleError where they are too many, or another prompt model saw what is kept of the set.
        """
        from engine.pictures.examples import MOST_EXAMPLES, examples_of
        from engine.tasks.towards import SeenFeatures

        earlier = self.find(sha256)
        if isinstance(earlier, SeenFeatures):
            if seen is None:
                raise NotPossibleError(
                    "Those of the session are kept without the pictures themselves, and cannot be joined with files. "
                    "Press “Forget them” first."
                )
            return self.joined([earlier, seen])
        examples = examples_of([*(earlier.pictures if earlier else ()), *pictures])
        if len(examples) > MOST_EXAMPLES:
            raise NotPossibleError(
                f"That would be {len(examples)} pictures to go by; {MOST_EXAMPLES} are the most. Press “Forget "
                "them”, then go on from here."
            )
        self.add(examples)
        return examples

    def joined(self, parts: "Sequence[SeenFeatures]") -> "SeenFeatures":
        """The newest MOST_SEEN of what one prompt model saw, each once, as a set, which is kept.

        Raises NotPossibleError where several models saw it.
        """
        import torch

        from engine.tasks.towards import SeenFeatures

        if len({part.prompt_model for part in parts}) != 1:
            raise NotPossibleError(
                "Earlier pictures were seen by another prompt model. Choose that one again, or press “Forget them”."
            )
        rows = {row.numpy().tobytes(): row for part in parts for row in part.features.cpu()}
        newest = SeenFeatures(torch.stack(list(rows.values())[-MOST_SEEN:]), parts[0].prompt_model)
        self.add(newest)
        return newest

    def count(self, sha256: str) -> int | None:
        """How many pictures a set has; None for one that is not here."""
        examples = self.find(sha256)
        return None if examples is None else len(examples)
