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


@pytest.mark.parametrize("rule", ["nearest", "median"])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_bandwidth_follows_the_scale_of_the_features(rule: str, n: int):
    f = numbers(n, 6)
    near = kernels.choose_bandwidth(kernels.squared_distances(f, f), rule)
    far = kernels.choose_bandwidth(kernels.squared_distances(10 * f, 10 * f), rule)
    torch.testing.assert_close(far, 100 * near)


@pytest.mark.parametrize("rule", ["nearest", "median", 0.5])
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


def test_sampled_log_kernel_averages_the_kernel_over_the_samples():
    f, anchors, h = numbers(3, 4), numbers(5, 2, 4, seed=1), torch.tensor(3.0).double()
    average = torch.stack([kernels.log_kernel(f, anchors[:, s], h).exp() for s in range(2)]).mean(0)
    torch.testing.assert_close(kernels.sampled_log_kernel(f, anchors, h), average.log())
