"""The targets: samples have the density that is said of them, and drawings are even by length."""

import math

import pytest
import torch

from engine.lab.targets import NEAR, SETS, drawing, gaussians, swiss_roll
from engine.latents.spaces import seeded


def test_the_sets_of_points_are_those_of_the_papers() -> None:
    """25 places with deviations of .05 / 2.828; a roll whose radius is its angle, with noise of .25 / 7.5."""
    drawn = gaussians(5000, seeded("g"))
    cells = (drawn * 2.828 / 2).round()
    assert len(cells.unique(dim=0)) == 25 and cells.abs().max() == 2
    assert (drawn - cells * 2 / 2.828).std() == pytest.approx(0.05 / 2.828, rel=0.05)
    radii = swiss_roll(5000, seeded("r")).norm(dim=1) * 7.5 / math.pi
    assert 1.2 < radii.min() < 1.6 and 4.4 < radii.max() < 4.8


@pytest.mark.parametrize("name", SETS)
def test_a_density_has_mass_one_and_fits_its_samples(name: str) -> None:
    """Summed over a fine grid; and by Gibbs' inequality no other of the targets fits the samples as well."""
    target = SETS[name]()
    axis = torch.linspace(-2.6, 2.6, 521)
    cell = float(axis[1] - axis[0]) ** 2
    assert target.log_density(torch.cartesian_prod(axis, axis)).exp().sum() * cell == pytest.approx(1, abs=2e-3)
    drawn = target.sample(2000, seeded(name))
    own = target.log_density(drawn).mean()
    assert all(other().log_density(drawn).mean() < own for key, other in SETS.items() if key != name)


def test_a_blurred_density_is_that_of_noisy_samples() -> None:
    """A Gaussian of variance s^2 blurred by b has the log-density of N(0, s^2 + b^2)."""
    target = drawing([[(0.5, -1.0)]])
    points = torch.randn(20, 2, generator=seeded("b"))
    variance = target.sigma**2 + 0.3**2
    expected = -(points - target.centres[0]).square().sum(1) / (2 * variance) - math.log(2 * math.pi * variance)
    torch.testing.assert_close(
        target.log_density(points, blur=0.3), expected, rtol=1e-3, atol=1e-3
    )  # float32 distances


def test_a_drawing_is_even_by_length() -> None:
    """A line of length 3 drawn with uneven places, and one of length 1: three quarters of the samples, evenly."""
    target = drawing([[(-1, 1), (-0.9, 1), (2, 1)], [(0, -1), (1, -1)]])
    drawn = target.sample(8000, seeded("d"))
    upper = drawn[drawn[:, 1] > 0]
    assert len(upper) / len(drawn) == pytest.approx(0.75, abs=0.02)  # four deviations of 8,000 draws
    assert upper[:, 0].mean() == pytest.approx(0.5, abs=0.05) and (drawn[:, 1].abs() - 1).std() < 1.1 * target.sigma
    with pytest.raises(ValueError, match="at least one line"):
        drawing([[]])


def test_modes_count_as_covered_where_a_particle_is_near() -> None:
    target = SETS["25 Gaussians"]()
    held_out = target.sample(100, seeded("h"))
    reach = NEAR * target.sigma
    assert target.coverage(target.centres[:5] + torch.tensor([0.99 * reach, 0.0]), held_out) == pytest.approx(5 / 25)
    assert target.coverage(target.centres[:5] + torch.tensor([1.01 * reach, 0.0]), held_out) == 0
    curve = SETS["two moons"]()
    assert curve.coverage(curve.sample(500, seeded("c")), curve.sample(200, seeded("w"))) > 0.95
