"""The picture that a tab works on, and all that led to it: opened pictures, results that were gone on from.

Each is a `PictureVersion`. Versions are only added, so whatever was made can be returned to; the oldest go first when
they become too many. All workspaces of the studio share one `Room`: pictures of pages that were closed make place for
those of pages that are looked at.
"""

import base64
import io
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from gmi_ui.notices import Notice, NotPossibleError

if TYPE_CHECKING:
    from engine.pictures.picture_files import Picture
    from gmi_ui.runs.inversion import Inversion
    from gmi_ui.runs.job import Variation
    from gmi_ui.runs.run import Run

MOST_VERSIONS = 24
MOST_PIXELS = 200_000_000  # of all versions' pictures together, in all tabs; three bytes each
CLOSED_AFTER = 900.0  # seconds without a sign of a page: then even the picture that it worked on may go
SHOWN_SIDE = 1600  # pixels of the longer side of a picture on the page
THUMBNAIL_SIDE = 112
GIVEN_UP = (
    "The pictures opened in this tab were given up while the page was not looked at: other pages needed the room. Open "
    "the picture again."
)


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
    made_from: str = ""  # the sha256 of the saved picture that it is
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

    @property
    def pixels(self) -> int:
        """How much it takes of a room: as many pixels of three bytes as its picture."""
        transparency = self.picture.transparency
        kept = [self.picture.pixels, *((transparency.colours, transparency.alpha) if transparency else ())]
        return sum(array.nbytes for array in kept) // 3

    @property
    def is_worked_on(self) -> bool:
        return self.is_being_found or (self.run is not None and not self.run.is_over)


class Room:
    """What the workspaces of one studio may keep together."""

    def __init__(self) -> None:
        self._workspaces: WeakSet[Workspace] = WeakSet()
        self._lock = threading.Lock()

    def enter(self, workspace: "Workspace") -> None:
        with self._lock:
            self._workspaces.add(workspace)

    def make_place(self, besides: "Workspace") -> None:
        """Forgets pictures until all take at most MOST_PIXELS: first those that were worked on before, then all of
        pages that are closed; each time of the page unseen for longest. Never what `besides` works on.
        """
        with self._lock:
            others = sorted((one for one in self._workspaces if one is not besides), key=lambda one: -one.unseen_for)
            spare = sum(one.pixels for one in (*others, besides)) - MOST_PIXELS
            for workspace in (*others, besides):
                spare -= workspace.forget_earlier(spare)
            for workspace in others:
                if spare > 0 and workspace.unseen_for > CLOSED_AFTER:
                    spare -= workspace.forget_all()


class Workspace:
    """The versions of one tab of the page. Every method may be called from any thread."""

    def __init__(self, room: Room | None = None) -> None:
        self._room = room or Room()
        self._seen = time.monotonic()
        self._versions: list[PictureVersion] = []
        self._current: PictureVersion | None = None
        self._numbers = 0
        self._revision = 0
        self.notice: Notice | None = None  # that its pictures were given up
        self._lock = threading.Lock()
        self._room.enter(self)

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
            self._current, self.notice = version, None
            while len(self._versions) > MOST_VERSIONS:
                self._versions.remove(self._earlier[0])
            self._revision += 1
        self._room.make_place(self)
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

    @property
    def _earlier(self) -> list[PictureVersion]:
        return [version for version in self._versions if version is not self._current]

    # --- for the room

    def seen(self) -> None:
        """A page looked at it just now."""
        self._seen = time.monotonic()

    @property
    def unseen_for(self) -> float:
        """Seconds since a page last looked."""
        return time.monotonic() - self._seen

    @property
    def pixels(self) -> int:
        return sum(version.pixels for version in self.versions)

    def forget_earlier(self, pixels: int) -> int:
        """Gives up the oldest versions that are not worked on until so many pixels are free; how many are."""
        free = 0
        with self._lock:
            for version in self._earlier:
                if free < pixels and not version.is_worked_on:
                    self._versions.remove(version)
                    self._revision += 1
                    free += version.pixels
        return free

    def forget_all(self) -> int:
        """Gives up every version, unless a run or a search goes on; how many pixels are free then."""
        with self._lock:
            if any(version.is_worked_on for version in self._versions):
                return 0
            free = self.pixels
            if self._versions:
                self.notice = Notice(GIVEN_UP, "warning")
            self._versions, self._current = [], None
            self._revision += 1
            return free


def picture_jpeg(picture: "Picture", max_side: int) -> str:
    """Base64 of a JPEG with the picture's colour profile, reduced to `max_side`; base64 is what a page can paint."""
    from PIL import Image

    image = Image.fromarray(picture.pixels)
    image.thumbnail((max_side, max_side), reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, icc_profile=picture.icc_profile)
    return base64.b64encode(buffer.getvalue()).decode()
