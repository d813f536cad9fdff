"""Controls: every one fills a settings field, and settings survive the way to the page and back."""

from dataclasses import fields, replace
from typing import Any

import gradio as gr
import pytest

from engine.settings import (
    LIMITS,
    PRESETS,
    EditSettings,
    FlowSettings,
    GenerateSettings,
    InpaintSettings,
    RunSettings,
    SettingsError,
)
from gmi_ui.controls import CONTROLS, FLOW_FIELDS, OF_THE_FLOW, REST, Panel, settings_from, value_of, values_of
from tests.gmi_ui.tiny import tiny_settings

DEFAULTS: tuple[RunSettings, ...] = (GenerateSettings("a"), EditSettings("a"), InpaintSettings())


def all_values(settings: RunSettings) -> dict[str, Any]:
    """What the page sends when every control shows `settings`."""
    panel = make_panel(settings)
    updates = panel.updates(settings)
    return panel.named({c: u["value"] if isinstance(u, dict) else u for c, u in updates.items()})


def make_panel(like: RunSettings = DEFAULTS[0]) -> Panel:
    panel = Panel(next(defaults for defaults in DEFAULTS if defaults.task == like.task))
    with gr.Blocks(analytics_enabled=False):
        panel.hide_rest()
        for field in CONTROLS[like.task]:
            panel.show(field)
    return panel


@pytest.mark.parametrize("defaults", DEFAULTS)
def test_every_control_fills_an_existing_field(defaults: RunSettings) -> None:
    flow, run = ({f.name for f in fields(cls)} for cls in (FlowSettings, type(defaults)))
    assert set(FLOW_FIELDS) <= flow
    assert set(CONTROLS[defaults.task]) <= {*OF_THE_FLOW, *run}
    assert set(FLOW_FIELDS) <= set(CONTROLS[defaults.task])


def test_no_two_tabs_share_the_name_of_a_control() -> None:
    names = [make_panel(defaults).elem_id(field) for defaults in DEFAULTS for field in CONTROLS[defaults.task]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("defaults", DEFAULTS)
def test_sliders_stay_within_the_limits_of_the_engine(defaults: RunSettings) -> None:
    for field, component in make_panel(defaults).components.items():
        if isinstance(component, gr.Slider):
            low, high = LIMITS[field]
            assert low <= component.minimum < component.maximum <= high


def test_any_settings_survive_the_page() -> None:
    flow = replace(PRESETS["paper"], steps=17, step_size=0.4, diversity=0.35, langevin=0.2)
    settings = GenerateSettings(
        prompt="señora 🦜", n=5, seed=2**31 + 7, preset="paper", flow=flow, baseline=False,
        truncation_psi=0.7, contrast_prompts=("a dog",), start=(0.25, -1.5), spread=0.45, space="w",
    )  # fmt: skip
    assert settings_from(all_values(settings)) == settings


def test_settings_of_an_edit_and_an_inpainting_survive_the_page() -> None:
    edit = EditSettings("red hair", neutral="a face", method="clip", strength=-1.25, disentanglement=0.31, seed=9)
    assert settings_from(all_values(edit), DEFAULTS[1]) == edit
    inpaint = InpaintSettings("", grow=-90, feather=120, invert=True, known_weight=7.5)  # beyond the sliders' ends
    assert settings_from(all_values(inpaint), DEFAULTS[2]) == inpaint


def test_a_restored_run_is_made_again_as_it_went_until_a_control_is_touched() -> None:
    flow = FlowSettings(steps=30, changes=((4, 0.05, 0.9), (9, 0.02, 0.1)), until=12)
    settings = GenerateSettings("a", flow=flow)
    values = all_values(settings)
    assert (values["step_size"], values["diversity"], values["steps"]) == (0.02, 0.1, 30)
    assert settings_from(values) == settings
    touched = settings_from({**values, "seed": 3})
    assert touched.flow == FlowSettings(steps=30, step_size=0.02, diversity=0.1)


def test_a_slider_reaches_below_its_usual_range_for_a_restored_value() -> None:
    panel = make_panel(DEFAULTS[2])
    updates = panel.updates(InpaintSettings(grow=-200))
    assert updates[panel.components["grow"]]["minimum"] <= -200


def test_a_slider_ends_beyond_a_restored_value() -> None:
    settings = GenerateSettings(prompt="a", flow=FlowSettings(step_size=0.8, steps=900))
    panel = make_panel()
    updates = panel.updates(settings)
    for field in ("step_size", "steps"):
        assert updates[panel.components[field]]["maximum"] == LIMITS[field][1]
    assert updates[panel.components["diversity"]]["maximum"] == 1


def test_another_preset_replaces_the_choices_without_a_control() -> None:
    values = {**all_values(tiny_settings()), "preset": "stein"}
    settings = settings_from(values)
    assert settings.flow.estimator == "stein" and settings.flow.bandwidth == PRESETS["stein"].bandwidth
    assert settings.flow.steps == tiny_settings().flow.steps  # the sliders are the person's


def test_numbers_that_browsers_send_as_floats_are_whole() -> None:
    settings = settings_from({**all_values(tiny_settings()), "n": 4.0, "steps": 9.0, "seed": 3.0})
    assert (settings.n, settings.flow.steps, settings.seed) == (4, 9, 3)


@pytest.mark.parametrize(
    ("field", "value"),
    [("n", 0), ("n", 1000), ("n", 2.5), ("steps", 0), ("step_size", 1e9), ("step_size", float("nan")),
     ("diversity", -1), ("seed", "x"), ("seed", -2), ("prompt", "x" * 20_000)],
)  # fmt: skip
def test_impossible_values_are_refused_in_the_words_of_the_page(field: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_from({**all_values(tiny_settings()), field: value})
    assert str(caught.value).startswith(CONTROLS["generate"][field].label + ":")


@pytest.mark.parametrize("text", ["{", "[]", '{"prompt": 3}', '{"prompt": "a", "speed": 9}'])
def test_a_forged_hidden_component_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        settings_from({**all_values(tiny_settings()), REST: text})


def test_value_of_reads_both_namespaces() -> None:
    settings = tiny_settings()
    assert value_of(settings, "steps") == settings.flow.steps and value_of(settings, "n") == settings.n


@pytest.mark.parametrize("defaults", DEFAULTS)
def test_messages_name_the_ends_of_the_slider(defaults: RunSettings) -> None:
    """Of every slider, as it is at first and as a restored value made it longer."""
    farther = replace(defaults, flow=replace(defaults.flow, diversity=1.5, step_size=0.8, steps=500))
    panel = make_panel(defaults)
    for settings in (defaults, farther):
        updates, values = panel.updates(settings), values_of(settings)
        for field, component in panel.components.items():
            if not isinstance(component, gr.Slider):
                continue
            low, high = updates[component]["minimum"], updates[component]["maximum"]
            with pytest.raises(SettingsError) as told:
                settings_from({**values, field: 10**7}, settings)
            label = CONTROLS[settings.task][field].label
            if field != "detail_steps":  # which cannot be more than all steps
                assert (
                    str(told.value)
                    == f"{label}: {10**7 + all_steps(settings, field)} is outside {low:.9g} to {high:.9g}."
                )


def all_steps(settings: RunSettings, field: str) -> int:
    """What is added to the control of the steps: those of the second stage."""
    return settings.flow.detail_steps if field == "steps" else 0


@pytest.mark.parametrize("seed", [None, "", -1, -1.0])
@pytest.mark.parametrize("defaults", DEFAULTS)
def test_an_empty_seed_and_minus_one_are_drawn(defaults: RunSettings, seed: Any) -> None:
    values = values_of(defaults)
    drawn = [settings_from({**values, "seed": seed}, defaults).seed for _ in range(3)]
    assert len(set(drawn)) == 3 and all(0 <= one <= LIMITS["seed"][1] for one in drawn)
    with pytest.raises(SettingsError, match="Seed: -2 is outside 0 to 4294967295"):
        settings_from({**values, "seed": -2}, defaults)
