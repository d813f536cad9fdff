"""Objectives of adversarial training: their fixed points and gradients, where those are known."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from engine.metrics.transport import earth_movers_distance
from training import objectives
from training.objectives import Objective, SlicingHead


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def best_logits(objective: Objective, p: Tensor, q: Tensor) -> Tensor:
    """Of a discriminator that may say anything at each of K points, with masses p and q in ten thousandths: descent."""
    real, made = (torch.arange(len(mass)).repeat_interleave((10_000 * mass).round().long()) for mass in (p, q))
    logits = torch.zeros(len(p), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        objective.discriminator(logits[real], logits[made]).backward()
        optimizer.step()
    return logits.detach()


P, Q = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.1, 0.3, 0.6]).double()


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (objectives.NON_SATURATING, (P / Q).log()),  # sigmoid of it is p / (p + q)
        (objectives.SATURATING, (P / Q).log()),
        (objectives.LEAST_SQUARES, P / (P + Q)),
        (objectives.smoothed(0.1), (0.9 * P / (Q + 0.1 * P)).log()),  # sigmoid of it is .9 p / (p + q)
    ],
    ids=["non-saturating", "saturating", "least squares", "smoothed"],
)
def test_the_best_discriminator_is_the_known_one(objective: Objective, expected: Tensor) -> None:
    torch.testing.assert_close(best_logits(objective, P, Q), expected, atol=1e-3, rtol=0)


def test_the_best_hinge_discriminator_tells_which_is_likelier() -> None:
    found = best_logits(objectives.HINGE, P, Q)
    torch.testing.assert_close(found[[0, 2]], torch.tensor([1.0, -1.0]).double(), atol=0.05, rtol=0)


def test_the_saturating_loss_gives_no_gradient_where_the_discriminator_is_sure() -> None:
    """The other one gives its whole: at logit -20 the derivatives are about -2e-9 and -1."""
    slopes = []
    for objective in (objectives.SATURATING, objectives.NON_SATURATING):
        made = torch.tensor([-20.0], requires_grad=True)
        (slope,) = torch.autograd.grad(objective.generator(made), made)
        slopes.append(float(slope))
    assert abs(slopes[0]) < 1e-8 and slopes[1] == pytest.approx(-1)


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
def test_every_generator_raises_and_every_discriminator_separates(name: str) -> None:
    real, made = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    up, down = torch.autograd.grad(objectives.OBJECTIVES[name].discriminator(real, made), (real, made))
    assert (up < 0).all() and (down >= 0).all()
    (raised,) = torch.autograd.grad(objectives.OBJECTIVES[name].generator(made), made)
    assert (raised < 0).all()


@pytest.mark.parametrize("distance", [0.5, 1.0, 3.0])
def test_between_parallel_lines_jensen_shannon_says_nothing_and_transport_how_far(distance: float) -> None:
    """Arjovsky et al. 2017, Example 1: the divergence is log 2 at any distance, the earth mover's is the distance."""
    height = torch.linspace(0, 1, 50)
    line = torch.stack([torch.zeros(50), height], dim=1)
    assert earth_movers_distance(line, line + torch.tensor([distance, 0.0])) == pytest.approx(distance)
    # On disjoint supports the best discriminator is sure: each term of the loss is 0, and JS = log 2 - loss / 2.
    sure = torch.full((50,), 50.0)
    divergence = math.log(2) - float(objectives.SATURATING.discriminator(sure, -sure)) / 2
    assert divergence == pytest.approx(math.log(2))


# ---- slicing adversarial networks ------------------------------------------------------------------------


def test_the_direction_turns_to_where_the_means_differ_most() -> None:
    """Its fixed point is the difference of the features' means, whatever the objective: there it is metrizable."""
    torch.manual_seed(3)
    real, made = torch.randn(500, 4, generator=draws()), torch.randn(500, 4, generator=draws(1))
    real = real + torch.tensor([2.0, -1.0, 0.0, 0.5])
    head = SlicingHead(4)
    loss = objectives.saned(objectives.HINGE, head)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        loss(real, made).backward()
        optimizer.step()
    apart = real.mean(0) - made.mean(0)
    found = nn.functional.normalize(head.weight.detach(), dim=0)
    torch.testing.assert_close(found, apart / apart.norm(), atol=1e-3, rtol=0)


def test_features_learn_by_the_objective_and_the_direction_by_wasserstein() -> None:
    torch.manual_seed(4)
    head = SlicingHead(3)
    real, made = (torch.randn(6, 3, generator=draws(i), requires_grad=True) for i in range(2))
    by_features = torch.autograd.grad(objectives.saned(objectives.HINGE, head)(real, made), (real, made, head.weight))
    logits = objectives.HINGE.discriminator(head(real), head(made))
    expected = torch.autograd.grad(logits, (real, made), retain_graph=True)
    torch.testing.assert_close(by_features[:2], expected)
    (direction,) = torch.autograd.grad(head(made).mean() - head(real).mean(), head.weight)
    torch.testing.assert_close(by_features[2], direction)


# ---- the rest --------------------------------------------------------------------------------------------


def test_mmd_is_that_of_its_definition_and_repulsion_is_its_difference_within() -> None:
    real, made = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0]])

    def k(d: float) -> float:
        return math.exp(-d * d / 2)

    across = (k(0) + k(2) + k(1) + k(1)) / 4
    assert float(objectives.mmd(real, made)) == pytest.approx(k(1) + k(2) - 2 * across)
    assert float(objectives.repulsive_mmd(real, made)) == pytest.approx(k(1) - k(2))


def test_r1_of_a_linear_discriminator_is_its_squared_slope() -> None:
    slope = torch.tensor([3.0, 4.0], requires_grad=True)
    penalty = objectives.r1_penalty(lambda x: x @ slope, torch.randn(5, 2, generator=draws()), gamma=2.0)
    assert penalty.item() == pytest.approx(25)
    (gradient,) = torch.autograd.grad(penalty, slope)
    torch.testing.assert_close(gradient, 2 * slope.detach())


def test_the_matching_penalty_is_a_power_of_both_slopes_together() -> None:
    """D = <a, x> + <b, s> has the slopes a and b anywhere: 2 (|a|^2 + |b|^2)^3, whose gradient in a is 12 (.)^2 a."""
    a, b = torch.tensor([1.0, -0.5], requires_grad=True), torch.tensor([0.5])
    x, s = torch.randn(5, 2, generator=draws()), torch.randn(5, 1, generator=draws())
    penalty = objectives.matching_penalty(lambda images, sentences: images @ a + sentences @ b, x, s)
    assert penalty.item() == pytest.approx(2 * 1.5**3)
    (gradient,) = torch.autograd.grad(penalty, a)
    torch.testing.assert_close(gradient, 12 * 1.5**2 * a.detach())
    other = objectives.matching_penalty(lambda x, s: x @ a + s @ b, x, s, weight=3, power=2)
    assert other.item() == pytest.approx(3 * 1.5)


def test_clipped_weights_lie_within_the_limit() -> None:
    network = nn.Linear(3, 3)
    with torch.no_grad():
        network.weight.copy_(torch.arange(-4.0, 5).view(3, 3) / 100)
    objectives.clip_weights(network, 0.02)
    assert float(network.weight.abs().max().detach()) == pytest.approx(0.02) and network.weight[1, 1] == 0


def test_feature_matching_sees_means_alone() -> None:
    assert float(objectives.feature_matching(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0]]))) == 0
    assert float(objectives.feature_matching(torch.tensor([[0.0, 3.0]]), torch.tensor([[4.0, 0.0]]))) == 25


def test_the_historical_average_pulls_back_to_the_mean_of_the_past() -> None:
    weight = torch.tensor([1.0], requires_grad=True)
    history = objectives.HistoricalAverage([weight])
    assert float(history.penalty()) == 0
    for value in (1.0, 3.0):
        weight.data.fill_(value)
        history.update()
    weight.data.fill_(5.0)
    assert float(history.penalty()) == pytest.approx(9)
    assert float(torch.autograd.grad(history.penalty(), weight)[0]) == pytest.approx(6)


def test_packs_hold_samples_side_by_side() -> None:
    samples = torch.arange(12.0).view(4, 3)
    assert torch.equal(objectives.packed(samples, 2), torch.arange(12.0).view(2, 6))
    assert objectives.packed(torch.zeros(4, 3, 8, 8), 2).shape == (2, 6, 8, 8)
    with pytest.raises(ValueError, match="packs of 3"):
        objectives.packed(samples, 3)


def test_instance_noise_is_gone_at_the_end() -> None:
    samples = torch.zeros(20_000)
    assert torch.equal(objectives.noised(samples, 1.0), samples)
    assert float(objectives.noised(samples, 0.5, 0.2).std()) == pytest.approx(0.1, rel=0.05)


def test_minibatch_layers_tell_a_collapsed_batch() -> None:
    torch.manual_seed(0)
    layer, features = objectives.MinibatchDiscrimination(4), torch.randn(6, 4, generator=draws())
    same = layer(features[:1].expand(6, 4))
    torch.testing.assert_close(same[:, 4:], torch.full((6, 16), 5.0))
    assert (layer(features)[:, 4:] < 5).all() and torch.equal(layer(features)[:, :4], features)
    deviation = objectives.MinibatchDeviation()
    assert deviation(features[:1].expand(6, 4))[:, 4].abs().max() < 1e-6
    assert deviation(features)[0, 4] == pytest.approx(float(features.std(0, correction=0).mean()))


def test_virtual_batch_norm_does_not_see_the_batch() -> None:
    reference = 3 + 2 * torch.randn(400, 5, generator=draws())
    layer = objectives.VirtualBatchNorm(reference)
    one, rest = torch.randn(1, 5, generator=draws(1)), 100 * torch.randn(7, 5, generator=draws(2))
    torch.testing.assert_close(layer(torch.cat([one, rest]))[:1], layer(one))
    found = layer(reference)
    assert found.mean(0).abs().max() < 0.1 and (found.std(0) - 1).abs().max() < 0.1


def test_an_unrolled_discriminator_is_the_one_some_steps_ahead_and_gradients_flow_through() -> None:
    """D(x) = w x, Wasserstein: w grows by rate (E real - E made) a step; the generator feels that it makes it grow."""
    critic = nn.Linear(1, 1, bias=False)
    nn.init.constant_(critic.weight, 0.5)
    real, made = torch.tensor([[2.0]]), torch.tensor([[1.0]], requires_grad=True)

    def loss(logits: Callable[[Tensor], Tensor]) -> Tensor:
        return objectives.WASSERSTEIN.discriminator(logits(real), logits(made))

    ahead = objectives.unrolled(critic, loss, steps=2, rate=0.1)
    assert float(ahead(torch.tensor([[1.0]]))) == pytest.approx(0.5 + 2 * 0.1 * (2 - 1))
    (slope,) = torch.autograd.grad(-ahead(made).mean(), made)
    # -(w + 2 rate (2 - x)) x, derived: -(w + 2 rate (2 - 2 x)) at x = 1.
    assert float(slope) == pytest.approx(-0.5)
    assert float(critic.weight.detach()) == 0.5
