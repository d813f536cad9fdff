"""A pipeline fetched from a server that speaks as a model hub does: asked for first, resumed, compared, opened."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine.__main__ import main
from engine.commands import models
from engine.commands.models import family_of
from engine.errors import ModelError
from engine.models import downloads, public, store
from engine.models.downloads import Cancelled, DownloadError, Patience, Progress, git_sha1_of, look_up
from engine.models.loading import load_generator
from engine.models.public import PUBLIC_MODELS, PublicFile, PublicModel, public_model
from engine.models.store import Installed, accept_licence, fetch, find_installed, remove
from engine.networks.denoising import alpha_bars
from engine.networks.diffusion_configuration import SCHEDULE
from tests.engine import pipelines
from tests.engine.models.hub import Hub, row_of, serving

QUICK = Patience(stall=2, tries=2, first_wait=0.01)
UNET = "unet/diffusion_pytorch_model.fp16.safetensors"
WRITTEN = "scheduler/scheduler_config.json"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SD-Turbo in 16 bits, as hubs keep it, with much beside it that nobody needs."""
    folder = tmp_path_factory.mktemp("hub") / "tiny"
    pipelines.save_pipeline(folder, "sd", variant="fp16")
    pipelines.keep_words_in_two_files(folder)
    (folder / "LICENSE.md").write_text("For tests.")
    (folder / "whole.safetensors").write_bytes(b"of no use")
    return folder


@pytest.fixture
def hub(pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("GMI_MODELS", "GMI_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("GMI_MODEL_MIRROR", raising=False)
    shutil.copytree(pipeline, tmp_path / "served")
    with serving(tmp_path / "served") as server:
        yield server


@pytest.fixture
def model(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> PublicModel:
    made = row_of(hub)
    for module in (public, store, models):
        monkeypatch.setattr(module, "PUBLIC_MODELS", (*PUBLIC_MODELS, made))
    accept_licence(made)
    return made


def get(model: PublicModel, seen: list[Progress] | None = None, cancel: threading.Event | None = None) -> Installed:
    def report(_: PublicFile, progress: Progress) -> None:
        if seen is not None:
            seen.append(progress)

    return fetch(model, family_of, on_progress=report, cancel=cancel, patience=QUICK)


def test_a_pipeline_arrives_and_draws(hub: Hub, model: PublicModel) -> None:
    seen: list[Progress] = []
    here = get(model, seen)
    assert find_installed(model.name) == here
    files = sorted(path.relative_to(here.folder).as_posix() for path in here.folder.rglob("*") if path.is_file())
    assert "installed.json" in files and UNET in files and "LICENSE.md" in files
    assert "whole.safetensors" not in files and not any("safety" in name for name in files)
    size = sum((here.folder / name).stat().st_size for name in files if name != "installed.json")
    assert (seen[0].done, seen[0].total) == (0, size) == (0, here.bytes), "the size is told before the first byte"
    assert seen[-1].done == seen[-1].total == size
    assert [one.done for one in seen] == sorted(one.done for one in seen), "one bar, which goes one way"
    assert load_generator(model.name).resolution == 16


def test_everything_is_asked_for_before_anything_is_fetched(hub: Hub, model: PublicModel) -> None:
    get(model)
    methods = [method for method, _ in hub.requests]
    assert methods == sorted(methods, reverse=True), "HEAD, HEAD, ... GET, GET"


def test_a_connection_that_broke_is_taken_up_by_the_next_try(hub: Hub, model: PublicModel) -> None:
    """What is whole already is not fetched again, what is half goes on from there."""
    hub.broken = {UNET}
    with pytest.raises(DownloadError, match="does not deliver.*are kept for the next try"):
        fetch(model, family_of, patience=Patience(stall=2, tries=1, first_wait=0.01))
    assert find_installed(model.name) is None
    before = len(hub.fetched())
    half = (hub.folder / UNET).stat().st_size // 2
    seen: list[Progress] = []
    get(model, seen)
    assert seen[0].done > half and seen[-1].done == seen[-1].total
    assert hub.ranges == [UNET]
    again = hub.fetched()[before:]
    assert "model_index.json" not in again and len(again) == len(set(again))


def test_stopped_and_taken_up(hub: Hub, model: PublicModel) -> None:
    cancel = threading.Event()

    def report(file: PublicFile, progress: Progress) -> None:
        if file.name.startswith("unet/") and progress.done:
            cancel.set()

    with pytest.raises(Cancelled):
        fetch(model, family_of, on_progress=report, cancel=cancel, patience=QUICK)
    assert find_installed(model.name) is None
    assert get(model).bytes > 0


@pytest.mark.parametrize("name", [UNET, "tokenizer/vocab.json"])
def test_a_file_that_is_not_what_the_server_says(name: str, hub: Hub, model: PublicModel) -> None:
    hub.wrong = {name}
    with pytest.raises(DownloadError, match=f"{name.rpartition('/')[2]} from .* it is damaged or was exchanged"):
        get(model)
    place = store.models_folder() / model.folder_name
    assert not (place / name).exists() and find_installed(model.name) is None


def test_a_damaged_file_that_is_here_is_fetched_again(hub: Hub, model: PublicModel) -> None:
    path = get(model).folder / UNET
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    before = len(hub.fetched())
    get(model)
    assert hub.fetched()[before:] == [UNET]
    assert path.read_bytes() == (hub.folder / UNET).read_bytes()


def test_a_server_that_names_no_hash_is_held_to_its_length(hub: Hub, model: PublicModel) -> None:
    hub.tells = False
    here = get(model)
    told = look_up(model.files[0].url, patience=QUICK)
    assert told == downloads.Remote((here.folder / model.files[0].name).stat().st_size)
    found = (hub.folder / UNET, hashlib.sha256((hub.folder / UNET).read_bytes()).hexdigest())
    assert downloads.Remote(5).differs(*found) == f"has {found[0].stat().st_size:,} bytes, expected 5"


def test_whole_weights_stand_in_for_those_of_16_bits(hub: Hub, model: PublicModel) -> None:
    (hub.folder / UNET).rename(hub.folder / UNET.replace(".fp16", ""))
    here = get(model)
    assert (here.folder / UNET.replace(".fp16", "")).is_file() and not (here.folder / UNET).exists()
    assert find_installed(model.name) == here


def test_a_missing_file_is_told_before_anything_is_fetched(hub: Hub, model: PublicModel) -> None:
    (hub.folder / "vae/config.json").unlink()
    with pytest.raises(DownloadError, match=r"vae/config\.json is not there any more.*Nothing was fetched"):
        get(model)
    assert hub.fetched() == []


def test_a_login_is_told(hub: Hub, model: PublicModel) -> None:
    hub.status = {"unet/config.json": 401}
    with pytest.raises(DownloadError, match="answers 401.*wants to know who takes it.*open their folder"):
        get(model)
    assert hub.fetched() == []


def test_a_file_that_is_far_too_large(hub: Hub, model: PublicModel) -> None:
    (hub.folder / "unet/config.json").write_bytes(b" " * 2_000_000)
    with pytest.raises(DownloadError, match=r"unet/config\.json has 2\.0 MB there, expected 1\.2 MB at most"):
        get(model)


def test_a_disk_without_room_for_the_folder(hub: Hub, model: PublicModel, monkeypatch: pytest.MonkeyPatch) -> None:
    size = get(model).bytes
    remove(model)
    before = len(hub.fetched())
    for free, fits in ((downloads.SPARE_BYTES + size - 1, False), (downloads.SPARE_BYTES + size, True)):
        monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        if fits:
            get(model)
        else:
            with pytest.raises(DownloadError, match="tiny-turbo needs .* MB of disk.*GMI_MODELS"):
                get(model)
            assert len(hub.fetched()) == before


def test_what_came_whole_but_does_not_open_stays(hub: Hub, model: PublicModel) -> None:
    """Another try would bring the same."""
    (hub.folder / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ModelError, match="came whole, but does not open.*FluxPipeline.*models remove tiny-turbo"):
        get(model)
    assert find_installed(model.name) is None
    assert (store.models_folder() / model.folder_name / UNET).is_file()
    assert remove(model) > 0


def test_a_file_of_ours_is_written(hub: Hub, model: PublicModel) -> None:
    """As SDXL-Lightning's schedule, in the place of that of the model whose other parts it shares."""
    lightning = public_model("sdxl-lightning-1step")
    ours = next(file for file in lightning.files if file.name == WRITTEN)
    files = tuple(ours if file.name == WRITTEN else file for file in model.files)
    here = fetch(replace(model, files=files), family_of, patience=QUICK)
    assert (here.folder / WRITTEN).read_text() == ours.text
    assert WRITTEN not in hub.fetched()


@pytest.mark.parametrize("name", ["sdxl-lightning-1step", "lcm-sdxl"])
def test_schedules_of_ours_are_what_diffusers_makes_of_the_base(name: str, tmp_path: Path) -> None:
    """Of the base's scheduler with the fields that the models' pages change, alphas and kind of prediction."""
    diffusers, _ = pipelines.libraries()
    row = public_model(name)
    told = SCHEDULE(json.loads(next(file for file in row.files if file.name == WRITTEN).text), "scheduler")
    scheduler = getattr(diffusers, told["_class_name"])(**{key: told[key] for key in told if key != "_class_name"})
    assert torch.allclose(alpha_bars(told).float(), scheduler.alphas_cumprod, rtol=1e-4)
    assert scheduler.config.prediction_type == told["prediction_type"]


def test_git_names_content_as_git_does(tmp_path: Path) -> None:
    """Of an empty blob and of "hello\\n", as `git hash-object` prints them."""
    for data, sha1 in (
        (b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        (b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"),
    ):
        (tmp_path / "file").write_bytes(data)
        assert git_sha1_of(tmp_path / "file") == sha1


def test_the_commands(hub: Hub, model: PublicModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "download", model.name]) == 0
    said = capsys.readouterr()
    here = find_installed(model.name)
    assert here is not None and f"tiny-turbo is in {here.folder}" in said.out
    assert f"tiny-turbo: {here.bytes / 1e6:,.1f} MB in all" in said.err and "\rtiny-turbo [####" in said.err
    assert main(["models", "check", str(here.folder)]) == 0
    said = capsys.readouterr()
    assert "StableDiffusionPipeline" in said.out and "LICENSE.md" in said.out
    assert main(["models", "show", model.name]) == 0
    said = capsys.readouterr()
    assert "if it is there" in said.out and "1 million US dollars" in said.out
    assert main(["models", "remove", model.name]) == 0
    assert find_installed(model.name) is None
