"""How like real pictures a set of generated ones is."""

import pytest
import torch

from engine.metrics.frechet import frechet_distance
from engine.metrics.likeness import NEIGHBOURS, Likeness
from engine.metrics.manifold import precision_recall


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_figures_are_those_of_the_two_sets() -> None:
    """In float64, of features in float32; asked twice alike."""
    real, generated = normal(60, 4, seed=0), normal(30, 4, seed=1)
    likeness = Likeness(real)
    both = precision_recall(real, generated, k=NEIGHBOURS)
    expected = {"frechet": frechet_distance(real, generated), "precision": both.precision, "recall": both.recall}
    assert likeness.figures(generated) == pytest.approx(expected)
    assert likeness.figures(generated) == likeness.figures(generated)


@pytest.mark.parametrize(
    ("count", "names"),
    [
        (1, {"precision"}),
        (2, {"precision", "frechet"}),
        (NEIGHBOURS, {"precision", "frechet"}),
        (NEIGHBOURS + 1, {"precision", "frechet", "recall"}),
    ],
)
def test_few_pictures_have_what_they_have(count: int, names: set[str]) -> None:
    """One has no spread, three no neighbours three times over. All numbers are finite."""
    figures = Likeness(normal(20, 6, seed=2)).figures(normal(count, 6, seed=3))
    assert set(figures) == names
    assert torch.tensor(list(figures.values())).isfinite().all()


def test_few_examples_have_no_manifold() -> None:
    assert set(Likeness(normal(NEIGHBOURS, 6, seed=2)).figures(normal(8, 6, seed=3))) == {"frechet", "recall"}


def test_equal_pictures_are_no_trouble() -> None:
    """All at one example: near, precise, and covering what they cover."""
    real = normal(20, 6, seed=4)
    figures = Likeness(real).figures(real[:1].expand(8, -1))
    spread = (real.double() - real.double().mean(0)).square().sum() / 19
    assert figures["precision"] == 1 and figures["recall"] == pytest.approx(1 / 20)
    assert figures["frechet"] == pytest.approx(float(spread + (real[0] - real.mean(0)).square().sum()), rel=1e-5)
