"""Put the newest weights of every stage together as the bundled model `assets/avatars`.

python -m training.avatars.export
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from engine.checkpoints import read_safetensors, write_safetensors
from engine.latents.spaces import w_statistics
from engine.networks.stylegan2 import Generator
from training.avatars import adversarial, encoder, larger, mapping, synthesis
from training.jobs import steps_done

BUNDLE = Path("assets/avatars")
# Between the groups of `python -m experiments.editing --part domain`: held-out renders reach .019 at most, photographs
# begin at .08, noise, stripes and drawn landscapes at .05.
IN_DOMAIN_DISTANCE = 0.04
FRAMED_DISTANCE = 0.06  # of the encoder's guess, when the square of a picture is as the avatars are framed
# All of the gradient passes as if nothing were settled: a flow has to find its way from one value to another.
SETTLING_LEAK = 1.0
EXAMPLES = (
    "a woman with pink hair and a big smile",
    "a sad man with glasses",
    "a person with a green mohawk",
    "a bearded man with glasses",
    "a man with grey hair and round glasses",
    "a surprised person with blue hair",
    "a person in a yellow hoodie",
)


def newest_generator() -> Generator:
    """The newest synthesis network and the newest mapping network."""
    generator = mapping.load_average()
    drawn, _ = larger.load_average()
    generator.synthesis.load_state_dict(drawn.synthesis.state_dict())
    for name, buffer in generator.named_buffers():
        if name.endswith("noise_const"):
            buffer.zero_()  # never used in training: noise_strength is 0 as well
    with torch.no_grad():
        z = torch.randn(10_000, larger.Z_DIM, generator=torch.Generator().manual_seed(8))
        generator.mapping.w_avg.copy_(generator.mapping.to_w(z).mean(0))
    return generator.eval().requires_grad_(False)


def main() -> None:
    BUNDLE.mkdir(parents=True, exist_ok=True)
    hashes = {}

    def write(role: str, tensors: dict[str, torch.Tensor], dtype: torch.dtype | None = torch.float16) -> None:
        path = BUNDLE / f"{role}.safetensors"
        hashes[role] = {"path": path.name, "sha256": write_safetensors(path, tensors, dtype=dtype)}

    generator = newest_generator()
    write("generator", generator.state_dict())
    # The statistics are those of the weights as stored.
    generator.load_state_dict(read_safetensors(BUNDLE / "generator.safetensors"))
    statistics = w_statistics(generator.mapping.to_w, larger.Z_DIM)
    write(
        "latents",
        {
            "mean": statistics.mean,
            "factor": statistics.factor,
            "radius": torch.tensor(statistics.radius),
            "low": statistics.low,
            "high": statistics.high,
            **larger.settling_tensors(SETTLING_LEAK),
        },
        dtype=None,
    )
    if (encoder.FOLDER / "state.pt").exists():
        write("encoder", torch.load(encoder.FOLDER / "state.pt", weights_only=True)["parts"]["average"])
    if (adversarial.FOLDER / "state.pt").exists():
        state = torch.load(adversarial.FOLDER / "state.pt", weights_only=True)["parts"]
        write("discriminator", state["average"])
    row = {
        "name": "avatars",
        "kind": "generator",
        "family": "stylegan2",
        "resolution": larger.RESOLUTION,
        "draft_resolution": adversarial.SIDE,
        "licence": "MIT",
        "data": "drawn by training/avatars/drawing.py (MIT)",
        "paper": "Karras et al. 2020, Analyzing and Improving the Image Quality of StyleGAN",
        "domain": "people: their hair, glasses, beards, hats, faces and clothes",
        "default_space": "w",
        "spaces": ["w_settled"],
        "encoder_side": encoder.SIDE,
        "in_domain_distance": IN_DOMAIN_DISTANCE,
        "framed_distance": FRAMED_DISTANCE,
        "examples": list(EXAMPLES),
        "steps": {
            "synthesis": steps_done(synthesis.FOLDER),
            "larger": steps_done(larger.FOLDER),
            "mapping": steps_done(mapping.FOLDER),
            "adversarial": steps_done(adversarial.FOLDER),
            "encoder": steps_done(encoder.FOLDER),
        },
        "files": hashes,
    }
    (BUNDLE / "model.json").write_text(json.dumps(row, indent=2) + "\n")


if __name__ == "__main__":
    main()
