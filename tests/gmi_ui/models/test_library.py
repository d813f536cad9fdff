"""The Models tab's library without a page: what it shows, refuses and begins; loading through the worker; the times."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from engine.errors import LoadingStopped, ModelError
from engine.families import FAMILIES
from engine.models import store
from engine.models.public import PUBLIC_MODELS
from engine.models.store import OwnModel
from engine.system.files import Watch
from gmi_ui.components.model_library.functions import library_functions
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.models.library import Library, Transfer, tasks_here, told, use_of_family
from gmi_ui.models.models import Loaders, Models
from gmi_ui.notices import NotPossibleError
from gmi_ui.runs.run import Run
from gmi_ui.runs.work import Phase
from gmi_ui.services import Services
from gmi_ui.tabs.models import menu_changes
from tests.gmi_ui.tiny import (
    GENERATOR,
    PROMPT_MODEL,
    TinyGenerator,
    TinyPromptModel,
    only,
    three_models,
    tiny_models,
    tiny_row,
    tiny_settings,
)
from tests.gmi_ui.waiting import wait_for_end, wait_until

TOKEN = "0" * 32


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GMI_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


class Machine:
    """Loaders of one tiny generator that takes its time, and tells what is asked of it."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.watches: list[Watch] = []
        self.served = 0

    @contextmanager
    def serving(self, watch: Watch) -> Iterator[None]:
        self.served += 1
        self.watches.append(watch)
        try:
            yield
        finally:
            self.served -= 1

    def load(self, name: str) -> Any:
        for step in range(1000):
            self.watches[-1](f"Reading {name}", step / 1000)
            if self.go_on.wait(0.01):
                return TinyGenerator()
        raise AssertionError("nobody let it go on")

    def inspect(self, path: Path, architecture: str) -> OwnModel:
        if "bad" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        self.load(path.name)
        family = "stargan2" if path.suffix == ".ckpt" else "stylegan2"
        notes = ("found under params_ema", "not used: epoch") if path.suffix == ".pth" else ()
        return OwnModel(str(path), "generator", family, 32, path.stat().st_size, "a format", str(path), notes=notes)

    def models(self) -> Models:
        return Models(
            Loaders(
                generator=self.load,
                prompt_model=only(PROMPT_MODEL, TinyPromptModel()),  # type: ignore[arg-type]
                rows=lambda: [tiny_row()],
                stored=store.stored_rows,
                inspect=self.inspect,
                serving=self.serving,
                memory=lambda: (3_000_000_000, 4_000_000_000),
            )
        )


@pytest.fixture
def machine() -> Machine:
    return Machine()


def end_of(library: Library) -> Transfer:
    transfer = library._transfers[-1]
    wait_until(lambda: transfer.state != "going on")
    return transfer


# ---- what is shown ---------------------------------------------------------------------------------------


def test_opening_a_file_says_what_was_made_of_it(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"1")
    library = Library(machine.models())
    machine.go_on.set()
    library.open(str(tmp_path / "x.pth"))
    end_of(library)
    said = library.state(1)["transfers"][-1]
    assert "Found under params_ema. Not used: epoch." in str(said)
    assert store.own_models()[0].notes == ("found under params_ema", "not used: epoch")


def test_every_family_is_named_and_says_what_it_is_for() -> None:
    for name, family in FAMILIES.items():
        assert family.label != name
        assert tasks_here(name) == family.possible_tasks  # whatever the engine can do has a tab
        assert tasks_here(name) or "opened, checked and converted here, not run yet" in use_of_family(name)
    assert (tasks_here("stylegan2"), tasks_here("comodgan")) == (("generate", "edit", "inpaint"), ("inpaint",))
    assert use_of_family("stargan2") == "Translate"


def test_the_state_has_what_is_here_and_what_can_be_had() -> None:
    state = Library(three_models()).state(4)
    assert [row["name"] for row in state["here"]][:3] == ["avatars", "fashion", "mosaic"]
    assert {row["source"] for row in state["here"]} == {"bundled"}
    assert [row["name"] for row in state["public"]] == [model.name for model in PUBLIC_MODELS]
    ffhq = next(row for row in state["public"] if row["name"] == "stylegan2-ada-ffhq")
    assert "not commercially" in ffhq["conditions"] and not ffhq["accepted"]
    assert state["n"] == 4 and state["memory"]["kept"] == 0


def test_what_does_not_fit_the_memory_is_told(machine: Machine) -> None:
    library = Library(machine.models())
    assert [library.state(n)["here"][0]["fits"] for n in (1, 64)] == [True, True]
    large = replace(tiny_row(), resolution=1024)
    models = Models(replace(machine.models()._loaders, rows=lambda: [large]))
    assert [Library(models).state(n)["here"][0]["fits"] for n in (1, 8)] == [True, False]


@pytest.mark.parametrize("gigabytes", [0, -1, "3", None, True, float("nan"), 1e9])
def test_a_budget_is_an_amount_that_there_is(machine: Machine, gigabytes: Any) -> None:
    with pytest.raises(NotPossibleError, match=r"may keep 0\.1 to 4\.0 GB"):
        Library(machine.models()).set_budget(gigabytes)
    assert store.stored_budget() is None


# ---- opening ---------------------------------------------------------------------------------------------


def test_an_opened_file_tells_how_far_it_is_and_is_listed(machine: Machine, tmp_path: Path) -> None:
    models = machine.models()
    library, path = Library(models), tmp_path / "own.pt"
    path.write_bytes(b"1234")
    before = library.state()["changes"]
    library.open(f' "{path}" ')
    wait_until(lambda: library._transfers[-1].share is not None)
    shown = library.state()["transfers"][-1]
    assert shown["state"] == "going on" and shown["doing"] == "Reading own.pt"
    with pytest.raises(NotPossibleError, match="is being opened already"):
        library.open(str(path))
    machine.go_on.set()
    assert end_of(library).message == (
        "own.pt: StyleGAN2, 32 px, a format. Choose it as model in Generate or Edit or Inpaint."
    )
    assert machine.served == 0
    row = next(row for row in library.state()["here"] if row["source"] == "own")
    assert (row["label"], row["size"], row["usable"]) == ("own.pt", 4, True)
    assert library.state()["changes"] != before
    assert ("own.pt", str(path)) in models.choices(task="edit")
    found = models.row(str(path))
    assert found is not None and found.family == "stylegan2"


def test_opening_can_be_cancelled_and_then_dismissed(machine: Machine, tmp_path: Path) -> None:
    library, path = Library(machine.models()), tmp_path / "own.pt"
    path.write_bytes(b"1234")
    library.open(str(path))
    transfer = library._transfers[-1]
    wait_until(lambda: transfer.share is not None)
    library.cancel(transfer.number)
    assert end_of(library).state == "stopped" and not store.own_models()
    library.cancel(transfer.number)
    assert library.state()["transfers"] == []


def test_files_say_in_which_tab_they_can_be_chosen(machine: Machine, tmp_path: Path) -> None:
    models = machine.models()
    library, path = Library(models), tmp_path / "nets.ckpt"
    path.write_bytes(b"1234")
    machine.go_on.set()
    library.open(str(path))
    assert "Choose it as model in Translate." in end_of(library).message
    assert all(name != str(path) for task in ("generate", "edit") for _, name in models.choices(task=task))


@pytest.mark.parametrize(
    ("path", "message"),
    [("", "Write the path"), ("  ", "Write the path"), ("a\0b", "no path"), ("x" * 5000, "no path")],
)
def test_what_is_no_path_is_refused_at_once(machine: Machine, path: str, message: str) -> None:
    with pytest.raises(NotPossibleError, match=message):
        Library(machine.models()).open(path)


def test_a_missing_file_and_a_full_disk_are_told(machine: Machine, tmp_path: Path) -> None:
    library = Library(machine.models())
    library.open(str(tmp_path / "nothing.pt"))
    assert end_of(library).message == f"There is no file {tmp_path / 'nothing.pt'}."
    (tmp_path / "x-bad.pt").write_bytes(b"x")
    library.open(str(tmp_path / "x-bad.pt"))
    assert "The disk is full" in end_of(library).message and end_of(library).state == "failed"
    assert "not enough memory to load it" in told(RuntimeError("DefaultCPUAllocator: not enough memory"))


def test_the_path_box_does_not_tell_what_files_there_are(machine: Machine, tmp_path: Path) -> None:
    """Of what is no model the answer is the same whether it is there or not, and says nothing that stands in it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "secret.txt").write_text("secret")
    (tmp_path / "notes.txt").write_text("secret")
    answers = set()
    for place in (tmp_path / "notes.txt", tmp_path / "nothing.txt", folder, tmp_path / "nowhere", Path("/dev/zero")):
        library = Library(machine.models())
        library.open(str(place))
        answers.add(end_of(library).message.replace(str(place), "PLACE"))
    assert len(answers) == 1
    assert answers.pop().startswith("No model opens at PLACE. Models are files that end in .safetensors")


def test_only_models_of_the_list_are_loaded(machine: Machine, tmp_path: Path) -> None:
    """A picture's settings, and whoever talks to the server, can name any file and any model to be fetched."""
    models = machine.models()
    for name in (str(tmp_path / "x.pt"), "x.pt", "../x", "open_clip:ViT-B-32/openai"):
        for load in (models.generator, models.prompt_model):
            with pytest.raises(ModelError, match="is not among the models here. If you trust"):
                load(name)


def test_an_upload_that_is_refused_is_not_kept(machine: Machine, tmp_path: Path, own_folder: Path) -> None:
    library = Library(machine.models())
    for name in ("good.pt", "evil-bad.pt"):
        (tmp_path / name).write_bytes(b"12")
    machine.go_on.set()
    library.take({"evil-bad.pt": tmp_path / "evil-bad.pt"})
    assert end_of(library).state == "failed"
    library.take({"good.pt": tmp_path / "good.pt"})
    assert end_of(library).state == "done"
    assert [path.name for path in (own_folder / "own").iterdir()] == ["good"]
    name = store.own_models()[0].name
    assert "2 bytes" not in library.remove(name) and not list((own_folder / "own").iterdir())


def test_what_cannot_be_removed() -> None:
    library = Library(tiny_models())
    with pytest.raises(NotPossibleError, match="comes with the studio"):
        library.remove(GENERATOR)
    with pytest.raises(NotPossibleError, match="is not there any more"):
        library.remove("nobody")


# ---- requests of a page ----------------------------------------------------------------------------------


def call(services: Services, function_name: str, /, **request: Any) -> dict[str, Any]:
    functions = {function.__name__: function for function in library_functions(services)}
    answer: dict[str, Any] = functions[function_name]({"token": TOKEN, **request})
    return answer


def test_requests_without_a_token_get_nothing() -> None:
    services = Services.around(tiny_models())
    requests: list[Any] = [{}, {"token": "x"}, None, [], {"token": 3}]
    for function in library_functions(services):
        for request in requests:
            answer = function(request)
            assert answer == {} or answer["kind"] == "error"


@pytest.mark.parametrize("name", [None, 3, "", "x" * 9000, ["a"], "../../etc", "open_clip:", "open_clip:/"])
def test_forged_names_are_answered_with_words(name: Any) -> None:
    services = Services.around(tiny_models())
    for function in ("fetch_model", "remove_model"):
        assert call(services, function, name=name)["message"]
    assert call(services, "cancel_transfer", number="x")["message"]
    assert call(services, "set_budget", gigabytes={})["message"]
    assert call(services, "library_state", n="many")["n"] == 8


def test_conditions_are_asked_for_before_anything_is_fetched(own_folder: Path) -> None:
    services = Services.around(tiny_models())
    answer = call(services, "fetch_model", name="stylegan2-ada-ffhq")
    assert "not commercially" in answer["conditions"] and not services.library._transfers
    assert not own_folder.exists()


# ---- menus -----------------------------------------------------------------------------------------------


class Menus:
    """Stands for a panel with its menus."""

    task = "generate"

    def __init__(self) -> None:
        with gr.Blocks():
            beside = gr.Dropdown([("Without", "baseline"), ("Nothing", "none"), ("Another model: x", "x")])
            self.components = {"model": gr.Dropdown(), "beside": beside, "prompt_model": gr.Dropdown()}


def test_menus_offer_what_is_here_now() -> None:
    panel: Any = Menus()
    changes = {name: menu_changes(panel, three_models())[one]["choices"] for name, one in panel.components.items()}
    names = ["avatars", "fashion", "mosaic"]
    assert [value for _, value in changes["model"]] == names
    assert [value for _, value in changes["beside"]] == ["baseline", "none", *names]
    assert changes["beside"][2] == ("Another model: avatars", "avatars")
    assert [value for _, value in changes["prompt_model"]] == [PROMPT_MODEL, "clip-wide"]


def test_files_of_one_name_are_told_apart() -> None:
    rows = [replace(tiny_row(), name=name) for name in ("/a/x.pt", "/b/x.pt", "/c/y.pt")]
    models = Models(replace(tiny_models()._loaders, stored=lambda: rows))
    assert models.choices()[1:] == [("/a/x.pt", "/a/x.pt"), ("/b/x.pt", "/b/x.pt"), ("y.pt", "/c/y.pt")]


# ---- through the worker ----------------------------------------------------------------------------------


def test_a_run_shows_the_loading_and_can_be_stopped_in_it(machine: Machine) -> None:
    services = Services.around(machine.models())
    run = Run(tiny_settings(), GENERATE)
    services.queue.submit(run)
    wait_until(lambda: run.moment.doing == "Reading avatars")
    loading = run.moment
    assert loading.phase is Phase.LOADING and loading.share is not None and machine.served == 1
    run.stop()
    wait_for_end(run)
    stopped = run.moment
    assert stopped.phase is Phase.STOPPED and stopped.notice is None
    wait_until(lambda: machine.served == 0)
    machine.go_on.set()
    again = Run(tiny_settings(), GENERATE)
    services.queue.submit(again)
    wait_for_end(again)
    assert again.moment.phase is Phase.DONE


def test_a_watch_stops_whoever_is_stopping(machine: Machine) -> None:
    transfer = Transfer("open", "x", 1)
    with machine.models().serving(transfer):
        machine.watches[-1]("Reading", 0.5)
        assert (transfer.doing, transfer.share) == ("Reading", 0.5)
        transfer.cancel.set()
        with pytest.raises(LoadingStopped):
            machine.watches[-1]("Reading", 0.6)


def test_models_without_an_inspector_open_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be opened here"):
        tiny_models().inspect(tmp_path)
