"""Who may speak to the studio: the whole HTTP surface, walked as a page of another place and without login."""

import gzip
import http.client
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from gmi_ui import studio
from gmi_ui.guard import MOST_BEFORE_LOGIN, MOST_JSON, TOKEN_PLACE, Asked, Attempts, Gate, Guard, Names, name_of
from gmi_ui.studio import LaunchOptions, Server, serve
from gmi_ui.tokens import Tokens
from tests.browser.helpers import free_port
from tests.gmi_ui.tiny import tiny_models
from tests.gmi_ui.waiting import awaited

API = "/gradio_api"
HOST = "127.0.0.1:7860"
LOGIN = ("ann", "secret")


@pytest.fixture(scope="module")
def open_studio() -> Iterator[Server]:
    server = serve(tiny_models(), LaunchOptions(port=free_port(), browser=False))
    yield server
    server.close()


@pytest.fixture(scope="module")
def locked_studio() -> Iterator[Server]:
    server = serve(tiny_models(), LaunchOptions(port=free_port(), browser=False, auth=LOGIN))
    yield server
    server.close()


def ask(
    server: Server, path: str, method: str = "GET", body: bytes | None = None, **headers: Any
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """Names of headers have _ for -; the Host is the studio's own unless one is given."""
    port = int(server.address.rstrip("/").rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        # a stream has no end: its beginning does
        content = b"" if "event-stream" in answer.getheader("content-type", "") else answer.read()
        return answer.status, content, answer.headers
    finally:
        connection.close()


def call(server: Server, name: str, request: dict[str, Any], **headers: Any) -> tuple[int, Any]:
    """A server function, as the page calls it."""
    found = next(
        (number, block)
        for number, block in server.page.blocks.items()
        if getattr(getattr(block, name, None), "_is_server_fn", False)
    )
    body = json.dumps({"component_id": found[0], "fn_name": name, "session_hash": "abc", "data": request}).encode()
    sent: dict[str, Any] = {"content_type": "application/json", **headers}
    status, content, _ = ask(server, f"{API}/component_server", "POST", body, **sent)
    return status, json.loads(content or b"null")


def page_token(server: Server, **headers: Any) -> str:
    found = re.search(rb'const ISSUED = \\?"([^"\\]+)', ask(server, "/", **headers)[1])
    assert found
    return found[1].decode()


def log_in(server: Server) -> str:
    """The cookie."""
    body = b"username=ann&password=secret"
    status, _, headers = ask(server, "/login", "POST", body, content_type="application/x-www-form-urlencoded")
    assert status == 200
    return "; ".join(value.partition(";")[0] for value in headers.get_all("set-cookie", []))


def every_route(server: Server) -> set[tuple[str, str]]:
    """Every path and method that gradio answers, with something in the place of each parameter."""
    found = set()
    routes = list(server.page.app.routes)
    for inner in [getattr(route, "original_router", None) for route in routes]:
        routes += inner.routes if inner is not None else []
    for route in routes:
        for method in getattr(route, "methods", None) or ("GET",):
            found.add((re.sub(r"{[^}]*}", "x", getattr(route, "path", "/x")), method))
    return found


# ---- the whole surface -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "from_elsewhere",
    [
        {"Origin": "http://evil.test"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"},
    ],
    ids=lambda headers: " ".join(headers.values()),
)
def test_no_route_answers_a_page_of_another_place(open_studio: Server, from_elsewhere: dict[str, Any]) -> None:
    routes = every_route(open_studio)
    assert len(routes) > 60
    answers = {
        (path, method): ask(open_studio, path, method, **from_elsewhere)[0]
        for path, method in routes
        if method != "OPTIONS"
    }
    assert {route: status for route, status in answers.items() if status != 403} == {}


def test_no_route_answers_under_another_name(open_studio: Server) -> None:
    """Of DNS rebinding, the page itself too."""
    port = open_studio.address.rstrip("/").rpartition(":")[2]
    for host in (f"evil.test:{port}", f"127.0.0.1.evil.test:{port}", "localhost.evil.test", "[::2]", ""):
        answers = {path: ask(open_studio, path, method, Host=host)[0] for path, method in every_route(open_studio)}
        assert set(answers.values()) == {421}, host
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "LOCALHOST"):
        assert ask(open_studio, "/config", Host=host)[0] == 200, host


def test_without_the_login_only_the_way_to_it_is_open(locked_studio: Server) -> None:
    content: dict[str, Any] = {"content_type": "application/json"}
    answers = {
        (path, method): ask(locked_studio, path, method, b"{}" if method == "POST" else None, **content)[0]
        for path, method in every_route(locked_studio)
        if method != "OPTIONS"
    }
    is_open = {path for (path, _), status in answers.items() if status in (200, 302, 307)}
    way = {"/", "/theme.css", f"{API}/theme.css", "/robots.txt", "/favicon.ico", "/manifest.json", "/pwa_icon"}
    assert is_open <= {*way, "/pwa_icon/x", f"{API}/startup-events"}
    status, page, _ = ask(locked_studio, "/")
    assert status == 200 and b"newest_frame" not in page


def test_the_icon_is_the_studios_own(open_studio: Server) -> None:
    own = (Path(studio.__file__).parent / "icon.png").read_bytes()
    assert ask(open_studio, "/favicon.ico")[:2] == (200, own)
    assert ask(open_studio, "/pwa_icon/48")[0] == 200


def test_a_link_from_elsewhere_leads_to_the_page_and_no_further(open_studio: Server) -> None:
    link: dict[str, Any] = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert ask(open_studio, "/", **link)[0] == 200
    assert ask(open_studio, "/logout", **link)[0] == 403
    assert ask(open_studio, f"{API}/file=/etc/hostname", **link)[0] == 403


def test_nothing_is_fetched_from_elsewhere_and_no_file_but_saved_ones(open_studio: Server) -> None:
    assert ask(open_studio, f"{API}/file=http://127.0.0.1:1/secret")[0] == 403
    assert ask(open_studio, f"{API}/proxy=http://127.0.0.1:1/secret")[0] == 404
    assert ask(open_studio, f"{API}/file=/etc/hostname")[0] == 403
    assert ask(open_studio, f"{API}/file=/etc/no-such-file")[0] == 403


# ---- content -----------------------------------------------------------------------------------------------


def test_server_functions_take_json_with_a_token_that_was_issued(open_studio: Server) -> None:
    token = page_token(open_studio)
    assert call(open_studio, "library_state", {"token": token})[0] == 200
    for made_up in ("ab" * 16, token[:-1] + ("0" if token[-1] != "0" else "1"), "", None, 5, [token]):
        assert call(open_studio, "library_state", {"token": made_up})[0] == 403
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        assert call(open_studio, "library_state", {"token": token}, content_type=kind)[0] == 415
    assert page_token(open_studio) != token and TOKEN_PLACE not in (token, page_token(open_studio))


def test_the_page_is_packed_for_who_takes_it(open_studio: Server) -> None:
    status, packed, headers = ask(open_studio, "/", Accept_Encoding="gzip, deflate, br")
    assert status == 200 and headers["content-encoding"] == "gzip" and int(headers["content-length"]) == len(packed)
    _, plain, plain_headers = ask(open_studio, "/")
    assert "content-encoding" not in plain_headers
    whole = gzip.decompress(packed)
    assert len(whole) == len(plain) > 4 * len(packed)  # but for the token the same page
    assert TOKEN_PLACE.encode() not in whole


def test_events_take_only_tokens_that_were_issued(open_studio: Server) -> None:
    """The hidden control that holds the token is an input of every event that begins something."""
    page = open_studio.page
    number, function = next(
        (number, one) for number, one in page.fns.items() if any(b.elem_id == "token" for b in one.inputs) and one.fn
    )
    at = next(index for index, block in enumerate(function.inputs) if block.elem_id == "token")
    for token, expected in (("ab" * 16, 403), (page_token(open_studio), None)):
        data: list[Any] = [None] * len(function.inputs)
        data[at] = token
        body = json.dumps({"fn_index": number, "data": data, "session_hash": "abc"}).encode()
        for path in (f"{API}/run/predict", f"{API}/queue/join"):
            status = ask(open_studio, path, "POST", body, content_type="application/json")[0]
            assert (status == 403) == (expected == 403), (path, token)


def test_a_token_of_one_login_is_none_of_another(locked_studio: Server) -> None:
    cookie = log_in(locked_studio)
    token = page_token(locked_studio, Cookie=cookie)
    assert call(locked_studio, "library_state", {"token": token}, Cookie=cookie)[0] == 200
    assert call(locked_studio, "library_state", {"token": token})[0] == 401
    before_login = page_token_of_nobody(locked_studio)
    assert call(locked_studio, "library_state", {"token": before_login}, Cookie=cookie)[0] == 403


def page_token_of_nobody(server: Server) -> str:
    gate: Any = next(one.kwargs["gate"] for one in server.page.app.user_middleware if "gate" in one.kwargs)
    return gate.tokens.issue("")


def test_cookies_of_the_login_stay_with_the_page(locked_studio: Server) -> None:
    body = b"username=ann&password=secret"
    _, _, headers = ask(locked_studio, "/login", "POST", body, content_type="application/x-www-form-urlencoded")
    cookies = headers.get_all("set-cookie", [])
    assert len(cookies) == 2
    assert all("SameSite=Lax" in cookie and "HttpOnly" in cookie and "none" not in cookie.lower() for cookie in cookies)


def test_long_bodies_are_refused_unread(open_studio: Server, locked_studio: Server) -> None:
    """By what they say of their length, and by what arrives."""
    kind: dict[str, Any] = {"content_type": "application/json"}
    path = f"{API}/component_server"
    assert ask(open_studio, path, "POST", b"{}", Content_Length=str(MOST_JSON + 1), **kind)[0] == 413
    assert ask(locked_studio, path, "POST", b"[" * (MOST_BEFORE_LOGIN + 1), **kind)[0] == 401
    form: dict[str, Any] = {"content_type": "application/x-www-form-urlencoded"}
    long = b"username=a&password=" + b"b" * MOST_BEFORE_LOGIN
    assert ask(locked_studio, "/login", "POST", long, **form)[0] == 413
    assert ask(open_studio, path, "POST", b"[" * 100_000, **kind)[0] == 400


def test_wrong_passwords_have_to_wait(locked_studio: Server) -> None:
    """The right one too, while the pause lasts; the pause is said."""
    form: dict[str, Any] = {"content_type": "application/x-www-form-urlencoded"}
    answers = []
    for _ in range(Attempts.FREE + 2):
        answers.append(ask(locked_studio, "/login", "POST", b"username=ann&password=x", **form))
    statuses = [answer[0] for answer in answers]
    assert statuses[: Attempts.FREE] == [400] * Attempts.FREE and statuses[-1] == 429
    assert "Too many wrong passwords" in json.loads(answers[-1][1])["detail"]
    assert int(answers[-1][2]["retry-after"]) >= 1


def test_the_pause_doubles_and_ends_with_the_right_password() -> None:
    now = 0.0
    attempts = Attempts(lambda: now)
    waits = []
    for _ in range(14):
        attempts.begin("a")
        waits.append(attempts.wait("a"))
        now += waits[-1]
    assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert attempts.wait("b") == 0
    attempts.succeed("a")
    assert attempts.wait("a") == 0


# ---- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost.:80", "localhost"),
        ("[::1]:80", "::1"),
        ("::1", "::1"),
        ("a.b:x", ""),
        ("[::1", ""),
        ("[::1]x", ""),
        ("a:b:c", ""),
        ("", ""),
    ],
)
def test_a_host_is_read(host: str, name: str) -> None:
    assert name_of(host) == name


def test_names_are_those_that_the_studio_was_started_with() -> None:
    here = Names("127.0.0.1", ["studio.test"], "https://out.test/studio")
    assert all(here.knows(name) for name in ("127.0.0.1:1", "localhost", "[::1]:5", "studio.test:80", "OUT.test"))
    assert not any(here.knows(name) for name in ("10.0.0.1", "evil.test", "x.studio.test", "a.gradio.live", "0.0.0.0"))
    everywhere = Names("0.0.0.0")
    assert everywhere.knows("192.168.1.5:7860") and everywhere.knows("[fe80::1]") and not everywhere.knows("evil.test")
    assert Names("127.0.0.1", is_shared=True).knows("abc.gradio.live")
    assert not Names("127.0.0.1", is_shared=True).knows("gradio.live.evil.test")


def asked(method: str = "POST", path: str = f"{API}/upload", **headers: str) -> Asked:
    given = {name.lower().replace("_", "-"): [value] for name, value in headers.items()}
    return Asked(method, path, {"host": [HOST], "content-type": ["multipart/form-data"], **given})


def test_browsers_that_say_less_are_told_by_their_origin() -> None:
    """Without Sec-Fetch-Site, as over plain http in a local network. A proxy's known name is the page's own."""
    gate = Gate(Names("127.0.0.1", ["studio.test"]), Tokens())
    assert gate.refusal(asked(origin=f"http://{HOST}"), None) is None
    assert gate.refusal(asked(origin="https://studio.test"), None) is None
    assert gate.refusal(asked(), None) is None  # a program
    for origin in (
        "http://127.0.0.1:1",
        "http://evil.test",
        "null",
        "file://",
        f"ftp://{HOST}",
        f"http://{HOST}@evil.test",
    ):
        refusal = gate.refusal(asked(origin=origin), None)
        assert refusal and refusal.status == 403, origin
    picture = asked("GET", f"{API}/file=/tmp/x.png", referer="http://evil.test/")
    refusal = gate.refusal(picture, None)
    assert refusal and refusal.status == 403
    assert gate.refusal(replace(picture, headers={"host": [HOST], "referer": [f"http://{HOST}/"]}), None) is None


def test_a_header_that_comes_twice_is_no_header() -> None:
    gate = Gate(Names("127.0.0.1"), Tokens())
    twice = Asked("GET", "/config", {"host": [HOST, "evil.test"]})
    refusal = gate.refusal(twice, None)
    assert refusal and refusal.status == 421
    origins = Asked("GET", "/config", {"host": [HOST], "origin": [f"http://{HOST}", "http://evil.test"]})
    refusal = gate.refusal(origins, None)
    assert refusal and refusal.status == 403


def test_an_upload_that_the_disk_has_no_room_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(Names("127.0.0.1"), Tokens())
    monkeypatch.setattr("gmi_ui.guard.shutil.disk_usage", lambda _: type("Usage", (), {"free": 600_000_000}))
    refusal = gate.refusal(asked(content_length="200000000"), None)
    assert refusal and refusal.status == 507 and "100 MB" in refusal.reason
    assert gate.refusal(asked(content_length="50000000"), None) is None


def test_a_root_path_of_the_proxy_is_left_off() -> None:
    scope = {"method": "GET", "path": "/tools/studio/config", "headers": [(b"Host", b"a")], "client": ("1.2.3.4", 5)}
    assert Asked.of(scope, "/tools/studio").path == "/config"
    assert Asked.of(scope, "/tools/stud").path == "/tools/studio/config"


def test_who_went_away_is_not_answered_and_nothing_is_logged() -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ClientDisconnect

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    headers = [(b"host", HOST.encode()), (b"content-type", b"multipart/form-data; boundary=x")]
    scope = {"type": "http", "method": "POST", "path": f"{API}/upload", "headers": headers, "client": ("127.0.0.1", 1)}
    awaited(Guard(app, gate=Gate(Names("127.0.0.1"), Tokens()))(scope, receive, send))
    assert sent == []
