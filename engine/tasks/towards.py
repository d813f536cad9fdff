"""The pictures beside a run's own: real or liked examples that attract, B of Eq. 6, and seen ones that repel, in A.

Settings name them. `towards`: "" for none, MODEL for those shipped with the generator, or the content hash of a
person's pictures; without words "" means the model's, as far as it has some. `like`, `unlike`: "" or the hash of
pictures, of which a set may hold no more than what a prompt model saw in them.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.inference.terms import Extractor, References
from engine.pictures import imaging
from engine.pictures.examples import Examples
from engine.settings import OF_THE_MODEL, EditSettings, GenerateSettings, SettingsError
from engine.system.files import Watch
from engine.tasks.task import GeneratorLike, PromptModelLike

MISSING = (
    "towards: the pictures that this run goes towards are not here. Give them again (the same files, in any order), or "
    "choose others."
)
NAMED_MISSING = (
    "{0}: the pictures that this run is to be {0} are not here. Give them again (the same files, in any order), "
    "or leave them out."
)
SEEN_BY_ANOTHER = (
    "{}: another prompt model saw these pictures, and no more than that is kept of them. Choose the prompt model that "
    "the earlier runs had, or leave them out."
)
OTHERS = "{}: these are other pictures than those that the settings name. Give the same files again."


@dataclass(frozen=True, eq=False)
class SeenFeatures:
    """Pictures of which only what a prompt model saw in them is kept. features: [M, D], of unit length;
    prompt_model: its sha256."""

    features: Tensor
    prompt_model: str

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def sha256(self) -> str:
        """Of model and features, whatever their order."""
        rows = sorted(row.numpy().tobytes() for row in self.features.detach().cpu())
        return hashlib.sha256(b"".join((self.prompt_model.encode(), *rows))).hexdigest()


Shown: TypeAlias = Examples | SeenFeatures  # what a person liked, or has seen enough of


def check_references(
    towards: str, generator: GeneratorLike, prompt_model: PromptModelLike, examples: Examples | None = None
) -> None:
    """Raises SettingsError where `references` would; looks at no picture."""
    if towards == OF_THE_MODEL:
        if not generator.references:
            raise SettingsError(
                f"towards: {generator.name} comes with no examples of its own. Give pictures of yours instead."
            )
        if prompt_model.sha256 not in generator.references:
            raise SettingsError(
                f"towards: the examples of {generator.name} were seen by another prompt model; {prompt_model.name} can "
                "make nothing of them. Choose the prompt model that it comes with, or give pictures of yours."
            )
    elif towards and examples is None:
        raise SettingsError(MISSING)
    elif towards and examples is not None and examples.sha256 != towards:
        raise SettingsError(OTHERS.format("towards"))


def check_shown(name: str, named: str, shown: Shown | None, prompt_model: PromptModelLike | None = None) -> None:
    """Raises SettingsError where `shown_features` would; looks at no picture. prompt_model: None: not known yet."""
    if named and shown is None:
        raise SettingsError(NAMED_MISSING.format(name))
    if shown is not None and shown.sha256 != named:
        raise SettingsError(OTHERS.format(name))
    if isinstance(shown, SeenFeatures) and prompt_model is not None and shown.prompt_model != prompt_model.sha256:
        raise SettingsError(SEEN_BY_ANOTHER.format(name))


def references(
    settings: GenerateSettings | EditSettings,
    generator: GeneratorLike,
    prompt_model: PromptModelLike,
    examples: Examples | None,
    *,
    device: torch.device,
    watch: Watch | None = None,
) -> References | None:
    """The examples that the settings name, as the prompt model sees them; None for none.

    examples: a person's own. watch: told how many were looked at; may raise to end it. Raises SettingsError for
    those that are missing, or that another prompt model saw.
    """
    check_references(settings.towards, generator, prompt_model, examples)
    if settings.towards == OF_THE_MODEL or not (settings.towards or settings.prompt):
        own = own_references(generator, prompt_model, device)
        return None if own is None else References(own)
    if settings.towards == "":
        return None
    assert examples is not None
    return References(example_features(examples, prompt_model.image_features, device, watch))


def shown_features(
    name: str,
    named: str,
    shown: Shown | None,
    prompt_model: PromptModelLike,
    *,
    device: torch.device,
    watch: Watch | None = None,
) -> Tensor | None:
    """What the settings' field `name` names, as the prompt model sees it: [M, D]; None for none.

    watch: as of `references`. Raises SettingsError for pictures that are missing, or that another prompt model saw.
    """
    check_shown(name, named, shown, prompt_model)
    if isinstance(shown, SeenFeatures):
        return shown.features.to(device)
    return None if shown is None else example_features(shown, prompt_model.image_features, device, watch)


def own_references(generator: GeneratorLike, prompt_model: PromptModelLike, device: torch.device) -> Tensor | None:
    """The generator's own examples as the prompt model sees them, [M, D]; None where it has none."""
    kept = generator.references.get(prompt_model.sha256)
    # Kept in 16 bits: back to unit length.
    return None if kept is None else F.normalize(kept.to(device, torch.float32), dim=1)


@torch.no_grad()
def example_features(
    examples: Examples, extractor: Extractor, device: torch.device, watch: Watch | None = None
) -> Tensor:
    """[M, D], each picture looked at for itself, as they are of different sizes."""
    features = []
    for done, picture in enumerate(examples.pictures):
        if watch is not None:
            watch("Looking at the pictures that were given", done / len(examples))
        features.append(extractor(imaging.from_uint8(picture.pixels[None]).to(device)))
    return torch.cat(features)
