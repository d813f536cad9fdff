"""Where models and what is made of them are kept: by a variable, else where the platform has such files."""

import os
from pathlib import Path

import pytest

from engine.errors import ModelError
from engine.system.folders import cache_folder, models_folder, outputs_folder

VARIABLES = ("GMI_CACHE", "GMI_MODELS", "GMI_OUTPUTS", "XDG_CACHE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA")


@pytest.mark.parametrize(
    ("platform", "variables", "cache", "models"),
    [
        ("linux", {}, ".cache/gmi-studio", ".local/share/gmi-studio/models"),
        ("linux", {"XDG_CACHE_HOME": "c", "XDG_DATA_HOME": "d"}, "c/gmi-studio", "d/gmi-studio/models"),
        ("darwin", {}, "Library/Caches/gmi-studio", "Library/Application Support/gmi-studio/models"),
        ("win32", {}, "AppData/Local/gmi-studio/cache", "AppData/Local/gmi-studio/models"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/gmi-studio/cache", "local/gmi-studio/models"),
        ("linux", {"GMI_CACHE": "mine", "XDG_CACHE_HOME": "c"}, "mine", ".local/share/gmi-studio/models"),
        ("win32", {"GMI_MODELS": "mine", "LOCALAPPDATA": ""}, "AppData/Local/gmi-studio/cache", "mine"),
    ],
)
def test_each_platform_has_its_places(
    platform: str,
    variables: dict[str, str],
    cache: str,
    models: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, folder in variables.items():
        monkeypatch.setenv(name, str(tmp_path / folder) if folder else "")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr("sys.platform", platform)
    assert (cache_folder(), models_folder()) == (tmp_path / cache, tmp_path / models)


def test_a_user_without_a_home_gets_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is a number; what another user put in its place is not taken."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    place = tmp_path / f"gmi-studio-{os.getuid()}"
    assert cache_folder() == place / ".cache/gmi-studio" and models_folder().is_relative_to(place)
    assert place.stat().st_mode & 0o777 == 0o700
    place.rmdir()
    place.symlink_to(tmp_path)
    with pytest.raises(ModelError, match="set GMI_MODELS and GMI_CACHE"):
        cache_folder()
    place.unlink()
    place.write_bytes(b"")
    with pytest.raises(ModelError, match="not its own"):
        models_folder()
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


def test_finished_pictures_lie_among_the_users_own_where_there_are_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr("sys.platform", "linux")
    assert outputs_folder() == tmp_path / ".local/share/gmi-studio/outputs"
    (tmp_path / "Pictures").mkdir()
    assert outputs_folder() == tmp_path / "Pictures" / "GMI Studio"
    monkeypatch.setenv("GMI_OUTPUTS", str(tmp_path / "mine"))
    assert outputs_folder() == tmp_path / "mine"
