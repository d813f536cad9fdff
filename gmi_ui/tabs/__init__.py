"""The studio's tabs. A new one is a file here with a class like `GenerateTab`, and a line in `TABS`."""

from collections.abc import Sequence
from typing import Protocol

from gmi_ui.tabs.common import Page
from gmi_ui.tabs.edit import EditTab
from gmi_ui.tabs.generate import GenerateTab
from gmi_ui.tabs.history import HistoryTab
from gmi_ui.tabs.inpaint import InpaintTab
from gmi_ui.tabs.lab import LabTab
from gmi_ui.tabs.models import ModelsTab
from gmi_ui.tabs.translate import TranslateTab


class Tab(Protocol):
    """Builds its components where it is called, and then listens to them."""

    title: str
    task: str  # its name in the page: that of the engine's task, if there is no other tab of it

    def build(self, page: Page) -> None: ...


TABS: Sequence[Tab] = (
    GenerateTab(),
    EditTab(),
    InpaintTab(),
    TranslateTab(),
    HistoryTab(),
    ModelsTab(),  # after all that have menus of models: it keeps them
    LabTab(),
)
