"""The real examples of a run, B of Eq. 6: those shipped with its generator, or a person's own pictures.

Settings name them (`towards`): "" for none, MODEL, or the content hash of a person's pictures.
"""

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
OTHERS = "towards: these are other pictures than those that the settings name. Give the same files again."


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
        raise SettingsError(OTHERS)


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
    if settings.towards == "":
        return None
    if settings.towards == OF_THE_MODEL:
        # Kept in 16 bits: back to unit length.
        return References(F.normalize(generator.references[prompt_model.sha256].to(device, torch.float32), dim=1))
    assert examples is not None
    return References(example_features(examples, prompt_model.image_features, device, watch))


@torch.no_grad()
def example_features(
    examples: Examples, extractor: Extractor, device: torch.device, watch: Watch | None = None
) -> Tensor:
    """[M, D], each picture looked at for itself, as they are of different sizes."""
    features = []
    for done, picture in enumerate(examples.pictures):
        if watch is not None:
            watch("Looking at the pictures to go towards", done / len(examples))
        features.append(extractor(imaging.from_uint8(picture.pixels[None]).to(device)))
    return torch.cat(features)
