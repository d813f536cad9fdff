"""Models in memory: shared, given up by age under a budget, never while a run holds them; loading can be stopped."""

from __future__ import annotations

import gc
import re
import threading
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import nn

from engine.checkpoints import open_checkpoint
from engine.errors import LoadingStopped
from engine.models import loading, memory
from engine.models.pool import Loading, ModelPool, bytes_of
from engine.settings import SettingsError
from tests.engine.checkpoints import expected

KILO = 1000


@dataclass(frozen=True, eq=False)
class Model:
    """A network of so many bytes."""

    network: nn.Module


def model_of(size: int) -> Model:
    network = nn.Module()
    network.register_buffer("weights", torch.zeros(size, dtype=torch.uint8))
    return Model(network)


class Reader:
    """Counts how often it reads."""

    def __init__(self, size: int) -> None:
        self.size, self.count = size, 0

    def __call__(self, loading: Loading) -> Model:
        self.count += 1
        loading.make_room(self.size)
        return model_of(self.size)


def names(pool: ModelPool) -> list[object]:
    return [kept.key[0] for kept in pool.kept()]


def test_bytes_are_those_of_parameters_and_buffers_each_once() -> None:
    @dataclass(frozen=True, eq=False)
    class Parts:
        one: nn.Module
        spaces: dict[str, torch.Tensor] = field(default_factory=dict)

    linear = nn.Linear(10, 5)
    shared = nn.Sequential(linear, linear, nn.BatchNorm1d(5))
    parts = Parts(shared, {"mean": torch.zeros(7, dtype=torch.float64), "same": linear.weight})
    assert bytes_of(parts) == 4 * (50 + 5) + 4 * 4 * 5 + 8 + 7 * 8  # the batch norm: 4 vectors and a counter


def test_a_model_is_read_once_and_shared() -> None:
    pool, read = ModelPool(10 * KILO), Reader(KILO)
    found: list[Model] = []
    threads = [threading.Thread(target=lambda: found.append(pool.get(("a",), read))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read.count == 1 and len({id(model) for model in found}) == 1
    assert [(kept.bytes, kept.in_use) for kept in pool.kept()] == [(KILO, False)]


def test_the_least_recently_used_is_given_up() -> None:
    pool = ModelPool(3 * KILO)
    for name in "abc":
        pool.get((name,), Reader(KILO))
    pool.get(("a",), Reader(KILO))  # used again
    pool.get(("d",), Reader(KILO))
    assert names(pool) == ["d", "a", "c"]
    pool.set_budget(KILO)
    assert names(pool) == ["d"]
    with pytest.raises(ValueError, match="must be positive"):
        pool.set_budget(0)


def test_memory_is_really_given_back_before_more_is_taken() -> None:
    pool = ModelPool(2 * KILO)
    first = weakref.ref(pool.get(("a",), Reader(2 * KILO)))

    def read(loading: Loading) -> Model:
        loading.make_room(2 * KILO)
        gc.collect()
        assert first() is None  # before the new one is there
        return model_of(2 * KILO)

    pool.get(("b",), read)
    assert names(pool) == ["b"]


def test_one_model_alone_may_be_larger_than_the_budget() -> None:
    pool = ModelPool(KILO)
    pool.get(("large",), Reader(5 * KILO))
    assert names(pool) == ["large"]


def test_what_a_run_holds_is_never_given_up() -> None:
    pool = ModelPool(2 * KILO)
    with pool.holding():
        pool.get(("a",), Reader(KILO))
        pool.get(("b",), Reader(KILO))
        outside = threading.Thread(target=lambda: pool.get(("c",), Reader(KILO)))
        outside.start()
        outside.join()
        pool.get(("d",), Reader(2 * KILO))
        assert {"a", "b", "d"} <= set(names(pool))
        assert all(kept.in_use for kept in pool.kept() if kept.key[0] != "c")
    assert names(pool) == ["d"]
    assert not pool.kept()[0].in_use


def test_a_model_that_somebody_still_has_is_found_again() -> None:
    pool, read = ModelPool(KILO), Reader(KILO)
    mine = pool.get(("a",), read)
    pool.get(("b",), Reader(KILO))
    assert names(pool) == ["b"]
    assert pool.get(("a",), read) is mine and read.count == 1


def test_forgotten_models_are_read_anew_even_if_somebody_has_them() -> None:
    pool, read = ModelPool(KILO), Reader(KILO)
    mine = pool.get(("a",), read)
    pool.forget(lambda key: key[0] == "a")
    assert not pool.kept()
    assert pool.get(("a",), read) is not mine and read.count == 2


def test_what_failed_is_tried_again_and_leaves_nothing() -> None:
    pool = ModelPool(KILO)

    def fail(_: Loading) -> Model:
        raise OSError("no such file")

    for _ in range(2):
        with pytest.raises(OSError, match="no such file"):
            pool.get(("a",), fail)
    assert not pool.kept()
    pool.get(("a",), Reader(KILO))


def test_who_waits_for_another_thread_can_stop_waiting() -> None:
    pool, begun, release = ModelPool(KILO), threading.Event(), threading.Event()

    def slow(_: Loading) -> Model:
        begun.set()
        release.wait(10)
        return model_of(KILO)

    thread = threading.Thread(target=lambda: pool.get(("a",), slow))
    thread.start()
    begun.wait(10)
    said: list[str] = []

    def stop(doing: str, share: float | None) -> None:
        said.append(doing)
        raise LoadingStopped("enough")

    with pytest.raises(LoadingStopped):
        pool.get(("a",), slow, watch=stop)
    assert said == ["Waiting: this model is being loaded already"]
    release.set()
    thread.join()
    assert names(pool) == ["a"]


# ---- real files ------------------------------------------------------------------------------------------


@pytest.fixture
def own_pool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModelPool:
    """The pool of the loaders, empty, and a cache of this test."""
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "cache"))
    pool = ModelPool(1 << 30)
    monkeypatch.setattr(loading, "POOL", pool)
    return pool


@pytest.mark.parametrize("name", ["rosinality_32.pt", "vqgan_tiny.ckpt", "dalle_decoder.pkl"])
def test_loading_tells_how_far_it_is(name: str, own_pool: ModelPool) -> None:
    said: list[tuple[str, float | None]] = []
    loading.load_generator(str(expected.path(name)), watch=lambda doing, share: said.append((doing, share)))
    doings = [doing for doing, _ in said]
    assert doings[0] == f"Checking {name}" and doings[-1].startswith("Building ")
    shares = [share for doing, share in said if doing == f"Reading {name}" and share is not None]
    assert len(shares) > 10 and shares == sorted(shares) and shares[-1] > 0.7


def test_loading_stops_between_two_tensors_and_leaves_nothing(own_pool: ModelPool, tmp_path: Path) -> None:
    path = expected.path("vqgan_tiny.ckpt")
    read: list[float] = []

    def stop(doing: str, share: float | None) -> None:
        if doing.startswith("Reading") and share is not None:
            read.append(share)
            if share > 0.5:
                raise LoadingStopped("enough")

    with pytest.raises(LoadingStopped):
        loading.load_generator(str(path), watch=stop)
    assert 0.5 < read[-1] < 0.95
    assert not own_pool.kept()
    assert not list((tmp_path / "cache").glob("converted/*"))
    assert loading.load_generator(str(path)).family == "vqgan"


def test_the_bytes_of_a_loaded_file_are_measured(own_pool: ModelPool) -> None:
    path = expected.path("rosinality_32.pt")
    loading.load_generator(str(path))
    opened = open_checkpoint(path)
    weights = 4 * sum(tensor.numel() for tensor in opened.networks["generator"].values())
    assert weights <= own_pool.kept()[0].bytes < weights + 400_000  # beside them the statistics of W


# ---- the budget ------------------------------------------------------------------------------------------


def test_the_budget_is_half_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda: 2 << 30)
    assert memory.default_budget() == 1 << 30
    monkeypatch.setattr(memory, "total_memory", lambda: 1 << 20)
    assert memory.default_budget() == memory.SMALLEST_BUDGET


def test_a_run_needs_more_for_more_and_larger_pictures() -> None:
    def needed(side: int, n: int) -> int:
        return memory.run_bytes("stylegan2", side, 10**8, n)

    assert needed(256, 8) > needed(256, 2) > 10**8
    assert needed(1024, 2) > needed(256, 2)


def test_one_picture_of_a_diffusion_model_is_in_memory_at_once() -> None:
    """Eight take hardly more than two; a second step and four times the pixels do."""

    def beyond(side: int, n: int) -> int:
        return memory.run_bytes("one_step_diffusion", side, 10**9, n) - memory.PROGRAM_BYTES - 10**9

    assert beyond(512, 1) < beyond(512, 2) < beyond(512, 8) < 1.1 * beyond(512, 2)
    assert beyond(512, 1) == 4 * beyond(256, 1)
    assert beyond(512, 1) == pytest.approx(2.63e9, rel=0.05) and beyond(512, 2) == pytest.approx(3.82e9, rel=0.05)


def fits(n: int, free: int, steps: int = 1) -> str:
    """What is said of n pictures of 512 x 512 pixels; empty where they fit."""
    try:
        memory.check_fits("one_step_diffusion", 512, 512, n, steps, lambda: free)
    except SettingsError as error:
        return str(error)
    return ""


def test_a_run_that_does_not_fit_is_refused_with_the_number_that_does() -> None:
    assert fits(8, 10**10) == ""
    said = fits(32, 4_000_000_000)
    found = re.search(r"^n: 32 of 512 x 512 pixels take about 4\.8 GB .* 4\.0 GB are free\. Choose (\d+),", said)
    assert found is not None, said
    assert fits(int(found[1]), 4_000_000_000) == "" and fits(int(found[1]) + 1, 4_000_000_000) != ""
    assert "not even one fits. Choose a smaller width and height, or" in fits(1, 10**9)
    assert "width and height or fewer denoising steps" in fits(1, 10**9, steps=2)


def test_of_other_families_nothing_is_refused_beforehand() -> None:
    memory.check_fits("stylegan2", 1024, 1024, 64, 1, lambda: 0)
