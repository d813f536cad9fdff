"""Every test of the readers has a cache of its own, so that none reads what another converted."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where this test's converted models go."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GMI_CACHE", str(folder))
    return folder
