"""The Models tab's own component: the memory, what goes on, models that are here, models that can be had."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from gmi_ui.components.html_component import html_component, read_file

_HERE = Path(__file__).parent
CSS = _HERE / "model_library.css"
_SCRIPTS = ("words.js", "rows.js", "dialogs.js", "library.js")  # one scope, in this order


def model_library(server_functions: Sequence[Callable[..., Any]]) -> gr.HTML:
    """Events: `changed` (no data) when the menus of the other tabs have to be made anew.

    server_functions: `server_functions.library_functions`. Its value is only a number that rises when there is
    something new to ask for (`particle_grid.wake`).
    """
    return html_component(
        read_file(_HERE, "model_library.html"),
        read_file(_HERE, *_SCRIPTS),
        value=0,
        elem_id="model-library",
        server_functions=server_functions,
    )
