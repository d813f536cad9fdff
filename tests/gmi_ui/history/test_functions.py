"""What the History tab's page may ask of the server, and what it gets for requests that no page of ours makes."""

import base64
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gmi_ui.components.history.functions import MOST_CHOSEN, NOT_HERE, OFF, PAGE, history_functions
from gmi_ui.history import export
from gmi_ui.history.facts import Piece
from gmi_ui.history.index import Wanted
from gmi_ui.history.outputs import Outputs
from gmi_ui.history.store import Store
from gmi_ui.notices import NotPossibleError
from gmi_ui.pictures.saving import SHEET
from gmi_ui.services import Services
from tests.gmi_ui.tiny import style_models, tiny_models
from tests.gmi_ui.waiting import wait_until

TOKEN = "ab" * 16
Make = Callable[..., Piece]
Call = Callable[..., dict[str, Any]]
NO_NUMBERS: list[Any] = [None, "1", 1.0, True, -1, 1 << 60, ["1"], {}, "1; DROP TABLE pictures", "../../etc/passwd"]


def called(services: Services) -> Call:
    restored: list[tuple[str, Path]] = []

    def restore(token: str, path: Path) -> str:
        restored.append((token, path))
        return "generate"

    def go_by(token: str, paths: Sequence[Path], how: str) -> str:
        restored.extend((f"{token} {how}", path) for path in paths)
        return "generate"

    made = history_functions(services, restore, restore, go_by)
    functions = {function.__name__: function for function in made}

    def call(name: str, **request: Any) -> dict[str, Any]:
        answer = functions[f"history_{name}"]({"token": TOKEN, **request})
        json.dumps(answer)
        return dict(answer)

    call.restored = restored  # type: ignore[attr-defined]
    call.functions = functions  # type: ignore[attr-defined]
    return call


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Services]:
    outputs = Outputs(tmp_path / "outputs", choice=tmp_path / "choice.json")
    services = Services.around(tiny_models(), outputs=outputs)
    yield services
    services.end(20)


@pytest.fixture
def store(kept: Services, piece_of: Make) -> Store:
    store = kept.outputs.store
    assert store is not None
    woman = piece_of("a woman with pink hair", 1)
    for piece in (woman, piece_of("a sad man", 2, parent=woman.id), piece_of("a dog", 3, side="baseline")):
        store.keep(piece)
    return store


@pytest.fixture
def call(kept: Services, store: Store) -> Call:
    return called(kept)


def numbers(store: Store, words: str = "") -> list[int]:
    return [one.number for one in store.page(Wanted(words=words), 0, 100)]


def test_pages_tell_of_pictures_the_newest_first(call: Call, store: Store, piece_of: Make) -> None:
    for seed in range(10, 10 + PAGE):
        store.keep(piece_of("many", seed))
    first, second = call("page", offset=0), call("page", offset=PAGE)
    assert first["total"] == second["total"] == PAGE + 3 and len(first["rows"]) == PAGE
    assert [row["prompt"] for row in second["rows"]] == ["a dog", "a sad man", "a woman with pink hair"]
    assert second["rows"][0]["side"] == "baseline" and second["revision"] == call("state")["revision"]
    assert call("page", offset=0, wanted={"words": "pink"})["total"] == 1
    assert call("page", offset=5, wanted={"words": "pink"})["rows"] == []


def test_thumbnails_and_pictures_are_what_was_kept(call: Call, store: Store) -> None:
    number = numbers(store, "sad")[0]
    small = call("thumbnails", numbers=[number, 999])["pictures"]
    with Image.open(io.BytesIO(base64.b64decode(small[str(number)]))) as picture:
        assert picture.format == "WEBP" and picture.size == (32, 24)
    assert small["999"] == ""
    told = call("picture", number=number)
    assert (told["prompt"], told["seed"], told["score"], told["model"]) == ("a sad man", 2, 0.25, "avatars")
    assert [step["prompt"] for step in told["family"]["steps"]] == ["a woman with pink hair", "a sad man"]
    assert (
        told["family"]["steps"][1]["parent"] == told["family"]["steps"][0]["number"] and not told["family"]["missing"]
    )
    assert json.loads(told["settings"])["prompt"] == "a sad man"


def test_a_lineage_whose_beginning_is_not_here_says_so(call: Call, store: Store, piece_of: Make) -> None:
    store.keep(piece_of("an orphan", 7, parent="ab" * 32))
    assert call("picture", number=numbers(store, "orphan")[0])["family"]["missing"]


def test_likes_tags_trash_and_back(call: Call, store: Store) -> None:
    sad, dog = numbers(store, "sad") + numbers(store, "dog")
    assert call("mark", numbers=[sad, dog], liked=True) == {"message": ""}
    assert call("page", offset=0, wanted={"liked": True})["total"] == 2
    call("mark", numbers=[sad], tags="mine, best")
    assert call("page", offset=0, wanted={"words": "best"})["rows"][0]["liked"] is True
    assert call("delete", numbers=[sad, dog]) == {"message": ""}
    assert call("state")["trashed"] == 2 and call("page", offset=0)["total"] == 1
    assert call("put_back", numbers=[sad]) == {"message": ""}
    assert call("empty_trash")["count"] == 1 and call("page", offset=0)["total"] == 2
    assert call("page", offset=0, wanted={"words": "best"})["total"] == 1


def test_restoring_goes_through_the_tab(call: Call, store: Store) -> None:
    number = numbers(store)[0]
    assert call("restore", number=number)["task"] == "generate"
    assert call.restored == [(TOKEN, store.picture(number))]  # type: ignore[attr-defined]


def test_several_pictures_are_what_runs_are_like_or_unlike(call: Call, store: Store) -> None:
    chosen = numbers(store)[:2]
    assert call("go_by", numbers=chosen, how="unlike")["task"] == "generate"
    assert call.restored == [(f"{TOKEN} unlike", store.picture(one)) for one in chosen]  # type: ignore[attr-defined]
    for request in ({"numbers": chosen, "how": "pin"}, {"numbers": [], "how": "like"}, {"how": "like"}):
        assert call("go_by", **request)["message"]
    assert len(call.restored) == 2  # type: ignore[attr-defined]


def test_a_picture_opens_in_another_tab_and_knows_what_it_is(tmp_path: Path, piece_of: Make) -> None:
    services = Services.around(style_models(), outputs=Outputs(tmp_path / "outputs"))
    store, call = services.outputs.store, called(services)
    assert store is not None
    piece = piece_of("blue", 1)
    store.keep(piece)
    for task in ("edit", "inpaint", "translate"):
        assert call("open", number=1, to=task)["task"] == task
        version = services.sessions.get(TOKEN, task).workspace.current
        assert version is not None and version.made_from == piece.id
    arrival = services.sessions.get(TOKEN, "edit").arrival
    assert arrival is not None and arrival.fields == {"neutral": "blue"}
    for wrong in ("generate", "models", "../x", None, 3):
        assert call("open", number=1, to=wrong)["message"] == "There is no such tab."
    services.end(20)


def test_a_copy_and_a_zip_come_into_the_folder_that_is_served(call: Call, store: Store, kept: Services) -> None:
    sad, dog = numbers(store, "sad") + numbers(store, "dog")
    copy = Path(call("save", number=sad)["path"])
    assert copy.is_relative_to(kept.pictures.folder) and copy.read_bytes() == store.picture(sad).read_bytes()
    made = Path(call("export", numbers=[sad, dog, sad])["path"])
    assert made.is_relative_to(kept.pictures.folder) and made.suffix == ".zip"
    with zipfile.ZipFile(made) as archive:
        names = archive.namelist()
        told = json.loads(archive.read(export.LIST))["pictures"]
        assert len(told) == 2 and told[0]["prompt"] == "a sad man" and told[1]["side"] == "baseline"
        assert archive.read(told[0]["file"]) == store.picture(sad).read_bytes()
        assert names[:2] == [export.LIST, SHEET] and len(names) == 4
        assert "path" not in told[0]
        with Image.open(io.BytesIO(archive.read(SHEET))) as sheet:
            assert sheet.width > 64


def test_too_much_is_not_exported(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotPossibleError, match="up to 500"):
        export.export(store, [1] * 501, tmp_path / "x.zip")
    monkeypatch.setattr(export, "MOST_BYTES", 10)
    with pytest.raises(NotPossibleError, match="smaller parts"):
        export.export(store, [1], tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


# ---- requests that no page of ours makes


@pytest.mark.parametrize("number", NO_NUMBERS)
def test_what_is_no_number_reaches_nothing(call: Call, store: Store, number: Any) -> None:
    for name in ("picture", "restore", "more", "save", "open"):
        assert call(name, number=number, to="edit")["message"], name
    for name in ("thumbnails", "mark", "delete", "put_back", "export"):
        assert call(name, numbers=[number])["message"], name
        assert call(name, numbers=number)["message"], name
    assert "rows" not in call("page", offset=number)
    assert store.count(Wanted()) == 3


def test_unknown_numbers_are_said(call: Call) -> None:
    for name in ("picture", "restore", "more", "save", "open"):
        assert "not in its folder" in call(name, number=12345, to="edit")["message"]
    for name in ("mark", "delete", "put_back", "export"):
        assert "not in its folder" in call(name, numbers=[12345])["message"]
    assert "Choose between" in call("delete", numbers=[])["message"]
    assert "Choose between" in call("delete", numbers=[1] * (MOST_CHOSEN + 1))["message"]


@pytest.mark.parametrize(
    "wanted",
    [
        None, 3, [], "x", {"words": 3}, {"words": ["a"]}, {"words": '" OR 1=1 --'}, {"words": "NEAR(" * 100},
        {"words": "x" * 10**5}, {"model": "' OR ''='"}, {"task": {"a": 1}}, {"since": "yesterday"}, {"since": True},
        {"since": 1e300}, {"since": -1e300}, {"until": [1]}, {"liked": "yes"}, {"trashed": 1}, {"unknown": 1},
    ],
)  # fmt: skip
def test_whatever_is_wanted_is_answered(call: Call, store: Store, wanted: Any) -> None:
    answer = call("page", offset=0, wanted=wanted)
    assert answer["message"] == "" and answer["total"] in (0, 3)
    assert store.count(Wanted()) == 3


def test_strangers_get_nothing(call: Call) -> None:
    for function in call.functions.values():  # type: ignore[attr-defined]
        requests: list[Any] = [None, [], "x", {}, {"token": "x"}, {"token": None}, {"token": "AB" * 16}]
        for request in requests:
            answer = function(request)
            assert set(answer) == {"message", "kind"} and "not connected" in answer["message"]


def test_a_studio_that_others_use_shows_nothing(tmp_path: Path, piece_of: Make) -> None:
    services = Services.around(tiny_models(), outputs=Outputs(tmp_path / "outputs", is_private=False))
    assert services.outputs.store is not None
    services.outputs.store.keep(piece_of())
    functions = called(services).functions  # type: ignore[attr-defined]
    for function in functions.values():
        answer = function({"token": TOKEN, "number": 1, "numbers": [1], "offset": 0, "keeps": True, "folder": "/tmp/x"})
        assert answer == {"message": NOT_HERE, "kind": "info", "is_private": False}
    services.end(5)


def test_keeping_can_be_turned_off_and_on(call: Call, kept: Services, tmp_path: Path) -> None:
    told = call("state")
    assert told["keeps"] and told["folder"] == str(tmp_path / "outputs") and told["models"][0]["name"] == "avatars"
    assert call("choose", keeps=False)["keeps"] is False
    assert call("page", offset=0)["message"] == OFF and kept.outputs.store is None
    assert call("choose", keeps=True, folder=str(tmp_path / "outputs"))["keeps"] is True
    wait_until(lambda: call("page", offset=0)["total"] == 3)
    for folder in (None, "", 3, "relative", "\x00", "/x" * 1000, str(tmp_path / "choice.json"), "/proc/nothing"):
        assert call("choose", keeps=True, folder=folder)["message"], folder
    assert call("state")["folder"] == str(tmp_path / "outputs")


def test_a_folder_without_a_usable_index_is_said_and_can_be_changed(
    call: Call, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unusable(*_: object) -> None:
        raise NotPossibleError("The list of your pictures cannot be used now.")

    monkeypatch.setattr(store, "models", unusable)
    told = call("state")
    assert told["message"] == "" and "cannot be used" in told["trouble"] and told["folder"] == str(store.folder)
    assert call("choose", keeps=True, folder=str(tmp_path / "other"))["trouble"] == ""


def test_a_broken_picture_is_said_and_holds_nothing_up(call: Call, store: Store) -> None:
    number = numbers(store, "sad")[0]
    store.picture(number).write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    assert call("picture", number=number)["message"]
    assert call("export", numbers=[number])["message"]
    assert call("page", offset=0)["total"] == 3
