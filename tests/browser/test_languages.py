"""The page in other languages."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.helpers import run_to_the_end, set_number, start, wait_for_phase


def speak(page: Page, code: str) -> None:
    """Chooses a language in the settings."""
    page.click('[data-role="settings"]')
    page.locator('dialog.preferences select[name="language"]').select_option(code)
    with page.expect_navigation():
        page.locator("dialog.preferences .button.primary").click()
    page.wait_for_selector(".run-bar-examples .chip")


def test_a_language_is_chosen_and_kept(page: Page) -> None:
    speak(page, "de")
    expect(page.locator("html")).to_have_attribute("lang", "de")
    expect(page.get_by_role("tab", name="Erzeugen")).to_be_visible()
    expect(page.locator('[data-action="run"]')).to_contain_text("Starten")
    expect(page.locator("#control-diversity")).to_contain_text("Wie stark die Bilder einander abstoßen.")
    expect(page.locator("#control-diversity input[type=number]")).to_have_attribute("aria-label", "Zahl für Vielfalt")
    page.reload()
    expect(page.get_by_role("tab", name="Erzeugen")).to_be_visible()
    speak(page, "")
    expect(page.get_by_role("tab", name="Generate")).to_be_visible()


def test_what_comes_later_is_said_in_it_too(page: Page) -> None:
    """Statuses of a run, and a tab that was not drawn yet; what a person wrote stays."""
    speak(page, "fr")
    set_number(page, "steps", 4)
    start(page, "Stop", n=2, steps=4)
    wait_for_phase(page, "done")
    expect(page.locator(".status-phase")).to_have_text("Terminé")
    expect(page.locator(".status-numbers")).to_contain_text("pas 4 sur 4")
    expect(page.locator("#control-prompt textarea")).to_have_value("Stop")
    page.get_by_role("tab", name="Historique").click()
    expect(page.locator("#history")).to_contain_text("Chercher")
    run_back = page.get_by_role("tab", name="Générer")
    run_back.click()
    run_to_the_end(page)
    expect(page.locator(".status-phase")).to_have_text("Terminé")


def test_every_language_fits_the_page(open_tab: Callable[..., Page], check_looks: Callable[[Page, int], None]) -> None:
    page = open_tab()
    for code, run in (("es", "Ejecutar"), ("zh", "运行"), ("ja", "実行")):
        speak(page, code)
        expect(page.locator('[data-action="run"]')).to_contain_text(run)
        check_looks(page, 1280)
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.set_viewport_size({"width": 1280, "height": 800})
