"""Sessions: one per tab, found again by its token, and one run at a time."""

import subprocess
import sys
import time

import pytest

from gmi_ui.jobs.generating import GENERATE
from gmi_ui.notices import BusyError, Notice, NotPossibleError, explain
from gmi_ui.runs.run import Run
from gmi_ui.services import Services
from gmi_ui.sessions import EMPTY_REMEMBERED, Arrival, Session, Sessions
from gmi_ui.tokens import is_token
from tests.gmi_ui.test_frames import frame_of
from tests.gmi_ui.tiny import tiny_settings
from tests.gmi_ui.waiting import wait_for_end, wait_until


def token(number: int) -> str:
    return f"{number:032x}"


def test_a_token_finds_its_session_again() -> None:
    sessions = Sessions()
    assert sessions.get(token(1)) is sessions.get(token(1)) is not sessions.get(token(2))


@pytest.mark.parametrize("text", ["", "1", "g" * 32, "A" * 32, token(1) + "\n", None, 3, {}])
def test_what_is_no_token_opens_nothing(text: object) -> None:
    assert not is_token(text)
    with pytest.raises(ValueError):
        Sessions().get(text)  # type: ignore[arg-type]


def test_the_oldest_idle_tab_is_forgotten_first_and_a_busy_one_never() -> None:
    sessions = Sessions(remembered=2)
    busy, idle = sessions.get(token(1)), sessions.get(token(2))
    busy.begin(Run(tiny_settings(), GENERATE))
    idle.begin(finished_run())
    sessions.get(token(3)).begin(finished_run())
    sessions.get(token(4))
    assert sessions.get(token(1)) is busy
    assert sessions.get(token(2)) is not idle


def test_tabs_that_hold_nothing_push_out_no_pictures() -> None:
    """However many are opened; their own number is bounded too."""
    sessions = Sessions(remembered=1)
    used, empty = sessions.get(token(1)), sessions.get(token(2))
    used.begin(finished_run())
    for number in range(3, 2 * EMPTY_REMEMBERED):
        sessions.get(token(number))
    assert sessions.get(token(1)) is used and sessions.get(token(2)) is not empty
    assert len(sessions._sessions) == EMPTY_REMEMBERED + 1


def test_a_tab_whose_pictures_were_given_up_is_told_once(services: Services) -> None:
    """In each of the page's tabs that held some; not that the studio was restarted, as of a run nobody knows."""
    sessions = Sessions(remembered=1)
    sessions.get(token(1), "edit").begin(finished_run())
    for number in (2, 3):
        sessions.get(token(number)).begin(finished_run())
    told = sessions.get(token(1), "edit")
    assert told.run is None and told.newest_notice is not None
    assert "pictures of 1 browser tabs" in frame_of(services, told, "a-run")["notice"]["text"]
    assert sessions.get(token(1), "generate").newest_notice is None
    told.begin(finished_run())
    assert told.newest_notice is None


def finished_run() -> Run:
    run = Run(tiny_settings(), GENERATE)
    run.stop()
    return run


def test_a_second_run_is_refused_and_the_first_left_alone(slow_services: Services) -> None:
    session = Session()
    first = Run(tiny_settings(flow={"steps": 300}), GENERATE)
    slow_services.start(session, first)
    wait_until(lambda: first.moment.step >= 1)
    with pytest.raises(NotPossibleError, match="going on"):
        slow_services.start(session, Run(tiny_settings(), GENERATE))
    assert session.run is first and not first.moment.phase.is_over
    first.stop()


def test_the_newest_message_wins_whoever_said_it() -> None:
    session = Session()
    run = Run(tiny_settings(), GENERATE)
    session.begin(run)
    shown = []
    for say, text in ((session.say, "tab"), (run.say, "run"), (session.say, "tab again")):
        say(Notice(text))
        notice = session.newest_notice
        shown.append(notice.text if notice else None)
    assert shown == ["tab", "run", "tab again"]


def test_that_another_run_goes_on_is_of_no_use_once_it_is_over(slow_services: Services) -> None:
    session = slow_services.sessions.get("ef" * 16)
    run = Run(tiny_settings(flow={"steps": 500}), GENERATE)
    slow_services.start(session, run)
    with pytest.raises(BusyError) as refused:
        slow_services.start(session, Run(tiny_settings(), GENERATE))
    session.say(explain(refused.value))
    assert session.newest_notice is not None and session.newest_notice.text == str(refused.value)
    run.stop()
    wait_for_end(run)
    assert session.newest_notice is None


def test_arrivals_of_a_restarted_server_are_newer_than_those_before() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", "from gmi_ui.sessions import Arrival; print(Arrival().number)"],
        capture_output=True,
        text=True,
        check=True,
    )
    later = int(printed.stdout)  # of a process that began later
    assert Arrival().number < later <= time.time_ns() // 1_000_000
