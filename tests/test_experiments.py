"""What the experiments' command lines share."""

import argparse
from pathlib import Path

import pytest

from experiments import options


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
