"""What the components of the page call on the server: frames, commands, files to download, pictures to work on.

Functions, not methods: gradio marks each with an attribute, which a bound method cannot carry. Each takes one
dict from the page, so nothing in it is trusted.
"""

import asyncio
import base64
import binascii
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast, get_args

from fastapi import Response

from engine.pictures.video import check_format
from engine.settings import MarkName, RunSettings, settings_from_dict
from gmi_ui.notices import NotPossibleError, explain
from gmi_ui.opening import Opening, bring_back
from gmi_ui.pictures.filming import FilmChoice
from gmi_ui.pictures.saving import check_picture
from gmi_ui.pictures.workspace import SHOWN_SIDE, picture_jpeg
from gmi_ui.runs.redrawing import step_of
from gmi_ui.runs.run import Run
from gmi_ui.runs.work import Phase, Work
from gmi_ui.services import Services
from gmi_ui.sessions import Arrival, Session
from gmi_ui.tokens import is_token

ALIKE = 6  # letters that all tokens of one studio and login begin with
HOLD = 1.0  # seconds a request waits for something new; a browser has only six connections for all its tabs
LOOK_EVERY = 0.02  # seconds
MOST_MASK = 8_000_000  # characters of a painted mask
PAINTING = ThreadPoolExecutor(4, "frames")  # of their own: those that loading, saving and looking hold are others
OURS_TO_TELL = (ValueError, TypeError, KeyError, OSError, NotPossibleError)  # what a request can lead to


def grid_functions(services: Services, task: str = "generate") -> list[Callable[..., Any]]:
    """The functions that `particle_grid` expects, for one tab of the page."""

    async def newest_frame(request: dict) -> Response:
        """The frame after `seen`; an empty object if none came in HOLD seconds."""
        session = session_of(services, request, task)
        if session is None:
            return Response(status_code=400)
        run_id, seen = str(request.get("run", "")), request.get("seen")
        before = str(request.get("before") or "")
        session.before = before if is_token(before) and before[:ALIKE] == session.token[:ALIKE] else session.token
        until = time.monotonic() + HOLD
        while (revision := services.painter.revision(session, run_id)) == seen and goes_on(session):
            seen_by_a_page(session)
            if time.monotonic() >= until:
                break
            await asyncio.sleep(LOOK_EVERY)
        seen_by_a_page(session)
        if revision == seen:
            return Response(b"{}", media_type="application/json")
        loop = asyncio.get_running_loop()
        frame = await loop.run_in_executor(PAINTING, services.painter.frame, session, run_id)
        return Response(frame, media_type="application/json")

    async def command(request: dict) -> bool:
        """Pause, resume, stop, or continue a stopped run: flags alone, so that it waits for no thread."""
        session = session_of(services, request, task)
        if session is None:
            return False
        action = str(request.get("action"))
        if action == "continue":
            return told(session, lambda: services.go_on(session)) is not None
        work = session.active
        if work is None:
            return False
        method = {"pause": work.pause, "resume": work.resume, "stop": work.stop}.get(action)
        if method is not None:
            method()
        return method is not None

    def save_pictures(request: dict) -> dict[str, str]:
        """The path of a file with one picture, or all without an index. Empty if it failed: the next
        frame tells why.
        """
        session = session_of(services, request, task)
        if session is None:
            return {}

        def save() -> str:
            if session.run is None:
                raise NotPossibleError("There are no pictures to save yet.")
            step, scale = step_in(request), int(request.get("scale", 1))
            if "index" in request:
                side, index = str(request.get("side")), index_in(request)
                return str(services.pictures.save_one(session.run, side, index, step, scale=scale))
            return str(services.pictures.save_all(session.run, step, scale=scale))

        path = told(session, save, "save")
        return {"path": path} if path else {}

    def past_frame(request: dict) -> dict[str, Any]:
        """The pictures of an earlier step; empty if it is gone."""
        session = session_of(services, request, task)
        if session is None or session.run is None or step_in(request) is None:
            return {}
        run, step = session.run, step_in(request)
        assert step is not None
        sides = told(session, lambda: services.painter.past_frame(run, step), "look")
        return {"run": run.id, "step": step, "sides": sides} if sides else {}

    def large_picture(request: dict) -> dict[str, str]:
        """A picture as it will be saved, and what it was before the run; JPEGs in base64."""
        session = session_of(services, request, task)
        if session is None or session.run is None:
            return {}
        run = session.run
        side = str(request.get("side"))
        return told(session, lambda: large(run, side, index_in(request), step_in(request)), "look") or {}

    def open_cell(request: dict) -> bool:
        """Takes a picture of this tab's run to the tab `to`, to be worked on there."""
        session = session_of(services, request, task)
        target = session_of(services, request, str(request.get("to")))
        if session is None or target is None or session.run is None:
            return False
        run = session.run
        opening = Opening(services, str(request.get("to")))

        def open_() -> bool:
            opening.cell(target, run, str(request.get("side")), index_in(request), step_in(request))
            return True

        return told(session, open_) is True

    def last_run(request: dict) -> dict[str, Any]:
        """Of the run that was kept of the page before: a sheet of its pictures, its zip, its settings, or all of it."""
        session = session_of(services, request, task)
        if session is None or services.last_runs.find(session.before, task) is None:
            return {}
        kept, token = services.last_runs, session.before

        def act() -> dict[str, Any]:
            if request.get("what") == "sheet":
                return {"png": base64.b64encode(kept.sheet(token, task)).decode()}
            if request.get("what") == "zip":
                return {"path": str(kept.copy(token, task, services.pictures.folder))}
            if request.get("what") == "all":
                bring_back(services, session)
            else:
                session.arrival = Arrival(restored_bytes(kept.first_picture(token, task)))
            return {"done": True}

        return told(session, act, "save" if request.get("what") == "zip" else "") or {}

    async def mark(request: dict) -> bool:
        """Sets a mark on one of our pictures, or takes it off; of the run that the page shows alone."""
        session = session_of(services, request, task)
        if session is None or session.run is None or session.run.id != request.get("run"):
            return False
        run = session.run

        def act() -> bool:
            run.mark(index_in(request), mark_in(request), is_set=request.get("is_set") is True)
            return True

        return told(session, act) is True

    grid = [newest_frame, command, save_pictures, past_frame, large_picture, open_cell, last_run, mark]
    return [*grid, *video_functions(services, task)]


def video_functions(services: Services, task: str) -> list[Callable[..., Any]]:
    """Begin the video of a tab's run, look how far it is, and end it."""

    def save_video(request: dict) -> dict[str, str]:
        """The id of the work that draws it. Empty if there can be none: the next frame tells why."""
        session = session_of(services, request, task)
        if session is None:
            return {}

        def film() -> str:
            kind = check_format(str(request.get("format")))
            index = index_in(request) if request.get("index") is not None else None
            choice = FilmChoice(kind, str(request.get("side")), index, bool(request.get("curves")))
            return services.film(session, choice).id

        work = told(session, film, "video")
        return {"id": work} if work else {}

    def video_state(request: dict) -> dict[str, Any]:
        """How far the newest video is, and its file once it is done; empty where there is none."""
        session = session_of(services, request, task)
        if session is None or session.filming is None:
            return {}
        work = session.filming
        work.seen()
        return progress_of(services, work) | {"path": str(work.path) if work.moment.phase is Phase.DONE else None}

    def cancel_video(request: dict) -> bool:
        """Ends the video that is being drawn; no file is left of it."""
        session = session_of(services, request, task)
        if session is None or session.filming is None or session.filming.is_over:
            return False
        session.filming.stop()
        return True

    return [save_video, video_state, cancel_video]


def progress_of(services: Services, work: Work) -> dict[str, Any]:
    """Where a work stands, for the page."""
    moment = work.moment
    return {
        "id": work.id,
        "phase": moment.phase,
        "is_over": work.is_over,
        "place": services.queue.place(work),
        "share": moment.share,
        "left": moment.left,
    }


def workspace_functions(services: Services, task: str) -> list[Callable[..., Any]]:
    """The functions that `workspace` and `painter` expect, for one tab of the page."""
    opening = Opening(services, task)

    def version_picture(request: dict) -> dict[str, str]:
        """A version's picture as base64 JPEG, or only its thumbnail."""
        session = session_of(services, request, task)
        if session is None:
            return {}
        version = told(session, lambda: session.workspace.find(int(request["number"])))
        return {} if version is None else {"jpeg": version.thumbnail if request.get("small") else version.shown}

    def go_to_version(request: dict) -> bool:
        """Makes an earlier picture the current one."""
        session = session_of(services, request, task)
        if session is None:
            return False
        return told(session, lambda: opening.go_to(session, int(request["number"]))) is not None

    def start_from_example(request: dict) -> bool:
        """Opens one of the random pictures that are shown before there is any."""
        session = session_of(services, request, task)
        if session is None:
            return False
        model = str(request.get("model") or "avatars")
        return told(session, lambda: opening.gallery(session, int(request["index"]), model)) is not None

    def put_mask(request: dict) -> bool:
        """Keeps the mask that was painted on a version's picture; none for an empty text."""
        session = session_of(services, request, task)
        if session is None:
            return False

        def put() -> bool:
            session.workspace.find(int(request["number"])).mask = mask_in(request)
            return True

        return told(session, put, "mask") is True

    def mask_of_version(request: dict) -> dict[str, str]:
        """The mask that was last put there."""
        session = session_of(services, request, task)
        version = session and told(session, lambda: session.workspace.find(int(request["number"])))
        return {"png": base64.b64encode(version.mask).decode()} if version and version.mask else {}

    def cut_square(request: dict) -> bool:
        """Makes a square of a version the current picture."""
        session = session_of(services, request, task)
        if session is None:
            return False

        def place() -> list[float]:
            return [float(request[name]) for name in ("across", "down", "share")]

        return told(session, lambda: opening.square(session, int(request["number"]), *place())) is not None

    functions = [version_picture, go_to_version, start_from_example, put_mask, mask_of_version]
    return [*functions, cut_square] if task == "translate" else functions  # others look for what they edit


def restored_bytes(data: bytes) -> RunSettings:
    """The settings inside a PNG that was saved here. Raises MetadataError or SettingsError."""
    from engine.pictures import png_files

    return settings_from_dict(png_files.read_metadata(data)["settings"])


def large(run: Run, side: str, index: int, step: int | None) -> dict[str, str]:
    """The picture as it is saved and, of an edit or a repainting, the one before it."""
    check_picture(run, side, index)
    after = run.tasks[side].picture(step_of(run, side, step), index)
    before = run.job.before(run.settings)
    return {"after": picture_jpeg(after, SHOWN_SIDE)} | ({"before": before} if before else {})


def told(session: Session, act: Callable[[], Any], action: str = "") -> Any:
    """What `act` returns; None where it cannot be done, which the page then says, until an equal action succeeds."""
    try:
        done = act()
    except OURS_TO_TELL as error:
        session.say(replace(explain(error), action=action))
        return None
    if action:
        session.succeeded(action)
    return done


def index_in(request: dict) -> int:
    return int(request["index"])


def mark_in(request: dict) -> MarkName:
    """Raises ValueError for what is no mark."""
    name = request.get("mark")
    if name not in get_args(MarkName):
        raise ValueError(f"no mark is called {str(name)[:40]!r}")
    return cast(MarkName, name)


def step_in(request: dict) -> int | None:
    """The step that a page looks at; None for the newest one."""
    step = request.get("step")
    return step if type(step) is int and step >= 0 else None


def mask_in(request: dict) -> bytes | None:
    """The PNG that a page painted. Raises NotPossibleError for what is none."""
    text = request.get("png")
    if not text:
        return None
    try:
        if len(text) > MOST_MASK:
            raise ValueError
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise NotPossibleError("The painted mask did not arrive whole. Paint once more, then press Run.") from None


def session_of(services: Services, request: object, task: str = "generate") -> Session | None:
    """A tab's session by a request's token; None if it has none."""
    token = request.get("token") if isinstance(request, dict) else None
    try:
        return services.sessions.get(str(token), task) if is_token(token) else None
    except ValueError:
        return None


def seen_by_a_page(session: Session) -> None:
    """Keeps what goes on for the session from counting as abandoned."""
    for work in (*session.works, *session.upcoming):
        work.seen()


def goes_on(session: Session) -> bool:
    """Whether a new frame can be expected within moments."""
    return any(work.moment.phase in ("running", "loading", "stopping") for work in session.works)
