"""What the experiments' command lines share."""

import argparse
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from engine.latents.spaces import seeded
from engine.settings import FlowSettings
from experiments import (
    filling,
    options,
    profile,
    samplers,
    score_estimates,
    sentences,
    stationary,
    translation,
    unconditional,
)
from experiments.unconditional import Bench, Seen
from tests.engine.tiny import write_filler
from training import points
from training.emblems.figures import HeldOut


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


@pytest.fixture(scope="module")
def bench() -> samplers.Bench:
    """A barely trained generator of the Swiss roll, with all that the methods ask for."""
    networks = points.train("swiss roll", 3, ratio_steps=50)
    importance = samplers.reweighting.Importance(samplers.Z_DIM, points.WIDTH)
    return samplers.Bench("swiss roll", networks, importance)


@pytest.mark.parametrize("name", samplers.METHODS)
def test_every_sampler_gives_as_many_points_and_the_same_again(name: str, bench: samplers.Bench) -> None:
    entry = samplers.METHODS[name]
    chosen = next(entry.settings(few=True))
    first, again = (
        entry.method(bench, samplers.Draw(bench.latents(12, "x"), bench.real(12, "x"), seeded("x")), chosen)
        for _ in range(2)
    )
    assert first.shape == (12, 2) and first.isfinite().all()
    assert torch.equal(first, again)
    if name != "plain":
        unmoved = bench.networks.generator(bench.latents(12, "x"))
        assert not torch.equal(first, unmoved) or name == "MH-GAN"  # a chain from a real point may accept nothing


def test_ours_flow_to_the_real_points(bench: samplers.Bench) -> None:
    """From an untrained generator's, all near one place: nearer to the real ones, and further from each other."""
    entry = samplers.METHODS["KDE"]
    draw = samplers.Draw(bench.latents(64, "y"), bench.real(64, "own"), seeded("y"))
    before, after = samplers.plain(bench, draw, {}), entry.method(bench, draw, {"step": 0.3, "h": 0.2})
    wanted = bench.real(64, "wanted")
    assert samplers.earth_movers_distance(wanted, after) < samplers.earth_movers_distance(wanted, before)
    assert after.std(0).prod() > before.std(0).prod()


def test_what_a_sampler_leaves_open_is_chosen_where_it_does_best(bench: samplers.Bench) -> None:
    """Not on the draws of the table: of two settings, one of which sends all points away, the other one."""

    def moved(bench: samplers.Bench, draw: samplers.Draw, chosen: object) -> torch.Tensor:
        return draw.real + chosen["by"]  # type: ignore[index]

    samplers.METHODS["moved"] = samplers.Entry(moved, {"by": (5.0, 0.0)})
    try:
        arguments = argparse.Namespace(few=False, tuning_n=20, n=30, repeats=3)
        row = samplers.measure(bench, "moved", arguments)
    finally:
        del samplers.METHODS["moved"]
    assert row["chosen"] == {"by": 0.0}
    assert 0 < float(str(row["emd"])) < 1 and float(str(row["interval"])) > 0


def shades() -> Bench:
    """A judge that sees a picture's mean colour, and held-out pictures of every shade."""
    colours = torch.linspace(-1, 1, 40)[:, None].expand(-1, 3) + 0.01 * torch.randn(
        40, 3, generator=torch.Generator().manual_seed(1)
    )

    def look(images: torch.Tensor) -> Seen:
        means = images.mean((2, 3))
        return Seen(means, means)

    return Bench(look, Seen(colours[::2], colours[::2]), Seen(colours[1::2], colours[1::2]))


def test_pictures_without_words_are_measured_against_held_out_ones() -> None:
    """Equal sets are at no distance and precise; grey ones alone are precise, far, and hardly varied."""
    judge = shades()
    same = unconditional.measure(judge, judge.held_out)
    assert same["frechet"] == pytest.approx(0, abs=1e-9) and (same["precision"], same["recall"]) == (1, 1)
    grey = judge.look(0.01 * torch.randn(20, 3, 4, 4, generator=torch.Generator().manual_seed(2)))
    found = unconditional.measure(judge, grey)
    assert found["frechet"] > 0.5 and found["recall"] < 0.5 < found["precision"]


def test_the_rows_leave_out_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain generator is the baseline of the same seeds; a run has at most GROUP particles."""
    asked: list[unconditional.GenerateSettings] = []

    def pictures_of(settings: unconditional.GenerateSettings, count: int) -> tuple[torch.Tensor, float]:
        asked.append(settings)
        return torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(3)), 0.5

    monkeypatch.setattr(unconditional, "pictures_of", pictures_of)
    settings = unconditional.GenerateSettings("", seed=7)
    rows = unconditional.compare(shades(), settings, ["A + C", "B + C"], 12)
    assert list(rows) == ["held-out", "plain generator", "A + C", "B + C"]
    plain, without_b, without_a = (side.flow for side in asked)
    assert plain.until == 0 and {side.seed for side in asked} == {7}
    assert (without_b.data_weight, without_b.diversity) == (0.0, settings.flow.diversity)
    assert (without_a.data_weight, without_a.diversity) == (settings.flow.data_weight, 0.0)
    lines = unconditional.table(rows).splitlines()
    assert (
        len({line.count("|") for line in lines}) == 1 and lines[2].endswith("| - |") and lines[3].endswith("| 0.50 |")
    )


def test_pictures_of_many_runs_are_of_seeds_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unconditional, "GROUP", 4)
    settings = unconditional.GenerateSettings("", model="fashion", prompt_model="clip-mosaic", seed=20)
    plain = unconditional.tasks.baseline(settings)
    images, _ = unconditional.pictures_of(plain, 6)
    whole, _ = unconditional.pictures_of(replace(plain, seed=22), 4)
    assert images.shape == (6, 3, 32, 32)
    torch.testing.assert_close(images[2:6], whole)


class Colours:
    """A judge that sees a picture's mean colour, and of a text its last letter: of r, g or b."""

    logit_scale = 20.0

    def image_features(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(images.mean((2, 3)), dim=1)

    def text_features(self, texts: list[str]) -> torch.Tensor:
        return torch.eye(3)[["rgb".index(text[-1]) for text in texts]]


def test_pictures_of_sentences_are_found_by_them() -> None:
    """Of three pure colours and n = 2: those of the right sentence are found, far from grey, and hardly differ."""
    pictures = torch.eye(3)[:, :, None, None].expand(-1, -1, 4, 4)
    held = HeldOut.of(Colours(), ["r", "g", "b"], torch.zeros(3, dtype=torch.bool), pictures, ["r", "g", "b"])  # type: ignore[arg-type]
    assert sentences.asked(held, 2) == [0, 2]
    noise = 0.01 * torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(4))
    right = sentences.measure(held, [0, 2], pictures[[0, 2]][:, None] + noise)
    wrong = sentences.measure(held, [0, 2], pictures[[1, 1]][:, None] + noise)
    assert (right["of 100"], wrong["of 100"]) == (1.0, 0.0)
    assert right["inception"] > 1.9 > 1.1 > wrong["inception"]
    assert right["frechet"] < wrong["frechet"] and right["diversity"] < 0.01
    lines = sentences.table({"ours": {**right, "seconds": 1.0}}).splitlines()
    assert len({line.count("|") for line in lines}) == 1 and "100.0 %" in lines[-1]


def test_the_rows_of_sentences_are_flows_of_one_model() -> None:
    """Each row's changes are settings of a flow; "ours" changes none, and of a moving sentence the space is another."""
    flow = FlowSettings(condition_weight=0.5, realism=1.0)
    changed = {name: sentences.changed(flow, name) for name in sentences.ROWS}
    assert changed["ours"] == changed.pop(sentences.MOVING) == flow
    assert len(set(changed.values())) == len(changed)


def test_fillings_like_the_real_pictures_are_taken_for_them_and_others_are_not() -> None:
    """Of one distribution: every second pair, but for its error at 400 pairs; far off: none, at the distance moved."""
    draws = torch.Generator().manual_seed(4)
    real, like = torch.randn(2, 400, 3, generator=draws)
    moved = real + torch.tensor([9.0, 0, 0])
    found = filling.measure(real, filling.Results(torch.stack([like, moved], 1), 0.5, 0, 2.0), [1.0])
    assert found["P-IDS 1"] == pytest.approx(0.25, abs=0.05) and found["U-IDS 1"] == pytest.approx(0.25, abs=0.05)
    assert found["frechet"] == pytest.approx(81 / 2, rel=0.02)
    assert (found["realism"], found["changed"], found["seconds"]) == (0.5, 0, 2.0)
    alone = filling.Results(real[:, None].expand(-1, 2, -1), 0.5, 0, 2.0)
    assert filling.measure(real, alone, [1.0])["diversity"] == pytest.approx(0, abs=1e-5)


def test_holes_are_filled_by_every_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --quick and a tiny model: a table for each size, no known pixel changed."""
    model = write_filler(tmp_path / "filler")
    out = tmp_path / "numbers.json"
    monkeypatch.setattr(sys, "argv", ["filling", "--quick", "--model", str(model), "--out", str(out)])
    filling.main()
    rows = json.loads((tmp_path / "quick-numbers.json").read_text())["0.4"]
    assert list(rows) == list(filling.METHODS)
    assert all(row["changed"] == 0 and math.isfinite(row["frechet"]) for row in rows.values())
    with pytest.raises(SystemExit):
        monkeypatch.setattr(sys, "argv", ["filling", "--quick", "--model", "avatars", "--out", str(out)])
        filling.main()


def test_a_part_that_has_become_slower_is_named() -> None:
    before = {"forward": 0.1, **dict.fromkeys(profile.PARTS[1:], 0.2), "without repulsion": 0.5, "step": 0.6}
    recorded = {"avatars": profile.ratios(before)}
    assert recorded["avatars"]["with / without repulsion"] == pytest.approx(1.2)
    on_half_the_speed = {name: 2 * value for name, value in before.items()}
    assert profile.slower({"avatars": profile.ratios(on_half_the_speed)}, recorded) == []
    found = {"avatars": profile.ratios(before | {"generator": 0.3}), "emblems": profile.ratios(before)}
    (told,) = profile.slower(found, recorded)
    assert told == "avatars: the ratio of 'generator' is 3.00, 1.50 times the recorded one."
    tiny = {"avatars": profile.ratios(before | {"kernel": 0.001})}
    assert profile.slower({"avatars": profile.ratios(before | {"kernel": 0.004})}, tiny) == []


@pytest.mark.parametrize("part", translation.PARTS)
def test_translations_are_measured_by_every_method(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --quick: a row for each method, or for the model alone and every step size; other parts' numbers stay."""
    out = tmp_path / "quick-numbers.json"
    out.write_text('{"of another run": 5}')
    given = ["translation", "--quick", "--part", part, "--out", str(tmp_path / "numbers.json")]
    monkeypatch.setattr(sys, "argv", given)
    translation.main()
    found = json.loads(out.read_text())
    assert found["of another run"] == 5
    rows = found[part]["rows"] if part == "curve" else found[part]
    if part == "curve":
        expected = ["the model alone", *(f"2 steps of {size:g}" for size in translation.STEP_SIZES)]
    else:
        expected = list(translation.METHODS)
    assert list(rows) == expected
    for row in rows.values():
        assert math.isfinite(row["frechet"]) and math.isfinite(row["kernel"]) and 0 <= row["kept"] <= 1
        assert (row["taken"] is None) == (part != "references")
    assert len({row["frechet"] for row in rows.values()}) == len(rows)  # none is another's pictures
