"""What the tabs of the page share."""

from dataclasses import dataclass

from gmi_ui.frames import Painter
from gmi_ui.models import Models
from gmi_ui.notices import NotPossibleError
from gmi_ui.runs import Run
from gmi_ui.saving import Pictures
from gmi_ui.sessions import Session, Sessions
from gmi_ui.worker import RunQueue


@dataclass(frozen=True)
class Services:
    """Made once per studio."""

    models: Models
    queue: RunQueue
    sessions: Sessions
    painter: Painter
    pictures: Pictures

    @classmethod
    def around(cls, models: Models) -> "Services":
        queue = RunQueue(models)
        return cls(models, queue, Sessions(), Painter(models, queue), Pictures())

    def start(self, session: Session, run: Run) -> None:
        """Queues a run for a tab. Raises NotPossibleError while the tab's last one goes on."""
        if not session.begin(run):
            raise NotPossibleError(
                "A run is going on already and was not touched. Stop it first (Esc), or wait until it ends."
            )
        self.queue.submit(run)
