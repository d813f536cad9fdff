"""The studio's tabs. A new one is a file here with a class like `GenerateTab`, and a line in `TABS`."""

from collections.abc import Sequence
from typing import Protocol

import gradio as gr
from gradio.components import Component

from gmi_ui.services import Services
from gmi_ui.tabs.generate import GenerateTab


class Tab(Protocol):
    """Builds its components where it is called, and then listens to them."""

    title: str

    def build(self, page: gr.Blocks, services: Services, token: Component) -> None:
        """`token` is the hidden component that holds the browser tab's token."""


TABS: Sequence[Tab] = (GenerateTab(),)
