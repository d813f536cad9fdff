"""Write the cards of the bundled models from what is on disk: `python -m training.cards`.

Hashes and sizes come from `model.json`, figures from `figures.json` (`python -m training.figures`), the numbers of
training steps from the checkpoints' logs as told in `model.json`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ASSETS = Path("assets")

AVATARS = """# avatars

A StyleGAN2 (skip generator, keys as in StyleGAN2-ADA) that draws cartoon avatars at {resolution} px. Its W is, up to
shift and scale, the space of the avatars' traits: weights of hair styles, glasses, facial hair, hats, mouths, eyes and
clothes, colours, proportions. Between two traits lies a drawing of its own, not a blend of two pictures, because the
drawing program that taught it draws every point of that space.

- **Licence**: {licence}. **Data**: {data}; no picture of a person was used.
- **Trained by** `python -m training.make --only avatars`: 100,000 drawings (seed 1), a quarter of them broad blends,
  half asked for outside of what can be drawn and shown at its projection. Stages: synthesis ({synthesis}), mapping
  ({mapping}), adversarial sharpening with the discriminator ({adversarial}), encoder image -> w ({encoder}). Seeds are
  in the scripts.
- **Made for** trying the studio without a GPU. It knows the attributes below and nothing else: no age, no hands, no
  scenery, and one drawing style.

## Figures

Held-out drawings: seed 1,000,003. The judge is an attribute classifier (seed 11) that no optimisation ever used; it was
trained on the first half of the drawings. Precision and recall: k = 3, 2,048 pictures each, judge features.

{figures}

## Files

{files}
"""

CLIP_MINI = """# clip-mini

A small CLIP for avatars, an open_clip model of its own configuration (`open_clip_config.json`): a CNN of 3 million
weights that looks at {resolution} px, and a text transformer of width 160 with CLIP's tokens and a context of 32.

- **Licence**: {licence}. **Data**: {data}, with captions by `training/avatars/captions.py`: synonyms, word orders,
  negations, typos.
- **Trained by** `python -m training.make --only clip-mini`: the image tower starts as an attribute classifier (seed 12,
  second half of the drawings); then the text tower ({text}); then both, a quarter of the pictures made by `avatars`
  ({joint}).
- **Made for** judging avatars. Words it never saw get the mean embedding: it cannot read other subjects.

## Figures

Held-out drawings: seed 1,000,003. "One attribute changed": of two captions of one to three attributes that differ in
one, the share of pictures that prefer their own. Zero-shot: the share of pictures whose value has the nearest prompt.

{figures}

## Files

{files}
"""


FASHION = """# fashion

A BigGAN with its projection discriminator (ajbrock's key names) that draws ten kinds of clothes, shoes and bags in
grey at {resolution} px, one class at a time or mixtures of them.

- **Licence**: {licence}. **Data**: {data}; 60,000 pictures.
- **Trained by** `python -m training.make --only fashion`: {adversarial}, batches of 64, hinge loss, spectral norm,
  seeds in the scripts; the generator is an exponential average with batch statistics of its own.
- **Made for** trying class-conditional latents without a GPU. It knows ten classes and no colours.

## Figures

On the 10,000 test pictures, which no training used. The judge is a classifier of its own (seed 31) that took part in
no optimisation. FID: Fréchet distance of its scores before the softmax, 10,000 pictures each. Precision and recall:
k = 3, 2,048 pictures each, its last hidden layer. "Asked class": share of pictures that the judge puts into the class
they were asked for.

{figures}

## Files

{files}
"""


def figure_lines(figures: dict[str, Any]) -> str:
    """A Markdown list; a figure per group becomes one table."""
    lines, tables = [], {}
    for name, value in figures.items():
        if isinstance(value, dict):
            tables[name] = value
        else:
            lines.append(f"- {name}: {value:.3f}")
    if tables:
        groups = list(next(iter(tables.values())))
        lines += ["", "| | " + " | ".join(tables) + " |", "|---" * (len(tables) + 1) + "|"]
        lines += [
            f"| {group.replace('_', ' ')} | " + " | ".join(f"{table[group]:.3f}" for table in tables.values()) + " |"
            for group in groups
        ]
    return "\n".join(lines)


def card(template: str, folder: Path) -> str:
    """The text of one card."""
    row = json.loads((folder / "model.json").read_text())
    figures = json.loads((folder / "figures.json").read_text())
    files = "\n".join(
        f"- `{file['path']}` ({(folder / file['path']).stat().st_size / 1e6:.1f} MB), sha256 `{file['sha256']}`"
        for file in row["files"].values()
    )
    stages = {name: f"{steps:,} steps" if steps else "not yet" for name, steps in row["steps"].items()}
    return template.format(**stages, **{**row, "files": files}, figures=figure_lines(figures))


def main() -> None:
    for name, template in (("avatars", AVATARS), ("clip-mini", CLIP_MINI), ("fashion", FASHION)):
        if not (ASSETS / name / "figures.json").exists():
            print(f"{name}: no figures yet")
            continue
        (ASSETS / name / "card.md").write_text(card(template, ASSETS / name))


if __name__ == "__main__":
    main()
