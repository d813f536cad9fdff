"""What is chosen for the whole studio: kept, checked as a whole, and changed by the person at this machine alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.models import store
from gmi_ui.components.head.functions import preference_functions
from gmi_ui.history.outputs import Outputs
from gmi_ui.notices import NotPossibleError
from gmi_ui.preferences import KeptPreferences, Preferences
from gmi_ui.services import Services
from tests.gmi_ui.tiny import tiny_models

TOKEN = f"{1:032x}"


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    monkeypatch.setenv("GMI_MODELS", str(tmp_path / "models"))
    outputs = Outputs(tmp_path / "kept", choice=tmp_path / "outputs.json")
    return Services.around(tiny_models(), outputs=outputs, preferences=KeptPreferences(tmp_path / "preferences.json"))


def ask(services: Services, **changed: Any) -> dict[str, Any]:
    """The answer to all that is chosen now, with some of it changed."""
    look, choose = preference_functions(services)
    now = look({"token": TOKEN})
    names = ("keeps", "folder", "model", "budget", "threads")
    return choose({"token": TOKEN, "chosen": {name: now[name] for name in names} | changed})


def test_what_is_chosen_is_kept(services: Services, tmp_path: Path) -> None:
    model = services.models.names()[0]
    answer = ask(services, model=model, threads=2, budget=0.7, folder=str(tmp_path / "elsewhere"))
    assert answer["message"] == "" and answer["model"] == model and answer["threads"] == 2
    assert answer["budget"] == 0.7 and answer["folder"] == str(tmp_path / "elsewhere")
    assert Preferences.read(tmp_path / "preferences.json") == Preferences(model, 2)
    assert store.stored_budget() == 700_000_000
    assert services.outputs.store is not None and services.outputs.store.folder == tmp_path / "elsewhere"
    assert ask(services, keeps=False)["keeps"] is False and services.outputs.store is None


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"threads": 0}, "Threads: choose 1 to 1024"),
        ({"threads": 1.5}, "Threads"),
        ({"threads": True}, "Threads"),
        ({"model": 3}, "no name of a model"),
        ({"model": "a" * 5000}, "no name of a model"),
        ({"budget": 0}, "0.1 to"),
        ({"budget": None}, "0.1 to"),
        ({"budget": 1e9}, "0.1 to"),
        ({"folder": ""}, "whole path"),
        ({"folder": "relative"}, "whole path"),
        ({"folder": "/dev/null/kept"}, ""),
    ],
)
def test_where_a_part_cannot_be_nothing_changes(
    services: Services, tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    answer = ask(services, **{"threads": 3, "model": services.models.names()[0]} | changed)
    assert answer["message"] and told in answer["message"]
    assert services.preferences.now == Preferences() and not (tmp_path / "preferences.json").exists()
    assert store.stored_budget() is None
    assert services.outputs.store is not None and services.outputs.store.folder == tmp_path / "kept"


@pytest.mark.parametrize("request_", [None, {}, {"token": "x"}, {"token": TOKEN}, {"token": TOKEN, "chosen": []}])
def test_nonsense_changes_nothing(services: Services, request_: object) -> None:
    _, choose = preference_functions(services)
    assert choose(request_)["message"]
    assert services.preferences.now == Preferences()


def test_others_neither_see_nor_change_anything(tmp_path: Path) -> None:
    services = Services.around(tiny_models(), outputs=Outputs(tmp_path, is_private=False))
    look, choose = preference_functions(services)
    for answer in (look({"token": TOKEN}), choose({"token": TOKEN, "chosen": {"threads": 1, "budget": 1}})):
        assert answer["is_private"] is False and "folder" not in answer
    assert services.preferences.now == Preferences()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"threads": "two"}', '{"model": 1}', "[" * 100_000])
def test_a_damaged_file_is_set_aside(tmp_path: Path, text: str) -> None:
    path = tmp_path / "preferences.json"
    path.write_text(text)
    assert Preferences.read(path) == Preferences()
    assert not path.exists() and (tmp_path / "preferences.json.damaged").read_text() == text


def test_a_full_disk_is_said(tmp_path: Path, full_disk: None) -> None:
    kept = KeptPreferences(tmp_path / "preferences.json")
    with pytest.raises(NotPossibleError, match="cannot be kept"):
        kept.choose({"model": "", "threads": 2})
    assert kept.now == Preferences()


def test_values_of_later_versions_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "preferences.json"
    path.write_text(json.dumps({"threads": 2, "language": "de"}))
    assert Preferences.read(path) == Preferences(threads=2)
