"""What a person may choose in the lab. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from engine.settings import SettingsError
from engine.system.fields import FieldError, list_of, number, one_of, table, whole

DRAWING = "drawing"
TARGETS = ("swiss roll", "25 Gaussians", "two moons", DRAWING)
GENERATORS = ("none", "trained")
SAMPLERS = (
    "KRR", "KRR smoothed", "KDE", "Stein", "DOT", "DDLS", "DGflow", "SVGD", "SIR", "DRS", "MH", "plain",
)  # fmt: skip
CHOOSING = ("SIR", "DRS", "MH")  # particles take other places, and move to none
OURS = ("KRR", "KRR smoothed", "KDE", "Stein")

# Closed ranges, for the page's sliders too.
LIMITS: Mapping[str, tuple[float, float]] = {
    "n": (2, 1000),
    "seed": (0, 2**31 - 1),
    "steps": (10, 500),
    "step": (0.05, 20.0),
    "repulsion": (0.0, 2.0),
    "attraction": (0.0, 2.0),
    "condition": (0.0, 2.0),
    "eta": (1e-3, 10.0),
    "bandwidth": (3e-3, 3.0),
    "mollifier": (0.0, 5.0),
    "noise": (0.0, 1.0),
}
WHOLE = ("n", "seed", "steps")
MOST_LINES, MOST_POINTS = 64, 256  # of a drawing, and of a line
EDGE = 2.4  # the plane that is shown: [-EDGE, EDGE] both ways

# Which samplers a choice acts on, where not on all.
ACTS_ON: Mapping[str, tuple[str, ...]] = {
    "step": (*OURS, "DOT", "DDLS", "DGflow", "SVGD"),
    "repulsion": OURS,
    "attraction": OURS,
    "condition": OURS,
    "eta": ("KRR", "KRR smoothed", "Stein"),
    "bandwidth": OURS,
    "mollifier": ("KRR smoothed",),
    "noise": (*OURS, "DGflow"),
}

_COORDINATE = number(-EDGE, EDGE)
_READ = table(
    {
        "target": one_of(TARGETS),
        "strokes": list_of(list_of(list_of(_COORDINATE, 2, 2), 1, MOST_POINTS), 0, MOST_LINES),
        "generator": one_of(GENERATORS),
        "sampler": one_of(SAMPLERS),
        **{name: (whole(int(low), int(high)) if name in WHOLE else number(low, high))
           for name, (low, high) in LIMITS.items()},
    }
)  # fmt: skip


@dataclass(frozen=True)
class LabSettings:
    """One side of the lab. A drawing has strokes, lines of places (x, y), and no trained generator."""

    target: str = "swiss roll"
    strokes: tuple[tuple[tuple[float, float], ...], ...] = ()
    generator: str = "none"
    sampler: str = "KRR"
    n: int = 256
    seed: int = 1
    steps: int = 200
    step: float = 1.0  # in the sampler's usual step size
    repulsion: float = 1.0
    attraction: float = 1.0
    condition: float = 0.0
    eta: float = 0.1
    bandwidth: float = 0.05
    mollifier: float = 1.0
    noise: float = 0.0

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Of what a page sends, which may be anything. Raises SettingsError, which says what was wrong."""
        try:
            chosen = _READ(values, "")
        except FieldError as error:
            raise SettingsError(f"{str(error)[:1].upper()}{str(error)[1:]}.") from error
        strokes = tuple(tuple((x, y) for x, y in line) for line in chosen.get("strokes", ()))
        found = cls(**{**chosen, "strokes": strokes})
        if found.target == DRAWING and not strokes:
            raise SettingsError("There is no drawing yet. Draw a line on the plane, then press Play.")
        if found.target == DRAWING and found.generator == "trained":
            raise SettingsError("There is no generator of a drawing. Choose None: particles are then points.")
        return found
