"""Flows by a discriminator, against closed forms: g(z) = z, and discriminators of known ratios."""

import math

import pytest
import torch
from torch import Tensor

from engine.samplers.transport import ddls, dgflow, dot, flow_weight, lipschitz, tangential


def same(z: Tensor) -> Tensor:
    return z


def slope(z: Tensor) -> Tensor:
    """A linear discriminator of gradient (3, 0)."""
    return 3 * z[:, 0]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_lipschitz_constant_is_the_steepest_of_the_pairs() -> None:
    z = torch.tensor([[0.0, 0], [1, 0], [0, 5]])
    assert lipschitz(same, slope, z) == pytest.approx(3)
    assert lipschitz(lambda x: 2 * x, slope, z) == pytest.approx(6)
    with pytest.raises(ValueError, match="at least 2"):
        lipschitz(same, slope, z[:1])


def test_transport_moves_where_the_gain_outweighs_the_way() -> None:
    """The cost's slope is 1 along the way, the gain's 3 / k: with k = 1 each step moves by 2 rates, with k = 6 none."""
    z = torch.zeros(2, 2, dtype=torch.float64)
    *_, steep = dot(same, slope, z, steps=50, rate=0.01, k_eff=1.0)
    assert steep[0, 0] == pytest.approx(50 * 0.01 * 2, rel=0.05)
    *_, gentle = dot(same, slope, z, steps=50, rate=0.01, k_eff=6.0)
    assert gentle.abs().max() < 0.02  # about the start, one step to either side
    states = list(dot(same, slope, z + torch.tensor([[0.0, 1.0], [2.0, 0.0]]), steps=3))
    assert len(states) == 4 and torch.equal(states[0], z + torch.tensor([[0.0, 1.0], [2.0, 0.0]]))


def test_on_the_sphere_lengths_stay() -> None:
    """To first order: each step adds the square of its length, as a tangent does."""
    z = torch.randn(5, 8, generator=draws(), dtype=torch.float64)
    *_, moved = dot(same, slope, z, steps=20, rate=1e-3, k_eff=1.0, on_sphere=True)
    torch.testing.assert_close(moved.norm(dim=1), z.norm(dim=1), rtol=1e-3, atol=0)
    assert (moved - z).norm(dim=1).min() > 1e-3
    gradient = torch.randn(5, 8, generator=draws(1), dtype=torch.float64)
    assert (tangential(gradient, z) * z).sum(1).abs().max() < 1e-12


def test_langevin_reaches_the_prior_times_the_ratio() -> None:
    """N(0, 1) times exp(3 z - z^2 / 2) is N(1.5, 1/2): mean and deviation of 4,000 chains, within five errors."""
    z = torch.randn(4000, 1, generator=draws(), dtype=torch.float64)
    *_, ended = ddls(
        same, lambda x: 3 * x[:, 0] - x[:, 0].square() / 2, z, steps=300, step_size=0.05, generator=draws(1)
    )
    deviation = math.sqrt(0.5)
    assert ended.mean() == pytest.approx(1.5, abs=5 * deviation / math.sqrt(4000))
    assert ended.std() == pytest.approx(deviation, rel=0.06)


@pytest.mark.parametrize(
    ("ratio", "f"),
    [
        ("kl", lambda r: r * r.log()),
        ("js", lambda r: r * r.log() - (r + 1) * ((r + 1) / 2).log()),
        ("log_d", lambda r: (r + 1) * (r + 1).log() - 2 * math.log(2)),
    ],
)
def test_the_flow_follows_minus_the_gradient_of_the_divergence(ratio: str, f: object) -> None:
    """-grad_z f'(exp(-D(z))) by automatic differentiation, twice."""
    z = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None].requires_grad_()

    def logits(x: Tensor) -> Tensor:
        return x[:, 0].sin() + x[:, 0] / 3

    r = (-logits(z)).exp()
    (first,) = torch.autograd.grad(f(r).sum(), r, create_graph=True)  # type: ignore[operator]
    (expected,) = torch.autograd.grad(first.sum(), z)
    flow = dgflow(same, logits, z.detach(), ratio=ratio, steps=1, step_size=0.5, noise=0.0)  # type: ignore[arg-type]
    _, moved = flow
    torch.testing.assert_close(moved - z.detach(), -0.5 * expected)


def test_the_weights_of_the_divergences_at_an_even_ratio() -> None:
    even = torch.zeros(1)
    assert [float(flow_weight(even, ratio)) for ratio in ("kl", "js", "log_d")] == [1, 0.5, 0.5]
    sure = torch.tensor([20.0])
    assert flow_weight(sure, "js") > 0.99 and flow_weight(sure, "log_d") < 0.01


def test_noise_has_the_variance_of_its_temperature() -> None:
    """After one step of a flat discriminator: 2 eta gamma."""
    z = torch.zeros(4000, 2, dtype=torch.float64)
    _, moved = dgflow(same, lambda x: 0 * x[:, 0], z, steps=1, step_size=0.2, noise=0.1, generator=draws())
    assert moved.var() == pytest.approx(2 * 0.2 * 0.1, rel=0.1)
    with pytest.raises(ValueError, match="needs a generator"):
        list(dgflow(same, slope, z, noise=0.1))
