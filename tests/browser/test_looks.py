"""What can be checked of the page's looks: it fits, names its controls, and can be read in light and dark."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.helpers import start, wait_for_phase

UNNAMED = """() => [...document.querySelectorAll("button, input, textarea, select, [role=button]")]
  .filter((e) => e.offsetParent !== null && e.type !== "file")
  .filter((e) => !(e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim() || e.title))
  .map((e) => e.outerHTML.slice(0, 200))"""
LOW_CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
EMOJI = r"() => document.body.innerText.match(/\p{Emoji_Presentation}/gu)"


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_is_named_and_readable(open_tab: Callable[..., Page], width: int, dark: bool) -> None:
    page = open_tab(width=width, dark=dark)
    assert page.evaluate("document.body.classList.contains('dark')") is dark
    for state in ("idle", "done"):
        if state == "done":
            start(page, n=8, steps=3)
            wait_for_phase(page, "done")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(UNNAMED) == []
        assert page.evaluate(LOW_CONTRAST) == []
        assert page.evaluate(EMOJI) is None


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
