"""What the translation is taught with: exact triples."""

import numpy as np
import torch

from training.avatars import traits
from training.translate import adversarial, triples


def test_a_result_has_the_references_hair_and_everything_else_of_the_face() -> None:
    (faces, references, results), _, domains = triples.examples(np.random.default_rng(3), 64)
    for group in traits.GROUPS:
        whose = references if group in triples.STYLED else faces
        assert np.array_equal(results[:, traits.LAYOUT[group]], whose[:, traits.LAYOUT[group]])
    for rows, wanted in ((faces, domains[0]), (references, domains[1])):
        told = triples.domains_of(traits.labels(rows))
        known = told >= 0  # blends of two cuts have no label; a cut under a hat neither
        assert np.array_equal(told[known], wanted[known]) and known.mean() > 0.5


def test_a_latent_alone_says_the_style() -> None:
    """The same latent in the same domain is the same hair on any face."""
    rng = np.random.default_rng(4)
    z, domain = rng.standard_normal((1, triples.LATENT_DIM)).astype(np.float32), np.array([triples.LONG])
    first, second = (triples.dress(traits.sample(rng, 1), z, domain) for _ in range(2))
    for group in triples.STYLED:
        np.testing.assert_allclose(first[:, traits.LAYOUT[group]], second[:, traits.LAYOUT[group]], atol=1e-6)
    assert not np.array_equal(first, second)


def test_the_discriminator_learns_that_another_domain_is_wrong() -> None:
    torch.manual_seed(0)
    critic = adversarial.Networks().discriminator
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    colours = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1]])
    real, domains = colours[:, :, None, None].expand(-1, -1, 128, 128), torch.arange(4)
    for step in range(1, 31):
        adversarial.train_critic(critic, optimizer, real, torch.zeros_like(real), domains, step)
    with torch.no_grad():
        logits = adversarial.all_logits(critic, real)
    assert torch.equal(logits.argmax(1), domains)
