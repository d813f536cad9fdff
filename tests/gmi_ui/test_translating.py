"""The Translate tab's runs around a tiny StarGAN v2: references, what a saved picture brings back, what cannot be."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import engine
from engine.pictures.examples import examples_of
from engine.pictures.picture_files import Picture
from engine.settings import SettingsError, TranslateSettings
from gmi_ui.controls import reference_choices
from gmi_ui.jobs.translating import DISTANCE, DOMAIN, TranslateJob
from gmi_ui.models.models import Loaders, Models
from gmi_ui.notices import NotPossibleError
from gmi_ui.opening import Opening, bring_back
from gmi_ui.pictures.restoring import restored, without_equal_side
from gmi_ui.pictures.saving import Pictures
from gmi_ui.pictures.workspace import PictureVersion
from gmi_ui.runs.job import DIVERSITY, OWN_PICTURES, TEXT
from gmi_ui.runs.run import BASELINE, OURS, Run
from gmi_ui.runs.work import Phase
from gmi_ui.server_functions import workspace_functions
from gmi_ui.services import Services
from gmi_ui.sessions import Session
from gmi_ui.studio import build
from gmi_ui.tabs.common import Page
from gmi_ui.tabs.translate import TranslateLayout, TranslateWiring, domains_of
from tests.engine.tiny import write_translator
from tests.gmi_ui.tiny import GENERATOR, PROMPT_MODEL, TinyGenerator, TinyPromptModel, only, tiny_row
from tests.gmi_ui.waiting import wait_for_end, wait_until

MODEL = "hairstyles"
TOKEN = "ab" * 16


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return engine.load_generator(str(write_translator(tmp_path_factory.mktemp("models") / MODEL)))


@pytest.fixture
def services(translator: Any) -> Services:
    """Around a tiny generator and a tiny translator."""
    row = replace(tiny_row(), name=MODEL, family="stargan2", classes=("long", "short"), examples=())

    def load(name: str) -> Any:
        return translator if name == MODEL else only(GENERATOR, TinyGenerator())(name)

    prompt_model: Any = TinyPromptModel()
    loaders = Loaders(generator=load, prompt_model=only(PROMPT_MODEL, prompt_model), rows=lambda: [tiny_row(), row])
    return Services.around(Models(loaders))


@pytest.fixture
def wiring(services: Services) -> TranslateWiring:
    return wiring_of(services)


def wiring_of(services: Services) -> TranslateWiring:
    import gradio as gr

    with gr.Blocks() as blocks:
        made = TranslateWiring(Page(blocks, services, gr.Textbox(), gr.HTML()), TranslateLayout(services))
        made.connect()
    return made


def picture(seed: int = 0, width: int = 40, height: int = 32) -> Picture:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Picture(pixels, f"mine-{seed}.png")


def settings(**changes: Any) -> TranslateSettings:
    values = {"domain": "short", "n": 2, "seed": 4, "flow": {"steps": 3}, "model": MODEL}
    return TranslateSettings.from_dict({**values, **changes})


def translated(services: Services, wiring: TranslateWiring, **changes: Any) -> tuple[Session, Run]:
    session = services.sessions.get(TOKEN, "translate")
    session.workspace.add(picture(), "mine.png")
    run = wiring.new_run(session, settings(**changes))
    services.start(session, run)
    session.workspace.adopt(run)
    wait_for_end(run)
    assert run.moment.phase is Phase.DONE, run.moment.notice
    return session, run


def event(**data: Any) -> Any:
    return SimpleNamespace(**data)


# ---- runs ------------------------------------------------------------------------------------------------


def test_a_run_beside_the_model_alone(services: Services, wiring: TranslateWiring) -> None:
    _, run = translated(services, wiring)
    assert run.titles == {OURS: "Different styles", BASELINE: "The model alone"}
    assert [figure.key for figure in run.figures] == ["domain", "diversity", "distance"]
    ours, plain = (run.moment.sides[side] for side in (OURS, BASELINE))
    assert set(ours.curves) >= {"domain", "diversity", "distance"}
    assert len(set(plain.curves["domain"])) == 1 and len(set(ours.curves["domain"])) == 4  # which one stays
    assert run.job.called(run.settings) == "short" and run.job.words(run.settings) == ""
    assert run.job.leads_to(run.tasks[OURS]) == OWN_PICTURES


def test_what_a_run_shows_depends_on_what_it_was_asked(translator: Any) -> None:
    version = PictureVersion(1, "mine", picture())
    job = TranslateJob(version, has_judge=False)
    assert job.figures(settings()) == (DIVERSITY, DISTANCE)
    assert TranslateJob(version).figures(settings(prompt="red")) == (DOMAIN, TEXT, DIVERSITY, DISTANCE)
    alone = settings(method="plain", baseline="none")
    assert job.titles(alone) == {"ours": "The model alone"}
    assert job.called(settings(prompt="red")) == "short, red"
    assert job.before(settings()) is None and job.extras(settings()) == {}  # before it was prepared


def test_a_model_without_a_discriminator_says_what_takes_its_place(tmp_path: Path) -> None:
    from tests.gmi_ui.test_jobs import Told, prepared

    folder = write_translator(tmp_path / "released", judged=False)
    generator = engine.load_generator(str(folder))
    models: Any = SimpleNamespace(generator=lambda name: generator, prompt_model=lambda name: TinyPromptModel())
    console, job = Told(), TranslateJob(PictureVersion(1, "mine", picture()), has_judge=False)
    tasks = prepared(job.prepare(settings(), models, console))
    assert "comes without its discriminator" in console.notices[0].text
    *_, step = tasks["ours"].steps()
    assert "domain" not in job.measure(tasks["ours"], step)


def test_without_a_picture_there_is_no_run(services: Services, wiring: TranslateWiring) -> None:
    with pytest.raises(NotPossibleError, match="no picture yet"):
        wiring.new_run(services.sessions.get(TOKEN, "translate"), settings())


def test_a_square_of_the_picture_becomes_one_of_its_own(services: Services, wiring: TranslateWiring) -> None:
    """From which runs begin, and the whole one can be returned to; what is none is told, and nothing changes."""
    session = services.sessions.get(TOKEN, "translate")
    whole = session.workspace.add(picture(), "mine.png")
    page = {function.__name__: function for function in workspace_functions(services, "translate")}
    place = {"token": TOKEN, "number": whole.number, "across": 1, "down": 0, "share": 0.5}
    assert page["cut_square"](place) is True
    version = session.workspace.current
    assert version is not None and (version.parent, version.text) == (whole.number, "mine.png")
    np.testing.assert_array_equal(version.picture.pixels, whole.picture.pixels[:16, 24:])
    run = wiring.new_run(session, settings())
    services.start(session, run)
    wait_for_end(run)
    assert run.tasks[OURS].begin.picture is version.picture  # type: ignore[attr-defined]
    for damaged in ({"number": 99}, {"share": "x"}, {"across": "nan"}, {"down": None}):
        assert page["cut_square"]({**place, **damaged}) is False
        assert session.workspace.current is version and session.newest_notice
    assert page["cut_square"]({**place, "token": "short"}) is False
    assert "cut_square" not in {function.__name__ for function in workspace_functions(services, "edit")}


def test_a_model_that_translates_nothing_is_refused(services: Services, wiring: TranslateWiring) -> None:
    session = services.sessions.get(TOKEN, "translate")
    session.workspace.add(picture(), "mine.png")
    with pytest.raises(NotPossibleError, match="cannot translate pictures; models of stargan2 can. Choose hairstyles"):
        wiring.new_run(session, settings(model=GENERATOR))


# ---- domains and references ------------------------------------------------------------------------------


def test_the_menu_has_the_models_domains(services: Services, wiring: TranslateWiring) -> None:
    assert domains_of(services, MODEL) == ("long", "short")
    assert domains_of(services, "nowhere.pt") == ()
    changes = wiring.choose_model(TOKEN, MODEL)
    (domain,) = [change for change in changes.values() if isinstance(change, dict) and "choices" in change]
    assert domain["value"] == "long" and domain["choices"] == [("long", "long"), ("short", "short")]
    shown = wiring.show(services.sessions.get(TOKEN, "translate"), settings(domain="short"))
    assert shown[wiring._control("domain")]["value"] == "short"


def test_files_become_references_and_too_many_are_told(
    services: Services, wiring: TranslateWiring, tmp_path: Path
) -> None:
    paths = []
    for number in range(17):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(picture(number).pixels).save(paths[-1])
    changes = wiring.give_references(TOKEN, paths[:3])
    chosen = changes[wiring._control("references")]
    assert chosen["choices"] == reference_choices(chosen["value"], 3)
    assert chosen["choices"][-1] == ("3 of your pictures", chosen["value"])
    found = services.examples.find(chosen["value"])
    assert found is not None and len(found) == 3
    session = services.sessions.get(TOKEN, "translate")
    for wrong, said in ((paths, "17 pictures are too many to take styles of; give 16."), ([], "no picture there")):
        assert wiring._control("references") not in wiring.give_references(TOKEN, wrong)
        assert session.notice is not None and said in session.notice.text
    _, run = translated(services, wiring, references=chosen["value"])
    assert len(run.tasks[OURS].references) == 3  # type: ignore[attr-defined]


def test_a_result_becomes_the_one_whose_style_is_taken(services: Services, wiring: TranslateWiring) -> None:
    session, run = translated(services, wiring)
    changes = wiring.take_style(TOKEN, event(side=OURS, index=1, step=None))
    chosen = changes[wiring._control("references")]["value"]
    found = services.examples.find(chosen)
    assert found is not None and len(found) == 1
    assert found.sha256 == examples_of([run.tasks[OURS].picture(run.moment.sides[OURS].step, 1)]).sha256
    wiring.take_style(TOKEN, event(side=OURS, index=9, step=None))
    assert session.notice is not None and "not there any more" in session.notice.text


def test_references_that_are_gone_are_told(services: Services, wiring: TranslateWiring) -> None:
    session = services.sessions.get(TOKEN, "translate")
    session.workspace.add(picture(), "mine.png")
    with pytest.raises(SettingsError, match="Styles: those pictures are not here any more. Choose them again"):
        wiring.new_run(session, settings(references="0" * 64))


# ---- saved pictures --------------------------------------------------------------------------------------


def test_a_saved_translation_brings_back_its_picture_its_references_and_its_results(
    services: Services, wiring: TranslateWiring, tmp_path: Path
) -> None:
    """In another studio, which has neither: the same pictures again, bit for bit."""
    references = examples_of([picture(5), picture(6)])
    services.examples.add(references)
    session, run = translated(services, wiring, references=references.sha256)
    saved = Pictures(tmp_path).save_one(run, OURS, 1)

    other = Services.around(services.models)
    target = other.sessions.get(TOKEN, "translate")
    found = restored(saved, other.models)
    assert found.settings == run.settings
    there = wiring_of(other)
    there.take(target, str(saved), found)
    assert target.workspace.current is not None
    assert np.array_equal(target.workspace.current.picture.pixels, run.tasks[OURS].begin.pixels)  # type: ignore[attr-defined]
    assert there.with_missing_examples(found).text == found.notice.text
    again = there.new_run(target, found.settings)
    other.start(target, again)
    wait_for_end(again)
    for before, after in zip(run.moment.sides.values(), again.moment.sides.values(), strict=True):
        assert (before.step.images == after.step.images).all()
    assert session is not target


def test_references_that_a_saved_picture_does_not_hold_are_told(
    services: Services, wiring: TranslateWiring, tmp_path: Path
) -> None:
    references = examples_of([picture(7)])
    services.examples.add(references)
    _, run = translated(services, wiring, references=references.sha256)
    found = restored(Pictures(tmp_path).save_one(run, OURS, 0), services.models)
    del found.extra["references"]
    other = Services.around(services.models)
    there = wiring_of(other)
    assert (
        "choose the same files again with “Choose pictures for their style”" in there.with_missing_examples(found).text
    )


def test_a_picture_of_the_model_alone_does_not_make_two_equal_columns() -> None:
    assert without_equal_side(settings(method="plain")).baseline == "none"  # type: ignore[attr-defined]
    assert without_equal_side(settings()) == settings()
    still = settings(baseline="no repulsion", flow={"steps": 3, "diversity": 0.0})
    assert without_equal_side(still).baseline == "none"  # type: ignore[attr-defined]


def test_the_last_run_comes_back_with_its_picture_and_its_references(
    services: Services, wiring: TranslateWiring, tmp_path: Path
) -> None:
    """In a studio that was started again: the pictures as they were, and the same run again."""
    kept = Services.around(services.models, kept=tmp_path)
    references = examples_of([picture(8)])
    kept.examples.add(references)
    there = wiring_of(kept)
    session, run = translated(kept, there, references=references.sha256)
    wait_until(lambda: (found := kept.last_runs.find(TOKEN, "translate")) is not None and found.step == 3)
    anew = Services.around(services.models, kept=tmp_path)
    target = anew.sessions.get(TOKEN, "translate")
    bring_back(anew, target)
    assert target.run is not None and target.workspace.current is not None
    wait_for_end(target.run)
    assert target.run.moment.phase is Phase.DONE, target.run.moment.notice
    for name, side in run.moment.sides.items():
        assert (target.run.moment.sides[name].step.images == side.step.images).all()
    assert np.array_equal(target.workspace.current.picture.pixels, session.workspace.versions[0].picture.pixels)
    assert anew.examples.find(references.sha256) is not None


def test_transparency_comes_back_with_a_saved_translation(services: Services, tmp_path: Path) -> None:
    """What is transparent stays so in the result, and in the picture that it brings back."""
    layer = np.random.default_rng(1).integers(0, 256, (32, 32, 4), dtype=np.uint8)
    layer[:, :16, 3], layer[:, 16:, 3] = 255, 0
    path = tmp_path / "mine.png"
    Image.fromarray(layer).save(path)
    session = services.sessions.get(TOKEN, "translate")
    Opening(services, "translate").file(session, str(path), MODEL, PROMPT_MODEL, background="#102030")
    version = session.workspace.current
    assert version is not None and version.inversion is None
    run = Run(settings(), TranslateJob(version))
    services.start(session, run)
    wait_for_end(run)
    saved = Pictures(tmp_path / "out").save_one(run, OURS, 0)
    assert np.array_equal(np.asarray(Image.open(saved))[..., 3], layer[..., 3])
    target = Services.around(services.models).sessions.get(TOKEN, "translate")
    found = restored(saved, services.models)
    brought = Opening(services, "translate").saved(target, str(saved), found).picture
    assert brought.transparency is not None and np.array_equal(brought.transparency.alpha, layer[..., 3])
    assert np.array_equal(brought.pixels, version.picture.pixels)


def test_the_page_has_the_tab(services: Services) -> None:
    page, built = build(services.models)
    built.sessions.get(TOKEN, "translate")
    labels = {getattr(component, "label", None) for component in page.blocks.values()}
    assert {"What it becomes", "Styles"} <= labels
