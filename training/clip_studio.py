"""clip-studio: one small CLIP for people and for things: avatars by every trait, emoji, icons, styles and clothes.

    python -m training.clip_studio --minutes 9 --batch 384 --workers 6    # on a GPU; on a CPU --steps 8000 --batch 96

It continues clip-mosaic with its losses (see there), on more people: they are drawn as they are needed, with the
extras, and half of them come with a second caption that is about one trait alone. From `MOVED_FROM` on half of the
pictures of a batch were moved against the loss. Batches are drawn, captioned and compared by processes of their own.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import count as counted
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from engine.checkpoints import read_safetensors, write_safetensors
from training import clip_mini, clip_mosaic
from training.avatars import captions as avatar_captions
from training.avatars import classifier, traits
from training.avatars import pool as avatar_pool
from training.avatars.stream import asked_traits
from training.jobs import Average, Job, Pace, pick_device
from training.mosaic import pool, words

FOLDER = Path("training/runs/clip-studio")
START = Path("assets/clip-mosaic/clip-mosaic.safetensors")
SHARES = {"avatars": 0.34, "styles": 0.06, "emoji": 0.3, "icons": 0.2, "fashion": 0.1}
SMALL_AVATARS = 0.5  # of the captions of people: about one trait
MOVED_FROM = 0.35  # share of the training from which pictures are moved against the loss
RIVALS = 1.0


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step needs.

    images: uint8 [N, 64, 64, 3]; tokens: int64 [M, L] of the captions of the N pictures, then of rivals; fit: int8
    [M, N], 1 fits, 0 does not, -1 cannot be told; subjects: int64 [N], -1 none; people: int64 [P], rows of tokens
    about avatars; allowed: bool [P, values], what these claim (`clip_mini.allowed_values`).
    """

    images: Tensor
    tokens: Tensor
    fit: Tensor
    subjects: Tensor
    people: Tensor
    allowed: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


class Batches(IterableDataset[Batch]):
    """Endless batches, one seed per step; worker processes take turns."""

    def __init__(self, data: pool.Pool, size: int, first: int) -> None:
        self.size, self.first = size, first
        self.sources = clip_mosaic.Batches(data, size, 0.0)
        self.tokenizer = open_clip.get_tokenizer(clip_mosaic.CONFIG)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        begin, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for step in counted(self.first + begin, stride):
            yield self.draw(step)

    def draw(self, step: int) -> Batch:
        rng, words_rng = np.random.default_rng((191, step)), random.Random(192_000_000 + step)
        people = round(self.size * SHARES["avatars"])
        others, written, shown, subjects = self._things(self.size - people, rng, words_rng)
        drawn = self._drawn_traits(people, rng)
        labels = traits.labels(drawn)
        images = np.concatenate([others, avatar_pool.render(drawn, pool.SIZE)])
        own, rivals = [caption for caption, _ in written], [rival for _, rival in written if rival is not None]
        of_people = self._about(labels, words_rng)
        mine, against = of_people[:people], of_people[people:]
        texts = [caption.text for caption in own] + [text for text, _ in mine]
        texts += [caption.text for caption in rivals] + [text for text, _ in against]
        # Things are compared with things; a caption of an avatar with another kind of picture as `words` does.
        said = [*own, *(_of_avatar(pair) for pair in mine), *rivals, *(_of_avatar(pair) for pair in against)]
        pictured = [
            *shown,
            *(words.Shown("avatars", _tokens(labels, row), _ground(labels, row)) for row in range(people)),
        ]
        fit = self.sources.author.fits(said, pictured)
        rows = np.array([i for i, caption in enumerate(said) if caption.source == "avatars"])
        fit[np.ix_(rows, np.arange(len(shown), self.size))] = avatar_captions.fits(
            [said[i].claims for i in rows], labels
        )
        return Batch(
            torch.from_numpy(images), self.tokenizer(texts), torch.from_numpy(fit),
            torch.cat([subjects, torch.full((people,), -1)]), torch.from_numpy(rows),
            clip_mini.allowed_values([said[i].claims for i in rows]),
        )  # fmt: skip

    def _things(
        self, count: int, rng: np.random.Generator, words_rng: random.Random
    ) -> tuple[np.ndarray, list[tuple[words.Caption, words.Caption | None]], list[words.Shown], Tensor]:
        """Pictures of all but our own avatars, their captions and rivals, what is known of them, their subjects."""
        data, parts = self.sources.data, self.sources.parts
        shares = pool.shares_of(
            {source: share for source, share in SHARES.items() if source != "avatars"}, set(parts) - {"avatars"}
        )
        total = sum(shares.values())
        counts = rng.multinomial(count, [share / total for share in shares.values()])
        rows = np.concatenate([
            rng.choice(parts[source], size=number, p=self.sources.chances[source])
            for source, number in zip(shares, counts, strict=True)
        ])  # fmt: skip
        looks = [data.look(row, rng) for row in rows]
        images = data.show(rows, looks, rng)
        written = [self.sources.author.caption(row, look, words_rng) for row, look in zip(rows, looks, strict=True)]
        shown = [self.sources.author.shown(row, look) for row, look in zip(rows, looks, strict=True)]
        return images, written, shown, self.sources.subjects[rows]

    @staticmethod
    def _drawn_traits(count: int, rng: np.random.Generator) -> np.ndarray:
        """Half of the prior, half settled places of all that a flow reaches."""
        half = count // 2
        return np.concatenate([
            traits.sample(rng, count - half, extras=True), traits.project(traits.settle(asked_traits(rng, half)))
        ])  # fmt: skip

    @staticmethod
    def _about(labels: dict[str, np.ndarray], rng: random.Random) -> list[tuple[str, avatar_captions.Claims]]:
        """A caption for every avatar, then as many rivals with one claimed value changed as there are."""
        writer, own, rivals = avatar_captions.Writer(rng), [], []
        for row in range(len(labels["hat"])):
            shown = {group: int(value[row]) for group, value in labels.items()}
            count = 1 if rng.random() < SMALL_AVATARS else None
            before = rng.getstate()
            text, claims = writer.caption(shown, count)
            after = rng.getstate()
            own.append((text, claims))
            groups = [group for group in claims if shown[group] >= 0]
            if groups and rng.random() < RIVALS:
                colours = [group for group in groups if group in traits.COLOURS]
                other = avatar_captions.swapped(rng, shown, colours) if rng.random() < 0.3 else None
                other = other or avatar_captions.changed(rng, shown, rng.choice(groups))
                rng.setstate(before)
                rivals.append(writer.caption(other, count))
                rng.setstate(after)
        return own + rivals


def _of_avatar(written: tuple[str, avatar_captions.Claims]) -> words.Caption:
    return words.Caption(written[0], "avatars", claims=written[1])


def _tokens(labels: dict[str, np.ndarray], row: int) -> words.Tokens:
    return words.OF_AVATARS | words.avatar_tokens({group: int(value[row]) for group, value in labels.items()})


def _ground(labels: dict[str, np.ndarray], row: int) -> str:
    value = int(labels["background"][row])
    return traits.values_of("background")[value] if value >= 0 else ""


class Trainee(clip_mosaic.Trainee):
    """clip-studio in training, on any device."""

    def features_of_tokens(self, tokens: Tensor) -> Tensor:
        """Unit features [M, D] of tokens [M, L]."""
        with torch.autocast(tokens.device.type, torch.bfloat16):
            features = self.mini.clip.encode_text(tokens)
        return F.normalize(features.float(), dim=-1)

    def image_losses(self, images: Tensor, text: Tensor, batch: Batch) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            grid = self.mini.clip.visual.trunk(images)
        image = self.mini.project(grid.float())
        return self.mini.loss(image, text, batch.fit) + 0.5 * self.subjects.loss(image, batch.subjects)

    def text_losses(self, text: Tensor, batch: Batch) -> Tensor:
        loss = 0.5 * self.subjects.loss(text[: len(batch.images)], batch.subjects)
        return loss + self.mini.readout_loss(text[batch.people], batch.allowed)


def moved_against(model: Trainee, images: Tensor, text: Tensor, batch: Batch, generator: torch.Generator) -> Tensor:
    """Pictures [N, 3, 64, 64] moved by `clip_mosaic.REACH` up the loss, from a random place nearby."""
    reach = clip_mosaic.REACH

    def length(of: Tensor) -> Tensor:
        return of.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)

    noise = torch.randn(images.shape, generator=generator, device=images.device)
    start = (images + 0.5 * reach * noise / length(noise)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(model.image_losses(start, text.detach(), batch), start)
    offset = start.detach() - images + reach * gradient / length(gradient)
    return images + offset * (reach / length(offset)).clamp(max=1)


def export(model: Trainee, average: Average, seen: Tensor, path: Path) -> None:
    """The averaged weights in half precision, which `model` becomes; tokens never seen get the mean embedding."""
    model.load_state_dict(average.state_dict())
    embedding = model.mini.clip.text.token_embedding.weight
    with torch.no_grad():
        embedding[~seen] = embedding[seen].mean(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors(
        path, {name: value.cpu() for name, value in model.mini.clip.state_dict().items()}, dtype=torch.float16
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--minutes", type=float, help="end after these, the schedule with them")
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--workers", type=int, default=0, help="processes that make batches ahead")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--from", type=Path, dest="start", default=START)
    parser.add_argument("--export", type=Path, default=FOLDER / "clip-studio.safetensors")
    arguments = parser.parse_args()
    torch.manual_seed(194)
    device = pick_device(arguments.device)
    job, pace = Job(FOLDER), Pace(arguments.steps, arguments.minutes)
    batches = Batches(pool.open_pool(), arguments.batch, 0)
    model = Trainee(batches.sources.names)
    model.mini.clip.load_state_dict(read_safetensors(arguments.start))
    model.to(device)
    model.mini.clip.visual.to(memory_format=torch.channels_last)
    embedding = model.mini.clip.text.token_embedding.weight
    tower = list(model.mini.clip.visual.parameters())
    taken = {id(p) for p in (embedding, *tower, *model.subjects.parameters())}
    rest = [p for p in model.parameters() if id(p) not in taken]
    optimizer = torch.optim.AdamW(
        [
            {"params": tower, "lr_scale": 1.0},
            {"params": rest, "lr_scale": 1.0},
            {"params": [embedding, *model.subjects.parameters()], "lr_scale": 4.0, "weight_decay": 0.0},
        ],
        weight_decay=0.03,
        betas=(0.9, 0.98),
    )
    average = Average(model, 0.998)
    job.resume(model=model, optimizer=optimizer, average=average)
    batches.first = job.step
    seen = torch.zeros(len(embedding), dtype=torch.bool, device=device)
    loader: DataLoader[Batch] = DataLoader(
        batches, batch_size=None, num_workers=arguments.workers, prefetch_factor=3 if arguments.workers else None,
        pin_memory=False,
    )  # fmt: skip
    for drawn in loader:
        done = pace.set_rate(optimizer, job.step, arguments.rate)
        if done >= 1:
            break
        batch = drawn.to(device)
        seen[batch.tokens.flatten()] = True
        generator = torch.Generator(device).manual_seed(193_000_000 + job.step)
        images = batch.images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        images = classifier.degrade(images.contiguous(memory_format=torch.channels_last), generator)
        text = model.features_of_tokens(batch.tokens)
        if done >= MOVED_FROM:
            moved = moved_against(model, images, text, batch, generator)
            chosen = torch.rand(len(images), 1, 1, 1, generator=generator, device=device) < 0.5
            images = torch.where(chosen, moved, images)
        loss = model.image_losses(images, text, batch) + model.text_losses(text, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model, job.step)
        job.finish_step(loss=loss, scale=model.mini.clip.logit_scale.exp())
    job.save()
    export(model, average, seen, arguments.export)


if __name__ == "__main__":
    main()
