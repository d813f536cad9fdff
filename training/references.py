"""Examples that particles may go towards (B of Eq. 6), as features, beside a bundled model's weights.

    python -m training.references --model avatars      # or fashion, mosaic

Pictures of what the model was trained on, none of those held out for judging: new drawings for avatars, training
pictures of every class for fashion, and for mosaic, whose pictures come from packages, what its decoder makes of the
codes of training pictures that particles start from. Written as `references.safetensors`: for the model's own prompt
model its features of COUNT pictures, named by that model's sha256.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.checkpoints import write_safetensors
from engine.latents.codebook import CodeSpace
from engine.models.loading import REFERENCES, load_generator, load_prompt_model
from engine.models.table import ROW_FILE, read_row
from engine.pictures import imaging
from engine.settings import GenerateSettings

ASSETS = Path("assets")
COUNT = 1000  # of 256 numbers of 16 bits: half a megabyte
SEED = 303
BATCH = 50


def avatars(count: int) -> Tensor:
    """New drawings of the prior, settled: another seed than those trained on and those held out."""
    from training.avatars import drawing, pool, traits

    wanted = traits.settle(traits.sample(np.random.default_rng(SEED), count, extras=True))
    return imaging.from_uint8(pool.render(wanted, drawing.CANVAS))


def fashion(count: int) -> Tensor:
    """Training pictures, as many of each class."""
    from training.fashion import data

    pixels, classes = data.load("train")
    rng = np.random.default_rng(SEED)
    each = count // len(data.CLASSES)
    rows = [rng.permutation(np.flatnonzero(classes.numpy() == one))[:each] for one in range(len(data.CLASSES))]
    return data.to_images(pixels[np.concatenate(rows)]).expand(-1, 3, -1, -1)


@torch.no_grad()
def mosaic(count: int) -> Tensor:
    """What the decoder makes of codes of pictures trained on."""
    model = load_generator("mosaic", assets=ASSETS)
    space = model.spaces["codes"]
    assert isinstance(space, CodeSpace) and space.bank is not None
    rows = np.random.default_rng(SEED).permutation(len(space.bank))[:count]
    codes = space.bank[torch.from_numpy(rows)].flatten(1)
    return torch.cat([model.render(space.latents(part), "codes") for part in codes.split(BATCH)])


PICTURES: dict[str, Callable[[int], Tensor]] = {"avatars": avatars, "fashion": fashion, "mosaic": mosaic}


@torch.no_grad()
def write(name: str, bundle: Path, count: int) -> None:
    """The features into the bundle, and the file into its description."""
    prompt_model = load_prompt_model(read_row(bundle).prompt_model or GenerateSettings.prompt_model, assets=ASSETS)
    features = torch.cat([prompt_model.image_features(part) for part in PICTURES[name](count).split(BATCH)])
    path = bundle / f"{REFERENCES}.safetensors"
    sha256 = write_safetensors(path, {prompt_model.sha256: features}, dtype=torch.float16)
    row = json.loads((bundle / ROW_FILE).read_text())
    row["files"][REFERENCES] = {"path": path.name, "sha256": sha256}
    (bundle / ROW_FILE).write_text(json.dumps(row, indent=2, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=PICTURES, required=True)
    parser.add_argument("--count", type=int, default=COUNT)
    arguments = parser.parse_args()
    write(arguments.model, ASSETS / arguments.model, arguments.count)


if __name__ == "__main__":
    main()
