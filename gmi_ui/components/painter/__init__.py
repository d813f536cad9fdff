"""A canvas over the picture: paint what is to be repainted. Strokes stay in the page until the brush rests."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from gmi_ui.components.html_component import html_component, read_file

_HERE = Path(__file__).parent
CSS = _HERE / "painter.css"
_SCRIPTS = (
    "strokes.js",
    "effects.js",
    "variations.js",
    "parts.js",
    "view.js",
    "painter.js",
)  # one scope, in this order


def painter(task: str, server_functions: Sequence[Callable[..., Any]], *, control_prefix: str) -> gr.HTML:
    """Shows what the controls grow, feather and invert do to the mask: their ids begin with `control_prefix`.

    server_functions: `server_functions.workspace_functions`. The mask goes to `put_mask`: before a run, which waits
    for it, and whenever the brush rests, so that a reload loses nothing.
    """
    return html_component(
        read_file(_HERE, "painter.html"),
        read_file(_HERE, *_SCRIPTS),
        elem_id=f"{task}-painter",
        server_functions=server_functions,
        task=task,
        control_prefix=control_prefix,
    )
