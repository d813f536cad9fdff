"""What a page sends is taken for settings only where it is such."""

from typing import Any

import pytest

from engine.lab.settings import LIMITS, MOST_LINES, MOST_POINTS, LabSettings
from engine.settings import SettingsError


def test_what_is_left_out_has_its_usual_value() -> None:
    assert LabSettings.from_dict({}) == LabSettings()
    drawn = LabSettings.from_dict({"target": "drawing", "strokes": [[[0, 1], [0.5, 1]]], "n": 7, "eta": 1})
    assert drawn.strokes == (((0.0, 1.0), (0.5, 1.0)),) and (drawn.n, drawn.eta) == (7, 1.0)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"n": 10**9}, "N is 1000000000, expected a whole number from 2 to 1,000."),
        ({"n": 3.5}, "N is 3.5"),
        ({"n": True}, "N is true"),
        ({"steps": 10**6}, "expected a whole number from 10 to 500"),
        ({"eta": float("nan")}, "Eta is nan"),
        ({"bandwidth": float("inf")}, "Bandwidth is inf"),
        ({"step": "1"}, "Step is '1'"),
        ({"noise": None}, "Noise is null"),
        ({"sampler": "kernel"}, "Sampler is 'kernel', expected one of 'KRR'"),
        ({"sampler": ["KRR"]}, "Sampler is a list"),
        ({"target": "../../etc/passwd"}, "Target is"),
        ({"unknown": 1}, "Unknown is not a field"),
        ({"target": "drawing"}, "no drawing yet"),
        ({"target": "drawing", "strokes": [[[0, 0]]], "generator": "trained"}, "no generator of a drawing"),
        ({"strokes": [[[0, 0]]] * (MOST_LINES + 1)}, "Strokes is a list of 65"),
        ({"strokes": [[[0, 0]] * (MOST_POINTS + 1)]}, r"Strokes\[0\] is a list of 257"),
        ({"strokes": [[[0, 1e9]]]}, "expected a number from -2.4 to 2.4"),
        ({"strokes": [[[0]]]}, "a list of 2"),
        ([], "It is a list of 0, expected an object"),
        (None, "It is null"),
    ],
)
def test_what_cannot_be_used_is_said(values: Any, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        LabSettings.from_dict(values)


def test_every_default_is_within_its_limits() -> None:
    assert all(low <= getattr(LabSettings(), name) <= high for name, (low, high) in LIMITS.items())
