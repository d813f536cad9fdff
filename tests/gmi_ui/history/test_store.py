"""The folder of kept pictures: nothing is lost by a killed studio, a broken index, a full disk or a second studio."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from engine.errors import SaveError
from engine.pictures import png_files
from gmi_ui.history.facts import Kept, Piece, kept_of, told_beside
from gmi_ui.history.index import _ADD, _COLUMNS, SCHEMA, Index, Wanted, match_of
from gmi_ui.history.store import INDEX, TRASH, Store
from gmi_ui.notices import NotPossibleError
from tests.gmi_ui.waiting import wait_until

ROOT = Path(__file__).resolve().parents[3]
Make = Callable[..., Piece]
ODD = [
    '"', "'", "*", '"a" OR "b"', "NEAR(a b)", "prompt:blue", "a -b", "(", "\\", "%", "_", "^a", "{x}", "\x00", "é",
    "😀", "--", "'; DROP TABLE pictures; --", "a" * 5000, "AND", "NOT", "OR", "blue*", '""', " , ", "日本",
]  # fmt: skip


def all_of(store: Store, **wanted: object) -> list[Kept]:
    return store.page(Wanted(**wanted), 0, 1000)  # type: ignore[arg-type]


def look_through(store: Store) -> list[tuple[int, int]]:
    return list(store.look_through())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "outputs")


@pytest.fixture
def filled(store: Store, piece_of: Make) -> Store:
    first = piece_of("a woman with pink hair", 1)
    for piece in (first, piece_of("a sad man", 2, parent=first.id), piece_of("a sad man", 3, side="baseline")):
        store.keep(piece)
    return store


# ---- keeping


def test_a_picture_lies_by_its_day_with_latents_and_thumbnail(store: Store, piece_of: Make) -> None:
    assert not store.is_there and store.page(Wanted(), 0, 10) == [] and store.revision == 0
    piece = piece_of("blue", 7)
    store.keep(piece)
    (kept,) = all_of(store)
    assert kept.path == f"{time.strftime('%Y-%m-%d')}/blue_seed-7_{piece.id[:8]}.png"
    path = store.folder / kept.path
    assert path.read_bytes() == piece.data
    assert (path.parent / "latents" / f"{path.stem}.safetensors").read_bytes() == piece.latents
    assert len(list((store.folder / INDEX / "thumbnails").rglob("*.webp"))) == 1
    assert (kept.prompt, kept.seed, kept.score, kept.fit, kept.side) == ("blue", 7, 0.25, 0.5, "ours")
    assert (kept.width, kept.height, kept.how) == (32, 24, "generated")
    assert json.loads(kept.settings)["seed"] == 7


def test_equal_bytes_are_kept_once_and_come_back_from_the_trash(store: Store, piece_of: Make) -> None:
    for _ in range(2):
        store.keep(piece_of())
    (kept,) = all_of(store)
    assert len(list(store.folder.rglob("*.png"))) == 1
    store.delete([kept.number])
    assert all_of(store) == [] and not (store.folder / kept.path).exists()
    store.keep(piece_of())
    assert [one.number for one in all_of(store)] == [kept.number]
    store.picture(kept.number).unlink()
    store.keep(piece_of())
    assert store.picture(kept.number).is_file() and store.count(Wanted()) == 1


def test_deleted_pictures_can_be_put_back_until_the_trash_is_emptied(filled: Store) -> None:
    first, second, third = all_of(filled)
    filled.delete([first.number, second.number])
    assert [one.number for one in all_of(filled, trashed=True)] == [first.number, second.number]
    assert (filled.folder / TRASH / first.path).is_file()
    filled.put_back([first.number])
    assert filled.picture(first.number) == filled.folder / first.path
    assert filled.empty_trash() == 1
    assert [one.number for one in all_of(filled)] == [first.number, third.number]
    assert not list((filled.folder / TRASH).rglob("*.png"))
    with pytest.raises(NotPossibleError, match="not in its folder"):
        filled.find(second.number)


def test_what_was_taken_out_of_the_folder_is_said(filled: Store) -> None:
    kept = all_of(filled)[0]
    (filled.folder / kept.path).unlink()
    for act in (filled.picture, lambda number: filled.delete([number])):
        with pytest.raises(NotPossibleError, match="not in its folder"):
            act(kept.number)
    look_through(filled)
    assert filled.count(Wanted()) == 2


# ---- the index can always be made again


@pytest.mark.parametrize("damage", ["gone", "garbage", "cut", "flipped", "older", "no file of ours"])
def test_an_index_that_cannot_be_used_is_made_again(filled: Store, damage: str) -> None:
    first, second, third = all_of(filled)
    filled.mark(first.number, liked=True, tags="best, of all")
    filled.delete([second.number])
    filled.close()
    path = filled.folder / INDEX / "history.sqlite"
    data = path.read_bytes()
    if damage == "gone":
        shutil.copytree(filled.folder / INDEX, filled.folder / "aside")
        path.unlink()
    elif damage == "older":
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA user_version = {SCHEMA - 1}")
        connection.close()
    else:
        spoilt = {"garbage": os.urandom(9000), "cut": data[: len(data) // 2], "no file of ours": b"SQLite format 3\x00"}
        path.write_bytes(spoilt.get(damage, data[:4096] + bytes(byte ^ 255 for byte in data[4096:])))
        for beside in ("-wal", "-shm"):
            path.with_name(path.name + beside).unlink(missing_ok=True)
    again = Store(filled.folder)
    told = look_through(again)
    assert told[-1][1] == 3
    found = all_of(again)
    assert [(one.id, one.liked, one.tags) for one in found] == [(first.id, True, "best of all"), (third.id, False, "")]
    assert [one.id for one in all_of(again, trashed=True)] == [second.id]
    assert all_of(again, words="best")[0].id == first.id
    assert found[0].made == pytest.approx(first.made, abs=1) and found[0].parent == first.parent
    assert found[0].score == 0.25 and {one.side for one in found} == {"ours", "baseline"}


def test_an_index_that_breaks_while_it_is_open_is_made_again(filled: Store) -> None:
    count = filled.count(Wanted())
    for beside in ("", "-wal", "-shm"):
        (filled.folder / INDEX / f"history.sqlite{beside}").unlink(missing_ok=True)
    assert filled.count(Wanted()) == 0 and filled.is_incomplete
    look_through(filled)
    assert filled.count(Wanted()) == count and not filled.is_incomplete


def test_pictures_that_were_copied_in_or_moved_are_found_and_others_passed_over(filled: Store, tmp_path: Path) -> None:
    kept = all_of(filled)[0]
    best = filled.folder / "best"
    best.mkdir()
    (filled.folder / kept.path).rename(best / "mine.png")
    (best / "other.png").write_bytes(b"no picture")
    (best / "foreign.png").write_bytes(png_files.encode_png(np.zeros((4, 4, 3), np.uint8)))
    look_through(filled)
    assert filled.find(kept.number).path == "best/mine.png" and filled.count(Wanted()) == 3


KILLED = """
import sys, time
from pathlib import Path
from engine.system import files
from gmi_ui.history import store
from gmi_ui.history.facts import Piece
from tests.gmi_ui.history.conftest import piece_of
place, at = Path(sys.argv[1]), sys.argv[2]
make = piece_of.__wrapped__() if hasattr(piece_of, "__wrapped__") else piece_of._fixture_function()
kept = store.Store(place)
kept.keep(make("first", 1))
def hang(*_, **__):
    print("now", flush=True)
    time.sleep(600)
if at == "before the index":
    kept._add = hang
else:
    replace = files.replace
    files.replace = lambda source, target: hang() if target.suffix == ".png" else replace(source, target)
kept.keep(make("second", 2))
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize(("at", "left"), [("before the index", ["second", "first"]), ("in the picture", ["first"])])
def test_a_killed_studio_leaves_whole_pictures_and_all_are_found(tmp_path: Path, at: str, left: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "outputs"), at],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None and program.stdout.readline() == "now\n"
        program.send_signal(signal.SIGKILL)
    for part in (tmp_path / "outputs").rglob("*.part"):
        os.utime(part, (0, 0))  # given up long ago
    store = Store(tmp_path / "outputs")
    look_through(store)
    assert [one.prompt for one in all_of(store)] == left
    assert not list(store.folder.rglob("*.part"))
    for one in all_of(store):
        assert kept_of(store.picture(one.number).read_bytes(), None, "", 0.0) is not None


def test_a_full_disk_is_told_and_nothing_half_is_left(filled: Store, piece_of: Make, full_disk: None) -> None:
    with pytest.raises(SaveError, match="no space"):
        filled.keep(piece_of("late", 9))
    assert not list(filled.folder.rglob("late_seed*"))
    assert filled.count(Wanted()) == 3


def test_a_full_disk_at_the_index_loses_no_picture(
    filled: Store, piece_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise NotPossibleError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Index, "add", full)
        with pytest.raises(NotPossibleError):
            filled.keep(piece_of("late", 9))
    look_through(filled)
    assert all_of(filled)[0].prompt == "late"


def test_two_studios_on_one_folder_lose_nothing(tmp_path: Path, piece_of: Make) -> None:
    """Both begin at once, each writes its own pictures and some that the other writes too."""
    pieces = [piece_of("blue", seed) for seed in range(1, 31)]
    stores, errors = [Store(tmp_path / "outputs") for _ in range(2)], []

    def write(store: Store, own: list[Piece]) -> None:
        try:
            for piece in own:
                store.keep(piece)
        except Exception as error:  # told below
            errors.append(error)

    threads = [
        threading.Thread(target=write, args=(store, own))
        for store, own in zip(stores, (pieces[:20], pieces[10:]), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    for store in stores:
        assert {one.id for one in all_of(store)} == {piece.id for piece in pieces}
    stores[0].mark(all_of(stores[0])[0].number, liked=True)
    assert len(all_of(stores[1], liked=True)) == 1 and stores[0].revision == stores[1].revision
    assert len(list((tmp_path / "outputs").rglob("*.png"))) == 30


def test_an_index_that_another_studio_made_again_is_taken(filled: Store) -> None:
    other = Store(filled.folder)
    assert other.count(Wanted()) == 3
    other._index.make()
    look_through(other)
    assert filled.count(Wanted()) == 3
    filled.mark(all_of(filled)[0].number, liked=True)
    assert len(all_of(other, liked=True)) == 1


# ---- finding


def test_words_find_prompts_by_their_beginnings_and_tags(filled: Store) -> None:
    assert [one.prompt for one in all_of(filled, words="pin WOM")] == ["a woman with pink hair"]
    assert len(all_of(filled, words="sad")) == 2 and all_of(filled, words="pink sad") == []
    number = all_of(filled, words="pink")[0].number
    filled.mark(number, tags="#favourite, for-mum")
    assert [one.number for one in all_of(filled, words="favourite")] == [number]
    filled.mark(number, tags="")
    assert all_of(filled, words="favourite") == []


@pytest.mark.parametrize("typed", ODD)
def test_whatever_is_typed_is_searched_for(filled: Store, piece_of: Make, typed: str) -> None:
    filled.keep(piece_of(f"x {typed} y"[:400], 50))
    assert all_of(filled, words=typed) is not None and filled.count(Wanted(words=typed)) <= 4
    assert filled.count(Wanted(model=typed)) == filled.count(Wanted(task=typed)) == 0
    assert filled.count(Wanted()) == 4
    assert match_of(typed).count('"') % 2 == 0


def test_letters_of_any_script_and_accents_are_found(store: Store, piece_of: Make) -> None:
    for seed, prompt in enumerate(("eine Größe für Ärzte", "日本語の猫", "кошка с бантом"), 1):
        store.keep(piece_of(prompt, seed))
    for typed in ("arzte", "日本", "КОШ"):
        assert store.count(Wanted(words=typed)) == 1, typed


def test_filters_narrow_down(filled: Store) -> None:
    first, second, third = all_of(filled)
    filled.mark(second.number, liked=True)
    assert [one.number for one in all_of(filled, liked=True)] == [second.number]
    assert len(all_of(filled, model="avatars", task="generate")) == 3 and all_of(filled, task="edit") == []
    assert all_of(filled, since=time.time() + 60) == [] and len(all_of(filled, until=time.time() + 60)) == 3
    assert filled.models() == ["avatars"]


def test_a_lineage_is_told_from_both_ends(filled: Store, piece_of: Make) -> None:
    woman, man = (all_of(filled, words=word)[-1] for word in ("woman", "sad"))
    man = next(one for one in all_of(filled, words="sad") if one.parent)
    filled.keep(piece_of("an old man", 8, parent=man.id))
    filled.keep(piece_of("an orphan", 9, parent="ab" * 32))
    orphan, old = all_of(filled)[:2]
    for number in (woman.number, man.number, old.number):
        assert {one.id for one in filled.family(number)} == {woman.id, man.id, old.id}
    assert [one.id for one in filled.family(orphan.number)] == [orphan.id]
    assert filled.family(10**9) == []


def test_five_thousand_pictures_are_paged_quickly(tmp_path: Path, piece_of: Make) -> None:
    """A page, a search and a count each take less than a frame of patience (0.25 s here: other programs run too)."""
    index = Index(tmp_path / "history.sqlite")
    index.make()
    piece = piece_of("a woman with pink hair", 1)
    row = kept_of(piece.data, piece.latents, "x", 0.0)
    assert row is not None
    with index._writing() as connection:
        place = _COLUMNS.index("number")
        for number in range(5000):
            values = list(astuple(row))
            values[0], values[1], values[2], values[place] = f"{number:064x}", f"{number}.png", float(number), None
            connection.execute(_ADD, values)
    for act in (
        lambda: index.page(Wanted(), 4900, 100),
        lambda: index.page(Wanted(words="pink wom"), 2500, 100),
        lambda: [index.count(Wanted(words="hair"))],
    ):
        started = time.perf_counter()
        assert act()
        assert time.perf_counter() - started < 0.25
    pages = [index.page(Wanted(), offset, 100) for offset in range(0, 5000, 100)]
    assert [one.made for page in pages for one in page] == [float(number) for number in range(4999, -1, -1)]


# ---- what strangers may have put there


def test_latents_of_others_tell_nothing(piece_of: Make) -> None:
    for data in (None, b"", b"\xff" * 100, (5).to_bytes(8, "little") + b"[1,2]", (2).to_bytes(8, "little") + b"{}"):
        assert told_beside(data) == {}
    forged = b'{"__metadata__":{"side":"ours","text_score":"nan","fit":"inf"}}'
    row = kept_of(piece_of().data, len(forged).to_bytes(8, "little") + forged, "x", 0.0)
    assert row is not None and row.score is None and row.fit is None


def test_a_path_in_the_index_that_leads_out_of_the_folder_is_refused(filled: Store, tmp_path: Path) -> None:
    kept = all_of(filled)[0]
    (tmp_path / "secret.png").write_bytes(b"secret")
    for path in ("../secret.png", str(tmp_path / "secret.png")):
        filled._index.move(kept.number, path, trashed=False)
        with pytest.raises(NotPossibleError):
            filled.picture(kept.number)


def test_waiting_writers_do_not_hold_readers(filled: Store) -> None:
    """WAL: what another studio is writing keeps nobody from reading."""
    with sqlite3.connect(filled.folder / INDEX / "history.sqlite", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.perf_counter()
        assert filled.count(Wanted()) == 3 and time.perf_counter() - started < 1
        done = threading.Event()

        def like() -> None:
            filled.mark(1, liked=True)
            done.set()

        threading.Thread(target=like).start()
        time.sleep(0.2)
        assert not done.is_set()
        other.execute("ROLLBACK")
        wait_until(done.is_set)
    other.close()


def test_an_index_that_cannot_be_used_keeps_no_picture_from_the_folder(
    filled: Store, piece_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unusable(*_: object) -> None:
        raise NotPossibleError("locked")

    with monkeypatch.context() as patch:
        patch.setattr(Index, "by_id", unusable)
        patch.setattr(Index, "add", unusable)
        with pytest.raises(NotPossibleError, match="locked"):
            filled.keep(piece_of("late", 9))
    look_through(filled)
    assert all_of(filled)[0].prompt == "late"
