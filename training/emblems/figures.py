"""The figures on the card of `emblems`, by the judge of mosaic: `python -m training.emblems.figures`.

New captions of the things that it was taught, whose drawings it saw in other colours, and of avatars that no training
saw. The judge took part in no optimisation. Captions and what the judge sees in their pictures are kept beside the
judges, for tables that are made without the drawings.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import engine
from engine.checkpoints import read_safetensors, write_safetensors
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

WRITTEN = Path("training/judges/emblems/held-out.safetensors")
KEPT = judges.FOLDER / "emblems" / WRITTEN.name  # the same of the repository
GLYPHS, PEOPLE = 800, 200  # held-out captions
RIVALS = 99
HANDS_EACH = 8  # pictures of a caption, where they are compared


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Captions with a picture each that no training saw, and what the judge sees in both.

    is_avatar: bool [T]. names: the things that pictures may be of, for the inception score. features: the judge's of
    the pictures, [T, D].
    """

    judge: PromptModel
    captions: Sequence[str]
    is_avatar: Tensor
    features: Tensor
    names: Sequence[str]
    pictures: Tensor | None = None  # [T, 3, 64, 64]

    @classmethod
    def of(
        cls, judge: PromptModel, captions: Sequence[str], is_avatar: Tensor, pictures: Tensor, names: Sequence[str]
    ) -> HeldOut:
        return cls(judge, captions, is_avatar, seen_by(judge, pictures), names, pictures)

    @classmethod
    def draw(
        cls,
        judge: PromptModel,
        data: pool.Pool,
        glyphs: int,
        people: int,
        *,
        seed: int = 0,
        hands: int = examples.TAUGHT,
    ) -> HeldOut:
        """So many of each kind, or as many as there are; another seed, other captions. hands: as of `concepts`."""
        seeds = examples.HELD_OUT_SEED + seed
        made = examples.make(data, held_out=False, avatars=people, captions=4, hands=hands, seed=seeds)
        draw = torch.Generator().manual_seed(84 + seed)
        of_glyphs = torch.randperm(made.of_glyphs, generator=draw)[:glyphs]
        rows = torch.cat([of_glyphs, made.of_glyphs + torch.arange(people)])
        _, pictures = examples.pictures_of(made, rows, draw)
        names = sorted({thing.names[0] for thing in examples.concepts(data.facts, held_out=False, hands=hands)})
        return cls.of(judge, [made.texts[row] for row in rows], rows >= made.of_glyphs, pictures, names)

    @classmethod
    def read(cls, judge: PromptModel, glyphs: int, people: int, path: Path = KEPT) -> HeldOut:
        """What `write` kept, without pictures: at most so many of each kind."""
        told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        features = read_safetensors(path)["features"].float()
        is_avatar = torch.tensor(told["is_avatar"])
        things, avatars = (torch.nonzero(which)[:, 0] for which in (~is_avatar, is_avatar))
        rows = torch.cat([things[:glyphs], avatars[:people]])
        captions = [told["captions"][row] for row in rows]
        return cls(judge, captions, is_avatar[rows], features[rows], told["names"])

    def write(self, path: Path = WRITTEN) -> None:
        """Captions, and the features in half precision."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(path, {"features": self.features}, dtype=torch.float16)
        told = {"captions": list(self.captions), "is_avatar": self.is_avatar.tolist(), "names": list(self.names)}
        path.with_suffix(".json").write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @cached_property
    def texts(self) -> Tensor:
        """The judge's features of the captions, [T, D]."""
        return self.judge.text_features(self.captions)

    @cached_property
    def centres(self) -> Tensor:
        return self.judge.text_features([f"a {name}" for name in self.names])

    def look(self, images: Tensor) -> Tensor:
        return seen_by(self.judge, images)

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
def seen_by(judge: PromptModel, images: Tensor) -> Tensor:
    """A judge's features [N, D] of pictures."""
    return torch.cat([judge.image_features(part.clamp(-1, 1)) for part in images.split(64)])


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
    assert isinstance(space, ReadSpace) and isinstance(critic, Matcher) and held.pictures is not None
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
    parser.add_argument("--hands", type=int, default=examples.TAUGHT, help="as of the examples")
    arguments = parser.parse_args()
    engine.set_threads(None)
    held = HeldOut.draw(
        judges.load_mosaic(), pool.open_pool(), arguments.glyphs, arguments.people, hands=arguments.hands
    )
    held.write()
    model = engine.load_generator("emblems", assets=BUNDLE.parent)
    text = json.dumps(figures(model, held), indent=2, ensure_ascii=False)
    print(text)
    (BUNDLE / "figures.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
