"""The bar under the prompt: example prompts to click, Run, Pause or Resume, Stop, Continue."""

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

_HERE = Path(__file__).parent
CSS = _HERE / "run_bar.css"


def run_bar(task: str, examples: Sequence[str] = ()) -> gr.HTML:
    """Events: `run` (no data), `pick` (data: text). Pause, resume, stop and continue go to the tab's grid.

    A function, because a subclass would make gradio write an interface file beside this one.
    """
    return gr.HTML(
        value=bar_value(examples),
        html_template=(_HERE / "run_bar.html").read_text(encoding="utf-8"),
        js_on_load=(_HERE / "run_bar.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id="run-bar" if task == "generate" else f"{task}-run-bar",
        elem_classes="studio-part",
        task=task,
    )


def bar_value(examples: Sequence[str]) -> dict[str, list[str]]:
    """The component's value: the example prompts it shows."""
    return {"examples": list(examples)}
