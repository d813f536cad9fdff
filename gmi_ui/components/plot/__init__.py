"""A plot of two settings, as a table of cells that fill one after the other; its form is in the tab."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from gmi_ui.components.html_component import html_component, read_file

_HERE = Path(__file__).parent
CSS = _HERE / "plot.css"


def plot_view(server_functions: Sequence[Callable[..., Any]]) -> gr.HTML:
    """Hidden until there is a plot. Its value is a number that rises when a plot was begun (`particle_grid.wake`).

    server_functions: `functions.plot_functions`.
    """
    return html_component(
        read_file(_HERE, "plot.html"),
        read_file(_HERE, "plot.js"),
        value=0,
        elem_id="plot",
        server_functions=server_functions,
    )
