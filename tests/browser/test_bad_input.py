"""Bad input in the page: each gets a message that says what to do, and the page goes on."""

from playwright.sync_api import Page, expect

from gmi_ui.studio import Server
from tests.browser.helpers import expect_notice, run_to_the_end, server_run, set_number, start, wait_for_phase
from tests.gmi_ui.tiny import CONTEXT


def goes_on(page: Page) -> None:
    for field, value in (("n", 2), ("steps", 2), ("step-size", 0.03), ("seed", 1)):
        set_number(page, field, value)
    page.fill("#control-prompt textarea", "blue")
    run_to_the_end(page)


def test_numbers_out_of_range(page: Page) -> None:
    for field, value, message in (
        ("n", "0", "Pictures: 0"),
        ("n", "1000", "Pictures: 1000"),
        ("steps", "0", "Steps:"),
        ("step-size", "1e9", "Step size:"),
        ("seed", "-4", "Seed: -4"),
        ("seed", "4294967296", "Seed: 4294967296 is outside 0 to 4294967295"),
    ):
        set_number(page, field, value)
        page.keyboard.press("Control+Enter")
        expect_notice(page, message)
        expect(page.locator(".notice-urgent")).to_have_attribute("role", "alert")
        page.click('[data-role="dismiss"]')
        expect(page.locator(".notice")).to_be_hidden()
        goes_on(page)


def test_what_a_prompt_of_2000_characters_loses_is_said(page: Page) -> None:
    words = " ".join(f"w{i:03d}" for i in range(400))
    assert len(words) >= 1999
    start(page, words, steps=3)
    expect_notice(page, f"w{CONTEXT:03d}")
    expect_notice(page, "w399")
    wait_for_phase(page, "done")


def test_every_script_runs_and_is_shown_as_it_is(page: Page) -> None:
    set_number(page, "steps", 2)
    for prompt in ("🦜🌈", "眼鏡をかけた女性", "امرأة بشعر وردي", "<img src=x onerror=alert(1)> ${2}"):
        page.fill("#control-prompt textarea", prompt)
        run_to_the_end(page)
        page.locator(".cell").first.click()
        expect(page.locator(".viewer-prompt")).to_have_text(prompt)
        page.keyboard.press("Escape")


def test_a_missing_model(page: Page, studio: Server) -> None:
    goes_on(page)
    run = server_run(page, studio)
    box = page.locator("#control-model input")
    box.fill("nowhere.safetensors")
    box.press("Enter")
    expect_notice(page, "nowhere.safetensors")
    page.wait_for_timeout(800)  # gradio tells of the change itself late
    expect(page.locator(".notice")).to_be_visible()
    page.click('[data-role="dismiss"]')
    page.keyboard.press("Control+Enter")
    expect_notice(page, "nowhere.safetensors")
    assert server_run(page, studio) is run  # its pictures stay
    box.fill("avatars")
    box.press("Enter")
    goes_on(page)


def test_a_preset_moves_the_sliders(page: Page) -> None:
    page.click("text=Preset and prompt model")
    page.click("#control-preset input")
    page.click("[role=option]:has-text('As in the paper')")
    expect(page.locator("#control-step-size input[type=number]")).to_have_value("0.1")
    expect(page.locator("#control-diversity input[type=number]")).to_have_value("1")
