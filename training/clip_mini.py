"""clip-mini: a small CLIP for avatars, in two stages, from the attribute tower.

    python -m training.clip_mini --stage text  --steps 1500     # the tower frozen, its features cached
    python -m training.clip_mini --stage joint --steps 1500     # everything, on degraded and generated pictures
    python -m training.clip_mini --stage export

A caption fits many pictures of a batch ("a man"), so the loss knows which (`captions.fits`): the softmax over
pictures and over captions sums all that fit (as MIL-NCE, Miech et al. 2020, Eq. 1), and a logistic loss
(SigLIP, Zhai et al. 2023, Eq. 1) keeps cosines comparable between prompts. Every caption has a rival in which
one value was changed.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import engine.networks.mini_tower  # noqa: F401  (registers the tower with timm)
from engine.checkpoints import read_safetensors, write_safetensors
from engine.system.files import sha256_of
from training.avatars import captions, classifier, drawing, larger, pool, traits
from training.avatars.stream import statistics, stream
from training.jobs import Average, Job, batches, set_schedule, shrink, steps_done, to_tensor

FOLDER = Path("training/runs/clip-mini")
BUNDLE = Path("assets/clip-mini")
CONFIG = "local-dir:assets/clip-mini"


class ClipMini(nn.Module):
    """The open_clip model and the logistic loss's own scale and offset (which are not exported)."""

    def __init__(self, config: str = CONFIG) -> None:
        super().__init__()
        self.clip = open_clip.create_model(config, load_weights=False)
        self.scale = nn.Parameter(torch.tensor(2.3))
        self.offset = nn.Parameter(torch.tensor(-6.0))
        # Reads the claims back out of text features: per group its values, and "not mentioned".
        self.readout = nn.Linear(self.clip.text.text_projection.shape[1], sum(map(claim_width, traits.ALL_GROUPS)))
        with torch.no_grad():
            self.clip.logit_scale.fill_(np.log(20.0))

    def text_parameters(self) -> list[nn.Parameter]:
        """Everything but the image tower and its projection."""
        return [
            *self.clip.text.parameters(), *self.readout.parameters(), self.clip.logit_scale, self.scale, self.offset,
        ]  # fmt: skip

    def encode_text(self, texts: list[str], tokenizer: open_clip.SimpleTokenizer) -> Tensor:
        """Unit features [M, D]."""
        tokens = tokenizer(texts)
        lengths = (tokens != 0).sum(1)
        order = lengths.argsort()
        # Most captions fill half of the context: batches of equal length take half the time.
        parts = [self._encode_tokens(tokens[part, : int(lengths[part].max())]) for part in order.chunk(6)]
        return F.normalize(torch.cat(parts)[order.argsort()].float(), dim=-1)

    def _encode_tokens(self, tokens: Tensor) -> Tensor:
        """Text features of shortened rows: open_clip takes any length, but its causal mask has to fit."""
        whole = self.clip.text.attn_mask
        self.clip.text.attn_mask = whole[: tokens.shape[1], : tokens.shape[1]]
        try:
            features: Tensor = self.clip.encode_text(tokens)
        finally:
            self.clip.text.attn_mask = whole
        return features

    def project(self, features: Tensor) -> Tensor:
        """Tower features [N, 256] -> unit features [N, D]."""
        return F.normalize(self.clip.visual.head(features).float(), dim=-1)

    def claims_loss(self, text: Tensor, claims: list[captions.Claims]) -> Tensor:
        """Mean negative log-likelihood of every group's allowed values, read out of unit features [M, D].

        Through the contrastive loss alone a caption's details reach the text tower faintly and late; said
        directly, which colour belongs to which part is learned many times sooner.
        """
        return self.readout_loss(text, allowed_values(claims).to(text.device))

    def readout_loss(self, text: Tensor, allowed: Tensor) -> Tensor:
        """The same for `allowed_values` [M, all values and the unmentioned]."""
        widths = list(map(claim_width, traits.ALL_GROUPS))
        total = text.new_zeros(())
        for logits, known in zip(
            self.readout(text * text.shape[1] ** 0.5).split(widths, dim=1), allowed.split(widths, dim=1), strict=True
        ):
            likelihood = logits.log_softmax(1).masked_fill(~known, -1e4).logsumexp(1)
            # Most groups are not mentioned: they count less.
            weight = torch.where(known[:, -1], 0.2, 1.0)
            total = total - (likelihood * weight).sum() / weight.sum()
        return total / len(widths)

    def loss(self, image: Tensor, text: Tensor, fit: Tensor) -> Tensor:
        """`fit` [texts, images]: 1 fits, 0 does not, -1 cannot be told (left out)."""
        cosine = text @ image.t()
        known, right = fit >= 0, fit == 1
        logits = cosine * self.clip.logit_scale.exp().clamp(max=100)
        to_image = _multi_positive(logits, right, known)
        to_text = _multi_positive(logits.t(), right.t(), known.t())
        logistic = F.binary_cross_entropy_with_logits(
            cosine * self.scale.exp() * 2 + self.offset, right.float(), reduction="none"
        )
        balance = torch.where(right, 0.5 / right.sum().clamp(min=1), 0.5 / (known & ~right).sum().clamp(min=1))
        return to_image + to_text + (logistic * balance * known).sum()


def claim_width(group: str) -> int:
    """How many things a caption can say of a group: one of its values, or nothing."""
    return len(traits.values_of(group)) + 1


def allowed_values(claims: list[captions.Claims]) -> Tensor:
    """What captions allow of every group, one group after another, each with "not mentioned" last: bool [M, total]."""
    starts = np.cumsum([0, *map(claim_width, traits.ALL_GROUPS)])
    allowed = torch.zeros(len(claims), int(starts[-1]), dtype=torch.bool)
    for row, claim in enumerate(claims):
        for start, group in zip(starts[:-1], traits.ALL_GROUPS, strict=True):
            for value in claim.get(group, (claim_width(group) - 1,)):
                allowed[row, int(start) + value] = True
    return allowed


def _multi_positive(logits: Tensor, right: Tensor, known: Tensor) -> Tensor:
    rows = right.any(dim=1)
    masked = logits[rows].masked_fill(~known[rows], -1e4)
    positive = logits[rows].masked_fill(~right[rows], -1e4)
    return (masked.logsumexp(1) - positive.logsumexp(1)).mean()


def captions_for(
    labels: Mapping[str, np.ndarray], rows: np.ndarray, rng: random.Random
) -> tuple[list[str], list[captions.Claims]]:
    """A caption for each picture, then as many rivals with one claimed value changed."""
    writer = captions.Writer(rng)
    texts, claims, rivals = [], [], []
    for row in rows:
        shown = {group: int(labels[group][row]) for group in labels}
        state = rng.getstate()
        text, claim = writer.caption(shown)
        texts.append(text)
        claims.append(claim)
        after = rng.getstate()
        groups = [group for group in claim if shown[group] >= 0]
        if groups:
            # Which part has which colour is what a small text tower learns last: most rivals change or swap colours.
            colours = [group for group in groups if group in traits.COLOURS]
            other = captions.swapped(rng, shown, colours) if rng.random() < 0.5 else None
            other = other or captions.changed(
                rng, shown, rng.choice(colours if colours and rng.random() < 0.7 else groups)
            )
            rng.setstate(state)
            rivals.append(writer.caption(other))
            rng.setstate(after)
    return texts + [text for text, _ in rivals], claims + [claim for _, claim in rivals]


def cache_features(network: classifier.MiniTower, data: pool.Pool, path: Path) -> Tensor:
    """Tower features of the whole pool, degraded once: float32 [N, 256], kept on disk."""
    if path.exists():
        return torch.load(path, weights_only=True)
    network.reset_classifier(0)
    parts = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(data), 100):
            images = shrink(to_tensor(np.asarray(data.images[start : start + 100])), 64)
            parts.append(network(classifier.degrade(images, torch.Generator().manual_seed(start))).float())
    features = torch.cat(parts)
    torch.save(features, path)
    return features


def train_text(steps: int, batch: int) -> None:
    """Stage 1: text tower and projection against cached features."""
    data = pool.open_pool()
    labels = traits.labels(data.shown)
    torch.manual_seed(21)
    model, tokenizer = ClipMini(), open_clip.get_tokenizer(CONFIG)
    job = Job(FOLDER / "text")
    tower = classifier.load("tower")
    features = cache_features(tower, data, job.folder / "features.pt")
    tower.reset_classifier(0)
    model.clip.visual.trunk.load_state_dict(tower.state_dict())
    parameters = [*model.clip.visual.head.parameters(), *model.text_parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05, betas=(0.9, 0.98))
    job.resume(model=model, optimizer=optimizer)
    for rows in batches(len(data), batch, 22, job.step):
        if job.step >= steps:
            break
        set_schedule(optimizer, job.step, steps, 1.5e-3)
        texts, claims = captions_for(labels, rows, random.Random(23_000_000 + job.step))
        fit = torch.from_numpy(captions.fits(claims, {group: value[rows] for group, value in labels.items()}))
        text, image = model.encode_text(texts, tokenizer), model.project(features[rows])
        loss = model.loss(image, text, fit) + model.claims_loss(text, claims)
        step(job, model, optimizer, parameters, loss)
    job.save()


def step(
    job: Job, model: ClipMini, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], loss: Tensor
) -> None:
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    job.finish_step(loss=loss.item(), scale=model.clip.logit_scale.exp().item())


def train_joint(steps: int, batch: int, rate: float, *, from_bundle: bool) -> None:
    """Stage 2: both towers, on drawings made as they are needed, a quarter of them by the generator as it is now."""
    torch.manual_seed(31)
    model, tokenizer = ClipMini(), open_clip.get_tokenizer(CONFIG)
    job = Job(FOLDER / "joint")
    if from_bundle:
        model.clip.load_state_dict(read_safetensors(BUNDLE / "clip-mini.safetensors"))
    else:
        model.load_state_dict(torch.load(FOLDER / "text/state.pt", weights_only=True)["parts"]["model"])
    model.clip.visual.to(memory_format=torch.channels_last)
    parameters = list(model.parameters())
    embedding = model.clip.text.token_embedding.weight
    optimizer = torch.optim.AdamW(
        [
            {"params": list(model.clip.visual.parameters()), "lr_scale": 0.5},
            {"params": [part for part in model.text_parameters() if part is not embedding], "lr_scale": 1.0},
            # Words that were not seen before start at the mean; those seen often lose nothing by faster steps.
            {"params": [embedding], "lr_scale": 4.0, "weight_decay": 0.0},
        ],
        weight_decay=0.03,
        betas=(0.9, 0.98),
    )
    average = Average(model, 0.998)
    job.resume(model=model, optimizer=optimizer, average=average)
    generator, _ = larger.load_average()
    mean, unit = (torch.from_numpy(part.astype(np.float32)) for part in statistics())
    quarter, device = batch // 4, torch.device("cpu")
    for shown, images in stream(batch, drawing.CANVAS, 32, job.step, workers=0, device=device, named=True):
        if job.step >= steps:
            break
        set_schedule(optimizer, job.step, steps, rate)
        noise = torch.Generator().manual_seed(33_000_000 + job.step)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            made = larger.synthesize(generator, (shown[:quarter] - mean) / unit, 64)[64].float().clamp(-1, 1)
        images = torch.cat([made, classifier.degrade(shrink(images[quarter:], 64), noise)])
        labels = traits.labels(shown.numpy())
        texts, claims = captions_for(labels, np.arange(batch), random.Random(34_000_000 + job.step))
        fit = torch.from_numpy(captions.fits(claims, labels))
        with torch.autocast("cpu", torch.bfloat16):
            text = model.encode_text(texts, tokenizer)
            grid = model.clip.visual.trunk(images).float()
        loss = model.loss(model.project(grid), text, fit) + model.claims_loss(text, claims)
        step(job, model, optimizer, parameters, loss)
        average.update(model, job.step)
    job.save()


def forget_unseen(model: ClipMini, texts: Iterable[list[str]], config: str = CONFIG) -> None:
    """Give words that are in none of these lists of texts the mean embedding: they mean nothing in particular."""
    tokenizer = open_clip.get_tokenizer(config)
    seen = torch.zeros(model.clip.text.vocab_size, dtype=torch.bool)
    for part in texts:
        seen[tokenizer(part).unique()] = True
    embedding = model.clip.text.token_embedding.weight
    with torch.no_grad():
        embedding[~seen] = embedding[seen].mean(0)


def export(count: int = 20_000) -> None:
    """Write the newest stage to the bundle; words that are in none of `count` captions get the mean embedding."""
    stage, part = ("joint", "average") if (FOLDER / "joint/state.pt").exists() else ("text", "model")
    model = ClipMini()
    model.load_state_dict(torch.load(FOLDER / stage / "state.pt", weights_only=True)["parts"][part])
    rng = random.Random(41)
    labels = traits.labels(traits.sample(np.random.default_rng(41), count, extras=True))
    parts = np.array_split(np.arange(count), -(-count // 500))
    forget_unseen(model, (captions_for(labels, part, rng)[0] for part in parts))
    sha256 = write_safetensors(BUNDLE / "clip-mini.safetensors", model.clip.state_dict(), dtype=torch.float16)
    path = BUNDLE / "model.json"
    known = json.loads(path.read_text())["steps"] if path.exists() else {}
    row = {
        "name": "clip-mini",
        "kind": "prompt",
        "family": "open_clip",
        "resolution": 64,
        "licence": "MIT",
        "data": "drawings by training/avatars/drawing.py (MIT)",
        "paper": "Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision",
        "examples": [],
        "steps": {stage: steps_done(FOLDER / stage) or known.get(stage, 0) for stage in ("text", "joint")},
        "files": {
            "weights": {"path": "clip-mini.safetensors", "sha256": sha256},
            "config": {"path": "open_clip_config.json", "sha256": sha256_of(BUNDLE / "open_clip_config.json")},
        },
    }
    path.write_text(json.dumps(row, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=("text", "joint", "export"), required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=192)
    parser.add_argument("--rate", type=float, default=8e-4, help="of the joint stage")
    parser.add_argument("--captions", type=int, default=20_000, help="to tell the words that were seen, for export")
    parser.add_argument("--from-bundle", action="store_true", help="start the joint stage from assets/clip-mini")
    arguments = parser.parse_args()
    if arguments.stage == "export":
        export(arguments.captions)
    elif arguments.stage == "text":
        train_text(arguments.steps, arguments.batch)
    else:
        train_joint(arguments.steps, arguments.batch, arguments.rate, from_bundle=arguments.from_bundle)


if __name__ == "__main__":
    main()
