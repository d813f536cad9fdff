"""A run, told to a program while it goes on: where it stands, its pictures now and then, and all of it at the end."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeAlias

import gradio as gr

from gmi_ui.api.asking import whole_number
from gmi_ui.api.calls import Call
from gmi_ui.api.uploads import SERVED
from gmi_ui.notices import explain
from gmi_ui.pictures.saving import Pictures, report_of, side_report
from gmi_ui.runs.run import OURS, Run
from gmi_ui.runs.work import Moment, Phase, Side
from gmi_ui.services import Services

File: TypeAlias = dict[str, Any]  # as gradio's clients know a file
Told: TypeAlias = tuple[list[File], dict[str, Any]]  # files, and a report

LOOK_EVERY = 0.05  # seconds
TELL_EVERY = 2.0  # seconds after which is told again what has not changed: so it shows whether anybody still listens
NOTHING_MADE = "The run was stopped before it had pictures."


async def answer(services: Services, pictures: Pictures, call: Call) -> AsyncGenerator[Told, None]:
    """Queues a call's run and tells of it until its end; stops it where nobody listens any more. pictures: where they
    are saved.

    Raises gradio.Error with a sentence for a person where there can be no run, or where it fails.
    """
    try:
        every = whole_number(call.pictures_every, "pictures_every")
        run = await asyncio.to_thread(call.run, services)
        async with aclosing(follow(services, pictures, run, every)) as followed:
            async for told in followed:
                yield told
    except gr.Error:
        raise
    except Exception as error:  # anything can be inside a file; what nobody foresaw is logged
        raise refused(explain(error).text) from error


def refused(text: str) -> gr.Error:
    """An error that a program reads, and the terminal does not show."""
    return gr.Error(text, print_exception=False)


async def follow(services: Services, pictures: Pictures, run: Run, every: int) -> AsyncGenerator[Told, None]:
    """Carries out a run that no tab shows. Raises as `answer`."""
    told: dict[str, Any] = {}
    told_at, due = 0.0, every
    files: list[File]
    services.start_apart(run)
    try:
        while not run.is_over:
            run.seen()
            moment, files = run.moment, []  # a program fetches whatever files it is told of, each time
            if every and moment.step >= due and OURS in moment.sides:
                due = moment.step - moment.step % every + every
                files = await asyncio.to_thread(saved, pictures, run, moment)
            report = progress(services, run, moment)
            if files or report != told or time.monotonic() - told_at >= TELL_EVERY:
                told, told_at = report, time.monotonic()
                yield files, told
            await asyncio.sleep(LOOK_EVERY)
        yield await asyncio.to_thread(finished, services, pictures, run)
    finally:
        run.stop()


def finished(services: Services, pictures: Pictures, run: Run) -> Told:
    """All pictures of a run that is over, and what made them."""
    moment = run.moment
    notice = moment.notice.text if moment.notice else ""
    if moment.phase is Phase.FAILED:
        raise refused(notice)
    if OURS not in moment.sides:
        raise refused(notice or NOTHING_MADE)
    files = saved(pictures, run, moment)
    names, sides = [Path(file["path"]).name for file in files], {}
    for side in sides_of(run, moment):
        drawn = moment.sides[side].step
        own, names = names[: len(drawn.images)], names[len(drawn.images) :]
        sides[side] = side_report(run, side, drawn, own)
    settings = sides[OURS]["settings"]
    return files, {**progress(services, run, moment), **report_of(run, sides), "settings": settings}


def saved(pictures: Pictures, run: Run, moment: Moment) -> list[File]:
    """The pictures of every side as files, ours first."""
    paths: list[Path] = []
    for side in sides_of(run, moment):
        paths += pictures.save_step(run, side, moment.sides[side].step)
    return [file_of(path) for path in paths]


def sides_of(run: Run, moment: Moment) -> list[str]:
    """The sides that have pictures, ours first."""
    return [side for side in run.titles if side in moment.sides]


def file_of(path: Path) -> File:
    """A saved picture, as gradio's clients fetch it."""
    return {
        "path": str(path),
        "url": f"{SERVED}{path}",
        "orig_name": path.name,
        "mime_type": "image/png",
        "meta": {"_type": "gradio.FileData"},
    }


def progress(services: Services, run: Run, moment: Moment) -> dict[str, Any]:
    """Where a run stands, as plain JSON values."""
    return {
        "phase": str(moment.phase),
        "waiting_for": services.queue.place(run),
        "doing": moment.doing,
        "step": moment.step,
        "total": run.total,
        "scores": {side: scores_of(moment.sides[side]) for side in sides_of(run, moment)},
        "seconds_left": seconds_left(run, moment),
        "note": moment.notice.text if moment.notice else "",
    }


def scores_of(side: Side) -> dict[str, Any]:
    """The newest figures of a side, and the text score of each picture where there are words."""
    figures = {key: round(values[-1], 6) for key, values in side.curves.items()}
    scores = side.step.text_scores
    return figures if scores is None else {**figures, "text_scores": [round(score, 6) for score in scores.tolist()]}


def seconds_left(run: Run, moment: Moment) -> float | None:
    """How long what is being done will still take; None where nothing tells."""
    if moment.phase is Phase.RUNNING and moment.rate:
        return round((run.total - moment.step) / moment.rate, 1)
    return None if moment.left is None else round(moment.left, 1)
