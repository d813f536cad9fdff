"""Whatever chooses among samples, or moves particles to a density: against the densities that they should reach."""

import math

import pytest
import torch
from torch import Tensor, nn

from engine.inference.density import smoothed_score
from engine.samplers import rejection, reweighting, stein


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, generator=draws(seed), dtype=torch.float64)


# ---- by the discriminator's ratios -----------------------------------------------------------------------


def test_resampling_by_the_true_ratio_gives_the_other_density() -> None:
    """From N(0, 1) with log ratio z - 1/2 to N(1, 1), within five errors of the mean."""
    z = normal(20_000)
    chosen = z[rejection.sir(z - 0.5, 4000, generator=draws(1))]
    assert chosen.mean() == pytest.approx(1, abs=5 / math.sqrt(4000))
    assert chosen.std() == pytest.approx(1, rel=0.06)


def test_metropolis_hastings_gives_the_other_density() -> None:
    """Chains from real samples, N(1, 1), with proposals of N(0, 1): each ends in N(1, 1)."""
    proposed, start = normal(3000 * 60).view(3000, 60), normal(3000, seed=1) + 1
    ends = rejection.metropolis_hastings(start - 0.5, proposed - 0.5, generator=draws(2))
    assert (ends >= 0).double().mean() > 0.99
    moved = proposed[ends >= 0].gather(1, ends[ends >= 0, None])[:, 0]
    assert moved.mean() == pytest.approx(1, abs=5 / math.sqrt(3000))
    assert moved.std() == pytest.approx(1, rel=0.06)


def test_a_chain_that_accepts_nothing_says_so() -> None:
    ends = rejection.metropolis_hastings(torch.tensor([100.0]), torch.zeros(1, 5), generator=draws())
    assert ends.tolist() == [-1]


def test_rejection_keeps_the_likelier_samples_and_half_at_the_percentile() -> None:
    logits = normal(1001)
    acceptance = rejection.drs_acceptance(logits, float(logits.max()) + 1, percentile=0.8)
    assert (acceptance[logits.argsort()].diff() >= 0).all()
    assert float(acceptance.quantile(0.8)) == pytest.approx(0.5, abs=1e-6)
    kept = rejection.drs(logits, float(logits.max()) + 1, generator=draws(), percentile=0.8)
    assert logits[kept].mean() > logits.mean() + 0.5


def test_rejection_by_the_true_ratio_without_gamma_is_exact() -> None:
    """Azadi et al., Eq. 7: with gamma = 0 samples are accepted with exp(D - D_M)."""
    logits, highest = normal(50), 4.0
    shifted = logits - highest - torch.log(-torch.expm1(logits - highest - 1e-6))
    torch.testing.assert_close(torch.sigmoid(shifted), (logits - highest).exp(), rtol=1e-4, atol=1e-6)
    found = rejection.drs_acceptance(logits, highest, percentile=0.5)
    torch.testing.assert_close(found, torch.sigmoid(shifted - shifted.quantile(0.5)))


def test_calibration_undoes_a_scale_and_a_shift() -> None:
    """Of N(1, 1) and N(0, 1) the true logit is z - 1/2; the discriminator says 3 z + 2."""
    a, b = rejection.calibrated(3 * (normal(40_000, 1) + 1) + 2, 3 * normal(20_000) + 2)
    assert a * 3 == pytest.approx(1, rel=0.05)
    assert a * 2 + b == pytest.approx(-0.5, abs=0.05)


def test_calibration_of_separate_sets_stays_finite() -> None:
    a, b = rejection.calibrated(torch.full((5,), 10.0), torch.full((5,), -10.0))
    assert a > 0 and math.isfinite(a) and abs(b) < 1


# ---- Stein variational gradient descent ------------------------------------------------------------------


def test_one_particle_climbs_the_density_and_more_hold_its_variance() -> None:
    """Of N((2, -1), diag(1, 1/4)): 60 particles have its mean, and its deviations but for the kernel's width."""
    mean, deviation = torch.tensor([2.0, -1.0]).double(), torch.tensor([1.0, 0.5]).double()

    def log_density(z: Tensor) -> Tensor:
        return -((z - mean) / deviation).square().sum(1) / 2

    *_, top = stein.svgd(log_density, torch.zeros(1, 2).double(), steps=300)
    torch.testing.assert_close(top[0], mean, atol=0.1, rtol=0)
    *_, spread = stein.svgd(log_density, normal(120).view(60, 2), steps=600, step_size=0.05)
    torch.testing.assert_close(spread.mean(0), mean, atol=0.1, rtol=0)
    assert ((spread.std(0) / deviation - 1).abs() < 0.2).all()


def test_the_perturbation_is_that_of_the_definition() -> None:
    """By automatic differentiation of the kernel, pair by pair."""
    z, score = normal(10, 3).view(5, 2), normal(10, 4).view(5, 2)
    squares = (z[:, None] - z).square().sum(-1)
    h = squares[*torch.triu_indices(5, 5, offset=1)].median() / math.log(5)
    expected = torch.zeros_like(z)
    for i in range(5):
        for j in range(5):
            other = z[j].clone().requires_grad_()
            k = (-(other - z[i]).square().sum() / h).exp()
            (gradient,) = torch.autograd.grad(k, other)
            expected[i] += (k.detach() * score[j] + gradient) / 5
    torch.testing.assert_close(smoothed_score(z, score), expected)


# ---- latent reweighting ----------------------------------------------------------------------------------


def test_the_loss_gives_weight_to_what_the_critic_takes_for_real() -> None:
    """Its gradient pushes the weight of the higher value up, and the mean towards 1; above the bound it pushes down."""
    settings, values = reweighting.Reweighting(), torch.tensor([0.0, 1.0])
    weights = torch.ones(2, requires_grad=True)
    (gradient,) = torch.autograd.grad(reweighting.importance_loss(weights, values, settings), weights)
    assert gradient[0] == 0 and gradient[1] == pytest.approx(-0.5)
    high = torch.tensor([4.0, 4.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(reweighting.importance_loss(high, torch.zeros(2), settings), high)
    assert gradient.tolist() == pytest.approx([10 * 2 * 3 / 2 + 3 * 2 * 1 / 2] * 2)


def test_accepted_latents_have_the_weighted_density() -> None:
    """w = 2 on the right half, 0 on the left: with m = 3 all latents come from the right."""
    generator = draws()

    def draw(n: int) -> Tensor:
        return torch.randn(n, 1, generator=generator, dtype=torch.float64)

    found = reweighting.latent_rs(lambda z: 2.0 * (z[:, 0] > 0), draw, 2000, generator=draws(1))
    assert found.shape == (2000, 1) and (found > 0).all()
    assert found.mean() == pytest.approx(math.sqrt(2 / math.pi), rel=0.06)
    with pytest.raises(ValueError, match="near 0"):
        reweighting.latent_rs(lambda z: 0 * z[:, 0], draw, 10, generator=draws(), most_rounds=3)


def test_ascent_turns_latents_and_keeps_their_length() -> None:
    z = torch.randn(6, 4, generator=draws(), dtype=torch.float64)
    states = list(reweighting.latent_ga(lambda latents: latents[:, 0], z, steps=10, rate=0.01))
    assert len(states) == 11 and (states[-1][:, 0] > z[:, 0]).all()
    torch.testing.assert_close(states[-1].norm(dim=1), z.norm(dim=1), rtol=2e-2, atol=0)


def test_a_learnt_importance_prefers_latents_whose_samples_are_real() -> None:
    """g(z) = z, real samples all near (1.5, 0): latents there get more weight than those opposite."""
    real = torch.tensor([1.5, 0.0]) + 0.2 * torch.randn(500, 2, generator=draws())
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 1), nn.Flatten(0))
    importance = reweighting.train_importance(lambda z: z, critic, real, 2, steps=500, batch=64, width=128)
    right, wrong = importance(torch.tensor([[1.5, 0.0], [-1.5, 0.0]])).tolist()
    assert right > 1.5 and wrong < 0.5
    untrained = reweighting.train_importance(lambda z: z, critic, real, 2, steps=0)
    assert torch.equal(untrained(torch.randn(3, 2, generator=draws())), torch.ones(3))  # all count as much


def test_the_penalty_is_zero_at_slope_one() -> None:
    real, made = torch.randn(20, 3, generator=draws()), torch.randn(20, 3, generator=draws(1))
    direction = torch.tensor([0.6, 0.8, 0.0])
    assert reweighting.slope_penalty(lambda x: x @ direction, real, made, draws(2)).item() == pytest.approx(0, abs=1e-6)
    assert reweighting.slope_penalty(lambda x: 3 * (x @ direction), real, made, draws(2)).item() == pytest.approx(4)
