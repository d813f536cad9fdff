"""Services around tiny models."""

import pytest

from gmi_ui.services import Services
from tests.gmi_ui.tiny import tiny_models


@pytest.fixture
def services() -> Services:
    return Services.around(tiny_models())


@pytest.fixture
def slow_services() -> Services:
    """A step takes long enough to press a button in between."""
    return Services.around(tiny_models(delay=0.02))
