"""The strip of pictures that a tab has worked on: opened ones and results that were gone on from, any to go back to."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

_HERE = Path(__file__).parent
CSS = _HERE / "chain.css"


def chain(task: str, server_functions: Sequence[Callable[..., Any]]) -> gr.HTML:
    """Hidden until there is a picture. server_functions: `server_functions.easel_functions`."""
    return gr.HTML(
        html_template=(_HERE / "chain.html").read_text(encoding="utf-8"),
        js_on_load=(_HERE / "chain.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id=f"{task}-chain",
        elem_classes="studio-part",
        server_functions=list(server_functions),
        task=task,
    )
