import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.inference import kernels
from engine.inference.terms import (
    AugmentedFeatures,
    Batch,
    DataDensity,
    LatentPrior,
    Matching,
    NoisyFeatures,
    Realism,
    References,
    Repulsion,
    Stage,
    Term,
    TextLikelihood,
    random_view,
)
from engine.latents.spaces import SphereSpace, seeded
from engine.settings import Estimator
from tests.engine.toys import FEATURES, LATENT, SIDE, ToyTower, numbers

TOWER = ToyTower()
TEXT = F.normalize(numbers(FEATURES, seed=3), dim=0)
CONTRAST = F.normalize(numbers(3, FEATURES, seed=4), dim=1)
REFERENCES = F.normalize(numbers(6, FEATURES, seed=5), dim=1)


def logit(images: Tensor) -> Tensor:
    return (images.flatten(1) * numbers(images[0].numel(), seed=8)).sum(1, keepdim=True)


class ToyMatcher:
    """Features are pictures; a sentence is two numbers, one of them of the brightness, the other of the contrast."""

    def __call__(self, images: Tensor) -> Tensor:
        return images

    def match(self, features: Tensor, sentences: Tensor) -> Tensor:
        seen = torch.stack([features.mean((1, 2, 3)), features.square().mean((1, 2, 3))], dim=1)
        return (seen * sentences.sin()).sum(1, keepdim=True)


def first_two(latents: Tensor) -> Tensor:
    return latents[:, :2]


TERMS: dict[str, Term] = {
    "repulsion krr": Repulsion(TOWER),
    "matching": Matching(ToyMatcher(), first_two),
    "repulsion kde": Repulsion(TOWER, estimator="kde", bandwidth="median"),
    "repulsion with a fixed eta": Repulsion(TOWER, bandwidth=1.0, eta=0.1),
    "repulsion stein": Repulsion(TOWER, estimator="stein", bandwidth=0.5, eta=0.2),
    "repulsion mollified": Repulsion(TOWER, mollifier=0.7),
    "repulsion by what was seen": Repulsion(TOWER, REFERENCES),
    "repulsion stein by what was seen": Repulsion(TOWER, REFERENCES, estimator="stein", bandwidth=0.5, eta=0.2),
    "repulsion by what was seen mollified in image space": Repulsion(
        TOWER, REFERENCES, mollifier=0.1, mollifier_space="image"
    ),
    "repulsion mollified in image space": Repulsion(TOWER, mollifier=0.1, mollifier_space="image"),
    "repulsion stein mollified in image space": Repulsion(
        TOWER, estimator="stein", bandwidth=0.5, eta=0.2, mollifier=0.1, mollifier_space="image"
    ),
    "data": DataDensity(TOWER, References(REFERENCES)),
    "data kde": DataDensity(TOWER, References(REFERENCES), estimator="kde", bandwidth=0.4),
    "data stein": DataDensity(TOWER, References(REFERENCES), estimator="stein", bandwidth="median", eta=1.0),
    "data mollified": DataDensity(TOWER, References(REFERENCES), mollifier=0.7),
    "data mollified in image space": DataDensity(TOWER, References(REFERENCES), mollifier=0.1, mollifier_space="image"),
    "text": TextLikelihood(TOWER, TEXT),
    "text with contrast": TextLikelihood(TOWER, TEXT, contrast=CONTRAST, logit_scale=5.0),
    "text with cutouts": TextLikelihood(TOWER, TEXT, cutouts=3),
    "realism": Realism(logit),
    "prior": LatentPrior(SphereSpace(LATENT)),
}


def batch(n: int = 5, *, step: int = 0, chunk: int | None = None) -> Batch:
    images = numbers(n, 3, SIDE, SIDE, seed=6).tanh()
    return Batch(numbers(n, LATENT, seed=7), images, step=step, chunk=chunk)


@pytest.fixture(params=TERMS)
def term(request: pytest.FixtureRequest) -> Term:
    return TERMS[request.param]


def gradients(term: Term, among: Batch) -> tuple[Tensor, Tensor]:
    (by_images,), (by_latents,) = among.gradients([term.log_value(among)])
    return by_images, by_latents


class TestEveryTerm:
    def test_one_finite_value_per_particle(self, term: Term):
        for n in (1, 5):
            value = term.log_value(batch(n))
            assert value.shape == (n,)
            assert value.isfinite().all()

    def test_order_of_the_particles_does_not_matter(self, term: Term):
        whole, order = batch(), torch.tensor([3, 1, 0, 4, 2])
        shuffled = Batch(whole.latents[order], whole.images[order])
        torch.testing.assert_close(term.log_value(shuffled), term.log_value(whole)[order])
        for shuffled_gradient, gradient in zip(gradients(term, shuffled), gradients(term, whole), strict=True):
            torch.testing.assert_close(shuffled_gradient, gradient[order])

    @pytest.mark.parametrize("chunk", [1, 2, 5])
    def test_chunks_equal_the_whole(self, term: Term, chunk: int):
        torch.testing.assert_close(term.log_value(batch(chunk=chunk)), term.log_value(batch()))
        for chunked, whole in zip(gradients(term, batch(chunk=chunk)), gradients(term, batch()), strict=True):
            torch.testing.assert_close(chunked, whole)

    def test_gradients_are_also_found_by_a_caller_without_gradients(self, term: Term):
        """Networks run with a graph whatever the surroundings; only log_value is the caller's to enable."""
        expected = gradients(term, batch())[0]
        with torch.no_grad():
            among = batch()
            with torch.enable_grad():
                value = term.log_value(among)
            torch.testing.assert_close(among.gradients([value])[0][0], expected)


@pytest.mark.parametrize("name", [name for name in TERMS if not name.startswith("repulsion")])
def test_gradients_are_those_of_finite_differences(name: str):
    """Value i depends on particle i alone, so all particles can be moved at once."""
    term, whole = TERMS[name], batch()
    by_images, by_latents = gradients(term, whole)
    to_images, to_latents = numbers(5, 3, SIDE, SIDE, seed=11), numbers(5, LATENT, seed=12)
    slope = (by_images * to_images).sum((1, 2, 3)) + (by_latents * to_latents).sum(1)
    e = 1e-5
    ahead = Batch(whole.latents + e * to_latents, whole.images + e * to_images)
    behind = Batch(whole.latents - e * to_latents, whole.images - e * to_images)
    change = (term.log_value(ahead) - term.log_value(behind)) / (2 * e)
    torch.testing.assert_close(slope, change, rtol=1e-6, atol=1e-8)  # e^2, and rounding / e


def held_repulsion(term: Repulsion, features: Tensor, held: Tensor) -> Tensor:
    """A_i at `features` [N, D] by Eq. 4 written out, anchors, weights and bandwidth taken from `held`."""
    squares = (held[:, None] - held[None]).square().sum(2)
    h = kernels.choose_bandwidth(squares, term.bandwidth)
    kernel = (-squares / h).exp()
    eta = max(1e-3, (kernel.sum(1) - 1).max().item() - 1) if term.eta == "positive" else float(term.eta)
    alpha = torch.linalg.inv(kernel + eta * torch.eye(len(held))) @ torch.ones(len(held)).double()
    alpha = alpha if term.estimator == "krr" else torch.ones_like(alpha)
    return ((-(features[:, None] - held[None]).square().sum(2) / h).exp() @ alpha).log()


@pytest.mark.parametrize("name", ["repulsion krr", "repulsion kde", "repulsion with a fixed eta"])
def test_repulsion_moves_each_particle_among_constants(name: str):
    """The gradient of the written-out density in which only f_i varies, carried to the images."""
    term = TERMS[name]
    assert isinstance(term, Repulsion)
    images = batch().images.detach().requires_grad_()
    features = TOWER(images)
    value = held_repulsion(term, features, features.detach())
    torch.testing.assert_close(term.log_value(batch()), value)
    torch.testing.assert_close(gradients(term, batch())[0], torch.autograd.grad(value.sum(), images)[0])


@pytest.mark.parametrize("estimator", ["krr", "kde", "stein"])
def test_what_was_seen_repels_as_particles_do(estimator: Estimator) -> None:
    """Half of a batch beside the other half's features: the values and gradients of the half in the whole batch."""
    whole = batch()
    half = Batch(whole.latents[:2], whole.images[:2])
    alone = Repulsion(TOWER, TOWER(whole.images[2:]).detach(), estimator=estimator)
    joint = Repulsion(TOWER, estimator=estimator)
    torch.testing.assert_close(alone.log_value(half), joint.log_value(whole)[:2])
    torch.testing.assert_close(
        gradients(alone, Batch(whole.latents[:2], whole.images[:2]))[0], gradients(joint, batch())[0][:2]
    )


def test_repulsion_with_a_single_sample_of_no_noise_is_the_plain_one():
    plain = Repulsion(TOWER).log_value(batch())
    sampled = Repulsion(TOWER, mollifier=1e-9, mollifier_space="image", mollifier_samples=1).log_value(batch())
    torch.testing.assert_close(sampled, plain, atol=1e-6, rtol=0)  # the noise moves features by 1e-8


def test_image_space_mollifier_is_the_closed_form_where_features_are_pixels():
    """Features = the first two pixels: noise s in pixels equals a feature-space mollifier of s / sqrt(h)."""

    def two_pixels(images: Tensor) -> Tensor:
        return images.flatten(1)[:, :2]

    h, s = 0.5, 0.3
    sampled = Repulsion(
        two_pixels, estimator="kde", bandwidth=h, mollifier=s, mollifier_space="image", mollifier_samples=20_000
    ).log_value(batch())
    closed = Repulsion(two_pixels, estimator="kde", bandwidth=h, mollifier=s / math.sqrt(h)).log_value(batch())
    prefactor = math.log(1 + 2 * s * s / h)  # (1 + 2 s^2 / h)^(-D / 2) with D = 2, dropped by the closed form
    torch.testing.assert_close(sampled, closed - prefactor, atol=0.02, rtol=0)  # standard error .004


def test_stein_repulsion_has_the_estimated_score_as_its_gradient():
    term = Repulsion(lambda images: images.flatten(1)[:, :2], estimator="stein", bandwidth=0.5, eta=0.2)
    f = batch().images.detach().flatten(1)[:, :2]
    squares = (f[:, None] - f[None]).square().sum(2)
    kernel = (-squares / 0.5).exp()
    pushes = torch.stack([(2 / 0.5 * kernel[i][:, None] * (f[i] - f)).sum(0) for i in range(5)])
    expected = -torch.linalg.inv(kernel + 0.2 * torch.eye(5)) @ pushes
    torch.testing.assert_close(gradients(term, batch())[0].flatten(1)[:, :2], expected)


def test_the_value_of_stein_repulsion_is_that_of_the_kernel_density():
    """Stein estimates gradients alone; the value that is reported is KDE's of the same kernel."""
    stein, kde = (Repulsion(TOWER, estimator=estimator, bandwidth=0.5, eta=0.2) for estimator in ("stein", "kde"))
    torch.testing.assert_close(stein.log_value(batch()), kde.log_value(batch()))


def test_stein_repulsion_mollified_in_images_is_that_of_the_wider_kernel():
    """Features = the first two pixels: the average over noise of deviation s is c k', k' of bandwidth
    h' = h + 2 s^2 and c = h / h', in K as in its gradient, so that the score is that of k' with a ridge of eta / c."""

    def two_pixels(images: Tensor) -> Tensor:
        return images.flatten(1)[:, :2]

    h, s, eta = 0.5, 0.3, 0.2
    wide = h + 2 * s * s
    sampled = Repulsion(
        two_pixels,
        estimator="stein",
        bandwidth=h,
        eta=eta,
        mollifier=s,
        mollifier_space="image",
        mollifier_samples=20_000,
    )
    closed = Repulsion(two_pixels, estimator="stein", bandwidth=wide, eta=eta * wide / h)
    expected = gradients(closed, batch())[0]
    # 20,000 samples leave errors below 1 % of the kernel, which a ridge of .2 amplifies to at most five times that.
    torch.testing.assert_close(gradients(sampled, batch())[0], expected, rtol=0.05, atol=0.02)
    plain = gradients(Repulsion(two_pixels, estimator="stein", bandwidth=h, eta=eta), batch())[0]
    assert (plain - expected).norm() > 0.2 * expected.norm()


def test_data_density_pulls_to_a_single_reference():
    """B_i = log beta - |f_i - r|^2 / h with h = 1 for a single reference: grad B_i = -2 (f_i - r)."""

    def pixels(images: Tensor) -> Tensor:
        return images.flatten(1)

    reference = numbers(1, 3 * SIDE * SIDE, seed=9)
    by_images, _ = gradients(DataDensity(pixels, References(reference)), batch())
    torch.testing.assert_close(by_images.flatten(1), -2 * (batch().images.detach().flatten(1) - reference))


def pixel_pair(images: Tensor) -> Tensor:
    return images.flatten(1)[:, :2]


@pytest.mark.parametrize("estimator", ["krr", "kde"])
@pytest.mark.parametrize("mollifier", [0.0, 0.8])
def test_data_density_in_closed_form(estimator: Estimator, mollifier: float):
    """B_i = log sum_j alpha_j exp(-|f_i - r_j|^2 / h), alpha = (K + eta I)^-1 1 or 1, h = .5 (1 + 2 s^2).

    Its gradient is -2/h (f_i - sum_j w_ij r_j), w_ij the share of reference j in the sum.
    """
    references, h = numbers(4, 2, seed=9) / 4, 0.5 * (1 + 2 * mollifier**2)
    term = DataDensity(
        pixel_pair, References(references), estimator=estimator, bandwidth=0.5, eta=0.2, mollifier=mollifier
    )
    among = (-(references[:, None] - references[None]).square().sum(2) / h).exp()
    alpha = torch.linalg.inv(among + 0.2 * torch.eye(4)).sum(1) if estimator == "krr" else torch.ones(4).double()
    f = pixel_pair(batch().images.detach())
    parts = alpha * (-(f[:, None] - references[None]).square().sum(2) / h).exp()
    torch.testing.assert_close(term.log_value(batch()), parts.sum(1).log())
    expected = -2 / h * (f - parts @ references / parts.sum(1, keepdim=True))
    torch.testing.assert_close(pixel_pair(gradients(term, batch())[0]), expected)


def test_the_image_mollifier_averages_the_kernel_over_noisy_particles():
    """B_i = log sum_j alpha_j mean_s exp(-|d(x_i + e_s) - r_j|^2), alpha those of the plain kernel."""
    term = DataDensity(
        TOWER, References(REFERENCES), bandwidth=1.0, eta=0.2, mollifier=0.3, mollifier_space="image", seed=4
    )
    noise = torch.randn((4, 3, SIDE, SIDE), generator=seeded("mollifier", 4, 7)).double()
    kernel = torch.stack([
        (-(TOWER(batch().images + 0.3 * one)[:, None] - REFERENCES[None]).square().sum(2)).exp() for one in noise
    ]).mean(0)  # fmt: skip
    among = (-(REFERENCES[:, None] - REFERENCES[None]).square().sum(2)).exp()
    alpha = torch.linalg.inv(among + 0.2 * torch.eye(6)).sum(1)
    torch.testing.assert_close(term.log_value(batch(step=7)), (kernel @ alpha).log())


def test_where_particles_go_by_steins_estimator_the_data_are_a_kde():
    """It estimates scores of the particles alone; its wide kernel would only draw all to the mean of the data."""
    stein = DataDensity(TOWER, References(REFERENCES), estimator="stein", bandwidth=50.0, eta=1.0)
    kde = DataDensity(TOWER, References(REFERENCES), estimator="kde", bandwidth="nearest")
    assert torch.equal(stein.log_value(batch()), kde.log_value(batch()))


def test_a_density_is_fitted_once_while_its_settings_stay():
    references = References(REFERENCES)
    first = references.fit("krr", "nearest", "positive")
    assert references.fit("krr", "nearest", "positive") is first
    other = references.fit("krr", 0.3, 0.1)
    assert other is not first and float(other.h) == 0.3
    assert not torch.equal(references.fit("krr", 0.3, 0.4).alpha, other.alpha)


def test_text_likelihood_is_the_scaled_cosine():
    features = TOWER(batch().images)
    torch.testing.assert_close(TextLikelihood(TOWER, TEXT).log_value(batch()), 100 * features @ TEXT)


def test_text_likelihood_against_contrast_prompts_is_a_softmax():
    """Against a prompt of the opposite direction: log sigmoid of twice the logit."""
    term = TextLikelihood(TOWER, TEXT, contrast=-TEXT[None], logit_scale=5.0)
    expected = F.logsigmoid(2 * 5.0 * TOWER(batch().images) @ TEXT)
    torch.testing.assert_close(term.log_value(batch()), expected)


def test_cutouts_are_the_mean_over_views():
    generator = seeded("cutouts", 0, 7)
    views = [random_view(batch().images, generator) for _ in range(3)]
    expected = torch.stack([100 * TOWER(view) @ TEXT for view in views]).mean(0)
    torch.testing.assert_close(TextLikelihood(TOWER, TEXT, cutouts=3).log_value(batch(step=7)), expected)


def test_cutouts_are_the_same_for_all_particles_and_new_at_every_step():
    same = batch(1).images.expand(4, -1, -1, -1)
    views = AugmentedFeatures(TOWER, 3, seed=0, step=5)(same)
    torch.testing.assert_close(views, views[:1].expand_as(views))
    assert not torch.allclose(views, AugmentedFeatures(TOWER, 3, seed=0, step=6)(same))
    assert not torch.allclose(views, AugmentedFeatures(TOWER, 3, seed=1, step=5)(same))
    assert torch.equal(views, AugmentedFeatures(TOWER, 3, seed=0, step=5)(same))


def test_a_random_view_keeps_flat_pictures_and_small_changes():
    """A picture of one colour has no geometry: only contrast and brightness, each at most 10 %, change it."""
    flat = torch.full((2, 3, 16, 16), 0.5).double()
    for seed in range(20):
        view = random_view(flat, torch.Generator().manual_seed(seed))
        assert view.shape == flat.shape
        torch.testing.assert_close(view, view[:1, :1, :1, :1].expand_as(view))
        assert 0.5 * 0.9 - 0.1 <= view[0, 0, 0, 0] <= 0.5 * 1.1 + 0.1


def seen_by(seed: int) -> tuple[Tensor, Tensor, float, float]:
    """The map of a random view: matrix [2, 2] and shift [2] of the places it looks at, contrast and brightness.

    Pictures of x and y as colours tell where a pixel comes from, black and white ones how colours change.
    """
    side = 33
    line = (2 * torch.arange(side).double() + 1) / side - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    pictures = torch.stack([torch.stack([x, y, 0 * x]), torch.stack([0 * x + 1, 0 * x - 1, 0 * x])])
    places, flat = random_view(pictures, torch.Generator().manual_seed(seed))
    contrast, brightness = (flat[0] - flat[1]).mean() / 2, flat[2].mean()
    inner = (x.abs() < 0.5) & (y.abs() < 0.5)  # no place that the border reflects
    seen = ((places[:2] - brightness) / contrast)[:, inner]
    of = torch.stack([x[inner], y[inner], torch.ones(int(inner.sum())).double()], dim=1)
    found = torch.linalg.lstsq(of, seen.T).solution.T
    return found[:, :2], found[:, 2], contrast.item(), brightness.item()


def test_random_views_are_what_captions_do_not_mention():
    """Over 300 views: a square of 70 to 100 % of the side within the picture, turned by up to 8 degrees, mirrored left
    to right half of the time, contrast .9 to 1.1 and brightness -.1 to .1; and all of these ranges are used."""
    views = [seen_by(seed) for seed in range(300)]
    sides = [matrix.det().abs().sqrt().item() for matrix, *_ in views]
    mirrored = [bool(matrix.det() < 0) for matrix, *_ in views]
    turned = [math.degrees(math.atan2(matrix[1, 0].abs(), matrix[1, 1])) for matrix, *_ in views]
    sides_of_x = [(matrix[0, 0] < 0) == mirror for (matrix, *_), mirror in zip(views, mirrored, strict=True)]
    assert all(sides_of_x) and all(matrix[1, 1] > 0 for matrix, *_ in views)  # never upside down
    assert 0.4 < sum(mirrored) / 300 < 0.6  # three standard deviations
    for values, low, high in (
        (sides, 0.7, 1.0),
        (turned, 0.0, 8.0),
        ([contrast for *_, contrast, _ in views], 0.9, 1.1),
        ([brightness for *_, brightness in views], -0.1, 0.1),
    ):
        tenth = (high - low) / 10
        assert low - 1e-3 * abs(high) <= min(values) < low + tenth
        assert high - tenth < max(values) <= high + 1e-3 * abs(high)
    for (_, shift, *_), side in zip(views, sides, strict=True):
        assert (shift.abs() <= 1 - side + 1e-9).all()
    assert max(shift.abs().max().item() / (1 - side) for (_, shift, *_), side in zip(views, sides, strict=True)) > 0.95


def test_views_of_one_step_differ():
    views = AugmentedFeatures(TOWER, 3, seed=0, step=5)(batch().images)
    assert not torch.allclose(views[:, 0], views[:, 1]) and not torch.allclose(views[:, 1], views[:, 2])


def test_realism_is_the_discriminators_logit():
    """Higher is more real: by neither sign nor scale another number."""
    torch.testing.assert_close(Realism(logit).log_value(batch()), logit(batch().images)[:, 0])


def test_matching_judges_each_picture_with_its_own_sentence():
    among = batch()
    seen = torch.stack([among.images.mean((1, 2, 3)), among.images.square().mean((1, 2, 3))], dim=1)
    value = Matching(ToyMatcher(), first_two).log_value(among)
    torch.testing.assert_close(value, (seen * among.latents[:, :2].sin()).sum(1))


def test_noisy_features_share_their_noise_among_the_particles():
    same = batch(1).images.expand(3, -1, -1, -1)
    noisy = NoisyFeatures(TOWER, sigma=0.5, samples=4, seed=0, step=2)(same)
    assert noisy.shape == (3, 4, FEATURES)
    torch.testing.assert_close(noisy, noisy[:1].expand_as(noisy))
    assert not torch.allclose(noisy[:, 0], noisy[:, 1])


class TestBatch:
    def test_each_extractor_runs_once_whatever_asks(self):
        tower, among = ToyTower(), batch()
        values = [
            Repulsion(tower).log_value(among),
            TextLikelihood(tower, TEXT).log_value(among),
            DataDensity(tower, References(REFERENCES)).log_value(among),
        ]
        among.constant_features(tower)
        among.gradients(values)
        assert tower.calls == [5]

    def test_equal_views_run_once_even_when_terms_are_made_anew(self):
        tower, among = ToyTower(), batch()
        for _ in range(2):
            TextLikelihood(tower, TEXT, cutouts=3).log_value(among)
        assert tower.calls == [5, 5, 5]

    def test_constant_features_have_no_gradient_whoever_asked_before(self):
        asked, fresh = batch(), batch()
        asked.features(TOWER)
        for among in (asked, fresh):
            constants = among.constant_features(TOWER)
            assert not constants.requires_grad
            torch.testing.assert_close(constants, TOWER(among.images.detach()))

    def test_what_it_was_made_of_stays_as_it_was(self):
        latents, images = numbers(2, LATENT), numbers(2, 3, SIDE, SIDE)
        among = Batch(latents, images)
        assert among.latents.requires_grad and among.images.requires_grad
        assert not latents.requires_grad and not images.requires_grad

    def test_gradients_of_several_terms_stay_apart(self):
        terms: list[Callable[[Batch], Tensor]] = [
            Repulsion(TOWER).log_value,
            TextLikelihood(TOWER, TEXT).log_value,
            Realism(logit).log_value,
            LatentPrior(SphereSpace(LATENT)).log_value,
        ]
        among = batch()
        by_images, by_latents = among.gradients([term(among) for term in terms])
        for k, term in enumerate(terms):
            alone = batch()
            (image_part,), (latent_part,) = alone.gradients([term(alone)])
            torch.testing.assert_close(by_images[k], image_part)
            torch.testing.assert_close(by_latents[k], latent_part)
        assert not by_images[3].any()
        assert not by_latents[0].any()
        torch.testing.assert_close(by_latents[3], -among.latents.detach())

    def test_a_value_that_depends_on_nothing_has_no_gradient(self):
        by_images, by_latents = batch().gradients([torch.zeros(5).double()])
        assert not by_images[0].any()
        assert not by_latents[0].any()


@pytest.mark.parametrize("chunk", [None, 1, 2, 4])
def test_stage_pulls_several_cotangents_back(chunk: int | None):
    inputs, cotangents = numbers(4, LATENT), [numbers(4, 2, seed=k) for k in range(3)]

    def function(x: Tensor) -> Tensor:
        return torch.stack([x.square().sum(1), x.sin().prod(1)], dim=1)

    free = inputs.clone().requires_grad_()
    expected = [torch.autograd.grad(function(free), free, cotangent)[0] for cotangent in cotangents]
    stage = Stage(function, inputs, chunk)
    torch.testing.assert_close(stage.output.detach(), function(inputs))
    torch.testing.assert_close(stage.pull_back(cotangents), expected)


def test_stage_frees_its_graph_once_pulled_back():
    stage = Stage(TOWER, batch().images, chunk=None)
    cotangent = torch.ones(5, FEATURES).double()
    stage.pull_back([cotangent, 2 * cotangent])
    with pytest.raises(RuntimeError, match="second time"):
        stage.pull_back([cotangent])


def test_stage_holds_no_more_than_a_chunk():
    tower = ToyTower()
    Stage(tower, batch(7).images, chunk=3).pull_back([torch.ones(7, FEATURES).double()])
    assert tower.calls == [3, 3, 1, 3, 3, 1]
