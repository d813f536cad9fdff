"""Downloads against a server on this machine that stalls, lies, drops, redirects, and serves ranges or not."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.models import downloads
from engine.models.downloads import Cancelled, DownloadError, Patience, Progress, check_address, download, mirrored
from engine.system.files import locked

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


def dated(at: int, **headers: str) -> Answer:
    """Breaks off after `at` bytes, with these headers instead of a strong mark."""

    def answer(handler: Handler) -> None:
        handler.begin(200, len(CONTENT), **headers)
        handler.wfile.write(CONTENT[:at])
        handler.break_off()

    return answer


DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "mark"),
    [
        ({"ETag": 'W/"v1"'}, None),
        ({"ETag": 'W/"v1"', "Last_Modified": DATE}, DATE),
        ({"Last_Modified": DATE}, DATE),
        ({"ETag": '"v1"', "Last_Modified": DATE}, '"v1"'),
    ],
)
def test_what_a_server_calls_a_version(
    server: Server, tmp_path: Path, headers: dict[str, str], mark: str | None
) -> None:
    """A weak mark promises a like file, not equal bytes: with nothing else a later call starts anew."""
    with pytest.raises(DownloadError):
        fetch(server, tmp_path, dated(300_000, **headers), status(503))
    assert {asked for _, _, asked in server.requests[1:]} == {mark}
    server.requests.clear()
    fetch(server, tmp_path, whole)
    assert server.requests[0][1:] == (None if mark is None else "bytes=300000-", mark)
    assert_whole(tmp_path)


def test_a_part_belongs_to_its_address(server: Server, tmp_path: Path) -> None:
    """The same name from another address begins anew; what is damaged beside a part counts as none."""
    with pytest.raises(DownloadError):
        fetch(server, tmp_path, dropping(300_000), status(503))
    server.requests.clear()
    server.answers = [whole]
    download(f"{server.url}?other", tmp_path / "model.pkl", max_bytes=LIMIT, patience=QUICK)
    assert server.requests[0][1] is None


@pytest.mark.parametrize(
    "about", ["", "{", "[]", '{"validator": "x"}', '{"validator": "\\"v1\\"", "total": "5"}', '{"total": 1500000}']
)
def test_a_part_with_a_damaged_description_is_dropped(server: Server, tmp_path: Path, about: str) -> None:
    with pytest.raises(DownloadError):
        fetch(server, tmp_path, dropping(300_000), status(503))
    (description,) = tmp_path.glob(".*.json")
    description.write_text(about)
    server.requests.clear()
    fetch(server, tmp_path, whole, sha256=SHA256)
    assert server.requests[0][1] is None
    assert_whole(tmp_path)


def test_a_part_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError):
        fetch(server, tmp_path, dropping(300_000), status(503))
    (part,) = parts(tmp_path)
    part.write_bytes(CONTENT + b"x")
    server.requests.clear()
    fetch(server, tmp_path, whole, sha256=SHA256)
    assert server.requests[0][1] is None
    assert_whole(tmp_path)


def test_a_range_of_another_length_than_before(server: Server, tmp_path: Path) -> None:
    """A mark alone is not believed: the whole length must be the one that was told."""

    def longer(handler: Handler) -> None:
        handler.begin(206, 10, Content_Range=f"bytes 300000-300009/{len(CONTENT) + 1}", ETag='"v1"')
        handler.wfile.write(CONTENT[300_000:300_010])

    fetch(server, tmp_path, dropping(300_000), longer, whole, sha256=SHA256)
    assert_whole(tmp_path)
    assert server.requests[-1][1] is None


@pytest.mark.parametrize(
    "span",
    ["", "items 300000-9/1500000", "bytes x-9/1500000", "bytes 300000-1499999/*", "bytes 299999-1499999/1500000"],
)
def test_ranges_that_are_none(server: Server, tmp_path: Path, span: str) -> None:
    def wrong(handler: Handler) -> None:
        handler.begin(206, len(CONTENT) - 300_000, Content_Range=span)
        handler.wfile.write(CONTENT[300_000:])

    fetch(server, tmp_path, dropping(300_000), wrong, whole, sha256=SHA256)
    assert_whole(tmp_path)
    assert server.requests[-1][1] is None


def test_all_had_arrived_though_nobody_knew(server: Server, tmp_path: Path) -> None:
    """Without a length in the first answer, 416 with the part's own size says that nothing is missing."""

    def endless(handler: Handler) -> None:
        handler.begin(200, None, ETag='"v1"', Transfer_Encoding="chunked")
        handler.wfile.write(b"%x\r\n" % len(CONTENT) + CONTENT + b"\r\n")
        handler.break_off()

    beyond: Answer = lambda handler: handler.begin(416, 0, Content_Range=f"bytes */{len(CONTENT)}")  # noqa: E731
    fetch(server, tmp_path, endless, beyond, status(500), sha256=SHA256)
    assert_whole(tmp_path)
    assert len(server.requests) == 2


def test_an_encoded_file_is_refused(server: Server, tmp_path: Path) -> None:
    """Asked for as it is; what comes packed nevertheless is not the file."""
    asked: list[str | None] = []

    def packed(handler: Handler) -> None:
        asked.append(handler.headers.get("Accept-Encoding"))
        body = gzip.compress(CONTENT[:1000])
        handler.begin(200, len(body), Content_Encoding="gzip")
        handler.wfile.write(body)

    with pytest.raises(DownloadError, match="sends the file in another encoding than it was asked for"):
        fetch(server, tmp_path, packed)
    assert asked == ["identity"] and list(tmp_path.iterdir()) == []

    def named(handler: Handler) -> None:
        handler.begin(200, len(CONTENT), Content_Encoding="identity")
        handler.wfile.write(CONTENT)

    assert fetch(server, tmp_path, named) == SHA256


def test_others_may_read_the_file(server: Server, tmp_path: Path) -> None:
    """Whatever the umask: models are shared by the users of a machine, and nobody runs or changes them."""
    before = os.umask(0o077)
    try:
        fetch(server, tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model.pkl").stat().st_mode) == 0o644


def test_folders_are_made_and_a_file_in_the_way_is_told(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path / "a" / "b")
    assert_whole(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DownloadError, match=r"file/model\.pkl cannot be written: "):
        fetch(server, tmp_path / "file")


def test_a_file_as_large_as_allowed(server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path, max_bytes=len(CONTENT)) == SHA256
    with pytest.raises(DownloadError, match="or more, expected"):
        fetch(server, tmp_path / "other", max_bytes=len(CONTENT) - 1)
    assert parts(tmp_path / "other") == []


def test_the_room_that_is_needed(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the file and what is left to others, to the byte."""
    free = len(CONTENT) + downloads.SPARE_BYTES

    def disk(bytes_free: int) -> None:
        monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: SimpleNamespace(free=bytes_free))

    disk(free - 1)
    with pytest.raises(DownloadError, match="of disk"):
        fetch(server, tmp_path)
    disk(free)
    with pytest.raises(DownloadError, match="does not deliver"):
        fetch(server, tmp_path, dropping(300_000), status(503))
    disk(free - 300_000)
    fetch(server, tmp_path, whole, sha256=SHA256)
    assert server.requests[-1][1] == "bytes=300000-"


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


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        ("text/html; charset=utf-8", b"Quota exceeded"),
        ("application/xhtml+xml", b"Quota exceeded"),
        ("application/octet-stream", b"\n<!DOCTYPE html><html><body>Quota exceeded</body></html>"),
        ("application/octet-stream", b"<HTML>Quota exceeded"),
        ("application/octet-stream", b"<?xml version='1.0'?><Error/>"),
    ],
)
def test_a_web_page_instead_of_the_file(server: Server, tmp_path: Path, kind: str, page: bytes) -> None:

    def answer(handler: Handler) -> None:
        handler.begin(200, len(page), Content_Type=kind)
        handler.wfile.write(page)

    with pytest.raises(DownloadError, match="gave a web page instead of the file"):
        fetch(server, tmp_path, answer)
    assert len(server.requests) == 1
    assert not (tmp_path / "model.pkl").exists()


@pytest.mark.parametrize("code", [204, 401, 403, 404, 410, 501])
def test_what_will_not_help_is_not_repeated(server: Server, tmp_path: Path, code: int) -> None:
    with pytest.raises(DownloadError, match=f"answers {code} .*The file may have moved"):
        fetch(server, tmp_path, status(code))
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
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


def test_tries_without_progress_are_counted(server: Server, tmp_path: Path) -> None:
    """Two failures, some bytes, then no further: as many tries as at first, of which the gain was one."""
    with pytest.raises(DownloadError, match=r"0\.3 of 1\.5 MB have arrived"):
        fetch(server, tmp_path, status(503), status(503), dropping(300_000), status(503))
    assert len(server.requests) == 3 + QUICK.tries - 1


def test_progress_is_told_a_few_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most every .2 s but at the end; the speed is that over the last points, never negative."""
    clock = iter([0.0, 0.1, 0.2, 0.4, 0.45])
    monkeypatch.setattr(downloads.time, "monotonic", lambda: next(clock))
    seen: list[Progress] = []
    meter = downloads._Meter(seen.append)
    for done in (100, 200, 300, 500):
        meter.show(done, 1000)
    meter.show(550, 1000, final=True)
    assert [(progress.done, progress.total) for progress in seen] == [
        (100, 1000),
        (300, 1000),
        (500, 1000),
        (550, 1000),
    ]
    assert [progress.speed for progress in seen] == pytest.approx([0, 1000, 1000, 1000])
    clock = iter([0.0, 1.0])
    meter = downloads._Meter(seen.append)
    meter.show(100, 1000)
    meter.show(50, 1000)  # it began again
    assert seen[-1].speed == 0


def test_the_speed_is_of_the_last_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a second each: 1000 bytes a second, then 10; after twenty slow ones the fast ones are forgotten."""
    clock = iter(float(i) for i in range(100))
    monkeypatch.setattr(downloads.time, "monotonic", lambda: next(clock))
    seen: list[Progress] = []
    meter, done = downloads._Meter(seen.append), 0
    for gain in [1000] * 10 + [10] * 30:
        done += gain
        meter.show(done, None)
    assert 10 < seen[20].speed < 1000 and seen[-1].speed == pytest.approx(10)


@pytest.mark.parametrize(
    ("error", "reason"), [(OSError(), "OSError"), (OSError("cable"), "cable"), (ValueError("length"), "length")]
)
def test_why_a_connection_broke(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def breaks(*_: object) -> bytes:
        raise error

    monkeypatch.setattr("http.client.HTTPResponse.read1", breaks)
    with pytest.raises(DownloadError, match=rf"127\.0\.0\.1 does not deliver: the connection broke \({reason}\)\."):
        fetch(server, tmp_path)


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
    assert_whole(tmp_path)


def test_eight_redirections_and_no_more(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path, *(redirect(f"/{i}") for i in range(8)), whole, sha256=SHA256)
    assert_whole(tmp_path)
    server.requests.clear()
    with pytest.raises(DownloadError, match="leads from one address to the next, more than 8 times"):
        fetch(server, tmp_path / "other", *(redirect(f"/{i}") for i in range(30)), whole)
    assert len(server.requests) == 9


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_every_kind_of_redirection(server: Server, tmp_path: Path, code: int) -> None:
    """Also to a name beside the address, and with what was asked there."""
    fetch(server, tmp_path, lambda handler: handler.begin(code, 0, Location="there?a=b"), whole, sha256=SHA256)
    assert server.requests[1][0] == "/there?a=b"


def test_no_connection_is_left_open(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of redirections, nor of what broke, nor the last; the server would keep them."""
    monkeypatch.setattr(Handler, "protocol_version", "HTTP/1.1")
    opened: list[Any] = []
    connect = downloads._connect

    def noted(*arguments: Any) -> Any:
        opened.append(connect(*arguments))
        return opened[-1]

    monkeypatch.setattr(downloads, "_connect", noted)
    fetch(server, tmp_path, redirect("/a"), dropping(300_000), status(503), whole, sha256=SHA256)
    assert len(opened) == 4 and all(connection.sock is None for connection in opened)


def test_a_part_is_taken_up_behind_a_redirection(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path, dropping(300_000), redirect("/elsewhere"), whole, sha256=SHA256)
    assert [(path, asked) for path, asked, _ in server.requests[1:]] == [
        ("/model.pkl", "bytes=300000-"),
        ("/elsewhere", "bytes=300000-"),
    ]


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("localhost", True),
        ("LocalHost.", True),
        ("localhost.localdomain", True),
        ("ip6-localhost", True),
        ("127.0.0.1", True),
        ("127.200.3.4", True),
        ("::1", True),
        ("128.0.0.1", False),
        ("10.0.0.1", False),
        ("::2", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_what_is_this_machine(host: str, answer: bool) -> None:
    assert downloads.is_this_machine(host) == answer


def test_a_stranger_cannot_lead_into_this_machine() -> None:
    """Another stranger, or this machine itself, may be led to."""
    assert downloads._redirected("https://example.com/a/x", "y?z") == "https://example.com/a/y?z"
    assert downloads._redirected("https://example.com/x", "https://example.org/") == "https://example.org/"
    assert downloads._redirected("http://127.0.0.1:1/x", "http://localhost:2/y") == "http://localhost:2/y"
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
    listener.settimeout(10)
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


@pytest.mark.parametrize(
    ("proxy", "place", "headers"),
    [
        ("http://proxy.example.com:8080", ("proxy.example.com", 8080), {}),
        ("proxy.example.com", ("proxy.example.com", 3128), {}),
        ("http://me@proxy.example.com", ("proxy.example.com", 3128), {"Proxy-Authorization": "Basic bWU6"}),
        (
            "http://me:a%40b@proxy.example.com:1",
            ("proxy.example.com", 1),
            {"Proxy-Authorization": "Basic bWU6YUBi"},
        ),
    ],
)
def test_ways_through_a_proxy(
    proxy: str, place: tuple[str, int], headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("https_proxy", proxy)
    found: Any = downloads._connect("https://example.com/x", 1)
    assert (found.host, found.port) == place
    assert (found._tunnel_host, found._tunnel_port) == ("example.com", 443)
    assert {name: value for name, value in found._tunnel_headers.items() if name != "Host"} == headers
    assert downloads._connect("https://example.com:444/x", 1)._tunnel_port == 444  # type: ignore[attr-defined]
    for direct in ("https://127.0.0.1:5/x", "http://localhost:5/x"):
        found = downloads._connect(direct, 1)
        assert found._tunnel_host is None and found.port == 5
    monkeypatch.delenv("https_proxy")
    found = downloads._connect("https://example.com/x", 7)
    assert (found.host, found.port, found.timeout, found._tunnel_host) == ("example.com", 443, 7, None)


def test_two_that_fetch_one_file_get_it_once(server: Server, tmp_path: Path) -> None:
    """The second waits for the first, and takes what that fetched."""
    began = threading.Event()

    def slow(handler: Handler) -> None:
        began.set()
        time.sleep(0.4)
        whole(handler)

    found: list[str] = []
    server.answers = [slow]
    ones = [threading.Thread(target=lambda: found.append(fetch(server, tmp_path, slow, sha256=SHA256))) for _ in "ab"]
    ones[0].start()
    began.wait()
    ones[1].start()
    for one in ones:
        one.join()
    assert found == [SHA256, SHA256] and len(server.requests) == 1
    assert_whole(tmp_path)


def test_who_waits_for_another_download_can_stop(server: Server, tmp_path: Path) -> None:
    cancel = threading.Event()
    lock = downloads._lock_of(tmp_path / "model.pkl", server.url)
    with locked(lock):
        threading.Timer(0.2, cancel.set).start()
        with pytest.raises(downloads.Cancelled):
            download(server.url, tmp_path / "model.pkl", max_bytes=LIMIT, cancel=cancel)
        assert lock.exists()  # it is the other's
    assert not lock.exists() and server.requests == []


def test_without_a_length_the_disk_keeps_its_reserve(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server tells no length, and others write to the disk meanwhile."""

    def endless(handler: Handler) -> None:
        handler.begin(200, None, ETag='"v1"')
        handler.wfile.write(CONTENT)

    monkeypatch.setattr(downloads, "DISK_EVERY", 1 << 18)
    free = iter([downloads.SPARE_BYTES + (1 << 19), *[downloads.SPARE_BYTES - 1] * 99])
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: SimpleNamespace(free=next(free)))
    with pytest.raises(DownloadError, match="of disk"):
        fetch(server, tmp_path, endless)
    assert sum(path.stat().st_size for path in parts(tmp_path)) < len(CONTENT)


@pytest.mark.parametrize("length", ["9" * 5000, "-5", "٣", "1e9", "0x10"])
def test_a_length_that_is_none_is_no_length(server: Server, tmp_path: Path, length: str) -> None:
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.wfile.write(b"Content-Length: " + length.encode() + b"\r\n\r\n" + CONTENT)
        handler.break_off()

    with suppress(DownloadError):  # in words, where the library itself makes something else of it
        assert fetch(server, tmp_path, answer) == SHA256


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:99999/x", "https://[::1/x", "https://example.org:port/x", "https://" + "a" * 300 + ".org/x",
     "https://exa mple.org/x", "ftp://example.org/x", "", "https:///x", "https://\u0130" + "\u0130" * 80 + ".org/"],
)  # fmt: skip
def test_addresses_that_are_none_are_refused_in_words(url: str, server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="address"):
        download(url, tmp_path / "model.pkl", max_bytes=LIMIT, patience=QUICK)
    if url:
        with pytest.raises(DownloadError):
            fetch(
                server, tmp_path, lambda handler: handler.begin(302, 0, Location=url.encode("ascii", "ignore").decode())
            )


def test_letters_of_any_script_are_sent_as_bytes(server: Server, tmp_path: Path) -> None:
    server.answers = [whole]
    download(f"http://127.0.0.1:{server.server_port}/modèle ü%20.pkl?für=ß", tmp_path / "m", max_bytes=LIMIT)
    assert server.requests[0][0] == "/mod%C3%A8le%20%C3%BC%20.pkl?f%C3%BCr=%C3%9F"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("HTTPS_PROXY", "socks5://127.0.0.1:9"), ("HTTPS_PROXY", "http://127.0.0.1:99999"), ("HTTPS_PROXY", "nonsense://x"),
     ("ALL_PROXY", "socks5h://127.0.0.1:9")],
)  # fmt: skip
def test_a_proxy_that_cannot_be_used_is_said(
    variable: str, value: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(DownloadError, match=f"(?s){variable}.*NO_PROXY"):
        download("https://example.invalid/x", tmp_path / "x", max_bytes=LIMIT, patience=QUICK)


def test_what_nobody_takes_up_again_goes(tmp_path: Path) -> None:
    """Parts that can be gone on from stay for a month, others for minutes."""
    month, hour = downloads.RESUMABLE + 60, 3600.0
    ages = {"old": month, "lately": hour, "lost": hour, "new": 0.0}
    parts = {name: tmp_path / "model" / f".{name}.pkl.0123456789ab.part" for name in ages}
    for name, part in parts.items():
        part.parent.mkdir(exist_ok=True)
        part.write_bytes(b"half")
        os.utime(part, (time.time() - ages[name], time.time() - ages[name]))
        if name not in ("lost", "new"):
            part.with_suffix(".json").write_text("{}")
    other = tmp_path / "model" / ".mine.part"
    other.write_bytes(b"x")
    os.utime(other, (0, 0))
    downloads.remove_stale_parts(tmp_path)
    assert [name for name, part in parts.items() if part.exists()] == ["lately", "new"] and other.exists()
    assert [path.name for path in parts["old"].parent.glob("*.json")] == [parts["lately"].with_suffix(".json").name]
