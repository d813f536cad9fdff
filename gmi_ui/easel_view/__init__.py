"""The picture that is being edited, beside how the model draws it, while that is found and after."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

_HERE = Path(__file__).parent
CSS = _HERE / "easel_view.css"


def easel_view(task: str, server_functions: Sequence[Callable[..., Any]]) -> gr.HTML:
    """server_functions: `server_functions.easel_functions`."""
    return gr.HTML(
        html_template=(_HERE / "easel_view.html").read_text(encoding="utf-8"),
        js_on_load=(_HERE / "easel_view.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id=f"{task}-easel",
        elem_classes="studio-part",
        server_functions=list(server_functions),
        task=task,
    )
