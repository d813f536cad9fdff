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
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from engine.families.declaration import SEARCHING
from gmi_ui.models.models import Models, shown_name
from gmi_ui.models.timing import TURN_COST, StepTimes
from gmi_ui.notices import Notice
from gmi_ui.pictures.last_runs import LastRuns
from gmi_ui.pictures.workspace import PictureVersion, Workspace
from gmi_ui.runs import redrawing
from gmi_ui.runs.job import Variation
from gmi_ui.runs.run import OURS, Run
from gmi_ui.runs.steering import STEERED
from gmi_ui.runs.work import Moment, Phase, Side
from gmi_ui.runs.worker import RunQueue
from gmi_ui.sessions import Session

if TYPE_CHECKING:
    from torch import Tensor

    from engine.inference.flow import Step
    from engine.tasks.inversion import Start

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

    def __init__(self, models: Models, queue: RunQueue, last_runs: LastRuns | None = None, kept: int = 8) -> None:
        self._models = models
        self._last_runs = last_runs or LastRuns()
        self._queue = queue
        self._kept = kept
        self._cells: OrderedDict[tuple[int, int], tuple[Step, tuple[str, ...]]] = OrderedDict()
        self._lock = threading.Lock()

    def revision(self, session: Session, run_id: str = "") -> str:
        """Changes whenever `frame` would paint something else."""
        notice = self._notice(session, run_id)
        parts: list[object] = [notice.number if notice else 0, session.workspace.revision]
        parts += [session.arrival.number if session.arrival else 0, session.shown_model, len(session.upcoming)]
        if session.run is None:
            last = self._last_runs.find(session.before, session.tab)
            parts += [len(self._models.gallery), self._models.is_warm, last.number if last else 0]
        for work in session.works:
            parts += [
                work.id,
                work.moment.revision,
                self._queue.place(work),
                self._queue.is_held,
                self._queue.is_wanted,
            ]
        return ".".join(map(str, parts))

    def frame(self, session: Session, run_id: str = "") -> bytes:
        """The newest frame as JSON. `run_id`: the run the page believes to be going on; "" for none."""
        revision = self.revision(session, run_id)
        notice = self._notice(session, run_id)
        content = self._idle(session) if session.run is None else self._of_run(session.run)
        content["live"] = steered(session)
        content["upcoming"] = len(session.upcoming)
        content["revision"] = revision
        content["arrival"] = session.arrival.number if session.arrival else 0
        content["workspace"] = self._workspace(session.workspace)
        content["notice"] = notice and {
            "text": notice.text,
            "kind": notice.kind,
            "number": notice.number,
            "of_controls": notice.of_controls,
        }
        return json.dumps(content, separators=(",", ":")).encode()

    def _notice(self, session: Session, run_id: str) -> Notice | None:
        if session.run is None and session.newest_notice is None:
            return LOST if run_id else self._models.trouble
        return session.newest_notice

    def past_frame(self, run: Run, step: int) -> dict[str, Any]:
        """The sides as they were at an earlier step, by name; only those that kept one."""
        shown = {}
        for name, side in ordered(run):
            drawn = redrawing.step_of(run, name, step)
            at = drawn.particles.step - side.first
            figures = {key: round(values[min(max(at, 0), len(values) - 1)], 4) for key, values in side.curves.items()}
            cells = self._encode(drawn, is_last=True)
            labels = run.tasks[name].labels(drawn)
            told = {
                "scores": scores_of(drawn),
                "fits": fits_of(drawn),
                "labels": labels,
                "figures": figures,
                "step": drawn.step,
                "places": places_of(run, side.kept_at(step).features),
            }
            shown[name] = {"cells": cells, **told}
        return shown

    def _idle(self, session: Session) -> dict[str, Any]:
        is_empty = session.workspace.current is None
        last = self._last_runs.find(session.before, session.tab)
        return {
            "phase": "idle",
            "gallery": [encoded(jpeg) for jpeg in self._models.gallery] if is_empty else [],
            "warming": not self._models.is_warm,
            "last": asdict(last) if last else None,
        }

    def _of_run(self, run: Run) -> dict[str, Any]:
        moment = run.moment
        total = run.total
        rests = moment.phase.is_over or moment.phase is Phase.PAUSED
        return {
            "run": run.id,
            "phase": moment.phase,
            "is_over": moment.phase.is_over,
            "place": self._queue.place(run),
            "held": self._queue.is_held,
            "wanted": self._queue.is_wanted,
            "prompt": ", ".join(filter(None, (getattr(run.settings, "domain", ""), run.settings.prompt))),
            "aim": " ".join(dict.fromkeys(task.aim for task in run.tasks.values() if task.aim)),
            "neutral": getattr(run.settings, "neutral", ""),
            "seed": run.settings.seed,
            "count": run.settings.n,
            "titles": run.titles,
            "figures": [figure._asdict() for figure in run.figures],
            "doing": moment.doing,
            "share": moment.share,
            "goes_on": run.can_go_on,
            "past": past_steps(moment) if rests else [],
            "map": run.plane and {"share": round(run.plane.share, 3)},
            "origin": run.job.origin,
            "marks": marks_in(run),
            "step": moment.step,
            "total": total,
            "stage": stage_of(run),
            "rate": moment.rate,
            "left": seconds_left(run) if run.tasks else seconds_to_begin(run, self._models.step_times),
            "sides": {name: self._side(run, name, side, moment) for name, side in ordered(run)},
        }

    def _side(self, run: Run, name: str, side: Side, moment: Moment) -> dict[str, Any]:
        return {
            "cells": self._encode(side.step, is_last=moment.phase.is_over),
            "scores": scores_of(side.step),
            "fits": fits_of(side.step),
            "labels": run.tasks[name].labels(side.step),
            "seeds": list(side.step.particles.seeds),
            "places": places_of(run, side.step.features),
            "step": side.step.step,
            "total": side.step.total,
            "leads_to": run.job.leads_to(run.tasks[name]),
            "figures": {key: rounded(values[-1:])[0] for key, values in side.curves.items()},
            "curves": {key: curve(values, first=side.first) for key, values in side.curves.items()},
        }

    def _workspace(self, workspace: Workspace) -> dict[str, Any] | None:
        version = workspace.current
        if version is None:
            return None
        return {
            "current": version.number,
            "name": version.text,
            "width": version.picture.width,
            "height": version.picture.height,
            "versions": [{"number": one.number, "text": one.text, "parent": one.parent} for one in workspace.versions],
            "inversion": self._inversion(version),
            "start": start_of(version),
            "told": self._verdict(version),
            "mask": version.mask_number,
            "variations": [[one.share, one.ours, one.baseline] for one in variations_of(version)],
        }

    def _verdict(self, version: PictureVersion) -> str:
        """What a person should know where the model cannot draw the picture; "" where there is nothing to say."""
        work = version.inversion
        start, task = (work.start, work.task) if work else (next(reversed(version.starts.values()), None), "edit")
        if start is None or start.in_domain is not False:
            return ""
        from engine.tasks.offers import out_of_domain

        model = work.model if work else next(reversed(version.starts))
        return out_of_domain(task, model, self._models.names(task=task))

    def _inversion(self, version: PictureVersion) -> dict[str, Any] | None:
        """How far the search for the picture is; None where none was needed."""
        work = version.inversion
        if work is None:
            return None
        start = work.start
        return {
            "id": work.id,
            "phase": work.moment.phase,
            "is_over": work.is_over,
            "place": self._queue.place(work),
            "step": start.step if start else 0,
            "total": start.total if start else 0,
            "doing": work.moment.doing,
            "share": work.moment.share,
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


def steered(session: Session) -> list[str]:
    """The settings fields whose controls the run follows while it goes on: none of another model's."""
    run = session.run
    if run is None or run.is_over or session.shown_model not in (None, run.settings.model):
        return []
    return list(STEERED)


def cells(step: "Step", max_side: int) -> tuple[str, ...]:
    """Every picture of the step as a base64 JPEG of at most `max_side` pixels a side.

    Reduced before anything else: converting 16 pictures of 512 px took longer than encoding them.
    """
    from torch.nn.functional import interpolate

    from engine.pictures import imaging

    images = step.pictures
    scale = max_side / max(images.shape[-2:])
    if scale < 1:
        images = interpolate(images, scale_factor=scale, mode="area")
    return tuple(encoded(imaging.to_jpeg(image, max_side=max_side)) for image in imaging.to_uint8(images))


def marks_in(run: Run) -> list[list[str]] | None:
    """The names of the marks on each of our pictures; None where there is nothing to mark."""
    if not run.job.has_marks or OURS not in run.moment.sides:
        return None
    marks = run.marks
    return [sorted(marks.get(place, ())) for place in range(run.settings.n)]


def preview_side(count: int) -> int:
    """The cell side at which `count` pictures keep to PREVIEW_PIXELS."""
    return max(64, min(FULL_SIDE, int((PREVIEW_PIXELS / (2 * count)) ** 0.5)))


def start_of(version: PictureVersion) -> dict[str, Any] | None:
    """The picture as a model draws it, beside its distance to the picture; the newest that is known."""
    start: Start | None = next(reversed(version.starts.values()), None)
    if start is None:
        return None
    from engine.pictures import imaging

    return {
        "cell": encoded(imaging.to_jpeg(imaging.to_uint8(start.image)[0], max_side=256, quality=90)),
        "distance": round(float(start.distance), 4),
    }


def variations_of(version: PictureVersion) -> list[Variation]:
    """Of the finished runs of this picture, and of the newest one."""
    newest = version.run and version.run.job.variation(version.run.moment)
    return [*version.variations, *([newest] if newest else [])]


def scores_of(step: "Step") -> list[float] | None:
    """One for each picture; None where there is no text to fit."""
    return None if step.text_scores is None else rounded(step.text_scores.tolist())


def fits_of(step: "Step") -> list[float] | None:
    """The share of random captions that fit each picture worse than its prompt: of two prompt models they compare."""
    return None if step.fits is None else rounded(step.fits.tolist())


def places_of(run: Run, features: "Tensor | None") -> list[list[float]] | None:
    """Where pictures lie on the run's map; None where it has none."""
    if run.plane is None or features is None:
        return None
    return [[round(x, 4), round(y, 4)] for x, y in run.plane.places(features).tolist()]


def seconds_left(run: Run) -> float | None:
    """By the speed of the last steps; before there are any, by what was foretold."""
    moment = run.moment
    stage = stage_of(run)
    is_turn = stage is not None and stage["number"] == 2
    foretold = run.step_seconds and run.step_seconds * (run.turn_cost if is_turn else 1)
    seconds = 1 / moment.rate if moment.rate else foretold
    if seconds is None or moment.phase.is_over:
        return None
    return (steps_left(moment.step, run.total, stage, run.turn_cost) + run.ending_cost) * seconds


def seconds_to_begin(run: Run, times: StepTimes) -> float | None:
    """Of a run that waits or is prepared, as far as is known: what is prepared, the search for starts, the steps."""
    moment = run.moment
    if not run.begins_anew:
        return moment.left
    search, steps = times.search(run.settings), times.whole(run.settings)
    if moment.doing == SEARCHING and moment.left is not None:
        search = moment.left
    known = [search, steps, None if moment.doing == SEARCHING else moment.left]
    told = [seconds for seconds in known if seconds is not None]
    return None if moment.phase.is_over or not sum(told) else sum(told)


def steps_left(step: int, total: int, stage: Mapping[str, Any] | None, turn_cost: float = TURN_COST) -> float:
    """How many steps like the last ones are still to come, by their cost."""
    turns = 0.0 if stage is None or stage["number"] == 2 else (1 - stage["begins"]) * total
    return total - step + (turn_cost - 1) * turns


def stage_of(run: Run) -> dict[str, Any] | None:
    """The stage of the first side that has two, as a share of the whole run; of two models it says which."""
    for name, side in ordered(run):
        stage = run.tasks[name].stage(side.step)
        if stage is not None:
            text = f"{stage.text} ({shown_name(run.settings_of(name).model)})" if run.other else stage.text
            return stage._replace(text=text, begins=stage.begins * side.step.total / run.total)._asdict()
    return None


def past_steps(moment: Moment) -> list[int]:
    """The steps whose pictures can be drawn again."""
    return sorted({kept.step for side in moment.sides.values() for kept in side.kept})


def curve(values: Sequence[float], points: int = CURVE_POINTS, *, first: int = 0) -> list[tuple[int, float]]:
    """(step, value) pairs from step `first` on, thinned evenly to at most `points`, both ends kept."""
    last = len(values) - 1
    steps = range(last + 1) if last < points else sorted({round(i * last / (points - 1)) for i in range(points)})
    return [(first + step, round(values[step], 4)) for step in steps]


def rounded(values: Sequence[float]) -> list[float]:
    """To four places: a score's noise is larger."""
    return [round(value, 4) for value in values]


def encoded(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()


def ordered(run: Run) -> list[tuple[str, Side]]:
    """The sides that have something to show, ours first."""
    sides = run.moment.sides
    return [(name, sides[name]) for name in run.titles if name in sides]
