import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.latents.spaces import (
    LatentSpace,
    MappedSphereSpace,
    PlainWSpace,
    SphereSpace,
    TruncatedNormalSpace,
    WPlusSpace,
    WSpace,
    WStatistics,
    normal_per_seed,
    project_to_ball,
    seeded,
    style_spaces,
    w_statistics,
)
from tests.engine.toys import numbers

Z_DIM, W_DIM = 16, 12
MIXING = numbers(Z_DIM, W_DIM, seed=9).float() * torch.logspace(0, -1.5, W_DIM)


def mapping(z: Tensor) -> Tensor:
    """A mapping network whose w has a mean, correlations and a spread of 30 between its directions."""
    return F.leaky_relu(z @ MIXING, 0.2) + torch.linspace(-1, 1, W_DIM)


def linear_mapping(z: Tensor) -> Tensor:
    return z @ MIXING + 0.5


def w_space(network: Callable[[Tensor], Tensor] = mapping) -> WSpace:
    return WSpace(network, Z_DIM, w_statistics(network, Z_DIM, samples=4000))


SPACES: dict[str, LatentSpace] = {
    "sphere": SphereSpace(64),
    "mapped sphere": MappedSphereSpace(Z_DIM, mapping=mapping, mean=torch.zeros(W_DIM)),
    "truncated normal": TruncatedNormalSpace(64),
    "w": w_space(),
    "w plain": PlainWSpace(w_space()),
    "w+": WPlusSpace(w_space(), layers=5),
}


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> LatentSpace:
    return SPACES[request.param]


class TestEverySpace:
    def test_a_particle_depends_on_its_own_seed_only(self, space: LatentSpace):
        assert torch.equal(space.sample([5, 7, 11])[1:2], space.sample([7]))
        assert not torch.equal(space.sample([5]), space.sample([7]))

    def test_samples_have_the_shape_and_are_where_they_may_be(self, space: LatentSpace):
        latents = space.sample(range(20))
        assert latents.shape == (20, *space.shape)
        torch.testing.assert_close(space.constrain(latents), latents)

    def test_constrain_is_a_projection(self, space: LatentSpace):
        far = 7 * space.sample(range(10))
        inside = space.constrain(far)
        assert not torch.allclose(inside, far)
        torch.testing.assert_close(space.constrain(inside), inside)

    def test_scale_is_the_typical_length_of_a_latent(self, space: LatentSpace):
        lengths = space.sample(range(500)).flatten(1).norm(dim=1)
        # W's samples lose up to 5 % of their outermost to `constrain`.
        assert lengths.square().mean().sqrt().item() == pytest.approx(space.scale, rel=0.1)

    def test_the_prior_pulls_to_the_mean(self, space: LatentSpace):
        latents = space.sample(range(10))
        assert (space.log_prior(latents) < space.log_prior(0.5 * latents)).all()
        assert space.log_prior(latents).shape == (10,)

    def test_decode_is_differentiable(self, space: LatentSpace):
        latents = space.sample(range(3)).requires_grad_()
        (gradient,) = torch.autograd.grad(space.decode(latents).square().sum(), latents)
        assert (gradient.flatten(1).norm(dim=1) > 0).all()

    def test_truncation_never_widens(self, space: LatentSpace):
        narrow = space.truncated(0.5)
        spread = narrow.sample(range(200)).flatten(1).norm(dim=1).mean()
        assert spread <= space.sample(range(200)).flatten(1).norm(dim=1).mean() * 1.0001
        assert narrow.shape == space.shape


@pytest.mark.parametrize("name", ["sphere", "truncated normal", "w", "w+"])
def test_the_priors_gradient_is_as_long_as_the_latent_in_white_coordinates(name: str):
    latents = SPACES[name].sample(range(100)).requires_grad_()
    (gradient,) = torch.autograd.grad(SPACES[name].log_prior(latents).sum(), latents)
    torch.testing.assert_close(gradient, -latents)


def test_sphere_latents_stay_on_the_shell():
    space = SphereSpace(64)
    for latents in (space.sample(range(4)), space.constrain(100 * numbers(4, 64))):
        torch.testing.assert_close(latents.norm(dim=1), torch.full((4,), 8.0).to(latents))


def test_truncation_in_z_is_the_lerp_of_w_to_the_mean():
    mean = torch.linspace(0, 1, W_DIM)
    space = MappedSphereSpace(Z_DIM, mapping=mapping, mean=mean)
    z = space.sample(range(5))
    torch.testing.assert_close(space.truncated(0.25).decode(z), mean + 0.25 * (mapping(z) - mean))
    assert torch.equal(space.truncated(0.25).sample(range(5)), z)


def test_truncated_normal_has_the_variance_of_its_closed_form():
    """For limit 2: 1 - 4 pdf(2) / (2 cdf(2) - 1) = .7737."""
    space = TruncatedNormalSpace(1000)
    samples = space.sample(range(50))
    assert samples.abs().amax() <= 2
    assert space.scale == pytest.approx(math.sqrt(1000 * 0.77374), rel=1e-4)
    # 50,000 numbers: the standard error of the variance is .4 %.
    assert samples.square().mean().item() == pytest.approx(0.77374, rel=0.02)
    assert space.truncated(0.25).sample(range(5)).abs().amax() <= 0.5


def test_whitened_samples_have_mean_zero_and_covariance_one():
    statistics = w_statistics(mapping, Z_DIM, samples=4000, seed=3)
    z = torch.randn(4000, Z_DIM, generator=seeded("w_statistics", 3))
    u = statistics.whiten(mapping(z)).double()
    torch.testing.assert_close(u.mean(0), torch.zeros(W_DIM).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(u.T.cov(correction=0), torch.eye(W_DIM).double(), atol=1e-3, rtol=0)
    assert (u.norm(dim=1) <= statistics.radius * math.sqrt(W_DIM)).double().mean() == pytest.approx(0.95, abs=1e-3)


def test_the_covariance_is_that_of_the_samples_themselves():
    """Mean of the squares, not of n - 1 of them: with 40 samples the difference is 2.5 %.

    In float64, over the very samples: whitened they have covariance one, their extremes are low and high, and 95 % of
    them lie within the radius.
    """
    statistics = w_statistics(lambda z: mapping(z).double(), Z_DIM, samples=40, seed=3)
    w = mapping(torch.randn(40, Z_DIM, generator=seeded("w_statistics", 3))).double()
    centred = w - w.mean(0)
    torch.testing.assert_close(statistics.mean, w.mean(0))
    torch.testing.assert_close(statistics.factor @ statistics.factor.T, centred.T @ centred / 40)
    torch.testing.assert_close(statistics.whiten(w).square().mean(0), torch.ones(W_DIM).double())
    assert torch.equal(statistics.low, w.amin(0)) and torch.equal(statistics.high, w.amax(0))
    lengths = statistics.whiten(w).norm(dim=1) / math.sqrt(W_DIM)
    assert statistics.radius == pytest.approx(lengths.quantile(0.95).item())


def test_statistics_do_not_depend_on_how_many_are_mapped_at_once():
    """And their z are those of the seed: 2,500 samples are mapped in three parts."""
    parts: list[Tensor] = []

    def noted(z: Tensor) -> Tensor:
        parts.append(z)
        return mapping(z)

    statistics = w_statistics(noted, Z_DIM, samples=2500, seed=1)
    assert [len(part) for part in parts] == [1000, 1000, 500]
    z = torch.randn(2500, Z_DIM, generator=seeded("w_statistics", 1))
    assert torch.equal(torch.cat(parts), z)
    torch.testing.assert_close(statistics.mean, mapping(z).mean(0), atol=1e-5, rtol=1e-5)


def test_directions_have_a_sign_and_an_order():
    """The largest entry of each column is positive, so that a kept u means the same on every machine; the last varies
    most. Directions below a millionth of its variance are left out."""
    for seed in range(5):
        factor = w_statistics(mapping, Z_DIM, samples=300, seed=seed).factor
        largest = factor.gather(0, factor.abs().argmax(0, keepdim=True))
        assert (largest > 0).all()
        assert (factor.norm(dim=0).diff() > 0).all()
    for spread, kept in ((1.5e-3, 2), (0.7e-3, 1)):
        scales = torch.tensor([1.0, spread])
        assert w_statistics(scales.mul, 2, samples=2000).factor.shape == (2, kept)


@pytest.mark.parametrize("kind", ["w", "w plain", "w+"])
def test_each_z_is_mapped_alone(kind: str):
    """A batched product may round differently: here the mapping even says how many it was asked for."""

    def counting(z: Tensor) -> Tensor:
        return mapping(z) + 0.01 * (len(z) - 1)

    whitened = WSpace(counting, Z_DIM, w_space().statistics)
    of_kind: dict[str, LatentSpace] = {
        "w": whitened,
        "w plain": PlainWSpace(whitened),
        "w+": WPlusSpace(whitened, layers=3),
    }
    chosen = of_kind[kind]
    together = chosen.sample([5, 7, 11])
    for i, seed in enumerate((5, 7, 11)):
        assert torch.equal(together[i : i + 1], chosen.sample([seed]))
    assert torch.equal(together, replace_mapping(chosen).sample([5, 7, 11]))


def replace_mapping(space: LatentSpace) -> LatentSpace:
    """The same space around the plain mapping."""
    if isinstance(space, WSpace):
        return WSpace(mapping, Z_DIM, space.statistics)
    assert isinstance(space, PlainWSpace | WPlusSpace)
    return replace(space, whitened=WSpace(mapping, Z_DIM, space.whitened.statistics))


def test_whitening_is_undone_by_colouring():
    statistics = w_space().statistics
    w = mapping(numbers(7, Z_DIM).float())
    torch.testing.assert_close(statistics.colour(statistics.whiten(w)), w, atol=1e-5, rtol=1e-5)


def test_a_covariance_of_low_rank_leaves_out_the_directions_that_do_not_vary():
    statistics = w_statistics(lambda z: torch.cat([z, z[:, :3], torch.ones(len(z), 2)], dim=1), 5, samples=500)
    assert statistics.factor.shape == (10, 5)
    w = torch.cat([torch.arange(5.0), torch.arange(3.0), torch.ones(2)])
    torch.testing.assert_close(statistics.colour(statistics.whiten(w)), w)


def test_w_samples_are_the_mappings_own():
    """Within the ball and the range, decode(sample(seed)) is mapping(z) for the z of that seed."""
    space = w_space(linear_mapping)
    seeds = range(30)
    w = linear_mapping(normal_per_seed((Z_DIM,), purpose="z", seeds=seeds))
    decoded = space.decode(space.sample(seeds))
    inside = space.statistics.whiten(w).norm(dim=1) <= space.radius
    inside &= ((w >= space.statistics.low) & (w <= space.statistics.high)).all(1)
    assert inside.sum() > 20
    torch.testing.assert_close(decoded[inside], w[inside], atol=1e-5, rtol=1e-4)


def test_truncation_in_w_is_the_lerp_to_the_mean():
    space = w_space(linear_mapping)
    full, half = (
        space.decode(space.sample(range(9))),
        space.truncated(0.5).decode(space.truncated(0.5).sample(range(9))),
    )
    torch.testing.assert_close(half, torch.lerp(space.statistics.mean, full, 0.5), atol=1e-5, rtol=1e-5)


def test_truncation_draws_the_limits_of_w_together():
    space = w_space()
    far = torch.full((1, *space.shape), 100.0)
    torch.testing.assert_close(space.truncated(0.5).constrain(far), 0.5 * space.constrain(far))


def test_w_prior_is_the_mahalanobis_distance():
    space = w_space()
    plain = PlainWSpace(space)
    latents = plain.sample(range(6))
    covariance = (space.statistics.factor @ space.statistics.factor.T).double()
    offset = (plain.decode(latents) - space.statistics.mean).double()
    expected = -0.5 * (offset * torch.linalg.solve(covariance, offset.T).T).sum(1)
    torch.testing.assert_close(plain.log_prior(latents).double(), expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(space.log_prior(space.sample(range(6))).double(), expected, atol=1e-3, rtol=1e-3)


def test_plain_w_is_constrained_to_the_same_ellipsoid():
    space = w_space()
    plain = PlainWSpace(space)
    far = plain.constrain(50 * plain.sample(range(5)))
    distance = space.statistics.whiten(space.statistics.mean + far).norm(dim=1)
    torch.testing.assert_close(distance, torch.full((5,), space.radius), rtol=1e-4, atol=0)


def test_w_plus_starts_with_equal_layers_and_limits_each():
    space = SPACES["w+"]
    latents = space.sample([4])
    assert torch.equal(latents, latents[:, :1].expand_as(latents))
    latents[:, 2] *= 100
    constrained = space.constrain(latents)
    assert torch.equal(constrained[:, 0], latents[:, 0])
    assert constrained[:, 2].norm() < latents[:, 2].norm()
    assert space.decode(latents).shape == (1, 5, W_DIM)


def test_truncated_normal_samples_are_quantiles_of_their_draws():
    """Phi(z), stretched from [Phi(-limit), Phi(limit)] to [0, 1], is the uniform number that was drawn."""
    for limit in (2.0, 0.5):
        space = TruncatedNormalSpace(1000, limit)
        z = space.sample([3])[0].double()
        stretched = torch.erf(z / math.sqrt(2)) / math.erf(limit / math.sqrt(2))
        drawn = torch.rand(1000, generator=seeded("z", 3, 0), dtype=torch.float64)
        torch.testing.assert_close((1 + stretched) / 2, drawn, atol=1e-6, rtol=0)
        assert space.sample([3]).dtype == torch.float32


def test_truncated_normals_scale_for_any_limit():
    """The root of K times the variance, by integration over 200,001 points."""
    for limit in (0.5, 1.0, 2.0, 3.0):
        z = torch.linspace(-limit, limit, 200_001, dtype=torch.float64)
        density = torch.exp(-0.5 * z.square())
        variance = (density * z.square()).sum() / density.sum()
        assert TruncatedNormalSpace(7, limit).scale == pytest.approx(math.sqrt(7 * variance.item()), rel=1e-4)
        assert TruncatedNormalSpace(7, limit).constrain(torch.tensor([[-9.0, 9.0]])).tolist() == [[-limit, limit]]


@pytest.mark.parametrize("name", ["mapped sphere", "truncated normal", "w", "w plain", "w+"])
def test_truncating_twice_multiplies(name: str):
    """psi .5 of psi .5 is psi .25, in samples and in what is decoded."""
    twice, once = SPACES[name].truncated(0.5).truncated(0.5), SPACES[name].truncated(0.25)
    latents = once.sample(range(4))
    assert torch.equal(twice.sample(range(4)), latents)
    assert torch.equal(twice.decode(latents), once.decode(latents))


def test_a_style_space_for_each_domain():
    """Of its own statistics and its own head."""

    def to_domain(z: Tensor, domain: int) -> Tensor:
        return mapping(z) * (1 + domain)

    spaces = style_spaces(to_domain, Z_DIM, 2)
    assert [space.name for space in spaces] == ["style 0", "style 1"]
    for domain, space in enumerate(spaces):
        expected = w_statistics(partial(to_domain, domain=domain), Z_DIM)
        assert torch.equal(space.statistics.mean, expected.mean)
        assert torch.equal(space.mapping(MIXING.T), to_domain(MIXING.T, domain))


def test_the_prior_of_w_plus_counts_all_layers():
    latents = SPACES["w+"].sample([1, 2])
    torch.testing.assert_close(SPACES["w+"].log_prior(latents), 5 * SPACES["w"].log_prior(latents[:, 0]))
    assert SPACES["w+"].scale == pytest.approx(math.sqrt(5 * W_DIM))


def test_plain_w_is_w_from_its_mean():
    """What it decodes is the whitened space's, direction by direction."""
    space = w_space()
    plain = PlainWSpace(space)
    assert plain.shape == (W_DIM,)
    torch.testing.assert_close(plain.decode(plain.sample(range(5))), space.decode(space.sample(range(5))))
    assert plain.scale == pytest.approx(math.sqrt(torch.trace(space.statistics.factor @ space.statistics.factor.T)))


def test_latents_are_drawn_for_the_device_of_the_model():
    for space in (SphereSpace(4, "meta"), TruncatedNormalSpace(4, device="meta")):
        assert space.sample([1, 2]).is_meta
    statistics = w_space().statistics
    moved = replace(
        statistics, **{name: getattr(statistics, name).to("meta") for name in ("mean", "factor", "low", "high")}
    )
    assert WSpace(lambda z: z[:, :W_DIM], Z_DIM, moved).sample([1]).is_meta


def test_normal_numbers_depend_on_purpose_seed_and_step():
    draws = normal_per_seed((3,), purpose="a", seeds=[1, 2])
    assert draws.shape == (2, 3)
    assert torch.equal(draws[1], torch.randn(3, generator=seeded("a", 2, 0)))
    assert torch.equal(
        normal_per_seed((3,), purpose="a", seeds=[2], step=4)[0], torch.randn(3, generator=seeded("a", 2, 4))
    )


def test_project_to_ball_shortens_only_what_is_too_long():
    vectors = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    expected = torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(project_to_ball(vectors, 1.0), expected)


def test_seeded_streams_differ_by_purpose_seed_and_step():
    draws = {
        torch.rand((), generator=seeded(*key)).item() for key in [("a", 1, 2), ("b", 1, 2), ("a", 2, 1), ("a", 1, 3)]
    }
    assert len(draws) == 4
    assert torch.rand((), generator=seeded("a", 1, 2)).item() in draws


def test_w_stays_in_the_range_of_the_samples():
    space = w_space()
    low, high = space.statistics.low, space.statistics.high
    w = space.decode(50 * space.sample(range(20)))
    assert (w >= low).all() and (w <= high).all()
    half = space.truncated(0.5).decode(50 * space.sample(range(20)))
    mean = space.statistics.mean
    assert (half >= mean + 0.5 * (low - mean) - 1e-6).all() and (half <= mean + 0.5 * (high - mean) + 1e-6).all()


def test_outside_of_the_range_only_the_way_back_has_a_gradient():
    """At the bounds -1 and 1: upwards from -2 and downwards from 2 leads back in, the opposite does not."""
    statistics = WStatistics(torch.zeros(3), torch.eye(3), 1.0, torch.full((3,), -1.0), torch.ones(3))
    for cotangent, expected in ((1.0, [1.0, 1.0, 0.0]), (-1.0, [0.0, -1.0, -1.0])):
        w = torch.tensor([-2.0, 0.3, 2.0], requires_grad=True)
        (gradient,) = torch.autograd.grad((statistics.into_range(w, 1.0) * cotangent).sum(), w)
        assert gradient.tolist() == expected
