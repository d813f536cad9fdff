"""Opens every folder of hostile configurations, as the page and the command line would; prints what became of each.

python -m tests.engine.models.run_configurations FOLDER
"""

import json
import sys
import time
from pathlib import Path

from engine.checkpoints import open_checkpoint
from engine.models.loading import inspect_file

DESCRIPTIONS = {"vqgan": "model.yaml", "biggan": "config.json"}


def open_case(folder: Path) -> None:
    kind = folder.name.partition("-")[0]
    if kind in DESCRIPTIONS:
        weights = next(file for file in folder.iterdir() if file.name.startswith("weights"))
        open_checkpoint(weights, description=folder / DESCRIPTIONS[kind])
    else:
        inspect_file(folder)


if __name__ == "__main__":
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        began = time.monotonic()
        try:
            open_case(folder)
            outcome, message = "opened", ""
        except ValueError as error:
            outcome, message = type(error).__name__, str(error)
        print(json.dumps([folder.name, outcome, message, time.monotonic() - began]))
