"""A studio around tiny models, and pages in an installed Chromium: no errors, no requests to elsewhere."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

from gmi_ui.studio import LaunchOptions, Server, serve
from tests.browser.helpers import free_port
from tests.gmi_ui.tiny import three_models

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
)
STRANGE_NAMES = "--host-resolver-rules=MAP *.test 127.0.0.1"  # as who rebinds a name has it
STEP_SECONDS = 0.01  # of one side: long enough to press a button during a run
TIMEOUT = 60_000  # ms; a second is enough on an idle machine
STOP = "{ action: 'stop' }"
UNNAMED = """() => [...document.querySelectorAll("button, input, textarea, select, [role=button]")]
  .filter((e) => e.offsetParent !== null && e.type !== "file")
  .filter((e) => !(e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim() || e.title))
  .map((e) => e.outerHTML.slice(0, 200))"""
LOW_CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
EMOJI = r"() => document.body.innerText.match(/\p{Emoji_Presentation}/gu)"
AT_REST = ", ".join(f'[data-phase="{phase}"]' for phase in ("idle", "done", "stopped", "failed"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser" in item.path.as_posix():
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.flaky(reruns=1))  # a busy machine is slower than any patience; told as "R"


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of an installed Chromium. In CI its absence is a failure."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        message = f"No Chromium found ({', '.join(NAMES)}): the page was not tested in a browser."
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS.split(), STRANGE_NAMES])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def context(browser: Browser) -> BrowserContext:
    """One for all tests: gradio's scripts are compiled once. Every tab still counts as a new visitor."""
    context = browser.new_context(reduced_motion="reduce")
    context.set_default_timeout(TIMEOUT)
    expect.set_options(timeout=TIMEOUT)
    return context


@pytest.fixture(scope="session")
def studio(chromium: str) -> Iterator[Server]:
    server = serve(three_models(delay=STEP_SECONDS), LaunchOptions(port=free_port(), browser=False))
    yield server
    server.close()


def new_tab(context: BrowserContext, complaints: list[str]) -> Page:
    """A page that writes down every console error, broken script and request to elsewhere."""

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"console: {message.text}")

    def check(request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme not in ("data", "blob") and url.hostname != "127.0.0.1":
            complaints.append(f"outside request: {request.url}")

    page = context.new_page()
    page.set_viewport_size({"width": 1280, "height": 800})
    page.on("console", listen)
    page.on("pageerror", lambda error: complaints.append(f"script: {error}"))
    page.on("request", check)
    return page


@pytest.fixture
def check_looks() -> Callable[[Page, int], None]:
    """Fits the width, names its controls, can be read, and needs no font of pictures."""

    def check(page: Page, width: int) -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(UNNAMED) == []
        assert page.evaluate(LOW_CONTRAST) == []
        assert page.evaluate(EMOJI) is None

    return check


@pytest.fixture
def open_tab(context: BrowserContext, studio: Server) -> Iterator[Callable[..., Page]]:
    """Opens a page as a new visitor. At the end: no console error, no broken script, no outside request."""
    tabs: list[Page] = []
    complaints: list[str] = []

    def open_page(*, width: int = 1280, height: int = 800, dark: bool = False) -> Page:
        page = new_tab(context, complaints)
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
        tabs.append(page)
        page.goto(studio.address)
        page.wait_for_selector(".run-bar-examples .chip")
        page.wait_for_selector(".welcome-pictures img")
        return page

    yield open_page
    for page in tabs:
        page.evaluate(f"document.dispatchEvent(new CustomEvent('studio:command', {{ detail: {STOP} }}))")
        page.wait_for_selector(f".results:not({AT_REST})", state="detached")  # of every tab, shown or not
        page.evaluate("localStorage.clear()")
        page.close()
    assert complaints == []


@pytest.fixture
def page(open_tab: Callable[..., Page]) -> Page:
    return open_tab()
