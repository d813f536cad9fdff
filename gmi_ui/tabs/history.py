"""The History tab: every finished picture, to be found, looked at, compared, gone on from, deleted."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gmi_ui.components.history import history
from gmi_ui.components.history.functions import history_functions
from gmi_ui.history.store import latents_in
from gmi_ui.notices import Notice
from gmi_ui.runs.job import as_moved
from gmi_ui.sessions import Arrival
from gmi_ui.tabs.common import Page, take_saved

GO_BY = {
    "like": "Press Run for pictures like those from your history.",
    "unlike": "Press Run for pictures unlike those from your history.",
}
AROUND = "Press Run for more pictures like the one from your history."


class HistoryTab:
    """Find what was made."""

    title = "History"
    task = "history"

    def build(self, page: Page) -> None:
        def restore(token: str, path: Path) -> str:
            target, restored = take_saved(page, token, path)
            target.arrival = Arrival(restored.settings)
            return restored.settings.task

        def more(token: str, path: Path) -> str:
            start = latents_in(path)
            target, restored = take_saved(page, token, path)
            settings: Any = replace(as_moved(restored.settings), start=start)  # type: ignore[call-arg]
            settings = replace(settings, flow=replace(settings.flow, until=None))
            target.descend(settings, page.services.outputs.id_of(path))
            target.arrival = Arrival(settings)
            if restored.notice.kind != "warning":
                target.say(Notice(AROUND))
            return str(settings.task)

        def go_by(token: str, paths: Sequence[Path], how: str) -> str:
            from engine.pictures.examples import read_examples

            given = read_examples(paths)
            page.services.examples.add(given)
            target = page.services.sessions.get(token, "generate")
            target.arrival = Arrival(fields={how: given.sha256})
            target.say(Notice(GO_BY[how]))
            return "generate"

        history(history_functions(page.services, restore, more, go_by))
