"""Own pictures on the page: opened, found, edited, gone on from, returned to; and repainted under a mask."""

import base64
import io
import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine import __main__ as cli
from engine.commands import pictures, shared
from engine.errors import MetadataError, PictureError
from engine.models.table import ModelFile
from engine.pictures import imaging, png_files
from engine.pictures.masks import decode_mask, encode_mask
from engine.pictures.picture_files import Picture, Transparency
from engine.settings import EditSettings, FlowSettings, InpaintSettings, SettingsError, settings_from_dict
from engine.tasks.start_metadata import MOST_NUMBERS, packed, start_from_dict, start_to_dict, unpacked
from gmi_ui.jobs.editing import EditJob
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.jobs.inpainting import InpaintJob
from gmi_ui.models.models import Loaders, Models
from gmi_ui.notices import NotPossibleError
from gmi_ui.opening import Opening, colour_of
from gmi_ui.pictures import workspace as workspace_module
from gmi_ui.pictures.restoring import restored
from gmi_ui.pictures.saving import Pictures
from gmi_ui.pictures.workspace import PictureVersion, Room, Workspace, picture_jpeg
from gmi_ui.runs.inversion import Inversion
from gmi_ui.runs.job import Variation
from gmi_ui.runs.redrawing import step_of
from gmi_ui.runs.run import BASELINE, OURS, Run
from gmi_ui.runs.work import Moment, Phase, Side
from gmi_ui.server_functions import grid_functions, workspace_functions
from gmi_ui.services import Services
from gmi_ui.sessions import Session, Sessions
from gmi_ui.tabs.inpaint import no_mask
from tests.gmi_ui.tiny import (
    GENERATOR,
    PROMPT_MODEL,
    STYLE_SIDE,
    TinyPromptModel,
    only,
    style_generator,
    style_models,
    tiny_row,
    tiny_settings,
)
from tests.gmi_ui.waiting import wait_for_end, wait_until

TOKEN = "cd" * 16
FLOW = FlowSettings(steps=4)


def plain(side: int = 8, colour: tuple[int, int, int] = (200, 30, 60), width: int | None = None) -> Picture:
    return Picture(np.full((side, width or side, 3), colour, dtype=np.uint8), "plain.png")


def file_of(picture: Picture, path: Path) -> Path:
    Image.fromarray(picture.pixels).save(path)
    return path


def edit_settings(**changes: Any) -> EditSettings:
    values = {"prompt": "red", "method": "clip", "n": 2, "seed": 4, "flow": {"steps": 4}, "baseline": "no repulsion"}
    return EditSettings.from_dict({**values, **changes})


def inpaint_settings(**changes: Any) -> InpaintSettings:
    return InpaintSettings.from_dict({"n": 2, "seed": 4, "flow": {"steps": 3}, "feather": 0, **changes})


def ended(services: Services, session: Session, run: Run) -> Run:
    services.start(session, run)
    session.workspace.adopt(run)
    wait_for_end(run)
    assert run.moment.phase is Phase.DONE, run.moment.notice
    return run


def edited(services: Services, session: Session, **changes: Any) -> Run:
    version = session.workspace.current
    assert version
    return ended(services, session, Run(edit_settings(**changes), EditJob(version)))


def opened_example(services: Services, session: Session, index: int = 0, *, task: str = "edit") -> None:
    Opening(services, task).gallery(session, index, GENERATOR)


# ---- the workspace itself


def test_versions_are_added_returned_to_and_the_oldest_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace()
    first = workspace.add(plain(), "first")
    second = workspace.add(plain(), "second", parent=first)
    assert workspace.current is second and second.parent == first.number
    revision = workspace.revision
    assert workspace.go_to(first.number) is first and workspace.current is first and workspace.revision > revision
    monkeypatch.setattr(workspace_module, "MOST_VERSIONS", 3)
    for name in "abcd":
        workspace.add(plain(), name)
    assert [version.text for version in workspace.versions] == ["b", "c", "d"]
    with pytest.raises(NotPossibleError, match="not there any more"):
        workspace.go_to(first.number)


def test_large_pictures_are_forgotten_sooner_but_never_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace_module, "MOST_PIXELS", 150)
    workspace = Workspace()
    workspace.add(plain(10), "a")
    workspace.add(plain(10), "b")
    assert [version.text for version in workspace.versions] == ["b"]
    for name in "cd":  # each alone has more pixels than all may have together
        huge = workspace.add(plain(13), name)
        assert workspace.versions == (huge,) and workspace.current is huge


def test_a_picture_on_the_page_keeps_its_colour_profile_and_shrinks() -> None:
    profile = b"\0" * 128
    jpeg = picture_jpeg(Picture(plain(40, width=80).pixels, "a", profile), 20)
    shown = Image.open(io.BytesIO(base64.b64decode(jpeg)))
    assert shown.size == (20, 10) and shown.info["icc_profile"] == profile


def test_every_change_of_a_workspace_is_a_revision_of_its_own() -> None:
    workspace = Workspace()
    assert (workspace.current, workspace.versions, workspace.revision) == (None, (), 0)
    first = workspace.add(plain(), "first", mask=b"m")
    second = workspace.add(plain(), "second")
    assert [(one.number, one.parent, one.mask) for one in workspace.versions] == [(1, None, b"m"), (2, None, None)]
    assert workspace.revision == 2
    assert workspace.find(1) is first and workspace.current is second and workspace.revision == 2
    workspace.go_to(1)
    workspace.touch()
    assert workspace.current is first and workspace.revision == 4
    with pytest.raises(NotPossibleError):
        workspace.find(3)


def test_pictures_are_kept_up_to_the_number_of_their_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of 5 x 20 are just as many as may be; one more pixel, and the oldest goes."""
    monkeypatch.setattr(workspace_module, "MOST_PIXELS", 200)
    workspace = Workspace()
    for name in "abc":
        workspace.add(plain(5, width=20), name)
    assert [version.text for version in workspace.versions] == ["b", "c"]
    workspace.add(plain(1), "d")
    assert [version.text for version in workspace.versions] == ["c", "d"]


def tabs(count: int) -> list[Workspace]:
    """Workspaces of one studio, the first unseen for longest."""
    room, now = Room(), time.monotonic()
    made = [Workspace(room) for _ in range(count)]
    for number, workspace in enumerate(made):
        workspace._seen = now - 10 * (count - number)
    return made


def texts(workspace: Workspace) -> list[str]:
    return [version.text for version in workspace.versions]


def test_all_tabs_share_one_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier pictures of the tab unseen for longest go first; what an open page works on stays, whatever it takes."""
    monkeypatch.setattr(workspace_module, "MOST_PIXELS", 450)
    old, new = tabs(2)
    for workspace in (old, new):
        workspace.add(plain(10), "a")
        workspace.add(plain(10), "b")
    revision = old.revision
    new.add(plain(10), "c")
    assert (texts(old), texts(new)) == (["b"], ["a", "b", "c"]) and old.revision > revision
    new.add(plain(16), "d")
    assert (texts(old), texts(new)) == (["b"], ["d"])
    new.add(plain(30), "e")
    assert (texts(old), texts(new)) == (["b"], ["e"]) and old.current and old.current.text == "b"


def test_pictures_of_closed_pages_make_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, those of the page that was closed first at first, none whose run goes on; and no more than must."""
    monkeypatch.setattr(workspace_module, "MOST_PIXELS", 450)
    first, busy, second, third, open_ = tabs(5)
    for workspace in (first, busy, second, third):
        workspace.add(plain(10), "a")
        workspace._seen -= 900
    assert busy.current is not None
    busy.current.run = SimpleNamespace(is_over=False)  # type: ignore[assignment]
    open_.add(plain(10), "b")
    assert [one.current is None for one in (first, busy, second, third)] == [True, False, False, False]
    assert first.notice and "Open the picture again" in first.notice.text and second.notice is None
    first.add(plain(1), "once more")
    assert [first.notice] == [None]
    open_.add(plain(14), "c")
    assert [one.current is None for one in (first, busy, second, third)] == [True, False, True, False]
    second.add(plain(5), "came back")  # its page was open after all
    assert texts(second) == ["came back"]
    transparent = plain(10)
    layers = Transparency(transparent.pixels, transparent.pixels[..., 0])
    version = open_.add(transparent.with_pixels(transparent.pixels, layers), "d")
    assert version.pixels == 100 * 7 // 3


def test_a_page_that_asks_for_anything_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace_module, "MOST_PIXELS", 150)
    sessions = Sessions()
    one, other = sessions.get("ab" * 16, "edit").workspace, sessions.get("cd" * 16, "inpaint").workspace
    one.add(plain(10), "a")
    one._seen -= 1000
    sessions.get("ab" * 16, "inpaint")  # any tab of the same page
    other.add(plain(10), "b")
    assert one.current is not None
    one._seen -= 1000
    other.add(plain(10), "c")
    assert one.current is None


def test_exactly_as_many_pictures_are_kept_as_may_be() -> None:
    workspace = Workspace()
    for number in range(workspace_module.MOST_VERSIONS + 1):
        workspace.add(plain(), str(number))
        assert len(workspace.versions) == min(number + 1, workspace_module.MOST_VERSIONS)
    assert workspace.versions[0].text == "1"


def test_a_picture_is_shown_large_and_small_but_never_larger_than_it_is() -> None:
    def size(jpeg: str) -> tuple[int, int]:
        return Image.open(io.BytesIO(base64.b64decode(jpeg))).size

    large, small = (PictureVersion(1, "a", plain(side, width=2 * side)) for side in (1000, 30))
    assert size(large.shown) == (1600, 800) and size(large.thumbnail) == (112, 56)
    assert size(small.shown) == size(small.thumbnail) == (60, 30)
    assert large.shown is large.shown and large.thumbnail is large.thumbnail  # encoded once


def test_whether_a_picture_is_being_found() -> None:
    version: Any = PictureVersion(1, "a", plain())
    assert not version.is_being_found
    version.inversion = search = Inversion(version.picture, version.starts, GENERATOR, PROMPT_MODEL)
    assert version.is_being_found
    search.stop()
    assert not version.is_being_found


def test_the_newest_run_of_a_picture_and_what_earlier_ones_varied() -> None:
    """A run that showed nothing left nothing; what is on the page is the newest run's own."""
    workspace = Workspace()
    version = workspace.add(plain(), "a")
    other = workspace.add(plain(), "b")
    runs = []
    for share in (None, 0.25, 0.5):
        job = InpaintJob(version, left_half())
        runs.append(run := Run(inpaint_settings(), job))
        workspace.adopt(run)
        assert version.run is run and other.run is None
        job.share = share
        step: Any = SimpleNamespace(step=1)
        run._moment = Moment(1, Phase.DONE, {OURS: Side(step, {"diversity": (0.0, 2 * (share or 0.0))})})
    assert version.variations == [Variation(0.25, 0.5, None)]
    workspace._versions.remove(version)
    with pytest.raises(NotPossibleError, match="not there any more"):
        workspace.adopt(runs[0])
    assert version.run is runs[-1]


# ---- opening


def test_an_uploaded_picture_is_found_in_the_model_while_the_page_looks(
    style_services: Services, tmp_path: Path
) -> None:
    session = Session()
    path = file_of(plain(20), tmp_path / "mine.png")
    version = Opening(style_services, "edit").file(session, str(path), GENERATOR, PROMPT_MODEL)
    assert version.inversion and session.active is version.inversion
    wait_for_end(version.inversion)
    assert version.inversion.moment.phase is Phase.DONE and version.starts[GENERATOR] is version.inversion.start
    frame = json.loads(style_services.painter.frame(session))
    assert frame["phase"] == "idle" and frame["workspace"]["inversion"]["is_over"]
    assert frame["workspace"]["name"] == "mine.png" and frame["workspace"]["start"]["distance"] > 0
    assert Image.open(io.BytesIO(base64.b64decode(frame["workspace"]["start"]["cell"]))).format == "JPEG"


def test_a_search_can_be_stopped_and_its_newest_guess_used(style_services: Services, tmp_path: Path) -> None:
    session = Session()
    path = file_of(plain(20), tmp_path / "mine.png")
    version = Opening(style_services, "edit").file(session, str(path), GENERATOR, PROMPT_MODEL)
    search = version.inversion
    assert search
    wait_until(lambda: search.start is not None)
    search.stop()
    wait_for_end(search)
    assert edited(style_services, session).moment.step == 4


def test_turning_to_another_picture_ends_a_search_and_coming_back_resumes_it(
    style_services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.tasks.inversion.STEPS_WITHOUT", 3000)
    session = Session()
    opening = Opening(style_services, "edit")
    first = opening.file(session, str(file_of(plain(), tmp_path / "a.png")), GENERATOR, PROMPT_MODEL)
    left = first.inversion
    assert left
    wait_until(lambda: left.start is not None)
    opened_example(style_services, session)
    wait_for_end(left)
    assert left.moment.phase is Phase.STOPPED and session.active is None
    monkeypatch.setattr("engine.tasks.inversion.STEPS_WITHOUT", 3)
    opening.go_to(session, first.number)
    assert first.inversion and first.inversion is not left
    wait_for_end(first.inversion)
    assert first.inversion.moment.phase is Phase.DONE


@pytest.mark.parametrize(
    ("text", "colour"),
    [("#0a10ff", (10, 16, 255)), ("rgba(1.5, 20, 300, 1)", (1, 20, 255)), ("red", (255, 255, 255)), (None, (255,) * 3)],
)
def test_the_colour_behind_transparent_parts(text: str | None, colour: tuple[int, int, int], tmp_path: Path) -> None:
    assert colour_of(text) == colour
    Image.new("RGBA", (3, 3), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    session = Session()
    services = Services.around(style_models())
    path = str(tmp_path / "clear.png")
    version = Opening(services, "inpaint").file(session, path, GENERATOR, PROMPT_MODEL, background=text or "")
    assert tuple(version.picture.pixels[0, 0]) == colour


def test_a_saved_w_opens_as_its_picture_and_is_edited_without_a_search(
    style_services: Services, tmp_path: Path
) -> None:
    generator = style_services.models.generator(GENERATOR)
    layers, w_dim = generator.network.num_ws, generator.network.w_dim
    w = torch.randn(1, layers, w_dim, generator=torch.Generator().manual_seed(2))
    torch.save(w, tmp_path / "w_pivot.pt")
    session = Session()
    version = Opening(style_services, "edit").file(session, str(tmp_path / "w_pivot.pt"), GENERATOR, PROMPT_MODEL)
    assert version.inversion is None and version.text == "w_pivot.pt"
    drawn = imaging.to_uint8(generator.network.synthesis(w))[0].astype(int)
    assert np.abs(version.picture.pixels - drawn).max() <= 1  # rounding
    frame = json.loads(style_services.painter.frame(session))
    assert frame["workspace"]["inversion"] is None and frame["workspace"]["start"]["distance"] == 0
    run = edited(style_services, session)
    start = restored(Pictures(tmp_path).save_one(run, OURS, 1), style_services.models).extra["start"]
    assert torch.equal(unpacked(start["latents"]), version.starts[GENERATOR].latents)
    torch.save(w[:, 1:], tmp_path / "other.pt")
    with pytest.raises(
        PictureError, match=rf"other\.pt holds {layers - 1} w of {w_dim} numbers, but .* choose that one"
    ):
        Opening(style_services, "edit").file(session, str(tmp_path / "other.pt"), GENERATOR, PROMPT_MODEL)
    assert session.workspace.current is version


@pytest.mark.parametrize("data", [b"", b"no picture", b"\0\0\0\x18ftypmp42" + b"\0" * 64])
def test_what_is_no_picture_changes_nothing(style_services: Services, tmp_path: Path, data: bytes) -> None:
    session = Session()
    opened_example(style_services, session)
    before = session.workspace.current
    (tmp_path / "broken.jpg").write_bytes(data)
    with pytest.raises(PictureError):
        Opening(style_services, "edit").file(session, str(tmp_path / "broken.jpg"), GENERATOR, PROMPT_MODEL)
    assert session.workspace.current is before and len(session.workspace.versions) == 1


def test_a_cell_of_generate_needs_no_search(style_services: Services) -> None:
    generate, session = Session(), Session()
    run = Run(tiny_settings(flow={"steps": 2}), GENERATE)
    style_services.start(generate, run)
    wait_for_end(run)
    version = Opening(style_services, "edit").cell(session, run, OURS, 1, None)
    assert version.inversion is None and version.text == "blue"
    shown = imaging.to_uint8(run.moment.sides[OURS].step.images)[1]
    assert (version.picture.pixels == shown).all()
    assert np.abs(imaging.to_uint8(version.starts[GENERATOR].image)[0].astype(int) - shown).max() <= 1


def test_a_new_picture_waits_until_the_run_is_over(style_services: Services) -> None:
    session = Session()
    opened_example(style_services, session)
    assert session.workspace.current
    run = Run(edit_settings(flow={"steps": 900}), EditJob(session.workspace.current))
    style_services.start(session, run)
    with pytest.raises(NotPossibleError, match="going on"):
        opened_example(style_services, session, 1)
    assert len(session.workspace.versions) == 1
    run.stop()
    wait_for_end(run)


# ---- edits


def test_an_edit_shows_both_sides_and_three_figures(style_services: Services) -> None:
    session = Session()
    opened_example(style_services, session)
    run = edited(style_services, session)
    frame = json.loads(style_services.painter.frame(session))
    assert list(frame["titles"]) == [OURS, BASELINE] and frame["titles"][BASELINE] == "The same without repulsion"
    assert [figure["key"] for figure in frame["figures"]] == ["text", "diversity", "distance"]
    for side in frame["sides"].values():
        assert all(len(curve) == 5 for curve in side["curves"].values())
        assert side["seeds"] == [4, 5]
    assert 0 < run.moment.sides[OURS].curves["distance"][0] < 0.3


def test_without_a_baseline_there_is_one_side(style_services: Services) -> None:
    session = Session()
    opened_example(style_services, session)
    assert list(edited(style_services, session, baseline="none").moment.sides) == [OURS]


def test_directions_that_nobody_measured_are_measured_and_told(
    style_services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMI_CACHE", str(tmp_path))
    session = Session()
    opened_example(style_services, session)
    assert session.workspace.current
    run = Run(edit_settings(method="gmi", disentanglement=0.0), EditJob(session.workspace.current))
    told: list[str] = []
    tell = run.tell
    run.tell = lambda doing, share=None: (told.append(doing), tell(doing, share))  # type: ignore[method-assign, func-returns-value, assignment]
    style_services.start(session, run)
    wait_until(lambda: run.is_over, 60)
    assert run.moment.phase is Phase.DONE, run.moment.notice
    assert any("Measuring once" in words for words in told)


def test_an_edit_goes_on_from_a_result_and_every_version_can_be_returned_to(style_services: Services) -> None:
    session = Session()
    opening = Opening(style_services, "edit")
    opened_example(style_services, session)
    first = session.workspace.current
    run = edited(style_services, session)
    second = opening.cell(session, run, BASELINE, 1, None)
    assert first and second.parent == first.number and second.text == "red"
    assert not session.works
    image = run.moment.sides[BASELINE].step.images[1]
    assert torch.allclose(second.starts[GENERATOR].image[0], image)
    next_run = edited(style_services, session, prompt="green")
    opening.go_to(session, first.number)
    assert session.workspace.current is first and session.run is run
    opening.go_to(session, second.number)
    assert session.run is next_run and len(session.workspace.versions) == 2


def test_a_result_of_an_earlier_step_can_be_gone_on_from(style_services: Services) -> None:
    session = Session()
    opened_example(style_services, session)
    run = edited(style_services, session)
    drawn = step_of(run, OURS, 2)
    version = Opening(style_services, "edit").cell(session, run, OURS, 0, 2)
    assert (version.picture.pixels == imaging.to_uint8(drawn.images)[0]).all()


def test_a_saved_edit_is_made_again_without_the_picture(style_services: Services, tmp_path: Path) -> None:
    session = Session()
    opened_example(style_services, session)
    run = edited(style_services, session)
    saved = Pictures(tmp_path).save_one(run, OURS, 1)
    found = restored(saved, style_services.models)
    assert found.settings == run.settings and found.text == "An example"
    other = Session()
    Opening(style_services, "edit").saved(other, str(saved), found)
    assert other.active is None  # nothing is searched for
    version = other.workspace.current
    assert version
    again = ended(style_services, other, Run(found.settings, EditJob(version)))
    assert torch.equal(again.moment.sides[OURS].step.images, run.moment.sides[OURS].step.images)


def test_a_saved_edit_of_earlier_weights_opens_as_the_picture_that_it_is(
    style_services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its start means another picture to the new weights, or fits them no more; the settings come back."""
    session = Session()
    opened_example(style_services, session)
    run = edited(style_services, session)
    run.model_hashes = {**run.model_hashes, GENERATOR: "0" * 64}
    saved = Pictures(tmp_path).save_one(run, OURS, 1)
    found = restored(saved, style_services.models)
    assert found.settings == run.settings and found.notice.kind == "warning"
    assert f"another version of {GENERATOR}" in found.notice.text and "picture itself was opened" in found.notice.text
    found.extra["start"]["latents"] = packed(torch.zeros(3))
    other = Session()
    version = Opening(style_services, "edit").saved(other, str(saved), found)
    assert (version.picture.pixels == np.asarray(Image.open(saved))).all()
    assert not version.starts and version.is_being_found
    assert version.inversion
    version.inversion.stop()


@pytest.mark.parametrize(
    "start",
    [3, {}, {"latents": [1, "AAAA"]}, {"latents": "x", "residual": [1, "AAAAAA=="]}, {"latents": [-1, ""]}],
)
def test_a_forged_start_is_refused(style_services: Services, start: Any) -> None:
    with pytest.raises(SettingsError, match="start"):
        start_from_dict(start, style_services.models.generator(GENERATOR))


def test_a_start_survives_and_one_that_is_too_large_is_left_out(style_services: Services) -> None:
    session = Session()
    opened_example(style_services, session)
    assert session.workspace.current
    start = session.workspace.current.starts[GENERATOR]
    values = json.loads(json.dumps(start_to_dict(start)))
    back = start_from_dict(values, style_services.models.generator(GENERATOR))
    assert torch.equal(back.latents, start.latents) and torch.equal(back.residual, start.residual)
    assert torch.equal(unpacked(packed(torch.tensor([[0.1, -2.5e-7]]))), torch.tensor([[0.1, -2.5e-7]]))
    object.__setattr__(start, "noise", {"b16": torch.zeros(MOST_NUMBERS)})
    assert start_to_dict(start) is None


# ---- inpainting


def left_half(side: int = STYLE_SIDE) -> bytes:
    mask = np.zeros((side, side), dtype=bool)
    mask[:, : side // 2] = True
    return encode_mask(mask)


def repainted(services: Services, session: Session, mask: bytes, **changes: Any) -> Run:
    version = session.workspace.current
    assert version
    return ended(services, session, Run(inpaint_settings(**changes), InpaintJob(version, mask)))


def test_only_the_mask_is_repainted_in_the_saved_picture(style_services: Services, tmp_path: Path) -> None:
    session = Session()
    picture = plain(40, width=56)
    path = file_of(picture, tmp_path / "mine.png")
    Opening(style_services, "inpaint").file(session, str(path), GENERATOR, PROMPT_MODEL)
    assert session.active is None  # looked at once there is a mask
    mask = np.zeros((40, 56), dtype=bool)
    mask[10:30, 20:40] = True
    run = repainted(style_services, session, encode_mask(mask))
    for side in (OURS, BASELINE):
        saved = np.asarray(Image.open(Pictures(tmp_path).save_one(run, side, 1)))
        assert saved.shape == (40, 56, 3) and (saved[~mask] == picture.pixels[~mask]).all()
        assert (saved[mask] != picture.pixels[mask]).any()


def test_an_earlier_step_of_a_repainting_is_composed_as_it_was(style_services: Services) -> None:
    session = Session()
    opened_example(style_services, session, task="inpaint")
    run = Run(inpaint_settings(), InpaintJob(session.workspace.current, left_half()))  # type: ignore[arg-type]
    seen: dict[int, torch.Tensor] = {}
    show = run.show

    def looking(sides: Any) -> None:
        show(sides)
        seen.update({sides[OURS].step.step: sides[OURS].step.images} if OURS in sides else {})

    run.show = looking  # type: ignore[method-assign, assignment]
    ended(style_services, session, run)
    assert sorted(seen) == [0, 1, 2, 3]
    assert all(torch.equal(step_of(run, OURS, step).images, images) for step, images in seen.items())


def test_a_picture_that_the_model_cannot_draw_is_said_before_and_in_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the encoder's guess when it is opened; by the search around the mask before the first step."""
    mean = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * STYLE_SIDE**2, 8)).requires_grad_(False)
    generator = replace(style_generator(), in_domain_distance=0.0, encoder=mean)
    row = replace(tiny_row(), in_domain_distance=0.0, files={"encoder": ModelFile(tmp_path, "")})
    loaders = Loaders(only(GENERATOR, generator), only(PROMPT_MODEL, TinyPromptModel()), lambda: [row])  # type: ignore[arg-type]
    monkeypatch.setattr("engine.tasks.inversion.STEPS_WITH_ENCODER", 2)
    services, session = Services.around(Models(loaders)), Session()
    path = file_of(plain(40), tmp_path / "mine.png")
    version = Opening(services, "inpaint").file(session, str(path), GENERATOR, PROMPT_MODEL)
    assert version.inversion is not None
    wait_until(lambda: version.inversion.is_over)  # type: ignore[union-attr]
    assert version.inversion.moment.phase is Phase.DONE and not version.starts
    told = json.loads(services.painter.frame(session))["workspace"]["told"]
    assert "what it paints into it" in told and "(e4e-ffhq)" in told
    run = repainted(services, session, left_half(40))
    assert run.moment.notice and run.moment.notice.kind == "warning" and "what it paints" in run.moment.notice.text


def test_without_words_there_is_no_text_score(style_services: Services) -> None:
    session = Session()
    opened_example(style_services, session, task="inpaint")
    repainted(style_services, session, left_half())
    frame = json.loads(style_services.painter.frame(session))
    assert [figure["key"] for figure in frame["figures"]] == ["diversity"]
    assert frame["sides"][OURS]["scores"] is None
    repainted(style_services, session, left_half(), prompt="green")
    frame = json.loads(style_services.painter.frame(session))
    assert [figure["key"] for figure in frame["figures"]] == ["text", "diversity"]
    assert len(frame["sides"][OURS]["scores"]) == 2


def test_the_variation_is_kept_for_every_run_of_a_picture(style_services: Services) -> None:
    session = Session()
    opened_example(style_services, session, task="inpaint")
    first = repainted(style_services, session, left_half())
    everything = encode_mask(np.ones((STYLE_SIDE, STYLE_SIDE), dtype=bool))
    repainted(style_services, session, everything)
    frame = json.loads(style_services.painter.frame(session))
    assert [share for share, _, _ in frame["workspace"]["variations"]] == [0.5, 1.0]
    shown = first.job.variation(first.moment)
    assert shown and shown.ours == first.moment.sides[OURS].curves["diversity"][-1]
    opened_example(style_services, session, 1, task="inpaint")
    assert json.loads(style_services.painter.frame(session))["workspace"]["variations"] == []


def test_a_saved_repainting_restores_its_picture_and_mask(style_services: Services, tmp_path: Path) -> None:
    session = Session()
    opened_example(style_services, session, task="inpaint")
    run = repainted(style_services, session, left_half())
    saved = Pictures(tmp_path).save_one(run, OURS, 0)
    found = restored(saved, style_services.models)
    other = Session()
    version = Opening(style_services, "inpaint").saved(other, str(saved), found)
    assert version.mask == left_half() and version.mask_number == 1
    again = ended(style_services, other, Run(found.settings, InpaintJob(version, version.mask)))
    for one, two in zip(run.moment.sides.values(), again.moment.sides.values(), strict=True):
        assert torch.allclose(one.step.images, two.step.images, atol=0.02)


def test_a_mask_that_is_forged_or_of_another_size() -> None:
    with pytest.raises(PictureError, match="did not arrive"):
        decode_mask(b"nonsense", (8, 8))
    small = decode_mask(left_half(4), (8, 8))  # painted on a smaller copy
    assert small.shape == (8, 8) and small[:, :4].all() and not small[:, 4:].any()
    assert not decode_mask(no_mask(), (5, 5)).any()


def transparent_file(path: Path, side: int = 40) -> Path:
    """A picture that fades out to the left, under a name of its own."""
    colours = np.random.default_rng(2).integers(0, 256, (side, side, 3), dtype=np.uint8)
    alpha = np.tile(np.linspace(0, 255, side).astype(np.uint8), (side, 1))
    Image.fromarray(np.dstack([colours, alpha])).save(path)
    return path


@pytest.mark.parametrize("task", ["edit", "inpaint"])
def test_the_command_line_saves_what_the_page_saves_and_the_page_restores_it(
    style_services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    """The same bytes, with mask or start and what transparent parts lay on; made again from them, the same pixels."""
    models = style_services.models
    pair = shared.Models(models.generator(GENERATOR), models.prompt_model(PROMPT_MODEL))
    monkeypatch.setattr(pictures, "load_models", lambda options: pair)
    path, out = transparent_file(tmp_path / "mine.png"), tmp_path / "out"
    mask = np.zeros((40, 40), np.uint8)
    mask[8:30, 4:24] = 255
    mask[10, 5] = 99  # soft
    Image.fromarray(mask).save(tmp_path / "mask.png")
    words = [path, "red", "--method", "clip"] if task == "edit" else [path, tmp_path / "mask.png"]
    options = ["--n", "2", "--steps", "3", "--seed", "4", "--background", "#102030", "--out", out]
    assert cli.main([str(word) for word in [task, *words, "--baseline", *options]]) == 0

    session, opening = Session(), Opening(style_services, task)
    version = opening.file(session, str(path), GENERATOR, PROMPT_MODEL, background="#102030")
    wait_until(lambda: version.inversion is None or version.inversion.is_over)
    settings = settings_from_dict(json.loads((out / "run.json").read_text())["settings"])
    version.mask = encode_mask(mask)
    job = EditJob(version) if task == "edit" else InpaintJob(version, version.mask)
    run = ended(style_services, session, Run(settings, job))
    saved = Pictures(tmp_path).save_one(run, OURS, 1)
    assert saved.read_bytes() == (out / "01.png").read_bytes()
    assert Image.open(saved).mode == "RGBA"

    found = restored(out / "01.png", models)
    assert found.text == "mine.png"
    other = Session()
    version = opening.saved(other, str(out / "01.png"), found)
    job = EditJob(version) if task == "edit" else InpaintJob(version, version.mask or b"")
    again = ended(style_services, other, Run(found.settings, job))
    pixels = np.asarray(Image.open(Pictures(tmp_path).save_one(again, OURS, 1)))
    assert np.array_equal(pixels, np.asarray(Image.open(saved)))


def test_a_mask_that_does_not_fit_into_a_picture_is_left_out_and_said(
    style_services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session()
    opened_example(style_services, session, task="inpaint")
    run = repainted(style_services, session, left_half())
    monkeypatch.setattr(png_files, "MAX_METADATA_BYTES", 1500)
    assert "mask" in run.job.extras(run.settings)
    monkeypatch.setattr(InpaintJob, "extras", lambda job, settings: {"mask": "m" * 2000, "text": "x"})
    saved = Pictures(tmp_path).save_one(run, OURS, 0)
    assert run.moment.notice and "too detailed" in run.moment.notice.text
    found = restored(saved, style_services.models)
    assert found.mask is None and "upload it again" in found.notice.text and found.notice.kind == "warning"


def test_a_damaged_mask_inside_a_picture_is_told(style_services: Services, tmp_path: Path) -> None:
    settings = inpaint_settings().to_dict()
    metadata = png_files.picture_metadata(settings=settings, seeds=[1], index=0, models={}, extra={"mask": "%%%"})
    png_files.save_png(tmp_path / "a.png", plain().pixels, metadata)
    with pytest.raises(MetadataError, match="mask"):
        assert restored(tmp_path / "a.png", style_services.models).mask


# ---- what the page calls


def calls(services: Services, task: str) -> dict[str, Any]:
    functions = [*grid_functions(services, task), *workspace_functions(services, task)]
    return {function.__name__: function for function in functions}


def test_the_page_opens_examples_paints_masks_and_goes_back(style_services: Services) -> None:
    page = calls(style_services, "inpaint")
    session = style_services.sessions.get(TOKEN, "inpaint")
    assert page["start_from_example"]({"token": TOKEN, "index": 3}) is True
    assert session.workspace.current
    number = session.workspace.current.number
    assert page["version_picture"]({"token": TOKEN, "number": number, "small": True})["jpeg"]
    png = base64.b64encode(left_half()).decode()
    assert page["put_mask"]({"token": TOKEN, "number": number, "png": png}) is True
    assert page["mask_of_version"]({"token": TOKEN, "number": number}) == {"png": png}
    page["start_from_example"]({"token": TOKEN, "index": 4})
    assert page["go_to_version"]({"token": TOKEN, "number": number}) is True
    assert session.workspace.current.number == number


@pytest.mark.parametrize(
    ("call", "request_"),
    [
        ("start_from_example", {"index": 99}),
        ("start_from_example", {}),
        ("version_picture", {"number": 7}),
        ("version_picture", {"number": "x"}),
        ("go_to_version", {"number": None}),
        ("put_mask", {"number": 1, "png": "%%"}),
        ("mask_of_version", {"number": -1}),
    ],
)
def test_requests_that_cannot_be_followed_are_told(style_services: Services, call: str, request_: dict) -> None:
    assert not calls(style_services, "edit")[call]({"token": TOKEN, **request_})
    assert style_services.sessions.get(TOKEN, "edit").newest_notice
    assert not calls(style_services, "edit")[call]({"token": "short", **request_})


def test_a_picture_is_taken_to_another_tab_and_shown_large(style_services: Services) -> None:
    generate = style_services.sessions.get(TOKEN, "generate")
    run = Run(tiny_settings(flow={"steps": 2}), GENERATE)
    style_services.start(generate, run)
    wait_for_end(run)
    page = calls(style_services, "generate")
    assert page["open_cell"]({"token": TOKEN, "side": OURS, "index": 0, "step": None, "to": "edit"}) is True
    assert page["open_cell"]({"token": TOKEN, "side": OURS, "index": 0, "to": "nowhere"}) is False
    edit = style_services.sessions.get(TOKEN, "edit")
    assert edit.run is None and edit.workspace.current and generate.run is run  # nothing is shared but the picture
    edited(style_services, edit)
    shown = calls(style_services, "edit")["large_picture"]({"token": TOKEN, "side": OURS, "index": 0})
    assert set(shown) == {"after", "before"}
    assert set(page["large_picture"]({"token": TOKEN, "side": OURS, "index": 0})) == {"after"}
