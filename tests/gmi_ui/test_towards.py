"""Towards pictures like these: given on the page, named by their hash, said to be missing where they are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.inference.terms import References
from engine.pictures.examples import MOST_EXAMPLES, read_examples
from engine.settings import OF_THE_MODEL, GenerateSettings
from gmi_ui.controls import SLIDER_RANGE, towards_choices
from gmi_ui.jobs.editing import EditJob
from gmi_ui.pictures.example_sets import MOST_SETS, ExampleSets
from gmi_ui.pictures.saving import Pictures
from gmi_ui.runs.run import OURS, Run
from gmi_ui.services import Services
from gmi_ui.sessions import Session
from tests.gmi_ui.pictures.test_workspace import edit_settings, ended, opened_example
from tests.gmi_ui.test_switching import TOKEN, Tab, made
from tests.gmi_ui.tiny import three_models


@pytest.fixture
def tab() -> Tab:
    tab = Tab(Services.around(three_models()))
    tab["steps"], tab["n"], tab["prompt"] = 3, 2, "a picture of my own"
    return tab


@pytest.fixture
def mine(tmp_path: Path) -> list[str]:
    """Three pictures of a person's own."""
    draws = np.random.default_rng(2)
    paths = [tmp_path / f"mine{number}.png" for number in range(3)]
    for path in paths:
        Image.fromarray(draws.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(path)
    return [str(path) for path in paths]


def test_given_pictures_are_chosen_and_attract(tab: Tab, mine: list[str]) -> None:
    plain = tab.run()
    tab.take(tab.wiring.give_examples(TOKEN, mine))
    sha256 = read_examples(map(Path, mine)).sha256
    assert tab["towards"] == sha256
    assert tab.choices["towards"][-1] == ("3 of your pictures", sha256)
    tab["data_weight"] = 1.5
    run = tab.run()
    assert (made(run).towards, made(run).flow.data_weight) == (sha256, 1.5)
    data = run.tasks[OURS].problem.data
    assert isinstance(data, References) and len(data.features) == 3
    assert "data" in run.moment.sides[OURS].step.log_values
    assert not run.particles(OURS).latents.equal(plain.particles(OURS).latents)
    tab["towards"] = ""
    again = tab.run()
    assert again.tasks[OURS].problem.data is None
    assert again.particles(OURS).latents.equal(plain.particles(OURS).latents)


def test_a_restored_picture_says_that_they_are_missing_until_they_are_given_again(
    tab: Tab, mine: list[str], tmp_path: Path
) -> None:
    tab.take(tab.wiring.give_examples(TOKEN, mine))
    run = tab.run()
    saved = str(Pictures(tmp_path).save_one(run, OURS, 0))
    tab.take(tab.wiring.restore(TOKEN, saved))
    assert tab.session.notice is not None and "not here" not in tab.session.notice.text

    later = Tab(Services.around(three_models()))
    later.take(later.wiring.restore(TOKEN, saved))
    assert later.session.notice is not None
    assert "pictures of your own, which are not here: choose the same files" in later.session.notice.text
    assert later.choices["towards"][-1] == ("Pictures of yours: give them again", made(run).towards)
    assert "Towards pictures like these: the pictures that this run goes towards are not here" in later.refuse()
    later.take(later.wiring.give_examples(TOKEN, mine[::-1]))
    again = later.run()
    assert made(again) == made(run)
    assert again.particles(OURS).latents.equal(run.particles(OURS).latents)


def test_what_cannot_be_gone_towards_is_told_and_nothing_changes(tab: Tab, mine: list[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    for paths, message in (
        ([*mine, str(broken)], "broken.png is not a readable picture"),
        (None, "no picture there"),
        (mine * MOST_EXAMPLES, f"at most {MOST_EXAMPLES}"),
    ):
        tab.take(tab.wiring.give_examples(TOKEN, paths))
        assert tab["towards"] == "" and tab.session.notice is not None
        assert message in tab.session.notice.text
    tab["towards"] = OF_THE_MODEL
    assert "Towards pictures like these: avatars comes with no examples of its own" in tab.refuse()


def test_the_newest_sets_are_kept(mine: list[str]) -> None:
    sets, examples = ExampleSets(), read_examples(map(Path, mine))
    for number in range(MOST_SETS + 1):
        sets.add(replace(examples, sha256=f"{number:064}"))
        assert sets.count(f"{0:064}") == 3  # asked for each time, it stays
    assert sets.find(f"{1:064}") is None and sets.count(f"{MOST_SETS:064}") == 3


def test_the_choices_say_how_many_pictures_there_are() -> None:
    assert [value for _, value in towards_choices("")] == ["", OF_THE_MODEL]
    assert towards_choices("ab" * 32, 1)[-1] == ("A picture of yours", "ab" * 32)
    assert towards_choices("ab" * 32, 12)[-1] == ("12 of your pictures", "ab" * 32)


def test_an_edit_goes_towards_them_too(style_services: Services, mine: list[str]) -> None:
    session = Session()
    opened_example(style_services, session)
    version = session.workspace.current
    assert version is not None
    examples = read_examples(map(Path, mine))
    settings = edit_settings(method="clip", towards=examples.sha256)
    run = ended(style_services, session, Run(settings, EditJob(version, examples)))
    assert "data" in run.moment.sides[OURS].step.log_values


class TestDistanceZero:
    """ "More like this" at distance 0 gives equal pictures."""

    @staticmethod
    def kept(tab: Tab, spread: float) -> Run:
        start = tuple(tab.run().particles(OURS).latents[0].tolist())
        tab.take(tab.wiring.show(tab.session, replace(GenerateSettings("mine", n=2), start=start, spread=spread)))
        tab["steps"] = 3
        return tab.run()

    def test_the_slider_begins_where_pictures_differ(self, tab: Tab) -> None:
        smallest = tab.components["spread"].minimum  # type: ignore[attr-defined]
        assert smallest == SLIDER_RANGE["spread"][0] > 0
        run = self.kept(tab, smallest)
        first, second = run.particles(OURS, 0).latents
        assert not first.equal(second) and run.moment.notice is None

    def test_an_older_picture_that_has_it_restores_and_is_explained(self, tab: Tab) -> None:
        run = self.kept(tab, 0.0)
        first, second = run.particles(OURS, 0).latents
        assert first.equal(second)
        assert run.moment.notice is not None and "they stay equal" in run.moment.notice.text
