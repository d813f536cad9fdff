"""The prior of codes: its shapes, its expectation, and the gradient that a code space makes of it."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.codebook import Codebook, CodeSpace
from engine.networks.code_prior import CodePrior, code_prior_from_shapes


def small_prior() -> CodePrior:
    torch.manual_seed(5)
    return CodePrior(7, 3, width=8).double().eval()


def test_a_network_is_built_from_shapes() -> None:
    prior = small_prior()
    twin = code_prior_from_shapes(prior.state_dict()).double()
    twin.load_state_dict(prior.state_dict())
    vectors = torch.randn(2, 3, 8, 4, dtype=torch.float64)
    torch.testing.assert_close(twin(vectors), prior(vectors))
    assert prior(vectors).shape == (2, 7, 8, 4)


def test_inputs_count_in_the_codes_own_units() -> None:
    """Shifting and scaling the vectors with `mean` and `deviation` changes nothing."""
    prior = small_prior()
    vectors = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    before = prior(vectors)
    shift = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    prior.mean.copy_(shift)
    prior.deviation.fill_(3.0)
    torch.testing.assert_close(prior(3 * vectors + shift[:, None, None]), before)


def test_expected_vectors_are_the_softmax_mean_of_the_codes() -> None:
    prior = small_prior()
    codes, vectors = torch.randn(7, 3, dtype=torch.float64), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    weights = prior(vectors).softmax(1)
    wanted = sum(weights[:, v, None] * codes[v].view(1, 3, 1, 1) for v in range(7))
    assert isinstance(wanted, Tensor)
    torch.testing.assert_close(prior.expected(vectors, codes), wanted)


def test_the_gradient_of_the_latent_prior_is_what_repair_changes() -> None:
    """log p = -1/2 |z - D|^2 with D held fixed, so its gradient is D - z, also where D depends on z."""
    codes = torch.randn(5, 3, dtype=torch.float64)

    def repair(grid: Tensor) -> Tensor:
        return 0.5 * grid.roll(1, dims=3) + 1

    space = CodeSpace(Codebook(codes), 2, 2, repair=repair)
    latents = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    vectors = space.vectors(latents)
    grid = vectors.transpose(1, 2).unflatten(2, (2, 2))
    expected = repair(grid).flatten(2).transpose(1, 2)
    value = space.log_prior(latents)
    torch.testing.assert_close(value, -0.5 * (vectors - expected).square().sum((1, 2)))
    (gradient,) = torch.autograd.grad(value.sum(), latents)
    torch.testing.assert_close(gradient, (expected - vectors).detach())


def test_without_repair_the_prior_is_flat() -> None:
    latents = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    value = CodeSpace(Codebook(torch.randn(5, 3, dtype=torch.float64)), 2, 2).log_prior(latents)
    (gradient,) = torch.autograd.grad(value.sum(), latents)
    assert (gradient == 0).all()
