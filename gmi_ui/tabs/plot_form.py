"""The form of a plot: which two settings over which values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from engine.bulk.axes import PLOTTABLE, Axis, make_axis
from engine.bulk.plot import MOST_CELLS, MOST_SHOWN, USUALLY_SHOWN, BaseOf, Plot, plan
from engine.settings import SettingsError

NONE = ""
_HELP = "0, 0.5, 1 or 0:1:0.25; names divided by commas; prompts one a line."


@dataclass(frozen=True)
class PlotForm:
    """The form's components."""

    x: Component
    x_values: Component
    y: Component
    y_values: Component
    shown: Component
    run: gr.Button

    def plan(self, values: Mapping[Component, Any], base_of: BaseOf) -> Plot:
        """The plot that is asked for. Raises SettingsError."""
        x = _axis(values[self.x], values[self.x_values])
        if x is None:
            raise SettingsError("Plot: choose a setting for the columns.")
        y = _axis(values[self.y], values[self.y_values])
        return plan(base_of, x, y, shown=int(values[self.shown] or USUALLY_SHOWN))


def _axis(field: Any, values: Any) -> Axis | None:
    return make_axis(str(field), str(values or "")) if field else None


def plot_form() -> PlotForm:
    """Folded away."""
    settings = [(about.label, field) for field, about in PLOTTABLE.items()]
    with gr.Accordion("Plot two settings", open=False, elem_id="plot-form"):
        x = gr.Dropdown(settings, value="diversity", label="Columns", info="One setting.", elem_id="plot-x")
        x_values = gr.Textbox(
            "0, 0.5, 1", label="Its values", info=_HELP, lines=1, max_lines=6, elem_id="plot-x-values"
        )
        y = gr.Dropdown(
            [("Nothing", NONE), *settings], value=NONE, label="Rows", info="Another one, or none.", elem_id="plot-y"
        )
        y_values = gr.Textbox("", label="Its values", max_lines=6, elem_id="plot-y-values")
        shown = gr.Slider(
            value=USUALLY_SHOWN,
            minimum=1,
            maximum=MOST_SHOWN,
            step=1,
            label="Pictures shown",
            info=f"The first of each cell. Same seeds in all cells, {MOST_CELLS} cells at most.",
            elem_id="plot-shown",
            buttons=[],
        )
        run = gr.Button("Run the plot", size="sm", elem_id="run-plot")
    return PlotForm(x, x_values, y, y_values, shown, run)
