"""The engine: generative-model inference by Wasserstein gradient flow. It knows of no user interface.

    generator, prompt_model = load_generator("avatars"), load_prompt_model("clip-mini")
    settings = GenerateSettings("a woman with pink hair and sunglasses")
    task = generate(settings, generator, prompt_model)
    for step in task.steps():
        print(step.step, step.diversity)
    save_png(Path("first.png"), to_uint8(step.pictures)[0])

Names are imported when they are first used: torch takes seconds, which the settings alone need not cost.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from engine.version import VERSION as __version__

# Read when torch is loaded: threads that wait sleep instead of spinning. On cores shared with another busy
# process, a step of two spinning threads took 4 to 15 times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from engine.inference.flow import refine
    from engine.latents.classes import find_classes, rank_classes
    from engine.models.loading import list_models, load_generator, load_prompt_model
    from engine.pictures.imaging import to_uint8
    from engine.pictures.png_files import save_png
    from engine.settings import (
        PRESETS,
        CrowdSettings,
        EditSettings,
        FlowSettings,
        GenerateSettings,
        InpaintSettings,
        TranslateSettings,
    )
    from engine.system.runtime import set_threads
    from engine.tasks import baseline, edit, generate, inpaint, translate
    from engine.tasks.inversion import invert

__all__ = [
    "PRESETS",
    "CrowdSettings",
    "EditSettings",
    "FlowSettings",
    "GenerateSettings",
    "InpaintSettings",
    "TranslateSettings",
    "__version__",
    "baseline",
    "edit",
    "find_classes",
    "generate",
    "inpaint",
    "invert",
    "list_models",
    "load_generator",
    "load_prompt_model",
    "rank_classes",
    "refine",
    "save_png",
    "set_threads",
    "to_uint8",
    "translate",
]

_HOMES = {
    "PRESETS": "engine.settings",
    "CrowdSettings": "engine.settings",
    "EditSettings": "engine.settings",
    "FlowSettings": "engine.settings",
    "GenerateSettings": "engine.settings",
    "InpaintSettings": "engine.settings",
    "TranslateSettings": "engine.settings",
    "baseline": "engine.tasks",
    "edit": "engine.tasks",
    "find_classes": "engine.latents.classes",
    "generate": "engine.tasks",
    "inpaint": "engine.tasks",
    "invert": "engine.tasks.inversion",
    "list_models": "engine.models.table",
    "load_generator": "engine.models.loading",
    "load_prompt_model": "engine.models.loading",
    "rank_classes": "engine.latents.classes",
    "refine": "engine.inference.flow",
    "save_png": "engine.pictures.png_files",
    "set_threads": "engine.system.runtime",
    "to_uint8": "engine.pictures.imaging",
    "translate": "engine.tasks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
