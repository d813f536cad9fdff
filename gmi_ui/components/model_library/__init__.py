"""The Models tab's own component: the memory, what goes on, models that are here, models that can be had."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from gmi_ui.components.parts import html_part, read_part

_HERE = Path(__file__).parent
CSS = _HERE / "model_shelf.css"
_SCRIPTS = ("words.js", "rows.js", "dialogs.js", "shelf.js")  # one scope, in this order


def model_shelf(server_functions: Sequence[Callable[..., Any]]) -> gr.HTML:
    """Events: `changed` (no data) when the menus of the other tabs have to be made anew.

    server_functions: `server_functions.shelf_functions`. Its value is only a number that rises when there is
    something new to ask for (`particle_grid.wake`).
    """
    return html_part(
        read_part(_HERE, "model_shelf.html"),
        read_part(_HERE, *_SCRIPTS),
        value=0,
        elem_id="model-shelf",
        server_functions=server_functions,
    )
