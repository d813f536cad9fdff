"""Inpaint runs around a tiny Co-Mod-GAN: nothing is searched, the model alone is beside it, what a picture restores."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import engine
from engine.pictures.masks import encode_mask
from engine.pictures.picture_files import Picture, encode_picture
from engine.settings import InpaintSettings
from gmi_ui.controls import CONTROLS
from gmi_ui.frames import Painter
from gmi_ui.jobs.inpainting import InpaintJob
from gmi_ui.models.models import Loaders, Models
from gmi_ui.opening import Opening, bring_back
from gmi_ui.pictures.restoring import restored, without_equal_side
from gmi_ui.pictures.saving import Pictures
from gmi_ui.pictures.workspace import PictureVersion
from gmi_ui.runs.run import BASELINE, OURS, Run
from gmi_ui.runs.work import Phase
from gmi_ui.services import Services
from gmi_ui.sessions import Session
from gmi_ui.tabs.common import Page
from gmi_ui.tabs.inpaint import BESIDE_ALONE, InpaintLayout, InpaintWiring
from tests.engine.tiny import write_filler
from tests.gmi_ui.tiny import GENERATOR, PROMPT_MODEL, WIDE, TinyGenerator, TinyPromptModel, one_of, tiny_row
from tests.gmi_ui.waiting import wait_for_end, wait_until

MODEL = "fill"
TOKEN = "ab" * 16


@pytest.fixture(scope="module")
def filler(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return engine.load_generator(str(write_filler(tmp_path_factory.mktemp("models") / MODEL)))


@pytest.fixture
def services(filler: Any) -> Services:
    """Around a tiny generator and a tiny Co-Mod-GAN with a prompt model of its own."""
    rows = [tiny_row(), replace(tiny_row(), name=MODEL, family="comodgan", prompt_model=WIDE, examples=())]
    generators: dict[str, Any] = {GENERATOR: TinyGenerator(), MODEL: filler}
    prompt_models: dict[str, Any] = {name: TinyPromptModel(name=name) for name in (PROMPT_MODEL, WIDE)}
    loaders = Loaders(generator=one_of(generators), prompt_model=one_of(prompt_models), rows=lambda: rows)
    return Services.around(Models(loaders))


@pytest.fixture
def wiring(services: Services) -> InpaintWiring:
    return wiring_of(services)


def wiring_of(services: Services) -> InpaintWiring:
    import gradio as gr

    with gr.Blocks() as blocks:
        made = InpaintWiring(Page(blocks, services, gr.Textbox(), gr.HTML()), InpaintLayout(services))
        made.connect()
    return made


def picture(width: int = 40, height: int = 32) -> Picture:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Picture(pixels, "mine.png")


def left_half(width: int = 40, height: int = 32) -> bytes:
    mask = np.zeros((height, width), bool)
    mask[:, : width // 2] = True
    return encode_mask(mask)


def settings(**changes: Any) -> InpaintSettings:
    values = {"n": 2, "seed": 4, "flow": {"steps": 3}, "model": MODEL, "feather": 0}
    return InpaintSettings.from_dict({**values, **changes})


def repainted(services: Services, wiring: InpaintWiring, **changes: Any) -> tuple[Session, Run]:
    session = services.sessions.get(TOKEN, "inpaint")
    session.workspace.add(picture(), "mine.png", mask=left_half())
    return session, ended(services, session, wiring.new_run(session, settings(**changes)))


def ended(services: Services, session: Session, run: Run) -> Run:
    services.start(session, run)
    session.workspace.adopt(run)
    wait_for_end(run)
    return run


def test_a_run_beside_the_model_alone(services: Services, wiring: InpaintWiring) -> None:
    session, run = repainted(services, wiring)
    assert run.moment.phase is Phase.DONE, run.moment.notice
    assert run.titles == {OURS: "With repulsion", BASELINE: "The model alone"}
    assert [figure.key for figure in run.figures] == ["realism", "diversity"]
    ours, alone = (run.moment.sides[side] for side in (OURS, BASELINE))
    assert len(set(alone.curves["realism"])) == 1 and len(set(ours.curves["realism"])) == 4  # which one stays
    assert (alone.step.images == run.tasks[OURS].problem.render(run.tasks[OURS].particles.latents)).all()
    version = session.workspace.versions[0]
    assert version.inversion is None and not version.starts
    shown = run.tasks[OURS].picture(ours.step, 0).pixels
    assert np.array_equal(shown[:, 20:], picture().pixels[:, 20:])


def test_nothing_is_searched_when_a_picture_is_opened(services: Services, tmp_path: Path) -> None:
    path = tmp_path / "mine.png"
    path.write_bytes(encode_picture(picture()))
    session = services.sessions.get(TOKEN, "inpaint")
    version = Opening(services, "inpaint").file(session, str(path), MODEL, WIDE)
    assert version.inversion is None


def test_controls_are_those_that_the_model_has(services: Services, wiring: InpaintWiring) -> None:
    """With its prompt model; and what was said of the picture for another model goes."""
    session = services.sessions.get(TOKEN, "inpaint")
    looked: Any = SimpleNamespace(stop=lambda: None, start=SimpleNamespace(in_domain=False), task="inpaint")
    version = session.workspace.add(picture(), "mine.png", inversion=looked)
    weight, baseline, prompt_model = map(wiring._control, ("known_weight", "baseline", "prompt_model"))
    changes = wiring.choose_model(TOKEN, MODEL)
    assert (changes[weight]["visible"], changes[baseline]["info"]) == (False, BESIDE_ALONE)
    assert changes[prompt_model]["value"] == WIDE
    assert version.inversion is None and Painter(services.models, services.queue)._verdict(version) == ""
    back = wiring.choose_model(TOKEN, GENERATOR)
    assert (back[weight]["visible"], back[baseline]["info"]) == (True, CONTROLS["inpaint"]["baseline"].help)
    assert back[prompt_model]["value"] == PROMPT_MODEL
    shown = wiring.show(session, settings(known_weight=0.5))
    assert (shown[weight]["value"], shown[weight]["visible"]) == (0.5, False)
    assert weight not in wiring.choose_model(TOKEN, "nowhere.pt")


def test_a_saved_picture_makes_the_same_again(services: Services, wiring: InpaintWiring, tmp_path: Path) -> None:
    """In another studio, bit for bit: the picture, the mask, both sides."""
    _, run = repainted(services, wiring, prompt="blue")
    saved = Pictures(tmp_path).save_one(run, OURS, 1)
    other = Services.around(services.models)
    target, there, found = other.sessions.get(TOKEN, "inpaint"), wiring_of(other), restored(saved, other.models)
    assert found.settings == run.settings
    there.take(target, str(saved), found)
    assert target.workspace.current is not None and target.workspace.current.mask == left_half()
    again = ended(other, target, there.new_run(target, found.settings))
    for before, after in zip(run.moment.sides.values(), again.moment.sides.values(), strict=True):
        assert (before.step.images == after.step.images).all()


def test_a_picture_of_the_model_alone_is_restored_alone(
    services: Services, wiring: InpaintWiring, tmp_path: Path
) -> None:
    session, run = repainted(services, wiring)
    found = restored(Pictures(tmp_path).save_one(run, BASELINE, 0), services.models)
    assert not found.settings.is_compared and found.settings.flow.until == 0
    again = ended(services, session, wiring.new_run(session, found.settings))
    assert again.titles == {OURS: "The model alone"} and again.moment.step == 0
    assert (again.moment.sides[OURS].step.images == run.moment.sides[BASELINE].step.images).all()
    ours = restored(Pictures(tmp_path).save_one(run, OURS, 0), services.models).settings
    quiet = replace(ours, flow=replace(ours.flow, diversity=0.0))
    # Without repulsion it still moves, beside the model alone.
    assert ours.is_compared and without_equal_side(quiet, fills_holes=True) == quiet


def test_the_last_run_comes_back(services: Services, tmp_path: Path) -> None:
    kept = Services.around(services.models, kept=tmp_path)
    _, run = repainted(kept, wiring_of(kept))
    wait_until(lambda: (found := kept.last_runs.find(TOKEN, "inpaint")) is not None and found.step == 3)
    anew = Services.around(services.models, kept=tmp_path)
    target = anew.sessions.get(TOKEN, "inpaint")
    bring_back(anew, target)
    assert target.run is not None
    wait_for_end(target.run)
    assert target.run.moment.phase is Phase.DONE and target.run.titles == run.titles
    for name, side in run.moment.sides.items():
        assert (target.run.moment.sides[name].step.images == side.step.images).all()


def test_a_model_without_a_discriminator_says_what_is_missing(tmp_path: Path) -> None:
    from tests.gmi_ui.test_jobs import Told, prepared

    generator = engine.load_generator(str(write_filler(tmp_path / "bare", judged=False)))
    models: Any = SimpleNamespace(generator=lambda name: generator, prompt_model=lambda name: TinyPromptModel())
    console, job = Told(), InpaintJob(PictureVersion(1, "mine", picture()), left_half(), fills_holes=True)
    made = prepared(job.prepare(settings(), models, console))
    assert "comes without its discriminator" in console.notices[0].text
    *_, step = made["ours"].steps()
    assert "realism" not in job.measure(made["ours"], step)
