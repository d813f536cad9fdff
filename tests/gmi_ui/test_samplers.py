"""Others' samplers in the Generate tab: offered where there is a discriminator, run, saved and made again as ours."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.settings import GENERATE_PRESETS, PRESETS, SAMPLERS, GenerateSettings
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.models.catalogue import look_up
from gmi_ui.models.models import Models
from gmi_ui.models.timing import pictures_of, tries_of
from gmi_ui.pictures.restoring import restored
from gmi_ui.pictures.saving import Pictures
from gmi_ui.runs.job import PLAIN
from gmi_ui.runs.run import BASELINE, OURS, Phase
from gmi_ui.services import Services
from tests.gmi_ui.test_switching import TOKEN, Clicked, Tab, made
from tests.gmi_ui.test_without_words import judging_models
from tests.gmi_ui.tiny import tiny_settings
from tests.gmi_ui.waiting import wait_for_end, wait_until


@pytest.fixture
def models() -> Models:
    return judging_models()


@pytest.fixture
def tab(models: Models) -> Tab:
    tab = Tab(Services.around(models))
    tab["prompt"], tab["n"] = "", 4
    return tab


def offered(tab: Tab) -> list[str]:
    return [name for _, name in tab.choices["preset"]]


def choose_preset(tab: Tab, name: str) -> None:
    """As a person does, whose page then shows the preset's numbers."""
    tab["preset"] = name
    tab.take(tab.wiring.apply_preset_of(tab.sent))


def test_they_are_offered_where_there_is_a_discriminator(tab: Tab, models: Models) -> None:
    assert look_up(models, "avatars").is_judged and not look_up(models, "mosaic").is_judged
    tab.choose("mosaic")
    assert offered(tab) == list(PRESETS)
    tab.choose("avatars")
    assert offered(tab) == list(GENERATE_PRESETS)


def test_a_restored_one_stays_a_choice(tab: Tab, models: Models) -> None:
    settings = replace(tiny_settings(), model="mosaic", space=None).with_preset("dot")
    changes = tab.layout.changes(settings, look_up(models, "mosaic"))
    assert "dot" in [name for _, name in changes[tab.components["preset"]]["choices"]]


@pytest.mark.parametrize("preset", SAMPLERS)
def test_one_runs_beside_the_model_alone_and_a_saved_picture_is_made_again(
    preset: str, tab: Tab, tmp_path: Path
) -> None:
    choose_preset(tab, preset)
    assert (tab["steps"], tab["step_size"]) == (SAMPLERS[preset].steps, SAMPLERS[preset].step_size)
    tab["steps"] = 3
    run = tab.run()
    assert run.flow == replace(SAMPLERS[preset], steps=3)
    titles = GENERATE.titles(made(run))
    assert titles == {"ours": {"dgflow": "DGflow"}.get(preset, preset.upper()), "baseline": PLAIN}
    first, last = (run.particles(BASELINE, step).latents for step in (0, 3))
    assert torch.equal(first, last) and not torch.equal(first, run.particles(OURS).latents)

    path = Pictures(tmp_path).save_one(run, OURS, 1)
    found: Any = restored(path, tab.services.models)
    assert found.settings.preset == preset
    again = Tab(tab.services)
    again.take(again.wiring.restore(TOKEN, str(path)))
    assert again["preset"] == preset
    second = again.run()
    assert torch.equal(second.moment.sides[OURS].step.images, run.moment.sides[OURS].step.images)


def test_a_stopped_one_goes_on_as_if_it_had_not_been(tab: Tab) -> None:
    """SVGD, whose moves depend on all those before."""
    choose_preset(tab, "svgd")
    tab["steps"] = 30
    whole = tab.run()
    slow = Tab(Services.around(judging_models(delay=0.01)))
    slow.values = {slow.components[name]: tab[name] for name in tab.components}
    slow.wiring.run(slow.sent)
    run: Any = slow.session.run
    wait_until(lambda: run.moment.step >= 2)
    run.stop()
    wait_for_end(run)
    assert run.moment.phase is Phase.STOPPED and run.moment.step < 30
    run.reopen()
    slow.services.queue.submit(run)
    wait_until(lambda: run.moment.phase is Phase.DONE)
    assert torch.equal(run.particles(OURS).latents, whole.particles(OURS).latents)


def test_starts_that_were_chosen_are_told_by_their_seeds(tab: Tab) -> None:
    choose_preset(tab, "dgflow")
    tab["steps"], tab["choose"], tab["draws"], tab["seed"] = 2, "mh", 5, 100
    run = tab.run()
    seeds = run.particles(OURS).seeds
    assert [(seed - 100) // 5 for seed in seeds] == [0, 1, 2, 3] and seeds != (100, 105, 110, 115)
    tab.take(tab.wiring.reseed(tab.sent, Clicked(OURS, 2)))  # type: ignore[arg-type]
    assert tab["seed"] == seeds[2] and tab["choose"] == ""
    again = tab.run()
    assert torch.equal(again.particles(OURS, 0).latents[0], run.particles(OURS, 0).latents[2])


def test_more_pictures_begin_at_starts_that_were_not_looked_at(tab: Tab) -> None:
    tab["steps"], tab["choose"], tab["draws"], tab["seed"] = 2, "sir", 5, 100
    tab.run()
    tab.take(tab.wiring.unlike_these(tab.sent))
    run = tab.session.run
    assert run is not None
    wait_for_end(run)
    assert run.moment.phase is Phase.DONE and made(run).seed == 120


def test_without_a_discriminator_the_page_says_what_is_missing(tab: Tab) -> None:
    tab.choose("mosaic")
    tab["steps"], tab["detail_steps"], tab["choose"] = 1, 1, "drs"
    before = tab.session.run
    assert "chooses by a discriminator, and mosaic comes without one" in tab.refuse()
    assert tab.session.run is before
    tab["choose"], tab["preset"] = "", "dot"
    assert "DOT follows a discriminator, and mosaic comes without one" in tab.refuse()


def test_what_stands_still_takes_no_time_and_starts_do() -> None:
    settings = GenerateSettings("a hat", n=4)
    assert (pictures_of(settings), pictures_of(settings.with_preset("dot"))) == (8, 4)
    assert (tries_of(settings), tries_of(replace(settings, choose="sir", draws=6))) == (0, 24)
