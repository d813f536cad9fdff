"""The History tab's own component: a grid of kept pictures, of which only what is seen is there, and a large view."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from gmi_ui.components.html_component import html_component, read_file

_HERE = Path(__file__).parent
CSS = _HERE / "history.css"
_SCRIPTS = ("asking.js", "grid.js", "choosing.js", "view.js", "history.js")  # one scope, in this order


def history(server_functions: Sequence[Callable[..., Any]]) -> gr.HTML:
    """server_functions: `functions.history_functions`."""
    return html_component(
        read_file(_HERE, "history.html"),
        read_file(_HERE, *_SCRIPTS),
        elem_id="history",
        server_functions=server_functions,
    )
