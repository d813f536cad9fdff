"""The one worker: carries out runs one after the other, whether or not a page still looks."""

import threading
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from engine.settings import FlowSettings, GenerateSettings
from gmi_ui.models import Models
from gmi_ui.notices import Notice, explain
from gmi_ui.runs import BASELINE, OURS, Phase, Run, Side, measured

if TYPE_CHECKING:
    from engine.flow import Step

Steps: TypeAlias = "Generator[Step, FlowSettings | None, None]"

# Seconds after which a run that no page watched gives way to one that waits. Hidden tabs look once a minute.
ABANDONED_AFTER = 180.0
PATIENCE = 1.0  # seconds between two looks at whether a paused run was abandoned
ABANDONED = Notice("Stopped: its page was closed while another run waited. The pictures so far are kept.", "warning")


class RunQueue:
    """First come, first served. The worker is a daemon thread and ends with the server."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._waiting: list[Run] = []
        self._current: Run | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="runs", daemon=True).start()

    def submit(self, run: Run) -> None:
        """Puts a run at the end of the queue."""
        with self._changed:
            self._waiting.append(run)
            self._changed.notify_all()

    def place(self, run: Run) -> int:
        """How many runs come before this one; 0 if it is being carried out or over."""
        with self._changed:
            waiting = [other for other in self._waiting if not other.moment.phase.is_over]
            if run not in waiting:
                return 0
            return waiting.index(run) + (self._current is not None)

    @property
    def is_held(self) -> bool:
        """Whether the run that is being carried out is paused."""
        run = self._current
        return run is not None and run.moment.phase is Phase.PAUSED

    def _is_wanted(self) -> bool:
        """Whether somebody waits for the worker."""
        with self._changed:
            return any(not run.moment.phase.is_over for run in self._waiting)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                run = self._current = self._waiting.pop(0)
            try:
                self._carry_out(run)
            except Exception as error:  # the worker must outlive every run; what nobody foresaw is logged
                run.enter(Phase.FAILED, explain(error))
            finally:
                with self._changed:
                    self._current = None

    def _carry_out(self, run: Run) -> None:
        if run.unseen_for > ABANDONED_AFTER:
            run.stop(ABANDONED)
        if run.is_stopping:
            return
        run.enter(Phase.LOADING)
        flows = self._start(run)
        run.enter(Phase.RUNNING)
        try:
            while flows and self._may_go_on(run):
                self._step(run, flows)
        finally:
            for flow_iterator in flows.values():
                flow_iterator.close()
        run.enter(Phase.DONE if not flows else Phase.STOPPED)

    def _step(self, run: Run, flows: dict[str, Steps]) -> None:
        """One step of every side. Sides that are done leave `flows`.

        Both show together, one frame a step; only the first pictures show at once.
        """
        moved = {}
        for name in list(flows):
            before = run.moment.sides.get(name)
            flow = run.flow if name == OURS else baseline_flow(run.settings, run.flow)
            side = advance(flows[name], before, flow)
            if side is None:
                del flows[name]
            elif before is None:
                run.show({name: side})
            else:
                moved[name] = side
        if moved:
            run.tick()
            run.show(moved)

    def _may_go_on(self, run: Run) -> bool:
        """Waits while the run is paused. False once it is to stop, or abandoned while somebody else waits."""
        while run.is_held(PATIENCE) and not self._is_in_the_way(run):
            pass
        if self._is_in_the_way(run):
            run.stop(ABANDONED)
        return not run.is_stopping

    def _is_in_the_way(self, run: Run) -> bool:
        return run.unseen_for > ABANDONED_AFTER and self._is_wanted()

    def _start(self, run: Run) -> dict[str, Steps]:
        """Loads the models and makes the iterators of the sides, nothing advanced yet."""
        from engine import flow, tasks  # torch: imported on the worker, after the page is up

        settings = run.settings
        generator = self._models.generator(settings.model)
        prompt_model = self._models.prompt_model(settings.prompt_model)
        run.model_hashes = {settings.model: generator.sha256, settings.prompt_model: prompt_model.sha256}
        if cut := prompt_model.truncated_words(settings.prompt):
            run.say(Notice(f"The prompt is longer than the model reads. Left out: “{shortened(cut)}”", "warning"))
        chosen = {OURS: settings}
        if settings.baseline:
            chosen[BASELINE] = tasks.baseline(settings)
        flows = {}
        for name, side_settings in chosen.items():
            problem, particles = tasks.generate(side_settings, generator, prompt_model)
            flows[name] = flow.refine(problem, particles, side_settings.flow)
        return flows


def advance(steps: Steps, before: Side | None, flow: FlowSettings) -> Side | None:
    """The side after its next step, with `flow` from now on; None when there is none left."""
    try:
        return measured(next(steps) if before is None else steps.send(flow), before=before)
    except StopIteration:
        return None


def baseline_flow(settings: GenerateSettings, flow: FlowSettings) -> FlowSettings:
    """The baseline's flow while the sliders of ours move: the engine says what a baseline is."""
    from engine import tasks

    return tasks.baseline(replace(settings, flow=flow)).flow


def shortened(text: str, limit: int = 120) -> str:
    """The text, its middle left out where it is long."""
    return text if len(text) <= limit else f"{text[: limit // 2].rstrip()} … {text[-limit // 2 :].lstrip()}"
