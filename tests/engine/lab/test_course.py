"""Courses of the lab: closed forms, the same frames again, going on from any of them."""

from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.lab import course, sampling
from engine.lab.networks import exact_networks
from engine.lab.sampling import RAW_FLOW, REMEMBERED
from engine.lab.settings import LIMITS, OURS, SAMPLERS, LabSettings
from engine.lab.targets import drawing
from engine.settings import SettingsError

DOT_AT = (((0.4, -0.2),),)  # a drawing of one place: a Gaussian


def memory_of(frame: course.Frame) -> Tensor:
    assert frame.state.memory is not None
    return frame.state.memory


def settings(**chosen: Any) -> LabSettings:
    return replace(LabSettings(n=40, steps=12, target="two moons"), **chosen)


@pytest.mark.parametrize("generator", ["none", "trained"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_run_is_the_same_again_and_goes_on_from_any_frame(sampler: str, generator: str) -> None:
    """Bit for bit: a page that goes back to a frame sees what it has seen."""
    chosen = settings(sampler=sampler, generator=generator, noise=0.1)
    whole = list(course.frames(chosen))
    assert [frame.state.step for frame in whole] == list(range(13))
    for frame, again in zip(whole[6:], course.frames(chosen, whole[5].state), strict=True):
        assert torch.equal(frame.positions, again.positions)
        assert torch.equal(frame.vectors, again.vectors)
        assert (frame.distance, frame.coverage) == (again.distance, again.coverage)
    assert whole[0].positions.shape == (40, 2) and whole[0].vectors.shape == (3, 40, 2)
    moved = not torch.equal(whole[0].positions, whole[-1].positions)
    assert moved is (sampler != "plain")
    memory = whole[-1].state.memory
    assert (0 if memory is None else memory.shape[1]) == REMEMBERED.get(sampler, 0)


@pytest.mark.parametrize("sampler", OURS)
def test_the_vectors_of_our_flow_sum_to_its_step(sampler: str) -> None:
    """Without a generator x <- x + step size * (A + B + C), to rounding in float32."""
    chosen = settings(sampler=sampler, condition=0.5, repulsion=0.7)
    scene, _ = course.scene_of(chosen.target, (), "none", chosen.n, chosen.seed)
    step_size = sampling.flow_settings(chosen, scene.references).step_size
    first, second = islice(course.frames(chosen), 2)
    assert all(first.vectors.abs().amax((1, 2)) > 0)
    expected = first.positions + step_size * first.vectors.sum(0)
    torch.testing.assert_close(second.positions, expected, rtol=1e-4, atol=1e-5)


def test_the_vectors_of_a_flow_of_latents_move_the_points_by_as_much() -> None:
    """To first order: at a step a thousand times as small the points move by its J J^T (A + B + C)."""
    chosen = settings(generator="trained", step=0.05, bandwidth=0.02, condition=0.5)
    scene, _ = course.scene_of(chosen.target, (), "trained", chosen.n, chosen.seed)
    step_size = sampling.flow_settings(chosen, scene.references).step_size
    first, second = islice(course.frames(chosen), 2)
    moved = (second.positions - first.positions) / step_size
    wanted = first.vectors.sum(0)
    # A kink of a ReLU, or two digits lost to the difference in float32: most particles, not all.
    close = (moved - wanted).norm(dim=1) <= 0.05 * wanted.norm(dim=1) + 0.05
    assert close.float().mean() > 0.9


def test_the_flow_by_the_exact_ratio_reaches_the_gaussian_it_knows() -> None:
    """DGflow without noise climbs to the peak of log p - log q, both blurred Gaussians: c v / (v - u) for the
    variances u of p and v of q."""
    chosen = settings(target="drawing", strokes=DOT_AT, sampler="DGflow", steps=200)
    *_, last = course.frames(chosen)
    blur = 0.15**2
    u, v = drawing(DOT_AT).sigma ** 2 + blur, 1 + blur
    peak = torch.tensor(DOT_AT[0][0]) * v / (v - u)
    torch.testing.assert_close(last.positions, peak.expand(40, 2), rtol=0, atol=2e-3)


def test_langevin_on_the_prior_times_the_ratio_samples_the_blurred_target() -> None:
    """DDLS: N(0, 1) p / q with q = N(0, 1 + b^2) and p of variance s^2 + b^2 around c; its precision is the sum."""
    chosen = settings(target="drawing", strokes=DOT_AT, sampler="DDLS", n=1000, steps=100)
    *_, last = course.frames(chosen)
    blur = 0.15**2
    u, v = drawing(DOT_AT).sigma ** 2 + blur, 1 + blur
    precision = 1 + 1 / u - 1 / v
    mean = torch.tensor(DOT_AT[0][0]) / u / precision
    torch.testing.assert_close(last.positions.mean(0), mean, rtol=0, atol=0.03)  # six deviations of 1,000 draws
    assert last.positions.var(0).mean() == pytest.approx(1 / precision, rel=0.15)


def test_resampling_reaches_the_density_of_langevin() -> None:
    """Of proposals N(0, 1) by the ratio: the density of the test above; so do chains that have accepted anything."""
    blur = 0.15**2
    u, v = drawing(DOT_AT).sigma ** 2 + blur, 1 + blur
    precision = 1 + 1 / u - 1 / v
    for sampler in ("SIR", "MH"):
        chosen = settings(target="drawing", strokes=DOT_AT, sampler=sampler, n=500, steps=80)
        first, *_, last = course.frames(chosen)
        drawn = last.positions[(last.positions != first.positions).any(1)]
        assert len(drawn) > 400
        torch.testing.assert_close(drawn.mean(0), torch.tensor(DOT_AT[0][0]) / u / precision, rtol=0, atol=0.05)
        assert drawn.var(0).mean() == pytest.approx(1 / precision, rel=0.3)  # 500 draws of fewer proposals near by


def test_rejection_settles_each_particle_once() -> None:
    chosen = settings(target="drawing", strokes=DOT_AT, sampler="DRS", n=100, steps=40)
    whole = list(course.frames(chosen))
    for before, after in zip(whole[1:], whole[2:], strict=False):
        settled = memory_of(before)[:, 0] > 0
        assert torch.equal(before.positions[settled], after.positions[settled])
    assert memory_of(whole[-1])[:, 0].min() == 1 and whole[-1].distance < 0.6 * whole[0].distance


def test_repulsion_keeps_particles_apart_and_attraction_brings_them() -> None:
    both, alone = settings(steps=80), settings(steps=80, repulsion=0.0)
    *_, ours = course.frames(both)
    *_, pulled = course.frames(alone)
    assert torch.pdist(ours.positions).min() > torch.pdist(pulled.positions).min()
    first = next(course.frames(both))
    assert ours.distance < 0.7 * first.distance and ours.coverage > first.coverage


def test_a_state_goes_on_with_other_settings() -> None:
    some = list(islice(course.frames(settings()), 4))
    other = course.batch(settings(repulsion=0.0), some[-1].state, most=1, seconds=5)
    assert other[0].state.step == 4 and not torch.equal(other[0].vectors[0], some[-1].vectors[0])


def test_a_batch_has_an_end() -> None:
    """By number, by time, by the run's last step; then there is nothing."""
    chosen = settings(sampler="DGflow")
    assert len(course.batch(chosen, None, most=3, seconds=60)) == 3
    assert len(course.batch(chosen, None, most=50, seconds=0)) == 1
    rest = course.batch(chosen, None, most=50, seconds=60)
    assert len(rest) == 13 and course.batch(chosen, rest[-1].state, most=50, seconds=60) == []


@pytest.mark.parametrize("sampler", ["KRR", "DGflow"])
def test_particles_that_run_away_are_told(sampler: str) -> None:
    """What was seen before stays; the next batch says it."""
    chosen = settings(sampler=sampler, step=LIMITS["step"][1], repulsion=2.0, attraction=2.0, steps=200)
    seen = course.batch(chosen, None, most=1000, seconds=60)
    assert 1 <= len(seen) < 200
    with pytest.raises(SettingsError, match=f"{sampler}: the particles ran away. Lower the step size"):
        course.batch(chosen, seen[-1].state, most=1, seconds=60)


def test_the_flow_of_a_lab_is_the_raw_one() -> None:
    assert not RAW_FLOW.normalise and not RAW_FLOW.conflict_free and RAW_FLOW.diversity_gain == 1


def test_the_picture_of_a_density_is_high_where_it_is() -> None:
    cells = torch.tensor(list(course.density_picture("drawing", (((1.2, -0.6), (1.2, -0.6)),)))).view(course.GRID, -1)
    row, column = divmod(int(cells.argmax()), course.GRID)
    x, y = (2 * (column + 0.5) / course.GRID - 1) * 2.4, (1 - 2 * (row + 0.5) / course.GRID) * 2.4
    assert (x, y) == (pytest.approx(1.2, abs=0.02), pytest.approx(-0.6, abs=0.02))
    assert cells.max() == 255 and cells[0, 0] == 0


def test_the_exact_critic_is_the_log_of_the_ratio() -> None:
    """At zero it has p of the target blurred, and q a Gaussian blurred."""
    target = drawing(DOT_AT)
    found = exact_networks(target).ratio(torch.zeros(1, 2))
    u, v = target.sigma**2 + 0.15**2, 1 + 0.15**2
    expected = torch.log(torch.tensor(v / u)) - (0.4**2 + 0.2**2) / (2 * u)
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-4)
