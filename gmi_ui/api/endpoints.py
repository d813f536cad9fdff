"""The endpoints of the API. gradio's clients, its page "Use via API" and tools for MCP show what `CALLS` says."""

import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, get_type_hints

import gradio as gr
from gradio import FileData
from gradio.context import get_blocks_context

from engine.settings import LIMITS, plain
from gmi_ui.api.calls import CALLS, Call
from gmi_ui.api.following import Told, answer
from gmi_ui.pictures.saving import Pictures
from gmi_ui.services import Services
from gmi_ui.temporary import upload_folder

NAMES = tuple(CALLS)
ANSWERS = "answers"  # a folder
AT_ONCE = 4  # calls whose runs stand in the studio's queue: one of a page waits for no more of them
WAITING = 64  # calls that wait for that
ABOUT = {
    "prompt": "what the pictures should show, in words",
    "model": "the generator: a name of those in the Models tab",
    "n": "how many pictures",
    "steps": "steps of the flow; null: the preset's",
    "step_size": "length of a step, relative to the latent space; null: the preset's",
    "diversity": "how strongly the pictures repel each other; null: the preset's",
    "seed": "picture i is of seed + i; -1: a random one, which the report tells",
    "preset": "where numbers that are not given come from",
    "prompt_model": "what judges how the words fit; empty: the model's own",
    "baseline": "what runs beside it from the same start; its pictures come behind the others",
    "towards": "pictures that the results should be like",
    "unlike": "pictures that the results should not be like",
    "picture": "an uploaded picture, or one that was answered earlier",
    "mask": "a picture of the same proportions: white, or cut out, where it is repainted",
    "neutral": "what the picture is, in words",
    "method": "how it is done",
    "strength": "how far the edit goes, 1 as far as usual",
    "disentanglement": "StyleCLIP's beta",
    "identity": "the pull back to the start",
    "invert": "repaint what the mask leaves free instead",
    "grow": "grow the mask by so many pixels",
    "feather": "fade in over so many pixels inside its edge",
    "known_weight": "how much the rest must fit",
    "domain": "what the picture becomes, one of the model's domains; empty: its first",
    "references": "pictures whose styles are taken in turn; null: styles are drawn",
    "style_scale": "how far styles move",
    "content_scale": "how far the picture's own content moves",
    "pictures_every": "steps after which new pictures come; 0: at the end only",
    "more": "further settings by name, shaped as in a report, which they win over the others",
}
ANSWERED = {
    "pictures": "new PNG files, with everything that made them inside; all of them at the end",
    "report": "phase, step, total and scores while it goes on; at the end the seeds and all settings, too",
}


def about(parameter: str) -> str:
    """What a parameter is for, and its limits."""
    low, high = LIMITS.get(parameter, (None, None))
    limits = "" if low is None or high is None else f" ({plain(low)} to {plain(high)})"
    return ABOUT[parameter] + limits


def add_endpoints(services: Services) -> None:
    """Adds the API to the page that is being built."""
    # Among the uploads: from there gradio makes no copies, and calls may work on what was answered.
    pictures = Pictures(upload_folder() / ANSWERS)
    for name, call in CALLS.items():
        _add(name, call, services, pictures)


def _add(name: str, kind: type[Call], services: Services, pictures: Pictures) -> None:
    async def endpoint(*values: Any) -> AsyncIterator[Told]:
        async with aclosing(answer(services, pictures, kind(*values))) as answered:
            async for told in answered:
                yield told

    parameters = inspect.signature(kind)
    texts = [f"{parameter}: {about(parameter)}" for parameter in parameters.parameters]
    told = [f"{output}: {text}" for output, text in ANSWERED.items()]
    returned = tuple[list[FileData], dict[str, Any]]
    typed: Any = endpoint
    typed.__name__ = name
    typed.__doc__ = "\n".join((inspect.getdoc(kind) or "", "", "Args:", *texts, "", "Returns:", *told))
    typed.__signature__ = parameters.replace(return_annotation=returned)
    typed.__annotations__ = {
        **{parameter: get_type_hints(kind)[parameter] for parameter in parameters.parameters},
        "return": returned,
    }
    event = gr.api(typed, api_name=name, concurrency_limit=AT_ONCE, concurrency_id="api")
    _describe(event, list(parameters.parameters))


def _describe(event: Any, parameters: list[str]) -> None:
    """Labels and texts, which gradio takes from components, of which an endpoint has none of its own."""
    blocks: Any = get_blocks_context()
    function = blocks.fns[event["id"]]
    texts = {parameter: about(parameter) for parameter in parameters} | ANSWERED
    for (name, text), component in zip(texts.items(), (*function.inputs, *function.outputs), strict=True):
        component.label = name
        component.api_info()["additional_description"] = text
