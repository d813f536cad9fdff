"""Mutated valid files open or are refused; nothing else happens. In full: `python -m tests.engine.checkpoints.fuzz`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
COUNT = 300


def test_mutated_files_open_or_are_refused(tmp_path: Path) -> None:
    """In a process of its own: the audit hook that watches it cannot be taken off again."""
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.engine.checkpoints.fuzz", "--count", str(COUNT), "--seed", "7"]
    environment = {**os.environ, "GMI_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--report", str(report)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(report.read_text())
    assert sum(result["outcomes"].values()) == COUNT
    assert set(result["outcomes"]) == {"opened", "refused"}
    assert result["outcomes"]["refused"] > COUNT / 3
