"""The settings of the studio, in the page: looked at, changed, refused, and in force on the next page."""

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from gmi_ui.studio import Server

DIALOG = "dialog.preferences"


def opened(page: Page) -> None:
    page.click('[data-role="settings"]')
    expect(page.locator(DIALOG)).to_be_visible()


def field(name: str) -> str:
    return f'{DIALOG} [name="{name}"]'


def told(page: Page, text: str) -> None:
    expect(page.locator(".preferences-told")).to_contain_text(text)


def test_settings_are_changed_and_refused(
    page: Page, studio: Server, tmp_path: Path, open_tab: Callable[..., Page], check_looks: Callable[[Page, int], None]
) -> None:
    before = page.locator("#control-model input").input_value()
    other = next(name for name in studio.services.models.names(task="generate") if name != before)
    opened(page)
    check_looks(page, 1280)
    folder = page.locator(field("folder")).input_value()
    page.fill(field("folder"), "somewhere")
    page.click(f"{DIALOG} [type=submit]")
    told(page, "whole path")
    page.fill(field("folder"), str(tmp_path / "kept"))
    page.select_option(field("model"), other)
    page.fill(field("threads"), "2")
    page.select_option(field("theme"), "dark")
    page.click(f"{DIALOG} [type=submit]")
    told(page, "Applied.")
    assert page.evaluate("document.body.classList.contains('dark')")
    page.click('[data-role="settings-close"]')
    expect(page.locator(DIALOG)).to_be_hidden()
    page.evaluate("localStorage.clear()")
    fresh = open_tab()
    expect(fresh.locator("#control-model input")).to_have_value(other)
    opened(fresh)
    assert fresh.locator(field("folder")).input_value() == str(tmp_path / "kept")
    assert fresh.locator(field("threads")).input_value() == "2"
    fresh.fill(field("folder"), folder)
    fresh.select_option(field("model"), "")
    fresh.fill(field("threads"), "")
    fresh.click(f"{DIALOG} [type=submit]")
    told(fresh, "Applied.")
    assert studio.services.preferences.now.threads is None


def test_on_a_phone(open_tab: Callable[..., Page], check_looks: Callable[[Page, int], None]) -> None:
    page = open_tab(width=390)
    opened(page)
    check_looks(page, 390)
    page.keyboard.press("Escape")
    expect(page.locator(DIALOG)).to_be_hidden()
