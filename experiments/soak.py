"""Whether the studio's memory grows while people use it.

    python -m experiments.soak [--minutes 30] [--tabs 6] [--faults]

starts the studio with the bundled models in a process and folders of its own, opens browser tabs in an installed
Chromium, and has them all run at once, over and over: new prompts and seeds, earlier steps looked at, all pictures
saved, now and then a reload. Prints a Markdown table of the studio's memory (resident bytes) after each round, and its
growth: the slope of a line through the rounds of the second half, when caches are full. With --faults something goes
wrong in every round, and all else has to go on: models that are damaged or missing, files that are no pictures,
uploads that break off, requests of nonsense, pages that are closed in the middle of a run. Needs playwright
(requirements-dev.txt).
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from experiments import options

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROMPTS = ("a woman with red hair", "a man with a beard", "green eyes", "a blue hat", "a smile", "round glasses")
RELOAD_EVERY = 5  # rounds
TIMEOUT = 300_000  # ms: six tabs share the worker
QUICK = {"minutes": 0.0, "tabs": 2, "n": 2, "steps": 2}


@contextmanager
def studio(folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    """A studio whose files all lie in the folder, and its address; ended with the block."""
    places = {"GMI_CACHE": "cache", "GMI_MODELS": "models", "GMI_OUTPUTS": "outputs"}
    own = {"TMPDIR": str(folder), **{name: str(folder / place) for name, place in places.items()}}
    command = [sys.executable, str(ROOT / "app.py"), "--no-browser"]
    with subprocess.Popen(command, env={**os.environ, **own}, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            first = program.stdout.readline()  # ... is at http://127.0.0.1:7860/ (Ctrl+C ends it)
            if " is at " not in first:
                raise RuntimeError("The studio did not start; what it said is above.")
            yield psutil.Process(program.pid), first.partition(" is at ")[2].split()[0]
        finally:
            program.kill()


def begin(page: Page, prompt: str, seed: int, n: int, steps: int) -> str:
    """Presses Run; the run that was there before."""
    page.fill("#control-prompt textarea", prompt)
    for field, value in (("n", n), ("steps", steps), ("seed", seed)):
        page.fill(f"#control-{field} input[type=number]", str(value))
    before = page.locator("#particle-grid .results").get_attribute("data-run") or ""
    page.click('#run-bar [data-action="run"]')
    return before


def finish(page: Page, before: str) -> None:
    """Waits for the end of the run after `before`, looks at its first step, and saves all."""
    page.wait_for_selector(f'#particle-grid .results[data-phase="done"]:not([data-run="{before}"])')
    page.locator("#particle-grid .past input").fill("0")
    page.wait_for_function("() => document.querySelector('#particle-grid .past output').textContent === 'step 0'")
    with page.expect_download() as saved:
        page.click('#particle-grid [data-role="save-all"]')
    saved.value.delete()


def rounds(browser: Browser, address: str, chosen: argparse.Namespace, folder: Path) -> Iterator[int]:
    """Has all tabs run at once, over and over; yields after each round how many runs there were.

    folder: for the files of --faults.
    """
    pages = [browser.new_context().new_page() for _ in range(chosen.tabs)]
    for page in pages:
        page.set_default_timeout(TIMEOUT)
        page.goto(address)
        page.wait_for_selector(".welcome-pictures img")
    for number in itertools.count(1):
        if chosen.faults:
            FAULTS[number % len(FAULTS)](pages[number % len(pages)], folder)
        before = [
            begin(page, PROMPTS[(number + tab) % len(PROMPTS)], number * len(pages) + tab, chosen.n, chosen.steps)
            for tab, page in enumerate(pages)
        ]
        for page, run in zip(pages, before, strict=True):
            finish(page, run)
        if number % RELOAD_EVERY == 0:
            page = pages[number // RELOAD_EVERY % len(pages)]
            page.reload()
            page.wait_for_selector("#particle-grid .cell img")
        yield number * len(pages)


def break_model(page: Page, folder: Path) -> None:
    """Chooses a file that is cut off, then one that is not there, then the bundled model again."""
    damaged = folder / "damaged.safetensors"
    damaged.write_bytes((ROOT / "assets/fashion/generator.safetensors").read_bytes()[:100_000])
    box = page.locator("#control-model input")
    for name in (str(damaged), "nowhere.safetensors"):
        box.fill(name)
        box.press("Enter")
        page.wait_for_selector("#particle-grid .notice:not([hidden])")
        page.click('#particle-grid [data-role="dismiss"]')
    box.fill("avatars")
    box.press("Enter")


def break_picture(page: Page, folder: Path) -> None:
    """Restores a file that is no picture."""
    garbage = folder / "garbage.png"
    garbage.write_bytes(os.urandom(1_000_000))
    with page.expect_file_chooser() as chooser:
        page.click("#restore-picture")
    chooser.value.set_files(garbage)
    page.wait_for_selector("#particle-grid .notice:not([hidden])")
    page.click('#particle-grid [data-role="dismiss"]')


def break_upload(page: Page, folder: Path) -> None:
    """Begins an upload of 20 MB and breaks it off."""
    page.evaluate(
        """async () => {
            const body = new FormData();
            body.append("files", new Blob([new Uint8Array(2e7)]), "large.png");
            const control = new AbortController();
            setTimeout(() => control.abort(), 30);
            await fetch("/gradio_api/upload", { method: "POST", body, signal: control.signal }).catch(() => null);
        }"""
    )


def break_request(page: Page, folder: Path) -> None:
    """Asks the page's own functions for nonsense, a hundred times."""
    page.evaluate(
        """async () => {
            const headers = { "Content-Type": "application/json" };
            for (let i = 0; i < 100; i += 1) {
                const asked = { data: { token: "x".repeat(i) }, fn_name: "newest_frame", component_id: i };
                const request = { method: "POST", headers, body: JSON.stringify(asked) };
                await fetch("/gradio_api/component_server", request);
            }
        }"""
    )


def leave_run(page: Page, folder: Path) -> None:
    """Another page begins a long run and is closed in the middle of it."""
    other = page.context.new_page()
    other.goto(page.url)
    other.wait_for_selector(".welcome-pictures img, #particle-grid .cell img")
    begin(other, "a man who leaves", 1, 4, 500)
    other.wait_for_selector('#particle-grid .results[data-phase="running"]', timeout=TIMEOUT)
    other.close()


FAULTS = (break_model, break_picture, break_upload, break_request, leave_run)


def growth(minutes: Sequence[float], megabytes: Sequence[float]) -> float:
    """MB a minute: the slope of the line through the second half, 0 where that is one point."""
    later = slice(len(minutes) // 2, None)
    if len(minutes[later]) < 2:
        return 0.0
    return statistics.linear_regression(minutes[later], megabytes[later]).slope


def main(arguments: Sequence[str] | None = None) -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description="Whether the studio's memory grows while people use it.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--tabs", type=int, default=6)
    parser.add_argument("--n", type=int, default=4, help="pictures of each run")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--faults", action="store_true", help="something goes wrong in every round")
    chosen = options.parse(parser, QUICK, arguments)
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        parser.error(f"no Chromium was found ({', '.join(BROWSERS)}); install one")
    minutes: list[float] = []
    megabytes: list[float] = []
    print("| minute | runs | MB |\n|---|---|---|", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        studio(Path(folder)) as (process, address),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        began = time.monotonic()
        for runs in rounds(browser, address, chosen, Path(folder)):
            minutes.append((time.monotonic() - began) / 60)
            megabytes.append(process.memory_info().rss / 1e6)
            print(f"| {minutes[-1]:.1f} | {runs} | {megabytes[-1]:.0f} |", flush=True)
            if minutes[-1] >= chosen.minutes:
                break
        browser.close()
    print(f"\n{megabytes[0]:.0f} MB after the first round, {megabytes[-1]:.0f} MB at the end;", end=" ")
    print(f"{growth(minutes, megabytes):+.2f} MB a minute in the second half", end=" ")
    middle = megabytes[len(megabytes) // 2]
    print(f"({100 * (megabytes[-1] / middle - 1):+.1f} % from its beginning to its end)")


if __name__ == "__main__":
    main()
