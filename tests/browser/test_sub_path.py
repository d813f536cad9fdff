"""Behind a reverse proxy that serves the studio below a path of its own."""

import http.client
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from gmi_ui.studio import LaunchOptions, serve
from tests.browser.helpers import download, free_port, start, wait_for_phase
from tests.gmi_ui.tiny import tiny_models

PATH = "/tools/studio"
ODD = "a#b %41?c"  # a folder for temporary files: every letter means something in an address
OF_A_CONNECTION = ("connection", "content-length", "date", "server", "transfer-encoding")


class Proxy(BaseHTTPRequestHandler):
    """Hands on what is asked for below PATH, without it; the answer as it comes. It keeps no host's name."""

    studio: int  # its port
    outside: list[str]  # what was asked for that is not below PATH

    def handle_any(self) -> None:
        if not self.path.startswith(PATH):
            self.outside.append(self.path)
            return self.send_error(404)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "host")}
        studio = http.client.HTTPConnection("127.0.0.1", self.studio, timeout=60)
        try:
            studio.request(self.command, self.path.removeprefix(PATH) or "/", body or None, headers)
            answer = studio.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in OF_A_CONNECTION:
                    self.send_header(name, value)
            self.end_headers()
            while data := answer.read1(1 << 16):
                self.wfile.write(data)
                self.wfile.flush()
        except OSError:
            pass  # the browser went away
        finally:
            studio.close()

    do_GET = do_POST = do_HEAD = handle_any

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Its port."""
    monkeypatch.setattr(Proxy, "studio", free_port(), raising=False)
    monkeypatch.setattr(Proxy, "outside", [], raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_the_page_works_below_a_path(
    browser: Browser, proxy: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Assets, our own server functions, events, a download. What temporary files' folder is called does not matter."""
    place = tmp_path / ODD
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    below = f"http://127.0.0.1:{proxy}{PATH}/"
    server = serve(tiny_models(), LaunchOptions(port=Proxy.studio, browser=False, root_path=PATH))
    try:
        context = browser.new_context()
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(below)
        page.wait_for_selector(".welcome-pictures img")
        page.click(".chip:has-text('red on white')")
        start(page, "blue", n=2, steps=3)
        wait_for_phase(page, "done")
        saved = download(page, '[data-role="save-all"]', tmp_path)
        assert saved.read_bytes().startswith(b"PK")
        page.click("#studio-tabs [role=tab]:has-text('Models')")
        page.wait_for_selector("#studio-tabs [role=tab][aria-selected=true]:has-text('Models')")
        context.close()
    finally:
        server.close()
    assert [url for url in asked if not url.startswith((below, "data:", "blob:"))] == []
    assert set(Proxy.outside) <= {"/favicon.ico"}  # which browsers look for themselves
