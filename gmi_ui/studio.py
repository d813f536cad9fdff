"""The studio: assembles the page from the tabs and starts the server."""

import importlib.util
import os
import tempfile
import time
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from fastapi.middleware import Middleware

from engine.errors import ModelError
from engine.settings import SettingsError
from engine.system.folders import cache_folder, outputs_folder
from gmi_ui.api.endpoints import NAMES, WAITING, add_endpoints
from gmi_ui.api.requests import ApiRequests
from gmi_ui.api.tools import show_pictures
from gmi_ui.components import (
    head,
    history,
    lab,
    model_library,
    painter,
    particle_grid,
    plot,
    run_bar,
    version_history,
    workspace_view,
)
from gmi_ui.components.head.functions import language_words, preference_functions, queue_functions
from gmi_ui.guard import Gate, Guard, Names
from gmi_ui.history.outputs import CHOICE, Outputs, chosen_folder
from gmi_ui.listening import LOOPBACK, OptionsError, Place, free_place, without_proxies
from gmi_ui.models.models import Models, engine_loaders
from gmi_ui.notices import NotPossibleError
from gmi_ui.pictures.saving import Pictures
from gmi_ui.preferences import FILE, KeptPreferences, Preferences
from gmi_ui.services import Services
from gmi_ui.tabs import TABS
from gmi_ui.tabs.common import Page
from gmi_ui.tabs.generate import DEFAULTS
from gmi_ui.temporary import remove_halves_of_files, upload_folder
from gmi_ui.theme import studio_theme
from gmi_ui.tokens import Tokens
from gmi_ui.window import open_window, why_not

TITLE = "GMI Studio"
LOOK_EVERY = 0.1  # seconds, for the end
PATIENCE = 20.0  # seconds that the last step may take once the studio is to end
INTERRUPTED_KEPT = 30 * 86400.0  # seconds
INTERRUPTED = "interrupted"  # in the cache: pictures of runs that the studio's end has stopped
MAX_UPLOAD = 2 << 30  # bytes; what is too large for the engine it says itself, and better
# Threads for what clicks ask for, such as loading. Not 40: gradio then takes them from those that every request needs.
HANDLERS = 24
INSTALL_MCP = "Install it with: pip install 'gradio[mcp]'"
# The components of our own.
PARTS = (head, run_bar, particle_grid, version_history, workspace_view, painter, history, model_library, lab, plot)
WINDOW = "window"  # in the cache: what a window of the studio's own keeps
LAST_RUNS = "last-runs"  # the folder for the last run of each page
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class LaunchOptions:
    """How the studio starts."""

    host: str = "127.0.0.1"
    port: int | None = None  # None: the first free one from 7860
    device: str = "auto"
    threads: int | None = None  # None: as many as cores are free
    browser: bool = True
    window: bool = False  # of the studio's own, in place of the browser's
    share: bool = False
    auth: tuple[str, str] | None = None
    allow_hosts: tuple[str, ...] = ()  # more names under which the page is reached
    root_path: str = ""  # below which a reverse proxy serves the page: /PATH, or https://NAME/PATH
    outputs: Path | None = None  # where finished pictures are kept; None: as chosen on the page, else the usual folder
    keeps: bool = True  # whether they are
    mcp: bool = False  # the API's endpoints are tools for MCP, too

    def __post_init__(self) -> None:
        if self.share and self.auth is None:
            raise OptionsError("--share puts the studio on the internet: say who may use it with --auth user:password.")
        if self.mcp and self.auth is not None:
            raise OptionsError("--mcp has no way to ask for a password: leave out --auth, or --mcp.")

    @property
    def is_shared(self) -> bool:
        """Whether others than the person at this machine may use the page."""
        elsewhere = self.host not in LOOPBACK or self.allow_hosts or self.root_path
        return bool(elsewhere or self.share or self.auth)


def build(
    models: Models,
    *,
    kept: Path | None = None,
    outputs: Outputs | None = None,
    preferences: KeptPreferences | None = None,
) -> tuple[gr.Blocks, Services]:
    """The page around the given models. kept, outputs, preferences: see `Services.around`."""
    os.environ["GRADIO_TEMP_DIR"] = str(upload_folder())  # gradio has no other way to be told
    services = Services.around(models, kept=kept, outputs=outputs, preferences=preferences)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True) as page:
        switch = head.head([*queue_functions(services), *preference_functions(services), language_words])
        token = gr.Textbox(visible="hidden", elem_id="token", show_label=False)
        around = Page(page, services, token, switch)
        with gr.Tabs(elem_id="studio-tabs"):
            for tab in TABS:
                with gr.Tab(tab.title, id=tab.task):
                    tab.build(around)
        add_endpoints(services)
    return page.queue(max_size=WAITING), services


@dataclass(frozen=True)
class Server:
    """A studio that answers at `address`."""

    page: gr.Blocks
    services: Services
    address: str

    def wait(self, until: Callable[[], bool] = lambda: False) -> None:
        """Returns when the server was closed, or `until` is true; a person's interruption passes through."""
        while self.page.is_running and not until():
            time.sleep(LOOK_EVERY)

    def end(self) -> Path | None:
        """Ends what goes on after the step it is at; the file that an unfinished run's pictures are kept in."""
        run = self.services.end(PATIENCE)
        self.close()
        if run is None:
            return None
        try:
            return Pictures(cache_folder() / INTERRUPTED, kept_for=INTERRUPTED_KEPT).save_all(run)
        except (OSError, NotPossibleError):
            return None

    def close(self) -> None:
        """Stops answering."""
        self.page.close(verbose=False)


def serve(models: Models, options: LaunchOptions) -> Server:
    """Builds the page, serves it, and loads the default models meanwhile. Raises OptionsError."""
    place = free_place(options.host, options.port)
    remove_halves_of_files()
    preferences = KeptPreferences(cache_folder() / FILE)
    page, services = build(
        models, kept=cache_folder() / LAST_RUNS, outputs=outputs_of(options), preferences=preferences
    )
    services.outputs.begin()
    with without_proxies(place.host, besides_others=options.share):
        _launch(page, services, options, place)
    if options.mcp:
        _begin_mcp(page)
    models.warm(DEFAULTS)
    address = page.share_url or place.address
    if options.browser and not options.window:
        webbrowser.open(address)
    return Server(page, services, address)


def _begin_mcp(page: gr.Blocks) -> None:
    """Raises OptionsError where gradio could not begin it."""
    if page.mcp_server_obj is None:
        page.close(verbose=False)
        raise OptionsError(f"--mcp: {page.mcp_error} {INSTALL_MCP}")
    show_pictures(page.mcp_server_obj)


def outputs_of(options: LaunchOptions) -> Outputs:
    """What keeps finished pictures. Where others may use the page too, they are kept only in a folder that was named
    for it, and not shown on the page.
    """
    choice = cache_folder() / CHOICE
    if options.is_shared:
        return Outputs(options.outputs if options.keeps else None, is_private=False)
    try:
        usual = options.outputs or outputs_folder()
    except ModelError:  # a user without a home
        usual = cache_folder() / "outputs"
    folder = options.outputs or chosen_folder(choice, usual)
    return Outputs(folder if options.keeps else None, usual=usual, choice=choice)


def _launch(page: gr.Blocks, services: Services, options: LaunchOptions, place: Place) -> None:
    gate = gate_of(options)
    page.launch(
        server_name=place.host,
        server_port=place.port,
        share=options.share,
        auth=options.auth,
        inbrowser=False,
        prevent_thread_lock=True,
        quiet=True,
        ssr_mode=False,
        _frontend=False,  # skips only a request to itself, whose 3 seconds are too short for a busy machine
        run_history=False,
        enable_monitoring=False,
        footer_links=["api"],
        mcp_server=options.mcp,
        max_file_size=MAX_UPLOAD,
        max_threads=HANDLERS,
        allowed_paths=[str(services.pictures.folder)],
        theme=studio_theme(),
        css_paths=[_HERE / "studio.css", *(part.CSS for part in PARTS)],
        head=f"<script>{(_HERE / 'studio.js').read_text(encoding='utf-8')}</script>",
        favicon_path=_HERE / "icon.png",
        root_path=options.root_path,
        app_kwargs={"middleware": [Middleware(Guard, gate=gate), Middleware(ApiRequests, root_path=gate.path)]},
    )


def gate_of(options: LaunchOptions) -> Gate:
    """What the studio lets through."""
    names = Names(options.host, options.allow_hosts, options.root_path, is_shared=options.share)
    tokens = Tokens(cache_folder())
    return Gate(
        names,
        tokens,
        options.root_path,
        has_login=options.auth is not None,
        upload=MAX_UPLOAD,
        endpoints=NAMES,
        has_mcp=options.mcp,
    )


def check_device(device: str) -> None:
    """Raises OptionsError for a device that is not there, before anything is started.

    What is always there is not tried: that would import torch, and delay the page by seconds.
    """
    if device in ("auto", "cpu"):
        return
    from engine.system import runtime

    try:
        runtime.check_device(device)
    except SettingsError as error:
        raise OptionsError(f"--{error}") from error


def check_mcp(is_wanted: bool) -> None:
    """Raises OptionsError where the package is missing that speaks MCP."""
    if is_wanted and importlib.util.find_spec("mcp") is None:
        raise OptionsError(f"--mcp: a package is missing that it needs. {INSTALL_MCP}")


def launch(options: LaunchOptions) -> bool:
    """The studio with the engine's models, until it is interrupted, which is True, or its window closed.

    Raises OptionsError.
    """
    check_device(options.device)
    check_mcp(options.mcp)
    threads = options.threads or Preferences.read(cache_folder() / FILE).threads
    server = serve(Models(engine_loaders(options.device, threads)), options)
    is_interrupted = True
    with suppress(KeyboardInterrupt):  # it may come before the waiting begins
        print(f"{TITLE} is at {server.address} (Ctrl+C ends it)", flush=True)
        if options.host not in LOOPBACK and options.auth is None:
            print(
                "Everybody who can reach this machine can use it. --auth user:password asks for a name.",
                flush=True,
            )
        if options.window and _was_in_window(server, options):
            is_interrupted = False
        else:
            server.wait()
    print("Ending after this step (Ctrl+C once more ends at once)", flush=True)
    kept = server.end()
    if kept is not None:
        print(f"The pictures of the unfinished run are in {kept}", flush=True)
    return is_interrupted


def _was_in_window(server: Server, options: LaunchOptions) -> bool:
    """Shows the studio in a window until that is closed; where there can be none, says why and opens the browser."""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        window = open_window(TITLE, server.address, cache_folder() / WINDOW, log)
        try:
            server.wait(until=lambda: window.poll() is not None)
        finally:
            window.terminate()
        reason = why_not(window, log)
    if not reason:
        return True
    print(reason, flush=True)
    if options.browser:
        print("The browser shows the studio instead.", flush=True)
        webbrowser.open(server.address)
    return False
