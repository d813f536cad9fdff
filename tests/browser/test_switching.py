"""The model menu in the page: each model's own controls, classes, stages, and two models side by side."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from gmi_ui.studio import Server
from tests.browser.helpers import (
    choose,
    download,
    drop_file,
    expect_notice,
    number,
    run_to_the_end,
    server_run,
    set_number,
    start,
    wait_for_phase,
    wait_for_step,
)
from tests.gmi_ui.tiny import CLASS_PROMPTS, CODE_PROMPTS, WIDE


def switch(page: Page, model: str, chip: str) -> None:
    """Chooses a model and waits until its example prompts are there."""
    choose(page, "control-model", model)
    expect(page.locator(".chip").first).to_have_text(chip)


def to_fashion(page: Page) -> None:
    switch(page, "fashion", CLASS_PROMPTS[0])
    expect(page.locator("#control-classes")).to_be_visible()


def to_mosaic(page: Page) -> None:
    switch(page, "mosaic", CODE_PROMPTS[0])
    expect(page.locator("#control-codebook")).to_be_visible()


def to_avatars(page: Page) -> None:
    switch(page, "avatars", "blue and green")
    expect(page.locator("#control-classes")).to_have_count(0)


def chosen_classes(page: Page) -> list[str]:
    return [text.split("  ")[0] for text in page.locator("#control-classes .token").all_inner_texts()]


def test_every_model_has_its_own_controls_and_gets_them_back(page: Page) -> None:
    page.fill("#control-prompt textarea", "a coat of green")
    set_number(page, "diversity", 0.85)
    to_fashion(page)
    assert number(page, "diversity") == "0.5"
    expect(page.locator("#found-classes")).to_contain_text("coat")
    expect(page.locator("#control-codebook")).to_have_count(0)
    choose(page, "control-classes", "ankle boot")
    expect(page.locator("#control-classes .token")).to_have_count(1)
    choose(page, "control-classes", "bag")
    expect(page.locator("#control-classes .token")).to_have_count(2)
    assert set(chosen_classes(page)) == {"ankle boot", "bag"}  # not the prompt's any more
    to_mosaic(page)
    expect(page.locator("#control-classes")).to_have_count(0)
    expect(page.locator("#control-steps")).to_contain_text("Stage 1 steps")
    set_number(page, "codebook", 0)
    set_number(page, "detail-steps", 7)
    to_avatars(page)
    assert number(page, "diversity") == "0.85"
    expect(page.locator("#control-detail-steps")).to_have_count(0)
    to_fashion(page)
    assert set(chosen_classes(page)) == {"ankle boot", "bag"}
    to_mosaic(page)
    assert (number(page, "codebook"), number(page, "detail-steps")) == ("0", "7")
    expect(page.locator("#control-prompt textarea")).to_have_value("a coat of green")


def test_classes_of_a_run_are_seen_edited_and_restored(page: Page, studio: Server, tmp_path: Path) -> None:
    page.fill("#control-prompt textarea", "an ankle boot and a bag")
    to_fashion(page)
    page.click("#take-classes")
    expect(page.locator("#control-classes .token")).to_have_count(2)
    set_number(page, "truncation-psi", 0.6)
    start(page, "an ankle boot and a bag", n=4, steps=3)
    wait_for_phase(page, "done")
    labels = page.locator('.side[data-side="ours"] .cell-label').all_inner_texts()
    assert sorted(labels) == ["ankle boot", "ankle boot", "bag", "bag"]
    assert set(server_run(page, studio).settings.classes) == {"ankle boot", "bag"}  # type: ignore[attr-defined]
    page.locator('.side[data-side="ours"] .cell').first.click()
    expect(page.locator('[data-fact="label"]')).to_have_text(labels[0])
    path = download(page, '[data-role="save"]', tmp_path)
    page.keyboard.press("Escape")
    to_avatars(page)
    drop_file(page, path.name, path.read_bytes())
    expect_notice(page, "Settings restored from picture 1 of 4")
    expect(page.locator("#control-model input")).to_have_value("fashion")
    assert set(chosen_classes(page)) == {"ankle boot", "bag"}
    assert number(page, "truncation-psi") == "0.6"
    run_to_the_end(page)
    assert server_run(page, studio).settings.model == "fashion"


def test_both_stages_show_in_the_stream(page: Page) -> None:
    to_mosaic(page)
    page.evaluate(
        """() => { window.told = new Set();
        document.addEventListener("studio:frame", () => window.told.add(
            /stage (\\d) of 2/.exec(document.querySelector(".status-numbers").textContent)?.[1])); }"""
    )
    set_number(page, "detail-steps", 20)
    start(page, "a green square", n=2, steps=20)
    wait_for_phase(page, "done")
    assert {"1", "2"} <= set(page.evaluate("[...window.told]"))
    expect(page.locator(".status-numbers")).to_contain_text("stage 2 of 2: codes in turn")
    expect(page.locator(".status-numbers")).to_contain_text("step 40 of 40")
    expect(page.locator(".progress-stage")).to_be_visible()


def test_two_models_side_by_side(page: Page, studio: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to_mosaic(page)
    set_number(page, "detail-steps", 2)
    set_number(page, "steps", 30)
    to_avatars(page)
    choose(page, "control-beside", "Another model: mosaic")
    monkeypatch.setattr("engine.tasks.generation.CANDIDATES_AT_ONCE", 1)  # the search for starts takes seconds
    start(page, "green", n=3, steps=600)
    expect(page.locator(".status-phase")).to_have_text("Looking for starts that fit the words")
    page.wait_for_function("() => Number(document.querySelector('.progress').getAttribute('aria-valuenow')) > 1")
    page.keyboard.press("Escape")
    wait_for_phase(page, "stopped")
    assert not server_run(page, studio).moment.sides
    monkeypatch.undo()
    page.click('[data-action="run"]')
    wait_for_step(page, 1)
    page.click('[data-action="pause"]')
    wait_for_phase(page, "paused")
    page.locator("#control-diversity input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    run, shown = server_run(page, studio), float(number(page, "diversity"))
    while run.flow.diversity != shown and not run.moment.phase.is_over:
        page.wait_for_timeout(10)
    page.click('[data-action="resume"]')
    wait_for_step(page, run.moment.step + 2)
    for side in ("ours", "baseline"):
        moved = run.settings_at(side, run.moment.step).flow.as_moved
        assert moved.diversity == shown != run.settings.flow.diversity
    page.keyboard.press("Escape")
    wait_for_phase(page, "stopped")
    start(page, "green", n=3, steps=4)
    wait_for_phase(page, "done")
    expect(page.locator('.side[data-side="ours"] .side-title')).to_have_text("avatars, judged by clip-mini")
    expect(page.locator('.side[data-side="baseline"] .side-title')).to_have_text(f"mosaic, judged by {WIDE}")
    cells = page.locator('.side[data-side="baseline"] .cell img')
    expect(cells).to_have_count(3)
    assert cells.evaluate_all("all => all.every((img) => img.naturalWidth === 16)")
    path = download(page, '[data-role="save-all"]', tmp_path)
    assert path.suffix == ".zip"
    page.reload()
    wait_for_phase(page, "done")
    expect(page.locator("#control-beside input")).to_have_value("Another model: mosaic")
    page.locator('.side[data-side="baseline"] .cell').nth(1).click()
    page.click('[data-role="reseed"]')  # of the other model's picture: its controls
    expect(page.locator("#control-model input")).to_have_value("mosaic")
    expect(page.locator("#control-seed input")).to_have_value("2")
    assert (number(page, "steps"), number(page, "detail-steps")) == ("30", "2")
    run_to_the_end(page)
    assert server_run(page, studio).settings.model == "mosaic"


@pytest.mark.parametrize(
    ("classes", "message"), [("dres", "did you mean dress?"), ("", "Classes: there is none; choose at least one")]
)
def test_classes_that_do_not_exist_and_none_at_all(page: Page, studio: Server, classes: str, message: str) -> None:
    page.fill("#control-prompt textarea", "a coat")
    to_fashion(page)
    set_number(page, "steps", 2)
    run_to_the_end(page)
    run = server_run(page, studio)
    box = page.locator("#control-classes input")
    box.click()
    if classes:
        box.fill(classes)
        box.press("Enter")
        expect(page.locator("#control-classes .token").last).to_contain_text(classes)
    else:
        box.press("Backspace")
        expect(page.locator("#control-classes .token")).to_have_count(0)
    page.keyboard.press("Control+Enter")
    expect_notice(page, message)
    assert server_run(page, studio) is run


def test_a_prompt_with_no_close_class(page: Page) -> None:
    page.fill("#control-prompt textarea", "something")
    to_fashion(page)
    expect(page.locator("#found-classes")).to_contain_text("No class is close to “something”")
    page.keyboard.press("Control+Enter")
    expect_notice(page, "no class is close to 'something'")
    page.fill("#control-prompt textarea", "a bag")
    expect(page.locator("#found-classes")).to_contain_text("The prompt finds bag")
    set_number(page, "steps", 2)
    run_to_the_end(page)
    expect(page.locator(".notice")).to_be_hidden()


@pytest.mark.parametrize("dark", [False, True])
def test_the_controls_of_every_kind_can_be_read(
    open_tab: Callable[..., Page], check_looks: Callable[[Page, int], None], dark: bool
) -> None:
    page = open_tab(dark=dark)
    for turn_to in (to_fashion, to_mosaic):
        turn_to(page)
        check_looks(page, 1280)
