"""Latents of z and a sentence vector: both decoded as their generator takes them, each constrained as its own kind."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from engine.latents.sentences import ReadSpace, SentenceSpace, ToldSpace
from engine.latents.spaces import SphereSpace, TruncatedNormalSpace

DIM, COUNT = 30, 40


def kept(seed: int = 0) -> Tensor:
    """Sentence vectors with a mean and spreads of their own."""
    noise = torch.randn(50, COUNT, generator=torch.Generator().manual_seed(seed))
    return 0.1 * noise * torch.linspace(0.5, 1.5, COUNT) + torch.linspace(-0.5, 0.5, COUNT)


@pytest.fixture
def space() -> SentenceSpace:
    return SentenceSpace.around(DIM, COUNT, kept())


def test_statistics_are_those_of_the_kept_vectors(space: SentenceSpace) -> None:
    torch.testing.assert_close(space.mean, kept().mean(0))
    torch.testing.assert_close(space.spread, (kept() - kept().mean(0)).square().mean(0).sqrt())
    unknown = SentenceSpace.around(DIM, COUNT, None)
    assert torch.equal(unknown.mean, torch.zeros(COUNT)) and torch.equal(unknown.spread, torch.full((COUNT,), 0.15))


def test_a_particle_depends_on_its_own_seed_only(space: SentenceSpace) -> None:
    assert space.sample([5, 7, 11]).shape == (3, *space.shape) == (3, DIM + COUNT)
    assert torch.equal(space.sample([5, 7, 11])[1:2], space.sample([7]))
    assert not torch.equal(space.sample([5])[:, DIM:], space.sample([7])[:, DIM:])


def test_samples_are_where_they_may_be(space: SentenceSpace) -> None:
    """z is BigGAN's, the sentence lies on the shell of a Gaussian."""
    latents = space.sample(range(20))
    assert torch.equal(latents[:, :DIM], TruncatedNormalSpace(DIM).sample(range(20)))
    torch.testing.assert_close(latents[:, DIM:].norm(dim=1), torch.full((20,), math.sqrt(COUNT)))
    torch.testing.assert_close(space.constrain(latents), latents)
    far = space.constrain(50 * latents)
    torch.testing.assert_close(far[:, DIM:], latents[:, DIM:])
    assert torch.equal(far[:, :DIM], (50 * latents[:, :DIM]).clamp(-2, 2))


def test_scale_is_the_typical_length(space: SentenceSpace) -> None:
    lengths = space.sample(range(500)).norm(dim=1)
    assert lengths.square().mean().sqrt().item() == pytest.approx(space.scale, rel=0.02)
    assert space.scale == pytest.approx(math.hypot(TruncatedNormalSpace(DIM).scale, SphereSpace(COUNT).scale))


def test_decoded_as_the_authors_draw_them(space: SentenceSpace) -> None:
    """z times .88 and psi; mean + spread s, cut to what a recurrent encoder gives."""
    latents = space.sample(range(4))
    latents[0, DIM:] *= 1000
    for psi in (1.0, 0.5):
        z, sentences = space.truncated(psi).decode(latents).split([DIM, COUNT], dim=1)
        torch.testing.assert_close(z, 0.88 * psi * latents[:, :DIM])
        expected = space.mean + space.spread * latents[:, DIM:]
        torch.testing.assert_close(sentences, expected.clamp(-1, 1))
        assert sentences[0].abs().amax() == 1 and torch.equal(sentences[1:], expected[1:])
    assert space.truncated(0.5).truncated(0.5).psi == 0.25


def test_the_prior_is_normal_in_both(space: SentenceSpace) -> None:
    latents = space.sample(range(4))
    torch.testing.assert_close(space.log_prior(latents), -0.5 * latents.square().sum(1))


def test_all_is_made_on_the_device_of_the_model() -> None:
    for vectors in (None, kept()):
        moved = SentenceSpace.around(DIM, COUNT, vectors, device="meta")
        assert moved.mean.is_meta and moved.spread.is_meta
        assert moved.sample([1]).is_meta and moved.decode(moved.sample([1])).is_meta


# ---- sentences that a prompt model reads -----------------------------------------------------------------


def lengths(texts: Sequence[str]) -> Tensor:
    """As sentence vectors: all numbers a hundredth of the text's length."""
    return torch.tensor([[len(text) / 100] * COUNT for text in texts])


@pytest.fixture
def read() -> ReadSpace:
    around = SentenceSpace.around(DIM, COUNT, kept())
    return ReadSpace(DIM, around.mean, around.spread, read=lengths, kept=kept())


def test_of_a_sentence_particles_move_in_z_alone(read: ReadSpace) -> None:
    told = read.saying("a cat")
    latents = told.sample([3, 4])
    assert torch.equal(latents, TruncatedNormalSpace(DIM).sample([3, 4])) and told.shape == (DIM,)
    z, sentences = told.decode(latents).split([DIM, COUNT], dim=1)
    assert torch.equal(z, 0.88 * latents) and torch.equal(sentences, torch.full((2, COUNT), 0.05))
    assert torch.equal(told.sentences_of(latents), sentences)
    halved = told.truncated(0.5)
    assert isinstance(halved, ToldSpace) and torch.equal(halved.decode(latents)[:, :DIM], z / 2)
    assert torch.equal(told.constrain(10 * latents), (10 * latents).clamp(-2, 2))
    truncated = read.truncated(0.5).saying("a cat")
    assert torch.equal(truncated.decode(latents)[:, :DIM], z / 2)


def test_without_one_each_particle_keeps_one_of_those_kept(read: ReadSpace) -> None:
    latents = read.sample(range(12))
    assert torch.equal(read.sample([5]), latents[5:6])
    differences = (read.sentences_of(latents)[:, None] - kept()).abs().amax(2)
    assert float(differences.amin(1).max()) < 1e-6 and len(set(differences.argmin(1).tolist())) > 5
    torch.testing.assert_close(read.constrain(latents), latents)
    moved = latents + 0.02 * torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(read.constrain(moved)[:, DIM:], latents[:, DIM:])
    assert torch.equal(read.constrain(moved)[:, :DIM], moved[:, :DIM].clamp(-2, 2))
    assert isinstance(read.truncated(0.5), ReadSpace)
