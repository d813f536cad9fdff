"""Starts that fit the text: each particle begins with the best of several grids of a bank."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.errors import LoadingStopped
from engine.latents.codebook import Codebook, CodeSpace, SoftCodeSpace
from engine.tasks import generation
from engine.tasks.generation import fitting_starts

CODES = torch.eye(4)
SEEDS = (3, 8, 21)


def bank(count: int) -> Tensor:
    return torch.randint(4, (count, 2, 2), generator=torch.Generator().manual_seed(1))


def problem_of(space: CodeSpace) -> Any:
    """The text asks for code 0: a picture's feature is how much of each code it holds."""
    return SimpleNamespace(
        render=space.decode,
        extractor=lambda images: images.flatten(2).mean(2),
        text=torch.tensor([1.0, 0.0, 0.0, 0.0]),
    )


@pytest.mark.parametrize("kind", [CodeSpace, SoftCodeSpace])
def test_the_best_of_a_particles_own_candidates_is_taken(kind: type[CodeSpace]) -> None:
    space = kind(Codebook(CODES), 2, 2, bank(500))
    starts = fitting_starts(problem_of(space), space, SEEDS, 40)
    for seed, found in zip(SEEDS, space.indices(starts), strict=True):
        counts = [(space.sample_codes([seed], number) == 0).sum() for number in range(40)]
        assert (found == 0).sum() == max(counts)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    space = CodeSpace(Codebook(CODES), 2, 2, bank(500))
    whole = fitting_starts(problem_of(space), space, SEEDS, 20)
    monkeypatch.setattr(generation, "CANDIDATES_AT_ONCE", 7)
    torch.testing.assert_close(fitting_starts(problem_of(space), space, SEEDS, 20), whole)


def test_one_candidate_is_the_start_without_a_search() -> None:
    space = CodeSpace(Codebook(CODES), 2, 2, bank(50))
    assert torch.equal(fitting_starts(problem_of(space), space, SEEDS, 1), space.sample(SEEDS))


def test_no_two_particles_begin_at_one_place() -> None:
    """Of three grids that every particle tries, each takes another."""
    grids = torch.tensor([[[0, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 0], [1, 1]]])
    space = CodeSpace(Codebook(CODES), 2, 2, grids)
    codes = space.indices(fitting_starts(problem_of(space), space, SEEDS, 60))
    assert (codes == 0).sum((1, 2)).tolist() == [4, 3, 2]


def counted(space: CodeSpace) -> tuple[Any, list[int]]:
    """The problem, and how many pictures were drawn each time."""
    problem, drawn = problem_of(space), []

    def render(latents: Tensor) -> Tensor:
        drawn.append(len(latents))
        return space.decode(latents)

    problem.render = render
    return problem, drawn


def test_the_search_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "CANDIDATES_AT_ONCE", 7)
    space = CodeSpace(Codebook(CODES), 2, 2, bank(500))
    problem, drawn = counted(space)
    told: list[tuple[str, float | None]] = []
    starts = fitting_starts(problem, space, SEEDS, 20, lambda *what: told.append(what))
    assert torch.equal(starts, fitting_starts(problem_of(space), space, SEEDS, 20))
    before = [sum(drawn[:part]) / sum(drawn) for part in range(len(drawn))]
    assert len(drawn) > 2 and [share for _, share in told] == pytest.approx(before)
    assert {words for words, _ in told} == {"Looking for starts that fit the words"}


def test_a_search_that_is_ended_draws_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "CANDIDATES_AT_ONCE", 7)
    space = CodeSpace(Codebook(CODES), 2, 2, bank(500))
    problem, drawn = counted(space)

    def stop(doing: str, share: float | None) -> None:
        if share:
            raise LoadingStopped(doing)

    with pytest.raises(LoadingStopped):
        fitting_starts(problem, space, SEEDS, 20, stop)
    assert drawn == [7]
