"""Controls: every one fills a settings field, and settings survive the way to the page and back."""

from dataclasses import fields, replace
from typing import Any

import gradio as gr
import pytest

from engine.settings import LIMITS, PRESETS, FlowSettings, GenerateSettings, SettingsError
from gmi_ui.controls import CONTROLS, FLOW_FIELDS, REST, RUN_FIELDS, Panel, settings_from, value_of
from tests.gmi_ui.tiny import tiny_settings


def all_values(settings: GenerateSettings) -> dict[str, Any]:
    """What the page sends when every control shows `settings`."""
    panel = make_panel()
    updates = panel.updates(settings)
    return panel.named({c: u["value"] if isinstance(u, dict) else u for c, u in updates.items()})


def make_panel() -> Panel:
    panel = Panel(GenerateSettings(prompt="a"))
    with gr.Blocks(analytics_enabled=False):
        panel.hide_rest()
        for field in CONTROLS:
            panel.show(field)
    return panel


def test_every_control_fills_an_existing_field_and_every_listed_field_has_a_control() -> None:
    flow, run = ({f.name for f in fields(cls)} for cls in (FlowSettings, GenerateSettings))
    assert set(FLOW_FIELDS) <= flow and set(RUN_FIELDS) <= run
    assert set(CONTROLS) == {*FLOW_FIELDS, *RUN_FIELDS}


def test_sliders_stay_within_the_limits_of_the_engine() -> None:
    for field, component in make_panel().components.items():
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
     ("diversity", -1), ("seed", None), ("seed", -1), ("prompt", "  "), ("prompt", "x" * 20_000)],
)  # fmt: skip
def test_impossible_values_are_refused_in_the_words_of_the_page(field: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_from({**all_values(tiny_settings()), field: value})
    assert str(caught.value).startswith(CONTROLS[field].label + ":")


@pytest.mark.parametrize("text", ["{", "[]", '{"prompt": 3}', '{"prompt": "a", "speed": 9}'])
def test_a_forged_hidden_component_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        settings_from({**all_values(tiny_settings()), REST: text})


def test_value_of_reads_both_namespaces() -> None:
    settings = tiny_settings()
    assert value_of(settings, "steps") == settings.flow.steps and value_of(settings, "n") == settings.n
