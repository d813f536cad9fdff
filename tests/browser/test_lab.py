"""The Lab tab: particles move, samplers change, one draws a target, and what is shown can be saved."""

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Page, expect

from tests.browser.helpers import download

PIXELS = "(canvas) => canvas.toDataURL()"


@pytest.fixture
def lab(page: Page) -> Page:
    open_lab(page)
    return page


def open_lab(page: Page) -> None:
    page.evaluate("window.studio.goTo('lab')")
    page.wait_for_selector('.lab[data-fetched]:not([data-fetched="0"])')


def pixels(page: Page, side: str = "left") -> str:
    shown: str = page.locator(f'[data-side="{side}"] canvas').evaluate(PIXELS)
    return shown


def frame(page: Page) -> int:
    return int(page.locator(".lab").get_attribute("data-frame") or 0)


def wait_for_frame(page: Page, least: int) -> None:
    page.wait_for_function("(least) => Number(document.querySelector('.lab').dataset.frame) >= least", arg=least)


def play(page: Page) -> None:
    page.click('.lab [data-role="play"]')


def put(page: Page, key: str, value: object) -> None:
    box = page.locator(f"#lab-{key}")
    box.fill(str(value))
    box.press("Tab")


def test_particles_move_while_it_plays_and_stand_when_it_pauses(lab: Page) -> None:
    before = pixels(lab)
    play(lab)
    wait_for_frame(lab, 4)
    assert pixels(lab) != before
    expect(lab.locator('[data-role="step"]')).to_be_disabled()
    play(lab)
    expect(lab.locator(".lab")).to_have_attribute("data-state", "paused")
    standing = pixels(lab)
    lab.wait_for_timeout(300)
    assert pixels(lab) == standing


def test_both_sides_begin_alike_and_a_step_is_one(lab: Page) -> None:
    left, right = (lab.locator(f'[data-side="{side}"] output').text_content() for side in ("left", "right"))
    assert left == right and left and left.startswith("EMD 0.")
    for step in (1, 2):
        lab.click('.lab [data-role="step"]')
        wait_for_frame(lab, step)
        lab.wait_for_timeout(200)
        assert frame(lab) == step
    lab.click('.lab [data-role="restart"]')
    expect(lab.locator(".lab-at")).to_have_text("step 0 of 200")


def test_a_run_ends_and_can_be_gone_through_again(lab: Page) -> None:
    put(lab, "steps", 10)
    expect(lab.locator(".lab-at")).to_have_text("step 0 of 10")
    play(lab)
    expect(lab.locator(".lab")).to_have_attribute("data-state", "ended")
    assert frame(lab) == 10
    last = pixels(lab)
    lab.locator('[data-role="scrub"]').fill("3")
    expect(lab.locator(".lab-at")).to_have_text("step 3 of 10")
    assert pixels(lab) != last
    lab.locator('[data-role="scrub"]').fill("10")
    lab.wait_for_function("(last) => document.querySelector('[data-side=left] canvas').toDataURL() === last", arg=last)


def test_another_sampler_begins_from_the_same_points(lab: Page) -> None:
    begun = pixels(lab)
    lab.select_option('.lab select[data-role="left"]', "SIR")
    expect(lab.locator('[data-side="left"] .lab-told')).to_contain_text("Resampling")
    lab.wait_for_function(
        "(begun) => document.querySelector('[data-side=left] canvas').toDataURL() === begun", arg=begun
    )
    lab.select_option('.lab select[data-role="right"]', "")
    expect(lab.locator('[data-side="right"] canvas')).to_be_hidden()
    expect(lab.locator('[data-control="eta"]')).to_have_class("lab-control is-idle")
    play(lab)
    wait_for_frame(lab, 3)


def test_a_slider_acts_from_the_step_that_is_shown(lab: Page) -> None:
    lab.click('.lab [data-role="step"]')
    wait_for_frame(lab, 1)
    lab.wait_for_timeout(200)
    shown = pixels(lab)
    put(lab, "step", 5)
    lab.wait_for_timeout(300)
    assert frame(lab) == 1 and pixels(lab) == shown
    lab.click('.lab [data-role="step"]')
    wait_for_frame(lab, 2)


def test_vectors_can_be_shown(lab: Page) -> None:
    before = pixels(lab)
    for role in "ABC":
        shown = pixels(lab)
        lab.click(f'[data-shows="{role}"]')
        changes = "(shown) => document.querySelector('[data-side=left] canvas').toDataURL() !== shown"
        if role != "C":  # whose weight is 0
            lab.wait_for_function(changes, arg=shown)
    for role in "ABC":
        lab.click(f'[data-shows="{role}"]')
    lab.wait_for_function(
        "(shown) => document.querySelector('[data-side=left] canvas').toDataURL() === shown", arg=before
    )


def test_one_draws_a_target(lab: Page) -> None:
    lab.select_option('.lab select[data-key="target"]', "drawing")
    expect(lab.locator('[data-side="left"] .lab-hint')).to_contain_text("Draw here")
    expect(lab.locator('.lab select[data-key="generator"]')).to_be_disabled()
    box = lab.locator('[data-side="left"] canvas').bounding_box()
    assert box
    lab.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.5 * box["height"])
    lab.mouse.down()
    for share in (0.3, 0.5, 0.7, 0.8):
        lab.mouse.move(box["x"] + share * box["width"], box["y"] + (0.5 + 0.2 * (share > 0.4)) * box["height"])
    lab.mouse.up()
    expect(lab.locator('[data-side="right"] output')).to_contain_text("EMD")
    expect(lab.locator('[data-side="left"] .lab-hint')).to_be_hidden()
    play(lab)
    wait_for_frame(lab, 5)
    lab.click('[data-role="clear"]')
    expect(lab.locator('[data-side="left"] .lab-hint')).to_be_visible()


def test_what_is_shown_can_be_saved(lab: Page, tmp_path: Path) -> None:
    put(lab, "steps", 10)
    lab.click('[data-shows="A"]')
    play(lab)
    expect(lab.locator(".lab")).to_have_attribute("data-state", "ended")
    png = Image.open(download(lab, '[data-export="png"]', tmp_path))
    assert png.format == "PNG" and png.width > 1.8 * png.height and len(png.convert("RGB").getcolors(1 << 20)) > 50  # type: ignore[arg-type]
    svg = download(lab, '[data-export="svg"]', tmp_path)
    root = ElementTree.fromstring(svg.read_text())
    assert len(root.findall(".//{http://www.w3.org/2000/svg}circle")) == 2 * 256
    assert svg.name == "lab-swiss-roll-krr-dgflow.svg"
    webp = Image.open(download(lab, '[data-export="webp"]', tmp_path))
    assert webp.format == "WEBP" and webp.n_frames == 11  # type: ignore[attr-defined]
    first = webp.convert("RGB")
    webp.seek(10)
    assert ImageChops.difference(first, webp.convert("RGB")).getbbox() and webp.info["duration"] == 1500


def test_what_cannot_be_is_said_and_put_right(lab: Page) -> None:
    put(lab, "n", 10**9)
    expect(lab.locator(".lab .notice")).to_contain_text(
        "Particles: 1000000000, expected a whole number from 2 to 1,000"
    )
    put(lab, "n", 50)
    expect(lab.locator(".lab .notice")).to_be_hidden()
    put(lab, "step", 20)
    put(lab, "repulsion", 2)
    play(lab)
    expect(lab.locator(".lab .notice")).to_contain_text("ran away")
    lab.click('.lab [data-role="dismiss"]')
    expect(lab.locator(".lab .notice")).to_be_hidden()


@pytest.mark.parametrize("width", [420, 1024])
@pytest.mark.parametrize("dark", [False, True])
def test_the_lab_fits_is_named_and_readable(
    open_tab: Callable[..., Page], width: int, dark: bool, check_looks: Callable[[Page, int], None]
) -> None:
    page = open_tab(width=width, dark=dark)
    open_lab(page)
    check_looks(page, width)
    page.select_option('.lab select[data-key="target"]', "drawing")
    page.click('[data-shows="A"]')
    check_looks(page, width)
    tabs = page.locator('#studio-tabs [role="tab"]:visible')
    assert [text.strip() for text in tabs.all_text_contents()][-1] == "Lab" and tabs.count() == 7


def test_choices_come_back_after_a_reload(lab: Page) -> None:
    lab.select_option('.lab select[data-key="target"]', "two moons")
    put(lab, "n", 77)
    lab.reload()
    lab.wait_for_selector(".run-bar-examples .chip")
    open_lab(lab)
    expect(lab.locator("#lab-n")).to_have_value("77")
    expect(lab.locator('.lab select[data-key="target"]')).to_have_value("two moons")
