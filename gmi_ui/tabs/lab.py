"""The Lab tab: particles in the plane, where one sees what each sampler and each term of Eq. 6 does."""

from gmi_ui.components.lab import lab
from gmi_ui.components.lab.functions import lab_functions
from gmi_ui.tabs.common import Page


class LabTab:
    """Watch samplers move points."""

    title = "Lab"
    task = "lab"

    def build(self, page: Page) -> None:
        lab(lab_functions())
