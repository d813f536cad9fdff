"""What the Lab tab's component calls on the server. Each takes one dict from the page: nothing in it is trusted.

Nothing is kept of a page: it sends the state that its next frames go on from, which lets it go on from any frame that
it has, with other settings. All pages share one thread, a quarter of a second at a time.
"""

import asyncio
import base64
import binascii
import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from fastapi import Response

from engine.errors import ModelError
from engine.lab.settings import LIMITS, LabSettings
from engine.settings import SettingsError
from gmi_ui.components.lab.words import labelled
from gmi_ui.notices import explain
from gmi_ui.tokens import is_token

if TYPE_CHECKING:
    from torch import Tensor

    from engine.lab.course import Frame
    from engine.lab.sampling import State

SECONDS = 0.25  # of one batch, after which other pages have their turn
MOST_FRAMES = 50  # of a batch
MOST_OF_A_PAGE, MOST_OF_ALL = 3, 24  # batches that wait; who asks for more is told to come again
FURTHEST = 1e6  # numbers of a state
PLANE = 8.0  # positions are sent in steps of PLANE / 32767
COMPUTING = ThreadPoolExecutor(1, "lab")
DISCONNECTED = {"message": "This page is not connected to the studio. Reload it.", "kind": "error"}


def lab_functions() -> list[Callable[..., Any]]:
    """The functions that `lab` expects. What goes wrong comes back as a message and its kind."""
    turns = Turns()

    async def lab_frames(request: dict) -> Response:
        """Frames from the beginning, or after a state; {"busy": true} while too many wait."""
        return await turns.answer(request, frames_in)

    async def lab_density(request: dict) -> Response:
        """The picture of a target's density: bytes in base64, of so many cells each way."""
        return await turns.answer(request, density_in)

    return [lab_frames, lab_density]


class Turns:
    """Who waits for the one thread."""

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()
        self._lock = threading.Lock()

    async def answer(self, request: object, act: Callable[[dict], dict[str, Any]]) -> Response:
        """What `act` returns, as JSON."""
        token = request.get("token") if isinstance(request, dict) else None
        if not isinstance(request, dict) or not is_token(token):
            return _json(DISCONNECTED)
        token = str(token)
        with self._lock:
            if self._waiting[token] >= MOST_OF_A_PAGE or self._waiting.total() >= MOST_OF_ALL:
                return _json({"busy": True})
            self._waiting[token] += 1
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(COMPUTING, lambda: _json(_told(request, act)))
        finally:
            with self._lock:
                self._waiting[token] -= 1
                self._waiting += Counter()  # drops those that wait for nothing


def _json(answer: dict[str, Any]) -> Response:
    return Response(json.dumps(answer, allow_nan=False), media_type="application/json")


def _told(request: dict, act: Callable[[dict], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"message": "", **act(request)}
    except (SettingsError, ModelError, ValueError, TypeError, KeyError, RuntimeError, MemoryError) as error:
        notice = explain(error)
        return {"message": labelled(notice.text), "kind": notice.kind}


def frames_in(request: dict) -> dict[str, Any]:
    """Raises SettingsError for settings or a state that cannot be used."""
    settings = LabSettings.from_dict(request.get("settings"))
    state = None if request.get("state") is None else state_in(request["state"], settings)
    most = request.get("most")
    most = min(most, MOST_FRAMES) if type(most) is int and most >= 1 else 1
    from engine.lab.course import batch

    found = batch(settings, state, most=most, seconds=SECONDS, with_vectors=request.get("vectors") is True)
    ended = not found or found[-1].state.step >= settings.steps
    return {"frames": [_sent(frame) for frame in found], "ended": ended}


def density_in(request: dict) -> dict[str, Any]:
    """Raises SettingsError for a target that there is not."""
    settings = LabSettings.from_dict({"target": request.get("target"), "strokes": request.get("strokes", [])})
    from engine.lab.course import GRID, density_picture

    return {"cells": base64.b64encode(density_picture(settings.target, settings.strokes)).decode(), "side": GRID}


def state_in(value: Any, settings: LabSettings) -> "State":
    """The state that a page sends. Raises SettingsError for one that no frame had."""
    import torch

    from engine.lab.sampling import REMEMBERED, State

    wrong = SettingsError("What the page sent of its particles cannot be used. Press Restart.")
    if not isinstance(value, dict) or type(value.get("step")) is not int:
        raise wrong
    if not 0 <= value["step"] <= LIMITS["steps"][1]:
        raise wrong
    columns = REMEMBERED.get(settings.sampler, 0)

    def tensor(name: str, width: int) -> "Tensor":
        text, size = value.get(name), 4 * settings.n * width
        if not isinstance(text, str) or len(text) > 2 * size + 8:
            raise wrong
        try:
            data = base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            raise wrong from None
        if len(data) != size:
            raise wrong
        found = torch.frombuffer(bytearray(data), dtype=torch.float32).view(settings.n, width)
        if not (found.abs() <= FURTHEST).all():
            raise wrong
        return found

    memory = tensor("memory", columns) if columns and value.get("memory") is not None else None
    return State(tensor("latents", 2), value["step"], memory)


def _sent(frame: "Frame") -> dict[str, Any]:
    state, vectors = frame.state, frame.vectors.nan_to_num(0.0, 0.0, 0.0)
    reach = float(vectors.abs().max()) if len(vectors) else 0.0
    return {
        "step": state.step,
        "positions": _whole_numbers(frame.positions, PLANE),
        "vectors": _whole_numbers(vectors, reach or 1.0) if len(vectors) else None,
        "reach": reach,
        "distance": frame.distance,
        "coverage": frame.coverage,
        "state": {
            "step": state.step,
            "latents": _numbers(state.latents),
            "memory": None if state.memory is None else _numbers(state.memory),
        },
    }


def _numbers(values: "Tensor") -> str:
    return base64.b64encode(values.float().contiguous().numpy().astype("<f4").tobytes()).decode()


def _whole_numbers(values: "Tensor", reach: float) -> str:
    """Numbers in [-reach, reach] in two bytes each; what lies beyond is cut."""
    steps = (values.detach().double() * (32767 / reach)).clamp(-32767, 32767).round()
    return base64.b64encode(steps.numpy().astype("<i2").tobytes()).decode()
