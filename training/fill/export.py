"""Put the trained networks together as the bundled model `assets/fill`.

    python -m training.fill.export
    python -m training.fill.export --weights out/fill --steps 16000     # what a training elsewhere exported

Without either checkpoint the bundle's weights stay and only its description is written anew. Whose pictures it was
trained on is what the description of `mosaic`, whose pool it shares, says of them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from engine.system.files import sha256_of
from training.fill import adversarial
from training.jobs import Average, steps_done, trained

BUNDLE = Path("assets/fill")
MOSAIC = Path("assets/mosaic/model.json")
WORDS_ALONE = ("emojibase-data",)  # sources of mosaic that have no pictures


def write_row(steps: int) -> None:
    """The description of the weights that the bundle has."""
    mosaic = json.loads(MOSAIC.read_text(encoding="utf-8"))
    files = {role: BUNDLE / f"{role}.safetensors" for role in adversarial.ROLES}
    row = {
        "name": "fill",
        "kind": "generator",
        "family": "comodgan",
        "resolution": adversarial.SIZE,
        "licence": "CC-BY-4.0",
        "data": "own drawings, 11 avatar styles, 3 sets of emoji, 5 of icons; see the card",
        "paper": "Zhao et al. 2021, Large Scale Image Completion via Co-Modulated Generative Adversarial Networks",
        "domain": "small drawings: people, emoji and icons",
        "prompt_model": "clip-mosaic",
        "steps": {"adversarial": steps},
        "counts": {source: count for source, count in mosaic["counts"].items() if source in adversarial.SHARES},
        "sources": [source for source in mosaic["sources"] if source["package"] not in WORDS_ALONE],
        "files": {role: {"path": file.name, "sha256": sha256_of(file)} for role, file in files.items()},
    }
    (BUNDLE / "model.json").write_text(json.dumps(row, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, help="a folder that training.fill.adversarial --export has written")
    parser.add_argument("--steps", type=int, help="that the training of those took")
    chosen = parser.parse_args()
    BUNDLE.mkdir(parents=True, exist_ok=True)
    path = BUNDLE / "model.json"
    steps = json.loads(path.read_text(encoding="utf-8"))["steps"]["adversarial"] if path.exists() else 0
    if chosen.weights:
        adversarial.write_weights(BUNDLE, Average(adversarial.read_weights(chosen.weights)))
        steps = chosen.steps or steps
    elif (adversarial.FOLDER / "state.pt").exists():
        state = trained(adversarial.FOLDER / "state.pt", "training.fill.adversarial")
        average = Average(adversarial.Networks())
        average.load_state_dict(state["parts"]["average"])
        adversarial.write_weights(BUNDLE, average)
        steps = steps_done(adversarial.FOLDER)
    write_row(steps)


if __name__ == "__main__":
    main()
