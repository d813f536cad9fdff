"""The measures against the packages that the field uses, on the same arrays."""

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.metrics.frechet import frechet_distance
from engine.metrics.inception import inception_score
from engine.metrics.kernel import kernel_distance
from engine.metrics.manifold import density_coverage, precision_recall
from engine.metrics.transport import earth_movers_distance

TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=[(300, 300, 8), (400, 260, 32)])
def sets(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    """A Gaussian, and one that is shifted, narrower and correlated."""
    n, m, dim = request.param
    draws = torch.Generator().manual_seed(n)
    mixing = torch.eye(dim) + 0.3 * torch.randn(dim, dim, generator=draws) / dim**0.5
    real = torch.randn(n, dim, generator=draws)
    return real.double(), (0.8 * torch.randn(m, dim, generator=draws) @ mixing + 0.2).double()


def test_precision_recall_density_and_coverage(sets: tuple[Tensor, Tensor], capsys: pytest.CaptureFixture[str]) -> None:
    prdc = pytest.importorskip("prdc")
    real, generated = sets
    expected = prdc.compute_prdc(real.numpy(), generated.numpy(), nearest_k=5)
    found = {**precision_recall(real, generated, k=5)._asdict(), **density_coverage(real, generated, k=5)._asdict()}
    assert found == pytest.approx(expected, abs=TOLERANCE)
    assert 0 < found["precision"] < 1 and 0 < found["coverage"] < 1  # neither end says anything


def test_frechet_distance(sets: tuple[Tensor, Tensor]) -> None:
    """With scipy's root of a matrix."""
    linalg = pytest.importorskip("scipy.linalg")
    (m, first), (n, second) = ((np.mean(one, 0), np.cov(one, rowvar=False)) for one in (s.numpy() for s in sets))
    expected = np.square(m - n).sum() + np.trace(first + second - 2 * linalg.sqrtm(first @ second).real)
    assert frechet_distance(*sets) == pytest.approx(expected, abs=TOLERANCE)


def test_kernel_distance(sets: tuple[Tensor, Tensor]) -> None:
    """With scikit-learn's kernel."""
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    real, generated = (one.numpy() for one in sets)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(pairwise.polynomial_kernel(a, b, degree=3, coef0=1))

    def within(a: np.ndarray) -> float:
        found = kernel(a, a)
        return float(found[~np.eye(len(a), dtype=bool)].mean())

    expected = within(real) + within(generated) - 2 * kernel(real, generated).mean()
    assert kernel_distance(*sets) == pytest.approx(expected, abs=TOLERANCE)
    assert expected > 10 * TOLERANCE


@pytest.mark.parametrize("splits", [1, 7])
def test_inception_score(sets: tuple[Tensor, Tensor], splits: int) -> None:
    """With scipy's relative entropy."""
    stats, special = pytest.importorskip("scipy.stats"), pytest.importorskip("scipy.special")
    chances = special.softmax(sets[0].numpy(), axis=1)
    n = len(chances)
    parts = [chances[i * n // splits : (i + 1) * n // splits] for i in range(splits)]
    scores = [np.exp(np.mean([stats.entropy(row, part.mean(0)) for row in part])) for part in parts]
    assert inception_score(sets[0], splits=splits) == pytest.approx(np.mean(scores), abs=TOLERANCE)


def test_earth_movers_distance(sets: tuple[Tensor, Tensor]) -> None:
    ot = pytest.importorskip("ot")
    real, generated = (one[:200] for one in sets)
    expected = ot.emd2([], [], ot.dist(real.numpy(), generated.numpy(), metric="euclidean"))
    assert earth_movers_distance(real, generated) == pytest.approx(expected, abs=TOLERANCE)
