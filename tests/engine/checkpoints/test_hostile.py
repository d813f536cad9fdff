"""No hostile file runs anything or crashes the readers; each is refused with its reason, in bounded time and memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoints.vocabulary import MERE_NAMES, NODE_CLASSES
from tests.engine.checkpoints import expected
from tests.engine.checkpoints.hostile import WANTED, corpus

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 20.0  # the slowest, of a million operations, takes about 1 s on an idle core
MEGABYTES = 600.0


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of every file of the corpus, opened in a process of its own that is watched."""
    place = tmp_path_factory.mktemp("hostile")
    canary = place / "canary"
    files = place / "files"
    files.mkdir()
    names = {}
    for number, (label, (data, _)) in enumerate(corpus(canary).items()):
        names[f"{number:04d}.pt"] = label
        (files / f"{number:04d}.pt").write_bytes(data)
    valid = [expected.path(name) for name in ("biggan-deep-tiny", "sg2_tf_legacy32.pkl", "dalle_encoder.pkl")]
    environment = {**os.environ, "GMI_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.engine.checkpoints.run_hostile", str(files), str(place / "report.json")]
    subprocess.run([*command, *map(str, valid)], cwd=ROOT, env=environment, check=True, timeout=1500)
    report = json.loads((place / "report.json").read_text())
    assert not canary.exists(), "a payload has run"
    assert {entry["file"] for entry in report} == names.keys()
    return {names[entry["file"]]: entry for entry in report}


def test_the_corpus_is_large() -> None:
    cases = corpus(Path("canary"))
    assert len(cases) >= 250
    assert len({data for data, _ in cases.values()}) == len(cases)


def test_nothing_is_run(results: dict[str, dict[str, Any]]) -> None:
    """No import, no code, no process, no socket, no unpickling, no file written: as Python's own audit tells."""
    assert {label: entry["events"] for label, entry in results.items() if entry["events"]} == {}


def test_each_is_refused_with_its_reason(results: dict[str, dict[str, Any]]) -> None:
    wrong = {}
    for label, (_, pattern) in corpus(Path("canary")).items():
        entry = results[label]
        good = entry["outcome"] == "refused" and re.search(pattern, entry["message"])
        if not good or f"{entry['file']} is refused: " not in entry["message"]:
            wrong[label] = (entry["outcome"], entry["message"][:300], pattern)
    assert wrong == {}


def test_what_is_wanted_is_told_by_name(results: dict[str, dict[str, Any]]) -> None:
    told = {want for entry in results.values() for want in entry["wants"]}
    assert set(WANTED) <= told


def test_time_and_memory_are_bounded(results: dict[str, dict[str, Any]]) -> None:
    slow = {label: entry["seconds"] for label, entry in results.items() if entry["seconds"] > SECONDS}
    large = {label: entry["grown_mb"] for label, entry in results.items() if entry["grown_mb"] > MEGABYTES}
    assert slow == {} and large == {}


def test_the_machinery_would_notice_a_payload(tmp_path: Path) -> None:
    """The same watch over Python's own unpickler: the canary appears and the audit tells of it."""
    canary = tmp_path / "canary"
    data, _ = corpus(canary)["os.system (protocol 0)"]
    (tmp_path / "evil.pkl").write_bytes(data)
    script = (
        "import pickle, sys\n"
        "from tests.engine.checkpoints import run_hostile as watch\n"
        "sys.addaudithook(watch.listen)\n"
        "watch.watching = True\n"
        "pickle.load(open(sys.argv[1], 'rb'))\n"
        "watch.watching = False\n"
        "print(*watch.events, sep='\\n')\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "evil.pkl")]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert canary.exists()
    assert "pickle.find_class ('os', 'system')" in shown.stdout
    assert "os.system (" in shown.stdout


def test_the_whitelist_names_no_module_function() -> None:
    """Classes stand for inert nodes only: no name of the whitelist is one that a scanner lists."""
    allowed = {".".join(key) for key in (*NODE_CLASSES, *MERE_NAMES)}
    assert not allowed & set(WANTED)
