"""More, unlike these: a fresh run that keeps away from all that was seen, until it is forgotten."""

import json
from pathlib import Path

import pytest

from engine.pictures import examples
from gmi_ui.controls import REST
from gmi_ui.pictures.saving import Pictures
from gmi_ui.runs.run import OURS, Run
from gmi_ui.services import Services
from gmi_ui.sessions import Arrival
from gmi_ui.tabs.generate import shown_text
from tests.gmi_ui.test_switching import TOKEN, Tab, made
from tests.gmi_ui.tiny import CLASS_PROMPTS, three_models
from tests.gmi_ui.waiting import wait_for_end


@pytest.fixture
def tab() -> Tab:
    tab = Tab(Services.around(three_models()))
    tab["steps"], tab["n"], tab["prompt"], tab["seed"] = 3, 2, "a picture of my own", 5
    return tab


def more(tab: Tab) -> Run:
    """Presses the button, and waits for the run."""
    before = tab.session.run
    tab.take(tab.wiring.unlike_these(tab.sent))
    run = tab.session.run
    assert run is not None and run is not before, tab.session.notice
    wait_for_end(run)
    return run


def seen_by(run: Run) -> int:
    seen = run.tasks[OURS].problem.seen
    return 0 if seen is None else len(seen)


def test_each_further_run_is_unlike_all_before_it_until_they_are_forgotten(tab: Tab) -> None:
    first = tab.run()
    second, third = more(tab), more(tab)
    assert [seen_by(run) for run in (first, second, third)] == [0, 2, 4]
    assert [run.settings.seed for run in (first, second, third)] == [5, 7, 9] and tab["seed"] == 9
    assert made(third).prompt == "a picture of my own"
    again = tab.run()  # Run alone keeps what it is to be unlike
    assert made(again) == made(third)
    assert again.particles(OURS).latents.equal(third.particles(OURS).latents)
    rest, _ = tab.wiring.forget_seen(tab.sent)
    tab[REST] = rest
    assert seen_by(tab.run()) == 0 and json.loads(rest)["unlike"] == ""


@pytest.mark.parametrize("model", ["fashion", "mosaic"])
def test_models_with_choices_of_their_own_are_unlike_them_too(tab: Tab, model: str) -> None:
    """Those whose settings are checked against the model before the run."""
    tab.choose(model)
    tab["steps"], tab["n"], tab["prompt"] = 2, 2, CLASS_PROMPTS[0]
    tab.run()
    assert seen_by(more(tab)) == 2


def test_a_restored_picture_needs_what_it_was_to_be_unlike(tab: Tab, tmp_path: Path) -> None:
    tab.run()
    run = more(tab)
    saved = str(Pictures(tmp_path).save_one(run, OURS, 0))
    tab.take(tab.wiring.restore(TOKEN, saved))
    assert made(tab.run()) == made(run)
    later = Tab(Services.around(three_models()))
    changes = later.take(later.wiring.restore(TOKEN, saved))
    assert changes[later.layout.seen]["value"] == "<p>Unlike pictures that are not here any more.</p>"
    assert later.session.notice is not None and "unlike pictures that are not here" in later.session.notice.text
    assert "unlike: the pictures that this run is to be unlike are not here" in later.refuse()
    later[REST], _ = later.wiring.forget_seen(later.sent)
    assert seen_by(later.run()) == 0


def test_pictures_from_history_join_those_that_runs_are_unlike_already(tab: Tab, tmp_path: Path) -> None:
    """The second arrival counts beside the first."""
    run = tab.run()
    saved = [Pictures(tmp_path / str(place)).save_one(run, OURS, place) for place in range(2)]
    for path in saved:
        given = examples.read_examples([path])
        tab.services.examples.add(given)
        tab.session.arrival = Arrival(fields={"unlike": given.sha256})
        page = json.dumps({"arrival": 0, "values": {REST: tab[REST]}, "settled": True})
        changes = tab.take(tab.wiring.attach(TOKEN, page))
    assert changes[tab.layout.seen]["value"] == "<p>Unlike 2 pictures seen before.</p>"
    assert changes[tab.layout.unlike]["visible"] and seen_by(tab.run()) == 2


def told(tab: Tab) -> str:
    notice = tab.session.notice
    return notice.text if notice else ""


def test_without_pictures_or_with_too_many_nothing_runs(tab: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    tab.wiring.unlike_these(tab.sent)
    assert "not there any more" in told(tab)
    run = tab.run()
    monkeypatch.setattr(examples, "MOST_EXAMPLES", 1)
    tab.wiring.unlike_these(tab.sent)
    assert tab.session.run is run and "2 pictures to go by; 1 are the most" in told(tab)


def test_how_many_were_seen_is_told() -> None:
    assert [shown_text(*one) for one in (("Unlike", 1), ("Unlike", 16), ("Like", 2))] == [
        "Unlike 1 picture seen before.",
        "Unlike 16 pictures seen before.",
        "Like 2 pictures that you liked.",
    ]
