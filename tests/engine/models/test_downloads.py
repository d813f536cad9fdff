"""Downloads against a server on this machine that stalls, lies, drops, redirects, and serves ranges or not."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engine.models import downloads
from engine.models.downloads import Cancelled, DownloadError, Patience, Progress, check_address, download, mirrored

CONTENT = random.Random(0).randbytes(1_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(stall=0.5, tries=3, first_wait=0.01, longest_wait=0.05)
LIMIT = 10_000_000

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers each request as the test's server is told to, and notes what was asked."""

    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        answer = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        answer(self)

    def log_message(self, *_: object) -> None:
        pass

    def begin(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def break_off(self) -> None:
        self.wfile.flush()
        self.connection.close()


class Server(ThreadingHTTPServer):
    """`answers`: one for each request, the last for all further ones."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str | None, str | None]] = []
        self.answers: list[Answer] = [whole]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/model.pkl"

    def handle_error(self, *_: object) -> None:
        """A client that goes away is what some tests are about."""


def whole(handler: Handler) -> None:
    """All of it, or the range asked for."""
    asked = handler.headers.get("Range")
    if asked and handler.headers.get("If-Range") in (None, '"v1"'):
        start = int(asked.removeprefix("bytes=").split("-")[0])
        span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        handler.begin(206, len(CONTENT) - start, Content_Range=span, ETag='"v1"')
        handler.wfile.write(CONTENT[start:])
    else:
        handler.begin(200, len(CONTENT), ETag='"v1"')
        handler.wfile.write(CONTENT)


def without_ranges(handler: Handler) -> None:
    handler.begin(200, len(CONTENT))
    handler.wfile.write(CONTENT)


def dropping(at: int, tag: str = '"v1"', *, ranges: bool = True) -> Answer:
    """Breaks off after `at` bytes of the file."""

    def answer(handler: Handler) -> None:
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked and ranges else 0
        if start:
            handler.begin(206, len(CONTENT) - start, Content_Range=f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        else:
            handler.begin(200, len(CONTENT), ETag=tag)
        handler.wfile.write(CONTENT[start:at])
        handler.break_off()

    return answer


def stalling(handler: Handler) -> None:
    handler.begin(200, len(CONTENT), ETag='"v1"')
    handler.wfile.write(CONTENT[:100_000])
    handler.wfile.flush()
    time.sleep(3)


def status(code: int) -> Answer:
    return lambda handler: handler.begin(code, 0)


def redirect(place: str) -> Answer:
    return lambda handler: handler.begin(302, 0, Location=place)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for variable in ("GMI_MODEL_MIRROR", "https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    started = Server()
    thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield started
    started.shutdown()
    started.server_close()
    thread.join()


def fetch(server: Server, folder: Path, *answers: Answer, max_bytes: int = LIMIT, sha256: str | None = None) -> str:
    server.answers = list(answers) or [whole]
    return download(server.url, folder / "model.pkl", max_bytes=max_bytes, sha256=sha256, patience=QUICK)


def assert_whole(folder: Path) -> None:
    """The file is there, right, and alone."""
    assert (folder / "model.pkl").read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == ["model.pkl"]


def parts(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix == ".part"]


def test_a_file_arrives(server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path, sha256=SHA256) == SHA256
    assert_whole(tmp_path)
    assert len(server.requests) == 1


def test_progress_speed_and_time_left(server: Server, tmp_path: Path) -> None:
    def slow(handler: Handler) -> None:
        handler.begin(200, len(CONTENT))
        for start in range(0, len(CONTENT), 100_000):
            handler.wfile.write(CONTENT[start : start + 100_000])
            time.sleep(0.06)

    server.answers = [slow]
    seen: list[Progress] = []
    download(server.url, tmp_path / "model.pkl", max_bytes=LIMIT, on_progress=seen.append, patience=QUICK)
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert seen[-1].done == seen[-1].total == len(CONTENT)
    assert seen[-1].seconds_left == 0
    middle = seen[len(seen) // 2]
    assert 100_000 < middle.speed < 100_000 / 0.06 * 1.5
    assert middle.seconds_left == pytest.approx((len(CONTENT) - middle.done) / middle.speed)
    assert Progress(5, None, 1.0).seconds_left is None and Progress(5, 10, 0.0).seconds_left is None


def test_a_broken_connection_is_taken_up_where_it_ended(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path, dropping(300_000), dropping(900_000), whole, sha256=SHA256)
    assert_whole(tmp_path)
    assert [asked for _, asked, _ in server.requests] == [None, "bytes=300000-", "bytes=900000-"]
    assert {mark for _, _, mark in server.requests[1:]} == {'"v1"'}


def test_a_later_call_takes_up_what_an_earlier_left(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"does not deliver: .*0\.3 of 1\.5 MB have arrived and are kept"):
        fetch(server, tmp_path, dropping(300_000), status(503))
    assert not (tmp_path / "model.pkl").exists()
    server.requests.clear()
    fetch(server, tmp_path, whole, sha256=SHA256)
    assert_whole(tmp_path)
    assert server.requests[0][1] == "bytes=300000-"


def test_a_file_that_changed_meanwhile_starts_again(server: Server, tmp_path: Path) -> None:
    """If-Range with the old mark: a server with a new version sends all of that."""
    with pytest.raises(DownloadError):
        fetch(server, tmp_path, dropping(300_000, '"v0"'), status(503))
    fetch(server, tmp_path, whole, sha256=SHA256)
    assert_whole(tmp_path)


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path, dropping(300_000, ranges=False), without_ranges, sha256=SHA256)
    assert_whole(tmp_path)


def test_without_a_mark_of_the_server_nothing_is_taken_up_later(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError):
        fetch(server, tmp_path, dropping(300_000, ""), status(503))
    server.requests.clear()
    fetch(server, tmp_path, whole)
    assert server.requests[0][1] is None
    assert_whole(tmp_path)


def test_another_range_than_asked_for(server: Server, tmp_path: Path) -> None:
    def wrong(handler: Handler) -> None:
        handler.begin(206, 10, Content_Range=f"bytes 5-14/{len(CONTENT)}", ETag='"v1"')
        handler.wfile.write(CONTENT[5:15])

    fetch(server, tmp_path, dropping(300_000), wrong, whole, sha256=SHA256)
    assert_whole(tmp_path)


def test_a_complete_part_only_takes_its_name(server: Server, tmp_path: Path) -> None:
    """All had arrived, but the program ended before the renaming."""
    with pytest.raises(DownloadError):
        fetch(server, tmp_path, dropping(300_000), status(503))
    (part,) = parts(tmp_path)
    part.write_bytes(CONTENT)
    server.requests.clear()
    assert fetch(server, tmp_path, status(500)) == SHA256
    assert server.requests == []
    assert_whole(tmp_path)


def test_nothing_behind_the_end(server: Server, tmp_path: Path) -> None:
    """416 for a part that is longer than the new file: it is dropped."""
    with pytest.raises(DownloadError):
        fetch(server, tmp_path, dropping(300_000), status(503))
    beyond: Answer = lambda handler: handler.begin(416, 0, Content_Range="bytes */1000")  # noqa: E731
    fetch(server, tmp_path, beyond, whole, sha256=SHA256)
    assert_whole(tmp_path)


def test_a_stalling_server_is_tried_again(server: Server, tmp_path: Path) -> None:
    started = time.monotonic()
    fetch(server, tmp_path, stalling, whole, sha256=SHA256)
    assert time.monotonic() - started < 2.5
    assert_whole(tmp_path)
    assert server.requests[1][1] == "bytes=100000-"


def test_a_length_that_is_too_long_never_counts_as_done(server: Server, tmp_path: Path) -> None:
    def lying(handler: Handler) -> None:
        handler.begin(200, len(CONTENT) + 1000)
        handler.wfile.write(CONTENT)

    with pytest.raises(DownloadError, match=r"ended at 1,500,000 of 1,501,000 bytes"):
        fetch(server, tmp_path, lying)
    assert not (tmp_path / "model.pkl").exists()


def test_a_length_that_is_too_short_is_found_by_the_hash(server: Server, tmp_path: Path) -> None:
    def lying(handler: Handler) -> None:
        handler.begin(200, 1000)
        handler.wfile.write(CONTENT)

    with pytest.raises(DownloadError, match=r"has the sha256 .*, expected .*: it is damaged or was exchanged"):
        fetch(server, tmp_path, lying, sha256=SHA256)
    assert list(tmp_path.iterdir()) == []


def test_without_a_length(server: Server, tmp_path: Path) -> None:
    def endless(handler: Handler) -> None:
        handler.begin(200, None)
        handler.wfile.write(CONTENT)
        handler.break_off()

    assert fetch(server, tmp_path, endless) == SHA256
    with pytest.raises(DownloadError, match=r"or more, expected 1\.0 MB at most"):
        fetch(server, tmp_path / "other", endless, max_bytes=1_000_000)
    assert list((tmp_path / "other").iterdir()) == []


def test_a_size_beyond_the_limit_is_refused_before_it_comes(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"has 1\.5 MB or more, expected 1\.0 MB at most: it is not the one meant"):
        fetch(server, tmp_path, whole, max_bytes=1_000_000)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "SPARE_BYTES", 1 << 60)
    with pytest.raises(DownloadError, match=r"needs .* MB of disk, .* has .* MB left\. Free some"):
        fetch(server, tmp_path)
    assert parts(tmp_path) == []


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page_instead_of_the_file(server: Server, tmp_path: Path, kind: str) -> None:
    page = b"\n<!DOCTYPE html><html><body>Quota exceeded</body></html>"

    def answer(handler: Handler) -> None:
        handler.begin(200, len(page), Content_Type=kind)
        handler.wfile.write(page)

    with pytest.raises(DownloadError, match="gave a web page instead of the file"):
        fetch(server, tmp_path, answer)
    assert len(server.requests) == 1
    assert not (tmp_path / "model.pkl").exists()


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_what_will_not_help_is_not_repeated(server: Server, tmp_path: Path, code: int) -> None:
    with pytest.raises(DownloadError, match=f"answers {code} .*The file may have moved"):
        fetch(server, tmp_path, status(code))
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [429, 500, 503])
def test_what_may_pass_is_repeated(server: Server, tmp_path: Path, code: int) -> None:
    fetch(server, tmp_path, status(code), status(code), whole, sha256=SHA256)
    assert len(server.requests) == 3
    with pytest.raises(DownloadError, match=f"does not deliver: it answers {code}"):
        fetch(server, tmp_path / "other", status(code))
    assert len(server.requests) == 3 + QUICK.tries


def test_progress_gives_all_tries_again(server: Server, tmp_path: Path) -> None:
    """More breaks than tries, each a little further."""
    fetch(server, tmp_path, *(dropping(100_000 * i) for i in range(1, 8)), whole, sha256=SHA256)
    assert_whole(tmp_path)


def test_waits_grow(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Recorded(threading.Event):
        waits: list[float] = []

        def wait(self, timeout: float | None = None) -> bool:
            self.waits.append(timeout or 0.0)
            return False

    server.answers = [status(503)]
    patience = Patience(tries=6, first_wait=1.0, longest_wait=5.0)
    with pytest.raises(DownloadError):
        download(server.url, tmp_path / "model.pkl", max_bytes=LIMIT, cancel=Recorded(), patience=patience)
    for wait, middle in zip(Recorded.waits, (1, 2, 4, 5, 5), strict=True):
        assert 0.75 * middle <= wait <= 1.25 * middle


def test_cancel_breaks_a_stalled_connection_at_once(server: Server, tmp_path: Path) -> None:
    server.answers = [stalling]
    cancel = threading.Event()
    threading.Timer(0.4, cancel.set).start()
    started = time.monotonic()
    with pytest.raises(Cancelled, match="what has arrived is kept"):
        download(server.url, tmp_path / "model.pkl", max_bytes=LIMIT, cancel=cancel, patience=Patience(stall=20))
    assert time.monotonic() - started < 2
    (part,) = parts(tmp_path)
    assert part.stat().st_size == 100_000
    server.answers = [whole]
    assert download(server.url, tmp_path / "model.pkl", max_bytes=LIMIT, patience=QUICK) == SHA256
    assert server.requests[-1][1] == "bytes=100000-"


def test_cancel_while_waiting_for_the_next_try(server: Server, tmp_path: Path) -> None:
    server.answers = [status(503)]
    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        download(server.url, tmp_path / "x", max_bytes=LIMIT, cancel=cancel, patience=Patience(first_wait=30))
    assert time.monotonic() - started < 2


def test_nobody_answers(tmp_path: Path, server: Server) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 does not deliver: .*Is there a network"):
        download(server.url, tmp_path / "x", max_bytes=LIMIT, patience=QUICK)


def test_an_answer_that_is_no_http(server: Server, tmp_path: Path) -> None:
    def rubbish(handler: Handler) -> None:
        handler.wfile.write(b"\x00\xffrubbish\r\n\r\n")
        handler.break_off()

    with pytest.raises(DownloadError, match="does not deliver"):
        fetch(server, tmp_path, rubbish)


# ---- addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["http://example.com/x", "ftp://example.com/x", "file:///etc/passwd", "x.pkl", "https:///x", "http://10.0.0.1/x"],
)
def test_only_https_unless_this_machine(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="no https address|not encrypted"):
        download(url, tmp_path / "x", max_bytes=LIMIT)


@pytest.mark.parametrize(
    "url", ["https://example.com/x", "http://localhost:8/x", "http://127.0.0.2/x", "http://[::1]:80/x"]
)
def test_addresses_that_are_allowed(url: str) -> None:
    check_address(url)


@pytest.mark.parametrize("place", ["http://example.com/x", "ftp://example.com/x", "file:///etc/passwd"])
def test_a_redirection_must_be_encrypted_too(server: Server, tmp_path: Path, place: str) -> None:
    with pytest.raises(DownloadError, match="no https address|not encrypted"):
        fetch(server, tmp_path, redirect(place))


def test_redirections_are_followed_and_counted(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path, redirect("/elsewhere"), redirect(server.url), whole, sha256=SHA256)
    assert [path for path, _, _ in server.requests] == ["/model.pkl", "/elsewhere", "/model.pkl"]
    with pytest.raises(DownloadError, match="more than 8 times"):
        fetch(server, tmp_path / "other", redirect("/again"))


def test_a_stranger_cannot_lead_into_this_machine() -> None:
    with pytest.raises(DownloadError, match="leads to an address of this machine"):
        downloads._redirected("https://example.com/x", "http://127.0.0.1:8080/admin")


def test_a_mirror_keeps_the_same_files(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMI_MODEL_MIRROR", f"http://127.0.0.1:{server.server_port}/models/")
    assert download("https://example.com/a/b.pkl?dl=1", tmp_path / "b.pkl", max_bytes=LIMIT) == SHA256
    assert server.requests[0][0] == "/models/example.com/a/b.pkl?dl=1"
    monkeypatch.setenv("GMI_MODEL_MIRROR", "http://mirror.example.com")
    with pytest.raises(DownloadError, match="not encrypted"):
        download("https://example.com/a/b.pkl", tmp_path / "c.pkl", max_bytes=LIMIT)
    monkeypatch.delenv("GMI_MODEL_MIRROR")
    assert mirrored("https://example.com/a?b=c") == "https://example.com/a?b=c"


def test_the_proxy_of_the_environment_is_asked_for_a_tunnel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tunnel's first line and the proxy's password; a host of NO_PROXY is reached without."""
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def answer() -> None:
        connected, _ = listener.accept()
        heard.append(connected.recv(4096))
        connected.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        connected.close()

    thread = threading.Thread(target=answer)
    thread.start()
    port = listener.getsockname()[1]
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{port}")
    with pytest.raises(DownloadError):
        download("https://example.com/x", tmp_path / "x", max_bytes=LIMIT, patience=Patience(stall=2, tries=1))
    thread.join()
    listener.close()
    assert heard[0].startswith(b"CONNECT example.com:443 HTTP/1.")
    assert b"Proxy-Authorization: Basic bWU6c2VjcmV0" in heard[0]
    monkeypatch.setenv("no_proxy", "example.com")
    assert downloads._connect("https://example.com/x", 1)._tunnel_host is None  # type: ignore[attr-defined]
