"""The temporary folder: bounded while the studio runs, gone when it ends, and cleaned of what a killed one left."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from gmi_ui.pictures.saving import Pictures
from gmi_ui.studio import LaunchOptions, serve
from gmi_ui.temporary import PREFIX, remove_abandoned, remove_halves, trim
from tests.browser.helpers import free_port
from tests.gmi_ui.tiny import tiny_models
from tests.programs import running

ROOT = Path(__file__).resolve().parents[2]


def aged(path: Path, size: int, age: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_the_oldest_files_go_first_and_new_ones_never(tmp_path: Path) -> None:
    oldest, older = aged(tmp_path / "a" / "1", 400, 900), aged(tmp_path / "b" / "2", 400, 800)
    old, new = aged(tmp_path / "b" / "3", 400, 700), aged(tmp_path / "c" / "4", 400, 1)
    trim(tmp_path, 900)
    assert not oldest.exists() and not older.exists() and old.exists() and new.exists()
    assert not (tmp_path / "a").exists() and (tmp_path / "b").exists()
    trim(tmp_path, 0)
    assert not old.exists() and new.exists()


def test_what_a_killed_studio_left_goes_and_a_running_ones_stays(tmp_path: Path) -> None:
    """Also where its number was given to another process meanwhile; foreign folders are left alone."""
    mine = psutil.Process()
    running = tmp_path / f"{PREFIX}{mine.pid}-{int(mine.create_time())}-abc"
    reused = tmp_path / f"{PREFIX}{mine.pid}-5-abc"
    dead = tmp_path / f"{PREFIX}999999999-5-abc"
    foreign = [tmp_path / name for name in (f"{PREFIX}notes", f"{PREFIX}a-b-c", "other-1-2-3")]
    for folder in (running, reused, dead, *foreign):
        aged(folder / "inner" / "file", 10, 0)
    target = tmp_path / "target"
    aged(target / "file", 10, 0)
    (tmp_path / f"{PREFIX}999999998-5-abc").symlink_to(target)
    remove_abandoned(tmp_path)
    assert running.exists() and all(folder.exists() for folder in foreign) and (target / "file").exists()
    assert not reused.exists() and not dead.exists()


def test_a_killed_studios_folder_is_cleaned_at_the_next_start(tmp_path: Path) -> None:
    code = "import sys, time; from gmi_ui.temporary import new_folder; print(new_folder(), flush=True); time.sleep(%s)"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with running([sys.executable, "-c", code % 60], env=environment) as killed:
        assert killed.stdout is not None
        left = Path(killed.stdout.readline().strip())
        assert left.is_dir()
        killed.kill()
        killed.wait()
    assert left.is_dir()
    next_one = subprocess.run([sys.executable, "-c", code % 0], env=environment, stdout=subprocess.PIPE, check=True)
    assert next_one.returncode == 0
    assert list(tmp_path.glob(f"{PREFIX}*")) == []  # the killed one's, and the next one's own at its end


def test_a_studio_that_starts_deletes_halves_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("GMI_CACHE", "GMI_MODELS"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    halves = [
        aged(tmp_path / "GMI_CACHE" / "converted" / ".x.safetensors.ab12cd34.part", 10, 3600),
        aged(tmp_path / "GMI_MODELS" / ".own.json.ab12cd34.part", 10, 3600),
        aged(tmp_path / "GMI_MODELS" / "tiny" / ".x.pkl.0123456789ab.part", 10, 3600),
    ]
    serve(tiny_models(), LaunchOptions(port=free_port(), browser=False)).close()
    assert not any(half.exists() for half in halves)


def test_halves_of_uploads_go_and_whole_ones_stay(tmp_path: Path) -> None:
    half, whole = aged(tmp_path / "tmpabc", 10, 0), aged(tmp_path / ("0" * 64) / "x.pt", 10, 0)
    remove_halves(tmp_path)
    assert not half.exists() and whole.exists()
    remove_halves(tmp_path / "nowhere")


def test_a_swept_folder_is_made_again(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path / "saved")
    pictures._forget_old()
    shutil.rmtree(pictures.folder)
    pictures._forget_old()
    assert pictures.folder.is_dir()


def test_saved_files_are_bounded_while_the_studio_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gmi_ui.pictures.saving.MOST_SAVED", 1000)
    pictures = Pictures(tmp_path / "saved")
    for number in range(9):
        aged(pictures.folder / f"run{number}" / "x.zip", 300, 1000 - number)
    pictures._forget_old()
    assert sorted(path.name for path in pictures.folder.iterdir()) == ["run6", "run7", "run8"]
