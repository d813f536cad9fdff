"""Write the newest weights of `mosaic` as the bundled model `assets/mosaic`: `python -m training.mosaic.export`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.checkpoints import write_safetensors
from engine.networks.dalle_dvae import Decoder, Encoder, map_pixels
from training.jobs import steps_done
from training.mosaic import dvae, pool

BUNDLE = Path("assets/mosaic")
BANK = {"avatars": 384, "styles": 640, "emoji": 1536, "icons": 1024, "fashion": 512}
EXAMPLES = (
    "a red heart",
    "a cat face",
    "a pizza",
    "a pixel art person with glasses",
    "a woman with pink hair",
    "a pair of ankle boots",
    "a black and white portrait with a beard",
)


def as_dvae(network: dvae.Autoencoder) -> tuple[Encoder, Decoder]:
    """The same function as encoder and decoder of a dVAE: logits 2 <e, z> - |e|^2, whose largest is the nearest code's.

    The decoder's statistics have the width of a Laplace density of the pixels' logits; it is not trained, but 1.
    """
    codes = network.quantiser.codes
    encoder = Encoder(dvae.HIDDEN, len(codes), groups=dvae.GROUPS)
    state = dict(network.encoder.state_dict())
    last, bias = state["blocks.output.conv.w"][:, :, 0, 0], state["blocks.output.conv.b"]
    state["blocks.output.conv.w"] = (2 * codes @ last)[:, :, None, None]
    state["blocks.output.conv.b"] = 2 * codes @ bias - codes.square().sum(1)
    encoder.load_state_dict(state)
    decoder = Decoder(dvae.HIDDEN, len(codes), n_init=codes.shape[1], groups=dvae.GROUPS)
    state = dict(network.decoder.state_dict())
    state["blocks.input.w"] = codes.t().clone()[:, :, None, None]
    state["blocks.input.b"] = torch.zeros(codes.shape[1])
    state["blocks.output.conv.w"] = state["blocks.output.conv.w"].clone()
    state["blocks.output.conv.b"] = state["blocks.output.conv.b"].clone()
    state["blocks.output.conv.w"][3:] = 0
    state["blocks.output.conv.b"][3:] = 0
    decoder.load_state_dict(state)
    return encoder.eval(), decoder.eval()


@torch.no_grad()
def encode(encoder: Encoder, images: Tensor) -> Tensor:
    """Images [N, 3, H, W] in [-1, 1] to codes [N, h, w]."""
    return torch.cat([encoder(map_pixels((part + 1) / 2)).argmax(1) for part in images.split(50)])


def bank(encoder: Encoder, data: pool.Pool) -> Tensor:
    """Codes int16 [M, h, w] of pictures trained on, where particles may start."""
    rng, parts = np.random.default_rng(101), []
    for source in data.sources:
        rows = rng.permutation(data.rows(held_out=False, source=source))[: BANK[source]]
        parts.append(encode(encoder, dvae.load_batch(data, rows, rng)))
    codes = torch.cat(parts)
    return codes[torch.from_numpy(rng.permutation(len(codes)))].to(torch.int16)


def export(bundle: Path, resolution: int = pool.SIZE) -> None:
    """Encoder, decoder, bank of starts and description."""
    data = pool.open_pool()
    encoder, decoder = as_dvae(dvae.load_average())
    bundle.mkdir(parents=True, exist_ok=True)
    files = {}

    def write(role: str, tensors: dict[str, Tensor], dtype: torch.dtype | None) -> None:
        target = bundle / f"{role}.safetensors"
        files[role] = {"path": target.name, "sha256": write_safetensors(target, tensors, dtype=dtype)}

    write("decoder", decoder.state_dict(), torch.float16)
    write("encoder", encoder.state_dict(), None)  # float16 would move pictures to codes next to theirs
    write("latents", {"codes": bank(encoder, data)}, None)
    known = json.loads((pool.FOLDER / "pool.json").read_text())
    row = {
        "name": "mosaic",
        "kind": "generator",
        "family": "dalle_dvae",
        "resolution": resolution,
        "licence": "CC-BY-4.0",
        "data": "own drawings, 11 avatar styles, 3 sets of emoji, 5 of icons, Fashion-MNIST; see the card",
        "paper": "Ramesh et al. 2021, Zero-Shot Text-to-Image Generation; van den Oord et al. 2017",
        "domain": "small drawings: people, emoji, icons and clothes",
        "default_space": "codes",
        "prompt_model": "clip-mosaic",
        "examples": list(EXAMPLES),
        "steps": {"dvae": steps_done(dvae.FOLDER)},
        "codes": dvae.VOCABULARY,
        "counts": known["counts"],
        "sources": known["licences"],
        "files": files,
    }
    (bundle / "model.json").write_text(json.dumps(row, indent=2, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    export(parser.parse_args().bundle)


if __name__ == "__main__":
    main()
