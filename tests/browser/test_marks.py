"""Marks on the pictures of Generate: by mouse and by keyboard, on a run that goes on and on one that has ended."""

import re

from playwright.sync_api import Page, expect

from gmi_ui.studio import Server
from tests.browser.helpers import server_run, start, wait_for_phase, wait_for_step

OURS = '.side[data-side="ours"]'


def test_pictures_are_marked_by_mouse_and_keyboard_and_the_others_drawn_anew(page: Page, studio: Server) -> None:
    start(page, "blue", n=3, steps=40)
    wait_for_step(page, 2)
    cells = page.locator(f"{OURS} .cell")
    cells.nth(1).focus()
    page.keyboard.press("p")
    pin = page.get_by_role("button", name="Pin picture 2")
    expect(pin).to_have_attribute("aria-pressed", "true")
    expect(cells.nth(1)).to_have_attribute("aria-label", re.compile(", pinned. Open it large"))
    cells.nth(0).hover()
    like = page.get_by_role("button", name="Like picture 1", exact=True)
    like.click()
    expect(like).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("u")  # the focus is on the button beside the picture: one takes the other's place
    expect(page.get_by_role("button", name="Unlike picture 1")).to_have_attribute("aria-pressed", "true")
    expect(like).to_have_attribute("aria-pressed", "false")
    wait_for_phase(page, "done")
    first = server_run(page, studio)
    assert first.marks == {0: {"unlike"}, 1: {"pin"}}
    assert page.locator('.side[data-side="baseline"] .mark').count() == 0
    page.click('[data-role="draw_anew"]')
    page.wait_for_selector(f'.results[data-phase="done"]:not([data-run="{first.id}"])')
    second = server_run(page, studio)
    sides = [run.moment.sides["ours"].step.particles.latents for run in (first, second)]
    assert sides[0][1].equal(sides[1][1]) and not sides[0][0].equal(sides[1][0])
    expect(page.locator("#unlike-these")).to_contain_text("Unlike 1 picture seen before. Pinned: 2.")
    expect(pin).to_have_attribute("aria-pressed", "true")
    pin.focus()
    page.keyboard.press("Space")
    expect(pin).to_have_attribute("aria-pressed", "false")
    expect(page.locator('[data-role="draw_anew"]')).to_be_hidden()
    page.click('[data-role="unlike_all"]')
    page.wait_for_selector(f'.results[data-phase="done"]:not([data-run="{second.id}"])')
    expect(page.locator("#unlike-these")).to_contain_text(re.compile(r"Unlike 1\d pictures seen before"))
