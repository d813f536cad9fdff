"""The Generate tab with an empty prompt: pictures that look real, beside the model alone, and no scores."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.models.table import ModelFile
from engine.pictures import png_files
from engine.settings import GenerateSettings
from gmi_ui.controls import AUTO
from gmi_ui.jobs.generating import DISTANCE, GENERATE, NOT_COMPARABLE, PRECISION, RECALL
from gmi_ui.models.models import Loaders, Models
from gmi_ui.pictures.restoring import restored
from gmi_ui.pictures.saving import Pictures
from gmi_ui.runs.job import DIVERSITY, PLAIN
from gmi_ui.runs.run import BASELINE, OURS, Phase
from gmi_ui.services import Services
from gmi_ui.tabs.generate import ALL_CLASSES
from tests.gmi_ui.test_frames import frame_of
from tests.gmi_ui.test_switching import TOKEN, Clicked, Tab, made
from tests.gmi_ui.tiny import (
    CLASS_NAMES,
    TinyClasses,
    TinyCodes,
    TinyGenerator,
    TinyPromptModel,
    WordyPromptModel,
    one_of,
    other_row,
    tiny_row,
    tiny_settings,
)
from tests.gmi_ui.waiting import wait_for_end, wait_until


class Bright:
    """Takes bright pictures for real."""

    def __call__(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))[:, None]


def judging_models(*, delay: float = 0.0) -> Models:
    """`avatars` with a discriminator and 20 examples, `fashion` with examples, `mosaic` with neither."""
    prompt_models = {one.name: one for one in (TinyPromptModel(), WordyPromptModel())}
    plain = TinyGenerator()
    with torch.no_grad():
        pictures = plain.render(plain.spaces["z"].sample(range(900, 920)), "z")
        features = TinyPromptModel().image_features(pictures)
    references = {one.sha256: features for one in prompt_models.values()}
    avatars = TinyGenerator(delay, discriminator=Bright(), references=references)  # type: ignore[arg-type]
    generators = {one.name: one for one in (avatars, TinyClasses(delay, references=references), TinyCodes(delay))}
    files = {"discriminator": ModelFile(Path("discriminator.safetensors"), "0" * 64)}
    rows = [replace(tiny_row(), files=files), *(other_row(one) for one in list(generators.values())[1:])]
    rows += [replace(tiny_row(), name=name, kind="prompt", family="open_clip") for name in prompt_models]
    loaders = Loaders(
        generator=one_of(generators),  # type: ignore[arg-type]
        prompt_model=one_of(prompt_models),  # type: ignore[arg-type]
        rows=lambda: rows,
    )
    return Models(loaders)


@pytest.fixture
def tab() -> Tab:
    tab = Tab(Services.around(judging_models()))
    tab["prompt"], tab["steps"], tab["n"] = "", 4, 5
    return tab


def test_it_runs_beside_the_model_alone_and_says_what_it_does(tab: Tab) -> None:
    run = tab.run()
    frame = frame_of(tab.services, tab.session)
    assert frame["prompt"] == "" and frame["notice"] is None
    assert frame["aim"] == (
        "Without words: towards what the discriminator of avatars takes for real and its 20 examples, and apart from "
        "each other."
    )
    assert frame["titles"] == {"ours": "With repulsion", "baseline": PLAIN}
    assert [figure["key"] for figure in frame["figures"]] == ["frechet", "precision", "recall", "diversity"]
    for side in frame["sides"].values():
        assert side["scores"] is None and side["fits"] is None
        assert set(side["curves"]) == set(side["figures"]) == {"frechet", "precision", "recall", "diversity"}
    first, last = (run.particles(BASELINE, step).latents for step in (0, 4))
    assert torch.equal(first, last) and torch.equal(first, run.particles(OURS, 0).latents)
    assert not torch.equal(first, run.particles(OURS).latents)


def test_an_earlier_step_is_drawn_again_without_scores(tab: Tab) -> None:
    run = tab.run()
    for side in tab.services.painter.past_frame(run, 2).values():
        assert side["scores"] is None and side["fits"] is None and len(side["cells"]) == 5
        assert set(side["figures"]) == {"frechet", "precision", "recall", "diversity"}


def test_blanks_are_no_words(tab: Tab) -> None:
    tab["prompt"] = " \n "
    assert made(tab.run()).prompt == ""


def test_what_cannot_be_measured_is_not_shown(tab: Tab) -> None:
    """A model without examples, and too few pictures; before the first step it is not known."""
    assert GENERATE.figures(tiny_settings("")) == (DISTANCE, PRECISION, RECALL, DIVERSITY)
    tab["n"] = 3
    assert [figure.key for figure in tab.run().figures] == ["frechet", "precision", "diversity"]
    tab.choose("mosaic")
    tab["steps"], tab["detail_steps"] = 1, 1
    run = tab.run()
    assert [figure.key for figure in run.figures] == ["diversity"]
    frame = frame_of(tab.services, tab.session)
    assert "mosaic has neither discriminator nor examples; only apart" in frame["aim"]


def test_classes_share_the_pictures_and_the_hint_says_so(tab: Tab) -> None:
    changes = tab.choose("fashion")
    assert ALL_CLASSES in changes[tab.layout.found] and changes[tab.layout.take]["visible"] is False
    assert [name for _, name in tab.choices["classes"]] == [AUTO, *CLASS_NAMES]
    tab["steps"] = 2
    run = tab.run()
    assert {*frame_of(tab.services, tab.session)["sides"]["ours"]["labels"]} == {*CLASS_NAMES}
    tab["prompt"] = "a coat"
    changes = tab.wiring.find_classes(tab.sent)
    assert "<b>coat</b>" in changes[tab.layout.found] and changes[tab.layout.take]["visible"] is True
    tab["prompt"] = " "
    assert ALL_CLASSES in tab.wiring.find_classes(tab.sent)[tab.layout.found]

    tab.take(tab.wiring.more_like_this(tab.sent, Clicked(OURS, 2)))  # type: ignore[arg-type]
    again = tab.session.run
    assert again is not None and again is not run
    wait_for_end(again)
    assert again.moment.phase is Phase.DONE and made(again).classes == ()


@pytest.mark.parametrize("side", [OURS, BASELINE])
def test_a_saved_picture_is_made_again(side: str, tab: Tab, tmp_path: Path) -> None:
    """That of the model alone is step 0, and runs alone."""
    run = tab.run()
    path = Pictures(tmp_path).save_one(run, side, 1)
    assert path.name.startswith("without-words_seed-")
    found = restored(path, tab.services.models)
    assert isinstance(found.settings, GenerateSettings) and found.settings.prompt == ""
    again = Tab(Services.around(judging_models()))
    again.take(again.wiring.restore(TOKEN, str(path)))
    again.wiring.run(again.sent)
    made_again = again.session.run
    assert made_again is not None
    wait_for_end(made_again)
    sides = made_again.moment.sides
    assert set(sides) == ({OURS, BASELINE} if side == OURS else {OURS})
    assert torch.equal(sides[OURS].step.images, run.moment.sides[side].step.images)
    if side == BASELINE:
        assert made_again.moment.step == 0 and made_again.can_go_on
        made_again.reopen()
        again.services.queue.submit(made_again)
        wait_until(lambda: made_again.moment.phase is Phase.DONE)
        assert torch.equal(made_again.moment.sides[OURS].step.images, run.moment.sides[OURS].step.images)


def test_all_are_saved_without_scores(tab: Tab, tmp_path: Path) -> None:
    run = tab.run()
    path = Pictures(tmp_path).save_all(run)
    with zipfile.ZipFile(path) as archive:
        report = json.loads(archive.read("run.json"))
        names = archive.namelist()
        alone = tmp_path / "alone.png"
        alone.write_bytes(archive.read(report["sides"]["baseline"]["pictures"][0]["file"]))
    assert report["prompt"] == "" and report["sides"]["baseline"]["title"] == PLAIN
    assert all("text_score" not in one for side in report["sides"].values() for one in side["pictures"])
    assert len(names) == 12
    assert png_files.read_metadata(alone)["settings"]["flow"]["until"] == 0


def test_a_slider_that_is_moved_moves_nothing_of_the_model_alone() -> None:
    services = Services.around(judging_models(delay=0.01))
    tab = Tab(services)
    tab["prompt"], tab["steps"], tab["n"] = "", 60, 3
    tab.wiring.run(tab.sent)
    run: Any = tab.session.run
    wait_until(lambda: run.moment.step >= 2)
    tab.wiring.tune(TOKEN, 0.2, 0.9, "avatars")
    wait_until(lambda: run.flow.diversity == 0.9 and run.moment.step >= 6)
    run.stop()
    wait_for_end(run)
    assert run.moment.phase is Phase.STOPPED
    assert torch.equal(run.particles(BASELINE, 0).latents, run.particles(BASELINE).latents)
    assert run.settings_at(BASELINE, run.moment.step).flow.until == 0


def test_two_models_run_beside_each_other(tab: Tab) -> None:
    """Each goes its own way; figures that only one side has are not drawn, those of two judges do not compare."""
    tab["beside"] = "fashion"
    run = tab.run()
    assert run.other is not None and run.other.prompt == "" and run.other.prompt_model == "clip-wide"
    frame = frame_of(tab.services, tab.session)
    assert "discriminator of avatars" in frame["aim"] and frame["aim"].count("Without words") == 2
    assert [figure["key"] for figure in frame["figures"]] == ["frechet", "precision", "recall", "diversity"]
    assert all(NOT_COMPARABLE in figure["help"] for figure in frame["figures"])
    assert not torch.equal(run.particles(BASELINE, 0).latents, run.particles(BASELINE).latents)
    tab["beside"] = "mosaic"
    assert [figure.key for figure in tab.run().figures] == ["diversity"]


def test_no_words_follow_a_picture_to_another_tab(tab: Tab) -> None:
    run = tab.run()
    assert GENERATE.words(made(run)) == "" and GENERATE.called(made(run)) == "Without words"
    assert GENERATE.called(tiny_settings("blue")) == "blue"
