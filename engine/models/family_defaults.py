"""Kinds of generators: which choices of a run mean something to one, and what its runs begin with. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from engine.models.table import ModelRow
from engine.settings import PRESETS, FlowSettings, GenerateSettings

FALLBACK_PROMPT = "a picture"
STAGE_STEPS = 60  # of each of the two stages (Zhou et al. 2022, Appendix E)


@dataclass(frozen=True)
class Kind:
    """What the generators of some families have in common.

    choices: fields of the settings that only some kinds know; spaces: names of latent spaces to choose from, where
    there is a choice; tuned: what the preset "robust" is for them; has_stages: whether codes move in turn; candidates:
    starts that each particle tries.
    """

    name: str
    choices: tuple[str, ...]
    spaces: tuple[str, ...] = ()
    tuned: Mapping[str, Any] = field(default_factory=dict)
    has_stages: bool = False
    candidates: int = 1

    def flow(self, preset: str = "robust") -> FlowSettings:
        """The numerical choices of a preset, with both stages where there are two."""
        flow = replace(PRESETS[preset], **self.tuned) if preset == "robust" else PRESETS[preset]
        return replace(flow, steps=2 * STAGE_STEPS, detail_steps=STAGE_STEPS) if self.has_stages else flow


_CLASS_CHOICES = ("classes", "class_count", "relaxed_classes", "truncation_psi")
_CODE_CHOICES = ("detail_steps", "code_order", "codebook", "cutouts", "candidates")
_VECTORS = ("codes", "straight-through")

STYLES = Kind("styles", ("truncation_psi",))
# Measured with fashion: with twice that gain, pictures leave their class; without the discriminator 93.8 % of them
# stay in it, with it 95.6 %.
CLASSES = Kind("classes", _CLASS_CHOICES, tuned={"diversity_gain": 2.5, "realism": 0.5})
# Measured with mosaic: with less pull to the codes, or larger steps, pictures please the prompt model more and look
# worse: their realism falls from that of the starts, 1.0, to .8, here it stays above .9.
CODES = Kind(
    "codes",
    _CODE_CHOICES,
    _VECTORS,
    tuned={"step_size": 0.007, "codebook": 8.0},
    has_stages=True,
    candidates=512,
)

_KINDS: Mapping[str, Kind] = {
    "biggan": CLASSES,
    "biggan_deep": replace(CLASSES, spaces=("z", "z+")),
    "dalle_dvae": replace(CODES, spaces=(*_VECTORS, "soft")),
    "vqgan": CODES,
}


def kind_of(family: str) -> Kind:
    """The kind of a family; that of StyleGAN2 for families that have no choices of their own."""
    return _KINDS.get(family, STYLES)


def first_settings(model: str, family: str, row: ModelRow | None = None) -> GenerateSettings:
    """What a run of a model begins with: by its family and, where the table has one, its row."""
    prompt_model = row.prompt_model if row and row.prompt_model else GenerateSettings.prompt_model
    prompt = row.examples[0] if row and row.examples else FALLBACK_PROMPT
    kind = kind_of(family)
    return GenerateSettings(
        prompt, model=model, prompt_model=prompt_model, flow=kind.flow(), candidates=kind.candidates
    )
