"""Finished runs into the folder: the bytes of "Save PNG", never twice, and never in the way of the next run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ModelError
from engine.pictures import png_files
from engine.system import files
from gmi_ui import command_line
from gmi_ui.history import outputs as module
from gmi_ui.history.facts import Kept
from gmi_ui.history.index import Wanted
from gmi_ui.history.outputs import Outputs, chosen_folder
from gmi_ui.history.store import LATENTS, Store
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.notices import NotPossibleError
from gmi_ui.opening import bring_back
from gmi_ui.pictures.restoring import restored
from gmi_ui.pictures.saving import png
from gmi_ui.runs.redrawing import step_of
from gmi_ui.runs.returned import ReturnedRun
from gmi_ui.runs.run import BASELINE, OURS, Run
from gmi_ui.runs.work import Phase
from gmi_ui.services import Services
from gmi_ui.studio import LaunchOptions, outputs_of
from tests.gmi_ui.tiny import tiny_models, tiny_settings
from tests.gmi_ui.waiting import wait_for_end, wait_until

TOKEN, OTHER = "ab" * 16, "cd" * 16


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Services]:
    """Services that keep pictures."""
    services = Services.around(tiny_models(delay=0.005), kept=tmp_path / "last", outputs=Outputs(tmp_path / "outputs"))
    yield services
    services.end(20)


def store_of(services: Services) -> Store:
    assert services.outputs.store is not None
    return services.outputs.store


def kept_of(services: Services, count: int) -> list[Kept]:
    """What is kept, once it is so many."""
    wait_until(lambda: store_of(services).count(Wanted()) >= count)
    return store_of(services).page(Wanted(), 0, 100)


def begin(services: Services, run: Run, token: str = TOKEN) -> Run:
    services.start(services.sessions.get(token), run)
    return run


def finished(services: Services, *, parent: str = "", token: str = TOKEN, **flow: Any) -> Run:
    run = begin(services, Run(tiny_settings(flow={"steps": 3, **flow}), GENERATE, parent=parent), token)
    wait_for_end(run)
    return run


def test_every_picture_of_both_sides_is_kept_as_save_png_gives_it(kept: Services) -> None:
    run = finished(kept)
    found = kept_of(kept, 6)
    for side in (OURS, BASELINE):
        drawn = step_of(run, side)
        wanted = {png(run, side, index, drawn) for index in range(3)}
        assert {store_of(kept).picture(one.number).read_bytes() for one in found if one.side == side} == wanted
    for one in found:
        path = store_of(kept).picture(one.number)
        assert (path.parent / LATENTS / f"{path.stem}.safetensors").is_file()
        assert one.score is not None and one.prompt == "blue" and one.step == 3
    assert [(one.side, one.seed) for one in found] == [(side, seed) for side in (OURS, BASELINE) for seed in (5, 6, 7)]


def test_the_latents_draw_the_picture_again(kept: Services) -> None:
    from safetensors.torch import load_file

    run = finished(kept)
    one = kept_of(kept, 6)[0]
    path = store_of(kept).picture(one.number)
    latents = load_file(path.parent / LATENTS / f"{path.stem}.safetensors")["latents"]
    assert latents.equal(run.particles(OURS).latents[0])


def test_the_same_run_again_is_not_kept_twice(kept: Services) -> None:
    finished(kept)
    kept_of(kept, 6)
    finished(kept)
    finished(kept, token=OTHER, steps=4)
    assert len(kept_of(kept, 12)) == 12
    assert len(list(store_of(kept).folder.rglob("*.png"))) == 12


def test_of_a_run_that_is_stopped_and_continued_only_the_end_is_kept(kept: Services) -> None:
    run = begin(kept, Run(tiny_settings(flow={"steps": 12}), GENERATE))
    wait_until(lambda: run.moment.step >= 3)
    run.stop()
    wait_for_end(run)
    kept.go_on(kept.sessions.get(TOKEN))
    wait_until(lambda: run.moment.phase is Phase.DONE)
    assert {one.step for one in kept_of(kept, 6)} == {12}


def test_a_stopped_run_is_kept_when_another_takes_its_place(kept: Services) -> None:
    run = begin(kept, Run(tiny_settings(flow={"steps": 400}), GENERATE))
    wait_until(lambda: run.moment.step >= 3)
    run.stop()
    wait_for_end(run)
    finished(kept)
    assert {one.step for one in kept_of(kept, 12)} == {3, run.moment.step}


def test_a_stopped_run_is_kept_after_a_while(kept: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOPPED_FOR", 0.1)
    run = begin(kept, Run(tiny_settings(flow={"steps": 400}), GENERATE))
    wait_until(lambda: run.moment.step >= 3)
    run.stop()
    kept_of(kept, 6)


def test_the_end_of_the_studio_waits_for_what_is_to_be_kept(kept: Services) -> None:
    run = begin(kept, Run(tiny_settings(flow={"steps": 400}), GENERATE))
    wait_until(lambda: run.moment.step >= 3)
    kept.end(20)
    assert len(Store(store_of(kept).folder).page(Wanted(), 0, 100)) == 6


def test_a_run_that_came_back_is_kept_again_only_where_it_went_on(kept: Services) -> None:
    run = finished(kept)
    kept_of(kept, 6)
    wait_until(lambda: kept.last_runs.find(TOKEN, "generate") is not None)
    session = kept.sessions.get(OTHER)
    session.before = TOKEN
    bring_back(kept, session)
    assert isinstance(session.run, ReturnedRun)
    wait_for_end(session.run)
    assert session.run.is_as_left and session.run.settings == run.settings
    assert list(module.pieces_of(session.run)) == [] and len(list(module.pieces_of(run))) == 6


def test_a_full_disk_is_said_and_runs_go_on(kept: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomic", full)
        run = finished(kept)
        wait_until(lambda: run.moment.notice is not None)
        assert run.moment.notice is not None and "No space is left on the disk" in run.moment.notice.text
        assert run.moment.phase is Phase.DONE and kept.outputs.trouble is not None
    finished(kept, steps=4)
    assert len(kept_of(kept, 6)) == 6
    wait_until(lambda: kept.outputs.trouble is None)


def full(*_: object) -> None:
    import errno

    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_was_made_from_what_is_kept_in_the_pictures(kept: Services) -> None:
    first = finished(kept)
    parent = kept.outputs.made_from(first, OURS, 1)
    child = finished(kept, parent=parent, steps=5)
    found = kept_of(kept, 12)
    ours = [one for one in found if one.step == 5]
    assert {one.parent for one in ours} == {parent}
    assert parent in {one.id for one in found}
    path = store_of(kept).picture(ours[0].number)
    assert restored(path, kept.models).parent == parent
    assert png_files.read_metadata(png(child, OURS, 0, step_of(child, OURS)))["extra"]["parent"] == parent


def test_a_picture_that_is_gone_on_from_is_kept_even_of_a_run_that_goes_on(kept: Services) -> None:
    run = begin(kept, Run(tiny_settings(flow={"steps": 400}), GENERATE))
    wait_until(lambda: run.moment.step >= 3)
    parent = kept.outputs.made_from(run, OURS, 0)
    assert [one.id for one in kept_of(kept, 1)] == [parent]
    with pytest.raises(NotPossibleError, match="not there any more"):
        kept.outputs.made_from(run, OURS, 99)


def test_runs_with_the_same_start_have_the_same_parent(services: Services) -> None:
    session, settings = services.sessions.get(TOKEN), tiny_settings()
    begun = tiny_settings(start=[0.5] * 12)
    session.descend(begun, "ab" * 32)
    session.descend(settings, "cd" * 32)
    assert session.parent_of(begun) == "ab" * 32 and session.parent_of(settings) == ""


def test_a_forged_parent_is_none() -> None:
    for parent in (None, 7, "", "../x", "AB" * 32, "ab" * 31, ["ab" * 32]):
        assert png_files.parent_of({"parent": parent}) == ""


def test_nothing_is_kept_where_none_is_asked_for(services: Services) -> None:
    run = finished(services)
    assert services.outputs.store is None and services.outputs.made_from(run, OURS, 0) == ""
    assert services.outputs._thread is None


# ---- where


def test_where_pictures_are_kept_can_be_chosen_and_is_remembered(tmp_path: Path) -> None:
    choice, usual = tmp_path / "choice.json", tmp_path / "usual"
    assert chosen_folder(choice, usual) == usual
    outputs = Outputs(usual, choice=choice)
    outputs.choose(tmp_path / "mine")
    assert chosen_folder(choice, usual) == tmp_path / "mine" and (tmp_path / "mine").is_dir()
    outputs.choose(None)
    assert chosen_folder(choice, usual) is None and outputs.store is None
    outputs.end(5)
    with pytest.raises(NotPossibleError, match="whole path"):
        outputs.choose(Path("mine"))
    for damaged in (b"", b"[]", b'{"folder": 3}', b'{"folder": ""}'):
        choice.write_bytes(damaged)
        assert chosen_folder(choice, usual) == usual


def test_pictures_of_the_folder_that_is_chosen_are_found(kept: Services, tmp_path: Path) -> None:
    finished(kept)
    kept_of(kept, 6)
    kept.outputs.choose(tmp_path / "empty")
    assert kept_of(kept, 0) == []
    kept.outputs.choose(tmp_path / "outputs")
    assert len(kept_of(kept, 6)) == 6


@pytest.mark.parametrize(
    "shared", [{"auth": ("a", "b")}, {"host": "0.0.0.0"}, {"allow_hosts": ("x",)}, {"root_path": "/x"}]
)
def test_a_studio_that_others_use_keeps_only_where_it_is_told_and_shows_nothing(
    shared: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMI_CACHE", str(tmp_path))
    monkeypatch.setenv("GMI_OUTPUTS", str(tmp_path / "usual"))
    alone = outputs_of(LaunchOptions())
    assert alone.store is not None and alone.store.folder == tmp_path / "usual" and alone.is_private
    assert outputs_of(LaunchOptions(**shared)).store is None
    told = outputs_of(LaunchOptions(outputs=tmp_path / "told", **shared))
    assert told.store is not None and told.store.folder == tmp_path / "told" and not told.is_private
    assert outputs_of(LaunchOptions(keeps=False)).store is None


def test_a_user_without_a_home_has_a_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise ModelError("no home")

    monkeypatch.setattr("gmi_ui.studio.outputs_folder", homeless)
    monkeypatch.setenv("GMI_CACHE", str(tmp_path))
    assert outputs_of(LaunchOptions()).usual == tmp_path / "outputs"


def test_the_command_line_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.parse(["--outputs", str(tmp_path)]).outputs == tmp_path
    assert command_line.parse(["--no-outputs"]).keeps is False and command_line.parse([]).keeps is True
    (tmp_path / "file").write_bytes(b"")
    for wrong in (["--outputs", str(tmp_path / "file")], ["--outputs", ""], ["--outputs", "x", "--no-outputs"]):
        with pytest.raises(SystemExit):
            command_line.parse(wrong)
    assert "is no folder" in capsys.readouterr().err


def test_the_choice_is_whole_json(tmp_path: Path) -> None:
    outputs = Outputs(None, choice=tmp_path / "choice.json")
    outputs.choose(tmp_path / "mine")
    outputs.end(5)
    assert json.loads((tmp_path / "choice.json").read_text()) == {"folder": str(tmp_path / "mine")}
