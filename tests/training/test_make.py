"""What `training.make` calls exists, in an order in which each stage finds what it reads."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from training import make

EVERY = make.stages(None, Path("nowhere"))


def names(stages: list[make.Stage]) -> list[str]:
    return [stage.command.split(" --steps")[0] for stage in stages]


@pytest.mark.parametrize("stage", EVERY, ids=lambda stage: stage.command)
def test_a_stage_has_the_options_that_it_is_called_with(stage: make.Stage) -> None:
    module, *words = f"{stage.command} {stage.quick}".split()
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).read_text()
    for word in words:
        if word.startswith("--"):
            assert f'"{word}"' in source, word


def test_whatever_learns_has_a_quick_count() -> None:
    for stage in EVERY:
        if "--steps" in stage.command or stage.command.endswith(
            (".pool", ".mapping", ".adversarial", ".dvae", ".examples")
        ):
            assert "--" in stage.quick, stage


def test_a_stage_comes_after_what_it_reads() -> None:
    order = names(EVERY)
    for first, then in [
        ("training.avatars.pool", "training.avatars.classifier --name judge --seed 11"),
        ("training.avatars.classifier --name tower --seed 12", "training.avatars.synthesis"),
        ("training.avatars.synthesis", "training.avatars.adversarial"),
        ("training.avatars.export", "training.figures"),
        ("training.avatars.synthesis", "training.clip_mini --stage joint"),
        ("training.clip_mini --stage export", "training.clip_mosaic --stage joint"),
        ("training.mosaic.dvae", "training.clip_mosaic --stage robust"),
        ("training.clip_mosaic --stage judge", "training.judges.export --only mosaic"),
        ("training.avatars.export", "training.translate.adversarial"),
        ("training.translate.export", "training.translate.figures"),
        ("training.mosaic.pool", "training.emblems.examples"),
        ("training.clip_mosaic --stage export", "training.emblems.examples"),
        ("training.clip_mosaic --stage judge", "training.emblems.figures"),
        ("training.emblems.export", "training.emblems.figures"),
        ("training.mosaic.pool", "training.fill.adversarial"),
        ("training.mosaic.export", "training.fill.export"),
        ("training.judges.export --only mosaic", "training.fill.figures"),
        ("training.figures", "training.cards"),
    ]:
        assert order.index(first) < order.index(then), (first, then)


def test_a_pool_that_is_there_is_kept(tmp_path: Path) -> None:
    assert make.POOL in make.stages("avatars", tmp_path)
    made = tmp_path / "training/runs/avatars/pool"
    made.mkdir(parents=True)
    (made / "pool.json").write_text("{}")
    assert make.POOL not in make.stages("avatars", tmp_path)


def test_a_part_alone_leaves_the_others_out() -> None:
    assert "training.mosaic.dvae" not in names(make.stages("avatars", Path("nowhere")))
    assert "training.avatars.mapping" not in names(make.stages("mosaic", Path("nowhere")))
    assert make.SYNTHESIS in make.stages("clip-mini", Path("nowhere"))
    assert make.stages("hairstyles", Path("nowhere")) == [*make.HAIRSTYLES, make.CARDS]
    assert make.stages("emblems", Path("nowhere")) == [*make.EMBLEMS, make.CARDS]
    assert make.stages("fill", Path("nowhere")) == [make.MOSAIC_POOL, *make.FILL, make.CARDS]


def test_a_quick_run_has_a_folder_of_its_own() -> None:
    """All that stages write lies in the folder that they are called in."""
    assert make.QUICK_FOLDER == make.ROOT / "training/runs/quick"
    for module in {stage.command.split()[0] for stage in EVERY}:
        spec = find_spec(module)
        assert spec is not None and spec.origin is not None
        source = Path(spec.origin).read_text()
        assert 'Path("/' not in source or module.endswith("fashion.data")
        for name in ("FOLDER", "BUNDLE", "ASSETS"):
            assert f"\n{name} = Path(__file__)" not in source, (module, name)
