"""What each task's job says of its runs, without a worker."""

import base64
import io
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import PictureError
from engine.families import FAMILIES
from engine.models.domain import Doubt
from engine.pictures.masks import decode_mask
from engine.pictures.picture_files import Picture
from engine.settings import EditSettings, FlowSettings, InpaintSettings
from engine.tasks import baseline
from engine.tasks.inversion import Start
from engine.tasks.start_metadata import start_to_dict
from gmi_ui.jobs.editing import BASELINES, DISTANCE, METHODS, EditJob
from gmi_ui.jobs.generating import GENERATE, NOT_COMPARABLE
from gmi_ui.jobs.inpainting import HOLE_DIVERSITY, InpaintJob
from gmi_ui.notices import Notice
from gmi_ui.pictures.workspace import SHOWN_SIDE, PictureVersion, picture_jpeg
from gmi_ui.runs.job import (
    DIVERSITY,
    OWN_PICTURES,
    TEXT,
    Variation,
    as_moved,
    can_be_edited,
    model_names,
    tell_doubts,
    tell_what_was_cut,
)
from gmi_ui.runs.work import Moment, Phase, Side
from tests.gmi_ui.tiny import GENERATOR, three_models, tiny_settings

PICTURE = Picture(np.arange(6 * 9 * 3, dtype=np.uint8).reshape(6, 9, 3), "mine.png")
BESIDE: dict[str, Any] = {"prompt": "blue", "n": 3, "seed": 5, "model": "fashion", "classes": ["bag"]}


def version() -> PictureVersion:
    return PictureVersion(7, "mine.png", PICTURE)


def start(**changes: Any) -> Start:
    image = torch.full((1, 3, 8, 8), 0.5)
    return Start(torch.ones(2, 3), torch.zeros(4), image, image, **changes)


class Told:
    """A console that remembers."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.doing: list[tuple[str, float | None]] = []
        self.is_stopping = False

    def say(self, notice: Notice) -> None:
        self.notices.append(notice)

    def tell(self, doing: str, share: float | None = None) -> None:
        self.doing.append((doing, share))


def prepared(rounds: Any) -> Mapping[str, Any]:
    """What a preparation returns in the end."""
    while True:
        try:
            next(rounds)
        except StopIteration as end:
            result: Mapping[str, Any] = end.value
            return result


# ---- generate --------------------------------------------------------------------------------------------


def test_the_sides_of_a_run_of_pictures() -> None:
    assert GENERATE.titles(tiny_settings()) == {"ours": "With repulsion", "baseline": "Baseline"}
    assert list(GENERATE.titles(tiny_settings())) == ["ours", "baseline"]
    assert GENERATE.titles(tiny_settings(baseline=False)) == {"ours": "With repulsion"}
    compared = tiny_settings(baseline=False, beside={**BESIDE, "prompt_model": "/far/away/wide.pt"})
    titles = GENERATE.titles(compared)
    assert titles["ours"] == "avatars, judged by clip-mini"
    assert titles["baseline"].startswith("fashion, judged by ") and "far" not in titles["baseline"]
    assert GENERATE.baseline(compared) is compared.other
    assert GENERATE.baseline(tiny_settings()) == baseline(tiny_settings())
    assert GENERATE.origin is None and GENERATE.before(compared) is None and GENERATE.extras(compared) == {}


def test_figures_of_two_judges_do_not_compare() -> None:
    assert GENERATE.figures(tiny_settings()) == (TEXT, DIVERSITY)
    assert GENERATE.figures(tiny_settings(baseline=False, beside=BESIDE)) == (TEXT, DIVERSITY)  # one judge
    figures = GENERATE.figures(tiny_settings(baseline=False, beside={**BESIDE, "prompt_model": "clip-wide"}))
    assert [figure.key for figure in figures] == ["fit", "diversity"]  # a place among the same captions does compare
    assert figures[1].help.endswith(NOT_COMPARABLE) and NOT_COMPARABLE not in figures[0].help


def test_both_sides_are_prepared_from_the_same_start() -> None:
    told = Told()
    tasks = prepared(GENERATE.prepare(tiny_settings(), three_models(), told))
    assert list(tasks) == ["ours", "baseline"] and tasks["baseline"].particles is tasks["ours"].particles
    assert tasks["baseline"].settings.flow.diversity == 0 and not told.notices
    assert list(prepared(GENERATE.prepare(tiny_settings(baseline=False), three_models(), told))) == ["ours"]
    compared = tiny_settings(baseline=False, beside={**BESIDE, "prompt_model": "clip-wide"})
    tasks = prepared(GENERATE.prepare(compared, three_models(), told))
    assert [task.generator.name for task in tasks.values()] == [GENERATOR, "fashion"]


@pytest.mark.parametrize(("judge", "count"), [("clip-mini", 1), ("clip-wide", 2)])
def test_words_that_are_cut_are_told_once_for_each_judge(judge: str, count: int) -> None:
    told, words = Told(), " ".join(f"w{i}" for i in range(40))
    settings = tiny_settings(words, baseline=False, beside={**BESIDE, "prompt": words, "prompt_model": judge})
    prepared(GENERATE.prepare(settings, three_models(), told))
    assert len(told.notices) == count and "w39" in told.notices[0].text and told.notices[0].kind == "warning"


def test_nothing_is_said_of_texts_that_are_read_whole() -> None:
    told = Told()
    tell_what_was_cut(lambda text: text[3:], ["abc", "", "abcd"], told)
    (notice,) = told.notices
    assert notice.text.endswith("Left out: “d”")


def test_where_pictures_can_be_taken() -> None:
    """A model that cannot edit sees no sense in another's pictures; the tabs that need none take all."""
    for name, family in FAMILIES.items():
        task: Any = SimpleNamespace(generator=SimpleNamespace(family=name))
        able = "edit" in family.possible_tasks
        assert GENERATE.leads_to(task) == (*family.possible_tasks, *(["translate"] if able else []))
        assert can_be_edited(task) == ("edit" in family.possible_tasks)
        assert EditJob(version()).leads_to(task) == OWN_PICTURES
    assert any("edit" in family.possible_tasks for family in FAMILIES.values())
    assert not all("edit" in family.possible_tasks for family in FAMILIES.values())


def test_the_models_that_a_run_loads() -> None:
    assert model_names(tiny_settings()) == (GENERATOR, "clip-mini")
    compared = tiny_settings(baseline=False, beside={**BESIDE, "prompt_model": "clip-wide"})
    assert model_names(compared) == (GENERATOR, "clip-mini", "fashion", "clip-wide")


def test_plain_runs_have_every_slider_where_it_was_last_moved() -> None:
    flow = {"steps": 9, "changes": [[2, 0.2, 0.9]], "until": 5}
    compared = tiny_settings(flow=flow, baseline=False, beside={**BESIDE, "flow": flow})
    plain = as_moved(compared)
    assert plain.flow == FlowSettings(steps=9, step_size=0.2, diversity=0.9)
    assert plain.other is not None and plain.other.flow == plain.flow
    assert as_moved(tiny_settings()) == tiny_settings()


def test_a_step_is_measured() -> None:
    step: Any = SimpleNamespace(text_scores=torch.tensor([0.25, 0.75]), fits=torch.tensor([0.8, 0.9]), diversity=0.125)
    task: Any = SimpleNamespace(progress=lambda step: {"precision": 0.5} if step.text_scores is None else {})
    assert GENERATE.measure(task, step) == {"text": 0.5, "fit": pytest.approx(0.85), "diversity": 0.125}
    step.fits = None
    assert GENERATE.measure(task, step) == {"text": 0.5, "diversity": 0.125}
    step.text_scores = None
    assert GENERATE.measure(task, step) == {"precision": 0.5, "diversity": 0.125}


def test_what_the_models_do_not_know_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a warning where it is the whole prompt, in passing where it is a word; nothing where there is no doubt."""
    for found, kind in ((Doubt("Not that.", True), "warning"), (Doubt("Not this word.", False), "info"), (None, None)):
        monkeypatch.setattr("engine.models.domain.doubt", lambda *_, found=found: found)
        told = Told()
        tell_doubts("a castle", None, None, told)
        assert [(notice.text, notice.kind) for notice in told.notices] == ([(found.text, kind)] if found else [])


# ---- edit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("beside", BASELINES)
def test_the_sides_of_an_edit_are_its_methods(method: Any, beside: Any) -> None:
    settings = EditSettings("a hat", method=method, baseline=beside)
    titles = EditJob(version()).titles(settings)
    assert titles["ours"] == METHODS[method] and titles.get("baseline") == (
        None if beside == "none" else BASELINES[beside]
    )
    assert list(titles)[0] == "ours"


def test_an_edit_measures_the_distance_too() -> None:
    job, settings = EditJob(version()), EditSettings("a hat")
    assert job.figures(settings) == (TEXT, DIVERSITY, DISTANCE) and job.origin == 7
    step: Any = SimpleNamespace(text_scores=torch.tensor([0.25, 0.75]), fits=torch.tensor([0.8, 0.9]), diversity=0.125)
    task: Any = SimpleNamespace(
        figures=lambda step: {"distance_to_original": [0.1, 0.2, 0.6]}, progress=lambda step: {}
    )
    assert job.measure(task, step) == {
        "text": 0.5, "fit": pytest.approx(0.85), "diversity": 0.125, "distance": pytest.approx(0.3),
    }  # fmt: skip


def test_what_an_edit_began_at_travels_with_its_pictures() -> None:
    """Of the run's own model, and only as far as it is known."""
    one, settings = version(), EditSettings("a hat")
    job = EditJob(one)
    assert job.extras(settings) == {"text": "mine.png"} and job.before(settings) is None
    one.starts["other"] = start()
    assert job.extras(settings) == {"text": "mine.png"} and job.before(settings) is None
    one.starts[settings.model] = found = start()
    assert job.extras(settings) == {"start": start_to_dict(found), "text": "mine.png"}
    before = Image.open(io.BytesIO(base64.b64decode(job.before(settings) or "")))
    assert before.size == (8, 8) and abs(before.getpixel((2, 2))[0] - 191) <= 1  # type: ignore[index]


# ---- inpaint ---------------------------------------------------------------------------------------------


def painted(size: tuple[int, int], *pixels: tuple[int, int]) -> bytes:
    image = Image.new("L", size)
    for pixel in pixels:
        image.putpixel(pixel, 255)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_repainting_says_what_it_was_made_from() -> None:
    job = InpaintJob(version(), b"mask")
    assert job.origin == 7 and job.before(InpaintSettings()) == picture_jpeg(PICTURE, SHOWN_SIDE)
    assert job.extras(InpaintSettings()) == {"mask": base64.b64encode(b"mask").decode(), "text": "mine.png"}
    assert job.figures(InpaintSettings()) == (HOLE_DIVERSITY,)
    assert job.figures(InpaintSettings("a hat")) == (TEXT, HOLE_DIVERSITY)
    job.start(SimpleNamespace(), SimpleNamespace(), 0)  # type: ignore[arg-type]


def test_the_variation_of_a_hole_is_that_of_the_newest_step() -> None:
    job = InpaintJob(version(), b"mask")
    step: Any = SimpleNamespace(step=2)
    ours = Side(step, {"diversity": (0.1, 0.2)})
    shown = Moment(0, Phase.RUNNING, {"ours": ours, "baseline": Side(step, {"diversity": (0.3, 0.05)})})
    assert job.variation(shown) is None  # the mask was not looked at yet
    job.share = 0.25
    assert job.variation(Moment(0, Phase.LOADING)) is None
    assert job.variation(shown) == Variation(0.25, 0.2, 0.05)
    assert job.variation(Moment(0, Phase.RUNNING, {"ours": ours})) == Variation(0.25, 0.2, None)
    assert GENERATE.variation(shown) is None


def test_a_mask_of_another_size_is_that_of_the_picture() -> None:
    exact = decode_mask(painted((9, 6), (3, 2)), PICTURE.size)
    assert exact.shape == (6, 9) and exact.sum() == 1 and exact[2, 3]
    small = decode_mask(painted((3, 2), (1, 1)), PICTURE.size)
    assert small.shape == (6, 9) and small[3:, 3:6].all() and small.sum() == 9
    for data in (b"", b"\x89PNG", painted((9, 6))[:40]):
        with pytest.raises(PictureError, match="Press Run again"):
            decode_mask(data, PICTURE.size)
