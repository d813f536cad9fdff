"""The bar under the prompt: example prompts to click, Run, Add to queue, Pause or Resume, Stop, Continue."""

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from gmi_ui.components.html_component import html_component, read_file

_HERE = Path(__file__).parent
CSS = _HERE / "run_bar.css"


def run_bar(task: str, examples: Sequence[str] = ()) -> gr.HTML:
    """Events: `run` and `line_up` (no data), `pick` (data: text). The other buttons speak to the tab's grid."""
    return html_component(
        read_file(_HERE, "run_bar.html"),
        read_file(_HERE, "run_bar.js"),
        value=bar_value(examples),
        elem_id="run-bar" if task == "generate" else f"{task}-run-bar",
        task=task,
    )


def bar_value(examples: Sequence[str]) -> dict[str, list[str]]:
    """The component's value: the example prompts it shows."""
    return {"examples": list(examples)}
