"""What a page paints: one JSON object per frame, made when a page asks for it.

Pages pull: each asks for the newest frame when it has painted the last one, at most ten times a second. A
page on a slow line so gets fewer frames, never old ones, and a reload only has to ask again. (Pushing frames
through gradio's event stream queues them without limit for a client that cannot keep up.)
"""

import base64
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gmi_ui.models import Models
from gmi_ui.notices import Notice
from gmi_ui.runs import OURS, Moment, Run, Side
from gmi_ui.sessions import Session
from gmi_ui.worker import RunQueue

if TYPE_CHECKING:
    from engine.flow import Step

FULL_SIDE = 512  # pixels of a cell's longer side at the end of a run
PREVIEW_PIXELS = 16 * 256**2  # of all cells together while it goes on: 100-200 KB of JPEG a frame
CURVE_POINTS = 160
LOST = Notice(
    "The studio was restarted while a run was going on, and that run is gone. Check the settings and press "
    "Run to make it again.",
    "warning",
)


class Painter:
    """Makes frames; keeps the encoded cells of the newest steps, which several pages may ask for."""

    def __init__(self, models: Models, queue: RunQueue, kept: int = 8) -> None:
        self._models = models
        self._queue = queue
        self._kept = kept
        self._cells: OrderedDict[tuple[int, int], tuple[Step, tuple[str, ...]]] = OrderedDict()
        self._lock = threading.Lock()

    def version(self, session: Session, run_id: str = "") -> str:
        """Changes whenever `frame` would paint something else."""
        notice = self._notice(session, run_id)
        parts = [str(notice.number if notice else 0)]
        if session.run is None:
            parts += [str(len(self._models.gallery)), str(self._models.is_warm)]
        else:
            parts += [session.run.id, str(session.run.moment.version), str(self._queue.place(session.run))]
            parts.append(str(self._queue.is_held))
        return ".".join(parts)

    def frame(self, session: Session, run_id: str = "") -> bytes:
        """The newest frame as JSON. `run_id`: the run the page believes to be going on; "" for none."""
        version = self.version(session, run_id)
        notice = self._notice(session, run_id)
        content = self._idle() if session.run is None else self._of_run(session.run)
        content["version"] = version
        content["notice"] = notice and {"text": notice.text, "kind": notice.kind, "number": notice.number}
        return json.dumps(content, separators=(",", ":")).encode()

    def _notice(self, session: Session, run_id: str) -> Notice | None:
        if session.run is None and session.notice is None:
            return LOST if run_id else self._models.trouble
        return session.newest_notice

    def _idle(self) -> dict[str, Any]:
        return {
            "phase": "idle",
            "gallery": [encoded(jpeg) for jpeg in self._models.gallery],
            "warming": not self._models.is_warm,
        }

    def _of_run(self, run: Run) -> dict[str, Any]:
        moment = run.moment
        total = run.settings.flow.steps
        return {
            "run": run.id,
            "phase": moment.phase,
            "is_over": moment.phase.is_over,
            "place": self._queue.place(run),
            "held": self._queue.is_held,
            "prompt": run.settings.prompt,
            "seed": run.settings.seed,
            "count": run.settings.n,
            "expected": ["ours", "baseline"] if run.settings.baseline else ["ours"],
            "step": moment.step,
            "total": total,
            "rate": moment.rate,
            "left": (total - moment.step) / moment.rate if moment.rate and not moment.phase.is_over else None,
            "sides": {name: self._side(side, moment) for name, side in ordered(moment.sides)},
        }

    def _side(self, side: Side, moment: Moment) -> dict[str, Any]:
        return {
            "cells": self._encode(side.step, is_last=moment.phase.is_over),
            "scores": rounded(side.step.text_scores.tolist()),
            "seeds": list(side.step.particles.seeds),
            "text": rounded(side.text[-1:])[0],
            "diversity": rounded(side.diversity[-1:])[0],
            "curves": {"text": curve(side.text), "diversity": curve(side.diversity)},
        }

    def _encode(self, step: "Step", *, is_last: bool) -> Sequence[str]:
        """The step's pictures as base64 JPEGs; small enough to stream while the run goes on."""
        side = FULL_SIDE if is_last else preview_side(len(step.images))
        key = (id(step), side)
        with self._lock:
            if key not in self._cells:
                self._cells[key] = (step, cells(step, side))  # holding the step keeps its id its own
                while len(self._cells) > self._kept:
                    self._cells.popitem(last=False)
            self._cells.move_to_end(key)
            return self._cells[key][1]


def cells(step: "Step", max_side: int) -> tuple[str, ...]:
    """Every picture of the step as a base64 JPEG of at most `max_side` pixels a side.

    Reduced before anything else: converting 16 pictures of 512 px took longer than encoding them.
    """
    from torch.nn.functional import interpolate

    from engine import imaging

    images = step.images
    scale = max_side / max(images.shape[-2:])
    if scale < 1:
        images = interpolate(images, scale_factor=scale, mode="area")
    return tuple(encoded(imaging.to_jpeg(image, max_side=max_side)) for image in imaging.to_uint8(images))


def preview_side(count: int) -> int:
    """The cell side at which `count` pictures keep to PREVIEW_PIXELS."""
    return max(64, min(FULL_SIDE, int((PREVIEW_PIXELS / (2 * count)) ** 0.5)))


def curve(values: Sequence[float], points: int = CURVE_POINTS) -> list[tuple[int, float]]:
    """(step, value) pairs, thinned evenly to at most `points`, both ends kept."""
    last = len(values) - 1
    steps = range(last + 1) if last < points else sorted({round(i * last / (points - 1)) for i in range(points)})
    return [(step, round(values[step], 4)) for step in steps]


def rounded(values: Sequence[float]) -> list[float]:
    """To four places: a score's noise is larger."""
    return [round(value, 4) for value in values]


def encoded(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()


def ordered(sides: Mapping[str, Side]) -> list[tuple[str, Side]]:
    """Ours first."""
    return sorted(sides.items(), key=lambda item: item[0] != OURS)
