"""The public interface: every name it promises, and the example of its docstring."""

import textwrap
from pathlib import Path

import pytest
import torch

import engine
from engine.settings import FlowSettings, GenerateSettings


@pytest.mark.parametrize("name", engine.__all__)
def test_promised_names_exist(name: str) -> None:
    assert getattr(engine, name) is not None


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'paint'"):
        engine.paint  # noqa: B018


def test_the_docstrings_example_runs(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the tiny models in the place of the bundled ones, and few steps."""
    monkeypatch.chdir(tmp_path)
    short = FlowSettings(steps=2)
    assert engine.__doc__ is not None
    lines = [line for line in engine.__doc__.splitlines() if line.startswith("    ")]
    names: dict[str, object] = {name: getattr(engine, name) for name in engine.__all__}
    names |= {"Path": Path, "GenerateSettings": lambda prompt: GenerateSettings(prompt, n=2, flow=short)}
    exec(textwrap.dedent("\n".join(lines)), names)
    assert (tmp_path / "first.png").is_file()
    steps = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [int(step) for step, _ in steps] == [0, 1, 2]
    assert all(torch.tensor(float(diversity)).isfinite() for _, diversity in steps)
