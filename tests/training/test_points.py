"""The lab's networks: what is written is what is read, and small."""

from pathlib import Path

import pytest
import torch

from engine.lab.course import NETWORKS
from engine.lab.networks import read_networks
from engine.lab.targets import SETS
from engine.latents.spaces import seeded
from engine.metrics.transport import earth_movers_distance
from training import points


def test_what_is_exported_is_what_the_lab_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To half precision: a relative 2^-11 a weight, of which a point is a sum of sums."""
    trained = {}
    train = points.train

    def remember(name: str, steps: int, **options: int) -> points.Networks:
        trained[name] = train(name, steps, **options)
        return trained[name]

    monkeypatch.setattr(points, "train", remember)
    points.export(tmp_path / "networks.safetensors", steps=1, ratio_steps=1)
    at = torch.randn(50, 2, generator=seeded("at"))
    for name in SETS:
        found = read_networks(tmp_path / "networks.safetensors", name)
        for role in ("generator", "critic", "ratio"):
            torch.testing.assert_close(getattr(found, role)(at), getattr(trained[name], role)(at), rtol=0.01, atol=1e-3)


def test_the_bundled_generators_draw_their_sets_not_quite() -> None:
    """Nearer than where they begin, further than other real points; all in less than 300 kB."""
    assert NETWORKS.stat().st_size < 300_000
    for name, target in SETS.items():
        z = torch.randn(500, 2, generator=seeded("z"))
        real, more = target().sample(1000, seeded("real")).split(500)
        made = read_networks(NETWORKS, name).generator(z)
        assert earth_movers_distance(real, made) < 0.7 * earth_movers_distance(real, z)
        assert earth_movers_distance(real, made) > 0.8 * earth_movers_distance(real, more)
