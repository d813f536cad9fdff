"""CONTRIBUTING's recipes, followed to the letter in a copy of the sources: what they name is all that is touched.

Each adds a toy, uses it in a process of its own, and counts the files that differ from the repository's.
"""

from __future__ import annotations

import difflib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.engine.tiny import write_assets

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("engine", "gmi_ui")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the sources, with tiny models in place of the bundled ones."""
    place = tmp_path / "copy"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, place / package, ignore=shutil.ignore_patterns("__pycache__"))
    write_assets(place / "assets")
    return place


def differences(copy: Path) -> dict[str, list[str]]:
    """The changed lines, "+..." or "-...", of each source file that is not as in the repository."""
    found = {}
    for path in sorted(file for package in PACKAGES for file in (copy / package).rglob("*.*") if file.suffix != ".pyc"):
        original = ROOT / path.relative_to(copy)
        before = original.read_text().splitlines() if original.is_file() else []
        lines = list(difflib.unified_diff(before, path.read_text().splitlines(), lineterm="", n=0))[2:]
        if lines:
            found[str(path.relative_to(copy))] = [line for line in lines if not line.startswith("@@")]
    return found


def run(copy: Path, script: str, *arguments: str) -> str:
    """What a script prints that imports the copy, in a process and with folders of its own. Fails where it does."""
    environment = {
        "PATH": "",
        "PYTHONPATH": str(copy),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "GMI_CACHE": str(copy.parent / "cache"),
        "GMI_MODELS": str(copy.parent / "models"),
    }
    command = [sys.executable, "-c", script, *arguments]
    shown = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=300)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return shown.stdout


# ---- a generator -----------------------------------------------------------------------------------------

NETWORK = '''
"""A toy: every pixel is a weighted sum of z."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from engine.networks.derived import shape_of


class Generator(nn.Module):
    """z [N, z_dim] to images [N, 3, side, side] in [-1, 1]."""

    def __init__(self, z_dim: int, side: int) -> None:
        super().__init__()
        self.z_dim, self.side = z_dim, side
        self.paint = nn.Linear(z_dim, 3 * side**2)

    def forward(self, z: Tensor) -> Tensor:
        return self.paint(z).tanh().unflatten(1, (3, self.side, self.side))


def generator_from_shapes(state: Mapping[str, Tensor]) -> Generator:
    """An untrained `Generator` with the keys and shapes of a state dict. Raises ValueError for a missing key."""
    pixels, z_dim = shape_of(state, "paint.weight", "a toy generator")
    return Generator(z_dim, round((pixels / 3) ** 0.5))
'''

FAMILY = '''
"""A toy, see its network."""

from __future__ import annotations

from engine.families.declaration import Assembled, Family, Network, has_keys


def _generator(state):
    from engine.networks import toy

    return toy.generator_from_shapes(state)


def assemble(networks, details):
    from engine.latents.spaces import SphereSpace

    network = networks["generator"]
    space = SphereSpace(network.z_dim, details.device)
    return Assembled(network, network.side, {"z": space}, lambda z, space: network(z))


FAMILY = Family(
    name="toy",
    label="Toy",
    tasks=("generate",),
    networks={"generator": Network(_generator, has_keys("paint.weight paint.bias"))},
    assemble=assemble,
)
'''

USE_OF_A_GENERATOR = """
import json, sys
from pathlib import Path

import gmi_ui.models.library as library

told = {"label": library.find_family("toy").label, "use": library.use_of_family("toy")}
told["without torch"] = "torch" not in sys.modules

from engine.__main__ import main
from engine.models.loading import inspect_file, load_generator

path, broken, out = sys.argv[1:]
found = inspect_file(Path(path))
told["found"] = [found.kind, found.family, found.resolution, list(load_generator(path).spaces)]
told["checked"] = [main(["models", "check", path]), main(["models", "check", broken])]
command = ["generate", "a dot", "--model", path, "--n", "2", "--steps", "1", "--out", out, "--device", "cpu"]
told["generated"] = main(command)
print(json.dumps(told))
"""


def test_a_generator_is_a_network_a_family_and_a_line(copy: Path, tmp_path: Path) -> None:
    (copy / "engine" / "networks" / "toy.py").write_text(NETWORK.lstrip())
    (copy / "engine" / "families" / "toy.py").write_text(FAMILY.lstrip())
    table = copy / "engine" / "families" / "__init__.py"
    table.write_text(table.read_text().replace('    "stargan2",\n', '    "stargan2",\n    "toy",\n'))

    weights = {"paint.weight": torch.eye(48, 4), "paint.bias": torch.zeros(48)}
    save_file(weights, tmp_path / "toy.safetensors")
    save_file({**weights, "paint.bias": torch.zeros(5)}, tmp_path / "broken.safetensors")
    files = [str(tmp_path / name) for name in ("toy.safetensors", "broken.safetensors", "out")]
    told = json.loads(run(copy, USE_OF_A_GENERATOR, *files).splitlines()[-1])

    assert told["label"] == "Toy" and told["use"] == "Generate" and told["without torch"]
    assert told["found"] == ["generator", "toy", 4, ["z"]]
    assert told["checked"] == [0, 1]
    assert told["generated"] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["00.png", "01.png", "run.json"]

    changed = differences(copy)
    assert changed.keys() == {"engine/networks/toy.py", "engine/families/toy.py", "engine/families/__init__.py"}
    assert changed["engine/families/__init__.py"] == ['+    "toy",']
