"""A folder of a pipeline on the page: opened in the Models tab, chosen in Generate, run, saved, restored, continued."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch

from engine.models import store
from engine.models.downloads import Patience
from engine.models.loading import load_generator, load_prompt_model
from engine.models.table import list_models
from engine.pictures.masks import encode_mask
from engine.pictures.picture_files import Picture, encode_picture
from engine.settings import GenerateSettings, InpaintSettings
from gmi_ui.controls import DIFFUSION_FIELDS, REST
from gmi_ui.models.library import Library, Transfer
from gmi_ui.models.models import Loaders, Models, engine_loaders
from gmi_ui.opening import Opening
from gmi_ui.runs.run import BASELINE, OURS
from gmi_ui.runs.work import Phase
from gmi_ui.services import Services
from gmi_ui.tabs.common import Page
from gmi_ui.tabs.inpaint import InpaintLayout, InpaintWiring
from tests.engine import pipelines
from tests.engine.models.hub import row_of, serving
from tests.engine.tiny import write_assets
from tests.gmi_ui.models.test_library import end_of
from tests.gmi_ui.test_frames import frame_of
from tests.gmi_ui.test_switching import Tab, made
from tests.gmi_ui.waiting import wait_for_end

PROMPT = "a red hat"


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_assets(tmp_path_factory.mktemp("assets"))


@pytest.fixture
def services(tmp_path: Path, assets: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    """The engine's own way of loading and remembering models, around tiny bundled ones."""
    monkeypatch.setenv("GMI_MODELS", str(tmp_path / "models"))
    engine = engine_loaders("cpu")
    return Services.around(
        Models(
            Loaders(
                generator=lambda name: load_generator(name, assets=assets),
                prompt_model=lambda name: load_prompt_model(name, assets=assets),
                rows=lambda: list_models(assets),
                stored=store.stored_rows,
                inspect=engine.inspect,
            )
        )
    )


@pytest.fixture
def opened(services: Services, tmp_path: Path) -> str:
    """The name of a pipeline that was opened in the Models tab."""
    folder = tmp_path / "sdxl-turbo"
    pipelines.save_pipeline(folder, "sdxl")
    services.library.open(str(folder))
    said = end_of(services.library).message
    assert said.startswith("sdxl-turbo/: one-step diffusion, 16 px, diffusers folder, StableDiffusionXLPipeline")
    assert "Choose it as model in Generate or Inpaint." in said and "licence" in said
    return str(folder)


def test_it_is_listed_with_its_size_and_memory(services: Services, opened: str) -> None:
    row = next(row for row in services.library.state()["here"] if row["source"] == "own")
    weights = sum(file.stat().st_size for file in Path(opened).rglob("*.safetensors"))
    assert (row["label"], row["resolution"], row["size"], row["usable"]) == ("sdxl-turbo", 16, weights, True)
    assert row["use"] == "Generate, Inpaint" and row["needed"] > weights
    assert ("sdxl-turbo", opened) in services.models.choices(task="generate")
    assert ("sdxl-turbo", opened) in services.models.choices(task="inpaint")
    assert all(name != opened for _, name in services.models.choices(task="edit"))


def test_a_folder_that_is_no_whole_pipeline_is_answered(services: Services, tmp_path: Path) -> None:
    pipelines.save_pipeline(tmp_path / "half", "sd")
    (tmp_path / "half/vae/diffusion_pytorch_model.safetensors").unlink()
    services.library.open(str(tmp_path / "half"))
    assert "vae/diffusion_pytorch_model.safetensors is missing" in end_of(services.library).message


def test_a_pipeline_is_fetched_with_one_bar(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its conditions are asked for first; a try that broke off says so and the next one ends it."""
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GMI_MODEL_MIRROR", raising=False)
    pipelines.save_pipeline(tmp_path / "served", "sd", variant="fp16")
    pipelines.keep_words_in_two_files(tmp_path / "served")
    with serving(tmp_path / "served") as hub:
        row = row_of(hub)
        row_name = row.name
        monkeypatch.setattr(store, "PUBLIC_MODELS", (row,))
        library = Library(services.models, public=(row,))
        library.patience = Patience(stall=2, tries=1, first_wait=0.01)
        offer = library.state()["public"][0]
        assert (offer["name"], offer["use"], offer["accepted"]) == (row.name, "Generate, Inpaint", False)
        assert "1 million US dollars" in library.fetch(row.name)["conditions"]
        hub.broken = {"unet/diffusion_pytorch_model.fp16.safetensors"}
        library.fetch(row.name, accept=True)
        failed = end_of(library)
        assert failed.state == "failed" and "kept for the next try" in failed.message
        shares: list[float] = []
        monkeypatch.setattr(Transfer, "share", property(lambda _: None, lambda _, share: shares.append(share or 0.0)))
        library.fetch(row.name)
        ended = end_of(library)
    assert ended.state == "done" and ended.message == "tiny-turbo is here. Choose it as model in Generate or Inpaint."
    told = [share for share in shares if share]
    assert told == sorted(told) and 0.3 < told[0] < 1 and told[-1] == 1
    assert ("tiny-turbo", "tiny-turbo") in services.models.choices(task="generate")
    here = next(row for row in library.state()["here"] if row["name"] == row_name)
    weights = (tmp_path / "served").rglob("*.safetensors")
    assert here["size"] > sum(file.stat().st_size for file in weights), "of all parts"


def test_generate_runs_it_with_the_controls_of_its_own(services: Services, opened: str) -> None:
    tab = Tab(services)
    tab["prompt"], tab["n"] = PROMPT, 2
    assert not any(tab.visible[field] for field in DIFFUSION_FIELDS)
    tab.choose(opened)
    assert all(tab.visible[field] for field in DIFFUSION_FIELDS)
    assert not tab.visible["truncation_psi"] and not tab.visible["classes"]
    tab["steps"], tab["denoising_steps"], tab["gradient_steps"], tab["width"] = 2, 2, "last", 32
    run = tab.run()
    chosen = made(run)
    assert (chosen.denoising_steps, chosen.gradient_steps, chosen.width, chosen.height) == (2, "last", 32, 0)
    assert chosen.flow.chunk == 1
    assert set(run.moment.sides) == {"ours", "baseline"}
    frame = frame_of(services, tab.session)
    assert list(frame["sides"]["ours"]["leads_to"]) == ["generate", "inpaint"]
    assert run.moment.sides[OURS].step.images.shape == (2, 3, 16, 32)

    tab["width"] = 30
    assert "Width: 30 is no multiple of 4 pixels; choose 28 or 32" in tab.refuse()


def test_a_saved_picture_brings_all_of_it_back(services: Services, opened: str) -> None:
    tab = Tab(services)
    tab["prompt"], tab["n"] = PROMPT, 2
    tab.choose(opened)
    tab["steps"], tab["denoising_steps"], tab["width"] = 2, 2, 32
    run = tab.run()
    chosen = made(run)
    kept = GenerateSettings.from_dict(chosen.to_dict())
    assert kept == chosen
    tab["width"], tab["denoising_steps"] = 0, 1
    again = Tab(services)
    again.take(again.layout.panel.updates(kept))
    assert (again["model"], again["width"], again["denoising_steps"]) == (opened, 32, 2)
    again["prompt"] = PROMPT
    second = again.run()
    assert torch.equal(second.moment.sides[OURS].step.images, run.moment.sides[OURS].step.images)


def test_inpaint_runs_it_without_a_search(services: Services, opened: str) -> None:
    """As beside every generator the same seeds without repulsion; what is kept stays bit for bit."""
    session = services.sessions.get("ab" * 16, "inpaint")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    mask = np.zeros((32, 40), bool)
    mask[:, :20] = True
    session.workspace.add(Picture(pixels, "mine.png"), "mine.png", mask=encode_mask(mask))
    with gr.Blocks() as blocks:
        wiring = InpaintWiring(Page(blocks, services, gr.Textbox(), gr.HTML()), InpaintLayout(services))
        wiring.connect()
    values = {"n": 2, "model": opened, "prompt": PROMPT, "flow": {"steps": 2}, "prompt_model": "clip-mini"}
    changes = wiring.choose_model("ab" * 16, opened)
    assert changes[wiring._control("known_weight")]["visible"]
    run = wiring.new_run(session, InpaintSettings.from_dict(values))
    services.start(session, run)
    wait_for_end(run)
    assert run.moment.phase is Phase.DONE, run.moment.notice
    assert set(run.moment.sides) == {OURS, BASELINE}
    assert session.workspace.versions[0].inversion is None
    result = run.tasks[OURS].picture(run.moment.sides[OURS].step, 1).pixels
    assert np.array_equal(result[:, 20:], pixels[:, 20:]) and (result[:, :20] != pixels[:, :20]).any()


def test_no_search_begins_when_a_picture_is_opened_for_it(services: Services, opened: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.png"
    path.write_bytes(encode_picture(Picture(np.zeros((32, 40, 3), np.uint8))))
    session = services.sessions.get("ab" * 16, "inpaint")
    assert Opening(services, "inpaint").file(session, str(path), opened, "clip-mini").inversion is None


def test_a_second_prompt_model_judges_too(services: Services, opened: str) -> None:
    tab = Tab(services)
    tab["prompt"], tab["n"] = PROMPT, 1
    tab.choose(opened)
    assert tab.visible["cutouts"]
    tab["steps"], tab["reward_model"], tab["reward_weight"], tab["cutouts"] = 2, "clip-mini", 0.5, 2
    run = tab.run()
    chosen = made(run)
    assert (chosen.reward_model, chosen.reward_weight, chosen.cutouts) == ("clip-mini", 0.5, 2)
    assert "reward" in [figure.key for figure in run.figures]
    ours = run.moment.sides[OURS]
    assert len(ours.curves["reward"]) == 3
    assert ours.curves["reward"][-1] == pytest.approx(float(ours.step.log_values["reward"].mean()))
    assert GenerateSettings.from_dict(chosen.to_dict()) == chosen


def test_a_run_starts_from_a_picture(services: Services, opened: str, tmp_path: Path) -> None:
    """Chosen on the page, of its proportions; forgotten again; and gone, which is told before a run."""
    path = tmp_path / "mine.png"
    pixels = np.random.default_rng(0).integers(0, 256, (24, 60, 3), dtype=np.uint8)
    path.write_bytes(encode_picture(Picture(pixels)))
    tab = Tab(services)
    tab["prompt"], tab["n"] = PROMPT, 1
    changes = tab.choose(opened)
    wiring, layout = tab.wiring, tab.layout
    assert changes[layout.begin]["visible"] and tab.visible["start_strength"]
    changes = wiring.begin_at(tab.session.token, str(path), tab[REST])
    assert "Starts from a picture of yours." in changes[layout.seen]["value"]
    tab.take(changes)
    tab["steps"], tab["start_strength"] = 1, 0.5
    run = tab.run()
    chosen = made(run)
    assert (chosen.start_from, chosen.start_strength) == (Picture(pixels).sha256, 0.5)
    assert run.moment.sides[OURS].step.images.shape == (1, 3, 12, 24)
    tab["start_strength"] = 1.0
    assert not torch.equal(tab.run().moment.sides[OURS].step.images, run.moment.sides[OURS].step.images)
    forgotten, _ = wiring.forget_seen(tab.values)
    assert GenerateSettings.from_dict(json.loads(forgotten)).start_from == ""
    services.examples._sets.clear()
    assert "choose it again under “Start from a picture”" in tab.refuse()
