"""Make the bundled models from nothing: `python -m training.make`. Called again, it continues where it stopped.

    python -m training.make --only avatars      # or clip-mini, fashion, mosaic

The stages in order: the pool of drawings and two attribute classifiers; the generator's synthesis and mapping
networks, adversarial sharpening, the encoder, export; clip-mini's text and joint stages, export; figures and cards.
mosaic: its pool, for which npm installs the packages of training/mosaic/node; the dVAE, export; clip-mosaic in two
stages, starting from clip-mini, export, and a judge for the tables; figures and cards.
One core takes about four hours; two stages in two shells share two cores well (OMP_NUM_THREADS=1 each).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from training import clip_mini
from training.avatars import pool

SHARED = (
    "training.avatars.classifier --name judge --seed 11",
    "training.avatars.classifier --name tower --seed 12",
)
AVATARS = (
    "training.avatars.synthesis --steps 9200",
    "training.avatars.synthesis --steps 15500 --rate 1e-2 --face-weight 1",  # then the outlines count as much
    "training.avatars.mapping",
    "training.avatars.adversarial --steps 2000",
    "training.avatars.encoder --steps 4000",
    "training.avatars.export",
)
CLIP_MINI = (
    "training.clip_mini --stage text --steps 1500 --batch 128",
    "training.clip_mini --stage joint --steps 5000 --batch 96",
    "training.clip_mini --stage export",
)
FASHION = (
    "training.fashion.classifier --steps 4000",
    "training.fashion.adversarial",
    "training.fashion.export",
    "training.fashion.figures",
)
MOSAIC = (
    "training.mosaic.pool",
    "training.mosaic.dvae",
    "training.mosaic.export",
    "training.clip_mosaic --stage joint --steps 1700",
    "training.clip_mosaic --stage robust --steps 9500",
    "training.clip_mosaic --stage export",
    "training.clip_mosaic --stage judge --steps 2400",
    "training.mosaic.figures",
)
APART = {"fashion": FASHION, "mosaic": MOSAIC}  # that take nothing from the avatars but finished models


def run(stage: str) -> None:
    """One stage in a process of its own; stops the program where it fails."""
    print(f"== {stage}", flush=True)
    done = subprocess.run([sys.executable, "-m", *stage.split()], env={"OMP_NUM_THREADS": "1", **os.environ})
    if done.returncode:
        sys.exit(f"{stage} failed with exit code {done.returncode}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("avatars", "clip-mini", *APART))
    only = parser.parse_args().only
    for name, stages in APART.items():
        if only in (None, name):
            for stage in stages:
                run(stage)
    if only in APART:
        run("training.cards")
        return
    if not (pool.FOLDER / "pool.json").exists():
        run("training.avatars.pool")
    for stage in SHARED:
        run(stage)
    if only != "clip-mini":
        for stage in AVATARS:
            run(stage)
    elif not (clip_mini.synthesis.FOLDER / "state.pt").exists():
        run(AVATARS[0])  # clip-mini's joint stage looks at the generator's pictures
    if only != "avatars":
        for stage in CLIP_MINI:
            run(stage)
    if only is None:
        run("training.figures")
        run("training.cards")


if __name__ == "__main__":
    main()
