"""Several models on one page: each has its own controls, and one can run beside another."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
import torch

from engine.errors import ModelError
from engine.families import FAMILIES, find_family
from engine.models import store
from engine.models.store import OwnModel
from engine.models.table import list_models
from engine.pictures import png_files
from engine.settings import GenerateSettings, SettingsError
from gmi_ui.controls import AUTO, BASELINE, NOTHING, REST, is_shown, settings_from, usable_settings, values_of
from gmi_ui.frames import stage_of
from gmi_ui.jobs.generating import GENERATE, NOT_COMPARABLE
from gmi_ui.models.catalogue import look_up
from gmi_ui.models.models import Models, shown_name
from gmi_ui.pictures.restoring import restored
from gmi_ui.pictures.saving import Pictures
from gmi_ui.runs.redrawing import step_of
from gmi_ui.runs.run import BASELINE as BESIDE
from gmi_ui.runs.run import OURS, Phase, Run
from gmi_ui.services import Services
from gmi_ui.sessions import KEPT_MODELS, Arrival, Session
from gmi_ui.studio import build
from gmi_ui.tabs.common import Page
from gmi_ui.tabs.generate import DEFAULTS, GenerateLayout, GenerateWiring
from tests.gmi_ui.test_frames import frame_of
from tests.gmi_ui.tiny import CLASS_NAMES, CLASS_PROMPTS, CODE_PROMPTS, WIDE, three_models, tiny_models, tiny_settings
from tests.gmi_ui.waiting import wait_for_end, wait_until

TOKEN = "cd" * 16


@pytest.fixture
def three_services() -> Services:
    return Services.around(three_models())


class Tab:
    """The Generate tab without a browser: the values of its controls, changed as its handlers say."""

    def __init__(self, services: Services) -> None:
        with gr.Blocks(analytics_enabled=False) as blocks:
            token = gr.Textbox()
            self.layout = GenerateLayout(services)
            self.wiring = GenerateWiring(Page(blocks, services, token, gr.HTML()), self.layout)
        self.services, self._token = services, token
        self.components = self.layout.panel.components
        self.values: dict[Any, Any] = {c: values_of(DEFAULTS)[name] for name, c in self.components.items()}
        self.values[self.components[REST]] = ""
        self.visible = {name: c.visible for name, c in self.components.items()}
        self.choices: dict[str, Any] = {}

    def __getitem__(self, field: str) -> Any:
        return self.values[self.components[field]]

    def __setitem__(self, field: str, value: Any) -> None:
        self.values[self.components[field]] = value

    @property
    def session(self) -> Session:
        return self.services.sessions.get(TOKEN)

    @property
    def sent(self) -> dict[Any, Any]:
        return {**self.values, self._token: TOKEN}

    def take(self, changes: Any) -> Any:
        for name, component in self.components.items():
            change = changes.get(component)
            if isinstance(change, dict):
                self.values[component] = change.get("value", self.values[component])
                self.visible[name] = change.get("visible", self.visible[name])
                self.choices[name] = change.get("choices", self.choices.get(name))
            elif change is not None:
                self.values[component] = change
        return changes

    def choose(self, model: str) -> Any:
        self["model"] = model
        return self.take(self.wiring.choose_model_of(self.sent))

    def run(self) -> Run:
        before = self.session.run
        self.wiring.run(self.sent)
        run = self.session.run
        assert run is not None and run is not before, self.session.notice
        wait_for_end(run)
        assert run.moment.phase is Phase.DONE, run.moment.notice
        return run

    def refuse(self) -> str:
        """Presses Run; the message, where there is no run."""
        before = self.session.run
        self.wiring.run(self.sent)
        assert self.session.run is before and self.session.notice is not None
        return self.session.notice.text


@pytest.fixture
def tab(three_services: Services) -> Tab:
    tab = Tab(three_services)
    tab["steps"], tab["n"], tab["prompt"] = 3, 2, "a picture of my own"
    return tab


def made(run: Run) -> GenerateSettings:
    """The settings of a run of this tab."""
    assert isinstance(run.settings, GenerateSettings)
    return run.settings


class Clicked:
    """The event of a click on a picture."""

    def __init__(self, side: str, index: int) -> None:
        self.side, self.index, self.step = side, index, None


# ---- one model after the other ---------------------------------------------------------------------------


def test_the_menu_shows_the_controls_of_the_model_alone(tab: Tab) -> None:
    shown: dict[str, set[str]] = {}
    for model in ("fashion", "mosaic", "avatars"):
        tab.choose(model)
        shown[model] = {field for field, visible in tab.visible.items() if visible is True}
    assert shown["fashion"] - shown["avatars"] == {"classes", "class_count", "relaxed_classes"}
    code_fields = {"detail_steps", "code_order", "codebook", "cutouts", "candidates", "space"}
    assert shown["mosaic"] - shown["avatars"] == code_fields
    assert shown["avatars"] - shown["mosaic"] == {"truncation_psi"}


def test_a_model_brings_its_examples_its_prompt_model_and_its_stages(tab: Tab) -> None:
    changes = tab.choose("mosaic")
    assert changes[tab.layout.bar] == {"examples": list(CODE_PROMPTS)}
    assert tab["prompt_model"] == WIDE and (tab["steps"], tab["detail_steps"]) == (60, 60)
    assert changes[tab.components["steps"]]["label"] == "Stage 1 steps"
    changes = tab.choose("avatars")
    assert tab["prompt_model"] == "clip-mini" and changes[tab.components["steps"]]["label"] == "Steps"


def test_settings_of_one_model_never_reach_another(tab: Tab) -> None:
    tab["diversity"], tab["truncation_psi"], tab["preset"] = 0.9, 0.4, "kde"
    tab.choose("mosaic")
    assert (tab["diversity"], tab["preset"], tab["steps"]) == (0.5, "robust", 60)
    tab["codebook"], tab["steps"], tab["detail_steps"], tab["code_order"] = 0, 2, 4, "centre"
    tab.choose("fashion")
    assert tab["steps"] == 60 and tab["truncation_psi"] == 1
    tab["classes"], tab["truncation_psi"] = ["dress", "bag"], 0.6
    tab.choose("avatars")
    assert (tab["diversity"], tab["truncation_psi"], tab["preset"], tab["steps"]) == (0.9, 0.4, "kde", 3)
    tab.choose("mosaic")
    assert (tab["codebook"], tab["steps"], tab["detail_steps"], tab["code_order"]) == (0, 2, 4, "centre")
    tab.choose("fashion")
    assert tab["classes"] == ["dress", "bag"] and tab["truncation_psi"] == 0.6


def test_what_no_control_shows_does_not_reach_another_model_either(tab: Tab) -> None:
    restored_run = GenerateSettings.from_dict(
        {"prompt": "x", "space": "z", "start": [0.1] * 12, "flow": {"langevin": 0.2, "steps": 3}}
    )
    tab.take(tab.wiring.show(tab.session, restored_run))
    tab.choose("mosaic")
    run = tab_run_settings(tab)
    assert run.space is None and run.start is None and run.flow.langevin == 0
    tab.choose("avatars")
    assert tab_run_settings(tab) == restored_run


def tab_run_settings(tab: Tab) -> GenerateSettings:
    return tab.wiring.chosen(tab.session, tab.sent)


def test_prompt_seed_and_number_of_pictures_stay_and_an_example_does_not(tab: Tab) -> None:
    tab["seed"], tab["n"] = 17, 3
    tab.choose("fashion")
    assert (tab["prompt"], tab["seed"], tab["n"]) == ("a picture of my own", 17, 3)
    tab.choose("avatars")
    tab["prompt"] = "blue and green"  # an example of avatars
    tab.choose("fashion")
    assert tab["prompt"] == CLASS_PROMPTS[0]


def test_a_value_that_cannot_be_used_does_not_keep_from_switching(tab: Tab) -> None:
    tab["step_size"], tab["diversity"] = None, 0.8
    tab.choose("mosaic")
    assert tab["model"] == "mosaic"
    tab.choose("avatars")
    assert tab["diversity"] == 0.8 and tab["step_size"] == DEFAULTS.flow.step_size


def test_run_before_the_controls_have_followed_takes_the_models_own(tab: Tab) -> None:
    """As after Ctrl+Enter while a large model still loads."""
    tab["truncation_psi"], tab["diversity"] = 0.3, 0.9
    tab["model"], tab["prompt"] = "mosaic", "a green square"
    settings = tab_run_settings(tab)
    assert settings.prompt_model == WIDE and settings.truncation_psi == 1 and settings.flow.diversity == 0.5
    assert settings.flow.detail_steps == 60 and settings.n == 2


def test_a_model_that_cannot_be_loaded_changes_nothing(tab: Tab) -> None:
    tab["diversity"] = 0.9
    assert set(tab.choose("nowhere.pt")) == {tab.layout.grid}
    assert tab.session.notice is not None and "nowhere.pt" in tab.session.notice.text
    assert "nowhere.pt" in tab.refuse()
    tab.choose("avatars")
    assert tab["diversity"] == 0.9 and tab.run().settings.flow.diversity == 0.9


def test_the_kept_settings_are_not_endless() -> None:
    session = Session()
    for number in range(KEPT_MODELS + 5):
        session.keep_settings(tiny_settings(model=f"model-{number}"))
    assert len(session.kept_settings) == KEPT_MODELS and "model-0" not in session.kept_settings


def test_a_models_own_file_is_looked_up_by_loading_it() -> None:
    models = tiny_models()
    assert look_up(models, "avatars").family == FAMILIES["stylegan2"]
    with pytest.raises(ModelError):
        look_up(models, "other")


# ---- classes ---------------------------------------------------------------------------------------------


def test_an_own_stylegan_with_classes_shows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened once, its entry tells the classes; without any, the family has no control for them."""
    monkeypatch.setenv("GMI_MODELS", str(tmp_path))
    for name, classes in (("with.pt", ("coat", "bag")), ("numbers.pt", ("0", "1")), ("without.pt", ())):
        (tmp_path / name).touch()
        path = str(tmp_path / name)
        store.remember_own(OwnModel(path, "generator", "stylegan2", 32, 1, "a format", path, classes))
    rows = {Path(row.name).name: row for row in store.stored_rows()}
    models = tiny_models()
    monkeypatch.setattr(models, "row", rows.get)
    named, numbers, without = (look_up(models, name) for name in ("with.pt", "numbers.pt", "without.pt"))
    assert named.classes == named.examples == ("coat", "bag") and numbers.examples == ()
    shown = [is_shown("classes", entry.family) for entry in (named, numbers, without)]
    assert shown == [True, True, False]
    assert named.family.has_own_choices and is_shown("relaxed_classes", numbers.family)


def test_the_prompt_finds_classes_and_they_can_be_edited(tab: Tab) -> None:
    tab["prompt"] = "an ankle boot and a bag"
    changes = tab.choose("fashion")
    assert tab["classes"] == [AUTO]
    assert "<b>bag</b>" in changes[tab.layout.found] and "<b>ankle boot</b>" in changes[tab.layout.found]
    (_, first), (label, nearest), *others = tab.choices["classes"]
    assert first == AUTO and nearest in ("bag", "ankle boot") and label.startswith(f"{nearest}  0.")
    assert {name for _, name in others} | {nearest} == set(CLASS_NAMES)
    tab.take(tab.wiring.take_classes(tab.sent))
    assert set(tab["classes"]) == {"bag", "ankle boot"}
    tab["classes"] = ["coat", "bag"]
    tab["steps"] = 2
    run = tab.run()
    assert made(run).classes == ("coat", "bag")
    frame = frame_of(tab.services, tab.session)
    assert sorted(frame["sides"]["ours"]["labels"]) == ["bag", "coat"]
    assert list(frame["sides"]["ours"]["leads_to"]) == ["generate"]  # no tab edits what a BigGAN drew


def test_an_example_that_is_clicked_finds_its_classes(tab: Tab) -> None:
    tab["prompt"] = "an ankle boot"
    tab.choose("fashion")
    clicked = SimpleNamespace(text="a coat")
    assert "<b>coat</b>" in tab.wiring.find_picked(tab.sent, clicked)[tab.layout.found]  # type: ignore[arg-type]


def test_a_prompt_that_cannot_be_used_finds_nothing(tab: Tab) -> None:
    tab["prompt"] = "an ankle boot"
    tab.choose("fashion")
    tab["prompt"] = "coat " * 2000
    assert tab.wiring.find_classes(tab.sent)[tab.layout.found] == ""


def test_mixed_classes_tell_their_shares(tab: Tab) -> None:
    tab["prompt"] = "a coat"
    tab.choose("fashion")
    tab["classes"], tab["relaxed_classes"], tab["steps"] = ["coat", "bag"], True, 2
    tab.run()
    assert all(label.endswith(" %") for label in frame_of(tab.services, tab.session)["sides"]["ours"]["labels"])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("classes", ["dres"], "Classes: there is no class 'dres'; did you mean dress?"),
        ("classes", [], "Classes: there is none; choose at least one"),
        ("classes", ["12"], "Classes: there is no class '12'; the classes are dress, coat"),
        ("truncation_psi", 0, "Truncation: 0 is outside 0.05 to 1"),
        ("prompt", "something", "Classes: no class is close to 'something'; the nearest are"),
        ("class_count", 0, "Classes at most: 0 is outside"),
        ("relaxed_classes", "perhaps", "Mix classes: expected true or false"),
        ("space", "w+", "What moves: 'w+' is unknown to fashion; it has z"),
    ],
)
def test_what_does_not_fit_the_classes_is_told_and_nothing_lost(tab: Tab, field: str, value: Any, message: str) -> None:
    tab["prompt"] = "a coat"
    tab.choose("fashion")
    tab["steps"] = 1
    run = tab.run()
    tab[field] = value
    assert message in tab.refuse()
    assert tab.session.run is run and tab[field] == value


def test_a_prompt_close_to_no_class_is_told_beside_the_choice(tab: Tab) -> None:
    tab["prompt"] = "something"
    changes = tab.choose("fashion")
    assert "No class is close to" in changes[tab.layout.found] and "nearest" in changes[tab.layout.found]


def test_names_in_the_page_are_only_text(tab: Tab) -> None:
    tab["prompt"] = "<img src=x onerror=alert(1)>"
    assert "<img" not in tab.choose("fashion")[tab.layout.found]


# ---- stages ----------------------------------------------------------------------------------------------


def test_both_stages_are_seen(tab: Tab) -> None:
    tab.choose("mosaic")
    tab["steps"], tab["detail_steps"], tab["beside"] = 3, 2, NOTHING
    run = Run(tab_run_settings(tab), GENERATE)
    seen: list[Any] = []
    tab.session.begin(run)
    show = run.show

    def watched(sides: Any) -> None:
        show(sides)
        seen.append(stage_of(run))

    run.show = watched  # type: ignore[method-assign, assignment]
    tab.services.queue.submit(run)
    wait_for_end(run)
    assert [one["number"] for one in seen] == [1, 1, 1, 2, 2, 2]
    assert seen[0]["text"] == "all codes together" and seen[-1]["begins"] == 0.6
    assert frame_of(tab.services, tab.session)["stage"]["number"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 990}, "Stage 1 steps: 1050 is outside"),
        ({"steps": -1, "detail_steps": 4}, "Stage 2 steps: 4 steps of the second stage are more than all 3"),
        ({"codebook": -1}, "Pull to the codes: -1 is outside"),
        ({"code_order": "spiral"}, "Order of the codes: 'spiral' is unknown; choose one of rows, centre, random"),
        ({"cutouts": 1000}, "Random views: 1000 is outside 0 to 32"),
    ],
)
def test_what_does_not_fit_the_codes_is_told(tab: Tab, changes: dict[str, Any], message: str) -> None:
    tab.choose("mosaic")
    for field, value in changes.items():
        tab[field] = value
    assert tab.refuse().startswith(message.replace("Stage 1 steps", "Steps"))


def test_more_codes_than_memory_is_told_before_the_run(tab: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    tab.choose("mosaic")
    tab["space"] = "soft"
    monkeypatch.setattr("engine.latents.codebook.SOFT_COPIES", 10**12)
    assert tab.refuse().startswith("Pictures: mixtures of 8 codes at 4 x 4 places need about")


def test_the_ablation_without_regulariser_runs(tab: Tab) -> None:
    tab.choose("mosaic")
    tab["codebook"], tab["steps"], tab["detail_steps"] = 0, 2, 1
    last = tab.run().moment.sides[OURS].step
    assert "nearest code" not in last.log_values


# ---- two models side by side -----------------------------------------------------------------------------


@pytest.fixture
def comparison(tab: Tab) -> Run:
    tab.choose("mosaic")
    tab["steps"], tab["detail_steps"], tab["codebook"] = 2, 3, 0.5
    tab.choose("avatars")
    tab["beside"], tab["steps"] = "mosaic", 3
    return tab.run()


def test_another_model_runs_beside_with_its_own_settings(tab: Tab, comparison: Run) -> None:
    other = made(comparison).beside
    assert other is not None and (other.model, other.prompt_model) == ("mosaic", WIDE)
    assert (other.flow.steps, other.flow.detail_steps, other.flow.codebook) == (5, 3, 0.5)
    assert (other.prompt, other.n, other.seed) == (tab["prompt"], 2, 1)
    moment = comparison.moment
    assert moment.sides[OURS].step.step == 3 and moment.sides[BESIDE].step.step == 5 == comparison.total
    assert moment.sides[OURS].step.images.shape[-1] == 32 and moment.sides[BESIDE].step.images.shape[-1] == 16


def test_both_sides_name_their_models_and_their_judges(tab: Tab, comparison: Run) -> None:
    frame = frame_of(tab.services, tab.session)
    assert frame["titles"] == {"ours": "avatars, judged by clip-mini", "baseline": f"mosaic, judged by {WIDE}"}
    assert [NOT_COMPARABLE in figure["help"] for figure in frame["figures"]] == [False, True]
    fits = [frame["sides"][name]["fits"] for name in ("ours", "baseline")]
    assert all(0 <= fit <= 1 for side in fits for fit in side)
    assert frame["stage"] == {"number": 2, "text": "codes in turn (mosaic)", "begins": 0.4}
    assert [frame["sides"][name]["total"] for name in ("ours", "baseline")] == [3, 5]
    assert len(frame["sides"]["baseline"]["curves"]["text"]) == 6


def test_each_side_is_what_its_model_makes_alone(tab: Tab, comparison: Run) -> None:
    assert made(comparison).beside is not None
    tab.choose("mosaic")
    tab["beside"] = NOTHING
    alone = tab.run()
    assert torch.equal(alone.moment.sides[OURS].step.images, comparison.moment.sides[BESIDE].step.images)


def test_a_comparison_is_restored_from_either_side(tab: Tab, comparison: Run, tmp_path: Path) -> None:
    pictures = Pictures(tmp_path)
    ours = pictures.save_one(comparison, OURS, 0)
    found = restored(ours, tab.services.models).settings
    assert found == comparison.settings
    assert set(png_files.read_metadata(ours)["models"]) == {"avatars", "mosaic", "clip-mini", WIDE}
    fresh = Tab(tab.services)
    fresh.take(fresh.wiring.show(fresh.session, found))
    assert fresh["beside"] == "mosaic" and tab_run_settings(fresh) == found
    theirs = pictures.save_one(comparison, BESIDE, 1)
    assert theirs.name.endswith("_mosaic.png")
    other = restored(theirs, tab.services.models).settings
    assert other == made(comparison).beside
    assert set(png_files.read_metadata(theirs)["models"]) == {"mosaic", WIDE}
    fresh.take(fresh.wiring.show(fresh.session, other))
    assert fresh["model"] == "mosaic" and fresh["codebook"] == 0.5 and fresh["beside"] == NOTHING


def test_a_stopped_comparison_is_made_again(tmp_path: Path) -> None:
    services = Services.around(three_models(delay=0.02))
    beside = tiny_settings(model="mosaic", prompt_model=WIDE, baseline=False, flow={"steps": 90, "detail_steps": 40})
    settings = GenerateSettings.from_dict({**tiny_settings(flow={"steps": 80}).to_dict(), "beside": beside.to_dict()})
    run = Run(settings, GENERATE)
    services.start(Session(), run)
    wait_until(lambda: run.moment.step >= 3)
    run.stop()
    wait_for_end(run)
    again = Run(restored(Pictures(tmp_path).save_one(run, OURS, 0), services.models).settings, GENERATE)
    services.start(Session(), again)
    wait_for_end(again)
    for side in (OURS, BESIDE):
        assert torch.equal(again.moment.sides[side].step.images, run.moment.sides[side].step.images)


def compared(ours: dict[str, Any], other: dict[str, Any]) -> GenerateSettings:
    """avatars with mosaic beside it, each with the numerical choices given."""
    beside = tiny_settings(model="mosaic", prompt_model=WIDE, baseline=False, flow=other)
    return tiny_settings(baseline=False, flow=ours, beside=beside.to_dict())


def in_force(run: Run, side: str, step: int) -> tuple[float, float]:
    flow = run.flows_from(step)[side]
    return flow.step_size, flow.diversity


@pytest.mark.parametrize(
    ("step_size", "diversity", "other"),
    [
        (0.15, 0.5, (0.005, 0.8)),  # half of ours, half of the other's; its diversity is its own
        (0.3, 0.9, (0.01, 0.9)),
        (0.6, 0.0, (0.02, 0.0)),
        (0.3, 0.5, (0.01, 0.8)),
    ],
)
def test_a_slider_moved_during_a_comparison_reaches_both_models(
    step_size: float, diversity: float, other: tuple[float, float]
) -> None:
    run = Run(compared({"step_size": 0.3, "steps": 40}, {"step_size": 0.01, "diversity": 0.8, "steps": 40}), GENERATE)
    run.tune(step_size=step_size, diversity=diversity)
    assert in_force(run, OURS, 4) == (step_size, diversity)
    assert in_force(run, BESIDE, 4) == pytest.approx(other) and in_force(run, BESIDE, 3) == (0.01, 0.8)
    run.tune(step_size=0.3, diversity=diversity)
    assert in_force(run, BESIDE, 9) == (0.01, other[1])  # exactly: the factor counts from the beginning
    then: Any = run.settings_at(OURS, 9)
    assert then.beside == run.settings_at(BESIDE, 9) and then.beside.flow.until == then.flow.until == 9
    assert then.beside.flow.as_moved.step_size == pytest.approx(other[0])
    final: Any = run.final_settings
    assert final.beside == made(run).beside  # on the page each model's controls stay its own


def test_a_step_size_beyond_the_limits_is_not_passed_on() -> None:
    run = Run(compared({"step_size": 0.01}, {"step_size": 0.9}), GENERATE)
    run.tune(step_size=0.4, diversity=0.5)
    assert in_force(run, BESIDE, 1) == (1.0, 0.5)
    run.tune(step_size=1e-6, diversity=0.5)
    assert in_force(run, BESIDE, 2) == (pytest.approx(9e-5), 0.5)


def test_moves_that_count_from_the_same_step_are_one() -> None:
    """As where a run that was stopped goes on: the step is begun twice."""
    run = Run(compared({"steps": 6, "step_size": 0.3}, {"steps": 6, "step_size": 0.01, "diversity": 0.8}), GENERATE)
    run.tune(step_size=0.3, diversity=0.9)
    assert in_force(run, BESIDE, 5) == (0.01, 0.9)
    run.tune(step_size=0.3, diversity=0.5)
    assert in_force(run, BESIDE, 5) == (0.01, 0.8) and run.settings_at(OURS, 6) == run.settings


def test_a_comparison_whose_sliders_were_moved_is_made_again_from_either_side(tmp_path: Path) -> None:
    """Moved while both go on, while it pauses, and after our side has ended and it was stopped and continued."""
    services, session = Services.around(three_models(delay=0.01)), Session()
    run = Run(compared({"steps": 20, "step_size": 0.3}, {"steps": 40, "detail_steps": 12, "step_size": 0.01}), GENERATE)
    services.start(session, run)
    wait_until(lambda: run.moment.step >= 4)
    run.tune(step_size=0.12, diversity=0.9)
    wait_until(lambda: run.moment.step >= 9)
    run.pause()
    run.tune(step_size=0.5, diversity=0.2)
    run.resume()
    wait_until(lambda: run.moment.step >= 23)
    run.stop()
    wait_for_end(run)
    pictures, at = Pictures(tmp_path), run.moment.step
    stopped = Run(restored(pictures.save_one(run, OURS, 1), services.models).settings, GENERATE)
    services.start(Session(), stopped)
    wait_for_end(stopped)
    assert stopped.moment.phase is Phase.STOPPED and stopped.moment.step == at
    assert torch.equal(stopped.moment.sides[BESIDE].step.images, run.moment.sides[BESIDE].step.images)
    services.go_on(session)
    run.tune(step_size=0.06, diversity=1.0)
    wait_until(lambda: run.moment.phase is Phase.DONE)
    ours, theirs = (restored(pictures.save_one(run, side, 0), services.models).settings for side in (OURS, BESIDE))
    assert isinstance(ours, GenerateSettings) and ours.beside == theirs
    assert [change[1:] for change in ours.flow.changes] == [(0.12, 0.9), (0.5, 0.2)]
    moved = [(pytest.approx(0.01 * size / 0.3), diversity) for size, diversity in ((0.12, 0.9), (0.5, 0.2), (0.06, 1))]
    assert [change[1:] for change in theirs.flow.changes] == moved
    fresh = Tab(services)
    fresh.take(fresh.wiring.show(fresh.session, ours))
    assert tab_run_settings(fresh) == ours
    again = fresh.run()
    for side in (OURS, BESIDE):
        assert torch.equal(again.moment.sides[side].step.images, run.moment.sides[side].step.images)
    alone = Run(theirs, GENERATE)
    services.start(Session(), alone)
    wait_for_end(alone)
    assert torch.equal(alone.moment.sides[OURS].step.images, run.moment.sides[BESIDE].step.images)
    earlier = Run(restored(pictures.save_one(run, BESIDE, 0, step=14), services.models).settings, GENERATE)
    services.start(Session(), earlier)
    wait_for_end(earlier)
    at = earlier.moment.step
    assert at == run.moment.sides[BESIDE].kept_at(14).step
    assert torch.equal(earlier.moment.sides[OURS].step.images, step_of(run, BESIDE, at).images)


def test_a_latent_space_that_a_picture_names_can_be_seen_and_left(tab: Tab) -> None:
    """Where the model offers none besides."""
    shown = []
    for space in (None, "z"):
        tab.take(tab.wiring.show(tab.session, tiny_settings(space=space)))
        shown.append((tab["space"], tab.visible["space"]))
    assert shown == [("", False), ("z", True)]
    assert [value for _, value in tab.choices["space"]] == ["", "z"]
    assert made(tab.run()).space == "z"
    tab["space"] = ""
    assert tab_run_settings(tab).space is None
    tab.choose("fashion")
    assert tab["space"] == "" and not tab.visible["space"]


def test_a_model_offers_latent_spaces_that_its_family_does_not_know() -> None:
    models = Models(replace(tiny_models()._loaders, rows=list_models))
    assert look_up(models, "avatars").family.spaces == ("w_settled",)
    assert find_family("stylegan2").spaces == ()


def test_a_comparison_that_is_changed_after_restoring_is_a_plain_one(tab: Tab) -> None:
    run = Run(compared({"step_size": 0.3}, {"step_size": 0.01}), GENERATE)
    run.tune(step_size=0.15, diversity=0.9)
    run.flows_from(2)
    tab.take(tab.wiring.show(tab.session, run.settings_at(OURS, 6)))
    tab["seed"] = 77
    changed = tab_run_settings(tab)
    assert changed.beside is not None and changed.flow.changes == changed.beside.flow.changes == ()
    assert (changed.flow.step_size, changed.flow.diversity) == (0.15, 0.9)
    assert (changed.beside.flow.step_size, changed.beside.flow.diversity) == (0.005, 0.9)
    tab["beside"] = NOTHING
    tab.choose("mosaic")
    assert tab_run_settings(tab).flow == changed.beside.flow


def test_a_comparison_that_names_moves_of_one_side_makes_them_there_alone(tab: Tab) -> None:
    """As pictures say it that were saved when sliders reached one model only."""
    settings = compared({"changes": [[2, 0.11, 0.9]], "steps": 6}, {"step_size": 0.01, "steps": 6})
    tab.take(tab.wiring.show(tab.session, settings))
    assert tab_run_settings(tab) == settings
    run = tab.run()
    assert made(run) == settings == run.settings_at(OURS, 6)
    assert run.settings_at(BESIDE, 6) == settings.beside


def test_a_slider_of_another_model_does_not_reach_the_run(tab: Tab) -> None:
    run = Run(tiny_settings(flow={"steps": 9}), GENERATE)
    tab.session.begin(run)
    tab.wiring.tune(TOKEN, 0.01, 0.9, "mosaic")  # the menu was turned to it meanwhile
    assert run.flow == run.settings.flow
    tab.wiring.tune(TOKEN, 0.01, 0.9, "avatars")
    assert (run.flow.step_size, run.flow.diversity) == (0.01, 0.9)


def test_all_pictures_of_a_comparison_lie_in_the_zip(comparison: Run, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(Pictures(tmp_path).save_all(comparison)) as archive:
        pictures = sorted(name.split("_")[0] for name in archive.namelist() if "_seed-" in name)
        assert pictures == ["00", "01", "mosaic/00", "mosaic/01"]


def test_a_model_beside_itself_and_a_missing_one_are_refused(tab: Tab) -> None:
    tab["beside"] = "avatars"
    assert "is the model itself" in tab.refuse()
    tab["beside"] = "nothing-here"
    assert "nothing-here" in tab.refuse()
    tab["beside"], tab["prompt"] = "fashion", "something"
    assert tab.refuse().startswith("fashion: Classes: no class is close to")
    tab["beside"] = BASELINE
    tab.run()


# ---- the search for starts -------------------------------------------------------------------------------


SEARCH = "Looking for starts that fit the words"


@pytest.mark.parametrize("is_beside", [False, True])
def test_the_search_for_starts_is_seen_and_can_be_stopped(is_beside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    services, session = Services.around(three_models(delay=0.02)), Session()
    monkeypatch.setattr("engine.tasks.generation.CANDIDATES_AT_ONCE", 1)  # takes seconds
    mosaic = tiny_settings(model="mosaic", prompt_model=WIDE, baseline=False, candidates=90)
    run = Run(tiny_settings(beside=mosaic.to_dict()) if is_beside else mosaic, GENERATE)
    services.start(session, run)
    wait_until(lambda: run.moment.doing == SEARCH and (run.moment.share or 0) > 0.02)
    searching = run.moment
    assert searching.phase is Phase.LOADING and searching.share is not None and searching.share < 0.5
    run.stop()
    wait_for_end(run)
    assert run.moment.phase is Phase.STOPPED and not run.moment.sides and run.moment.notice is None
    monkeypatch.setattr("engine.tasks.generation.CANDIDATES_AT_ONCE", 32)
    other = Run(tiny_settings(), GENERATE)
    services.start(Session(), other)
    wait_until(lambda: other.moment.phase is Phase.DONE)  # the server goes on, and so can the run
    services.go_on(session)
    wait_until(lambda: run.moment.phase is Phase.DONE)
    whole = Run(run.settings, GENERATE)
    services.start(Session(), whole)
    wait_for_end(whole)
    for side, shown in whole.moment.sides.items():
        assert torch.equal(run.moment.sides[side].step.images, shown.step.images)


# ---- back to what made a picture -------------------------------------------------------------------------


def test_the_same_seed_again_brings_the_model_and_its_classes_back(tab: Tab) -> None:
    tab["prompt"] = "a coat"
    tab.choose("fashion")
    tab["classes"], tab["truncation_psi"], tab["steps"] = ["coat", "bag"], 0.7, 2
    run = tab.run()
    tab["classes"], tab["truncation_psi"], tab["diversity"] = [AUTO], 1, 0.8
    tab.take(tab.wiring.reseed(tab.sent, Clicked("ours", 1)))  # type: ignore[arg-type]
    assert (tab["seed"], tab["classes"], tab["truncation_psi"]) == (2, ["coat", "bag"], 0.7)
    assert tab["diversity"] == 0.8  # no part of where a picture starts
    tab.choose("avatars")
    tab.take(tab.wiring.reseed(tab.sent, Clicked("ours", 0)))  # type: ignore[arg-type]
    assert (tab["model"], tab["seed"], tab["classes"]) == ("fashion", 1, ["coat", "bag"])
    assert tab["prompt_model"] == WIDE
    first = tab.run()
    assert torch.equal(
        first.moment.sides[OURS].kept[0].particles.latents, run.moment.sides[OURS].kept[0].particles.latents
    )


def test_more_like_this_keeps_the_classes_and_goes_back_to_the_model(tab: Tab) -> None:
    tab["prompt"] = "an ankle boot and a bag"
    tab.choose("fashion")
    tab["steps"] = 2
    run = tab.run()
    tab.choose("mosaic")
    changes = tab.take(tab.wiring.more_like_this(tab.sent, Clicked("ours", 1)))  # type: ignore[arg-type]
    assert changes[tab.layout.kept]["visible"] is True
    again = tab.session.run
    assert again is not None and again is not run
    wait_for_end(again)
    assert again.moment.phase is Phase.DONE
    assert again.settings.model == "fashion" and set(made(again).classes) == {"bag", "ankle boot"}
    labels = frame_of(tab.services, tab.session)["sides"]["ours"]["labels"]
    task: Any = run.tasks[OURS]
    assert set(labels) == {task.labels(run.moment.sides[OURS].step)[1]}


def test_a_picture_of_a_generator_that_cannot_edit_is_looked_for_in_one_that_can(tab: Tab) -> None:
    from gmi_ui.opening import Opening

    tab.choose("mosaic")
    tab["steps"], tab["detail_steps"] = 1, 1
    run = tab.run()
    target = tab.services.sessions.get(TOKEN, "edit")
    version = Opening(tab.services, "edit").cell(target, run, OURS, 0, None)
    assert version.inversion is not None and (version.inversion.model, version.inversion.prompt_model) == (
        "avatars",
        "clip-mini",
    )
    version.inversion.stop()


# ---- settings on their way ----------------------------------------------------------------------------------


def test_all_controls_of_all_families_survive_the_page() -> None:
    beside = tiny_settings(model="mosaic", baseline=False, flow={"steps": 9, "detail_steps": 4, "codebook": 0.0})
    settings = tiny_settings(
        model="fashion",
        classes=["coat", "bag"],
        class_count=2,
        relaxed_classes=True,
        cutouts=4,
        space="soft",
        beside=beside.to_dict(),
        baseline=False,
        flow={"steps": 12, "detail_steps": 5, "code_order": "random", "codebook": 0.25},
    )
    values = values_of(settings)
    assert (values["steps"], values["detail_steps"], values["beside"]) == (7, 5, "mosaic")
    assert settings_from(values) == settings
    touched = settings_from({**values, "codebook": 2})
    assert (touched.flow.steps, touched.flow.detail_steps) == (12, 5)
    assert touched.flow.codebook == 2 and touched.beside == beside  # type: ignore[attr-defined]


def test_usable_settings_leave_out_what_cannot_be_used() -> None:
    values = {**values_of(tiny_settings()), "n": 0, "seed": 9, "prompt": "x" * 9_000, "classes": []}
    found = usable_settings(values)
    assert (found.n, found.seed, found.prompt) == (3, 9, "blue")
    assert usable_settings({**values, REST: "{"}).seed == 9


def test_a_run_beside_a_run_beside_a_run_is_refused() -> None:
    inner = tiny_settings().to_dict()
    nested: dict[str, Any] = {**inner, "beside": {**inner, "beside": inner}}
    with pytest.raises(SettingsError, match="beside: expected the settings of one other run"):
        GenerateSettings.from_dict(nested)
    with pytest.raises(SettingsError, match="beside"):
        GenerateSettings.from_dict({**inner, "beside": 3})
    deep: dict[str, Any] = inner
    for _ in range(500):
        deep = {**inner, "beside": deep}
    with pytest.raises(SettingsError):
        GenerateSettings.from_dict(deep)


def test_names_of_paths() -> None:
    assert [shown_name(name) for name in ("fashion", "/a/b/net.pkl", "folder/", "C:\\nets\\x.pt")] == [
        "fashion", "net.pkl", "folder", "x.pt",
    ]  # fmt: skip


def test_only_generators_that_can_edit_are_listed_where_pictures_are_edited() -> None:
    page, _ = build(three_models())
    choices = {
        component["props"].get("elem_id"): [value for _, value in component["props"]["choices"]]
        for component in page.get_config_file()["components"]
        if component["type"] == "dropdown"
    }
    assert choices["control-model"] == ["avatars", "fashion", "mosaic"]
    assert choices["edit-control-model"] == choices["inpaint-control-model"] == ["avatars"]


# ---- presets, starts, and generators that cannot edit ------------------------------------------------------


def test_a_preset_is_what_it_is_for_the_model(tab: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "biggan", replace(FAMILIES["biggan"], tuned={"step_size": 0.123, "prior": 0.5}))
    tab["prompt"] = "a coat"
    tab.choose("fashion")
    assert tab["step_size"] == 0.123 and tab_run_settings(tab).flow.prior == 0.5
    tab["preset"] = "paper"
    tab.take(tab.wiring.apply_preset_of(tab.sent))
    settings = tab_run_settings(tab)
    assert (settings.flow.step_size, settings.flow.prior, settings.flow.constrain) == (0.1, 0, False)
    tab.run()
    tab["preset"] = "robust"
    tab.take(tab.wiring.apply_preset_of(tab.sent))
    tab.take(tab.wiring.show(tab.session, tab_run_settings(tab)))
    assert tab["step_size"] == 0.123 and tab_run_settings(tab).flow.prior == 0.5


def test_a_preset_keeps_the_second_stage(tab: Tab) -> None:
    tab.choose("mosaic")
    tab["detail_steps"], tab["preset"] = 9, "kde"
    tab.take(tab.wiring.apply_preset_of(tab.sent))
    settings = tab_run_settings(tab)
    assert (settings.flow.steps, settings.flow.detail_steps, settings.flow.estimator) == (69, 9, "kde")


@pytest.mark.parametrize("task", ["edit", "inpaint"])
def test_a_generator_that_cannot_edit_is_refused_there(task: str, three_services: Services) -> None:
    module = importlib.import_module(f"gmi_ui.tabs.{task}")
    with gr.Blocks(analytics_enabled=False) as blocks:
        token = gr.Textbox()
        layout = getattr(module, f"{task.title()}Layout")(three_services)
        wiring = getattr(module, f"{task.title()}Wiring")(Page(blocks, three_services, token, gr.HTML()), layout)
    assert set(wiring.choose_model(TOKEN, "fashion")) == {layout.grid}
    notice = three_services.sessions.get(TOKEN, task).notice
    assert notice is not None and f"fashion is a biggan model, which cannot {task} pictures" in notice.text
    assert "Choose avatars" in notice.text


# ---- what a page kept of its controls


def kept(tab: Tab, *, arrival: int = 0, settled: bool = False, **changes: Any) -> str:
    """What a page sends of the controls that the tab shows."""
    values = {name: tab[name] for name in tab.components} | changes
    return json.dumps({"values": values, "arrival": arrival, "settled": settled})


@pytest.fixture
def other(three_services: Services) -> Tab:
    """The page after a reload: every control as at first."""
    return Tab(three_services)


def test_what_was_typed_and_not_run_comes_back(tab: Tab, other: Tab) -> None:
    tab.run()
    tab.choose("fashion")
    tab["prompt"], tab["seed"], tab["beside"] = "a long dress now", 77, "mosaic"
    other.take(other.wiring.attach(TOKEN, kept(tab)))
    for field in ("model", "prompt", "seed", "beside", "n", "steps", "step_size", "truncation_psi"):
        assert other[field] == tab[field], field
    assert other.visible["classes"] and other.session.shown_model == "fashion"
    settings = made(other.run())
    assert settings.beside is not None and settings.prompt == "a long dress now"


def test_words_that_cannot_be_run_come_back_as_well(tab: Tab, other: Tab) -> None:
    other.take(other.wiring.attach(TOKEN, kept(tab, prompt="  ", seed=-3, n=4)))
    assert (other["prompt"], other["seed"], other["n"]) == ("  ", DEFAULTS.seed, 4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"values": 3, "arrival": 1}',
        '{"values": {"n": [8], "prompt": {"a": 1}, "model": ["avatars"], "preset": [], "rest": 4}, "arrival": 0}',
        '{"values": {"n": 1e400, "seed": "x", "model": "../../etc/passwd", "beside": "nowhere"}, "arrival": 0}',
        '{"values": {"rest": "{}", "unknown": 1}, "arrival": "x"}',
        "[" * 200_000,
        '{"values": {"prompt": "' + "x" * 2_000_001 + '"}, "arrival": 0}',
    ],
)
def test_forged_controls_change_nothing(tab: Tab, text: str) -> None:
    before = dict(tab.values)
    tab.take(tab.wiring.attach(TOKEN, text))
    tab.values[tab.components[REST]] = ""  # the settings as a whole, which say the same
    assert tab["prompt"] in (before[tab.components["prompt"]], DEFAULTS.prompt)
    assert tab["model"] == DEFAULTS.model and tab["n"] in (before[tab.components["n"]], DEFAULTS.n)


def test_what_was_restored_since_wins_once(tab: Tab, other: Tab) -> None:
    tab.session.arrival = Arrival(tiny_settings("restored"))
    number = tab.session.arrival.number
    other.take(other.wiring.attach(TOKEN, kept(tab, arrival=number - 1, settled=True)))
    assert other["prompt"] == "restored"
    other["prompt"] = "typed after it"
    other.take(other.wiring.attach(TOKEN, kept(other, arrival=number)))
    assert other["prompt"] == "typed after it"


def test_one_value_that_arrives_leaves_the_others(tab: Tab, other: Tab) -> None:
    tab.session.arrival = Arrival(fields={"seed": 9})
    changes = other.wiring.attach(TOKEN, kept(tab, settled=True))
    assert set(changes) == {other.layout.grid, other.components["seed"]}
    other.take(other.wiring.attach(TOKEN, kept(tab)))
    assert (other["seed"], other["prompt"]) == (9, tab["prompt"])


def test_a_run_follows_only_the_sliders_of_its_own_model(tab: Tab) -> None:
    run = Run(tiny_settings(flow={"steps": 300}), GENERATE)
    tab.services.start(tab.session, run)
    wait_until(lambda: run.moment.step > 0)
    assert frame_of(tab.services, tab.session)["live"] == ["step_size", "diversity"]
    tab.choose("fashion")
    assert frame_of(tab.services, tab.session)["live"] == []
    run.stop()
    wait_for_end(run)
    tab.choose("avatars")
    assert frame_of(tab.services, tab.session)["live"] == []
