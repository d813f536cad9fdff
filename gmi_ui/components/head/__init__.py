"""The head of the page: its name, light and dark, the keys, and what the page has lined up."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from gmi_ui.components.html_component import html_component, read_file
from gmi_ui.languages import NAMES

_HERE = Path(__file__).parent
CSS = _HERE / "head.css"


def head(server_functions: Sequence[Callable[..., Any]]) -> gr.HTML:
    """Its value says which tab to show, see `tabs.common.switched_to`.

    server_functions: those of `functions`.
    """
    return html_component(
        read_file(_HERE, "head.html"),
        read_file(_HERE, "head.js", "languages.js"),
        value={},
        languages=dict(NAMES),
        elem_id="studio-head",
        server_functions=server_functions,
    )
