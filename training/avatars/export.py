"""Put the newest weights of every stage together as the bundled model `assets/avatars`.

    python -m training.avatars.export

Stages that left nothing in `training/runs` keep the weights that the bundle has.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from engine.checkpoints import read_safetensors, write_safetensors
from engine.latents.spaces import w_statistics
from engine.networks.stylegan2 import Generator
from engine.system.files import sha256_of
from training.avatars import adversarial, encoder, larger, mapping, synthesis
from training.jobs import steps_done

BUNDLE = Path("assets/avatars")
# Between the groups of `python -m experiments.editing --part domain`: held-out renders reach .019 at most, photographs
# begin at .08, noise, stripes and drawn landscapes at .05.
IN_DOMAIN_DISTANCE = 0.04
FRAMED_DISTANCE = 0.06  # of the encoder's guess, when the square of a picture is as the avatars are framed
# All of the gradient passes as if nothing were settled: a flow has to find its way from one value to another.
SETTLING_LEAK = 1.0
# Of eight tuning prompts at the end of 60 steps: with 3, 94.3 % of what was asked for at diversity .754; with 5, 91.9 %
# at .763. Settled places are far apart, so that less repulsion does.
DIVERSITY_GAIN = 3.0
STAGES = {
    "synthesis": synthesis, "larger": larger, "mapping": mapping, "adversarial": adversarial, "encoder": encoder,
}  # fmt: skip
EXAMPLES = (
    "a woman with pink hair and a big smile",
    "a sad man with glasses",
    "a person with a green mohawk",
    "a pirate with an eyepatch",
    "a bearded man with glasses",
    "a man with grey hair and round glasses",
    "a surprised person with blue hair",
    "a person in a yellow hoodie",
)


def newest_generator() -> Generator:
    """The newest synthesis network and the newest mapping network."""
    if (mapping.FOLDER / "state.pt").exists():
        generator = mapping.load_average()
    else:
        generator = larger.build()
        generator.load_state_dict(read_safetensors(BUNDLE / "generator.safetensors"))
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
    path = BUNDLE / "model.json"
    known = json.loads(path.read_text()) if path.exists() else {"steps": {}}
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
    for role, folder in (("encoder", encoder.FOLDER), ("discriminator", adversarial.FOLDER)):
        if (folder / "state.pt").exists():
            write(role, torch.load(folder / "state.pt", weights_only=True)["parts"]["average"])
        elif (kept := BUNDLE / f"{role}.safetensors").exists():
            hashes[role] = {"path": kept.name, "sha256": sha256_of(kept)}
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
        "default_space": "w_settled",
        "spaces": ["w_settled"],
        "tuned": {"diversity_gain": DIVERSITY_GAIN},
        "encoder_side": encoder.SIDE,
        "in_domain_distance": IN_DOMAIN_DISTANCE,
        "framed_distance": FRAMED_DISTANCE,
        "examples": list(EXAMPLES),
        "steps": {name: steps_done(stage.FOLDER) or known["steps"].get(name, 0) for name, stage in STAGES.items()},
        "files": hashes,
    }
    path.write_text(json.dumps(row, indent=2) + "\n")


if __name__ == "__main__":
    main()
