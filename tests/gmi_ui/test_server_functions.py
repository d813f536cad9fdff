"""The functions that the page calls directly: nothing in a request is trusted."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import Response

from gmi_ui.jobs.generating import GENERATE
from gmi_ui.notices import Notice, NotPossibleError
from gmi_ui.runs.run import Run
from gmi_ui.server_functions import HOLD, grid_functions
from gmi_ui.services import Services
from gmi_ui.studio import HANDLERS, LaunchOptions, serve
from tests.browser.helpers import free_port
from tests.gmi_ui.test_guard import LOGIN, call, log_in, page_token
from tests.gmi_ui.tiny import tiny_models, tiny_settings
from tests.gmi_ui.waiting import awaited, wait_for_end, wait_until

TOKEN = "ab" * 16


def functions(services: Services) -> dict[str, Any]:
    return {function.__name__: function for function in grid_functions(services)}


def newest_frame(services: Services, **request: Any) -> Response:
    return awaited(functions(services)["newest_frame"]({"token": TOKEN, **request}))


def frame(services: Services, **request: Any) -> dict[str, Any]:
    return json.loads(bytes(newest_frame(services, **request).body))


def started(services: Services, **changes: Any) -> Run:
    run = Run(tiny_settings(**changes), GENERATE)
    services.start(services.sessions.get(TOKEN), run)
    return run


def test_a_frame_comes_at_once_when_it_is_new_and_not_again(services: Services) -> None:
    wait_for_end(started(services))
    first = frame(services)
    assert first["phase"] == "done"
    assert frame(services, seen=first["revision"]) == {}


def test_a_request_waits_for_the_next_step_and_no_longer_than_the_hold(slow_services: Services) -> None:
    run = started(slow_services, flow={"steps": 500})
    wait_until(lambda: run.moment.step >= 1)
    first = frame(slow_services)
    second = frame(slow_services, seen=first["revision"])
    assert second["step"] >= first["step"] and second["revision"] != first["revision"]
    run.pause()
    wait_until(lambda: slow_services.queue.is_held)
    began = time.monotonic()
    newest_frame(slow_services, seen=slow_services.painter.revision(slow_services.sessions.get(TOKEN)))
    assert time.monotonic() - began < HOLD / 2  # a paused run is asked for again, not waited for
    run.stop()


def test_a_slow_page_gets_the_newest_frame(services: Services) -> None:
    run = started(services, flow={"steps": 40})
    first = frame(services)
    wait_for_end(run)
    assert frame(services, seen=first["revision"])["step"] == 40


@pytest.mark.parametrize("request_", [{}, {"token": "x"}, {"token": None}, [], "text", None, 5])
def test_requests_without_a_token_get_nothing(services: Services, request_: Any) -> None:
    calls = functions(services)
    assert awaited(calls["command"](request_)) is False
    assert calls["save_pictures"](request_) == {}
    assert awaited(calls["newest_frame"](request_)).status_code == 400


def test_commands_reach_the_run_and_unknown_ones_do_not(slow_services: Services) -> None:
    def command(request: dict[str, Any]) -> Any:
        return awaited(functions(slow_services)["command"](request))

    assert command({"token": TOKEN, "action": "stop"}) is False  # nothing runs
    run = started(slow_services, flow={"steps": 500})
    wait_until(lambda: run.moment.step >= 1)
    assert command({"token": TOKEN, "action": "explode"}) is False and not run.moment.phase.is_over
    assert command({"token": TOKEN, "action": "pause"}) is True and run.moment.phase == "paused"
    assert command({"token": TOKEN, "action": "resume"}) is True and run.moment.phase == "running"
    assert command({"token": TOKEN, "action": "stop"}) is True
    wait_for_end(run)


def test_what_was_said_of_a_failed_saving_goes_once_it_succeeds(services: Services) -> None:
    wait_for_end(started(services))
    session = services.sessions.get(TOKEN)

    def notice_after(scale: Any) -> Notice | None:
        functions(services)["save_pictures"]({"token": TOKEN, "scale": scale})
        return session.notice

    assert notice_after(3) and not notice_after(1) and notice_after("x")
    session.say(other := Notice("something else"))
    assert notice_after(4) is other


@pytest.mark.parametrize("which", [{"index": 99, "side": "ours"}, {"index": "x"}, {"index": 0, "side": "../etc"}])
def test_a_picture_that_is_not_there_is_told_in_the_page(services: Services, which: dict[str, Any]) -> None:
    wait_for_end(started(services))
    assert functions(services)["save_pictures"]({"token": TOKEN, **which}) == {}
    assert services.sessions.get(TOKEN).newest_notice


def test_saved_files_lie_where_the_server_may_serve_them(services: Services) -> None:
    wait_for_end(started(services))
    for which in ({"index": 0, "side": "ours"}, {}):
        saved = functions(services)["save_pictures"]({"token": TOKEN, **which})
        assert saved["path"].startswith(str(services.pictures.folder))


@pytest.mark.parametrize("login", [None, LOGIN])
def test_stop_and_frames_arrive_while_every_thread_of_the_clicks_is_held(
    login: tuple[str, str] | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Sixty savings that do not end, more than gradio has threads; a login asks for threads of its own."""
    monkeypatch.setenv("GMI_CACHE", str(tmp_path))
    server = serve(tiny_models(delay=0.02), LaunchOptions(port=free_port(), browser=False, auth=login))
    released = threading.Event()
    held: list[None] = []

    def hold(*_: Any, **__: Any) -> Path:
        held.append(None)
        released.wait(60)
        raise NotPossibleError("held")

    monkeypatch.setattr(type(server.services.pictures), "save_all", hold)
    cookie = {"Cookie": log_in(server)} if login else {}
    token = page_token(server, **cookie)
    run = Run(tiny_settings(flow={"steps": 1000}), GENERATE)
    server.services.start(server.services.sessions.get(token), run)
    try:
        with ThreadPoolExecutor(60) as pool:
            for _ in range(60):
                pool.submit(call, server, "save_pictures", {"token": token}, **cookie)
            wait_until(lambda: len(held) == HANDLERS)
            time.sleep(0.5)
            began = time.monotonic()
            status, shown = call(server, "newest_frame", {"token": token}, **cookie)
            assert status == 200 and shown["run"] == run.id
            assert call(server, "command", {"token": token, "action": "stop"}, **cookie) == (200, True)
            assert time.monotonic() - began < 5
            released.set()
        wait_for_end(run)
    finally:
        released.set()
        server.close()
