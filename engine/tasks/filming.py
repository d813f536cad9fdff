"""A run as a video: its pictures drawn again from the particles that were kept of its steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.inference.flow import Particles, Step
from engine.pictures import imaging
from engine.pictures.film import Curve, Film, FilmSide
from engine.pictures.png_files import Pixels
from engine.system.files import Watch
from engine.tasks.task import Task, redrawn

DRAWING = "Drawing the video"


@dataclass(frozen=True, eq=False)
class Filmed:
    """What a video needs of a side. kept: particles of its steps in order, the newest step's last."""

    title: str
    task: Task
    newest: Step
    kept: Sequence[Particles]
    curves: Sequence[Curve] = ()

    def kept_at(self, step: int) -> Particles:
        """Those of the newest kept step that is not after `step`, the first where there is none."""
        return max((one for one in self.kept if one.step <= step), key=lambda one: one.step, default=self.kept[0])

    def pictures(self, particles: Particles) -> Pixels:
        """[N, H, W, 3] of a kept step, as a person sees them."""
        if particles is self.newest.particles:
            return imaging.to_uint8(self.newest.pictures)
        return imaging.to_uint8(redrawn(self.task, self.newest, particles).pictures)


def frames(
    sides: Sequence[Filmed], *, only: int | None = None, words: str = "", watch: Watch | None = None
) -> Iterator[Pixels]:
    """One frame [H, W, 3] of every kept step, the sides beside each other; a side without that step shows an earlier.

    only: the one picture that is shown, by its index; None: all. words: what is said at the bottom. watch: told the
    share that is done before every frame; may raise to end it.
    """
    steps = sorted({one.step for side in sides for one in side.kept})
    film: Film | None = None
    shown: list[tuple[Particles, Pixels]] = []
    for number, step in enumerate(steps):
        if watch is not None:
            watch(DRAWING, number / len(steps))
        shown = [_drawn(side, step, shown[i] if shown else None, only) for i, side in enumerate(sides)]
        pictures = [pixels for _, pixels in shown]
        film = film or _film_of(sides, pictures, words)
        yield film.draw(pictures, step)


def _drawn(
    side: Filmed, step: int, before: tuple[Particles, Pixels] | None, only: int | None
) -> tuple[Particles, Pixels]:
    """The particles of a side at a step, and its pictures; those of the frame before where nothing moved."""
    particles = side.kept_at(step)
    if before is not None and before[0] is particles:
        return before
    pixels = side.pictures(particles)
    return particles, pixels if only is None else pixels[only : only + 1]


def _film_of(sides: Sequence[Filmed], pictures: Sequence[Pixels], words: str) -> Film:
    """The layout, by the pictures of the first frame."""
    height, width = max((shown.shape[1:3] for shown in pictures), key=max)
    return Film(
        [FilmSide(side.title, side.curves) for side in sides],
        max(map(len, pictures)),
        (width, height),
        max(side.newest.total for side in sides),
        words,
    )
