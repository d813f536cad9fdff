"""Runs that are lined up behind one that goes on: added, moved, taken out, shown in turn, kept in History."""

from playwright.sync_api import Page, expect

from gmi_ui.studio import Server
from tests.browser.helpers import server_run, set_number, start, wait_for_phase


def line_up(page: Page, prompt: str, steps: int = 12) -> None:
    set_number(page, "steps", steps)
    page.fill("#control-prompt textarea", prompt)
    page.click('[data-action="line-up"]')


def waiting(page: Page, count: int) -> None:
    expect(page.locator(".queue-count")).to_have_text(str(count))


def test_runs_are_lined_up_moved_and_taken_out(page: Page, studio: Server) -> None:
    expect(page.locator('[data-action="line-up"]')).to_be_hidden()
    expect(page.locator('[data-role="queue"]')).to_be_hidden()
    start(page, "blue", steps=900)
    wait_for_phase(page, "running")
    for count, prompt in enumerate(("teal", "mauve", "ochre"), start=1):
        line_up(page, prompt)
        waiting(page, count)
    page.click('[data-role="queue"]')
    words = page.locator(".queue-rows .queue-words span")
    expect(words).to_have_text(["blue", "teal", "mauve", "ochre"])
    expect(page.locator(".queue-rows li").first).to_contain_text("running")
    page.locator(".queue-rows li", has_text="ochre").get_by_role("button", name="Before").click()
    expect(words).to_have_text(["blue", "teal", "ochre", "mauve"])
    page.keyboard.press("Enter")  # the focus stays on the work's button
    expect(words).to_have_text(["blue", "ochre", "teal", "mauve"])
    page.locator(".queue-rows li", has_text="teal").get_by_role("button", name="Take out").click()
    expect(words).to_have_text(["blue", "ochre", "mauve"])
    page.locator("dialog.queue .button").click()
    waiting(page, 2)
    page.reload()
    waiting(page, 2)
    page.keyboard.press("Escape")  # stops blue, and the next one begins
    page.wait_for_function("() => document.querySelector('.results')?.dataset.phase === 'done'")
    expect(page.locator(".queue-count")).to_have_text("")
    expect(page.locator('[data-role="queue"]')).to_be_hidden()
    assert server_run(page, studio).settings.prompt == "mauve"
    page.click('[role="tab"][data-tab-id="history"]')
    for prompt in ("ochre", "mauve"):
        page.fill('[data-role="words"]', prompt)
        expect(page.locator(".history-count")).to_contain_text("6 pictures")
    page.fill('[data-role="words"]', "")
