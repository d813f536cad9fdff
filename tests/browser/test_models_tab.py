"""The Models tab: downloads from a server on this machine, files of one's own, the menus of the other tabs."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from engine.models import public, store
from engine.models.downloads import Patience
from engine.models.public import PublicFile, PublicModel
from gmi_ui.models import library
from gmi_ui.models.models import Models, engine_loaders
from gmi_ui.studio import LaunchOptions, Server, serve
from tests.browser.conftest import new_tab
from tests.browser.helpers import drop_file, free_port, number
from tests.engine.checkpoints import expected

QUICK = Patience(stall=1.0, tries=2, first_wait=0.05, longest_wait=0.1)
SLOW_CHUNKS, CHUNK = 60, 40_000  # of the download that is looked at while it goes on
EVIL = b"cos\nsystem\n(Vtouch /tmp/gmi-was-here\ntR."
NC = ("CC BY-NC 4.0", "not commercially, and with the authors named")


class Handler(BaseHTTPRequestHandler):
    """/page gives HTML, /slow a model that takes seconds, everything else what it says."""

    def do_GET(self) -> None:
        served: dict[str, bytes] = self.server.served  # type: ignore[attr-defined]
        name = self.path.lstrip("/")
        if name == "page.pkl":
            return self.answer(b"<!doctype html><title>sign in</title>", "text/html")
        if name not in served:
            return self.send_error(404)
        self.answer(served[name], "application/octet-stream", slow=name.startswith("slow"))

    def answer(self, body: bytes, kind: str, *, slow: bool = False) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for start in range(0, len(body), CHUNK):
            self.wfile.write(body[start : start + CHUNK])
            if slow:
                time.sleep(0.15)

    def log_message(self, *_: object) -> None:
        pass


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A page that cancels breaks the connection."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = Quiet(("127.0.0.1", 0), Handler)
    served = {name: expected.path(f"biggan-deep-tiny/{name}").read_bytes() for name in MODEL_FILES}
    served["slow.pkl"] = random.Random(0).randbytes(SLOW_CHUNKS * CHUNK)
    server.served = served  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


MODEL_FILES = ("pytorch_model.bin", "config.json")


def public_model_at(name: str, address: str, *files: str, terms: tuple[str, str] = ("MIT", "")) -> PublicModel:
    rows = tuple(PublicFile(file.rpartition("/")[2], address + file, 3.0) for file in files)
    return PublicModel(name, "biggan_deep", 64, rows, *terms, paper="A paper, 2020", shows="tiny pictures")


@pytest.fixture(scope="module")
def library_studio(
    chromium: str, address: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Path]]:
    """A studio with the engine's own loaders; its folders are of this module alone."""
    place = tmp_path_factory.mktemp("library")
    table = (
        public_model_at("tiny-free", address, *MODEL_FILES),
        public_model_at("tiny-nc", address, *MODEL_FILES, terms=NC),
        public_model_at("slow", address, "slow.pkl"),
        public_model_at("page", address, "page.pkl"),
        public_model_at("gone", address, "missing.pkl"),
        public_model_at("nobody", "http://127.0.0.1:9/", "model.pkl"),
    )
    patch = pytest.MonkeyPatch()
    for variable, folder in (("GMI_MODELS", "models"), ("GMI_CACHE", "cache")):
        patch.setenv(variable, str(place / folder))
    patch.delenv("GMI_MODEL_MIRROR", raising=False)
    for module in (public, store, library):
        patch.setattr(module, "PUBLIC_MODELS", table)
    server = serve(Models(engine_loaders("cpu", 1)), LaunchOptions(port=free_port(), browser=False))
    server.services.library.public = table
    server.services.library.patience = QUICK
    yield server, place
    server.close()
    patch.undo()


@pytest.fixture
def tab(context: BrowserContext, library_studio: tuple[Server, Path]) -> Iterator[Callable[..., Page]]:
    """Opens the Models tab. At the end: no console error, no outside request."""
    complaints: list[str] = []
    pages: list[Page] = []

    def open_tab(*, width: int = 1280, dark: bool = False) -> Page:
        page = new_tab(context, complaints)
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
        pages.append(page)
        page.goto(library_studio[0].address)
        page.click('[role="tab"][data-tab-id="models"]')
        page.wait_for_selector('.library-here[data-state="full"]')
        return page

    yield open_tab
    for page in pages:
        page.evaluate("localStorage.clear()")
        page.close()
    assert complaints == []


def row(page: Page, name: str) -> Any:
    return page.locator(f'.library-row[data-name="{name}"]')


def here(page: Page, label: str) -> Any:
    return page.locator(".library-here .library-row").filter(has=page.get_by_role("heading", name=label, exact=True))


def transfer(page: Page, name: str) -> Any:
    return page.locator(f'.library-transfer[data-name="{name}"]')


def open_path(page: Page, path: object, architecture: str = "") -> None:
    page.fill("#models-path input, #models-path textarea", str(path))
    page.fill("#models-architecture input, #models-architecture textarea", architecture)
    page.click("#models-open")


def menu(page: Page, task: str, field: str = "model") -> list[str]:
    """What a menu of another tab offers."""
    page.click(f'[role="tab"][data-tab-id="{task}"]')
    prefix = "control" if task == "generate" else f"{task}-control"
    box = page.locator(f"#{prefix}-{field} input")
    if not box.is_visible():
        page.locator(".gr-accordion:visible button:has-text('model')").first.click()
    box.click()
    page.wait_for_selector("[role=option]")
    offered = page.locator("[role=option]").all_inner_texts()
    page.keyboard.press("Escape")
    page.click('[role="tab"][data-tab-id="models"]')
    return [text.replace("✓", "").strip() for text in offered]


def keep_picture(page: Page, name: str) -> None:
    """For a person to look at, where a folder is given."""
    if folder := os.environ.get("GMI_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_tab_fits_is_named_and_readable(
    tab: Callable[..., Page], width: int, dark: bool, check_looks: Callable[[Page, int], None]
) -> None:
    page = tab(width=width, dark=dark)
    expect(here(page, "avatars")).to_contain_text("StyleGAN2  ·  256 px")
    expect(here(page, "avatars")).to_contain_text("For: Generate, Edit, Inpaint")
    expect(here(page, "clip-mini")).to_contain_text("Prompt model")
    expect(page.locator(".library-memory-text")).to_contain_text("memory free")
    expect(row(page, "tiny-nc")).to_contain_text("not commercially")
    keep_picture(page, f"models-{width}{'-dark' if dark else ''}")
    check_looks(page, width)
    for place in ("here", "public"):  # places without a model look like those with one
        grounds = f"[...document.querySelectorAll('.library-{place}, .library-{place} .library-row')]"
        assert page.evaluate(f"new Set({grounds}.map((one) => getComputedStyle(one).backgroundColor)).size") == 1


def test_memory_follows_the_number_of_pictures(tab: Callable[..., Page]) -> None:
    page = tab()
    needs = here(page, "avatars").locator(".library-needs")
    expect(needs).to_contain_text("for 8 pictures")
    page.fill('[data-role="n"]', "64")
    page.keyboard.press("Tab")
    expect(needs).to_contain_text("for 64 pictures")


def test_a_budget_is_kept_and_checked(tab: Callable[..., Page], library_studio: tuple[Server, Path]) -> None:
    page = tab()
    page.fill('[data-role="budget"]', "0")
    page.keyboard.press("Tab")
    expect(page.locator("#model-library .notice")).to_contain_text("got 0")
    page.fill('[data-role="budget"]', "1.5")
    page.keyboard.press("Tab")
    expect(page.locator("#model-library .notice")).to_be_hidden()
    assert store.stored_budget() == 1_500_000_000


def test_conditions_are_accepted_once_then_it_is_fetched_chosen_and_deleted(tab: Callable[..., Page]) -> None:
    page = tab()
    row(page, "tiny-nc").get_by_role("button", name="Download").click()
    dialog = page.locator(".library-dialog")
    expect(dialog).to_contain_text("not commercially, and with the authors named")
    keep_picture(page, "models-licence")
    dialog.get_by_role("button", name="Cancel").click()
    expect(transfer(page, "tiny-nc")).to_have_count(0)
    row(page, "tiny-nc").get_by_role("button", name="Download").click()
    dialog.get_by_role("button", name="Accept and download").click()
    expect(transfer(page, "tiny-nc")).to_contain_text("tiny-nc is here. Choose it as model in Generate.")
    expect(here(page, "tiny-nc")).to_contain_text("downloaded")
    expect(here(page, "tiny-nc")).to_contain_text("not commercially")
    assert "tiny-nc" in menu(page, "generate")
    assert "tiny-nc" not in menu(page, "edit")
    here(page, "tiny-nc").get_by_role("button", name="Delete").click()
    expect(dialog).to_contain_text("is deleted from the disk")
    dialog.get_by_role("button", name="Delete").click()
    expect(page.locator("#model-library .notice")).to_contain_text("tiny-nc was deleted")
    assert "tiny-nc" not in menu(page, "generate")
    row(page, "tiny-nc").get_by_role("button", name="Download").click()  # not asked again
    expect(transfer(page, "tiny-nc")).to_contain_text("tiny-nc is here")


def test_a_download_shows_progress_and_can_be_cancelled(tab: Callable[..., Page]) -> None:
    page = tab()
    row(page, "slow").get_by_role("button", name="Download").click()
    going = transfer(page, "slow")
    expect(going).to_contain_text("/s")
    expect(going).to_contain_text("left")
    expect(going.locator("[role=progressbar]")).to_have_attribute("aria-valuenow", re.compile(r"\d+"))
    expect(row(page, "slow").locator(going)).to_have_count(1)  # where it was asked for
    expect(going.get_by_role("button", name="Cancel")).to_be_focused()
    keep_picture(page, "models-download")
    going.get_by_role("button", name="Cancel").click()
    expect(going).to_contain_text("Stopped: slow")
    expect(going).to_contain_text("what has arrived is kept")
    going.get_by_role("button", name="Dismiss").click()
    expect(going).to_have_count(0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("page", "gave a web page instead of the file"),
        ("gone", "404"),
        ("nobody", "does not deliver"),
    ],
)
def test_downloads_that_fail_say_why_and_the_studio_goes_on(tab: Callable[..., Page], name: str, message: str) -> None:
    page = tab()
    row(page, name).get_by_role("button", name="Download").click()
    expect(transfer(page, name)).to_contain_text(message)
    expect(transfer(page, name).locator("[role=alert]")).to_have_count(1)
    transfer(page, name).get_by_role("button", name="Dismiss").click()
    expect(transfer(page, name)).to_have_count(0)


def test_a_full_disk(tab: Callable[..., Page], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=1_000_000)
    monkeypatch.setattr("engine.models.downloads.shutil.disk_usage", lambda _: usage)
    page = tab()
    row(page, "slow").get_by_role("button", name="Download").click()
    expect(transfer(page, "slow")).to_contain_text("has 1 MB left. Free some, or choose another folder (GMI_MODELS)")
    transfer(page, "slow").get_by_role("button", name="Dismiss").click()


def test_own_files_are_recognised_and_appear_in_the_menus(tab: Callable[..., Page]) -> None:
    page = tab()
    path = expected.path("rosinality_32.pt")
    open_path(page, path)
    expect(transfer(page, str(path))).to_contain_text("StyleGAN2, 32 px, rosinality")
    keep_picture(page, "models-own")
    own = here(page, "rosinality_32.pt")
    expect(own).to_contain_text("your file")
    expect(own).to_contain_text("loaded")
    for task in ("generate", "edit", "inpaint"):
        assert "rosinality_32.pt" in menu(page, task)
    own.get_by_role("button", name="Unload").click()
    expect(own.locator(".library-loaded")).to_have_count(0)
    own.get_by_role("button", name="Remove").click()
    page.locator(".library-dialog").get_by_role("button", name="Remove").click()
    expect(own).to_have_count(0)
    assert path.is_file()
    assert "rosinality_32.pt" not in menu(page, "edit")


def test_an_own_file_is_run(tab: Callable[..., Page], tmp_path: Path) -> None:
    page = tab()
    path = Path(shutil.copy(expected.path("rosinality_32.pt"), tmp_path / "faces.pt"))
    open_path(page, path)
    expect(here(page, "faces.pt")).to_be_visible()
    page.click('[role="tab"][data-tab-id="generate"]')
    page.wait_for_selector(".welcome-pictures img")
    page.click("#control-model input")
    page.click("[role=option]:has-text('faces.pt')")
    for field, value in (("n", "2"), ("steps", "2")):
        page.locator(f"#control-{field} input[type=number]").fill(value)
    page.fill("#control-prompt textarea", "blue")
    assert number(page, "n") == "2"
    page.click('[data-action="run"]')
    page.wait_for_selector('.results[data-phase="done"]')
    page.click('[role="tab"][data-tab-id="models"]')
    expect(here(page, "faces.pt").locator(".library-needs")).to_contain_text("for a picture and step here")


def test_uploads_are_kept_and_deleted(tab: Callable[..., Page], library_studio: tuple[Server, Path]) -> None:
    page = tab()
    with page.expect_file_chooser() as chooser:
        page.click("#models-upload")
    source = expected.path("stargan_100000_nets_ema.ckpt")
    chooser.value.set_files(source)
    own = here(page, "stargan_100000_nets_ema.ckpt")
    expect(own).to_contain_text("StarGAN v2")
    expect(own).to_contain_text("For: Translate")
    kept = library_studio[1] / "models" / "own" / "stargan_100000_nets_ema" / "stargan_100000_nets_ema.ckpt"
    assert hashlib.sha256(kept.read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()
    own.get_by_role("button", name="Remove").click()
    page.locator(".library-dialog").get_by_role("button", name="Remove").click()
    expect(own).to_have_count(0)
    assert not kept.parent.exists()


def test_a_file_dropped_on_the_tab_is_opened(tab: Callable[..., Page]) -> None:
    page = tab()
    page.evaluate(
        """() => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File(["x"], "a.pkl"));
            document.body.dispatchEvent(new DragEvent("dragenter", { bubbles: true, dataTransfer }));
        }"""
    )
    banner = page.locator(".drop-target")
    expect(banner).to_have_text("Drop a model's files to open it")
    drop_file(page, "evil.pkl", EVIL, "application/octet-stream", target="#model-library")
    expect(banner).to_be_hidden()
    expect(page.locator("#model-library")).to_contain_text("it wants os.system")
    page.locator("#model-library").get_by_role("button", name="Dismiss").first.click()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nothing.pkl", None, "There is no file"),
        ("evil.pkl", EVIL, "it wants os.system"),
        ("page.pt", b"<!doctype html><title>404</title>", "it is a web page, not a model"),
        ("half.pt", b"PK\x03\x04" + bytes(100), "is cut short"),
        ("empty.ckpt", b"", "it is empty"),
    ],
)
def test_bad_files_are_told_and_the_studio_goes_on(
    tab: Callable[..., Page], tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    page = tab()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    open_path(page, tmp_path / name)
    failed = transfer(page, str(tmp_path / name))
    expect(failed).to_contain_text("Not possible")
    expect(failed).to_contain_text(message)
    if name == "evil.pkl":
        keep_picture(page, "models-refused")
    failed.get_by_role("button", name="Dismiss").click()
    expect(failed).to_have_count(0)
    assert not Path("/tmp/gmi-was-here").exists()


def test_prompt_models_by_name_and_unknown_ones(tab: Callable[..., Page]) -> None:
    page = tab()
    page.locator(".library-prompt input[name=architecture]").fill("ViT-B-23")
    page.locator(".library-prompt input[name=tag]").fill("openai")
    page.locator(".library-prompt").get_by_role("button", name="Download").click()
    expect(page.locator("#model-library .notice")).to_contain_text("no architecture 'ViT-B-23'; did you mean")
    page.locator(".library-prompt input[name=architecture]").fill("ViT-B-32")
    page.locator(".library-prompt input[name=tag]").focus()
    expect(page.locator("#library-tags option[value=laion2b_s34b_b79k]")).to_have_count(1)
    page.locator(".library-prompt input[name=tag]").fill("nonsense")
    page.locator(".library-prompt").get_by_role("button", name="Download").click()
    expect(page.locator("#model-library .notice")).to_contain_text("ViT-B-32 has no tag 'nonsense'; its tags: openai")
