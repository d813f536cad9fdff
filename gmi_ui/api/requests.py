"""What gradio makes of a program's requests, put right before it sees them.

A call by HTTP may leave out what has a default, and is told what it has wrong. What is cancelled is the one call that
is meant: gradio finds it by client and endpoint, and so ends every call of the same endpoint that the client has going,
of which it tells the others nothing: they would wait for ever.
"""

import asyncio
import inspect
import json
from collections.abc import Mapping
from typing import Any

from gmi_ui.api.calls import CALLS, Call
from gmi_ui.guard import CALL, CALL_NAMED, CANCEL, Receive, Refusal, RefusedError, Scope, Send, replayed, whole

MOST = 24 << 20  # bytes; the guard lets no more through
NO_ENDPOINT = -1
SEPARATOR = "<gradio-sep>"  # how gradio names the task of a call: client and endpoint, then this, then the call


class ApiRequests:
    """A middleware inside of the guard, which has seen that the content is a JSON object. root_path: of a proxy."""

    def __init__(self, app: Any, root_path: str = "") -> None:
        self._app, self._root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", "")).removeprefix(self._root_path)
        if scope["type"] == "http" and scope["method"] == "POST" and path.startswith((CANCEL, CALL)):
            value = json.loads(await whole(receive, MOST))
            changed = await _cancelled(value) if path.startswith(CANCEL) else _completed(path, value)
            receive = replayed(json.dumps(changed).encode(), receive)
        await self._app(scope, receive, send)


async def _cancelled(value: dict[str, Any]) -> dict[str, Any]:
    """Ends the task of one call and waits for that; the rest of the request is left to gradio."""
    client, call = str(value.get("session_hash")), str(value.get("event_id"))
    named = [(task, task.get_name().split(SEPARATOR)) for task in asyncio.all_tasks()]
    tasks = [task for task, (begins, *ends) in named if begins.startswith(f"{client}_") and ends == [call]]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {**value, "fn_index": NO_ENDPOINT}


def _completed(path: str, value: dict[str, Any]) -> dict[str, Any]:
    """A call with all of its parameters. Raises RefusedError for one that cannot be."""
    is_named = path.startswith(CALL_NAMED)
    kind = CALLS[path.removeprefix(CALL_NAMED if is_named else CALL)]
    if is_named:
        return dict(_bound(kind, (), value))
    data = value.get("data")
    if not isinstance(data, list):
        raise RefusedError(Refusal(422, 'Give the parameters in order: {"data": [...]}.'))
    return {**value, "data": list(_bound(kind, data, {}).values())}


def _bound(kind: type[Call], values: Any, named: Mapping[str, Any]) -> Mapping[str, Any]:
    """Every parameter's value, in order."""
    signature = inspect.signature(kind)
    try:
        bound = signature.bind(*values, **named)
    except TypeError as error:
        known = ", ".join(signature.parameters)
        raise RefusedError(Refusal(422, f"The parameters do not fit: {error}. Known are {known}.")) from error
    bound.apply_defaults()
    return bound.arguments
