"""What the tabs of the page share."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gmi_ui.frames import Painter
from gmi_ui.history.outputs import Outputs
from gmi_ui.models.library import Library
from gmi_ui.models.models import Models
from gmi_ui.notices import BusyError, NotPossibleError
from gmi_ui.pictures.example_sets import ExampleSets
from gmi_ui.pictures.filming import FilmChoice, Filming
from gmi_ui.pictures.last_runs import LastRuns
from gmi_ui.pictures.saving import Pictures
from gmi_ui.pictures.workspace import PictureVersion
from gmi_ui.preferences import KeptPreferences
from gmi_ui.runs.inversion import Inversion
from gmi_ui.runs.plotting import Plotting
from gmi_ui.runs.run import Run
from gmi_ui.runs.worker import RunQueue
from gmi_ui.sessions import MOST_UPCOMING, Session, Sessions

BUSY = (
    "A run is going on already and was not touched. Stop it first (Esc), wait until it ends, or press Add to queue to "
    "have this one follow it."
)
QUEUE_FULL = f"{MOST_UPCOMING} runs wait already. Take one out of the queue first, or wait until one is done."
NOT_KEPT = (
    "Runs in a queue take each other's place on the page, and their pictures are kept nowhere else now: turn on “Keep "
    "every finished picture” under History first."
)
PLOTTING = "A plot is being drawn already and was not touched. Stop it first, or wait until it is done."


@dataclass(frozen=True)
class Services:
    """Made once per studio."""

    models: Models
    queue: RunQueue
    sessions: Sessions
    painter: Painter
    pictures: Pictures
    library: Library
    examples: ExampleSets
    last_runs: LastRuns
    outputs: Outputs
    preferences: KeptPreferences

    @classmethod
    def around(
        cls,
        models: Models,
        *,
        kept: Path | None = None,
        outputs: Outputs | None = None,
        preferences: KeptPreferences | None = None,
    ) -> "Services":
        """kept: the folder for the last run of each page; without one they go with the studio. outputs: what keeps
        finished pictures; without it none are. preferences: what was chosen for the whole studio.
        """
        queue, last_runs = RunQueue(models), LastRuns(kept)
        painter = Painter(models, queue, last_runs)
        pictures, library, outputs = Pictures(), Library(models), outputs or Outputs()
        own = preferences or KeptPreferences()
        return cls(models, queue, Sessions(), painter, pictures, library, ExampleSets(), last_runs, outputs, own)

    def start(self, session: Session, run: Run) -> None:
        """Queues a run for a tab. Raises NotPossibleError while the tab's last one goes on."""
        if not session.begin(run):
            raise BusyError(BUSY)
        run.owner = session
        self.queue.submit(run)
        self.last_runs.follow(session.token, session.tab, run)
        self.outputs.follow((session.token, session.tab), run)

    def line_up(self, session: Session, run: Run) -> None:
        """Queues a run behind the tab's and those that follow it; the page shows it once its turn comes.

        Raises NotPossibleError where too many wait, or the pictures of the one before would be lost.
        """
        if not session.is_busy:
            return self.start(session, run)
        if self.outputs.store is None:
            raise NotPossibleError(NOT_KEPT)
        run.owner = session
        run.at_turn = partial(self._take_turn, session, run)
        if not session.line_up(run):
            raise NotPossibleError(QUEUE_FULL)
        self.queue.submit(run)

    def _take_turn(self, session: Session, run: Run) -> None:
        session.take_turn(run)
        if run.job.origin is not None:
            session.workspace.adopt(run)
        self.last_runs.follow(session.token, session.tab, run)
        self.outputs.follow((session.token, session.tab), run)

    def start_apart(self, run: Run) -> None:
        """Queues a run that no tab of the page shows."""
        self.queue.submit(run)
        self.outputs.follow((run.id, ""), run)

    def go_on(self, session: Session) -> None:
        """Queues the tab's stopped run again. Raises NotPossibleError if there is none."""
        if session.run is None:
            raise NotPossibleError("There is no run to continue.")
        session.run.reopen()
        session.run.owner = session
        self.queue.submit(session.run, before=next(iter(session.upcoming), None))
        self.last_runs.follow(session.token, session.tab, session.run)
        self.outputs.follow((session.token, session.tab), session.run)

    def film(self, session: Session, choice: FilmChoice) -> Filming:
        """Queues the video of the tab's run. Raises NotPossibleError, or SaveError, where there can be none now."""
        if session.run is None:
            raise NotPossibleError("There are no pictures to save yet.")
        if session.filming is not None and not session.filming.is_over:
            raise NotPossibleError("A video is being drawn already. Cancel it, or wait until it is done.")
        session.filming = Filming(session.run, choice, self.pictures)
        self.queue.submit(session.filming)
        return session.filming

    def plot(self, session: Session, work: Plotting) -> None:
        """Queues a plot for a tab. Raises NotPossibleError while the last one goes on."""
        if session.plotting is not None and not session.plotting.is_over:
            raise BusyError(PLOTTING)
        session.plotting = work
        self.queue.submit(work)

    def find(self, version: PictureVersion, model: str, prompt_model: str, *, task: str = "edit") -> None:
        """Queues the inversion of a version's picture; to inpaint, a look at it where that can tell anything; to
        translate, nothing."""
        if task == "translate":
            return
        row = self.models.row(model)
        if task == "inpaint" and (row is None or row.in_domain_distance is None or "encoder" not in row.files):
            return
        version.inversion = Inversion(version.picture, version.starts, model, prompt_model, task=task)
        self.queue.submit(version.inversion)

    def end(self, patience: float) -> Run | None:
        """Stops all that goes on and waits for it; the run that was stopped in the middle, if it has pictures."""
        work = self.queue.current
        self.library.end()
        self.queue.end(patience)
        self.outputs.end(patience)
        return work if isinstance(work, Run) and work.moment.sides else None
