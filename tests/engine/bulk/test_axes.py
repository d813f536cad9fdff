"""The axes of a plot: lists and ranges of values, checked before anything runs."""

from dataclasses import fields

import pytest

from engine.bulk.axes import MOST_VALUES, PLOTTABLE, Axis, make_axis, read_axis, with_value
from engine.settings import LIMITS, FlowSettings, GenerateSettings, SettingsError


@pytest.mark.parametrize(
    ("text", "field", "values"),
    [
        ("diversity=0, 0.5, 1", "diversity", (0.0, 0.5, 1.0)),
        ("diversity=0:1:0.25", "diversity", (0.0, 0.25, 0.5, 0.75, 1.0)),
        ("step-size=0.1:0.3:0.1", "step_size", (0.1, 0.2, 0.3)),  # although 3 * 0.1 > 0.3 in floats
        ("--steps=60:20:-20", "steps", (60, 40, 20)),
        ("steps=20:22", "steps", (20, 21, 22)),
        ("diversity=0, 0.5:1:0.5, 0.5", "diversity", (0.0, 0.5, 1.0)),
        ("truncation=0.5,1", "truncation_psi", (0.5, 1.0)),
        ("seed=1,2", "seed", (1, 2)),
        ("prompt=a {red|blue} hat | a man, sad", "prompt", ("a red hat", "a blue hat", "a man, sad")),
        ("model=avatars,fashion", "model", ("avatars", "fashion")),
        ("estimator=krr,kde", "estimator", ("krr", "kde")),
        ("conflict_free=yes, false", "conflict_free", (True, False)),
    ],
)
def test_lists_and_ranges(text: str, field: str, values: tuple[object, ...]) -> None:
    axis = read_axis(text)
    assert axis == Axis(field, values)  # type: ignore[arg-type]
    assert all(type(one) is type(other) for one, other in zip(axis.values, values, strict=True))
    assert len(axis.texts) == len(values) and Axis(**{**axis.to_dict(), "values": axis.values}) == axis


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("diversity", "NAME=VALUES"),
        ("diversty=1", "did you mean diversity"),
        ("diversity=", "empty"),
        ("diversity= ", "empty"),
        ("diversity=0,,1", "empty"),
        ("diversity=0,3", "3 is outside 0 to 2"),
        ("diversity=0,x", "'x' is not a number"),
        ("diversity=0,nan", "not a number"),
        ("diversity=0,1e999", "not a number"),
        ("diversity=0:1:0", "does not reach its end"),
        ("diversity=0:1:-1", "does not reach its end"),
        ("diversity=0:1:0.001", "has 1,001 values"),
        ("diversity=0:1:1:1", "not a number"),
        ("steps=10.5", "not a whole number"),
        ("steps=0", "outside 1 to 1000"),
        ("seed=" + ",".join(map(str, range(MOST_VALUES + 1))), "too many"),
        ("estimator=krr,svm", "'svm' is unknown"),
        ("conflict_free=maybe", "neither yes nor no"),
        ("prompt=a {hat", "without its"),
        ("prompt= | ", "there are none"),
    ],
)
def test_what_cannot_be_is_told(text: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        read_axis(text)


def test_every_axis_is_a_setting_with_limits_where_it_is_a_number() -> None:
    run, flow = ({entry.name for entry in fields(kind)} for kind in (GenerateSettings, FlowSettings))
    for name, about in PLOTTABLE.items():
        assert name in (flow if about.of_flow else run)
        assert (name in LIMITS) == (about.kind in ("number", "whole"))


@pytest.mark.parametrize("name", sorted(set(PLOTTABLE) - {"model", "preset"}))
def test_a_value_goes_into_its_setting_and_no_other(name: str) -> None:
    about, base = PLOTTABLE[name], GenerateSettings("a hat")
    numbers = {"whole": "7", "number": "0.25", "flag": "no", "prompts": "a cat", "names": "one"}
    value = make_axis(name, about.choices[-1] if about.choices else numbers[about.kind]).values[0]
    if name == "detail_steps":
        value = 5
    settings = with_value(base, name, value)
    holder = settings.flow if about.of_flow else settings
    assert getattr(holder, name) == ((value,) if name == "classes" else value)
    changed = {entry.name for entry in fields(settings) if getattr(settings, entry.name) != getattr(base, entry.name)}
    assert changed <= {"flow" if about.of_flow else name}


def test_the_second_stage_keeps_its_share_of_the_steps() -> None:
    base = GenerateSettings("a hat", flow=FlowSettings(steps=60, detail_steps=30))
    assert with_value(base, "steps", 20).flow.detail_steps == 10
