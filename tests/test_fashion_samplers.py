"""The table of samplers on real pictures: what is measured, chosen, resumed and said of it; on toys."""

import argparse
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.inference.flow import DivergenceError, Particles, refine
from engine.inference.terms import Realism, References
from experiments import fashion_samplers as table
from experiments.fashion_samplers import METHODS, OURS, Bench, Entry, Rows, Seen
from tests.engine.toys import FEATURES, LATENT, DoubleSpace, ToyPromptModel, numbers, toy_problem
from training.fashion import data

COUNTS = argparse.Namespace(n=8, tuning_n=6, held_out=30, few=False, most_steps=4)


@pytest.fixture
def bench() -> Bench:
    """Pictures are seen by the mean of each colour; the discriminator likes bright ones."""
    tower = ToyPromptModel().tower

    def look(images: Tensor) -> Seen:
        means = images.mean((2, 3))
        return Seen(means, means)

    realism = Realism(tower, lambda features: 5 * features.sum(1))
    problem = replace(
        toy_problem(tower=tower), text=None, conditions=(), realism=realism,
        data=References(numbers(12, FEATURES, seed=4)),
    )  # fmt: skip
    real, others = (look(numbers(30, 3, 4, 4, seed=seed)) for seed in (5, 6))
    return Bench(problem, realism, look, real, others)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_as_many_pictures_and_the_same_again(name: str, bench: Bench) -> None:
    entry = METHODS[name]
    chosen = next(entry.settings(few=True))
    first, second = (table.draw(bench, entry, chosen, "reporting", 9, 4)[0] for _ in range(2))
    assert first.shape == (9, 3, 4, 4) and torch.equal(first, second)
    plain, _ = table.draw(bench, METHODS["plain"], {}, "reporting", 9, 4)
    assert (name == "plain") == torch.equal(first, plain)
    assert not torch.equal(first, table.draw(bench, entry, chosen, "validation", 9, 4)[0])


def test_ours_are_runs_of_the_flow_in_groups(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bandwidth counts in the mean squared distance of the examples' features."""
    monkeypatch.setattr(table, "GROUP", 4)
    images, _ = table.draw(bench, METHODS["KRR"], {"step_size": 0.1, "h": 0.3}, "reporting", 6, 3)
    squares = torch.cdist(numbers(12, FEATURES, seed=4), numbers(12, FEATURES, seed=4)).square().mean()
    flow = replace(OURS, steps=3, step_size=0.1, bandwidth=0.3 * float(squares))
    seeds = tuple(range(700_004, 700_006))
    *_, last = refine(bench.problem, Particles(DoubleSpace(LATENT).sample(seeds), seeds), flow)
    torch.testing.assert_close(images[4:], last.images)


def test_steps_in_between_are_those_of_shorter_runs(bench: Bench) -> None:
    flow = table.flow_of(bench, OURS, {"step_size": 0.1, "h": 0.3}, 6)
    found = table.paths(bench, flow, "reporting", 5, [2, 6])
    assert torch.equal(found[2], table.paths(bench, replace(flow, steps=2), "reporting", 5, [2])[2])


def test_what_a_method_leaves_open_is_chosen_where_it_comes_nearest(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that leads away from where the pictures are is not, nor one that diverges; one choice needs no try."""
    away = Entry(replace(OURS, diversity=0.0, data_weight=0.0), choices={"realism": (100.0, 0.0), "step_size": (1.0,)})
    assert table.tuned(bench, away, COUNTS) == {"realism": 0.0, "step_size": 1.0}
    assert table.tuned(bench, away, argparse.Namespace(**{**vars(COUNTS), "few": True})) == {
        "realism": 100.0,
        "step_size": 1.0,
    }

    original = table.draw

    def diverging(bench: Bench, entry: Entry, chosen: Mapping[str, float], *rest: Any) -> tuple[Tensor, float]:
        if chosen["realism"] == 0:
            raise DivergenceError("It ran away.", "step_size", OURS, None)
        return original(bench, entry, chosen, *rest)

    monkeypatch.setattr(table, "draw", diverging)
    assert table.tuned(bench, away, COUNTS)["realism"] == 100.0


def test_held_out_pictures_themselves_are_at_no_distance(bench: Bench) -> None:
    found = table.measured(bench, bench.held_out)
    assert found["frechet"] == pytest.approx(0, abs=1e-9) and found["frechet_scores"] == pytest.approx(0, abs=1e-9)
    assert found["emd"] == pytest.approx(0, abs=1e-6) and (found["precision"], found["recall"]) == (1, 1)
    assert found["frechet_half"] > 0 and found["inception_half"] > 0
    others = table.measured(bench, bench.others)
    assert others["frechet"] > 0 and others["emd"] > 0


def test_a_row_is_measured_once_unless_the_counts_are_others(tmp_path: Path) -> None:
    path, asked = tmp_path / "rows.json", []

    def measure() -> dict[str, float]:
        asked.append(1)
        return {"frechet": math.inf}

    for counts in ({"n": 4}, {"n": 4}, {"n": 5}):
        row = Rows(path, "samplers", counts, resumes=True).get("KDE", measure)
    assert len(asked) == 2 and row["frechet"] == math.inf
    Rows(path, "terms", {"n": 9}, resumes=True).get("A", measure)
    kept = json.loads(path.read_text())
    assert kept["samplers"] == {"counts": {"n": 5}, "rows": {"KDE": {"frechet": None}}} and set(
        kept["terms"]["rows"]
    ) == {"A"}
    Rows(path, "samplers", {"n": 5}, resumes=False).get("KDE", measure)
    assert len(asked) == 4


def test_times_are_taken_anew_and_nothing_else(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, counts = tmp_path / "rows.json", {"n": 8}
    row = {**table.measured(bench, bench.others), "ms": -1.0}
    kept = Rows(path, "samplers", counts, resumes=True)
    kept.get("KRR", lambda: {**row, "chosen": {"step_size": 0.1, "h": 0.3}})
    kept.get("DOT", lambda: {"frechet": None, "chosen": {}})
    monkeypatch.setattr(table, "prepare", lambda *_: bench)
    table.retime(COUNTS, Rows(path, "samplers", counts, resumes=True))
    rows = json.loads(path.read_text())["samplers"]["rows"]
    assert rows["KRR"].pop("ms") > 0 and rows["KRR"]["frechet"] == row["frechet"] and "ms" not in rows["DOT"]
    assert capsys.readouterr().out.startswith("| KRR | ")


def test_the_order_of_the_papers_is_judged_row_by_row() -> None:
    def row(distance: float | None, half: float = 1.0) -> dict[str, float | None]:
        return {"frechet": distance, "frechet_half": half}

    rows = {"plain": row(30), "DOT": row(25), "DDLS": row(None), "DGflow": row(26), "KDE": row(10), "SIR": row(99)}
    assert list(table.verdicts(rows)) == [
        "DOT below plain: held",
        "DGflow below DOT: did not hold, within the intervals",
        "KDE below DGflow: held",
    ]
    assert table.line("DDLS", rows["DDLS"]) == "| DDLS | diverged |"


@pytest.mark.skipif(not data.FOLDER.exists(), reason="needs Debian's dataset-fashion-mnist")
@pytest.mark.parametrize("name", ["samplers", "steps", "terms"])
def test_the_command_prints_a_table_and_keeps_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "numbers.json"), "--methods", "plain", "SIR", "DOT", "KRR smoothed"]
    monkeypatch.setattr(sys, "argv", ["fashion_samplers", "--quick", "--table", name, *out])
    table.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    rows = json.loads((tmp_path / "quick-numbers.json").read_text())[name]["rows"]
    assert len(lines) == len(rows) + 2


@pytest.mark.skipif(not data.FOLDER.exists(), reason="needs Debian's dataset-fashion-mnist")
def test_the_logit_is_the_models_own() -> None:
    """From the shared features the head gives what Generate's discriminator says of whole pictures."""
    bench = table.prepare(argparse.Namespace(held_out=8), "reporting")
    images = bench.problem.pictures(bench.problem.space.sample(range(6)), None)
    model = table.engine.load_generator(table.MODEL)
    realism: Any = bench.problem.realism
    assert model.discriminator is not None
    found = realism.head(bench.problem.extractor(images))
    torch.testing.assert_close(found, model.discriminator(images)[:, 0], rtol=1e-4, atol=1e-4)
    assert not torch.equal(bench.held_out.features, bench.others.features)


def test_calibration_makes_the_logit_the_ratio_of_densities(bench: Bench) -> None:
    """Where the real pictures are the generator's own it says nothing, whatever the discriminator says."""
    realism: Any = bench.problem.realism
    seeds = table.particle_seeds(table.FIRST_SEEDS["validation"], 30)
    own = bench.problem.extractor(bench.problem.pictures(bench.problem.space.sample(seeds), None))
    a, b = table.calibration(bench.problem, realism, own)
    assert (a, b) == pytest.approx((0, 0), abs=1e-6)
    a, b = table.calibration(bench.problem, realism, own + 0.02)  # by 5 * 5 * .02 brighter
    assert a > 0 and a * realism.head(own).mean() + b < 0
