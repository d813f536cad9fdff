"""What a person has opened on the page is open on the next one."""

from playwright.sync_api import Page, expect


def test_opened_panels_are_open_after_a_reload(page: Page) -> None:
    preset, plot = (page.locator(".label-wrap", has_text=text) for text in ("Preset and prompt", "Plot two"))
    preset.click()
    plot.click()
    plot.click()
    page.reload()
    expect(page.locator("#control-preset input")).to_be_visible()
    assert "open" not in (plot.get_attribute("class") or "").split()
    preset.click()
    page.reload()
    page.wait_for_selector(".run-bar-examples .chip")
    page.wait_for_timeout(500)
    expect(page.locator("#control-preset input")).to_be_hidden()
