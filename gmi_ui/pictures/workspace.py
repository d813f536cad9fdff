"""The picture that a tab works on, and all that led to it: opened pictures, results that were gone on from.

Each is a `Link`. Links are only added, so whatever was made can be returned to; the oldest go first when they
become too many.
"""

import base64
import io
import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gmi_ui.notices import NotPossibleError

if TYPE_CHECKING:
    from engine.pictures.picture_files import Picture
    from gmi_ui.runs.inversion import Inversion
    from gmi_ui.runs.job import Variation
    from gmi_ui.runs.run import Run

MOST_LINKS = 24
MOST_PIXELS = 200_000_000  # of all links' pictures together
SHOWN_SIDE = 1600  # pixels of the longer side of a picture on the page
THUMBNAIL_SIDE = 112


@dataclass(eq=False)
class Link:
    """A picture that runs begin at. starts: where it lies in each model's latent space, as far as known."""

    number: int
    text: str  # what led to it: a file's name, or the words of an edit
    picture: "Picture"
    parent: int | None = None
    starts: dict[str, Any] = field(default_factory=dict)
    inversion: "Inversion | None" = None
    run: "Run | None" = None  # the newest run from here
    mask: bytes | None = None  # PNG, white is repainted; not necessarily of the picture's size
    mask_number: int = 0  # rises when the mask came from elsewhere than the page's own brush
    variations: "list[Variation]" = field(default_factory=list)

    @cached_property
    def shown(self) -> str:
        """The picture as base64 JPEG for the page."""
        return picture_jpeg(self.picture, SHOWN_SIDE)

    @cached_property
    def thumbnail(self) -> str:
        return picture_jpeg(self.picture, THUMBNAIL_SIDE)

    @property
    def is_being_found(self) -> bool:
        return self.inversion is not None and not self.inversion.is_over


class Easel:
    """The links of one tab of the page. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._links: list[Link] = []
        self._current: Link | None = None
        self._numbers = 0
        self._version = 0
        self._lock = threading.Lock()

    @property
    def current(self) -> Link | None:
        return self._current

    @property
    def links(self) -> tuple[Link, ...]:
        """In the order in which they were made."""
        return tuple(self._links)

    @property
    def version(self) -> int:
        """Rises with every change."""
        return self._version

    def add(self, picture: "Picture", text: str, *, parent: Link | None = None, **known: Any) -> Link:
        """A new link, which becomes the current one."""
        with self._lock:
            self._numbers += 1
            link = Link(self._numbers, text, picture, parent.number if parent else None, **known)
            self._links.append(link)
            self._current = link
            self._forget()
            self._version += 1
            return link

    def adopt(self, run: "Run") -> None:
        """A run was begun at one of the pictures. Raises NotPossibleError if that is gone."""
        assert run.job.origin is not None
        with self._lock:
            link = self._find(run.job.origin)
            if link.run is not None and (shown := link.run.job.variation(link.run.moment)) is not None:
                link.variations.append(shown)
            link.run = run

    def go_to(self, number: int) -> Link:
        """Makes an earlier link the current one. Raises NotPossibleError if it is gone."""
        with self._lock:
            link = self._find(number)
            self._current = link
            self._version += 1
            return link

    def find(self, number: int) -> Link:
        """Raises NotPossibleError if the link is gone."""
        with self._lock:
            return self._find(number)

    def touch(self) -> None:
        """Says that a link changed."""
        with self._lock:
            self._version += 1

    def _find(self, number: int) -> Link:
        for link in self._links:
            if link.number == number:
                return link
        raise NotPossibleError("That picture is not there any more. Open it again.")

    def _forget(self) -> None:
        while len(self._links) > MOST_LINKS or (
            len(self._links) > 1 and sum(link.picture.pixels[..., 0].size for link in self._links) > MOST_PIXELS
        ):
            self._links.remove(next(link for link in self._links if link is not self._current))


def picture_jpeg(picture: "Picture", max_side: int) -> str:
    """Base64 of a JPEG with the picture's colour profile, reduced to `max_side`; base64 is what a page can paint."""
    from PIL import Image

    image = Image.fromarray(picture.pixels)
    image.thumbnail((max_side, max_side), reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, icc_profile=picture.icc_profile)
    return base64.b64encode(buffer.getvalue()).decode()
