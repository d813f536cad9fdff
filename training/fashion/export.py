"""Write the newest weights of `fashion` as the bundled model `assets/fashion`.

python -m training.fashion.export
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from engine.checkpoints import write_safetensors
from training.fashion import adversarial, data
from training.jobs import steps_done, trained

BUNDLE = Path("assets/fashion")
EXAMPLES = (
    "a pair of ankle boots",
    "a long dress",
    "a handbag",
    "a warm coat",
    "a sneaker",
    "wide trousers",
    "a striped shirt",
)


def export(folder: Path, bundle: Path, *, batches_seen: int = 100) -> None:
    """From a training run's folder into the model's. Raises FileNotFoundError where nothing was trained."""
    parts = trained(folder / "state.pt", "training.fashion.adversarial")["parts"]
    bundle.mkdir(parents=True, exist_ok=True)
    files = {}

    def write(role: str, tensors: dict[str, Tensor]) -> None:
        target = bundle / f"{role}.safetensors"
        files[role] = {"path": target.name, "sha256": write_safetensors(target, tensors, dtype=torch.float16)}

    write("generator", adversarial.averaged_generator(parts["average"], batches_seen=batches_seen).state_dict())
    write("discriminator", parts["discriminator"])
    row = {
        "name": "fashion",
        "kind": "generator",
        "family": "biggan",
        "resolution": data.RESOLUTION,
        "licence": "MIT",
        "data": "Fashion-MNIST (Xiao et al. 2017, MIT), Debian package dataset-fashion-mnist",
        "paper": "Brock et al. 2019, Large Scale GAN Training for High Fidelity Natural Image Synthesis",
        "domain": "clothes, shoes and bags in grey",
        "domain_likeness": 0.24,  # `python -m experiments.domains`
        "default_space": "z",
        "prompt_model": "clip-mosaic",
        "classes": list(data.CLASSES),
        "examples": list(EXAMPLES),
        "steps": {"adversarial": steps_done(folder)},
        "files": files,
    }
    (bundle / "model.json").write_text(json.dumps(row, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batches", type=int, default=100, help="of pictures, for the batch statistics")
    export(adversarial.FOLDER, BUNDLE, batches_seen=parser.parse_args().batches)


if __name__ == "__main__":
    main()
