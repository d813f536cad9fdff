"""What the Lab tab asks of the server: frames, in words where it cannot be; nothing in a request is trusted."""

import asyncio
import base64
import json
import time
from typing import Any

import numpy as np
import pytest

from engine.lab.settings import LIMITS, SAMPLERS, TARGETS
from gmi_ui.components.lab.functions import MOST_FRAMES, MOST_OF_A_PAGE, PLANE, lab_functions
from gmi_ui.components.lab.words import words
from tests.gmi_ui.waiting import awaited

TOKEN = "ab" * 16
SMALL = {"target": "two moons", "n": 30, "steps": 20}


@pytest.fixture
def functions() -> dict[str, Any]:
    return {function.__name__: function for function in lab_functions()}


def answered(function: Any, *requests: Any) -> list[dict[str, Any]]:
    """The answers of requests that are made at once."""

    async def all_of_them() -> list[Any]:
        return list(await asyncio.gather(*map(function, requests)))

    return [json.loads(bytes(answer.body)) for answer in awaited(all_of_them())]


def frames(functions: dict[str, Any], **request: Any) -> dict[str, Any]:
    return answered(functions["lab_frames"], {"token": TOKEN, "settings": SMALL, "most": 3, **request})[0]


def positions(frame: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(frame["positions"]), dtype="<i2").reshape(-1, 2) * PLANE / 32767


def test_frames_go_on_where_the_last_ones_ended(functions: dict[str, Any]) -> None:
    whole = frames(functions, most=MOST_FRAMES, settings={**SMALL, "sampler": "SVGD"}, vectors=True)
    while not whole["ended"]:  # a batch has a quarter of a second
        state = whole["frames"][-1]["state"]
        more = frames(functions, most=MOST_FRAMES, settings={**SMALL, "sampler": "SVGD"}, vectors=True, state=state)
        whole = {**more, "frames": [*whole["frames"], *more["frames"]]}
    assert [frame["step"] for frame in whole["frames"]] == list(range(21))
    again = frames(functions, settings={**SMALL, "sampler": "SVGD"}, vectors=True, state=whole["frames"][7]["state"])
    assert again["frames"] == whole["frames"][8:11] and not again["ended"]
    assert positions(again["frames"][0]).shape == (30, 2) and again["message"] == ""
    assert len(base64.b64decode(again["frames"][0]["vectors"])) == 3 * 30 * 2 * 2


def test_vectors_come_where_they_are_asked_for(functions: dict[str, Any]) -> None:
    with_them, without = (frames(functions, vectors=vectors)["frames"] for vectors in (True, False))
    assert all(frame["vectors"] and frame["reach"] > 0 for frame in with_them)
    assert all(frame["vectors"] is None for frame in without)
    assert [frame["positions"] for frame in with_them] == [frame["positions"] for frame in without]


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 10**9},
        {"n": float("nan")},
        {"steps": 10**9},
        {"sampler": "unknown"},
        {"generator": "../secret"},
        {"target": "drawing"},
        {"target": "drawing", "strokes": [[[0.0, 0.0]] * 100_000]},
        {"strokes": "[" * 10_000},
        {"eta": -1},
        {"seed": 2**40},
        {"__class__": "x"},
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_words(functions: dict[str, Any], changes: dict[str, Any]) -> None:
    answer = frames(functions, settings={**SMALL, **changes})
    assert answer["kind"] == "error" and answer["message"].endswith(".") and "frames" not in answer
    assert "unforeseen" not in answer["message"]


def text(values: Any) -> str:
    return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode()


@pytest.mark.parametrize(
    "state",
    [
        "x", [], {}, {"step": 1}, {"step": "1", "latents": text(np.zeros((30, 2)))},
        {"step": -1, "latents": text(np.zeros((30, 2)))}, {"step": 10**9, "latents": text(np.zeros((30, 2)))},
        {"step": 1, "latents": text(np.zeros((29, 2)))}, {"step": 1, "latents": text(np.full((30, 2), np.nan))},
        {"step": 1, "latents": text(np.full((30, 2), np.inf))}, {"step": 1, "latents": text(np.full((30, 2), 1e30))},
        {"step": 1, "latents": "?" * 320}, {"step": 1, "latents": "A" * 10**6}, {"step": 1, "latents": 5},
        {"step": 1, "latents": text(np.zeros((30, 2))), "memory": text(np.zeros((30, 1)))},
    ],
)  # fmt: skip
def test_states_that_no_frame_had_are_refused_in_words(functions: dict[str, Any], state: Any) -> None:
    answer = frames(functions, settings={**SMALL, "sampler": "DOT"}, state=state)
    assert answer["kind"] == "error" and "Press Restart" in answer["message"]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("value", [0.0, 1e6, -1e6])
def test_no_state_and_no_settings_break_the_server(functions: dict[str, Any], sampler: str, value: float) -> None:
    """All particles at one place, at the edge of what is taken, with the greatest and least settings."""
    width = {"DOT": 2, "SVGD": 2, "SIR": 1, "DRS": 2, "MH": 1}.get(sampler, 0)
    state = {"step": 1, "latents": text(np.full((30, 2), value)), "memory": text(np.full((30, width), value))}
    extremes = {name: limits for name, limits in LIMITS.items() if name not in ("n", "steps", "seed")}
    for side in (0, 1):
        settings = {**SMALL, "sampler": sampler, **{name: limits[side] for name, limits in extremes.items()}}
        answer = frames(functions, settings=settings, state=state, vectors=True)
        assert answer["message"] == "" or "ran away" in answer["message"], answer["message"]


def test_a_stranger_gets_nothing(functions: dict[str, Any]) -> None:
    for request in ({}, {"token": "short", "settings": SMALL}, None, "x", {"token": 5}):
        for function in functions.values():
            (answer,) = answered(function, request)
            assert "not connected" in answer["message"] and len(answer) == 2


def test_the_largest_run_gives_its_turn_away_soon(functions: dict[str, Any]) -> None:
    """A batch ends after a quarter of a second and the frame it is at, which may take some tenths at n = 1,000."""
    largest = {"n": 1000, "steps": 500, "sampler": "KRR smoothed"}
    frames(functions, settings=largest, most=1)
    began = time.monotonic()
    answer = frames(functions, settings=largest, most=10**9)
    assert 1 <= len(answer["frames"]) <= MOST_FRAMES
    assert time.monotonic() - began < 5  # ten times what an idle machine takes


def test_who_asks_for_much_at_once_is_told_to_come_again(functions: dict[str, Any]) -> None:
    request = {"token": TOKEN, "settings": SMALL, "most": 1}
    answers = answered(functions["lab_frames"], *[request] * 20, {**request, "token": "cd" * 16})
    assert sum("busy" in answer for answer in answers) == 20 - MOST_OF_A_PAGE and "frames" in answers[-1]
    assert "frames" in frames(functions)


def test_the_density_of_every_target_comes(functions: dict[str, Any]) -> None:
    for target in TARGETS:
        strokes = [[[0, 0], [1, 1]]] if target == "drawing" else []
        (answer,) = answered(functions["lab_density"], {"token": TOKEN, "target": target, "strokes": strokes})
        assert len(base64.b64decode(answer["cells"])) == answer["side"] ** 2
    (answer,) = answered(functions["lab_density"], {"token": TOKEN, "target": ["x"]})
    assert "expected one of" in answer["message"]


def test_every_control_says_what_it_does_in_two_sentences() -> None:
    told = words()
    sliders: Any = told["sliders"]
    assert {slider["key"] for slider in sliders} == set(LIMITS)
    samplers: Any = told["samplers"]
    infos = [told["target_info"], told["generator_info"], *(slider["info"] for slider in sliders)]
    for info in [*infos, *(info for _, info in samplers.values())]:
        assert isinstance(info, str) and info.endswith(".") and 1 <= info.count(". ") + 1 <= 2
