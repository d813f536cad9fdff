"""The picture that is being edited, beside how the model draws it, while that is found and after."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from gmi_ui.components.parts import html_part, read_part

_HERE = Path(__file__).parent
CSS = _HERE / "easel_view.css"


def easel_view(task: str, server_functions: Sequence[Callable[..., Any]]) -> gr.HTML:
    """server_functions: `server_functions.easel_functions`."""
    return html_part(
        read_part(_HERE, "easel_view.html"),
        read_part(_HERE, "easel_view.js"),
        elem_id=f"{task}-easel",
        server_functions=server_functions,
        task=task,
    )
