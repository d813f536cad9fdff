"""The picture that a tab works on, and all that led to it: opened pictures, results that were gone on from.

Each is a `PictureVersion`. Versions are only added, so whatever was made can be returned to; the oldest go first when
they become too many.
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

MOST_VERSIONS = 24
MOST_PIXELS = 200_000_000  # of all versions' pictures together
SHOWN_SIDE = 1600  # pixels of the longer side of a picture on the page
THUMBNAIL_SIDE = 112


@dataclass(eq=False)
class PictureVersion:
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


class Workspace:
    """The versions of one tab of the page. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._versions: list[PictureVersion] = []
        self._current: PictureVersion | None = None
        self._numbers = 0
        self._revision = 0
        self._lock = threading.Lock()

    @property
    def current(self) -> PictureVersion | None:
        return self._current

    @property
    def versions(self) -> tuple[PictureVersion, ...]:
        """In the order in which they were made."""
        return tuple(self._versions)

    @property
    def revision(self) -> int:
        """Rises with every change."""
        return self._revision

    def add(
        self, picture: "Picture", text: str, *, parent: PictureVersion | None = None, **known: Any
    ) -> PictureVersion:
        """A new version, which becomes the current one."""
        with self._lock:
            self._numbers += 1
            version = PictureVersion(self._numbers, text, picture, parent.number if parent else None, **known)
            self._versions.append(version)
            self._current = version
            self._forget()
            self._revision += 1
            return version

    def adopt(self, run: "Run") -> None:
        """A run was begun at one of the pictures. Raises NotPossibleError if that is gone."""
        assert run.job.origin is not None
        with self._lock:
            version = self._find(run.job.origin)
            if version.run is not None and (shown := version.run.job.variation(version.run.moment)) is not None:
                version.variations.append(shown)
            version.run = run

    def go_to(self, number: int) -> PictureVersion:
        """Makes an earlier version the current one. Raises NotPossibleError if it is gone."""
        with self._lock:
            version = self._find(number)
            self._current = version
            self._revision += 1
            return version

    def find(self, number: int) -> PictureVersion:
        """Raises NotPossibleError if the version is gone."""
        with self._lock:
            return self._find(number)

    def touch(self) -> None:
        """Says that a version changed."""
        with self._lock:
            self._revision += 1

    def _find(self, number: int) -> PictureVersion:
        for version in self._versions:
            if version.number == number:
                return version
        raise NotPossibleError("That picture is not there any more. Open it again.")

    def _forget(self) -> None:
        while len(self._versions) > MOST_VERSIONS or (
            len(self._versions) > 1
            and sum(version.picture.pixels[..., 0].size for version in self._versions) > MOST_PIXELS
        ):
            self._versions.remove(next(version for version in self._versions if version is not self._current))


def picture_jpeg(picture: "Picture", max_side: int) -> str:
    """Base64 of a JPEG with the picture's colour profile, reduced to `max_side`; base64 is what a page can paint."""
    from PIL import Image

    image = Image.fromarray(picture.pixels)
    image.thumbnail((max_side, max_side), reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, icc_profile=picture.icc_profile)
    return base64.b64encode(buffer.getvalue()).decode()
