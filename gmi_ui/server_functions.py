"""What the particle grid calls on the server: the newest frame, a command to the run, a file to download.

Functions, not methods: gradio marks each with an attribute, which a bound method cannot carry. Each takes one
dict from the page, so nothing in it is trusted.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from fastapi import Response

from gmi_ui.notices import NotPossibleError, explain
from gmi_ui.services import Services
from gmi_ui.sessions import Session, is_token

HOLD = 1.0  # seconds a request waits for something new; a browser has only six connections for all its tabs
LOOK_EVERY = 0.02  # seconds


def grid_functions(services: Services) -> list[Callable[..., Any]]:
    """The three functions that `particle_grid` expects."""

    async def newest_frame(request: dict) -> Response:
        """The frame after `seen`; an empty object if none came in HOLD seconds."""
        session = session_of(services, request)
        if session is None:
            return Response(status_code=400)
        run_id, seen = str(request.get("run", "")), request.get("seen")
        until = time.monotonic() + HOLD
        while (version := services.painter.version(session, run_id)) == seen and goes_on(session):
            seen_by_a_page(session)
            if time.monotonic() >= until:
                break
            await asyncio.sleep(LOOK_EVERY)
        seen_by_a_page(session)
        if version == seen:
            return Response(b"{}", media_type="application/json")
        frame = await asyncio.to_thread(services.painter.frame, session, run_id)
        return Response(frame, media_type="application/json")

    def command(request: dict) -> bool:
        """Pause, resume or stop."""
        session = session_of(services, request)
        if session is None or session.run is None:
            return False
        run = session.run
        action = {"pause": run.pause, "resume": run.resume, "stop": run.stop}.get(str(request.get("action")))
        if action is not None:
            action()
        return action is not None

    def save_pictures(request: dict) -> dict[str, str]:
        """The path of a file with one picture, or all without an index. Empty if it failed: the next
        frame tells why.
        """
        session = session_of(services, request)
        if session is None:
            return {}
        try:
            if session.run is None:
                raise NotPossibleError("There are no pictures to save yet.")
            if "index" in request:
                saved = services.pictures.save_one(session.run, str(request.get("side")), int(request["index"]))
            else:
                saved = services.pictures.save_all(session.run)
        except (ValueError, TypeError, OSError, NotPossibleError) as error:
            session.say(explain(error))
            return {}
        return {"path": str(saved)}

    return [newest_frame, command, save_pictures]


def session_of(services: Services, request: object) -> Session | None:
    """The session of a request's token; None if it has none."""
    token = request.get("token") if isinstance(request, dict) else None
    return services.sessions.get(str(token)) if is_token(token) else None


def seen_by_a_page(session: Session) -> None:
    """Keeps the session's run from counting as abandoned."""
    if session.run is not None:
        session.run.seen()


def goes_on(session: Session) -> bool:
    """Whether a new frame can be expected within moments."""
    run = session.run
    return run is not None and run.moment.phase in ("running", "loading", "stopping")
