"""Where models and what is made of them are kept: by a variable, else where the platform has such files."""

from pathlib import Path

import pytest

from engine.system.folders import cache_folder, models_folder

VARIABLES = ("GMI_CACHE", "GMI_MODELS", "XDG_CACHE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA")


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
