"""Fixtures shared by the engine's tests."""

from pathlib import Path

import pytest

from engine.models import loading, table
from tests.engine.tiny import write_assets


@pytest.fixture(scope="session")
def tiny_assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny models, to be read only; see `tests/engine/tiny.py`."""
    return write_assets(tmp_path_factory.mktemp("models") / "assets")


@pytest.fixture
def damaged_assets(tmp_path: Path) -> Path:
    """A folder of tiny models of the test's own, to be damaged."""
    return write_assets(tmp_path / "assets")


@pytest.fixture
def tiny_bundle(tiny_assets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny models are found wherever the bundled ones would be."""
    use_bundle(tiny_assets, monkeypatch)
    return tiny_assets


def use_bundle(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The models of a folder are found wherever the bundled ones would be."""
    for loader in (loading.load_generator, loading.load_prompt_model):
        monkeypatch.setattr(loader, "__kwdefaults__", {**(loader.__kwdefaults__ or {}), "assets": assets})
    monkeypatch.setattr(table.list_models, "__defaults__", (assets,))
