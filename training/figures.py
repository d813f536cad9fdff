"""The figures on the cards of `avatars` and `clip-mini`, measured on held-out renders and by the judge.

    python -m training.figures            # prints them and writes assets/*/figures.json

Held-out renders come from a seed that no training run used. The judge never took part in any optimisation.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import engine
from engine.metrics.manifold import precision_recall
from engine.models.clip import PromptModel
from engine.models.loading import GeneratorModel
from engine.networks.mini_tower import MiniTower
from training import judges
from training.avatars import captions, classifier, pool, stream, synthesis, traits
from training.jobs import shrink, to_tensor

COUNT = 2048
PAIRS = 2000
ASSETS = Path("assets")


def judge_features(judge: MiniTower, images: Tensor) -> Tensor:
    """The judge's penultimate features [N, 256] of images [N, 3, H, W] in [-1, 1]."""
    head, judge.head = judge.head, torch.nn.Identity()
    try:
        with torch.no_grad():
            return torch.cat([judge(shrink(part.clamp(-1, 1), 64)) for part in images.split(64)])
    finally:
        judge.head = head


@torch.no_grad()
def random_avatars(model: GeneratorModel, count: int, first_seed: int = 10_000) -> Tensor:
    """Pictures [N, 3, H, W] of the prior, one per seed."""
    latents = model.spaces[model.default_space].sample(range(first_seed, first_seed + count))
    return torch.cat([model.render(part, model.default_space) for part in latents.split(32)])


@torch.no_grad()
def blends(model: GeneratorModel, count: int) -> Tensor:
    """Pictures half-way between two random places."""
    latents = model.spaces[model.default_space].sample(range(50_000, 50_000 + 2 * count))
    middles = 0.5 * (latents[:count] + latents[count:])
    return torch.cat([model.render(part, model.default_space) for part in middles.split(32)])


@torch.no_grad()
def drawn(model: GeneratorModel, wanted: np.ndarray) -> Tensor:
    """The generator's pictures of given traits [N, traits.WIDE]."""
    w = synthesis.to_w(wanted, stream.statistics())
    return torch.cat([synthesis.synthesize(model.network, part, model.resolution) for part in w.split(32)])


def zero_shot_prompts(group: str) -> list[list[str]]:
    """Ways to ask for each value of a group: one list of prompts per value."""
    names = traits.values_of(group)
    if group == "person":
        return [[f"a {noun}" for noun in sorted(set(captions.NOUNS[i]))] for i in range(2)]
    if group == "skin":
        return [[f"a person with {noun}" for noun in captions.SKIN_NOUNS[name]] for name in names]
    if group in traits.COLOURS:
        form = {
            "hair_colour": "{} hair",
            "clothes_colour": "{} clothes",
            "hat_colour": "a {} hat",
            "background": "a {} background",
        }
        return [[f"a person with {form[group].format(name)}"] for name in names]
    return [
        [prompt for words in captions.PHRASES[group] if words.values == (name,) for prompt in _asking_for(words)]
        for name in names
    ]


def _asking_for(words: captions.Words) -> list[str]:
    """A prompt with each phrase, without a colour."""
    return [f"a person with {' '.join(phrase.replace('{c}', '').split())}" for phrase in words.phrases]


@torch.no_grad()
def zero_shot(prompt_model: PromptModel, features: Tensor, labels: dict[str, np.ndarray]) -> dict[str, float]:
    """Share of pictures whose value has the nearest (mean) prompt, per group.

    Of an extra, which no caption says to be missing: of pairs of pictures, one with it and one without, the share
    in which the one with it fits the better.
    """
    result = {}
    for group in traits.GROUPS:
        centres = torch.stack([
            F.normalize(prompt_model.text_features(prompts).mean(0), dim=0) for prompts in zero_shot_prompts(group)
        ])  # fmt: skip
        found = (features @ centres.t()).argmax(1).numpy()
        known = labels[group] >= 0
        result[group] = float((found == labels[group])[known].mean())
    for group in filter(labels.__contains__, traits.EXTRAS):
        prompts = _asking_for(captions.RARE[group][0])
        scores = (features @ F.normalize(prompt_model.text_features(prompts).mean(0), dim=0)).numpy()
        present, absent = scores[labels[group] == 1], scores[labels[group] == 0]
        result[group] = float((present[:, None] > absent).mean())
    return result


@torch.no_grad()
def pair_accuracy(
    prompt_model: PromptModel, features: Tensor, labels: dict[str, np.ndarray], pairs: int = PAIRS
) -> float:
    """Share of pictures that prefer their caption to the same with one claimed value changed."""
    rng, writer = random.Random(77), captions.Writer(random.Random(0))
    right: list[str] = []
    wrong: list[str] = []
    rows: list[int] = []
    while len(rows) < pairs:
        row = rng.randrange(len(features))
        shown = {group: int(labels[group][row]) for group in traits.GROUPS}
        writer.rng = random.Random(len(rows))
        count = rng.randint(1, 3)
        text, claims = writer.caption(shown, count)
        groups = [group for group in claims if shown[group] >= 0]
        if not groups:
            continue
        other = captions.changed(rng, shown, rng.choice(groups))
        writer.rng = random.Random(len(rows))
        rival, rival_claims = writer.caption(other, count)
        if captions.fits([rival_claims], {group: labels[group][[row]] for group in traits.GROUPS})[0, 0] != 0:
            continue
        right.append(text)
        wrong.append(rival)
        rows.append(row)
    ours = torch.cat([prompt_model.text_features(right[i : i + 200]) for i in range(0, pairs, 200)])
    others = torch.cat([prompt_model.text_features(wrong[i : i + 200]) for i in range(0, pairs, 200)])
    picked = features[rows]
    return float(((picked * ours).sum(1) > (picked * others).sum(1)).double().mean())


@torch.no_grad()
def clip_features(prompt_model: PromptModel, images: Tensor) -> Tensor:
    return torch.cat([prompt_model.image_features(part) for part in images.split(64)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT, help="pictures")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="of captions that differ in one attribute")
    arguments = parser.parse_args()
    engine.set_threads(None)
    count, pairs = arguments.count, arguments.pairs
    model = engine.load_generator("avatars", assets=ASSETS)
    prompt_model = engine.load_prompt_model("clip-mini", assets=ASSETS)
    judge = judges.load_avatars()
    renders = pool.held_out(count, model.resolution, settled=True)
    labels = traits.labels(renders.shown)
    real, made = to_tensor(renders.images), drawn(model, renders.shown)
    real_features = judge_features(judge, real)
    random_ones = precision_recall(real_features, judge_features(judge, random_avatars(model, count)))
    halfway = precision_recall(real_features, judge_features(judge, blends(model, count)))
    other_renders = pool.held_out(count, seed=pool.HELD_OUT_SEED + 1, settled=True)
    ceiling = precision_recall(real_features, judge_features(judge, to_tensor(other_renders.images)))
    on_made, on_real = classifier.predict(judge, made.clamp(-1, 1)), classifier.predict(judge, real)

    def judged(found: dict[str, Tensor]) -> dict[str, float]:
        return {
            group: float((found[group].numpy() == labels[group])[labels[group] >= 0].mean())
            for group in traits.ALL_GROUPS
        }

    avatars = {
        "precision": random_ones.precision,
        "recall": random_ones.recall,
        "precision of fresh renders (ceiling)": ceiling.precision,
        "recall of fresh renders (ceiling)": ceiling.recall,
        "precision half-way between two places of W": halfway.precision,
        "judge agrees with the asked traits, generated": judged(on_made),
        "judge agrees with the asked traits, renders": judged(on_real),
        "mean absolute error to the render, in [-1, 1]": float((made.clamp(-1, 1) - real).abs().mean()),
    }
    clip = {
        "zero-shot, held-out renders": zero_shot(prompt_model, clip_features(prompt_model, real), labels),
        "zero-shot, generated": zero_shot(prompt_model, clip_features(prompt_model, made), labels),
        "one attribute changed, held-out renders": pair_accuracy(
            prompt_model, clip_features(prompt_model, real), labels, pairs
        ),
        "one attribute changed, generated": pair_accuracy(
            prompt_model, clip_features(prompt_model, made), labels, pairs
        ),
    }
    for name, figures in (("avatars", avatars), ("clip-mini", clip)):
        text = json.dumps(figures, indent=2)
        print(name, text)
        (ASSETS / name / "figures.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
