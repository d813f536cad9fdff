"""What the browser tests do on the page, by the names a person sees."""

import base64
import socket
from pathlib import Path

from playwright.sync_api import Page, expect

from gmi_ui.runs.run import Run
from gmi_ui.studio import Server


def set_number(page: Page, field: str, value: object) -> None:
    """Types into a control's number box, again where a model's own value comes in on top of it."""
    box = page.locator(f"#control-{field} input[type=number]")
    for _ in range(5):
        box.fill(str(value))
        page.evaluate("() => new Promise((done) => setTimeout(() => requestAnimationFrame(done), 100))")
        if box.input_value() == str(value):
            break


def choose(page: Page, control: str, text: str) -> None:
    """Picks from a control's list the entry that contains the text."""
    page.click(f"#{control} input")
    page.click(f"[role=option]:has-text('{text}')")


def number(page: Page, field: str) -> str:
    return page.locator(f"#control-{field} input[type=number]").input_value()


def prompt_box(page: Page) -> str:
    return page.locator("#control-prompt textarea").input_value()


def start(page: Page, prompt: str = "blue", *, n: int = 3, steps: int = 12) -> None:
    """Fills the controls in and presses Run."""
    page.fill("#control-prompt textarea", prompt)
    set_number(page, "n", n)
    set_number(page, "steps", steps)
    page.click('[data-action="run"]')


def run_to_the_end(page: Page) -> None:
    """Presses Run and waits until that run, not the one before it, is done."""
    before = page.locator(".results").get_attribute("data-run")
    page.click('[data-action="run"]')
    page.wait_for_selector(f'.results[data-phase="done"]:not([data-run="{before or ""}"])')


def wait_for_phase(page: Page, phase: str) -> None:
    page.wait_for_selector(f'.results[data-phase="{phase}"]')


def wait_for_step(page: Page, at_least: int) -> None:
    step = r"Number(/step (\d+)/.exec(document.querySelector('.status-numbers').textContent)?.[1])"
    page.wait_for_function(f"least => {step} >= least", arg=at_least)


def expect_notice(page: Page, text: str) -> None:
    expect(page.locator(".notice")).to_contain_text(text)


def server_run(page: Page, studio: Server) -> Run:
    """The run of this tab, as the server has it."""
    run = studio.services.sessions.get(page.evaluate("window.studio.token")).run
    assert run is not None
    return run


def drop_file(page: Page, name: str, data: bytes, mime: str = "image/png", *, target: str = ".results") -> None:
    """Drops a file on a part of the page."""
    page.evaluate(
        """([name, data, mime, selector]) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], name, { type: mime }));
            const target = document.querySelector(selector);
            for (const type of ["dragenter", "dragover", "drop"]) {
                target.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer }));
            }
        }""",
        [name, base64.b64encode(data).decode(), mime, target],
    )


def download(page: Page, selector: str, folder: Path) -> Path:
    """Clicks and keeps the file that comes."""
    with page.expect_download() as waiting:
        page.click(selector)
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
