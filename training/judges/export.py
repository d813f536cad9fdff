"""Write the trained judges beside `training/judges`, with what they reach on held-out pictures and their cards.

    python -m training.judges.export                  # all three
    python -m training.judges.export --only avatars

Figures are measured with the weights as stored, on pictures that no training saw.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import engine
from engine.checkpoints import read_safetensors, write_safetensors
from training import clip_mosaic, judges
from training.avatars import classifier as avatar_classifier
from training.avatars import pool as avatar_pool
from training.fashion import classifier as fashion_classifier
from training.fashion import data as fashion
from training.figures import clip_features
from training.jobs import steps_done
from training.mosaic import dvae, pool
from training.mosaic import figures as mosaic_figures

FOLDER = Path("training/judges")
AVATARS, TEST_PICTURES = 2000, 10_000  # held out, for the figures
REAL_PICTURES, REAL_SEED = 2048, 20_260_102  # of mosaic's sources, for the realism of its table

CARD = """# The judge of {name}

{what} No optimisation uses it: it measures what the tables of the README and the cards report.

- **Licence**: {licence}. **Data**: {data}.
- **Made by** `{command}` ({steps:,} steps), then `python -m training.judges.export --only {name}`.
- **Apart from what is optimised**: {apart}

## Held-out figures

With the weights as they are here (half precision), on {held_out}.

{figures}

## Files

{files}
"""


def write(name: str, folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]) -> None:
    """A judge's files and `judge.json`, still without figures. tensors: by role."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for role, state in tensors.items():
        path = folder / f"{role}.safetensors"
        files[role] = {"path": path.name, "sha256": write_safetensors(path, state, dtype=torch.float16)}
    save_facts(folder, {"name": name, **facts, "files": files})


def save_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    (folder / "judge.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def write_card(folder: Path, facts: Mapping[str, Any]) -> None:
    """The same for people."""
    figures = "\n".join(f"- {name}: {100 * value:.1f} %" for name, value in facts["figures"].items())
    files = "\n".join(
        f"- `{file['path']}` ({(folder / file['path']).stat().st_size / 1e6:.1f} MB), sha256 `{file['sha256']}`"
        for file in facts["files"].values()
    )
    card = CARD.format(**{**facts, "figures": figures, "files": files})
    (folder / "card.md").write_text(card, encoding="utf-8")


def finish(folder: Path, measure: Callable[[], dict[str, float]]) -> None:
    """Measures the judge as it is on disk, and writes its card."""
    facts = {**json.loads((folder / "judge.json").read_text(encoding="utf-8")), "figures": measure()}
    save_facts(folder, facts)
    write_card(folder, facts)
    print(facts["name"], json.dumps(facts["figures"], indent=2), flush=True)


def export_avatars(at_most: int) -> None:
    state, count = judges.load_avatars(fresh=True).state_dict(), min(at_most, AVATARS)
    write("avatars", FOLDER / "avatars", {"weights": state}, {
        "what": "A small CNN (64 px, 2.6 million weights) that tells the attributes of an avatar.",
        "licence": "MIT",
        "data": "drawings by training/avatars/drawing.py (MIT), made as they are needed, shifted, blurred and noisy",
        "command": "python -m training.avatars.classifier --name judge --seed 11",
        "steps": steps_done(avatar_classifier.FOLDER / "judge"),
        "apart": "another seed and other drawings than the attribute tower (seed 12) from which clip-mini, the encoder "
        "and the drawing loss come.",
        "held_out": f"{count:,} drawings of seed {avatar_pool.HELD_OUT_SEED:,}; attributes that are hidden "
        "do not count",
    })  # fmt: skip
    finish(FOLDER / "avatars", lambda: avatar_figures(count))


def avatar_figures(count: int) -> dict[str, float]:
    """The share of right values of every attribute."""
    found = avatar_classifier.accuracy(judges.load_avatars(FOLDER), avatar_pool.held_out(count))
    named = {group.replace("_", " "): share for group, share in found.items()}
    return {**named, "mean": float(np.mean(list(found.values())))}


@torch.no_grad()
def export_fashion(at_most: int) -> None:
    network = judges.load_fashion(fresh=True)
    count = min(at_most, TEST_PICTURES)
    pixels, _ = fashion.load("t10k")
    features = [network.features(part) for part in fashion.to_images(pixels[:count]).split(250)]
    tensors = {"weights": network.state_dict(), "reference": {"mean": torch.cat(features).mean(0)}}
    write("fashion", FOLDER / "fashion", tensors, {
        "what": "A CNN (32 px) that tells the ten classes of Fashion-MNIST; `reference` is the mean of its features.",
        "licence": "MIT",
        "data": "Fashion-MNIST's 60,000 training pictures (Xiao et al. 2017, MIT), shifted, mirrored, partly erased",
        "command": "python -m training.fashion.classifier --steps 4000",
        "steps": steps_done(fashion_classifier.FOLDER),
        "apart": "the generator's own discriminator and clip-mosaic were trained without it.",
        "held_out": f"{count:,} test pictures",
    })  # fmt: skip
    finish(FOLDER / "fashion", lambda: {"class": fashion_classifier.accuracy(judges.load_fashion(FOLDER), count)})


def export_mosaic(at_most: int) -> None:
    state = judges.without_unseen_words(read_safetensors(clip_mosaic.JUDGE))
    everything, rng = pool.open_pool(), np.random.default_rng(REAL_SEED)
    parts = {source: everything.rows(held_out=False, source=source) for source in everything.sources}
    images = dvae.load_batch(everything, dvae.sample_rows(parts, min(at_most, REAL_PICTURES), rng), rng)
    real = clip_features(judges.load_mosaic(fresh=True), images)
    write("mosaic", FOLDER / "mosaic", {"weights": state, "reference": {"real": real}}, {
        "what": "A prompt model of clip-mosaic's kind. Words it never saw share one embedding, stored once; "
        f"`reference` holds its features of {REAL_PICTURES:,} training pictures of mosaic.",
        "licence": "CC BY 4.0",
        "data": "the pictures of mosaic (its card names every source), with captions by training/mosaic/words.py",
        "command": "python -m training.clip_mosaic --stage judge --steps 2400",
        "steps": steps_done(clip_mosaic.FOLDER / "judge"),
        "apart": "its image tower starts from the judge of avatars and it saw other batches than clip-mosaic; both "
        "text towers start from clip-mini.",
        "held_out": f"at most {mosaic_figures.MOST} held-out pictures a source",
    })  # fmt: skip
    finish(FOLDER / "mosaic", lambda: mosaic_figures_of(everything))


def mosaic_figures_of(everything: pool.Pool) -> dict[str, float]:
    """Zero-shot figures, those of every source beside the others."""
    found = mosaic_figures.clip_mosaic(judges.load_mosaic(FOLDER), everything)
    flat: dict[str, float] = {}
    for name, value in found.items():
        if isinstance(value, dict):
            flat |= {f"{name}, {source}": share for source, share in value.items()}
        else:
            assert isinstance(value, float)
            flat[name] = value
    return flat


EXPORTS = {"avatars": export_avatars, "fashion": export_fashion, "mosaic": export_mosaic}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=judges.NAMES)
    parser.add_argument("--at-most", type=int, default=10**9, help="pictures to measure on")
    arguments = parser.parse_args()
    engine.set_threads(None)
    for name in [arguments.only] if arguments.only else judges.NAMES:
        EXPORTS[name](arguments.at_most)


if __name__ == "__main__":
    main()
