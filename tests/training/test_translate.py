"""What the translation is taught with: exact triples."""

import json

import numpy as np
import pytest
import torch

import engine
from engine.networks.stargan2 import Translator
from training import judges
from training.avatars import traits
from training.translate import adversarial, export, figures, triples


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


def test_the_discriminator_learns_that_another_domain_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(adversarial, "CRITIC_WIDTHS", (8, 16, 16, 16, 16, 16))
    critic = adversarial.Networks().discriminator
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    colours = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1]])
    real, domains = colours[:, :, None, None].expand(-1, -1, 128, 128), torch.arange(4)
    for step in range(1, 31):
        adversarial.train_critic(critic, optimizer, real, torch.zeros_like(real), domains, step)
    with torch.no_grad():
        logits = adversarial.all_logits(critic, real)
    assert torch.equal(logits.argmax(1), domains)


def test_half_the_size_is_shown_at_the_whole() -> None:
    small = torch.rand(2, 3, 64, 64)
    assert adversarial.enlarged(small).shape == (2, 3, 128, 128)
    whole = torch.rand(2, 3, 128, 128)
    assert adversarial.enlarged(whole) is whole


def test_what_cannot_be_told_counts_neither_way() -> None:
    """-1 in what was seen: of two groups and three pictures, two of four that can be told agree."""
    seen = {"hat": torch.tensor([0, 1, -1]), "mouth": torch.tensor([2, -1, 1])}
    found = {"hat": torch.tensor([0, 0, 0]), "mouth": torch.tensor([2, 2, 2])}
    assert figures.agreeing(found, seen, ("hat", "mouth")) == 0.5


def test_the_figures_of_an_untrained_model_are_shares_and_say_that_it_is_bad() -> None:
    torch.manual_seed(0)
    networks = adversarial.Networks().eval()
    translator = Translator(
        networks.generator, networks.mapping_network, networks.style_encoder, networks.discriminator
    )
    found = figures.figures(translator, judges.load_avatars(), count=50)
    for name in ("by references", "by latents"):
        rows = found[name]
        assert isinstance(rows, dict)
        assert all(0 <= value <= 1 for key, value in rows.items() if key != "Fréchet distance")
        assert rows["hair and hat taken"] < 0.8 and rows["mean absolute error, of 0 to 1"] > 0.05


def test_the_bundle_is_what_the_export_describes() -> None:
    """It loads as any model, its hashes fit, its domains are the triples'."""
    row = json.loads((export.BUNDLE / "model.json").read_text())
    assert row["classes"] == list(triples.DOMAINS)
    model = engine.load_generator("hairstyles")
    assert isinstance(model.network, Translator) and model.network.discriminator is not None
    assert model.resolution == adversarial.SIZE
