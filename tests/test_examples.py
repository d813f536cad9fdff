"""The prompts that the page offers show what they say: three of four pictures, by judges that steer nothing."""

import json
from typing import Any

import pytest

from engine.families import FAMILIES
from engine.models.table import list_models
from experiments import examples
from experiments.prompts import offered
from gmi_ui.tabs import generate


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """What `python -m experiments.examples --out ...` wrote: every example as the page runs it, which takes minutes."""
    found: dict[str, Any] = json.loads(examples.RESULTS.read_text(encoding="utf-8"))
    return found


def test_every_example_was_measured_with_these_models(measured: dict[str, Any]) -> None:
    drawing = {name for name, family in FAMILIES.items() if "generate" in family.possible_tasks}
    rows = {row.name: row for row in list_models() if row.family in drawing}
    assert tuple(rows) == examples.MODELS == tuple(measured)
    for name, row in rows.items():
        assert measured[name]["sha256"] == examples.sha256_of(name)
        assert tuple(measured[name]["shown"]) == row.examples


def test_every_example_is_shown(measured: dict[str, Any]) -> None:
    failing = [text for about in measured.values() for text, share in about["shown"].items() if share < examples.ENOUGH]
    assert failing == []


def test_the_judges_know_what_each_example_asks_for() -> None:
    asked = {
        "avatars": tuple(prompt.text for prompt in offered.AVATARS),
        "fashion": tuple(offered.FASHION),
        "mosaic": offered.MOSAIC,
        "emblems": offered.EMBLEMS,
    }
    assert asked == {name: examples.examples_of(name) for name in examples.MODELS}
    assert generate.DEFAULTS.prompt == examples.examples_of("avatars")[0]
    assert set(generate.EXAMPLES) <= set(asked["avatars"])


@pytest.mark.parametrize(
    ("model", "prompt", "steps"),
    [("avatars", "a surprised person with blue hair", 20), ("fashion", "a handbag", 10), ("mosaic", "a cat face", 8)],
)
def test_one_of_each_model_is_made_and_judged(model: str, prompt: str, steps: int) -> None:
    """With fewer steps and pictures, and against another prompt, which the same pictures do not show."""
    settings = examples.shorter(examples.settings_of(model, prompt), steps=steps, n=4, candidates=32)
    images = examples.pictures_of(settings)
    other = next(text for text in examples.examples_of(model) if text != prompt)
    shown, mistaken = (examples.judge_of(model)(images, text).double().mean() for text in (prompt, other))
    assert shown >= examples.ENOUGH and mistaken <= 0.25
