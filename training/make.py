"""Make the bundled models from nothing: `python -m training.make`. Called again, it continues where it stopped.

    python -m training.make --only avatars      # or clip-mini, emblems, fashion, fill, hairstyles, lab, mosaic
    python -m training.make --quick             # every stage with tiny counts, in a folder of its own, in minutes

The stages in order: fashion; the pool of drawings and two attribute classifiers, one of them the judge; the avatars'
synthesis and mapping networks, adversarial sharpening, the encoder, export; clip-mini's text and joint stages, export;
mosaic: its pool, for which npm installs the packages of training/mosaic/node; the dVAE, export; clip-mosaic in two
stages, starting from clip-mini, export, and a judge for the tables; hairstyles and its export; two that are not
bundled: fill, on the pool of mosaic, and emblems, on that pool and with clip-mosaic; the lab's small networks; figures
and cards.
One core takes about six hours; two stages in two shells share two cores well (OMP_NUM_THREADS=1 each).

All paths of the training are of the folder that it is called in. `--quick` calls the stages in `training/runs/quick`,
which it empties first: nothing that was trained or is shipped is written over. There it takes the sources of mosaic's
pictures that this machine has, and leaves out fashion where its pictures are missing; what it leaves out, it says.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from training.avatars import larger, pool
from training.fashion import data as fashion

ROOT = Path(__file__).resolve().parents[1]
QUICK_FOLDER = ROOT / "training/runs/quick"
CONFIGURATIONS = ("clip-mini/open_clip_config.json", "clip-mosaic/open_clip_config.json")  # which nothing trains


class Stage(NamedTuple):
    """A command line, and what --quick adds to it."""

    command: str
    quick: str = ""


POOL = Stage("training.avatars.pool", "--count 48")
SHARED = (
    Stage("training.avatars.classifier --name judge --seed 11", "--steps 2 --batch 8 --held-out 20"),
    Stage("training.judges.export --only avatars", "--at-most 20"),
    Stage("training.avatars.classifier --name tower --seed 12", "--steps 2 --batch 8 --held-out 20"),
)
SYNTHESIS = Stage("training.avatars.synthesis --steps 9200", "--steps 2")
AVATARS = (
    SYNTHESIS,
    # Then the outlines count as much.
    Stage("training.avatars.synthesis --steps 15500 --rate 1e-2 --face-weight 1", "--steps 3"),
    Stage("training.avatars.larger --steps 30000", "--steps 2 --batch 2"),
    Stage("training.avatars.mapping", "--steps 2 --batch 16"),
    Stage("training.avatars.adversarial", "--steps 2 --batch 4"),
    Stage("training.avatars.encoder --steps 4000", "--steps 2 --batch 8"),
    Stage("training.avatars.export"),
)
CLIP_MINI = (
    Stage("training.clip_mini --stage text --steps 1500 --batch 128", "--steps 2 --batch 8"),
    Stage("training.clip_mini --stage joint --steps 5000 --batch 96", "--steps 2 --batch 8"),
    Stage("training.clip_mini --stage export", "--captions 500"),
)
FASHION = (
    Stage("training.fashion.classifier --steps 4000", "--steps 2 --batch 8 --held-out 100"),
    Stage("training.judges.export --only fashion", "--at-most 100"),
    Stage("training.fashion.adversarial", "--steps 2 --batch 8"),
    Stage("training.fashion.export", "--batches 2"),
    Stage("training.fashion.figures", "--count 100"),
)
MOSAIC_POOL = Stage("training.mosaic.pool", "--at-most 120 --without-missing")
MOSAIC = (
    MOSAIC_POOL,
    Stage("training.mosaic.dvae", "--steps 3 --batch 4 --continuous 1"),
    Stage("training.mosaic.export"),
    Stage("training.clip_mosaic --stage joint --steps 1700", "--steps 2 --batch 8"),
    Stage("training.clip_mosaic --stage robust --steps 9500", "--steps 2 --batch 8"),
    Stage("training.clip_mosaic --stage export"),
    Stage("training.clip_mosaic --stage judge --steps 2400", "--steps 2 --batch 8"),
    Stage("training.judges.export --only mosaic", "--at-most 40"),
    Stage("training.mosaic.figures"),
)
HAIRSTYLES = (
    Stage("training.translate.adversarial --steps 12000 --batch 8 --uses 4", "--steps 4 --batch 2 --uses 1"),
    Stage("training.translate.export"),
    Stage("training.translate.figures", "--count 20"),
)
EMBLEMS = (
    Stage("training.emblems.examples", "--avatars 40 --captions 1 --sets 1 --hands 1"),
    Stage("training.emblems.adversarial", "--steps 4 --batch 4"),
    Stage("training.emblems.export"),
    Stage("training.emblems.figures", "--glyphs 20 --people 20 --hands 1"),
)
FILL = (
    Stage("training.fill.adversarial --steps 12000", "--steps 4 --batch 2"),
    Stage("training.fill.export"),
    Stage("training.fill.figures", "--count 20"),
)
# What particles may go towards: features of pictures, as finished prompt models see them.
REFERENCES = {
    name: Stage(f"training.references --model {name}", "--count 10") for name in ("avatars", "fashion", "mosaic")
}
SEEN_ANEW = {
    "avatars": ("avatars",),
    "clip-mini": ("avatars",),
    "fashion": ("fashion",),
    "mosaic": ("fashion", "mosaic"),
    "hairstyles": (),
    "fill": (),
    "lab": (),
    "emblems": (),
}
LAB = (Stage("training.points --lab", "--steps 2"),)
FIGURES = Stage("training.figures", "--count 32 --pairs 20")
CARDS = Stage("training.cards")
PARTS = ("fashion", "avatars", "clip-mini", "mosaic", "hairstyles", "fill", "emblems", "lab")


def stages(only: str | None, folder: Path) -> list[Stage]:
    """What there is to be done in a folder, in order. A stage that ended there already takes no time."""
    chosen: list[Stage] = []
    if only in (None, "fashion"):
        chosen += FASHION
    if only in (None, "avatars", "clip-mini", "mosaic"):
        chosen += [*([] if (folder / pool.FOLDER / "pool.json").exists() else [POOL]), *SHARED]
    if only in (None, "avatars"):
        chosen += AVATARS
    elif only == "clip-mini" and not (folder / larger.FOLDER / "state.pt").exists():
        chosen += AVATARS[:3]  # clip-mini's joint stage looks at the generator's pictures
    if only in (None, "clip-mini"):
        chosen += CLIP_MINI
    if only in (None, "mosaic"):
        chosen += MOSAIC
    if only in (None, "hairstyles"):
        chosen += HAIRSTYLES
    if only in (None, "fill"):
        chosen += [*([MOSAIC_POOL] if only else []), *FILL]
    if only in (None, "emblems"):
        chosen += EMBLEMS
    if only in (None, "lab"):
        chosen += LAB
    chosen += [REFERENCES[name] for name in (REFERENCES if only is None else SEEN_ANEW[only])]
    if only is None:
        chosen.append(FIGURES)
    return [*chosen, CARDS]


def run(command: str, folder: Path) -> None:
    """One stage in a process of its own; stops the program where it fails."""
    print(f"== {command}", flush=True)
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", *command.split()], env=environment, cwd=folder)
    if done.returncode:
        sys.exit(f"{command} failed with exit code {done.returncode}")


def make_quickly() -> None:
    """Every stage with tiny counts."""
    began = time.monotonic()
    shutil.rmtree(QUICK_FOLDER, ignore_errors=True)
    for name in CONFIGURATIONS:
        target = QUICK_FOLDER / "assets" / name
        target.parent.mkdir(parents=True)
        shutil.copy(ROOT / "assets" / name, target)
    chosen = stages(None, QUICK_FOLDER)
    if not fashion.FOLDER.is_dir():
        print(f"without fashion: {fashion.FOLDER} is missing, see training/fashion/data.py", flush=True)
        chosen = [stage for stage in chosen if stage not in (*FASHION, REFERENCES["fashion"])]
    for command, quick in chosen:
        run(f"{command} {quick}", QUICK_FOLDER)
    print(f"every stage ran, in {time.monotonic() - began:.0f} s; what they made is in {QUICK_FOLDER}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--quick", action="store_true", help="tiny counts in training/runs/quick: tries every stage")
    arguments = parser.parse_args()
    if arguments.quick:
        make_quickly()
        return
    for command, _ in stages(arguments.only, Path.cwd()):
        run(command, Path.cwd())


if __name__ == "__main__":
    main()
