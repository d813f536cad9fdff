"""The figures on the card of `emblems`, by the judge of mosaic: `python -m training.emblems.figures`.

Captions of drawings and of avatars that no training saw; other hands' drawings of the same things were seen. The
judge took part in no optimisation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

import engine
from engine.inference.flow import pairwise_diversity
from engine.inference.terms import Matcher
from engine.latents.sentences import ReadSpace
from engine.metrics.frechet import frechet_distance
from engine.metrics.inception import inception_score
from engine.models.clip import PromptModel
from engine.models.loading import GeneratorModel
from training import judges
from training.emblems import examples
from training.emblems.export import BUNDLE
from training.mosaic import pool

GLYPHS, PEOPLE = 800, 200  # held-out captions
RIVALS = 99
HANDS_EACH = 8  # pictures of a caption, where they are compared


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Captions with a picture each that no training saw, and what the judge sees in both.

    is_avatar: bool [T]. names: the things that pictures may be of, for the inception score.
    """

    judge: PromptModel
    captions: Sequence[str]
    is_avatar: Tensor
    pictures: Tensor  # [T, 3, 64, 64]
    names: Sequence[str]

    @classmethod
    def draw(cls, judge: PromptModel, data: pool.Pool, glyphs: int, people: int, *, seed: int = 0) -> HeldOut:
        """So many of each kind, or as many as there are; another seed, other captions."""
        made = examples.make(data, held_out=True, avatars=people, captions=4)
        draw = torch.Generator().manual_seed(84 + seed)
        of_glyphs = torch.randperm(made.of_glyphs, generator=draw)[:glyphs]
        rows = torch.cat([of_glyphs, made.of_glyphs + torch.arange(people)])
        _, pictures = examples.pictures_of(made, rows, draw)
        names = sorted({thing.names[0] for thing in examples.concepts(data.facts, held_out=False)})
        return cls(judge, [made.texts[row] for row in rows], rows >= made.of_glyphs, pictures, names)

    @cached_property
    def texts(self) -> Tensor:
        """The judge's features of the captions, [T, D]."""
        return self.judge.text_features(self.captions)

    @cached_property
    def features(self) -> Tensor:
        """Its features of the pictures, [T, D]."""
        return self.look(self.pictures)

    @cached_property
    def centres(self) -> Tensor:
        return self.judge.text_features([f"a {name}" for name in self.names])

    @torch.no_grad()
    def look(self, images: Tensor) -> Tensor:
        return torch.cat([self.judge.image_features(part.clamp(-1, 1)) for part in images.split(64)])

    def found(self, features: Tensor, of: Tensor, rivals: int, *, seed: int = 0) -> Tensor:
        """Whether pictures with features [N, D] prefer the captions `of` [N] that they were made for to so many others.

        The others are drawn from the captions of the same kind, but for those in the same words. [N]
        """
        draw, scores, right = torch.Generator().manual_seed(seed), features @ self.texts.T, []
        for row, own in enumerate(of.tolist()):
            others = [
                i for i, caption in enumerate(self.captions)
                if self.is_avatar[i] == self.is_avatar[own] and caption != self.captions[own]
            ]  # fmt: skip
            chosen = torch.tensor(others)[torch.randperm(len(others), generator=draw)[:rivals]]
            right.append(bool(scores[row, own] > scores[row, chosen].amax()))
        return torch.tensor(right)

    def inception(self, features: Tensor) -> float:
        """The inception score of pictures of things by their nearest names."""
        return inception_score(self.judge.logit_scale * features @ self.centres.T)


@torch.no_grad()
def drawn(model: GeneratorModel, caption: str, seeds: Sequence[int]) -> Tensor:
    """The plain model's pictures of a caption, one per seed: [N, 3, 64, 64]."""
    space = model.spaces[model.default_space]
    assert isinstance(space, ReadSpace)
    told = space.saying(caption)
    return model.render(told.sample(seeds), told)


@torch.no_grad()
def own_caption_preferred(model: GeneratorModel, held: HeldOut) -> Tensor:
    """Whether held-out pictures fit their own captions better than the ones before, by the discriminator: [T]."""
    space, critic = model.spaces[model.default_space], model.discriminator
    assert isinstance(space, ReadSpace) and isinstance(critic, Matcher)
    sentences = space.read(held.captions)
    seen = torch.cat([critic(part) for part in held.pictures.split(64)])
    own, others = (critic.match(seen, said)[:, 0] for said in (sentences, sentences.roll(1, 0)))
    return own > others


def figures(model: GeneratorModel, held: HeldOut) -> dict[str, object]:
    """All numbers of the card."""
    made = torch.cat([drawn(model, caption, [row]) for row, caption in enumerate(held.captions)])
    seen, own = held.look(made), torch.arange(len(made))
    things = ~held.is_avatar
    found: dict[str, object] = {}
    for name, features in (("made", seen), ("held-out", held.features)):
        right = held.found(features, own, RIVALS).double()
        found[name] = {
            "own caption before 99 others, things": float(right[things].mean()) if things.any() else 0.0,
            "own caption before 99 others, avatars": float(right[held.is_avatar].mean()),
            "inception score, things": held.inception(features[things]) if things.any() else 1.0,
        }
    found["Fréchet distance"] = frechet_distance(held.features, seen)
    centre = held.features.mean(0)
    hands = [held.look(drawn(model, caption, range(HANDS_EACH))) for caption in held.captions[:: len(made) // 20 or 1]]
    found["diversity of a caption's pictures"] = float(np.mean([pairwise_diversity(one - centre) for one in hands]))
    found["discriminator: own caption before another's, held-out"] = float(
        own_caption_preferred(model, held).double().mean()
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--glyphs", type=int, default=GLYPHS, help="captions of things")
    parser.add_argument("--people", type=int, default=PEOPLE, help="captions of avatars")
    arguments = parser.parse_args()
    engine.set_threads(None)
    held = HeldOut.draw(judges.load_mosaic(), pool.open_pool(), arguments.glyphs, arguments.people)
    model = engine.load_generator("emblems", assets=BUNDLE.parent)
    text = json.dumps(figures(model, held), indent=2, ensure_ascii=False)
    print(text)
    (BUNDLE / "figures.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
