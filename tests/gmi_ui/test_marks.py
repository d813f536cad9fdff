"""Marks on the pictures of a run: while it goes on, when it is made again, and in the run that it leads to."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from engine.settings import MARKS_LIMIT, GenerateSettings, Mark
from gmi_ui.controls import REST
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.notices import NotPossibleError
from gmi_ui.opening import bring_back
from gmi_ui.pictures import last_runs
from gmi_ui.pictures.last_runs import read_left
from gmi_ui.pictures.restoring import restored
from gmi_ui.pictures.saving import Pictures
from gmi_ui.runs import run as runs
from gmi_ui.runs.run import BASELINE, OURS, Run
from gmi_ui.runs.work import Phase
from gmi_ui.services import Services
from gmi_ui.sessions import SEEN_RUNS, Session
from gmi_ui.tabs.generate import MARK_FIRST, marked_text
from tests.gmi_ui.test_frames import frame_of
from tests.gmi_ui.test_server_functions import awaited, functions
from tests.gmi_ui.test_switching import TOKEN, Tab, made
from tests.gmi_ui.tiny import CLASS_PROMPTS, three_models, tiny_models, tiny_settings
from tests.gmi_ui.waiting import wait_for_end, wait_for_phase, wait_until

STEPS = 24
FLOW: dict[str, Any] = {"steps": STEPS, "diversity": 0.8, "data_weight": 1.0}


@pytest.fixture
def services() -> Services:
    return Services.around(tiny_models(delay=0.004))


@pytest.fixture
def tab() -> Tab:
    tab = Tab(Services.around(three_models()))
    tab["steps"], tab["n"], tab["prompt"], tab["seed"] = 3, 3, "a picture of my own", 5
    return tab


def latents(run: Run, side: str = OURS) -> torch.Tensor:
    return run.moment.sides[side].step.particles.latents


def marked_run(services: Services, **flow: Any) -> Run:
    """A run in which pictures were marked at different steps, stopped between, and gone on with."""
    session, run = Session(), Run(tiny_settings(flow={**FLOW, **flow}), GENERATE)
    services.start(session, run)
    wait_until(lambda: run.moment.step >= 3)
    run.mark(0, "like", is_set=True)
    run.mark(1, "pin", is_set=True)
    wait_until(lambda: run.moment.step >= 8)
    run.stop()
    wait_for_end(run)
    run.mark(2, "unlike", is_set=True)
    services.go_on(session)
    wait_until(lambda: run.moment.step >= 14)
    run.mark(0, "like", is_set=False)
    wait_until(lambda: run.moment.phase is Phase.DONE)
    return run


def test_a_run_that_was_marked_is_made_again_bit_for_bit(services: Services, tmp_path: Path) -> None:
    run = marked_run(services)
    settings = restored(Pictures(tmp_path).save_one(run, OURS, 0), services.models).settings
    assert isinstance(settings, GenerateSettings)
    assert [mark[1:] for mark in settings.marks] == [
        (0, "like", True),
        (1, "pin", True),
        (2, "unlike", True),
        (0, "like", False),
    ]
    assert run.marks == {1: {"pin"}, 2: {"unlike"}}
    again = Run(settings, GENERATE)
    services.start(Session(), again)
    wait_for_end(again)
    assert torch.equal(latents(again), latents(run)) and again.marks == run.marks
    beside = restored(Pictures(tmp_path).save_one(run, BASELINE, 0), services.models).settings
    assert isinstance(beside, GenerateSettings) and beside.marks == ()
    plain = Run(tiny_settings(flow=FLOW), GENERATE)
    services.start(Session(), plain)
    wait_for_end(plain)
    assert not torch.equal(latents(plain), latents(run))
    assert torch.equal(latents(plain, BASELINE), latents(run, BASELINE))  # marks are on our pictures alone
    assert made_of(run).step == made_of(plain).step == STEPS


def made_of(run: Run) -> Any:
    return run.moment.sides[OURS].step


def test_a_pinned_picture_of_a_running_run_stays_from_the_next_step_on(services: Services) -> None:
    run = marked_run(services)
    (at,) = [mark.step for mark in run.settings_at(OURS, STEPS).marks if mark.name == "pin"]  # type: ignore[attr-defined]
    kept = {one.step: one.particles.latents for one in run.moment.sides[OURS].kept}
    assert all(torch.equal(kept[step][1], kept[at][1]) for step in kept if step >= at)
    assert not torch.equal(kept[at][1], kept[at - 1][1]) and not torch.equal(kept[at + 1][0], kept[at][0])


def test_marks_of_pictures_that_are_not_there_or_too_many_are_refused(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tiny_settings(flow={"steps": 2}), GENERATE)
    with pytest.raises(NotPossibleError, match="not there"):
        run.mark(0, "like", is_set=True)
    services.start(Session(), run)
    wait_for_end(run)
    with pytest.raises(NotPossibleError, match="not there"):
        run.mark(3, "like", is_set=True)
    monkeypatch.setattr(runs, "MARKS_LIMIT", 1)
    run.mark(0, "like", is_set=True)
    with pytest.raises(NotPossibleError, match="1 marks at most"):
        run.mark(1, "like", is_set=True)
    assert MARKS_LIMIT > 1


def test_the_page_marks_by_request_and_is_told_of_marks(services: Services) -> None:
    session = services.sessions.get(TOKEN)
    run = Run(tiny_settings(flow={"steps": 2}), GENERATE)
    services.start(session, run)
    wait_for_end(run)
    mark = functions(services)["mark"]

    def ask(**request: object) -> bool:
        return awaited(mark({"token": TOKEN, "run": run.id, **request}))

    before = services.painter.revision(session)
    assert ask(index=1, mark="pin", is_set=True) and ask(index=0, mark="like", is_set=True)
    assert services.painter.revision(session) != before
    assert frame_of(services, session)["marks"] == [["like"], ["pin"], []]
    assert ask(index=0, mark="unlike", is_set=True) and frame_of(services, session)["marks"][0] == ["unlike"]
    assert not ask(index=0, mark="love", is_set=True) and not ask(index=9, mark="like", is_set=True)
    assert not awaited(mark({"token": TOKEN, "run": "another", "index": 0, "mark": "like", "is_set": True}))
    assert frame_of(services, session)["marks"] == [["unlike"], ["pin"], []]


def test_a_marked_run_that_its_page_left_goes_on_with_its_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_runs, "LOOK_EVERY", 0.01)
    services = Services.around(tiny_models(delay=0.004), kept=tmp_path)
    session, run = services.sessions.get(TOKEN), Run(tiny_settings(flow=FLOW), GENERATE)
    services.start(session, run)
    wait_until(lambda: run.moment.step >= 2)
    run.mark(0, "like", is_set=True)
    run.mark(1, "pin", is_set=True)
    wait_until(lambda: run.moment.step >= 5)
    run.stop()
    wait_for_end(run)
    (path,) = [*wait_for_left(services, run, tmp_path)]
    left = read_left(path)
    assert left.marked is not None and left.marked.pinned == {1} and left.marked.liked.keys() == {0}
    anew = Services.around(tiny_models(), kept=tmp_path)
    other = anew.sessions.get(TOKEN)
    bring_back(anew, other)
    assert other.run is not None
    wait_for_end(other.run)
    for one, works in ((other, anew), (session, services)):
        works.go_on(one)
        assert one.run is not None
        wait_for_phase(one.run, Phase.DONE)
    assert torch.equal(latents(other.run), latents(run)) and other.run.marks == run.marks


def wait_for_left(services: Services, run: Run, folder: Path) -> list[Path]:
    wait_until(lambda: (last := services.last_runs.find(TOKEN, "generate")) and last.step == run.moment.step)
    return list(folder.rglob("*.left"))


# --- the run that a finished one leads to


def press(tab: Tab, name: str) -> Run:
    before = tab.session.run
    tab.take(getattr(tab.wiring, name)(tab.sent))
    run = tab.session.run
    assert run is not None and run is not before, tab.session.notice
    wait_for_end(run)
    return run


def told(tab: Tab) -> str:
    return tab.session.notice.text if tab.session.notice else ""


def test_the_others_are_drawn_anew_with_the_marks_in_force(tab: Tab) -> None:
    tab.wiring.draw_anew(tab.sent)
    assert "not there any more" in told(tab)
    first = tab.run()
    tab.wiring.draw_anew(tab.sent)
    assert told(tab) == MARK_FIRST and tab.session.run is first
    for place, name in ((0, "like"), (1, "pin"), (2, "unlike")):
        first.mark(place, name, is_set=True)  # type: ignore[arg-type]
    second = press(tab, "draw_anew")
    settings = made(second)
    assert torch.equal(latents(second)[1], latents(first)[1]) and torch.equal(
        latents(second, BASELINE)[1], latents(first)[1]
    )
    seeds = made_of(second).particles.seeds
    assert seeds == (8, 6, 10) and settings.seed == 8
    problem = second.tasks[OURS].problem
    assert problem.liked is not None and problem.seen is not None
    assert len(problem.liked.features) == len(problem.seen) == 1
    assert second.marks == {1: {"pin"}} and tab["seed"] == 8
    assert "Pinned: 2." in marked_text(settings, tab.services.examples.count)
    second.mark(1, "pin", is_set=False)
    second.mark(0, "like", is_set=True)
    third = press(tab, "draw_anew")
    assert made(third).pinned == () and tab.services.examples.count(made(third).like) == 2
    assert made(third).unlike == settings.unlike
    tab["n"] = 1
    third.mark(2, "pin", is_set=True)
    tab.wiring.draw_anew(tab.sent)
    assert "picture 3 is marked, and there would be 1" in told(tab)
    tab["n"] = 3
    rest, _ = tab.wiring.forget_seen(tab.sent)
    tab[REST] = rest
    forgotten = made(tab.run())
    assert (forgotten.like, forgotten.unlike, forgotten.pinned) == ("", "", ())


@pytest.mark.parametrize("model", ["fashion", "mosaic"])
def test_models_with_choices_of_their_own_pin_too(tab: Tab, model: str) -> None:
    tab.choose(model)
    tab["steps"], tab["n"], tab["prompt"] = 2, 2, CLASS_PROMPTS[0]
    first = tab.run()
    first.mark(1, "pin", is_set=True)
    second = press(tab, "draw_anew")
    assert torch.equal(latents(second)[1], latents(first)[1])


def test_further_pictures_can_be_unlike_everything_in_the_session(tab: Tab) -> None:
    first, second = tab.run(), tab.run()
    assert first.settings == second.settings  # equal pictures count once
    third = press(tab, "unlike_all")
    seen = third.tasks[OURS].problem.seen
    assert seen is not None and len(seen) == 6  # with the baseline's
    fourth = press(tab, "unlike_all")
    seen = fourth.tasks[OURS].problem.seen
    assert seen is not None and len(seen) == 12
    more = press(tab, "unlike_these")  # goes on from all of them
    seen = more.tasks[OURS].problem.seen
    assert seen is not None and len(seen) == 15
    tab["model"] = "fashion"
    tab.choose("fashion")
    tab["prompt"] = CLASS_PROMPTS[0]
    tab.wiring.unlike_all(tab.sent)
    assert "seen by the chosen prompt model" in told(tab)


def test_pictures_of_a_persons_own_can_be_what_runs_are_to_be_unlike(tab: Tab, tmp_path: Path) -> None:
    paths = []
    for shade in (40, 200):
        paths.append(str(tmp_path / f"{shade}.png"))
        Image.new("RGB", (40, 40), (shade, 90, 20)).save(paths[-1])
    for count in (1, 2):  # the second beside the first
        changes = tab.take(tab.wiring.give_unwanted(TOKEN, [paths[count - 1]], tab[REST]))
        assert f"Unlike {count} picture" in changes[tab.layout.seen]["value"]
    run = tab.run()
    seen = run.tasks[OURS].problem.seen
    assert seen is not None and len(seen) == 2 and made(run).prompt == "a picture of my own"
    press(tab, "unlike_all")
    tab.wiring.give_unwanted(TOKEN, paths, tab[REST])
    assert "cannot be joined with files" in told(tab)
    tab.wiring.give_unwanted(TOKEN, [str(tmp_path / "nowhere.png")], "")
    assert "nowhere.png" in told(tab)


def test_what_a_session_remembers_is_bounded() -> None:
    session = Session()
    services = Services.around(tiny_models())
    for _ in range(3):
        run = Run(tiny_settings(flow={"steps": 1}), GENERATE)
        services.start(session, run)
        wait_for_end(run)
    assert len(session.seen) == 6 <= SEEN_RUNS
    assert Mark(0, 0, "pin", True) not in run.settings.marks  # type: ignore[attr-defined]
