import math

import pytest
import torch

from engine.inference import kernels
from tests.engine.toys import numbers


def test_squared_distances_are_those_of_the_definition():
    a, b = numbers(5, 7), numbers(3, 7, seed=1)
    expected = torch.stack([torch.stack([(x - y).square().sum() for y in b]) for x in a])
    torch.testing.assert_close(kernels.squared_distances(a, b), expected)


def test_squared_distances_of_near_particles_keep_their_digits():
    """Unit vectors 1e-5 apart: |a - b|^2 = 1e-10, which float32 would lose beside |a|^2 = 1."""
    a = torch.nn.functional.normalize(numbers(1, 512), dim=1)
    step = torch.zeros(1, 512, dtype=torch.float64)
    step[0, 0] = 1e-5
    squares = kernels.squared_distances(kernels.kernel_precision(a), kernels.kernel_precision(a + step))
    assert squares.item() == pytest.approx(1e-10, rel=1e-4)  # float64 leaves 1e-16 of 1e-10


def test_log_kernel_gradient():
    f, anchors, h = numbers(3, 4).requires_grad_(), numbers(2, 4, seed=1), torch.tensor(0.7).double()
    assert torch.autograd.gradcheck(lambda f: kernels.log_kernel(f, anchors, h), f)


def test_log_kernel_is_permutation_equivariant():
    f, h, order = numbers(6, 3), torch.tensor(1.3).double(), torch.tensor([3, 1, 5, 0, 2, 4])
    kernel = kernels.log_kernel(f, f, h)
    torch.testing.assert_close(kernels.log_kernel(f[order], f[order], h), kernel[order][:, order])


def test_nearest_bandwidth_on_a_line():
    """Points 0, 1, 3, 7, 15: distances to the third nearest are 7, 6, 4, 7, 14; the median squared is 49."""
    points = torch.tensor([[0.0], [1.0], [3.0], [7.0], [15.0]]).double()
    assert kernels.nearest_bandwidth(kernels.squared_distances(points, points)) == 49


def test_median_bandwidth_on_a_line():
    """Points 0, 1, 3 have squared pair distances 1, 4, 9."""
    points = torch.tensor([[0.0], [1.0], [3.0]]).double()
    h = kernels.median_bandwidth(kernels.squared_distances(points, points))
    assert h.item() == pytest.approx(4 / math.log(3))


def test_squared_distances_are_never_negative():
    """|a|^2 + |b|^2 - 2ab of equal rows, 0, comes out as rounding of |a|^2 = 1e6, of either sign in float32."""
    a = 1000 * numbers(50, 64).float() / 8
    unclamped = a.square().sum(1)[:, None] + a.square().sum(1)[None] - 2 * a @ a.T
    assert unclamped.min() < 0
    assert kernels.squared_distances(a, a).min() == 0


def test_nearest_bandwidth_of_few_particles():
    """Of three, 0, 1 and 3, the second nearest is the last: distances 3, 2, 3. Of two it is the other."""
    three, two = torch.tensor([[0.0], [1.0], [3.0]]).double(), torch.tensor([[0.0], [2.0]]).double()
    assert kernels.nearest_bandwidth(kernels.squared_distances(three, three)) == 9
    assert kernels.nearest_bandwidth(kernels.squared_distances(two, two)) == 4


def test_median_bandwidth_of_two_particles():
    """log 2 would make the kernel of a pair as narrow as of no other number: at n = 2 it is log 3, h = 4 / log 3."""
    points = torch.tensor([[0.0], [2.0]]).double()
    h = kernels.median_bandwidth(kernels.squared_distances(points, points))
    assert h.item() == pytest.approx(4 / math.log(3))


def test_wide_bandwidth_is_sixteen_median_squared_distances():
    """Points 0, 1, 3 have squared pair distances 1, 4, 9; of two points it is their own."""
    three, two = torch.tensor([[0.0], [1.0], [3.0]]).double(), torch.tensor([[0.0], [2.0]]).double()
    for points in (three, two):
        h = kernels.choose_bandwidth(kernels.squared_distances(points, points), "wide")
        assert h.item() == pytest.approx(16 * 4)


@pytest.mark.parametrize("rule", ["nearest", "median", "wide"])
def test_a_single_particle_has_the_bandwidth_one(rule: str):
    squares = torch.zeros(1, 1).double()
    assert kernels.choose_bandwidth(squares, rule).item() == pytest.approx(1.0 if rule != "wide" else 16 * math.log(3))


@pytest.mark.parametrize("rule", ["nearest", "median", "wide"])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_bandwidth_follows_the_scale_of_the_features(rule: str, n: int):
    f = numbers(n, 6)
    near = kernels.choose_bandwidth(kernels.squared_distances(f, f), rule)
    far = kernels.choose_bandwidth(kernels.squared_distances(10 * f, 10 * f), rule)
    torch.testing.assert_close(far, 100 * near)


@pytest.mark.parametrize("rule", ["nearest", "median", "wide", 0.5])
@pytest.mark.parametrize("n", [1, 2, 8])
def test_bandwidth_is_positive_even_for_identical_particles(rule: str | float, n: int):
    f = torch.ones(n, 4).double()
    assert kernels.choose_bandwidth(kernels.squared_distances(f, f), rule) > 0


def test_mollified_bandwidth_is_the_convolution_with_a_gaussian():
    """E k(a, b + s sqrt(h) e) = (1 + 2 s^2)^(-D/2) exp(-|a - b|^2 / (h (1 + 2 s^2))), e ~ N(0, I), D = 2."""
    h, s = torch.tensor(0.8).double(), 0.6
    a, b = torch.tensor([[0.3, -0.2]]).double(), torch.tensor([[-0.4, 0.5]]).double()
    noisy = b + s * h.sqrt() * numbers(200_000, 2)
    samples = kernels.log_kernel(a, noisy, h).exp()
    wide = kernels.mollified_bandwidth(h, s)
    closed_form = (kernels.log_kernel(a, b, wide).exp() / (1 + 2 * s * s)).item()
    standard_error = samples.std().item() / math.sqrt(samples.numel())
    assert abs(samples.mean().item() - closed_form) < 4 * standard_error


def kernel_change(h: float, sigma: float, dim: int) -> float:
    """max over |a - b| of |k_psi - k|, psi a Gaussian of deviation sigma, its prefactor included."""
    s = sigma / math.sqrt(h)  # `mollified_bandwidth` counts in sqrt(h)
    wide = kernels.mollified_bandwidth(torch.tensor(h).double(), s)
    distances = torch.linspace(0, 6 * math.sqrt(h), 2001).double()[:, None]
    origin, prefactor = torch.zeros(1, 1).double(), (1 + 2 * s * s) ** (-dim / 2)
    mollified = prefactor * kernels.log_kernel(distances, origin, wide).exp()
    return (mollified - kernels.log_kernel(distances, origin, torch.tensor(h).double()).exp()).abs().max().item()


@pytest.mark.parametrize(("h", "dim"), [(1.0, 1), (0.4, 3), (2.0, 16)])
def test_theorem_4_the_mollified_kernel_is_near_the_kernel(h: float, dim: int):
    """|k_psi - k| <= (D / h) sigma^2 everywhere, and no smaller power or constant would do.

    E k(a, b + sigma e) = k + sigma^2 / 2 * Laplacian(k) + O(sigma^4), and the Laplacian of exp(-r^2 / h) is
    (4 r^2 / h^2 - 2 D / h) exp(-r^2 / h), largest at r = 0, where it is -2 D / h. There the change is
    1 - (1 + 2 sigma^2 / h)^(-D/2), which lies below D sigma^2 / h, its tangent in sigma^2.
    """
    sigmas = [0.2 * math.sqrt(h / dim) / 2**k for k in range(5)]
    changes = [kernel_change(h, sigma, dim) for sigma in sigmas]
    bounds = [dim / h * sigma**2 for sigma in sigmas]
    assert all(change <= bound * (1 + 1e-9) for change, bound in zip(changes, bounds, strict=True))
    slopes = [math.log2(wider / narrower) for wider, narrower in zip(changes, changes[1:], strict=False)]
    assert slopes[0] > 1.9  # sigma^4 is still felt
    assert slopes[-1] == pytest.approx(2.0, abs=0.005)
    assert changes[-1] / bounds[-1] == pytest.approx(1.0, abs=0.005)


def test_sampled_log_kernel_averages_the_kernel_over_the_samples():
    f, anchors, h = numbers(3, 4), numbers(5, 2, 4, seed=1), torch.tensor(3.0).double()
    average = torch.stack([kernels.log_kernel(f, anchors[:, s], h).exp() for s in range(2)]).mean(0)
    torch.testing.assert_close(kernels.sampled_log_kernel(f, anchors, h), average.log())
