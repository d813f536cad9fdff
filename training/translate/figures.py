"""The figures on the card of `hairstyles`: the plain model, on held-out triples, by the judge.

    python -m training.translate.figures            # prints them and writes assets/hairstyles/figures.json

The triples come from a seed that no training used. The judge never took part in any optimisation.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import engine
from engine.metrics.frechet import frechet_distance
from engine.networks.mini_tower import MiniTower
from engine.networks.stargan2 import Translator
from training import judges
from training.avatars import classifier, pool, traits
from training.figures import judge_features
from training.jobs import to_tensor
from training.translate import triples
from training.translate.adversarial import mapped_style, style_of
from training.translate.export import BUNDLE

HELD_OUT_SEED = 1_000_021
COUNT = 1000


@dataclass(frozen=True)
class HeldOut:
    """N triples: traits [3, N, SIZE] and pixels [3, N, H, W, 3] of faces, references and results; the references'
    latents [N, LATENT_DIM] and domains [N]."""

    rows: np.ndarray
    pixels: np.ndarray
    latents: Tensor
    domains: Tensor

    @classmethod
    def draw(cls, count: int, size: int, seed: int = HELD_OUT_SEED) -> HeldOut:
        rows, latents, domains = triples.examples(np.random.default_rng(seed), count)
        pixels = pool.render(rows.reshape(-1, rows.shape[-1]), size).reshape(3, count, size, size, 3)
        return cls(rows, pixels, torch.from_numpy(latents[1]), torch.from_numpy(domains[1]))

    def images(self, which: int) -> Tensor:
        """[N, 3, H, W] in [-1, 1]: 0 the faces, 1 the references, 2 the results."""
        return to_tensor(self.pixels[which])


def seen_rightly(judge: MiniTower, images: Tensor, rows: np.ndarray) -> dict[str, Tensor]:
    """What the judge sees in drawings of these traits [N], -1 where that is hidden or wrong."""
    found, labels = classifier.predict(judge, images), traits.labels(rows)
    return {
        group: torch.where(found[group] == torch.from_numpy(labels[group]), found[group], -1) for group in traits.GROUPS
    }


def of_domain(found: dict[str, Tensor]) -> Tensor:
    """The domain [N] that the judge's findings tell."""
    return torch.from_numpy(triples.domains_of({group: found[group].numpy() for group in ("hat", "hair_style")}))


def agreeing(found: dict[str, Tensor], seen: dict[str, Tensor], groups: tuple[str, ...]) -> float:
    """The share of these groups, of all pictures, in which was found what is `seen`, where that can be told."""
    told = torch.cat([seen[group] >= 0 for group in groups])
    same = torch.cat([found[group] == seen[group] for group in groups])
    return float(same[told].double().mean())


@torch.no_grad()
def figures(translator: Translator, judge: MiniTower, count: int = COUNT) -> dict[str, object]:
    """All numbers of the card."""
    held_out = HeldOut.draw(count, translator.img_size)
    faces, references, wanted = (held_out.images(which) for which in range(3))
    in_faces, in_wanted = (seen_rightly(judge, held_out.images(which), held_out.rows[which]) for which in (0, 2))
    domains = held_out.domains
    styles = {
        "references": style_of(translator.style_encoder, references, domains),
        "latents": mapped_style(translator.mapping_network, held_out.latents, domains),
    }
    real = judge_features(judge, wanted)
    result: dict[str, object] = {}
    for name, style in styles.items():
        parts = zip(faces.split(50), style.split(50), strict=True)
        made = torch.cat([translator.generator(*part).clamp(-1, 1) for part in parts])
        found = classifier.predict(judge, made)
        right = (of_domain(found) == domains).double()
        result[f"by {name}"] = {
            "asked domain": float(right.mean()),
            **{
                f"asked domain, {kind}": float(right[domains == number].mean())
                for number, kind in enumerate(triples.DOMAINS)
            },
            "other attributes kept": agreeing(found, in_faces, triples.CONTENT),
            "hair and hat taken": agreeing(found, in_wanted, triples.STYLED),
            "mean absolute error, of 0 to 1": float((made - wanted).abs().mean()) / 2,
            "Fréchet distance": frechet_distance(real, judge_features(judge, made)),
        }
    if translator.discriminator is not None:
        logits = torch.cat([translator.discriminator.logits(translator.discriminator.features(part))
                            for part in wanted.split(50)])  # fmt: skip
        result["discriminator: own domain has the highest logit, drawings"] = float(
            (logits.argmax(1) == domains).double().mean()
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT, help="triples")
    count = parser.parse_args().count
    engine.set_threads(None)
    translator = engine.load_generator("hairstyles", assets=BUNDLE.parent).network
    assert isinstance(translator, Translator)
    text = json.dumps(figures(translator, judges.load_avatars(), count), indent=2, ensure_ascii=False)
    print(text)
    (BUNDLE / "figures.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
