"""What the experiments' command lines share."""

import argparse
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from experiments import options, score_estimates, stationary


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    made.add_argument("--n", type=int, default=8)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--out", type=Path)
    return made


def test_quick_counts_hold_whatever_else_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = options.parse(parser(), {"n": 2}, ["--n", "20", "--seed", "3", "--quick"])
    assert (chosen.n, chosen.seed) == (2, 3)
    assert "mean nothing" in capsys.readouterr().out


def test_a_quick_run_writes_beside_the_results() -> None:
    chosen = options.parse(parser(), {}, ["--out", "tables/results.md", "--quick"])
    assert chosen.out == Path("tables/quick-results.md")


def test_without_quick_everything_is_as_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = options.parse(parser(), {"n": 2}, ["--out", "results.md"])
    assert (chosen.n, chosen.out) == (8, Path("results.md"))
    assert not capsys.readouterr().out


def test_a_quick_count_of_no_option_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="there is no option 'steps'"):
        options.parse(parser(), {"steps": 2}, ["--quick"])


@pytest.mark.parametrize("experiment", [score_estimates, stationary])
def test_tables_about_the_method_print_and_are_kept(
    experiment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --quick: Markdown tables and, beside the results, the same numbers as JSON."""
    monkeypatch.setattr(sys, "argv", ["experiment", "--quick", "--out", str(tmp_path / "numbers.json")])
    experiment.main()
    rows = json.loads((tmp_path / "quick-numbers.json").read_text())["rows"]
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ") and " | 1 | 8 | " in line]
    assert printed and rows
    assert len({len(line.split("|")) for line in printed}) <= 2  # of one table or two


def test_the_estimate_of_a_score_is_that_of_the_definition() -> None:
    """Of two samples 0 and 1 on a line, h = 1: KDE's density at 0 is 1 + e^-1, its slope -2 (0 - 1) e^-1."""
    x, h = torch.tensor([[0.0], [1.0]]).double(), torch.tensor(1.0).double()
    kernel = (-(x - x.T).square()).exp()
    k = math.exp(-1)
    expected = torch.tensor([[2 * k / (1 + k)], [-2 * k / (1 + k)]]).double()
    torch.testing.assert_close(score_estimates.ESTIMATORS["KDE"](x, kernel, h), expected)
    torch.testing.assert_close(stationary.repulsion(x, "kde", 1.0, 0.0), -expected)


@pytest.mark.parametrize("name", score_estimates.TARGETS)
def test_true_scores_are_gradients_of_the_densities(name: str) -> None:
    """Against autograd of log N(0, I) and of the log of half the sum of two."""
    x, score = score_estimates.TARGETS[name](6, 3, torch.Generator().manual_seed(0))
    x = x.clone().requires_grad_()
    centre = torch.tensor([2.0 if name == "mixture" else 0.0, 0.0, 0.0]).double()
    logs = torch.stack([-0.5 * (x - sign * centre).square().sum(1) for sign in (1, -1)])
    (gradient,) = torch.autograd.grad(logs.logsumexp(0).sum(), x)
    torch.testing.assert_close(score, gradient)


def test_repulsion_while_the_condition_rises_turns_no_rise() -> None:
    """Against (0, 2), a move (1, -5) is cut to (1, -2), (1, -1) stays; a move of minus the condition stays."""
    move = torch.tensor([[1.0, -5.0], [1.0, -1.0], [0.0, -2.0]])
    condition = torch.tensor([[0.0, 2.0]]).expand(3, 2)
    found = stationary.limited(move, condition)
    torch.testing.assert_close(found, torch.tensor([[1.0, -2.0], [1.0, -1.0], [0.0, -2.0]]))
