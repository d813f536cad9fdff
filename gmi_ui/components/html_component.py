"""The page's own components: a folder's markup and scripts become one gr.HTML.

Functions make them, because a subclass would make gradio write an interface file beside it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr


def read_file(folder: Path, *names: str) -> str:
    """The text of files of a component's folder, which share one scope, in this order."""
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


def html_component(
    template: str,
    script: str,
    *,
    elem_id: str,
    server_functions: Sequence[Callable[..., Any]] = (),
    value: Any = None,
    **properties: Any,
) -> gr.HTML:
    """template: [[notice]] in it is where messages are shown. properties: what it and the script find in `props`."""
    return gr.HTML(
        value=value,
        html_template=template.replace("[[notice]]", read_file(Path(__file__).parent, "notice.html").strip()),
        js_on_load=script,
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes="studio-part",
        server_functions=list(server_functions) or None,
        **properties,
    )
