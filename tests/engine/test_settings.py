import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest

from engine.settings import (
    EDIT_PRESETS,
    INPAINT_PRESETS,
    LIMITS,
    NEARBY_PRESETS,
    PRESETS,
    PROMPT_LIMIT,
    TRANSLATE_PRESETS,
    EditSettings,
    FlowSettings,
    GenerateSettings,
    InpaintSettings,
    RunSettings,
    SettingsError,
    TranslateSettings,
    plain,
    random_seed,
    settings_from_dict,
)

UNUSUAL = GenerateSettings(
    prompt="una mujer con gafas 🙂, 粉色头发",
    model="folder/mine",
    prompt_model="ViT-B-32/openai",
    n=3,
    seed=2**32 - 1,
    space="w+",
    truncation_psi=0.7,
    flow=replace(PRESETS["paper"], chunk=4, bandwidth="median", divergence="hellinger"),
    preset="paper",
    baseline=False,
    contrast_prompts=("a man", "a cat"),
    cutouts=8,
    start=(0.1, -2.5, 1e-7),
    spread=0.0,
)


@pytest.mark.parametrize(
    "settings",
    [GenerateSettings("a"), UNUSUAL, *(GenerateSettings("a").with_preset(name) for name in PRESETS)],
)
def test_json_and_back(settings: GenerateSettings):
    assert GenerateSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_missing_fields_take_their_defaults():
    assert GenerateSettings.from_dict({"prompt": "a", "flow": {"steps": 7}}) == GenerateSettings(
        "a", flow=FlowSettings(steps=7)
    )


@pytest.mark.parametrize(
    ("forged", "named"),
    [
        ({}, "prompt"),
        ([], "settings"),
        (None, "settings"),
        ("prompt", "settings"),
        ({"prompt": "a", "colour": "red"}, "colour"),
        ({"prompt": "a", "__class__": "os.system"}, "__class__"),
        ({"prompt": "a", 3: 4}, "3"),
        ({"prompt": "a", "flow": 3}, "flow"),
        ({"prompt": "a", "flow": None}, "flow"),
        ({"prompt": "a", "flow": {"gravity": 9.81}}, "gravity"),
        ({"prompt": "a", "flow": {"steps": 0}}, "steps"),
        ({"prompt": "a", "flow": {"steps": "60"}}, "steps"),
        ({"prompt": "a", "flow": {"steps": 10.0}}, "steps"),
        ({"prompt": "a", "flow": {"steps": True}}, "steps"),
        ({"prompt": "a", "flow": {"step_size": 1e9}}, "step_size"),
        ({"prompt": "a", "flow": {"step_size": 0}}, "step_size"),
        ({"prompt": "a", "flow": {"step_size": math.nan}}, "step_size"),
        ({"prompt": "a", "flow": {"step_size": math.inf}}, "step_size"),
        ({"prompt": "a", "flow": {"step_size": [0.1]}}, "step_size"),
        ({"prompt": "a", "flow": {"diversity": -0.1}}, "diversity"),
        ({"prompt": "a", "flow": {"diversity": 10**400}}, "diversity"),
        ({"prompt": "a", "flow": {"estimator": "magic"}}, "estimator"),
        ({"prompt": "a", "flow": {"estimator": ["krr"]}}, "estimator"),
        ({"prompt": "a", "flow": {"bandwidth": "broad"}}, "bandwidth"),
        ({"prompt": "a", "flow": {"bandwidth": 0}}, "bandwidth"),
        ({"prompt": "a", "flow": {"bandwidth": None}}, "bandwidth"),
        ({"prompt": "a", "flow": {"eta": "negative"}}, "eta"),
        ({"prompt": "a", "flow": {"conflict_free": 1}}, "conflict_free"),
        ({"prompt": "a", "flow": {"chunk": 0}}, "chunk"),
        ({"prompt": "a", "flow": {"divergence": "total variation"}}, "divergence"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a"]}, "prompt"),
        ({"prompt": "a" * (PROMPT_LIMIT + 1)}, "prompt"),
        ({"prompt": "a", "n": 0}, "n"),
        ({"prompt": "a", "n": 1000}, "n"),
        ({"prompt": "a", "seed": -1}, "seed"),
        ({"prompt": "a", "seed": 2**32}, "seed"),
        ({"prompt": "a", "seed": 10**5000}, "seed"),
        ({"prompt": "a", "preset": "turbo"}, "preset"),
        ({"prompt": "a", "baseline": "yes"}, "baseline"),
        ({"prompt": "a", "contrast_prompts": "abc"}, "contrast_prompts"),
        ({"prompt": "a", "contrast_prompts": [""]}, "contrast_prompts"),
        ({"prompt": "a", "contrast_prompts": ["a"] * 1000}, "contrast_prompts"),
        ({"prompt": "a", "start": []}, "start"),
        ({"prompt": "a", "start": [1, "2"]}, "start"),
        ({"prompt": "a", "start": [math.nan]}, "start"),
        ({"prompt": "a", "start": [10**400]}, "start"),
        ({"prompt": "a", "start": {"0": 1}}, "start"),
        ({"prompt": "a", "spread": 1.5}, "spread"),
        ({"prompt": "a", "truncation_psi": 0}, "truncation_psi"),
        ({"prompt": "a", "space": ""}, "space"),
        ({"prompt": "a", "model": 3}, "model"),
    ],
)
def test_forged_settings_are_refused_by_name(forged: Any, named: str):
    with pytest.raises(SettingsError) as caught:
        GenerateSettings.from_dict(forged)
    assert named in str(caught.value)
    assert len(str(caught.value)) < 600  # fits a message on a page, whatever was forged


def test_two_thousand_characters_are_accepted():
    assert GenerateSettings("ab " * 667).prompt.startswith("ab")


def test_a_refusal_says_what_is_possible():
    with pytest.raises(SettingsError, match="n: 1000 is outside 1 to 64"):
        GenerateSettings("a", n=1000)
    with pytest.raises(SettingsError, match="choose one of robust, paper, kde, stein"):
        GenerateSettings("a").with_preset("turbo")


def test_every_number_of_the_settings_has_limits_that_hold():
    """Each limit is accepted, and what lies beyond is not."""
    owners: list[Any] = [
        FlowSettings(steps=1000),
        GenerateSettings("a"),
        EditSettings("a"),
        InpaintSettings(),
        TranslateSettings(),
    ]
    for name, (low, high) in LIMITS.items():
        settings = next(owner for owner in owners if name in {f.name for f in fields(owner)})
        for limit, beyond in ((low, low - 1), (high, high + 1)):
            assert getattr(replace(settings, **{name: limit}), name) == limit
            with pytest.raises(SettingsError, match=name):
                replace(settings, **{name: beyond})


def test_every_field_is_checked():
    """A value of no known kind is refused by whatever field it is put in."""
    settings: Any
    for settings in (FlowSettings(), GenerateSettings("a"), EditSettings("a"), InpaintSettings(), TranslateSettings()):
        for name in (f.name for f in fields(settings)):
            with pytest.raises(SettingsError, match=name):
                replace(settings, **{name: object()})


def test_presets_differ_from_robust_where_the_paper_does():
    robust, paper = PRESETS["robust"], PRESETS["paper"]
    assert robust == FlowSettings()
    assert robust.conflict_free and robust.normalise and robust.constrain
    assert not (paper.normalise or paper.constrain)
    assert (paper.bandwidth, paper.mollifier_space) == (1.0, "image")
    assert isinstance(paper.eta, float)
    assert (PRESETS["kde"].estimator, PRESETS["stein"].estimator) == ("kde", "stein")


@pytest.mark.parametrize("presets", [PRESETS, NEARBY_PRESETS, EDIT_PRESETS, INPAINT_PRESETS, TRANSLATE_PRESETS])
def test_the_papers_baselines_oppose_the_condition_and_repel_less(presets: Mapping[str, FlowSettings]):
    """Table 2's estimators are Eq. 6's: only the preset that is ours lets repulsion give way."""
    assert {name for name, flow in presets.items() if flow.conflict_free} == {"robust"}
    for name in ("kde", "stein"):
        assert presets[name].diversity_gain == pytest.approx(presets["robust"].diversity_gain / 5)
        assert presets[name].step_size == presets["robust"].step_size


EDIT = EditSettings(
    "a man", neutral="a woman", method="optimise", strength=-2, disentanglement=0.0, identity=3.5, baseline="none", n=2
)
INPAINT = InpaintSettings("a hat", known_weight=2.5, grow=-3, feather=0, invert=True, baseline=False, seed=9)


TRANSLATE = TranslateSettings(
    domain="hat", references="ab" * 32, style_scale=0.5, content_scale=0.0, method="plain", baseline="no repulsion"
)


@pytest.mark.parametrize(
    "settings", [UNUSUAL, EDIT, INPAINT, TRANSLATE, InpaintSettings(), EditSettings("b").with_preset("kde")]
)
def test_settings_of_every_task_come_back_from_json(settings: RunSettings):
    values = json.loads(json.dumps(settings.to_dict()))
    assert values["task"] == settings.task
    assert settings_from_dict(values) == settings


def test_settings_that_name_no_task_are_those_of_generate():
    assert settings_from_dict({"prompt": "a"}) == GenerateSettings("a")


@pytest.mark.parametrize(
    ("forged", "named"),
    [
        (None, "settings"),
        ({"task": "paint"}, "task"),
        ({"task": ["edit"]}, "task"),
        ({"task": "edit"}, "prompt"),
        ({"task": "edit", "prompt": "a", "space": "w"}, "space"),
        ({"task": "edit", "prompt": "a", "method": "magic"}, "method"),
        ({"task": "edit", "prompt": "a", "neutral": ""}, "neutral"),
        ({"task": "edit", "prompt": "a", "baseline": True}, "baseline"),
        ({"task": "edit", "prompt": "a", "strength": math.nan}, "strength"),
        ({"task": "inpaint", "prompt": None}, "prompt"),
        ({"task": "inpaint", "prompt": " "}, "prompt"),
        ({"task": "inpaint", "feather": -1}, "feather"),
        ({"task": "inpaint", "grow": 0.5}, "grow"),
        ({"task": "inpaint", "invert": 1}, "invert"),
        ({"task": "inpaint", "mask": "m.png"}, "mask"),
    ],
)
def test_forged_settings_of_other_tasks_are_refused_by_name(forged: Any, named: str):
    with pytest.raises(SettingsError, match=named):
        settings_from_dict(forged)


def test_settings_of_another_task_are_refused():
    with pytest.raises(SettingsError, match="task: expected generate, got 'edit'"):
        GenerateSettings.from_dict(EDIT.to_dict())


def test_a_second_stage_longer_than_the_run_is_refused() -> None:
    with pytest.raises(SettingsError, match="detail_steps: 61 steps of the second stage are more than all 60 steps"):
        FlowSettings(detail_steps=61)
    assert [FlowSettings(steps=4, detail_steps=1).stage(step) for step in range(5)] == [1, 1, 1, 2, 2]
    assert FlowSettings(steps=4).stage(4) == 1


def test_a_run_beside_travels_with_the_settings() -> None:
    beside = GenerateSettings("a", model="other", classes=("x",), flow=FlowSettings(steps=9, detail_steps=4))
    settings = GenerateSettings("a", beside=beside)
    assert GenerateSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    with pytest.raises(SettingsError, match="beside: expected the settings of one other run"):
        GenerateSettings("a", beside=settings)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (2.0, "2"), (2**32 - 1, "4294967295"), (0.05, "0.05"), (1e-6, "0.000001"), (-3.0, "-3")],
)
def test_numbers_are_written_as_people_write_them(number: float, text: str) -> None:
    assert plain(number) == text


@pytest.mark.parametrize("name", LIMITS)
def test_no_limit_is_told_in_a_power_of_ten(name: str) -> None:
    """Every number that can be set, below, above and no number at all: digits in the message, the two limits whole."""
    low, high = LIMITS[name]
    for cls in (GenerateSettings, EditSettings, InpaintSettings, FlowSettings):
        if name not in {entry.name for entry in fields(cls)}:
            continue
        required = {} if cls is FlowSettings else {"prompt": "x"}
        for value in (low - 1, high + 1, "x"):
            with pytest.raises(SettingsError) as told:
                cls(**required, **{name: value})  # type: ignore[arg-type]
            if name not in ("bandwidth", "eta") or value != "x":
                assert f"{plain(low)} to {plain(high)}" in str(told.value)
            assert not re.search(r"\de[+-]?\d", str(told.value))


def test_a_seed_is_drawn_within_its_limits() -> None:
    seeds = {random_seed() for _ in range(50)}
    assert len(seeds) == 50 and all(0 <= seed <= LIMITS["seed"][1] for seed in seeds)
