"""Reference files: those of the repository are found, those of the optional set skip their tests where it is absent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import goldens

ROOT = Path(__file__).resolve().parents[1]
OPTIONAL = "tests/engine/checkpoints/test_opening.py::test_file_reproduces_the_reference[biggan-deep-tiny-zip.bin]"


def test_bundled_files_are_found_without_the_optional_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goldens, "SHARED", tmp_path / "absent")
    assert goldens.reference("checkpoints/rosinality_32.pt").is_file()
    assert goldens.golden("stylegan2_gray8").group("state")


def test_an_absent_set_skips_and_an_incomplete_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goldens, "SHARED", tmp_path / "absent")
    with pytest.raises(goldens.ReferenceAbsent, match="of the optional set of reference files, which is not at"):
        goldens.reference("goldens/nothing.json")
    monkeypatch.setattr(goldens, "SHARED", tmp_path)  # somebody's folder of the same name
    with pytest.raises(goldens.ReferenceAbsent):
        goldens.reference("goldens/nothing.json")
    (tmp_path / "goldens").mkdir()
    with pytest.raises(pytest.fail.Exception, match="lacks goldens/nothing.json"):
        goldens.reference("goldens/nothing.json")
    (tmp_path / "goldens" / "nothing.json").write_text("{}")
    assert goldens.reference("goldens/nothing.json").parent.parent == tmp_path


def test_continuous_integration_excuses_the_absent_set_only(tmp_path: Path) -> None:
    other = tmp_path / "test_other.py"
    other.write_text("import pytest\n\ndef test_other():\n    pytest.skip('no reason')\n")
    environment = {**os.environ, "CI": "true", goldens.SHARED_VARIABLE: str(tmp_path / "absent")}
    alone = ["-q", "-p", "no:cacheprovider", "--noconftest", "-p", "tests.conftest"]  # for a test elsewhere, too
    command = [sys.executable, "-m", "pytest", *alone, OPTIONAL, str(other)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert "1 failed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert "skipped, but with CI=true every test must run" in done.stdout
