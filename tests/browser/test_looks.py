"""What can be checked of the page's looks: it fits, names its controls, and can be read in light and dark."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.browser.helpers import start, wait_for_phase


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_is_named_and_readable(
    open_tab: Callable[..., Page], width: int, dark: bool, check_looks: Callable[[Page, int], None]
) -> None:
    page = open_tab(width=width, dark=dark)
    assert page.evaluate("document.body.classList.contains('dark')") is dark
    for state in ("idle", "done"):
        if state == "done":
            start(page, n=8, steps=3)
            wait_for_phase(page, "done")
        check_looks(page, width)


def test_the_results_fit_a_laptop_screen(page: Page) -> None:
    start(page, n=8, steps=3)
    wait_for_phase(page, "done")
    bottom = page.evaluate("document.querySelector('.sides').getBoundingClientRect().bottom")
    assert bottom <= 800


def test_the_theme_can_be_switched_and_is_kept(page: Page) -> None:
    page.click('[data-role="theme"]')
    assert page.evaluate("document.body.classList.contains('dark')")
    page.reload()
    page.wait_for_selector(".run-bar-examples .chip")
    page.wait_for_function("() => document.body.classList.contains('dark')")


def test_keyboard_focus_can_be_seen(page: Page) -> None:
    page.locator("#control-prompt textarea").focus()
    for _ in range(4):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", page.evaluate("document.activeElement.outerHTML.slice(0, 120)")
