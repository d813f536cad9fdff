"""The streaming grids: one gr.HTML component that pulls frames, paints them, and opens a picture large.

The component's value is only a number that rises when there is something new to pull (`wake`): the frames
themselves go through a server function, each made when the page is ready for it (see `frames`).
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

_HERE = Path(__file__).parent
CSS = _HERE / "particle_grid.css"
_SCRIPTS = (
    "feed.js",
    "curves.js",
    "cells.js",
    "viewer.js",
    "status.js",
    "grid.js",
)  # one scope, in this order
_wakes = itertools.count(1)


def particle_grid(server_functions: Sequence[Callable[..., Any]]) -> gr.HTML:
    """Events, all with data side ("ours" or "baseline") and index: `reseed`, `more_like_this`.

    server_functions must be `newest_frame`, `command` and `save_pictures`; each takes one dict. A function,
    because a subclass would make gradio write an interface file beside this one.
    """
    return gr.HTML(
        value=0,
        html_template=(_HERE / "particle_grid.html").read_text(encoding="utf-8"),
        js_on_load="\n".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        apply_default_css=False,
        elem_id="particle-grid",
        server_functions=list(server_functions),
    )


def wake() -> int:
    """A value for the component that makes every page pull the newest frame."""
    return next(_wakes)
