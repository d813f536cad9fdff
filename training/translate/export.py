"""Put the trained networks together as the bundled model `assets/hairstyles`.

    python -m training.translate.export

Without a checkpoint in `training/runs`, the bundle's weights stay and only its description is written anew.
"""

from __future__ import annotations

import json
from pathlib import Path

from engine.system.files import sha256_of
from training.jobs import Average, steps_done, trained
from training.translate import adversarial, triples

BUNDLE = Path("assets/hairstyles")


def main() -> None:
    BUNDLE.mkdir(parents=True, exist_ok=True)
    path = BUNDLE / "model.json"
    steps = json.loads(path.read_text())["steps"]["adversarial"] if path.exists() else 0
    if (adversarial.FOLDER / "state.pt").exists():
        state = trained(adversarial.FOLDER / "state.pt", "training.translate.adversarial")
        average = Average(adversarial.Networks())
        average.load_state_dict(state["parts"]["average"])
        adversarial.write_weights(BUNDLE, average)
        steps = steps_done(adversarial.FOLDER)
    files = {role: BUNDLE / f"{role}.safetensors" for role in adversarial.ROLES}
    row = {
        "name": "hairstyles",
        "kind": "generator",
        "family": "stargan2",
        "resolution": adversarial.SIZE,
        "licence": "MIT",
        "data": "drawn by training/avatars/drawing.py (MIT)",
        "paper": "Choi et al. 2020, StarGAN v2: Diverse Image Synthesis for Multiple Domains",
        "domain": "people: their hair, glasses, beards, hats, faces and clothes",
        "prompt_model": "clip-mini",
        "classes": list(triples.DOMAINS),
        "steps": {"adversarial": steps},
        "files": {role: {"path": file.name, "sha256": sha256_of(file)} for role, file in files.items()},
    }
    path.write_text(json.dumps(row, indent=2) + "\n")


if __name__ == "__main__":
    main()
