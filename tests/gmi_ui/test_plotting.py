"""A plot on the page: a form, a run for every cell, shown as they come, saved as one picture."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.pictures import imaging, png_files
from engine.settings import GenerateSettings
from gmi_ui.components.plot.functions import plot_functions
from gmi_ui.history.outputs import Outputs
from gmi_ui.pictures.restoring import restored
from gmi_ui.runs.plotting import Plotting
from gmi_ui.runs.run import OURS
from gmi_ui.runs.work import Phase
from gmi_ui.services import Services
from tests.gmi_ui.test_switching import TOKEN, Tab
from tests.gmi_ui.tiny import three_models
from tests.gmi_ui.waiting import wait_for_end, wait_until


def tab_around(services: Services) -> Tab:
    tab = Tab(services)
    tab["steps"], tab["n"], tab["prompt"], tab["seed"] = 2, 3, "blue", 5
    return tab


@pytest.fixture
def tab() -> Tab:
    return tab_around(Services.around(three_models()))


def press(tab: Tab, x: str, x_values: str, y: str = "", y_values: str = "", shown: int = 2) -> None:
    form = tab.layout.plotting
    given = {form.x: x, form.x_values: x_values, form.y: y, form.y_values: y_values, form.shown: shown}
    tab.wiring.plot({**tab.sent, **given})


def plotted(tab: Tab, *asked: Any) -> Plotting:
    press(tab, *asked)
    work = tab.session.plotting
    assert work is not None, tab.session.notice
    wait_for_end(work)
    return work


def call(tab: Tab, services: Services, name: str, **request: Any) -> Any:
    functions = {function.__name__: function for function in plot_functions(services)}
    return functions[name]({"token": TOKEN, **request})


def places(state: Mapping[str, Any]) -> list[tuple[int, int]]:
    return [(cell["column"], cell["row"]) for cell in state["cells"]]


def test_every_cell_is_the_run_of_its_settings(tab: Tab) -> None:
    work = plotted(tab, "diversity", "0, 1", "step_size", "0.1:0.3:0.2")
    assert work.moment.phase is Phase.DONE and [one.error for one in work.drawn] == [""] * 4
    for one in work.drawn:
        tab["diversity"], tab["step_size"] = (0.0, 1.0)[one.cell.column], (0.1, 0.3)[one.cell.row]
        side = tab.run().moment.sides[OURS]
        assert np.array_equal(np.stack(one.pictures), imaging.to_uint8(side.step.pictures)[:2])
        assert one.diversity == side.step.diversity


def test_another_model_comes_with_its_own_controls(tab: Tab) -> None:
    work = plotted(tab, "model", "avatars, mosaic", "preset", "robust, kde")
    assert [one.error for one in work.drawn] == [""] * 4
    assert [one.cell.settings.model for one in work.drawn] == ["avatars", "avatars", "mosaic", "mosaic"]
    estimators = {one.cell.place: one.cell.settings.flow.estimator for one in work.drawn}
    assert estimators == {(0, 0): "krr", (1, 0): "krr", (0, 1): "kde", (1, 1): "kde"}
    assert {one.cell.settings.prompt for one in work.drawn} == {"blue"}


def test_the_page_gets_each_cell_once_and_the_picture_says_what_it_is() -> None:
    services = Services.around(three_models())
    tab = tab_around(services)
    assert call(tab, services, "plot_state") == {} and call(tab, services, "save_plot") == {}
    work = plotted(tab, "prompt", "red\n{green|blue}")
    state = call(tab, services, "plot_state")
    assert places(state) == [(0, 0), (1, 0), (2, 0)] and state["x"]["texts"] == ["red", "green", "blue"]
    assert all(len(cell["pictures"]) == 2 for cell in state["cells"]) and state["is_over"]
    assert places(call(tab, services, "plot_state", id=work.id, count=2)) == [(2, 0)]
    assert places(call(tab, services, "plot_state", id="another", count=2)) == places(state)
    path = Path(call(tab, services, "save_plot")["path"])
    assert path.is_relative_to(services.pictures.folder) and path.name == "blue_plot.png"
    carried = png_files.read_metadata(path)
    assert carried["extra"]["plot"]["x"] == {"field": "prompt", "values": ["red", "green", "blue"]}
    assert restored(path, services.models).settings == work.plot.base
    assert set(carried["models"]) == {"avatars", "clip-mini"}


def test_a_plot_can_be_stopped_and_keeps_what_it_has() -> None:
    services = Services.around(three_models(delay=0.02))
    tab = tab_around(services)
    press(tab, "seed", "1:8", "steps", "3:9:2")
    work = tab.session.plotting
    assert work is not None
    press(tab, "seed", "1, 2")
    assert tab.session.plotting is work and "already" in str(tab.session.notice)
    wait_until(lambda: len(work.drawn) >= 2)
    assert call(tab, services, "stop_plot") is True
    wait_for_end(work)
    assert work.moment.phase is Phase.STOPPED and 2 <= len(work.drawn) < 32
    with Image.open(io.BytesIO(work.sheet())) as picture:
        assert picture.width > 8 * 60
    assert call(tab, services, "stop_plot") is False
    assert plotted(tab, "seed", "1").moment.phase is Phase.DONE


def test_a_cell_that_fails_says_so_and_the_rest_goes_on(tab: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    from gmi_ui.jobs.generating import GenerateJob

    prepare = GenerateJob.prepare

    def fail(self: GenerateJob, settings: GenerateSettings, *rest: Any) -> Any:
        if settings.seed == 2:
            raise ValueError("no such luck")
        return prepare(self, settings, *rest)

    monkeypatch.setattr(GenerateJob, "prepare", fail)
    work = plotted(tab, "seed", "1:3")
    assert work.moment.phase is Phase.DONE
    assert [bool(one.pictures) for one in work.drawn] == [True, False, True]
    assert "no such luck" in work.drawn[1].error and work.sheet()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("", "0, 1"), "choose a setting for the columns"),
        (("diversity", ""), "Diversity: the list of values is empty"),
        (("diversity", "0, 9"), "Diversity: 9 is outside 0 to 2"),
        (("diversity", "0, 1", "diversity", "0, 1"), "on both axes"),
        (("seed", "1:9", "steps", "1:9"), "64 or fewer"),
        (("model", "nobody"), "nobody"),
        (("colour", "red"), "no setting"),
    ],
)
def test_what_cannot_be_plotted_is_told_and_nothing_runs(tab: Tab, asked: Any, told: str) -> None:
    press(tab, *asked)
    assert tab.session.plotting is None
    assert tab.session.notice is not None and told in tab.session.notice.text


def test_the_pictures_of_all_cells_are_kept_as_others_are(tmp_path: Path) -> None:
    services = Services.around(three_models(), outputs=Outputs(tmp_path))
    plotted(tab_around(services), "seed", "1, 9")
    services.outputs.end(60)
    assert len(list(tmp_path.rglob("*.png"))) == 6
