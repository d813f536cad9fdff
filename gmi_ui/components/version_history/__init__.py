"""The strip of pictures that a tab has worked on: opened ones and results that were gone on from, any to go back to."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from gmi_ui.components.html_component import html_component, read_file

_HERE = Path(__file__).parent
CSS = _HERE / "version_history.css"


def version_history(task: str, server_functions: Sequence[Callable[..., Any]]) -> gr.HTML:
    """Hidden until there is a picture. server_functions: `server_functions.workspace_functions`."""
    return html_component(
        read_file(_HERE, "version_history.html"),
        read_file(_HERE, "version_history.js"),
        elem_id=f"{task}-version-history",
        server_functions=server_functions,
        task=task,
    )
