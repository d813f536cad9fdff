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
    files = (file for package in PACKAGES for file in (copy / package).rglob("*.*"))
    for path in sorted(file for file in files if file.suffix not in (".pyc", ".png")):
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
        "GMI_OUTPUTS": str(copy.parent / "outputs"),
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


# ---- a term ----------------------------------------------------------------------------------------------

TERM = '''
"""Bright pictures."""

from dataclasses import dataclass

from torch import Tensor

from engine.inference.terms import Batch


@dataclass(frozen=True, eq=False)
class Brightness:
    """C_i = the mean of picture i, in [-1, 1]."""

    name: str = "brightness"

    def log_value(self, batch: Batch) -> Tensor:
        return batch.images.mean((1, 2, 3))
'''

USE_OF_A_TERM = """
import json
from pathlib import Path

import torch

from engine.inference.brightness import Brightness
from engine.inference.terms import Batch
from engine.models.loading import load_generator, load_prompt_model
from engine.settings import FlowSettings, GenerateSettings
from engine.tasks import generate

images = torch.rand(2, 3, 4, 4, dtype=torch.float64)
batch = Batch(torch.zeros(2, 1), images)
(by_images,), _ = batch.gradients([Brightness().log_value(batch)])
assert torch.equal(by_images, torch.full_like(images, 1 / 48))

models = load_generator("avatars", assets=Path("assets")), load_prompt_model("clip-mini", assets=Path("assets"))
flow = FlowSettings(steps=1, step_size=0.02, diversity=0.0)
first, last = generate(GenerateSettings("a smile", n=2, flow=flow), *models).steps()
told = {"terms": sorted(last.log_values)}
told["brighter"] = bool((last.log_values["brightness"] > first.log_values["brightness"]).all())
told["is the mean"] = torch.allclose(last.log_values["brightness"], last.images.mean((1, 2, 3)))
print(json.dumps(told))
"""


def test_a_term_is_a_file_and_a_condition_of_a_task(copy: Path) -> None:
    (copy / "engine" / "inference" / "brightness.py").write_text(TERM.lstrip())
    task = copy / "engine" / "tasks" / "generation.py"
    text = task.read_text()
    text = text.replace(
        "from engine.inference.flow import",
        "from engine.inference.brightness import Brightness\nfrom engine.inference.flow import",
        1,
    )
    text = text.replace(
        "            (condition, 1.0),\n", "            (condition, 1.0),\n            (Brightness(), 50.0),\n"
    )
    task.write_text(text)

    told = json.loads(run(copy, USE_OF_A_TERM).splitlines()[-1])
    assert {"brightness", "text"} <= set(told["terms"]) and told["brighter"] and told["is the mean"]

    changed = differences(copy)
    assert changed.keys() == {"engine/inference/brightness.py", "engine/tasks/generation.py"}
    assert changed["engine/tasks/generation.py"] == [
        "+from engine.inference.brightness import Brightness", "+            (Brightness(), 50.0),",
    ]  # fmt: skip


# ---- a tab -----------------------------------------------------------------------------------------------

TAB = '''
"""The Quick tab: a prompt, and nothing to choose."""

from engine.settings import FlowSettings, GenerateSettings
from gmi_ui.components.particle_grid import GridTexts, particle_grid
from gmi_ui.components.run_bar import run_bar
from gmi_ui.controls import Panel
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.runs.run import Run
from gmi_ui.server_functions import grid_functions
from gmi_ui.tabs.common import Layout, Page, Wiring

DEFAULTS = GenerateSettings("blue", n=2, flow=FlowSettings(steps=3))


class QuickTab:
    title = "Quick"
    task = "quick"

    def build(self, page: Page) -> None:
        QuickWiring(page, QuickLayout(page)).connect()


class QuickLayout(Layout):
    def __init__(self, page: Page) -> None:
        self.panel = Panel(DEFAULTS, tab="quick")
        self.panel.show("prompt")
        self.bar = run_bar("quick")
        self.grid = particle_grid("quick", GridTexts("Quick", "Say what."), grid_functions(page.services, "quick"))


class QuickWiring(Wiring):
    defaults = DEFAULTS
    tab = "quick"

    def new_run(self, session, settings):
        return Run(settings, GENERATE)
'''

USE_OF_A_TAB = """
import json, sys, time

sys.path.append(sys.argv[1])

from gmi_ui.studio import build
from gmi_ui.tabs.quick import QuickWiring
from tests.gmi_ui.tiny import tiny_models

TOKEN = "0" * 32
page, services = build(tiny_models())
owners = [getattr(event.fn, "__self__", None) for event in page.fns.values()]
tab = next(owner for owner in owners if isinstance(owner, QuickWiring))
ids = [block.elem_id for block in page.blocks.values() if block.elem_id and "quick" in block.elem_id]

def pressed(prompt):
    tab.run({tab._token: TOKEN, tab._control("prompt"): prompt})
    session = services.sessions.get(TOKEN, "quick")
    end = time.monotonic() + 60
    while session.run and not session.run.is_over and time.monotonic() < end:
        time.sleep(0.01)
    return session, json.loads(services.painter.frame(session))

session, refused = pressed("x" * 9_000)
told = {"ids": sorted(ids), "refused": refused["notice"]["text"]}
session, frame = pressed("red on white")
told["shown"] = [frame["phase"], frame["prompt"], frame["count"], sorted(frame["sides"])]
told["elsewhere"] = services.sessions.get(TOKEN, "generate").run is None
told["again"] = tab.attach(TOKEN)[tab._control("prompt")]["value"]
print(json.dumps(told))
"""


def test_a_tab_is_a_file_and_a_line(copy: Path) -> None:
    (copy / "gmi_ui" / "tabs" / "quick.py").write_text(TAB.lstrip())
    table = copy / "gmi_ui" / "tabs" / "__init__.py"
    text = table.read_text().replace("    InpaintTab(),\n", "    InpaintTab(),\n    QuickTab(),\n")
    imports = "from gmi_ui.tabs.models import ModelsTab\n"
    table.write_text(text.replace(imports, f"{imports}from gmi_ui.tabs.quick import QuickTab\n"))

    told = json.loads(run(copy, USE_OF_A_TAB, str(ROOT)).splitlines()[-1])
    assert told["ids"] == ["quick-control-prompt", "quick-grid", "quick-run-bar"]
    assert told["refused"].startswith("Prompt:")  # in the words of the page
    assert told["shown"] == ["done", "red on white", 2, ["baseline", "ours"]]
    assert told["elsewhere"] and told["again"] == "red on white"

    changed = differences(copy)
    assert changed.keys() == {"gmi_ui/tabs/quick.py", "gmi_ui/tabs/__init__.py"}
    assert changed["gmi_ui/tabs/__init__.py"] == ["+from gmi_ui.tabs.quick import QuickTab", "+    QuickTab(),"]
