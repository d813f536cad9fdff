"""clip-mosaic: a small CLIP for all that mosaic draws: people, other avatar styles, emoji, icons and clothes.

    python -m training.clip_mosaic --stage joint  --steps 1700
    python -m training.clip_mosaic --stage robust --steps 9500    # on pictures moved against it
    python -m training.clip_mosaic --stage export
    python -m training.clip_mosaic --stage judge  --steps 2400    # another, for the tables alone

Both towers start from clip-mini's weights. Beside the losses of clip-mini, image and text features are each told
which subject (name of an emoji or icon, class of clothes, style) they show: of some three thousand a batch holds few.
In the last stage half of the pictures were moved against the loss (Goodfellow et al. 2015; one step of the length
`REACH`, as Wong et al. 2020): a tower that small changes cannot fool has gradients that draw what they mean
(Santurkar et al. 2019), and gradients are what a prompt model is asked for here.

The judge tells in the tables whether a picture shows what was asked for. No run optimises it: its image tower starts
from the avatars' judge, and it sees other batches.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.checkpoints import read_safetensors, write_safetensors
from engine.models.clip import CONFIG_NAME
from engine.system.files import sha256_of
from training import clip_mini
from training.avatars import classifier
from training.fashion import data as fashion
from training.jobs import Average, Job, set_schedule, steps_done, to_tensor, trained
from training.mosaic import dvae, pool, words

FOLDER = Path("training/runs/clip-mosaic")
BUNDLE = Path("assets/clip-mosaic")
JUDGE = FOLDER / "judge" / "judge.safetensors"
CONFIG = "local-dir:assets/clip-mosaic"
SHARES = {"avatars": 0.24, "styles": 0.1, "emoji": 0.32, "icons": 0.2, "fashion": 0.14}
# How often glyphs named by one, two and more words are drawn: "heart" rather than "index pointing up".
COMMON = (1.0, 0.5, 0.12)
REDRAWN = 0.15  # of the pictures of the robust stage have gone through mosaic's encoder and decoder
STAGES = ("joint", "robust", "judge")  # each draws its own batches
REACH = 2.5  # length of the move of a picture in [-1, 1]


@dataclass(frozen=True, eq=False)
class Batch:
    """images [N, 3, 64, 64] in [-1, 1]; captions of the N pictures, then rivals; subjects [N], -1 unknown."""

    images: Tensor
    captions: Sequence[words.Caption]
    fit: Tensor
    subjects: Tensor

    def part(self, start: int) -> Batch:
        """The pictures from `start` on, with all captions."""
        return Batch(self.images[start:], self.captions, self.fit[:, start:], self.subjects[start:])


class Subjects(nn.Module):
    """Reads out of features which of the subjects they show."""

    def __init__(self, names: Sequence[str], features: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self.centres = nn.Parameter(F.normalize(torch.randn(len(names), features), dim=1))
        self.scale = nn.Parameter(torch.tensor(2.5))

    def loss(self, features: Tensor, subjects: Tensor) -> Tensor:
        """Mean cross-entropy of unit features [N, D]; a subject of -1 does not count."""
        logits = self.scale.exp() * features @ F.normalize(self.centres, dim=1).t()
        if not (subjects >= 0).any():
            return logits.new_zeros(())
        return F.cross_entropy(logits, subjects, ignore_index=-1, label_smoothing=0.05)


def subject_of(facts: pool.Facts) -> str:
    """What a picture shows in a word or two; "" for our own avatars, whose traits are told otherwise."""
    if facts["source"] in ("emoji", "icons"):
        return str(facts["name"])
    if facts["source"] == "fashion":
        return f"class:{fashion.CLASSES[facts['class']]}"
    return f"style:{facts['origin']}" if facts["source"] == "styles" else ""


class Batches:
    """Draws batches; one seed per step."""

    def __init__(self, data: pool.Pool, size: int, redrawn: float) -> None:
        self.data, self.size, self.redrawn = data, size, int(redrawn * size)
        self.author = words.Author(data)
        self.parts = {source: data.rows(held_out=False, source=source) for source in data.sources}
        self.chances = {source: _chances(data, rows) for source, rows in self.parts.items()}
        names = [subject_of(facts) for facts in data.facts]
        self.names = sorted(set(names) - {""})
        numbers = {name: i for i, name in enumerate(self.names)}
        self.subjects = torch.tensor([numbers.get(name, -1) for name in names])
        self.redrawer = dvae.load_average() if self.redrawn else None

    def draw(self, seed: int) -> Batch:
        rng, words_rng = np.random.default_rng((91, seed)), random.Random(92_000_000 + seed)
        shares = pool.shares_of(SHARES, self.parts)
        counts = rng.multinomial(self.size, list(shares.values()))
        rows = rng.permutation(np.concatenate([
            rng.choice(self.parts[source], size=count, p=self.chances[source])
            for source, count in zip(shares, counts, strict=True)
        ]))  # fmt: skip
        looks = [self.data.look(row, rng) for row in rows]
        images = self._degraded(to_tensor(self.data.show(rows, looks, rng)), seed)
        written = [self.author.caption(row, look, words_rng) for row, look in zip(rows, looks, strict=True)]
        captions = [own for own, _ in written] + [rival for _, rival in written if rival is not None]
        shown = [self.author.shown(row, look) for row, look in zip(rows, looks, strict=True)]
        fit = torch.from_numpy(self.author.fits(captions, shown))
        return Batch(images, captions, fit, self.subjects[rows])

    def _degraded(self, images: Tensor, seed: int) -> Tensor:
        """Shifts, blur and noise; some are redrawn by mosaic from codes that are not quite right."""
        generator = torch.Generator().manual_seed(93_000_000 + seed)
        count = self.redrawn
        degraded = classifier.degrade(images[count:], generator)
        if self.redrawer is None:
            return degraded
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            z = self.redrawer.vectors(images[:count])
            noise = 0.5 * torch.rand(count, 1, 1, 1, generator=generator) * z.std()
            redrawn = self.redrawer.decode(z + noise * torch.randn(z.shape, generator=generator))
        return torch.cat([redrawn.float().clamp(-1, 1), degraded])


def _chances(data: pool.Pool, rows: np.ndarray) -> np.ndarray:
    """How often each of these pictures is drawn: [N], of sum 1."""
    words_of = [len(str(data.facts[row].get("name", "")).split()) for row in rows]
    weights = np.array([COMMON[min(max(count, 1), len(COMMON)) - 1] for count in words_of])
    return np.asarray(weights / weights.sum())


class Trainee(nn.Module):
    """clip-mosaic in training."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.mini = clip_mini.ClipMini(CONFIG)
        self.subjects = Subjects(names, self.mini.clip.text.text_projection.shape[1])
        self.tokenizer = open_clip.get_tokenizer(CONFIG)

    def image_features(self, images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            grid = self.mini.clip.visual.trunk(images)
        return self.mini.project(grid.float())

    def text_features(self, captions: Sequence[words.Caption]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.mini.encode_text([caption.text for caption in captions], self.tokenizer)

    def image_loss(self, images: Tensor, text: Tensor, batch: Batch) -> Tensor:
        image = self.image_features(images)
        return self.mini.loss(image, text, batch.fit) + 0.5 * self.subjects.loss(image, batch.subjects)

    def text_loss(self, text: Tensor, batch: Batch) -> Tensor:
        own = text[: len(batch.images)]
        claims = [caption.claims for caption in batch.captions]
        people = [i for i, caption in enumerate(batch.captions) if caption.source == "avatars"]
        loss = 0.5 * self.subjects.loss(own, batch.subjects)
        return loss + self.mini.claims_loss(text[people], [claims[i] for i in people]) if people else loss


def moved_against(model: Trainee, batch: Batch, text: Tensor, generator: torch.Generator) -> Tensor:
    """The pictures moved by `REACH` up the loss, from a random place nearby."""
    noise = torch.randn(batch.images.shape, generator=generator)
    start = batch.images + 0.5 * REACH * noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    start.requires_grad_(True)
    gradient = torch.autograd.grad(model.image_loss(start, text.detach(), batch), start)[0]
    length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
    offset = start.detach() - batch.images + REACH * gradient / length
    size = offset.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return batch.images + offset * (REACH / size).clamp(max=1)


def train(stage: str, steps: int, size: int) -> None:
    torch.manual_seed(94 + STAGES.index(stage))
    batches = Batches(pool.open_pool(), size, REDRAWN if stage == "robust" else 0.0)
    model = Trainee(batches.names)
    _start(model, stage)
    model.mini.clip.visual.to(memory_format=torch.channels_last)
    embedding = model.mini.clip.text.token_embedding.weight
    tower = list(model.mini.clip.visual.parameters())
    taken = {id(p) for p in (embedding, *tower, *model.subjects.parameters())}
    rest = [p for p in model.parameters() if id(p) not in taken]
    optimizer = torch.optim.AdamW(
        [
            {"params": tower, "lr_scale": 0.7},
            {"params": rest, "lr_scale": 1.0},
            # Words that clip-mini never saw start at the mean; those seen often lose nothing by faster steps.
            {"params": [embedding, *model.subjects.parameters()], "lr_scale": 4.0, "weight_decay": 0.0},
        ],
        weight_decay=0.03,
        betas=(0.9, 0.98),
    )
    average, job = Average(model, 0.995), Job(FOLDER / stage)
    job.resume(model=model, optimizer=optimizer, average=average)
    first = 1_000_000 * STAGES.index(stage)
    while job.step < steps:
        set_schedule(optimizer, job.step, steps, 7e-4 if stage == "robust" else 1e-3)
        batch = batches.draw(first + job.step)
        text = model.text_features(batch.captions)
        images = batch.images
        if stage == "robust":
            generator = torch.Generator().manual_seed(95_000_000 + job.step)
            images = torch.cat([images[: size // 2], moved_against(model, batch.part(size // 2), text, generator)])
        loss = model.image_loss(images, text, batch) + model.text_loss(text, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model, job.step)
        job.finish_step(loss=loss.item(), scale=model.mini.clip.logit_scale.exp().item())
    job.save()


def _start(model: Trainee, stage: str) -> None:
    """From clip-mini, or from the first stage's average. FileNotFoundError says what to run."""
    if stage == "robust":
        model.load_state_dict(_averaged("joint"))
        return
    model.mini.clip.load_state_dict(read_safetensors(clip_mini.BUNDLE / "clip-mini.safetensors"))
    if stage == "judge":
        tower = classifier.load("judge")
        tower.reset_classifier(0)
        model.mini.clip.visual.trunk.load_state_dict(tower.state_dict())
        nn.init.orthogonal_(model.mini.clip.visual.head.proj.weight)


def _averaged(stage: str) -> dict[str, Tensor]:
    state = trained(FOLDER / stage / "state.pt", f"training.clip_mosaic --stage {stage}")
    average: dict[str, Tensor] = state["parts"]["average"]
    return average


def _texts(data: pool.Pool, count: int) -> Iterator[list[str]]:
    """Captions as in training, for the words that were seen."""
    author, rng, words_rng = words.Author(data), np.random.default_rng(96), random.Random(96)
    rows = rng.permutation(data.rows(held_out=False))
    for part in np.array_split(np.resize(rows, count), max(1, count // 500)):
        yield [author.caption(row, data.look(row, rng), words_rng)[0].text for row in part]


def write_weights(stage: str, path: Path) -> str:
    """Writes a stage's averaged weights in half precision; returns the file's SHA-256."""
    data = pool.open_pool()
    model = Trainee(sorted({subject_of(facts) for facts in data.facts} - {""}))
    model.load_state_dict(_averaged(stage))
    clip_mini.forget_unseen(model.mini, _texts(data, 2 * len(data)), CONFIG)
    return write_safetensors(path, model.mini.clip.state_dict(), dtype=torch.float16)


def export() -> None:
    """Write the newest stage to the bundle."""
    stage = "robust" if (FOLDER / "robust/state.pt").exists() else "joint"
    weights = BUNDLE / "clip-mosaic.safetensors"
    sha256 = write_weights(stage, weights)
    row = {
        "name": "clip-mosaic",
        "kind": "prompt",
        "family": "open_clip",
        "resolution": pool.SIZE,
        "licence": "CC-BY-4.0",
        "data": "the pictures of mosaic (see its card), with captions by training/mosaic/words.py",
        "paper": "Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision",
        "examples": [],
        "steps": {name: steps_done(FOLDER / name) for name in ("joint", "robust")},
        "files": {
            "weights": {"path": weights.name, "sha256": sha256},
            "config": {"path": CONFIG_NAME, "sha256": sha256_of(BUNDLE / CONFIG_NAME)},
        },
    }
    (BUNDLE / "model.json").write_text(json.dumps(row, indent=2) + "\n")


def export_judge() -> None:
    """Write the judge where `JUDGE` says, as a prompt model that the engine loads."""
    write_weights("judge", JUDGE)
    shutil.copyfile(BUNDLE / CONFIG_NAME, JUDGE.with_name(CONFIG_NAME))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", choices=(*STAGES, "export"), required=True)
    parser.add_argument("--steps", type=int, default=1700)
    parser.add_argument("--batch", type=int, default=96)
    arguments = parser.parse_args()
    if arguments.stage == "export":
        export()
    else:
        train(arguments.stage, arguments.steps, arguments.batch)
    if arguments.stage == "judge":
        export_judge()


if __name__ == "__main__":
    main()
