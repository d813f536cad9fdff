"""The picture that is being edited, beside how the model draws it, while that is found and after."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from gmi_ui.components.html_component import html_component, read_file

_HERE = Path(__file__).parent
ALSO = {"edit": " A picture's place in the model, saved elsewhere (w_pivot.pt, projected_w.npz, w.npy), opens too."}
CSS = _HERE / "workspace_view.css"


def workspace_view(task: str, server_functions: Sequence[Callable[..., Any]]) -> gr.HTML:
    """server_functions: `server_functions.workspace_functions`."""
    square = ("square.html", "square.js") if task == "translate" else ()
    return html_component(
        read_file(_HERE, "workspace_view.html")
        .replace("[[also]]", ALSO.get(task, ""))
        .replace("[[square]]", read_file(_HERE, *square[:1])),
        read_file(_HERE, "workspace_view.js", *square[1:]),
        elem_id=f"{task}-workspace",
        server_functions=server_functions,
        task=task,
    )
