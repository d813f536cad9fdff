"""What can be checked of the page's looks: it fits, names its controls, and can be read in light and dark."""

import io
from collections.abc import Callable

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.helpers import expect_notice, set_number, start, wait_for_phase

# Texts of the page's head, and of the heads of the grids, that lie over each other or outside of their box.
MISPLACED = """() => {
  const boxOf = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    return range.getBoundingClientRect();
  };
  const groups = [...document.querySelectorAll(".side-head")].filter((head) => head.offsetParent)
    .map((head) => [head.closest(".side"), [...head.querySelectorAll("figcaption, output, .side-title")]]);
  const words = [...document.querySelectorAll('#studio-tabs [role="tab"], .studio-tagline, .studio-name')];
  groups.push([document.body, words.filter((word) => getComputedStyle(word).visibility === "visible")]);
  return groups.flatMap(([place, texts]) => {
    const outer = place.getBoundingClientRect();
    const shown = texts.map((text) => [text.textContent, boxOf(text)]).filter(([, box]) => box.width);
    const outside = shown.filter(([, box]) => box.left < outer.left - 1 || box.right > outer.right + 1);
    const over = shown.flatMap(([text, a], i) => shown.slice(i + 1)
      .filter(([, b]) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2)
      .map(([other]) => `${text} over ${other}`));
    return [...over, ...outside.map(([text]) => `${text} outside`)];
  });
}"""


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


def test_no_text_lies_over_another_at_any_width(page: Page) -> None:
    start(page, n=8, steps=3)
    wait_for_phase(page, "done")
    for width in (1600, 1531, 1530, 1280, 1024, 900, 861, 860, 420, 390):
        page.set_viewport_size({"width": width, "height": 768})
        page.wait_for_timeout(100)  # the grids follow the size of the window
        assert page.evaluate(MISPLACED) == [], width
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_grids_in_a_narrow_column_lie_one_below_the_other(page: Page) -> None:
    start(page, n=8, steps=3)
    wait_for_phase(page, "done")
    page.add_style_tag(content=".studio-results { max-width: 360px !important; }")
    page.wait_for_function("() => document.querySelector('.sides').classList.contains('is-stacked')")
    assert page.evaluate(MISPLACED) == []


def test_lists_open_on_a_click_or_an_arrow_and_not_for_whoever_passes_by(page: Page) -> None:
    opened = page.locator('#studio-tabs input[role="combobox"][aria-expanded="true"]')
    page.locator('#run-bar [data-action="run"]').focus()
    for _ in range(4):
        page.keyboard.press("Tab")
        expect(opened).to_have_count(0)
    page.locator('#run-bar [data-action="run"]').focus()
    page.keyboard.press("Tab")
    expect(page.locator("#control-model input")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(opened).to_have_count(1)
    page.keyboard.press("Tab")
    expect(opened).to_have_count(0)
    page.click("#control-beside input")
    expect(opened).to_have_count(1)
    page.click("[role=option]:has-text('Nothing')")
    expect(page.locator("#control-beside input")).to_have_value("Nothing")


@pytest.mark.parametrize("dark", [False, True])
def test_the_thumbs_of_sliders_can_be_seen(open_tab: Callable[..., Page], dark: bool) -> None:
    page = open_tab(dark=dark)
    set_number(page, "steps", 1)
    page.keyboard.press("Tab")
    slider = page.locator("#control-steps input[type=range]")
    slider.hover(position={"x": 8, "y": 4})
    shot = Image.open(io.BytesIO(page.locator("#control-steps").screenshot())).convert("L")
    box, around = slider.bounding_box(), page.locator("#control-steps").bounding_box()
    assert box and around
    middle = int(box["x"] - around["x"]) + 8, int(box["y"] - around["y"] + box["height"] / 2)
    thumb, card = (((shot.getpixel(at) / 255) ** 2.2 + 0.05) for at in (middle, (3, 3)))  # type: ignore[operator]
    assert max(thumb, card) / min(thumb, card) >= 3


def test_a_folded_part_shows_an_arrow_of_ours(page: Page) -> None:
    icon = page.locator(".gr-accordion .label-wrap .icon").first
    drawn = "(icon) => [getComputedStyle(icon).fontSize, getComputedStyle(icon, '::before').maskImage.slice(0, 4)]"
    assert icon.evaluate(drawn) == ["0px", "url("]


def test_what_was_said_of_a_control_goes_when_it_changes(page: Page) -> None:
    set_number(page, "seed", 10**12)
    page.click('[data-action="run"]')
    expect_notice(page, "Seed")
    set_number(page, "seed", 7)
    expect(page.locator(".notice")).to_be_hidden()


def test_that_a_run_goes_on_is_said_until_it_ends(page: Page) -> None:
    start(page, "blue", steps=400)
    wait_for_phase(page, "running")
    page.keyboard.press("Control+Enter")
    expect_notice(page, "going on already")
    page.click('[data-action="stop"]')
    wait_for_phase(page, "stopped")
    expect(page.locator(".notice")).to_be_hidden()
