"""The figures on the cards of `mosaic` and `clip-mosaic`, on held-out pictures: `python -m training.mosaic.figures`.

Held-out emoji and icons are drawings that no training saw; other sets' drawings of the same names were seen.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import engine
from engine.checkpoints import read_safetensors
from engine.models.clip import PromptModel
from engine.networks.dalle_dvae import Decoder, Encoder, decoder_from_shapes, encoder_from_shapes
from training import figures as avatar_figures
from training.avatars import traits
from training.fashion import data as fashion
from training.jobs import to_tensor
from training.mosaic import dvae, export, pool, styles, words
from training.mosaic.colours import INKS

ASSETS = Path("assets")
MOST = 500  # held-out pictures of a source
RIVALS = 99


def networks(folder: Path) -> tuple[Encoder, Decoder]:
    """The bundled encoder and decoder."""
    encoder_state = read_safetensors(folder / "encoder.safetensors")
    decoder_state = {name: value.float() for name, value in read_safetensors(folder / "decoder.safetensors").items()}
    encoder, decoder = encoder_from_shapes(encoder_state), decoder_from_shapes(decoder_state)
    encoder.load_state_dict(encoder_state)
    decoder.load_state_dict(decoder_state)
    return encoder.eval(), decoder.eval()


def judged_sources(data: pool.Pool) -> list[str]:
    """The sources of which pictures were held out: all but in a small pool."""
    return [source for source in data.sources if len(data.rows(held_out=True, source=source))]


@torch.no_grad()
def mosaic(folder: Path, data: pool.Pool) -> dict[str, object]:
    """Mean PSNR of each source, the worst twentieth of it, and how many codes its pictures use."""
    encoder, decoder = networks(folder)
    means, lows, used = {}, {}, {}
    every: set[int] = set()
    for source in judged_sources(data):
        wanted = dvae.held_out(data, source, MOST)
        codes = export.encode(encoder, wanted)
        found = torch.cat([decoder.images(decoder.from_indices(part)) for part in codes.split(50)])
        values = dvae.psnr(found, wanted)
        means[source], lows[source] = float(values.mean()), float(values.quantile(0.05))
        own = set(codes.flatten().tolist())
        used[source] = len(own) / decoder.vocab_size
        every |= own
    return {
        **{f"PSNR of {name} alone (dB)": value for name, value in psnr_of_styles(encoder, decoder, data).items()},
        "PSNR (dB)": means, "PSNR of the worst twentieth (dB)": lows, "share of codes used": used,
        "share of codes used by all held-out pictures": len(every) / decoder.vocab_size,
    }  # fmt: skip


@torch.no_grad()
def psnr_of_styles(encoder: Encoder, decoder: Decoder, data: pool.Pool) -> dict[str, float]:
    """Mean PSNR of the held-out pictures of each avatar style by itself: those of thin lines are the hardest."""
    found: dict[str, float] = {}
    rows = data.rows(held_out=True, source="styles")
    for name in styles.STYLES:
        own = np.array([row for row in rows if data.facts[row]["origin"] == name])
        if not len(own):
            continue
        wanted = dvae.load_batch(data, own, np.random.default_rng(2_000_009))
        images = decoder.images(decoder.from_indices(export.encode(encoder, wanted)))
        found[name] = float(dvae.psnr(images, wanted).mean())
    return found


class HeldOut:
    """Held-out pictures of one source as they were shown, and their image features."""

    def __init__(self, model: PromptModel, data: pool.Pool, source: str) -> None:
        self.rng = np.random.default_rng(2_000_005)
        self.data = data
        self.rows = self.rng.permutation(data.rows(held_out=True, source=source))[:MOST]
        self.looks = [data.look(row, self.rng) for row in self.rows]
        images = to_tensor(data.show(self.rows, self.looks, self.rng))
        with torch.no_grad():
            self.features = torch.cat([model.image_features(part) for part in images.split(50)])

    def facts(self) -> list[pool.Facts]:
        return [self.data.facts[row] for row in self.rows]


def text_centres(model: PromptModel, prompts: Sequence[Sequence[str]]) -> Tensor:
    """The mean feature of each list of prompts, of length 1: [M, D]."""
    features = model.text_features([prompt for some in prompts for prompt in some])
    parts = features.split([len(some) for some in prompts])
    return F.normalize(torch.stack([part.mean(0) for part in parts]), dim=1)


def ranked(
    model: PromptModel, features: Tensor, names: Sequence[str], wanted: Sequence[str], forms: Sequence[str]
) -> Tensor:
    """How many other names are nearer to features [N, D] than the wanted one: [N]."""
    centres = text_centres(model, [[form.format(name) for form in forms] for name in names])
    scores = features @ centres.t()
    index = torch.tensor([list(names).index(name) for name in wanted])
    return (scores > scores.gather(1, index[:, None])).sum(1)


def named(model: PromptModel, held: HeldOut, trained: Sequence[pool.Facts], forms: Sequence[str]) -> dict[str, float]:
    """Shares of held-out glyphs whose name is the nearest of all, or among the five nearest."""
    names = sorted({facts["name"] for facts in trained})
    kept = [i for i, facts in enumerate(held.facts()) if facts["name"] in set(names)]
    wanted = [held.facts()[i]["name"] for i in kept]
    ranks = ranked(model, held.features[kept], names, wanted, forms)
    return {"of all names": float((ranks == 0).float().mean()), "among five": float((ranks < 5).float().mean())}


@torch.no_grad()
def retrieved(model: PromptModel, held: HeldOut, author: words.Author) -> float:
    """Share of pictures that prefer their own caption to 99 of other pictures, leaving out those that may fit too."""
    rng = random.Random(2_000_007)
    captions = [author.caption(row, look, rng)[0] for row, look in zip(held.rows, held.looks, strict=True)]
    shown = [author.shown(row, look) for row, look in zip(held.rows, held.looks, strict=True)]
    scores = held.features @ model.text_features([caption.text for caption in captions]).t()
    fit = torch.from_numpy(author.fits(captions, shown)).t()
    right = []
    for i in range(len(captions)):
        rivals = [j for j in range(len(captions)) if fit[i, j] == 0]
        if not rivals:
            continue
        others = torch.tensor(rng.sample(rivals, min(RIVALS, len(rivals))))
        right.append(bool(scores[i, i] > scores[i, others].max()))
    return float(np.mean(right))


@torch.no_grad()
def clip_mosaic(model: PromptModel, data: pool.Pool) -> dict[str, object]:
    """Zero-shot figures of each source that the pool has."""
    author = words.Author(data)
    held = {source: HeldOut(model, data, source) for source in judged_sources(data)}
    found: dict[str, object] = {}
    for source, own in held.items():
        trained = [data.facts[row] for row in data.rows(held_out=False, source=source)]
        found |= FIGURES[source](model, own, trained)
    return found | {"own caption before 99 others": {name: retrieved(model, own, author) for name, own in held.items()}}


Figures = dict[str, object]


def of_avatars(model: PromptModel, held: HeldOut, trained: Sequence[pool.Facts]) -> Figures:
    labels = traits.labels(held.data.traits[[facts["traits"] for facts in held.facts()]])
    attributes = avatar_figures.zero_shot(model, held.features, labels)
    return {
        "avatars: mean of the attributes": float(np.mean(list(attributes.values()))),
        "avatars: worst attribute": min(attributes.values()),
    }


def of_styles(model: PromptModel, held: HeldOut, trained: Sequence[pool.Facts]) -> Figures:
    names = list(styles.STYLES)
    kinds = held.features @ text_centres(model, [styles.STYLES[name].nouns for name in names]).t()
    origins = torch.tensor([names.index(facts["origin"]) for facts in held.facts()])
    return {"styles: of 11": float((kinds.argmax(1) == origins).float().mean())}


def of_emoji(model: PromptModel, held: HeldOut, trained: Sequence[pool.Facts]) -> Figures:
    found = named(model, held, trained, ("a {}", "{} emoji"))
    count = len({facts["name"] for facts in trained})
    return {f"emoji: of {count:,} names": found["of all names"], "emoji: among five": found["among five"]}


def of_icons(model: PromptModel, held: HeldOut, trained: Sequence[pool.Facts]) -> Figures:
    found = named(model, held, trained, ("a {} icon", "{} symbol"))
    coloured = ranked(model, held.features, list(INKS), [look.ink for look in held.looks], ("a {} icon",))
    count = len({facts["name"] for facts in trained})
    return {
        f"icons: of {count:,} names": found["of all names"],
        "icons: among five": found["among five"],
        "icons: colour of 11": float((coloured == 0).float().mean()),
    }


def of_fashion(model: PromptModel, held: HeldOut, trained: Sequence[pool.Facts]) -> Figures:
    classes = [[f"a {word}" for word in words.CLOTHES[name]] for name in fashion.CLASSES]
    scores = held.features @ text_centres(model, classes).t()
    wanted = torch.tensor([facts["class"] for facts in held.facts()])
    return {"fashion: of 10 classes": float((scores.argmax(1) == wanted).float().mean())}


FIGURES: Mapping[str, Callable[[PromptModel, HeldOut, Sequence[pool.Facts]], Figures]] = {
    "avatars": of_avatars,
    "styles": of_styles,
    "emoji": of_emoji,
    "icons": of_icons,
    "fashion": of_fashion,
}


def main() -> None:
    torch.set_num_threads(2)
    data = pool.open_pool()
    for name in ("mosaic", "clip-mosaic"):
        folder = ASSETS / name
        if not (folder / "model.json").exists():
            print(f"{name}: not exported yet")
            continue
        result = (
            mosaic(folder, data)
            if name == "mosaic"
            else clip_mosaic(engine.load_prompt_model(name, assets=ASSETS), data)
        )
        print(name, json.dumps(result, indent=2), sep="\n")
        (folder / "figures.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
