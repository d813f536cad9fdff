"""The streaming grids: one gr.HTML component that pulls frames, paints them, and opens a picture large.

The component's value is only a number that rises when there is something new to pull (`wake`): the frames
themselves go through a server function, each made when the page is ready for it (see `frames`).
"""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from engine.pictures.video import NO_MP4, has_mp4
from gmi_ui.components.html_component import html_component, read_file

_HERE = Path(__file__).parent
CSS = _HERE / "particle_grid.css"
_SCRIPTS = (
    "feed.js",
    "curves.js",
    "marks.js",
    "cells.js",
    "past.js",
    "viewer.js",
    "status.js",
    "map.js",
    "video.js",
    "grid.js",
)  # one scope, in this order
_wakes = itertools.count(1)


@dataclass(frozen=True)
class GridTexts:
    """What a tab's grid says before its first run, and which buttons its large view and its results have.

    hand_over: to which tabs a picture can be taken, with the button's words. own: events of the tab itself, with the
    picture; of_all: events of the tab with all results of a finished run.
    """

    title: str
    text: str
    ready: tuple[str, str] = ("", "")  # the same once there is a picture to work on
    hand_over: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, str] = field(default_factory=dict)
    of_all: Mapping[str, str] = field(default_factory=dict)
    has_marks: bool = False  # whether our pictures can be liked, be what others are to be unlike, and be pinned
    picks_examples: bool = False  # whether the gallery's pictures can be clicked


def particle_grid(task: str, texts: GridTexts, server_functions: Sequence[Callable[..., Any]]) -> gr.HTML:
    """Events: `arrive` (no data) when controls are to be shown anew; those of `texts.own`, all with data side
    ("ours" or "baseline"), index and step (None for the newest); those of `texts.of_all` (no data).

    server_functions: see `server_functions.grid_functions`; each takes one dict.
    """
    html = read_file(_HERE, "particle_grid.html")
    words = {"task": task, "title": texts.title, "text": texts.text}
    words |= {"ready-title": texts.ready[0], "ready-text": texts.ready[1]}
    for name, said in words.items():
        html = html.replace(f"[[{name}]]", said)
    # Gradio finds a component's events by their names in its script.
    return html_component(
        html,
        f"const own = {json.dumps(dict(texts.own))};\nconst ofAll = {json.dumps(dict(texts.of_all))};\n"
        f"{read_file(_HERE, *_SCRIPTS)}",
        value=0,
        elem_id="particle-grid" if task == "generate" else f"{task}-grid",
        server_functions=server_functions,
        task=task,
        hand_over=dict(texts.hand_over),
        has_marks=texts.has_marks,
        picks_examples=texts.picks_examples,
        mp4_missing="" if has_mp4() else NO_MP4,
    )


def wake() -> int:
    """A value for the component that makes every page pull the newest frame."""
    return next(_wakes)
