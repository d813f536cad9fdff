"""The strip of pictures that a tab has worked on: opened ones and results that were gone on from, any to go back to."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from gmi_ui.components.parts import html_part, read_part

_HERE = Path(__file__).parent
CSS = _HERE / "chain.css"


def chain(task: str, server_functions: Sequence[Callable[..., Any]]) -> gr.HTML:
    """Hidden until there is a picture. server_functions: `server_functions.easel_functions`."""
    return html_part(
        read_part(_HERE, "chain.html"),
        read_part(_HERE, "chain.js"),
        elem_id=f"{task}-chain",
        server_functions=server_functions,
        task=task,
    )
