"""Files that would fill the memory, take hours or end the process are refused in seconds, within a gigabyte."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from engine.checkpoints import Refused, content, open_checkpoint, verify
from engine.checkpoints.content import read_content
from engine.errors import ModelError
from engine.models.loading import load_generator
from engine.networks.stylegan2 import Generator
from tests.engine.checkpoints import expected, heavy
from tests.engine.tiny import CHANNELS, RESOLUTION, W_DIM, Z_DIM

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 10.0
MEGABYTES = 1000.0
LARGE = 3 << 20  # numbers of a file that is copied in several parts


def test_each_is_refused_in_seconds_and_within_a_gigabyte(tmp_path: Path) -> None:
    """Opened in a process of its own, as `models check` does, whose memory is measured."""
    (tmp_path / "files").mkdir()
    reasons = heavy.corpus(tmp_path / "files")
    report = tmp_path / "report.json"
    valid = [str(expected.path(name)) for name in ("rosinality_32.pt", "dalle_decoder.pkl")]
    command = [sys.executable, "-m", "tests.engine.checkpoints.heavy", str(tmp_path / "files"), str(report), *valid]
    environment = {**os.environ, "GMI_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300)
    found = json.loads(report.read_text())
    assert found.keys() == reasons.keys()
    wrong = {
        label: found[label]
        for label, reason in reasons.items()
        if found[label][0] != "refused" or not re.search(reason, found[label][1])
    }
    assert wrong == {}
    assert {label: one[2] for label, one in found.items() if one[2] > SECONDS} == {}
    assert {label: one[3] for label, one in found.items() if one[3] > MEGABYTES} == {}


# ---- files that change while they are read -------------------------------------------------------------------


def weights(path: Path, *, scale: float = 1.0, large: bool = False) -> Path:
    network = Generator(Z_DIM, 0, W_DIM, RESOLUTION, channels=CHANNELS, mapping_layers=2)
    state = {key: value.detach() * scale for key, value in network.state_dict().items()}
    if large:
        state["x.unused"] = torch.ones(LARGE)
    torch.save(state, path)
    return path


SHORTENED = """
import os, shutil, sys
from pathlib import Path
from engine.checkpoints import Refused, content, open_checkpoint

whole, path = Path(sys.argv[1]), Path(sys.argv[2])
for size in (0, content.IN_MEMORY):
    content.IN_MEMORY = size
    for moment in ("Checking", "Copying", "Reading"):
        shutil.copy(whole, path)
        try:
            opened = open_checkpoint(
                path,
                watch=lambda doing, _: os.truncate(path, 4096) if doing.startswith(moment) else None,
                cache=path.parent / f"cache {moment} {size}",
            )
            print(moment, float(opened.networks["generator"]["x.unused"].sum()))
        except Refused as error:
            print(moment, error)
"""


def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path: Path) -> None:
    """In a process of its own, which a mapped file would end. Once it is copied, what becomes of it does not matter."""
    whole = weights(tmp_path / "whole.pt", large=True)
    command = [sys.executable, "-c", SHORTENED, str(whole), str(tmp_path / "x.pt")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    refused = "x.pt is refused: it was written to while it was read: is a training saving it?"
    for line, moment in zip(shown.stdout.splitlines(), ("Checking", "Copying", "Reading") * 2, strict=True):
        assert line.startswith(f"{moment} {refused}" if moment != "Reading" else f"Reading {float(LARGE)}"), line
    assert not list(tmp_path.glob("*/gmi-reading/*"))


def test_a_file_that_is_written_over_while_it_is_read(tmp_path: Path) -> None:
    """Of the same length: what is read must be what was hashed, or the cache would keep it under another's name."""
    path = weights(tmp_path / "x.pt")
    data = path.read_bytes()

    def watch(doing: str, share: float | None) -> None:
        if doing.startswith("Checking"):
            path.write_bytes(data[:-200] + bytes(200))

    with pytest.raises(Refused, match="it was written to while it was read"):
        open_checkpoint(path, watch=watch)


def test_a_large_file_without_room_for_a_copy_is_read_into_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "IN_MEMORY", 100)
    path = expected.path("rosinality_32.pt")
    monkeypatch.setattr(content, "_scratch_file", lambda *_: None)
    expected.check_rosinality(open_checkpoint(path, cache=tmp_path / "1"))
    monkeypatch.undo()
    monkeypatch.setattr(content, "IN_MEMORY", 100)
    expected.check_rosinality(open_checkpoint(path, cache=tmp_path / "2"))
    assert not list((tmp_path / "2" / "gmi-reading").iterdir())


def test_what_an_interrupted_reading_left_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "IN_MEMORY", 100)
    left = tmp_path / "gmi-reading"
    left.mkdir()
    for name, age in (("old", content._FORGOTTEN + 60), ("new", 60)):
        (left / name).write_bytes(b"x")
        then = (left / name).stat().st_mtime - age
        os.utime(left / name, (then, then))
    read_content(expected.path("rosinality_32.pt"), scratch=tmp_path)
    assert [path.name for path in left.iterdir()] == ["new"]


def test_a_replaced_file_is_seen(tmp_path: Path) -> None:
    """A training saves the next step under the same name: the model in memory is that of before."""
    path = tmp_path / "own.pt"
    first = load_generator(str(weights(path)))
    assert load_generator(str(path)) is first
    weights(tmp_path / "next.pt", scale=2.0)
    os.replace(tmp_path / "next.pt", path)
    second = load_generator(str(path))
    assert second is not first and second.sha256 != first.sha256


# ---- places that are no files --------------------------------------------------------------------------------


def test_pipes_beside_the_weights_are_no_descriptions(tmp_path: Path) -> None:
    """Reading one would wait for ever: for this long, the test would."""
    weights(tmp_path / "x.pt")
    for name in ("config.json", "x.yaml", "other.yaml"):
        os.mkfifo(tmp_path / name)
    opened: list[object] = []
    thread = threading.Thread(target=lambda: opened.append(open_checkpoint(tmp_path / "x.pt")), daemon=True)
    thread.start()
    thread.join(30)
    assert len(opened) == 1
    for description in ("config.json", "x.yaml"):
        with pytest.raises(ModelError, match="There is no file"):
            open_checkpoint(tmp_path / "x.pt", description=tmp_path / description)


def test_bundles_are_measured_before_they_are_hashed(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(heavy.HUGE)
    with pytest.raises(Refused, match="larger than 64 GB"):
        verify(tmp_path / "x", "0" * 64)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="is missing"):
        verify(tmp_path / "pipe", "0" * 64)
