"""What is known of a kept picture, read from its files alone: the PNG's metadata, and the latents beside it.

The index holds nothing else of a picture but what a person marked, so it can be made again from the folder.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.errors import MetadataError
from gmi_ui.runs.run import OURS

if TYPE_CHECKING:
    from engine.inference.flow import Step

LONGEST = 4_000  # characters of a prompt, and of any other setting, in the index
HOW = {"edit": "edited", "inpaint": "repainted", "translate": "translated"}


@dataclass(frozen=True)
class Kept:
    """A picture in the index. id: the sha256 of its file; path: below the folder, with slashes; how: what made it."""

    id: str
    path: str
    made: float  # seconds since 1970
    task: str
    how: str
    prompt: str
    model: str
    prompt_model: str
    seed: int
    step: int
    side: str
    width: int
    height: int
    settings: str  # as JSON, without those that are as long as latents
    score: float | None
    fit: float | None
    parent: str  # the id of the picture that it was made from
    number: int = 0
    liked: bool = False
    tags: str = ""
    trashed: bool = False


@dataclass(frozen=True)
class Piece:
    """A picture to be kept: its PNG, the name of its file, its latents as a safetensors file, and when it was made."""

    data: bytes
    name: str
    latents: bytes
    made: float = field(default_factory=time.time)  # seconds since 1970

    @property
    def id(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def encode_latents(drawn: "Step", index: int, side: str) -> bytes:
    """Where a picture lies, with its scores, which its PNG does not carry."""
    from safetensors.torch import save

    told = {"side": side}
    for name, values in (("text_score", drawn.text_scores), ("fit", drawn.fits)):
        if values is not None:
            told[name] = f"{float(values[index]):.6f}"
    return save({"latents": drawn.particles.latents[index].detach().cpu().clone().contiguous()}, metadata=told)


def told_beside(latents: bytes | None) -> dict[str, str]:
    """What `encode_latents` told; nothing for what is no such file."""
    try:
        size = int.from_bytes((latents or b"")[:8], "little")
        told = json.loads((latents or b"")[8 : 8 + size])["__metadata__"]
        return {str(name): str(value) for name, value in told.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def kept_of(data: bytes, latents: bytes | None, path: str, made: float) -> Kept | None:
    """A picture's row of the index; None for a file that was not saved here."""
    from engine.pictures import png_files

    try:
        metadata = png_files.read_metadata(data)
    except MetadataError:
        return None
    settings, told = metadata["settings"], told_beside(latents)
    task = str(settings.get("task", "generate"))[:40]
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))  # of a PNG's head
    return Kept(
        id=hashlib.sha256(data).hexdigest(),
        path=path,
        made=made,
        task=task,
        how=_how(task, settings),
        prompt=_prompt(settings),
        model=str(settings.get("model", ""))[:LONGEST],
        prompt_model=str(settings.get("prompt_model", ""))[:LONGEST],
        seed=metadata["seeds"][metadata["index"]],
        step=_step(settings),
        side=told.get("side", OURS)[:40],
        width=width,
        height=height,
        settings=json.dumps({name: value for name, value in settings.items() if len(json.dumps(value)) <= LONGEST}),
        score=_number(told.get("text_score")),
        fit=_number(told.get("fit")),
        parent=png_files.parent_of(metadata.get("extra", {})),
    )


def _prompt(settings: Mapping[str, Any]) -> str:
    words = (settings.get(name) for name in ("domain", "prompt"))
    return ", ".join(word for word in words if isinstance(word, str) and word)[:LONGEST]


def _how(task: str, settings: Mapping[str, Any]) -> str:
    """What a step of its lineage is called."""
    if task in HOW:
        return HOW[task]
    if settings.get("start") is not None:
        return "more like it"
    if settings.get("pinned"):
        return "beside it"
    return "unlike it" if settings.get("unlike") else "like it" if settings.get("like") else "generated"


def _step(settings: Mapping[str, Any]) -> int:
    flow = settings.get("flow")
    flow = flow if isinstance(flow, Mapping) else {}
    step = next((flow[name] for name in ("until", "steps") if type(flow.get(name)) is int), 0)
    return min(max(step, 0), 1 << 31)


def _number(text: str | None) -> float | None:
    """A score; None for what is none, or no finite number."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if abs(number) < 1e9 else None
