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
clothes, colours, proportions, and five rare ones that are there or not: eyepatch, turban, headscarf, tongue, heart
eyes. Between two traits lies a drawing of its own, not a blend of two pictures, because the drawing program that taught
it draws every point of that space. In the space `w_settled`, the usual one, w is first brought to the nearest place
with whole parts, and a run ends with one whole value of each trait.

- **Licence**: {licence}. **Data**: {data}; no picture of a person was used.
- **Trained by** `python -m training.make --only avatars`, on drawings made as they are needed: two thirds settled
  places of all that a run reaches, the others broad blends. Stages: synthesis at 128 px ({synthesis}), at {resolution}
  px ({larger}, the first 3,750 of 64 drawings each on a GPU, the others of 8), mapping ({mapping}), encoder image -> w
  ({encoder}), and a discriminator of drafts ({adversarial}). Seeds are in the scripts.
- **Drafts**: a run looks at what the blocks up to {draft_resolution} px have drawn, which is the picture, smaller;
  people see all of it.
- **`references`** holds clip-mini's features of 1,000 new drawings (seed 303), which pictures may go towards.
- **Made for** trying the studio without a GPU. It knows the attributes below and nothing else: no age, no hands, no
  scenery, and one drawing style. The studio says so of a prompt half of whose telling words clip-mini was never trained
  on: of 60 prompts for avatars it doubts none, of 47 for other things all (`python -m experiments.domains`).
- **What is still soft**: spikes, curls and the folds of a turban are drawn rounder than the program draws them, a
  tongue is hardly seen, glasses with an eyepatch are muddled.

## Figures

Held-out drawings: seed 1,000,003, settled. The judge is an attribute classifier (seed 11) that no optimisation ever
used. Precision and recall: k = 3, 500 pictures each, judge features.

{figures}

## Files

{files}
"""

CLIP_MINI = """# clip-mini

A small CLIP for avatars, an open_clip model of its own configuration (`open_clip_config.json`): a CNN of 3 million
weights that looks at {resolution} px, and a text transformer of width 160 with CLIP's tokens and a context of 32.

- **Licence**: {licence}. **Data**: {data}, with captions by `training/avatars/captions.py`: synonyms, word orders,
  negations, typos.
- **Trained by** `python -m training.make --only clip-mini`: the image tower starts as an attribute classifier (seed
  12); then the text tower ({text}); then both, a quarter of the pictures made by `avatars` ({joint}).
- **Made for** judging avatars. Words it never saw get the mean embedding: it cannot read other subjects.

## Figures

Held-out drawings: seed 1,000,003. "One attribute changed": of two captions of one to three attributes that differ in
one, the share of pictures that prefer their own. Zero-shot: the share of pictures whose value has the nearest prompt;
of eyepatch and what follows, of pairs of pictures, one with it and one without, the share in which that one fits
better.

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
- **`references`** holds clip-mosaic's features of 1,000 training pictures, 100 of each kind, which pictures may go
  towards.
- **Made for** trying class-conditional latents without a GPU. It knows ten classes and no colours. The studio says so
  of a prompt whose cosine with every one of the references is below 0.24: of 40 prompts for clothes it doubts 10 %, of
  35 single words 94 %, of 12 sentences about other things 92 %, of 40 about people 95 %
  (`python -m experiments.domains`).

## Figures

On the 10,000 test pictures, which no training used. The judge is a classifier of its own (seed 31) that took part in
no optimisation. FID: Fréchet distance of its scores before the softmax, 10,000 pictures each. Precision and recall:
k = 3, 2,048 pictures each, its last hidden layer. "Asked class": share of pictures that the judge puts into the class
they were asked for.

{figures}

## Files

{files}
"""

MOSAIC = """# mosaic

A dVAE (OpenAI's key names: `blocks.group_1.block_1...`) whose {codes:,} codes on a 16 x 16 grid draw avatars, other
avatar styles, emoji, icons and clothes at {resolution} px. Unlike `avatars` it knows no kind of picture better than
another: a prompt about anything that its sources show has somewhere to go.

- **Licence**: {licence}: keep the names below when you pass it on. **Data**: {pictures:,} pictures, seed 71.
- **Trained by** `python -m training.make --only mosaic`: {dvae}, batches of 20, codes as running means of their
  vectors, revived where none is near; an exponential average of the weights. Seeds are in the scripts.
- **`latents`** holds the codes of 4,096 of the training pictures: where particles start. Each
  particle begins with the one of 512 of them that fits the prompt best: named things are variations of such a picture.
- **`references`** holds clip-mosaic's features of 1,000 of them, as the decoder draws them, which pictures may go
  towards.
- **Made for** trying code-book latents without a GPU. It has no notion of a whole picture: what is drawn where is left
  to the prompt model (`clip-mosaic`) and the start. clip-mosaic was trained on names of nearly everything: only
  prompts of words that it never saw are doubted (none of 60 of its own, 17 % of 12 sentences;
  `python -m experiments.domains`).

## Sources

| what | from | by | licence |
|---|---|---|---|
{sources_table}

Drawings of our own (`training/avatars/drawing.py`, MIT) and Fashion-MNIST (Xiao et al. 2017, MIT) are the other two.
Flags of places, skin tones and logos were left out; icons are those whose name says what they show.

## Figures

Held-out pictures, at most 500 a source: drawings by seed, and emoji and icons of which no size was trained on; the
test set of Fashion-MNIST. PSNR: mean over the pictures, from the nearest codes alone.

{figures}

## Files

{files}
"""

CLIP_MOSAIC = """# clip-mosaic

clip-mini, retrained for all that `mosaic` and `fashion` draw: people, other avatar styles, emoji and icons by their
names and keywords, ink and ground colours, clothes. The same towers ({resolution} px, context of 32), the same size.

- **Licence**: {licence}. **Data**: the pictures of `mosaic` (its card names every source) with captions by
  `training/mosaic/words.py` and, for our own avatars, `training/avatars/captions.py`.
- **Trained by** `python -m training.make --only mosaic`, from clip-mini's weights: both towers ({joint}); then, half
  of the pictures moved against the loss ({robust}; one step of length 2.5 in [-1, 1]), so that its gradients draw what
  they mean. There 15 % of the pictures went through mosaic's encoder and decoder with noise on the codes. Seeds: 91-96.
- **Made for** steering and judging `mosaic` and `fashion`. `avatars` keeps clip-mini, which reads avatars better. Words
  it never saw get the mean embedding.

## Figures

Held-out pictures, at most 500 a source, in colours drawn anew. Names of emoji and icons: of all names trained on the
nearest, for drawings of sets whose drawing of that name was held out. "Own caption before 99 others": of captions of
the same source that do not fit.

{figures}

## Files

{files}
"""


HAIRSTYLES = """# hairstyles

A StarGAN v2 with all of its networks (clovaai's key names), discriminator included, that redraws a cartoon avatar at
{resolution} px with other hair or a hat: long hair, short hair, a hat, no hair. Face, skin, clothes, background stay.
The style comes from a latent, or from a reference picture, whose cut, hat and colours it takes.

- **Licence**: {licence}. **Data**: {data}; no picture of a person was used.
- **Trained by** `python -m training.make --only hairstyles` ({adversarial}, batches of 8), on exact triples that are
  drawn as they are needed: a face, a reference, and the face with the reference's hair. So the generator, the style
  encoder and the mapping network learn by differences, at half the size first; from 60 % of the training on the
  discriminator is listened to as well. Seeds are in the script.
- **Made for** trying translation without a GPU. It knows avatars as `avatars` draws them, and nothing else: of other
  pictures it makes a smear.

## Figures

On 1,000 held-out triples (seed 1,000,021), the plain model, before any flow. The judge is an attribute classifier that
no optimisation ever used. "Taken": of the cut, the hat and their colours, as a drawing of the exact result shows them;
"kept": of all other attributes of the face. Both only of what the judge sees rightly in the drawings.

{figures}

## Files

{files}
"""

FILL = """# fill

A Co-Mod-GAN (the PyTorch port's key names, the arithmetic of the TensorFlow original) with its discriminator, which
fills holes in pictures at {resolution} px, each z in another way: faces of twelve drawn styles, emoji and icons.

- **Licence**: {licence}: keep the names below when you pass it on. **Data**: {pictures:,} pictures of mosaic's pool,
  in colours drawn anew each time.
- **Trained by** `python -m training.make --only fill` ({adversarial}, 4 pictures each) on free-form holes of 0 to 100 %
  of the picture, each filled twice: by differences at first; from 40 % of the training on the discriminator is
  listened to as well, which sees where the hole is and knows no minibatch statistics. From then on the better filling
  alone is compared with the picture, and both are to differ. No noise, no dropout: what it draws is a smooth function
  of z alone. Seeds are in the script.
- **Made for** trying learned inpainting without a GPU. A hole in a larger picture is filled at this size and enlarged:
  what is painted into it is softer than the rest. Photographs it never saw; of those it goes on with the colours.

## Sources

| what | from | by | licence |
|---|---|---|---|
{sources_table}

Drawings of our own (`training/avatars/drawing.py`, MIT) are the other one.

## Figures

The network alone, before any flow, on at most 500 held-out pictures a source, one free-form hole each. The judge is
a prompt model that no optimisation ever used. Fréchet distance: of its image features, to the same pictures without
holes. P-IDS and U-IDS (Zhao et al. 2021): by linear support vector machines on these features that were fitted to
other pictures, 0.5 at best.

{figures}

## Files

{files}
"""


EMBLEMS = """# emblems

A DF-GAN with its discriminator and conditional discriminator (tobran's key names) that draws {domain},
{resolution} px, at once, from a z and the vector of a sentence. That vector is `clip-mosaic`'s feature of the text. A
name says what is drawn; z says by whose hand, and on which ground and in which ink where the words leave that open.

- **Licence**: {licence}: keep the names below when you pass it on. **Data**: {captions:,} captions of {things:,} things
  in {drawings:,} drawings, each thing in four hands (three sets of emoji and one of the icon sets), and of
  {avatars:,} avatars of our own.
- **Trained by** `python -m training.make --only emblems` ({adversarial}, batches of 16): of a caption and a z it is
  known which picture they mean, so the generator first learns by differences; from 68 % of the training on it listens
  to the discriminators too (hinge loss, matching-aware gradient penalty on every fourth step). It began with the
  weights of an earlier one: 18,600 steps on 1,297 things (`training.emblems.examples --hands 1`), most of them at half
  the size. The weights are an exponential average. Seeds are in the scripts.
- **`latents`** holds the sentence vectors of 1,024 captions, of which runs without words take one each.
- **Made for** trying text to image by a generator of its domain without a GPU. It knows the {things:,} things that all
  four hands have drawn, such as cat, house, pizza or rocket, and avatars; no scenes, no counts, no relations.

## Sources

| what | from | by | licence |
|---|---|---|---|
{sources_table}

Drawings of our own (`training/avatars/drawing.py`, MIT) are the other one.

## Figures

On new captions of the things (their drawings were seen in training, in other colours) and of new avatars, the plain
model before any flow, one picture each. The judge is mosaic's second prompt model, which no optimisation ever used.
"Own caption before 99 others": of captions of the same kind. The judge tells hardly any two captions of avatars
apart, with drawings of our own neither. Fréchet distance of its features, to those of the pictures that the captions
mean. Diversity: mean over pairs of eight pictures of a caption of 1 - cosine of its features, centred.

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
    if "sources" in row:
        row["sources_table"] = "\n".join(
            "| {title} | `{package}` {version} | {author} | {licence} |".format(**source) for source in row["sources"]
        )
        row |= {"pictures": sum(row["counts"].values()), **row["counts"]}
    stages = {name: f"{steps:,} steps" if steps else "not yet" for name, steps in row["steps"].items()}
    return template.format(**stages, **{**row, "files": files}, figures=figure_lines(figures))


def main() -> None:
    templates = {
        "avatars": AVATARS, "clip-mini": CLIP_MINI, "fashion": FASHION, "mosaic": MOSAIC, "clip-mosaic": CLIP_MOSAIC,
        "hairstyles": HAIRSTYLES, "fill": FILL, "emblems": EMBLEMS,
    }  # fmt: skip
    for name, template in templates.items():
        if not (ASSETS / name / "figures.json").exists():
            print(f"{name}: no figures yet")
            continue
        (ASSETS / name / "card.md").write_text(card(template, ASSETS / name))


if __name__ == "__main__":
    main()
