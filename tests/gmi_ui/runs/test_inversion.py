"""The search for a person's own picture, by hand: what it shows meanwhile, what it looks at, what it finds."""

from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import LoadingStopped
from engine.pictures.picture_files import Picture
from engine.tasks import inversion
from engine.tasks.inversion import Start
from gmi_ui.runs.inversion import Inversion, find_start
from gmi_ui.runs.work import Phase
from tests.gmi_ui.tiny import GENERATOR, PROMPT_MODEL, STYLE_SIDE, style_models

STEPS = 3


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.tasks.inversion.STEPS_WITHOUT", STEPS)


def picture() -> Picture:
    pixels = np.random.default_rng(5).integers(0, 256, (STYLE_SIDE, STYLE_SIDE, 3), dtype=np.uint8)
    return Picture(pixels, "mine.png")


def same(one: Start, other: Start) -> bool:
    return torch.equal(one.latents, other.latents) and torch.equal(one.image, other.image)


def test_a_search_shows_every_guess_and_its_last_one_is_the_result() -> None:
    models, kept = style_models(), picture()
    starts: dict[str, Start] = {}
    search: Any = Inversion(kept, starts, GENERATOR, PROMPT_MODEL)
    assert (search.start, search.was_left, search.model, search.prompt_model) == (None, False, GENERATOR, PROMPT_MODEL)
    search.enter(Phase.LOADING)
    rounds = search.carry_out(models)
    next(rounds)
    assert (search.moment.phase, search.start, starts) == (Phase.RUNNING, None, {})
    expected = inversion.invert(kept, models.generator(GENERATOR), prompt_model=models.prompt_model(PROMPT_MODEL))
    for step, start in enumerate(expected):
        before = search.moment.revision
        next(rounds)
        assert starts == {GENERATOR: search.start}
        assert search.start.step == step and search.start.picture is kept and same(search.start, start)
        assert search.moment.revision > before and len(search._ticks) == step + 1
    assert step == STEPS
    with pytest.raises(StopIteration):
        next(rounds)


def found(told: list[tuple[str, float]], **changes: Any) -> tuple[Start, int]:
    """The result of a search while a run is prepared, and how often it could have been stopped."""
    models, console = style_models(), Console(told)
    args = models.generator(GENERATOR), models.prompt_model(PROMPT_MODEL), console, "Looking"
    rounds, stops = find_start(picture(), *args, **changes), 0  # type: ignore[arg-type]
    while True:
        try:
            next(rounds)
            stops += 1
        except StopIteration as end:
            return end.value, stops


class Console:
    """Remembers what it was told."""

    def __init__(self, told: list[tuple[str, float]]) -> None:
        self._told = told

    def tell(self, doing: str, share: float) -> None:
        self._told.append((doing, share))


def test_a_run_that_needs_a_search_tells_how_far_it_is() -> None:
    told: list[tuple[str, float]] = []
    start, stops = found(told)
    assert told == [("Looking", pytest.approx(step / STEPS)) for step in range(STEPS + 1)]
    assert stops == STEPS + 1 and start.step == start.total == STEPS


@pytest.mark.parametrize(("steps", "shares"), [(0, [0.0]), (1, [0.0, 1.0])])
def test_the_shortest_searches_tell_how_far_they_are_and_end(
    monkeypatch: pytest.MonkeyPatch, steps: int, shares: list[float]
) -> None:
    monkeypatch.setattr("engine.tasks.inversion.STEPS_WITHOUT", steps)
    told: list[tuple[str, float]] = []
    start, _ = found(told)
    assert told == [("Looking", share) for share in shares] and start.total == steps


def test_a_search_compares_with_the_prompt_models_eyes_and_not_below_the_mask() -> None:
    models = style_models()
    generator, prompt_model = models.generator(GENERATOR), models.prompt_model(PROMPT_MODEL)
    mask = np.zeros((STYLE_SIDE, STYLE_SIDE), bool)
    mask[4:12, 4:12] = True
    *_, whole = inversion.invert(picture(), generator, prompt_model=prompt_model)
    *_, around = inversion.invert(picture(), generator, prompt_model=prompt_model, mask=mask)
    *_, blind = inversion.invert(picture(), generator)
    assert not same(whole, around) and not same(whole, blind)
    assert same(found([])[0], whole) and same(found([], mask=mask)[0], around)


def test_what_comes_before_the_search_is_told_and_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an encoder, which part of the picture to draw: of a large model that takes minutes."""
    models, starts = style_models(), dict[str, Start]()
    search = Inversion(picture(), starts, GENERATOR, PROMPT_MODEL)
    search.enter(Phase.LOADING)

    def find_box(picture: Any, generator: Any, mask: Any, watch: Any) -> None:
        watch("Looking", 0.5)
        assert (search.moment.doing, search.moment.share) == ("Looking", 0.5)
        search.stop()
        watch("Looking", 0.75)

    monkeypatch.setattr(inversion, "find_box", find_box)
    rounds = search.carry_out(models)
    next(rounds)
    with pytest.raises(LoadingStopped):
        next(rounds)
    assert not starts
