"""Pages of other places beside the studio, in a real browser: what they ask for is refused, and changes nothing."""

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

from gmi_ui.studio import Server
from tests.browser.helpers import start, wait_for_phase

# Everything that a page can send without being asked, and what it could read if it were let. `calls` are bodies for
# server functions, with a token that is the studio's own: as if it had been found out.
ATTACK = """async ({studio, calls}) => {
  const api = studio + "gradio_api/";
  const seen = [];
  const attempt = async (what, act) => {
    try { seen.push([what, await act()]); } catch (error) { seen.push([what, "failed"]); }
  };
  for (const body of calls) {
    for (const mode of ["no-cors", "cors"]) {
      for (const kind of ["text/plain", "application/json"]) {
        await attempt(`${mode} ${kind}`, async () => {
          const headers = {"Content-Type": kind};
          const request = {method: "POST", mode, body, headers, credentials: "include"};
          const answer = await fetch(api + "component_server", request);
          return answer.type === "opaque" ? "opaque" : await answer.text();
        });
      }
    }
    navigator.sendBeacon(api + "component_server", new Blob([body], {type: "text/plain"}));
    const form = document.createElement("form");
    Object.assign(form, {method: "post", action: api + "component_server", enctype: "text/plain", target: "sink"});
    const field = document.createElement("input");
    [field.name, field.value] = [body.slice(0, -1) + ', "x": "', '"}'];
    form.append(field);
    document.body.append(form);
    form.submit();
  }
  const files = new FormData();
  files.append("files", new Blob(["x".repeat(1000)]), "strange.pt");
  const upload = {method: "POST", mode: "no-cors", body: files};
  await attempt("upload", async () => (await fetch(api + "upload", upload)).type);
  await attempt("config", async () => (await fetch(studio + "config")).text());
  await attempt("file", async () => (await fetch(api + "file=/etc/hostname")).text());
  await attempt("script", () => new Promise((resolve) => {
    const script = document.createElement("script");
    script.src = studio + "config";
    script.onload = () => resolve("loaded");
    script.onerror = () => resolve("failed");
    document.body.append(script);
  }));
  await attempt("frame", () => new Promise((resolve) => {
    const frame = document.createElement("iframe");
    frame.src = studio;
    frame.onload = () => resolve(frame.contentDocument ? "read" : "closed");
    document.body.append(frame);
  }));
  await attempt("stream", () => new Promise((resolve) => {
    const stream = new EventSource(api + "queue/data?session_hash=abc", {withCredentials: true});
    stream.onmessage = (event) => resolve(event.data);
    stream.onerror = () => { stream.close(); resolve("failed"); };
  }));
  await new Promise((resolve) => setTimeout(resolve, 300));
  return seen;
}"""

REFUSED = "Another page may not use the studio."


class Stranger(BaseHTTPRequestHandler):
    """An empty page, under any name."""

    def do_GET(self) -> None:
        body = b"<!doctype html><title>elsewhere</title><iframe name=sink></iframe>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """The port of another server on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def calls_of(studio: Server, token: str) -> list[str]:
    """What a stranger would do: each a body for a server function."""
    wanted: list[tuple[str, dict[str, Any]]] = [
        ("set_budget", {"gigabytes": 0.5}),
        ("fetch_model", {"name": "stylegan2-ada-cifar10", "accept": True}),
        ("remove_model", {"name": "avatars"}),
        ("command", {"action": "stop"}),
        ("save_pictures", {}),
        ("put_mask", {"number": 1, "png": ""}),
    ]
    bodies = []
    for name, request in wanted:
        number = next(
            number
            for number, block in studio.page.blocks.items()
            if getattr(getattr(block, name, None), "_is_server_fn", False)
        )
        data = {"token": token, **request}
        bodies.append(json.dumps({"component_id": number, "fn_name": name, "session_hash": "a", "data": data}))
    return bodies


def everything(studio: Server) -> Any:
    """What a stranger could have changed."""
    library = studio.services.library.state()
    saved = sorted(str(path) for path in studio.services.pictures.folder.rglob("*"))
    uploads = sorted(str(path) for path in Path(tempfile.gettempdir()).glob("gradio/**/strange.pt"))
    return library["memory"]["budget"], library["transfers"], library["changes"], saved, uploads


@pytest.mark.parametrize("name", ["127.0.0.1", "elsewhere.test"])
def test_a_page_of_another_place_changes_and_reads_nothing(
    page: Page, context: BrowserContext, studio: Server, elsewhere: int, name: str
) -> None:
    """From another port of this machine, and from another name; while a run of the studio's own page goes on."""
    start(page, "blue", n=2, steps=300)
    wait_for_phase(page, "running")
    before = everything(studio)
    stranger = context.new_page()
    try:
        stranger.goto(f"http://{name}:{elsewhere}/")
        calls = calls_of(studio, page.evaluate("window.studio.token"))
        seen = stranger.evaluate(ATTACK, {"studio": studio.address, "calls": calls})
    finally:
        stranger.close()
    assert everything(studio) == before
    told = {what: answer for what, answer in seen if answer not in ("opaque", "failed", "closed")}
    assert {what: answer for what, answer in told.items() if REFUSED not in answer} == {}
    assert page.locator('.results[data-phase="running"]').count() == 1


def test_a_name_that_was_made_to_point_here_opens_nothing(context: BrowserContext, studio: Server) -> None:
    """DNS rebinding: to the browser the page and what it asks for are of one place."""
    port = studio.address.rstrip("/").rpartition(":")[2]
    page = context.new_page()
    try:
        answer = page.goto(f"http://rebound.test:{port}/")
        assert answer is not None and answer.status == 421
        assert "--allow-host" in page.inner_text("body")
        status = page.evaluate(
            "fetch('/gradio_api/component_server', {method: 'POST', body: '{}'}).then((a) => a.status)"
        )
        assert status == 421
    finally:
        page.close()


def test_a_tab_opened_from_the_page_has_a_token_of_its_own(page: Page, studio: Server) -> None:
    """Its storage is a copy of the first one's; a reload keeps the token. Stop there leaves the first one's run."""
    token = page.evaluate("window.studio.token")
    with page.expect_popup() as opened:
        page.evaluate("void window.open(location.href)")
    second = opened.value
    try:
        second.wait_for_selector(".run-bar-examples .chip")
        other = second.evaluate("window.studio.token")
        assert other != token
        start(page, "blue", n=2, steps=200)
        wait_for_phase(page, "running")
        second.keyboard.press("Escape")
        time.sleep(0.3)
        assert page.locator('.results[data-phase="running"]').count() == 1
        page.reload()
        page.wait_for_selector(".run-bar-examples .chip")
        assert page.evaluate("window.studio.token") == token
        assert second.evaluate("window.studio.token") == other
    finally:
        second.close()


def test_a_token_of_another_studio_is_replaced(open_tab: Callable[..., Page]) -> None:
    page = open_tab()
    page.evaluate("addEventListener('pagehide', () => sessionStorage.setItem('studio-token', 'ab'.repeat(16)))")
    page.reload()
    page.wait_for_selector(".welcome-pictures img")
    assert page.evaluate("window.studio.token") != "ab" * 16
