"""A run in the page: start, stream, tune, pause, stop, reload, wait."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from engine.models.domain import Doubt
from gmi_ui.runs.run import OURS
from gmi_ui.studio import Server
from tests.browser.helpers import (
    choose,
    expect_notice,
    number,
    prompt_box,
    server_run,
    set_number,
    start,
    wait_for_phase,
    wait_for_step,
)


def test_a_first_visit_shows_pictures_and_the_prompt_is_ready(page: Page) -> None:
    expect(page.locator(".welcome-pictures img")).to_have_count(24)
    assert page.evaluate("document.querySelector('.welcome-pictures img').naturalWidth") > 0
    expect(page.locator("#control-prompt textarea")).to_be_focused()
    page.click(".chip:has-text('red on white')")
    expect(page.locator("#control-prompt textarea")).to_have_value("red on white")


def test_without_a_seed_one_is_drawn_and_shown(page: Page, studio: Server) -> None:
    """It stays empty for the next run; Reuse brings it into the box."""
    page.fill("#control-seed input", "")
    start(page, "blue", n=2, steps=2)
    wait_for_phase(page, "done")
    seed = server_run(page, studio).settings.seed
    expect(page.locator(".status-numbers")).to_contain_text(f"seed {seed}")
    expect(page.locator("#control-seed input")).to_have_value("")
    page.click("#seed-reuse")
    expect(page.locator("#control-seed input")).to_have_value(str(seed))


def test_a_run_streams_both_grids(page: Page, studio: Server) -> None:
    page.evaluate(
        """() => { window.steps = new Set();
        document.addEventListener("studio:frame", (event) => window.steps.add(event.detail.step)); }"""
    )
    start(page, "blue", n=4, steps=40)
    wait_for_phase(page, "done")
    assert len(page.evaluate("[...window.steps]")) >= 5
    for side in ("ours", "baseline"):
        cells = page.locator(f'.side[data-side="{side}"] .cell')
        expect(cells).to_have_count(4)
        assert cells.locator("img").evaluate_all("all => all.every((img) => img.naturalWidth > 0)")
        for figure in ("text", "diversity"):
            path = page.locator(f'.side[data-side="{side}"] [data-figure="{figure}"] .curve-own')
            assert path.get_attribute("d").count("L") == 40  # type: ignore[union-attr]
    moment = server_run(page, studio).moment
    shown = page.locator('.side[data-side="ours"] [data-figure="text"] output')
    expect(shown).to_have_text(f"{moment.sides[OURS].curves['text'][-1]:.3f}")
    expect(page.locator(".status-numbers")).to_contain_text("step 40 of 40")
    expect(page.locator(".progress")).to_have_attribute("aria-valuenow", "100")


@pytest.mark.parametrize("keys", ["Control+Enter", "Enter"])
def test_keys_start_a_run(page: Page, keys: str) -> None:
    set_number(page, "steps", 3)
    page.locator("#control-prompt textarea").press(keys)
    wait_for_phase(page, "done")


def test_a_slider_moved_during_a_run_reaches_it(page: Page, studio: Server) -> None:
    start(page, steps=900)
    wait_for_step(page, 1)
    slider = page.locator("#control-diversity input[type=range]")
    slider.focus()
    for _ in range(4):
        slider.press("ArrowRight")
    shown = float(number(page, "diversity"))
    assert shown == pytest.approx(0.7)
    run = server_run(page, studio)
    page.wait_for_function("() => document.querySelector('.results').dataset.phase === 'running'")
    while run.flow.diversity != shown and not run.moment.phase.is_over:
        page.wait_for_timeout(10)
    assert run.flow.diversity == shown and not run.moment.phase.is_over


def test_pause_resume_and_stop(page: Page, studio: Server) -> None:
    start(page, steps=400)
    wait_for_step(page, 2)
    page.click('[data-action="pause"]')
    wait_for_phase(page, "paused")
    run = server_run(page, studio)
    page.click('[data-action="resume"]')
    wait_for_step(page, run.moment.step + 1)
    page.keyboard.press("Escape")
    wait_for_phase(page, "stopped")
    expect(page.locator('.side[data-side="ours"] .cell img')).to_have_count(3)
    expect(page.locator('[data-action="stop"]')).to_be_hidden()
    start(page, steps=3)  # and on
    wait_for_phase(page, "done")


def test_a_reload_during_a_run_finds_it_again(page: Page, studio: Server) -> None:
    start(page, "green and blue", n=5, steps=300)
    wait_for_step(page, 2)
    run = server_run(page, studio)
    page.reload()
    wait_for_phase(page, "running")
    expect(page.locator('.side[data-side="ours"] .cell')).to_have_count(5)
    wait_for_step(page, run.moment.step + 1)
    assert server_run(page, studio) is run
    expect(page.locator("#control-prompt textarea")).to_have_value("green and blue")
    expect(page.locator("#control-steps input[type=number]")).to_have_value("300")
    page.keyboard.press("Escape")
    wait_for_phase(page, "stopped")
    page.reload()
    wait_for_phase(page, "stopped")  # the pictures are still there
    expect(page.locator('.side[data-side="ours"] .cell img:not([hidden])')).to_have_count(5)


def test_what_was_typed_and_not_run_survives_a_reload(page: Page) -> None:
    page.fill("#control-prompt textarea", "not run yet")
    set_number(page, "n", 5)
    choose(page, "control-beside", "Nothing")
    page.reload()
    expect(page.locator("#control-prompt textarea")).to_have_value("not run yet")
    expect(page.locator("#control-n input[type=number]")).to_have_value("5")
    expect(page.locator("#control-beside input")).to_have_value("Nothing")


def test_a_path_that_was_typed_survives_a_reload(page: Page) -> None:
    tab = '[role="tab"][data-tab-id="models"]'
    page.click(tab)
    page.fill("#models-path input, #models-path textarea", "/a/model that I typed.pkl")
    page.fill("#models-architecture input, #models-architecture textarea", "ViT-B-32")
    page.reload()
    page.click(tab)
    expect(page.locator("#models-path input, #models-path textarea")).to_have_value("/a/model that I typed.pkl")
    expect(page.locator("#models-architecture input, #models-architecture textarea")).to_have_value("ViT-B-32")
    page.click('[role="tab"][data-tab-id="generate"]')


def test_a_new_page_is_offered_the_last_run_of_one_that_was_closed(open_tab: Callable[..., Page]) -> None:
    first = open_tab()
    start(first, "blue and yellow", n=3, steps=4)
    wait_for_phase(first, "done")
    first.wait_for_timeout(1500)  # it is written
    second = open_tab()
    offered = second.locator(".last-run")
    expect(offered).to_contain_text("blue and yellow: 3 pictures, step 4 of 4")
    second.wait_for_function("() => document.querySelector('.last-run img').naturalWidth > 0")
    second.fill("#control-prompt textarea", "something else")
    offered.get_by_role("button", name="Take its settings").click()
    expect(second.locator("#control-prompt textarea")).to_have_value("blue and yellow")
    offered.get_by_role("button", name="Put away").click()
    expect(offered).to_be_hidden()


def test_a_new_page_brings_the_last_run_back(open_tab: Callable[..., Page]) -> None:
    first = open_tab()
    start(first, "blue and yellow", n=3, steps=4)
    wait_for_phase(first, "done")
    first.wait_for_timeout(1500)  # it is written
    seen = first.locator('.side[data-side="ours"] .cell img').evaluate_all("(all) => all.map((one) => one.src)")
    second = open_tab()
    second.fill("#control-prompt textarea", "something else")
    second.get_by_role("button", name="Bring it back").click()
    wait_for_phase(second, "done")
    expect(second.locator("#control-prompt textarea")).to_have_value("blue and yellow")
    expect(second.locator("#control-steps input[type=number]")).to_have_value("4")
    pictures = second.locator('.side[data-side="ours"] .cell img:not([hidden])')
    expect(pictures).to_have_count(3)
    assert pictures.evaluate_all("(all) => all.map((one) => one.src)") == seen


def test_what_a_run_does_not_follow_is_marked_and_the_results_keep_their_words(page: Page) -> None:
    start(page, "blue", steps=600)
    wait_for_phase(page, "running")
    colours = """() => ["diversity", "steps"].map((name) => {
        const slider = document.querySelector(`#control-${name} input[type=range]`);
        return getComputedStyle(slider).getPropertyValue("--slider-color");
    })"""
    page.wait_for_function("() => document.querySelectorAll('#studio-tabs .is-live').length === 2")
    followed, ignored = page.evaluate(colours)
    assert followed != ignored
    page.fill("#control-prompt textarea", "something else")
    expect(page.locator(".status-words")).to_contain_text("blue")
    page.keyboard.press("Escape")
    wait_for_phase(page, "stopped")
    page.wait_for_function("() => !document.querySelector('.is-live, .is-going-on')")
    followed, ignored = page.evaluate(colours)
    assert followed == ignored
    expect(page.locator(".status-words")).to_contain_text("blue")


def test_a_run_that_a_restart_lost_is_told(page: Page) -> None:
    page.evaluate("sessionStorage.setItem('studio-run', '0123456789abcdef')")
    page.reload()
    expect_notice(page, "restarted")


def test_a_second_tab_waits_sees_its_place_and_can_be_stopped(open_tab: Callable[..., Page]) -> None:
    first, second = open_tab(), open_tab()
    start(first, steps=600)
    wait_for_step(first, 1)
    start(second, "red", steps=3)
    wait_for_phase(second, "waiting")
    expect(second.locator(".status-phase")).to_contain_text("one run is before yours")
    second.keyboard.press("Escape")
    wait_for_phase(second, "stopped")
    start(second, "red", steps=3)
    wait_for_phase(second, "waiting")
    first.bring_to_front()
    first.click('[data-action="pause"]')
    expect(second.locator(".status-phase")).to_contain_text("paused")
    first.keyboard.press("Escape")
    wait_for_phase(second, "done")
    wait_for_phase(first, "stopped")


def test_run_during_a_run_changes_nothing(page: Page, studio: Server) -> None:
    start(page, "blue", steps=400)
    wait_for_step(page, 1)
    run = server_run(page, studio)
    page.fill("#control-prompt textarea", "something else")
    page.keyboard.press("Control+Enter")
    expect_notice(page, "going on already")
    assert server_run(page, studio) is run and not run.moment.phase.is_over
    assert prompt_box(page) == "something else"
    wait_for_step(page, run.moment.step + 1)


def test_the_browser_tab_tells_how_far_it_is_and_that_it_is_over(page: Page) -> None:
    page.evaluate(
        """() => {
            window.told = [];
            window.Notification = class extends EventTarget {
                static permission = "granted";
                constructor(title, { body }) { super(); window.told.push([title, body]); }
            };
            Object.defineProperty(document, "hidden", { configurable: true, get: () => window.away ?? false });
        }"""
    )
    start(page, "blue", steps=60)
    page.wait_for_function(r"() => /^[1-9]\d? % . GMI Studio$/.test(document.title)")
    wait_for_phase(page, "done")
    page.wait_for_function("() => document.title === 'GMI Studio'")
    assert page.evaluate("window.told") == []  # who looks need not be told
    page.evaluate("window.away = true")
    start(page, "red", steps=5)
    page.wait_for_function("() => document.title.startsWith('Done')")
    assert page.evaluate("window.told") == [["Done: GMI Studio", "red"]]
    page.evaluate("() => { window.away = false; document.dispatchEvent(new Event('visibilitychange')); }")
    assert page.title() == "GMI Studio"


def test_the_numbers_of_a_slow_run_and_of_two_with_steps_of_their_own_can_be_read(page: Page) -> None:
    """The line above the grids, of frames made by hand."""
    start(page, "blue", n=1, steps=3)
    wait_for_phase(page, "done")
    page.evaluate(
        """() => {
            const { fetch } = window;
            window.fetch = async (...asked) => {
                const answer = await fetch(...asked);
                const frame = await answer.clone().json().catch(() => null);
                if (!frame?.sides?.ours || !frame.sides.baseline) return answer;
                frame.sides.ours.step = 12;
                frame.sides.baseline.total = 120;
                return new Response(JSON.stringify({ ...frame, phase: "running", rate: 0.031, left: 300 }), answer);
            };
        }"""
    )
    page.evaluate("document.dispatchEvent(new CustomEvent('studio:wake', { detail: { task: 'generate' } }))")
    page.click('[data-action="run"]')
    numbers = page.locator(".status-numbers")
    expect(numbers).to_contain_text("32 s a step")
    expect(numbers).to_contain_text("step 12 of 3 and ")
    expect(numbers).not_to_contain_text("steps/s")
    expect(numbers).to_contain_text("5 min left")
    page.reload()


def test_without_the_baseline_there_is_one_grid(page: Page) -> None:
    choose(page, "control-beside", "Nothing")
    start(page, n=1, steps=3)
    wait_for_phase(page, "done")
    expect(page.locator(".side")).to_have_count(1)
    expect(page.locator(".cell")).to_have_count(1)


def test_what_the_models_do_not_know_is_said_while_typing(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the prompt before the run, without a click elsewhere, and in the run's message."""
    asked: list[str] = []

    def doubt(prompt: str, *_: object) -> Doubt | None:
        asked.append(prompt)
        return Doubt("avatars draws blobs; it does not know “castle”.", True) if "castle" in prompt else None

    monkeypatch.setattr("engine.models.domain.doubt", doubt)
    hint = page.locator("#generate-prompt-hint")
    page.fill("#control-prompt textarea", "")
    page.locator("#control-prompt textarea").press_sequentially("a castle", delay=15)
    expect(hint).to_contain_text("it does not know “castle”")
    assert asked[-1] == "a castle" and len(asked) < len("a castle")  # not once a letter
    start(page, "a castle on a hill", n=2, steps=2)
    expect_notice(page, "it does not know “castle”")
    wait_for_phase(page, "done")
    expect(page.locator(".cell-number").first).to_have_text(re.compile(r"^\d+ %$"))
    page.fill("#control-prompt textarea", "blue")
    expect(hint).to_have_text("")
