"""The Lab tab's own component: particles that flow over a density, two samplers beside each other.

The server computes frames (`functions`), the page plays them: it draws between two steps, goes back and forth, and
saves what it shows.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr

from engine.lab.settings import EDGE, LabSettings
from gmi_ui.components.html_component import html_component, read_file
from gmi_ui.components.lab.words import words

_HERE = Path(__file__).parent
CSS = _HERE / "lab.css"
_SCRIPTS = (
    "course.js", "plane.js", "chart.js", "controls.js", "drawing.js", "exports.js", "lab.js",
)  # fmt: skip  # one scope, in this order


def lab(server_functions: Sequence[Callable[..., Any]]) -> gr.HTML:
    """server_functions: `functions.lab_functions`."""
    return html_component(
        read_file(_HERE, "lab.html"),
        read_file(_HERE, *_SCRIPTS),
        value=0,
        elem_id="lab",
        server_functions=server_functions,
        words=words(),
        defaults=asdict(LabSettings()),
        edge=EDGE,
    )
