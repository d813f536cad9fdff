"""Cancels the one call that is meant.

gradio finds what it is to cancel by client and endpoint, and so ends every call of the same endpoint that the client
has going, of which it tells the others nothing: they would wait for ever.
"""

import asyncio
import json
from typing import Any

from gmi_ui.guard import API, Receive, Scope, Send, replayed, whole

ROUTE = f"{API}/cancel"
NO_ENDPOINT = -1
LONGEST = 1 << 14  # bytes
# How gradio names the task of a call: client and endpoint, then the call.
SEPARATOR = "<gradio-sep>"


class CancelOne:
    """A middleware inside of the guard, which has seen that the content is JSON."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith(ROUTE):
            value = json.loads(await whole(receive, LONGEST))
            await cancel(str(value.get("session_hash")), str(value.get("event_id")))
            receive = replayed(json.dumps({**value, "fn_index": NO_ENDPOINT}).encode(), receive)
        await self._app(scope, receive, send)


async def cancel(session: str, event: str) -> None:
    """Ends the task of one call, and waits for that."""
    named = [(task, task.get_name().split(SEPARATOR)) for task in asyncio.all_tasks()]
    tasks = [task for task, (begins, *ends) in named if begins.startswith(f"{session}_") and ends == [event]]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
