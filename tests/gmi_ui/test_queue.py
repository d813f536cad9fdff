"""Runs that are lined up: shown in turn, exchanged and taken out by the page that they are of, and by no other."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gmi_ui.components.head.functions import queue_functions
from gmi_ui.history.outputs import Outputs
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.notices import NotPossibleError
from gmi_ui.runs import worker
from gmi_ui.runs.run import Run
from gmi_ui.runs.work import Phase
from gmi_ui.services import NOT_KEPT, QUEUE_FULL, Services
from gmi_ui.sessions import MOST_UPCOMING, Session
from tests.gmi_ui.test_frames import frame_of
from tests.gmi_ui.tiny import tiny_models, tiny_settings
from tests.gmi_ui.waiting import wait_for_end, wait_for_phase, wait_until

OURS, THEIRS = f"{1:032x}", f"{2:032x}"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Slow enough to press a button in between."""
    services = Services.around(tiny_models(delay=0.02), outputs=Outputs(tmp_path / "kept"))
    yield services
    services.end(5)


def run_of(prompt: str, steps: int = 200) -> Run:
    return Run(tiny_settings(prompt=prompt, flow={"steps": steps}), GENERATE)


def lined_up(services: Services, session: Session, *prompts: str) -> list[Run]:
    """The first of them is going on."""
    runs = [run_of(prompt) for prompt in prompts]
    services.start(session, runs[0])
    for run in runs[1:]:
        services.line_up(session, run)
    wait_for_phase(runs[0], Phase.RUNNING)
    return runs


def words_of(services: Services, token: str = OURS) -> list[str]:
    queue_state, _ = queue_functions(services)
    return [work["words"] for work in queue_state({"token": token})["works"]]


def test_runs_take_their_turn_on_the_page_and_are_all_kept(services: Services) -> None:
    session = services.sessions.get(OURS)
    runs = [run_of(prompt, steps=3) for prompt in ("one", "two", "three")]
    for run in runs:
        services.line_up(session, run)
    assert session.run is runs[0]
    wait_for_end(runs[-1])
    assert session.run is runs[-1] and not session.upcoming and not session.is_busy
    assert all(run.moment.phase is Phase.DONE for run in runs)
    assert len(session.seen) == 6  # both sides of all three
    store = services.outputs.store
    assert store is not None
    services.start(session, run_of("four", steps=1))  # the last one counts as ended

    wait_until(lambda: {"one", "two", "three"} <= {kept.prompt for kept in store.page(wanted(), 0, 100)})


def wanted():  # noqa: ANN201
    from gmi_ui.history.index import Wanted

    return Wanted()


def test_a_page_sees_its_own_in_order_and_how_many_come_before(services: Services) -> None:
    lined_up(services, services.sessions.get(OURS), "one", "two", "three")
    services.line_up(services.sessions.get(THEIRS), run_of("their own"))
    assert words_of(services) == ["one", "two", "three"]
    queue_state, _ = queue_functions(services)
    theirs = queue_state({"token": THEIRS})
    assert [work["words"] for work in theirs["works"]] == ["their own"] and theirs["others"] == 3
    assert frame_of(services, services.sessions.get(OURS))["upcoming"] == 2


def test_works_exchange_places_and_are_taken_out(services: Services) -> None:
    one, two, three = lined_up(services, services.sessions.get(OURS), "one", "two", "three")
    _, queue_change = queue_functions(services)
    state = queue_change({"token": OURS, "id": three.id, "with": two.id})
    assert [work["words"] for work in state["works"]] == words_of(services) == ["one", "three", "two"]
    queue_change({"token": OURS, "id": three.id, "out": True})
    assert words_of(services) == ["one", "two"] and three.moment.phase is Phase.STOPPED
    queue_change({"token": OURS, "id": two.id, "with": one.id})  # it goes on: nobody can be before it
    assert words_of(services) == ["one", "two"]
    one.stop()
    wait_for_phase(two, Phase.RUNNING)
    assert services.sessions.get(OURS).run is two and not three.moment.sides


def test_another_page_changes_nothing(services: Services) -> None:
    one, two, three = lined_up(services, services.sessions.get(OURS), "one", "two", "three")
    _, queue_change = queue_functions(services)
    for asked in ({"with": two.id}, {"out": True}):
        assert queue_change({"token": THEIRS, "id": three.id, **asked})["works"] == []
    assert words_of(services) == ["one", "two", "three"]


@pytest.mark.parametrize("request_", [None, {}, {"token": 3}, {"token": "x" * 32}, [], {"token": OURS, "id": {}}])
def test_requests_of_nonsense_change_nothing(services: Services, request_: object) -> None:
    lined_up(services, services.sessions.get(OURS), "one", "two")
    for function in queue_functions(services):
        function(request_)
    assert words_of(services) == ["one", "two"]


def test_too_many_are_refused(services: Services) -> None:
    session = services.sessions.get(OURS)
    lined_up(services, session, "now", *["later"] * MOST_UPCOMING)
    with pytest.raises(NotPossibleError, match=QUEUE_FULL):
        services.line_up(session, run_of("too many"))
    assert len(words_of(services)) == 1 + MOST_UPCOMING


def test_where_nothing_is_kept_none_takes_another_s_place() -> None:
    services = Services.around(tiny_models(delay=0.02))
    session = services.sessions.get(OURS)
    (one,) = lined_up(services, session, "one")
    with pytest.raises(NotPossibleError) as refused:
        services.line_up(session, run_of("two"))
    assert str(refused.value) == NOT_KEPT and session.run is one
    one.stop()


def test_a_paused_run_does_not_give_way_to_those_behind_it_but_to_others(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "HELD_AT_MOST", 0.1)
    monkeypatch.setattr(worker, "PATIENCE", 0.02)
    one, two = lined_up(services, services.sessions.get(OURS), "one", "two")
    one.pause()
    time.sleep(0.5)
    assert one.moment.phase is Phase.PAUSED
    services.start(services.sessions.get(THEIRS), run_of("their own", steps=2))
    wait_for_end(one)
    assert one.moment.notice == worker.HELD_TOO_LONG
    two.stop()


@pytest.mark.parametrize("is_wanted", [False, True])
def test_runs_go_on_when_their_page_is_closed_unless_somebody_else_waits(
    services: Services, monkeypatch: pytest.MonkeyPatch, is_wanted: bool
) -> None:
    one, two = lined_up(services, services.sessions.get(OURS), "one", "two")
    if is_wanted:
        services.start(services.sessions.get(THEIRS), run_of("their own", steps=2))
    monkeypatch.setattr(worker, "ABANDONED_AFTER", 0.2)
    if is_wanted:
        for run in (one, two):
            wait_for_end(run)
            assert run.moment.notice == worker.ABANDONED
    else:
        time.sleep(0.6)
        assert one.moment.phase is Phase.RUNNING
        one.stop()
        wait_for_phase(two, Phase.RUNNING)
        two.stop()


def test_a_stopped_run_goes_on_before_those_behind_it(services: Services) -> None:
    one, two, three = lined_up(services, services.sessions.get(OURS), "one", "two", "three")
    session = services.sessions.get(OURS)
    two.stop()
    one.stop()
    wait_for_phase(three, Phase.RUNNING)
    four = run_of("four")
    services.line_up(session, four)
    three.stop()
    wait_until(lambda: session.run is four)
    assert session.run is four
    four.stop()
