"""Services around tiny models."""

import pytest

from gmi_ui.services import Services
from tests.gmi_ui.tiny import style_models, tiny_models


@pytest.fixture
def services() -> Services:
    return Services.around(tiny_models())


@pytest.fixture
def slow_services() -> Services:
    """A step takes long enough to press a button in between."""
    return Services.around(tiny_models(delay=0.02))


@pytest.fixture
def style_services(monkeypatch: pytest.MonkeyPatch) -> Services:
    """Around a tiny StyleGAN2."""
    monkeypatch.setattr("engine.tasks.inversion.STEPS_WITHOUT", 8)
    return Services.around(style_models())
