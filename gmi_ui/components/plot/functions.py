"""What the plot's component calls on the server. Each takes one dict from the page, so nothing in it is trusted."""

import base64
from collections.abc import Callable
from typing import Any

from gmi_ui.notices import NotPossibleError
from gmi_ui.runs.plotting import DrawnCell
from gmi_ui.server_functions import progress_of, session_of, told
from gmi_ui.services import Services

CELL_SIDE = 160  # pixels of a picture in the table


def plot_functions(services: Services) -> list[Callable[..., Any]]:
    """The functions that `plot_view` expects."""

    def plot_state(request: dict) -> dict[str, Any]:
        """Where the tab's plot stands, with those of its cells that the page does not have; empty where there is none.

        id, count: the plot that the page shows and how many cells it has.
        """
        session = session_of(services, request)
        work = session.plotting if session is not None else None
        if work is None:
            return {}
        work.seen()
        count = request.get("count")
        known = count if request.get("id") == work.id and type(count) is int and count >= 0 else 0
        sheet = work.plot.sheet
        return progress_of(services, work) | {
            "x": {"label": sheet.x_label, "texts": list(sheet.x_texts)},
            "y": {"label": sheet.y_label, "texts": list(sheet.y_texts)},
            "words": sheet.words,
            "shown": sheet.shown,
            "count": len(work.plot.cells),
            "known": known,
            "cells": [_cell(one) for one in work.drawn[known:]],
        }

    def stop_plot(request: dict) -> bool:
        """Ends the plot that is being drawn; the cells that are done stay."""
        session = session_of(services, request)
        if session is None or session.plotting is None or session.plotting.is_over:
            return False
        session.plotting.stop()
        return True

    def save_plot(request: dict) -> dict[str, str]:
        """The path of the plot as one picture. Empty if it failed: the tab's next frame tells why."""
        session = session_of(services, request)
        if session is None:
            return {}

        def save() -> str:
            work = session.plotting
            if work is None or not work.drawn:
                raise NotPossibleError("There is no plot to save yet.")
            return str(services.pictures.save_plot(work.id, work.plot.base.prompt, work.sheet()))

        path = told(session, save, "plot")
        return {"path": path} if path else {}

    return [plot_state, stop_plot, save_plot]


def _cell(drawn: DrawnCell) -> dict[str, Any]:
    from engine.pictures import imaging

    jpegs = [imaging.to_jpeg(pixels, max_side=CELL_SIDE) for pixels in drawn.pictures]
    return {
        "column": drawn.cell.column,
        "row": drawn.cell.row,
        "pictures": [base64.b64encode(jpeg).decode() for jpeg in jpegs],
        "text": None if drawn.text_score is None else round(drawn.text_score, 3),
        "diversity": None if drawn.diversity is None else round(drawn.diversity, 3),
        "error": drawn.error,
    }
