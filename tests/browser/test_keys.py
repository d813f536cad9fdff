"""What keys do on a picture that has the focus, and where they are told."""

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.helpers import run_to_the_end, set_number, start, wait_for_phase

OURS = '.side[data-side="ours"]'


def test_a_picture_is_gone_to_saved_and_handed_on_by_keys(page: Page, tmp_path: Path) -> None:
    start(page, "blue", n=4, steps=4)
    wait_for_phase(page, "done")
    cells = page.locator(f"{OURS} .cell")
    cells.nth(0).focus()
    columns = page.evaluate(
        f"""() => {{
            const tops = [...document.querySelectorAll('{OURS} .cell')].map((one) => one.getBoundingClientRect().top);
            return tops.filter((top) => Math.abs(top - tops[0]) < 1).length;
        }}"""
    )
    assert 0 < columns < 4
    for key, place in (("ArrowRight", 1), ("ArrowLeft", 0), ("ArrowLeft", 0), ("ArrowDown", columns), ("ArrowUp", 0)):
        page.keyboard.press(key)
        expect(cells.nth(place)).to_be_focused()
    with page.expect_download() as waiting:
        page.keyboard.press("s")
    assert waiting.value.suggested_filename.endswith(".png") and "seed-1" in waiting.value.suggested_filename
    first = page.locator(".results").first.get_attribute("data-run")
    page.keyboard.press("m")
    page.wait_for_selector(f'.results[data-phase="done"]:not([data-run="{first}"])')
    expect(page.locator("text=Starts around a kept picture")).to_be_visible()
    cells.nth(1).focus()
    page.keyboard.press("e")
    expect(page.locator('[role="tab"][data-tab-id="edit"]')).to_have_attribute("aria-selected", "true")


def test_the_keys_are_told(page: Page) -> None:
    keys = page.locator("dialog.keys")
    page.click('#studio-head [data-role="keys"]')
    expect(keys).to_be_visible()
    expect(keys).to_contain_text(re.compile(r"L\s*like"))
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()
    page.locator('[role="tab"][data-tab-id="generate"]').focus()
    page.keyboard.press("?")
    expect(keys).to_be_visible()
    keys.get_by_role("button", name="Close").click()
    page.focus("#control-prompt textarea")
    page.keyboard.press("End")
    page.keyboard.type(" why?")
    expect(keys).to_be_hidden()
    expect(page.locator("#control-prompt textarea")).to_have_value(re.compile(r" why\?$"))
    set_number(page, "steps", 2)
    run_to_the_end(page)
